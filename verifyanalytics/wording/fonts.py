"""The fonts that charts, report and PDF are set in: DejaVu Sans, and an installed Chinese one.

A character that neither has is written as an escape, so that no empty box stands in its place.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from matplotlib import font_manager

CJK_FONTS = (
    "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Noto Sans CJK SC", "Noto Sans SC",
    "Source Han Sans SC", "Source Han Sans CN", "Microsoft YaHei", "PingFang SC", "SimHei",
    "Hiragino Sans GB", "Heiti SC", "Heiti TC", "Arial Unicode MS", "Droid Sans Fallback",
)  # fmt: skip
"""Fonts with simplified Chinese, in the order in which they are looked for."""

CJK_FILES = ("wqy-microhei", "wqy-zenhei", "notosanscjk", "sourcehansans", "msyh", "simhei",
             "pingfang")  # fmt: skip
"""Beginnings of the names of their files."""


@cache
def cjk_font() -> str | None:
    """Return the name of an installed font with Chinese, None when there is none."""
    installed = {entry.name for entry in font_manager.fontManager.ttflist}
    for name in CJK_FONTS:
        if name in installed:
            return name
    for path in sorted(font_manager.findSystemFonts()):  # newer than matplotlib's own list
        if Path(path).stem.lower().replace("-regular", "").startswith(CJK_FILES):
            font_manager.fontManager.addfont(path)
            return str(font_manager.get_font(path).family_name)
    return None


def font_names() -> list[str]:
    """Return the names of the fonts, the first one first."""
    return ["DejaVu Sans", *([font] if (font := cjk_font()) else [])]


@cache
def font_files() -> tuple[Path, ...]:
    """Return the files of the fonts."""
    return tuple(Path(font_manager.findfont(name)) for name in font_names())


@cache
def _glyphs() -> frozenset[int]:
    return frozenset().union(*(font_manager.get_font(file).get_charmap() for file in font_files()))


def drawable(text: str) -> str:
    """Write as escapes what no font has."""
    if text.isascii():
        return text
    return "".join(c if ord(c) in _glyphs() or c in "\u00a0\u200b\n" else ascii(c)[1:-1]
                   for c in text)  # fmt: skip
