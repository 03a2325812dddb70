"""Operating points: where the threshold should stand, given what may go wrong how often.

Everything here sorts labelled scores: it is not counts first. The labelled rows of one regime come
to this process (some 40 bytes each) and cost n·log n; unlabelled rows stay where they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import narwhals as nw
import numpy as np
import pandas as pd
from scipy import special

from verifyanalytics.analysis.accuracy.curves import (
    Curve,
    area,
    assured_fmr,
    at_most_fmr,
    at_most_fnmr,
    curve,
    equal_error,
    match_deff,
    nonmatch_deff,
    side,
)
from verifyanalytics.analysis.base.frames import collected
from verifyanalytics.analysis.base.intervals import FloatArray, guard
from verifyanalytics.analysis.base.labelled import (
    TAKEN_AS_RANDOM,
    coverage_table,
    labelled_rows,
    selection,
)
from verifyanalytics.analysis.base.persons import person
from verifyanalytics.analysis.base.rates import limits, printed, sample_limit
from verifyanalytics.analysis.base.regimes import REGIME, implied_fmr, name_regimes
from verifyanalytics.analysis.base.statistic import statistic
from verifyanalytics.arguments import number, numbers
from verifyanalytics.errors import UsageError
from verifyanalytics.schema import THRESHOLD_COLUMNS

PLATEAU = 0.05
"""Thresholds whose cost is within this share of the least belong to the plateau."""

_SOLVED = (
    "rule", "target", "eer", "eer_low", "eer_high", "cost", "plateau_low", "plateau_high",
)  # fmt: skip
UNEQUAL = "unequal_inclusion"
"""Reason of an operating point that is not given: rows were chosen with unequal probability."""


class Cost(NamedTuple):
    """What errors cost, and the share of non-mated attempts.

    Attributes
    ----------
    false_match, false_nonmatch : float
        Costs, 0 or more, in one unit.
    nonmated_share : float
        Share of non-mated attempts, in [0, 1]: given, never the labelled share.

    See Also
    --------
    verifyanalytics.accuracy.operating_points : takes it as `cost`

    Examples
    --------
    >>> import verifyanalytics as va
    >>> va.accuracy.Cost(false_match=500, false_nonmatch=2, nonmated_share=0.001).false_match
    500
    """

    false_match: float
    false_nonmatch: float
    nonmated_share: float


class Part(NamedTuple):
    """The labelled rows of one regime; `reason` why nothing is said about thresholds on them."""

    regime: str
    thresholds: FloatArray
    rows: pd.DataFrame
    reason: str


class Labelled(NamedTuple):
    """The labelled comparisons of one regime."""

    regime: str
    thresholds: FloatArray
    curve: Curve
    reason: str


@statistic("accuracy.operating_points")
def operating_points(
    truth: Any,
    fmr: Sequence[float] | float | None = None,
    fnmr: Sequence[float] | float | None = None,
    eer: bool = False,
    cost: Cost | tuple[float, float, float] | None = None,
    assured: float | None = None,
    cluster: str | None = "subject",
    assume_random: bool = False,
) -> pd.DataFrame:
    """Thresholds that meet a target on the labelled rows, and what they would have done there.

    Parameters
    ----------
    truth : frame
        From `join_labels`; at least `score` and `mated`.
    fmr : float or sequence of float, optional
        The smallest threshold whose realised FMR is at most this.
    fnmr : float or sequence of float, optional
        The largest threshold whose realised FNMR is at most this.
    eer : bool
        The equal error rate: the interval [eer_low, eer_high] that holds it, and its middle.
    cost : Cost, optional
        The threshold of least c_fm·π·FMR + c_fnm·(1−π)·FNMR, and the plateau around it.
    assured : float, optional
        With `fmr`: beside each, the smallest threshold whose one-sided Clopper–Pearson upper limit
        at this confidence is at most `fmr`. The realised rule alone exceeds its target in the
        population about every second time. Below the own 1e-4 threshold withheld scores may have
        matched: the limit counts them so.
    cluster : str or None
        Who made the row; see `error_rates`.
    assume_random : bool
        See `error_rates`.

    Returns
    -------
    DataFrame
        A row for each regime and rule: `regime`, `rule`, `target`, `threshold`, the two error rates
        there with counts and limits as in `error_rates`; `eer`, `eer_low`, `eer_high`; `cost`,
        `plateau_low`, `plateau_high`; `auc` (scored rows; ½ for ties); `claimed_fmr` of the vendor
        at the threshold; `reason` and `note`. Candidates are the distinct pooled scores and one
        step above the largest; equal scores are one block.

    Raises
    ------
    UsageError
        No rule is asked for, or a target lies outside [0, 1]; one class is empty.

    Notes
    -----
    A target below what the sample can carry is answered with the threshold that makes no error on
    it, and `note` says "< … is all this sample can say".

    See Also
    --------
    det_curve, out_of_sample, Cost

    Examples
    --------
    >>> truth = pd.DataFrame({"score": [50, 65, 72, 80, 90, 60, 88, 91],
    ...                       "mated": [False] * 3 + [True] * 5})
    >>> found = operating_points(truth, fmr=0.1, eer=True)
    >>> found[["rule", "threshold", "fmr", "fnmr", "eer"]]
      rule  threshold  fmr  fnmr  eer
    0  fmr       80.0  0.0   0.2  NaN
    1  eer       80.0  0.0   0.2  0.1
    """
    if assured is not None:
        assured = number(assured, "assured", above=0, below=1)
        if fmr is None:
            raise UsageError("assured is a confidence that goes with fmr=")
    rules = []
    for target in [] if fmr is None else numbers(fmr, "fmr", low=0, high=1):
        rules += [("fmr", target)] + ([("assured", target)] if assured is not None else [])
    if fnmr is not None:
        rules += [("fnmr", target) for target in numbers(fnmr, "fnmr", low=0, high=1)]
    rules += [("eer", np.nan)] if eer else []
    rules += [("cost", np.nan)] if cost is not None else []
    if not rules:
        raise UsageError("ask for a rule: fmr=, fnmr=, eer=True or cost=")
    prices = None if cost is None else _prices(cost)
    found = []
    for part in labelled_curves(truth, cluster):
        points = [_solve(part, rule, x, assured, prices) for rule, x in rules]
        table = rates_there(part, [p["index"] for p in points])
        for name in _SOLVED:
            table[name] = [p.get(name, np.nan) for p in points]
        table["auc"] = area(part.curve)
        table["note"] = [_note(part.curve, p, part.reason, assume_random) for p in points]
        found.append(_blank(table, part.reason, assume_random=assume_random))
    front = ["regime", "rule", "target", "threshold"]
    result = pd.concat(found, ignore_index=True)
    return result[[*front, *(c for c in result if c not in front)]]


@statistic("accuracy.det_curve")
def det_curve(
    truth: Any,
    cluster: str | None = "subject",
    assume_random: bool = False,
    max_points: int = 1000,
) -> pd.DataFrame:
    """Both error rates at every candidate threshold, per regime: the detection error trade-off.

    Parameters
    ----------
    truth : frame
        From `join_labels`; at least `score` and `mated`.
    cluster, assume_random
        See `error_rates`.
    max_points : int
        A longer curve is thinned to about so many, evenly along the curve on normal-deviate axes;
        its ends stay.

    Returns
    -------
    DataFrame
        `regime`, `threshold` ascending, `claimed_fmr`, both rates with counts and limits as in
        `error_rates`, `auc`, `reason`. FMR falls and FNMR rises with the threshold.

    See Also
    --------
    operating_points, error_rates

    Examples
    --------
    >>> truth = pd.DataFrame({"score": [50, 65, 72, 80, 90, 60, 88, 91],
    ...                       "mated": [False] * 3 + [True] * 5})
    >>> det_curve(truth)[["threshold", "fmr", "fnmr"]].head(3).round(3)
       threshold    fmr  fnmr
    0       50.0  1.000   0.0
    1       60.0  0.667   0.0
    2       65.0  0.667   0.2
    """
    most = int(number(max_points, "max_points", low=2, whole=True))
    found = []
    for part in labelled_curves(truth, cluster):
        table = rates_there(part, list(_thinned(part.curve, most)))
        table["auc"] = area(part.curve)
        table["note"] = _consent(part.reason, assume_random)
        found.append(_blank(table, part.reason, assume_random=assume_random))
    return pd.concat(found, ignore_index=True)


# ------------------------------------------------------------------ labelled scores


def labelled_curves(truth: Any, cluster: str | None) -> list[Labelled]:
    """Both classes of every regime that has labelled comparisons of both.

    Raises
    ------
    UsageError
        No regime has both, and a score.
    """
    found = [
        Labelled(part.regime, part.thresholds, curve_of(part.rows), part.reason)
        for part in by_regime(collect_labelled(truth, cluster), truth)
    ]
    both = [p for p in found if p.curve.nonmated.n and p.curve.mated.n and p.curve.thresholds.size]
    if not both:
        n_mated = sum(p.curve.mated.n for p in found)
        n_nonmated = sum(p.curve.nonmated.n for p in found)
        raise UsageError(
            f"{n_mated} mated and {n_nonmated} non-mated comparisons are labelled: "
            "an operating point needs both in one regime, and scores"
        )
    return both


def collect_labelled(truth: Any, cluster: str | None, extra: Sequence[str] = ()) -> pd.DataFrame:
    """Bring the labelled comparisons here: regime columns, score, mated, person, chance."""
    wanted = [*extra, *([cluster] if cluster and cluster != "subject" else [])]
    optional = [c for c in ("subject", "label_token", "request_id") if c not in wanted]
    frame = labelled_rows(truth, wanted, optional).filter(nw.col("_bona_fide"))
    renamed = {"occurred_at": "occurred_us"}
    columns = [*REGIME, "score", "mated", *(renamed.get(c, c) for c in extra)]
    ids = [c for c in nw.from_native(truth).collect_schema().names() if c == "request_id"]
    columns += ids
    frame = frame.select(*columns, person=person(cluster), chance=nw.col("_chance"))
    table = collected(frame)
    if ids:  # one order on every engine, so that a seed means the same persons
        table = table.sort_values("request_id", kind="stable", ignore_index=True)
    table["req_key"] = table["req_key"].fillna("unknown").astype("str")
    table["mated"] = table["mated"].astype(bool)
    table["score"] = table["score"].astype("float64")
    codes, known = pd.factorize(table["person"])
    alone = codes < 0
    table["person"] = np.where(alone, len(known) + np.cumsum(alone), codes).astype("int64")
    return table


def by_regime(table: pd.DataFrame, truth: Any) -> Iterator[Part]:
    """Split labelled comparisons by regime, and say where thresholds cannot be chosen on them."""
    reasons = selection(coverage_table(truth))
    for regime, rows in name_regimes(table).groupby("regime", sort=True):
        points = rows[list(THRESHOLD_COLUMNS)].iloc[0].to_numpy(dtype=float)
        unequal = rows["chance"].nunique(dropna=False) > 1 and rows["chance"].notna().any()
        reason = reasons.get(str(regime), "") or (UNEQUAL if unequal else "")
        yield Part(str(regime), points, rows, reason)


def curve_of(part: pd.DataFrame) -> Curve:
    """Sort both classes; persons are counted within a class."""
    mated = part["mated"].to_numpy()
    score, codes = part["score"].to_numpy(), part["person"].to_numpy()
    return curve(
        side(score[~mated], pd.factorize(codes[~mated])[0]),
        side(score[mated], pd.factorize(codes[mated])[0]),
    )


# ------------------------------------------------------------------ rules


def _prices(cost: Any) -> Cost:
    prices = numbers(cost, "cost", low=0)
    if len(prices) != len(Cost._fields):
        raise UsageError("cost is Cost(false_match, false_nonmatch, nonmated_share)")
    return Cost(prices[0], prices[1], number(prices[2], "cost's nonmated_share", low=0, high=1))


def _solve(
    part: Labelled, rule: str, target: float, assured: float | None, prices: Cost | None
) -> dict[str, Any]:
    c = part.curve
    if rule == "fmr":
        return {"rule": "fmr", "target": target, "index": at_most_fmr(c, target)}
    if rule == "fnmr":
        return {"rule": "fnmr", "target": target, "index": at_most_fnmr(c, target)}
    if rule == "assured":
        name = f"fmr assured {100 * float(assured or 0):g} %"
        index = assured_fmr(c, target, assured or 0.95, part.thresholds[1])
        return {"rule": name, "target": target, "index": index}
    if rule == "eer":
        low, high, index = equal_error(c)
        ends = {"eer_low": low, "eer_high": high, "eer": (low + high) / 2}
        return {"rule": "eer", "index": index, **ends}
    return {"rule": "cost", **_least_cost(c, prices or Cost(1, 1, 0.5))}


def _least_cost(c: Curve, prices: Cost) -> dict[str, Any]:
    share = prices.nonmated_share
    cost = prices.false_match * share * c.fmr + prices.false_nonmatch * (1 - share) * c.fnmr
    index = int(np.argmin(cost))
    fine = cost <= cost[index] * (1 + PLATEAU)
    below, above = np.flatnonzero(~fine[:index]), np.flatnonzero(~fine[index:])
    first = int(below[-1]) + 1 if below.size else 0
    last = index + int(above[0]) - 1 if above.size else cost.size - 1
    return {
        "index": index,
        "cost": float(cost[index]),
        "plateau_low": float(c.thresholds[first]),
        "plateau_high": float(c.thresholds[last]),
    }


def _note(c: Curve, point: dict[str, Any], reason: str, assume_random: bool) -> str:
    consent = _consent(reason, assume_random)
    target = point.get("target", np.nan)
    side_, what = (c.mated, "fnmr") if point["rule"] == "fnmr" else (c.nonmated, "fmr")
    carried = float(guard(side_.n_clusters))
    if not np.isnan(target) and target < carried:
        return "; ".join(
            filter(None, [f"{what} {sample_limit(carried, side_.n_clusters)}", consent])
        )
    if point["index"] is None:
        return "; ".join(filter(None, ["no threshold meets the target", consent]))
    return consent


def _consent(reason: str, assume_random: bool) -> str:
    return TAKEN_AS_RANDOM if reason and assume_random else ""


# ------------------------------------------------------------------ tables


def rates_there(
    part: Labelled, index: Sequence[int | None], thresholds: Sequence[float] | None = None
) -> pd.DataFrame:
    """Give both error rates at candidates (None: there is none), or at thresholds just below them.

    A threshold between two candidates has the counts of the upper one.
    """
    c = part.curve
    there = np.array([-1 if i is None else i for i in index], dtype=np.int64)
    none = there < 0
    asked = c.thresholds[there] if thresholds is None else np.asarray(thresholds, dtype=float)
    threshold = np.where(none, np.nan, asked)
    table = pd.DataFrame({"regime": part.regime, "threshold": threshold})
    claimed = implied_fmr(
        np.tile(part.thresholds, (len(there), 1)), np.nan_to_num(threshold, nan=-1.0)
    )
    table["claimed_fmr"] = claimed
    with np.errstate(invalid="ignore"):
        open_ended = ~(threshold >= part.thresholds[1])
    for name, s, errors, rate, deff in (
        ("nonmated", c.nonmated, c.false_matches, "fmr", match_deff(c)),
        ("mated", c.mated, c.false_nonmatches, "fnmr", nonmatch_deff(c)),
    ):
        n, x = np.full(len(there), float(s.n)), errors[there].astype(float)
        value = np.where(none, np.nan, x / n)
        hidden = np.where(open_ended & ~none, float(s.n_withheld), 0.0)
        persons = np.full(len(there), float(s.n_clusters))
        found = limits(value, n, deff[there], persons, hidden, upward=rate == "fmr")
        count = "n_false_matches" if rate == "fmr" else "n_false_nonmatches"
        table[f"n_{name}"] = s.n
        table[count] = pd.array(np.where(none, 0, errors[there]), dtype="Int64")
        table.loc[none, count] = pd.NA
        table[rate] = value
        table[f"{rate}_low"] = np.where(none, np.nan, found.low)
        table[f"{rate}_high"] = np.where(none, np.nan, found.high)
        carried = float(guard(s.n_clusters))
        table[f"{rate}_says"] = [printed(a, s.n, b, carried) for a, b in zip(x, value, strict=True)]
        table[f"{rate}_guard"], table[f"n_{name}_subjects"] = carried, s.n_clusters
        table[f"n_{name}_withheld"] = s.n_withheld
    return table


def _blank(table: pd.DataFrame, reason: str, *, assume_random: bool) -> pd.DataFrame:
    shown = "" if assume_random else reason
    if shown:
        keep = {"regime", "rule", "target", "note"}
        for name in table:
            if name in keep or name.startswith("n_"):
                continue
            table[name] = "" if name.endswith("_says") else np.nan
    none = table["threshold"].isna() if not shown else pd.Series(False, index=table.index)
    table["reason"] = pd.Series(np.where(none, "target_not_met", shown), index=table.index).astype(
        "str"
    )
    for name in ("regime", "rule", "note", "fmr_says", "fnmr_says"):
        if name in table:
            table[name] = table[name].astype("str")
    return table[[*(c for c in table if c not in {"reason", "note"}), "reason", "note"]]


def _thinned(c: Curve, most: int) -> Any:
    if c.thresholds.size <= most:
        return range(c.thresholds.size)
    edge = 0.25
    x = special.ndtri((c.false_matches + edge) / (c.nonmated.n + 2 * edge))
    y = special.ndtri((c.false_nonmatches + edge) / (c.mated.n + 2 * edge))
    along = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
    picked = np.searchsorted(along, np.linspace(0, along[-1], most))
    return np.unique(np.concatenate([[0], picked, [c.thresholds.size - 1]]))
