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

from verifyanalytics.analysis import counts, intervals
from verifyanalytics.analysis._counts_outcomes import (
    NO,
    ONLY_RISK,
    UNKNOWN_OUTCOME,
    YES,
    with_outcome,
)
from verifyanalytics.analysis._counts_periods import leaf
from verifyanalytics.analysis.intervals import FloatArray
from verifyanalytics.errors import UsageError

_NORMAL = 1.959963984540054


def risk_bands(
    v: Any, bands: Sequence[float] = (0, 300, 600, 900), outcome: str = "non_match"
) -> pd.DataFrame:
    """How often an outcome goes with each band of the vendor's risk score.

    Parameters
    ----------
    v : frame of verifications
        Needs `risk_score`.
    bands : sequence of numbers
        Rising lower ends; the last band is open. Scores below the first are a band of their own
        when there are any.
    outcome : str
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
        `auc_low`, `auc_high`; `direction` = `higher` (higher scores go with more outcome), `lower`
        or `not evident` (0.5 lies within); `ks` largest distance of the two cumulated shares; `iv`
        = Σ woe · difference of shares, never negative; `smoothing` added to each count of both
        kinds before `woe` and `iv`: 0.5 when a band is empty in exactly one kind, else 0.
        `n_without_score`, `n_unknown`, `n_only_risk`: rows left out.

    Raises
    ------
    UsageError
        `bands` do not rise.

    Notes
    -----
    The riskiest band is the last one, or with direction `lower` the first. The interval of `auc`
    is DeLong's on the banded scores and takes rows as independent. Siddiqi (2006) for woe and iv.
    """
    edges = _checked(bands)
    frame, meaning = with_outcome(v, outcome, ["risk_score"])
    state, scored = nw.col("_outcome"), ~nw.col("risk_score").is_null()
    table = counts.group_counts(
        frame.with_columns(_band=leaf(nw.col("risk_score"), edges, range(len(edges) + 1))),
        ["_band"],
        counts={
            "n": scored & ((state == YES) | (state == NO)),
            "n_outcome": scored & (state == YES),
            "n_unknown": scored & (state == UNKNOWN_OUTCOME),
            "n_only_risk": scored & (state == ONLY_RISK),
            "n_without_score": ~scored,
        },
    )
    n, x = (np.zeros(len(edges) + 1, dtype="int64") for _ in range(2))
    np.add.at(n, table["_band"].to_numpy(), table["n"].to_numpy())
    np.add.at(x, table["_band"].to_numpy(), table["n_outcome"].to_numpy())
    first = 0 if n[0] else 1
    low, high = np.r_[-np.inf, edges][first:], np.r_[edges, np.inf][first:]
    result = pd.DataFrame({"risk_low": low, "risk_high": high})
    labels = pd.Series([_label(*ends) for ends in zip(low, high, strict=True)], dtype="str")
    result.insert(0, "band", labels)
    result["outcome"] = pd.Series([outcome] * len(result), dtype="str")
    result["basis"] = pd.Series([meaning.basis] * len(result), dtype="str")
    result["circular"] = meaning.circular
    result = _rated(result, n[first:], x[first:])
    for name in ("n_without_score", "n_unknown", "n_only_risk"):
        result[name] = int(table[name].sum())
    return result


def _checked(bands: Sequence[float]) -> list[float]:
    try:
        edges = [float(x) for x in bands]
    except (TypeError, ValueError):
        raise UsageError(f"bands must be numbers; {bands!r} was given") from None
    if not edges or not np.isfinite(edges).all() or any(np.diff(edges) <= 0):
        raise UsageError(f"bands must be rising finite numbers, at least one; {bands!r} was given")
    return edges


def _label(low: float, high: float) -> str:
    if np.isinf(low):
        return f"< {high:g}"
    return f">= {low:g}" if np.isinf(high) else f"{low:g} - < {high:g}"


def _rated(table: pd.DataFrame, n: Any, x: Any) -> pd.DataFrame:
    table["n"], table["n_outcome"] = n, x
    other = n - x
    low, high = intervals.rate_interval(x, n)
    smoothing = 0.5 if np.any((x == 0) != (other == 0)) else 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = x / n
        table["outcome_rate"], table["outcome_rate_low"], table["outcome_rate_high"] = (
            rate,
            low,
            high,
        )
        table["lift"] = rate / (x.sum() / n.sum())
        bad, good = _share(x, smoothing), _share(other, smoothing)
        woe = np.where((x == 0) & (other == 0), np.nan, np.log(bad / good))
    auc, error = _auc(x.astype(float), other.astype(float))
    sides = (auc - _NORMAL * error, auc + _NORMAL * error)
    direction = "higher" if sides[0] > 0.5 else "lower" if sides[1] < 0.5 else "not evident"
    order = slice(None) if direction == "lower" else slice(None, None, -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        table["woe"] = woe
        table["gain"] = (x[order].cumsum() / x.sum())[order]
        table["depth"] = (n[order].cumsum() / n.sum())[order]
        gap = np.abs(x.cumsum() / x.sum() - other.cumsum() / other.sum())
    table["auc"], table["auc_low"], table["auc_high"] = auc, max(sides[0], 0.0), min(sides[1], 1.0)
    if np.isnan(auc):
        table["auc_low"] = table["auc_high"] = np.nan
    table["direction"] = pd.Series([direction] * len(table), dtype="str")
    table["ks"] = gap.max()
    whole = x.sum() > 0 and other.sum() > 0
    table["iv"] = float(np.nansum((bad - good) * woe)) if whole else np.nan
    table["smoothing"] = smoothing
    return table


def _share(count: Any, smoothing: float) -> FloatArray:
    smoothed = count + smoothing
    share: FloatArray = smoothed / smoothed.sum()
    return share


def _auc(x: FloatArray, other: FloatArray) -> tuple[float, float]:
    """Area and DeLong's standard error, from counts per band in rising order; NaN without both."""
    if x.sum() < 2 or other.sum() < 2:
        return (float("nan"), float("nan"))
    # of each band: the share of the others below it (ties half), and of the outcome above it
    below = (other.cumsum() - other / 2) / other.sum()
    above = 1 - (x.cumsum() - x / 2) / x.sum()
    auc = float((below * x).sum() / x.sum())
    spread = (x * (below - auc) ** 2).sum() / (x.sum() - 1) / x.sum()
    spread += (other * (above - auc) ** 2).sum() / (other.sum() - 1) / other.sum()
    return auc, float(np.sqrt(spread))
