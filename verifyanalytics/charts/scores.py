"""Scores against thresholds: distributions, match rates, and when the vendor moved thresholds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import ticker

from verifyanalytics.charts import panels
from verifyanalytics.charts.style import COLOURS, RULE
from verifyanalytics.codebook.book import Lang
from verifyanalytics.errors import UsageError
from verifyanalytics.schema import THRESHOLD_COLUMNS, THRESHOLD_LEVELS
from verifyanalytics.wording.numbers import short
from verifyanalytics.wording.texts import text

__all__ = ["histogram", "match_rates", "vendor_thresholds"]

_LEVELS = tuple(float(level) for level in THRESHOLD_LEVELS)
_FEW = 12  # up to so many points are marked


@panels.chart("regime", "score_low", "score_high", "n", "n_scored", "threshold_1e_4")
def histogram(frame: pd.DataFrame, ax: Any = None, lang: Lang = "en") -> Any:
    """Draw `va.scores.histogram`: one panel a regime, its four thresholds as rules.

    Parameters
    ----------
    frame : DataFrame
        From `va.scores.histogram`. Groups of `by` are drawn over each other.
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

    See Also
    --------
    match_rates : The share at or above each threshold.

    Examples
    --------
    >>> import verifyanalytics as va
    >>> v = va.simulator.simulate_responses(200, seed=1).verifications
    >>> v = v.query("req_key == 'cert_pro_src_verify' and threshold_1e_4 == 70")  # one regime
    >>> va.charts.scores.histogram(va.scores.histogram(v, by="result")).get_xlabel()
    'score (0–100)'
    """
    by = panels.groups(frame, "regime") if len(frame) else []
    shown = [part for part in panels.parts_by(frame, "regime") if part["n"].sum() > 0]
    if not shown:
        raise UsageError("the frame holds no score; nothing to draw")
    colours = panels.palette(frame, by, lang)
    axes = panels.panels(len(shown), ax, what="regimes", height=3.2)
    for one, part in zip(axes, shown, strict=True):
        _densities(one, part, by, lang, colours)
    # regimes that have no score at all have no panel
    rest = frame[~frame["regime"].isin([part["regime"].iloc[0] for part in shown])]
    unplaced = int(rest.drop_duplicates([*by, "regime"])["n_without_score"].sum())
    return panels.finish(axes, ax, "scores", lang, [_no_regime(unplaced, lang)])


def _no_regime(n: int, lang: Lang) -> str:
    return text("no_regime", lang, n=n) if n else ""


def _densities(
    ax: Any, part: pd.DataFrame, by: list[str], lang: Lang, colours: panels.Palette
) -> None:
    inside = np.isfinite(part["score_low"]) & np.isfinite(part["score_high"])
    for label, colour, group in panels.split(part[inside], by, lang, colours):
        edges = np.append(group["score_low"], group["score_high"].iloc[-1])
        heights = group["n"].to_numpy() / np.diff(edges)
        ax.stairs(heights, edges, fill=True, color=colour, alpha=0.22 if by else 0.55, linewidth=0)
        ax.stairs(heights, edges, color=colour, linewidth=1.2, label=label or None)
    ax.set_xlim(0, 100)
    ax.set_ylim(bottom=0)
    ax.yaxis.set_major_locator(ticker.MaxNLocator(nbins=6, integer=True))
    ax.yaxis.set_major_formatter(
        ticker.FuncFormatter(lambda n, _: f"{n:,.0f}" if n == round(n) else f"{n:g}")
    )
    ax.set_xlabel(text("score", lang))
    ax.set_ylabel(panels.lines("per_point", lang))
    if by:
        ax.legend(loc="upper left", labelspacing=0.3, handlelength=1.2)
    points = dict(zip(THRESHOLD_LEVELS, part[list(THRESHOLD_COLUMNS)].iloc[0], strict=True))
    above = _rules(ax, {level: float(at) for level, at in points.items() if np.isfinite(at)})
    sums = part.drop_duplicates(by) if by else part.iloc[:1]
    counts = {name: int(sums[name].sum()) for name in ("n_scored", "n_without_score")}
    if outside := int(part.loc[~inside, "n"].sum()):
        counts["n_outside"] = outside
    title = panels.regime(part["regime"].iloc[0], lang)
    panels.heading(ax, title, panels.counts_line(lang, **counts), above)


def _rules(ax: Any, points: dict[str, float]) -> int:
    """Draw the vendor's thresholds, by level; return how many lines their labels take."""
    labels = [f"{level}\n{point:g}" for level, point in points.items()]
    return panels.rules(ax, list(points.values()), labels)


@panels.chart("regime", "threshold", "nominal_fmr", "n", "n_match", "match_rate", "n_withheld")
def match_rates(frame: pd.DataFrame, ax: Any = None, lang: Lang = "en") -> Any:
    """Draw `va.scores.match_rates`: the share at or above each threshold, with its 95 % band.

    Rates at the vendor's own thresholds, or at nominal FMRs, are drawn over the claimed FMR, where
    regimes stand in one panel; rates at scores in one panel a regime, the vendor's thresholds as
    rules. With periods, the rate at each threshold is drawn over time.

    Parameters
    ----------
    frame : DataFrame
        From `va.scores.match_rates`.
    ax : Axes or sequence of Axes, optional
        One a panel; default a new figure.
    lang : {"en", "zh", "both"}

    Returns
    -------
    Axes or ndarray of Axes

    Raises
    ------
    UsageError
        No rate in the frame, or Axes do not fit its panels.

    See Also
    --------
    histogram : The distribution of the scores.
    verifyanalytics.charts.accuracy.error_rates : Both error rates, where there are labels.

    Examples
    --------
    >>> import verifyanalytics as va
    >>> v = va.simulator.simulate_responses(200, seed=1).verifications
    >>> ax = va.charts.scores.match_rates(va.scores.match_rates(v))  # at the vendor's thresholds
    >>> ax.get_xscale(), ax.get_ylabel()
    ('log', 'match rate')
    """
    rated = frame[frame["match_rate"].notna()]
    if rated.empty:
        raise UsageError("the frame holds no match rate; nothing to draw")
    by, over_time = panels.groups(frame, "regime"), "period" in frame
    levels_only = rated["nominal_fmr"].isin(_LEVELS).all() or (rated["regime"] == "all").all()
    over_fmr = bool(levels_only) and not over_time
    draw = _over_time if over_time else _over_fmr if over_fmr else _over_scores
    parts = [rated] if over_fmr else panels.parts_by(rated, "regime")
    by_here = [*by, "regime"] if over_fmr else by
    colours = panels.palette(rated, by_here, lang)
    axes = panels.panels(len(parts), ax, what="regimes", height=3.1)
    for one, part in zip(axes, parts, strict=True):
        several = part["regime"].nunique() > 1
        above = draw(one, part, by, lang, colours)
        panels.percent(one.yaxis)
        low, high = one.get_ylim()
        one.set_ylim(max(0.0, low), min(1.0, high) if high > 1 else high)
        one.set_ylabel(panels.lines("match_rate", lang))
        title = "" if several else panels.regime(part["regime"].iloc[0], lang)
        keys = [*by_here, "period"] if over_time else by_here
        panels.heading(
            one, title, _counts(part.drop_duplicates(keys) if keys else part[:1], lang), above
        )
    rest = frame[frame["reason"] == "incomplete_regime"]
    keys = [*by, *(["period"] if over_time else [])]
    n = _answers(rest.drop_duplicates(keys) if keys else rest[:1])
    notes = [text("limits", lang), _no_regime(n, lang)]
    if over_time and frame["partial"].any():
        notes.insert(1, text("partial", lang))
    return panels.finish(axes, ax, "match_rates", lang, notes)


def _answers(once: pd.DataFrame) -> int:
    return int((once["n"] - once["n_withheld"] + once["n_without_score"]).sum())


def _counts(once: pd.DataFrame, lang: Lang) -> str:
    compared, without = int(once["n"].sum()), int(once["n_without_score"].sum())
    return panels.counts_line(lang, n_compared=compared, n_without_score=without)


def _over_scores(
    ax: Any, part: pd.DataFrame, by: list[str], lang: Lang, colours: panels.Palette
) -> int:
    for label, colour, group in panels.split(part, by, lang, colours):
        marker = "o" if len(group) <= _FEW else ""
        panels.line(ax, group, "threshold", "match_rate", colour, label, marker=marker)
    low, high = part["threshold"].min(), part["threshold"].max()
    ax.set_xlim(*((low, high) if high > low else (low - 1, high + 1)))
    ax.set_xlabel(text("threshold", lang))
    if by:
        ax.legend(loc="lower left")
    # the vendor's thresholds: the claim is log-linear in the score between the rows of the frame
    claim = part.dropna(subset="nominal_fmr").drop_duplicates("threshold")
    depth = -np.log10(claim["nominal_fmr"].to_numpy(dtype=float))
    score = claim["threshold"].to_numpy(dtype=float)
    points = {
        level: float(np.round(np.interp(at, depth, score), 6))
        for level, at in zip(THRESHOLD_LEVELS, -np.log10(_LEVELS), strict=True)
        if len(depth) and depth.min() - 1e-9 <= at <= depth.max() + 1e-9
    }
    return _rules(ax, points)


def _over_fmr(
    ax: Any, part: pd.DataFrame, by: list[str], lang: Lang, colours: panels.Palette
) -> int:
    several = part["regime"].nunique() > 1
    for label, colour, group in panels.split(part, [*by, "regime"], lang, colours):
        ordered = group.sort_values("nominal_fmr", ascending=False)
        shown = label if several else ", ".join(label.split(", ")[:-1])  # without the regime
        panels.line(ax, ordered, "nominal_fmr", "match_rate", colour, shown)
    ax.set_xscale("log")
    ax.set_xlim(1.35e-3, 0.74e-6)
    panels.fixed_ticks(ax.xaxis, _LEVELS, lambda x, _: short(x))
    ax.set_xlabel(text("nominal_fmr", lang))
    if several or by:
        ax.legend(loc="lower left")
    return 0


def _over_time(
    ax: Any, part: pd.DataFrame, by: list[str], lang: Lang, colours: panels.Palette
) -> int:
    timed = part[part["period_start"].notna()]
    over_fmr = bool(timed["threshold"].isna().all())
    by_value = timed.groupby("nominal_fmr" if over_fmr else "threshold", sort=False)
    for i, (value, rows) in enumerate(by_value):
        at = f"FMR {short(value, 3)}" if over_fmr else f"≥ {value:g}"
        for label, own, group in panels.split(rows, by, lang, colours):
            colour = own if by else COLOURS[i % len(COLOURS)]
            panels.line(ax, group, "period_start", "match_rate", colour, f"{at} {label}".strip())
    panels.dates(ax)
    ax.set_xlabel(text("date", lang))
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return 0


@panels.chart("req_key", "level", "threshold", "first_at", "last_at", "n_without_score")
def vendor_thresholds(frame: pd.DataFrame, ax: Any = None, lang: Lang = "en") -> Any:
    """Draw `va.scores.vendor_thresholds`: the four thresholds over time, one panel a req_key.

    Parameters
    ----------
    frame : DataFrame
        From `va.scores.vendor_thresholds`, with or without periods.
    ax : Axes or sequence of Axes, optional
        One a req_key; default a new figure.
    lang : {"en", "zh", "both"}

    Returns
    -------
    Axes or ndarray of Axes
        A line a level, from the first to the last answer of each regime; a change of regime is a
        rule with its date.

    Raises
    ------
    UsageError
        No complete regime with known times in the frame, or Axes do not fit.

    See Also
    --------
    match_rates : What passes at these thresholds.
    verifyanalytics.charts.stability.over_time : Whether the scores moved with them.

    Examples
    --------
    >>> import verifyanalytics as va
    >>> v = va.simulator.simulate_responses(200, seed=1).verifications
    >>> v = v[v["req_key"] == "cert_pro_src_verify"]
    >>> ax = va.charts.scores.vendor_thresholds(va.scores.vendor_thresholds(v))
    >>> ax.get_title(loc="left"), ax.get_ylabel()
    ('cert_pro_src_verify', 'threshold (score)')
    """
    timed = frame[frame["threshold"].notna() & frame["first_at"].notna()]
    if timed.empty:
        raise UsageError("the frame holds no regime with known times; nothing to draw")
    keys = panels.parts_by(timed, "req_key")
    axes = panels.panels(len(keys), ax, what="req_keys", height=3.1)
    first, last = timed["first_at"].min(), timed["last_at"].max()
    span = max(last - first, pd.Timedelta(hours=1))
    for one, part in zip(axes, keys, strict=True):
        _steps(one, part, lang)
        one.set_xlim(first - span * 0.02, last + span * 0.09)
    n = _answers(frame[frame["threshold"].isna() & (frame["level"] == THRESHOLD_LEVELS[0])])
    return panels.finish(axes, ax, "vendor_thresholds", lang, [_no_regime(n, lang)])


def _steps(ax: Any, part: pd.DataFrame, lang: Lang) -> None:
    for level, colour in zip(THRESHOLD_LEVELS, COLOURS, strict=False):
        rows = part[part["level"] == level].sort_values("first_at", kind="stable")
        spans = rows.groupby("regime", sort=False).agg(
            first=("first_at", "min"), last=("last_at", "max"), at=("threshold", "first")
        )
        for row in spans.itertuples():
            ax.plot([row.first, row.last], [row.at] * 2, color=colour, linewidth=2.2,
                    solid_capstyle="butt")  # fmt: skip
        last = rows.iloc[-1]
        ax.annotate(
            level, (last["last_at"], last["threshold"]), (5, 0), textcoords="offset points",
            va="center", fontsize=8.5, color=colour, parse_math=False,
        )  # fmt: skip
    low, high = part["threshold"].min(), part["threshold"].max()
    room = max(2.0, 0.08 * (high - low))
    ax.set_ylim(low - room, high + room)
    panels.dates(ax)
    ax.set_xlabel(text("date", lang))
    ax.set_ylabel(panels.lines("threshold", lang))
    changes = part.groupby("regime")["first_at"].min().sort_values().iloc[1:]
    for when in changes:
        ax.axvline(when, color=RULE, linewidth=0.8, linestyle=(0, (4, 2)))
    counts = _counts(part[part["level"] == THRESHOLD_LEVELS[0]], lang)
    notes = [text("change", lang, joint=" ", when=f"{when:%Y-%m-%d}") for when in changes[:3]]
    title = panels.word(part["req_key"].iloc[0], lang)
    panels.heading(ax, title, "\n".join([counts, *notes]))
