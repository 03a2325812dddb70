"""The catalogue: every text of charts, report and tuner by its key, with its values.

A template names its values in braces; a value that is itself bilingual goes into each language in
its own form. `{n_s}` is the s of the English plural of a value n.
"""

from __future__ import annotations

from typing import Any

from verifyanalytics.codebook.book import Lang
from verifyanalytics.wording.texts_charts import CHARTS
from verifyanalytics.wording.texts_report import REPORT
from verifyanalytics.wording.texts_tuner import TUNER
from verifyanalytics.wording.words import Say, in_one, plain

TEXTS = CHARTS | REPORT | TUNER


def say(key: str, **values: Any) -> Say:
    """Return a text with its values.

    Examples
    --------
    >>> say("g_small", n=2)
    Say(en='2 small groups', zh='2 个小组（合并）')
    """
    en, zh = TEXTS[key]
    english, chinese = ({name: in_one(v, i) for name, v in values.items()} for i in (0, 1))
    if "_s}" in en:
        english |= {f"{name}_s": "" if str(v) == "1" else "s" for name, v in english.items()}
    return Say(en.format(**english), zh.format(**chinese))


def text(key: str, lang: Lang, joint: str = "  ", **values: Any) -> str:
    """Return a text as one string; `both` joins English and Chinese by `joint`.

    Examples
    --------
    >>> text("date", "zh"), text("date", "both", joint=" / ")
    ('本地日期', 'local date / 本地日期')
    """
    return plain(say(key, **values), lang, joint)
