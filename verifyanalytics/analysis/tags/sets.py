"""Sets of tags against an outcome: the count table behind lift, pairs and catch.

A row's tags are a set. There are few different sets however many rows there are, so rows counted
per (set, outcome) answer every question about tags and their combinations in one pass.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, NamedTuple

import narwhals as nw
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from verifyanalytics.analysis.base import intervals
from verifyanalytics.analysis.base.frames import lazy_rows
from verifyanalytics.analysis.base.groups import group_counts
from verifyanalytics.analysis.base.intervals import FloatArray, ratio
from verifyanalytics.analysis.base.outcomes import (
    NO,
    ONLY_RISK,
    UNKNOWN_OUTCOME,
    YES,
    Choice,
    Outcome,
    chosen,
    weights,
    with_outcome,
)
from verifyanalytics.analysis.base.persons import Crowd, by_person
from verifyanalytics.analysis.base.rates import kish
from verifyanalytics.codebook import book as codebook
from verifyanalytics.errors import UsageError

Ints = NDArray[np.int64]


class Weighed(NamedTuple):
    """Rows: how many, what they weigh, and the sum of squared weights; alike without weights."""

    n: Ints
    w: FloatArray
    ww: FloatArray

    def spread(self) -> FloatArray:
        """Squared over plain weight, Σw²/Σw: what unequal weights do to a variance."""
        return ratio(self.ww, self.w)

    def without(self, part: Weighed) -> Weighed:
        """Return the rows that are not of a part of them."""
        return Weighed(self.n - part.n, self.w - part.w, self.ww - part.ww)

    def after(self, first: int) -> Weighed:
        """Return all but the first entries."""
        return Weighed(self.n[first:], self.w[first:], self.ww[first:])

    def upto(self) -> Weighed:
        """Return running sums."""
        return Weighed(self.n.cumsum(), self.w.cumsum(), self.ww.cumsum())


@dataclass(frozen=True)
class TagSets:
    """Rows with a risk result, per different set of tags.

    Attributes
    ----------
    tags : list of str
        Every tag that occurs, most frequent first, then by name.
    member : ndarray of bool, shape (sets, tags)
    n, n_yes : ndarray of int64, shape (sets,)
        Rows whose outcome is known, and those that have it.
    weight : ndarray, shape (sets,)
        What each of these rows counts.
    left_out : dict of str to int
        Rows left out: `n_unknown` (outcome not known), `n_only_risk` (nothing but risk against
        them), `n_risk_not_asked` (without a risk result).
    """

    tags: list[str]
    member: NDArray[np.bool_]
    n: Ints
    n_yes: Ints
    weight: FloatArray
    left_out: dict[str, int]

    def per_tag(self, of: Ints) -> Ints:
        """Add up a count of sets over the sets that hold each tag."""
        summed: Ints = self.member.T.astype("int64") @ of
        return summed

    def weighed(self, of: Ints) -> Weighed:
        """Weigh a count of sets, added up over the sets that hold each tag."""
        member = self.member.T.astype(float)
        return Weighed(
            self.per_tag(of), member @ (of * self.weight), member @ (of * self.weight**2)
        )

    def whole(self, of: Ints) -> Weighed:
        """Weigh a count of all sets."""
        w, ww = (of @ self.weight**power for power in (1, 2))
        return Weighed(np.asarray(of.sum()), np.asarray(w), np.asarray(ww))


def share_limits(
    yes: Weighed, of: Weighed, deff: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return yes / of with its 95 % limits, rows being as many as their weights allow.

    The design effect of weights is the larger one of Kish's and of the linearised variance: the
    first misses outcomes in rows of little weight, the second those of much weight that were not
    drawn.
    """
    rate = np.asarray(ratio(yes.w, of.w))
    n = np.asarray(of.n, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = (yes.ww * (1 - rate) ** 2 + (of.ww - yes.ww) * rate**2) / of.w**2
        linearised = variance * n / (rate * (1 - rate))
        effect = np.fmax(n / kish(of.w, of.ww), linearised)
    events = np.where(n > 0, np.minimum(np.nan_to_num(rate) * n, n), 0.0)
    low, high = intervals.rate_interval(events, n, np.nan_to_num(effect, nan=1.0) * deff)
    return rate, low, high


def text_tags(frame: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    """Make `risk_tags` lists of text, whatever numbers they came as.

    Raises
    ------
    UsageError
        The column holds no lists.
    """
    kind = frame.collect_schema()["risk_tags"]
    if not isinstance(kind, nw.List | nw.Array):
        raise UsageError(
            f"column risk_tags holds {kind}; lists of tags are needed, such as ['13001', '14004']"
        )
    if kind == nw.List(nw.String):
        return frame
    return frame.with_columns(nw.col("risk_tags").cast(nw.List(nw.String)))


def asked() -> nw.Expr:
    """Return true where there is a risk result; never null."""
    return ~(nw.col("risk_tags").is_null() & nw.col("risk_score").is_null())


def tag_sets(v: Any) -> TagSets:
    """Count rows per set of tags, whatever became of them."""
    table = group_counts(
        text_tags(lazy_rows(v, ["risk_tags"], ["risk_score"])),
        ["risk_tags"],
        counts={"n": asked(), "n_risk_not_asked": ~asked()},
    )
    return _sets(table.assign(n_yes=0))


class Question(NamedTuple):
    """Sets against an outcome, the rows that were counted, and what the outcome means."""

    sets: TagSets
    counted: nw.LazyFrame[Any]
    meaning: Outcome
    choice: Choice


def outcome_sets(v: Any, outcome: str, *, assume_random: bool = False) -> Question:
    """Count rows per set of tags and outcome."""
    frame, meaning = with_outcome(v, outcome, ["risk_tags"], ["risk_score"])
    frame, choice = chosen(text_tags(frame), meaning, asked(), assume_random=assume_random)
    state = nw.col("_outcome")
    known = (state == YES) | (state == NO)
    table = group_counts(
        frame,
        ["risk_tags", *choice.keys],
        counts={
            "n": asked() & known,
            "n_yes": asked() & (state == YES),
            "n_unknown": asked() & (state == UNKNOWN_OUTCOME),
            "n_only_risk": asked() & (state == ONLY_RISK),
            "n_risk_not_asked": ~asked(),
        },
    )
    return Question(_sets(table), frame.filter(asked() & known), meaning, choice)


def person_sets(counted: nw.LazyFrame[Any]) -> tuple[TagSets, Crowd]:
    """Count one row a person per set of tags and outcome."""
    table, crowd = by_person(counted, ["risk_tags", "_outcome"])
    return _sets(table.assign(n_yes=table["n"].where(table["_outcome"] == YES, 0))), crowd


def explained(table: pd.DataFrame, question: Question, rates: list[str]) -> pd.DataFrame:
    """Blank the rates that the labels cannot carry; add `weighted` and `note`."""
    if question.choice.reason:
        table[rates] = np.nan
    table["weighted"] = question.choice.weighted
    table["note"] = question.choice.note
    return table


def named(table: pd.DataFrame) -> pd.DataFrame:
    """Put name, family and `known` of the code book behind the column `tag`."""
    book = codebook.current()
    entries = [book.risk_tag(tag) for tag in table["tag"]]
    families = [book.tag_family(tag) for tag in table["tag"]]
    columns = {
        "name_en": [e.gloss("en") for e in entries],
        "name_zh": [e.gloss("zh") for e in entries],
        "family": [f.code for f in families],
        "family_en": [f.gloss("en") for f in families],
        "family_zh": [f.gloss("zh") for f in families],
        "known": [e.known for e in entries],
    }
    for at, (name, values) in enumerate(columns.items(), table.columns.get_loc("tag") + 1):
        kind = "bool" if name == "known" else "str"
        table.insert(at, name, pd.Series(values, index=table.index, dtype=kind))
    return table


def _sets(table: pd.DataFrame) -> TagSets:
    held = [frozenset(s) if isinstance(s, tuple) else frozenset() for s in table["risk_tags"]]
    rows: Counter[str] = Counter()
    for tags, count in zip(held, table["n"], strict=True):
        rows.update(dict.fromkeys(tags, int(count)))
    # a tag that only rows without the outcome's knowledge have is no tag of this question
    order = sorted((tag for tag, count in rows.items() if count), key=lambda tag: (-rows[tag], tag))
    member = np.array([[tag in tags for tag in order] for tags in held], dtype=np.bool_)
    left_out = ("n_unknown", "n_only_risk", "n_risk_not_asked")
    return TagSets(
        order,
        member.reshape(len(held), len(order)),
        table["n"].to_numpy(),
        table["n_yes"].to_numpy(),
        weights(table).to_numpy(dtype=float),
        {name: int(table[name].sum()) for name in left_out if name in table},
    )
