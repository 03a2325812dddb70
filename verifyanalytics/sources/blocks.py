"""What reading takes and gives: a source, and blocks of response bytes with their place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

MAX_DOCUMENT = 64 << 20
"""Bytes one response may have; a longer one is a reject and never held whole."""

MAX_DOCUMENTS = 50_000
"""Responses and refusals of a block: where they are tiny, they weigh more than their bytes."""

BLOCK_BYTES = 4 << 20
"""Bytes of a block, unless one document is longer: making a table of one costs some 500 µs."""


def count_lines(data: bytes) -> int:
    r"""Count newlines; `bytes.count` takes twenty times as long where lines are long.

    Examples
    --------
    >>> count_lines(b"{}\n\n{}")
    2
    """
    n_lines, at = 0, data.find(b"\n")
    while at >= 0:
        n_lines, at = n_lines + 1, data.find(b"\n", at + 1)
    return n_lines


class Document(NamedTuple):
    """One response inside a block: its 1-based row and its slice of `Block.data`."""

    row: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class BlockReject:
    """Bytes the reader itself refused, in the columns of `rejects`.

    `row` is a 1-based line, element or table row; `byte_offset` is None where rows have none
    (Parquet), `sha256` where there is nothing to hash, `n_bytes` where it is not known.
    """

    row: int
    byte_offset: int | None
    reason: str
    detail: str
    sha256: str | None = None
    n_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Block:
    r"""Some megabytes of responses with their provenance.

    Attributes
    ----------
    source : str
        Name as it stands in tables.
    data : bytes
        Not yet checked for UTF-8; empty when there are only `rejects`.
    first_row : int
        Row of the first line (lines form) or of the first document.
    byte_offset : int or None
        Offset of ``data[0]`` in the decompressed source; None for table rows and JSON5, whose
        text exists only here.
    documents : tuple of Document or None
        None: one response a line, ended by ``\n`` (the last may lack it); a blank line counts
        as a row and is no response.
    rejects : tuple of BlockReject
        What the reader refused: not in `documents`; in the lines form not in `data` either,
        except that a refused table row leaves a blank line to keep the rows in step.
    """

    source: str
    data: bytes
    first_row: int
    byte_offset: int | None
    documents: tuple[Document, ...] | None = None
    rejects: tuple[BlockReject, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """One thing to read: where it is, its name, and the form of its bytes.

    Attributes
    ----------
    name : str
        As it stands in tables: the path as given, with ``/``; a URL without credentials;
        ``<stdin>``. Never a path to write to.
    location : str
        Absolute path or URL to open.
    n_bytes : int or None
        Stored size; None when the place does not tell.
    form : str
        ``lines``, ``json`` (array, pretty-printed, concatenated), ``json5``, ``parquet``,
        ``csv``, ``tsv``, ``journal`` (of a collector or a tap: not read by `blocks`), or
        ``refused`` (nothing we read: one reject tells why).
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
        """True when it may be read in pieces: plain lines on a local disk."""
        return self.form == "lines" and self.compression is None and "://" not in self.location
