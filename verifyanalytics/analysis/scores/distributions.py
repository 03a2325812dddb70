"""Where the scores stand against the vendor's thresholds: regimes, histogram, margins.

Nothing is pooled across regimes. Rows whose thresholds are missing or do not rise are the regime
`incomplete`: counted, never rated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from verifyanalytics.analysis.base.frames import lazy_rows
from verifyanalytics.analysis.base.groups import (
    group_counts,
    group_keys,
    regime_counts,
    regime_keys,
)
from verifyanalytics.analysis.base.periods import utc_times
from verifyanalytics.analysis.base.regimes import INCOMPLETE, REGIME, name_regimes
from verifyanalytics.analysis.base.rows import (
    OPTIONAL,
    REQUIRED,
    answered,
    complete,
    scored,
    withheld,
)
from verifyanalytics.analysis.base.statistic import statistic
from verifyanalytics.analysis.scores.matches import stacked
from verifyanalytics.arguments import number, numbers
from verifyanalytics.errors import UsageError
from verifyanalytics.schema import THRESHOLD_COLUMNS, THRESHOLD_LEVELS

SCORE_RANGE = (0.0, 100.0)
"""The vendor's range of scores, both ends included."""

_FEW = 4096

_BINS = ("regime", "score_low", "score_high", "n", "share", "n_scored", "n_without_score", "bin")
_MARGIN = (
    "regime", "level", "threshold", "width", "n_below", "n_above", "n", "share_below",
    "share_above",
)  # fmt: skip


@statistic("scores.regimes")
def regimes(v: Any) -> pd.DataFrame:
    """List the threshold regimes of a frame, with their counts and when they were seen.

    Parameters
    ----------
    v : frame of verifications
        pandas, Polars, Arrow, a DuckDB relation or another lazy frame.

    Returns
    -------
    DataFrame
        One row a regime, by first appearance: `regime`, `req_key`, the four thresholds, `n_rows`,
        `n_answered`, `n_scored`, `n_withheld`, `n_without_score` (answered, no score; the withheld
        among them), `first_at`, `last_at` (UTC; NaT unknown). The regime `incomplete` holds rows
        whose thresholds are not all there or do not rise, faults of the service among them.

    See Also
    --------
    vendor_thresholds, verifyanalytics.stability.regime_changes

    Examples
    --------
    >>> v = pd.DataFrame({"code": 10000, "sub_code": 0, "score": [65.0, None],
    ...     "threshold_1e_3": 60, "threshold_1e_4": 70, "threshold_1e_5": 80, "threshold_1e_6": 90})
    >>> regimes(v)[["regime", "n_answered", "n_scored"]].values.tolist()
    [['unknown 60/70/80/90', 2, 1]]
    """
    frame = lazy_rows(v, (*REQUIRED, "sub_code"), (*OPTIONAL, "occurred_at"))
    moment = nw.col("occurred_us")
    counted = {"n_rows": None, "n_answered": answered(), "n_scored": scored()}
    table = regime_counts(
        frame,
        counts=counted | {"n_withheld": withheld()},
        least={"first_at": moment},
        most={"last_at": moment},
    ).sort_values(["first_at", "regime"], kind="stable", ignore_index=True)
    n_without_score = table["n_answered"] - table["n_scored"]
    table.insert(table.columns.get_loc("n_withheld") + 1, "n_without_score", n_without_score)
    for name in ("first_at", "last_at"):
        table[name] = utc_times(table[name])
    return table


@statistic("scores.histogram")
def histogram(
    v: Any, bin_width: float = 1.0, by: str | Sequence[str] | None = None
) -> pd.DataFrame:
    """Count scores per bin and regime; every vendor threshold is an edge.

    Parameters
    ----------
    v : frame of verifications
    bin_width : float
        In score points, 0.01–100 in steps of 0.01. Edges are its multiples and the own thresholds.
    by : str or sequence of str, optional
        Columns to split by, such as `result` or `ctx_channel`.

    Returns
    -------
    DataFrame
        One row a group, regime and bin, empty bins included: the `by` columns, `regime`,
        `req_key`, the four thresholds, `score_low`, `score_high` (bin [low, high); the last one
        includes 100), `n`, `share` of the group's scored rows (NaN when there is none), and per
        group and regime `n_scored` and `n_without_score` (answered, no score). Scores outside
        0–100 stand in bins from −inf or to inf, when there are any.

    Raises
    ------
    MissingColumnError, UsageError
        A needed column is missing; a bin width that cannot be.

    See Also
    --------
    match_rates, margins

    Examples
    --------
    >>> v = pd.DataFrame({"code": 10000, "sub_code": 0, "score": [59.9, 60.0, 100.0, None],
    ...     "threshold_1e_3": 60, "threshold_1e_4": 70, "threshold_1e_5": 80, "threshold_1e_6": 90})
    >>> histogram(v, bin_width=50)[["score_low", "score_high", "n"]].values.tolist()
    [[0.0, 50.0, 0.0], [50.0, 60.0, 1.0], [60.0, 70.0, 1.0], [70.0, 80.0, 0.0], \
[80.0, 90.0, 0.0], [90.0, 100.0, 1.0]]
    """
    keys = group_keys(by, _BINS)
    grid = _grid(bin_width)
    frame = lazy_rows(v, (*REQUIRED, "sub_code", *keys), OPTIONAL).filter(answered())
    edges = np.union1d(grid, _first_thresholds(frame))
    table = _binned(frame, edges, keys)
    known = _known_thresholds(table)
    if not np.isin(known, edges).all():  # a later row has a threshold that no first one had
        edges = np.union1d(grid, known)
        table = _binned(frame, edges, keys)
    groups = [
        _group_bins(group, edges, grid, keys)
        for _, group in table.groupby(_front(keys), dropna=False, sort=False)
    ]
    return pd.concat(groups, ignore_index=True) if groups else _group_bins(table, edges, grid, keys)


@statistic("scores.margins")
def margins(
    v: Any, widths: Sequence[float] = (1, 2, 5), by: str | Sequence[str] | None = None
) -> pd.DataFrame:
    """Count how much stands just below and just above each vendor threshold, per regime.

    Parameters
    ----------
    v : frame of verifications
    widths : sequence of float
        Score points on either side.
    by : str or sequence of str, optional
        Columns to split by.

    Returns
    -------
    DataFrame
        One row a group, regime, level and width: the `by` columns, `regime`, `level`, `threshold`,
        `width`, `n_below` (threshold − width ≤ score < threshold), `n_above` (threshold ≤ score <
        threshold + width), `n` (scored plus withheld), `share_below`, `share_above` (NaN when n is
        0). Rows of no complete regime have no margin and are left to `regimes`.

    Raises
    ------
    MissingColumnError, UsageError
        A needed column is missing; a width that is not above 0.

    See Also
    --------
    histogram, what_if

    Examples
    --------
    >>> v = pd.DataFrame({"code": 10000, "sub_code": 0, "score": [69.5, 70.0, 85.0],
    ...     "threshold_1e_3": 60, "threshold_1e_4": 70, "threshold_1e_5": 80, "threshold_1e_6": 90})
    >>> table = margins(v, widths=1)
    >>> table.loc[table["level"] == "1e-4", ["n_below", "n_above", "n"]].values.tolist()
    [[1, 1, 3]]
    """
    widths = numbers(widths, "widths", above=0)
    keys = group_keys(by, _MARGIN)
    frame = lazy_rows(v, (*REQUIRED, "sub_code", *keys), OPTIONAL)
    frame = frame.filter(answered(), complete())
    levels = [
        (level, name, width)
        for level, name in zip(THRESHOLD_LEVELS, THRESHOLD_COLUMNS, strict=True)
        for width in widths
    ]
    score, near = nw.col("score"), {"n": scored() | withheld()}
    for level, name, width in levels:
        point = nw.col(name)
        near[f"below {level} {width}"] = (score >= point - width) & (score < point)
        near[f"above {level} {width}"] = (score >= point) & (score < point + width)
    table = name_regimes(group_counts(frame, regime_keys(keys), counts=near))
    long = stacked([
        table[[*keys, "regime"]].assign(
            level=level, threshold=table[name], width=width,
            n_below=table[f"below {level} {width}"], n_above=table[f"above {level} {width}"],
            n=table["n"],
        )
        for level, name, width in levels
    ])  # fmt: skip
    for side in ("below", "above"):
        long[f"share_{side}"] = long[f"n_{side}"] / long["n"].where(long["n"] > 0)
    return long


# ------------------------------------------------------------------ histograms


def _front(keys: list[str]) -> list[str]:
    return list(dict.fromkeys([*keys, "regime", *REGIME]))


def _grid(bin_width: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    low, high = SCORE_RANGE
    width = number(bin_width, "bin_width", low=0.01, high=high - low)
    if round(width, 2) != width:
        raise UsageError(f"bin_width must be in steps of 0.01 score points; {width:g} was given")
    multiples = np.round(np.arange(low, high, width), 2)  # 3 · 0.1 is meant to be 0.3
    return np.append(multiples[multiples < high], high)


def _binned(frame: nw.LazyFrame[Any], edges: Any, keys: list[str]) -> pd.DataFrame:
    counted = {"n": None, "n_above": nw.col("score") > SCORE_RANGE[1]}
    table = regime_counts(frame, keys, counts=counted, edges=edges)
    scored_rows, n = table["bin"] >= 0, table["n"]
    return table.assign(n=n.where(scored_rows, 0), n_without_score=n.where(~scored_rows, 0))


def _first_thresholds(frame: nw.LazyFrame[Any]) -> Any:
    """Guess the thresholds from a few rows, so that one pass over all of them is mostly enough."""
    return _known_thresholds(regime_counts(frame.head(_FEW), counts={}))


def _known_thresholds(table: pd.DataFrame) -> Any:
    whole = table.loc[table["regime"] != INCOMPLETE, list(THRESHOLD_COLUMNS)]
    points = np.unique(whole.to_numpy(dtype=float))
    return points[(points > SCORE_RANGE[0]) & (points < SCORE_RANGE[1])]


def _group_bins(group: pd.DataFrame, edges: Any, grid: Any, keys: list[str]) -> pd.DataFrame:
    """Lay out one group's counts: its own edges, empty bins filled in, both ends closed."""
    own = np.union1d(grid, np.intersect1d(edges, _known_thresholds(group)))
    scored = group[group["bin"] >= 0]
    n = np.zeros(len(edges) + 1, dtype="int64")
    np.add.at(n, scored["bin"].to_numpy(), scored["n"].to_numpy())
    n_above = int(scored["n_above"].sum())
    n[-2] += n[-1] - n_above  # exactly 100 belongs to the last bin
    inner = np.add.reduceat(n[1:-1], np.searchsorted(edges[:-1], own[:-1]))
    low, high = np.r_[-np.inf, own], np.r_[own, np.inf]
    bins = pd.DataFrame({"score_low": low, "score_high": high, "n": np.r_[n[0], inner, n_above]})
    bins = bins[np.isfinite(low) & np.isfinite(high) | (bins["n"] > 0)]
    n_scored = int(n[0] + inner.sum() + n_above)
    bins["share"] = bins["n"] / n_scored if n_scored else np.nan
    bins["n_scored"] = n_scored
    bins["n_without_score"] = int(group["n_without_score"].sum())
    for at, name in enumerate(_front(keys)):
        value = group[name].iloc[0] if len(group) else None
        values = pd.Series([value] * len(bins), index=bins.index, dtype=group[name].dtype)
        bins.insert(at, name, values)
    return bins if len(group) else bins.iloc[:0]
