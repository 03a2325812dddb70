"""Regimes, and what the vendor claims between its four points.

A regime is the tuple (req_key, four thresholds): scores are comparable inside it only. The four
thresholds are scores with a claimed false-match rate; the published tuples are log-linear, ten
points a decade, so between two points the claim is read off a straight line in log FMR.
"""

from __future__ import annotations

from collections.abc import Collection

import narwhals as nw
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from verifyanalytics.analysis.base.periods import UNKNOWN
from verifyanalytics.errors import UsageError
from verifyanalytics.schema import THRESHOLD_COLUMNS, THRESHOLD_LEVELS
from verifyanalytics.wording.numbers import exact

REGIME = ("req_key", *THRESHOLD_COLUMNS)
"""The columns that make a regime: scores are never pooled across them."""

INCOMPLETE = "incomplete"
"""The regime of rows whose four thresholds are not all there, or do not rise."""

MOST_NUMBERED = 32
"""Up to so many regimes are numbered by comparing; beyond, grouping by five columns is cheaper."""

LEVELS = tuple(float(level) for level in THRESHOLD_LEVELS)
"""False-match rates that the vendor claims at the four thresholds."""

_LEVELS = np.array(LEVELS)


def regime_columns(keys: Collection[str]) -> list[str]:
    """Return the columns of the regime that are not among the keys already."""
    return [c for c in REGIME if c not in keys]


def name_regimes(table: pd.DataFrame) -> pd.DataFrame:
    """Put a column `regime` in front of a count table that is grouped by `REGIME`.

    `cert_pro_src_verify 60/70/80/90` for a complete regime: thresholds to the last digit, so that
    no two regimes share a name. Rows whose thresholds are not all there, or do not rise, become
    `incomplete`, with unknown req_key and NaN thresholds: several rows of the table may then have
    the same key (`add_up` merges them).
    """
    table = table.copy()
    points = table[list(THRESHOLD_COLUMNS)].to_numpy(dtype=float)
    whole = np.isfinite(points).all(axis=1) & (np.diff(points, axis=1) > 0).all(axis=1)
    table.loc[~whole, list(THRESHOLD_COLUMNS)] = np.nan
    table.loc[~whole, "req_key"] = UNKNOWN
    names = [
        f"{key} {'/'.join(map(exact, row))}" if ok else INCOMPLETE
        for key, row, ok in zip(table["req_key"], points, whole, strict=True)
    ]
    table.insert(0, "regime", pd.Series(names, index=table.index, dtype="str"))
    return table


def regime_number(named: pd.DataFrame) -> nw.Expr | None:
    """Return the place of a row's regime in a small table: one short key instead of five columns.

    Returns
    -------
    narwhals.Expr or None
        int64, null for a row of none of them. None when they are more than `MOST_NUMBERED`.
    """
    if len(named) > MOST_NUMBERED:
        return None
    number = nw.lit(None).cast(nw.Int64)
    for place, row in enumerate(named[list(REGIME)].itertuples(index=False)):
        key = nw.col("req_key")
        mine = key == row.req_key
        if row.req_key == UNKNOWN:
            mine = mine.fill_null(value=False) | key.is_null()
        for name in THRESHOLD_COLUMNS:
            mine = mine & (nw.col(name) == float(getattr(row, name)))
        number = nw.when(mine.fill_null(value=False)).then(nw.lit(place)).otherwise(number)
    return number.cast(nw.Int64)


def implied_fmr(thresholds: ArrayLike, score: ArrayLike) -> NDArray[np.float64]:
    """Return the false-match rate the vendor claims at a score, log-linear between its points.

    Parameters
    ----------
    thresholds : array_like, shape (4,) or (n, 4)
        The scores of 1e-3, 1e-4, 1e-5 and 1e-6 of a regime.
    score : array_like
        Scalar or shape (n,).

    Returns
    -------
    ndarray
        In [1e-6, 1e-3], exact at the four points; NaN outside them or in an incomplete regime.
        This is P(score ≥ s | impostor), never P(impostor | score).

    Examples
    --------
    >>> implied_fmr([60, 70, 80, 90], [60, 75, 90, 91]).round(8).tolist()
    [0.001, 3.162e-05, 1e-06, nan]
    """
    points, s = np.atleast_2d(np.asarray(thresholds, dtype=float)), np.asarray(score, dtype=float)
    points, s = np.broadcast_arrays(points, np.atleast_1d(s)[:, None])
    s = s[:, 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        whole = (np.diff(points, axis=1) > 0).all(axis=1)
        inside = whole & (s >= points[:, 0]) & (s <= points[:, 3])
        leg = np.clip((s[:, None] >= points).sum(axis=1) - 1, 0, 2)
        low = np.take_along_axis(points, leg[:, None], 1)[:, 0]
        high = np.take_along_axis(points, leg[:, None] + 1, 1)[:, 0]
        part = (s - low) / (high - low)
        claim = _LEVELS[leg] * 10.0 ** -np.where(inside, part, np.nan)
    # at the points themselves the claim is the level, not its rounding
    at = s[:, None] == points
    claim = np.where(inside & at.any(axis=1), _LEVELS[at.argmax(axis=1)], claim)
    return np.asarray(claim if np.ndim(score) or np.ndim(thresholds) > 1 else claim[0])


def score_at_fmr(thresholds: ArrayLike, fmr: float) -> NDArray[np.float64]:
    """Return the score at which the vendor claims `fmr`: the inverse of `implied_fmr`."""
    points = np.asarray(thresholds, dtype=float)
    leg, part = _leg(fmr)
    low, high = points[..., leg], points[..., min(leg + 1, 3)]
    return np.asarray(low + part * (high - low) if part else low)


def threshold_at_fmr(fmr: float) -> nw.Expr:
    """Return the row's own score at the claimed `fmr`, as an expression; see `score_at_fmr`."""
    leg, part = _leg(fmr)
    low = nw.col(THRESHOLD_COLUMNS[leg])
    return low + part * (nw.col(THRESHOLD_COLUMNS[leg + 1]) - low) if part else low


def _leg(fmr: float) -> tuple[int, float]:
    """Return which vendor point lies at or below `fmr`, and how far on the next one is."""
    if not _LEVELS[-1] <= fmr <= _LEVELS[0]:
        raise UsageError(f"nominal_fmr {fmr:g} is outside the vendor's points, 1e-6 to 1e-3")
    depth = -np.log10(fmr) - 3
    leg = int(np.floor(depth + 1e-9))
    part = float(depth - leg)
    return (leg, 0.0) if abs(part) < 1e-9 else (leg, part)
