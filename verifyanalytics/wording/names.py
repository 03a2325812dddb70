r"""Names of the data as a page or a chart can show them: visible, of bounded length, drawable.

Control, bidirectional and other invisible characters are written as escapes; a name that is too
long is cut and gets a digest to be told apart by. Fonts are DejaVu Sans and an installed Chinese
one; a character that neither has is written as an escape, so that no empty box stands for it.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

from matplotlib import font_manager

from verifyanalytics.wording.texts import TEXTS, say
from verifyanalytics.wording.words import Say, Words, joined

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


MOST = 40
"""Characters that a name may take; on a chart columns, of which a Chinese character takes two."""

_STEERING = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\uffff\ud800-\udfff"
    "\U000e0000-\U000e0fff]"
)
"""Characters that steer, turn text around or cannot be seen; lone surrogates; noncharacters."""

_MARK = "[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff]"
_TOWER = re.compile(f"({_MARK}{{3}}){_MARK}+")
"""Accents heaped on one letter: they would cover the lines above it."""


def shown(value: object, most: int = MOST) -> str:
    r"""Return a name of the data as a page can show it.

    Examples
    --------
    >>> shown("app\x1b[31m\u202e")
    'app\\x1b[31m\\u202e'
    >>> shown("a" * 10_000)
    'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa… #27dd1f'
    """
    return _cut(str(value), most, visible, len)


def name(value: object, most: int = MOST) -> str:
    r"""Return a name of the data as it can be drawn.

    Examples
    --------
    >>> name("app\x1b[31m\u202e"), name("渠道" * 30, 13)
    ('app\\x1b[31m\\u202e', '渠道… #b5f8c2')
    """
    return _cut(str(value), most, lambda text: drawable(visible(text)), _columns)


def _cut(whole: str, most: int, write: Callable[[str], str], width: Callable[[str], int]) -> str:
    clean = write(whole[: most + 1])
    if len(whole) <= most and width(clean) <= most:
        return clean
    while width(clean) > most - 9:
        clean = clean[:-1]
    return f"{clean}… {digest(whole)}"


def _columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def visible(text: str) -> str:
    """Write as escapes what steers or cannot be seen, and thin out heaps of accents."""
    seen = _STEERING.sub(lambda found: ascii(found[0])[1:-1], text)
    return _TOWER.sub(r"\1", seen)


def digest(text: str) -> str:
    """Return what tells texts apart that look alike."""
    return "#" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:6]


# ------------------------------------------------------------------ names in sentences


def name_words(name: object, most: int = MOST) -> Words:
    """Write a name of the data; a blank one is called empty."""
    text = str(name)
    if text.strip():
        return shown(text, most)
    return joined([say("empty"), digest(text)], " ", " ") if text else say("empty")


def names_words(names: Iterable[object]) -> Words:
    """Write several names of the data as one."""
    return joined([name_words(name) for name in names], " · ", " · ")


def regime_words(regime: str, most: int = 60) -> Words:
    """Name a regime; of a long request key the end goes, the thresholds stay."""
    if regime == "incomplete":
        return say("incomplete")
    key, _, thresholds = regime.rpartition(" ")
    return joined([name_words(key, max(most - len(thresholds), MOST // 2)), thresholds], " ", " ")


_CONDITIONS = {"score >= own 1e-4": "分数 ≥ 自身 1e-4 阈值", "score >= 90": "分数 ≥ 90",
               "risk < 600": "风险分 < 600", "risk < 900": "风险分 < 900",
               "alive": "活体通过"}  # fmt: skip


def rule_words(rule: str) -> Say:
    """Write a rule of `va.verdicts.result_rule`: a tag stays as it is."""
    own, without, tag = f" and {rule}".partition(" and no tag ")
    told = [Say(c.replace(">=", "≥"), _CONDITIONS[c]) for c in own.split(" and ")[1:]]
    if without:
        told.append(say("no_tag", tag=name_words(tag)))
    return joined(told, " and ", "，且")


def reject_words(reason: str) -> Words:
    """Say why responses could not be read, by a reason of `schema.REJECT_REASONS`."""
    key = f"reject_{reason}"
    return say(key) if key in TEXTS else shown(reason)
