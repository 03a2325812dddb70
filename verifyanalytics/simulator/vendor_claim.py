"""The vendor's claim, and impostors of whom it is true.

F(t), the claimed false-match rate at score t, is log-linear between the four thresholds. The score
of a zero-effort impostor is drawn by its inverse, so that P(score >= t) = k · F(t) at every score
t with two decimals from the 1e-3 threshold upwards: with k = 1 the vendor is right, with k = 3 the
true rate is three times the claimed one. Below, a Weibull body meets the tail in value and slope.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Thresholds = tuple[float, float, float, float]
"""Scores of the claimed rates 1e-3, 1e-4, 1e-5, 1e-6."""


def claimed_fmr(score: float, thresholds: Thresholds) -> float:
    """Return F(score): what the vendor claims, log-linear through its four points.

    Above the last threshold the last slope goes on; below the first there is no claim: NaN.

    Examples
    --------
    >>> claimed_fmr(75.0, (60, 70, 80, 90)) == 10**-4.5
    True
    """
    if score < thresholds[0]:
        return math.nan
    if score > thresholds[3]:
        per_point = 1 / (thresholds[3] - thresholds[2])
        return float(10.0 ** -(6 + (score - thresholds[3]) * per_point))
    level = float(np.interp(score, thresholds, (3.0, 4.0, 5.0, 6.0)))
    return float(10.0**-level)


def nonmated_scores(u: ArrayLike, thresholds: Thresholds, k: float) -> Floats:
    """Turn uniform numbers into scores of zero-effort impostors: the inverse of `World.fmr`.

    Parameters
    ----------
    u : array of float
        In (0, 1); a small one becomes a high score.
    thresholds : tuple of four floats
        Scores of the claimed rates 1e-3 … 1e-6.
    k : float
        True over claimed rate.

    Returns
    -------
    array of float64
        Scores, 0–100, not yet rounded down to two decimals.
    """
    level = -np.log10(np.asarray(u, dtype=np.float64))
    body, power = body_of(thresholds, k)
    scores = thresholds[0] * (np.maximum(level, 0.0) / body) ** (1 / power)
    tail = level >= body
    claimed = level[tail] + math.log10(k)
    high = np.interp(claimed, (3.0, 4.0, 5.0, 6.0), thresholds)
    scores[tail] = high + np.maximum(claimed - 6.0, 0.0) * (thresholds[3] - thresholds[2])
    return np.minimum(scores, 100.0)


def body_of(thresholds: Thresholds, k: float) -> tuple[float, float]:
    """Return −log10 P(score >= t₁ₑ₋₃) and the Weibull power that makes body and tail smooth."""
    at_join = 3.0 - math.log10(k)
    return at_join, thresholds[0] / (at_join * (thresholds[1] - thresholds[0]))
