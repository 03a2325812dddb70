"""The charts of a report, as SVG whose text is outlines: the same on every screen and in print.

Names that came with the data are shortened and cleaned before they are drawn, and characters that
no font of ours has are written as escapes, so that no empty box stands in their place.
"""

from __future__ import annotations

import io
import re
from typing import Any, TypeAlias

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from verifyanalytics import charts
from verifyanalytics._report_blocks import Figure, Say, Words, shown
from verifyanalytics._report_figures import Figures
from verifyanalytics._report_fonts import drawable
from verifyanalytics._report_numbers import number, percent, period_words
from verifyanalytics._report_summary import REJECTING
from verifyanalytics._report_words import say
from verifyanalytics.analysis.counts import INCOMPLETE
from verifyanalytics.codebook import Lang
from verifyanalytics.errors import UsageError

_MOST_REGIMES, _MOST_TAGS = 4, 12
Drawing: TypeAlias = tuple[Any, Words, Say]
"""Axes, what they show in words, and the caption."""

_NAMES = {"regime": 60, "req_key": 40, "tag": 24, "gateway_code": 24, "name_en": 80, "name_zh": 80,
          "meaning": 80, "meaning_zh": 80}  # fmt: skip
"""Columns of names, and how many characters of each are drawn."""


def drawn(f: Figures, lang: Lang) -> list[Figure]:
    """Draw what there is to draw, in the order of the report."""
    each = (_trend, _funnel, _reasons, _tags, _scores, _match, _thresholds, _bounds)
    found: list[Figure] = []
    for make in each:
        try:
            figure, alternative, caption = make(f, lang)
        except UsageError:  # what a chart raises when its frame has nothing to draw
            continue
        numbered = say("figure", n=len(found) + 1, text=caption)
        svg, size = _svg(figure)
        found.append(Figure(svg, alternative, numbered, size))
    return found


def _svg(axes: Any) -> tuple[bytes, tuple[float, float]]:
    figure = np.ravel(axes)[0].figure
    buffer = io.BytesIO()
    # a fixed salt and no date: the same drawing is the same bytes
    with mpl.rc_context({"svg.fonttype": "path", "svg.hashsalt": "verifyanalytics"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    width, height = (float(72 * inches) for inches in figure.get_size_inches())
    plt.close(figure)
    return compact(buffer.getvalue().decode()).encode(), (width, height)


def compact(svg: str) -> str:
    r"""Write matplotlib's SVG in about half the bytes: short names, two decimals, no blanks.

    What names the outside (document type, metadata) and comments, which repeat the labels, go too.

    Examples
    --------
    >>> compact('<g id="DejaVuSans-41">\n <!-- A -->\n</g> <use xlink:href="#DejaVuSans-41"/>')
    '<g id="a"></g><use href="#a"/>'
    """
    svg = re.sub(r"<!--.*?-->|<\?xml.*?\?>|<!DOCTYPE.*?>|<metadata>.*?</metadata>", "", svg,
                 flags=re.DOTALL)  # fmt: skip
    svg = re.sub(r">\s+<", "><", svg.replace("xlink:href=", "href="))
    svg = re.sub(
        r'(<use href="#[^"]+" )transform="translate\((-?[\d.]+) 0\)"/>', r'\1x="\2"/>', svg
    )
    svg = re.sub(r"(?<!scale\()-?\d+\.\d{3,}(?![\d.]*\))", _two_decimals, svg)
    svg = re.sub(r"\s*\n\s*([A-Za-z])", r"\1", svg)
    svg = re.sub(r"(?<=[MLQCz]) (?=[-\d])", "", svg)
    names = {
        name: _short(i) for i, name in enumerate(dict.fromkeys(re.findall(r' id="([^"]+)"', svg)))
    }
    return re.sub(r'( id="|"#|url\(#)([^")]+)', lambda m: m[1] + names.get(m[2], m[2]), svg.strip())


def _two_decimals(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def _short(i: int) -> str:
    """Name the i-th thing by letters: a to z, then ba, bb and so on."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    return letters[i] if i < 26 else _short(i // 26) + letters[i % 26]


# ------------------------------------------------------------------ names of the data


def _named(frame: pd.DataFrame) -> pd.DataFrame:
    held = {name: most for name, most in _NAMES.items() if name in frame}
    return frame.assign(
        **{name: frame[name].map(lambda text, most=most: drawable(shown(text, most))).astype("str")
           for name, most in held.items()}
    )  # fmt: skip


def _largest(frame: pd.DataFrame, size: str) -> tuple[pd.DataFrame, Say, int]:
    """Keep the rows of the largest regimes, so that panels stay readable; say so when not all."""
    held = frame[frame["regime"] != INCOMPLETE]
    sizes = held.groupby("regime", sort=False)[size].max().sort_values(ascending=False)
    kept = sizes[sizes > 0].index[:_MOST_REGIMES]
    told = Say("", "")
    if len(sizes) > len(kept):
        told = say("largest", n=len(kept), all=len(sizes))
    return _named(held[held["regime"].isin(kept)]), told, len(kept)


def _also(caption: Say, more: Say) -> Say:
    return Say(caption.en + more.en, caption.zh + more.zh)


# ------------------------------------------------------------------ the charts


def _trend(f: Figures, lang: Lang) -> Drawing:
    axes = charts.acceptance_rate(f.trend, lang=lang)
    rates = f.trend["acceptance_rate"].dropna()
    alternative = say(
        "alt_trend", n=len(rates), period=period_words(f.period), low=percent(rates.min()),
        high=percent(rates.max()), now=percent(f.now.accepted.rate),
    )  # fmt: skip
    every = say(f"every_{f.period.every}")
    return axes, alternative, say("fig_trend", every=every, tz=f.asked.tz)


def _funnel(f: Figures, lang: Lang) -> Drawing:
    lost = {gate: f.now.turned_away(gate).x for gate in REJECTING}
    worst = max(lost, key=lambda gate: lost[gate])
    alternative = say(
        "alt_funnel", n=number(f.now.n_rows), accepted=number(f.now.accepted.x),
        gate=say(f"gate_{worst}"), lost=number(lost[worst]),
    )  # fmt: skip
    caption = say("fig_funnel", period=period_words(f.period))
    return charts.funnel(f.now.funnel, lang=lang), alternative, caption


def _reasons(f: Figures, lang: Lang) -> Drawing:
    frame = _named(f.now.reasons)
    axes = charts.reject_reasons(frame, lang=lang)
    least = 1.9 + (0.55 if lang == "both" else 0.36) * len(frame)  # for few bars and their legend
    axes.figure.set_figheight(max(axes.figure.get_figheight(), min(least, 4.0)))
    first = frame.iloc[0]
    alternative = say(
        "alt_reasons", share=percent(first["share"]), n=number(first["n_not_accepted"])
    )
    return axes, alternative, say("fig_reasons", period=period_words(f.period))


def _scores(f: Figures, lang: Lang) -> Drawing:
    frame, more, k = _largest(f.now.histogram, "n_scored")
    axes = charts.score_histogram(frame, lang=lang)
    alternative = say("alt_scores", n=number(frame["n"].sum()), k=k)
    return axes, alternative, _also(say("fig_scores", period=period_words(f.period)), more)


def _match(f: Figures, lang: Lang) -> Drawing:
    frame, more, k = _largest(f.now.matched, "n")
    axes = charts.match_rates(frame, lang=lang)
    return axes, say("alt_match", k=k), _also(
        say("fig_match", period=period_words(f.period)), more
    )  # fmt: skip


def _thresholds(f: Figures, lang: Lang) -> Drawing:
    frame, more, k = _largest(f.thresholds, "n")
    axes = charts.vendor_thresholds(frame, lang=lang)
    return axes, say("alt_thresholds", k=k), _also(say("fig_thresholds"), more)


def _bounds(f: Figures, lang: Lang) -> Drawing:
    frame, more, k = _largest(f.now.bounds, "n_compared")
    axes = charts.label_free_bounds(frame, lang=lang)
    return axes, say("alt_bounds", k=k), _also(
        say("fig_bounds", period=period_words(f.period)), more
    )  # fmt: skip


def _tags(f: Figures, lang: Lang) -> Drawing:
    frame = _named(f.now.tags)
    axes = charts.tag_rates(frame, lang=lang, top=_MOST_TAGS)
    n = int(frame["n"].iloc[0])
    alternative = say("alt_tags", k=len(frame), n=number(n))
    return axes, alternative, say("fig_tags", period=period_words(f.period))
