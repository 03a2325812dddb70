"""The token bucket against a clock of our own."""

import threading

import pytest

from verifyanalytics.collecting.rate_limit import Pace
from verifyanalytics.errors import UsageError


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_turns_are_spaced_by_the_rate(clock):
    pace = Pace(4, clock)
    assert [pace.turn() for _ in range(4)] == [0.0, 0.25, 0.5, 0.75]


def test_idle_time_is_not_saved_up(clock):
    pace = Pace(4, clock)
    clock.now = 100.0
    assert [pace.turn() for _ in range(3)] == [0.0, 0.25, 0.5]


def test_halving_counts_once_a_second_and_recovers_slowly(clock):
    pace = Pace(8, clock)
    for _ in range(5):
        pace.halve()
    assert pace.rate == 4
    clock.now = 1.5
    pace.halve()
    assert pace.rate == 2
    clock.now = 1.5 + 9.9
    pace.turn()
    assert pace.rate == 2
    clock.now = 1.5 + 10.0
    pace.turn()
    assert pace.rate == pytest.approx(2.2)
    clock.now = 10_000.0
    pace.turn()
    assert pace.rate == 8


def test_halving_has_a_floor(clock):
    pace = Pace(1, clock)
    for _ in range(20):
        clock.now += 1.5
        pace.halve()
    assert pace.rate == pytest.approx(0.05)


def test_no_limit_never_waits(clock):
    pace = Pace(None, clock)
    pace.halve()
    assert pace.rate is None
    assert [pace.turn() for _ in range(3)] == [0.0, 0.0, 0.0]


def test_a_stop_ends_the_wait():
    stop = threading.Event()
    pace = Pace(0.001)
    assert pace.wait(stop)
    stop.set()
    assert not pace.wait(stop)
    assert not Pace(None).wait(stop)


@pytest.mark.parametrize("rate", [0, 0.0, -1, 1e-320, float("nan"), float("inf"), "10", True])
def test_a_rate_at_which_nothing_can_be_sent_is_refused(rate):
    with pytest.raises(UsageError, match="rate must be"):
        Pace(rate)
