"""Formats of text: which one a source has, and how lines and JSON5 become blocks.

The format is told from the bytes. A file of lines is the usual case and wins every doubt, so a
torn or foreign first line never turns a million good lines into one broken document.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from verifyanalytics.sources.blocks import MAX_DOCUMENTS, Block, BlockReject, Document, count_lines
from verifyanalytics.sources.json_stream import Scanner
from verifyanalytics.sources.streams import StreamDamageError

LINE_SUFFIXES = frozenset({".ndjson", ".jsonl", ".log"})
"""Suffixes that promise one response a line; their promise is taken."""

HEAD_BYTES = 1 << 18
"""Bytes looked at to tell the form, where its first line is not longer."""

LONGEST_HEAD = 8 << 20
"""Bytes looked at when the first line is longer than `HEAD_BYTES`."""

MAX_JSON5 = 4 << 20
"""JSON5 is for samples pasted by hand: its parser is slow."""

UTF8_MARK = b"\xef\xbb\xbf"
_FOREIGN = {
    "UTF-32": (b"\xff\xfe\0\0", b"\0\0\xfe\xff"),
    "UTF-16": (b"\xff\xfe", b"\xfe\xff", b"{\0", b"[\0", b"\0{", b"\0["),
}
_BINARY = (
    (0, b"PK\x03\x04", "a ZIP archive; unpack it first"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it first"),
    (257, b"ustar", "a tar archive; unpack it first"),
    (0, b"SQLite format 3\0", "an SQLite file"),
    (0, b"ORC", "an ORC file; write it as Parquet"),
    (0, b"Obj\x01", "an Avro file; write it as Parquet"),
)
_TRIES = 20  # lines that vote on the form


def refusal_of(head: bytes) -> tuple[str, str] | None:
    """Give reason and detail when a source's first bytes say that it holds no UTF-8 text."""
    for name, marks in _FOREIGN.items():
        if head.startswith(marks):
            return "encoding", f"{name}; convert it to UTF-8"
    for place, mark, what in _BINARY:
        if head.startswith(mark, place):
            return "source", what
    return None


def text_form(head: bytes, *, whole: bool) -> str:
    """Tell ``lines`` from ``json`` by the first bytes of a source; `whole`: they are all.

    It is ``lines`` if half of the first lines are one object (or one ``b'…'``) each. Else the
    first value decides: ``json`` for an array, for an object that goes on over several lines, for
    objects that follow each other on a line, and for a text that begins with a record separator
    (0x1e, as RFC 7464 has it); ``lines`` for all else.
    """
    text = head.lstrip(b" \t\r\n")
    if text.startswith(b"\x1e"):
        return "json"
    if _lines_win(text, whole=whole):
        return "lines"
    if text.startswith(b"["):
        return _array_form(text, whole=whole)
    return _object_form(text, whole=whole) if text.startswith(b"{") else "lines"


def _lines_win(text: bytes, *, whole: bool) -> bool:
    """Whether at least half of the first complete lines, two or more, hold one response each."""
    lines = text[:HEAD_BYTES].split(b"\n", _TRIES)
    if not whole or len(lines) > _TRIES:
        lines.pop()  # cut off
    lines = [line for line in map(bytes.strip, lines) if line]
    n_good = sum(line.startswith((b"b'{", b'b"{')) or is_whole_object(line) for line in lines)
    return len(lines) > 1 and 2 * n_good >= len(lines) and n_good > 0


def is_whole_object(line: bytes) -> bool:
    """Whether a line is one bracketed object, whatever is inside, and nothing behind it."""
    scanner = Scanner(0)
    return (
        line.startswith(b"{") and scanner.advance(line) == "ended" and scanner.position == len(line)
    )


def _array_form(text: bytes, *, whole: bool) -> str:
    inner = text[1:].lstrip(b" \t\r\n")
    scanner = Scanner(0)
    # `[2024-05-01 08:00:00] ERROR …` is a line of a log
    alone = whole and scanner.advance(text) == "ended" and not text[scanner.position :].strip()
    spread = text.partition(b"\n")[0].strip() == b"["
    return "json" if inner.startswith(b"{") or alone or spread else "lines"


def _object_form(text: bytes, *, whole: bool) -> str:
    first_line, newline, others = text.partition(b"\n")
    scanner = Scanner(0)
    verdict = scanner.advance(first_line)
    if verdict == "ended":
        behind = first_line[scanner.position :].lstrip(b" \t\r\n,\x1e")
        return "json" if behind.startswith((b"{", b"[")) else "lines"
    if verdict == "broken" or not newline or scanner.is_in_string:
        return "lines"
    following = others.lstrip(b"\r\n")
    new_line_of_its_own = following.startswith((b'{"', b"b'", b'b"')) or (whole and not following)
    return "lines" if new_line_of_its_own else "json"


def line_blocks(
    name: str, chunks: Iterator[bytes], *, offset: int, first_row: int, max_document: int
) -> Iterator[Block]:
    """Blocks of whole lines, about as long as the chunks, which must not exceed `max_document`.

    A longer line is counted and hashed as it passes and becomes a reject. Where the stream is
    damaged, a last line that is not whole is part of the reject `source`.
    """
    lines = _Lines(name, offset, first_row, max_document)
    try:
        for chunk in chunks:
            yield from lines.add(chunk)
    except StreamDamageError as damage:
        yield from lines.end(str(damage))
    else:
        yield from lines.end(None)


class _Lines:
    """Cuts chunks behind their last newline; what is behind waits for its own newline."""

    def __init__(self, name: str, offset: int, row: int, max_document: int) -> None:
        self._name, self._offset, self._row = name, offset, row
        self._max_document = max_document
        self._pieces: list[bytes] = []
        self._n_bytes = 0
        self._hash: Any = None  # set once the line is too long to be kept

    def add(self, chunk: bytes) -> Iterator[Block]:
        """Give out the lines that `chunk` completes."""
        first = chunk.find(b"\n")
        rest = chunk if first < 0 else chunk[:first]
        if self._n_bytes and self._n_bytes + len(rest) > self._max_document:
            if self._hash is None:
                self._hash = hashlib.sha256()
            for piece in (*self._pieces, rest):
                self._hash.update(piece)
            self._pieces = []
            self._n_bytes += len(rest)
            if first < 0:
                return
            yield self._too_long(newline=1)
            chunk = chunk[first + 1 :]
        cut = chunk.rfind(b"\n") + 1
        if cut == len(chunk) > 0 and not self._pieces:
            yield from self._blocks(chunk)
            return
        if cut:
            yield from self._blocks(b"".join((*self._pieces, memoryview(chunk)[:cut])))
            chunk = chunk[cut:]
        if chunk:
            self._pieces.append(chunk)
            self._n_bytes += len(chunk)

    def end(self, damage: str | None) -> Iterator[Block]:
        """Give out what is left at the end of the stream."""
        if self._hash is not None:
            yield self._too_long(newline=0)
        rest = b"".join(self._pieces)
        if rest and (damage is None or is_whole_object(rest.strip())):
            yield from self._blocks(rest)
            self._row += damage is not None
            rest = b""
        if damage is not None:
            digest = hashlib.sha256(rest).hexdigest() if rest else None
            yield self._refuse("source", damage, digest, len(rest))

    def _blocks(self, data: bytes) -> Iterator[Block]:
        """Whole lines as one block, or as several where they are tiny and many."""
        self._pieces, self._n_bytes = [], 0
        n_lines = count_lines(data)
        cuts = [0, len(data)]
        if n_lines > MAX_DOCUMENTS:
            newlines = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n"))
            cuts[1:1] = (newlines[MAX_DOCUMENTS - 1 :: MAX_DOCUMENTS] + 1).tolist()
        for start, end in itertools.pairwise(cuts):
            if start < end:
                yield Block(self._name, data[start:end], self._row, self._offset)
                self._row += min(MAX_DOCUMENTS, n_lines)
                n_lines -= min(MAX_DOCUMENTS, n_lines)
                self._offset += end - start

    def _too_long(self, newline: int) -> Block:
        detail = f"a line larger than {self._max_document} bytes"
        block = self._refuse("size", detail, self._hash.hexdigest(), self._n_bytes)
        self._row += 1
        self._offset += self._n_bytes + newline
        self._hash, self._n_bytes = None, 0
        return block

    def _refuse(self, reason: str, detail: str, digest: str | None, n_bytes: int) -> Block:
        reject = BlockReject(self._row, self._offset, reason, detail, digest, n_bytes)
        return Block(self._name, b"", self._row, self._offset, None, (reject,))


def refused_block(
    name: str, chunks: Iterator[bytes], reason: str, detail: str, offset: int = 0
) -> Block:
    """One reject for a whole source, hashed as it passes."""
    digest, n_bytes = hashlib.sha256(), 0
    try:
        for chunk in chunks:
            digest.update(chunk)
            n_bytes += len(chunk)
    except StreamDamageError as damage:
        detail = f"{detail}; {damage}"
    reject = BlockReject(1, offset, reason, detail, digest.hexdigest(), n_bytes)
    return Block(name, b"", 1, offset, None, (reject,))


def json5_block(name: str, chunks: Iterator[bytes]) -> Block:
    """Turn a hand-pasted JSON5 sample into one block of JSON documents, an array's elements each.

    Numbers keep every digit a double has; NaN and Infinity stay what they are, so that the
    strict parser can refuse them. The block has no byte offset: the text was rewritten.
    """
    import json5  # slow to load, and seldom wanted

    pieces, n_bytes = [], 0
    for chunk in chunks:
        pieces.append(chunk)
        n_bytes += len(chunk)
        if n_bytes > MAX_JSON5:
            detail = f"JSON5 larger than {MAX_JSON5} bytes; write JSON instead"
            return refused_block(name, itertools.chain(pieces, chunks), "size", detail)
    data = b"".join(pieces)
    try:
        value = json5.loads(text) if (text := data.decode()).strip() else []
    except UnicodeDecodeError:
        return refused_block(name, iter((data,)), "encoding", "not UTF-8")
    except RecursionError:
        return refused_block(name, iter((data,)), "depth", "nested too deep")
    except ValueError:
        return refused_block(name, iter((data,)), "syntax", "not JSON5")
    documents, start = [], 0
    texts = [json.dumps(item).encode() for item in (value if isinstance(value, list) else [value])]
    for row, line in enumerate(texts, 1):
        documents.append(Document(row, start, start + len(line)))
        start += len(line) + 1
    return Block(name, b"\n".join(texts), 1, None, tuple(documents))
