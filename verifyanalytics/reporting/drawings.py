"""The charts of a report, as SVG whose text is outlines: the same on every screen and in print.

The charts themselves clean and shorten the names that came with the data.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
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
from verifyanalytics.reporting.blocks import Drawing
from verifyanalytics.reporting.data import ReportData, small, too_few
from verifyanalytics.wording.names import name_words
from verifyanalytics.wording.numbers import number, percent
from verifyanalytics.wording.texts import say
from verifyanalytics.wording.words import Say, Words, joined, plain

_MOST_REGIMES, _MOST_TAGS = 4, 12
Chart: TypeAlias = tuple[Any, Words, Say]
"""Axes, what they show in words, and the caption."""


def drawn(r: ReportData, lang: Lang) -> list[Drawing]:
    """Draw what there is to draw, in the order of the report."""
    found: list[Drawing] = []
    for make in CHARTS.values():
        try:
            figure, alternative, caption = make(r, lang)
        except UsageError:  # what a chart raises when its frame has nothing to draw
            continue
        numbered = say("figure", n=len(found) + 1, text=caption)
        svg, size = _svg(figure)
        found.append(Drawing(svg, alternative, numbered, size))
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
    """Write out names of invisible characters; the charts clean the rest."""

    def seen(name: str) -> str:
        return name if name.strip() else plain(name_words(name), lang, " ")

    def seen_regime(name: str) -> str:
        key, blank, thresholds = name.rpartition(" ")
        return f"{seen(key)} {thresholds}" if blank else name

    writers = {"regime": seen_regime, "req_key": seen, "tag": seen}
    held = {column: write for column, write in writers.items() if column in frame}
    return frame.assign(**{c: frame[c].map(write).astype("str") for c, write in held.items()})


# ------------------------------------------------------------------ the charts


def _trend(r: ReportData, lang: Lang) -> Chart:
    axes = charts.verdicts.acceptance_rate(r.trend, lang=lang)
    rates = r.trend["acceptance_rate"].dropna()
    alternative = say(
        "alt_trend", n=len(rates), period=r.period.words, low=percent(rates.min()),
        high=percent(rates.max()), now=percent(r.now.accepted.rate),
    )  # fmt: skip
    every = say(f"every_{r.period.every}")
    return axes, alternative, say("fig_trend", every=every, tz=r.asked.tz)


def _funnel(r: ReportData, lang: Lang) -> Chart:
    lost = _losses(r.now.funnel)
    passed = r.now.n_rows - sum(lost.values())
    worst = max(lost, key=lambda name: lost[name], default="")
    told = say("lost_most", gate=say(worst), lost=number(lost[worst])) if worst else None
    alternative = say(
        "alt_funnel", n=number(r.now.n_rows), accepted=number(passed),
        worst=told or say("lost_nothing"),
    )  # fmt: skip
    caption = say("fig_funnel", period=r.period.words, n=number(r.now.n_rows))
    return charts.verdicts.funnel(r.now.funnel, lang=lang), alternative, caption


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


def _reasons(r: ReportData, lang: Lang) -> Chart:
    frame = _named(r.now.reasons, lang)
    axes = charts.verdicts.reject_reasons(frame, lang=lang)
    least = 1.9 + (0.55 if lang == "both" else 0.36) * len(frame)  # for few bars and their legend
    axes.figure.set_figheight(max(axes.figure.get_figheight(), min(least, 4.0)))
    first = frame.iloc[0]
    alternative = say(
        "alt_reasons", share=percent(first["share"]), n=number(first["n_not_accepted"])
    )
    return axes, alternative, say("fig_reasons", period=r.period.words)


def _tags(r: ReportData, lang: Lang) -> Chart:
    tags = r.now.tag_rates
    frame = _named(tags[tags["n_tag"] >= r.asked.min_group], lang)
    axes = charts.tags.rates(frame, lang=lang, top=_MOST_TAGS)
    n = int(frame["n"].iloc[0])
    alternative = say("alt_tags", k=len(frame), n=number(n))
    return axes, alternative, say("fig_tags", period=r.period.words)


def _by_regime(
    r: ReportData, lang: Lang, what: str, frame: pd.DataFrame, size: str, draw: Any
) -> Chart:
    """Draw the largest regimes, so that panels stay readable; say so when not all.

    Regimes that are too small to be named are left out.
    """
    unnamed = {INCOMPLETE, *small(r), *too_few(frame, r, size)}
    held = frame[~frame["regime"].isin(unnamed)]
    sizes = held.groupby("regime", sort=False)[size].max().sort_values(ascending=False)
    kept = sizes[sizes > 0].index[:_MOST_REGIMES]
    shown = _named(held[held["regime"].isin(kept)], lang)
    axes = draw(shown, lang=lang)
    caption = say(f"fig_{what}", period=r.period.words)
    if len(sizes) > len(kept):
        caption = joined([caption, say("largest", n=len(kept), all=len(sizes))], "")
    n = number(shown["n"].sum()) if "n" in shown else ""
    return axes, say(f"alt_{what}", k=len(kept), n=n), caption


CHARTS: dict[str, Callable[[ReportData, Lang], Chart]] = {
    "trend": _trend,
    "funnel": _funnel,
    "reasons": _reasons,
    "tags": _tags,
    "scores": lambda r, lang: _by_regime(
        r, lang, "scores", r.now.histogram, "n_scored", charts.scores.histogram
    ),
    "match": lambda r, lang: _by_regime(
        r, lang, "match", r.now.matched, "n", charts.scores.match_rates
    ),
    "thresholds": lambda r, lang: _by_regime(
        r, lang, "thresholds", r.thresholds, "n", charts.scores.vendor_thresholds
    ),
    "bounds": lambda r, lang: _by_regime(
        r, lang, "bounds", r.now.label_free, "n_compared", charts.bounds.label_free
    ),
}
"""The charts in the order of the report."""


# ------------------------------------------------------------------ SVG in few bytes

_FINER = 8
"""Outlines of letters are drawn on a grid this many times as coarse: 1/800 of their size."""

_OUTLINE = re.compile(r'd="([^"]+)" transform="scale\(0\.015625\)"')
_STEP = re.compile(r"([MLQCz])([^MLQCz]*)")


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
    svg = re.sub(
        r"(?<!scale\()-?\d+\.\d{3,}(?![\d.]*\))",
        lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), svg,
    )  # fmt: skip
    svg = re.sub(r"\s*\n\s*([A-Za-z])", r"\1", svg)
    svg = re.sub(r"(?<=[MLQCz]) (?=[-\d])", "", svg)
    coarse = f'transform="scale({0.015625 * _FINER:g})"'
    svg = _OUTLINE.sub(lambda found: f'd="{"".join(_steps(found[1]))}" {coarse}', svg)
    names = {
        name: _short(i) for i, name in enumerate(dict.fromkeys(re.findall(r' id="([^"]+)"', svg)))
    }
    return re.sub(r'( id="|"#|url\(#)([^")]+)', lambda m: m[1] + names.get(m[2], m[2]), svg.strip())


def _short(i: int) -> str:
    """Name the i-th thing by letters: a to z, then ba, bb and so on."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    return letters[i] if i < 26 else _short(i // 26) + letters[i % 26]


def _steps(path: str) -> Iterator[str]:
    """Write the outline of a letter by its steps, which are short, on a coarser grid."""
    start = at = (0, 0)
    for command, numbers in _STEP.findall(path):
        grid = [round(float(n) / _FINER) for n in numbers.split()]
        places = list(zip(grid[::2], grid[1::2], strict=True))
        steps = (str(c) for x, y in places for c in (x - at[0], y - at[1]))
        yield command.lower() + " ".join(steps).replace(" -", "-")  # a minus is divider enough
        at = places[-1] if places else start
        start = at if command == "M" else start
