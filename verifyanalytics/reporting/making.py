"""The last page of a report: from what, by what and with which parameters it was made."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from verifyanalytics.codebook.book import Lang, current
from verifyanalytics.reporting.blocks import Block, Bullets, Heading, table
from verifyanalytics.reporting.data import Figures
from verifyanalytics.reporting.summary import by_words, why_alone
from verifyanalytics.wording.names import regime_words, shown
from verifyanalytics.wording.numbers import NOTHING, local_minute, number
from verifyanalytics.wording.texts import say
from verifyanalytics.wording.words import Words, enumerated

_MOST = 200
"""Characters of a name in the command, which is to be copied."""

_READING = ("h_interval", "h_nobody", "h_change", "h_mix", "h_gates", "h_regime", "h_bounds")


def last_page(f: Figures, lang: Lang, code_version: str, formats: Sequence[str]) -> Iterable[Block]:
    """Say how the report was made and how it is read."""
    return [
        Heading(say("made")),
        table(
            say("m_parameters"), [say("c_parameter"), say("c_value")],
            _parameters(f, code_version, _again(f, lang, formats)), texts=[1],
        ),
        Heading(say("m_read")),
        Bullets(tuple(say(key) for key in _READING if key != "h_nobody" or f.now.persons is None)),
    ]  # fmt: skip


def _parameters(f: Figures, code_version: str, again: str) -> list[list[Words]]:
    book, asked = current(), f.asked
    compared: Words = (
        f.compared.words if f.before and f.compared else say("m_nothing", why=why_alone(f))
    )
    deffs = [f"{part.deff:.2f}" if part else NOTHING for part in (f.now, f.before)]
    persons = NOTHING if f.now.persons is None else number(f.now.persons)
    rows: dict[str, Any] = {
        "m_period": f.period.words,
        "m_compare": compared,
        "m_by": by_words(f) if f.by else NOTHING,
        "m_regimes": enumerated([regime_words(n) for n in asked.regimes] or [say("m_all")]),
        "m_least": str(asked.min_group),
        "m_tz": asked.tz,
        "m_data": " … ".join(local_minute(at, asked.tz) for at in (f.first_at, f.last_at)),
        "m_persons": persons,
        "m_deff": " / ".join(deffs),
        "m_book": say("m_builtin" if book.source == "built-in" else "m_own"),
        "m_answered": ", ".join(str(code) for code in sorted(book.answered_codes)),
        "m_risk_fail": f"≥ {book.risk_fail}",
        "m_store": str(f.version),
        "m_code": code_version,
        "m_again": again,
    }
    return [[say(key), value] for key, value in rows.items()]


def _again(f: Figures, lang: Lang, formats: Sequence[str]) -> str:
    """Write the command that makes the same report of the same store, wherever that lies."""
    asked = f.asked
    compared = f.compared.name if f.before and f.compared else asked.compare
    words = ["verifyanalytics", "report", "--store", "DIR", "--period", f.period.name]
    words += ["--compare", compared]
    for option, values in (("--by", f.by), ("--regime", asked.regimes)):
        for value in values:
            words += [option, shown(value, _MOST)]
    words += ["--lang", lang, "--format", "both" if len(formats) > 1 else formats[0]]
    words += ["--tz", asked.tz, "--as-of", str(f.version)]
    if asked.min_group != type(asked)().min_group:
        words += ["--min-group", str(asked.min_group)]
    return shlex.join(words)
