"""With labels: false matches and false non-matches, over thresholds, against each other, at rules.

Rates lie orders of magnitude apart, so axes are logarithmic or of normal deviates, and reach the
vendor's smallest claim. A rate of 0 has no place on such an axis: in its place stands the largest
rate that the sample does not rule out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from verifyanalytics.charts import panels, rows
from verifyanalytics.charts.style import COLOURS, GREY, RULE
from verifyanalytics.codebook.book import Lang
from verifyanalytics.errors import UsageError
from verifyanalytics.schema import THRESHOLD_LEVELS
from verifyanalytics.wording.numbers import short
from verifyanalytics.wording.texts import text

__all__ = ["det_curve", "error_rates", "operating_points"]

FMR, FNMR = COLOURS[1], COLOURS[0]
"""False matches are vermilion, false non-matches blue, in every chart here."""

_LEVELS = tuple(float(level) for level in THRESHOLD_LEVELS)
_FMR_RANGE, _FNMR_RANGE = (2.5e-7, 0.7), (5e-4, 0.985)
_FMR_TICKS = (1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 0.5)
_FNMR_TICKS = (1e-3, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95)
_DECADES = tuple(10.0**-n for n in range(7))
_FLOOR = 5e-7  # a little below the vendor's smallest claim
_FEW = 12  # up to so many thresholds are marked
_FEW_NAMES = 3  # so many regimes without a rate are named


# ------------------------------------------------------------------ error rates by threshold


@panels.chart("regime", "threshold", "nominal_fmr", "fmr", "fnmr", "n_mated")
def error_rates(frame: pd.DataFrame, ax: Any = None, lang: Lang = "en") -> Any:
    """Draw `va.accuracy.error_rates`: FMR and FNMR over the threshold, a panel a regime.

    Parameters
    ----------
    frame : DataFrame
        From `va.accuracy.error_rates` at scores, or at the regimes' own thresholds; not split by
        groups.
    ax : Axes or sequence of Axes, optional
        One a regime; default a new figure.
    lang : {"en", "zh", "both"}

    Returns
    -------
    Axes or ndarray of Axes
        A logarithmic axis down to the vendor's smallest claim, which is drawn where the frame has
        it. Where no error was found the line ends, and the band goes to the bottom.

    Raises
    ------
    UsageError
        No rate in the frame (see its `reason`), groups, or Axes do not fit.

    See Also
    --------
    det_curve : Both errors against each other.
    verifyanalytics.charts.bounds.label_free : What can be said without labels.

    Examples
    --------
    >>> import verifyanalytics as va
    >>> world = va.simulator.simulate_responses(400, seed=1)
    >>> truth = va.labels.join(world.verifications, world.labels)
    >>> truth = truth[truth["threshold_1e_4"] == 70]
    >>> ax = va.charts.accuracy.error_rates(va.accuracy.error_rates(truth, assume_random=True))
    >>> ax.get_yscale(), ax.get_xlabel()
    ('log', 'threshold (score)')
    """
    rated = _rated(frame, "threshold")
    regimes = panels.parts_by(rated, "regime")
    axes = panels.panels(len(regimes), ax, what="regimes", height=3.4)
    for one, part in zip(axes, regimes, strict=True):
        _over_thresholds(one, part.sort_values("threshold"), lang)
    _legend(axes, ax is None)
    notes = [panels.lines("bands", lang), *_notes(frame, rated, lang)]
    return panels.finish(axes, ax, "errors", lang, notes)


def _over_thresholds(ax: Any, part: pd.DataFrame, lang: Lang) -> None:
    t = part["threshold"].to_numpy(dtype=float)
    marker = "o" if len(part) <= _FEW else ""
    for rate, colour in (("fmr", FMR), ("fnmr", FNMR)):
        low = np.maximum(part[f"{rate}_low"], _FLOOR)
        ax.fill_between(t, low, part[f"{rate}_high"], color=colour, alpha=0.16, linewidth=0)
        drawn = part[rate].where(part[rate] > 0)
        ax.plot(t, drawn, color=colour, marker=marker, label=text(rate, lang))
    claimed = part[part["nominal_fmr"].notna()]
    if len(claimed):
        ax.plot(claimed["threshold"], claimed["nominal_fmr"], color=GREY, linestyle=(0, (4, 2)),
                linewidth=1.1, marker="D", markersize=4, label=text("claim", lang))  # fmt: skip
    ax.set_yscale("log")
    ax.set_ylim(_FLOOR, 1.0)
    panels.fixed_ticks(ax.yaxis, _DECADES, _rate)
    ax.set_xlim(*((t[0], t[-1]) if len(t) > 1 else (t[0] - 1, t[0] + 1)))
    ax.set_xlabel(text("threshold", lang))
    ax.set_ylabel(panels.lines("rate", lang))
    own = claimed[claimed["nominal_fmr"].isin(_LEVELS)]
    points = list(own["threshold"])
    labels = [f"{_rate(x)}\n{t:g}" for x, t in zip(own["nominal_fmr"], points, strict=True)]
    _heading(ax, part, lang, panels.rules(ax, points, labels))


# ------------------------------------------------------------------ DET


@panels.chart("regime", "threshold", "claimed_fmr", "fmr", "fnmr", "n_mated", "auc")
def det_curve(frame: pd.DataFrame, ax: Any = None, lang: Lang = "en") -> Any:
    """Draw `va.accuracy.det_curve` on normal-deviate axes that reach 1e-6, a panel a regime.

    Parameters
    ----------
    frame : DataFrame
        From `va.accuracy.det_curve`.
    ax : Axes or sequence of Axes, optional
        One a regime; default a new figure.
    lang : {"en", "zh", "both"}

    Returns
    -------
    Axes or ndarray of Axes
        The curve where both rates lie above 0 and below 1. At each of the vendor's thresholds a
        circle stands on the curve with the limits of both rates, and a diamond at the FMR that the
        vendor claims there; without a false match a triangle stands at what cannot be ruled out. On
        a thinned curve the rates are those of the next candidate that was kept.

    Raises
    ------
    UsageError
        No rate in the frame (see its `reason`), or Axes do not fit.

    See Also
    --------
    error_rates : Both errors over the threshold.

    Examples
    --------
    >>> import verifyanalytics as va
    >>> world = va.simulator.simulate_responses(400, seed=1)
    >>> truth = va.labels.join(world.verifications, world.labels)
    >>> truth = truth[truth["threshold_1e_4"] == 70]
    >>> ax = va.charts.accuracy.det_curve(va.accuracy.det_curve(truth, assume_random=True))
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('FMR, normal deviates', 'FNMR, normal deviates')
    """
    rated = _rated(frame, "threshold")
    regimes = panels.parts_by(rated, "regime")
    axes = panels.panels(len(regimes), ax, what="regimes", height=3.9)
    none_found = [_det(*each, lang) for each in zip(axes, regimes, strict=True)]
    keys = ["hollow", *(["none_found"] if any(none_found) else [])]
    notes = [*(panels.lines(key, lang) for key in keys), *_notes(frame, rated, lang)]
    return panels.finish(axes, ax, "det", lang, notes)


def _det(ax: Any, part: pd.DataFrame, lang: Lang) -> bool:
    """Draw one regime; tell whether a vendor's threshold saw no false match."""
    part = part.sort_values("threshold")
    for axis, limits, ticks, write in (
        ("x", _FMR_RANGE, _FMR_TICKS, _rate),
        ("y", _FNMR_RANGE, _FNMR_TICKS, lambda y, _: f"{100 * y:g}%"),
    ):
        getattr(ax, f"set_{axis}scale")("function", functions=(special.ndtri, special.ndtr))
        getattr(ax, f"set_{axis}lim")(*limits)
        panels.fixed_ticks(getattr(ax, f"{axis}axis"), ticks, write)
    ax.grid(visible=True, axis="both")
    inside = part["fmr"].between(0, 1, "neither") & part["fnmr"].between(0, 1, "neither")
    ax.plot(part["fmr"].where(inside), part["fnmr"].where(inside), color=FNMR)
    none_found = [_vendor_point(ax, level, row) for level, row in _vendor_points(part)]
    ax.set_xlabel(text("fmr_axis", lang))
    ax.set_ylabel(panels.lines("fnmr_axis", lang))
    _heading(ax, part, lang)
    return any(none_found)


def _vendor_point(ax: Any, level: float, row: Any) -> bool:
    """Draw what was measured and what was claimed at one threshold of the vendor."""
    y = float(np.clip(row.fnmr, *_FNMR_RANGE))
    none = bool(row.n_false_matches == 0)
    x = float(np.clip(row.fmr_guard if none else row.fmr, *_FMR_RANGE))
    ax.plot([level, x], [y, y], color=RULE, linewidth=0.8, linestyle=(0, (1, 2)))
    low, high = (float(np.clip(v, *_FNMR_RANGE)) for v in (row.fnmr_low, row.fnmr_high))
    ax.plot([x, x], [low, high], color=FNMR, linewidth=1.0, alpha=0.7)
    if not none:
        left, right = (float(np.clip(v, *_FMR_RANGE)) for v in (row.fmr_low, row.fmr_high))
        ax.plot([left, right], [y, y], color=FMR, linewidth=1.0, alpha=0.7)
    ax.plot([x], [y], "<" if none else "o", color=FMR, mfc="white", markersize=5.5, zorder=3)
    ax.plot([level], [y], "D", color=GREY, markersize=4.5, zorder=3)
    ax.annotate(
        _rate(level), (level, y), (0, 5), textcoords="offset points", ha="center", fontsize=7.5,
        color=GREY, parse_math=False,
    )  # fmt: skip
    return none


def _vendor_points(part: pd.DataFrame) -> list[tuple[float, Any]]:
    """Find the row of a curve that holds at each of the vendor's thresholds.

    The claim is log-linear in the score, so it tells where the thresholds stand; between two
    candidates the rates of the upper one hold.
    """
    claim = part[part["claimed_fmr"].notna()]
    depth = -np.log10(claim["claimed_fmr"].to_numpy(dtype=float))
    score = claim["threshold"].to_numpy(dtype=float)
    if len(score) < 2:
        return []
    points = []
    for level in _LEVELS:
        at = -np.log10(level)
        if not depth[0] - 0.5 <= at <= depth[-1] + 0.5:
            continue
        i = int(np.clip(np.searchsorted(depth, at), 1, len(depth) - 1))
        slope = (score[i] - score[i - 1]) / (depth[i] - depth[i - 1])
        where = float(np.round(score[i] + slope * (at - depth[i]), 6))
        above = part[part["threshold"] >= where - 1e-9]
        points += [(level, next(above.iloc[:1].itertuples()))] if len(above) else []
    return points


# ------------------------------------------------------------------ operating points


@panels.chart(
    "regime", "threshold", "claimed_fmr", "fmr", "fnmr", "n_mated", "auc", "rule", "target"
)
def operating_points(frame: pd.DataFrame, ax: Any = None, lang: Lang = "en") -> Any:
    """Draw `va.accuracy.operating_points`: both error rates of each rule, a panel a regime.

    Parameters
    ----------
    frame : DataFrame
        From `va.accuracy.operating_points`.
    ax : Axes or sequence of Axes, optional
        One a regime; default a new figure.
    lang : {"en", "zh", "both"}

    Returns
    -------
    Axes or ndarray of Axes
        A row a rule, its threshold on the right; a rate without an error is a triangle at what the
        sample cannot rule out. A rule that no threshold meets keeps an empty row.

    Raises
    ------
    UsageError
        No operating point in the frame (see its `reason`), or Axes do not fit.

    See Also
    --------
    det_curve : All thresholds at once.

    Examples
    --------
    >>> import verifyanalytics as va
    >>> world = va.simulator.simulate_responses(400, seed=1)
    >>> truth = va.labels.join(world.verifications, world.labels)
    >>> truth = truth[truth["threshold_1e_4"] == 70]
    >>> table = va.accuracy.operating_points(truth, fmr=[0.1, 0.01], assume_random=True)
    >>> ax = va.charts.accuracy.operating_points(table)
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['fmr ≤ 0.1', 'fmr ≤ 0.01']
    """
    rated = _rated(frame, "rule")
    regimes = panels.parts_by(rated, "regime")
    height = 1.6 + 0.34 * max(len(part) for part in regimes)
    axes = panels.panels(len(regimes), ax, what="regimes", height=height)
    none_found = [_rules(*each, lang) for each in zip(axes, regimes, strict=True)]
    _legend(axes, ax is None)
    keys = ["target", *(["none_found_of"] if any(none_found) else [])]
    notes = [*(panels.lines(key, lang) for key in keys), *_notes(frame, rated, lang)]
    return panels.finish(axes, ax, "points", lang, notes)


def _rules(ax: Any, part: pd.DataFrame, lang: Lang) -> bool:
    """Draw one regime; tell whether a rule saw no error of one of the kinds."""
    none_found, y = False, np.arange(len(part))
    for side, colour, events, shift in (
        ("fmr", FMR, "n_false_matches", -0.13), ("fnmr", FNMR, "n_false_nonmatches", 0.13),
    ):  # fmt: skip
        none = part[side].notna() & (part[events].fillna(-1) == 0)
        table = part.assign(**{
            side: part[side].mask(none), f"{side}_low": part[f"{side}_low"].clip(lower=_FLOOR)
        })  # fmt: skip
        rows.dots(ax, y + shift, table, side, colour, width=1.3, alpha=0.7, label=text(side, lang))
        guard = part[f"{side}_guard"][none]
        ax.plot(guard, (y + shift)[none], "<", color=colour, mfc="white")
        none_found |= bool(np.isfinite(guard.to_numpy(dtype=float)).any())
    ax.plot(part["target"], y, "|", color=GREY, markersize=16, markeredgewidth=1.2)
    ax.set_xscale("log")
    ax.set_xlim(_FLOOR, 1.0)
    panels.fixed_ticks(ax.xaxis, _DECADES, _rate)
    rows.label_rows(ax, [_rule(row, lang) for row in part.itertuples()])
    ax.set_xlabel(text("rate", lang))
    for at, score in zip(y, part["threshold"], strict=True):
        rows.margin(ax, at, "–" if pd.isna(score) else f"≥ {score:g}")
    _heading(ax, part, lang)
    return none_found


def _rule(row: Any, lang: Lang) -> str:
    kind, _, assured = str(row.rule).partition(" assured ")
    if pd.isna(row.target):
        return kind.upper() if kind == "eer" else kind
    asked = f"{kind} ≤ {_rate(row.target)}"
    sure = assured.removesuffix("%").strip()
    return asked + text("assured", lang, " ", share=sure) if sure else asked


# ------------------------------------------------------------------ shared by the three


def _rated(frame: pd.DataFrame, before: str) -> pd.DataFrame:
    """Return the regimes that have a rate, or say why there is none."""
    panels.refuse_groups(frame, before)
    has_rate = frame["fmr"].notna() & frame["fnmr"].notna() & frame["threshold"].notna()
    rated = frame[frame["regime"].isin(frame.loc[has_rate, "regime"])]
    if rated.empty:
        reasons = ", ".join(sorted({r for r in frame["reason"] if r})) or "it is empty"
        raise UsageError(f"the frame holds no error rate at a score ({reasons}); nothing to draw")
    return rated if before == "rule" else rated[has_rate.loc[rated.index]]


def _notes(frame: pd.DataFrame, rated: pd.DataFrame, lang: Lang) -> list[str]:
    names = [r for r in frame["regime"].unique() if r not in set(rated["regime"])]
    left = [panels.regime(name, lang) for name in names[:_FEW_NAMES]]
    if len(names) > len(left):
        left.append(f"… (+ {len(names) - len(left):,})")
    notes = [panels.lines("no_rate", lang, regimes=", ".join(left))] if left else []
    if "weighted" in rated and bool(rated["weighted"].any()):
        notes.append(panels.lines("weighted", lang))
    if rated["note"].str.contains("taken as random").any():
        notes.append(panels.lines("random", lang))
    return notes


def _legend(axes: list[Any], own_figure: bool) -> None:
    """Say once what the colours are: beside the figure's title, where no curve can be."""
    each = [zip(*ax.get_legend_handles_labels(), strict=True) for ax in axes]
    parts = {label: handle for pairs in each for handle, label in pairs}
    if own_figure:
        axes[0].figure.legend(
            parts.values(), parts.keys(), loc="upper right", fontsize=7.8, labelspacing=0.25,
            handlelength=1.8, borderaxespad=0.2,
        )  # fmt: skip
    else:
        axes[0].legend(parts.values(), parts.keys(), loc="best", fontsize=7.5, labelspacing=0.3)


def _heading(ax: Any, part: pd.DataFrame, lang: Lang, above: int = 0) -> None:
    a, b = int(part["n_mated"].iloc[0]), int(part["n_nonmated"].iloc[0])
    title = panels.regime(part["regime"].iloc[0], lang)
    panels.heading(ax, title, panels.lines("n_both", lang, a=a, b=b), above)


def _rate(value: float, _position: int = 0) -> str:
    return short(value, 3 if value >= 0.0099 else 2)
