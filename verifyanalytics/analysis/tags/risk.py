"""The vendor's risk score in bands: how an outcome rises with it, if it does.

The vendor's two pages name the levels differently, so the direction of the score is estimated and
printed, never taken for granted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from verifyanalytics.analysis.base.groups import group_counts
from verifyanalytics.analysis.base.intervals import FEW, FloatArray
from verifyanalytics.analysis.base.outcomes import (
    NO,
    ONLY_RISK,
    UNKNOWN_OUTCOME,
    YES,
    Crowd,
    by_person,
    chosen,
    crowd_of,
    weights,
    with_outcome,
)
from verifyanalytics.analysis.base.periods import leaf
from verifyanalytics.analysis.base.statistic import statistic
from verifyanalytics.analysis.tags.auc import area, area_limits, p_value
from verifyanalytics.analysis.tags.sets import Weighed, share_limits
from verifyanalytics.arguments import numbers
from verifyanalytics.errors import UsageError

_LEVEL = 0.05


@statistic("tags.risk_bands")
def risk_bands(
    v: Any,
    bands: Sequence[float] = (0, 300, 600, 900),
    outcome: str = "non_match",
    *,
    assume_random: bool = False,
) -> pd.DataFrame:
    """How often an outcome goes with each band of the vendor's risk score.

    Parameters
    ----------
    v : frame of verifications
        Needs `risk_score`; uses `subject` when there.
    bands : sequence of numbers
        Rising lower ends; the last band is open. Scores below the first are a band of their own
        when there are any.
    outcome, assume_random
        As in `tag_lift`. Against `rejected` the frame is circular: the score rejects by itself.

    Returns
    -------
    DataFrame
        Bands in rising order: `band`, `risk_low`, `risk_high` (half-open), `outcome`, `basis`,
        `circular`; `n` rows with a risk score and a known outcome, `n_outcome`, `outcome_rate` with
        95 % limits, `lift` over the rate of all; `woe` = ln(share of the outcome rows / share of
        the others) in the band: **above 0 the band has more outcome than the whole**; `gain` and
        `depth`: shares of outcome rows and of all rows from the riskiest band to this one. Of the
        whole: `auc` = P(score of an outcome row > that of another) + ½ P(equal) over the bands with
        `auc_low`, `auc_high`; `p_value` of an AUC of ½; `direction` = `higher` (higher scores go
        with more outcome; p ≤ 0.05), `lower`, `not evident`, or `unknown` (no row of one kind, or
        no rate is given); `ks` largest distance of the two cumulated shares; `iv` = Σ woe ·
        difference of shares, never negative; `smoothing` added to each count of both kinds, in
        bands with rows, before `woe` and `iv`: 0.5 when a band is empty in exactly one kind, else
        0. `n_without_score`, `n_unknown`, `n_only_risk`: rows left out. `deff` is the design effect
        Σm²/Σm for m rows a person, an upper limit; `clustered`: persons are known; `weighted`,
        `reason` (`selected_labels`) and `note` as in `tag_lift`.

    Raises
    ------
    UsageError
        `bands` do not rise.

    Notes
    -----
    The riskiest band is the last one, or with direction `lower` the first. Limits of the AUC:
    Newcombe (2006), method 5, with ties, times `deff`. The p-value is from 9,999 rearrangements of
    the outcome over the effective rows, never below 1e-4; with fewer than ten effective rows of one
    kind and persons that repeat, over one row a person (the last). Siddiqi (2006) for woe and iv.
    """
    edges = _checked(bands)
    frame, meaning = with_outcome(v, outcome, ["risk_score"])
    scored = ~nw.col("risk_score").is_null()
    frame, choice = chosen(frame, meaning, scored, assume_random=assume_random)
    frame = frame.with_columns(_band=leaf(nw.col("risk_score"), edges, range(len(edges) + 1)))
    state = nw.col("_outcome")
    known = scored & ((state == YES) | (state == NO))
    table = group_counts(
        frame,
        ["_band", *choice.keys],
        counts={
            "n": known,
            "n_outcome": scored & (state == YES),
            "n_unknown": scored & (state == UNKNOWN_OUTCOME),
            "n_only_risk": scored & (state == ONLY_RISK),
            "n_without_score": ~scored,
        },
    )
    n, x = (_per_band(table, name, len(edges) + 1) for name in ("n", "n_outcome"))
    counted = frame.filter(known)
    crowd = crowd_of(counted)
    first = 0 if n.n[0] else 1
    low, high = np.r_[-np.inf, edges][first:], np.r_[edges, np.inf][first:]
    result = pd.DataFrame({"risk_low": low, "risk_high": high})
    labels = pd.Series([_label(*ends) for ends in zip(low, high, strict=True)], dtype="str")
    result.insert(0, "band", labels)
    result["outcome"] = pd.Series([outcome] * len(result), dtype="str")
    result["basis"] = pd.Series([meaning.basis] * len(result), dtype="str")
    result["circular"] = meaning.circular
    chance = _chance(counted, n, x, crowd, weighted=choice.weighted)
    result = _rated(
        result,
        n.after(first),
        x.after(first),
        crowd.deff,
        float("nan") if choice.reason else chance,
    )
    if choice.reason:
        result[_RATES] = np.nan
    for name in ("n_without_score", "n_unknown", "n_only_risk"):
        result[name] = int(table[name].sum())
    result["deff"], result["clustered"] = crowd.deff, crowd.known
    result["weighted"] = choice.weighted
    for name, word in (("reason", choice.reason), ("note", choice.note)):
        result[name] = pd.Series([word] * len(result), dtype="str")
    return result


_RATES = [
    "outcome_rate", "outcome_rate_low", "outcome_rate_high", "lift", "woe", "gain", "depth",
    "auc", "auc_low", "auc_high", "p_value", "ks", "iv",
]  # fmt: skip


def _checked(bands: Sequence[float]) -> list[float]:
    edges = numbers(bands, "bands")
    if any(np.diff(edges) <= 0):
        raise UsageError(f"bands must be rising finite numbers, at least one; {bands!r} was given")
    return edges


def _label(low: float, high: float) -> str:
    if np.isinf(low):
        return f"< {high:g}"
    return f">= {low:g}" if np.isinf(high) else f"{low:g} - < {high:g}"


def _per_band(table: pd.DataFrame, name: str, n_bands: int) -> Weighed:
    """Add up a count per band: rows, weights, squared weights."""
    count, weight = table[name].to_numpy(), weights(table).to_numpy(dtype=float)
    at = table["_band"].to_numpy(dtype="int64")
    n, w, ww = (np.bincount(at, count * weight**p, n_bands).astype(float) for p in (0, 1, 2))
    return Weighed(n.astype("int64"), w, ww)


def _chance(
    counted: nw.LazyFrame[Any], n: Weighed, x: Weighed, crowd: Crowd, *, weighted: bool
) -> float:
    """Return the p-value of the area over all bands."""
    other = n.without(x)
    deff = crowd.deff * _spread(x, other)
    few = min(x.w.sum(), other.w.sum()) / deff < FEW
    if not few or weighted or crowd.n_subjects == crowd.n_rows:
        return p_value(x.w, other.w, deff)
    table, _ = by_person(counted, ["_band", "_outcome"])
    at, count = table["_band"].to_numpy(dtype="int64"), table["n"].to_numpy(dtype=float)
    yes = (table["_outcome"] == YES).to_numpy()
    sides = [np.bincount(at[side], count[side], len(n.n)).astype(float) for side in (yes, ~yes)]
    return p_value(sides[0], sides[1], 1.0)


def _spread(*sides: Weighed) -> float:
    """Return the largest Σw²/Σw of some counts over all bands; 1 without weights."""
    return max((float(side.ww.sum() / side.w.sum()) for side in sides if side.w.sum()), default=1.0)


def _rated(table: pd.DataFrame, n: Weighed, x: Weighed, deff: float, chance: float) -> pd.DataFrame:
    table["n"], table["n_outcome"] = n.n, x.n
    other = n.without(x)
    rate, low, high = share_limits(x, n, deff)
    empty = n.n == 0
    smoothing = 0.5 if np.any((x.n == 0) != (other.n == 0)) else 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        table["outcome_rate"], table["outcome_rate_low"], table["outcome_rate_high"] = (
            rate,
            low,
            high,
        )
        table["lift"] = rate / (x.w.sum() / n.w.sum())
        bad, good = (_share(side.w, np.where(empty, 0.0, smoothing)) for side in (x, other))
        woe = np.where(empty, np.nan, np.log(bad / good))
    auc = area(x.w, other.w)
    evident = "higher" if auc > 0.5 else "lower"
    direction = "unknown" if np.isnan(chance) else evident if chance <= _LEVEL else "not evident"
    order = slice(None) if direction == "lower" else slice(None, None, -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        table["woe"] = woe
        table["gain"] = (x.w[order].cumsum() / x.w.sum())[order]
        table["depth"] = (n.w[order].cumsum() / n.w.sum())[order]
        gap = np.abs(x.w.cumsum() / x.w.sum() - other.w.cumsum() / other.w.sum())
    ends = area_limits(x.w, other.w, deff * _spread(x, other))
    table["auc"], (table["auc_low"], table["auc_high"]) = auc, ends
    table["p_value"] = chance
    table["direction"] = pd.Series([direction] * len(table), dtype="str")
    table["ks"] = gap.max()
    whole = x.n.sum() > 0 and other.n.sum() > 0
    table["iv"] = float(np.nansum((bad - good) * woe)) if whole else np.nan
    table["smoothing"] = smoothing
    return table


def _share(count: FloatArray, smoothing: FloatArray) -> FloatArray:
    smoothed = count + smoothing
    share: FloatArray = smoothed / smoothed.sum()
    return share
