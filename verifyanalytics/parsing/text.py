"""The text of a response: JSON read strictly, what is kept of it, and what surrounds a reply.

Numbers come as `Number`, the exact text, so that the value of an unknown key is kept without
becoming another number. Images, personal values, secrets and long texts leave their size.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NoReturn

from verifyanalytics.errors import UsageError
from verifyanalytics.schema import MAX_CONTEXT_COLUMNS, VERIFICATIONS

MAX_DEPTH = 64  # objects and arrays inside each other, at most; each nested text counts on its own

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
    """What makes a response a reject: one of `schema.REJECT_REASONS`, and where; no payload."""

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
    """Read one JSON text, or raise `Unreadable`; of a name given twice the last value stands."""
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
    """Write a value of `loads` back: compact, names sorted, characters as they are."""
    # normalised, numbers that are the same float64 get the same text: 60, 60.0 and 6e1 are `60`
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


# ------------------------------------------------------------------ what is kept

MAX_TEXT = 4096  # bytes (UTF-8) of a text that is kept; of a longer one only the size is
PERSONAL = frozenset(
    {
        # tokens, payloads and pictures of the vendor's API
        "bytedtoken", "sdkdata", "subject", "images", "imagebest", "imageenv", "binarydatabase64",
        "video", "videokey", "tosdata",
        # who a person is
        "verifyidcardinfo", "idcardinfo", "idcardno", "idcardname", "idcard", "idcardnumber",
        "idnumber", "idno", "identityno", "identitynumber", "certno", "certname", "passportno",
        "realname", "fullname", "username", "mobile", "mobileno", "mobilephone", "phone", "phoneno",
        "phonenumber", "telephone", "email", "address", "birthday", "birthdate", "dateofbirth",
        # what a face tells
        "faceattributes", "age", "gender", "genderconfidence", "beauty", "race", "ethnicity",
        "expression", "emotion",
        # keys to accounts
        "authorization", "accesskey", "accesskeyid", "secretkey", "secretaccesskey", "accesstoken",
        "sessiontoken", "securitytoken", "xsecuritytoken", "password", "passwd", "cookie",
        "setcookie",
    }
)  # fmt: skip
"""Names of personal, binary or secret values, as `plain_name` writes them."""

_SEPARATORS = str.maketrans("", "", "_- ")
OWN_PERSONAL = frozenset(
    name.translate(_SEPARATORS).lower()
    for name in os.environ.get("VERIFYANALYTICS_REDACT", "").split(",")
    if name.translate(_SEPARATORS)
)
"""The user's own such names; worker processes inherit the variable."""
PERSONAL |= OWN_PERSONAL
_OPENS = ("{", "[", '"', " ", "\t", "\r", "\n")  # what JSON that could hide something begins with
_SPELLED = "|".join("[_ -]*".join(map(re.escape, name)) for name in sorted(PERSONAL))
_QUOTED = re.compile(rf"""["'](?:{_SPELLED})[_ -]*\\*["']""", re.IGNORECASE)
_HEADS = ("/9j/", "_9j_", "iVBORw0", "R0lGOD", "UklGR", "Qk", "SUkq", "TU0A", "AAAA")
"""How JPEG, PNG, GIF, WebP, BMP, TIFF and HEIF pictures begin in base64, of either alphabet."""
_PICTURE = re.compile(
    rf"\s*(?:data:[^,]{{0,100}},\s*)?(?:{'|'.join(_HEADS)})[A-Za-z0-9+/_=\s-]{{40,}}"
)
_OF_A_PERSON = re.compile(
    r"(?<![0-9A-Za-z])(?:\+?86[ -]?)?1[3-9]\d[ -]?\d{4}[ -]?\d{4}(?![0-9A-Za-z])"
    r"|(?<![0-9A-Za-z])[1-9]\d{5}(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{3}[0-9Xx]"
    r"(?![0-9A-Za-z])"
)
"""Phone numbers of mainland China, and numbers of its identity cards, in a free text."""


@lru_cache(4096)
def plain_name(name: str) -> str:
    """A name without case, `_`, `-` and spaces: services spell one name in many ways."""
    return name.translate(_SEPARATORS).lower()


def is_personal(name: str) -> bool:
    """Whether a key's value is personal, binary or secret."""
    return plain_name(name) in PERSONAL


def shown_text(text: str) -> str:
    """A text without a picture, a phone number and the number of an identity card."""
    if _PICTURE.fullmatch(text):
        return sized(text)
    return _OF_A_PERSON.sub(_masked, text)


def is_number_of_a_person(text: str) -> bool:
    """Whether a text is nothing but such a number, as an id may be by chance."""
    return _OF_A_PERSON.fullmatch(text) is not None


_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


def _masked(found: re.Match[str]) -> str:
    """Give a number's size; the last digit of an identity card's checks the others (GB 11643)."""
    text = found[0]
    if len(text) == 18 and text[:17].isdigit():
        check = sum(int(digit) * weight for digit, weight in zip(text, _WEIGHTS, strict=False)) % 11
        if text[17].upper() != "10X98765432"[check]:
            return text
    return sized(text)


_MAY_GO = (*_OPENS, *_HEADS, "data:")


def is_kept(text: str) -> bool:
    """Whether a text stays as it is for sure; False where `redacted` has to be asked."""
    if len(text) > MAX_TEXT // 4:
        return False
    if text.startswith(_MAY_GO) or _OF_A_PERSON.search(text):
        return bool(redacted(text) == text)
    return True


def are_kept(texts: Iterable[str]) -> bool:
    """Whether all of the texts stay as they are for sure."""
    return all(map(is_kept, texts))


def redacted(value: Any, name: str | None = None) -> Any:
    """Copy of a value with the size alone of what is personal or long, in JSON texts as well."""
    if name is not None and is_personal(name) and value not in (None, "", [], {}):
        return sized(value)
    if isinstance(value, str):
        return sized(value) if len(value.encode()) > MAX_TEXT else looked_through(value)
    if isinstance(value, list):
        items = [redacted(item) for item in value]
        return sized(value) if size(items) > MAX_TEXT else items
    if isinstance(value, dict):
        return {short(key): redacted(inner, key) for key, inner in value.items()}
    return value


def looked_through(text: str) -> str:
    """A text as it is; written anew where it is JSON in which something has to go."""
    if isinstance(text, Number):
        return text
    text = shown_text(text)
    if not text.startswith(_OPENS):
        return text
    names_secret = _QUOTED.search(text) is not None
    try:
        value = loads(text)
    except Unreadable:  # perhaps cut off: what belongs to the name is unknown
        return sized(text) if names_secret else text
    shown = redacted(value)
    # of a key given twice only the last value is there, and an escape may spell a name
    is_safe = not names_secret and "\\u" not in text
    return text if is_safe and shown == value else dumps(shown)


def short(name: str) -> str:
    """A name that fits; the digest keeps long names apart."""
    text = name.encode()
    if len(text) <= MAX_TEXT:
        return name
    return f"{sized(name)} {hashlib.sha256(text).hexdigest()[:16]}"


def sized(value: Any) -> str:
    """What stands for a value of which only the size is kept."""
    return f"[{size(value)} bytes]"


def size(value: Any) -> int:
    """Bytes of a text, else of the value's JSON."""
    text = value if isinstance(value, str) else dumps(value, normalised=True)
    return len(text.encode())


def keyed_hash(key: bytes, kind: str, value: str) -> str:
    """Pseudonym of a token, subject or image: 32 hex digits, the first half of an HMAC-SHA256."""
    return hmac.digest(key, f"{kind}\0{value}".encode(), hashlib.sha256).hex()[:32]


# ------------------------------------------------------------------ what stands around a reply

MAX_RESPONSE = 64 * 1024 * 1024  # bytes of one response; a larger one is a reject
CONTEXT_NAME = re.compile(r"[a-z0-9_]{1,64}")  # what may follow `ctx_` in a column's name
ENVELOPE_KEYS = frozenset(
    {"occurred_at", "action", "req_key", "byted_token", "http_status", "subject", "context"}
)

# the literal that Python prints for bytes, and no more of the language than that; possessive, or
# each character of a long one would be remembered
_OPENING = re.compile(r"""b['"]\{""")
_LITERAL = re.compile(
    r"""b'(\{(?:[^'\\\n\x80-\U0010ffff]++|\\(?:[\\'"tnr]|x[0-9a-f]{2}))*+)'"""
    r"""|b"(\{(?:[^"\\\n\x80-\U0010ffff]++|\\(?:[\\'"tnr]|x[0-9a-f]{2}))*+)\""""
)

EARLIEST = datetime(2015, 1, 1, tzinfo=UTC)
LATEST = datetime(2100, 1, 1, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

_ISO = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d)(?:(:\d\d)(?:[.,](\d{1,9}))?)?"
    r"[ ]?([Zz]|UTC|GMT|[+-]\d\d(?::?\d\d)?)?)?",
    re.ASCII,
)
_UTC = frozenset({None, "Z", "z", "UTC", "GMT"})


def read_time(value: Any) -> datetime | None:
    """Read a moment of an envelope, in UTC to the microsecond; None outside 2015 to 2099."""
    try:
        moment = _from_iso(value)
        if moment is None and is_number(value):
            number = float(value)  # seconds, milliseconds or microseconds, told apart by size
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


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How responses are read; the same for every response of an import."""

    strict: bool = False  # a wrong type rejects the response instead of becoming a null
    response_path: str | None = None  # places in a foreign envelope, names joined by dots
    time_path: str | None = None
    context_path: str | None = None
    key: bytes | None = None  # the store's; without it tokens and subjects stay unknown
    print_key: bytes | None = None  # of image prints; without it there are none
    context: Mapping[str, str] = field(default_factory=dict)  # what a response says itself wins
    context_columns: frozenset[str] | None = None  # None: the first 64 of each response
    action: str | None = None  # for responses that do not say
    req_key: str | None = None
    time_source: str = "envelope"  # `occurred_at_source` of a time that stands beside a response
    # The envelopes are the collector's own (`raw_answers`): token and subject are keyed hashes
    # already, and `images` says what the images were that are no longer there.
    collected: bool = False

    def __post_init__(self) -> None:
        ours = {plain_name(name) for name in VERIFICATIONS.names} & OWN_PERSONAL
        if ours:
            raise UsageError(f"VERIFYANALYTICS_REDACT names {min(ours)}, which is a column")
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
    """A reply as `loads` gives it, and what stood around it."""

    reply: Any
    around: dict[str, Any] = field(default_factory=dict)  # values of our envelope's keys
    rest: dict[str, Any] = field(default_factory=dict)  # keys that have no meaning here


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


def context_names(given: dict[str, Any], options: ReadOptions) -> dict[str, str]:
    """Choose which names of a context become columns: column without `ctx_` → name as given."""
    # of names that differ in case only the lower-case one wins, else the first by code points
    chosen: dict[str, str] = {}
    for name in sorted(given, key=lambda name: (name != name.lower(), name)):
        column = name.lower()
        wanted = options.context_columns is None or column in options.context_columns
        if wanted and _is_column(column) and not isinstance(given[name], dict | list):
            chosen.setdefault(column, name)
    return {column: chosen[column] for column in sorted(chosen)[:MAX_CONTEXT_COLUMNS]}


def _is_column(name: str) -> bool:
    return CONTEXT_NAME.fullmatch(name) is not None and not is_personal(name)
