"""The fonts that drawings and PDF are set in: DejaVu Sans, and a Chinese one where it is installed.

Both are named by their files, so that no other font of the machine changes a page; a character that
neither has is written as an escape, so that no empty box stands in its place.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from matplotlib import font_manager

from verifyanalytics.charts.style import cjk_font
from verifyanalytics.codebook.book import Lang
from verifyanalytics.errors import UsageError


def names() -> list[str]:
    """Return the names of the fonts, the first one first."""
    return ["DejaVu Sans", *([font] if (font := cjk_font()) else [])]


@cache
def files() -> tuple[Path, ...]:
    """Return the files of the fonts."""
    return tuple(Path(font_manager.findfont(name)) for name in names())


@cache
def _glyphs() -> frozenset[int]:
    return frozenset().union(*(font_manager.get_font(file).get_charmap() for file in files()))


def drawable(text: str) -> str:
    """Return a text as it can be drawn."""
    if text.isascii():
        return text
    return "".join(
        c if ord(c) in _glyphs() or c in "\u00a0\u200b\n"
        else c.encode("ascii", "backslashreplace").decode()
        for c in text
    )  # fmt: skip


def check(lang: Lang) -> None:
    """Make sure that a language can be set.

    Raises
    ------
    UsageError
        There is no font with Chinese, and Chinese is asked for.
    """
    if lang != "en" and cjk_font() is None:
        raise UsageError(
            "a PDF in Chinese needs a font with Chinese characters, and none is installed (Debian, "
            "Ubuntu: apt-get install fonts-wqy-microhei); or ask for HTML, or for English"
        )
