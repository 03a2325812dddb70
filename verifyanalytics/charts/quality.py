"""Image quality: percentiles against the vendor's limits, rates by band, discard, coaching."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.transforms import ScaledTranslation

from verifyanalytics.charts import panels
from verifyanalytics.charts.sentences import lines
from verifyanalytics.charts.style import COLOURS, GREY, INK, RULE, style, usable
from verifyanalytics.codebook.book import Lang
from verifyanalytics.errors import UsageError
from verifyanalytics.wording.names import name
from verifyanalytics.wording.texts import text as say

__all__ = ["bands", "coaching", "error_versus_discard", "face_vs_environment", "limits"]

_MOST = 12


def _measure(row: Any, lang: Lang, *, image: bool = True) -> str:
    def one(lang: Lang) -> str:
        told = name(row.name_zh if lang == "zh" else row.name_en)
        return f"{say(row.image, lang)}: {told}" if image else told

    return panels.both(lang, one)


def limits(frame: pd.DataFrame, ax: Any = None, lang: str = "en") -> Any:
    """Draw `va.quality.limits`: a panel a measure, its percentiles and the vendor's limit.

    Parameters
    ----------
    frame : DataFrame
        From `va.quality.limits`.
    ax : sequence of Axes, optional
        One a measure.
    lang : {"en", "zh", "both"}

    Returns
    -------
    Axes or ndarray of Axes
        Both images of a measure share a panel.

    Raises
    ------
    UsageError
        No graded row.
    """
    panels.needs(frame, "measure", "n", "p50", "limit")
    chosen, held = usable(lang), frame[frame["n"] > 0]
    measures = list(dict.fromkeys(held["measure"]))
    if not measures:
        raise UsageError("no graded image; nothing to draw")
    with style():
        height = 1.6 if chosen != "both" else 1.8
        axes = panels.panels(len(measures), ax, what="measures", height=height)
        for one, measure in zip(axes, measures, strict=True):
            _percentiles(one, held[held["measure"] == measure].reset_index(drop=True), chosen)
        notes = [lines("percentiles", chosen)]
        panels.finish(axes, ax is None, lines("quality_limits", chosen), notes)
    return panels.returned(axes)


def _percentiles(ax: Any, part: pd.DataFrame, lang: Lang) -> None:
    for i, row in enumerate(part.itertuples()):
        colour = COLOURS[0] if row.image == "face" else COLOURS[2]
        ax.hlines(i, row.p01, row.p99, color=colour, linewidth=1.2)
        ax.hlines(i, row.p25, row.p75, color=colour, linewidth=5)
        ax.plot([row.p50], [i], "o", color="white", mec=colour, markersize=5)
    first = next(part.iloc[:1].itertuples())
    if first.limit:
        ax.axvline(first.limit_value, color=COLOURS[1], linewidth=1.1, linestyle=(0, (4, 2)))
    ax.set_yticks(range(len(part)), [lines(image, lang) for image in part["image"]])
    ax.set_ylim(len(part) - 0.5, -0.5)
    ax.grid(visible=True, axis="x")
    ax.grid(visible=False, axis="y")
    counts: dict[str, Any] = {"n": int(part["n"].sum()), "m": int(part["n_missing"].sum())}

    def line(one: Lang) -> str:
        if not first.limit:
            return f"{say('graded', one, **counts)} · {say('no_limit', one)}"
        rates = " / ".join(panels.share(rate, one) for rate in part["beyond_rate"])
        return (
            f"{say('graded', one, **counts)} · {say('beyond', one, rate=rates, limit=first.limit)}"
        )

    panels.heading(ax, _measure(first, lang, image=False), panels.both(lang, line))


def bands(frame: pd.DataFrame, ax: Any = None, lang: str = "en") -> Any:
    """Draw `va.quality.bands`: reject and match rate by percentile band, a panel an image.

    Parameters
    ----------
    frame : DataFrame
        From `va.quality.bands`; frames of several measures, one behind the other, give small
        multiples.
    ax : sequence of Axes, optional
        One an image and measure.
    lang : {"en", "zh", "both"}

    Returns
    -------
    Axes or ndarray of Axes
        Dots with 95 % intervals; the band in which the vendor's limit lies is shaded. Rows without
        the measure stand apart on the right.

    Raises
    ------
    UsageError
        No row in the frame.
    """
    panels.needs(frame, "measure", "band", "n", "reject_rate")
    chosen = usable(lang)
    parts = [part for _, part in frame.groupby(["image", "measure"], sort=False) if part["n"].sum()]
    if not parts:
        raise UsageError("no row in the frame; nothing to draw")
    with style():
        axes = panels.panels(len(parts), ax, what="images and measures", height=2.9)
        for one, part in zip(axes, parts, strict=True):
            _rates(one, part.reset_index(drop=True), chosen)
        notes = [lines("limits95", chosen)]
        panels.finish(axes, ax is None, lines("quality_bands", chosen), notes)
    return panels.returned(axes)


def _rates(ax: Any, part: pd.DataFrame, lang: Lang) -> None:
    x = np.arange(len(part)) + 0.35 * (part["band"] == "missing").to_numpy()
    for rate, colour, shift in (
        ("reject_rate", COLOURS[1], -0.09),
        ("match_rate", COLOURS[0], 0.09),
    ):
        ax.vlines(x + shift, part[f"{rate}_low"], part[f"{rate}_high"], color=colour, linewidth=1.3)
        ax.plot(x + shift, part[rate], "o", color=colour, label=lines(rate, lang), markersize=5)
    limit = str(part["limit"].iloc[0])
    if limit:
        value = float(limit.split()[1])
        inside = (part["value_low"] <= value) & (value < part["value_high"])
        for i in np.flatnonzero(inside.to_numpy()):
            ax.axvspan(i - 0.5, i + 0.5, color=RULE, alpha=0.16, linewidth=0, zorder=0)
            ax.annotate(
                say("limit_here", lang, joint="\n", limit=limit), (i, 0.5), ha="center",
                va="center", xycoords=("data", "axes fraction"), fontsize=7.5, color=GREY,
            )  # fmt: skip
    bands = [lines("missing", lang) if b == "missing" else b for b in part["band"]]
    ax.set_xticks(x, bands)
    ax.set_ylim(0, 1.03)
    panels.percent(ax.yaxis, ax.get_ylim())
    ax.set_xlabel(lines("band", lang))
    ax.legend(  # above the axes, beside the counts: a dot may stand anywhere in them
        loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, fontsize=7.5, borderaxespad=0.2,
        handletextpad=0.1, columnspacing=1.0,
    )  # fmt: skip
    row = next(part.iloc[:1].itertuples())
    n = int(part.loc[part["band"] != "missing", "n"].sum())
    m = int(part.loc[part["band"] == "missing", "n"].sum())
    title = _measure(row, lang).replace("\n", "  ")
    panels.heading(ax, title, panels.both(lang, lambda one: say("graded", one, n=n, m=m)))


def error_versus_discard(frame: pd.DataFrame, ax: Any = None, lang: str = "en") -> Any:
    """Draw `va.quality.error_versus_discard`: the steps and the ideal, a panel a regime.

    Parameters
    ----------
    frame : DataFrame
        From `va.quality.error_versus_discard`; frames of several qualities, one behind the other,
        are several curves.
    ax : sequence of Axes, optional
        One a regime.
    lang : {"en", "zh", "both"}

    Returns
    -------
    Axes or ndarray of Axes

    Raises
    ------
    UsageError
        No row was compared, the labels are a selection, or curves of both kinds.
    """
    panels.needs(frame, "quality", "n", "discard_fraction", "error_fraction")
    chosen, held = usable(lang), frame[(frame["n"] > 0) & (frame["reason"] == "")]
    regimes = list(dict.fromkeys(held["regime"]))
    if not regimes or held["kind"].nunique() > 1:
        raise UsageError("no row or labels to go by, or two kinds of curves; nothing to draw")
    labelled = held["kind"].iloc[0] == "fnmr"
    with style():
        axes = panels.panels(len(regimes), ax, what="regimes", height=3.2)
        for one, regime in zip(axes, regimes, strict=True):
            _curves(one, held[held["regime"] == regime], regime, chosen, labelled=labelled)
        notes = [lines("pauc", chosen), *([] if labelled else [lines("not_fewer", chosen)])]
        title = lines("fnmr_discard" if labelled else "reject_discard", chosen)
        panels.finish(axes, ax is None, title, notes)
    return panels.returned(axes)


def _curves(ax: Any, part: pd.DataFrame, regime: str, lang: Lang, *, labelled: bool) -> None:
    for i, (quality, curve) in enumerate(part.groupby("quality", sort=False)):
        colour, area = COLOURS[i % len(COLOURS)], curve["pauc_03"].iloc[0]
        label = f"{name(quality)}  ({area:.4f})"
        x, y = curve["discard_fraction"], curve["error_fraction"]
        ax.plot(x, y, color=colour, drawstyle="steps-post", label=label)
    overall = float(part["error_fraction"].iloc[0])
    # between the steps of a quality with few values too the ideal is a curve
    discard = np.r_[np.linspace(0, overall, 100), 1.0]
    ideal = np.r_[(overall - discard[:-1]) / np.maximum(1 - discard[:-1], 1e-9), 0.0]
    ax.plot(
        discard, ideal, color=GREY, linewidth=1.0,
        linestyle=(0, (4, 2)), label=say("ideal", lang),
    )  # fmt: skip
    ax.set_xlim(0, 1)
    ax.set_ylim(0, float(part["error_fraction"][part["discard_fraction"] < 0.95].max()) * 1.15 or 1)
    panels.percent(ax.xaxis, ax.get_xlim())
    panels.percent(ax.yaxis, ax.get_ylim())
    ax.set_xlabel(lines("discard", lang))
    ax.set_ylabel(lines("rest_fnmr" if labelled else "rest_rejected", lang))
    ax.legend(loc="best", fontsize=7.5)
    first = part.iloc[0]
    counted: dict[str, Any] = {"n": int(first["n"]), "null": int(first["n_null_quality"])}
    out = int(first["n_not_compared"])
    title = "" if regime in ("not told", "all") else panels.regime(regime, lang)
    panels.heading(ax, title, panels.both(lang, lambda o: say("null_first", o, out=out, **counted)))


def coaching(frame: pd.DataFrame, ax: Any = None, lang: str = "en", top: int = _MOST) -> Any:
    """Draw `va.quality.coaching`: rejects moved by each measure's limit, with 95 % limits.

    Parameters
    ----------
    frame : DataFrame
        From `va.quality.coaching`.
    ax : Axes, optional
    lang : {"en", "zh", "both"}
    top : int
        How many measures, in the frame's order.

    Returns
    -------
    Axes
        Filled dots are significant; beside each stands how many the limit turns away.

    Raises
    ------
    UsageError
        No measure has a limit that turns anybody away.
    """
    panels.needs(frame, "measure", "excess", "excess_low", "n_turned_away")
    chosen, held = usable(lang), frame[frame["excess_low"].notna()]
    shown = held.head(top).reset_index(drop=True)
    if not len(shown):
        raise UsageError("no limit turns anybody away; nothing to draw")
    with style():
        step = 0.62 if chosen == "both" else 0.5
        (axes,) = panels.panels(1, ax, what="charts", height=1.4 + step * len(shown))
        axes.axvline(0, color=RULE, linewidth=0.9, zorder=1.5)
        for i, row in enumerate(shown.itertuples()):
            axes.hlines(i, row.excess_low, row.excess_high, color=COLOURS[0], linewidth=1.5)
            filled = COLOURS[0] if row.significant else "white"
            axes.plot([row.excess], [i], "o", color=COLOURS[0], mfc=filled, markersize=5.5)
            price = lines("price", chosen, a=row.n_turned_away, b=row.n_turned_away_accepted)
            axes.annotate(
                price, (1, i), (6, 0), xycoords=("axes fraction", "data"), va="center",
                textcoords="offset points", fontsize=7.5, color=GREY,
            )  # fmt: skip
        joint = "  " if chosen == "both" else "\n"
        names = [f"{_measure(r, chosen)}{joint}{r.turned_away_if}" for r in shown.itertuples()]
        axes.set_yticks(range(len(shown)), names)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.grid(visible=True, axis="x")
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(lines("excess", chosen))
        notes = [lines("filled_only" if frame["clustered"].any() else "unclustered", chosen)]
        if left := len(frame) - len(shown):
            notes.append(say("more", chosen, n=left))
        n, m = int(frame["n"].max()), int(frame["n_missing"].min())
        panels.heading(axes, "", panels.both(chosen, lambda one: say("graded", one, n=n, m=m)))
        panels.finish([axes], ax is None, lines("quality_coaching", chosen), notes)
    return axes


def face_vs_environment(frame: pd.DataFrame, ax: Any = None, lang: str = "en") -> Any:
    """Draw `va.quality.face_vs_environment`: which image is graded higher, a bar a measure.

    Parameters
    ----------
    frame : DataFrame
        From `va.quality.face_vs_environment`.
    ax : Axes, optional
    lang : {"en", "zh", "both"}

    Returns
    -------
    Axes
        Each bar is the rows with both images graded: equal, face higher, environment higher.

    Raises
    ------
    UsageError
        No row has both images graded.
    """
    panels.needs(frame, "measure", "n_both", "n_equal")
    chosen = usable(lang)
    shown = frame[frame["n_both"] > 0].reset_index(drop=True)
    if not len(shown):
        raise UsageError("no row has both images graded; nothing to draw")
    with style():
        (axes,) = panels.panels(1, ax, what="charts", height=1.5 + 0.4 * len(shown))
        left = np.zeros(len(shown))
        for side, column, colour in (
            ("equal", "n_equal", "#c9c9c9"), ("face_higher", "n_face_higher", COLOURS[0]),
            ("env_higher", "n_env_higher", COLOURS[2]),
        ):  # fmt: skip
            share = (shown[column] / shown["n_both"]).to_numpy()
            axes.barh(range(len(shown)), share, left=left, color=colour, height=0.66,
                      label=lines(side, chosen))  # fmt: skip
            left += share
        names = [_measure(row, chosen, image=False) for row in shown.itertuples()]
        axes.set_yticks(range(len(shown)), names, color=INK)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.set_xlim(0, 1)
        panels.percent(axes.xaxis, axes.get_xlim())
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(lines("of_both", chosen))
        below = 30 + 13 * (chosen == "both")  # points: under the ticks and the axis's name
        down = ScaledTranslation(0, -below / 72, axes.figure.dpi_scale_trans)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0), ncols=3,
                    bbox_transform=axes.transAxes + down)  # fmt: skip
        n, m = int(shown["n_both"].max()), int(shown["n_neither"].max())
        panels.heading(axes, "", panels.both(chosen, lambda one: say("graded", one, n=n, m=m)))
        panels.finish([axes], ax is None, lines("face_vs_environment", chosen), [])
    return axes
