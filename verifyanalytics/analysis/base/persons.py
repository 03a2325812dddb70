"""Sums over persons: ten tries of one person must not weigh as much as ten persons.

The design effect of a rate needs six sums: with y events in m rows of a person, Σy, Σm, Σy², Σym,
Σm² and the number G of persons (`SUMS`). `person_sums` makes them in the engine, in two group-bys,
of which only the sums over all persons leave it; `person_moments` makes them of arrays in memory;
`crowding` makes G, Σm and Σm² alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import narwhals as nw
import numpy as np
import pandas as pd

from verifyanalytics.analysis.base.groups import add_up, group_counts
from verifyanalytics.analysis.base.intervals import FloatArray

Sums = tuple[float, float, float, float, float, float]
"""Σy, Σm, Σy², Σym, Σm² and G: y events in m rows of each of G persons."""

NO_PERSON: Sums = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
"""The sums where no person is known."""

_EARLY = -(1 << 62)


# ------------------------------------------------------------------ the person of a row


def has_person(truth: Any, cluster: str | None) -> bool:
    """Tell whether a frame has a column that names persons: the cluster, or `label_token`."""
    names = nw.from_native(truth).collect_schema().names()
    return cluster is not None and bool({cluster, "label_token"} & {*names})


def person_keys(truth: Any, cluster: str | None) -> dict[str, nw.Expr]:
    """Return the person of a row as keys to group by: the cluster, else the labelling token."""
    if not has_person(truth, cluster):
        return {}
    subject = nw.col(str(cluster))
    if "label_token" not in nw.from_native(truth).collect_schema().names():
        return {"_person": subject}
    return {"_person": subject, "_token": nw.when(subject.is_null()).then(nw.col("label_token"))}


def person(cluster: str | None) -> nw.Expr:
    """Return the person of a row as one text: of the cluster, else of the token, else null."""
    if cluster is None:
        return nw.lit(None).cast(nw.String)
    known = nw.concat_str([nw.lit("s"), nw.col(cluster).cast(nw.String)], separator=" ")
    token = nw.concat_str([nw.lit("t"), nw.col("label_token")], separator=" ")
    by_token = nw.when(~nw.col("label_token").is_null()).then(token)
    return nw.when(~nw.col(cluster).is_null()).then(known).otherwise(by_token)


# ------------------------------------------------------------------ sums


def person_sums(
    frame: nw.LazyFrame[Any],
    keys: Sequence[str],
    persons: Mapping[str, nw.Expr],
    bases: Mapping[str, nw.Expr | None],
    events: Mapping[str, tuple[str, nw.Expr]],
    *,
    weighted: bool = False,
) -> pd.DataFrame:
    """Add up over persons, per group of keys, what design effects need.

    Parameters
    ----------
    frame : narwhals.LazyFrame
        The sample, with `_chance` where `weighted`.
    keys : sequence of str
        Columns to group by.
    persons : mapping of str to narwhals.Expr
        The person of a row, as columns to group by; all null: unknown. May be empty with weights.
    bases : mapping of str to narwhals.Expr
        The rows m of each denominator, never null. None: every row.
    events : mapping of str to (str, narwhals.Expr)
        The base of an event, and the rows y of the base in which it happened; never null.
    weighted : bool
        Weigh rows by 1 / `_chance`; one of an unknown person is then a person of its own. Without
        weights such rows are left out: they add nothing that the counts do not know.

    Returns
    -------
    DataFrame
        The keys, typed as of `group_counts`; float64 of each base `…:g` (persons), `…:m` (Σm) and
        `…:mm` (Σm²), of each event `…:y` (Σy), `…:yy` (Σy²) and `…:ym` (Σym).
    """
    flags = {f"m:{name}": flag for name, flag in bases.items() if flag is not None}
    flags |= {f"y:{name}": flag for name, (_, flag) in events.items()}
    every_row = [f"m:{name}" for name, flag in bases.items() if flag is None]
    if persons and not weighted:  # an engine skips whole blocks without a person
        frame = frame.filter(_any_known(persons.values()))
    used = frame.select(*keys, *(["_chance"] if weighted else []), **persons, **flags)
    weight, parts = 1.0 / nw.col("_chance"), []
    if persons:
        known = _any_known(nw.col(name) for name in persons)
        totals = {name: weight.sum() if weighted else nw.len() for name in every_row}
        for name in flags:
            flagged = nw.when(nw.col(name)).then(weight if weighted else nw.lit(1))
            totals[name] = flagged.sum() if weighted else flagged.count()
        mine = used.filter(known) if weighted else used
        parts.append(mine.group_by([*keys, *persons]).agg(**totals))
        used = used.filter(~known) if weighted else used
    if weighted:
        alone = dict.fromkeys(every_row, weight)
        alone |= {name: nw.when(nw.col(name)).then(weight).otherwise(0.0) for name in flags}
        parts.append(used.select(*keys, **alone))
    sums: dict[str, nw.Expr] = {}
    for name in bases:
        m = nw.col(f"m:{name}").cast(nw.Float64)
        sums |= {f"{name}:g": (m > 0).cast(nw.Float64), f"{name}:m": m, f"{name}:mm": m * m}
    for name, (base, _) in events.items():
        y, m = (nw.col(c).cast(nw.Float64) for c in (f"y:{name}", f"m:{base}"))
        sums |= {f"{name}:y": y, f"{name}:yy": y * y, f"{name}:ym": y * m}
    tables = [group_counts(part, keys, counts={}, sums=sums) for part in parts]
    both = pd.concat([t for t in tables if len(t)] or tables[:1], ignore_index=True)
    return add_up(both, keys) if len(tables) > 1 else both.fillna(dict.fromkeys(sums, 0.0))


def _any_known(columns: Iterable[nw.Expr]) -> nw.Expr:
    return nw.any_horizontal(*(~column.is_null() for column in columns), ignore_nulls=True)


def person_moments(persons: Sequence[Any], base: FloatArray, event: FloatArray) -> Sums:
    """Return the six sums of rows in memory; every person is known.

    Examples
    --------
    Ann came three times and failed twice, Bob came once:

    >>> person_moments(["ann", "ann", "ann", "bob"], np.ones(4), np.array([1.0, 1.0, 0.0, 0.0]))
    (2.0, 4.0, 4.0, 6.0, 10.0, 2.0)
    """
    codes = pd.factorize(np.asarray(persons, dtype=object))[0]
    m, y = np.bincount(codes, weights=base), np.bincount(codes, weights=event)
    sums = (y.sum(), m.sum(), (y * y).sum(), (y * m).sum(), (m * m).sum(), (m > 0).sum())
    y_, m_, yy, ym, mm, g = (float(x) for x in sums)
    return y_, m_, yy, ym, mm, g


# ------------------------------------------------------------------ rows per person


class Crowd(NamedTuple):
    """How many rows a person has: persons, rows, the sum of squares, and whether it is known."""

    n_subjects: int
    n_rows: int
    squares: int
    known: bool

    @property
    def deff(self) -> float:
        """Design effect if the rows of a person all said the same: Σm² / Σm, an upper limit."""
        return self.squares / self.n_rows if self.n_rows and self.known else 1.0


def crowd_of(frame: nw.LazyFrame[Any]) -> Crowd:
    """Tell how the rows of a frame crowd on persons; see `crowding`."""
    table = crowding(frame, [])
    g, m, mm, known = (int(table[name].sum()) for name in ("g", "m", "mm", "known"))
    return Crowd(g, m, mm, known=bool(known))


def crowding(frame: nw.LazyFrame[Any], keys: Sequence[str]) -> pd.DataFrame:
    """Count persons `g`, rows `m` and Σm² `mm` per key, and `known`, rows that name a person."""
    sizes = frame.group_by([*keys, "subject"]).agg(_m=nw.len())
    m, alone = nw.col("_m").cast(nw.Float64), nw.col("subject").is_null()
    sums = {
        "g": nw.when(alone).then(m).otherwise(1.0),
        "m": m,
        "mm": nw.when(alone).then(m).otherwise(m * m),
        "known": nw.when(alone).then(0.0).otherwise(m),
    }
    table = group_counts(sizes, keys, counts={}, sums=sums)
    return table.fillna(dict.fromkeys(sums, 0.0)).astype(dict.fromkeys(sums, "int64"))


def by_person(frame: nw.LazyFrame[Any], keys: Sequence[str]) -> tuple[pd.DataFrame, Crowd]:
    """Count one row a person over the keys, and tell how rows crowd on persons.

    Parameters
    ----------
    frame : narwhals.LazyFrame
        With `subject`, `occurred_us`, `request_id` (null where unknown) and the keys.
    keys : sequence of str

    Returns
    -------
    DataFrame, Crowd
        The keys and `n`, from each person's last row in the order (occurred_at, request_id),
        unknown times first. A row without a subject is a person of its own. Without any subject
        the table counts every row.
    """
    known = ~nw.col("subject").is_null()
    one = nw.col("subject").is_last_distinct().over(order_by=["_moment", "request_id"])
    moment = nw.col("occurred_us").fill_null(_EARLY)
    ordered = frame.select(*keys, "subject", "request_id", _moment=moment)
    last = ordered.filter(known).with_columns(_one=one).filter(nw.col("_one"))
    parts = [group_counts(x, keys, counts={"n": None}) for x in (last, ordered.filter(~known))]
    table = pd.concat([p for p in parts if len(p)] or parts[1:], ignore_index=True)
    return table, crowd_of(ordered)
