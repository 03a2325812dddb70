"""Hours, days, weeks and months of local time.

narwhals has neither weeks nor a change of zone on DuckDB, and DuckDB's own would follow the zone
of the session. So an engine only adds the zone's offset to microseconds and divides by a day;
weeks, months and labels are made from those day numbers afterwards, in pandas. Hours are local
where the zone keeps one offset, else those of UTC.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from functools import cache
from typing import Literal, TypeAlias

import narwhals as nw
import numpy as np
import pandas as pd

from verifyanalytics.arguments import zone
from verifyanalytics.errors import UsageError

Every: TypeAlias = Literal["day", "week", "month"]

TZ = "Asia/Shanghai"
"""The time zone of days, by default."""

UNKNOWN = "unknown"
"""What stands for null among text keys and periods."""

MICROS = "occurred_us"
"""Column of `lazy_rows` that stands for `occurred_at`: microseconds since 1970 UTC."""

HOUR_US = 3_600_000_000
"""Microseconds of an hour."""

_DAY_US, _MICROSECOND = 86_400_000_000, dt.timedelta(microseconds=1)
_EPOCH, _YEAR_2000 = dt.datetime(1970, 1, 1, tzinfo=dt.UTC), dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
_EPOCH_ORDINAL = _EPOCH.toordinal()


def day_ordinal(every: str, tz: str) -> nw.Expr:
    """Return the local day of a row as a date ordinal (1 is 1 January of year 1)."""
    if every not in ("day", "week", "month"):
        raise UsageError(f"no period {every!r}; there are: day, week, month")
    zone(tz)  # a list is no key of a cache
    changes, offsets = _clock(tz)
    local = nw.col(MICROS) + leaf(nw.col(MICROS), changes, offsets)
    # counting from year 1 keeps every engine's integer division away from negative numbers
    return (local + _EPOCH_ORDINAL * _DAY_US) // _DAY_US


@cache
def _clock(tz: str) -> tuple[list[int], list[int]]:
    """Return when a zone's clocks change (µs since 1970) and the n + 1 offsets (µs) around it.

    Between 2000 and 2040; the first and the last offset hold outside.
    """
    clock = zone(tz)

    def offset(quarter: int) -> int:
        moment = _YEAR_2000 + quarter * dt.timedelta(minutes=15)
        return (moment.astimezone(clock).utcoffset() or dt.timedelta()) // _MICROSECOND

    changes, offsets = [], [offset(0)]
    for day in range(0, 41 * 366 * 96, 96):
        if offset(day + 96) != offsets[-1]:  # some zones change at a half or a quarter hour of UTC
            at = next(q for q in range(day, day + 97) if offset(q) != offsets[-1])
            changes.append((_YEAR_2000 - _EPOCH) // _MICROSECOND + at * _DAY_US // 96)
            offsets.append(offset(at))
    return changes, offsets


def leaf(value: nw.Expr, edges: Sequence[float], leaves: Sequence[int]) -> nw.Expr:
    """Return the leaf of the gap between edges in which a value lies; log₂ comparisons deep."""
    if not len(edges):
        return nw.lit(leaves[0])
    at = len(edges) // 2
    below = leaf(value, edges[:at], leaves[: at + 1])
    above = leaf(value, edges[at + 1 :], leaves[at + 1 :])
    return nw.when(value >= edges[at]).then(above).otherwise(below)


def with_periods(table: pd.DataFrame, every: Every, tz: str) -> pd.DataFrame:
    """Turn the column `_day` of a count table into `period`, `period_start` and `partial`."""
    day = _local_days(table.pop("_day"))
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
    known = ordinal.notna()
    days = np.full(len(ordinal), np.datetime64("NaT"), dtype="datetime64[D]")
    days[known] = (ordinal[known].astype("int64") - _EPOCH_ORDINAL).to_numpy("datetime64[D]")
    return pd.Series(days.astype("datetime64[s]"), index=ordinal.index)


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
    times = np.full(len(micros), np.datetime64("NaT"), dtype="datetime64[us]")
    known = micros.notna()
    times[known] = micros[known].astype("int64").to_numpy("datetime64[us]")
    return pd.Series(times, index=micros.index).dt.tz_localize("UTC")


def local_times(micros: pd.Series, tz: str) -> pd.Series:
    """Turn microseconds since 1970 into naive local times of `tz`."""
    return utc_times(micros).dt.tz_convert(tz).dt.tz_localize(None)


# ------------------------------------------------------------------ hours


def zone_offset(tz: str) -> int:
    """Microseconds ahead of UTC; 0 where summer time changes it.

    Examples
    --------
    >>> zone_offset("Asia/Shanghai") // HOUR_US, zone_offset("Europe/Berlin")
    (8, 0)
    """
    clock = zone(tz)
    offsets = {
        dt.datetime(year, month, 1, tzinfo=dt.UTC).astimezone(clock).utcoffset()
        for year in (2015, 2024, 2035)
        for month in (1, 7)
    }
    return (offsets.pop() or dt.timedelta()) // _MICROSECOND if len(offsets) == 1 else 0


def step_number(tz: str, hours: int = 1) -> nw.Expr:
    """Return the number of the local hour (or of so many hours) of a row."""
    return (nw.col(MICROS) + zone_offset(tz)) // (hours * HOUR_US)


def step_starts(number: pd.Series, hours: int = 1) -> pd.Series:
    """Turn numbers of hours back into naive local times; NaN into NaT."""
    return local_times(number.astype("float64") * hours * HOUR_US, "UTC")
