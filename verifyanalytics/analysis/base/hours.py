"""Hours and days of the clock on the wall, where the zone keeps one offset; else those of UTC."""

from __future__ import annotations

import narwhals as nw
import pandas as pd

from verifyanalytics.analysis.base.periods import local_times
from verifyanalytics.errors import UsageError

HOUR_US = 3_600_000_000
"""Microseconds of an hour."""


def zone_offset(tz: str) -> int:
    """Microseconds ahead of UTC; 0 where summer time changes it.

    Raises
    ------
    UsageError
        There is no such zone.

    Examples
    --------
    >>> zone_offset("Asia/Shanghai") // HOUR_US, zone_offset("Europe/Berlin")
    (8, 0)
    """
    if not isinstance(tz, str):
        raise UsageError(f"a time zone is a name such as Asia/Shanghai or UTC, not {tz!r}")
    days = pd.Series([f"{year}-{month:02d}-01" for year in (2015, 2024, 2035) for month in (1, 7)])
    utc = pd.to_datetime(days, utc=True)
    try:
        ahead = utc.dt.tz_convert(tz).dt.tz_localize(None) - utc.dt.tz_localize(None)
    except (KeyError, ValueError):
        raise UsageError(f"no time zone {tz!r}; give a name such as Asia/Shanghai or UTC") from None
    seconds = set(ahead.dt.total_seconds())
    return int(seconds.pop() * 1_000_000) if len(seconds) == 1 else 0


def step_number(tz: str, hours: int = 1) -> nw.Expr:
    """Return the number of the local hour (or of so many hours) of `occurred_us`."""
    return (nw.col("occurred_us") + zone_offset(tz)) // (hours * HOUR_US)


def step_starts(number: pd.Series, hours: int = 1) -> pd.Series:
    """Turn numbers of hours back into naive local times; NaN into NaT."""
    return local_times(number.astype("float64") * hours * HOUR_US, "UTC")
