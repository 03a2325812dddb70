"""Text forms: chunks of decompressed bytes become blocks of lines or of JSON documents.

A block is what a flatten worker takes in one gulp: about a megabyte of bytes with their place
in the source. This module knows bytes, not files: `sources` opens and names them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

MAX_DOCUMENT = 64 << 20
"""Bytes one response may have; a longer one is a reject and never held whole."""

BLOCK_BYTES = 1 << 20
"""Bytes of a block, unless one document is longer."""


class Document(NamedTuple):
    """One response inside a block: its 1-based row and its slice of `Block.data`."""

    row: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class BlockReject:
    """Bytes the reader itself refused, as `rejects` will name them.

    Attributes
    ----------
    row : int
        1-based line, element or table row.
    byte_offset : int or None
        First byte in the decompressed source; None for table rows.
    reason, detail : str
        One of `schema.REJECT_REASONS`, and what was wrong, without payload.
    sha256 : str or None
        Of the refused bytes; None where there are none to hash.
    n_bytes : int or None
        How many bytes were refused; None where that is not known.
    """

    row: int
    byte_offset: int | None
    reason: str
    detail: str
    sha256: str | None = None
    n_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Block:
    r"""About a megabyte of responses with their provenance.

    Attributes
    ----------
    source : str
        Name as it stands in tables.
    data : bytes
        Not yet checked for UTF-8; may be empty when only `rejects` matter.
    first_row : int
        Row of the first line (lines form) or of the first document.
    byte_offset : int or None
        Offset of ``data[0]`` in the decompressed source; None for table rows, whose lines
        exist only here.
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


def line_blocks(
    name: str, chunks: Iterator[bytes], *, offset: int, first_row: int, block_bytes: int
) -> Iterator[Block]:
    """Blocks of whole lines; the bytes are cut only behind a newline."""
    held: list[bytes] = []
    row, n_held = first_row, 0
    for chunk in chunks:
        cut = chunk.rfind(b"\n") + 1
        if not cut:
            held.append(chunk)
            n_held += len(chunk)
            continue
        data = b"".join((*held, chunk[:cut]))
        yield Block(name, data, row, offset)
        row, offset = row + data.count(b"\n"), offset + len(data)
        held = [chunk[cut:]] if cut < len(chunk) else []
        n_held = len(chunk) - cut
    if n_held:
        yield Block(name, b"".join(held), row, offset)
