"""What a count can say: intervals, limits and tests of counts, without any frame.

Counts are scalars or arrays that broadcast; results are float64 of that shape. `x` events among `n`
trials are real numbers with 0 ≤ x ≤ n (effective sample sizes are fractions); any other count is
refused. A limit is exact at 0 and at n, and NaN where n is 0. `confidence` is two-sided, in (0, 1),
unless `side` says otherwise; a one-sided limit leaves the other end at its extreme.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from verifyanalytics.arguments import number
from verifyanalytics.errors import UsageError

FloatArray: TypeAlias = NDArray[np.float64]
Side: TypeAlias = Literal["two", "lower", "upper"]

FEW = 10
"""Below this many events (or non-events) an interval is exact, and a bootstrap is refused."""


class Interval(NamedTuple):
    """Limits of the same shape as the counts they come from; either may be NaN."""

    low: FloatArray
    high: FloatArray


class Clustered(NamedTuple):
    """What repeated tries of the same person do to a rate.

    Attributes
    ----------
    rate, standard_error : ndarray
        The ratio of the totals, and its linearised standard error with G/(G−1).
    deff : ndarray
        Design effect: variance against that of as many independent rows; 1 where it is undefined.
    n_clusters : ndarray
        Clusters G.
    """

    rate: FloatArray
    standard_error: FloatArray
    deff: FloatArray
    n_clusters: FloatArray


class PairedTest(NamedTuple):
    """McNemar's test: exact two-sided p-value, corrected chi-square and its p-value."""

    p_exact: FloatArray
    chi_square: FloatArray
    p_chi_square: FloatArray


def ratio(x: ArrayLike, n: ArrayLike) -> FloatArray:
    """Return x / n as float64; NaN where n is 0.

    Examples
    --------
    >>> ratio([1, 2], [4, 0]).tolist()
    [0.25, nan]
    """
    events, trials = np.asarray(x, dtype=float), np.asarray(n, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        result: FloatArray = np.where(trials > 0, events / trials, np.nan)
    return result


def wilson(x: ArrayLike, n: ArrayLike, confidence: float = 0.95) -> Interval:
    """Wilson's score interval for a proportion.

    References
    ----------
    Wilson (1927) JASA 22:209; Newcombe (1998) Stat. Med. 17:857, method 3.

    Examples
    --------
    >>> low, high = wilson(81, 263)
    >>> print(f"{low:.4f} {high:.4f}")
    0.2553 0.3662
    """
    events, trials = _proportion(x, n)
    z2 = _normal(confidence) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = events / trials
        centre = rate + z2 / (2 * trials)
        half = np.sqrt(z2 * (rate * (1 - rate) / trials + z2 / (4 * trials**2)))
        low, high = (centre - half) / (1 + z2 / trials), (centre + half) / (1 + z2 / trials)
    return _at_the_ends(events, trials, low, high)


def clopper_pearson(
    x: ArrayLike, n: ArrayLike, confidence: float = 0.95, side: Side = "two"
) -> Interval:
    """Exact interval for a proportion, from the quantiles of the beta distribution.

    References
    ----------
    Clopper & Pearson (1934) Biometrika 26:404; ISO/IEC 19795-1:2021, annex B.

    Examples
    --------
    >>> low, high = clopper_pearson(0, 300)
    >>> print(f"{low:.4f} {high:.6f}")
    0.0000 0.012221
    """
    events, trials = _proportion(x, n)
    tail = _tail(confidence, side)
    # The beta quantile wants positive parameters; the ends are put right afterwards.
    low = special.betaincinv(np.maximum(events, 1e-300), trials - events + 1, tail)
    high = special.betainccinv(events + 1, np.maximum(trials - events, 1e-300), tail)
    if side == "upper":
        low = np.zeros_like(high)
    if side == "lower":
        high = np.ones_like(low)
    return _at_the_ends(events, trials, low, high)


def rate_interval(
    x: ArrayLike,
    n: ArrayLike,
    deff: ArrayLike = 1.0,
    n_clusters: ArrayLike | None = None,
    confidence: float = 0.95,
) -> Interval:
    """The interval every rate of this package carries.

    Clopper–Pearson when there are fewer than `FEW` effective events or non-events, else Wilson;
    both on the effective sample size n / max(1, deff), events shrunk alike, so that ten tries of
    one person do not count as ten persons. Without an event (or without a non-event) the tries say
    nothing about how alike they are, and the clusters are the sample.

    Parameters
    ----------
    x, n : array_like
        Events and trials.
    deff : array_like
        Design effect, from `clustered`; below 1 is taken as 1.
    n_clusters : array_like, optional
        Persons; without them each trial is its own.
    confidence : float
        Two-sided.

    References
    ----------
    Korn & Graubard (1998) Survey Methodology 24:193 for the exact interval on n_eff; Brown, Cai &
    DasGupta (2001) Stat. Sci. 16:101 for Wilson.

    Examples
    --------
    >>> low, high = rate_interval(0, 1000, n_clusters=300)
    >>> print(f"{high:.6f}")
    0.012221
    """
    events, trials = _proportion(x, n)
    effect = np.maximum(np.nan_to_num(np.asarray(deff, dtype=float), nan=1.0), 1.0)
    size = trials / effect
    if n_clusters is not None:
        persons = np.minimum(np.asarray(n_clusters, dtype=float), trials)
        size = np.where((events == 0) | (events == trials), persons, size)
    with np.errstate(divide="ignore", invalid="ignore"):
        shrunk = np.where(trials > 0, events * (size / trials), 0.0)
    shrunk = np.where(events == trials, size, np.minimum(shrunk, size))
    exact = clopper_pearson(shrunk, size, confidence)
    score = wilson(shrunk, size, confidence)
    few = np.minimum(shrunk, size - shrunk) < FEW
    return Interval(
        _shaped(np.where(few, exact.low, score.low)), _shaped(np.where(few, exact.high, score.high))
    )


def clustered(
    sum_y: ArrayLike,
    sum_m: ArrayLike,
    sum_yy: ArrayLike,
    sum_ym: ArrayLike,
    sum_mm: ArrayLike,
    n_clusters: ArrayLike,
) -> Clustered:
    """Linearised standard error of a ratio of cluster totals, from five sums over clusters.

    With y events among m rows in each cluster, Var = G/(G−1) · Σ(y − rate·m)² / (Σm)². The sums are
    all it needs, so they can be made where the data lives.

    Parameters
    ----------
    sum_y, sum_m : array_like
        Σy events and Σm rows.
    sum_yy, sum_ym, sum_mm : array_like
        Σy², Σym and Σm² over clusters.
    n_clusters : array_like
        Clusters G with m > 0. One cluster gives a standard error of NaN and a design effect of m.

    Returns
    -------
    Clustered

    References
    ----------
    Cochran (1977) Sampling Techniques, ch. 6; the same figure as a regression on a constant with
    cluster-robust errors.

    Examples
    --------
    Ten persons with three tries each, of which two fail always:

    >>> clustered(6, 30, 18, 18, 90, 10).deff.round(3)
    np.float64(3.333)
    """
    y, m = _proportion(sum_y, sum_m)
    g = np.asarray(n_clusters, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = y / m
        squares = np.asarray(sum_yy) - 2 * rate * np.asarray(sum_ym) + rate**2 * np.asarray(sum_mm)
        variance = np.where(g > 1, g / (g - 1) * np.maximum(squares, 0.0) / m**2, np.nan)
        deff = variance / (rate * (1 - rate) / m)
    deff = np.where((y == 0) | (y == m), 1.0, deff)
    deff = np.where((g == 1) & (m > 0), m, deff)
    return Clustered(*map(_shaped, (rate, np.sqrt(variance), deff, np.broadcast_to(g, m.shape))))


def newcombe(
    x1: ArrayLike, n1: ArrayLike, x2: ArrayLike, n2: ArrayLike, confidence: float = 0.95
) -> Interval:
    """Interval for the difference x1/n1 − x2/n2 of two independent proportions.

    References
    ----------
    Newcombe (1998) Stat. Med. 17:873, method 10 (hybrid score).

    Examples
    --------
    >>> low, high = newcombe(56, 70, 48, 80)
    >>> print(f"{low:.4f} {high:.4f}")
    0.0524 0.3339
    """
    first, second = wilson(x1, n1, confidence), wilson(x2, n2, confidence)
    p1, p2 = ratio(*_proportion(x1, n1)), ratio(*_proportion(x2, n2))
    low = p1 - p2 - np.hypot(p1 - first.low, second.high - p2)
    high = p1 - p2 + np.hypot(first.high - p1, p2 - second.low)
    return Interval(_shaped(np.maximum(low, -1.0)), _shaped(np.minimum(high, 1.0)))


def mcnemar(only_first: ArrayLike, only_second: ArrayLike) -> PairedTest:
    """McNemar's test of two rules on the same rows, from the two discordant counts; 1 without any.

    References
    ----------
    McNemar (1947) Psychometrika 12:153; continuity correction by Edwards (1948).

    Examples
    --------
    >>> mcnemar(6, 16).p_exact.round(6)
    np.float64(0.052479)
    """
    b, c = np.broadcast_arrays(_count(only_first), _count(only_second))
    discordant = b + c
    fewer = np.minimum(b, c)
    exact = np.minimum(1.0, 2 * stats.binom.cdf(fewer, np.maximum(discordant, 1.0), 0.5))
    with np.errstate(divide="ignore", invalid="ignore"):
        chi = np.maximum(np.abs(b - c) - 1, 0.0) ** 2 / discordant
    chi = np.where(discordant == 0, 0.0, chi)
    exact = np.where(discordant == 0, 1.0, exact)
    return PairedTest(_shaped(exact), _shaped(chi), _shaped(special.chdtrc(1, chi)))


def benjamini_hochberg(p: ArrayLike) -> FloatArray:
    """P-values adjusted for the false discovery rate, in the order given.

    Parameters
    ----------
    p : array_like, one dimension
        In [0, 1]; NaN (no test was made) stays NaN and does not count as a test.

    Returns
    -------
    ndarray
        Reject at level q where the adjusted value is ≤ q.

    References
    ----------
    Benjamini & Hochberg (1995) JRSS B 57:289.

    Examples
    --------
    >>> benjamini_hochberg([0.01, 0.04, 0.03]).round(4).tolist()
    [0.03, 0.04, 0.04]
    """
    values = np.asarray(p, dtype=float)
    if values.ndim != 1:
        raise UsageError(f"p-values come as one list, not with {values.ndim} dimensions")
    tested = ~np.isnan(values)
    if np.any((values[tested] < 0) | (values[tested] > 1)):
        raise UsageError("a p-value lies in [0, 1]")
    adjusted = np.full_like(values, np.nan)
    if tested.any():
        adjusted[tested] = stats.false_discovery_control(values[tested], method="bh")
    return adjusted


def guard(n: ArrayLike, confidence: float = 0.95) -> FloatArray:
    """Smallest rate that n error-free trials can rule out: 1 − (1 − confidence)^(1/n), one-sided.

    The exact form of the rule of three (3/n). A claim below it is more than the sample can carry.

    References
    ----------
    ISO/IEC 19795-1:2021, annex B; Hanley & Lippman-Hand (1983) JAMA 249:1743.

    Examples
    --------
    >>> guard(3000).round(7)
    np.float64(0.0009981)
    """
    trials = _count(n)
    with np.errstate(divide="ignore"):
        return _shaped(
            np.where(trials > 0, -np.expm1(np.log(1 - _level(confidence)) / trials), np.nan)
        )


def trials_to_claim(rate: ArrayLike, n_errors: float = 0, confidence: float = 0.95) -> FloatArray:
    """Trials after which `n_errors` errors still show, one-sided, that the error rate is ≤ `rate`.

    Examples
    --------
    >>> trials_to_claim([1e-3, 1e-4]).tolist()
    [2995.0, 29956.0]
    """
    wrong = "a rate to be claimed lies strictly between 0 and 1"
    claim = _floats(rate, wrong)
    errors = number(n_errors, "n_errors", low=0, whole=True)
    if np.any(~((claim > 0) & (claim < 1))):
        raise UsageError(wrong)
    if errors == 0:
        return _shaped(np.ceil(np.log(1 - _level(confidence)) / np.log1p(-claim)))
    # P(X ≤ e | n, p) falls with n: bisect between a size that is too small and one that is enough.
    low, high = np.full(claim.shape, errors), (errors + 10) * 8 / claim
    while np.any(high - low > np.maximum(1.0, np.spacing(high))):  # or no float lies between them
        middle = np.floor((low + high) / 2)
        enough = stats.binom.cdf(errors, middle, claim) <= 1 - _level(confidence)
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return _shaped(np.ceil(high))


def relative_halfwidth(n_errors: ArrayLike, confidence: float = 0.90) -> FloatArray:
    """Half-width of an error rate's interval relative to the rate, after `n_errors` errors.

    Thirty errors: the true rate is within ± 30 % of the observed one at 90 % ("rule of 30").

    References
    ----------
    Doddington et al. (2000) Speech Comm. 31:225; ISO/IEC 19795-1:2021, annex B.

    Examples
    --------
    >>> relative_halfwidth(30).round(2)
    np.float64(0.3)
    """
    errors = _count(n_errors)
    with np.errstate(divide="ignore"):
        return _shaped(_normal(confidence) / np.sqrt(errors))


def poisson_exact(x: ArrayLike, confidence: float = 0.95, side: Side = "two") -> Interval:
    """Exact interval for the mean of a Poisson count.

    References
    ----------
    Garwood (1936) Biometrika 28:437.

    Examples
    --------
    >>> low, high = poisson_exact(30, 0.90)
    >>> print(f"{low / 30:.4f} {high / 30:.4f}")
    0.7198 1.3564
    """
    count = _count(x)
    tail = _tail(confidence, side)
    low = np.where(count > 0, special.gammaincinv(np.maximum(count, 1e-300), tail), 0.0)
    high = special.gammainccinv(count + 1, tail)
    if side == "upper":
        low = np.zeros_like(high)
    if side == "lower":
        high = np.full_like(high, np.inf)
    return Interval(_shaped(low), _shaped(high))


def poisson_quantile(q: float, mean: ArrayLike) -> FloatArray:
    """Smallest whole c with P(Poisson(mean) ≤ c) ≥ q; 0 for a mean of 0.

    Examples
    --------
    >>> poisson_quantile(0.975, [0.0, 1.0, 10.0]).tolist()
    [0.0, 3.0, 17.0]
    """
    return _shaped(np.asarray(stats.poisson.ppf(_level(q), _count(mean)), dtype=float))


def negative_binomial_quantile(q: float, successes: ArrayLike, p: ArrayLike) -> FloatArray:
    """Quantile of the failures before the given number of successes, each with probability p.

    Examples
    --------
    >>> negative_binomial_quantile(0.975, 1501, 1 - 1e-3)
    np.float64(4.0)
    """
    chance = np.asarray(p, dtype=float)
    if np.any(~((chance > 0) & (chance <= 1))):
        raise UsageError("a probability of success lies in (0, 1]")
    return _shaped(np.asarray(stats.nbinom.ppf(_level(q), _count(successes), chance), dtype=float))


def hypergeometric_limits(
    x: int, n: int, population: int, confidence: float = 0.95
) -> tuple[int, int]:
    """Exact limits for how many of `population` have a property that x of n drawn ones have.

    Drawn without replacement. The limits are the smallest and largest totals that the draw does
    not contradict at (1 − confidence)/2 on either side: zero seen is a bound, never [0, 0].

    References
    ----------
    Konijn (1973); Buonaccorsi (1987) Am. Stat. 41:215.

    Examples
    --------
    >>> hypergeometric_limits(0, 50, 1000)
    (0, 69)
    """
    if not 0 <= x <= n <= population:
        raise UsageError(f"cannot draw {n} with {x} hits from {population}")
    tail = (1 - _level(confidence)) / 2
    least, most = x, population - (n - x)
    if n == 0:
        return 0, population
    high = _last_true(
        least, most, lambda total: stats.hypergeom.cdf(x, population, total, n) > tail
    )
    low = (
        most
        + least
        - _last_true(
            least,
            most,
            lambda mirrored: (
                stats.hypergeom.sf(x - 1, population, most + least - mirrored, n) > tail
            ),
        )
    )
    return low, high


def _last_true(low: int, high: int, holds: Any) -> int:
    """Largest whole number in [low, high] at which a falling predicate holds; it holds at low."""
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low


def _at_the_ends(
    events: FloatArray, trials: FloatArray, low: FloatArray, high: FloatArray
) -> Interval:
    low = np.where(events == 0, 0.0, np.clip(low, 0.0, 1.0))
    high = np.where(events == trials, 1.0, np.clip(high, 0.0, 1.0))
    empty = trials == 0
    return Interval(_shaped(np.where(empty, np.nan, low)), _shaped(np.where(empty, np.nan, high)))


def _proportion(x: ArrayLike, n: ArrayLike) -> tuple[FloatArray, FloatArray]:
    events, trials = np.broadcast_arrays(_count(x), _count(n))
    if np.any(events > trials):
        raise UsageError("more events than trials")
    return events, trials


def _count(x: ArrayLike) -> FloatArray:
    values = _floats(x, "a count is a finite number of 0 or more")
    if not np.all(np.isfinite(values)) or np.any(values < 0):
        raise UsageError("a count is a finite number of 0 or more")
    return values


def _floats(values: ArrayLike, message: str) -> FloatArray:
    try:
        return np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        raise UsageError(message) from None


def _level(confidence: float) -> float:
    return number(confidence, "confidence", above=0, below=1)


def _tail(confidence: float, side: Side) -> float:
    if side not in ("two", "lower", "upper"):
        raise UsageError(f"side is two, lower or upper, not {side}")
    return (1 - _level(confidence)) / (2 if side == "two" else 1)


def _normal(confidence: float) -> float:
    return float(special.ndtri(1 - (1 - _level(confidence)) / 2))


def _shaped(values: Any) -> FloatArray:
    """Arrays as they are; a single number as a NumPy scalar, which prints and rounds like one."""
    result: FloatArray = np.asarray(values, dtype=float)[()]
    return result
