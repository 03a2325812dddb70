"""Image quality: percentiles against the vendor's limits, rates by band, discard, coaching."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.transforms import ScaledTranslation

from verifyanalytics.charts import panels, rows
from verifyanalytics.charts.style import COLOURS, GREY, INK, RULE
from verifyanalytics.codebook.book import Lang
from verifyanalytics.errors import UsageError
from verifyanalytics.wording.names import name
from verifyanalytics.wording.numbers import percent
from verifyanalytics.wording.texts import say, text
from verifyanalytics.wording.words import Say, joined, plain

__all__ = ["bands", "coaching", "error_versus_discard", "face_vs_environment", "limits"]

_MOST = 12


def _measure(row: Any, *, image: bool = True) -> Say:
    """Name a measure, and the image it was taken on."""
    named = Say(name(row.name_en), name(row.name_zh))
    return joined([say(row.image), named], ": ", ": ") if image else named


@panels.chart("image", "measure", "n", "p50", "limit", "limit_value")
def limits(frame: pd.DataFrame, ax: Any = None, lang: Lang = "en") -> Any:
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

    See Also
    --------
    bands : The rates by quality.

    Examples
    --------
    >>> import verifyanalytics as va
    >>> v = va.simulator.simulate_responses(200, seed=1).verifications
    >>> axes = va.charts.quality.limits(va.quality.limits(v))
    >>> [label.get_text() for label in axes[0].get_yticklabels()]
    ['face image', 'environment image']
    """
    measures = panels.parts_by(frame[frame["n"] > 0], "measure")
    if not measures:
        raise UsageError("no graded image; nothing to draw")
    height = 1.8 if lang == "both" else 1.6
    axes = panels.panels(len(measures), ax, what="measures", height=height)
    for one, part in zip(axes, measures, strict=True):
        _percentiles(one, part, lang)
    return panels.finish(axes, ax, "quality_limits", lang, [panels.lines("percentiles", lang)])


def _percentiles(ax: Any, part: pd.DataFrame, lang: Lang) -> None:
    first: Any = next(part.itertuples())
    for i, row in enumerate(part.itertuples()):
        colour = COLOURS[0] if row.image == "face" else COLOURS[2]
        ax.hlines(i, row.p01, row.p99, color=colour, linewidth=1.2)
        ax.hlines(i, row.p25, row.p75, color=colour, linewidth=5)
        ax.plot([row.p50], [i], "o", color="white", mec=colour, markersize=5)
    graded = say("graded", n=int(part["n"].sum()), m=int(part["n_missing"].sum()))
    if first.limit:
        ax.axvline(first.limit_value, color=COLOURS[1], linewidth=1.1, linestyle=(0, (4, 2)))
        rates = joined([percent(rate, tiny="bound") for rate in part["beyond_rate"]], " / ", " / ")
        beyond = say("beyond", rate=rates, limit=first.limit)
    else:
        beyond = say("no_limit")
    rows.label_rows(ax, [panels.lines(image, lang) for image in part["image"]], room=0.5)
    title = plain(_measure(first, image=False), lang, "\n")
    panels.heading(ax, title, plain(joined([graded, beyond], " · ", " · "), lang, "\n"))


@panels.chart("image", "measure", "band", "n", "reject_rate", "match_rate", "value_low")
def bands(frame: pd.DataFrame, ax: Any = None, lang: Lang = "en") -> Any:
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

    See Also
    --------
    limits : The percentiles themselves.

    Examples
    --------
    >>> import verifyanalytics as va
    >>> v = va.simulator.simulate_responses(200, seed=1).verifications
    >>> face, environment = va.charts.quality.bands(va.quality.bands(v, "brightness"))
    >>> face.get_title(loc="left"), environment.get_title(loc="left")
    ('face image: brightness', 'environment image: brightness')
    """
    parts = [part for part in panels.parts_by(frame, "image", "measure") if part["n"].sum()]
    if not parts:
        raise UsageError("no row in the frame; nothing to draw")
    axes = panels.panels(len(parts), ax, what="images and measures", height=2.9)
    for one, part in zip(axes, parts, strict=True):
        _rates(one, part, lang)
    return panels.finish(axes, ax, "quality_bands", lang, [panels.lines("limits95", lang)])


def _rates(ax: Any, part: pd.DataFrame, lang: Lang) -> None:
    missing = (part["band"] == "missing").to_numpy()
    x = np.arange(len(part)) + 0.35 * missing
    for rate, colour, shift in (
        ("reject_rate", COLOURS[1], -0.09),
        ("match_rate", COLOURS[0], 0.09),
    ):
        label = panels.lines(rate, lang)
        rows.dots(
            ax, x + shift, part, rate, colour, width=1.3, upright=True, markersize=5, label=label
        )
    if limit := str(part["limit"].iloc[0]):
        value = float(limit.split()[1])
        inside = (part["value_low"] <= value) & (value < part["value_high"])
        for i in np.flatnonzero(inside.to_numpy()):
            ax.axvspan(i - 0.5, i + 0.5, color=RULE, alpha=0.16, linewidth=0, zorder=0)
            ax.annotate(
                panels.lines("limit_here", lang, limit=limit), (i, 0.5), ha="center",
                va="center", xycoords=("data", "axes fraction"), fontsize=7.5, color=GREY,
            )  # fmt: skip
    ax.set_xticks(x, [panels.lines(b, lang) if b == "missing" else b for b in part["band"]])
    ax.set_ylim(0, 1.03)
    panels.percent(ax.yaxis)
    ax.set_xlabel(panels.lines("band", lang))
    ax.legend(  # above the axes, beside the counts: a dot may stand anywhere in them
        loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, fontsize=7.5, borderaxespad=0.2,
        handletextpad=0.1, columnspacing=1.0,
    )  # fmt: skip
    n, m = int(part.loc[~missing, "n"].sum()), int(part.loc[missing, "n"].sum())
    title = plain(_measure(next(part.itertuples())), lang, "  ")
    panels.heading(ax, title, panels.lines("graded", lang, n=n, m=m))


@panels.chart("quality", "n", "discard_fraction", "error_fraction", "pauc_03", "reason")
def error_versus_discard(frame: pd.DataFrame, ax: Any = None, lang: Lang = "en") -> Any:
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

    See Also
    --------
    coaching : Which limit at capture would have helped.

    Examples
    --------
    >>> import verifyanalytics as va
    >>> v = va.simulator.simulate_responses(200, seed=1).verifications
    >>> v = v.query("req_key == 'cert_pro_src_verify' and threshold_1e_4 == 70")
    >>> table = va.quality.error_versus_discard(v, "face_brightness", nominal_fmr=1e-4)
    >>> va.charts.quality.error_versus_discard(table).get_ylabel()
    'non-match rate of the rest'
    """
    compared = frame[(frame["n"] > 0) & (frame["reason"] == "")]
    regimes = panels.parts_by(compared, "regime")
    if not regimes or compared["kind"].nunique() > 1:
        raise UsageError("no row or labels to go by, or two kinds of curves; nothing to draw")
    labelled = bool(compared["kind"].iloc[0] == "fnmr")
    axes = panels.panels(len(regimes), ax, what="regimes", height=3.2)
    for one, part in zip(axes, regimes, strict=True):
        _curves(one, part, lang, labelled=labelled)
    notes = [panels.lines("pauc", lang), "" if labelled else panels.lines("not_fewer", lang)]
    title = "fnmr_discard" if labelled else "reject_discard"
    return panels.finish(axes, ax, title, lang, notes)


def _curves(ax: Any, part: pd.DataFrame, lang: Lang, *, labelled: bool) -> None:
    for i, (quality, curve) in enumerate(part.groupby("quality", sort=False)):
        label = f"{name(quality)}  ({curve['pauc_03'].iloc[0]:.4f})"
        ax.plot(curve["discard_fraction"], curve["error_fraction"], color=COLOURS[i % len(COLOURS)],
                drawstyle="steps-post", label=label)  # fmt: skip
    first = part.iloc[0]
    overall = float(first["error_fraction"])
    # between the steps of a quality with few values too the ideal is a curve
    discard = np.r_[np.linspace(0, overall, 100), 1.0]
    ideal = np.r_[(overall - discard[:-1]) / np.maximum(1 - discard[:-1], 1e-9), 0.0]
    ax.plot(discard, ideal, color=GREY, linewidth=1.0, linestyle=(0, (4, 2)),
            label=text("ideal", lang))  # fmt: skip
    ax.set_xlim(0, 1)
    ax.set_ylim(0, float(part["error_fraction"][part["discard_fraction"] < 0.95].max()) * 1.15 or 1)
    panels.percent(ax.xaxis)
    panels.percent(ax.yaxis)
    ax.set_xlabel(panels.lines("discard", lang))
    ax.set_ylabel(panels.lines("rest_fnmr" if labelled else "rest_rejected", lang))
    ax.legend(loc="best", fontsize=7.5)
    n, null, out = (int(first[c]) for c in ("n", "n_null_quality", "n_not_compared"))
    counts = panels.lines("null_first", lang, n=n, null=null, out=out)
    title = "" if first["regime"] in ("not told", "all") else panels.regime(first["regime"], lang)
    panels.heading(ax, title, counts)


@panels.chart("measure", "turned_away_if", "excess", "excess_low", "n_turned_away", "significant")
def coaching(frame: pd.DataFrame, ax: Any = None, lang: Lang = "en", top: int = _MOST) -> Any:
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

    See Also
    --------
    error_versus_discard : What is left when the poorest images are not compared.

    Examples
    --------
    >>> import verifyanalytics as va
    >>> v = va.simulator.simulate_responses(2000, seed=1).verifications
    >>> va.charts.quality.coaching(va.quality.coaching(v), top=3).get_xlabel()
    'rejections kept away, beyond those of as many other rows (held-out period)'
    """
    shown = frame[frame["excess_low"].notna()].head(top)
    if not len(shown):
        raise UsageError("no limit turns anybody away; nothing to draw")
    step = 0.62 if lang == "both" else 0.5
    (one,) = axes = panels.panels(1, ax, height=1.4 + step * len(shown))
    one.axvline(0, color=RULE, linewidth=0.9, zorder=1.5)
    y = np.arange(len(shown))
    rows.dots(
        one, y, shown, "excess", COLOURS[0], hollow=~shown["significant"], width=1.5, markersize=5.5
    )
    names = []
    for i, row in enumerate(shown.itertuples()):
        away = row.n_turned_away, row.n_turned_away_accepted
        rows.margin(one, i, panels.lines("price", lang, a=away[0], b=away[1]), 7.5, gap=6)
        joint = "  " if lang == "both" else "\n"
        names.append(f"{plain(_measure(row), lang, chr(10))}{joint}{row.turned_away_if}")
    rows.label_rows(one, names)
    one.set_xlabel(panels.lines("excess", lang))
    notes = [panels.lines("filled_only" if frame["clustered"].any() else "unclustered", lang)]
    if left := len(frame) - len(shown):
        notes.append(text("more", lang, n=left))
    n, m = int(frame["n"].max()), int(frame["n_missing"].min())
    panels.heading(one, "", panels.lines("graded", lang, n=n, m=m))
    return panels.finish(axes, ax, "quality_coaching", lang, notes)


@panels.chart("measure", "n_both", "n_equal", "n_face_higher", "n_env_higher")
def face_vs_environment(frame: pd.DataFrame, ax: Any = None, lang: Lang = "en") -> Any:
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

    See Also
    --------
    limits : The percentiles of both images.

    Examples
    --------
    >>> import verifyanalytics as va
    >>> v = va.simulator.simulate_responses(200, seed=1).verifications
    >>> ax = va.charts.quality.face_vs_environment(va.quality.face_vs_environment(v))
    >>> ax.get_xlabel()
    'share of the rows with both graded'
    """
    shown = frame[frame["n_both"] > 0]
    if not len(shown):
        raise UsageError("no row has both images graded; nothing to draw")
    (one,) = axes = panels.panels(1, ax, height=1.5 + 0.4 * len(shown))
    left = np.zeros(len(shown))
    for side, column, colour in (
        ("equal", "n_equal", "#c9c9c9"), ("face_higher", "n_face_higher", COLOURS[0]),
        ("env_higher", "n_env_higher", COLOURS[2]),
    ):  # fmt: skip
        share = (shown[column] / shown["n_both"]).to_numpy()
        one.barh(range(len(shown)), share, left=left, color=colour, height=0.66,
                 label=panels.lines(side, lang))  # fmt: skip
        left += share
    rows.label_rows(
        one, [plain(_measure(row, image=False), lang, "\n") for row in shown.itertuples()]
    )
    one.tick_params(axis="y", labelcolor=INK)
    one.grid(visible=False)
    one.set_xlim(0, 1)
    panels.percent(one.xaxis)
    one.set_xlabel(panels.lines("of_both", lang))
    below = 43 if lang == "both" else 30  # points: under the ticks and the axis's name
    down = ScaledTranslation(0, -below / 72, one.figure.dpi_scale_trans)
    one.legend(loc="upper center", bbox_to_anchor=(0.5, 0), ncols=3,
               bbox_transform=one.transAxes + down)  # fmt: skip
    n, m = int(shown["n_both"].max()), int(shown["n_neither"].max())
    panels.heading(one, "", panels.lines("graded", lang, n=n, m=m))
    return panels.finish(axes, ax, "face_vs_environment", lang)
