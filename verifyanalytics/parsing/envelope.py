"""Envelopes: what stands around a reply, in log lines, our own envelope or a foreign one.

`open_line` takes one line of input apart: the vendor's reply, and what the line says about the
call. Values that name a person or a token become columns only as keyed hashes.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from verifyanalytics.errors import UsageError
from verifyanalytics.parsing.redaction import is_personal
from verifyanalytics.parsing.strict_json import Number, Unreadable, is_number, loads
from verifyanalytics.schema import MAX_CONTEXT_COLUMNS

MAX_RESPONSE = 64 * 1024 * 1024
"""Bytes of one response; a larger one is a reject."""

CONTEXT_NAME = re.compile(r"[a-z0-9_]{1,64}")
"""What may follow `ctx_` in a column's name."""

ENVELOPE_KEYS = frozenset(
    {"occurred_at", "action", "req_key", "byted_token", "http_status", "subject", "context"}
)

EARLIEST = datetime(2015, 1, 1, tzinfo=UTC)
LATEST = datetime(2100, 1, 1, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

# the literal that Python prints for bytes, and no more of the language than that; possessive, or
# each character of a long one would be remembered
_OPENING = re.compile(r"""b['"]\{""")
_LITERAL = re.compile(
    r"""b'(\{(?:[^'\\\n\x80-\U0010ffff]++|\\(?:[\\'"tnr]|x[0-9a-f]{2}))*+)'"""
    r"""|b"(\{(?:[^"\\\n\x80-\U0010ffff]++|\\(?:[\\'"tnr]|x[0-9a-f]{2}))*+)\""""
)
_ISO = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d)(?:(:\d\d)(?:[.,](\d{1,9}))?)?"
    r"[ ]?([Zz]|UTC|GMT|[+-]\d\d(?::?\d\d)?)?)?",
    re.ASCII,
)
_UTC = frozenset({None, "Z", "z", "UTC", "GMT"})


def keyed_hash(key: bytes, kind: str, value: str) -> str:
    """Pseudonym of a value that must not be stored.

    Parameters
    ----------
    key : bytes
        The store's key.
    kind : {"token", "subject", "image"}
        Equal texts of different kinds get different pseudonyms.
    value : str

    Returns
    -------
    str
        32 hexadecimal digits: the first half of HMAC-SHA256(key, kind, NUL, value).
    """
    return hmac.digest(key, f"{kind}\0{value}".encode(), hashlib.sha256).hex()[:32]


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How responses are read; the same for every response of an import.

    Attributes
    ----------
    strict : bool
        A field of the wrong type rejects the response instead of becoming null with an issue.
    response_path, time_path, context_path : str, optional
        Where a foreign envelope holds them, as names joined by dots (`jsonPayload.body`).
    key : bytes, optional
        The store's key; without it tokens and subjects stay unknown.
    image_prints : bool
        Keep a keyed fingerprint of each image.
    context : mapping of str to str
        Context of every response; what a response says itself wins.
    context_columns : frozenset of str, optional
        The only context names that become columns; None: the first 64 of each response.
    action, req_key : str, optional
        For responses that do not say.
    time_source : {"envelope", "collector", "column"}
        What `occurred_at_source` says of a time that stands beside the response.
    collected : bool
        The envelopes are the collector's own (`raw_answers`): token and subject are keyed hashes
        already, and `images` says what the images were that are no longer there.
    """

    strict: bool = False
    response_path: str | None = None
    time_path: str | None = None
    context_path: str | None = None
    key: bytes | None = None
    image_prints: bool = False
    context: Mapping[str, str] = field(default_factory=dict)
    context_columns: frozenset[str] | None = None
    action: str | None = None
    req_key: str | None = None
    time_source: str = "envelope"
    collected: bool = False

    def __post_init__(self) -> None:
        wrong = [name for name in self.context if not _is_column(name)]
        if wrong or len(self.context) > MAX_CONTEXT_COLUMNS:
            raise UsageError(
                f"context {', '.join(wrong) or len(self.context)} does not fit; a name is made of "
                f"a-z, 0-9 and _, is none of a personal value, and there may be "
                f"{MAX_CONTEXT_COLUMNS}"
            )

    @property
    def is_plain(self) -> bool:
        """Whether responses stand alone or in our own envelope, not in the collector's."""
        paths = self.response_path or self.time_path or self.context_path
        return not (paths or self.collected)


@dataclass(slots=True)
class Opened:
    """A reply as `strict_json.loads` gives it, and what stood around it.

    `around` has our envelope's keys, `rest` those of its keys that have no meaning here.
    """

    reply: Any
    around: dict[str, Any] = field(default_factory=dict)
    rest: dict[str, Any] = field(default_factory=dict)


def open_line(data: bytes, options: ReadOptions) -> Opened:
    """Read one line of input and take the reply out of what surrounds it, or raise `Unreadable`."""
    if len(data) > MAX_RESPONSE:
        raise Unreadable("size", f"{len(data)} bytes; {MAX_RESPONSE} may be")
    value = _read_text(_decoded(data, "$"), "$")
    if not isinstance(value, dict):
        raise Unreadable("not_a_response", "the text is no object")
    around: dict[str, Any] = {}
    if (moment := _pop(value, options.time_path)) is not None:
        around["occurred_at"] = moment
    path = options.context_path
    if path and (context := _pop(value, path)) is not None:
        is_object = isinstance(context, dict)
        around["context"] = context if is_object else {path.rpartition(".")[2]: context}
    path = options.response_path or "response"
    # what looks like a reply is one, unless the caller has said where replies stand
    reply = None if is_reply(value) and not options.response_path else _pop(value, path)
    if reply is None:
        return Opened(value, around)
    for name in ENVELOPE_KEYS & value.keys():
        around.setdefault(name, value.pop(name))
    if isinstance(reply, str) and not isinstance(reply, Number):
        reply = _read_text(reply, path)
    return Opened(reply, around, value)


def is_reply(value: dict[str, Any]) -> bool:
    """Whether an object is one of the vendor's replies: it names a code or gateway metadata."""
    return "code" in value or value.get("ResponseMetadata") is not None


def _decoded(data: bytes, where: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Unreadable("encoding", f"{where}: not UTF-8 at byte {error.start}") from None


def _read_text(text: str, where: str) -> Any:
    """Read JSON, or the bytes literal an SDK's error left in a log, whatever stands around it."""
    try:
        return loads(text, where)
    except Unreadable:
        opening = _OPENING.search(text)
        begun = text.lstrip(" \t\r\n")[:1]
        # A literal inside a string of broken JSON is none. A bracket alone is no JSON yet: log
        # lines begin with `[2024-05-01 08:00:00] `.
        if begun in {"{", '"'} or (opening and begun == "[" and '"' in text[: opening.start()]):
            raise
        literal = opening and _LITERAL.match(text, opening.start())
        if not literal:
            raise
    if _OPENING.search(text, literal.end()):
        raise Unreadable("syntax", f"{where}: more than one bytes literal on the line")
    escaped = literal[literal.lastindex or 1]
    # of the escapes there are, both codecs know the same; a parser would take a hundred times more
    return loads(
        _decoded(escaped.encode().decode("unicode_escape").encode("latin-1"), where), where
    )


def _pop(value: dict[str, Any], path: str | None) -> Any:
    """Take out what stands at a dotted path; None where nothing does, or there is no path."""
    if not path:
        return None
    *parents, last = path.removeprefix("$.").split(".")
    for name in parents:
        inner = value.get(name)
        if not isinstance(inner, dict):
            return None
        value = inner
    return value.pop(last, None)


def read_time(value: Any) -> datetime | None:
    """Read a moment as envelopes write it: in UTC, to the microsecond.

    Seconds, milliseconds or microseconds since 1970 (told apart by size, as a number or as text),
    or ISO 8601: date, or date and time; without a zone it is UTC. None for what is no moment
    between 2015 and 2100.
    """
    try:
        moment = _from_iso(value)
        if moment is None and is_number(value):
            number = float(value)
            scale = 1e6 if number >= 1e14 else 1e3 if number >= 1e11 else 1
            moment = EPOCH + timedelta(microseconds=round(number * 1e6 / scale))
    except (ValueError, OverflowError):
        return None
    return moment if moment is not None and EARLIEST <= moment < LATEST else None


def _from_iso(text: str) -> datetime | None:
    match = _ISO.fullmatch(text)
    if match is None:
        return None
    day, clock, second, fraction, zone = match.groups()
    micro = (fraction or "").ljust(6, "0")[:6]
    zone = "+00:00" if zone in _UTC else zone
    moment = f"{day}T{clock or '00:00'}{second or ':00'}.{micro}{zone}"
    return datetime.fromisoformat(moment).astimezone(UTC)


def context_names(given: dict[str, Any], options: ReadOptions) -> dict[str, str]:
    """Choose which names of a context become columns: column without `ctx_` → name as given.

    What is not chosen goes to `extra`. A name is lower-cased; it becomes a column when
    `CONTEXT_NAME` fits, it is not that of a personal value, and its value is no object or array. Of
    names that differ in case only, the lower-case one wins, else the first in order of code points.
    Of more than 64 the first in order win.
    """
    chosen: dict[str, str] = {}
    for name in sorted(given, key=lambda name: (name != name.lower(), name)):
        column = name.lower()
        wanted = options.context_columns is None or column in options.context_columns
        if wanted and _is_column(column) and not isinstance(given[name], dict | list):
            chosen.setdefault(column, name)
    return {column: chosen[column] for column in sorted(chosen)[:MAX_CONTEXT_COLUMNS]}


def _is_column(name: str) -> bool:
    return CONTEXT_NAME.fullmatch(name) is not None and not is_personal(name)
