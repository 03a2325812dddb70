"""What the tuner knows of the verifications: counted once, asked at any threshold; a part of it.

Cumulative counts at every hundredth of a score point, and at each regime's own thresholds, stand
for the rows. So a move of the threshold reads a few numbers where `va.scores.match_rates`,
`va.bounds.label_free` and `va.scores.what_if` would pass over the data, and gives the same rows as
they.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import narwhals as nw
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from verifyanalytics.analysis.base import intervals, rows
from verifyanalytics.analysis.base.frames import lazy_rows
from verifyanalytics.analysis.base.groups import add_up, bin_counts, group_counts
from verifyanalytics.analysis.base.regimes import REGIME, implied_fmr, name_regimes
from verifyanalytics.analysis.base.rows import (
    OPTIONAL,
    OWN_THRESHOLD,
    REQUIRED,
    answered,
    complete,
    gate,
    withheld,
)
from verifyanalytics.analysis.bounds import implied as bounds
from verifyanalytics.analysis.scores.distributions import SCORE_RANGE
from verifyanalytics.analysis.scores.distributions import histogram as score_histogram
from verifyanalytics.errors import UsageError
from verifyanalytics.schema import THRESHOLD_COLUMNS

Steps: TypeAlias = NDArray[np.int64]
"""Rows at or above each edge."""

K = (1, 3, 10)
"""How many times the vendor's claim the bounds allow for, side by side."""

MOST_SEGMENTS = 60
"""More values of a column do not fit a list that a person chooses from."""

_LINES = ("both", "only_old", "only_new", "neither", "unexplained", "unknown")
_REPRODUCED = 0.99
_EVERY_ROW = nw.col("code").is_null() | ~nw.col("code").is_null()


class Segment(NamedTuple):
    """A value of a column: the rows that are looked at; `EVERYONE` has no column."""

    column: str
    value: str


EVERYONE = Segment("", "")


@dataclass(frozen=True, slots=True)
class Group:
    """The counts of one regime and segment.

    Attributes
    ----------
    value : object
        The segment's value as the engine gave it.
    points : ndarray, shape (4,)
        The regime's thresholds.
    reached, stays, open : Steps
        Scored rows; those that pass every gate but the comparison, unexplained refusals left out;
        those whose other gates are not known.
    totals : mapping of str to int
        Counts that no threshold changes.
    attempts : float
        `attempts_per_person` of the bounds.
    """

    value: Any
    points: NDArray[np.float64]
    reached: Steps
    stays: Steps
    open: Steps
    totals: dict[str, int]
    attempts: float


class Tally:
    """The counts of a frame by regime and segment.

    Parameters
    ----------
    v : frame of verifications
    by : sequence of str
        Columns whose values are segments: two more passes each.

    Raises
    ------
    MissingColumnError, UsageError
        A needed column is not there; no row has a score under a complete regime; a column has too
        many values.

    Notes
    -----
    A regime or segment without a single score (all withheld, say) has nothing that a threshold
    could move: it is not among the groups.
    """

    def __init__(self, v: Any, by: Sequence[str] = ()) -> None:
        if wrong := sorted({*by} & {"regime", "score", *THRESHOLD_COLUMNS}):
            raise UsageError(f"segments are made by other columns than {', '.join(wrong)}")
        needed = (*REQUIRED, "sub_code", "alive", "result", *by)
        frame = lazy_rows(v, needed, (*OPTIONAL, "risk_score"))
        frame = frame.filter(answered(), complete())
        for column in by:
            _refuse_many_values(frame, column)
        own = _own_points(frame)
        grid = np.round(np.arange(SCORE_RANGE[0], SCORE_RANGE[1] + 0.005, 0.01), 2)
        self.edges: NDArray[np.float64] = np.union1d(grid, own)
        self.groups: dict[tuple[str, Segment], Group] = {}
        self.histograms: dict[str, pd.DataFrame] = {}
        for column in ("", *by):
            keys = [column] if column else []
            table = _binned(frame, self.edges, keys)
            tries = bounds.label_free(v, threshold=0.0, k=K[:1], by=keys)
            self._add(table, column, tries)
            self.histograms[column] = score_histogram(v, by=keys)

    def _add(self, table: pd.DataFrame, column: str, tries: pd.DataFrame) -> None:
        keys = [column] if column else []
        values = tries[column].map(str) if column else [""] * len(tries)  # <NA> is a value too
        each = zip(tries["regime"], values, tries["attempts_per_person"], strict=True)
        m = {(regime, value): float(attempts) for regime, value, attempts in each}
        for _, part in table.groupby([*keys, "regime"], dropna=False, sort=False):
            value = part[column].iloc[0] if column else None
            segment = Segment(column, str(value)) if column else EVERYONE
            regime = str(part["regime"].iloc[0])
            group = _group(part, value, len(self.edges), m.get((regime, segment.value), np.nan))
            if group.totals["n_scored"]:
                self.groups[regime, segment] = group

    def regimes(self) -> list[str]:
        """Return the regimes with scores, those with most of them first."""
        sizes = {r: g.totals["n_scored"] for (r, s), g in self.groups.items() if s == EVERYONE}
        return sorted(sizes, key=lambda regime: (-sizes[regime], regime))

    def segments(self, regime: str) -> list[Segment]:
        """Return the segments that have scores in a regime, `EVERYONE` first."""
        return sorted(s for r, s in self.groups if r == regime)

    def histogram(self, regime: str, segment: Segment) -> pd.DataFrame:
        """Return the rows of `va.scores.histogram` for a regime and segment, without its column."""
        table = self.histograms[segment.column]
        here = table["regime"] == regime
        if segment.column:
            here &= table[segment.column].map(str) == segment.value  # <NA> is a value too
        return table[here].drop(columns=[c for c in (segment.column,) if c and c != "req_key"])

    def at(self, threshold: float) -> int:
        """Return the index of a threshold among the edges.

        Raises
        ------
        UsageError
            It is neither a hundredth of a score point in 0–100 nor one of the vendor's.
        """
        index = int(np.searchsorted(self.edges, threshold))
        if index == len(self.edges) or self.edges[index] != threshold:
            raise UsageError(
                "a threshold here is 0 to 100 in steps of 0.01, or the vendor's own; "
                f"{threshold!r} was given"
            )
        return index

    # -------------------------------------------------------------- answers

    def match_rates(self, regime: str, segment: Segment, threshold: float) -> pd.DataFrame:
        """Return the row that `va.scores.match_rates` has for a regime, segment and threshold."""
        group = self.groups[regime, segment]
        total = group.totals
        n, n_match = total["n_scored"] + total["n_withheld"], int(group.reached[self.at(threshold)])
        claim = float(implied_fmr(group.points, threshold))
        below = threshold < group.points[1]  # a withheld score may reach what its own rule does not
        high = n_match + total["n_withheld"] if below else n_match
        outside = "> 1e-3" if threshold < group.points[0] else "< 1e-6"
        row = _front(group, regime, segment) | {
            "threshold": threshold,
            "nominal_fmr": claim,
            "n": n,
            "n_match": n_match,
            "match_rate": n_match / n,
            "match_rate_low": float(intervals.rate_interval(n_match, n).low),
            "match_rate_high": float(intervals.rate_interval(high, n).high),
            "n_withheld": total["n_withheld"],
            "n_without_score": total["n_without_score"],
            "reason": outside if np.isnan(claim) else "",
        }
        return pd.DataFrame([row])

    def label_free_bounds(self, regime: str, segment: Segment, threshold: float) -> pd.DataFrame:
        """Return the three rows of `va.bounds.label_free`, k = 1, 3 and 10."""
        group = self.groups[regime, segment]
        n = group.totals["n_scored"] + group.totals["n_withheld"]
        row: dict[str, Any] = {"regime": regime}
        row |= {segment.column: group.value} if segment.column else {}
        row |= {"threshold": threshold, **dict(zip(THRESHOLD_COLUMNS, group.points, strict=True))}
        row |= {"n_compared": n, "n_withheld": group.totals["n_withheld"]}
        row |= {"n_below_1e_3": n - int(group.reached[self.at(group.points[0])])}
        row |= {"attempts_per_person": group.attempts}
        at = pd.DataFrame([row | {"n_below": n - int(group.reached[self.at(threshold)])}])
        table = pd.concat([bounds.bound(at, k, None) for k in K], ignore_index=True)
        return table.drop(columns=list(THRESHOLD_COLUMNS))

    def what_if(self, regime: str, segment: Segment, threshold: float) -> pd.DataFrame:
        """Return the lines that `va.scores.what_if` has for rows, but for `not_needed`."""
        group = self.groups[regime, segment]
        total, new, own = group.totals, self.at(threshold), self.at(group.points[1])
        low, high = min(new, own), max(new, own)
        n = dict.fromkeys(_LINES, 0)
        n["both"] = int(group.stays[high])
        n["only_new" if new < own else "only_old"] = int(group.stays[low] - group.stays[high])
        n["unexplained"], n["unknown"] = total["n_unexplained"], int(group.open[low])
        n["neither"] = total["n_answered"] - sum(n.values())
        lines = [("reproduced", total["n_reproduced"], total["n_known"])]
        lines += [(line, n[line], total["n_answered"]) for line in _LINES]
        table = pd.DataFrame(lines, columns=["line", "n", "n_of"])
        front = _front(group, regime, segment) | {"threshold": threshold, "baseline": np.nan}
        for place, (name, value) in enumerate((front | {"unit": "rows"}).items()):
            table.insert(place, name, value)
        table["share"] = table["n"] / table["n_of"].where(table["n_of"] > 0)
        table["share_low"], table["share_high"] = intervals.rate_interval(table["n"], table["n_of"])
        unclear = (table["line"] == "reproduced") & (table["share"] < _REPRODUCED)
        reason = np.where(unclear, "gates_do_not_explain_result", "")
        return table.assign(reason=pd.Series(reason, dtype="str"))


def _front(group: Group, regime: str, segment: Segment) -> dict[str, Any]:
    return ({segment.column: group.value} if segment.column else {}) | {"regime": regime}


# ------------------------------------------------------------------ counting


def _refuse_many_values(frame: nw.LazyFrame[Any], column: str) -> None:
    """Stop before counting by a column of a million values: one more than fits is enough to see."""
    some = frame.select(column).unique().head(MOST_SEGMENTS + 1).collect(backend="pyarrow")
    if len(some) > MOST_SEGMENTS:
        raise UsageError(f"{column} has more values than a list takes: {MOST_SEGMENTS}")


def _own_points(frame: nw.LazyFrame[Any]) -> NDArray[np.float64]:
    table = group_counts(frame.filter(rows.scored()), REGIME, counts={"n": None})
    if table.empty:
        raise UsageError("no answer has a score under four rising thresholds: nothing to tune")
    own: NDArray[np.float64] = np.unique(table[list(THRESHOLD_COLUMNS)].to_numpy(dtype=float))
    return own


def _binned(frame: nw.LazyFrame[Any], edges: Any, keys: list[str]) -> pd.DataFrame:
    table = bin_counts(frame, edges, list(dict.fromkeys([*keys, *REGIME])), counts=_row_counts())
    holders = list(dict.fromkeys([*keys, "regime", *REGIME]))
    return add_up(name_regimes(table), [*holders, "bin"])


def _row_counts() -> dict[str, nw.Expr]:
    """Count, per score bin, what no threshold changes in a row; rows are answered already."""
    score, told = nw.col("score"), ~nw.col("score").is_null()
    stays = told & nw.col("alive") & gate("risk")  # null: not known
    own = stays & (score >= nw.col(OWN_THRESHOLD))
    sure, result = own.fill_null(value=False), nw.col("result")
    unexplained = sure & (~result).fill_null(value=False)
    # a row below its own threshold fails for sure, whatever else is not known of it
    below = (~told | (score < nw.col(OWN_THRESHOLD))).fill_null(value=False)
    passes = nw.when(below).then(nw.lit(value=False)).otherwise(own)
    known = ~passes.is_null() & ~result.is_null()
    return {
        "n_answered": _EVERY_ROW,
        "n_scored": told,
        "n_withheld": withheld(),
        "n_without_score": ~told,
        "n_stays": stays.fill_null(value=False) & ~unexplained,
        "n_open": told & stays.is_null(),
        "n_unexplained": unexplained,
        "n_known": known,
        "n_reproduced": known & (passes == result).fill_null(value=False),
    }


def _group(part: pd.DataFrame, value: Any, n_edges: int, attempts: float) -> Group:
    scored = part[part["bin"] >= 0]

    def steps(name: str) -> Steps:
        n = np.zeros(n_edges + 1, dtype="int64")
        np.add.at(n, scored["bin"].to_numpy(), scored[name].to_numpy())
        above: Steps = n[::-1].cumsum()[::-1][1:]
        return above

    totals = (
        "n_answered", "n_scored", "n_withheld", "n_without_score", "n_unexplained", "n_known",
        "n_reproduced",
    )  # fmt: skip
    points: NDArray[np.float64] = part[list(THRESHOLD_COLUMNS)].iloc[0].to_numpy(dtype=float)
    return Group(
        value=value,
        points=points,
        reached=steps("n_scored"),
        stays=steps("n_stays"),
        open=steps("n_open"),
        totals={name: int(part[name].sum()) for name in totals},
        attempts=attempts,
    )
