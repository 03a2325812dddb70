"""What stands on Axes, read back: words, and rows of dots."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.colors import to_hex


def words(ax):
    """The texts of one panel, ticks aside."""
    return [t.get_text() for t in [*ax.texts, ax.title, ax.xaxis.label, ax.yaxis.label]]


def figure_words(ax):
    """All texts of the figure, ticks and notes too."""
    return [t.get_text() for t in ax.figure.findobj(mpl.text.Text)]


def dots(ax):
    """Each dot drawn, from the top row down: value, row, colour, and whether it is filled."""
    return sorted(
        (
            (float(x), float(y), line.get_color(), to_hex(line.get_markerfacecolor()) != "#ffffff")
            for line in ax.lines
            if line.get_marker() == "o"
            for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
            if not np.isnan(x)
        ),
        key=lambda dot: dot[1],
    )


def intervals(ax):
    """Each interval, from the top row down: lower and upper end."""
    ends = [segment for lines in ax.collections for segment in lines.get_segments()]
    return [
        (float(low), float(high))
        for (low, _), (high, _) in sorted(ends, key=lambda segment: segment[0][1])
    ]
