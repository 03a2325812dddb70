"""Two periods side by side: rates with intervals, and whether a difference is evidence.

Repeated tries of one person are alike, so every interval is made on effective sample sizes, with
the design effect that `va.verdicts.minimal_change` finds for the acceptance rate of the period.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from verifyanalytics.analysis.base.intervals import newcombe, rate_interval

MIN_GROUP = 5
"""A group with fewer rows than this is not shown by itself."""

_EIGHTY = 2.8  # as in `va.verdicts.minimal_change`: 80 % power at two-sided 5 %


class Count(NamedTuple):
    """Events, trials, and how many times too large the trials look because people come again."""

    x: int
    n: int
    deff: float = 1.0

    @property
    def rate(self) -> float:
        """Events per trial; NaN without a trial."""
        return self.x / self.n if self.n else math.nan

    @property
    def limits(self) -> tuple[float, float]:
        """The 95 % limits of the rate."""
        low, high = rate_interval(self.x, self.n, self.deff)
        return float(low), float(high)


@dataclass(frozen=True, slots=True)
class Change:
    """A rate of two periods; without one before there is nothing to compare with."""

    now: Count
    before: Count | None = None

    @property
    def difference(self) -> float:
        """The rate of this period minus that of the last; NaN without one."""
        return self.now.rate - self.before.rate if self.before else math.nan

    @property
    def limits(self) -> tuple[float, float]:
        """Newcombe's 95 % limits of the difference, on effective sample sizes."""
        if self.before is None:
            return math.nan, math.nan
        sizes = [(c.x / _effect(c), c.n / _effect(c)) for c in (self.now, self.before)]
        low, high = newcombe(*sizes[0], *sizes[1])
        return float(low), float(high)

    @property
    def verdict(self) -> str:
        """`up`, `down`, `none` (no evidence of change), or `` where nothing can be compared."""
        low, high = self.limits
        if math.isnan(low):
            return ""
        return "up" if low > 0 else "down" if high < 0 else "none"

    @property
    def smallest(self) -> float:
        """The smallest change that so many rows show in four of five cases.

        As in `va.verdicts.minimal_change`; where the rate is 0 or 1, and that formula says nothing,
        from the rate of both periods together, and without any event in either exactly. NaN
        without rows.
        """
        p, n = self.now.rate, self.now.n
        if not 0 < p < 1 and self.before and self.before.n:
            p = (self.now.x + self.before.x) / (n + self.before.n)
        if not n or math.isnan(p):
            return math.nan
        if 0 < p < 1:
            return _EIGHTY * math.sqrt(2 * p * (1 - p) * _effect(self.now) / n)
        return self._first_to_show()

    def _first_to_show(self) -> float:
        """From a rate of 0 (or 1): the rate whose events are enough in four of five cases."""
        if self.before is None:
            return math.nan
        n, n0 = (c.n / _effect(c) for c in (self.now, self.before))
        enough = 1 + bisect_left(
            range(1, int(n) + 1), True, key=lambda x: bool(newcombe(x, n, 0.0, n0)[0] > 0)
        )
        if enough > n:
            return math.nan
        return float(special.betaincinv(enough, n - enough + 1, 0.8))


def _effect(count: Count) -> float:
    return count.deff if count.deff > 1 else 1.0


def hidden(sizes: Sequence[Sequence[int]], least: int = MIN_GROUP) -> list[bool]:
    """Tell which groups are too small to be shown by themselves.

    Parameters
    ----------
    sizes : sequence of sequence of int
        For each group its rows in each period.
    least : int
        A group with 1 to least − 1 rows in some period is hidden. Then, while what is hidden could
        still be had by subtracting the others from the total (it is one group, or fewer than
        `least` rows together), the smallest group that is shown is hidden too.

    Examples
    --------
    >>> hidden([[900], [40], [30], [3]])
    [False, False, True, True]
    >>> hidden([[900], [40]])
    [False, False]
    """
    if not sizes:
        return []
    table: Any = np.array(sizes, dtype="int64").reshape(len(sizes), -1)
    small = ((table > 0) & (table < least)).any(axis=1)
    while small.any() and not small.all():
        together = table[small].sum(axis=0)
        if small.sum() > 1 and not ((together > 0) & (together < least)).any():
            break
        total = np.where(small, np.iinfo("int64").max, table.sum(axis=1))
        small[int(total.argmin())] = True
    return [bool(one) for one in small]
