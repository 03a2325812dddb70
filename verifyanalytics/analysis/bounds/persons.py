"""Tries a person: how many rows of one stranger match or fail together; a part of `bounds`."""

from __future__ import annotations

from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from verifyanalytics.analysis.base.groups import add_up, group_counts
from verifyanalytics.analysis.base.keys import plain_key
from verifyanalytics.analysis.base.regimes import REGIME, name_regimes
from verifyanalytics.errors import UsageError
from verifyanalytics.schema import THRESHOLD_COLUMNS

_SUMS = ("n", "nn", "b", "bb", "alone", "alone_low")


def reached(threshold: nw.Expr) -> nw.Expr:
    """Return true where the score reaches the threshold; a withheld one does not."""
    return (nw.col("score") >= threshold).fill_null(value=False)


def with_attempts(table: pd.DataFrame, frame: nw.LazyFrame[Any], keys: list[str]) -> pd.DataFrame:
    """Put `attempts_per_person` beside the counts of each regime and group.

    Raises
    ------
    UsageError
        A group has no partner: the values of a column are not comparable.
    """
    groups = ["regime", *keys]
    both = table.merge(_attempts(frame, keys), how="left", on=groups, indicator="_found")
    if len(both) != len(table) or (both.pop("_found") != "both").any():
        raise UsageError(f"groups of {', '.join(keys)} cannot be told apart; make it text")
    return both


def _attempts(frame: nw.LazyFrame[Any], keys: list[str]) -> pd.DataFrame:
    """Tries a person, m = Σmᵢ²/Σmᵢ, per regime and group; NaN where no row has a subject.

    The larger of all rows' and of the rows below the 1e-3 threshold: strangers are found there, and
    a stranger who tries ten times among owners who try once must not count as one who tries twice.
    The latter is rounded up, for owners are among those rows too and thin it out.
    """
    groups = [*keys, *(c for c in REGIME if c not in keys)]
    known = ~nw.col("subject").is_null()
    low = ~reached(nw.col(THRESHOLD_COLUMNS[0]))
    single = {"alone": ~known, "alone_low": low}
    alone = group_counts(frame.filter(~known), groups, counts=single)
    table = pd.concat([_people(frame.filter(known), groups, low), alone], ignore_index=True)
    table = name_regimes(table.fillna(dict.fromkeys(_SUMS, 0.0)))
    table = table[["regime", *keys, *_SUMS]].astype(dict.fromkeys(_SUMS, float))
    table = add_up(table, ["regime", *keys])
    everywhere = (table["nn"] + table["alone"]) / (table["n"] + table["alone"])
    n_low = table["b"] + table["alone_low"]
    below = ((table["bb"] + table["alone_low"]) / n_low).where(n_low > 0)
    m = np.fmax(everywhere, np.ceil(below - 1e-9))
    return table[["regime", *keys]].assign(attempts_per_person=m.where(table["n"] > 0))


def _people(frame: nw.LazyFrame[Any], groups: list[str], low: nw.Expr) -> pd.DataFrame:
    """Add up over the known persons of each group: m and m² of all rows, and of the low ones."""
    by_person = frame.group_by([*groups, "subject"])
    people = by_person.agg(_n=nw.len().cast(nw.Int64), _low=low.cast(nw.Int64).sum())
    n, b = nw.col("_n"), nw.col("_low")
    squares = people.group_by(groups).agg(n=n.sum(), nn=(n * n).sum(), b=b.sum(), bb=(b * b).sum())
    found = squares.collect(backend="pyarrow").to_native()
    table: pd.DataFrame = found.to_pandas()
    for name, kind in zip(found.column_names, found.schema.types, strict=True):
        if name in groups:  # the same values as of `group_counts`, else no group finds itself
            table[name] = plain_key(table[name], kind)
    return table
