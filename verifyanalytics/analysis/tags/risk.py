"""The vendor's risk score in bands: how an outcome rises with it, and how well bands tell it.

The vendor's two pages name the levels differently, so the direction of the score is estimated and
printed, never taken for granted. Bands are few and most rows are in one of them, so ties are the
rule and normal theory is far off long after the counts look large: the test of the area rearranges
the outcome over the bands instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
from scipy import optimize

from verifyanalytics.analysis.base.groups import group_counts
from verifyanalytics.analysis.base.intervals import FEW, FloatArray
from verifyanalytics.analysis.base.outcomes import (
    NO,
    ONLY_RISK,
    UNKNOWN_OUTCOME,
    YES,
    chosen,
    weights,
    with_outcome,
)
from verifyanalytics.analysis.base.periods import leaf
from verifyanalytics.analysis.base.persons import Crowd, by_person, crowd_of
from verifyanalytics.analysis.base.statistic import statistic
from verifyanalytics.analysis.tags.sets import Weighed, share_limits
from verifyanalytics.arguments import numbers
from verifyanalytics.errors import UsageError

_LEVEL, _NORMAL = 0.05, 1.959963984540054
_REARRANGED, _SEED = 9_999, 0
_MOST_DEALT = 1e8  # NumPy deals out fewer than 1e9 rows; so many decide anything


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
        As in `lift`. Against `rejected` the frame is circular: the score rejects by itself.

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
        `reason` (`selected_labels`) and `note` as in `lift`.

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

    See Also
    --------
    lift, rates

    Examples
    --------
    >>> v = pd.DataFrame({"risk_score": [0, 0, 300, 900], "fraud": [0, 0, 0, 1]})
    >>> risk_bands(v, outcome="fraud")[["band", "n", "n_outcome", "auc"]].values.tolist()
    [['0 - < 300', 2, 0, 1.0], ['300 - < 600', 1, 0, 1.0], ['600 - < 900', 0, 0, 1.0], \
['>= 900', 1, 1, 1.0]]
    """
    edges = numbers(bands, "bands")
    if any(np.diff(edges) <= 0):
        raise UsageError(f"bands must be rising finite numbers, at least one; {bands!r} was given")
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
    labels = [_label(*ends) for ends in zip(low, high, strict=True)]
    result = pd.DataFrame({"band": labels, "risk_low": low, "risk_high": high}).assign(
        outcome=outcome, basis=meaning.basis, circular=meaning.circular
    )
    chance = _chance(counted, n, x, crowd, weighted=choice.weighted)
    chance = float("nan") if choice.reason else chance
    result = _rated(result, n.after(first), x.after(first), crowd.deff, chance)
    if choice.reason:
        result[_RATES] = np.nan
    for name in ("n_without_score", "n_unknown", "n_only_risk"):
        result[name] = int(table[name].sum())
    return result.assign(
        deff=crowd.deff, clustered=crowd.known, weighted=choice.weighted, reason=choice.reason,
        note=choice.note,
    )  # fmt: skip


_RATES = [
    "outcome_rate", "outcome_rate_low", "outcome_rate_high", "lift", "woe", "gain", "depth",
    "auc", "auc_low", "auc_high", "p_value", "ks", "iv",
]  # fmt: skip


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
        table = table.assign(outcome_rate=rate, outcome_rate_low=low, outcome_rate_high=high)
        table["lift"] = rate / (x.w.sum() / n.w.sum())
        smoothed = (side.w + np.where(empty, 0.0, smoothing) for side in (x, other))
        bad, good = (count / count.sum() for count in smoothed)
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
    auc_low, auc_high = area_limits(x.w, other.w, deff * _spread(x, other))
    whole = x.n.sum() > 0 and other.n.sum() > 0
    return table.assign(
        auc=auc, auc_low=auc_low, auc_high=auc_high, p_value=chance, direction=direction,
        ks=gap.max(), iv=float(np.nansum((bad - good) * woe)) if whole else np.nan,
        smoothing=smoothing,
    )  # fmt: skip


# ------------------------------------------------------------------ the area


def area(x: FloatArray, other: FloatArray) -> float:
    """Return P(outcome row in a higher band) + ½ P(equal), from counts in rising order.

    NaN where either kind has no row.
    """
    if not x.sum() or not other.sum():
        return float("nan")
    return float(x @ (other.cumsum() - other / 2) / (x.sum() * other.sum()))


def area_limits(x: FloatArray, other: FloatArray, deff: float) -> tuple[float, float]:
    """95 % limits of the area: those areas that the counts do not contradict.

    Parameters
    ----------
    x, other : ndarray
        Outcome rows and others per band, in rising order.
    deff : float
        How many rows count as one.

    Notes
    -----
    Method 5 of Newcombe (2006): Hanley and McNeil's variance at the area in question, not at the
    one found, which ends near 0 and 1 need; times the share that ties leave of the null variance,
    so that at ½ it is that of Mann and Whitney's test, and less and less of that towards 0 and 1,
    where the two kinds are seldom tied. Never less than DeLong's.

    References
    ----------
    Newcombe (2006) Stat. Med. 25:559; DeLong et al. (1988) Biometrics 44:837; Lehmann (1975)
    Nonparametrics, 1.4, for ties.
    """
    found = area(x, other)
    if np.isnan(found):
        return float("nan"), float("nan")
    m, n, ties = x.sum(), other.sum(), x + other
    if ties.max() == ties.sum():  # one band alone says nothing of how bands would tell
        return 0.0, 1.0
    whole = m + n
    left = 1 - float((ties**3 - ties).sum()) / ((whole + 1) * whole * (whole - 1))
    least = _delong(x, other, found)

    def beyond(theta: float) -> float:
        more = (whole / 2 - 1) * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        share = left + (1 - left) * (2 * theta - 1) ** 2
        variance = max(share * theta * (1 - theta) * (1 + more) / (m * n), least)
        return abs(found - theta) - _NORMAL * float(np.sqrt(variance * deff))

    # an area of 0 or 1 has no variance at itself: look from just beside it
    inside, outside = found * (1 - 1e-9), found + (1 - found) * 1e-9
    low = optimize.brentq(beyond, 0.0, inside) if beyond(0.0) > 0 else 0.0
    high = optimize.brentq(beyond, outside, 1.0) if beyond(1.0) > 0 else 1.0
    return float(low), float(high)


def _delong(x: FloatArray, other: FloatArray, found: float) -> float:
    """DeLong's variance: how the share of the other kind below differs from row to row."""
    variance = 0.0
    below = (other.cumsum() - other / 2) / other.sum()
    above = 1 - (x.cumsum() - x / 2) / x.sum()
    for count, place in ((x, below), (other, above)):
        if count.sum() > 1:
            spread = float(count @ (place - found) ** 2)
            variance += spread / ((count.sum() - 1) * count.sum())
    return variance


def p_value(x: FloatArray, other: FloatArray, deff: float) -> float:
    """Two-sided probability of so uneven an area if the outcome were dealt out by chance.

    Parameters
    ----------
    x, other, deff
        As in `area_limits`; rows are dealt out as if they were 1 / deff as many.

    Returns
    -------
    float
        From 9,999 rearrangements with a fixed seed, so never below 1e-4; NaN where either kind has
        no row.
    """
    found = area(x, other)
    if np.isnan(found):
        return float("nan")
    deff = max(deff, float((x + other).sum()) / _MOST_DEALT)
    bands = np.rint((x + other) / deff).astype("int64")
    n_yes = min(max(round(x.sum() / deff), 1), int(bands.sum()) - 1)
    if n_yes < 1:
        return 1.0
    dealt = np.random.default_rng(_SEED).multivariate_hypergeometric(
        bands, n_yes, size=_REARRANGED, method="marginals"
    )
    above = dealt @ (bands.cumsum() - bands / 2) - n_yes**2 / 2
    areas = above / (n_yes * (bands.sum() - n_yes))
    as_uneven = np.abs(areas - 0.5) >= abs(found - 0.5) - 1e-9
    return float((1 + as_uneven.sum()) / (1 + _REARRANGED))
