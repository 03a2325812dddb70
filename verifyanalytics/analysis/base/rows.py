"""The ground of every statistic: group-bys that run where the data lives.

A statistic here is a group-by that yields a small table of counts, then NumPy on that table. This
module does the first half, on any engine: frames in memory (pandas, Arrow, Polars) are handed to
DuckDB without a copy, lazy ones (DuckDB relations, Polars, Spark) stay where they are, and narwhals
speaks to all of them. So the row-level meaning of the field is written once, as expressions:

- `answered`, `scored`, `withheld`, `complete`, `gate`: what a row is, and which gates it passes;
- `REGIME` and `name_regimes`: rows whose scores may be pooled;
- `implied_fmr`, `score_at_fmr`, `threshold_at_fmr`: the vendor's claim between its four points;
- `cells` and `bin_counts`: counts per score bin, exact at every edge;
- `group_keys` and `group_counts`: the one group-by, with periods in local time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import narwhals as nw
import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from verifyanalytics.analysis.base.frames import rows
from verifyanalytics.analysis.base.keys import group_keys, plain_key, settled_keys, sortable
from verifyanalytics.analysis.base.periods import (
    MICROS,
    TZ,
    UNKNOWN,
    Every,
    day_ordinal,
    leaf,
    local_times,
    utc_times,
    with_periods,
)
from verifyanalytics.analysis.base.regimes import (
    INCOMPLETE,
    REGIME,
    implied_fmr,
    name_regimes,
    regime_number,
    score_at_fmr,
    threshold_at_fmr,
)
from verifyanalytics.arguments import number
from verifyanalytics.codebook.book import Codebook, current
from verifyanalytics.errors import UsageError
from verifyanalytics.schema import THRESHOLD_COLUMNS

__all__ = [
    "GATES",
    "INCOMPLETE",
    "OWN_THRESHOLD",
    "REGIME",
    "ROW",
    "ROW_OPTIONAL",
    "TZ",
    "UNKNOWN",
    "Every",
    "Gate",
    "add_up",
    "answered",
    "bin_counts",
    "complete",
    "gate",
    "group_counts",
    "group_keys",
    "implied_fmr",
    "local_times",
    "name_regimes",
    "plain_key",
    "plain_table",
    "regime_number",
    "rows",
    "score_at_fmr",
    "scored",
    "settled_keys",
    "threshold_at_fmr",
    "utc_times",
    "withheld",
]

Gate: TypeAlias = Literal["answered", "scored", "alive", "match", "risk"]

GATES: tuple[Gate, ...] = ("answered", "scored", "alive", "match", "risk")
"""The gates, in the order in which a person meets them."""

OWN_THRESHOLD = "threshold_1e_4"
"""The vendor's documented pass rule: score at or above the row's own 1e-4 threshold."""

_SCALES = (1.0, 2.0, 4.0, 10.0, 20.0, 100.0)


# ------------------------------------------------------------------ what a row is

ROW = ("code", "sub_code", "score", *THRESHOLD_COLUMNS)
"""Columns that `answered`, `scored`, `withheld` and `complete` need."""

ROW_OPTIONAL = ("gateway_code", "req_key")
"""Columns that they use when there: a frame without them has no gateway error, no req_key."""


def answered(book: Codebook | None = None) -> nw.Expr:
    """Return true where the service answered: no gateway error, and an answered code; never null.

    Needs `code` and `gateway_code`.
    """
    codes = sorted((book or current()).answered_codes)
    is_answer = nw.col("code").is_in(codes).fill_null(value=False)
    return is_answer & nw.col("gateway_code").is_null()


def scored(book: Codebook | None = None) -> nw.Expr:
    """Return true where the row is answered and has a score; never null."""
    return answered(book) & ~nw.col("score").is_null()


def withheld(book: Codebook | None = None) -> nw.Expr:
    """Return true where faces were compared but the score was withheld; never null.

    Answered, a sub-code of stage `compare`, no score. Such a row is a non-match (statistics: rows,
    gates, denominators). The sub-code 0 (passed) without a score withholds nothing: it is no
    statement that faces do not match.
    """
    codes = [code for code in (book or current()).sub_codes_in("compare") if code != 0]
    compared = nw.col("sub_code").is_in(codes).fill_null(value=False)
    return answered(book) & compared & nw.col("score").is_null()


def complete() -> nw.Expr:
    """Return true where the four thresholds are there and rise; never null."""
    t3, t4, t5, t6 = (nw.col(name) for name in THRESHOLD_COLUMNS)
    # NaN is the greatest number to DuckDB and Polars: the last comparison catches it
    return ((t3 < t4) & (t4 < t5) & (t5 < t6) & (t6 < float("inf"))).fill_null(value=False)


def gate(name: Gate, book: Codebook | None = None, risk_fail: int | None = None) -> nw.Expr:
    """Return one gate as an expression: true passes, false fails, null is unknown.

    Parameters
    ----------
    name : {"answered", "scored", "alive", "match", "risk"}
    book : Codebook, optional
        Default: the one in use.
    risk_fail : int, optional
        The risk score that fails; default the code book's. No risk result passes.

    Notes
    -----
    match is `score >= own 1e-4 threshold`; a withheld score fails; no score, or an incomplete
    regime, is unknown.
    """
    if name == "answered":
        return answered(book)
    if name == "scored":
        return scored(book)
    if name == "alive":
        return nw.col("alive")
    if name == "match":
        own = nw.when(complete()).then(nw.col("score") >= nw.col(OWN_THRESHOLD))
        return nw.when(withheld(book)).then(nw.lit(value=False)).otherwise(own)
    if name == "risk":
        given = (book or current()).risk_fail if risk_fail is None else risk_fail
        limit = int(number(given, "risk_fail", whole=True))
        return (nw.col("risk_score") < limit).fill_null(value=True)
    raise UsageError(f"no gate {name!r}; the gates are: {', '.join(GATES)}")


# ------------------------------------------------------------------ score bins


def bin_counts(
    frame: nw.LazyFrame[Any],
    edges: ArrayLike,
    by: Sequence[str] = (),
    *,
    counts: Mapping[str, nw.Expr | None],
    every: Every | None = None,
    tz: str = TZ,
) -> pd.DataFrame:
    """Count rows per score bin: one pass, exact at every edge.

    Parameters
    ----------
    frame : narwhals.LazyFrame
        From `rows`, with `score`.
    edges : array_like
        Rising scores e₀ < e₁ < …; bin i holds eᵢ₋₁ ≤ score < eᵢ.
    by, counts, every, tz
        As in `group_counts`.

    Returns
    -------
    DataFrame
        As of `group_counts`, with int64 `bin`: 0 below the first edge, len(edges) at or above the
        last one, −1 without a score.
    """
    edges = np.unique(np.asarray(edges, dtype=float))
    scale, on_grid = _grid(edges)
    keys = {"_cell": _cell(scale)}
    off_grid = edges[~on_grid]
    if len(off_grid):
        keys["_step"] = leaf(nw.col("score"), off_grid.tolist(), range(len(off_grid) + 1))
    table = group_counts(
        frame.with_columns(**keys), (*by, *keys), counts=counts, every=every, tz=tz
    )
    cell = table["_cell"].to_numpy(dtype=float, na_value=np.nan)
    found = np.searchsorted(edges[on_grid], cell / scale, side="right")
    if len(off_grid):
        found = found + table["_step"].to_numpy(dtype=float, na_value=0).astype("int64")
    table["bin"] = np.where(np.isnan(cell), -1, found)
    return add_up(table.drop(columns=list(keys)), [*_keys(by, every), "bin"])


def _grid(edges: NDArray[np.float64]) -> tuple[float, NDArray[np.bool_]]:
    """Find the grid (1, 1/2, 1/4, 1/10, 1/20 or 1/100 points) that most edges are on, and which."""
    on = {scale: np.round(edges * scale) / scale == edges for scale in _SCALES}
    best = max(_SCALES, key=lambda scale: int(on[scale].sum()))
    return best, on[best]


def _cell(scale: float) -> nw.Expr:
    """Return the cell of the grid that a score is in: one cheap step an engine can group by.

    `score · 10` rounds: 0.3 · 10 is 3, but so is the number before it. `cell / 10` is the nearest
    double to the edge, which is what the edge is, so a comparison on both sides mends it.
    """
    score = nw.col("score")
    cell = (score * scale).floor()
    if scale in (10.0, 20.0, 100.0):
        # Polars divides by one number as times its reciprocal, which misses every eighth edge
        each = cell - cell + scale
        short, over = score >= (cell + 1) / each, score < cell / each
        cell = nw.when(short).then(cell + 1).otherwise(nw.when(over).then(cell - 1).otherwise(cell))
    return cell  # stays a float: no whole number is large enough for every score


# ------------------------------------------------------------------ the group-by


def group_counts(
    frame: nw.LazyFrame[Any],
    by: Sequence[str] = (),
    *,
    counts: Mapping[str, nw.Expr | None],
    sums: Mapping[str, nw.Expr] | None = None,
    least: Mapping[str, nw.Expr] | None = None,
    most: Mapping[str, nw.Expr] | None = None,
    every: Every | None = None,
    tz: str = TZ,
) -> pd.DataFrame:
    """Group and count where the data lives; return a small pandas frame.

    Parameters
    ----------
    frame : narwhals.LazyFrame
        From `rows`; with `every` it needs `occurred_us`.
    by : sequence of str
        Key columns, of the types of `_counts_keys`. Null text is `unknown`, null bool `<NA>`, null
        number NaN: counted, never dropped. A list is a set: its order and repetitions do not
        count, it becomes a tuple.
    counts : mapping of str to narwhals.Expr
        Boolean expressions; each becomes the int64 count of rows where it is true. None counts
        every row.
    sums : mapping of str to narwhals.Expr, optional
        Numbers; each becomes the sum over the group as float64, null adding nothing.
    least, most : mapping of str to narwhals.Expr, optional
        Numbers; each becomes the smallest, the largest value of the group as float64.
    every : {"day", "week", "month"}, optional
        Adds the key columns `period` (`2024-06-03`, `2024-W23`, `2024-06`, `unknown`),
        `period_start` (local midnight, NaT) and `partial`: weeks are ISO weeks; a period is
        partial when the data begin after its first day or end before its last one, a day when the
        data begin or end more than an hour inside it.
    tz : str
        Where days begin.

    Returns
    -------
    DataFrame
        The keys, then the counts; sorted by the keys; one pass over the data.

    Raises
    ------
    UsageError
        `every` or `tz` is not known, or `by` cannot group.
    """
    least, most = dict(least or {}), dict(most or {})
    by = group_keys(by)
    keys = [*by]
    if every is not None:
        frame = frame.with_columns(_day=day_ordinal(every, tz))
        keys.append("_day")
        if every == "day":
            least["_first"] = most["_last"] = nw.col(MICROS)
    measures = [
        # counting is cheaper to an engine than adding up ones
        (nw.len() if expr is None else nw.when(expr).then(nw.lit(1)).count()).alias(name)
        for name, expr in counts.items()
    ]
    measures += [e.cast(nw.Float64).sum().alias(name) for name, e in (sums or {}).items()]
    measures += [expr.min().alias(name) for name, expr in least.items()]
    measures += [expr.max().alias(name) for name, expr in most.items()]
    grouped = frame.group_by(keys).agg(*measures) if keys else frame.select(*measures)
    table = plain_table(grouped.collect(backend="pyarrow").to_native(), by, counts)
    if every is not None:
        table = with_periods(table, every, tz)
    return add_up(table, _keys(by, every), least=least, most=most)


def add_up(
    table: pd.DataFrame,
    keys: Sequence[str],
    *,
    least: Iterable[str] = (),
    most: Iterable[str] = (),
) -> pd.DataFrame:
    """Merge rows of a count table that have the same keys, and sort by them.

    Every column that is neither key nor in `least` or `most` is a count and is added.
    """
    table = table.drop(columns=["_first", "_last"], errors="ignore")
    low, high = set(least) - {"_first"}, set(most) - {"_last"}
    how = {
        name: "min" if name in low else "max" if name in high else "sum"
        for name in table.columns
        if name not in keys
    }
    if not keys:
        return pd.DataFrame({name: [table[name].agg(way)] for name, way in how.items()})
    grouped = table.groupby(list(keys), dropna=False, sort=False, as_index=False)
    plain = how and not low and not high  # mostly so, and many times faster
    merged = grouped[[*how]].sum() if plain else grouped.agg(how)
    return merged.sort_values(
        list(keys), key=sortable, na_position="last", kind="stable", ignore_index=True
    )


def plain_table(grouped: pa.Table, by: Sequence[str], counts: Iterable[str] = ()) -> pd.DataFrame:
    """Give keys, counts and other numbers one type whatever engine made them."""
    table = grouped.to_pandas()
    for name, kind in zip(grouped.column_names, grouped.schema.types, strict=True):
        if name in counts:
            table[name] = table[name].fillna(0).astype("int64")
        elif name in by:
            table[name] = plain_key(table[name], kind)
        elif name != "_day":
            table[name] = table[name].astype("float64")
    return table


def _keys(by: Sequence[str], every: Every | None) -> list[str]:
    return [*by, *(("period", "period_start", "partial") if every else ())]
