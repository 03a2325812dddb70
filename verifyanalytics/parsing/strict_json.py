"""JSON as RFC 8259 has it, nothing more: numbers keep their text, and two ways to write back.

It is Python's decoder, but refuses what that lets through: `NaN`, lone surrogates, any depth.
Numbers come out as `Number`, the exact text, so that the value of an unknown key is kept without
becoming another number.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

MAX_DEPTH = 64
"""Objects and arrays inside each other, at most; each nested text counts on its own."""

# a string that is not closed runs to the end, else a hostile text is scanned again and again
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]+|\\.)*+"?|[\[{]+|[\]}]+', re.DOTALL)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
# left to right, so that an escaped backslash never lends its second half to a \u
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u([dD][89a-fA-F])|.)", re.DOTALL
)


class Number(str):
    """A JSON number as it was written."""

    __slots__ = ()


class Unreadable(Exception):  # noqa: N818  it never leaves the package: a reject, not an error
    """A text or a value that makes the response a reject.

    `reason` is one of `schema.REJECT_REASONS`, `detail` says what is wrong and where, without
    payload.
    """

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(reason, detail)


def is_number(text: str) -> bool:
    """Whether a text is exactly one JSON number."""
    return _NUMBER.fullmatch(text) is not None


def is_deep(text: str) -> bool:
    """Whether brackets stand deeper in each other than `MAX_DEPTH`, in any text, JSON or not."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return False
    level = 0
    for match in _STRING_OR_BRACKET.finditer(text):
        if match[0][0] in "[{":
            level += len(match[0])
            if level > MAX_DEPTH:
                return True
        elif match[0][0] in "]}":
            level -= len(match[0])
    return False


def loads(text: str, where: str = "$") -> Any:
    """Read one JSON text; of a name given twice the last value stands.

    Raises
    ------
    Unreadable
        `depth` over `MAX_DEPTH`, `syntax`, or `encoding` for a lone surrogate; `where` is the path
        that the detail names.

    Examples
    --------
    >>> loads('{"a": 1.50, "a": 60.0}')
    {'a': '60.0'}
    """
    if is_deep(text):
        raise Unreadable("depth", f"{where} is nested deeper than {MAX_DEPTH}")
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise Unreadable("syntax", f"{where}: {error.msg} at character {error.pos}") from None
    if "\\u" in text and any(match[1] for match in _ESCAPE.finditer(text)):
        raise Unreadable("encoding", f"{where}: half of a surrogate pair")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise json.JSONDecodeError(f"{name} is not JSON", "", 0)


_DECODER = json.JSONDecoder(
    parse_float=Number, parse_int=Number, parse_constant=_refuse_constant, strict=True
)


def dumps(value: Any, *, normalised: bool = False) -> str:
    """Write a value of `loads` back: compact, names sorted, characters as they are.

    If `normalised`, numbers that are the same float64 get the same text: 60, 60.0 and 6e1 are `60`.
    Otherwise each number keeps the text it came with.

    Examples
    --------
    >>> dumps(loads('{"b": 60.0, "a": [1E2, true]}'))
    '{"a":[1E2,true],"b":60.0}'
    >>> dumps(loads('{"b": 60.0, "a": [1E2, true]}'), normalised=True)
    '{"a":[100,true],"b":60}'
    """
    if isinstance(value, Number):
        return _normal(value) if normalised else value
    if isinstance(value, dict):
        pairs = (
            f"{_quoted(name)}:{dumps(value[name], normalised=normalised)}" for name in sorted(value)
        )
        return "{" + ",".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join(dumps(item, normalised=normalised) for item in value) + "]"
    return _quoted(value)


_quoted = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _normal(number: Number) -> str:
    if number == "-0":
        return "0"
    if not set(number) & set(".eE"):
        return number  # an integer is exact, however long
    value = float(number)
    if not math.isfinite(value):
        return number
    return str(int(value)) if value.is_integer() else repr(value)
