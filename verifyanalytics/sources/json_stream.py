"""JSON that is not one response a line: arrays, pretty-printed objects, objects in a row.

Brackets and strings alone cut the stream into documents; the parser decides what they are. The rule
(docs/flatten.md) speaks of bytes: any split of the input gives the same documents.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterator

from verifyanalytics.sources.streams import (
    MAX_DOCUMENTS,
    Block,
    BlockReject,
    Document,
    StreamDamageError,
)

MAX_LEVELS = 128  # nesting at which the structure is no longer followed; the parser stops at 64
_TOP_NAMES = (
    b"code", b"data", b"message", b"request_id", b"status", b"time_elapsed", b"ResponseMetadata",
    b"response", b"occurred_at", b"action", b"req_key", b"byted_token", b"http_status",
    b"subject", b"context",
)  # fmt: skip
_MAX_NAMES = 32  # hostile input must not fill the memory with names

# As many whole strings and as much text between them as there is: the fast path, in C.
_RUN = re.compile(
    rb'[^"{}\[\]]*+(?:"(?:[^"\\\n]++|\\[^\n])*+"[ \t\r\n]*+(?=[,:}\]])[^"{}\[\]]*+)*+'
)
_BODY = re.compile(rb'(?:[^"\\\n]++|\\[^\n])*+')
_BLANK = re.compile(rb"[ \t\r\n]*+")
_BETWEEN = re.compile(rb"[ \t\r\n\x1e]*+")
_LOOSE = re.compile(rb'(?:"(?:[^"\\\n]++|\\[^\n])*+(?:"|\\?+)|[}\]])?+[^\[\]{},\n]*+')
_FIRST_NAME = re.compile(rb'\{[ \t\r\n]{0,64}"([^"\\\x00-\x1f]{1,64})"')
_LONGEST_START = 256  # a start with all the white space it may have is shorter
_MISPLACED = "a bracket opens where none can"
_LOOK_BACK = 64  # white space looked through before a start

_Bytes = bytes | bytearray


class Scanner:
    """Scans one bracketed value over a growing buffer, from the bracket at `start`."""

    def __init__(self, start: int) -> None:
        self.start = self.position = start
        self.resume = start  # once broken: the next start is looked for from here on
        self.reason = self.detail = ""  # why it is broken
        self._mode = "text"
        self._closers = bytearray()

    @property
    def is_in_string(self) -> bool:
        """Whether the bytes so far end inside a string."""
        return self._mode == "string"

    def move(self, n_bytes: int) -> None:
        """Take note that the buffer lost `n_bytes` at its front."""
        self.start -= n_bytes
        self.position -= n_bytes
        self.resume -= n_bytes

    def advance(self, data: _Bytes) -> str:
        """Go as far as `data` allows: ``ended`` (at `position`), ``broken`` or ``more``."""
        verdict = "go"
        while verdict == "go":
            verdict = self._text(data) if self._mode == "text" else self._string(data)
        return verdict

    def _text(self, data: _Bytes) -> str:
        self.position = _end(_RUN, data, self.position)
        if self.position == len(data):
            return "more"
        if data[self.position] != ord('"'):
            return self._bracket(data, data[self.position])
        self.resume, self._mode = self.position, "string"
        self.position += 1
        return "go"

    def _bracket(self, data: _Bytes, bracket: int) -> str:
        if bracket in b"{[":
            before = self.position - 1
            while self._closers and data[before] in b" \t\r\n":
                before -= 1
            may_follow = b":" if self._closers.endswith(b"}") else b",["
            if self._closers and data[before] not in may_follow:
                return self._break("syntax", _MISPLACED)
            if len(self._closers) == MAX_LEVELS:
                return self._break("depth", f"nested deeper than {MAX_LEVELS}")
            self._closers.append(bracket + 2)  # ASCII: each closing bracket lies two further on
        elif self._closers.pop() != bracket:
            return self._break("syntax", "a bracket closes another kind")
        self.position += 1
        return "go" if self._closers else "ended"

    def _string(self, data: _Bytes) -> str:
        """Go through a string that the fast path found broken, or without its end."""
        if self._mode == "string":
            self.position = _end(_BODY, data, self.position)
            ahead = data[self.position : self.position + 2]
            if ahead in (b"", b"\\"):
                return "more"
            if ahead[0] != ord('"'):
                return self._break("syntax", "a string does not end on its line", self.resume)
            self._mode, self.position = "behind", self.position + 1
        self.position = _end(_BLANK, data, self.position)
        if self.position == len(data):
            return "more"
        if data[self.position] not in b",:}]":
            return self._break("syntax", "no comma, colon or bracket after a string", self.resume)
        self._mode = "text"
        return "go"

    def _break(self, reason: str, detail: str, resume: int | None = None) -> str:
        self.reason, self.detail = reason, detail
        self.resume = self.position if resume is None else resume
        return "broken"


class _Broken:
    """A broken part on its way to its end, hashed as it goes."""

    def __init__(self, row: int, offset: int, reason: str, detail: str) -> None:
        self.row, self.offset, self.reason, self.detail = row, offset, reason, detail
        self.n_bytes = 0
        self._hash = hashlib.sha256()

    def take(self, data: memoryview) -> None:
        self._hash.update(data)
        self.n_bytes += len(data)

    def reject(self) -> BlockReject:
        digest = self._hash.hexdigest()
        return BlockReject(self.row, self.offset, self.reason, self.detail, digest, self.n_bytes)


class JsonStream:
    """Cuts chunks of JSON into blocks of documents by the rule of this module."""

    def __init__(self, name: str, *, offset: int, block_bytes: int, max_document: int) -> None:
        self._name, self._offset = name, offset
        self._block_bytes, self._max_document = block_bytes, max_document
        self._too_large = f"larger than {max_document} bytes"
        self._data = bytearray()
        self._at = 0
        self._row = 1
        self._in_array = self._wants_element = self._is_fresh = False
        self._scanner: Scanner | None = None
        self._broken: _Broken | None = None
        self._names = list(_TOP_NAMES)
        self._start = _start_pattern(self._names)
        self._search = 0
        self._documents: list[Document] = []
        self._rejects: list[BlockReject] = []
        self._ready: list[Block] = []

    def blocks(self, chunks: Iterator[bytes]) -> Iterator[Block]:
        """Yield blocks; a damaged stream ends in a reject `source` behind what was whole."""
        damage = None
        try:
            for chunk in chunks:
                self._data += chunk
                yield from self._parse(final=False)
        except StreamDamageError as error:
            damage = error
        yield from self._parse(final=True)
        self._finish(damage)
        self._cut()
        yield from self._ready

    def _parse(self, *, final: bool) -> Iterator[Block]:
        going = True
        while going:
            if self._broken is not None:
                going = self._seek(self._broken, final=final)
            elif self._scanner is not None:
                going = self._follow(self._scanner, final=final)
            else:
                going = self._between(final=final)
            ready, self._ready = self._ready, []  # of tiny documents one chunk makes many blocks
            yield from ready

    def _between(self, *, final: bool) -> bool:
        """Take separators, or begin what stands behind them; False: more bytes are needed."""
        self._at = _end(_BLANK if self._in_array else _BETWEEN, self._data, self._at)
        if self._at == len(self._data):
            return False
        sign = self._data[self._at]
        closes = sign == ord("]") and self._in_array
        if sign == ord(",") or closes:
            if self._in_array and self._wants_element and not (closes and self._is_fresh):
                self._refuse("syntax", "an array element is empty")
            self._in_array = self._in_array and not closes
            self._wants_element, self._is_fresh = True, False
            self._at += 1
        elif sign == ord("[") and not self._in_array:
            self._in_array = self._wants_element = self._is_fresh = True
            self._at += 1
        elif sign in b"{[":
            # a value that lies whole and clean in the buffer is taken at once
            match = _whole_value().match(self._data, self._at)
            if match is None or match.end() - self._at > self._max_document:
                self._scanner = Scanner(self._at)
            else:
                self._take_value(self._at, match.end())
        else:
            return self._take_loose(final=final)
        return True

    def _take_loose(self, *, final: bool) -> bool:
        """Take what is neither object nor array: a scalar, or garbage."""
        start, end = self._at, _end(_LOOSE, self._data, self._at)
        if end - start > self._max_document:
            self._break_off(start, "size", self._too_large, start + 1)
        elif end == len(self._data) and not final:
            return False
        else:
            self._at = end
            self._document(start, start + len(self._data[start:end].rstrip()))
        return True

    def _follow(self, scanner: Scanner, *, final: bool) -> bool:
        """Follow a bracketed value to its end or its break; False: more bytes are needed."""
        verdict, start = scanner.advance(self._data), scanner.start
        reason, detail, search = scanner.reason, scanner.detail, max(scanner.resume, start + 1)
        if scanner.position - start > self._max_document:
            reason, detail, search = "size", self._too_large, start + 1
        elif verdict == "ended":
            self._take_value(start, scanner.position)
            return True
        elif verdict == "more":
            if not final:
                return False
            reason, detail, search = "syntax", "the input ends inside a document", start + 1
        self._break_off(start, reason, detail, search)
        return True

    def _take_value(self, start: int, end: int) -> None:
        """Take an object or array; its first name may tell where another begins."""
        self._at, self._scanner = end, None
        match = _FIRST_NAME.match(self._data, start)
        if match and match[1] not in self._names and len(self._names) < _MAX_NAMES:
            self._names.append(match[1])
            self._start = _start_pattern(self._names)
        self._document(start, end)

    def _document(self, start: int, end: int) -> None:
        self._documents.append(Document(self._row, start, end))
        self._row += 1
        self._wants_element = self._is_fresh = False
        self._cut_when_full()

    def _refuse(self, reason: str, detail: str) -> None:
        """Note that something is missing here: a reject of no bytes."""
        place = self._offset + self._at
        self._rejects.append(BlockReject(self._row, place, reason, detail, None, 0))
        self._row += 1
        self._cut_when_full()

    def _break_off(self, start: int, reason: str, detail: str, search: int) -> None:
        self._at, self._search, self._scanner = start, search, None
        self._broken = _Broken(self._row, self._offset + self._at, reason, detail)
        self._row += 1
        self._wants_element = self._is_fresh = False

    def _seek(self, broken: _Broken, *, final: bool) -> bool:
        """Look for the next start; what lies before it is broken. False: not in these bytes."""
        start = self._next_start(broken)
        if start is not None:
            self._drop_broken(broken, start)
            self._rejects.append(broken.reject())
            self._broken = None
            self._cut_when_full()
            self._scanner = Scanner(self._at)
            return True
        if not final:
            self._search = max(self._search, len(self._data) - _LONGEST_START)
            self._drop_broken(broken, max(self._at, self._search - _LOOK_BACK - 1))
            self._cut()
            self._let_go(self._at)
        return False

    def _next_start(self, broken: _Broken) -> int | None:
        broke_here = broken.detail == _MISPLACED
        if broke_here and self._data[self._search : self._search + 1] == b"{":
            return self._search
        for match in self._start.finditer(self._data, self._search):
            floor = max(self._at, match.start() - _LOOK_BACK)
            before = self._data[floor : match.start()].rstrip(b" \t\r\n")
            if not before or before[-1] not in b":[":
                return match.start()
        return None

    def _drop_broken(self, broken: _Broken, end: int) -> None:
        """Hash the broken bytes before `end`."""
        with memoryview(self._data)[self._at : end] as part:  # 64 MiB need no second copy
            broken.take(part)
        self._at = end

    def _let_go(self, n_bytes: int) -> None:
        del self._data[:n_bytes]
        self._offset += n_bytes
        self._at -= n_bytes
        self._search -= n_bytes
        if self._scanner is not None:
            self._scanner.move(n_bytes)

    def _cut_when_full(self) -> None:
        # the buffer begins where the last block ended, broken parts and separators included
        n = len(self._documents) + len(self._rejects)
        if self._at >= self._block_bytes or n >= MAX_DOCUMENTS:
            self._cut()

    def _cut(self) -> None:
        """Make a block of the documents and rejects so far."""
        if not self._documents and not self._rejects:
            return
        row = min([d.row for d in self._documents[:1]] + [r.row for r in self._rejects[:1]])
        start = self._documents[0].start if self._documents else self._at
        end = self._documents[-1].end if self._documents else self._at
        documents = tuple(Document(d.row, d.start - start, d.end - start) for d in self._documents)
        data, place = bytes(memoryview(self._data)[start:end]), self._offset + start
        self._ready.append(Block(self._name, data, row, place, documents, tuple(self._rejects)))
        self._documents, self._rejects = [], []
        self._let_go(end)

    def _finish(self, damage: StreamDamageError | None) -> None:
        """Account for the end: of a broken part, of the stream, of an array."""
        if self._broken is not None:
            if damage is not None:
                self._broken.reason, self._broken.detail = "source", str(damage)
            self._drop_broken(self._broken, len(self._data))
            self._rejects.append(self._broken.reject())
        elif damage is not None:
            self._refuse("source", str(damage))
        elif self._in_array:
            self._refuse("source", "the array does not end: the source is cut off")


def _end(pattern: re.Pattern[bytes], data: _Bytes, position: int) -> int:
    """Where a pattern that also matches nothing ends."""
    match = pattern.match(data, position)
    return position if match is None else match.end()


@functools.cache
def _whole_value(levels: int = 6) -> re.Pattern[bytes]:
    """A pattern of an object or array that nests `levels` deep at most."""
    # What it matches, `Scanner` would have followed to the same end, a dozen times slower. It is
    # compiled when first wanted: import stays light.
    blank = rb"[ \t\r\n]*+"
    string = rb'"(?:[^"\\\n]++|\\[^\n])*+"'
    value = string + rb"|[^\s\",:{}\[\]]++"
    nested = b""
    for _ in range(levels):
        pair = string + blank + b":" + blank + b"(?:" + value + b")" + blank
        member = rb"(?:" + pair + rb"(?:," + blank + rb"|(?=\})))*+"
        element = rb"(?:(?:" + value + rb")" + blank + rb"(?:," + blank + rb"|(?=\])))*+"
        nested = rb"\{" + blank + member + rb"\}|\[" + blank + element + rb"\]"
        value = string + rb"|[^\s\",:{}\[\]]++|" + nested
    return re.compile(nested)


def _start_pattern(names: list[bytes]) -> re.Pattern[bytes]:
    """A pattern of an object whose first name is one of `names`."""
    choice = b"|".join(re.escape(name) for name in names)
    return re.compile(rb'\{[ \t\r\n]{0,64}"(?:' + choice + rb')"[ \t\r\n]{0,64}:')
