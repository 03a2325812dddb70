"""Names of the data as a chart can show them: nothing unseen, nothing endless, no empty box."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from functools import cache

from matplotlib import font_manager

from verifyanalytics.charts.style import cjk_font

MOST = 40
"""Columns that a name may take; a Chinese character takes two."""

_STEERING = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\uffff\ud800-\udfff"
    "\U000e0000-\U000e0fff]"
)
"""Characters that steer, turn text around or cannot be seen; lone surrogates; noncharacters."""

_MARK = "[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff]"
_TOWER = re.compile(f"({_MARK}{{3}}){_MARK}+")
"""Accents heaped on one letter: they would cover the lines above it."""


def name(value: object, most: int = MOST) -> str:
    r"""Return a name of the data as it can be drawn.

    Parameters
    ----------
    value : object
    most : int
        Columns that it may take; a longer one is cut and gets a digest to be told apart by.

    Examples
    --------
    >>> name("app\x1b[31m\u202e")
    'app\\x1b[31m\\u202e'
    >>> name("a" * 10_000)
    'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa… #27dd1f'
    """
    whole = str(value)
    clean = _drawable(visible(whole[: most + 1]))
    if len(whole) <= most and _width(clean) <= most:
        return clean
    while _width(clean) > most - 9:
        clean = clean[:-1]
    return f"{clean}… {digest(whole)}"


def visible(text: str) -> str:
    """Write as escapes what steers or cannot be seen, and thin out heaps of accents."""
    seen = _STEERING.sub(lambda found: ascii(found[0])[1:-1], text)
    return _TOWER.sub(r"\1", seen)


def digest(text: str) -> str:
    """Return what tells texts apart that look alike."""
    return "#" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:6]


def _drawable(text: str) -> str:
    """Write as escapes what none of our fonts has."""
    if text.isascii():
        return text
    return "".join(c if ord(c) in _glyphs() else ascii(c)[1:-1] for c in text)


@cache
def _glyphs() -> frozenset[int]:
    fonts = ["DejaVu Sans", *([font] if (font := cjk_font()) else [])]
    files = (font_manager.findfont(font) for font in fonts)
    return frozenset().union(*(font_manager.get_font(file).get_charmap() for file in files))


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
