"""Rates with denominators of their own, and the persons behind them; a part of `accuracy`.

The errors of `error_rates` share one denominator a class. Those of transactions and attacks have
several, so here each event names its base. Persons are added up where the data live.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from verifyanalytics.analysis.base.groups import add_up
from verifyanalytics.analysis.base.intervals import FloatArray
from verifyanalytics.analysis.base.periods import UNKNOWN

Sums = tuple[float, float, float, float, float, float]
"""Σy, Σm, Σy², Σym, Σm² and G over persons who made y events in m rows."""

NOBODY: Sums = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
"""The sums where no person is known."""


def ratio_sums(
    frame: nw.LazyFrame[Any],
    by: str,
    bases: Mapping[str, nw.Expr],
    events: Mapping[str, tuple[str, nw.Expr]],
    persons: Mapping[str, nw.Expr],
    *,
    weighted: bool,
) -> dict[tuple[Any, str], Sums]:
    """Add up over persons what the design effect of each event needs.

    Parameters
    ----------
    frame : narwhals.LazyFrame
        The sample, with `_chance` where `weighted`.
    by : str
        A key column.
    bases : mapping of str to narwhals.Expr
        The rows of each denominator; never null.
    events : mapping of str to (str, narwhals.Expr)
        The base of an event, and the rows of the base in which it happened; never null.
    persons : mapping of str to narwhals.Expr
        Who made a row, as columns to group by: all null, unknown. Empty: nobody is known.
    weighted : bool
        Weigh rows by 1 / `_chance`; one of an unknown person is then a person of its own. Without
        weights such rows are left out: they add nothing that the counts do not know.

    Returns
    -------
    dict
        Of (key, event) the `Sums`; null text is `unknown`.
    """
    flags = {f"m:{name}": flag for name, flag in bases.items()}
    flags |= {f"y:{name}": flag for name, (_, flag) in events.items()}
    extra = {"_weight": 1.0 / nw.col("_chance")} if weighted else {}
    used = frame.select(by, **extra, **persons, **flags)
    parts = []
    if persons:
        known = nw.any_horizontal(*(~nw.col(p).is_null() for p in persons), ignore_nulls=True)
        totals = {name: _total(name, weighted=weighted) for name in flags}
        parts.append(used.filter(known).group_by([by, *persons]).agg(**totals))
        used = used.filter(~known)
    if weighted:
        each = {n: nw.when(nw.col(n)).then(nw.col("_weight")).otherwise(0.0) for n in flags}
        parts.append(used.select(by, **each))
    tables = [_moments(part, by, bases, events) for part in parts]
    if not tables:
        return {}
    table = add_up(pd.concat(tables, ignore_index=True), [by])
    return {
        (row[by], event): (
            *(row[c] for c in (f"{event}:y", f"{base}:m", f"{event}:yy", f"{event}:ym")),
            row[f"{base}:mm"],
            row[f"{base}:g"],
        )
        for row in table.to_dict("records")
        for event, (base, _) in events.items()
    }


def _total(name: str, *, weighted: bool) -> nw.Expr:
    one = nw.col("_weight") if weighted else nw.lit(1)
    held = nw.when(nw.col(name)).then(one)
    return (held.sum() if weighted else held.count()).alias(name)


def _moments(
    part: nw.LazyFrame[Any],
    by: str,
    bases: Mapping[str, nw.Expr],
    events: Mapping[str, tuple[str, nw.Expr]],
) -> pd.DataFrame:
    sums: dict[str, nw.Expr] = {}
    for name in bases:
        m = nw.col(f"m:{name}").cast(nw.Float64)
        sums |= {f"{name}:m": m, f"{name}:mm": m * m, f"{name}:g": (m > 0).cast(nw.Float64)}
    for name, (base, _) in events.items():
        y, m = nw.col(f"y:{name}").cast(nw.Float64), nw.col(f"m:{base}").cast(nw.Float64)
        sums |= {f"{name}:y": y, f"{name}:yy": y * y, f"{name}:ym": y * m}
    grouped = part.group_by(by).agg(**{name: expr.sum() for name, expr in sums.items()})
    table: pd.DataFrame = grouped.collect(backend="pyarrow").to_native().to_pandas()
    table[[*sums]] = table[[*sums]].fillna(0.0).astype("float64")
    if not table[by].map(lambda key: isinstance(key, bool | np.bool_)).all():
        table[by] = table[by].fillna(UNKNOWN)
    return table


def person_moments(persons: Sequence[Any], base: FloatArray, event: FloatArray) -> Sums:
    """Return the same sums for rows that are here: nobody is unknown."""
    codes = pd.factorize(np.asarray(persons, dtype=object))[0]
    m, y = np.bincount(codes, weights=base), np.bincount(codes, weights=event)
    sums = (y.sum(), m.sum(), (y * y).sum(), (y * m).sum(), (m * m).sum(), (m > 0).sum())
    y_, m_, yy, ym, mm, g = (float(x) for x in sums)
    return y_, m_, yy, ym, mm, g
