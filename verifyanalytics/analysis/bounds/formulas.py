"""Bounds that need no label: formulas on counts, from the vendor's claim times a factor k.

Rows below the 1e-3 threshold bound the number of strangers, strangers times the claim bound the
zero-effort false matches above, and rows below a threshold bound the owners turned away. A bound
covers zero-effort strangers only; neither liveness nor risk is applied.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from verifyanalytics.analysis.base.intervals import (
    FloatArray,
    negative_binomial_quantile,
    poisson_quantile,
    ratio,
)
from verifyanalytics.analysis.base.regimes import implied_fmr, score_at_fmr
from verifyanalytics.analysis.base.rows import OWN_THRESHOLD
from verifyanalytics.schema import THRESHOLD_COLUMNS

COVERS = (
    "zero-effort false matches only: no presentation or injection attack, no chosen look-alike; "
    "liveness and risk are not applied"
)
"""What every bound on false matches is silent about; on each table and chart."""

BELOW = "below_calibration"
"""Reason of a missing false-match bound: the vendor claims nothing below its 1e-3 threshold."""

_Q = 0.975
_MOST = 2.0**53


def impostors_high(n_below: Any, k: float, cap: Any = np.inf, m: Any = 1.0) -> FloatArray:
    """Upper limit (97.5 %) for strangers among the rows, given how many lie below 1e-3.

    A stranger lies below with probability 1 − k·1e-3, so those above are the failures before the
    (n+1)-th that lies below: n + NegBin quantile. n/(1 − k·1e-3) would only be a mean. Where one
    person makes m tries, persons lie below or above: ⌈m·NegBin(n/m + 1)⌉, if that is more.

    Examples
    --------
    >>> float(impostors_high(1500, 1)), float(impostors_high(1500, 1, m=10.0))
    (1504.0, 1510.0)
    """
    low = np.asarray(n_below, dtype=float)
    tries = np.maximum(np.asarray(m, dtype=float), 1.0)
    p = 1 - k * 1e-3
    alone = negative_binomial_quantile(_Q, low + 1, p)
    together = np.ceil(tries * negative_binomial_quantile(_Q, low / tries + 1, p) - 1e-9)
    high: FloatArray = np.minimum(low + np.maximum(alone, together), cap)
    return high


def false_matches_high(impostors: Any, rate: Any, m: Any = 1.0) -> FloatArray:
    """Upper limit (97.5 %) for false matches of so many strangers at so small a rate.

    Tries of one stranger match or fail together at worst: m tries a person make ⌈m·Poisson(·/m)⌉.
    Where that is less than for independent tries (a mean so small that no person is expected to
    match), the latter stands.

    Examples
    --------
    >>> float(false_matches_high(1504, 1e-4)), float(false_matches_high(1504, 1e-4, 3.0))
    (1.0, 3.0)
    """
    tries = np.maximum(np.asarray(m, dtype=float), 1.0)
    mean = np.asarray(impostors, dtype=float) * np.minimum(1.0, np.asarray(rate, dtype=float))
    mean = np.nan_to_num(mean)
    together = np.ceil(tries * poisson_quantile(_Q, mean / tries) - 1e-9)
    high: FloatArray = np.maximum(together, poisson_quantile(_Q, mean))
    return high


def claimed(points: FloatArray, threshold: Any) -> FloatArray:
    """The vendor's claim at a threshold: NaN below 1e-3, the smallest claim above 1e-6."""
    t = np.broadcast_to(np.asarray(threshold, dtype=float), points.shape[:1])
    return implied_fmr(points, np.minimum(t, points[:, 3]))


def with_bounds(
    counts: pd.DataFrame, k: Sequence[float], impostor_share: float | None = None
) -> pd.DataFrame:
    """Turn counts at thresholds into bounds for each k: the finishing half of `label_free`.

    Parameters
    ----------
    counts : DataFrame
        `regime` and any keys, `threshold`, the regime's four thresholds, `n_compared`,
        `n_withheld`, `n_below_1e_3`, `n_below`, `attempts_per_person`.
    k, impostor_share
        As in `label_free`.
    """
    bounds = [_bound(counts, factor, impostor_share) for factor in k]
    return pd.concat(bounds, ignore_index=True).drop(columns=list(THRESHOLD_COLUMNS))


def _bound(at: pd.DataFrame, k: float, share: float | None) -> pd.DataFrame:
    points = at[list(THRESHOLD_COLUMNS)].to_numpy(dtype=float)
    n, n3, n_below = (
        at[c].to_numpy(dtype=float) for c in ("n_compared", "n_below_1e_3", "n_below")
    )
    claim = claimed(points, at["threshold"]) if len(at) else np.zeros(0)
    m = at["attempts_per_person"].to_numpy(dtype=float)
    tries = np.nan_to_num(m, nan=1.0)
    impostors = np.minimum(impostors_high(n3, k, sample_cap(n, share), tries), n)
    known = ~np.isnan(claim)
    rate = np.nan_to_num(k * claim)
    at = at.assign(claimed_fmr=claim, k=k, impostors_high=impostors)
    high = false_matches_high(impostors, rate, tries)
    at["false_matches_high"] = np.where(known, np.minimum(high, impostors), np.nan)
    three = np.minimum(false_matches_high(impostors, rate, 3.0), impostors)
    at["false_matches_high_m3"] = np.where(known & np.isnan(m), three, np.nan)
    at["match_rate"] = ratio(n - n_below, n)
    # under the own 1e-4 threshold a withheld score may be above the one asked for
    hidden = np.where(at["threshold"] < at[OWN_THRESHOLD], at["n_withheld"], 0).astype(float)
    at["fnmr_low"] = _fnmr_low(n, n3, n_below, claim, k, impostors, tries, share, hidden)
    at["fnmr_high"] = ratio(n_below, n)
    at["impostor_share"] = np.nan if share is None else share
    at["reason"] = np.where(known, "", BELOW)
    return at.assign(covers=COVERS)


def _fnmr_low(
    n: FloatArray,
    n3: FloatArray,
    n_below: FloatArray,
    claim: FloatArray,
    k: float,
    impostors: FloatArray,
    m: FloatArray,
    share: float | None,
    hidden: FloatArray,
) -> FloatArray:
    """Owners surely below: rows between 1e-3 and the threshold that strangers cannot explain.

    `hidden` rows count as below 1e-3, yet may be owners who match: owners they are then, not below.
    """
    between = np.maximum(n_below - n3, 0.0)
    strangers = false_matches_high(impostors, k * (1e-3 - np.nan_to_num(claim, nan=1e-3)), m)
    owners = np.minimum(n - impostors + hidden, n)
    with np.errstate(divide="ignore", invalid="ignore"):
        low = np.where(owners > 0, np.maximum(0.0, between - strangers) / owners, 0.0)
        if share is not None:
            capped = (n_below - hidden - share * n) / (n - share * n)
            low = np.maximum(low, np.nan_to_num(capped))
    return np.where(n > 0, np.minimum(low, ratio(n_below, n)), np.nan)


def smallest_threshold(
    points: FloatArray, impostors: float, k: float, m: float, budget: float
) -> tuple[float, float, float]:
    """Return the smallest threshold within a budget, the claim there and the bound; or NaN."""
    total = math.floor(min(budget, _MOST))
    # P(Poisson(mean) ≤ c) ≥ 97.5 % up to this mean: the tail of the gamma distribution
    together = m * float(special.gammainccinv(math.floor(total / m + 1e-12) + 1, _Q))
    mean = min(together, float(special.gammainccinv(total + 1, _Q)))
    target = math.inf if impostors == 0 else mean / (k * impostors)
    if target < 1e-6:
        return math.nan, math.nan, math.nan
    threshold = float(points[0] if target >= 1e-3 else score_at_fmr(points, target))
    while True:
        claim = float(claimed(points[None], threshold)[0])
        high = float(false_matches_high(impostors, k * claim, m))
        if high <= budget:
            return threshold, claim, high
        # the last digit of the inverse fell on the wrong side
        threshold = math.nextafter(threshold, math.inf)


def sample_cap(n: Any, share: float | None) -> Any:
    """Return how many of n rows the caller allows to be strangers."""
    return np.inf if share is None else np.ceil(share * n - 1e-9)
