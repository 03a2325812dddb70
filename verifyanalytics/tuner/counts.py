"""Counts of the verifications, made once and read at any threshold.

Cumulative counts at every hundredth of a score point, and at each regime's own thresholds, stand
for the rows. A move of the threshold reads a few of them and hands them to the finishing halves of
`va.scores.match_rates`, `va.bounds.label_free` and `va.scores.what_if`: same rows, no pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import narwhals as nw
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from verifyanalytics.analysis.base.frames import lazy_rows
from verifyanalytics.analysis.base.groups import group_counts, regime_counts
from verifyanalytics.analysis.base.regimes import REGIME, implied_fmr
from verifyanalytics.analysis.base.rows import (
    OPTIONAL,
    OWN_THRESHOLD,
    REQUIRED,
    answered,
    complete,
    gate,
    scored,
    withheld,
)
from verifyanalytics.analysis.bounds.formulas import with_bounds
from verifyanalytics.analysis.bounds.unlabelled import label_free
from verifyanalytics.analysis.scores.distributions import SCORE_RANGE, histogram
from verifyanalytics.analysis.scores.matches import with_match_rates
from verifyanalytics.analysis.scores.swap_sets import LINES, passes, with_shares
from verifyanalytics.errors import UsageError
from verifyanalytics.schema import THRESHOLD_COLUMNS

Steps: TypeAlias = NDArray[np.int64]
"""Rows at or above each edge."""

K = (1, 3, 10)
"""How many times the vendor's claim the bounds allow for, side by side."""

MOST_SEGMENTS = 60
"""More values of a column do not fit a list that a person chooses from."""


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
        A needed column is missing; no row has a score under a complete regime; a column has too
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
        for column in by:  # one value more than fits is enough to see, of a million values
            some = frame.select(column).unique().head(MOST_SEGMENTS + 1).collect(backend="pyarrow")
            if len(some) > MOST_SEGMENTS:
                raise UsageError(f"{column} has more values than a list takes: {MOST_SEGMENTS}")
        scored_regimes = group_counts(frame.filter(scored()), REGIME, counts={"n": None})
        if scored_regimes.empty:
            raise UsageError("no answer has a score under four rising thresholds: nothing to tune")
        own = np.unique(scored_regimes[list(THRESHOLD_COLUMNS)].to_numpy(dtype=float))
        grid = np.round(np.arange(SCORE_RANGE[0], SCORE_RANGE[1] + 0.005, 0.01), 2)
        self.edges: NDArray[np.float64] = np.union1d(grid, own)
        self.groups: dict[tuple[str, Segment], Group] = {}
        self.histograms: dict[str, pd.DataFrame] = {}
        for column in ("", *by):
            keys = [column] if column else []
            table = regime_counts(frame, keys, counts=_row_counts(), edges=self.edges)
            tries = label_free(v, threshold=0.0, k=K[:1], by=keys)
            self._add(table, column, tries)
            self.histograms[column] = histogram(v, by=keys)

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
        counted = {n: group.totals[n] for n in ("n_scored", "n_withheld", "n_without_score")}
        row = _front(group, regime, segment) | counted
        row |= {"threshold": threshold, "nominal_fmr": float(implied_fmr(group.points, threshold))}
        row |= {"n_match": int(group.reached[self.at(threshold)])}
        row |= {"_own": group.points[1], "_lowest": group.points[0]}
        return with_match_rates(pd.DataFrame([row]))

    def label_free(self, regime: str, segment: Segment, threshold: float) -> pd.DataFrame:
        """Return the rows that `va.bounds.label_free` has, k = 1, 3 and 10."""
        group = self.groups[regime, segment]
        n = group.totals["n_scored"] + group.totals["n_withheld"]
        row: dict[str, Any] = {"regime": regime}
        row |= {segment.column: group.value} if segment.column else {}
        row |= {"threshold": threshold, **dict(zip(THRESHOLD_COLUMNS, group.points, strict=True))}
        row |= {"n_compared": n, "n_withheld": group.totals["n_withheld"]}
        row |= {"n_below_1e_3": n - int(group.reached[self.at(group.points[0])])}
        row |= {"attempts_per_person": group.attempts}
        row |= {"n_below": n - int(group.reached[self.at(threshold)])}
        return with_bounds(pd.DataFrame([row]), K)

    def what_if(self, regime: str, segment: Segment, threshold: float) -> pd.DataFrame:
        """Return the lines that `va.scores.what_if` has for rows, but for `not_needed`."""
        group = self.groups[regime, segment]
        total, new, own = group.totals, self.at(threshold), self.at(group.points[1])
        low, high = min(new, own), max(new, own)
        n = dict.fromkeys(LINES, 0)
        n["both"] = int(group.stays[high])
        n["only_new" if new < own else "only_old"] = int(group.stays[low] - group.stays[high])
        n["unexplained"], n["unknown"] = total["n_unexplained"], int(group.open[low])
        n["neither"] = total["n_answered"] - sum(n.values())
        lines = pd.DataFrame({"line": ["reproduced", *n]}).assign(
            **_front(group, regime, segment), unit="rows", n=[total["n_reproduced"], *n.values()],
            n_of=[total["n_known"], *[total["n_answered"]] * len(n)],
        )  # fmt: skip
        return with_shares(lines, threshold, None)


def _front(group: Group, regime: str, segment: Segment) -> dict[str, Any]:
    return ({segment.column: group.value} if segment.column else {}) | {"regime": regime}


# ------------------------------------------------------------------ counting


def _row_counts() -> dict[str, nw.Expr | None]:
    """Count, per score bin, what no threshold changes in a row; rows are answered already."""
    is_scored, result = ~nw.col("score").is_null(), nw.col("result")
    stays = is_scored & nw.col("alive") & gate("risk")  # null: not known
    own = passes(nw.col("score") >= nw.col(OWN_THRESHOLD))
    unexplained = own.fill_null(value=False) & (~result).fill_null(value=False)
    known = ~own.is_null() & ~result.is_null()
    return {
        "n_answered": None,
        "n_scored": is_scored,
        "n_withheld": withheld(),
        "n_without_score": ~is_scored,
        "n_stays": stays.fill_null(value=False) & ~unexplained,
        "n_open": is_scored & stays.is_null(),
        "n_unexplained": unexplained,
        "n_known": known,
        "n_reproduced": known & (own == result).fill_null(value=False),
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
