"""What can be said without labels: three nested bands, one a factor on the vendor's claim."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.patches import Patch

from verifyanalytics.charts import panels
from verifyanalytics.charts.style import COLOURS
from verifyanalytics.codebook.book import Lang
from verifyanalytics.errors import UsageError
from verifyanalytics.wording.texts import text

__all__ = ["label_free"]

_ALPHAS = (0.50, 0.28, 0.15)
"""The band of the smallest factor is the darkest; the others lie around it."""


@panels.chart("regime", "threshold", "k", "n_compared", "false_matches_high", "fnmr_low")
def label_free(frame: pd.DataFrame, ax: Any = None, lang: Lang = "en") -> Any:
    """Draw `va.bounds.label_free`: for each regime, false matches and owners turned away.

    Parameters
    ----------
    frame : DataFrame
        From `va.bounds.label_free` without `by`, at two thresholds or more.
    ax : sequence of Axes, optional
        Two a regime; default a new figure, a row a regime.
    lang : {"en", "zh", "both"}

    Returns
    -------
    ndarray of Axes
        Left the upper limit of zero-effort false matches, right the limits of the share of owners
        turned away (FNMR); nested bands for the factors k on the vendor's claim. What the bounds
        are silent about stands below.

    Raises
    ------
    UsageError
        Nothing to draw, or the frame is split by groups.

    See Also
    --------
    verifyanalytics.charts.accuracy.error_rates : The same two errors, measured with labels.

    Examples
    --------
    >>> import verifyanalytics as va
    >>> v = va.simulator.simulate_responses(200, seed=1).verifications
    >>> v = v.query("req_key == 'cert_pro_src_verify' and threshold_1e_4 == 70")
    >>> table = va.bounds.label_free(v, nominal_fmr=[1e-3, 1e-4, 1e-5])
    >>> left, right = va.charts.bounds.label_free(table)
    >>> left.get_ylabel(), right.get_ylabel()
    ('false matches, at most', 'owners turned away (FNMR)')
    """
    panels.refuse_groups(frame, "threshold")
    compared = frame[frame["n_compared"] > 0]
    if compared["threshold"].nunique() < 2:
        raise UsageError("no regime with two thresholds or more; nothing to draw")
    regimes = panels.parts_by(compared, "regime")
    axes = panels.panels(2 * len(regimes), ax, what="panels, two a regime", height=2.9)
    for i, part in enumerate(regimes):
        _false_matches(axes[2 * i], part, lang)
        _false_nonmatches(axes[2 * i + 1], part, lang)
    notes = [text("bounds_k", lang), panels.lines("bounds_cover", lang)]
    return panels.finish(axes, ax, "bounds", lang, notes)


def _factors(part: pd.DataFrame) -> list[tuple[float, float, pd.DataFrame]]:
    """Factor, opacity and rows, the widest band first."""
    factors = sorted(part["k"].unique())
    alphas = np.interp(np.arange(len(factors)), np.arange(len(_ALPHAS)), _ALPHAS)
    each = [
        (float(k), float(alpha), part[part["k"] == k].sort_values("threshold"))
        for k, alpha in zip(factors, alphas, strict=True)
    ]
    return each[::-1]


def _false_matches(ax: Any, part: pd.DataFrame, lang: Lang) -> None:
    for k, alpha, rows in _factors(part):
        t, high = rows["threshold"], rows["false_matches_high"]
        # between two thresholds the limit of the lower one holds
        ax.fill_between(t, 0, high, step="post", color=COLOURS[1], alpha=alpha, linewidth=0,
                        label=f"k = {k:g}")  # fmt: skip
        ax.plot(t, high, drawstyle="steps-post", color=COLOURS[1], linewidth=1.0)
    ax.set_ylim(bottom=0)
    ax.yaxis.set_major_locator(ticker.MaxNLocator(nbins=5, integer=True))
    ax.set_ylabel(panels.lines("false_matches_high", lang))
    _finish(ax, part, lang)


def _false_nonmatches(ax: Any, part: pd.DataFrame, lang: Lang) -> None:
    for k, alpha, rows in _factors(part):
        ax.fill_between(
            rows["threshold"], rows["fnmr_low"], rows["fnmr_high"], color=COLOURS[0], alpha=alpha,
            linewidth=0, label=f"k = {k:g}",
        )  # fmt: skip
    widest = _factors(part)[0][2]
    ax.plot(widest["threshold"], widest["fnmr_high"], color=COLOURS[0], linewidth=1.0)
    ax.set_ylim(0, 1)
    panels.percent(ax.yaxis)
    ax.set_ylabel(panels.lines("fnmr_bounds", lang))
    _finish(ax, part, lang)


def _finish(ax: Any, part: pd.DataFrame, lang: Lang) -> None:
    ax.set_xlim(part["threshold"].min(), part["threshold"].max())
    ax.set_xlabel(text("threshold", lang))
    # each band of the legend as it looks with the wider, earlier ones shining through
    bands, labels = ax.get_legend_handles_labels()
    through = np.cumprod([1 - band.get_alpha() for band in bands])
    colours = [band.get_facecolor()[0][:3] for band in bands]
    handles = [Patch(color=c, alpha=1 - t) for c, t in zip(colours, through, strict=True)]
    ax.legend(handles[::-1], labels[::-1], loc="best", handlelength=1.0)
    counts = {name: int(part[name].iloc[0]) for name in ("n_compared", "n_withheld")}
    title = panels.regime(part["regime"].iloc[0], lang)
    panels.heading(ax, title, panels.counts_line(lang, **counts))
