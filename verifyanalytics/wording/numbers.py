"""How numbers, differences and times are written in English and Chinese.

An interval decides how many digits are worth writing, two figures of its half-width: a difference
known to a hundredth of a point is not cut to a tenth, and one known to three points is not given
two decimals. What is not nothing is never written as 0, nor what is not all as 100.
"""

from __future__ import annotations

import datetime as dt
import math
from typing import Any, Literal, NamedTuple

from verifyanalytics.wording.words import Number, Say, Words, in_one

NOTHING = "–"
"""What stands where there is no number."""

NBSP = "\u00a0"

_NOISE = 1e-10
"""Per cent, or points, below this are what is left of a 0 after arithmetic."""

_SMALL = 5e-4
"""Rates below this are written by the power of ten where a form asks for that."""


# ------------------------------------------------------------------ counts and scores


def number(n: float) -> str:
    """Write a count: `1,637`."""
    return NOTHING if n != n else f"{n:,.0f}"


def spaced(n: int) -> str:
    """Write a count for a terminal: `1 637`."""
    return f"{n:,}".replace(",", " ")


def exact(score: float) -> str:
    """Write a score with as few digits as tell it from every other one: `70`, `69.9999999`."""
    return repr(float(score)).removesuffix(".0")


def short(x: float, digits: int = 2) -> str:
    """Write a rate in few digits, small ones by the power of ten as the vendor does.

    Examples
    --------
    >>> short(0.0372), short(5.99e-4), short(2.5e-6)
    ('0.037', '6e-4', '2.5e-6')
    """
    if x >= 0.01 or x == 0:
        return f"{x:.{digits}g}"
    mantissa, power = f"{x:.{digits - 1}e}".split("e")
    return f"{float(mantissa):g}e{int(power)}"


# ------------------------------------------------------------------ rates and their intervals


def percent(rate: float, digits: int = 1, tiny: Literal["digits", "bound", "power"] = "digits",
            ) -> Words:  # fmt: skip
    """Write a rate: `62.3 %` in English, `62.3%` in Chinese; near 0 and 1 with more digits.

    Parameters
    ----------
    rate : float
        From 0 to 1; NaN is written `–`.
    digits : int
        Decimals; 2 at least below one per cent.
    tiny : str
        A rate that these digits cannot show gets more of them (`digits`), is called `< 0.01 %`
        (`bound`, where there is no room), or is written by its power of ten below 0.05 %
        (`power`: `3.1e-5`).

    Examples
    --------
    >>> percent(0.623).zh, percent(0.0042).zh, percent(2e-6).zh, percent(0.99999).zh
    ('62.3%', '0.42%', '0.0002%', '99.999%')
    >>> percent(2e-6, tiny="bound").zh, percent(3.12e-5, tiny="power")
    ('< 0.01%', '3.1e-5')
    """
    if math.isnan(rate):
        return NOTHING
    if tiny == "power" and 0 < rate < _SMALL:
        return short(rate)
    if tiny == "bound" and 0 < rate < 5e-5:
        return _per_cent("< 0.01")
    return _per_cent(_share(rate, max(digits, 2) if 0 < rate < 0.01 else digits))


def _per_cent(value: str) -> Number:
    return Number(f"{value}{NBSP}%", f"{value}%")


def _share(rate: float, digits: int) -> str:
    value = 100 * rate
    if value > _NOISE and 100 - value > _NOISE:
        while float(f"{value:.{digits}f}") in (0.0, 100.0):
            digits += 1
    return f"{value:.{digits}f}"


def places(low: float, high: float) -> int:
    """Return how many decimals of per cent, or of points, an interval can bear: 1 or more."""
    return _two_figures(50 * (high - low))


def _two_figures(value: float) -> int:
    """Return the decimals that show two figures of a value: at least 1, and 1 for no number."""
    if math.isnan(value) or not value > _NOISE:
        return 1
    return max(1, 1 - math.floor(math.log10(value)))


def interval(low: float, high: float) -> Words:
    """Write the limits of a rate: `59.4–65.4 %`."""
    if math.isnan(low) or math.isnan(high):
        return NOTHING
    digits = max(places(low, high), 2 if 0 < high < 0.01 else 1)
    ends = _share(low, digits), _share(high, digits)
    return Number(f"{ends[0]}–{ends[1]}{NBSP}%", f"{ends[0]}%–{ends[1]}%")


def between(low: float, high: float) -> Words:
    """Write limits of a rate that may be a few in a million.

    Examples
    --------
    >>> between(0.9237, 0.9354).zh, between(0.00002, 0.01).zh, between(2e-5, 1e-4)
    ('92.37 – 93.54%', '0.002 – 1.00%', '2e-5 – 1e-4')
    """
    if 0 < high < _SMALL:
        return f"{short(low)} – {short(high)}"
    first = f"{100 * low:.1g}" if 0 < low < _SMALL else f"{100 * low:.2f}"
    return _per_cent(f"{first} – {100 * high:.2f}")


def rate_with_limits(rate: float, low: float, high: float) -> Words:
    """Write a rate and its limits: `62.3 % (59.4–65.4 %)`."""
    if math.isnan(rate):
        return NOTHING
    first, limits = percent(rate, places(low, high)), interval(low, high)
    return Number(f"{in_one(first, 0)} ({in_one(limits, 0)})",
                  f"{in_one(first, 1)}（{in_one(limits, 1)}）")  # fmt: skip


# ------------------------------------------------------------------ differences


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
    middle, first, last = Points.of(difference, low, high)
    return Number(f"{middle} ({first} to {last})", f"{middle}（{first} 至 {last}）")


def split(mix: float, rate: float, digits: int = 1) -> str:
    """Write the two parts of a difference, in points."""
    return f"{points(mix, digits)}{NBSP}/{NBSP}{points(rate, digits)}"


def relative(now: int, before: int) -> Words:
    """Write how a count changed, in per cent."""
    return _per_cent(_signed(100 * (now - before) / before, 1)) if before else NOTHING


# ------------------------------------------------------------------ times


def period_words(start: dt.date, every: str) -> Say:
    """Name a week or a month by its first day: `2024-W23`, 2024年第23周."""
    if every == "week":
        year, week, _ = start.isocalendar()
        return Say(f"{year:04d}-W{week:02d}", f"{year}年第{week}周")
    return Say(f"{start:%Y-%m}", f"{start.year}年{start.month}月")


def local_minute(moment: Any, tz: str) -> str:
    """Write a moment of UTC as local time, to the minute."""
    if moment is None or moment != moment:
        return NOTHING
    stamp: dt.datetime = moment.tz_convert(tz)
    return f"{stamp:%Y-%m-%d %H:%M}"
