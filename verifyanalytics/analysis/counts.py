"""The ground of every statistic: group-bys that run where the data lives.

A statistic here is a group-by that yields a small table of counts, then NumPy on that table. This
module does the first half, on any engine: frames in memory (pandas, Arrow, Polars) are handed to
DuckDB without a copy, lazy ones (DuckDB relations, Polars, Spark) stay where they are, and narwhals
speaks to all of them. So the row-level meaning of the field is written once, as expressions:

- `answered`, `scored`, `withheld`, `complete`, `gate`: what a row is, and which gates it passes;
- `REGIME` and `name_regimes`: rows whose scores may be pooled;
- `implied_fmr`, `score_at_fmr`, `threshold_at_fmr`: the vendor's claim between its four points;
- `cells` and `bin_counts`: counts per score bin, exact at every edge;
- `group_counts`: the one group-by, with periods in local time.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Literal, TypeAlias
from zoneinfo import ZoneInfo

import duckdb
import narwhals as nw
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from verifyanalytics.codebook import Codebook, current
from verifyanalytics.errors import MissingColumnError, UsageError
from verifyanalytics.schema import THRESHOLD_COLUMNS, THRESHOLD_LEVELS, VERIFICATIONS

Every: TypeAlias = Literal["day", "week", "month"]
Gate: TypeAlias = Literal["answered", "scored", "alive", "match", "risk"]

GATES: tuple[Gate, ...] = ("answered", "scored", "alive", "match", "risk")
"""The gates, in the order in which a person meets them."""

REGIME = ("req_key", *THRESHOLD_COLUMNS)
"""The columns that make a regime: scores are never pooled across them."""

INCOMPLETE = "incomplete"
"""The regime of rows whose four thresholds are not all there, or do not rise."""

UNKNOWN = "unknown"
"""What stands for null among text keys and periods."""

TZ = "Asia/Shanghai"
"""The time zone in which days begin, unless told otherwise."""

OWN_THRESHOLD = "threshold_1e_4"
"""The vendor's documented pass rule: score at or above the row's own 1e-4 threshold."""

_TIME, _MICROS = "occurred_at", "occurred_us"
_DAY_US, _MICROSECOND = 86_400_000_000, dt.timedelta(microseconds=1)
_EPOCH, _YEAR_2000 = dt.datetime(1970, 1, 1, tzinfo=dt.UTC), dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
_EPOCH_ORDINAL = _EPOCH.toordinal()
_LEVELS = np.array([float(level) for level in THRESHOLD_LEVELS])


# ------------------------------------------------------------------ a frame of any kind


def rows(v: Any, columns: Iterable[str], optional: Iterable[str] = ()) -> nw.LazyFrame[Any]:
    """Take the needed columns of a frame of verifications, whatever engine holds it.

    Parameters
    ----------
    v : pandas, Polars or Arrow frame, DuckDB relation, or another lazy frame narwhals knows
    columns : iterable of str
        Columns that must be there.
    optional : iterable of str
        Columns that are null for every row when they are not there.

    Returns
    -------
    narwhals.LazyFrame
        Nothing is read yet. Types are those of `schema.VERIFICATIONS`; a NaN score is null.
        `occurred_at` becomes `occurred_us`, int64 microseconds since 1970 UTC (a time without a
        zone is read as UTC).

    Raises
    ------
    MissingColumnError
        Names what is missing and what is there.
    UsageError
        `v` is no frame, or a column holds something else than its name says.
    """
    wanted, spare = list(dict.fromkeys(columns)), list(dict.fromkeys(optional))
    frame = _frame(v)
    available = frame.collect_schema().names()
    missing = [name for name in wanted if name not in available]
    if missing:
        raise MissingColumnError(missing, available)
    present = [*wanted, *(name for name in spare if name in available and name not in wanted)]
    lazy = _lazy(frame.select(*present))
    absent = [name for name in spare if name not in present]
    lazy = lazy.with_columns(nw.lit(None).cast(_dtype(name)).alias(name) for name in absent)
    return _typed(lazy, present)


def _frame(v: Any) -> nw.DataFrame[Any] | nw.LazyFrame[Any]:
    try:
        frame: nw.DataFrame[Any] | nw.LazyFrame[Any] = nw.from_native(v)
    except TypeError:
        raise UsageError(
            f"a {type(v).__name__} is no frame of verifications; give a pandas, Polars or Arrow "
            "frame, or a lazy one (store.scan, a DuckDB relation)"
        ) from None
    return frame


def _lazy(frame: nw.DataFrame[Any] | nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    """Hand a frame in memory to DuckDB, as Arrow: pandas' NaN and None become null on the way."""
    if isinstance(frame, nw.LazyFrame):
        return frame
    table = frame.to_arrow()
    for at, column in enumerate(table.schema):
        if str(column.type) == "null":  # a column of only None has no type of its own
            known = column.name in VERIFICATIONS.names
            kind = VERIFICATIONS.field(column.name).type if known else "string"
            table = table.set_column(at, column.name, table[column.name].cast(kind))
    lazy: nw.LazyFrame[Any] = nw.from_native(duckdb.connect().from_arrow(table))
    return lazy


def _typed(frame: nw.LazyFrame[Any], names: Sequence[str]) -> nw.LazyFrame[Any]:
    schema = frame.collect_schema()
    casts = [
        nw.col(name).cast(_dtype(name))
        for name in names
        if name in VERIFICATIONS.names and _must_cast(name, schema[name])
    ]
    frame = frame.with_columns(*casts) if casts else frame
    if "score" in names:  # Arrow and Polars tell NaN from null; both mean not compared
        frame = frame.with_columns(nw.when(~nw.col("score").is_nan()).then(nw.col("score")))
    return _with_micros(frame, schema) if _TIME in names else frame


def _dtype(name: str) -> Any:
    """Return the narwhals type of a column of `verifications`; text for any other."""
    kind = str(VERIFICATIONS.field(name).type) if name in VERIFICATIONS.names else "string"
    by_kind = {"double": nw.Float64, "bool": nw.Boolean, "string": nw.String}
    return nw.Int64 if kind.startswith(("int", "timestamp")) else by_kind.get(kind, nw.String)


def _must_cast(name: str, have: Any) -> bool:
    want = _dtype(name)
    if str(VERIFICATIONS.field(name).type).startswith(("list", "timestamp")):
        return False
    if have == nw.String and want != nw.String:
        raise UsageError(f"column {name} holds text; {want.__name__} is needed")
    return not (have == want or (want == nw.Int64 and have.is_integer()))


def _with_micros(frame: nw.LazyFrame[Any], schema: Any) -> nw.LazyFrame[Any]:
    if not isinstance(schema[_TIME], nw.Datetime):
        raise UsageError(f"column {_TIME} holds {schema[_TIME]}; a time is needed")
    if frame.implementation.is_duckdb():
        # narwhals has no epoch for DuckDB, and a cast to a date would follow the session's zone
        native = frame.to_native().select(
            duckdb.StarExpression(exclude=[_TIME]),
            duckdb.FunctionExpression("epoch_us", duckdb.ColumnExpression(_TIME)).alias(_MICROS),
        )
        frame = nw.from_native(native)
        return frame
    return frame.with_columns(nw.col(_TIME).dt.timestamp("us").alias(_MICROS)).drop(_TIME)


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
        limit = (book or current()).risk_fail if risk_fail is None else risk_fail
        return (nw.col("risk_score") < limit).fill_null(value=True)
    raise UsageError(f"no gate {name!r}; the gates are: {', '.join(GATES)}")


# ------------------------------------------------------------------ regimes and the vendor's claim


def name_regimes(table: pd.DataFrame) -> pd.DataFrame:
    """Put a column `regime` in front of a count table that is grouped by `REGIME`.

    `cert_pro_src_verify 60/70/80/90` for a complete regime; rows whose thresholds are not all
    there, or do not rise, become `incomplete`, with unknown req_key and NaN thresholds: several
    rows of the table may then have the same key (`add_up` merges them).
    """
    table = table.copy()
    points = table[list(THRESHOLD_COLUMNS)].to_numpy(dtype=float)
    whole = np.isfinite(points).all(axis=1) & (np.diff(points, axis=1) > 0).all(axis=1)
    table.loc[~whole, list(THRESHOLD_COLUMNS)] = np.nan
    table.loc[~whole, "req_key"] = UNKNOWN
    names = [
        f"{key} {'/'.join(f'{x:g}' for x in row)}" if ok else INCOMPLETE
        for key, row, ok in zip(table["req_key"], points, whole, strict=True)
    ]
    table.insert(0, "regime", pd.Series(names, index=table.index, dtype="str"))
    return table


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
    """Return the score at which the vendor claims `fmr`: the inverse of `implied_fmr`.

    Parameters
    ----------
    thresholds : array_like, shape (4,) or (n, 4)
    fmr : float
        In [1e-6, 1e-3].

    Raises
    ------
    UsageError
        `fmr` lies outside the vendor's four points.
    """
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


# ------------------------------------------------------------------ score bins


def bin_counts(
    frame: nw.LazyFrame[Any],
    edges: ArrayLike,
    by: Sequence[str] = (),
    *,
    counts: Mapping[str, nw.Expr],
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
    on_grid, off_grid, scale = _grid(edges)
    keys = {"_cell": (nw.col("score") * scale).floor().cast(nw.Int64)}
    if len(off_grid):
        keys["_step"] = _tree(nw.col("score"), off_grid.tolist(), range(len(off_grid) + 1))
    table = group_counts(
        frame.with_columns(**keys), (*by, *keys), counts=counts, every=every, tz=tz
    )
    cell = table["_cell"].to_numpy(dtype=float, na_value=np.nan)
    found = np.searchsorted(on_grid, cell / scale, side="right")
    if len(off_grid):
        found = found + table["_step"].to_numpy(dtype=float, na_value=0).astype("int64")
    table["bin"] = np.where(np.isnan(cell), -1, found)
    return add_up(table.drop(columns=list(keys)), [*_keys(by, every), "bin"])


def _grid(edges: NDArray[np.float64]) -> tuple[Any, Any, float]:
    """Split the edges into those on a grid of 1, 1/2 or 1/4 points, and the others.

    `floor(score · scale)` is one cheap step an engine can group by, and it is exact only for a
    power of two: 0.3 · 10 already falls short of 3. The other edges are compared one by one.
    """
    for scale in (1.0, 2.0, 4.0):
        on = edges * scale == np.floor(edges * scale)
        if on.all():
            break
    if not on.any():
        return edges[:0], edges, 1.0
    return edges[on], edges[~on], scale


def _tree(value: nw.Expr, edges: Sequence[float], leaves: Sequence[int]) -> nw.Expr:
    """Return the leaf between the edges a value lies: a decision tree, log₂ comparisons deep."""
    if not len(edges):
        return nw.lit(leaves[0])
    at = len(edges) // 2
    below, above = (
        _tree(value, edges[:at], leaves[: at + 1]),
        _tree(value, edges[at + 1 :], leaves[at + 1 :]),
    )
    return nw.when(value >= edges[at]).then(above).otherwise(below)


# ------------------------------------------------------------------ the group-by


def group_counts(
    frame: nw.LazyFrame[Any],
    by: Sequence[str] = (),
    *,
    counts: Mapping[str, nw.Expr],
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
        Key columns. Null text is `unknown`, null bool `<NA>`, null number NaN: counted, never
        dropped. A list is a set: its order and repetitions do not count, it becomes a tuple.
    counts : mapping of str to narwhals.Expr
        Boolean expressions; each becomes the int64 count of rows where it is true.
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
        `every` or `tz` is not known.
    """
    least, most = dict(least or {}), dict(most or {})
    keys = [*by]
    if every is not None:
        frame = frame.with_columns(_bucket=_bucket(every, tz))
        keys.append("_bucket")
        if every == "day":
            least["_first"] = most["_last"] = nw.col(_MICROS)
    measures = [expr.cast(nw.Int64).sum().alias(name) for name, expr in counts.items()]
    measures += [expr.min().alias(name) for name, expr in least.items()]
    measures += [expr.max().alias(name) for name, expr in most.items()]
    grouped = frame.group_by(keys).agg(*measures) if keys else frame.select(*measures)
    table = _plain(grouped.collect(backend="pyarrow").to_native().to_pandas(), by, counts)
    if every is not None:
        table = _with_periods(table, every, tz)
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
    merged = table.groupby(list(keys), dropna=False, sort=False, as_index=False).agg(how)
    return merged.sort_values(
        list(keys), key=_sortable, na_position="last", kind="stable", ignore_index=True
    )


def _sortable(column: pd.Series) -> pd.Series:
    """Make tuples and mixed objects comparable; leave numbers, text and times as they are."""
    return column.map(repr) if column.dtype == object else column


def _plain(table: pd.DataFrame, by: Sequence[str], counts: Mapping[str, Any]) -> pd.DataFrame:
    """Give keys and counts one type whatever engine made them."""
    for name in table.columns:
        if name in counts:
            table[name] = table[name].fillna(0).astype("int64")
        elif name in by:
            table[name] = _plain_key(table[name])
        elif name != "_bucket":
            table[name] = table[name].astype("float64")
    return table


def _plain_key(key: pd.Series) -> pd.Series:
    held = key.dropna()
    if isinstance(key.dtype, pd.CategoricalDtype):
        key = key.astype("str")
    if len(held) and isinstance(held.iloc[0], (list, tuple, np.ndarray)):
        sets = [None if tags is None else tuple(sorted({*tags} - {None})) for tags in key]
        return pd.Series(sets, index=key.index, dtype=object)
    if len(held) and isinstance(held.iloc[0], (bool, np.bool_)):
        return key.astype("boolean")
    if isinstance(key.dtype, pd.StringDtype) or key.dtype == object:
        return key.fillna(UNKNOWN).astype("str")
    return key


# ------------------------------------------------------------------ periods


def _keys(by: Sequence[str], every: Every | None) -> list[str]:
    return [*by, *(("period", "period_start", "partial") if every else ())]


def _bucket(every: str, tz: str) -> nw.Expr:
    """Return the local day of a row as a date ordinal (1 is 1 January of year 1)."""
    if every not in ("day", "week", "month"):
        raise UsageError(f"no period {every!r}; there are: day, week, month")
    changes, offsets = _clock(tz)
    local = nw.col(_MICROS) + _tree(nw.col(_MICROS), changes, offsets)
    # counting from year 1 keeps every engine's integer division away from negative numbers
    return (local + _EPOCH_ORDINAL * _DAY_US) // _DAY_US


@cache
def _clock(tz: str) -> tuple[list[int], list[int]]:
    """Return when a zone's clocks change (µs since 1970) and the n + 1 offsets (µs) around it.

    Between 2000 and 2040; the first and the last offset hold outside.
    """
    try:
        zone = ZoneInfo(tz)
    except (KeyError, ValueError, OSError):
        raise UsageError(f"no time zone {tz!r}; give a name such as Asia/Shanghai or UTC") from None

    def offset(hour: int) -> int:
        shift = (_YEAR_2000 + dt.timedelta(hours=hour)).astimezone(zone).utcoffset()
        return 0 if shift is None else shift // _MICROSECOND

    days = range(0, 41 * 366 * 24, 24)
    start = (_YEAR_2000 - _EPOCH) // _MICROSECOND
    changes, offsets = [], [offset(0)]
    for day in days:
        if offset(day + 24) != offsets[-1]:  # clocks change on the full hour of UTC
            hour = next(h for h in range(day, day + 25) if offset(h) != offsets[-1])
            changes.append(start + hour * _DAY_US // 24)
            offsets.append(offset(hour))
    return changes, offsets


def _with_periods(table: pd.DataFrame, every: Every, tz: str) -> pd.DataFrame:
    day = _local_days(table.pop("_bucket"))
    start, end = _bounds(day, every)
    labels = {"day": "%Y-%m-%d", "week": "%G-W%V", "month": "%Y-%m"}
    table["period"] = start.dt.strftime(labels[every]).fillna(UNKNOWN).astype("str")
    table["period_start"] = start
    first, last = day.min(), day.max()
    if every == "day":
        hour = pd.Timedelta(hours=1)
        late = (local_times(table["_first"], tz).min() - first) > hour
        early = (last + pd.Timedelta(days=1) - local_times(table["_last"], tz).max()) > hour
        table["partial"] = ((start == first) & late) | ((start == last) & early)
    else:
        table["partial"] = (start < first) | (end > last)
    return table


def _local_days(ordinal: pd.Series) -> pd.Series:
    """Turn date ordinals into local midnights, as naive times; NaT where the time is unknown."""
    days = pd.to_timedelta(ordinal.astype("float64") - _EPOCH_ORDINAL, unit="D")
    return (pd.Timestamp(0) + days).astype("datetime64[s]")


def _bounds(day: pd.Series, every: Every) -> tuple[pd.Series, pd.Series]:
    """Return the first and the last day of each day's period."""
    if every == "day":
        return day, day
    if every == "week":
        start = (day - pd.to_timedelta(day.dt.day_of_week, unit="D")).astype("datetime64[s]")
        return start, start + pd.Timedelta(days=6)
    start = (day - pd.to_timedelta(day.dt.day - 1, unit="D")).astype("datetime64[s]")
    return start, start + pd.offsets.MonthEnd(0)


def utc_times(micros: pd.Series) -> pd.Series:
    """Turn microseconds since 1970 into UTC times; NaN into NaT."""
    return pd.to_datetime(micros, unit="us", utc=True).astype("datetime64[us, UTC]")


def local_times(micros: pd.Series, tz: str) -> pd.Series:
    """Turn microseconds since 1970 into naive local times of `tz`."""
    return utc_times(micros).dt.tz_convert(tz).dt.tz_localize(None)
