"""The group-by: counts by keys, made where the data lives, as a small pandas frame.

Every statistic of counts is one `group_counts` (or `bin_counts`, per score bin) on the lazy frame,
then NumPy on the table it returns. `regime_counts` keeps regimes apart; `add_up` merges rows of
such a table that came to have one key.

Keys have one type whatever engine grouped: an integer is int64 (float64 with NaN where some are
null), a truth value `boolean`, a time datetime64[us] (UTC if it has a zone), a date a
`datetime.date`, a list a tuple: the set of it. Text, categories and whatever else becomes text, its
nulls `unknown`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import narwhals as nw
import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from verifyanalytics.analysis.base.periods import (
    MICROS,
    TZ,
    UNKNOWN,
    Every,
    day_ordinal,
    leaf,
    with_periods,
)
from verifyanalytics.analysis.base.regimes import REGIME, name_regimes, regime_columns
from verifyanalytics.errors import UsageError

By: TypeAlias = str | Sequence[str] | None
"""Columns to split by, as callers give them."""

_TEXTS = (nw.String, nw.Categorical, nw.Enum)


def group_keys(by: Any, made: Collection[str] = (), name: str = "by") -> list[str]:
    """Read the columns a caller wants to group by: none, one or several, each once.

    Parameters
    ----------
    by : None, str or iterable of str
    made : collection of str
        Columns that the function's own table has.
    name : str
        The argument's name, for the message.

    Raises
    ------
    UsageError
        These are no names, one of them is `made`, or it is the time: periods are made of that.
    """
    try:
        keys = [] if by is None else [by] if isinstance(by, str) else list(by)
    except TypeError:
        keys = [by]
    if not all(isinstance(key, str) for key in keys):
        raise UsageError(f"{name} must be a column's name or several; {by!r} was given")
    if "occurred_at" in keys:
        raise UsageError(
            f"{name} occurred_at: hardly two rows share a moment; every= splits by time where a "
            "function has it"
        )
    taken = sorted({*made} & {*keys})
    if taken:
        raise UsageError(f"{name} {', '.join(taken)}: this table has that column of its own")
    return list(dict.fromkeys(keys))


def settled_keys(frame: nw.LazyFrame[Any], keys: Sequence[str]) -> nw.LazyFrame[Any]:
    """Make keys that mean the same equal in the engine, for what cannot be added up afterwards.

    Raises
    ------
    UsageError
        A key is a list: no engine knows that its order does not count.
    """
    schema, settled = frame.collect_schema(), []
    for key in keys:
        if schema[key] == nw.List:
            raise UsageError(f"{key} holds lists: they make no groups here")
        if schema[key] in _TEXTS:
            settled.append(nw.col(key).cast(nw.String).fill_null(UNKNOWN))
        elif schema[key].is_float():
            settled.append(nw.when(~nw.col(key).is_nan()).then(nw.col(key)))
    return frame.with_columns(*settled) if settled else frame


def plain_key(key: pd.Series, kind: pa.DataType) -> pd.Series:
    """Give a key column the one type that its kind has, whatever engine made it."""
    is_ = pa.types
    if is_.is_list(kind) or is_.is_large_list(kind):
        sets = [None if tags is None else tuple(sorted({*tags} - {None})) for tags in key]
        return pd.Series(sets, index=key.index, dtype=object)
    if is_.is_boolean(kind):
        return key.astype("boolean")
    if is_.is_integer(kind):
        return key.astype("float64" if key.hasnans else "int64")
    if is_.is_floating(kind) or is_.is_decimal(kind):
        return key.astype("float64")
    if is_.is_timestamp(kind):
        return key.astype("datetime64[us]" if kind.tz is None else "datetime64[us, UTC]")
    if is_.is_temporal(kind):
        return key
    return key.astype("str").where(key.notna(), UNKNOWN)


def sortable(column: pd.Series) -> pd.Series:
    """Make tuples and dates comparable, nulls among them; leave numbers, text and times."""
    return column.map(str) if column.dtype == object else column


_SCALES = (1.0, 2.0, 4.0, 10.0, 20.0, 100.0)


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


def regime_keys(keys: Sequence[str]) -> list[str]:
    """Put the columns of the regime behind the caller's keys, which may name one, as req_key."""
    return [*keys, *regime_columns(keys)]


def period_columns(every: Every | None) -> list[str]:
    """Return the columns that a split by periods adds."""
    return ["period", "period_start", "partial"] if every else []


def regime_counts(
    frame: nw.LazyFrame[Any],
    keys: Sequence[str] = (),
    *,
    counts: Mapping[str, nw.Expr | None],
    edges: ArrayLike | None = None,
    least: Mapping[str, nw.Expr] | None = None,
    most: Mapping[str, nw.Expr] | None = None,
    every: Every | None = None,
    tz: str = TZ,
) -> pd.DataFrame:
    """Count rows per key, period and regime, and per score bin where `edges` are given.

    Parameters
    ----------
    frame, counts, least, most, every, tz
        As in `group_counts`.
    keys : sequence of str
    edges : array_like, optional
        As in `bin_counts`.

    Returns
    -------
    DataFrame
        The keys, the period's columns, `regime`, `REGIME`, `bin` (with edges), the counts; sorted
        by these. Incomplete regimes are one row.
    """
    if edges is None:
        table = group_counts(
            frame, regime_keys(keys), counts=counts, least=least, most=most, every=every, tz=tz
        )
    else:
        table = bin_counts(frame, edges, regime_keys(keys), counts=counts, every=every, tz=tz)
    front = dict.fromkeys([*keys, *period_columns(every), "regime", *REGIME])
    by = [*front, *([] if edges is None else ["bin"])]
    return add_up(name_regimes(table), by, least=least or (), most=most or ())
