"""Outcomes: what can go wrong with a row, as one column that an engine can group by.

Tags and images are held against an outcome: a non-match, a rejection, an attack, a column of the
caller's. Labels know it of some rows only, so `chosen` checks how those rows were selected.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import narwhals as nw
import pandas as pd

from verifyanalytics.analysis.base.frames import lazy_rows
from verifyanalytics.analysis.base.groups import group_counts
from verifyanalytics.analysis.base.labelled import TAKEN_AS_RANDOM, band, selection
from verifyanalytics.analysis.base.rows import GATES, REQUIRED, gate, scored, withheld
from verifyanalytics.errors import UsageError
from verifyanalytics.schema import THRESHOLD_COLUMNS

NO, YES, UNKNOWN_OUTCOME, ONLY_RISK = 0, 1, 2, 3
"""Values of the column `_outcome`: the last is a row whose only failing gate is risk."""

_LABELS = ("mated", "nonmated")


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


class Choice(NamedTuple):
    """How the rows were chosen whose outcome is known.

    Attributes
    ----------
    reason : str
        Why no rate is given: `selected_labels`, or nothing.
    note : str
        What the caller has consented to.
    weighted : bool
        Rows were drawn with known, unequal probability: they count 1 / `_chance`.
    """

    reason: str = ""
    note: str = ""
    weighted: bool = False

    @property
    def keys(self) -> list[str]:
        """What to group by beside the question's own keys, so that counts can be weighted."""
        return ["_chance"] if self.weighted else []


def with_outcome(
    v: Any, outcome: str, columns: Sequence[str], optional: Sequence[str] = ()
) -> tuple[nw.LazyFrame[Any], Outcome]:
    """Take rows with the columns asked for and an int64 column `_outcome`.

    Parameters
    ----------
    v : frame of verifications, for `attack` joined with labels
    outcome : str
        `non_match` (score below the row's own 1e-4 threshold, or withheld), `rejected` (result
        false; a row whose only failing gate is risk is `ONLY_RISK` whatever the result, since
        the outcome shall not choose the rows; a gate that is unknown does not fail), `attack` (a
        label says so; rows without label are unknown), or the name of a column of true and
        false, or 1 and 0.
    columns, optional : sequence of str
        As in `rows`.
    """
    if not isinstance(outcome, str):
        raise UsageError(
            "outcome must be non_match, rejected, attack or the name of a column; "
            f"{outcome!r} was given"
        )
    spare = [*optional, "gateway_code", "req_key", "risk_score", "subject", "occurred_at"]
    spare += ["request_id"]
    if outcome == "non_match":
        meaning = Outcome(outcome, "association", False, _code(~gate("match")))
        frame = lazy_rows(v, [*columns, *REQUIRED, "sub_code"], spare)
    elif outcome == "rejected":
        others = [gate(name).fill_null(value=True) for name in GATES if name != "risk"]
        risk_alone = nw.all_horizontal(~gate("risk"), *others, ignore_nulls=True)
        expr = nw.when(risk_alone).then(nw.lit(ONLY_RISK)).otherwise(_code(~nw.col("result")))
        meaning = Outcome(outcome, "association", True, expr)
        frame = lazy_rows(v, [*columns, *REQUIRED, "sub_code", "alive", "result"], spare)
    elif outcome == "attack":
        attacked = ~nw.col("attack").is_null()
        known = attacked | ~nw.col("mated").is_null()
        meaning = Outcome(outcome, "labels", False, _code(nw.when(known).then(attacked)))
        frame = _labelled(v, [*columns, "attack"], [*spare, "mated"])
    else:
        labels = outcome in _LABELS
        frame = (_labelled if labels else lazy_rows)(v, [*columns, outcome], spare)
        basis = "labels" if labels else "column"
        meaning = Outcome(outcome, basis, False, _code(_truth(frame, outcome)))
    if "occurred_us" not in frame.collect_schema().names():
        frame = frame.with_columns(occurred_us=nw.lit(None).cast(nw.Int64))
    return frame.with_columns(_outcome=meaning.expr.cast(nw.Int64)), meaning


def _code(truth: nw.Expr) -> nw.Expr:
    return nw.when(truth).then(nw.lit(YES)).when(~truth).then(nw.lit(NO)).otherwise(
        nw.lit(UNKNOWN_OUTCOME)
    )  # fmt: skip


def _truth(frame: nw.LazyFrame[Any], name: str) -> nw.Expr:
    kind = frame.collect_schema().get(name)
    if kind == nw.Boolean:
        return nw.col(name)
    if kind is not None and kind.is_numeric():
        value = nw.col(name)
        return nw.when((value == 0) | (value == 1)).then(value == 1)
    raise UsageError(
        f"outcome {name!r} holds {kind or 'times'}; an outcome is non_match, rejected, attack, or "
        "a column of true and false"
    )


# ------------------------------------------------------------------ labels


def _labelled(v: Any, columns: Sequence[str], spare: Sequence[str]) -> nw.LazyFrame[Any]:
    """Take rows with what tells how their labels were chosen; any of it may be missing."""
    about = ["inclusion_prob", "result", "score", "code", "sub_code", "gateway_code", "req_key"]
    about += THRESHOLD_COLUMNS
    frame = lazy_rows(v, columns, [c for c in (*spare, *about) if c not in columns])
    has_code = "code" in nw.from_native(v).collect_schema().names()
    has_score, chance = ~nw.col("score").is_null(), nw.col("inclusion_prob").cast(nw.Float64)
    return frame.with_columns(
        _scored=scored() if has_code else has_score,
        _withheld=withheld() if has_code else (has_score & ~has_score),
        _chance=nw.when(chance.is_finite()).then(chance),
    )


def chosen(
    frame: nw.LazyFrame[Any], outcome: Outcome, among: nw.Expr, *, assume_random: bool = False
) -> tuple[nw.LazyFrame[Any], Choice]:
    """Ask how the rows were chosen whose outcome is known, as for error rates.

    Returns
    -------
    LazyFrame, Choice
        When some rows were drawn with a known probability, only those have a known outcome now: a
        reported fraud case is no draw.
    """
    if outcome.basis != "labels":
        return frame, Choice()
    known = (nw.col("_outcome") == YES) | (nw.col("_outcome") == NO)
    drawn = known & ~nw.col("_chance").is_null()
    chance = nw.when(drawn).then(nw.col("_chance"))
    table = group_counts(
        frame.filter(among).with_columns(_band=band()),
        ["_band", "result"],
        counts={"n_rows": None, "n_labelled": known, "n_with_chance": drawn},
        least={"low": chance},
        most={"high": chance},
    )
    if table["n_with_chance"].sum():
        state = nw.when(known & ~drawn).then(nw.lit(UNKNOWN_OUTCOME)).otherwise(nw.col("_outcome"))
        weighted = bool(table["low"].min() < table["high"].max())
        return frame.with_columns(_outcome=state.cast(nw.Int64)), Choice(weighted=weighted)
    reason = selection(table.assign(regime="", n_mated=table["n_labelled"], n_nonmated=0)).get("")
    note = TAKEN_AS_RANDOM if reason and assume_random else ""
    return frame, Choice("" if assume_random else reason or "", note)


def weights(table: pd.DataFrame) -> pd.Series:
    """Return what a row of a count table weighs: 1 / `_chance`, or 1 where that is no key."""
    if "_chance" not in table:
        return pd.Series(1.0, index=table.index)
    return (1.0 / table["_chance"].astype("float64")).fillna(0.0)
