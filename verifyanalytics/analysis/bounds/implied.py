"""Without labels: what the vendor's four points still allow to be said, and what they do not.

The vendor claims a false-match rate at four scores. If that claim holds up to a factor k, rows
below the 1e-3 threshold bound the number of strangers, strangers times the claim bound the
zero-effort false matches above, and rows below a threshold bound the owners turned away. Every
bound is printed for k = 1, 3 and 10, never as one number, and covers zero-effort strangers only: no
presentation or injection attacks, no chosen look-alikes; neither liveness nor risk is applied. One
group-by a table, and a second one for subjects.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
from scipy import special

from verifyanalytics.analysis.base import regimes
from verifyanalytics.analysis.base.frames import lazy_rows
from verifyanalytics.analysis.base.groups import group_counts
from verifyanalytics.analysis.base.intervals import (
    FloatArray,
    negative_binomial_quantile,
    poisson_quantile,
)
from verifyanalytics.analysis.base.keys import group_keys
from verifyanalytics.analysis.base.periods import HOUR_US
from verifyanalytics.analysis.base.regimes import (
    REGIME,
    name_regimes,
    score_at_fmr,
    threshold_at_fmr,
)
from verifyanalytics.analysis.base.rows import (
    OPTIONAL,
    OWN_THRESHOLD,
    REQUIRED,
    complete,
    scored,
    withheld,
)
from verifyanalytics.analysis.base.statistic import statistic
from verifyanalytics.analysis.bounds.persons import reached, with_attempts
from verifyanalytics.arguments import number, numbers
from verifyanalytics.errors import UsageError
from verifyanalytics.schema import THRESHOLD_COLUMNS
from verifyanalytics.wording.numbers import short

By = str | Sequence[str] | None

COVERS = (
    "zero-effort false matches only: no presentation or injection attack, no chosen look-alike; "
    "liveness and risk are not applied"
)
"""What every bound on false matches is silent about; on each table and chart."""

MEANING = "P(score >= s | impostor), not P(impostor | score)"
"""What the vendor's claim says about a score."""

BELOW = "below_calibration"
"""Reason of a missing false-match bound: the vendor claims nothing below its 1e-3 threshold."""

SHORT = "shorter_than_an_hour"
"""Reason of a missing budget threshold: so little time says nothing about a month."""

_Q = 0.975
_T3 = THRESHOLD_COLUMNS[0]
_HOURS_A_MONTH = 365.25 * 24 / 12
_MOST = 2.0**53
_BUDGET = ("regime", "k", "budget_per_month", "months", "n_compared", "n_withheld",
           "impostors_high", "attempts_per_person", "threshold", "claimed_fmr",
           "false_matches_high", "false_matches_per_month_high", "n_below_own",
           "reason")  # fmt: skip
_MADE = ("regime", "score", "subject", "threshold", "k", *THRESHOLD_COLUMNS)


@statistic("bounds.implied_fmr")
def implied_fmr(v: Any) -> pd.DataFrame:
    """The false-match rate the vendor claims at each row's score, under the row's own regime.

    Parameters
    ----------
    v : frame of verifications

    Returns
    -------
    DataFrame
        One row a scored verification: `request_id` (when the frame has it), `regime`, `score`,
        `implied_fmr` (log-linear between the vendor's points, NaN outside them), `says` (in words,
        "> 1e-3" and "< 1e-6" outside), `meaning`. As long as the data.

    Examples
    --------
    >>> row = {"code": [10000], "score": [75.0], "threshold_1e_3": [60.0], "threshold_1e_4": [70.0],
    ...        "threshold_1e_5": [80.0], "threshold_1e_6": [90.0]}
    >>> implied_fmr(pd.DataFrame(row))[["implied_fmr", "says"]].round(7).to_numpy().tolist()
    [[3.16e-05, '3.2e-5']]
    """
    lazy_rows(v, REQUIRED)  # refuses what is no frame, or lacks columns
    ids = [c for c in nw.from_native(v).collect_schema().names() if c == "request_id"]
    frame = (
        lazy_rows(v, [*ids, *REQUIRED], OPTIONAL).filter(scored()).select(*ids, *REGIME, "score")
    )
    table: pd.DataFrame = frame.collect(backend="pyarrow").to_native().to_pandas()
    table["req_key"] = table["req_key"].fillna("unknown").astype("str")
    table = name_regimes(table)
    points = table[list(THRESHOLD_COLUMNS)].to_numpy(dtype=float)
    score = table["score"].to_numpy(dtype=float)
    claim = regimes.implied_fmr(points, score) if len(table) else np.zeros(0)
    with np.errstate(invalid="ignore"):
        outside = np.where(
            score < points[:, 0], "> 1e-3", np.where(score > points[:, 3], "< 1e-6", "")
        )
    table["implied_fmr"] = claim
    words = [o if math.isnan(c) else short(c) for c, o in zip(claim, outside, strict=True)]
    table["says"] = pd.Series(words, index=table.index, dtype="str")
    return table[[*ids, "regime", "score", "implied_fmr", "says"]].assign(meaning=MEANING)


@statistic("bounds.label_free")
def label_free(
    v: Any,
    threshold: Sequence[float] | float | None = None,
    k: Sequence[float] = (1, 3, 10),
    impostor_share: float | None = None,
    by: By = None,
    nominal_fmr: Sequence[float] | float | None = None,
) -> pd.DataFrame:
    """Bounds on false matches and on owners turned away at a threshold, without any label.

    Parameters
    ----------
    v : frame of verifications
    threshold : float or sequence of float
        Scores. Or `nominal_fmr`: each regime's own score at that claim.
    k : sequence of float
        How many times the vendor's claim the true false-match rate may be; side by side.
    impostor_share : float, optional
        The caller's own assumption: at most this share of the compared rows are strangers.
    by : str or sequence of str, optional
        Columns to split by further.
    nominal_fmr : float or sequence of float, optional

    Returns
    -------
    DataFrame
        A row per regime, group, threshold and k: `n_compared` (scored and withheld), `n_withheld`,
        `n_below_1e_3` (below the regime's 1e-3 threshold), `n_below` (below this one; withheld ones
        count in both), `claimed_fmr`; `impostors_high`; `false_matches_high` (zero-effort false
        matches among these rows, 97.5 %), `attempts_per_person` m = Σmᵢ²/Σmᵢ of all rows, or of
        those below the 1e-3 threshold, rounded up, if that is larger (NaN without subjects: the
        bound takes tries as independent, and `false_matches_high_m3` says what three tries each
        would make of it); `match_rate`, `fnmr_low`, `fnmr_high` (both together 95 %; below the own
        1e-4 threshold a withheld score may match: `fnmr_low` takes it for a match there);
        `impostor_share` as assumed; `reason` of a missing bound, `covers`. Incomplete regimes claim
        nothing and are left out.

    Raises
    ------
    UsageError
        Neither or both of threshold and nominal_fmr; k or impostor_share out of range; `by` names
        the score, the time or what makes a regime.
    """
    keys = group_keys(by, _MADE)
    points = _asked(threshold, nominal_fmr)
    factors, impostor_share = _factors(k), _share(impostor_share)
    frame = _compared(v, keys)
    below = {f"below:{i}": lower for i, (_, _, lower) in enumerate(points)}
    table = with_attempts(_counted(frame, keys, below), frame, keys)
    parts = []
    for i, (t, nominal, _) in enumerate(points):
        at = table.drop(columns=list(below)).assign(n_below=table[f"below:{i}"])
        own = [float(score_at_fmr(p, nominal)) for p in table[list(THRESHOLD_COLUMNS)].to_numpy()]
        at.insert(len(keys) + 1, "threshold", own if math.isnan(t) else t)
        parts += [bound(at, factor, impostor_share) for factor in factors]
    result = pd.concat(parts, ignore_index=True).drop(columns=list(THRESHOLD_COLUMNS))
    return result.sort_values(["regime", *keys, "threshold", "k"], kind="stable", ignore_index=True)


@statistic("bounds.threshold_for_budget")
def threshold_for_budget(
    v: Any,
    false_matches_per_month: float,
    k: Sequence[float] | float = (1, 3, 10),
    impostor_share: float | None = None,
    months: float | None = None,
) -> pd.DataFrame:
    """The smallest threshold whose false-match bound keeps within a monthly budget.

    Parameters
    ----------
    v : frame of verifications
        With occurred_at unless `months` is given.
    false_matches_per_month : float
        Zero-effort false matches that may happen, per month of 30.4 days.
    k, impostor_share
        As in `label_free_bounds`.
    months : float, optional
        How long the data are, above 0; default from the first to the last time of the regime.

    Returns
    -------
    DataFrame
        A row per regime and k: `threshold` (never below the regime's 1e-3 threshold; NaN with
        reason `not_reachable` when even 1e-6 is not enough, `shorter_than_an_hour` when the
        regime's times are no measure of a month), `claimed_fmr` there,
        `false_matches_high` in the data and `…_per_month`; `n_below` rows at the threshold and
        `n_below_own` at the vendor's own 1e-4; `n_more_turned_away`, their difference (negative:
        fewer), also per month; `fnmr_high`. Rows below a threshold are owners and strangers alike.
    """
    budget = number(false_matches_per_month, "false_matches_per_month", above=0)
    factors, impostor_share = _factors(k), _share(impostor_share)
    length = None if months is None else number(months, "months", above=0)
    frame = _compared(v, [], ["occurred_at"] if length is None else [])
    own = {"n_below_own": ~reached(nw.col(OWN_THRESHOLD))}
    table = with_attempts(_counted(frame, [], own, times=length is None), frame, [])
    table = _with_months(table, length)
    found = [
        _solve(row, factor, budget, impostor_share)
        for row in table.to_dict("records")
        for factor in factors
    ]
    return _turned_away(frame, pd.DataFrame(found, columns=[*_BUDGET]))


# ------------------------------------------------------------------ formulas


def impostors_high(n_below: Any, k: float, cap: Any = np.inf, m: Any = 1.0) -> FloatArray:
    """Upper limit (97.5 %) for strangers among the rows, given how many lie below 1e-3.

    A stranger lies below with probability 1 − k·1e-3, so those above are the failures before the
    (n+1)-th that lies below: n + NegBin quantile. n/(1 − k·1e-3) would only be a mean. Where one
    person makes m tries, persons lie below or above: ⌈m·NegBin(n/m + 1)⌉, if that is more.

    Examples
    --------
    >>> float(impostors_high(1500, 1)), float(impostors_high(1500, 1, m=10.0))
    (1504.0, 1510.0)
    """
    low = np.asarray(n_below, dtype=float)
    tries = np.maximum(np.asarray(m, dtype=float), 1.0)
    p = 1 - k * 1e-3
    alone = negative_binomial_quantile(_Q, low + 1, p)
    together = np.ceil(tries * negative_binomial_quantile(_Q, low / tries + 1, p) - 1e-9)
    high: FloatArray = np.minimum(low + np.maximum(alone, together), cap)
    return high


def false_matches_high(impostors: Any, rate: Any, m: Any = 1.0) -> FloatArray:
    """Upper limit (97.5 %) for false matches of so many strangers at so small a rate.

    Tries of one stranger match or fail together at worst: m tries a person make ⌈m·Poisson(·/m)⌉.
    Where that is less than for independent tries (a mean so small that no person is expected to
    match), the latter stands.

    Examples
    --------
    >>> float(false_matches_high(1504, 1e-4)), float(false_matches_high(1504, 1e-4, 3.0))
    (1.0, 3.0)
    """
    tries = np.maximum(np.asarray(m, dtype=float), 1.0)
    mean = np.asarray(impostors, dtype=float) * np.minimum(1.0, np.asarray(rate, dtype=float))
    mean = np.nan_to_num(mean)
    together = np.ceil(tries * poisson_quantile(_Q, mean / tries) - 1e-9)
    high: FloatArray = np.maximum(together, poisson_quantile(_Q, mean))
    return high


def claimed(points: FloatArray, threshold: Any) -> FloatArray:
    """The vendor's claim at a threshold: NaN below 1e-3, the smallest claim above 1e-6."""
    t = np.broadcast_to(np.asarray(threshold, dtype=float), points.shape[:1])
    inside = regimes.implied_fmr(points, np.minimum(t, points[:, 3]))
    return np.asarray(inside, dtype=float)


def bound(at: pd.DataFrame, k: float, share: float | None) -> pd.DataFrame:
    """Turn counts at a threshold into the bounds for one k: the columns of `label_free_bounds`."""
    points = at[list(THRESHOLD_COLUMNS)].to_numpy(dtype=float)
    n, n3, n_below = (
        at[c].to_numpy(dtype=float) for c in ("n_compared", "n_below_1e_3", "n_below")
    )
    claim = claimed(points, at["threshold"]) if len(at) else np.zeros(0)
    m = at["attempts_per_person"].to_numpy(dtype=float)
    tries = np.nan_to_num(m, nan=1.0)
    impostors = np.minimum(impostors_high(n3, k, _cap(n, share), tries), n)
    known = ~np.isnan(claim)
    rate = np.nan_to_num(k * claim)
    at = at.assign(claimed_fmr=claim, k=k, impostors_high=impostors)
    high = false_matches_high(impostors, rate, tries)
    at["false_matches_high"] = np.where(known, np.minimum(high, impostors), np.nan)
    three = np.minimum(false_matches_high(impostors, rate, 3.0), impostors)
    at["false_matches_high_m3"] = np.where(known & np.isnan(m), three, np.nan)
    at["match_rate"] = _divide(n - n_below, n)
    # under the own 1e-4 threshold a withheld score may be above the one asked for
    hidden = np.where(at["threshold"] < at[OWN_THRESHOLD], at["n_withheld"], 0).astype(float)
    at["fnmr_low"] = _fnmr_low(n, n3, n_below, claim, k, impostors, tries, share, hidden)
    at["fnmr_high"] = _divide(n_below, n)
    at["impostor_share"] = np.nan if share is None else share
    at["reason"] = np.where(known, "", BELOW)
    return at.assign(covers=COVERS)


def _fnmr_low(
    n: FloatArray,
    n3: FloatArray,
    n_below: FloatArray,
    claim: FloatArray,
    k: float,
    impostors: FloatArray,
    m: FloatArray,
    share: float | None,
    hidden: FloatArray,
) -> FloatArray:
    """Owners surely below: rows between 1e-3 and the threshold that strangers cannot explain.

    `hidden` rows count as below 1e-3, yet may be owners who match: owners they are then, not below.
    """
    between = np.maximum(n_below - n3, 0.0)
    strangers = false_matches_high(impostors, k * (1e-3 - np.nan_to_num(claim, nan=1e-3)), m)
    owners = np.minimum(n - impostors + hidden, n)
    with np.errstate(divide="ignore", invalid="ignore"):
        low = np.where(owners > 0, np.maximum(0.0, between - strangers) / owners, 0.0)
        if share is not None:
            capped = (n_below - hidden - share * n) / (n - share * n)
            low = np.maximum(low, np.nan_to_num(capped))
    return np.where(n > 0, np.minimum(low, _divide(n_below, n)), np.nan)


def _with_months(table: pd.DataFrame, length: float | None) -> pd.DataFrame:
    """Add how many months the data of each regime last, and whether that can be told."""
    if length is not None:
        return table.assign(months=length, _told=True)
    hours = (table.pop("_last") - table.pop("_first")) / HOUR_US
    table = table.assign(months=hours / _HOURS_A_MONTH, _told=hours >= 1)
    if len(table) and not table["_told"].any():
        raise UsageError("the times of the data are unknown or within one hour; give months=")
    return table


def _solve(row: dict[str, Any], k: float, budget: float, share: float | None) -> dict[str, Any]:
    """Find the smallest threshold within a budget for one regime and k."""
    n, months = float(row["n_compared"]), row["months"]
    m = max(1.0, np.nan_to_num(row["attempts_per_person"], nan=1.0))
    strangers = impostors_high(row["n_below_1e_3"], k, _cap(n, share), m)
    impostors = float(np.minimum(strangers, n))
    threshold = claim = high = math.nan
    if row["_told"]:
        points = np.array([row[c] for c in THRESHOLD_COLUMNS], dtype=float)
        threshold, claim, high = _smallest(points, impostors, k, m, budget * months)
    missing = "not_reachable" if row["_told"] else SHORT
    return {
        **{name: row[name] for name in _BUDGET if name in row},
        "k": k, "budget_per_month": budget, "impostors_high": impostors, "threshold": threshold,
        "claimed_fmr": claim, "false_matches_high": high,
        "false_matches_per_month_high": high / months if row["_told"] else math.nan,
        "reason": missing if math.isnan(threshold) else "",
    }  # fmt: skip


def _smallest(
    points: FloatArray, impostors: float, k: float, m: float, budget: float
) -> tuple[float, float, float]:
    """Return the smallest threshold within a budget, the claim there and the bound; or NaN."""
    total = math.floor(min(budget, _MOST))
    # P(Poisson(mean) ≤ c) ≥ 97.5 % up to this mean: the tail of the gamma distribution
    together = m * float(special.gammainccinv(math.floor(total / m + 1e-12) + 1, _Q))
    mean = min(together, float(special.gammainccinv(total + 1, _Q)))
    target = math.inf if impostors == 0 else mean / (k * impostors)
    if target < 1e-6:
        return math.nan, math.nan, math.nan
    threshold = float(points[0] if target >= 1e-3 else score_at_fmr(points, target))
    while True:
        claim = float(claimed(points[None], threshold)[0])
        high = float(false_matches_high(impostors, k * claim, m))
        if high <= budget:
            return threshold, claim, high
        # the last digit of the inverse fell on the wrong side
        threshold = math.nextafter(threshold, math.inf)


def _turned_away(frame: nw.LazyFrame[Any], result: pd.DataFrame) -> pd.DataFrame:
    """Count the rows below each threshold found: one more pass over the data."""
    result = result.astype({name: _kind(name) for name in result})
    wanted = sorted(set(result["threshold"].dropna()))
    below = {f"below:{t!r}": ~reached(nw.lit(t)) for t in wanted}
    table = _counted(frame, [], below).set_index("regime")
    at = [
        math.nan if math.isnan(t) else float(table.loc[regime, f"below:{t!r}"])
        for regime, t in zip(result["regime"], result["threshold"], strict=True)
    ]
    result["n_below"] = pd.array(at, dtype="Float64").astype("Int64")
    result["n_more_turned_away"] = result["n_below"] - result["n_below_own"]
    more = result["n_more_turned_away"].astype("Float64").to_numpy(dtype=float, na_value=np.nan)
    result["more_turned_away_per_month"] = more / result["months"]
    result["fnmr_high"] = np.array(at, dtype=float) / result["n_compared"]
    result["reason"] = result.pop("reason")
    return result.assign(covers=COVERS)


def _kind(name: str) -> str:
    return "int64" if name[:2] == "n_" else "str" if name in {"regime", "reason"} else "float64"


# ------------------------------------------------------------------ counts


def _compared(v: Any, keys: Sequence[str], more: Sequence[str] = ()) -> nw.LazyFrame[Any]:
    frame = lazy_rows(v, [*REQUIRED, *keys, *more], [*OPTIONAL, "subject"])
    return frame.filter(complete(), scored() | withheld())


def _counted(
    frame: nw.LazyFrame[Any], keys: list[str], below: dict[str, nw.Expr], *, times: bool = False
) -> pd.DataFrame:
    is_null = nw.col("score").is_null()
    counted = {"n_compared": is_null | ~is_null, "n_withheld": is_null}
    counted |= {"n_below_1e_3": ~reached(nw.col(_T3)), **below}
    ends = {"_first": nw.col("occurred_us")} if times else None
    last = {"_last": nw.col("occurred_us")} if times else None
    groups = [*keys, *(c for c in REGIME if c not in keys)]
    table = group_counts(frame, groups, counts=counted, least=ends, most=last)
    if times:  # `_first` and `_last` are names that `add_up` drops
        table = _with_times(frame, table, groups)
    table = name_regimes(table)
    if "req_key" not in keys:
        table = table.drop(columns="req_key")
    front = ["regime", *keys, *THRESHOLD_COLUMNS]
    return table[[*front, *(c for c in table if c not in front)]]


def _with_times(frame: nw.LazyFrame[Any], table: pd.DataFrame, groups: list[str]) -> pd.DataFrame:
    time = nw.col("occurred_us")
    ends = group_counts(frame, groups, counts={}, least={"_from": time}, most={"_to": time})
    ends = ends.rename(columns={"_from": "_first", "_to": "_last"})
    return table.merge(ends, on=groups, how="left")


# ------------------------------------------------------------------ arguments


def _asked(threshold: Any, nominal_fmr: Any) -> list[tuple[float, float, nw.Expr]]:
    """Thresholds asked for: score, nominal FMR, and the rows below as an expression."""
    if (threshold is None) == (nominal_fmr is None):
        raise UsageError("give threshold or nominal_fmr")
    if threshold is not None:
        scores = numbers(threshold, "threshold")
        return [(t, 1e-4, ~reached(nw.lit(t))) for t in scores]
    levels = numbers(nominal_fmr, "nominal_fmr")
    return [(math.nan, f, ~reached(threshold_at_fmr(f))) for f in levels]


def _factors(k: Any) -> list[float]:
    return numbers(k, "k", above=0, below=1000)  # 1e-3 times k is a rate


def _share(impostor_share: float | None) -> float | None:
    if impostor_share is None:
        return None
    return number(impostor_share, "impostor_share", low=0, below=1)


def _cap(n: Any, share: float | None) -> Any:
    return np.inf if share is None else np.ceil(share * n - 1e-9)


def _divide(x: FloatArray, n: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore"):
        result: FloatArray = np.where(n > 0, x / n, np.nan)
    return result
