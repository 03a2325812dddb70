"""What a report is made of: words in two languages, and blocks that every format can set.

A document is a list of blocks without any markup. Text that came with the data passes `shown` on
its way in: control, bidirectional and other invisible characters are written as escapes, and what
is too long to read is cut; escaping is the writers' own duty, once each.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from verifyanalytics.codebook import Lang

MAX_SHOWN = 40
"""Characters of a text of the data; longer ones are cut and get a digest to be told apart by."""

_STEERING = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\uffff\ud800-\udfff"
    "\U000e0000-\U000e0fff]"
)
"""Characters that steer, turn text around or cannot be seen; lone surrogates; noncharacters."""

_MARK = "[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff]"
_TOWER = re.compile(f"({_MARK}{{3}}){_MARK}+")
"""Accents heaped on one letter: they would cover the lines above it."""


def shown(text: object, most: int = MAX_SHOWN) -> str:
    r"""Return a text of the data as it may be shown.

    Examples
    --------
    >>> shown("app\x1b[31m\u202e")
    'app\\x1b[31m\\u202e'
    >>> shown("a" * 10_000)
    'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa… #27dd1f'
    """
    whole = str(text)
    clean = _STEERING.sub(lambda found: ascii(found[0])[1:-1], whole[: most + 1])
    clean = _TOWER.sub(r"\1", clean)
    if len(clean) <= most and len(whole) <= most:
        return clean
    return f"{clean[: most - 9]}… {digest(whole)}"


def digest(text: str) -> str:
    """Return what tells texts apart that look alike."""
    return "#" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:6]


class Say(NamedTuple):
    """The same in English and Chinese."""

    en: str
    zh: str


class Number(Say):
    """A number as each language writes it; it stands once where both languages do."""

    __slots__ = ()


Words: TypeAlias = Say | str
"""A text in both languages, or one that is the same in all: a number, a name of the data."""


def spoken(words: Words, lang: Lang) -> list[tuple[str, str]]:
    """Return (language, text) pairs: one, or two in `both` where the languages differ.

    A text that is no language's own has the language "".
    """
    if isinstance(words, str):
        return [("", words)]
    if lang == "both" and isinstance(words, Number):
        return [("", words.en)]
    if lang == "both" and words.en != words.zh:
        return [("en", words.en), ("zh", words.zh)]
    return [("zh", words.zh)] if lang == "zh" else [("en", words.en)]


def plain(words: Words, lang: Lang, joint: str = " / ") -> str:
    """Return words as one string."""
    return joint.join(text for _, text in spoken(words, lang))


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
    """A table; its first column names the row.

    Attributes
    ----------
    caption : Words
    columns : tuple of Words
    rows : tuple of tuple of Words
    texts : frozenset of int
        Columns of text besides the first: set to the left, the others to the right.
    """

    caption: Words
    columns: tuple[Words, ...]
    rows: tuple[tuple[Words, ...], ...]
    texts: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Figure:
    """A drawing (SVG), what it shows in words, its caption, and its width and height in points."""

    svg: bytes
    alternative: Words
    caption: Words
    size: tuple[float, float]


Block: TypeAlias = Heading | Paragraph | Bullets | Tiles | Table | Figure


@dataclass(frozen=True, slots=True)
class Document:
    """A whole report.

    Attributes
    ----------
    title, subtitle : Words
    lang : {"en", "zh", "both"}
    blocks : list of Block
    """

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
