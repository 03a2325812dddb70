"""Verdicts: what each gate took, acceptance over time, and why answers were not accepted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import ticker

from verifyanalytics.charts import panels, rows
from verifyanalytics.charts.style import COLOURS, GREY, INK, RULE
from verifyanalytics.codebook.book import Lang
from verifyanalytics.errors import UsageError
from verifyanalytics.wording.names import name
from verifyanalytics.wording.numbers import percent
from verifyanalytics.wording.texts import say, text
from verifyanalytics.wording.words import Say, joined, plain

__all__ = ["acceptance_rate", "funnel", "reject_reasons"]

LOST, UNEXPLAINED, ACCEPTED = COLOURS[1], COLOURS[3], COLOURS[2]
"""What a gate took, what the gates do not explain, and the accepted."""

_PALE = "#d6e4ef"
_MOST_REASONS, _MOST_PANELS = 12, 6

_GATES = ("answered", "scored", "alive", "match", "risk")
_GATE_COLOURS = dict(
    zip((*_GATES, "unknown", "none"), (*COLOURS[4:6], *COLOURS[:3], GREY, UNEXPLAINED), strict=True)
)
"""A colour for each first gate; `none` is a rejection that the gates do not explain."""


@panels.chart("first_gate", "result", "n_rows")
def funnel(frame: pd.DataFrame, ax: Any = None, lang: Lang = "en") -> Any:
    """Draw `va.verdicts.funnel`: how many are left after each gate, and what each one took.

    Parameters
    ----------
    frame : DataFrame
        From `va.verdicts.funnel`; with `by`, one panel a group.
    ax : Axes or sequence of Axes, optional
        One a group; default a new figure.
    lang : {"en", "zh", "both"}

    Returns
    -------
    Axes or ndarray of Axes
        Pale: still there. Orange: turned away by this gate first. What the gates do not explain
        (all pass, result false; unknown; no verdict) has lines of its own before the accepted.

    Raises
    ------
    UsageError
        The frame has no row, or more groups than panels fit.

    See Also
    --------
    reject_reasons : The reasons behind the gates, down to the vendor's sub-codes.

    Examples
    --------
    >>> import verifyanalytics as va
    >>> v = va.simulator.simulate_responses(200, seed=1).verifications
    >>> ax = va.charts.verdicts.funnel(va.verdicts.funnel(v))
    >>> [label.get_text() for label in ax.get_yticklabels()][:3]
    ['all answers', 'not answered', 'no score']
    """
    if not frame["n_rows"].sum():
        raise UsageError("the frame holds no answer; nothing to draw")
    by = panels.groups(frame, "first_gate")
    parts = panels.split(frame, by, lang, panels.palette(frame, by, lang))
    if len(parts) > _MOST_PANELS:
        raise UsageError(f"{len(parts)} groups do not fit, {_MOST_PANELS} do; choose some")
    height = 4.2 if lang == "both" else 3.1
    axes = panels.panels(len(parts), ax, what="groups", height=height)
    for one, (label, _, part) in zip(axes, parts, strict=True):
        _steps(one, part, label, lang)
    return panels.finish(axes, ax, "funnel", lang, [text("of_all", lang)])


def _steps(ax: Any, part: pd.DataFrame, label: str, lang: Lang) -> None:
    steps = _losses(part)
    total = left = int(part["n_rows"].sum())
    ax.barh(0, total, color=_PALE, height=0.62)
    rows.note(ax, total, 0, f"{total:,}", 8.5, color=INK)
    for y, (step, n, despite) in enumerate(steps, start=1):
        left -= n
        colour = LOST if step in _GATES else UNEXPLAINED if step == "unexplained" else GREY
        ax.barh(y, left, color=_PALE, height=0.62)
        ax.barh(y, n, left=left, color=colour, height=0.62)
        words = f"−{n:,}  ({_share(n / total, lang)})" if n else "0"
        if despite:
            words += "  " + text("despite", lang, joint=" / ", n=despite)
        rows.note(ax, left + n, y, words, 8.5, color=INK)
    end = len(steps) + 1
    ax.barh(end, left, color=ACCEPTED, height=0.62)
    rows.note(ax, left, end, f"{left:,}  ({_share(left / total, lang)})", 8.5, color=INK)
    keys = ["all_answers", *(f"lost_{step}" for step, _, _ in steps), "accepted"]
    rows.label_rows(ax, [panels.lines(key, lang) for key in keys], room=0.55)
    ax.set_xlim(0, total * 1.28)
    ticks = ticker.MaxNLocator(nbins=5, integer=True).tick_values(0, total)
    ax.set_xticks([x for x in ticks if x <= total])
    ax.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))
    ax.grid(visible=False)
    ax.set_xlabel(text("answers", lang))
    panels.heading(ax, label, panels.counts_line(lang, n_answered_or_not=total))


def _share(rate: float, lang: Lang) -> str:
    return plain(percent(rate, tiny="bound"), lang)


def _losses(part: pd.DataFrame) -> list[tuple[str, int, int]]:
    """Name, rows lost and, of these, rows accepted all the same; in the order of the gates."""
    gate, decided = part["first_gate"], part["result"].notna()
    accepted = part["result"].fillna(value=False).astype(bool)
    where = {step: gate == step for step in (*_GATES, "unknown")}
    where["unexplained"] = (gate == "none") & decided & ~accepted
    where["no_verdict"] = (gate == "none") & ~decided
    losses = [
        (step, int(part.loc[here, "n_rows"].sum()), int(part.loc[here & accepted, "n_rows"].sum()))
        for step, here in where.items()
    ]
    return [(step, n, despite) for step, n, despite in losses if n or step in _GATES]


@panels.chart("acceptance_rate", "n_rows", "n_decided", "n_accepted")
def acceptance_rate(frame: pd.DataFrame, ax: Any = None, lang: Lang = "en") -> Any:
    """Draw `va.verdicts.acceptance_rate`: a line with its 95 % band, or a dot a group.

    Parameters
    ----------
    frame : DataFrame
        From `va.verdicts.acceptance_rate`. Groups of `by` have a colour each.
    ax : Axes, optional
    lang : {"en", "zh", "both"}

    Returns
    -------
    Axes
        Open circles are partial periods.

    Raises
    ------
    UsageError
        No rate in the frame.

    See Also
    --------
    funnel : What each gate took.

    Examples
    --------
    >>> import verifyanalytics as va
    >>> v = va.simulator.simulate_responses(200, seed=1).verifications
    >>> ax = va.charts.verdicts.acceptance_rate(va.verdicts.acceptance_rate(v, every="week"))
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('local date', 'acceptance rate')
    """
    rate, over_time = "acceptance_rate", "period" in frame
    rated = frame[frame[rate].notna()]
    if over_time:
        rated = rated[rated["period_start"].notna()]
    if rated.empty:
        raise UsageError("the frame holds no acceptance rate; nothing to draw")
    by = panels.groups(frame, "n_rows")
    parts = panels.split(rated, by, lang, panels.palette(rated, by, lang))
    notes = [text("limits", lang)]
    (one,) = axes = panels.panels(1, ax, height=3.0 if over_time else 2.0)
    if over_time:
        for label, colour, part in parts:
            # a band needs two periods
            panels.line(one, part, "period_start", rate, colour, label, bar=len(part) == 1)
        if rated["partial"].any():
            notes.append(text("partial", lang))
        one.set_ylabel(panels.lines(rate, lang))
        one.set_xlabel(text("date", lang))
        panels.dates(one)
        low, high = one.get_ylim()
        one.set_ylim(max(0.0, low), min(1.0, high))
        panels.percent(one.yaxis)
        if by:
            one.legend(loc="best")
    else:
        for y, (_, colour, part) in enumerate(parts):
            rows.dots(one, [y], part[:1], rate, colour, clip_on=False)
        rows.label_rows(one, [label for label, _, _ in parts], room=0.5)
        panels.percent(one.xaxis)
        one.set_xlabel(text(rate, lang))
    decided = int(rated["n_decided"].sum())
    undecided = int((frame["n_rows"] - frame["n_decided"]).sum())
    panels.heading(one, "", panels.counts_line(lang, n_decided=decided, n_undecided=undecided))
    return panels.finish(axes, ax, "acceptance", lang, notes)


@panels.chart("first_gate", "failing_gates", "n_rows", "n_not_accepted", "share")
def reject_reasons(
    frame: pd.DataFrame, ax: Any = None, lang: Lang = "en", top: int = _MOST_REASONS
) -> Any:
    """Draw `va.verdicts.reject_reasons`: the most frequent, coloured by first failing gate.

    Parameters
    ----------
    frame : DataFrame
        From `va.verdicts.reject_reasons` without `by`.
    ax : Axes, optional
    lang : {"en", "zh", "both"}
    top : int
        How many reasons; the chart says how many are left out.

    Returns
    -------
    Axes
        A bar a reason: its share of the answers that were not accepted, with its 95 % interval.

    Raises
    ------
    UsageError
        No reason in the frame, or it is split by groups.

    See Also
    --------
    funnel : The same rejections by their first failing gate.

    Examples
    --------
    >>> import verifyanalytics as va
    >>> v = va.simulator.simulate_responses(200, seed=1).verifications
    >>> ax = va.charts.verdicts.reject_reasons(va.verdicts.reject_reasons(v), top=3)
    >>> len(ax.get_yticklabels()), ax.get_xlabel()
    (3, 'share of the answers not accepted')
    """
    if frame.empty:
        raise UsageError("the frame holds no reason; nothing to draw")
    panels.refuse_groups(frame, "first_gate")
    shown, rest = frame.head(top), frame.iloc[top:]
    notes = [text("limits", lang)]
    if len(rest):
        left_out = int(rest["n_rows"].sum())
        notes.append(text("more_reasons", lang, n=len(rest), rows=left_out))
    each = 0.44 if lang == "both" else 0.32
    (one,) = axes = panels.panels(1, ax, height=1.0 + each * len(shown))
    _bars(one, shown, lang)
    total = int(frame["n_not_accepted"].iloc[0])
    panels.heading(one, "", panels.counts_line(lang, n_not_accepted=total))
    return panels.finish(axes, ax, "reasons", lang, notes)


def _bars(ax: Any, shown: pd.DataFrame, lang: Lang) -> None:
    y = np.arange(len(shown))
    gates, shares = shown["first_gate"].to_numpy(), shown["share"].to_numpy()
    for gate in dict.fromkeys(gates):
        at = gates == gate
        ax.barh(
            y[at], shares[at], color=_GATE_COLOURS[gate], height=0.6, alpha=0.85,
            label=text(f"lost_{'unexplained' if gate == 'none' else gate}", lang),
        )  # fmt: skip
    ax.hlines(y, shown["share_low"], shown["share_high"], color=INK, linewidth=1.0)
    ends = np.maximum(shown["share_high"].to_numpy(), shares)
    for at, end, n in zip(y, ends, shown["n_rows"], strict=True):
        rows.note(ax, end, at, f"{n:,}")
    reasons = [_reason(row) for row in shown.itertuples()]
    names = []
    for reason, row in zip(reasons, shown.itertuples(), strict=True):
        words, codes = reason
        if reasons.count(reason) > 1:  # reasons of one code are told apart by their gates
            each = zip(words, _gates(row), strict=True)
            words, codes = Say(*(f"{one}{codes}: {gates}" for one, gates in each)), ""
        names.append(plain(words, lang, "\n") + codes)
    rows.label_rows(ax, names)
    ax.set_xlim(0, float(np.nanmax(ends)) * 1.12)
    panels.percent(ax.xaxis)
    ax.spines["left"].set_color(RULE)
    ax.set_xlabel(panels.lines("share_not_accepted", lang))
    ax.legend(loc="lower right", handlelength=1.0)


def _reason(row: Any) -> tuple[Say, str]:
    """Name a reason: the gates that failed, or what the code book says, and its codes."""
    has_sub_code = pd.notna(row.sub_code) and row.sub_code != 0
    if row.first_gate not in ("answered", "scored") and not has_sub_code:
        return _gates(row), ""
    codes = [name(row.gateway_code, panels.TAG) or row.code, row.sub_code if has_sub_code else None]
    spelt = "/".join(str(code) for code in codes if pd.notna(code))
    meaning = Say(name(row.meaning, panels.GLOSS), name(row.meaning_zh, panels.GLOSS))
    return meaning, f" ({spelt})" if spelt else ""


def _gates(row: Any) -> Say:
    """Name the gates that failed; a single one is called `only` that gate."""
    if not row.failing_gates:
        return say("lost_unexplained" if row.first_gate == "none" else "lost_unknown")
    gates = [say(f"lost_{gate}") for gate in row.failing_gates.split("+")]
    return joined(gates, " + ", " + ") if len(gates) > 1 else say("only", gate=gates[0])
