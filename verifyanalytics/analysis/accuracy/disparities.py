"""How error rates differ between groups, beside what chance makes of small groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import narwhals as nw
import numpy as np
import pandas as pd
from scipy import stats

from verifyanalytics.analysis.accuracy.rates import KINDS, ErrorKind, error_rates
from verifyanalytics.analysis.base.groups import add_up, group_counts
from verifyanalytics.analysis.base.intervals import (
    FloatArray,
    benjamini_hochberg,
    newcombe,
    rate_interval,
    ratio,
)
from verifyanalytics.analysis.base.labelled import labelled_rows
from verifyanalytics.analysis.base.rates import effective_size
from verifyanalytics.analysis.base.regimes import name_regimes, regime_columns
from verifyanalytics.analysis.base.rows import OWN_FMR
from verifyanalytics.analysis.base.statistic import statistic
from verifyanalytics.arguments import number


class Groups(NamedTuple):
    """Rates of groups: how many independent comparisons each rests on, and what it weighs."""

    rate: FloatArray
    size: FloatArray
    weight: FloatArray

    def only(self, chosen: np.ndarray) -> Groups:
        """Return some of them."""
        return Groups(*(column[chosen] for column in self))


_SUMMARIES = ("max_min", "max_geomean", "gini")


@statistic("accuracy.differentials")
def differentials(
    truth: Any,
    by: str | Sequence[str],
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

    Notes
    -----
    Rates are weighted as in `error_rates`; counts are not. Where persons repeat or rows are
    weighted, limits, p and null spread rest on the effective numbers n / DEFF, not on rows.

    References
    ----------
    ISO/IEC 19795-10:2024; Benjamini & Hochberg (1995).

    See Also
    --------
    error_rates, compare

    Examples
    --------
    >>> truth = pd.DataFrame({"score": [50.0, 80] * 10, "mated": [False, True] * 10,
    ...                       "camera": ["front"] * 10 + ["rear"] * 10})
    >>> truth.loc[1, "score"] = 40.0
    >>> differentials(truth, "camera", 70)[["camera", "measure", "n_errors", "n_rows", "rate"]]
      camera measure  n_errors  n_rows  rate
    0  front     fmr         0       5   0.0
    1   rear     fmr         0       5   0.0
    2  front    fnmr         1       5   0.2
    3   rear    fnmr         0       5   0.0
    """
    keys = [by] if isinstance(by, str) else list(by)
    least = number(min_group, "min_group", low=0, whole=True)
    draws = int(number(n_null, "n_null", low=0, whole=True))
    rng = np.random.default_rng(int(number(seed, "seed", low=0, whole=True)))
    table = error_rates(truth, threshold, by=keys, assume_random=assume_random)
    if threshold is None:
        table = table[table["nominal_fmr"] == OWN_FMR]
    if table["weighted"].any():
        table = table.merge(_weights(truth, keys), on=["regime", *keys], how="left")
    parts = []
    for _, part in table.groupby("regime", sort=True):
        for measure in KINDS:
            mine = part[part[f"n_{measure.side}"] > 0].reset_index(drop=True)
            parts.append(_spread(mine, keys, measure, least, draws, rng))
    result = pd.concat(parts, ignore_index=True)
    result["p_adjusted"] = benjamini_hochberg(result["p"].to_numpy())
    return result


def _weights(truth: Any, keys: list[str]) -> pd.DataFrame:
    """Add up the weights of each group's rows: `nonmated:m`, `mated:m`."""
    frame = labelled_rows(truth, keys).filter(nw.col("_bona_fide"))
    by = [*keys, *regime_columns(keys), "mated", "_chance"]
    table = name_regimes(group_counts(frame, by, counts={"n": None}))
    weight, mated = table["n"] / table["_chance"], table["mated"].astype(bool)
    table = table[["regime", *keys]].assign(
        **{"mated:m": weight.where(mated, 0.0), "nonmated:m": weight.where(~mated, 0.0)}
    )
    return add_up(table, ["regime", *keys])


def _spread(
    part: pd.DataFrame,
    keys: list[str],
    measure: ErrorKind,
    min_group: float,
    n_null: int,
    rng: np.random.Generator,
) -> pd.DataFrame:
    counts = part[[f"n_{measure.side}", measure.errors]].astype("Int64")
    table = part[["regime", *keys]].assign(measure=measure.rate)
    table[["n_rows", "n_errors"]] = counts.to_numpy()
    table = table.astype({"measure": "str", "n_rows": "Int64", "n_errors": "Int64"})
    for end in ("", "_low", "_high"):
        table[f"rate{end}"] = part[f"{measure.rate}{end}"]
    n = part[f"n_{measure.side}"].to_numpy(dtype=float)
    hidden = n < min_group
    if hidden.sum() == 1 and n.size > 1:  # the total would reveal it
        hidden[int(np.argmin(np.where(hidden, np.inf, n)))] = True
    groups = _groups(part, measure)
    shown = groups.only(~hidden & ~np.isnan(groups.rate))  # NaN: the labels are a selection
    table = pd.concat([table, _against_others(groups)], axis=1)
    summaries, null = _summaries(shown.rate, shown.size), _null(groups, shown, n_null, rng)
    for i, name in enumerate(_SUMMARIES):
        table[name], table[f"{name}_null_high"] = summaries[i], null[i]
    table["is_bound"], table["hidden"] = bool(summaries[3]), hidden
    table.loc[hidden, ["n_errors", "n_rows"]] = pd.NA
    rates = [c for c in table if c == "p" or c.startswith(("rate", "difference"))]
    table.loc[hidden, rates] = np.nan
    table["reason"] = part["reason"].astype("str")
    return table


def _groups(part: pd.DataFrame, measure: ErrorKind) -> Groups:
    rate, n, deff, carried = (
        part[name].to_numpy(dtype=float)
        for name in (
            measure.rate, f"n_{measure.side}", f"{measure.rate}_deff", f"{measure.rate}_guard",
        )
    )  # fmt: skip
    total = f"{measure.side}:m"
    weight = part[total].to_numpy(dtype=float) if total in part else n
    return Groups(rate, effective_size(rate, n, deff, carried), weight)


def _against_others(groups: Groups) -> pd.DataFrame:
    """Each group against all others: the difference with limits, and the exact test.

    The rate of the others is that of their rows together, so its variance is Σ w² r(1−r)/size over
    groups of weight w; they rest on (Σw)² / Σ(w²/size) comparisons.
    """
    rate, size, weight = groups
    parts = np.array([weight, weight * rate, ratio(weight**2, size)])
    total, events, squares = parts.sum(axis=1, keepdims=True) - parts
    alone = total <= 0
    other_rate = np.clip(ratio(events, total), 0.0, 1.0)
    other_size = np.where(alone, 0.0, ratio(total**2, squares))
    known = ~np.isnan(rate) & ~np.isnan(other_rate)
    found = np.full((4, rate.size), np.nan)
    found[0] = rate - other_rate
    x, m, y, n = (v[known] for v in (rate * size, size, other_rate * other_size, other_size))
    found[1:3, known] = newcombe(np.minimum(x, m), m, np.minimum(y, n), n)
    whole = np.round([x, m - x, y, n - y]).astype(int).T  # the exact test wants whole numbers
    found[3, known] = [stats.fisher_exact(four.reshape(2, 2))[1] for four in whole]
    names = ("difference", "difference_low", "difference_high", "p")
    return pd.DataFrame(dict(zip(names, found, strict=True)))


def _null(
    groups: Groups, shown: Groups, n_null: int, rng: np.random.Generator
) -> tuple[float, ...]:
    """What 95 % of the summaries stay below when all groups have the pooled rate."""
    pooled = ratio((groups.weight * groups.rate).sum(), groups.weight.sum())
    if shown.rate.size < 2 or not n_null or np.isnan(pooled):
        return (np.nan,) * len(_SUMMARIES)
    size = np.maximum(np.round(shown.size), 1)
    draws = rng.binomial(size.astype(int), float(pooled), size=(n_null, size.size))
    found = np.array([_summaries(x / size, size)[:3] for x in draws])
    return tuple(np.quantile(found, 0.95, axis=0).tolist())


def _summaries(rate: FloatArray, size: FloatArray) -> tuple[float, float, float, bool]:
    """max/min, max/geometric mean, Gini of the rates; zero rates become their upper limit."""
    if rate.size < 2:
        return np.nan, np.nan, np.nan, False
    zero = rate == 0
    if zero.all():
        return np.nan, np.nan, 0.0, True
    bound = np.where(zero, rate_interval(np.zeros(size.shape), size).high, rate)
    top, n = float(rate.max()), rate.size
    gini = float(np.abs(rate[:, None] - rate[None, :]).sum() / (2 * n**2 * rate.mean()))
    geomean = float(np.exp(np.log(bound).mean()))
    return top / float(bound.min()), top / geomean, gini * n / (n - 1), bool(zero.any())
