"""Weeks and months of a report: their names, their local days, and the one before.

A week is an ISO week from Monday 00:00 local time, a month a calendar month. There is no clock
here: "the last week" is the last one that the data cover whole.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import Literal
from zoneinfo import ZoneInfo

from verifyanalytics.errors import UsageError

Every = Literal["week", "month"]

_WEEK, _MONTH = re.compile(r"(\d{4})-W(\d{2})"), re.compile(r"(\d{4})-(\d{2})")
_DAY = dt.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Period:
    """A week or a month of local days.

    Attributes
    ----------
    every : {"week", "month"}
    start : date
        Its first day.

    Examples
    --------
    >>> week = Period.named("2024-W23")
    >>> week.start.isoformat(), week.last.isoformat(), week.before.name
    ('2024-06-03', '2024-06-09', '2024-W22')
    >>> Period.named("2024-01").before.name
    '2023-12'
    """

    every: Every
    start: dt.date

    @classmethod
    def around(cls, day: dt.date, every: Every) -> Period:
        """Return the week or month that a day is in."""
        if every == "week":
            return cls(every, day - day.weekday() * _DAY)
        return cls(every, day.replace(day=1))

    @classmethod
    def named(cls, name: str) -> Period:
        """Read a name such as `2024-W23` or `2024-06`.

        Raises
        ------
        UsageError
            There is no such period.
        """
        try:
            if week := _WEEK.fullmatch(name):
                return cls("week", dt.date.fromisocalendar(int(week[1]), int(week[2]), 1))
            if month := _MONTH.fullmatch(name):
                return cls("month", dt.date(int(month[1]), int(month[2]), 1))
        except ValueError:
            pass
        raise UsageError(
            f"no period {name[:40]!r}; give week or month (the last whole one), or a name such as "
            "2024-W23 or 2024-06"
        )

    @property
    def name(self) -> str:
        """The name: `2024-W23`, `2024-06`."""
        if self.every == "week":
            year, week, _ = self.start.isocalendar()
            return f"{year:04d}-W{week:02d}"
        return f"{self.start:%Y-%m}"

    @property
    def after(self) -> Period:
        """The period after this one."""
        days = 7 if self.every == "week" else 31
        return Period.around(self.start + days * _DAY, self.every)

    @property
    def before(self) -> Period:
        """The period before this one."""
        return Period.around(self.start - _DAY, self.every)

    @property
    def last(self) -> dt.date:
        """Its last day."""
        return self.after.start - _DAY

    def utc(self, tz: str) -> tuple[dt.datetime, dt.datetime]:
        """Return its begin and its end (exclusive) as moments of UTC."""
        zone = ZoneInfo(tz)
        ends = (dt.datetime.combine(day, dt.time(), zone) for day in (self.start, self.after.start))
        begin, end = (moment.astimezone(dt.UTC) for moment in ends)
        return begin, end

    def whole(self, first: dt.date, last: dt.date) -> bool:
        """Tell whether data from one local day to another cover every day of it."""
        return first <= self.start and self.last <= last

    def earlier(self, n: int) -> list[Period]:
        """Return the n periods before this one and this one, oldest first."""
        found = [self]
        for _ in range(n):
            found.append(found[-1].before)
        return found[::-1]


def checked_zone(tz: str) -> str:
    """Return the name of a time zone that exists.

    Raises
    ------
    UsageError
        There is none of this name.
    """
    try:
        ZoneInfo(tz)
    except (KeyError, ValueError, OSError):
        raise UsageError(f"no time zone {tz!r}; give a name such as Asia/Shanghai or UTC") from None
    return tz


def chosen(period: str, first: dt.date, last: dt.date) -> Period:
    """Find the period that is asked for, in data from one local day to another.

    Parameters
    ----------
    period : str
        A name, or `week` or `month`: the last one that the data cover whole; if they cover none,
        the one in which they end.
    first, last : date

    Raises
    ------
    UsageError
        There is no such period, or it lies outside the data.
    """
    if period in ("week", "month"):
        every: Every = "week" if period == "week" else "month"
        ending = Period.around(last, every)
        older = ending.before
        return older if not ending.whole(first, last) and older.whole(first, last) else ending
    found = Period.named(period)
    if found.last < first or found.start > last:
        raise UsageError(f"no answers in {found.name}: the data go from {first} to {last}")
    return found
