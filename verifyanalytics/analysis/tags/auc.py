"""How well bands tell the outcome from the rest: the area, its limits, and whether it is chance.

Bands are few and most rows are in one of them, so ties are the rule and normal theory is far off
long after the counts look large. The test rearranges the outcome over the bands instead.
"""

from __future__ import annotations

import numpy as np
from scipy import optimize

from verifyanalytics.analysis.base.intervals import FloatArray

_NORMAL = 1.959963984540054
_REARRANGED, _SEED = 9_999, 0
_MOST_DEALT = 1e8  # NumPy deals out fewer than 1e9 rows; so many decide anything


def area(x: FloatArray, other: FloatArray) -> float:
    """Return P(outcome row in a higher band) + ½ P(equal), from counts in rising order.

    NaN where either kind has no row.
    """
    if not x.sum() or not other.sum():
        return float("nan")
    return float(x @ (other.cumsum() - other / 2) / (x.sum() * other.sum()))


def area_limits(x: FloatArray, other: FloatArray, deff: float) -> tuple[float, float]:
    """95 % limits of the area: those areas that the counts do not contradict.

    Parameters
    ----------
    x, other : ndarray
        Outcome rows and others per band, in rising order.
    deff : float
        How many rows count as one.

    Notes
    -----
    Method 5 of Newcombe (2006): Hanley and McNeil's variance at the area in question, not at the
    one found, which ends near 0 and 1 need; times the share that ties leave of the null variance,
    so that at ½ it is that of Mann and Whitney's test, and less and less of that towards 0 and 1,
    where the two kinds are seldom tied. Never less than DeLong's.

    References
    ----------
    Newcombe (2006) Stat. Med. 25:559; DeLong et al. (1988) Biometrics 44:837; Lehmann (1975)
    Nonparametrics, 1.4, for ties.
    """
    found = area(x, other)
    if np.isnan(found):
        return float("nan"), float("nan")
    m, n, ties = x.sum(), other.sum(), x + other
    if ties.max() == ties.sum():  # one band alone says nothing of how bands would tell
        return 0.0, 1.0
    whole = m + n
    left = 1 - float((ties**3 - ties).sum()) / ((whole + 1) * whole * (whole - 1))
    least = _delong(x, other, found)

    def beyond(theta: float) -> float:
        more = (whole / 2 - 1) * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        share = left + (1 - left) * (2 * theta - 1) ** 2
        variance = max(share * theta * (1 - theta) * (1 + more) / (m * n), least)
        return abs(found - theta) - _NORMAL * float(np.sqrt(variance * deff))

    # an area of 0 or 1 has no variance at itself: look from just beside it
    inside, outside = found * (1 - 1e-9), found + (1 - found) * 1e-9
    low = optimize.brentq(beyond, 0.0, inside) if beyond(0.0) > 0 else 0.0
    high = optimize.brentq(beyond, outside, 1.0) if beyond(1.0) > 0 else 1.0
    return float(low), float(high)


def _delong(x: FloatArray, other: FloatArray, found: float) -> float:
    """DeLong's variance: how the share of the other kind below differs from row to row."""
    variance = 0.0
    below = (other.cumsum() - other / 2) / other.sum()
    above = 1 - (x.cumsum() - x / 2) / x.sum()
    for count, place in ((x, below), (other, above)):
        if count.sum() > 1:
            spread = float(count @ (place - found) ** 2)
            variance += spread / ((count.sum() - 1) * count.sum())
    return variance


def p_value(x: FloatArray, other: FloatArray, deff: float) -> float:
    """Two-sided probability of so uneven an area if the outcome were dealt out by chance.

    Parameters
    ----------
    x, other, deff
        As in `area_limits`; rows are dealt out as if they were 1 / deff as many.

    Returns
    -------
    float
        From 9,999 rearrangements with a fixed seed, so never below 1e-4; NaN where either kind has
        no row.
    """
    found = area(x, other)
    if np.isnan(found):
        return float("nan")
    deff = max(deff, float((x + other).sum()) / _MOST_DEALT)
    bands = np.rint((x + other) / deff).astype("int64")
    n_yes = min(max(round(x.sum() / deff), 1), int(bands.sum()) - 1)
    if n_yes < 1:
        return 1.0
    dealt = np.random.default_rng(_SEED).multivariate_hypergeometric(
        bands, n_yes, size=_REARRANGED, method="marginals"
    )
    above = dealt @ (bands.cumsum() - bands / 2) - n_yes**2 / 2
    areas = above / (n_yes * (bands.sum() - n_yes))
    as_uneven = np.abs(areas - 0.5) >= abs(found - 0.5) - 1e-9
    return float((1 + as_uneven.sum()) / (1 + _REARRANGED))
