"""Weeks and months of a report: their names, their local days, and the one before.

A week is an ISO week from Monday 00:00 local time, a month a calendar month. There is no clock
here: "the last week" is the last one that the data cover whole.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

from verifyanalytics.errors import UsageError
from verifyanalytics.wording.numbers import period_words
from verifyanalytics.wording.words import Say

Every = Literal["week", "month"]

_WEEK, _MONTH = re.compile(r"(\d{4})-W(\d{2})"), re.compile(r"(\d{4})-(\d{2})")
_DAY = dt.timedelta(days=1)

_DAYS, _SLACK, _HOUR = 28, 1.5, 1.0
"""How many days say what silence is usual, how many times the longest of them it may be, and what
is no silence on any day."""


@dataclass(frozen=True, slots=True)
class Period:
    """A week or a month of local days, by its first day.

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
        """Read a name such as `2024-W23` or `2024-06`; UsageError when there is no such period."""
        found = None
        try:
            if week := _WEEK.fullmatch(name):
                found = cls("week", dt.date.fromisocalendar(int(week[1]), int(week[2]), 1))
            if month := _MONTH.fullmatch(name):
                found = cls("month", dt.date(int(month[1]), int(month[2]), 1))
            if found and found.before.start < found.after.start:
                return found  # both are in the calendar
        except (ValueError, OverflowError):
            pass
        raise UsageError(
            f"no period {name[:40]!r}; give week or month (the last whole one), or a name such as "
            "2024-W23 or 2024-06"
        )

    @property
    def name(self) -> str:
        """The name: `2024-W23`, `2024-06`."""
        return self.words.en

    @property
    def words(self) -> Say:
        """The name in both languages."""
        return period_words(self.start, self.every)

    @property
    def head(self) -> Say:
        """The name at the head of a narrow column."""
        return Say(self.name, self.words.zh.replace("年", "年\n"))

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

    def earlier(self, n: int) -> list[Period]:
        """Return the n periods before this one and this one, oldest first."""
        found = [self]
        for _ in range(n):
            found.append(found[-1].before)
        return found[::-1]


class Covered(NamedTuple):
    """The local days that data cover, from that of the first answer to that of the last."""

    first: dt.date
    last: dt.date
    opens: bool = True  # the first day is covered from its begin
    closes: bool = True  # the last day is covered to its end

    def whole(self, period: Period) -> bool:
        """Tell whether the data cover a period from its begin to its end."""
        begins = self.first + (not self.opens) * _DAY
        ends = self.last - (not self.closes) * _DAY
        return begins <= period.start and period.last <= ends

    def lacks(self, period: Period) -> bool:
        """Tell whether a period lies before the data or after them."""
        return period.last < self.first or period.start > self.last

    @classmethod
    def by(cls, spans: Mapping[dt.date, tuple[float, float]]) -> Covered:
        """Judge by the silences of the other days whether the outer days are cut off.

        `spans` has for each local day with answers the hours from its begin to its first answer,
        and from its last answer to its end. The silence at the outer end of an outer day is usual
        when one of the four weeks next to it has a day that is as long silent, or when there is no
        other day.
        """
        days = sorted(spans)
        opens = _usual(spans[days[0]][0], (spans[d][0] for d in days[1 : _DAYS + 1]))
        closes = _usual(spans[days[-1]][1], (spans[d][1] for d in days[-_DAYS - 1 : -1]))
        return cls(days[0], days[-1], opens, closes)


def _usual(silence: float, others: Iterable[float]) -> bool:
    return silence <= max(_HOUR, _SLACK * max(others, default=silence))


def chosen(period: str, covered: Covered) -> Period:
    """Find a period by its name, or the last `week` or `month` that the data cover whole.

    If they cover none, it is the one in which they end. UsageError when it is outside the data.
    """
    if period in ("week", "month"):
        every: Every = "week" if period == "week" else "month"
        ending = Period.around(covered.last, every)
        older = ending.before
        return older if not covered.whole(ending) and covered.whole(older) else ending
    found = Period.named(period)
    if covered.lacks(found):
        raise UsageError(outside(found, covered))
    return found


def outside(period: Period, covered: Covered) -> str:
    """Say that the data hold no answer of a period."""
    return f"no answers in {period.name}: the data go from {covered.first} to {covered.last}"
