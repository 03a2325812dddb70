"""Decisions: what became of everybody, gate by gate, over time, and for which reasons."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import ticker

from verifyanalytics.charts import panels
from verifyanalytics.charts.style import COLOURS, GREY, INK, RULE, style, usable
from verifyanalytics.codebook.book import Lang
from verifyanalytics.errors import UsageError
from verifyanalytics.wording.names import name
from verifyanalytics.wording.texts import text

__all__ = ["acceptance_rate", "funnel", "reject_reasons"]

_BLUE, _ORANGE, _GREEN, _PINK = COLOURS[0], COLOURS[1], COLOURS[2], COLOURS[3]
_PALE = "#d6e4ef"
_MOST_REASONS, _MOST_PANELS = 12, 6

_GATES = ("answered", "scored", "alive", "match", "risk")
_GATE_COLOURS = dict(
    zip((*_GATES, "unknown", "none"), (*COLOURS[4:6], *COLOURS[:3], GREY, _PINK), strict=True)
)
"""A colour for each first gate; `none` is a rejection that the gates do not explain."""


# ------------------------------------------------------------------ funnel


def funnel(frame: pd.DataFrame, ax: Any = None, lang: str = "en") -> Any:
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
    """
    panels.needs(frame, "first_gate", "result", "n_rows")
    usable_lang = usable(lang)
    if not frame["n_rows"].sum():
        raise UsageError("the frame holds no answer; nothing to draw")
    by = panels.groups(frame, "first_gate")
    parts = panels.split(frame, by, usable_lang, panels.palette(frame, by, usable_lang))
    if len(parts) > _MOST_PANELS:
        raise UsageError(f"{len(parts)} groups do not fit, {_MOST_PANELS} do; choose some")
    with style():
        height = 4.2 if usable_lang == "both" else 3.1
        axes = panels.panels(len(parts), ax, what="groups", height=height)
        for one, (label, _, part) in zip(axes, parts, strict=True):
            _steps(one, part, label, usable_lang)
        notes = [text("of_all", usable_lang)]
        panels.finish(axes, ax is None, text("funnel", usable_lang, joint="\n"), notes)
    return panels.returned(axes)


def _steps(ax: Any, part: pd.DataFrame, label: str, lang: Lang) -> None:
    steps = _losses(part)
    total = left = int(part["n_rows"].sum())
    names = [text("all_answers", lang, joint="\n")]
    ax.barh(0, total, color=_PALE, height=0.62)
    ax.annotate(f"{total:,}", (total, 0), (4, 0), textcoords="offset points", va="center",
                fontsize=8.5)  # fmt: skip
    for y, (step, n, despite) in enumerate(steps, start=1):
        left -= n
        colour = _ORANGE if step in _GATES else _PINK if step == "unexplained" else GREY
        ax.barh(y, left, color=_PALE, height=0.62)
        ax.barh(y, n, left=left, color=colour, height=0.62)
        told = f"−{n:,}  ({panels.share(n / total, lang)})" if n else "0"
        if despite:
            told += "  " + text("despite", lang, joint=" / ", n=despite)
        ax.annotate(told, (left + n, y), (4, 0), textcoords="offset points", va="center",
                    fontsize=8.5)  # fmt: skip
        names.append(text(f"lost_{step}", lang, joint="\n"))
    ax.barh(len(steps) + 1, left, color=_GREEN, height=0.62)
    ax.annotate(f"{left:,}  ({panels.share(left / total, lang)})", (left, len(steps) + 1), (4, 0),
                textcoords="offset points", va="center", fontsize=8.5)  # fmt: skip
    names.append(text("accepted", lang, joint="\n"))
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.45, -0.55)
    ax.set_xlim(0, total * 1.28)
    ticks = ticker.MaxNLocator(nbins=5, integer=True).tick_values(0, total)
    ax.set_xticks([x for x in ticks if x <= total])
    ax.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))
    ax.grid(visible=False)
    ax.set_xlabel(text("answers", lang))
    panels.heading(ax, label, panels.counts_line(lang, ("n_answered_or_not", total)))


def _losses(part: pd.DataFrame) -> list[tuple[str, int, int]]:
    """Name, rows lost and, of these, rows accepted all the same; in the order of the gates."""
    accepted = part["result"].fillna(value=False).astype(bool)
    decided = part["result"].notna()
    found = []
    for gate in _GATES:
        here = part["first_gate"] == gate
        found.append((gate, _sum(part, here), _sum(part, here & accepted)))
    passes = part["first_gate"] == "none"
    unknown = part["first_gate"] == "unknown"
    found += [
        ("unknown", _sum(part, unknown), _sum(part, unknown & accepted)),
        ("unexplained", _sum(part, passes & decided & ~accepted), 0),
        ("no_verdict", _sum(part, passes & ~decided), 0),
    ]
    return [(step, n, despite) for step, n, despite in found if n or step in _GATES]


def _sum(part: pd.DataFrame, where: pd.Series) -> int:
    return int(part.loc[where, "n_rows"].sum())


# ------------------------------------------------------------------ acceptance


def acceptance_rate(frame: pd.DataFrame, ax: Any = None, lang: str = "en") -> Any:
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
    """
    panels.needs(frame, "acceptance_rate", "n_rows", "n_decided")
    usable_lang = usable(lang)
    rated = frame[frame["acceptance_rate"].notna()]
    over_time = "period" in frame
    if over_time:
        rated = rated[rated["period_start"].notna()]
    if rated.empty:
        raise UsageError("the frame holds no acceptance rate; nothing to draw")
    by = panels.groups(frame, "n_rows")
    colours = panels.palette(rated, by, usable_lang)
    notes = [text("limits", usable_lang)]
    with style():
        (one,) = panels.panels(1, ax, what="charts", height=3.0 if over_time else 2.0)
        parts = panels.split(rated, by, usable_lang, colours)
        if over_time:
            for label, colour, part in parts:
                _line(one, part, colour, label)
            if rated["partial"].any():
                notes.append(text("partial", usable_lang))
            one.set_ylabel(text("acceptance_rate", usable_lang, joint="\n"))
            one.set_xlabel(text("date", usable_lang))
            panels.dates(one)
            low, high = one.get_ylim()
            one.set_ylim(max(0.0, low), min(1.0, high))
            panels.percent(one.yaxis, one.get_ylim())
            if by:
                one.legend(loc="best")
        else:
            _dots(one, parts, usable_lang)
        counted = panels.counts_line(
            usable_lang,
            ("n_decided", int(rated["n_decided"].sum())),
            ("n_undecided", int((frame["n_rows"] - frame["n_decided"]).sum())),
        )
        panels.heading(one, "", counted)
        panels.finish([one], ax is None, text("acceptance", usable_lang, joint="\n"), notes)
    return one


def _line(ax: Any, part: pd.DataFrame, colour: str, label: str) -> None:
    x = part["period_start"]
    low, high = part["acceptance_rate_low"], part["acceptance_rate_high"]
    if len(part) > 1:
        ax.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
    else:
        ax.vlines(x, low, high, color=colour, linewidth=1.4)
    ax.plot(x, part["acceptance_rate"], color=colour, marker="o", label=label or None)
    partial = part[part["partial"]]
    ax.plot(partial["period_start"], partial["acceptance_rate"], "o", color=colour, mfc="white")


def _dots(ax: Any, parts: list[tuple[str, str, Any]], lang: Lang) -> None:
    for y, (_, colour, part) in enumerate(parts):
        row = part.iloc[0]
        ax.hlines(y, row["acceptance_rate_low"], row["acceptance_rate_high"], color=colour,
                  linewidth=1.4)  # fmt: skip
        ax.plot(row["acceptance_rate"], y, "o", color=colour, clip_on=False)
    ax.set_yticks(range(len(parts)), [label for label, _, _ in parts])
    for label in ax.get_yticklabels():
        label.set_parse_math(False)
    ax.set_ylim(len(parts) - 0.5, -0.5)
    ax.grid(axis="x")
    ax.grid(visible=False, axis="y")
    panels.percent(ax.xaxis, ax.get_xlim())
    ax.set_xlabel(text("acceptance_rate", lang))


# ------------------------------------------------------------------ reasons


def reject_reasons(
    frame: pd.DataFrame, ax: Any = None, lang: str = "en", top: int = _MOST_REASONS
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
    """
    panels.needs(frame, "first_gate", "failing_gates", "n_not_accepted", "share")
    usable_lang = usable(lang)
    if frame.empty:
        raise UsageError("the frame holds no reason; nothing to draw")
    if by := panels.groups(frame, "first_gate"):
        raise UsageError(f"the frame is split by {', '.join(by)}: choose one group")
    rows = frame.head(top)
    notes = [text("limits", usable_lang)]
    if len(frame) > len(rows):
        rest = frame.iloc[len(rows) :]
        notes.append(text("more_reasons", usable_lang, n=len(rest), rows=int(rest["n_rows"].sum())))
    with style():
        each = 0.44 if usable_lang == "both" else 0.32
        (one,) = panels.panels(1, ax, what="charts", height=1.0 + each * len(rows))
        _bars(one, rows, usable_lang)
        total = int(frame["n_not_accepted"].iloc[0])
        panels.heading(one, "", panels.counts_line(usable_lang, ("n_not_accepted", total)))
        panels.finish([one], ax is None, text("reasons", usable_lang, joint="\n"), notes)
    return one


def _bars(ax: Any, rows: pd.DataFrame, lang: Lang) -> None:
    y = np.arange(len(rows))
    gates = rows["first_gate"].to_numpy()
    for gate in dict.fromkeys(gates):
        at = gates == gate
        ax.barh(
            y[at], rows["share"].to_numpy()[at], color=_GATE_COLOURS[gate], height=0.6, alpha=0.85,
            label=text(f"lost_{'unexplained' if gate == 'none' else gate}", lang),
        )  # fmt: skip
    ax.hlines(y, rows["share_low"], rows["share_high"], color=INK, linewidth=1.0)
    ends = np.maximum(rows["share_high"].to_numpy(), rows["share"].to_numpy())
    for at, end, n in zip(y, ends, rows["n_rows"], strict=True):
        ax.annotate(f"{n:,}", (end, at), (4, 0), textcoords="offset points", va="center",
                    fontsize=8, color=GREY)  # fmt: skip
    ax.set_yticks(y, _reasons(rows, lang))
    for label in ax.get_yticklabels():
        label.set_parse_math(False)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlim(0, float(np.nanmax(ends)) * 1.12)
    panels.percent(ax.xaxis, ax.get_xlim())
    ax.spines["left"].set_color(RULE)
    ax.grid(axis="x")
    ax.grid(visible=False, axis="y")
    ax.set_xlabel(text("share_not_accepted", lang, joint="\n"))
    ax.legend(loc="lower right", handlelength=1.0)


def _reasons(rows: pd.DataFrame, lang: Lang) -> list[str]:
    """Name each reason; where two have the same name, with the gates that tell them apart."""
    found = [_reason(row, lang) for row in rows.itertuples()]
    return [
        _with_gates(row, lang) if found.count(reason) > 1 else reason
        for reason, row in zip(found, rows.itertuples(), strict=True)
    ]


def _with_gates(row: Any, lang: Lang) -> str:
    return panels.both(lang, lambda one: f"{_reason(row, one)}: {_gates(row, one)}")


def _reason(row: Any, lang: Lang) -> str:
    """Name a reason: the gates that failed, or what the code book says, with the codes."""
    told = pd.notna(row.sub_code) and row.sub_code != 0
    if row.first_gate not in ("answered", "scored") and not told:
        return panels.both(lang, lambda one: _gates(row, one))
    codes = [name(row.gateway_code, panels.TAG) or row.code, row.sub_code if told else None]
    spelt = "/".join(str(code) for code in codes if pd.notna(code))
    words = {"en": row.meaning, "zh": row.meaning_zh}
    named = panels.both(lang, lambda one: name(words[one], panels.GLOSS))
    return f"{named} ({spelt})" if spelt else named


def _gates(row: Any, lang: Lang) -> str:
    """Name the gates that failed; those who failed one and no other are `only` there."""
    if not row.failing_gates:
        return text("lost_unexplained" if row.first_gate == "none" else "lost_unknown", lang)
    gates = [text(f"lost_{gate}", lang) for gate in row.failing_gates.split("+")]
    return " + ".join(gates) if len(gates) > 1 else text("only", lang, gate=gates[0])
