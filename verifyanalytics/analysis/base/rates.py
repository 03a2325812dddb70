"""How a rate is given: x / n with its limits, its design effect, and the words for it.

`add_rate` gives a rate on a count table whose rows are independent; `rate_with_limits` one whose
rows repeat persons or were drawn with unequal probability. `printed` and `sample_limit` write it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from verifyanalytics.analysis.base.intervals import (
    Clustered,
    FloatArray,
    Interval,
    clustered,
    rate_interval,
    ratio,
)
from verifyanalytics.wording.numbers import short


def add_rate(table: pd.DataFrame, name: str, x: ArrayLike, n: ArrayLike) -> pd.DataFrame:
    """Add a rate x / n to a count table, with its 95 % limits: `name`, `name_low`, `name_high`.

    Examples
    --------
    >>> table = pd.DataFrame({"n_failed": [1, 0], "n_rows": [4, 0]})
    >>> add_rate(table, "rate", table["n_failed"], table["n_rows"]).round(3).iloc[:, 2:]
       rate  rate_low  rate_high
    0  0.25     0.006      0.806
    1   NaN       NaN        NaN
    """
    low, high = rate_interval(x, n)
    return table.assign(**{name: ratio(x, n), f"{name}_low": low, f"{name}_high": high})


class PersonRate(NamedTuple):
    """A rate, its design effect against n independent rows, and the persons who count for it.

    `n_persons` is the number of persons, `persons` the same where rows are weighted alike, else at
    most Kish's effective number of rows.
    """

    rate: FloatArray
    deff: FloatArray
    persons: FloatArray
    n_persons: FloatArray

    def limits(self, n: FloatArray, hidden: FloatArray | float = 0.0, *, upward: bool) -> Interval:
        """Two-sided 95 % limits; see the function `limits`."""
        rows = np.broadcast_to(np.asarray(hidden, dtype=float), n.shape)
        return limits(self.rate, n, self.deff, self.persons, rows, upward=upward)


def rate_with_limits(
    x: FloatArray, n: FloatArray, sums: FloatArray, *, weighted: bool
) -> PersonRate:
    """Make rates of events x among n rows, with the design effect of the persons behind them.

    Parameters
    ----------
    x, n : ndarray
        Rows counted as they are.
    sums : ndarray, shape (6, ...)
        Σy, Σm, Σy², Σym, Σm² and G over persons; with weights over all rows, without over those of
        known persons: any other row counts as a person.
    weighted : bool
        Rows were drawn with unequal probability: the rate is Σy / Σm (Hájek).
    """
    if not weighted:
        alone_y, alone = x - sums[0], n - sums[1]
        sums = np.asarray(sums) + np.array([alone_y, alone, alone_y, alone_y, alone, alone])
    spread = clustered(np.minimum(sums[0], sums[1]), *sums[1:])
    rate = spread.rate if weighted else ratio(x, n)
    deff = row_deff(spread, n, np.full(n.shape, -1.0) if weighted else sums[5])
    persons = np.minimum(sums[5], kish(sums[1], sums[4])) if weighted else sums[5]
    return PersonRate(rate, deff, persons, sums[5])


def limits(
    rate: FloatArray,
    n: FloatArray,
    deff: FloatArray,
    persons: FloatArray,
    hidden: FloatArray,
    *,
    upward: bool,
) -> Interval:
    """Two-sided 95 % limits; `hidden` withheld rows may belong to the other side.

    Parameters
    ----------
    rate, n, deff, persons : ndarray
        The rate (NaN: no row), its denominator, design effect and persons.
    hidden : ndarray
        Withheld rows counted as non-matches that might match here.
    upward : bool
        They would raise the rate (FMR) rather than lower it (FNMR).
    """
    events = np.where(np.isnan(rate), 0.0, rate * n)
    plain = rate_interval(np.minimum(events, n), n, deff, persons)
    if not np.any(hidden):
        return plain
    moved = np.clip(events + (hidden if upward else -hidden), 0.0, n)
    other = rate_interval(moved, n, deff, persons)
    return Interval(plain.low, other.high) if upward else Interval(other.low, plain.high)


def row_deff(spread: Clustered, n: FloatArray, persons: FloatArray) -> FloatArray:
    """Design effect against n independent rows; exactly 1 where every row is its own person."""
    with np.errstate(divide="ignore", invalid="ignore"):
        deff = spread.standard_error**2 * n / (spread.rate * (1 - spread.rate))
    alone = (spread.n_clusters == 1) & (n > 1)
    plain = (spread.rate == 0) | (spread.rate == 1) | (persons == n)
    result: FloatArray = np.where(alone, n, np.where(plain, 1.0, deff))
    return np.where(n > 0, np.nan_to_num(result, nan=1.0), np.nan)


def kish(m: FloatArray, mm: FloatArray) -> FloatArray:
    """Effective number of weighted rows: (Σw)² / Σw²."""
    with np.errstate(divide="ignore", invalid="ignore"):
        result: FloatArray = np.where(mm > 0, m**2 / mm, 0.0)
    return result


def effective_size(
    rate: FloatArray, n: FloatArray, deff: FloatArray, carried: FloatArray
) -> FloatArray:
    """Return how many independent comparisons a rate rests on.

    n / max(1, DEFF); without an error, or without a success, the persons: as many as `carried`,
    their `guard`, rules out.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        persons = np.log(0.05) / np.log1p(-carried)
    size = n / np.maximum(np.nan_to_num(deff, nan=1.0), 1.0)
    plain = (rate == 0) | (rate == 1)
    result: FloatArray = np.where(plain, np.minimum(np.nan_to_num(persons, nan=0.0), n), size)
    return result


def printed(x: float, n: float, rate: float, limit: float) -> str:
    """Write the rate, or after no error the one-sided bound that `limit` is.

    Examples
    --------
    >>> printed(0, 5000, 0.0, 5.99e-4), printed(3, 5000, 6e-4, 5.99e-4)
    ('< 6e-4 (one-sided 95 %)', '6e-4')
    """
    if n == 0 or np.isnan(rate):
        return ""
    return f"< {short(limit)} (one-sided 95 %)" if x == 0 else short(rate)


def sample_limit(limit: float, persons: float) -> str:
    """Write the smallest rate that a sample without an error can rule out.

    Examples
    --------
    >>> sample_limit(5.99e-4, 5000)
    '< 6e-4 is all this sample can say (one-sided 95 %, 5000 independent comparisons)'
    """
    return (
        f"< {short(limit)} is all this sample can say "
        f"(one-sided 95 %, {persons:.0f} independent comparisons)"
    )
