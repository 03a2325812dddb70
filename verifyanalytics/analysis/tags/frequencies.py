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

from verifyanalytics.analysis.base.frames import lazy_rows
from verifyanalytics.analysis.base.groups import add_up, group_counts, group_keys
from verifyanalytics.analysis.base.intervals import ratio
from verifyanalytics.analysis.base.periods import TZ, Every, day_ordinal, leaf
from verifyanalytics.analysis.base.rates import rate_with_limits
from verifyanalytics.analysis.base.statistic import statistic
from verifyanalytics.analysis.tags.sets import asked, text_tags
from verifyanalytics.codebook import book as codebook

_NAMED = ["tag", "name_en", "name_zh", "family", "known"]
_RATED = ["n", "n_tag", "tag_rate", "tag_rate_low", "tag_rate_high", "deff"]
_COUNTED = ["n_tagged", "n_risk_not_asked"]
_MADE = (*_NAMED, *_RATED, *_COUNTED, "risk_tags", "period", "period_start", "partial")

_FOLLOWED = 64
"""Tags whose design effect is measured; rarer ones, if there are so many, take its upper limit."""


@statistic("tags.rates")
def rates(
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
        Split by local time too: adds `period`, `period_start` and `partial`.
    tz : str
        Where days begin.

    Returns
    -------
    DataFrame
        One row a group and tag, tags that a group does not have included: the `by` and period
        columns, `tag`, `name_en`, `name_zh`, `family`, `known` (false: not in the code book),
        `n` (rows with a risk result), `n_tag`, `tag_rate` with 95 % limits `tag_rate_low` and
        `tag_rate_high` (NaN when n is 0), `deff` (how many rows count as one, because persons
        repeat; 1 where no `subject` is known), `n_tagged` (rows with any tag) and
        `n_risk_not_asked` (rows without a risk result). Groups in the order of their keys, tags by
        falling count.

    Raises
    ------
    MissingColumnError, UsageError
        A needed column is missing; `risk_tags` holds no lists; `by` names a column of the result.

    See Also
    --------
    lift, pairs, scores

    Notes
    -----
    Limits: Clopper–Pearson below ten effective rows with the tag (or without it), else Wilson, on
    n over the linearised design effect of `subject`; a row without one is a person of its own.
    With more than 64 tags the rarest ones take Σm²/Σm, for m rows a person, which it cannot exceed.

    Examples
    --------
    >>> v = pd.DataFrame({"risk_tags": [["14004", "14004"], ["13001"], [], None]})
    >>> rates(v)[["tag", "n", "n_tag"]].values.tolist()
    [['13001', 3, 1], ['14004', 3, 1]]
    """
    keys = group_keys(by, _MADE)
    frame = lazy_rows(
        v, ("risk_tags", *keys, *(("occurred_at",) if every else ())), ["risk_score", "subject"]
    )
    frame = text_tags(frame)
    sets = group_counts(
        frame,
        [*keys, "risk_tags"],
        counts={"n": asked(), "n_risk_not_asked": ~asked()},
        every=every,
        tz=tz,
    )
    groups = [*keys, *(("period", "period_start", "partial") if every else ())]
    tagged = [isinstance(tags, tuple) and len(tags) > 0 for tags in sets["risk_tags"]]
    sets["n_tagged"] = np.where(tagged, sets["n"], 0)
    totals = add_up(sets.drop(columns="risk_tags"), groups)
    hits = sets.explode("risk_tags").rename(columns={"risk_tags": "tag", "n": "n_tag"})
    hits = add_up(hits.dropna(subset="tag")[[*groups, "tag", "n_tag"]], [*groups, "tag"])
    order = hits.groupby("tag")["n_tag"].sum().reset_index()
    order = order.sort_values(["n_tag", "tag"], ascending=[False, True])["tag"].astype("str")
    table = totals.merge(pd.DataFrame({"tag": order}), how="cross")
    table = table.merge(hits.astype({"tag": "str"}), how="left", on=[*groups, "tag"])
    table["n_tag"] = table["n_tag"].fillna(0).astype("int64")
    if every:
        frame = frame.with_columns(_period=_period(totals["period_start"], every, tz))
    people = _people(v, frame, keys, order.tolist(), every, tz)
    return _rated(_named(table), people, groups)


def _people(
    v: Any, frame: nw.LazyFrame[Any], keys: list[str], tags: list[str], every: Every | None, tz: str
) -> pd.DataFrame | None:
    """Add up over persons what the design effect of each tag needs; None without persons.

    One more pass, in which an engine keeps a number a person for each tag. A row a group and tag:
    the `by` columns, `period`, `tag`; persons `g` with m rows each, `m` Σm, `mm` Σm²; with y of
    them carrying the tag, `y` Σy, `yy` Σy², `ym` Σym, NaN for tags that are not followed.
    """
    if "subject" not in nw.from_native(v).collect_schema().names() or not tags:
        return None
    held = frame.filter(asked(), ~nw.col("subject").is_null())
    first = {"occurred_us": nw.col("occurred_us").min()} if every else {}
    has = [nw.col("risk_tags").list.contains(tag) for tag in tags[:_FOLLOWED]]
    each = {f"y{i}": nw.when(tagged).then(nw.lit(1)).count() for i, tagged in enumerate(has)}
    who = [*dict.fromkeys([*keys, *(["_period"] if every else []), "subject"])]
    people = held.group_by(who).agg(_m=nw.len(), **first, **each)
    m = nw.col("_m").cast(nw.Float64)
    sums = {"m": m, "mm": m * m}
    for name in each:
        y = nw.col(name).cast(nw.Float64)
        sums |= {name: y, f"y{name}": y * y, f"m{name}": m * y}
    table = group_counts(people, keys, counts={"g": None}, sums=sums, every=every, tz=tz)
    shared = table[[*keys, *(["period"] if every else []), "g", "m", "mm"]]
    told = {"y": "y", "yy": "yy", "ym": "my"}
    parts = [
        shared.assign(tag=tag, **{to: table.get(f"{of}{i}", np.nan) for to, of in told.items()})
        for i, tag in enumerate(tags)
    ]
    return pd.concat(parts, ignore_index=True).astype({"tag": "str"})


def _period(starts: pd.Series, every: Every, tz: str) -> nw.Expr:
    """Number the period of a row, by the local days on which the periods begin."""
    days, day = (
        sorted(start.toordinal() for start in starts.dropna().unique()),
        day_ordinal(every, tz),
    )
    return nw.when(~day.is_null()).then(leaf(day, days, range(len(days) + 1)))


def _named(table: pd.DataFrame) -> pd.DataFrame:
    book = codebook.current()
    entries = [book.risk_tag(tag) for tag in table["tag"]]
    for lang in ("en", "zh"):
        table[f"name_{lang}"] = pd.Series([e.gloss(lang) for e in entries], dtype="str")
    table["family"] = table["tag"].str[:2]
    table["known"] = pd.Series([e.known for e in entries], dtype="bool")
    return table


def _rated(table: pd.DataFrame, people: pd.DataFrame | None, groups: list[str]) -> pd.DataFrame:
    x, n = (table[name].to_numpy(dtype=float) for name in ("n_tag", "n"))
    sums, followed = np.zeros((6, len(table))), np.ones(len(table), dtype=np.bool_)
    if people is not None:
        on = [name for name in [*groups, "tag"] if name in people]
        held = table[on].merge(people, how="left", on=on)
        followed = (held["y"].notna() | held["g"].isna()).to_numpy()
        sums = held[["y", "m", "yy", "ym", "mm", "g"]].fillna(0.0).to_numpy(dtype=float).T
    found = rate_with_limits(x, n, sums, weighted=False)
    most = ratio(sums[4] + n - sums[1], n)
    found = found._replace(deff=np.where(followed, found.deff, most))
    table["tag_rate"], table["deff"] = found.rate, found.deff
    table["tag_rate_low"], table["tag_rate_high"] = found.limits(n, upward=True)
    return table[[*groups, *_NAMED, *_RATED, *_COUNTED]]
