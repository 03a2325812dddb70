"""One object of a reply on its way into columns: known keys are taken, the rest goes to `extra`.

`ObjectReader` has one method for each type of column, and with it the rule for values of another
type: coerced where nothing is lost, else null with the value as sent in the rest; either way an
issue names the path. What is left over goes through `redaction`.
"""

from __future__ import annotations

import math
import re
from datetime import datetime
from decimal import Decimal, InvalidOperation
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
"""Column → the kind of its values (a method of `ObjectReader`, or int and its bits) and its key."""


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
        return {
            column: self.integer(key, bits=int(kind[3:]))
            if kind.startswith("int")
            else getattr(self, kind)(key)
            for column, (kind, key) in table.items()
        }

    def text(self, name: str) -> str | None:
        """Take a text; an integer is one by its digits, with an issue."""
        value: Any = self.values.pop(name, None)
        if value is None:
            return None
        if isinstance(value, Number) and value.lstrip("-").isdigit():
            self._note("type", name)
            value = str(value)
        if isinstance(value, Number) or not isinstance(value, str):
            self._fail(name, value)
            return None
        return self._kept(name, value)

    def identifier(self, name: str) -> str | None:
        """Take a text that tells rows apart: an empty or shortened one does not."""
        sent = self.values.get(name)
        text = self.text(name)
        if text is not None and text != sent:
            self.values[name] = sent  # two long ids of one size are not the same id
            return None
        return text or None

    def plain(self, name: str) -> str | None:
        """Take a scalar as text: a number by its digits, `true`, `false`."""
        value: Any = self.values.pop(name, None)
        if value is None:
            return None
        return self._kept(name, str(value).lower() if isinstance(value, bool) else str(value))

    def secret(self, name: str) -> str | None:
        """Take a text or number that is going to be hashed; of anything else the size is left."""
        value: Any = self.values.pop(name, None)
        if value is None or isinstance(value, str):
            return value or None
        self._fail(name, sized(value))
        return None

    def flag(self, name: str) -> bool | None:
        """Take a truth value; `"true"`, `"false"`, 1 and 0 with an issue."""
        value: Any = self.values.pop(name, None)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str) and value in _FLAGS[isinstance(value, Number)]:
            self._note("type", name)
            return _FLAGS[isinstance(value, Number)][value]
        self._fail(name, value)
        return None

    def number(self, name: str) -> float | None:
        """Take a float64; a text that is a JSON number with an issue."""
        value: Any = self.values.pop(name, None)
        if value is None:
            return None
        if isinstance(value, Number):
            number = float(value)
            if not math.isfinite(number):
                raise Unreadable("number", f"{self._path}.{name} is not finite")
            return number + 0.0  # minus zero is zero
        number = float(value) if isinstance(value, str) and is_number(value) else math.nan
        if not math.isfinite(number):
            self._fail(name, value)
            return None
        self._note("type", name)
        return number + 0.0

    def integer(self, name: str, *, bits: int) -> int | None:
        """Take an integer of so many bits; an integral float or text with an issue."""
        value: Any = self.values.pop(name, None)
        if value is None:
            return None
        integer = _integer(value) if isinstance(value, str) and is_number(value) else None
        if isinstance(value, Number) and _is_beyond(value, integer):
            raise Unreadable("number", f"{self._path}.{name} does not fit int64")
        if integer is None or not -(2 ** (bits - 1)) <= integer < 2 ** (bits - 1):
            self._fail(name, value)
            return None
        if not (isinstance(value, Number) and value.lstrip("-").isdigit()):
            self._note("type", name)
        return integer

    def duration(self, name: str) -> float | None:
        """Take a Go duration; milliseconds."""
        value: Any = self.values.pop(name, None)
        if value is None:
            return None
        number = None if isinstance(value, Number) else milliseconds(value)
        if number is None:
            self._fail(name, value)
        return number

    def time(self, name: str) -> datetime | None:
        """Take a moment."""
        value: Any = self.values.pop(name, None)
        if value is None:
            return None
        moment = read_time(value) if isinstance(value, str) else None
        if moment is None:
            self._fail(name, value)
        return moment

    def texts(self, name: str) -> list[str] | None:
        """Take a list of texts; integers in it with an issue."""
        value: Any = self.values.pop(name, None)
        if value is None:
            return None
        if not isinstance(value, list) or not all(_is_tag(item) for item in value):
            self._fail(name, value)
            return None
        if any(isinstance(item, Number) for item in value):
            self._note("type", name)
        if size(value) > MAX_TEXT:
            self._note("size", name)
            return [sized(value)]
        return [self._kept(name, str(item)) for item in value]

    def image(self, name: str) -> str | None:
        """Take an image's text, to be measured and fingerprinted only."""
        value: Any = self.values.pop(name, None)
        if value is None or (isinstance(value, str) and not isinstance(value, Number)):
            return value
        self._fail(name, value)
        return None

    def object(self, name: str) -> ObjectReader:
        """Enter an object; an empty one stands for what is absent or of another type."""
        value: Any = self.values.pop(name, None)
        if value is not None and not isinstance(value, dict):
            self._fail(name, value)
            value = None
        return self._enter(name, value)

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
        if value is not None and not isinstance(value, dict):
            self._fail(name, value)
            value = None
        return self._enter(name, value)

    def rest(self) -> dict[str, Any]:
        """Everything that was not taken, at its place, images and long texts by their size."""
        inner = {name: rest for name, reader in self._inner.items() if (rest := reader.rest())}
        if self._private:
            return {**{short(name): sized(v) for name, v in self.values.items()}, **inner}
        return {**redacted(self.values), **inner} if self.values else inner

    def _enter(self, name: str, value: dict[str, Any] | None) -> ObjectReader:
        private = self._private or name == "images"
        reader = ObjectReader(value or {}, f"{self._path}.{name}", self._issues, private=private)
        if value:
            self._inner[name] = reader
        return reader

    def _kept(self, name: str, text: str) -> str:
        shown: str = redacted(text)
        if shown != text:
            self._note("size", name)
        return shown

    def _note(self, kind: str, name: str) -> None:
        self._issues.append(f"{kind}:{self._path}.{name}")

    def _fail(self, name: str, value: Any) -> None:
        self._note("type", name)
        self._failed.add(name)
        self.values[name] = value


_FLAGS = {True: {"1": True, "0": False}, False: {"true": True, "false": False}}


def _is_tag(item: Any) -> bool:
    if isinstance(item, Number):
        return item.lstrip("-").isdigit()
    return isinstance(item, str)


def _integer(text: str) -> int | None:
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


def _is_beyond(number: Number, integer: int | None) -> bool:
    if integer is not None:
        return integer not in _INT64
    return abs(float(number)) >= 2.0**63  # too many digits, or infinite


def milliseconds(duration: Any) -> float | None:
    """Read a Go duration such as `41.897331ms`, `84.448µs` or `1m2.3s`; None for anything else."""
    if not isinstance(duration, str) or not _DURATION.fullmatch(duration):
        return None
    total = sum(float(number) * _MS[unit] for number, unit in _PART.findall(duration))
    if not math.isfinite(total):
        return None
    return (-total if duration[0] == "-" else total) + 0.0
