"""Responses as msgspec decodes them: typed, in one pass, every unknown key refused or learnt.

What these types accept, the reference parser reads without a type issue; anything else ends the
fast path for that response. A block is decoded a chunk at a time, so that what a chunk becomes
stays in the processor's cache.
"""

from __future__ import annotations

import re
import secrets
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import UNSET, Raw, Struct, UnsetType

from verifyanalytics.parsing.text import MAX_DEPTH, Unreadable, dumps, loads, redacted
from verifyanalytics.schema import QUALITY_FIELDS
from verifyanalytics.sources.streams import Block

# ------------------------------------------------------------------ images that are cut out

# In large responses images are most of the bytes, and finding the closing quote is many times
# faster than decoding: so they are cut out before, a mark in their place. Why that is exact. Cut
# is only what stands between `"image_best":"` (or `image_env`, or the same with `\"` throughout,
# as in a nested text) and the next quote, and is ASCII without control characters and backslashes.
# Wherever such a piece stands in a text: if the text with the mark is JSON, then mark and piece
# are both the whole content of a string there, because a quote before `image_best` that closed a
# string would leave a bare word behind it. So both texts are JSON or neither is. That the string
# was an image's is seen afterwards: each mark that went in must come out as an image, else the
# response goes to the reference parser.
LARGE = 8 * 1024
"""Bytes of a response on average from which on images are cut out instead of decoded."""

MARK = secrets.token_hex(16)
"""Stands for an image that was cut out; it is random, so that no response can contain it."""

_MARK = MARK.encode()
_KEY = b'"image_'
_OPENING = re.compile(rb'"image_(best|env)(\\?)": ?\2"')

Image = str | memoryview | None  # an image's text, perhaps as ASCII bytes


class Cut(NamedTuple):
    """An image that was cut out of a block: which one, and its slice of the block."""

    name: str
    start: int
    end: int


Cuts = list[list[Cut]]


def cut_out(
    data: bytes, starts: Sequence[int], ends: Sequence[int]
) -> tuple[bytes, list[int], list[int], Cuts]:
    """Cut the images out of responses, which stand at `starts` to `ends` of a block."""
    # gives the responses with marks in place of images, a line each, their starts and ends in this
    # text, and what was cut out of each
    pieces: list[bytes] = []
    new_starts, new_ends, cuts = [], [], []
    n_bytes = 0
    for start, end in zip(starts, ends, strict=True):
        images = list(_find(data, start, end))
        new_starts.append(n_bytes)
        position = start
        for image in images:
            pieces += data[position : image.start], _MARK
            n_bytes += image.start - position + len(_MARK)
            position = image.end
        pieces += data[position:end], b"\n"
        n_bytes += end - position
        new_ends.append(n_bytes)
        n_bytes += 1
        cuts.append(images)
    return b"".join(pieces), new_starts, new_ends, cuts


def _find(data: bytes, start: int, end: int) -> Iterator[Cut]:
    """Images of one response that can be cut out."""
    at = data.find(_KEY, start, end)
    while at >= 0:
        opening = _OPENING.match(data, at, end)
        if opening is None:
            at = data.find(_KEY, at + len(_KEY), end)
            continue
        first = opening.end()
        quote = data.find(b'"', first, end)
        if quote < 0:
            return
        last = quote - len(opening[2])
        if (
            last > first
            and data.find(b"\\", first, last) < 0
            # as signed bytes whatever is not ASCII is negative
            and np.frombuffer(data, np.int8, last - first, first).min() >= ord(" ")
            and data[last:quote] == opening[2]
        ):
            yield Cut(opening[1].decode(), first, last)
        at = data.find(_KEY, quote, end)


def put_back(
    texts: dict[str, list[Image]],
    places: Sequence[int],
    data: bytes,
    cuts: Cuts,
    needs_reference: set[int],
) -> None:
    """Replace marks by the images they stand for, in the texts of decoded responses by image."""
    view = memoryview(data)
    for at, place in enumerate(places):
        n_missing = len(cuts[place])
        for name, start, end in cuts[place]:
            images = texts[name]
            if images[at] == MARK:
                images[at] = view[start:end]  # as many bytes as characters
                n_missing -= 1
        if n_missing:  # a mark came out elsewhere, or not at all
            needs_reference.add(at)


# ------------------------------------------------------------------ keys without a column

# A key that the vendor newly sends everywhere becomes a raw field of the types. Without this, a
# response with such a key takes 15 times as long (measured: 210 instead of 14 µs of CPU).
LEARN_AFTER = 4  # responses in which a new key must be met before it is learnt
MAX_LEARNT = 32  # keys learnt at most; beyond, responses with new keys go to the reference parser
MAX_COUNTED = 1 << 10
"""New keys that are counted; hostile input must not fill the memory with names."""

MAX_TEXTS = 1 << 12  # combinations of raw values whose `extra` is kept at hand
LEVELS = {"reply": "", "data": "data", "comparison": "data.source_comp_details"}
"""Where keys can be learnt: the level's name → its path."""

_UNKNOWN = re.compile(
    r"Object contains unknown field `(.{1,256}?)`(?: - at `\$\.?(.*)`)?", re.DOTALL
)


class UnknownKey(NamedTuple):
    """A key without a column; its attribute in the types is UNSET where a response lacks it."""

    level: str
    name: str
    attribute: str


Extra = tuple[str, str]  # `extra` as written and as normalised


class UnknownKeys:
    """The keys that one `Flattener` has `learnt`."""

    def __init__(self, names_in_use: Collection[str]) -> None:
        # service faults repeat their code as `status`, and there are many of them
        self.learnt = [UnknownKey("reply", "status", "learnt_0")]
        self._names_in_use = names_in_use  # never learnt: they have a meaning at another level
        self._counts: Counter[tuple[str, str]] = Counter()

    def notice(self, error: Exception) -> bool:
        """Tell whether an error is about an unknown key; count the key and learn a frequent one."""
        match = _UNKNOWN.fullmatch(str(error))
        path = (match[2] or "").removeprefix("response.") if match else None
        level = next((level for level, at in LEVELS.items() if at == path), None)
        if match is None or level is None:
            return False
        name = match[1]
        if len(self._counts) > MAX_COUNTED:
            self._counts.clear()
        self._counts[level, name] += 1
        is_new = (level, name) not in [(key.level, key.name) for key in self.learnt]
        if (
            self._counts[level, name] == LEARN_AFTER
            and len(self.learnt) < MAX_LEARNT
            and is_new
            and name not in self._names_in_use
        ):
            self.learnt.append(UnknownKey(level, name, f"learnt_{len(self.learnt)}"))
        return True

    # The decoder skips a raw value: it checks its grammar but neither its depth nor its UTF-8. Both
    # are checked for the whole text, because a value given twice was skipped twice.
    def extras(
        self, parts: Mapping[str, Sequence[Any]], text_of: Callable[[int], bytes]
    ) -> dict[int, Extra | None]:
        """`extra` of the responses that have learnt keys; None: ask the reference parser."""
        found: dict[int, list[tuple[UnknownKey, bytes]]] = {}
        for key in self.learnt:
            try:
                values = list(map(attrgetter(key.attribute), parts[key.level]))
            except AttributeError:  # decoded before the key was learnt
                values = [getattr(part, key.attribute, UNSET) for part in parts[key.level]]
            if values.count(UNSET) < len(values):
                for place, raw in enumerate(values):
                    if raw is not UNSET:
                        found.setdefault(place, []).append((key, bytes(raw)))
        return {
            place: _extra(tuple(keys)) if _is_sound(text_of(place)) else None
            for place, keys in found.items()
        }


@lru_cache(MAX_TEXTS)
def _extra(keys: tuple[tuple[UnknownKey, bytes], ...]) -> Extra | None:
    extra: dict[str, Any] = {}
    try:
        for key, raw in keys:
            inner = extra
            for part in LEVELS[key.level].split(".") if LEVELS[key.level] else ():
                inner = inner.setdefault(part, {})
            inner.update(redacted({key.name: loads(raw.decode())}))
    except (Unreadable, UnicodeDecodeError):
        return None
    return dumps(extra), dumps(extra, normalised=True)


def _is_sound(data: bytes) -> bool:
    """Whether a text that was partly skipped is UTF-8 throughout and surely not too deep."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return data.count(b"{") + data.count(b"[") <= MAX_DEPTH


# ------------------------------------------------------------------ types and what they decode

Flags = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int64]

CHUNK = 256  # responses decoded at once
PART = 16  # responses decoded at once of a chunk that holds bad ones
NAN = float("nan")

Undecodable = (msgspec.MsgspecError, ValueError, RecursionError)
"""What decoding raises: a reason to ask the reference parser, never a verdict."""

_BLANK = b" \t\r\n"
_KNOWN: dict[str, Any] = {"forbid_unknown_fields": True, "gc": False}
_REPEATED: dict[str, Any] = {**_KNOWN, "frozen": True}  # hashable: part of a combination


class Thresholds(
    Struct, rename={"e3": "1e-3", "e4": "1e-4", "e5": "1e-5", "e6": "1e-6"}, **_REPEATED
):
    """`thresholds`; integers stay what they are, because equal ones are found faster."""

    e3: int | float | None = None
    e4: int | float | None = None
    e5: int | float | None = None
    e6: int | float | None = None


class Outcome(Struct, **_REPEATED):
    """`algorithm_base_resp`."""

    status_code: int | None = None
    status_message: str | None = None


class Measure(Struct, **_REPEATED):
    """`req_measure_info`."""

    measure_type: str | None = None
    value: int | None = None


class Risk(Struct, **_KNOWN):
    """`risk_result`, the JSON within its text."""

    score: int | None = None
    tags: list[str] | None = None


class Images(Struct, **_KNOWN):
    """`images`; decoded as text, which checks them and gives their length."""

    image_best: str | None = None
    image_env: str | None = None


Quality = msgspec.defstruct("Quality", [(name, float, NAN) for name in QUALITY_FIELDS], **_KNOWN)
"""`image_face_detail` and `image_env_detail`; a null in it ends the fast path."""

# in the vendor's order: msgspec finds the next key fastest
_COMPARISON = {
    "alive": bool | None, "image_env_detail": str | None, "image_face_detail": str | None,
    "score": float | None, "thresholds": Thresholds | None,
}  # fmt: skip
_DATA = {
    "result": bool | None, "risk_result": str | None, "images": Images | None,
    "source_comp_details": Any, "algorithm_base_resp": Outcome | None,
    "req_measure_info": Measure | None, "verify_algorithm_base_resp": Outcome | None,
    "verify_req_measure_info": Measure | None,
}  # fmt: skip
_REPLY = {
    "code": int | None, "data": Any, "message": str | None, "request_id": str | None,
    "time_elapsed": str | None, "ResponseMetadata": None,
}  # fmt: skip
_ENVELOPE = {
    "response": Any, "occurred_at": str | int | None, "action": str | None, "req_key": str | None,
    "byted_token": str | None, "http_status": int | None, "subject": str | None,
    "context": dict[str, str | None] | None,
}  # fmt: skip
NAMES_IN_USE = frozenset({*_COMPARISON, *_DATA, *_REPLY, *_ENVELOPE})
"""Keys that have a meaning at one level or another."""


class Types:
    """The decoders for a set of learnt keys, and what stands for a part that a response lacks."""

    def __init__(self, learnt: Sequence[UnknownKey]) -> None:
        keys = {
            level: [key for key in learnt if key.level == level]
            for level in ("comparison", "data", "reply")
        }
        comparison = _struct("Comparison", _COMPARISON, keys["comparison"])
        data = _struct("Data", _DATA | {"source_comp_details": comparison | None}, keys["data"])
        reply = _struct("Reply", _REPLY | {"data": data | None}, keys["reply"])
        envelope = _struct("Envelope", _ENVELOPE | {"response": reply | str})
        self.no_comparison, self.no_data = comparison(), data()
        self.no_reply, self.no_envelope = reply(), envelope()
        self.reply = msgspec.json.Decoder(reply)
        self.envelope = msgspec.json.Decoder(envelope)


def _struct(name: str, types: Mapping[str, Any], learnt: Sequence[UnknownKey] = ()) -> Any:
    fields: list[tuple[str, Any, Any]] = [
        # UNSET: whether these keys are there at all decides what a line is
        (key, kind, UNSET if key in ("code", "response") else None)
        for key, kind in types.items()
    ]
    fields += [(key.attribute, Raw | UnsetType, UNSET) for key in learnt]
    return msgspec.defstruct(
        name, fields, rename={key.attribute: key.name for key in learnt}, **_KNOWN
    )


class Documents(NamedTuple):
    """Where a block's responses stand."""

    rows: Places
    starts: Places
    ends: Places
    regular: Flags  # which stand alone on their line and begin and end with a brace


def documents_of(block: Block) -> Documents:
    """Find the responses of a block: as the reader says, else one to a line that is not blank."""
    if block.documents is not None:
        spans = np.array(block.documents, np.int64).reshape(-1, 3)
        return Documents(spans[:, 0], spans[:, 1], spans[:, 2], np.zeros(len(spans), bool))
    data = block.data
    ends = _line_ends(data)
    starts = np.empty_like(ends)
    starts[:1], starts[1:] = 0, ends[:-1] + 1
    rows = np.arange(block.first_row, block.first_row + len(ends))
    # between `}` and `{` on the next line no JSON text can go on: each line is a text of its own
    characters = np.frombuffer(data, np.uint8)
    regular = (characters[starts] == ord("{")) & (characters[ends - 1] == ord("}"))
    filled = np.ones(len(rows), bool)
    for place in np.flatnonzero(~regular).tolist():
        filled[place] = bool(data[starts[place] : ends[place]].strip(_BLANK))
    if filled.all():
        return Documents(rows, starts, ends, regular)
    return Documents(rows[filled], starts[filled], ends[filled], regular[filled])


def _line_ends(data: bytes) -> Places:
    # `find` passes long lines faster than NumPy compares each byte
    ends: list[int] = []
    find, add = data.find, ends.append
    end = find(b"\n")
    while end >= 0:
        add(end)
        end = find(b"\n", end + 1)
    if data and not data.endswith(b"\n"):
        add(len(data))
    return np.array(ends, np.int64)


class Text(NamedTuple):
    """The text of a chunk: its responses stand at `starts[i]` to `ends[i]` of `data`."""

    data: bytes
    starts: Sequence[int]
    ends: Sequence[int]
    cuts: Cuts | None  # images cut out of each response; None where none were

    def line(self, at: int, last: int) -> memoryview:
        """The text from one response to another, both included."""
        return memoryview(self.data)[self.starts[at] : self.ends[last]]


@dataclass(slots=True)
class Decoded:
    """Responses of a chunk that the types accepted."""

    text: Text
    first: int  # where the chunk begins in its block
    replies: list[Any] = field(default_factory=list)
    places: list[int] = field(default_factory=list)  # which responses of the chunk they are
    envelopes: list[Any] | None = None  # None where nothing stood around any of them

    def reply_text(self, at: int) -> bytes:
        """The JSON text that holds one reply."""
        envelope = self.envelopes and self.envelopes[at]
        if envelope and isinstance(envelope.response, str):
            return envelope.response.encode()
        return bytes(self.text.line(self.places[at], self.places[at]))


class Decoding:
    """Decodes chunk after chunk; `types` is made anew whenever a key is learnt."""

    def __init__(self, unknown_keys: UnknownKeys, chunk: int = CHUNK, part: int = PART) -> None:
        self.types = Types(unknown_keys.learnt)
        self._unknown_keys = unknown_keys
        self._chunk, self._part = chunk, part
        self._is_enveloped = False  # the last line was
        self._was_sound = True  # bad responses seldom come alone: after one, parts are tried first

    def chunks(self, data: bytes, documents: Documents) -> Iterator[Decoded]:
        """Decode what the types accept."""
        starts, ends = documents.starts.tolist(), documents.ends.tolist()
        for first in range(0, len(starts), self._chunk):
            stop = first + self._chunk
            text = Text(data, starts[first:stop], ends[first:stop], None)
            if text.ends[-1] - text.starts[0] > LARGE * len(text.starts):
                text = Text(*cut_out(data, text.starts, text.ends))
            decoded = Decoded(text, first)
            size = self._chunk if self._was_sound else self._part
            self._was_sound = True
            n, enveloped = len(text.starts), list[bool]()
            for at in range(0, n, size):
                end = min(at + size, n)
                self._decode(decoded, enveloped, documents.regular[first:stop], at, end)
            if any(enveloped):
                self._open_envelopes(decoded, enveloped)
            yield decoded

    def _decode(
        self, decoded: Decoded, enveloped: list[bool], regular: Flags, at: int, stop: int
    ) -> None:
        """Decode responses of a chunk at once; where they do not fit in parts, then one by one."""
        lines = None
        if regular[at:stop].all():
            try:
                decoder = self.types.envelope if self._is_enveloped else self.types.reply
                lines = decoder.decode_lines(decoded.text.line(at, stop - 1))
            except Undecodable:
                pass
        if lines is not None and len(lines) == stop - at:  # else two texts share a line
            decoded.replies += lines
            decoded.places += range(at, stop)
            enveloped += [self._is_enveloped] * len(lines)
        elif stop - at > self._part:
            for part in range(at, stop, self._part):
                self._decode(decoded, enveloped, regular, part, min(part + self._part, stop))
        else:
            self._was_sound = False
            for place in range(at, stop):
                line = self._decode_line(decoded.text.line(place, place))
                if line is not None:
                    decoded.replies.append(line)
                    decoded.places.append(place)
                    enveloped.append(self._is_enveloped)

    def _decode_line(self, line: memoryview) -> Any:
        """Decode a line as what the last one was, else as the other; None where neither fits."""
        for is_enveloped in (self._is_enveloped, not self._is_enveloped):
            try:
                decoded = (self.types.envelope if is_enveloped else self.types.reply).decode(line)
            except Undecodable as error:
                if not self._notice(error):  # no unknown key: the other type would not fit either
                    return None
            else:
                self._is_enveloped = is_enveloped
                return decoded
        return None

    def _notice(self, error: Exception) -> bool:
        """Tell whether an unknown key ended the fast path; learn one that comes often."""
        n_learnt = len(self._unknown_keys.learnt)
        is_unknown = self._unknown_keys.notice(error)
        if len(self._unknown_keys.learnt) > n_learnt:
            self.types = Types(self._unknown_keys.learnt)
        return is_unknown

    def _open_envelopes(self, decoded: Decoded, enveloped: list[bool]) -> None:
        """Take the replies out of the envelopes; one that is missing or unfit is an empty one."""
        lines = decoded.replies
        envelopes: list[Any] = [
            line if is_one else self.types.no_envelope
            for line, is_one in zip(lines, enveloped, strict=True)
        ]
        for at, is_one in enumerate(enveloped):
            if not is_one:
                continue
            reply = envelopes[at].response
            if isinstance(reply, str):
                try:
                    reply = self.types.reply.decode(reply)
                except Undecodable as error:
                    self._notice(error)
                    reply = UNSET
            lines[at] = self.types.no_reply if reply is UNSET else reply
        decoded.envelopes = envelopes
