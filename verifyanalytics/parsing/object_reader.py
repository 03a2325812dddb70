"""One object of a reply on its way into columns: known keys are taken, the rest goes to `extra`.

A converter for each type of column has the rule for values of another type: coerced where nothing
is lost, else null with the value as sent in the rest; either way an issue names the path. What is
left over goes through `redaction`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any

from verifyanalytics.parsing.envelope import read_time
from verifyanalytics.parsing.redaction import MAX_TEXT, redacted, short, size, sized
from verifyanalytics.parsing.strict_json import Number, Unreadable, is_number, loads

_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(h|ms|m|s|us|µs|μs|ns)")
_DURATION = re.compile(rf"-?(?:{_PART.pattern})+")
_MS = {"h": 3.6e6, "m": 6e4, "s": 1e3, "ms": 1.0, "us": 1e-3, "µs": 1e-3, "μs": 1e-3, "ns": 1e-6}
_INT64 = range(-(2**63), 2**63)
_FLAGS = {True: {"1": True, "0": False}, False: {"true": True, "false": False}}

Table = dict[str, tuple[str, str]]
"""Column → a key of `CONVERTERS` and the key of its value, in the order of their issues."""


class ObjectReader:
    """Reads one object: each method takes a key out; `rest` gives what was not taken.

    Parameters
    ----------
    values : dict
        The object; empty where the reply has none.
    path : str
        Its place, as issues name it.
    issues : list of str
        Shared by the whole response.
    private : bool
        Whether everything left over is an image: only sizes are kept.
    """

    def __init__(
        self, values: dict[str, Any], path: str, issues: list[str], *, private: bool = False
    ) -> None:
        self.values = dict(values)
        self._path = path
        self._issues = issues
        self._private = private
        self._inner: dict[str, ObjectReader] = {}
        self._failed: set[str] = set()

    def holds(self, name: str) -> bool:
        """Whether the key is there; null is absent, and gone from here on."""
        if self.values.get(name) is None:
            self.values.pop(name, None)
        return name in self.values

    def failed(self, name: str) -> bool:
        """Whether the key was there with a type that does not fit."""
        return name in self._failed

    def columns(self, table: Table) -> dict[str, Any]:
        """Take the keys of a table, in its order."""
        return {column: self.take(kind, name) for column, (kind, name) in table.items()}

    def take(self, kind: str, name: str) -> Any:
        """Take a value of a kind of `CONVERTERS`; None where it is absent or does not fit."""
        value = self.values.pop(name, None)
        if value is None:
            return None
        converted, is_exact = CONVERTERS[kind](value, f"{self._path}.{name}")
        if converted is None:
            self._fail(name, value)
        elif not is_exact:
            self._note("type", name)
        return self._kept(name, converted)

    def identifier(self, name: str) -> str | None:
        """Take a text that tells rows apart: an empty or shortened one does not."""
        sent = self.values.get(name)
        text: str | None = self.take("text", name)
        if text is not None and text != sent:
            self.values[name] = sent  # two long ids of one size are not the same id
            return None
        return text or None

    def texts(self, name: str) -> list[str] | None:
        """Take a list of texts; integers in it with an issue."""
        sent = self.values.get(name)
        items: list[str] | None = self.take("texts", name)
        if items is not None and size(sent) > MAX_TEXT:
            self._note("size", name)
            return [sized(sent)]
        return items and [self._kept(name, item) for item in items]

    def image(self, name: str) -> str | None:
        """Take an image's text, to be measured and fingerprinted only."""
        value: Any = self.values.pop(name, None)
        if isinstance(value, str) and not isinstance(value, Number):
            return value
        if value is not None:
            self._fail(name, value)
        return None

    def plain(self, name: str) -> str | None:
        """Take a scalar as text: a number by its digits, `true`, `false`."""
        value: Any = self.values.pop(name, None)
        if isinstance(value, bool):
            return str(value).lower()
        text: str | None = self._kept(name, None if value is None else str(value))
        return text

    def secret(self, name: str) -> str | None:
        """Take a text or number that is going to be hashed; of anything else the size is left."""
        value: Any = self.values.pop(name, None)
        if value is None or isinstance(value, str):
            return value or None
        self._fail(name, sized(value))
        return None

    def object(self, name: str) -> ObjectReader:
        """Enter an object; an empty one stands for what is absent or of another type."""
        return self._enter(name, self.values.pop(name, None))

    def first(self, *names: str) -> ObjectReader:
        """Enter the first of these objects that is there; the others are left over."""
        there = [name for name in names if self.holds(name)]
        return self.object((there or names)[0])

    def nested(self, name: str) -> ObjectReader:
        """Enter an object that may be written as a JSON text."""
        value: Any = self.values.pop(name, None)
        if isinstance(value, str) and not isinstance(value, Number):
            if not value:
                self._note("empty", name)
                return self._enter(name, None)
            inner = loads(value, f"{self._path}.{name}")
            value = inner if isinstance(inner, dict | None) else value
        return self._enter(name, value)

    def rest(self) -> dict[str, Any]:
        """Everything that was not taken, at its place, images and long texts by their size."""
        inner = {name: rest for name, reader in self._inner.items() if (rest := reader.rest())}
        if self._private:
            return {**{short(name): sized(v) for name, v in self.values.items()}, **inner}
        return {**redacted(self.values), **inner} if self.values else inner

    def _enter(self, name: str, value: Any) -> ObjectReader:
        if value is not None and not isinstance(value, dict):
            self._fail(name, value)
            value = None
        private = self._private or name == "images"
        reader = ObjectReader(value or {}, f"{self._path}.{name}", self._issues, private=private)
        if value:
            self._inner[name] = reader
        return reader

    def _kept(self, name: str, value: Any) -> Any:
        """A text that becomes a column as it may be kept; any other value as it is."""
        if not isinstance(value, str):
            return value
        kept = redacted(value)
        if kept != value:
            self._note("size", name)
        return kept

    def _note(self, kind: str, name: str) -> None:
        self._issues.append(f"{kind}:{self._path}.{name}")

    def _fail(self, name: str, value: Any) -> None:
        self._note("type", name)
        self._failed.add(name)
        self.values[name] = value


# ------------------------------------------------------------------ converters

Converted = tuple[Any, bool]
"""The value of a column, None for what does not fit, and whether it came in its own type."""


def _text(value: Any, path: str) -> Converted:
    if isinstance(value, Number):
        return (str(value), False) if value.lstrip("-").isdigit() else (None, False)
    return (value, True) if isinstance(value, str) else (None, False)


def _texts(value: Any, path: str) -> Converted:
    items = [_text(item, path) for item in value] if isinstance(value, list) else [(None, False)]
    texts = [text for text, _ in items]
    return None if None in texts else texts, all(is_exact for _, is_exact in items)


def _flag(value: Any, path: str) -> Converted:
    if isinstance(value, bool):
        return value, True
    return _FLAGS[isinstance(value, Number)].get(value) if isinstance(value, str) else None, False


def _is_number(value: Any) -> bool:
    return isinstance(value, Number) or (isinstance(value, str) and is_number(value))


def _number(value: Any, path: str) -> Converted:
    number = float(value) if _is_number(value) else math.nan
    if math.isfinite(number):
        return number + 0.0, isinstance(value, Number)  # minus zero is zero
    if isinstance(value, Number):
        raise Unreadable("number", f"{path} is not finite")
    return None, False


def _integer(value: Any, path: str, *, bits: int) -> Converted:
    integer = _exact_integer(value) if _is_number(value) else None
    if isinstance(value, Number) and (
        # without an integer: too many digits, a fraction, or infinite
        integer not in _INT64 if integer is not None else abs(float(value)) >= 2.0**63
    ):
        raise Unreadable("number", f"{path} does not fit int64")
    if integer is None or not -(2 ** (bits - 1)) <= integer < 2 ** (bits - 1):
        return None, False
    return integer, isinstance(value, Number) and value.lstrip("-").isdigit()


def _exact_integer(text: str) -> int | None:
    """Read a JSON number that is an integer without loss, if it is not beyond all our integers."""
    if text.lstrip("-").isdigit():
        return int(text) if len(text) <= 20 else None
    if abs(float(text)) >= 2.0**64:
        return None
    try:
        value = Decimal(text)  # exact, whatever the precision of the context
    except InvalidOperation:  # an exponent beyond those of decimals
        return None
    return int(value) if value == value.to_integral_value() else None


def _duration(value: Any, path: str) -> Converted:
    return None if isinstance(value, Number) else milliseconds(value), True


def _time(value: Any, path: str) -> Converted:
    return read_time(value) if isinstance(value, str) else None, True


def milliseconds(duration: Any) -> float | None:
    """Read a Go duration such as `41.897331ms`, `84.448µs` or `1m2.3s`; None for anything else."""
    if not isinstance(duration, str) or not _DURATION.fullmatch(duration):
        return None
    total = sum(float(number) * _MS[unit] for number, unit in _PART.findall(duration))
    if not math.isfinite(total):
        return None
    return (-total if duration[0] == "-" else total) + 0.0


CONVERTERS: dict[str, Callable[[Any, str], Converted]] = {
    "text": _text,
    "texts": _texts,
    "flag": _flag,
    "number": _number,
    "duration": _duration,
    "time": _time,
    **{f"int{bits}": partial(_integer, bits=bits) for bits in (16, 32, 64)},
}
"""By kind: a value and its place in the reply → what the column gets."""
