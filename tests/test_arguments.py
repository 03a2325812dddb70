from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest

from verifyanalytics.arguments import number, numbers
from verifyanalytics.errors import UsageError


@pytest.mark.parametrize(
    "value", [1, 1.0, np.float32(1), np.int8(1), Fraction(1), Decimal(1), np.array(1)]
)
def test_numbers_of_any_kind_are_read(value):
    assert number(value, "k", low=1, high=1, whole=True) == 1.0


@pytest.mark.parametrize(
    "value",
    ["1", b"1", True, np.bool_(1), None, [1, 2], pa.scalar("x"), math.nan, math.inf, 10**400, {}],
)
def test_what_is_no_finite_number_is_refused_in_one_line(value):
    with pytest.raises(UsageError, match=r"^k must be a finite number; .* was given$"):
        number(value, "k")


@pytest.mark.parametrize(
    ("bounds", "value", "said"),
    [
        ({"low": 0, "high": 1}, 1.1, "at least 0 and at most 1"),
        ({"above": 0, "below": 1}, 0, "above 0 and below 1"),
        ({"above": 0, "below": 1}, 1, "above 0 and below 1"),
        ({"above": 0}, -1, "above 0"),
        ({"high": 1}, 2, "at most 1"),
        ({"low": 0, "below": 1}, 1, "at least 0 and below 1"),
    ],
)
def test_what_is_out_of_range_is_told_the_range(bounds, value, said):
    with pytest.raises(UsageError, match=f"^k must be {said}; {value} was given$"):
        number(value, "k", **bounds)


def test_a_fraction_is_no_whole_number():
    with pytest.raises(UsageError, match=r"^k must be a whole number; 1\.5 was given$"):
        number(1.5, "k", whole=True)


def test_several_numbers_keep_their_order():
    assert numbers((3, 1, 3), "k") == [3.0, 1.0, 3.0]
    assert numbers(2, "k") == numbers(np.array(2), "k") == [2.0]
    assert numbers(np.array([2, 1]), "k") == [2.0, 1.0]


@pytest.mark.parametrize("values", [[], (), np.array([])])
def test_no_number_is_refused(values):
    with pytest.raises(UsageError, match="k must be one number or more; none was given"):
        numbers(values, "k")


@pytest.mark.parametrize("values", ["12", [1, "2"], [1, math.nan], None])
def test_one_unfit_number_is_enough(values):
    with pytest.raises(UsageError, match="k must be a finite number"):
        numbers(values, "k")
