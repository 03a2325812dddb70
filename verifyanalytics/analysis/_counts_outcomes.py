"""What can go wrong with a row, as an outcome to count; and one row a person; a part of `counts`.

Tags and images are held against an outcome: a non-match, a rejection, an attack, a column of the
caller's. Tests need rows that do not repeat each other, so they are made on one row a person:
the first, because whether there is another one depends on how the first one ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import narwhals as nw
import pandas as pd

from verifyanalytics.analysis.counts import (
    ROW,
    add_up,
    gate,
    group_counts,
    rows,
)
from verifyanalytics.errors import UsageError

NO, YES, UNKNOWN_OUTCOME, ONLY_RISK = 0, 1, 2, 3
"""Values of the column `_outcome`: the last is a rejection that the risk score alone made."""

_LATE = 1 << 62


class Outcome(NamedTuple):
    """An outcome as an expression.

    Attributes
    ----------
    name : str
    basis : str
        `association` (nothing says what was true), `labels`, or `column`: the caller's own.
    circular : bool
        The risk score takes part in making this outcome.
    expr : narwhals.Expr
        `NO`, `YES`, `UNKNOWN_OUTCOME` or `ONLY_RISK`; never null.
    """

    name: str
    basis: str
    circular: bool
    expr: nw.Expr


def with_outcome(
    v: Any, outcome: str, columns: Sequence[str], optional: Sequence[str] = ()
) -> tuple[nw.LazyFrame[Any], Outcome]:
    """Take rows with the columns asked for and an int64 column `_outcome`.

    Parameters
    ----------
    v : frame of verifications, for `attack` joined with labels
    outcome : str
        `non_match` (score below the row's own 1e-4 threshold, or withheld), `rejected` (result
        false; a row whose only failing gate is risk is `ONLY_RISK`), `attack` (a label says so;
        rows without label are unknown), or the name of a column of true and false, or 1 and 0.
    columns, optional : sequence of str
        As in `rows`.

    Raises
    ------
    MissingColumnError, UsageError
        A needed column is not there; the outcome's column holds no truth values.
    """
    spare = [*optional, "gateway_code", "req_key", "risk_score", "subject", "occurred_at"]
    spare += ["request_id"]
    if outcome == "non_match":
        found = Outcome(outcome, "association", False, _code(~gate("match")))
        frame = rows(v, [*columns, *ROW], spare)
    elif outcome == "rejected":
        found = Outcome(outcome, "association", True, _rejected())
        frame = rows(v, [*columns, *ROW, "alive", "result"], spare)
    elif outcome == "attack":
        attacked = ~nw.col("attack").is_null()
        known = attacked | ~nw.col("mated").is_null()
        found = Outcome(outcome, "labels", False, _code(nw.when(known).then(attacked)))
        frame = rows(v, [*columns, "attack"], [*spare, "mated"])
    else:
        frame, truth = _own(v, outcome, columns, spare)
        labels = outcome in ("mated", "nonmated")
        found = Outcome(outcome, "labels" if labels else "column", False, _code(truth))
    if "occurred_us" not in frame.collect_schema().names():
        frame = frame.with_columns(occurred_us=nw.lit(None).cast(nw.Int64))
    return frame.with_columns(_outcome=found.expr.cast(nw.Int64)), found


def _code(truth: nw.Expr) -> nw.Expr:
    return nw.when(truth).then(nw.lit(YES)).when(~truth).then(nw.lit(NO)).otherwise(
        nw.lit(UNKNOWN_OUTCOME)
    )  # fmt: skip


def _rejected() -> nw.Expr:
    others = [gate(name).fill_null(value=True) for name in ("answered", "scored", "alive", "match")]
    risk_alone = nw.all_horizontal(~gate("risk"), *others, ignore_nulls=True)
    rejected = ~nw.col("result")
    return nw.when(rejected & risk_alone).then(nw.lit(ONLY_RISK)).otherwise(_code(rejected))


def _own(
    v: Any, name: str, columns: Sequence[str], spare: Sequence[str]
) -> tuple[nw.LazyFrame[Any], nw.Expr]:
    frame = rows(v, [*columns, name], spare)
    kind = frame.collect_schema()[name]
    if kind == nw.Boolean:
        return frame, nw.col(name)
    if kind.is_numeric():
        value = nw.col(name)
        return frame, nw.when((value == 0) | (value == 1)).then(value == 1)
    raise UsageError(
        f"outcome {name!r} holds {kind}; an outcome is non_match, rejected, attack, or a column of "
        "true and false"
    )


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
        The keys and `n`, from each person's first row in the order (occurred_at, request_id),
        unknown times last. A row without a subject is a person of its own. Without any subject the
        table counts every row.
    """
    known = ~nw.col("subject").is_null()
    one = nw.col("subject").is_first_distinct().over(order_by=["_moment", "request_id"])
    moment = nw.col("occurred_us").fill_null(_LATE)
    held = frame.select(*keys, "subject", "request_id", _moment=moment)
    first = held.filter(known).with_columns(_one=one).filter(nw.col("_one"))
    parts = [group_counts(part, keys, counts={"n": None}) for part in (first, held.filter(~known))]
    sizes = held.filter(known).group_by("subject").agg(_m=nw.len())
    sums = sizes.select(
        g=nw.len(), m=nw.col("_m").sum(), mm=(nw.col("_m") * nw.col("_m")).sum()
    ).collect(backend="pyarrow").to_native().to_pylist()[0]  # fmt: skip
    alone = int(parts[1]["n"].sum())
    g, m, mm = (int(sums[name] or 0) + alone for name in ("g", "m", "mm"))
    crowd = Crowd(g, m, mm, known=bool(sums["g"]))
    if not len(parts[0]) or not len(parts[1]):
        table = parts[0] if len(parts[0]) else parts[1]
    else:
        table = pd.concat(parts, ignore_index=True)
    return table, crowd


class Crowd(NamedTuple):
    """How many rows a person has: persons, rows, the sum of squares, and whether it is known."""

    n_subjects: int
    n_rows: int
    squares: int
    known: bool

    @property
    def deff(self) -> float:
        """Design effect if the rows of a person all said the same: Σm² / Σm, an upper limit."""
        return self.squares / self.n_rows if self.n_rows else float("nan")


def crowding(frame: nw.LazyFrame[Any], keys: Sequence[str]) -> pd.DataFrame:
    """Count persons `g`, rows `m` and Σm² `mm` per key, and `known`, rows that name a person.

    Parameters
    ----------
    frame : narwhals.LazyFrame
        With `subject` and the keys. A row without subject is a person of its own.
    keys : sequence of str
    """
    held = frame.select(*keys, "subject")
    alone = group_counts(
        held.filter(nw.col("subject").is_null()), keys, counts={"g": None, "m": None, "mm": None}
    ).assign(known=0)
    sizes = held.filter(~nw.col("subject").is_null()).group_by([*keys, "subject"]).agg(_m=nw.len())
    table = group_counts(sizes, [*keys, "_m"], counts={"g": None})
    size = table.pop("_m").astype("int64")
    g = table["g"]
    together = table.assign(g=g, m=g * size, mm=g * size * size, known=g * size)
    parts = [part for part in (alone, together) if len(part)]
    return add_up(pd.concat(parts, ignore_index=True) if parts else alone, list(keys))
