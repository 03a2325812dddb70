"""Statements without labels, from the false-match rate that the vendor claims at four scores.

Every bound is printed for k = 1, 3 and 10 times the claim, never as one number. One group-by counts
the rows of a table, a second one the tries of each person.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from verifyanalytics.analysis.base import regimes
from verifyanalytics.analysis.base.frames import collected, lazy_rows
from verifyanalytics.analysis.base.groups import add_up, group_counts, group_keys, regime_keys
from verifyanalytics.analysis.base.periods import HOUR_US
from verifyanalytics.analysis.base.persons import person_sums
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
from verifyanalytics.analysis.bounds.formulas import (
    COVERS,
    impostors_high,
    sample_cap,
    smallest_threshold,
    with_bounds,
)
from verifyanalytics.arguments import number, numbers
from verifyanalytics.errors import UsageError
from verifyanalytics.schema import THRESHOLD_COLUMNS
from verifyanalytics.wording.numbers import short

By = str | Sequence[str] | None

MEANING = "P(score >= s | impostor), not P(impostor | score)"
"""What the vendor's claim says about a score."""

SHORT = "shorter_than_an_hour"
"""Reason of a missing budget threshold: so little time says nothing about a month."""

_T3 = THRESHOLD_COLUMNS[0]
_HOURS_A_MONTH = 365.25 * 24 / 12
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

    See Also
    --------
    label_free, verifyanalytics.scores.vendor_thresholds

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
    table = collected(frame)
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

    See Also
    --------
    threshold_for_budget, verifyanalytics.accuracy.error_rates

    Examples
    --------
    >>> v = pd.DataFrame({"code": 10000, "score": [50.0] * 10 + [75.0] * 90,
    ...     "threshold_1e_3": 60, "threshold_1e_4": 70, "threshold_1e_5": 80, "threshold_1e_6": 90})
    >>> table = label_free(v, 70)
    >>> table[["k", "n_below", "impostors_high", "false_matches_high"]].values.tolist()
    [[1.0, 10.0, 10.0, 0.0], [3.0, 10.0, 11.0, 0.0], [10.0, 10.0, 11.0, 0.0]]
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
        parts.append(at)
    result = with_bounds(pd.concat(parts, ignore_index=True), factors, impostor_share)
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
        As in `label_free`.
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

    See Also
    --------
    label_free, verifyanalytics.scores.decision_table

    Examples
    --------
    >>> v = pd.DataFrame({"code": 10000, "score": [50.0] * 10 + [75.0] * 90,
    ...     "threshold_1e_3": 60, "threshold_1e_4": 70, "threshold_1e_5": 80, "threshold_1e_6": 90})
    >>> threshold_for_budget(v, 1, months=1)[["k", "threshold", "n_below"]].values.tolist()
    [[1.0, 60.0, 10], [3.0, 60.0, 10], [10.0, 60.0, 10]]
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
    strangers = impostors_high(row["n_below_1e_3"], k, sample_cap(n, share), m)
    impostors = float(np.minimum(strangers, n))
    threshold = claim = high = math.nan
    if row["_told"]:
        points = np.array([row[c] for c in THRESHOLD_COLUMNS], dtype=float)
        threshold, claim, high = smallest_threshold(points, impostors, k, m, budget * months)
    missing = "not_reachable" if row["_told"] else SHORT
    return {
        **{name: row[name] for name in _BUDGET if name in row},
        "k": k, "budget_per_month": budget, "impostors_high": impostors, "threshold": threshold,
        "claimed_fmr": claim, "false_matches_high": high,
        "false_matches_per_month_high": high / months if row["_told"] else math.nan,
        "reason": missing if math.isnan(threshold) else "",
    }  # fmt: skip


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
    groups = regime_keys(keys)
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


# ------------------------------------------------------------------ tries a person


def reached(threshold: nw.Expr) -> nw.Expr:
    """Return true where the score reaches the threshold; a withheld one does not."""
    return (nw.col("score") >= threshold).fill_null(value=False)


def with_attempts(table: pd.DataFrame, frame: nw.LazyFrame[Any], keys: list[str]) -> pd.DataFrame:
    """Put `attempts_per_person` beside the counts of each regime and group.

    Raises
    ------
    UsageError
        A group has no partner: the values of a column are not comparable.
    """
    groups = ["regime", *keys]
    both = table.merge(_attempts(frame, keys), how="left", on=groups, indicator="_found")
    if len(both) != len(table) or (both.pop("_found") != "both").any():
        raise UsageError(f"groups of {', '.join(keys)} cannot be told apart; make it text")
    return both


def _attempts(frame: nw.LazyFrame[Any], keys: list[str]) -> pd.DataFrame:
    """Tries a person, m = Σmᵢ²/Σmᵢ, per regime and group; NaN where no row has a subject.

    The larger of all rows' and of the rows below the 1e-3 threshold: strangers are found there, and
    a stranger who tries ten times among owners who try once must not count as one who tries twice.
    The latter is rounded up, for owners are among those rows too and thin it out.
    """
    groups, low = regime_keys(keys), ~reached(nw.col(THRESHOLD_COLUMNS[0]))
    unknown = frame.filter(nw.col("subject").is_null())
    alone = group_counts(unknown, groups, counts={"alone": None, "alone_low": low})
    persons = {"_person": nw.col("subject")}
    sums = person_sums(frame, groups, persons, {"all": None, "low": low}, {})
    added = ["all:m", "all:mm", "low:m", "low:mm", "alone", "alone_low"]
    table = name_regimes(pd.concat([sums, alone], ignore_index=True))
    table = table[["regime", *keys, *added]].fillna(dict.fromkeys(added, 0.0))
    table = add_up(table.astype(dict.fromkeys(added, float)), ["regime", *keys])
    everywhere = (table["all:mm"] + table["alone"]) / (table["all:m"] + table["alone"])
    n_low = table["low:m"] + table["alone_low"]
    below = ((table["low:mm"] + table["alone_low"]) / n_low).where(n_low > 0)
    m = np.fmax(everywhere, np.ceil(below - 1e-9))
    return table[["regime", *keys]].assign(attempts_per_person=m.where(table["all:m"] > 0))
