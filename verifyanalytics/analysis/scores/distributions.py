"""Where do the scores stand against the vendor's thresholds, regime by regime.

A score is a match iff `score >= threshold`. Rows are the answered ones; the denominator of every
match rate is scored plus withheld rows (`rows.withheld`: compared, but the score was not told:
a non-match). Nothing is pooled across regimes, except at equal `nominal_fmr`, the false-match rate
the vendor claims. Rows whose thresholds are missing or do not rise are the regime `incomplete`:
counted, never rated.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from verifyanalytics.analysis.base import intervals, rows
from verifyanalytics.analysis.base.frames import lazy_rows
from verifyanalytics.analysis.base.groups import add_up, bin_counts, group_counts
from verifyanalytics.analysis.base.keys import group_keys
from verifyanalytics.analysis.base.periods import TZ, Every, utc_times
from verifyanalytics.analysis.base.regimes import (
    INCOMPLETE,
    REGIME,
    implied_fmr,
    name_regimes,
    threshold_at_fmr,
)
from verifyanalytics.analysis.base.rows import OPTIONAL, OWN_THRESHOLD, REQUIRED, answered
from verifyanalytics.analysis.base.statistic import statistic
from verifyanalytics.analysis.scores.swap_sets import margins, what_if
from verifyanalytics.arguments import number, numbers
from verifyanalytics.errors import UsageError
from verifyanalytics.schema import THRESHOLD_COLUMNS, THRESHOLD_LEVELS

__all__ = [
    "histogram",
    "margins",
    "match_rates",
    "regimes",
    "vendor_thresholds",
    "what_if",
]

ALL_REGIMES = "all"
"""The regime of rates at a nominal FMR: every complete regime, each at its own score."""

SCORE_RANGE = (0.0, 100.0)
"""The vendor's range of scores, both ends included."""

_HOLDERS, _FEW = ("regime", *REGIME), 4096

_BINS = ("regime", "score_low", "score_high", "n", "share", "n_scored", "n_without_score", "bin")
_RATES = (
    "regime", "threshold", "nominal_fmr", "n", "n_match", "match_rate", "match_rate_low",
    "match_rate_high", "n_withheld", "n_without_score", "n_scored", "n_regimes", "reason", "bin",
    "period", "period_start", "partial",
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

    Raises
    ------
    MissingColumnError
        A needed column is not there.
    """
    frame = lazy_rows(v, (*REQUIRED, "sub_code"), (*OPTIONAL, "occurred_at"))
    moment = nw.col("occurred_us")
    table = group_counts(
        frame,
        REGIME,
        counts={
            "n_rows": None,
            "n_answered": answered(),
            "n_scored": rows.scored(),
            "n_withheld": rows.withheld(),
        },
        least={"first_at": moment},
        most={"last_at": moment},
    )
    table = add_up(name_regimes(table), _HOLDERS, least=["first_at"], most=["last_at"])
    table = table.sort_values(["first_at", "regime"], kind="stable", ignore_index=True)
    table.insert(
        table.columns.get_loc("n_withheld") + 1,
        "n_without_score",
        table["n_answered"] - table["n_scored"],
    )
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
        A needed column is not there; a bin width that cannot be.

    Examples
    --------
    >>> v = pd.DataFrame({"code": 10000, "sub_code": 0, "score": [59.9, 60.0, 100.0, None],
    ...     "threshold_1e_3": 60, "threshold_1e_4": 70, "threshold_1e_5": 80, "threshold_1e_6": 90})
    >>> score_histogram(v, bin_width=50)[["score_low", "score_high", "n"]].values.tolist()
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
        for _, group in table.groupby(_holders(keys), dropna=False, sort=False)
    ]
    return pd.concat(groups, ignore_index=True) if groups else _group_bins(table, edges, grid, keys)


@statistic("scores.match_rates")
def match_rates(
    v: Any,
    thresholds: float | Iterable[float] | None = None,
    *,
    nominal_fmr: float | Iterable[float] | None = None,
    by: str | Sequence[str] | None = None,
    every: Every | None = None,
    tz: str = TZ,
) -> pd.DataFrame:
    """Share of comparisons at or above a threshold, per regime.

    Parameters
    ----------
    v : frame of verifications
    thresholds : number or iterable of numbers, optional
        Scores. Default: the regime's own four.
    nominal_fmr : number or iterable of numbers, optional
        Claimed false-match rates, 1e-6 to 1e-3, instead of `thresholds`: each row is held against
        its own regime's score for it. The only way to one number across regimes (`all`).
    by : str or sequence of str, optional
        Columns to split by.
    every : {"day", "week", "month"}, optional
        Split by local time too; see `group_counts` for the columns.
    tz : str
        Where days begin.

    Returns
    -------
    DataFrame
        The `by` columns, the period's columns, `regime`, `threshold` (NaN for `all`),
        `nominal_fmr` (the vendor's claim at it, NaN outside its four points), `n` (scored plus
        withheld), `n_match`, `match_rate` with 95 % limits `match_rate_low` and
        `match_rate_high`, `n_withheld`, `n_without_score` (answered, no score) and `reason`: why
        something is NaN (`> 1e-3`, `< 1e-6`, `incomplete_regime`, `no_rows`), else empty.
        A withheld score lies below the own 1e-4 threshold: from there on it is a non-match for
        certain; below, it is counted as one and `match_rate_high` allows that it is not, as in
        `error_rates`. At a nominal FMR `n_regimes` says how many regimes `all` is made of, and
        rows of no regime stand apart.

    Raises
    ------
    MissingColumnError, UsageError
        A needed column is not there; thresholds that are no numbers, or both kinds given.
    """
    if thresholds is not None and nominal_fmr is not None:
        raise UsageError("give thresholds or nominal_fmr, not both")
    keys = group_keys(by, _RATES)
    columns = (*REQUIRED, "sub_code", *keys, *(("occurred_at",) if every else ()))
    frame = lazy_rows(v, columns, OPTIONAL).filter(answered())
    periods = [*keys, *(("period", "period_start", "partial") if every else ())]
    if nominal_fmr is not None:
        return _at_nominal(frame, _numbers(nominal_fmr, "nominal_fmr"), keys, periods, every, tz)
    if thresholds is None:
        return _at_own(frame, keys, periods, every, tz)
    return _at_scores(frame, _numbers(thresholds, "thresholds"), keys, periods, every, tz)


@statistic("scores.vendor_thresholds")
def vendor_thresholds(v: Any, every: Every | None = None, tz: str = TZ) -> pd.DataFrame:
    """Show the vendor's four thresholds of each regime, when they held and what they let pass.

    Parameters
    ----------
    v : frame of verifications
    every : {"day", "week", "month"}, optional
        One row a regime, level and period, instead of one a regime and level.
    tz : str
        Where days begin.

    Returns
    -------
    DataFrame
        `regime`, `req_key`, `level` (`1e-3` …), `threshold` (score), `first_at`, `last_at` (UTC
        times of the regime's first and last answered row), and `n`, `n_match`, `match_rate`,
        `match_rate_low`, `match_rate_high`, `n_withheld`, `n_without_score`, `reason` as in
        `match_rates`. The regime `incomplete` has NaN thresholds and no rates.

    Raises
    ------
    MissingColumnError, UsageError
        A needed column is not there; a period or time zone that is not known.
    """
    frame = lazy_rows(v, (*REQUIRED, "sub_code", "occurred_at"), OPTIONAL)
    moment = nw.col("occurred_us")
    table = group_counts(
        frame.filter(answered()),
        REGIME,
        counts=_own_counts(),
        least={"first_at": moment},
        most={"last_at": moment},
        every=every,
        tz=tz,
    )
    periods = ["period", "period_start", "partial"] if every else []
    table = name_regimes(table)
    table = add_up(table, _holders(periods), least=["first_at"], most=["last_at"])
    long = _per_level(table, [*periods, "regime", "req_key", "first_at", "last_at"])
    long = _rated(long).drop(columns=["nominal_fmr"])
    for name in ("first_at", "last_at"):
        long[name] = utc_times(long[name])
    order = [*periods[1:2], "first_at", "regime"]
    long = long.sort_values(order, kind="stable", ignore_index=True)
    front = [*periods, "regime", "req_key", "level", "threshold", "first_at", "last_at"]
    return long[[*front, *long.columns.drop(front)]]


# ------------------------------------------------------------------ arguments


def _regime_keys(keys: list[str]) -> list[str]:
    """Put the regime behind the caller's keys, which may name a part of it, such as req_key."""
    return list(dict.fromkeys([*keys, *REGIME]))


def _holders(keys: list[str]) -> list[str]:
    return list(dict.fromkeys([*keys, *_HOLDERS]))


def _numbers(values: Any, name: str) -> list[float]:
    return sorted(set(numbers(values, name)))


def _grid(bin_width: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    low, high = SCORE_RANGE
    width = number(bin_width, "bin_width", low=0.01, high=high - low)
    if round(width, 2) != width:
        raise UsageError(f"bin_width must be in steps of 0.01 score points; {width:g} was given")
    multiples = np.round(np.arange(low, high, width), 2)  # 3 · 0.1 is meant to be 0.3
    return np.append(multiples[multiples < high], high)


# ------------------------------------------------------------------ histograms


def _binned(frame: nw.LazyFrame[Any], edges: Any, keys: list[str]) -> pd.DataFrame:
    table = bin_counts(
        frame,
        edges,
        _regime_keys(keys),
        counts={"n": None, "n_above": nw.col("score") > SCORE_RANGE[1]},
    )
    table = _told_by_bin(table, "n")
    return add_up(name_regimes(table), [*_holders(keys), "bin"])


def _told_by_bin(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Tell rows with a score from those without, which are in no bin: no engine need count them."""
    scored, n = table["bin"] >= 0, table[name]
    return table.assign(**{name: n.where(scored, 0), "n_without_score": n.where(~scored, 0)})


def _first_thresholds(frame: nw.LazyFrame[Any]) -> Any:
    """Guess the thresholds from a few rows, so that one pass over all of them is mostly enough."""
    table = group_counts(frame.head(_FEW), REGIME, counts={})
    return _known_thresholds(name_regimes(table))


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
    for at, name in enumerate(_holders(keys)):
        value = group[name].iloc[0] if len(group) else None
        bins.insert(
            at, name, pd.Series([value] * len(bins), index=bins.index, dtype=group[name].dtype)
        )
    return bins if len(group) else bins.iloc[:0]


# ------------------------------------------------------------------ match rates


def _row_counts() -> dict[str, nw.Expr]:
    """Count what every rate names: rows are answered already."""
    return {
        "n_scored": ~nw.col("score").is_null(),
        "n_withheld": rows.withheld(),
        "n_without_score": nw.col("score").is_null(),
    }


def _own_counts() -> dict[str, nw.Expr]:
    return _row_counts() | {f"at_{x}": nw.col("score") >= nw.col(x) for x in THRESHOLD_COLUMNS}


def _at_own(
    frame: nw.LazyFrame[Any], keys: list[str], periods: list[str], every: Every | None, tz: str
) -> pd.DataFrame:
    by = _regime_keys(keys)
    table = group_counts(frame, by, counts=_own_counts(), every=every, tz=tz)
    table = add_up(name_regimes(table), _holders(periods))
    return _rated(_per_level(table, [*periods, "regime"])).drop(columns="level")


def _per_level(table: pd.DataFrame, holders: list[str]) -> pd.DataFrame:
    """Turn one row with four thresholds into four rows with one."""
    parts = []
    for level, name in zip(THRESHOLD_LEVELS, THRESHOLD_COLUMNS, strict=True):
        part = table[[*holders, "n_scored", "n_withheld", "n_without_score"]].copy()
        part["level"], part["threshold"] = level, table[name]
        part["nominal_fmr"] = np.where(table[name].isna(), np.nan, float(level))
        part["n_match"], part["own"] = table[f"at_{name}"], table[OWN_THRESHOLD]
        parts.append(part)
    # the sort is by position: the four levels of a row stay together, in the vendor's order
    return pd.concat(parts).sort_index(kind="stable").reset_index(drop=True)


def _at_scores(
    frame: nw.LazyFrame[Any],
    thresholds: list[float],
    keys: list[str],
    periods: list[str],
    every: Every | None,
    tz: str,
) -> pd.DataFrame:
    by, counted = _regime_keys(keys), {"n_scored": None, "n_withheld": rows.withheld()}
    table = bin_counts(frame, thresholds, by, counts=counted, every=every, tz=tz)
    table = _told_by_bin(table, "n_scored")
    table = add_up(name_regimes(table), [*_holders(periods), "bin"])
    parts = [
        _cumulated(group, np.array(thresholds), [*periods, "regime"])
        for _, group in table.groupby(_holders(periods), dropna=False, sort=False)
    ]
    if not parts:
        parts = [_cumulated(table, np.array(thresholds), [*periods, "regime"]).iloc[:0]]
    return _rated(pd.concat(parts, ignore_index=True))


def _cumulated(group: pd.DataFrame, thresholds: Any, holders: list[str]) -> pd.DataFrame:
    """Turn counts per bin into counts at or above each threshold."""
    scored = group[group["bin"] >= 0]
    n = np.zeros(len(thresholds) + 1, dtype="int64")
    np.add.at(n, scored["bin"].to_numpy(), scored["n_scored"].to_numpy())
    first = group.iloc[:1]
    points = first[list(THRESHOLD_COLUMNS)].to_numpy(dtype=float)
    points = points if len(points) else np.full((1, 4), np.nan)
    part = pd.DataFrame(
        {
            "threshold": thresholds,
            "nominal_fmr": implied_fmr(np.tile(points, (len(thresholds), 1)), thresholds),
        }
    )
    part["n_match"] = n[::-1].cumsum()[::-1][1:]
    for name in ("n_scored", "n_withheld", "n_without_score"):
        part[name] = int(group[name].sum())
    part["own"], part["own_first"] = points[0, 1], points[0, 0]
    for at, name in enumerate(holders):
        value = first[name].iloc[0] if len(first) else None
        part.insert(at, name, pd.Series([value] * len(part), dtype=group[name].dtype))
    return part


def _at_nominal(
    frame: nw.LazyFrame[Any],
    fmrs: list[float],
    keys: list[str],
    periods: list[str],
    every: Every | None,
    tz: str,
) -> pd.DataFrame:
    at = {f"at_{i}": nw.col("score") >= threshold_at_fmr(x) for i, x in enumerate(fmrs)}
    by = _regime_keys(keys)
    table = group_counts(frame, by, counts=_row_counts() | at, every=every, tz=tz)
    table = add_up(name_regimes(table), _holders(periods))
    whole = table["regime"] != INCOMPLETE
    table["n_regimes"] = whole.astype("int64")
    table["regime"] = pd.Series(np.where(whole, ALL_REGIMES, INCOMPLETE), dtype="str")
    table = add_up(table.drop(columns=[*{*REGIME} - {*keys}]), [*periods, "regime"])
    parts = []
    for i, fmr in reversed([*enumerate(fmrs)]):  # from lenient to strict, as scores rise
        part = table.drop(columns=list(at)).assign(threshold=np.nan, n_match=table[f"at_{i}"])
        part["nominal_fmr"] = np.where(part["regime"] == INCOMPLETE, np.nan, fmr)
        parts.append(part.assign(own=np.nan, below=fmr > float(THRESHOLD_LEVELS[1])))
    return _rated(pd.concat(parts).sort_index(kind="stable").reset_index(drop=True))


def _rated(table: pd.DataFrame) -> pd.DataFrame:
    """Put rate, limits and reason to the counts."""
    incomplete = (table["regime"] == INCOMPLETE).to_numpy()
    n_match = table["n_match"].to_numpy()
    withheld = table["n_withheld"].to_numpy()
    n = table.pop("n_scored").to_numpy() + withheld
    own = table.pop("own").to_numpy(dtype=float)
    below = table.pop("below") if "below" in table else table["threshold"] < own
    low = intervals.rate_interval(n_match, n).low
    high = intervals.rate_interval(np.where(below, n_match + withheld, n_match), n).high
    with np.errstate(invalid="ignore"):
        rate = n_match / n
    table["n"] = n
    for name, values in {"": rate, "_low": low, "_high": high}.items():
        table[f"match_rate{name}"] = np.where(incomplete, np.nan, values)
    table["reason"] = _reasons(table, incomplete)
    rates = ["n", "n_match", "match_rate", "match_rate_low", "match_rate_high"]
    claims = ["threshold", "nominal_fmr", *rates, "n_withheld", "n_without_score"]
    rest = [name for name in table.columns if name not in (*claims, "n_regimes", "reason")]
    more = ["n_regimes"] if "n_regimes" in table else []
    return table[[*rest, *claims, *more, "reason"]]


def _reasons(table: pd.DataFrame, incomplete: Any) -> pd.Series:
    first = table.pop("own_first") if "own_first" in table else -np.inf
    unclaimed = table["nominal_fmr"].isna()
    text = np.select(
        [incomplete, table["n"] == 0, unclaimed & (table["threshold"] < first), unclaimed],
        ["incomplete_regime", "no_rows", "> 1e-3", "< 1e-6"],
        "",
    )
    return pd.Series(text, index=table.index, dtype="str")
