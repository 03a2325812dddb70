"""What a row of verifications is, as expressions that any engine evaluates.

`answered`, `scored`, `withheld`, `complete` and `gate` write the meaning of a row once; narwhals
translates them for DuckDB, Polars and Spark. `gate_pattern` packs the gates that a row fails into
one number, by which an engine groups; `first_gate` and `failing` read it afterwards.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import narwhals as nw

from verifyanalytics.arguments import number
from verifyanalytics.codebook.book import Codebook, current
from verifyanalytics.errors import UsageError
from verifyanalytics.schema import THRESHOLD_COLUMNS

Gate: TypeAlias = Literal["answered", "scored", "alive", "match", "risk"]

GATES: tuple[Gate, ...] = ("answered", "scored", "alive", "match", "risk")
"""The gates, in the order in which a verification passes them."""

OWN_THRESHOLD = "threshold_1e_4"
"""The vendor's documented pass rule: score at or above the row's own 1e-4 threshold."""

OWN_FMR = 1e-4
"""The false-match rate that the vendor claims at it; a withheld score lies below it."""

REQUIRED = ("code", "score", *THRESHOLD_COLUMNS)
"""Columns that `answered`, `scored`, `withheld`, `complete` and the gate `match` need."""

OPTIONAL = ("gateway_code", "sub_code", "req_key")
"""Columns that they use when there; without them no gateway failed and no score was withheld."""


def answered(book: Codebook | None = None) -> nw.Expr:
    """Return true where the service answered: no gateway error, and an answered code; never null.

    Needs `code` and `gateway_code`.
    """
    codes = sorted((book or current()).answered_codes)
    is_answer = nw.col("code").is_in(codes).fill_null(value=False)
    return is_answer & nw.col("gateway_code").is_null()


def scored(book: Codebook | None = None) -> nw.Expr:
    """Return true where the row is answered and has a score; never null."""
    return answered(book) & ~nw.col("score").is_null()


def withheld(book: Codebook | None = None) -> nw.Expr:
    """Return true where faces were compared but the score was withheld; never null.

    Answered, a sub-code of stage `compare`, no score. Such a row is a non-match (statistics: rows,
    gates, denominators). The sub-code 0 (passed) without a score withholds nothing: it is no
    statement that faces do not match.
    """
    codes = [code for code in (book or current()).sub_codes_in("compare") if code != 0]
    compared = nw.col("sub_code").is_in(codes).fill_null(value=False)
    return answered(book) & compared & nw.col("score").is_null()


def complete() -> nw.Expr:
    """Return true where the four thresholds are there and rise; never null."""
    t3, t4, t5, t6 = (nw.col(name) for name in THRESHOLD_COLUMNS)
    # NaN is the greatest number to DuckDB and Polars: the last comparison catches it
    return ((t3 < t4) & (t4 < t5) & (t5 < t6) & (t6 < float("inf"))).fill_null(value=False)


def gate(name: Gate, book: Codebook | None = None, risk_fail: int | None = None) -> nw.Expr:
    """Return one gate as an expression: true passes, false fails, null is unknown.

    Parameters
    ----------
    name : {"answered", "scored", "alive", "match", "risk"}
    book : Codebook, optional
        Default: the one in use.
    risk_fail : int, optional
        The risk score that fails; default the code book's. No risk result passes.

    Notes
    -----
    match is `score >= own 1e-4 threshold`; a withheld score fails; no score, or an incomplete
    regime, is unknown.
    """
    if name == "answered":
        return answered(book)
    if name == "scored":
        return scored(book)
    if name == "alive":
        return nw.col("alive")
    if name == "match":
        own = nw.when(complete()).then(nw.col("score") >= nw.col(OWN_THRESHOLD))
        return nw.when(withheld(book)).then(nw.lit(value=False)).otherwise(own)
    if name == "risk":
        given = (book or current()).risk_fail if risk_fail is None else risk_fail
        limit = int(number(given, "risk_fail", whole=True))
        return (nw.col("risk_score") < limit).fill_null(value=True)
    raise UsageError(f"no gate {name!r}; the gates are: {', '.join(GATES)}")


# ------------------------------------------------------------------ patterns of gates

UNKNOWN_SHIFT = len(GATES)
"""Above the bits of the failing gates stand those of the unknown ones."""

_MAY_BE_UNKNOWN = ("alive", "match")

NO_GATE, SOME_UNKNOWN = "none", "unknown"
"""First gates that are none: all pass, or none fails and some are unknown."""


def gate_pattern(risk_fail: int | None = None) -> nw.Expr:
    """One bit a gate that fails, and above them one bit a gate that is unknown."""
    bits = nw.lit(0)
    for i, name in enumerate(GATES):
        passes, failed = gate(name, risk_fail=risk_fail), nw.lit(1 << i)
        if name in _MAY_BE_UNKNOWN:
            failed = nw.when(~passes).then(failed).otherwise(1 << (i + UNKNOWN_SHIFT))
        bits = bits + nw.when(passes).then(0).otherwise(failed)
    return bits.cast(nw.Int64)


def first_gate(pattern: int) -> str:
    """Name the first gate that fails, `none` when all pass, `unknown` when that is not known."""
    for i, name in enumerate(GATES):
        if pattern >> i & 1:
            return name
    return SOME_UNKNOWN if pattern >> UNKNOWN_SHIFT else NO_GATE


def failing(pattern: int) -> str:
    """Join the names of all failing gates by `+`."""
    return "+".join(name for i, name in enumerate(GATES) if pattern >> i & 1)
