"""Scores against thresholds: distributions, match rates, and when the vendor moved thresholds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import ticker

from verifyanalytics.charts import panels
from verifyanalytics.charts.style import COLOURS, style, usable
from verifyanalytics.codebook.book import Lang
from verifyanalytics.errors import UsageError
from verifyanalytics.schema import THRESHOLD_COLUMNS, THRESHOLD_LEVELS
from verifyanalytics.wording.texts import text

__all__ = ["histogram", "match_rates", "vendor_thresholds"]


def histogram(frame: pd.DataFrame, ax: Any = None, lang: str = "en") -> Any:
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


_LEVELS = tuple(float(level) for level in THRESHOLD_LEVELS)
_FEW = 12  # up to so many points are marked


def match_rates(frame: pd.DataFrame, ax: Any = None, lang: str = "en") -> Any:
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
        No rate in the frame, or Axes do not fit its regimes.
    """
    panels.needs(frame, "regime", "threshold", "nominal_fmr", "match_rate")
    usable_lang = usable(lang)
    rated = frame[frame["match_rate"].notna()]
    if rated.empty:
        raise UsageError("the frame holds no match rate; nothing to draw")
    by = panels.groups(frame, "regime")
    over_time = "period" in frame
    over_fmr = not over_time and bool(
        rated["nominal_fmr"].isin(_LEVELS).all() or (rated["regime"] == "all").all()
    )
    regimes = [rated] if over_fmr else [part for _, part in rated.groupby("regime", sort=False)]
    colours = panels.palette(rated, [*by, *(["regime"] if over_fmr else [])], usable_lang)
    draw = _over_time if over_time else _over_fmr if over_fmr else _over_scores
    with style():
        axes = panels.panels(len(regimes), ax, what="regimes", height=3.1)
        for one, part in zip(axes, regimes, strict=True):
            draw(one, part, by, usable_lang, colours)
        notes = [text("limits", usable_lang), _no_regime(frame, by, usable_lang)]
        if over_time and frame["partial"].any():
            notes.insert(1, text("partial", usable_lang))
        panels.finish(axes, ax is None, text("match_rates", usable_lang, joint="\n"), notes)
    return panels.returned(axes)


def _no_regime(frame: pd.DataFrame, by: list[str], lang: Lang) -> str:
    rest = frame[frame["reason"] == "incomplete_regime"]
    keys = [*by, *(["period"] if "period" in frame else [])]
    once = rest.drop_duplicates(keys) if keys else rest.iloc[:1]
    n = int((once["n"] - once["n_withheld"] + once["n_without_score"]).sum())
    return text("no_regime", lang, n=n) if n else ""


def _curve(ax: Any, x: Any, part: pd.DataFrame, colour: str, label: str, points: bool) -> None:
    ax.fill_between(
        x, part["match_rate_low"], part["match_rate_high"], color=colour, alpha=0.18, linewidth=0
    )
    ax.plot(x, part["match_rate"], color=colour, label=label or None, marker="o" if points else "")


def _over_scores(
    ax: Any, part: pd.DataFrame, by: list[str], lang: Lang, colours: panels.Palette
) -> None:
    for label, colour, group in panels.split(part, by, lang, colours):
        _curve(ax, group["threshold"], group, colour, label, len(group) <= _FEW)
    low, high = part["threshold"].min(), part["threshold"].max()
    ax.set_xlim(*((low, high) if high > low else (low - 1, high + 1)))
    _rate_axis(ax)
    ax.set_xlabel(text("threshold", lang))
    ax.set_ylabel(text("match_rate", lang, joint="\n"))
    if by:
        ax.legend(loc="lower left")
    where = _vendor_points(part)
    labels = [f"{level}\n{point:g}" for level, point in where.items()]
    lines = panels.rules(ax, list(where.values()), labels)
    regime = panels.regime(part["regime"].iloc[0], lang)
    panels.heading(ax, regime, _counts_thresholds(part, by, lang), lines)


def _vendor_points(part: pd.DataFrame) -> dict[str, float]:
    """Read the vendor's thresholds off the frame's claims, which are log-linear between them."""
    claim = part.dropna(subset="nominal_fmr").drop_duplicates("threshold")
    depth = -np.log10(claim["nominal_fmr"].to_numpy(dtype=float))
    score = claim["threshold"].to_numpy(dtype=float)
    found = {}
    for level in THRESHOLD_LEVELS:
        at = -np.log10(float(level))
        if len(depth) and depth.min() - 1e-9 <= at <= depth.max() + 1e-9:
            found[level] = float(np.round(np.interp(at, depth, score), 6))
    return found


def _over_fmr(
    ax: Any, part: pd.DataFrame, by: list[str], lang: Lang, colours: panels.Palette
) -> None:
    several = part["regime"].nunique() > 1
    for label, colour, group in panels.split(part, [*by, "regime"], lang, colours):
        ordered = group.sort_values("nominal_fmr", ascending=False)
        name = label if several else ", ".join(label.split(", ")[:-1])
        _curve(ax, ordered["nominal_fmr"], ordered, colour, name, points=True)
    ax.set_xscale("log")
    ax.set_xlim(1.35e-3, 0.74e-6)
    ax.xaxis.set_major_locator(ticker.FixedLocator(_LEVELS))
    ax.xaxis.set_major_formatter(ticker.FixedFormatter(THRESHOLD_LEVELS))
    ax.xaxis.set_minor_locator(ticker.NullLocator())
    _rate_axis(ax)
    ax.set_xlabel(text("nominal_fmr", lang))
    ax.set_ylabel(text("match_rate", lang, joint="\n"))
    if several or by:
        ax.legend(loc="lower left")
    title = "" if several else panels.regime(part["regime"].iloc[0], lang)
    panels.heading(ax, title, _counts_thresholds(part, [*by, "regime"], lang))


def _over_time(
    ax: Any, part: pd.DataFrame, by: list[str], lang: Lang, colours: panels.Palette
) -> None:
    timed = part[part["period_start"].notna()]
    at = "nominal_fmr" if timed["threshold"].isna().all() else "threshold"
    sign, spell = ("FMR", _fmr) if at == "nominal_fmr" else ("≥", "{:g}".format)
    for i, (value, line) in enumerate(timed.groupby(at, sort=False)):
        for label, own, group in panels.split(line, by, lang, colours):
            colour = own if by else COLOURS[i % len(COLOURS)]
            name = f"{sign} {spell(value)} {label}".strip()
            _curve(ax, group["period_start"], group, colour, name, points=True)
            partial = group[group["partial"]]
            ax.plot(partial["period_start"], partial["match_rate"], "o", color=colour, mfc="white")
    panels.dates(ax)
    _rate_axis(ax)
    ax.set_xlabel(text("date", lang))
    ax.set_ylabel(text("match_rate", lang, joint="\n"))
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    title = panels.regime(part["regime"].iloc[0], lang)
    panels.heading(ax, title, _counts_thresholds(part, [*by, "period"], lang))


def _fmr(value: float) -> str:
    """Write a rate as the vendor does: 1e-4."""
    digits, exponent = f"{value:.2e}".split("e")
    return f"{float(digits):g}e{int(exponent)}"


def _rate_axis(ax: Any) -> None:
    low, high = ax.get_ylim()
    ax.set_ylim(max(0.0, low), min(1.0, high) if high > 1 else high)
    panels.percent(ax.yaxis, ax.get_ylim())


def _counts_thresholds(part: pd.DataFrame, by: list[str], lang: Lang) -> str:
    once = part.drop_duplicates(by) if by else part.iloc[:1]
    return panels.counts_line(
        lang,
        ("n_compared", int(once["n"].sum())),
        ("n_without_score", int(once["n_without_score"].sum())),
    )


def vendor_thresholds(frame: pd.DataFrame, ax: Any = None, lang: str = "en") -> Any:
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
    """
    panels.needs(frame, "req_key", "level", "threshold", "first_at")
    usable_lang = usable(lang)
    held = frame[frame["threshold"].notna() & frame["first_at"].notna()]
    if held.empty:
        raise UsageError("the frame holds no regime with known times; nothing to draw")
    with style():
        keys = [part for _, part in held.groupby("req_key", sort=False)]
        axes = panels.panels(len(keys), ax, what="req_keys", height=3.1)
        for one, part in zip(axes, keys, strict=True):
            _steps(one, part, usable_lang)
        span = held["first_at"].min(), held["last_at"].max()
        for one in axes:
            one.set_xlim(*_padded(*span))
        rest = frame[frame["threshold"].isna() & (frame["level"] == THRESHOLD_LEVELS[0])]
        n = int((rest["n"] - rest["n_withheld"] + rest["n_without_score"]).sum())
        notes = [text("no_regime", usable_lang, n=n)] if n else []
        panels.finish(axes, ax is None, text("vendor_thresholds", usable_lang, joint="\n"), notes)
    return panels.returned(axes)


def _padded(first: pd.Timestamp, last: pd.Timestamp) -> tuple[pd.Timestamp, pd.Timestamp]:
    span = max(last - first, pd.Timedelta(hours=1))
    return first - span * 0.02, last + span * 0.09


def _steps(ax: Any, part: pd.DataFrame, lang: Lang) -> None:
    for level, colour in zip(THRESHOLD_LEVELS, COLOURS, strict=False):
        rows = part[part["level"] == level].sort_values("first_at", kind="stable")
        held = rows.groupby("regime", sort=False).agg(
            first=("first_at", "min"), last=("last_at", "max"), at=("threshold", "first")
        )
        for row in held.itertuples():
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
    ax.set_ylabel(text("threshold", lang, joint="\n"))
    first = part.groupby("regime")["first_at"].min().sort_values()
    changes = list(first.iloc[1:])
    labels = [text("change", lang, joint=" ", when=f"{when:%Y-%m-%d}") for when in changes]
    for when in changes:
        ax.axvline(when, color="#9a9a9a", linewidth=0.8, linestyle=(0, (4, 2)))
    once = part[part["level"] == THRESHOLD_LEVELS[0]]
    counted = panels.counts_line(
        lang,
        ("n_compared", int(once["n"].sum())),
        ("n_without_score", int(once["n_without_score"].sum())),
    )
    lines = "\n".join([counted, *labels[:3]])
    panels.heading(ax, panels.word(part["req_key"].iloc[0], lang), lines)
