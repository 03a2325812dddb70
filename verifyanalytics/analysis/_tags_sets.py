"""Sets of tags against an outcome: the count table behind lift, pairs and catch.

A row's tags are a set. There are few different sets however many rows there are, so rows counted
per (set, outcome) answer every question about tags and their combinations in one pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from verifyanalytics import codebook
from verifyanalytics.analysis import counts
from verifyanalytics.analysis._counts_outcomes import (
    NO,
    ONLY_RISK,
    UNKNOWN_OUTCOME,
    YES,
    Crowd,
    Outcome,
    by_person,
    with_outcome,
)

Ints = NDArray[np.int64]


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
    n_unknown, n_only_risk, n_risk_not_asked : int
        Rows left out: outcome not known; turned away by risk alone; without a risk result.
    """

    tags: list[str]
    member: NDArray[np.bool_]
    n: Ints
    n_yes: Ints
    n_unknown: int = 0
    n_only_risk: int = 0
    n_risk_not_asked: int = 0

    def per_tag(self, of: Ints) -> Ints:
        """Add up a count of sets over the sets that hold each tag."""
        summed: Ints = self.member.T.astype("int64") @ of
        return summed


def tag_sets(v: Any) -> TagSets:
    """Count rows per set of tags, whatever became of them."""
    frame = counts.rows(v, ["risk_tags"], ["risk_score"])
    table = counts.group_counts(
        frame, ["risk_tags"], counts={"n": _asked(), "n_risk_not_asked": ~_asked()}
    )
    n = table["n"].to_numpy()
    return _sets(table["risk_tags"], n, np.zeros_like(n), int(table["n_risk_not_asked"].sum()))


def outcome_sets(v: Any, outcome: str) -> tuple[TagSets, nw.LazyFrame[Any], Outcome]:
    """Count rows per set of tags and outcome; also return the rows that were counted."""
    frame, meaning = with_outcome(v, outcome, ["risk_tags"], ["risk_score"])
    state = nw.col("_outcome")
    table = counts.group_counts(
        frame,
        ["risk_tags"],
        counts={
            "n": _asked() & ((state == YES) | (state == NO)),
            "n_yes": _asked() & (state == YES),
            "n_unknown": _asked() & (state == UNKNOWN_OUTCOME),
            "n_only_risk": _asked() & (state == ONLY_RISK),
            "n_risk_not_asked": ~_asked(),
        },
    )
    left_out = (int(table[name].sum()) for name in ("n_unknown", "n_only_risk", "n_risk_not_asked"))
    not_asked = [*left_out]
    found = _sets(table["risk_tags"], table["n"].to_numpy(), table["n_yes"].to_numpy())
    found = TagSets(found.tags, found.member, found.n, found.n_yes, *not_asked)
    counted = frame.filter(_asked() & ((state == YES) | (state == NO)))
    return found, counted, meaning


def person_sets(counted: nw.LazyFrame[Any]) -> tuple[TagSets, Crowd]:
    """Count one row a person per set of tags and outcome."""
    table, crowd = by_person(counted, ["risk_tags", "_outcome"])
    n = table["n"].to_numpy()
    return _sets(table["risk_tags"], n, np.where(table["_outcome"] == YES, n, 0)), crowd


def named(table: pd.DataFrame) -> pd.DataFrame:
    """Put name, family and `known` of the code book behind the column `tag`."""
    book = codebook.current()
    entries = [book.risk_tag(tag) for tag in table["tag"]]
    families = [book.tag_family(tag) for tag in table["tag"]]
    words = {
        "name_en": [e.gloss("en") for e in entries],
        "name_zh": [e.gloss("zh") for e in entries],
        "family": [f.code for f in families],
        "family_en": [f.gloss("en") for f in families],
        "family_zh": [f.gloss("zh") for f in families],
    }
    at = table.columns.get_loc("tag") + 1
    for i, (name, values) in enumerate(words.items()):
        table.insert(at + i, name, pd.Series(values, index=table.index, dtype="str"))
    known = pd.Series([e.known for e in entries], index=table.index, dtype="bool")
    table.insert(at + len(words), "known", known)
    return table


def _asked() -> nw.Expr:
    return ~(nw.col("risk_tags").is_null() & nw.col("risk_score").is_null())


def _sets(sets: pd.Series, n: Ints, n_yes: Ints, n_risk_not_asked: int = 0) -> TagSets:
    held = [frozenset(s) if isinstance(s, tuple) else frozenset() for s in sets]
    rows = dict.fromkeys(sorted(frozenset().union(*held)), 0)
    for tags, count in zip(held, n, strict=True):
        for tag in tags:
            rows[tag] += int(count)
    # a tag that only rows without the outcome's knowledge have is no tag of this question
    order = sorted((tag for tag, count in rows.items() if count), key=lambda tag: (-rows[tag], tag))
    member = np.array([[tag in tags for tag in order] for tags in held], dtype=np.bool_)
    return TagSets(
        order, member.reshape(len(held), len(order)), n, n_yes, n_risk_not_asked=n_risk_not_asked
    )
