"""Cells of a grid for any number: how percentiles and distances are had from counts; a part.

A measure of ten million rows is counted per cell of a grid of 1,000 to 10,000 cells over its range
(always a power of ten wide), so a percentile is exact to a cell, and exact altogether for values
that have no more digits than the grid.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import narwhals as nw
import numpy as np
from numpy.typing import NDArray

from verifyanalytics.analysis.base.groups import group_counts
from verifyanalytics.codebook import book as codebook
from verifyanalytics.schema import QUALITY_COLUMNS

SCORE_SCALE = 100.0
"""The vendor's scores have two decimals."""

_CELLS, _FAR = 10_000, 2**53
_TAIL, _FEW = 0.001, 1_000_000


class Grid(NamedTuple):
    """The cells of a column.

    Attributes
    ----------
    scale : float
        Cells per unit.
    bounded : bool
        No value lies beyond ± 2⁵³ cells, where all share the last one.
    """

    scale: float
    bounded: bool = False


class _Extent(NamedTuple):
    """What is known of a column's finite values: how many, the least and the largest."""

    n: int
    low: float
    high: float


def without_nan(column: str) -> nw.Expr:
    """Return a float column with null for NaN, whatever the engine thinks of NaN."""
    return nw.when(~nw.col(column).is_nan()).then(nw.col(column))


def cell(column: str, grid: Grid) -> nw.Expr:
    """Return the cell of a number, int64: the whole part of value · scale; null stays null.

    A value written with the digits of the grid falls on its own cell although 0.29 · 100 is less
    than 29. To keep far values and infinities apart costs a third of the pass, and is left out
    where the grid is bounded.
    """
    value = (without_nan(column) * grid.scale + 1e-9).floor()
    return (value if grid.bounded else value.clip(-_FAR, _FAR)).cast(nw.Int64)


def grids(frame: nw.LazyFrame[Any], columns: Sequence[str]) -> dict[str, Grid]:
    """Choose the grid of each numeric column.

    Scores have that of their digits, other columns that of where their values lie: of the vendor's
    measures no further than documented, and of up to a million others without one in a thousand at
    either end. A single wrong value must not put all others into one cell.
    """
    extents = _extents(frame, columns)
    cores = _cores(frame, {c: extents[c] for c in columns if c != "score"})
    found = {}
    for column in columns:
        scale = SCORE_SCALE if column == "score" else scale_between(*cores[column])
        extent = extents[column]
        near = (abs(end) * scale < _FAR for end in (extent.low, extent.high))
        found[column] = Grid(scale, extent.n >= 0 and all(near))
    return found


def _documented(column: str) -> tuple[float, float] | None:
    if column not in QUALITY_COLUMNS:
        return None
    measure = codebook.current().measure(column)
    if measure.low is None or measure.high is None:
        return None
    return measure.low, measure.high


def _extents(frame: nw.LazyFrame[Any], columns: Sequence[str]) -> dict[str, _Extent]:
    """Find the ends of each column; n is negative where some values are not finite."""
    found = _ends(frame, {c: nw.col(c) for c in columns})
    # NaN is the greatest number to most engines and seldom there, as infinities are: they are left
    # out when they show
    dirty = [c for c, e in found.items() if not (math.isfinite(e.low) and math.isfinite(e.high))]
    finite = {c: nw.when(nw.col(c).is_finite()).then(nw.col(c)) for c in dirty}
    return found | {c: e._replace(n=-1 - e.n) for c, e in _ends(frame, finite).items()}


def _ends(frame: nw.LazyFrame[Any], values: Mapping[str, nw.Expr]) -> dict[str, _Extent]:
    if not values:
        return {}
    told = {f"{c}:n": ~value.is_null() for c, value in values.items()}
    lows = {f"{c}:low": value for c, value in values.items()}
    highs = {f"{c}:high": value for c, value in values.items()}
    row = group_counts(frame, [], counts=told, least=lows, most=highs).iloc[0]
    return {
        c: _Extent(int(row[f"{c}:n"]), float(row[f"{c}:low"]), float(row[f"{c}:high"]))
        for c in values
    }


def _cores(
    frame: nw.LazyFrame[Any], extents: Mapping[str, _Extent]
) -> dict[str, tuple[float, float]]:
    """Ends of each column without what is far from the rest."""
    ends = {c: (e.low, e.high) for c, e in extents.items()}
    few = []
    for c, e in extents.items():
        documented = _documented(c)
        if documented is not None:
            within = max(e.low, documented[0]), min(e.high, documented[1])
            ends[c] = within if within[0] <= within[1] else ends[c]
        elif 0 < (e.n if e.n >= 0 else -1 - e.n) <= _FEW:
            few.append(c)
    if not few:
        return ends
    finite = {c: nw.when(nw.col(c).is_finite()).then(nw.col(c)) for c in few}
    asked = [
        finite[c].quantile(level, interpolation="linear").alias(f"{c}:{name}")
        for c in few
        for name, level in (("low", _TAIL), ("high", 1 - _TAIL))
    ]
    row = frame.select(*asked).collect(backend="pyarrow").to_native().to_pylist()[0]
    for c in few:
        low, high = row[f"{c}:low"], row[f"{c}:high"]
        if high > low:  # else all but a few are one value: the ends are as good
            reach = high - low
            ends[c] = (max(ends[c][0], low - reach), min(ends[c][1], high + reach))
    return ends


def scale_between(low: float, high: float) -> float:
    """Return cells per unit for values from low to high; for one value, a ten-thousandth of it."""
    span = high - low if high > low else abs(high)
    if not math.isfinite(span) or span <= 0:
        return 1000.0
    return float(10.0 ** math.floor(math.log10(_CELLS / span)))


def percentiles(
    cells: NDArray[np.int64], n: NDArray[np.int64], levels: Sequence[float]
) -> NDArray[np.float64]:
    """Return the cell in which each percentile lies: the first with that share at or below it."""
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
