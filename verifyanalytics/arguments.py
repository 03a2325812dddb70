"""What callers may give: numbers within their range, one or several, else one clear line."""

from __future__ import annotations

import math
from typing import Any

from verifyanalytics.errors import UsageError

INF = math.inf


def number(
    value: Any,
    name: str,
    *,
    low: float = -INF,
    high: float = INF,
    above: float = -INF,
    below: float = INF,
    whole: bool = False,
) -> float:
    """Read one finite number.

    Parameters
    ----------
    value : any
        What the caller gave; numbers of NumPy and Arrow too, but no text and no truth value.
    name : str
        The argument's name, for the message.
    low, high : float
        Bounds that the number may reach.
    above, below : float
        Bounds that it may not.
    whole : bool
        Refuse fractions.

    Raises
    ------
    UsageError
        It is no number, not finite, or out of range.
    """
    found = _float(value)
    if found is None or not math.isfinite(found) or (whole and found != int(found)):
        kind = "a whole number" if whole else "a finite number"
        raise UsageError(f"{name} must be {kind}; {_shown(value)} was given")
    if not (low <= found <= high and above < found < below):
        raise UsageError(
            f"{name} must be {_range(low, high, above, below)}; {_shown(value)} was given"
        )
    return found


def numbers(values: Any, name: str, **bounds: Any) -> list[float]:
    """Read one or more finite numbers, in the order given; bounds as `number` has them.

    Raises
    ------
    UsageError
        There is none, or one of them is unfit.
    """
    try:
        several = [values] if isinstance(values, str | bytes) else list(values)
    except TypeError:  # one number, or an array of no dimension
        several = [values]
    found = [number(value, name, **bounds) for value in several]
    if not found:
        raise UsageError(f"{name} must be one number or more; none was given")
    return found


def _float(value: Any) -> float | None:
    if isinstance(value, str | bytes | bool) or type(value).__name__ == "bool":  # of NumPy, too
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _range(low: float, high: float, above: float, below: float) -> str:
    lower = f"above {above:g}" if above > low else f"at least {low:g}"
    upper = f"below {below:g}" if below < high else f"at most {high:g}"
    told = [
        text
        for text, bound in ((lower, max(low, above)), (upper, min(high, below)))
        if math.isfinite(bound)
    ]
    return " and ".join(told)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
