"""How numbers are written: enough digits, never 0 for something, each language in its own form."""

from __future__ import annotations

import pandas as pd
import pytest

from verifyanalytics.wording import numbers
from verifyanalytics.wording.numbers import NOTHING
from verifyanalytics.wording.words import plain

NBSP = "\u00a0"


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ((-0.0014, -0.0027, -0.0001), "−0.14 (−0.27 to −0.01)"),  # ±0.0 would deny its reading
        ((-0.109, -0.15, -0.067), "−10.9 (−15.0 to −6.7)"),
        ((0.0, -0.0004, 0.0003), "±0.000 (−0.040 to +0.030)"),
        ((0.00001, -0.03, 0.03), "+0.001 (−3.0 to +3.0)"),
    ],
)
def test_an_interval_says_how_many_digits_a_difference_has(limits, expected):
    assert numbers.points_with_limits(*limits).en == expected


def test_almost_all_is_not_all():
    assert numbers.percent(0.99997).en == f"99.997{NBSP}%"
    assert numbers.percent(1.0).en == f"100.0{NBSP}%"


@pytest.mark.parametrize(
    ("rate", "tiny", "expected"),
    [
        (3.12e-5, "digits", "0.003%"), (3.12e-5, "bound", "< 0.01%"), (3.12e-5, "power", "3.1e-5"),
        (6e-5, "bound", "0.01%"), (4.9e-4, "power", "4.9e-4"), (5e-4, "power", "0.05%"),
        (0.0, "power", "0.0%"), (0.0042, "bound", "0.42%"), (0.99997, "bound", "99.997%"),
    ],
)  # fmt: skip
def test_what_the_digits_cannot_show_is_written_as_asked(rate, tiny, expected):
    assert plain(numbers.percent(rate, tiny=tiny), "zh") == expected


def test_each_language_writes_its_own_form():
    assert numbers.interval(0.594, 0.654) == (f"59.4–65.4{NBSP}%", "59.4%–65.4%")
    assert numbers.rate_with_limits(0.623, 0.594, 0.654) == (
        f"62.3{NBSP}% (59.4–65.4{NBSP}%)", "62.3%（59.4%–65.4%）",
    )  # fmt: skip
    assert numbers.points_with_limits(-0.109, -0.15, -0.067).zh == "−10.9（−15.0 至 −6.7）"
    assert numbers.relative(90, 100) == (f"−10.0{NBSP}%", "−10.0%")


def test_where_there_is_no_number_a_dash_stands():
    nan = float("nan")
    assert {
        numbers.number(nan), numbers.percent(nan), numbers.interval(nan, 1), numbers.points(nan),
        numbers.size(nan), numbers.points_with_limits(nan, nan, nan), numbers.relative(1, 0),
        numbers.rate_with_limits(nan, 0, 1), numbers.local_minute(pd.NaT, "UTC"),
    } == {NOTHING}  # fmt: skip


def test_counts_scores_and_small_rates():
    assert (numbers.number(1637), numbers.spaced(1234567)) == ("1,637", "1 234 567")
    assert [numbers.exact(x) for x in (70, 69.9999999, 1e-7)] == ["70", "69.9999999", "1e-07"]
    small = (0.0, 1e-4, 2.5e-6, 0.05, 0.123)
    assert [numbers.short(x) for x in small] == ["0", "1e-4", "2.5e-6", "0.05", "0.12"]
    assert [numbers.short(x, 3) for x in small[1:]] == ["1e-4", "2.5e-6", "0.05", "0.123"]


def test_a_period_and_a_moment_are_named_locally():
    day = pd.Timestamp("2024-12-30")
    assert numbers.period_words(day.date(), "week") == ("2025-W01", "2025年第1周")
    assert numbers.period_words(day.date(), "month") == ("2024-12", "2024年12月")
    moment = pd.Timestamp("2024-06-02 16:00:59", tz="UTC")
    assert numbers.local_minute(moment, "Asia/Shanghai") == "2024-06-03 00:00"
