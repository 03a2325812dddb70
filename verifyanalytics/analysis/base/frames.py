"""Frames of any engine as one lazy frame, each column with the type that its name implies.

Frames in memory (pandas, Arrow, Polars) are handed to DuckDB without a copy; lazy ones (DuckDB
relations, Polars, Spark) stay in their engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import duckdb
import narwhals as nw
import pandas as pd
import pyarrow as pa

from verifyanalytics.analysis.base.periods import MICROS
from verifyanalytics.errors import MissingColumnError, UsageError
from verifyanalytics.schema import VERIFICATIONS

_TIME = "occurred_at"
_MEASURED = ("score", "elapsed_ms")  # of thresholds `complete` tells NaN, of quality its grid
_PAST_INT64 = 2.0**63


def lazy_rows(v: Any, columns: Iterable[str], optional: Iterable[str] = ()) -> nw.LazyFrame[Any]:
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
    wanted, spare = _names(columns), _names(optional)
    frame = _frame(v)
    available = frame.collect_schema().names()
    missing = [name for name in wanted if name not in available]
    if missing:
        raise MissingColumnError(missing, available)
    present = [*wanted, *(name for name in spare if name in available and name not in wanted)]
    lazy = _lazy(frame.select(*present))
    absent = [name for name in spare if name not in present]
    lazy = lazy.with_columns(
        nw.lit(None).cast(_dtype(name)).alias(MICROS if name == _TIME else name) for name in absent
    )
    return _typed(lazy, present)


def collected(frame: nw.LazyFrame[Any]) -> pd.DataFrame:
    """Bring a lazy frame here, through Arrow so that every engine gives the same types."""
    table: pd.DataFrame = frame.collect(backend="pyarrow").to_native().to_pandas()
    return table


def to_pandas(given: Any, kind: str) -> pd.DataFrame:
    """Bring a small frame of the caller's to pandas; `kind` names in messages what it should be."""
    try:
        frame = nw.from_native(given)
    except TypeError:
        raise UsageError(f"a {type(given).__name__} is no {kind}") from None
    eager = frame.collect(backend="pyarrow") if isinstance(frame, nw.LazyFrame) else frame
    table: pd.DataFrame = eager.to_pandas()
    return table


def _names(columns: Iterable[str]) -> list[str]:
    names = list(columns)
    for name in names:
        if not isinstance(name, str):
            raise UsageError(f"a column has a name, a text; {name!r} was given")
    return list(dict.fromkeys(names))


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
        return _with_known_times(frame) if frame.implementation.is_duckdb() else frame
    table = frame.to_arrow()
    for at, column in enumerate(table.schema):
        kind = column.type
        if pa.types.is_null(kind):  # a column of only None has no type of its own
            known = column.name in VERIFICATIONS.names
            kind = VERIFICATIONS.field(column.name).type if known else pa.string()
        elif pa.types.is_timestamp(kind) and kind.unit == "ns":  # narwhals knows no zone of these
            kind = pa.timestamp("us", kind.tz)
        if kind != column.type:
            values = table[column.name].cast(kind, safe=False)
            table = table.set_column(at, column.name, values)
    lazy: nw.LazyFrame[Any] = nw.from_native(duckdb.connect().from_arrow(table))
    return lazy


def _with_known_times(frame: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    """Cast times with a zone and nanoseconds, of which narwhals does not know, to microseconds."""
    native = frame.to_native()
    types = zip(native.columns, native.types, strict=True)
    fine = [name for name, kind in types if str(kind) == "TIMESTAMPTZ_NS"]
    if not fine:
        return frame
    casts = [duckdb.ColumnExpression(name).cast("TIMESTAMPTZ").alias(name) for name in fine]
    known: nw.LazyFrame[Any] = nw.from_native(
        native.select(duckdb.StarExpression(exclude=fine), *casts)
    )
    return known


def _typed(frame: nw.LazyFrame[Any], names: Sequence[str]) -> nw.LazyFrame[Any]:
    schema = frame.collect_schema()
    casts = []
    for name in names:
        if name in VERIFICATIONS.names and _must_cast(name, schema[name]):
            want, value = _dtype(name), nw.col(name)
            if schema[name].is_float() and want != nw.Float64:
                # no whole number is NaN or infinite; engines round differently, all have floor
                value = nw.when(value.abs() < _PAST_INT64).then(value.floor())
            casts.append(value.cast(want))
    frame = frame.with_columns(*casts) if casts else frame
    # Arrow and Polars tell NaN from null; both mean that nothing was measured
    holed = [nw.when(~nw.col(x).is_nan()).then(nw.col(x)) for x in _MEASURED if x in names]
    frame = frame.with_columns(*holed) if holed else frame
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
        micros = duckdb.FunctionExpression("epoch_us", duckdb.ColumnExpression(_TIME))
        others = duckdb.StarExpression(exclude=[_TIME])
        native = frame.to_native().select(others, micros.alias(MICROS))
        known: nw.LazyFrame[Any] = nw.from_native(native)
        return known
    return frame.with_columns(nw.col(_TIME).dt.timestamp("us").alias(MICROS)).drop(_TIME)
