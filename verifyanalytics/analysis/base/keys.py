"""Columns to group by: which ones can be, and one type for each whatever engine grouped.

An integer is int64 (float64 with NaN where some are null), a truth value `boolean`, a time
datetime64[us] (UTC if it has a zone), a date a `datetime.date`, a list a tuple: the set of it.
Text, categories and whatever else becomes text, its nulls `unknown`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, TypeAlias

import narwhals as nw
import pandas as pd
import pyarrow as pa

from verifyanalytics.analysis.base.periods import UNKNOWN
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
