"""The last page of a report: from what, by what and with which parameters it was made."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import Any

from verifyanalytics._report_blocks import (
    Block,
    Bullets,
    Heading,
    Words,
    plain,
    shown,
    table,
)
from verifyanalytics._report_figures import Figures
from verifyanalytics._report_numbers import NOTHING, number, period_words
from verifyanalytics._report_summary import by_words, why_alone
from verifyanalytics._report_words import say
from verifyanalytics.codebook import Lang, current

_READING = ("h_interval", "h_nobody", "h_change", "h_mix", "h_gates", "h_regime", "h_bounds")


def last_page(f: Figures, lang: Lang, code_version: str) -> Iterable[Block]:
    """Say how the report was made and how it is read."""
    return [
        Heading(say("made")),
        table(
            say("m_parameters"), [say("c_parameter"), say("c_value")],
            _parameters(f, lang, code_version), texts=[1],
        ),
        Heading(say("m_read")),
        Bullets(tuple(say(key) for key in _READING if key != "h_nobody" or f.now.persons is None)),
    ]  # fmt: skip


def _parameters(f: Figures, lang: Lang, code_version: str) -> list[list[Words]]:
    book, asked = current(), f.asked
    compared: Words = (
        period_words(f.compared) if f.before and f.compared else say("m_nothing", why=why_alone(f))
    )
    deffs = [f"{part.deff:.2f}" if part else NOTHING for part in (f.now, f.before)]
    persons = NOTHING if f.now.persons is None else number(f.now.persons)
    rows: dict[str, Any] = {
        "m_period": period_words(f.period),
        "m_compare": compared,
        "m_by": by_words(f) if f.by else NOTHING,
        "m_regimes": ", ".join(shown(n, 60) for n in asked.regimes) or say("m_all"),
        "m_least": str(asked.min_group),
        "m_tz": asked.tz,
        "m_data": f"{f.first} … {f.last}",
        "m_persons": persons,
        "m_deff": " / ".join(deffs),
        "m_book": say("m_builtin" if book.source == "built-in" else "m_own"),
        "m_answered": ", ".join(str(code) for code in sorted(book.answered_codes)),
        "m_risk_fail": f"≥ {book.risk_fail}",
        "m_store": str(f.version),
        "m_code": code_version,
        "m_again": plain(_again(f, lang), lang),
    }
    return [[say(key), value] for key, value in rows.items()]


def _again(f: Figures, lang: Lang) -> str:
    """Write the command that makes the same report of the same store."""
    asked = f.asked
    compared = f.compared.name if f.compared else "none"
    words = ["verifyanalytics", "report", "--period", f.period.name, "--compare", compared]
    for option, values in (("--by", f.by), ("--regime", asked.regimes)):
        for value in values:
            words += [option, shown(value, 60)]
    words += ["--lang", lang, "--tz", asked.tz, "--as-of", str(f.version)]
    if asked.min_group != type(asked)().min_group:
        words += ["--min-group", str(asked.min_group)]
    return shlex.join(words)
