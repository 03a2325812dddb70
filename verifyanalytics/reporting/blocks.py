"""What a report is made of: blocks of words that every format can set.

A document is a list of blocks without any markup. Text that came with the data passes
`wording.names` on its way in; each writer escapes, once, for its own format.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from verifyanalytics.codebook.book import Lang
from verifyanalytics.wording.words import Words


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading, which begins a section."""

    words: Words


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A paragraph; `kind` is `plain`, `note` (small) or `warning`."""

    words: Words
    kind: str = "plain"


@dataclass(frozen=True, slots=True)
class Bullets:
    """A list of sentences."""

    items: tuple[Words, ...]


@dataclass(frozen=True, slots=True)
class Tile:
    """A number that is read from afar, what it is, and what it is compared with."""

    label: Words
    value: Words
    note: Words


@dataclass(frozen=True, slots=True)
class Tiles:
    """A row of tiles."""

    tiles: tuple[Tile, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table; its first column names the row."""

    caption: Words
    columns: tuple[Words, ...]
    rows: tuple[tuple[Words, ...], ...]
    texts: frozenset[int] = frozenset()  # columns of text besides the first, set to the left


@dataclass(frozen=True, slots=True)
class Drawing:
    """A drawing (SVG), what it shows in words, its caption, and its width and height in points."""

    svg: bytes
    alternative: Words
    caption: Words
    size: tuple[float, float]


Block: TypeAlias = Heading | Paragraph | Bullets | Tiles | Table | Drawing


@dataclass(frozen=True, slots=True)
class Document:
    """A whole report."""

    title: Words
    subtitle: Words
    lang: Lang
    blocks: list[Block] = field(default_factory=list)

    def add(self, *blocks: Block | None) -> None:
        """Append blocks; None is no block."""
        self.blocks.extend(block for block in blocks if block is not None)


def sections(blocks: Iterable[Block]) -> Iterator[list[Block]]:
    """Split blocks before each heading; a section stays on one page of paper if it can."""
    held: list[Block] = []
    for block in blocks:
        if isinstance(block, Heading) and held:
            yield held
            held = []
        held.append(block)
    if held:
        yield held


def table(
    caption: Words,
    columns: Iterable[Words],
    rows: Iterable[Iterable[Words]],
    texts: Iterable[int] = (),
) -> Table:
    """Make a table of any iterables; columns of text that it does not have are left out."""
    heads = tuple(columns)
    held = frozenset(i for i in texts if i < len(heads))
    return Table(caption, heads, tuple(tuple(row) for row in rows), held)
