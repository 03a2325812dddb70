"""Which gates a row fails, as one number: an engine groups by it, and NumPy reads it afterwards."""

from __future__ import annotations

import narwhals as nw

from verifyanalytics.analysis.base.rows import GATES, gate

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
