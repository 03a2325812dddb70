"""How a report writes numbers, differences and times in English and Chinese.

An interval decides how many digits are worth writing, two figures of its half-width: a difference
known to a hundredth of a point is not cut to a tenth, and one known to three points is not given
two decimals. What is not nothing is never written as 0, nor what is not all as 100.
"""

from __future__ import annotations

import datetime as dt
import math
from typing import Any, NamedTuple

from verifyanalytics.reporting.blocks import Number, Say, Words
from verifyanalytics.reporting.periods import Period

NOTHING = "–"
"""What stands where there is no number."""

_NBSP = "\u00a0"

_NOISE = 1e-10
"""Per cent, or points, below this are what is left of a 0 after arithmetic."""


def number(n: float) -> str:
    """Write a count: `1,637`."""
    return NOTHING if n != n else f"{n:,.0f}"


def places(low: float, high: float) -> int:
    """Return how many decimals of per cent, or of points, an interval can bear: 1 or more."""
    return _two_figures(50 * (high - low))


def _two_figures(value: float) -> int:
    """Return the decimals that show two figures of a value: at least 1, and 1 for no number."""
    if math.isnan(value) or not value > _NOISE:
        return 1
    return max(1, 1 - math.floor(math.log10(value)))


def percent(rate: float, digits: int = 1) -> Words:
    """Write a rate: `62.3 %` in English, `62.3%` in Chinese; near 0 and 1 with more digits."""
    if math.isnan(rate):
        return NOTHING
    text = _share(rate, max(digits, 2) if 0 < rate < 0.01 else digits)
    return Number(f"{text}{_NBSP}%", f"{text}%")


def _share(rate: float, digits: int) -> str:
    """Write per cent: almost nothing is not nothing, and almost all is not all."""
    value = 100 * rate
    if value > _NOISE and 100 - value > _NOISE:
        while float(f"{value:.{digits}f}") in (0.0, 100.0):
            digits += 1
    return f"{value:.{digits}f}"


def interval(low: float, high: float) -> Words:
    """Write the limits of a rate: `59.4–65.4 %`."""
    if math.isnan(low) or math.isnan(high):
        return NOTHING
    digits = max(places(low, high), 2 if 0 < high < 0.01 else 1)
    ends = _share(low, digits), _share(high, digits)
    return Number(f"{ends[0]}–{ends[1]}{_NBSP}%", f"{ends[0]}%–{ends[1]}%")


def rate_with_limits(rate: float, low: float, high: float) -> Words:
    """Write a rate and its limits: `62.3 % (59.4–65.4 %)`."""
    if math.isnan(rate):
        return NOTHING
    first, limits = percent(rate, places(low, high)), interval(low, high)
    return Number(f"{_in(first, 0)} ({_in(limits, 0)})", f"{_in(first, 1)}（{_in(limits, 1)}）")


def points(difference: float, digits: int = 1) -> str:
    """Write a difference of rates in points, with its sign: `−10.9`; `±0.0` is none at all."""
    return NOTHING if math.isnan(difference) else _signed(100 * difference, digits)


def _signed(value: float, digits: int) -> str:
    if abs(value) <= _NOISE:
        return f"±{0:.{digits}f}"
    while float(f"{value:.{digits}f}") == 0.0:
        digits += 1
    return f"{'−' if value < 0 else '+'}{abs(value):.{digits}f}"


def size(difference: float) -> str:
    """Write how large a difference is: two figures of it, without its sign."""
    if math.isnan(difference):
        return NOTHING
    value = abs(100 * difference)
    return f"{value:.{_two_figures(value)}f}"


class Points(NamedTuple):
    """A difference and its limits, each in points with its sign."""

    points: str
    low: str
    high: str

    @classmethod
    def of(cls, difference: float, low: float, high: float) -> Points:
        """Write them with as many digits as the interval can bear."""
        return cls(*(points(value, places(low, high)) for value in (difference, low, high)))


def points_with_limits(difference: float, low: float, high: float) -> Words:
    """Write a difference and its limits: `−10.9 (−15.0 to −6.7)`."""
    if math.isnan(low):
        return NOTHING
    three = Points.of(difference, low, high)
    return Number(
        f"{three.points} ({three.low} to {three.high})",
        f"{three.points}（{three.low} 至 {three.high}）",
    )


def split(mix: float, rate: float, digits: int = 1) -> str:
    """Write the two parts of a difference, in points."""
    return f"{points(mix, digits)}{_NBSP}/{_NBSP}{points(rate, digits)}"


def relative(now: int, before: int) -> Words:
    """Write how a count changed, in per cent."""
    if not before:
        return NOTHING
    change = _signed(100 * (now - before) / before, 1)
    return Number(f"{change}{_NBSP}%", f"{change}%")


def period_words(period: Period) -> Say:
    """Name a period: `2024-W23`, 2024年第23周."""
    if period.every == "week":
        year, week, _ = period.start.isocalendar()
        return Say(period.name, f"{year}年第{week}周")
    return Say(period.name, f"{period.start.year}年{period.start.month}月")


def period_head(period: Period) -> Say:
    """Name a period at the head of a narrow column."""
    english, chinese = period_words(period)
    return Say(english, chinese.replace("年", "年\n"))


def local_minute(moment: Any, tz: str) -> str:
    """Write a moment of UTC as local time, to the minute."""
    if moment is None or moment != moment:
        return NOTHING
    stamp: dt.datetime = moment.tz_convert(tz)
    return f"{stamp:%Y-%m-%d %H:%M}"


def _in(words: Words, language: int) -> str:
    return words[language] if isinstance(words, Say) else words
