"""The words of a report, in English and Chinese: a text by its key, with its values.

Nothing here knows a figure; nothing elsewhere writes a sentence.
"""

from __future__ import annotations

from typing import Any

from verifyanalytics.analysis.base.regimes import INCOMPLETE
from verifyanalytics.charts.names import digest
from verifyanalytics.reporting.blocks import MAX_SHOWN, Say, Words, shown
from verifyanalytics.reporting.captions import ENDING
from verifyanalytics.reporting.texts import PAGES

_NBSP = "\u00a0"

_TEXT = PAGES | ENDING


def say(key: str, **values: Any) -> Say:
    """Return a text with its values; each value is words of its own, or a plain text.

    `{n_s}` is the s of the English plural of a value n.
    """
    en, zh = _TEXT[key]
    spoken = [
        {name: _in(value, i) for name, value in values.items()} | {"nbsp": _NBSP} for i in (0, 1)
    ]
    plurals = {f"{name}_s": "" if str(value) == "1" else "s" for name, value in spoken[0].items()}
    return Say(en.format(**spoken[0], **plurals), zh.format(**spoken[1]))


def _in(value: Any, language: int) -> str:
    return str(value[language]) if isinstance(value, Say) else str(value)


def enumerated(items: list[Any]) -> Say:
    """Join words by commas."""
    return _joint(items, "; ", "；")


def joined(*parts: Say) -> Say:
    """Put sentences after each other."""
    return _joint(parts, " ", "")


def _joint(items: Any, en: str, zh: str) -> Say:
    return Say(*(joint.join(_in(item, i) for item in items) for i, joint in enumerate((en, zh))))


# ------------------------------------------------------------------ names of the data


def name_words(name: object, most: int = MAX_SHOWN) -> Words:
    """Write a name of the data; one that nobody could see says that it is empty."""
    text = str(name)
    if text.strip():
        return shown(text, most)
    return _joint([say("empty"), digest(text)], " ", " ") if text else say("empty")


def names_words(names: Any) -> Words:
    """Write several names of the data as one."""
    return _joint([name_words(name) for name in names], " · ", " · ")


def regime_words(name: str, most: int = 60) -> Words:
    """Name a regime; of a long request key the end goes, the thresholds stay."""
    if name == INCOMPLETE:
        return say("incomplete")
    key, _, thresholds = name.rpartition(" ")
    least = MAX_SHOWN // 2
    return _joint([name_words(key, max(most - len(thresholds), least)), thresholds], " ", " ")


_CONDITIONS = {"score >= own 1e-4": "分数 ≥ 自身 1e-4 阈值", "score >= 90": "分数 ≥ 90",
               "risk < 600": "风险分 < 600", "risk < 900": "风险分 < 900",
               "alive": "活体通过"}  # fmt: skip


def rule_words(rule: str) -> Say:
    """Write a rule of `va.verdicts.result_rule`: a tag stays as it is."""
    own, without, tag = f" and {rule}".partition(" and no tag ")
    said = [Say(c.replace(">=", "≥"), _CONDITIONS[c]) for c in own.split(" and ")[1:]]
    if without:
        said.append(say("no_tag", tag=name_words(tag)))
    return _joint(said, " and ", "，且")


def reject_words(reason: str) -> Words:
    """Say why responses could not be read, by a reason of `schema.REJECT_REASONS`."""
    key = f"reject_{reason}"
    return say(key) if key in _TEXT else shown(reason)
