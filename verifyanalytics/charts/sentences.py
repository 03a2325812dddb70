"""What is written on the charts of risk tags, image quality and drift; see `wording.texts`."""

from __future__ import annotations

from typing import Any

from verifyanalytics.codebook.book import Lang
from verifyanalytics.wording.names import name
from verifyanalytics.wording.texts import say, text
from verifyanalytics.wording.words import Say

_OUTCOMES, _COLUMN = ("non_match", "rejected", "attack"), 24


def lines(key: str, lang: Lang, **values: Any) -> str:
    """Return a text of these charts, in `both` on two lines."""
    return text(key, lang, joint="\n", **values)


def outcome(column: str) -> Say:
    """Return the words for an outcome; a column of the caller's is called by its name."""
    return say(column) if column in _OUTCOMES else Say(*(name(column, _COLUMN),) * 2)
