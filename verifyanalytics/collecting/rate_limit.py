"""The rate limiter of the collector: it spaces calls out, and halves the rate after a 429.

The vendor's limits are in calls a second. A 429 halves the rate at once; after a while without
another it grows back by a tenth at a time, never above what was set.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from verifyanalytics.arguments import number

RECOVERY_S = 10.0
"""Seconds without another 429 before the rate grows by `RECOVERY_STEP`."""

RECOVERY_STEP = 1.1
SLOWEST = 0.05
"""Calls a second below which halving stops."""

LEAST_RATE = 1e-6
"""Calls a second that may be asked for at least: one in eleven days."""


class RateLimit:
    """Gives each caller the moment at which its call may go out.

    Parameters
    ----------
    rate : float or None
        Calls a second, at least `LEAST_RATE`; None for no limit.
    clock : callable
        Monotonic seconds.

    Raises
    ------
    UsageError
        A rate that nothing can be sent at.

    Examples
    --------
    >>> moments = iter([0.0, 0.0, 0.0])
    >>> limit = RateLimit(10, clock=lambda: next(moments))
    >>> limit.turn(), round(limit.turn(), 3)
    (0.0, 0.1)
    """

    def __init__(self, rate: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = None if rate is None else number(rate, "rate", low=LEAST_RATE)
        self._rate = self._limit or 0.0
        self._clock = clock
        self._lock = threading.Lock()
        self._next = self._changed = clock()

    @property
    def rate(self) -> float | None:
        """Calls a second at this moment; None for no limit."""
        return None if self._limit is None else self._rate

    def turn(self) -> float:
        """Take the next free moment; gives the seconds to wait for it."""
        if self._limit is None:
            return 0.0
        with self._lock:
            now = self._clock()
            steps = int((now - self._changed) / RECOVERY_S)
            if self._rate < self._limit and steps > 0:
                self._rate = min(self._limit, self._rate * RECOVERY_STEP**steps)
                self._changed += steps * RECOVERY_S
            # what was not used is not saved up: the vendor counts each second by itself
            at = max(self._next, now)
            self._next = at + 1 / self._rate
            return at - now

    def wait(self, stop: threading.Event) -> bool:
        """Wait for the next turn; False when the run is stopped meanwhile."""
        return not stop.wait(self.turn()) if self._limit is not None else not stop.is_set()

    def halve(self) -> None:
        """Halve the rate; several 429s within a second count once."""
        if self._limit is None:
            return
        with self._lock:
            now = self._clock()
            if self._rate < self._limit and now - self._changed < 1.0:
                return
            self._rate = max(self._rate / 2, min(SLOWEST, self._limit))
            self._changed = now
