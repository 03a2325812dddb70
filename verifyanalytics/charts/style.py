"""How the charts look: colours, rcParams, and the language that the installed fonts can show.

Colours are Okabe and Ito's, distinct for colour-blind readers too. Text is DejaVu Sans first and
then an installed Chinese font, glyph by glyph; where none is installed, one warning says what to
install and labels are English. Chinese is never bold: few of these fonts have a bold face, and a
synthesised one is illegible.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import matplotlib as mpl
from matplotlib import rcsetup

from verifyanalytics.codebook.book import Lang
from verifyanalytics.errors import UsageError
from verifyanalytics.wording.names import cjk_font, font_names

INK, GREY, RULE = "#222222", "#6b6b6b", "#9a9a9a"
"""Text, secondary text, thin rules."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#B8A900")
"""Okabe–Ito, the strong ones first; its yellow is darkened to be seen on white."""


class MissingFontWarning(UserWarning):
    """Chinese labels were asked for and no font has the glyphs."""


def use_style() -> None:
    """Set matplotlib's rcParams to the style of the charts, for figures of one's own.

    The charts of this package do not need it.

    See Also
    --------
    draw : Draw the frame of a statistic.

    Examples
    --------
    >>> import matplotlib as mpl, verifyanalytics as va
    >>> with mpl.rc_context():
    ...     va.charts.use_style()
    ...     mpl.rcParams["axes.spines.top"]
    False
    """
    mpl.rcParams.update(_parameters())


@contextmanager
def style() -> Iterator[None]:
    """Apply the style of the charts, then restore the caller's rcParams.

    `matplotlib.rc_context` would also undo what a back end sets when its first figure is made: in
    a notebook, that pictures are shown at all.
    """
    parameters = _parameters()
    before = {name: mpl.rcParams[name] for name in parameters}
    mpl.rcParams.update(parameters)
    try:
        yield
    finally:
        mpl.rcParams.update(before)


def _parameters() -> dict[str, Any]:
    return {
        "font.family": font_names(), "font.size": 9.5, "axes.titlesize": 10.5,
        "axes.titlelocation": "left", "axes.titleweight": "normal", "axes.labelsize": 9.0,
        "axes.labelcolor": INK, "axes.edgecolor": RULE, "axes.linewidth": 0.8,
        "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
        "axes.grid.axis": "y", "axes.axisbelow": True,
        "axes.prop_cycle": rcsetup.cycler(color=COLOURS), "grid.color": "#e6e6e6",
        "grid.linewidth": 0.6, "lines.linewidth": 1.6, "lines.markersize": 4.5, "text.color": INK,
        "text.parse_math": False,  # a tag or a channel may hold a dollar sign
        "xtick.color": GREY, "ytick.color": GREY, "xtick.labelcolor": INK, "ytick.labelcolor": INK,
        "xtick.labelsize": 8.5, "ytick.labelsize": 8.5, "xtick.major.size": 3,
        "ytick.major.size": 0, "legend.frameon": False, "legend.fontsize": 8.5, "figure.dpi": 110,
        "savefig.dpi": 150, "figure.facecolor": "white", "svg.fonttype": "none",
    }  # fmt: skip


@cache
def _warn_once() -> None:
    warnings.warn(
        "no font with Chinese characters is installed, so labels are English; install one "
        "(Debian, Ubuntu: apt-get install fonts-wqy-microhei) and start Python again",
        MissingFontWarning,
        stacklevel=4,
    )


def usable(lang: str) -> Lang:
    """Return the language that can be drawn: English where no font has Chinese.

    Raises
    ------
    UsageError
        `lang` is not `en`, `zh` or `both`.
    """
    if lang not in ("en", "zh", "both"):
        raise UsageError(f"no language {lang!r}; there are: en, zh, both")
    if lang == "en" or cjk_font():
        return "en" if lang == "en" else "zh" if lang == "zh" else "both"
    _warn_once()
    return "en"
