"""What the vendor's risk tags say, and how often.

Rates are over rows with a risk result. A row's tags are a set: sent twice, counted once; the order
says nothing. So one group-by over the *sets* of tags is enough for every question about tags, and
there are few different sets however many rows there are.

Without labels a tag that goes with rejects is an association, and is named so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from verifyanalytics import codebook
from verifyanalytics.analysis import counts, intervals
from verifyanalytics.analysis.counts import TZ, Every


def tag_rates(
    v: Any,
    by: str | Sequence[str] | None = None,
    every: Every | None = None,
    tz: str = TZ,
) -> pd.DataFrame:
    """Share of rows that carry each risk tag, among rows with a risk result.

    Parameters
    ----------
    v : frame of verifications
        Needs `risk_tags`; `risk_score`, when there, tells a risk result without tags.
    by : str or sequence of str, optional
        Columns to split by.
    every : {"day", "week", "month"}, optional
        Split by local time too; see `counts.group_counts` for the columns.
    tz : str
        Where days begin.

    Returns
    -------
    DataFrame
        One row a group and tag, tags that a group does not have included: the `by` and period
        columns, `tag`, `name_en`, `name_zh`, `family`, `known` (false: not in the code book),
        `n` (rows with a risk result), `n_tag`, `tag_rate` with Wilson's 95 % limits `tag_rate_low`
        and `tag_rate_high` (NaN when n is 0), `n_tagged` (rows with any tag) and
        `n_risk_not_asked` (rows without a risk result). Groups in the order of their keys, tags by
        falling count.

    Raises
    ------
    MissingColumnError
        A needed column is not there.

    Examples
    --------
    >>> v = pd.DataFrame({"risk_tags": [["14004", "14004"], ["13001"], [], None]})
    >>> tag_rates(v)[["tag", "n", "n_tag"]].values.tolist()
    [['13001', 3, 1], ['14004', 3, 1]]
    """
    keys = [] if by is None else [by] if isinstance(by, str) else [*by]
    sets = _tag_sets(v, keys, every, tz)
    groups = [*keys, *(("period", "period_start", "partial") if every else ())]
    tagged = [isinstance(tags, tuple) and len(tags) > 0 for tags in sets["risk_tags"]]
    sets["n_tagged"] = np.where(tagged, sets["n"], 0)
    totals = counts.add_up(sets.drop(columns="risk_tags"), groups)
    hits = sets.explode("risk_tags").rename(columns={"risk_tags": "tag", "n": "n_tag"})
    hits = counts.add_up(hits.dropna(subset="tag")[[*groups, "tag", "n_tag"]], [*groups, "tag"])
    order = hits.groupby("tag")["n_tag"].sum().reset_index()
    order = order.sort_values(["n_tag", "tag"], ascending=[False, True])["tag"]
    table = totals.merge(pd.DataFrame({"tag": order.astype("str")}), how="cross")
    table = table.merge(hits.astype({"tag": "str"}), how="left", on=[*groups, "tag"])
    return _rated(_named(table), groups)


def _tag_sets(v: Any, keys: list[str], every: Every | None, tz: str) -> pd.DataFrame:
    """Count rows per set of tags; `n` counts those with a risk result."""
    columns = ("risk_tags", *keys, *(("occurred_at",) if every else ()))
    asked = ~(nw.col("risk_tags").is_null() & nw.col("risk_score").is_null())
    return counts.group_counts(
        counts.rows(v, columns, ["risk_score"]),
        [*keys, "risk_tags"],
        counts={"n": asked, "n_risk_not_asked": ~asked},
        every=every,
        tz=tz,
    )


def _named(table: pd.DataFrame) -> pd.DataFrame:
    book = codebook.current()
    entries = [book.risk_tag(tag) for tag in table["tag"]]
    for lang in ("en", "zh"):
        table[f"name_{lang}"] = pd.Series([e.gloss(lang) for e in entries], dtype="str")
    table["family"] = table["tag"].str[:2]
    table["known"] = pd.Series([e.known for e in entries], dtype="bool")
    return table


def _rated(table: pd.DataFrame, groups: list[str]) -> pd.DataFrame:
    table["n_tag"] = table["n_tag"].fillna(0).astype("int64")
    with np.errstate(invalid="ignore"):
        table["tag_rate"] = table["n_tag"] / table["n"]
    table["tag_rate_low"], table["tag_rate_high"] = intervals.wilson(table["n_tag"], table["n"])
    named = ["tag", "name_en", "name_zh", "family", "known"]
    rated = ["n", "n_tag", "tag_rate", "tag_rate_low", "tag_rate_high"]
    return table[[*groups, *named, *rated, "n_tagged", "n_risk_not_asked"]]
