"""The token bucket against a clock of our own."""

import threading

import pytest

from verifyanalytics.collecting.rate_limit import RateLimit
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
    limit = RateLimit(4, clock)
    assert [limit.turn() for _ in range(4)] == [0.0, 0.25, 0.5, 0.75]


def test_idle_time_is_not_saved_up(clock):
    limit = RateLimit(4, clock)
    clock.now = 100.0
    assert [limit.turn() for _ in range(3)] == [0.0, 0.25, 0.5]


def test_halving_counts_once_a_second_and_recovers_slowly(clock):
    limit = RateLimit(8, clock)
    for _ in range(5):
        limit.halve()
    assert limit.rate == 4
    clock.now = 1.5
    limit.halve()
    assert limit.rate == 2
    clock.now = 1.5 + 9.9
    limit.turn()
    assert limit.rate == 2
    clock.now = 1.5 + 10.0
    limit.turn()
    assert limit.rate == pytest.approx(2.2)
    clock.now = 10_000.0
    limit.turn()
    assert limit.rate == 8


def test_halving_has_a_floor(clock):
    limit = RateLimit(1, clock)
    for _ in range(20):
        clock.now += 1.5
        limit.halve()
    assert limit.rate == pytest.approx(0.05)


def test_no_limit_never_waits(clock):
    limit = RateLimit(None, clock)
    limit.halve()
    assert limit.rate is None
    assert [limit.turn() for _ in range(3)] == [0.0, 0.0, 0.0]


def test_a_stop_ends_the_wait():
    stop = threading.Event()
    limit = RateLimit(0.001)
    assert limit.wait(stop)
    stop.set()
    assert not limit.wait(stop)
    assert not RateLimit(None).wait(stop)


@pytest.mark.parametrize("rate", [0, 0.0, -1, 1e-320, float("nan"), float("inf"), "10", True])
def test_a_rate_at_which_nothing_can_be_sent_is_refused(rate):
    with pytest.raises(UsageError, match="rate must be"):
        RateLimit(rate)
