"""The tuner's picture: a histogram that is drawn once, and a rule that moves over it.

Drawing all of a figure takes far longer than reading counts, so what stays is kept as pixels and
only the rule, the veil over what is turned away, and two numbers are drawn anew at each move.
"""

from __future__ import annotations

import io
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from verifyanalytics.charts import scores as charts
from verifyanalytics.charts.style import COLOURS, GREY, style
from verifyanalytics.codebook.book import Lang
from verifyanalytics.tuner.panel import Section, percent

SIZE, DPI = (6.4, 3.75), 150
"""Inches, and pixels an inch: sharp at 600 CSS pixels on most screens."""

_HEADROOM = 1.12  # room above the bars for what is written beside the rule


class Picture:
    """One figure, drawn again and again; `show` comes first, then `png` as often as one likes."""

    def __init__(self) -> None:
        self.figure = Figure(figsize=SIZE, dpi=DPI)
        self._canvas = FigureCanvasAgg(self.figure)
        self._still: Any = None
        self._moving: Any = None

    def show(self, histogram: pd.DataFrame, lang: Lang) -> None:
        """Draw what stays: a histogram of one regime, from `va.scores.histogram`."""
        with style():
            self.figure.clear()
            self.figure.set_layout_engine("constrained")
            ax = self.figure.add_subplot()
            charts.histogram(histogram, ax=ax, lang=lang)
            ax.set_ylim(top=ax.get_ylim()[1] * _HEADROOM)
            self._moving = Moving(ax, lang, animated=True)
            self._canvas.draw()
        self.figure.set_layout_engine("none")  # what moves must not push what stays
        self._still = self._canvas.copy_from_bbox(self.figure.bbox)

    def png(self, threshold: float, match_rate: float) -> bytes:
        """Return the picture with the rule at a threshold."""
        self._canvas.restore_region(self._still)
        self._moving.place(threshold, match_rate)
        self._moving.draw(self._canvas.get_renderer())
        pixels = np.asarray(self._canvas.buffer_rgba())[..., :3]
        with io.BytesIO() as file:
            Image.fromarray(pixels).save(file, format="png", compress_level=1)
            return file.getvalue()


class Moving:
    """What moves with the threshold: the rule, the veil left of it, the shares on both sides."""

    def __init__(self, ax: Any, lang: Lang, *, animated: bool) -> None:
        self._ax, self._lang = ax, lang
        self._veil = ax.axvspan(0, 0, color="white", alpha=0.62, linewidth=0, zorder=3)
        self._rule = ax.axvline(0, color=COLOURS[1], linewidth=1.8, zorder=4)
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5}
        self._labels = [
            ax.annotate(
                "", (0, 0.97), (shift, 0), xycoords=("data", "axes fraction"), ha=side, va="top",
                textcoords="offset points", fontsize=9.5, color=colour, zorder=5, bbox=box,
                annotation_clip=False,
            )
            for shift, side, colour in ((-5, "right", GREY), (5, "left", COLOURS[1]))
        ]  # fmt: skip
        for artist in (self._veil, self._rule, *self._labels):
            artist.set_animated(animated)

    def place(self, threshold: float, match_rate: float) -> None:
        """Move everything to a threshold; a share that would leave the axes changes sides."""
        low, high = self._ax.get_xlim()
        self._veil.set_x(low)
        self._veil.set_width(max(threshold - low, 0))
        self._rule.set_xdata([threshold, threshold])
        texts = (
            f"< {threshold:g}: {percent(1 - match_rate, self._lang)}",
            f"≥ {threshold:g}: {percent(match_rate, self._lang)}",
        )
        part = (threshold - low) / (high - low)
        for label, text, shown in zip(
            self._labels, texts, (0.2 < part < 0.8, part < 0.8), strict=True
        ):
            label.xy = (threshold, 0.97)
            label.set_text(text if shown else "")
        if part >= 0.8:  # no room on the right
            self._labels[0].set_text(texts[1])
        self._labels[0].set_color(COLOURS[1] if part >= 0.8 else GREY)

    def draw(self, renderer: Any) -> None:
        """Draw the moving parts only."""
        for artist in (self._veil, self._rule, *self._labels):
            artist.draw(renderer)


def still(
    figure: Any,
    histogram: pd.DataFrame,
    threshold: float,
    match_rate: float,
    found: Sequence[Section],
    lang: Lang,
) -> None:
    """Draw the tuner for where nothing can move: picture above, numbers below."""
    columns = _columns(found)
    text_inches = 0.17 * max(map(len, columns)) + 0.1
    height = SIZE[1] + text_inches
    with style():
        figure.set_size_inches(9.4, height)
        figure.set_layout_engine("constrained", rect=(0, text_inches / height, 1, SIZE[1] / height))
        ax = figure.subplots()
        charts.histogram(histogram, ax=ax, lang=lang)
        ax.set_ylim(top=ax.get_ylim()[1] * _HEADROOM)
        Moving(ax, lang, animated=False).place(threshold, match_rate)
        for column, lines in enumerate(columns):
            figure.text(
                0.012 + 0.5 * column, text_inches / height, "\n".join(lines), va="top", ha="left",
                fontsize=8.3, linespacing=1.4, in_layout=False,
            )  # fmt: skip


def _columns(found: Sequence[Section], across: int = 72) -> list[list[str]]:
    """Lay the sections out in two columns of text."""
    blocks = [_block(section, across) for section in found]
    cuts = range(1, len(blocks))
    both = [[[x for b in part for x in b] for part in (blocks[:i], blocks[i:])] for i in cuts]
    return min(both, key=lambda columns: max(map(len, columns)))


def _block(section: Section, across: int) -> list[str]:
    lines = [section.title]
    for label, value in section.lines:
        lines += _wrapped(f"{label}: {value}", across, "   ", "      ")
    for note in section.notes:
        lines += _wrapped(note, across, "   ", "   ")
    return [*lines, ""]


def _wrapped(text: str, across: int, first: str, then: str) -> list[str]:
    """Break a line at blanks and between Chinese characters, which are two columns wide."""
    lines, line, width = [], first, 0
    for piece in re.findall(r"[⺀-鿿豈-﫿＀-￯]|[^\S\u00a0]|(?:[^\s⺀-鿿豈-﫿＀-￯]|\u00a0)+", text):
        wide = sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in piece)
        if width and width + wide > across and piece not in "，。；：）、":
            lines.append(line.rstrip())
            line, width = then, 0
        if width or not piece.isspace():
            line, width = line + piece, width + wide
    return [*lines, line.rstrip()]
