"""Checks of what callers give: numbers, texts, paths and time zones, else one clear line.

Each gives the value as the package uses it, or raises `UsageError` with the argument's name.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

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
    """Read one finite number, of NumPy and Arrow too, but no text and no truth value."""
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
    """Read one or more finite numbers, in the order given; bounds as `number` has them."""
    try:
        several = [values] if isinstance(values, str | bytes) else list(values)
    except TypeError:  # one number, or an array of no dimension
        several = [values]
    found = [number(value, name, **bounds) for value in several]
    if not found:
        raise UsageError(f"{name} must be one number or more; none was given")
    return found


def check_texts(given: Mapping[str, Any]) -> None:
    """Check optional texts by name: each is None or a text that UTF-8 can hold."""
    for name, value in given.items():
        if value is not None and not isinstance(value, str):
            raise UsageError(f"{name} must be text; {_shown(value)} was given")
        if value is not None and printable(value) != value:
            raise UsageError(f"{name} is no UTF-8 text: {printable(value)}")


def printable(text: str) -> str:
    """Write a text that is no UTF-8, such as the name of a file, so that it can be printed."""
    return text.encode(errors="backslashreplace").decode()


def paths(given: Any) -> list[str | Path]:
    """Read one path or several."""
    # an empty text is refused: a shell makes one of a variable that is not set, and the working
    # folder is not what was meant
    alone = isinstance(given, str | Path)
    if not alone and not isinstance(given, Iterable):
        raise UsageError(f"paths must be files or folders; {_shown(given)} was given")
    found = [given] if alone else list(given)
    for path in found:
        if not isinstance(path, str | Path) or path == "":
            raise UsageError(f"a path must name a file or folder; {_shown(path)} was given")
    return found


def zone(tz: Any) -> ZoneInfo:
    """Read the name of a time zone."""
    if not isinstance(tz, str):
        raise UsageError(f"a time zone is a name such as Asia/Shanghai or UTC, not {tz!r}")
    try:
        return ZoneInfo(tz)
    except (KeyError, ValueError, OSError):
        raise UsageError(f"no time zone {tz!r}; give a name such as Asia/Shanghai or UTC") from None


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
    bounds = [
        text
        for text, bound in ((lower, max(low, above)), (upper, min(high, below)))
        if math.isfinite(bound)
    ]
    return " and ".join(bounds)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
