"""Reading: a source becomes a stream of blocks, some megabytes of responses each.

`discover` finds the sources and tells each one's form; `blocks` reads one; `line_ranges` cuts a
plain file of lines into ranges that workers read side by side. In a block every response has its
row and its byte offset. Nothing here parses a response.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

import numpy as np

from verifyanalytics.errors import UsageError
from verifyanalytics.sources import formats, streams
from verifyanalytics.sources.blocks import BLOCK_BYTES, MAX_DOCUMENT, Block, Source
from verifyanalytics.sources.discovery import discover, spool
from verifyanalytics.sources.json_stream import JsonStream
from verifyanalytics.sources.tabular import parquet_blocks, text_table_blocks

__all__ = ["BLOCK_BYTES", "Block", "Source", "blocks", "discover", "line_ranges", "spool"]


class Range(NamedTuple):
    """A range of a plain file of lines: bytes [start, end), whole lines only.

    `first_row` is the row of its first line; `n_lines` counts its lines, blank ones too.
    """

    start: int
    end: int
    first_row: int
    n_lines: int


def open_stored(source: Source) -> BinaryIO:
    """Open the bytes as stored (compressed if they are), for hashing; the caller closes it."""
    return streams.open_location(source.location)


def blocks(
    source: Source,
    *,
    column: str | None = None,
    start: int = 0,
    end: int | None = None,
    first_row: int = 1,
    block_bytes: int = BLOCK_BYTES,
    max_document: int = MAX_DOCUMENT,
    max_ratio: float = streams.MAX_RATIO,
    free_bytes: int = streams.FREE_BYTES,
) -> Iterator[Block]:
    """Read one source as a stream of blocks, rows rising, in bounded memory.

    What cannot be read is in `Block.rejects`: a document that is too large (`size`), text that
    is not UTF-8 as a whole (`encoding`), a broken part of JSON (`syntax`, `depth`), and the place
    where a stream ends too early (`source`). Everything before a cut is kept; of an archive whose
    checksum or code is wrong nothing since the last sound member, or since 32 MiB.

    Parameters
    ----------
    source : Source
    column : str, optional
        Tables: read this column instead of `source.column`.
    start, end, first_row : int
        A range that `line_ranges` gave; for `splittable` sources only.
    block_bytes, max_document : int
        Size of a block aimed at; most bytes one response may have.
    max_ratio, free_bytes : float, int
        A compressed source longer than `free_bytes` may be `max_ratio` times its stored size.

    Raises
    ------
    InputError
        The disk or the network fails: nothing is known about the rest of the source.
    UsageError
        A range of a source that cannot be split, or a table without the column.
    """
    if (start or end is not None) and not source.splittable:
        raise UsageError(f"{source.name} cannot be read in pieces: it is not a plain file of lines")
    if column is not None:
        source = dataclasses.replace(source, column=column)
    if source.form == "parquet":
        yield from parquet_blocks(source, block_bytes, max_document)
        return
    size = max(len(formats.UTF8_MARK), min(block_bytes, max_document))
    offset, chunks = _unmarked(start, _chunks(source, start, end, size, max_ratio, free_bytes))
    name = source.name
    if source.form == "lines":
        yield from formats.line_blocks(
            name, chunks, offset=offset, first_row=first_row, max_document=max_document
        )
    elif source.form == "json":
        yield from JsonStream(
            name, offset=offset, block_bytes=block_bytes, max_document=max_document
        ).blocks(chunks)
    elif source.form in {"csv", "tsv"}:
        yield from text_table_blocks(source, chunks, offset, block_bytes, max_document)
    elif source.form == "json5":
        yield formats.json5_block(name, chunks)
    else:
        first = next(chunks, b"")
        reason, detail = formats.refusal_of(first) or ("source", "not text")
        yield formats.refused_block(name, itertools.chain((first,), chunks), reason, detail)


def line_ranges(
    source: Source, target_bytes: int, *, update: Callable[[bytes], object] | None = None
) -> Iterator[Range]:
    """Cut a splittable source into ranges of about `target_bytes`, in one pass over it.

    Parameters
    ----------
    source : Source
        With `splittable` true.
    target_bytes : int
        A range ends behind the first newline at which it is this long, give or take a block.
    update : callable, optional
        Called with every stored byte in order, as ``hashlib.sha256().update`` wants it.

    Yields
    ------
    Range
        In order; together they cover the file, but for a byte order mark at its start.

    Raises
    ------
    UsageError
        The source is compressed, remote, or no file of lines.
    InputError
        The disk fails.
    """
    if not source.splittable:
        raise UsageError(f"{source.name} cannot be cut: it is not a plain file of lines")
    start = position = n_lines = 0
    first_row, unfinished = 1, False
    size = max(1, min(BLOCK_BYTES, target_bytes))
    for chunk in streams.stored_chunks(source.location, source.name, size, 0, None):
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
        reading = streams.aligned_chunks if source.splittable else streams.stored_chunks
        return reading(source.location, source.name, size, start, end)
    return _coalesced(
        streams.inflated_chunks(
            source.location, source.name, source.compression, max_ratio, free_bytes
        ),
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
    except streams.StreamDamageError:
        if joined:
            yield b"".join(joined)
        raise
    if joined:
        yield b"".join(joined)


def _unmarked(start: int, chunks: Iterator[bytes]) -> tuple[int, Iterator[bytes]]:
    """Leave out a UTF-8 byte order mark at the start of a source; say where it then begins."""
    try:
        first = next(chunks, b"")
    except streams.StreamDamageError as damage:
        return start, _raising(damage)
    offset = start
    if start == 0 and first.startswith(formats.UTF8_MARK):
        first, offset = first[len(formats.UTF8_MARK) :], len(formats.UTF8_MARK)
    return offset, itertools.chain((first,) if first else (), chunks)


def _raising(damage: streams.StreamDamageError) -> Iterator[bytes]:
    """Raise once it is read."""
    yield from ()
    raise damage
