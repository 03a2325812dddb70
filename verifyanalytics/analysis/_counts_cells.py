"""Cells of a grid for any number: how percentiles and distances are had from counts; a part.

A measure of ten million rows is counted per cell of a grid of 1,000 to 10,000 cells over its range
(always a power of ten wide), so a percentile is exact to a cell, and exact altogether for values
that have no more digits than the grid.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import narwhals as nw
import numpy as np
from numpy.typing import NDArray

from verifyanalytics.analysis.counts import group_counts

SCORE_SCALE = 100.0
"""The vendor's scores have two decimals."""

_CELLS, _FAR = 10_000, 2**31

Ends: TypeAlias = tuple[float, float]
"""The smallest and the largest value of a column; NaN when it has none."""


def without_nan(column: str) -> nw.Expr:
    """Return a float column with null for NaN, whatever the engine thinks of NaN."""
    return nw.when(~nw.col(column).is_nan()).then(nw.col(column))


def cell(column: str, scale: float, within: Ends | None = None) -> nw.Expr:
    """Return the cell of a number, int64: the whole part of value · scale; null stays null.

    A value written with the digits of the grid falls on its own cell although 0.29 · 100 is less
    than 29; values beyond ± 2³¹ cells share the last one. That costs a third of the pass, and is
    left out where `within`, the ends of the column, shows that there are none.
    """
    value = (without_nan(column) * scale + 1e-9).floor()
    near = within is not None and all(abs(end) * scale < _FAR for end in within)
    return (value if near else value.clip(-_FAR, _FAR)).cast(nw.Int64)


def ends(frame: nw.LazyFrame[Any], columns: Sequence[str]) -> dict[str, Ends]:
    """Find the smallest and the largest value of each numeric column, NaN not counted."""
    found = _ends(frame, {c: nw.col(c) for c in columns})
    # NaN is the greatest number to most engines and seldom there: it is left out when it shows
    dirty = [c for c, (low, high) in found.items() if math.isnan(low) or math.isnan(high)]
    return found | _ends(frame, {c: without_nan(c) for c in dirty})


def _ends(frame: nw.LazyFrame[Any], values: Mapping[str, nw.Expr]) -> dict[str, Ends]:
    if not values:
        return {}
    lows = {f"{c}:low": value for c, value in values.items()}
    highs = {f"{c}:high": value for c, value in values.items()}
    row = group_counts(frame, [], counts={}, least=lows, most=highs).iloc[0]
    return {c: (float(row[f"{c}:low"]), float(row[f"{c}:high"])) for c in values}


def scales(frame: nw.LazyFrame[Any], columns: Sequence[str]) -> dict[str, float]:
    """Return cells per unit for each numeric column, from its smallest and largest value."""
    found = {"score": SCORE_SCALE} if "score" in columns else {}
    known = ends(frame, [c for c in columns if c != "score"])
    return found | {c: scale_between(*known[c]) for c in known}


def scale_between(low: float, high: float) -> float:
    """Return cells per unit for values from low to high."""
    span = high - low
    if not math.isfinite(span) or span <= 0:
        return 1.0 if not 0 < abs(high) < 1 else 1000.0
    return float(10.0 ** math.floor(math.log10(_CELLS / span)))


def percentiles(
    cells: NDArray[np.int64], n: NDArray[np.int64], levels: Sequence[float]
) -> NDArray[np.float64]:
    """Return the cell in which each percentile lies: the first with that share at or below it.

    Parameters
    ----------
    cells, n : ndarray
        Rising cells and their counts.
    levels : sequence of float
        In (0, 1].
    """
    total = n.sum()
    if not total:
        return np.full(len(levels), np.nan)
    upto = n.cumsum()
    # ranks in whole numbers: 0.1 · 30 is not 3
    ranks = np.ceil(np.round(np.asarray(levels) * total, 9))
    found: NDArray[np.float64] = cells[np.searchsorted(upto, ranks)].astype(float)
    return found


def distances(
    first: Mapping[int, int], second: Mapping[int, int], scale: float
) -> tuple[float, float]:
    """Return the Kolmogorov–Smirnov and the Wasserstein distance of two counts per cell."""
    at = np.array(sorted({*first, *second}), dtype=float)
    sides = [np.array([side.get(int(c), 0) for c in at], dtype=float) for side in (first, second)]
    if not len(at) or not sides[0].sum() or not sides[1].sum():
        return float("nan"), float("nan")
    gap = np.abs(np.cumsum(sides[0]) / sides[0].sum() - np.cumsum(sides[1]) / sides[1].sum())
    return float(gap.max()), float((gap[:-1] * np.diff(at)).sum() / scale)
