"""The charts of a report, as SVG whose text is outlines: the same on every screen and in print.

The charts themselves clean and shorten the names that came with the data.
"""

from __future__ import annotations

import io
from typing import Any, TypeAlias

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from verifyanalytics import charts
from verifyanalytics.analysis.base.regimes import INCOMPLETE
from verifyanalytics.analysis.base.rows import GATES
from verifyanalytics.codebook.book import Lang
from verifyanalytics.errors import UsageError
from verifyanalytics.reporting.blocks import Figure
from verifyanalytics.reporting.data import Figures
from verifyanalytics.reporting.regimes import small, too_few
from verifyanalytics.reporting.svg import compact
from verifyanalytics.wording.names import name_words
from verifyanalytics.wording.numbers import number, percent
from verifyanalytics.wording.texts import say
from verifyanalytics.wording.words import Say, Words, joined, plain

_MOST_REGIMES, _MOST_TAGS = 4, 12
Drawing: TypeAlias = tuple[Any, Words, Say]
"""Axes, what they show in words, and the caption."""


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


# ------------------------------------------------------------------ names of the data


def _named(frame: pd.DataFrame, lang: Lang) -> pd.DataFrame:
    """Write out names that nobody could see; the charts do the rest."""

    def seen(name: str) -> str:
        return name if name.strip() else plain(name_words(name), lang, " ")

    def seen_regime(name: str) -> str:
        key, blank, thresholds = name.rpartition(" ")
        return f"{seen(key)} {thresholds}" if blank else name

    writers = {"regime": seen_regime, "req_key": seen, "tag": seen}
    held = {column: write for column, write in writers.items() if column in frame}
    return frame.assign(**{c: frame[c].map(write).astype("str") for c, write in held.items()})


def _largest(
    f: Figures, lang: Lang, frame: pd.DataFrame, size: str
) -> tuple[pd.DataFrame, Say, int]:
    """Keep the rows of the largest regimes, so that panels stay readable; say so when not all.

    Regimes that are too small to be named are left out.
    """
    unnamed = {INCOMPLETE, *small(f), *too_few(frame, f, size)}
    held = frame[~frame["regime"].isin(unnamed)]
    sizes = held.groupby("regime", sort=False)[size].max().sort_values(ascending=False)
    kept = sizes[sizes > 0].index[:_MOST_REGIMES]
    told = Say("", "")
    if len(sizes) > len(kept):
        told = say("largest", n=len(kept), all=len(sizes))
    return _named(held[held["regime"].isin(kept)], lang), told, len(kept)


# ------------------------------------------------------------------ the charts


def _trend(f: Figures, lang: Lang) -> Drawing:
    axes = charts.verdicts.acceptance_rate(f.trend, lang=lang)
    rates = f.trend["acceptance_rate"].dropna()
    alternative = say(
        "alt_trend", n=len(rates), period=f.period.words, low=percent(rates.min()),
        high=percent(rates.max()), now=percent(f.now.accepted.rate),
    )  # fmt: skip
    every = say(f"every_{f.period.every}")
    return axes, alternative, say("fig_trend", every=every, tz=f.asked.tz)


def _funnel(f: Figures, lang: Lang) -> Drawing:
    lost = _losses(f.now.funnel)
    passed = f.now.n_rows - sum(lost.values())
    worst = max(lost, key=lambda name: lost[name], default="")
    told = say("lost_most", gate=say(worst), lost=number(lost[worst])) if worst else None
    alternative = say(
        "alt_funnel", n=number(f.now.n_rows), accepted=number(passed),
        worst=told or say("lost_nothing"),
    )  # fmt: skip
    caption = say("fig_funnel", period=f.period.words, n=number(f.now.n_rows))
    return charts.verdicts.funnel(f.now.funnel, lang=lang), alternative, caption


def _losses(funnel: pd.DataFrame) -> dict[str, int]:
    """Count what the drawing takes off, by the key of its name: everything but the accepted."""
    passing = funnel["first_gate"] == "none"
    accepted = funnel["result"].fillna(value=False).astype(bool)
    kinds = {gate: funnel["first_gate"] == gate for gate in (*GATES, "unknown")}
    kinds["none"] = passing & funnel["result"].notna() & ~accepted
    kinds["no_verdict"] = passing & funnel["result"].isna()
    counts = {name: int(funnel.loc[where, "n_rows"].sum()) for name, where in kinds.items()}
    lost = ("answered", "no_verdict")  # elsewhere said of those with a verdict
    return {f"{'lost' if k in lost else 'gate'}_{k}": n for k, n in counts.items() if n}


def _reasons(f: Figures, lang: Lang) -> Drawing:
    frame = _named(f.now.reasons, lang)
    axes = charts.verdicts.reject_reasons(frame, lang=lang)
    least = 1.9 + (0.55 if lang == "both" else 0.36) * len(frame)  # for few bars and their legend
    axes.figure.set_figheight(max(axes.figure.get_figheight(), min(least, 4.0)))
    first = frame.iloc[0]
    alternative = say(
        "alt_reasons", share=percent(first["share"]), n=number(first["n_not_accepted"])
    )
    return axes, alternative, say("fig_reasons", period=f.period.words)


def _scores(f: Figures, lang: Lang) -> Drawing:
    frame, more, k = _largest(f, lang, f.now.histogram, "n_scored")
    axes = charts.scores.histogram(frame, lang=lang)
    alternative = say("alt_scores", n=number(frame["n"].sum()), k=k)
    return axes, alternative, joined([say("fig_scores", period=f.period.words), more], "")


def _match(f: Figures, lang: Lang) -> Drawing:
    frame, more, k = _largest(f, lang, f.now.matched, "n")
    axes = charts.scores.match_rates(frame, lang=lang)
    return axes, say("alt_match", k=k), joined([say("fig_match", period=f.period.words), more], "")


def _thresholds(f: Figures, lang: Lang) -> Drawing:
    frame, more, k = _largest(f, lang, f.thresholds, "n")
    axes = charts.scores.vendor_thresholds(frame, lang=lang)
    return axes, say("alt_thresholds", k=k), joined([say("fig_thresholds"), more], "")


def _bounds(f: Figures, lang: Lang) -> Drawing:
    frame, more, k = _largest(f, lang, f.now.bounds, "n_compared")
    axes = charts.bounds.label_free(frame, lang=lang)
    return (
        axes,
        say("alt_bounds", k=k),
        joined([say("fig_bounds", period=f.period.words), more], ""),
    )


def _tags(f: Figures, lang: Lang) -> Drawing:
    tags = f.now.tags
    frame = _named(tags[tags["n_tag"] >= f.asked.min_group], lang)
    axes = charts.tags.rates(frame, lang=lang, top=_MOST_TAGS)
    n = int(frame["n"].iloc[0])
    alternative = say("alt_tags", k=len(frame), n=number(n))
    return axes, alternative, say("fig_tags", period=f.period.words)
