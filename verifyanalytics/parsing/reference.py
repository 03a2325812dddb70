"""The reference parser: one response becomes one row, or one reason why not.

It is written to be read; `fast` gives the same rows for blocks of responses. One walk reads all
reply shapes: known keys become columns, every other key goes to `extra`, whatever was coerced or
wrong is named in `issues`.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import struct
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any

from verifyanalytics.parsing.text import (
    MAX_TEXT,
    Number,
    Opened,
    ReadOptions,
    Unreadable,
    context_names,
    dumps,
    is_number,
    is_number_of_a_person,
    is_reply,
    keyed_hash,
    loads,
    open_line,
    read_time,
    redacted,
    short,
    size,
    sized,
)
from verifyanalytics.schema import (
    IMAGES,
    QUALITY_COLUMNS,
    QUALITY_FIELDS,
    QUALITY_MEASURES,
    THRESHOLD_COLUMNS,
    THRESHOLD_LEVELS,
    VERIFICATION_COLUMNS,
)

_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(h|ms|m|s|us|µs|μs|ns)")
_DURATION = re.compile(rf"-?(?:{_PART.pattern})+")
_MS = {"h": 3.6e6, "m": 6e4, "s": 1e3, "ms": 1.0, "us": 1e-3, "µs": 1e-3, "μs": 1e-3, "ns": 1e-6}
_INT64 = range(-(2**63), 2**63)
_FLAGS = {True: {"1": True, "0": False}, False: {"true": True, "false": False}}

Table = dict[str, tuple[str, str]]
"""Column → a key of `CONVERTERS` and the key of its value, in the order of their issues."""


class ObjectReader:
    """Reads one object: each method takes a key out; `rest` gives what was not taken."""

    def __init__(
        self, values: dict[str, Any], path: str, issues: list[str], *, private: bool = False
    ) -> None:
        self.values = dict(values)
        self._path, self._issues = path, issues  # the issues are the whole response's
        self._private = private  # all that is left over is an image: only sizes are kept
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
        if name == "request_id" and is_number_of_a_person(value):
            return value  # an id by which answers are told apart, whatever it looks like
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
    "duration": lambda value, _: (None if isinstance(value, Number) else milliseconds(value), True),
    "time": lambda value, _: (read_time(value) if isinstance(value, str) else None, True),
    **{f"int{bits}": partial(_integer, bits=bits) for bits in (16, 32, 64)},
}
"""By kind: a value and its place in the reply → what the column gets."""


# ------------------------------------------------------------------ one response

CONTENT_NUMBERS = ("elapsed_ms", "score", *QUALITY_COLUMNS)
"""The 24 float columns that the content's digest begins with, in this order."""

CONTENT_REPEATED = (
    "code", "gateway_code", "message", "sub_code", "sub_message", "result", "alive",
    *THRESHOLD_COLUMNS, "risk_score", "risk_tags", "measure_type", "measure_value",
)  # fmt: skip
"""The other columns of a reply, whose values repeat, in the order in which the digest goes on."""

# Column → (kind, key), in the order in which issues name them.
_SERVICE: Table = {
    "code": ("int32", "code"),
    "message": ("text", "message"),
    "elapsed_ms": ("duration", "time_elapsed"),
}
_COMPARISON: Table = {"alive": ("flag", "alive"), "score": ("number", "score")}
_THRESHOLDS: Table = {
    column: ("number", level)
    for column, level in zip(THRESHOLD_COLUMNS, THRESHOLD_LEVELS, strict=True)
}
_QUALITY: dict[str, Table] = {
    image: {
        f"{image}_{measure}": ("number", name)
        for measure, name in zip(QUALITY_MEASURES, QUALITY_FIELDS, strict=True)
    }
    for image in IMAGES
}
_OUTCOME: Table = {"sub_code": ("int32", "status_code"), "sub_message": ("text", "status_message")}
_MEASURE: Table = {"measure_type": ("text", "measure_type"), "measure_value": ("int64", "value")}
_ENVELOPE: Table = {
    "action": ("text", "action"),
    "req_key": ("text", "req_key"),
    "http_status": ("int16", "http_status"),
    "occurred_at": ("time", "occurred_at"),
}

_REQUEST_DATE = re.compile(r"([0-9]{14})[0-9A-Fa-f]{20}")
_PACK_NUMBERS = struct.Struct(f"<{len(CONTENT_NUMBERS)}d").pack
_NAN = float("nan")

Row = dict[str, Any]
"""Column → value: `schema.VERIFICATIONS` without batch, month and ctx_*; times are datetimes."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a response is no row: one of `schema.REJECT_REASONS`, and at most 200 characters."""

    reason: str
    detail: str


def read_response(data: bytes, options: ReadOptions, *, source: str, row: int) -> Row | Refusal:
    """Read one line or document; never an exception, whatever the bytes are."""
    try:
        opened = open_line(data, options)
        if not isinstance(opened.reply, dict) or not is_reply(opened.reply):
            raise Unreadable("not_a_response", "neither code nor ResponseMetadata")
        values = _Reading(options).read(opened, source, row)
    except Unreadable as refused:
        return Refusal(refused.reason, refused.detail[:200])
    wrong = next((issue for issue in values["issues"] if issue.startswith("type:")), None)
    if options.strict and wrong:
        return Refusal("type", f"{wrong.removeprefix('type:')} has the wrong type"[:200])
    return values


class _Reading:
    """The reading of one response: its issues, and the row that grows."""

    def __init__(self, options: ReadOptions) -> None:
        self.options = options
        self.issues: list[str] = []
        self.row: Row = {c.name: None for c in VERIFICATION_COLUMNS if c.name != "batch"}

    def read(self, opened: Opened, source: str, row: int) -> Row:
        """Read the reply, then what stood around it, then what follows from both."""
        values = self.row
        reply = ObjectReader(opened.reply, "$", self.issues)
        if not self._read_gateway(reply):
            self._read_service(reply)
        extra = reply.rest()
        values["content"] = content(values, dumps(extra, normalised=True) if extra else None)
        if around := self._read_envelope(opened):
            extra[free_name(extra, "envelope")] = around
        values |= {
            "extra": dumps(extra) if extra else None,
            "issues": self.issues,
            "source": source,
            "source_row": row,
        }
        self._date()
        if values["request_id"] is None:
            values["request_id"] = substitute_id(values)
        return values

    def _read_gateway(self, reply: ObjectReader) -> bool:
        """Read the gateway's metadata; true when it holds an error: the rest then means nothing."""
        metadata = reply.object("ResponseMetadata")
        values = self.row
        values["action"] = metadata.take("text", "Action")
        request_id = metadata.identifier("RequestId")
        if not metadata.holds("Error"):
            values["request_id"] = reply.identifier("request_id") or request_id
            return False
        error = metadata.object("Error")
        values["request_id"] = request_id or reply.identifier("request_id")
        values["gateway_code"] = error.take("text", "Code")
        values["message"] = error.take("text", "Message")
        return True

    def _read_service(self, reply: ObjectReader) -> None:
        values = self.row
        values |= reply.columns(_SERVICE)
        data = reply.object("data")
        values["result"] = data.take("flag", "result")
        risk = data.nested("risk_result")
        values["risk_score"] = risk.take("int32", "score")
        values["risk_tags"] = risk.texts("tags")
        if values["risk_tags"] is None and not risk.failed("tags"):
            # Go writes an empty list as null: asked, nothing found
            values["risk_tags"] = None if values["risk_score"] is None else []
        images = data.object("images")
        for name in ("image_best", "image_env"):
            image = images.image(name)
            if image is None:
                continue
            values[f"{name}_bytes"] = len(image)
            if image and self.options.print_key:
                values[f"{name}_print"] = keyed_hash(self.options.print_key, "image", image)
        details = data.object("source_comp_details")
        values |= details.columns(_COMPARISON)
        values |= details.object("thresholds").columns(_THRESHOLDS)
        for image_name, table in _QUALITY.items():
            values |= details.nested(f"image_{image_name}_detail").columns(table)
        # a query reply holds the outcome of the verification itself under `verify_`
        outcome = data.first("verify_algorithm_base_resp", "algorithm_base_resp")
        values |= outcome.columns(_OUTCOME)
        measure = data.first("verify_req_measure_info", "req_measure_info")
        values |= measure.columns(_MEASURE)

    def _read_envelope(self, opened: Opened) -> dict[str, Any]:
        values, options = self.row, self.options
        envelope = ObjectReader({**opened.rest, **opened.around}, "envelope", self.issues)
        columns = envelope.columns(_ENVELOPE)
        columns["action"] = columns["action"] or values["action"] or options.action
        columns["req_key"] = columns["req_key"] or options.req_key
        values |= columns
        if options.collected:
            # the collector's hashes stay as they are; the images it took out left their size
            for name in ("token", "subject"):
                values[name] = envelope.secret(name)
            images = envelope.object("images")
            for name in ("image_best", "image_env"):
                if images.holds(f"{name}_bytes"):
                    values[f"{name}_bytes"] = images.take("int32", f"{name}_bytes")
                    values[f"{name}_print"] = images.take("text", f"{name}_print")
        for column, name in (("token", "byted_token"), ("subject", "subject")):
            secret = envelope.secret(name)
            if secret and options.key:
                values[column] = keyed_hash(options.key, column, secret)
        context = envelope.object("context")
        values |= {f"ctx_{column}": text for column, text in options.context.items()}
        for column, name in context_names(context.values, options).items():
            text = context.plain(name)
            if text is not None:
                values[f"ctx_{column}"] = text
        return envelope.rest()

    def _date(self) -> None:
        values = self.row
        if values["occurred_at"] is not None:
            values["occurred_at_source"] = self.options.time_source
        elif values["request_id"] is not None:
            values["occurred_at"] = date_in(values["request_id"])
            values["occurred_at_source"] = "request_id" if values["occurred_at"] else None
        moment = values["occurred_at"]
        values["month"] = "unknown" if moment is None else f"{moment:%Y-%m}"


def date_in(request_id: str) -> datetime | None:
    """Moment at which a request_id of the dated form was given out, in UTC; else None."""
    match = _REQUEST_DATE.fullmatch(request_id)
    if match is None:
        return None
    year, parts = match[1][:4], [match[1][i : i + 2] for i in range(4, 14, 2)]
    return read_time(f"{year}-{parts[0]}-{parts[1]}T{':'.join(parts[2:])}+08:00")


def content(row: Row, extra: str | None) -> str:
    """Digest of what a reply says, whichever way it was written down; `extra` is normalised."""
    # key order, escapes, the spelling of numbers, the id, images and the envelope do not count
    numbers = (_NAN if row[name] is None else row[name] for name in CONTENT_NUMBERS)
    repeated = repeated_digest([row[name] for name in CONTENT_REPEATED])
    return hashlib.sha256(_PACK_NUMBERS(*numbers) + repeated + (extra or "").encode()).hexdigest()


def repeated_digest(values: Iterable[Any]) -> bytes:
    """SHA-256 of the compact UTF-8 JSON array of the `CONTENT_REPEATED` columns."""
    # a digest of its own, so that the fast path computes it once a combination
    text = json.dumps(list(values), ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).digest()


def substitute_id(row: Row) -> str:
    """Identify a reply that has no request_id: by its content, its time and its place."""
    moment = row["occurred_at"]
    parts = (
        row["content"],
        "" if moment is None else moment.isoformat(),
        row["source"],
        str(row["source_row"]),
    )
    return f"sha256:{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()}"


def free_name(taken: Container[str], name: str) -> str:
    """Give the first of `name`, `name_`, `name__` … that is not taken."""
    while name in taken:
        name += "_"
    return name
