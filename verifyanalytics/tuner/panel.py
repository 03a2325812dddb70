"""The numbers beside the tuner's picture: its frames put into lines, in words.

The same sections become HTML under the picture of a notebook, and plain text where there is no
front end. Regimes, segments and channels are born by the data: they are escaped.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd

from verifyanalytics.codebook.book import Lang
from verifyanalytics.wording import numbers
from verifyanalytics.wording.numbers import short
from verifyanalytics.wording.texts import text
from verifyanalytics.wording.words import plain


class Section(NamedTuple):
    """A heading, its lines of label and value, and its notes."""

    title: str
    lines: list[tuple[str, str]]
    notes: list[str]


def word(key: str, lang: Lang, **values: Any) -> str:
    """Return a text; `both` joins English and Chinese."""
    return text(key, lang, " · ", **values)


def percent(rate: float, lang: Lang) -> str:
    """Write a rate as per cent, small ones by the power of ten."""
    return plain(numbers.percent(rate, 2, tiny="power"), lang)


def between(low: float, high: float, lang: Lang) -> str:
    """Write an interval of rates."""
    return plain(numbers.between(low, high), lang)


def sections(
    tables: dict[str, pd.DataFrame], own: float, lang: Lang, segment: str = ""
) -> list[Section]:
    """Put the tuner's frames into words.

    Parameters
    ----------
    tables : dict of DataFrame
        `match_rates`, `label_free`, `what_if` and, with labels, `error_rates`.
    own : float
        The regime's own 1e-4 threshold.
    lang : {"en", "zh", "both"}
    segment : str
        What the rows are a part of, as `ctx_channel = app`.
    """
    found = [
        _rates(tables["match_rates"].iloc[0], lang, segment),
        _bounds(tables["label_free"], lang),
        _swap(tables["what_if"], own, lang),
    ]
    if "error_rates" in tables:
        found.insert(1, _errors(tables["error_rates"], lang))
    return found


def _rates(row: Any, lang: Lang, segment: str) -> Section:
    ends = between(row["match_rate_low"], row["match_rate_high"], lang)
    rate = percent(row["match_rate"], lang)
    claim = row["reason"] or short(row["nominal_fmr"])
    lines = [
        (
            word("match_rate", lang),
            f"{rate} ({ends})",
        ),
        (word("n_match", lang), f"{row['n_match']:,} / {row['n']:,}"),
        (word("answers_without_score", lang), f"{row['n_without_score']:,}"),
        (word("claimed_fmr", lang), claim),
    ]
    title = word("rates", lang, t=f"{row['threshold']:g}")
    return Section(f"{title} · {segment}" if segment else title, lines, [])


def _bounds(table: pd.DataFrame, lang: Lang) -> Section:
    lines = []
    for row in table.to_dict("records"):
        ends = between(row["fnmr_low"], row["fnmr_high"], lang)
        if math.isnan(row["false_matches_high"]):
            text = word("bound_below", lang, ends=ends)
        else:
            n, m3 = row["false_matches_high"], row["false_matches_high_m3"]
            told = f"{n:,.0f}"
            if not math.isnan(m3):
                told = word("m3", lang, n=told, m3=f"{m3:,.0f}")
            text = word("bound", lang, n=told, ends=ends)
        lines.append((f"k = {row['k']:g}", text))
    notes = [word("covers", lang)]
    if (table["reason"] != "").any():
        notes.insert(0, word(str(table["reason"].iloc[0]), lang))
    return Section(word("bounds_at_k", lang), lines, notes)


def _swap(table: pd.DataFrame, own: float, lang: Lang) -> Section:
    rows = {row["line"]: row for row in table.to_dict("records")}
    first = rows.pop("reproduced")
    lines = [
        (word(f"swap_{line}", lang), f"{row['n']:,} ({percent(row['share'], lang)})")
        for line, row in rows.items()
        if row["n"] or line not in ("unexplained", "unknown")
    ]
    notes = []
    if first["n_of"]:
        share = percent(first["share"], lang)
        notes = [word("reproduced", lang, share=share, n=f"{first['n_of']:,}")]
        notes += [word("not_explained", lang)] if first["reason"] else []
    return Section(word("swap", lang, own=f"{own:g}"), lines, [*notes, word("truth_unknown", lang)])


def _errors(table: pd.DataFrame, lang: Lang) -> Section:
    if table.empty:
        return Section(word("errors_labelled", lang), [], [word("no_labels", lang)])
    row = table.iloc[0]
    lines = [
        (word(f"{rate}_name", lang), _rate(row, rate, errors, n, lang))
        for rate, errors, n in (
            ("fmr", "n_false_matches", "n_nonmated"),
            ("fnmr", "n_false_nonmatches", "n_mated"),
        )
    ]
    notes = [word(key, lang) for key in (row["reason"], row["note"]) if key]
    notes += [word("weighted_rate", lang)] if row["weighted"] and not row["reason"] else []
    return Section(word("errors_labelled", lang), lines, notes)


def _rate(row: Any, rate: str, errors: str, n: str, lang: Lang) -> str:
    counted = {"x": f"{row[errors]:,}", "n": f"{row[n]:,}"}
    if math.isnan(row[rate]):
        return word("not_given", lang, **counted)
    ends = between(row[f"{rate}_low"], row[f"{rate}_high"], lang)
    rated = percent(row[rate], lang)
    if not row[errors]:  # no error seen is a bound, never zero
        rated = word("none_seen", lang, limit=short(row[f"{rate}_guard"]))
    return word("rate_of", lang, rate=rated, ends=ends, **counted)


# ------------------------------------------------------------------ forms


_CELL = "padding:1px 12px 1px 0;vertical-align:top;line-height:1.35"
_HEAD = f"{_CELL};font-weight:normal;text-align:left;opacity:.75;white-space:nowrap"


def to_html(found: Sequence[Section]) -> str:
    """Return the sections as HTML that follows the theme of the page."""
    parts = []
    for section in found:
        rows = "".join(
            f'<tr><th scope="row" style="{_HEAD}">'
            f'{html.escape(label)}</th><td style="{_CELL}">{html.escape(value)}</td></tr>'
            for label, value in section.lines
        )
        notes = "".join(
            f'<div style="font-size:85%;opacity:.75;line-height:1.35">{html.escape(note)}</div>'
            for note in section.notes
        )
        parts.append(
            '<div style="margin:0 0 10px 0"><div style="border-bottom:1px solid rgba(128,128,128,'
            f'.45);margin-bottom:3px;line-height:1.6">{html.escape(section.title)}</div>'
            f'<table style="border-collapse:collapse">{rows}</table>{notes}</div>'
        )
    return f'<div role="status" style="font-size:92%">{"".join(parts)}</div>'


def to_text(found: Sequence[Section]) -> str:
    """Return the sections as plain text."""
    lines = []
    for section in found:
        lines += [section.title, *(f"  {label}: {value}" for label, value in section.lines)]
        lines += [f"  {note}" for note in section.notes]
    return "\n".join(lines)
