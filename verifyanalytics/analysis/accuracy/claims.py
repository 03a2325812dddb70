"""The vendor's claimed false-match rate, held against labelled rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from verifyanalytics.analysis.accuracy.rates import error_rates
from verifyanalytics.analysis.base.intervals import FloatArray, poisson_exact, ratio
from verifyanalytics.analysis.base.rates import effective_size
from verifyanalytics.analysis.base.rows import OWN_FMR
from verifyanalytics.analysis.base.statistic import statistic

K_ROWS = (1, 3, 10)
"""The rows of `label_free_bounds`."""


# ------------------------------------------------------------------ the vendor's claim


@statistic("accuracy.claim_audit")
def claim_audit(truth: Any, *, assume_random: bool = False) -> pd.DataFrame:
    """How many times the vendor's claim the false-match rate really is: which k row to believe.

    Parameters
    ----------
    truth : frame
        From `join_labels`.
    assume_random : bool
        See `error_rates`.

    Returns
    -------
    DataFrame
        Per regime and vendor threshold: `nominal_fmr`, `threshold`, `n_nonmated`,
        `n_false_matches`, `k_hat` = FMR / nominal (rows weighted as in `error_rates`), `k_low`,
        `k_high` (exact Poisson, 95 %, on the effective number of rows; at the 1e-3 threshold
        withheld scores may have matched, and k_high counts them), `believe`: the smallest row of
        `label_free_bounds` that k_high does not exceed, `none` when it is above 10 (label more, or
        do not trust the claim); `reason`.

    See Also
    --------
    error_rates, va.bounds.label_free

    Examples
    --------
    >>> row = {"code": 10000, "score": 85.0, "threshold_1e_3": 60.0, "threshold_1e_4": 70.0,
    ...        "threshold_1e_5": 80.0, "threshold_1e_6": 90.0, "alive": True, "result": True}
    >>> low, high = ({"score": score, "mated": False} for score in (50.0, 65.0))
    >>> truth = pd.DataFrame([row | {"mated": True}, row | high] + [row | low] * 99)
    >>> found = claim_audit(truth)[["n_nonmated", "n_false_matches", "k_hat", "k_low", "k_high"]]
    >>> found.round(1).head(1)
       n_nonmated  n_false_matches  k_hat  k_low  k_high
    0         100                1   10.0    0.3    55.7
    """
    table = error_rates(truth, assume_random=assume_random)
    rate, n, claimed = (
        table[name].to_numpy(dtype=float) for name in ("fmr", "n_nonmated", "nominal_fmr")
    )
    withheld = table["n_nonmated_withheld"].to_numpy(dtype=float)
    hidden = np.where(claimed > OWN_FMR, ratio(withheld, n), 0.0)
    limits = [
        _poisson_rate(table, np.minimum(np.nan_to_num(r), 1.0)) for r in (rate, rate + hidden)
    ]
    low, high = limits[0][0], np.minimum(limits[1][1], 1.0)
    result = table[["regime", "nominal_fmr", "threshold", "n_nonmated", "n_false_matches"]].copy()
    silent = table["reason"].to_numpy() != ""
    for name, value in (("k_hat", rate), ("k_low", low), ("k_high", high)):
        result[name] = np.where(silent, np.nan, value / claimed)
    words = [next((str(k) for k in K_ROWS if h <= k), "none") for h in result["k_high"]]
    result["believe"] = pd.Series(words, index=result.index, dtype="str").where(~silent, "")
    return result.assign(reason=table["reason"])


def _poisson_rate(table: pd.DataFrame, rate: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Exact limits of a rate whose errors are rare, on the effective number of rows."""
    n, deff, carried = (
        table[name].to_numpy(dtype=float) for name in ("n_nonmated", "fmr_deff", "fmr_guard")
    )
    size = effective_size(rate, n, deff, carried)
    low, high = poisson_exact(rate * size)
    return ratio(low, size), ratio(high, size)
