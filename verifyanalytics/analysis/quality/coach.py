"""Which single limit on image quality, asked for at capture, would have moved most rejects.

The limit is chosen on the first part of the period and judged on the rest, so that the best of many
does not look good because it was chosen.
"""

from __future__ import annotations

from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
from scipy import stats

from verifyanalytics.analysis.base import intervals
from verifyanalytics.analysis.base.grids import Grid, cell, grids, percentiles, without_nan
from verifyanalytics.analysis.base.groups import group_counts
from verifyanalytics.analysis.base.outcomes import NO, YES, with_outcome
from verifyanalytics.analysis.base.periods import utc_times
from verifyanalytics.analysis.base.persons import crowd_of
from verifyanalytics.analysis.base.statistic import statistic
from verifyanalytics.analysis.quality.measures import (
    quality_columns,
    split_name,
    with_names,
)
from verifyanalytics.arguments import number
from verifyanalytics.codebook import book as codebook

_SHARES = (0.01, 0.02, 0.05, 0.1, 0.2)
_LEVEL = 0.05


@statistic("quality.coaching")
def coaching(v: Any, outcome: str = "non_match", train: float = 0.5) -> pd.DataFrame:
    """For each quality measure, the limit that would have moved most rejects, and at what price.

    Parameters
    ----------
    v : frame of verifications
        With quality columns and `occurred_at`.
    outcome : str
        What coaching shall avoid: `non_match` (score below the own 1e-4 threshold, or withheld),
        `rejected` (result false, images that could not be compared among them; rows whose only
        failing gate is risk are left out), or a column of true and false.
    train : float
        Share of the period, from its start, in which limits are chosen; they are judged on the
        rest.

    Returns
    -------
    DataFrame
        One row a quality column, most rejects moved for sure first (`excess_low` falling): `image`,
        `measure`, names; `worse` (`low`, `high`, `far` from 0), `turned_away_if` in words and
        `cut`, the value; `documented`: it is the vendor's own limit. On the held-out rows with the
        measure and a known outcome: `n`, `n_rejected`; `n_turned_away`, of them
        `n_turned_away_rejected` and `n_turned_away_accepted`, whom the limit would have sent back
        for nothing; `rate_turned_away`, `rate_kept`, their `difference` with 95 % limits; `excess`
        = n_turned_away · difference: rejects above what the same number of other rows has, with
        limits; `p_value`, `p_adjusted` (Benjamini–Hochberg over the measures), `significant`
        (adjusted ≤ 0.05 and more rejects among the turned away); `deff`, `clustered`;
        `n_missing` held-out rows without the measure; `n_met_before` held-out rows left out, their
        person being in the first part; `held_out_from` (UTC); `reason`: `no_limit`
        (nothing to cut), `no_rows`, `unclustered`.

    Raises
    ------
    MissingColumnError, UsageError
        A needed column is missing; `train` not in (0, 1).

    See Also
    --------
    limits, error_versus_discard

    Notes
    -----
    Cuts tried: the vendor's limit, and the worst 1, 2, 5, 10 and 20 % of the first part; chosen is
    the one with the largest standardised difference of rates. Held-out rows of persons who are in
    the first part too are left out. Counts are divided by the design effect Σm²/Σm of the held-out
    rows (an upper limit) before difference and test; without subjects nothing is called
    significant. That the turned away would have come back with a better image, and with other
    people's reject rate, is an assumption.

    Examples
    --------
    >>> v = pd.DataFrame({"occurred_at": pd.date_range("2024-05-01", periods=8, tz="UTC"),
    ...     "face_clarity": [2.0, 5.0] * 4, "poor": [True, False] * 4})
    >>> table = coaching(v, "poor")
    >>> table[["measure", "turned_away_if", "n_turned_away", "n_rejected"]].values.tolist()
    [['clarity', '< 3.001', 2, 2]]
    """
    share = number(train, "train", above=0, below=1)
    names = quality_columns(v)
    frame, _ = with_outcome(v, outcome, [*names, "occurred_at"])
    state = nw.col("_outcome")
    frame = frame.filter((state == YES) | (state == NO), ~nw.col("occurred_us").is_null())
    moment = nw.col("occurred_us")
    ends = group_counts(frame, [], counts={}, least={"a": moment}, most={"b": moment})
    first, last = (float(ends[name].iloc[0]) for name in ("a", "b"))
    split = 0 if np.isnan(first) else int(first + share * (last - first))
    early, later = frame.filter(moment <= split), frame.filter(moment > split)
    # whoever is in the first part would be judged by what was chosen on them
    met = early.filter(~nw.col("subject").is_null()).select("subject").unique()
    late = later.join(met, on="subject", how="anti")
    crowd, n_later = crowd_of(late), _n_rows(later)
    grid = grids(frame, names)
    table = pd.DataFrame([_judged((early, late), name, grid[name], crowd.deff) for name in names])
    table["p_adjusted"] = _adjusted(table["p_value"])
    more = table["difference"] > 0
    table["significant"] = (table["p_adjusted"] <= _LEVEL) & more & crowd.known
    table["deff"], table["clustered"] = crowd.deff, crowd.known
    table["n_met_before"] = n_later - _n_rows(late)
    split_at = np.nan if np.isnan(first) else float(split)
    table["held_out_from"] = utc_times(pd.Series([split_at] * len(table)))
    reason = table.pop("reason")
    told = reason.where(reason != "", "" if crowd.known else "unclustered")
    table["reason"] = told.astype("str")
    table = table.sort_values("excess_low", ascending=False, kind="stable", ignore_index=True)
    for name in ("worse", "turned_away_if"):
        table[name] = table[name].astype("str")
    return with_names(table)


def _n_rows(frame: nw.LazyFrame[Any]) -> int:
    return int(group_counts(frame, [], counts={"n": None})["n"].sum())


def _adjusted(p: pd.Series) -> Any:
    """Adjust for all measures looked at, those too that had nothing to test."""
    values = p.to_numpy(dtype=float)
    untold = np.isnan(values)
    adjusted = intervals.benjamini_hochberg(np.where(untold, 1.0, values))
    return np.where(untold, np.nan, adjusted)


def _judged(
    parts: tuple[nw.LazyFrame[Any], nw.LazyFrame[Any]], name: str, grid: Grid, deff: float
) -> dict[str, Any]:
    """Choose a measure's limit on the first of two parts, and judge it on the other."""
    better, scale = codebook.current().measure(name).better, grid.scale
    (early, _), (late, missing) = (_per_cell(part, name, grid, better) for part in parts)
    worse = {"higher": "low", "unordered": "low", "lower": "high", "magnitude": "far"}[better]
    cut, documented = _chosen(early, name, scale, worse)
    image, measure = split_name(name)
    sign = "<" if worse == "low" else ">="
    shown = f"{'|value| ' if worse == 'far' else ''}{sign} {cut / scale:g}"
    row: dict[str, Any] = {
        "image": image, "measure": measure, "worse": worse,
        "turned_away_if": "" if np.isnan(cut) else shown, "cut": cut / scale,
        "documented": documented,
    }  # fmt: skip
    away = late[_beyond(late.index.to_numpy(), cut, worse)]
    n, x = int(late["n"].sum()), int(late["n_yes"].sum())
    return row | _priced(n, x, int(away["n"].sum()), int(away["n_yes"].sum()), deff) | {
        "n_missing": missing,
        "reason": "no_limit" if np.isnan(cut) else "" if n else "no_rows",
    }  # fmt: skip


def _per_cell(
    frame: nw.LazyFrame[Any], name: str, grid: Grid, better: str
) -> tuple[pd.DataFrame, int]:
    """Count rows and outcomes per cell of a measure; and the rows without it."""
    value = without_nan(name)
    frame = frame.with_columns(_value=value.abs() if better == "magnitude" else value)
    table = group_counts(
        frame.with_columns(_cell=cell("_value", grid)),
        ["_cell"],
        counts={"n": None, "n_yes": nw.col("_outcome") == YES},
    )
    known = table["_cell"].notna()
    held = table[known].astype({"_cell": "int64"}).set_index("_cell")[["n", "n_yes"]]
    return held.sort_index(), int(table.loc[~known, "n"].sum())


def _beyond(cells: Any, cut: float, worse: str) -> Any:
    """Tell which cells a cut turns away: below it, or at it and above."""
    if np.isnan(cut):
        return np.zeros(len(cells), dtype=np.bool_)
    return cells < cut if worse == "low" else cells >= cut


def _chosen(early: pd.DataFrame, name: str, scale: float, worse: str) -> tuple[float, bool]:
    """Pick the cut with the largest standardised difference of rates in the first part."""
    cells, n = early.index.to_numpy(), early["n"].to_numpy(dtype="int64")
    if not len(cells):
        return float("nan"), False
    levels = _SHARES if worse == "low" else [1 - share for share in _SHARES]
    cuts: dict[float, bool] = {}  # the vendor's limit first: of two equally good cuts it is taken
    poor = codebook.current().measure(name).poor
    if poor is not None and (poor[0] in ("<", "<=")) == (worse == "low"):
        cuts[float(np.floor(poor[1] * scale + 1e-9)) + (poor[0] in ("<=", ">"))] = True
    for at in percentiles(cells, n, levels):
        cuts.setdefault(float(at) + 1, False)  # the cell after: the worst share ends before it
    best, score = float("nan"), 0.0
    for cut in cuts:
        away = _beyond(cells, cut, worse)
        found = _standardised(early, away)
        if found > score:
            best, score = cut, found
    return best, cuts.get(best, False)


def _standardised(table: pd.DataFrame, away: Any) -> float:
    n, x = table["n"].to_numpy(dtype=float), table["n_yes"].to_numpy(dtype=float)
    n1, n0 = n[away].sum(), n[~away].sum()
    if not n1 or not n0:
        return 0.0
    p = x.sum() / n.sum()
    spread = np.sqrt(p * (1 - p) * (1 / n1 + 1 / n0))
    return float((x[away].sum() / n1 - x[~away].sum() / n0) / spread) if spread else 0.0


def _priced(n: int, x: int, n_away: int, x_away: int, deff: float) -> dict[str, Any]:
    n_kept, x_kept = n - n_away, x - x_away
    known = n_away > 0 and n_kept > 0
    away, kept = (x_away / n_away, x_kept / n_kept) if known else (np.nan, np.nan)
    low, high = np.nan, np.nan
    p_value = np.nan
    if known:
        sizes = (x_away / deff, n_away / deff, x_kept / deff, n_kept / deff)
        low, high = (float(end) for end in intervals.newcombe(*sizes))
        # a handful of rejects is the rule: the exact test, on as many rows as the rows are worth
        cells = [x_away, n_away - x_away, x_kept, n_kept - x_kept]
        worth = np.round(np.array(cells) / deff).astype("int64").reshape(2, 2)
        p_value = float(stats.fisher_exact(worth).pvalue)
    return {
        "n": n, "n_rejected": x, "n_turned_away": n_away, "n_turned_away_rejected": x_away,
        "n_turned_away_accepted": n_away - x_away, "rate_turned_away": away, "rate_kept": kept,
        "difference": away - kept, "difference_low": low, "difference_high": high,
        "excess": n_away * (away - kept), "excess_low": n_away * low, "excess_high": n_away * high,
        "p_value": p_value,
    }  # fmt: skip
