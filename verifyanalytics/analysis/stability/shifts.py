"""Does one period look like another: population stability and distances, inside a regime.

Scores of two regimes are different quantities, so nothing is compared across regimes; that a regime
came or went is an event (`regime_changes`). Both periods are counted per cell of a grid where the
data live; every figure here is made from those counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from verifyanalytics.analysis.base.periods import TZ, UNKNOWN, Every
from verifyanalytics.analysis.base.regimes import INCOMPLETE
from verifyanalytics.analysis.base.statistic import statistic
from verifyanalytics.analysis.stability.bins import (
    Bins,
    Edges,
    Periods,
    Side,
    binned,
    sides,
    timeline,
    wanted_columns,
)
from verifyanalytics.errors import UsageError

LEAST = 0.1
"""No alert at or below this PSI, however large the sample: the customary "no change"."""

_COLUMNS = [
    "regime", "column", "n_reference", "n_current", "n_missing_reference", "n_missing_current",
    "psi", "critical", "deff", "alert", "n_bins", "smoothing", "bins", "largest_bin",
    "share_reference", "share_current", "ks", "wasserstein", "reason", "says",
]  # fmt: skip


class Psi(NamedTuple):
    """A population stability index and what it is to be held against.

    Attributes
    ----------
    psi : float
        Σ (a − e)·ln(a / e) over the bins' shares; NaN when a side has no rows.
    critical : float
        χ²₀.₉₅(n_bins − 1)·(1/n + 1/m)·deff: what two samples of one population exceed in 5 %.
    n_bins : int
        Bins that are not empty on both sides.
    smoothing : float
        Added to every bin of both sides: 0.5 when a bin is empty on exactly one, else 0.
    alert : bool
        psi > max(0.1, critical).
    parts : ndarray
        Each bin's part of psi, 0 where a bin is empty on both sides.
    """

    psi: float
    critical: float
    n_bins: int
    smoothing: float
    alert: bool
    parts: Any


def psi(reference: ArrayLike, current: ArrayLike, deff: float = 1.0) -> Psi:
    """Population stability index of two counts over the same bins.

    Parameters
    ----------
    reference, current : array_like of counts
        One a bin; a bin for missing values belongs among them.
    deff : float
        Design effect of both samples together.

    Returns
    -------
    Psi

    Raises
    ------
    UsageError
        The two have not as many bins, or hold something that is no count.

    See Also
    --------
    drift, over_time

    References
    ----------
    Siddiqi (2006) Credit Risk Scorecards; the critical value after Yurdakul (2018).

    Examples
    --------
    >>> found = psi([25, 25, 25, 25], [10, 20, 30, 40])
    >>> print(f"{found.psi:.6f} {found.smoothing}")
    0.228217 0.0
    """
    e, a = (np.asarray(side, dtype=float) for side in (reference, current))
    if e.shape != a.shape or e.ndim != 1:
        raise UsageError(f"the same bins are needed on both sides; {e.shape} and {a.shape} given")
    if not np.isfinite([e, a]).all() or min(e.min(initial=0), a.min(initial=0)) < 0:
        raise UsageError("a count is a finite number of 0 or more")
    n, m = e.sum(), a.sum()
    used = (e > 0) | (a > 0)
    n_bins, parts = int(used.sum()), np.zeros(len(e))
    if n == 0 or m == 0:
        return Psi(float("nan"), float("nan"), n_bins, 0.0, alert=False, parts=parts)
    smoothing = 0.5 if np.any((e == 0) != (a == 0)) else 0.0
    old, new = e[used] + smoothing, a[used] + smoothing
    old, new = old / old.sum(), new / new.sum()
    parts[used] = (new - old) * np.log(new / old)
    value = float(parts.sum())
    critical = 0.0
    if n_bins > 1:
        critical = float(stats.chi2.ppf(0.95, n_bins - 1) * (1 / n + 1 / m) * deff)
    return Psi(value, critical, n_bins, smoothing, value > max(LEAST, critical), parts)


@statistic("stability.drift")
def drift(
    reference: Any,
    current: Any,
    columns: str | Sequence[str] | None = None,
    edges: Sequence[float] | Mapping[str, Sequence[float]] | None = None,
    cluster: str | None = "subject",
) -> pd.DataFrame:
    """Compare two periods, column by column, inside each regime.

    Parameters
    ----------
    reference, current : frame of verifications
        Two periods, or any two sets of rows.
    columns : str or sequence of str, optional
        Default: `score`, `risk_score` and the face image's comprehensive score, clarity and
        brightness, as far as both frames have them. Numbers, text and truth values.
    edges : sequence of numbers, or one a column, optional
        Inner edges of the bins. Default: for `score` the regime's own four thresholds, for other
        decimals the deciles of the reference, for whole numbers and text each value (the 20 most
        frequent of the reference, the rest together).
    cluster : str or None
        Who made the row: with repeated tries the critical value grows.

    Returns
    -------
    DataFrame
        One row a regime and column: `regime`, `column`; `n_reference`, `n_current` answered rows,
        missing values among them (`n_missing_reference`, `n_missing_current`: a bin of their own);
        `psi`, `critical`, `deff`, `alert` (psi > max(0.1, critical)), `n_bins`, `smoothing` as in
        `psi`; `bins`, the edges in words; `largest_bin`, the one that adds most, with its
        `share_reference` and `share_current`; `ks` and `wasserstein` of the values that are not
        missing, NaN for text (`wasserstein` in the column's unit); `reason` why there is no psi:
        `only_in_reference`, `only_in_current` (a regime came or went: an event), `incomplete`,
        `no_rows`; `says`: `drift` or `no evidence of drift`. Regimes by name.

    Raises
    ------
    MissingColumnError, UsageError
        A column named is missing; edges that do not rise.

    See Also
    --------
    over_time, psi, alerts

    Notes
    -----
    Rows are the answered ones. `deff` is Σm²/Σm for m rows a person, an upper limit. Distances are
    exact to a cell of 10⁻² for scores, of at most a thousandth of the range for other columns.
    Without threshold columns all rows are one regime, `not told`.

    Examples
    --------
    >>> old = pd.DataFrame({"score": [65.0] * 50 + [85.0] * 50})
    >>> new = pd.DataFrame({"score": [65.0] * 90 + [85.0] * 10})
    >>> drift(old, new, edges=[70])[["column", "psi", "alert"]].round(3).values.tolist()
    [['score', 0.879, True]]
    """
    names = wanted_columns([reference, current], columns)
    both = sides([reference, current], names, edges, cluster)
    return _compared(both[0], both[1], names)


@statistic("stability.over_time")
def over_time(
    v: Any,
    every: Every = "week",
    reference: Any = "first",
    columns: str | Sequence[str] | None = None,
    edges: Sequence[float] | Mapping[str, Sequence[float]] | None = None,
    tz: str = TZ,
    cluster: str | None = "subject",
) -> pd.DataFrame:
    """Compare each period with a reference, inside each regime.

    Parameters
    ----------
    v : frame of verifications
        With `occurred_at`.
    every : {"day", "week", "month"}
    reference : str or frame
        `first`: the first whole period in which the regime ran from end to end, or else its first
        whole period; `previous`: the whole period before; a period by its name, as `2024-W15`; or a
        frame of verifications.
    columns, edges, cluster
        As in `drift`. Deciles are those of the reference, or with `previous` of the regime's first
        period.
    tz : str
        Where days begin.

    Returns
    -------
    DataFrame
        `period`, `period_start`, `partial`, `regime`, `column`, `reference` (the period compared
        with; `given` for a frame), then as `drift`. More reasons: `reference` (the period itself),
        `partial` and `unknown` (periods that are not compared), `no_reference`. In order of time.

    See Also
    --------
    drift, alerts, regime_changes

    Examples
    --------
    >>> v = pd.DataFrame({"occurred_at": pd.date_range("2024-05-05", "2024-05-20", tz="UTC"),
    ...     "score": [65.0] * 8 + [85.0] * 8})
    >>> over_time(v, edges=[70]).loc[1:2, ["period", "reference", "reason"]].values.tolist()
    [['2024-W19', '2024-W19', 'reference'], ['2024-W20', '2024-W19', '']]
    """
    if every not in ("day", "week", "month"):
        raise UsageError(f"every is day, week or month; {every!r} was given")
    names = wanted_columns([v] if isinstance(reference, str) else [v, reference], columns)
    found: Periods = timeline(v, every, tz, names, edges, cluster)
    given = None
    if not isinstance(reference, str):
        given = sides([reference], names, edges, cluster, like=found.grids)[0]
    elif reference not in ("first", "previous", *found.table["period"]):
        there = ", ".join(found.table["period"])
        raise UsageError(f"no period {reference!r}; there are first, previous, {there}")
    elif reference not in ("first", "previous", *_whole(found)["period"]):
        raise UsageError(f"{reference} is no whole period, and cannot be compared with")
    parts = []
    for row in found.table.itertuples():
        current = found.sides[row.at]
        for regime in sorted(current.regimes):
            old, name = _reference(found, row, regime, reference, given)
            skip = _not_compared(row, old, name)
            part = _compared(_empty_side(old, current), current, names, only=regime, skip=skip)
            front = {"period": row.period, "period_start": row.period_start, "partial": row.partial}
            part = part.assign(**front, reference=name)
            parts.append(part)
    order = ["period", "period_start", "partial", "regime", "column", "reference", *_COLUMNS[2:]]
    if not parts:
        return _compared(Side.empty(), Side.empty(), names).reindex(columns=order)
    table = pd.concat(parts, ignore_index=True)[order]
    table[["period", "reference"]] = table[["period", "reference"]].astype("str")
    return table


def _whole(found: Periods) -> pd.DataFrame:
    return found.table[~found.table["partial"] & (found.table["period"] != UNKNOWN)]


def _reference(
    found: Periods, row: Any, regime: str, reference: Any, given: Side | None
) -> tuple[Side | None, str]:
    if given is not None:
        return given, "given"
    whole = _whole(found)
    has = [regime in found.sides[at].regimes for at in whole["at"]]
    mine = whole[np.array(has, dtype=np.bool_)]
    if reference == "previous":
        chosen = mine[mine["period_start"] < row.period_start].tail(1)
    elif reference == "first":
        # the regime may have begun within its first period: the next one is the first full one
        later = mine[mine["period_start"] > found.begins.get(regime, pd.NaT)]
        chosen = (later if len(later) else mine).head(1)
    else:
        chosen = found.table[found.table["period"] == reference]
    if not len(chosen):
        return None, ""
    return found.sides[chosen["at"].iloc[0]], str(chosen["period"].iloc[0])


def _not_compared(row: Any, old: Side | None, name: str) -> str:
    if row.period == UNKNOWN:
        return "unknown"
    if row.partial:
        return "partial"
    if name == row.period:
        return "reference"
    return "no_reference" if old is None else ""


def _empty_side(old: Side | None, current: Side) -> Side:
    return Side.empty() if old is None else old


def _compared(
    old: Side, new: Side, columns: Sequence[str], only: str | None = None, skip: str = ""
) -> pd.DataFrame:
    regimes = [only] if only is not None else sorted({*old.regimes, *new.regimes})
    rows = [_one(old, new, regime, column, skip) for regime in regimes for column in columns]
    table = pd.DataFrame(rows, columns=_COLUMNS)
    for name in ("n_reference", "n_current", "n_missing_reference", "n_missing_current", "n_bins"):
        table[name] = table[name].astype("int64")
    for name in ("psi", "critical", "deff", "smoothing", "share_reference", "share_current", "ks",
                 "wasserstein"):  # fmt: skip
        table[name] = table[name].astype("float64")
    for name in ("regime", "column", "bins", "largest_bin", "reason", "says"):
        table[name] = table[name].astype("str")
    table["alert"] = table["alert"].astype("bool")
    return table


def _one(old: Side, new: Side, regime: str, column: str, skip: str) -> dict[str, Any]:
    bins: Bins = binned(old, new, regime, column)
    reason = skip or _reason(old, new, regime, bins)
    row: dict[str, Any] = {
        "regime": regime, "column": column,
        "n_reference": bins.reference.sum(), "n_current": bins.current.sum(),
        "n_missing_reference": bins.missing[0], "n_missing_current": bins.missing[1],
        "alert": False, "n_bins": 0, "smoothing": np.nan, "bins": bins.words, "largest_bin": "",
        "reason": reason, "says": "",
    }  # fmt: skip
    if reason:
        return row
    deff = _joint(old.deff[regime], new.deff[regime], bins.reference.sum(), bins.current.sum())
    found = psi(bins.reference, bins.current, deff)
    largest = int(np.argmax(found.parts))
    shares = (side[largest] / side.sum() for side in (bins.reference, bins.current))
    return row | {
        "psi": found.psi, "critical": found.critical, "deff": deff, "alert": found.alert,
        "n_bins": found.n_bins, "smoothing": found.smoothing,
        "largest_bin": bins.labels[largest] if found.psi > 0 else "",
        "share_reference": next(shares), "share_current": next(shares),
        "ks": bins.ks, "wasserstein": bins.wasserstein,
        "says": "drift" if found.alert else "no evidence of drift",
    }  # fmt: skip


def _joint(first: float, second: float, n: float, m: float) -> float:
    """One design effect for both: (d₁/n + d₂/m) / (1/n + 1/m)."""
    return float((first / n + second / m) / (1 / n + 1 / m))


def _reason(old: Side, new: Side, regime: str, bins: Bins) -> str:
    if regime == INCOMPLETE:
        return "incomplete"
    if regime not in new.regimes:
        return "only_in_reference"
    if regime not in old.regimes:
        return "only_in_current"
    return "" if bins.reference.sum() and bins.current.sum() else "no_rows"


__all__ = ["LEAST", "Edges", "Psi", "drift", "over_time", "psi"]
