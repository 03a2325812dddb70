"""Scores: how they are distributed, against the vendor's thresholds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import ticker

from verifyanalytics.charts import panels
from verifyanalytics.charts.style import style, text, usable
from verifyanalytics.codebook import Lang
from verifyanalytics.errors import UsageError
from verifyanalytics.schema import THRESHOLD_COLUMNS, THRESHOLD_LEVELS


def score_histogram(frame: pd.DataFrame, ax: Any = None, lang: str = "en") -> Any:
    """Draw `va.score_histogram`: one panel a regime, its four thresholds as rules.

    Parameters
    ----------
    frame : DataFrame
        From `va.score_histogram`. Groups of `by` are drawn over each other.
    ax : Axes or sequence of Axes, optional
        One a regime; default a new figure.
    lang : {"en", "zh", "both"}
        The language of labels.

    Returns
    -------
    Axes or ndarray of Axes
        The height of a bin is answers per score point, so bins of unequal width compare.

    Raises
    ------
    UsageError
        The frame holds no score, or Axes do not fit its regimes.
    """
    panels.needs(frame, "regime", "score_low", "n", "n_scored")
    usable_lang = usable(lang)
    by = panels.groups(frame, "regime") if len(frame) else []
    shown = [part for _, part in frame.groupby("regime", sort=False) if part["n"].sum() > 0]
    if not shown:
        raise UsageError("the frame holds no score; nothing to draw")
    colours = panels.palette(frame, by, usable_lang)
    with style():
        axes = panels.panels(len(shown), ax, what="regimes", height=3.2)
        for one, part in zip(axes, shown, strict=True):
            _panel(one, part, by, usable_lang, colours)
        unplaced = _without_panel(frame, shown, by)
        notes = [text("no_regime", usable_lang, n=unplaced)] if unplaced else []
        panels.finish(axes, ax is None, text("scores", usable_lang, joint="\n"), notes)
    return panels.returned(axes)


def _panel(ax: Any, part: pd.DataFrame, by: list[str], lang: Lang, colours: panels.Palette) -> None:
    for label, colour, group in panels.split(part, by, lang, colours):
        bins = group[np.isfinite(group["score_low"]) & np.isfinite(group["score_high"])]
        edges = np.append(bins["score_low"], bins["score_high"].iloc[-1])
        heights = bins["n"].to_numpy() / np.diff(edges)
        ax.stairs(heights, edges, fill=True, color=colour, alpha=0.22 if by else 0.55, linewidth=0)
        ax.stairs(heights, edges, color=colour, linewidth=1.2, label=label or None)
    ax.set_xlim(0, 100)
    ax.set_ylim(bottom=0)
    ax.yaxis.set_major_locator(ticker.MaxNLocator(nbins=6, integer=True))
    ax.yaxis.set_major_formatter(ticker.FuncFormatter(_count))
    ax.set_xlabel(text("score", lang))
    ax.set_ylabel(text("per_point", lang, joint="\n"))
    if by:
        ax.legend(loc="upper left", labelspacing=0.3, handlelength=1.2)
    points = part[list(THRESHOLD_COLUMNS)].iloc[0].to_numpy(dtype=float)
    named = [
        (point, f"{level}\n{point:g}")
        for level, point in zip(THRESHOLD_LEVELS, points, strict=True)
        if np.isfinite(point)
    ]
    lines = panels.rules(ax, [point for point, _ in named], [label for _, label in named])
    regime = str(part["regime"].iloc[0])
    panels.heading(ax, panels.regime(regime, lang), _counts(part, by, lang), lines)


def _count(value: float, _position: int) -> str:
    return f"{value:,.0f}" if value == round(value) else f"{value:g}"


def _counts(part: pd.DataFrame, by: list[str], lang: Lang) -> str:
    per_group = (
        part.groupby(by, dropna=False)[["n_scored", "n_without_score"]].first()
        if by
        else (part[["n_scored", "n_without_score"]].iloc[:1])
    )
    inside = np.isfinite(part["score_low"]) & np.isfinite(part["score_high"])
    outside = int(part.loc[~inside, "n"].sum())
    return panels.counts_line(
        lang,
        ("n_scored", int(per_group["n_scored"].sum())),
        ("n_without_score", int(per_group["n_without_score"].sum())),
        ("n_outside", outside or None),
    )


def _without_panel(frame: pd.DataFrame, shown: list[pd.DataFrame], by: list[str]) -> int:
    """Count answers of regimes that have no score at all: no panel shows them."""
    names = {part["regime"].iloc[0] for part in shown}
    rest = frame[~frame["regime"].isin(names)]
    return int(rest.drop_duplicates([*by, "regime"])["n_without_score"].sum())
