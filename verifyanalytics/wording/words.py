"""Words in English and Chinese, and how they are joined and taken apart by language."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, TypeAlias

from verifyanalytics.codebook.book import Lang


class Say(NamedTuple):
    """The same in English and Chinese."""

    en: str
    zh: str


class Number(Say):
    """A number as each language writes it; a page in both languages shows the English form."""

    __slots__ = ()


Words: TypeAlias = Say | str
"""A text in both languages, or one that is the same in all: a count, a name of the data."""


def spoken(words: Words, lang: Lang) -> list[tuple[str, str]]:
    """Return (language, text) pairs: one, or two in `both` where the languages differ.

    A text that belongs to no language has the language "".
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


def in_one(value: Any, language: int) -> Any:
    """Return a value for English (0) or Chinese (1)."""
    return value[language] if isinstance(value, Say) else value


def joined(items: Iterable[Any], en: str = " ", zh: str = "") -> Say:
    """Put words after each other: sentences by default."""
    items = list(items)
    return Say(*(joint.join(str(in_one(v, i)) for v in items) for i, joint in enumerate((en, zh))))


def enumerated(items: Iterable[Any]) -> Say:
    """List words, with semicolons between."""
    return joined(items, "; ", "；")
