"""Reading: a source becomes a stream of blocks, some megabytes of responses each.

`blocks` reads a source; `line_ranges` cuts a plain file of lines into ranges that workers read side
by side. Every response has its row and its byte offset. Nothing here parses a response.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from verifyanalytics.errors import UsageError
from verifyanalytics.sources.discovery import (
    UTF8_MARK,
    discover,
    is_whole_object,
    refusal_of,
    spool,
)
from verifyanalytics.sources.json_stream import JsonStream
from verifyanalytics.sources.streams import (
    BLOCK_BYTES,
    FREE_BYTES,
    MAX_DOCUMENT,
    MAX_DOCUMENTS,
    MAX_RATIO,
    Block,
    BlockReject,
    Document,
    Source,
    StreamDamageError,
    aligned_chunks,
    count_lines,
    inflated_chunks,
    stored_chunks,
)
from verifyanalytics.sources.tabular import parquet_blocks, text_table_blocks

__all__ = ["BLOCK_BYTES", "Block", "Source", "blocks", "discover", "line_ranges", "spool"]


MAX_JSON5 = 4 << 20  # JSON5 is for samples pasted by hand: its parser is slow


class Range(NamedTuple):
    """Bytes [start, end) of a plain file, whole lines only; `n_lines` counts blank ones too."""

    start: int
    end: int
    first_row: int
    n_lines: int


def blocks(
    source: Source,
    *,
    start: int = 0,
    end: int | None = None,
    first_row: int = 1,
    block_bytes: int = BLOCK_BYTES,
    max_document: int = MAX_DOCUMENT,
    max_ratio: float = MAX_RATIO,
    free_bytes: int = FREE_BYTES,
) -> Iterator[Block]:
    """Read one source as a stream of blocks, rows rising; rejects say what cannot be read."""
    if (start or end is not None) and not source.splittable:
        raise UsageError(f"{source.name} cannot be read in pieces: it is not a plain file of lines")
    if source.form == "parquet":
        yield from parquet_blocks(source, block_bytes, max_document)
        return
    size = max(len(UTF8_MARK), min(block_bytes, max_document))
    offset, chunks = _unmarked(start, _chunks(source, start, end, size, max_ratio, free_bytes))
    name = source.name
    if source.form == "lines":
        yield from line_blocks(
            name, chunks, offset=offset, first_row=first_row, max_document=max_document
        )
    elif source.form == "json":
        yield from JsonStream(
            name, offset=offset, block_bytes=block_bytes, max_document=max_document
        ).blocks(chunks)
    elif source.form in {"csv", "tsv"}:
        yield from text_table_blocks(source, chunks, offset, block_bytes, max_document)
    elif source.form == "json5":
        yield json5_block(name, chunks)
    else:
        first = next(chunks, b"")
        reason, detail = refusal_of(first) or ("source", "not text")
        yield refused_block(name, itertools.chain((first,), chunks), reason, detail)


def line_ranges(
    source: Source, target_bytes: int, *, update: Callable[[bytes], object] | None = None
) -> Iterator[Range]:
    """Cut a splittable source into ranges of about `target_bytes`, in one pass over it."""
    if not source.splittable:
        raise UsageError(f"{source.name} cannot be cut: it is not a plain file of lines")
    start = position = n_lines = 0
    first_row, unfinished = 1, False
    size = max(1, min(BLOCK_BYTES, target_bytes))
    for chunk in stored_chunks(source.location, source.name, size, 0, None):
        if update is not None:
            update(chunk)
        cut = chunk.rfind(b"\n") + 1
        n_lines += int(np.count_nonzero(np.frombuffer(chunk, np.uint8) == ord("\n")))
        if cut and position + cut - start >= target_bytes:
            yield Range(start, position + cut, first_row, n_lines)
            start, first_row, n_lines = position + cut, first_row + n_lines, 0
        position += len(chunk)
        unfinished = cut < len(chunk)
    if position > start:
        yield Range(start, position, first_row, n_lines + unfinished)


def _chunks(
    source: Source, start: int, end: int | None, size: int, max_ratio: float, free_bytes: int
) -> Iterator[bytes]:
    """The decompressed bytes in pieces of about `size`."""
    if source.compression is None:
        reading = aligned_chunks if source.splittable else stored_chunks
        return reading(source.location, source.name, size, start, end)
    return _coalesced(
        inflated_chunks(source.location, source.name, source.compression, max_ratio, free_bytes),
        size,
    )


def _coalesced(chunks: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Join small chunks until they are `size` long; an error comes behind what preceded it."""
    joined: list[bytes] = []
    n_bytes = 0
    try:
        for chunk in chunks:
            if n_bytes + len(chunk) > size and joined:
                yield b"".join(joined)
                joined, n_bytes = [], 0
            joined.append(chunk)
            n_bytes += len(chunk)
    except StreamDamageError:
        if joined:
            yield b"".join(joined)
        raise
    if joined:
        yield b"".join(joined)


def _unmarked(start: int, chunks: Iterator[bytes]) -> tuple[int, Iterator[bytes]]:
    """Leave out a UTF-8 byte order mark at the start of a source; say where it then begins."""
    try:
        first = next(chunks, b"")
    except StreamDamageError as damage:
        return start, _raising(damage)
    offset = start
    if start == 0 and first.startswith(UTF8_MARK):
        first, offset = first[len(UTF8_MARK) :], len(UTF8_MARK)
    return offset, itertools.chain((first,) if first else (), chunks)


def _raising(damage: StreamDamageError) -> Iterator[bytes]:
    """Raise once it is read."""
    yield from ()
    raise damage


# ------------------------------------------------------------------ the forms of text


def line_blocks(
    name: str, chunks: Iterator[bytes], *, offset: int, first_row: int, max_document: int
) -> Iterator[Block]:
    """Blocks of whole lines, about as long as the chunks, which must not exceed `max_document`."""
    # a longer line is counted and hashed as it passes and becomes a reject
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
    """Turn a hand-pasted JSON5 sample into one block of documents, an array's elements each."""
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
        # NaN and Infinity stay what they are, so that the strict parser can refuse them
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
