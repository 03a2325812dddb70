"""Sums over persons: what ten tries of one person weigh against ten persons; a part of `accuracy`.

There may be nearly as many persons as rows, so an engine shall keep little of each: a number for
the regime, the class, and counts. Only the sums over all persons leave it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import narwhals as nw
import pandas as pd

from verifyanalytics.analysis.base.groups import add_up
from verifyanalytics.analysis.base.keys import plain_key
from verifyanalytics.analysis.base.regimes import INCOMPLETE, REGIME, name_regimes, regime_number
from verifyanalytics.analysis.base.rows import complete
from verifyanalytics.errors import UsageError


def person_sums(
    frame: nw.LazyFrame[Any],
    keys: list[str],
    persons: Mapping[str, nw.Expr],
    errors: Mapping[str, nw.Expr],
    regimes: pd.DataFrame | None,
    *,
    weighted: bool,
) -> pd.DataFrame:
    """Add up over persons what the design effect needs, per regime, `by` and class.

    Parameters
    ----------
    frame : narwhals.LazyFrame
        From `labelled_rows`.
    keys : list of str
        The `by` columns.
    persons : mapping of str to narwhals.Expr
        Who made a row, as columns to group by: all null, unknown. Empty: nobody is known.
    errors : mapping of str to narwhals.Expr
        `y:0`, `y:1` …: whether a bona fide row errs at a point; never null.
    regimes : DataFrame, optional
        The regimes that occur (`regime`, `REGIME`). None: all rows together.
    weighted : bool
        Weigh rows by 1 / `_chance`; one of an unknown person is then a person of its own. Without
        weights such rows are left out: they add nothing that the counts do not know.

    Returns
    -------
    DataFrame
        The keys and `regime`; for the sides `nonmated` and `mated` of m rows a person: `mated:g`
        (persons), `mated:m` (Σm), `mated:mm`; for their errors `fm:0` … and `fnm:0` … of y rows a
        person: `fm:0:y` (Σy), `fm:0:yy`, `fm:0:ym`. 0 where a side has no row.
    """
    if not weighted:  # the cheap test first: engines skip whole blocks without a person
        frame = frame.filter(_any(persons.values()))
    frame, groups = _with_group(frame.filter(nw.col("_bona_fide")), keys, regimes)
    used = frame.select(*groups, "mated", "_chance", **persons, **errors)
    parts = []
    if persons:
        known = _any(nw.col(name) for name in persons)
        sums = {":m": _total(None, weighted), **{y: _total(y, weighted) for y in errors}}
        parts.append(used.filter(known).group_by([*groups, "mated", *persons]).agg(**sums))
        used = used.filter(~known)
    if weighted:
        weight = 1.0 / nw.col("_chance")
        each = {y: nw.when(nw.col(y)).then(weight).otherwise(nw.lit(0.0)) for y in errors}
        parts.append(used.select(*groups, "mated", **{":m": weight}, **each))
    tables = [_sum_moments(part, [*groups, "mated"], [*errors]) for part in parts]
    table = pd.concat([t for t in tables if len(t)] or tables[:1], ignore_index=True)
    table = _with_regime(table, regimes)
    return _by_side(table, [*keys, *(["regime"] if regimes is not None else [])])


def _any(columns: Iterable[nw.Expr]) -> nw.Expr:
    """Tell whether any of the columns is known."""
    return nw.any_horizontal(*(~column.is_null() for column in columns), ignore_nulls=True)


def _with_group(
    frame: nw.LazyFrame[Any], keys: list[str], regimes: pd.DataFrame | None
) -> tuple[nw.LazyFrame[Any], list[str]]:
    """Put the regime on each row as shortly as it can be said; return the columns to group by."""
    if regimes is None:
        return frame, keys
    number = regime_number(_whole(regimes))
    short = {} if number is None else {"_regime": number}
    columns = [c for c in REGIME if c in keys] if short else REGIME
    # one person in two kinds of incomplete regime is still one person
    alike = (nw.when(complete()).then(nw.col(c)).alias(c) for c in columns)
    return frame.with_columns(*alike, **short), [*keys, *(short or regime_columns(keys))]


def _with_regime(table: pd.DataFrame, regimes: pd.DataFrame | None) -> pd.DataFrame:
    """Name the regime that `_with_group` put on the rows."""
    if regimes is None:
        return table
    if "_regime" not in table:
        return name_regimes(table)
    names = dict(enumerate(_whole(regimes)["regime"]))
    found = [INCOMPLETE if pd.isna(number) else names[int(number)] for number in table["_regime"]]
    return table.assign(regime=pd.Series(found, index=table.index, dtype="str"))


def _whole(regimes: pd.DataFrame) -> pd.DataFrame:
    return regimes[regimes["regime"] != INCOMPLETE]


def _total(flag: str | None, weighted: bool) -> nw.Expr:
    """Count the rows with a flag, or all of them; or add up their weights."""
    if weighted:
        weight = 1.0 / nw.col("_chance")
        return (weight if flag is None else nw.when(nw.col(flag)).then(weight)).sum()
    return nw.len() if flag is None else nw.when(nw.col(flag)).then(nw.lit(1)).count()


def _sum_moments(part: nw.LazyFrame[Any], groups: list[str], errors: list[str]) -> pd.DataFrame:
    """Add up over persons: how many, Σm, Σm², and of each error Σy, Σy², Σym."""
    part = part.with_columns(nw.col(c).cast(nw.Float64) for c in (":m", *errors))
    m = nw.col(":m")
    sums = [(m > 0).cast(nw.Int64).sum().alias(":g"), m.sum(), (m * m).sum().alias(":mm")]
    for name in errors:
        y = nw.col(name)
        sums += [
            y.sum().alias(f"{name}:y"),
            (y * y).sum().alias(f"{name}:yy"),
            (y * m).sum().alias(f"{name}:ym"),
        ]
    grouped = part.group_by(groups).agg(*sums)
    found = grouped.collect(backend="pyarrow").to_native()
    table: pd.DataFrame = found.to_pandas()
    for name, kind in zip(found.column_names, found.schema.types, strict=True):
        if name in groups:  # the same values as of `group_counts`, else no group finds itself
            table[name] = plain_key(table[name], kind)
    return table


def _by_side(table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Put the sums of mated and non-mated rows side by side, 0 where a side has none."""
    mated, parts = table.pop("mated").astype(bool), []
    sums = [":g", ":m", ":mm", *(c for c in table.columns if c.startswith("y:"))]
    for side, error in (("nonmated", "fm"), ("mated", "fnm")):
        names = {c: f"{error}{c[1:]}" if c[0] == "y" else side + c for c in sums}
        rows = table.loc[mated == (side == "mated"), [*keys, *sums]]
        parts.append(add_up(rows.rename(columns=names), keys))
    return add_up(pd.concat(parts, ignore_index=True), keys)


def with_sums(table: pd.DataFrame, sums: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Put the sums over persons beside the counts of their group; NaN where nobody is known.

    Raises
    ------
    UsageError
        The sums of a group find no counts: the values of a column are not comparable.
    """
    both = table.merge(sums, on=keys, how="left", indicator="_found")
    if len(both) != len(table) or (both.pop("_found") == "both").sum() != len(sums):
        raise UsageError(f"groups of {', '.join(keys)} cannot be told apart; make them text")
    return both


def regime_columns(keys: Sequence[str]) -> list[str]:
    """Return the columns of the regime that are not among the keys already."""
    return [c for c in REGIME if c not in keys]
