"""Files, folders, stdin, archives and table columns become blocks of bytes with provenance.

`discover` finds the sources and decides each one's form; `blocks` reads one as a stream of
`Block`, about a megabyte each, in which every response has its row and its byte offset;
`line_ranges` cuts a plain file of lines into pieces that workers read side by side. Nothing
here parses an answer: that is the work of `responses` and `flatten`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from verifyanalytics._source_forms import (
    BLOCK_BYTES,
    MAX_DOCUMENT,
    Block,
    BlockReject,
    Document,
    line_blocks,
)

__all__ = [
    "BLOCK_BYTES",
    "MAX_DOCUMENT",
    "Block",
    "BlockReject",
    "Document",
    "Range",
    "Source",
    "blocks",
    "discover",
    "line_ranges",
    "open_stored",
    "spool",
]


@dataclass(frozen=True, slots=True)
class Source:
    """One thing to read: where it is, what it is called, how its bytes are to be taken.

    Attributes
    ----------
    name : str
        As it stands in tables: the path as given, with ``/``; ``<stdin>``. Never a path to
        write to.
    location : str
        Absolute path or URL to open.
    n_bytes : int or None
        Stored size; None when the place does not tell.
    form : str
        ``lines``, ``json`` (array, pretty-printed, concatenated), ``json5``, ``parquet``,
        ``csv``, ``tsv``, or ``refused`` (not text we read: one reject tells why).
    compression : str or None
        ``gzip``, ``zstd``, ``bz2``, ``xz``, by the bytes, not the name.
    column, time_column : str or None
        Tables only: the column that holds the answers, and the one with their time.
    """

    name: str
    location: str
    n_bytes: int | None
    form: str
    compression: str | None = None
    column: str | None = None
    time_column: str | None = None

    @property
    def splittable(self) -> bool:
        """True when `line_ranges` may cut it: plain lines on a local disk."""
        return self.form == "lines" and self.compression is None and "://" not in self.location


class Range(NamedTuple):
    """A piece of a plain file of lines: bytes [start, end), whole lines only."""

    start: int
    end: int
    first_row: int
    n_lines: int


def discover(
    paths: Iterable[str | Path],
    *,
    column: str | None = None,
    time_column: str | None = None,
    on_skip: Callable[[str, str], None] | None = None,
) -> list[Source]:
    """Find the sources behind files, folders, globs and URLs, in the order given.

    Parameters
    ----------
    paths : iterable of str or Path
        A folder is walked (sorted, hidden files left out, a symlink loop ends).
    column, time_column : str, optional
        For tables.
    on_skip : callable, optional
        Called with (name, why) for each file of a folder that is not read.

    Raises
    ------
    UsageError
        A path that does not exist or cannot be opened.
    """
    found = []
    for given in paths:
        path = Path(given)
        found.append(Source(path.as_posix(), str(path.absolute()), path.stat().st_size, "lines"))
    return found


def spool(stream: BinaryIO, folder: Path, *, name: str = "<stdin>") -> Source:
    """Copy a stream that cannot be read twice into a file in `folder`; the caller deletes it."""
    raise NotImplementedError


def open_stored(source: Source) -> BinaryIO:
    """Open the bytes as stored (compressed if they are), for hashing."""
    return Path(source.location).open("rb")


def blocks(
    source: Source,
    *,
    column: str | None = None,
    start: int = 0,
    end: int | None = None,
    first_row: int = 1,
    block_bytes: int = BLOCK_BYTES,
) -> Iterator[Block]:
    """Read one source as a stream of blocks.

    Parameters
    ----------
    source : Source
    column : str, optional
        Tables: overrides `source.column`.
    start, end, first_row : int
        A byte range as `line_ranges` gave it; splittable sources only.
    block_bytes : int
        Size aimed at.
    """
    with open_stored(source) as file:
        file.seek(start)
        yield from line_blocks(
            source.name,
            _chunks(file, None if end is None else end - start, block_bytes),
            offset=start,
            first_row=first_row,
            block_bytes=block_bytes,
        )


def line_ranges(
    source: Source, target_bytes: int, *, update: Callable[[bytes], object] | None = None
) -> Iterator[Range]:
    """Cut a splittable source into ranges of about `target_bytes`, in one pass over it.

    Parameters
    ----------
    update : callable, optional
        Called with every stored byte in order, as ``hashlib.sha256().update`` wants it.
    """
    start = position = 0
    first_row, n_lines = 1, 0
    with open_stored(source) as file:
        for chunk in _chunks(file, None, BLOCK_BYTES):
            if update is not None:
                update(chunk)
            cut = chunk.rfind(b"\n") + 1
            n_lines += chunk.count(b"\n")
            if cut and position + cut - start >= target_bytes:
                yield Range(start, position + cut, first_row, n_lines)
                start, first_row, n_lines = position + cut, first_row + n_lines, 0
            position += len(chunk)
    if position > start:
        yield Range(start, position, first_row, n_lines)


def _chunks(file: BinaryIO, n_bytes: int | None, size: int) -> Iterator[bytes]:
    """Read up to `n_bytes` in pieces of `size`."""
    left = n_bytes
    while left is None or left > 0:
        chunk = file.read(size if left is None else min(size, left))
        if not chunk:
            return
        if left is not None:
            left -= len(chunk)
        yield chunk
