"""Rows of dots with intervals: what most charts of rates by tag, rule, column or group consist of.

`dots` draws them, filled or open; `label_rows` names the rows from the top down. Drawn upright,
the rows are columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from verifyanalytics.charts.style import GREY


def dots(
    ax: Any, at: Any, table: pd.DataFrame, rate: str, colour: str, *, hollow: Any = False,
    width: float = 1.4, alpha: float | None = None, upright: bool = False, **style: Any,
) -> None:  # fmt: skip
    """Draw a dot for each row of a table at `at`, and the interval of `rate` where it has one.

    NaN is not drawn; `hollow` dots are open; `upright`, the rate is on the y axis; `width` and
    `alpha` are those of the interval, `style` that of the dots.
    """
    at, value = np.asarray(at, dtype=float), table[rate].to_numpy(dtype=float)
    if f"{rate}_low" in table:
        draw = ax.vlines if upright else ax.hlines
        low, high = table[f"{rate}_low"], table[f"{rate}_high"]
        draw(at, low, high, color=colour, linewidth=width, alpha=alpha)
    hollow = np.broadcast_to(np.asarray(hollow, dtype=bool), at.shape)
    for which, more in ((~hollow, {}), (hollow, {"mfc": "white", "label": None})):
        if which.any():
            place = (at[which], value[which]) if upright else (value[which], at[which])
            ax.plot(*place, "o", color=colour, **{**style, **more})


def label_rows(
    ax: Any, names: Sequence[str], *, room: float = 0.6, pad: float | None = None
) -> None:
    """Name the rows of a chart, the first on top, between lines of the other axis.

    `room` is left above the first row and below the last one, `pad` points beside the names.
    """
    ax.set_yticks(range(len(names)), names)
    for label in ax.get_yticklabels():
        label.set_parse_math(False)  # a tag or a channel may hold a dollar sign
    if pad is not None:
        ax.tick_params(axis="y", pad=pad)
    ax.set_ylim(len(names) - 1 + room, -room)
    ax.grid(visible=True, axis="x")
    ax.grid(visible=False, axis="y")


def note(
    ax: Any, value: Any, at: Any, words: str, size: float = 8, color: str = GREY, gap: float = 4
) -> None:
    """Write beside the end of a row."""
    ax.annotate(
        words, (value, at), (gap, 0), textcoords="offset points", va="center", fontsize=size,
        color=color,
    )  # fmt: skip


def margin(ax: Any, at: Any, words: str, size: float = 8, gap: float = 4) -> None:
    """Write beside a row, right of the axes."""
    ax.annotate(
        words, (1, at), (gap, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
        va="center", fontsize=size, color=GREY,
    )  # fmt: skip
