"""Whether groups of people fare differently, beyond what chance makes of small groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from verifyanalytics.analysis.accuracy import error_rates
from verifyanalytics.analysis.intervals import (
    FloatArray,
    benjamini_hochberg,
    newcombe,
    rate_interval,
)

By = str | Sequence[str]

_SIDES = (("fmr", "nonmated", "n_false_matches"), ("fnmr", "mated", "n_false_nonmatches"))


def differentials(
    truth: Any,
    by: By,
    threshold: float | None = None,
    min_group: int = 5,
    assume_random: bool = False,
    n_null: int = 999,
    seed: int = 0,
) -> pd.DataFrame:
    """How error rates differ between groups, beside how they would differ by chance alone.

    Parameters
    ----------
    truth : frame
        From `join_labels`.
    by : str or sequence of str
        The groups.
    threshold : float, optional
        Default: each regime's own 1e-4 threshold.
    min_group : int
        A group with fewer labelled rows is hidden, and so is the second smallest when the total
        would reveal it.
    assume_random : bool
        See `error_rates`.
    n_null, seed : int
        Draws of the null spread.

    Returns
    -------
    DataFrame
        Per regime, rate (`fmr`, `fnmr`) and group: `n_errors`, `n_rows`, `rate` with limits (a zero
        is a bound), `hidden`; `difference` to all others with Newcombe's limits, `p` and
        Benjamini–Hochberg `p_adjusted`. The summaries stand in every row of the rate: `max_min`,
        `max_geomean`, `gini`, each with `…_null_high`: what 95 % of worlds without any difference
        stay below. Ratios with a zero rate use its upper limit instead and are bounds
        (`is_bound`). Two-sided p from the exact test on the 2×2 table.

    References
    ----------
    ISO/IEC 19795-10:2024; Benjamini & Hochberg (1995).
    """
    keys = [by] if isinstance(by, str) else list(by)
    table = error_rates(truth, threshold, by=keys, assume_random=assume_random)
    if threshold is None:
        table = table[table["nominal_fmr"] == 1e-4]
    rng = np.random.default_rng(seed)
    parts = []
    for _, part in table.groupby("regime", sort=True):
        for rate, side_, x in _SIDES:
            parts.append(_spread(part, keys, rate, f"n_{side_}", x, min_group, n_null, rng))
    result = pd.concat(parts, ignore_index=True)
    result["p_adjusted"] = benjamini_hochberg(result["p"].to_numpy())
    return result


def _spread(
    part: pd.DataFrame,
    keys: list[str],
    rate: str,
    n_name: str,
    x_name: str,
    min_group: int,
    n_null: int,
    rng: np.random.Generator,
) -> pd.DataFrame:
    part = part[part[n_name] > 0].reset_index(drop=True)
    n, x = part[n_name].to_numpy(dtype=float), part[x_name].to_numpy(dtype=float)
    hidden = _hidden(n, min_group)
    table = part[["regime", *keys]].assign(measure=rate, n_rows=part[n_name], n_errors=part[x_name])
    for end in ("", "_low", "_high"):
        table[f"rate{end}"] = part[f"{rate}{end}"]
    others_x, others_n = x.sum() - x, n.sum() - n
    limits = newcombe(x, n, others_x, others_n)
    with np.errstate(divide="ignore", invalid="ignore"):
        table["difference"] = x / n - others_x / others_n
    table["difference_low"], table["difference_high"] = limits.low, limits.high
    table["p"] = [
        float(stats.fisher_exact([[a, b - a], [c, d - c]])[1]) if d else np.nan
        for a, b, c, d in zip(x, n, others_x, others_n, strict=True)
    ]
    shown = ~hidden
    seen = _summaries(x[shown], n[shown])
    pooled = x.sum() / n.sum() if n.sum() else np.nan
    null = np.full((n_null, 3), np.nan)
    if shown.sum() > 1 and pooled == pooled:
        draws = rng.binomial(n[shown].astype(int), pooled, size=(n_null, int(shown.sum())))
        null = np.array([_summaries(d.astype(float), n[shown])[:3] for d in draws])
    for i, name in enumerate(("max_min", "max_geomean", "gini")):
        table[name] = seen[i]
        table[f"{name}_null_high"] = float(np.quantile(null[:, i], 0.95)) if n_null else np.nan
    table["is_bound"], table["hidden"] = bool(seen[3]), hidden
    ends = ("", "_low", "_high")
    told = [*(f"rate{e}" for e in ends), *(f"difference{e}" for e in ends), "p"]
    table[["n_errors", "n_rows"]] = table[["n_errors", "n_rows"]].astype("Int64")
    table.loc[hidden, ["n_errors", "n_rows"]] = pd.NA
    table.loc[hidden, told] = np.nan
    if part[rate].isna().any():  # the labels are a selection: nothing is said
        table[[*told, "max_min", "max_geomean", "gini"]] = np.nan
    table["reason"] = part["reason"].astype("str")
    return table.astype({"measure": "str"})


def _hidden(n: FloatArray, min_group: int) -> np.ndarray:
    hidden = n < min_group
    if hidden.sum() == 1 and n.size > 1:  # the total would reveal it
        rest = np.where(hidden, np.inf, n)
        hidden[int(np.argmin(rest))] = True
    return hidden


def _summaries(x: FloatArray, n: FloatArray) -> tuple[float, float, float, bool]:
    """max/min, max/geometric mean, Gini of the rates; zero rates become their upper limit."""
    if x.size < 2:
        return np.nan, np.nan, np.nan, False
    rate = x / n
    zero = rate == 0
    if zero.all():
        return np.nan, np.nan, 0.0, True
    bound = np.where(zero, rate_interval(x, n).high, rate)
    top = float(rate.max())
    gini = float(np.abs(rate[:, None] - rate[None, :]).sum() / (2 * x.size**2 * rate.mean()))
    correction = x.size / (x.size - 1)
    geomean = float(np.exp(np.log(bound).mean()))
    return top / float(bound.min()), top / geomean, gini * correction, bool(zero.any())
