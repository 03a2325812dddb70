"""Drift: each column's stability index against its limit, at once or over time with events."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import dates as mdates

from verifyanalytics.charts import panels
from verifyanalytics.charts.sentences import lines
from verifyanalytics.charts.style import COLOURS, GREY, style, usable
from verifyanalytics.codebook.book import Lang
from verifyanalytics.errors import UsageError
from verifyanalytics.wording.names import name
from verifyanalytics.wording.texts import text as say

__all__ = ["drift", "over_time"]

_FLOOR = 1e-4


def _limit(frame: pd.DataFrame) -> Any:
    return np.maximum(0.1, frame["critical"].to_numpy(dtype=float))


def drift(frame: pd.DataFrame, ax: Any = None, lang: str = "en") -> Any:
    """Draw `va.stability.drift`: the PSI of each column against its limit, a panel a regime.

    Parameters
    ----------
    frame : DataFrame
        From `va.stability.drift`.
    ax : sequence of Axes, optional
        One a regime.
    lang : {"en", "zh", "both"}

    Returns
    -------
    Axes or ndarray of Axes
        Orange dots are alerts, ticks their limits, hollow dots smoothed.

    Raises
    ------
    UsageError
        No regime is in both periods.
    """
    panels.needs(frame, "regime", "column", "psi", "critical")
    chosen, held = usable(lang), frame[frame["psi"].notna()]
    regimes = list(dict.fromkeys(held["regime"]))
    if not regimes:
        raise UsageError("no regime with rows in both periods; nothing to draw")
    with style():
        most = int(held.groupby("regime").size().max())
        axes = panels.panels(len(regimes), ax, what="regimes", height=1.5 + 0.3 * most)
        for one, regime in zip(axes, regimes, strict=True):
            _columns(one, held[held["regime"] == regime].reset_index(drop=True), regime, chosen)
        panels.finish(axes, ax is None, lines("drift", chosen), _notes(held, chosen))
    return panels.returned(axes)


def _notes(held: pd.DataFrame, lang: Lang) -> list[str]:
    notes = [lines("critical", lang)]
    return [*notes, lines("smoothed", lang)] if (held["smoothing"] > 0).any() else notes


def _columns(ax: Any, part: pd.DataFrame, regime: str, lang: Lang) -> None:
    y = np.arange(len(part))
    value = np.maximum(part["psi"].to_numpy(dtype=float), _FLOOR)
    ax.set_xscale("log")
    ax.plot(_limit(part), y, "|", color=GREY, markersize=14, markeredgewidth=1.6)
    for i, row in enumerate(part.itertuples()):
        colour = COLOURS[1] if row.alert else COLOURS[0]
        filled = "white" if row.smoothing else colour
        ax.plot([value[i]], [i], "o", color=colour, mfc=filled, markersize=6)
    ax.set_yticks(y, [name(column) for column in part["column"]])
    for label in ax.get_yticklabels():
        label.set_parse_math(False)
    ax.set_ylim(len(part) - 0.4, -0.6)
    ax.set_xlim(min(value.min(), 0.01) / 1.6, max(value.max(), _limit(part).max()) * 1.8)
    ax.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
    ax.grid(visible=True, axis="x")
    ax.grid(visible=False, axis="y")
    ax.set_xlabel(say("psi", lang))
    n, m = int(part["n_reference"].max()), int(part["n_current"].max())
    title = "" if regime == "not told" else panels.regime(regime, lang)
    panels.heading(ax, title, panels.both(lang, lambda one: say("n_periods", one, a=n, b=m)))


def over_time(
    frame: pd.DataFrame,
    ax: Any = None,
    lang: str = "en",
    column: str = "score",
    events: pd.DataFrame | None = None,
) -> Any:
    """Draw `va.stability.over_time`: the PSI of one column by period, with changes of regime.

    Parameters
    ----------
    frame : DataFrame
        From `va.stability.over_time`.
    ax : sequence of Axes, optional
        One a request kind: its regimes follow each other in one panel, a colour each.
    lang : {"en", "zh", "both"}
    column : str
        Which column of the frame.
    events : DataFrame, optional
        From `va.stability.regime_changes`: rules where thresholds changed.

    Returns
    -------
    Axes or ndarray of Axes
        Dots above the stepped limit are alerts, ringed in orange; periods that are not compared
        have no dot.

    Raises
    ------
    UsageError
        The column is not there, or no period could be compared.
    """
    panels.needs(frame, "regime", "column", "period_start", "psi")
    chosen = usable(lang)
    mine = frame[(frame["column"] == column) & frame["period_start"].notna()]
    held = mine[mine["psi"].notna()]
    if not len(held):
        raise UsageError(f"no period of {column!r} could be compared; nothing to draw")
    kinds = list(dict.fromkeys(held["regime"].str.rsplit(n=1).str[0]))
    with style():
        axes = panels.panels(len(kinds), ax, what="request kinds", height=3.3, columns=1)
        for one, kind in zip(axes, kinds, strict=True):
            _timeline(one, mine, kind, chosen)
            count = _events(one, events, kind, chosen)
            part = mine[mine["regime"].str.rsplit(n=1).str[0] == kind]
            title = f"{name(column)} · {panels.regime(kind, chosen)}"
            _told(one, part, title, chosen, count)
        panels.finish(axes, ax is None, lines("drift_over_time", chosen), _notes(held, chosen))
    return panels.returned(axes)


def _timeline(ax: Any, mine: pd.DataFrame, kind: str, lang: Lang) -> None:
    part = mine[mine["regime"].str.rsplit(n=1).str[0] == kind]
    for i, (regime, rows) in enumerate(part.groupby("regime", sort=False)):
        told = rows[rows["psi"].notna()]
        if not len(told):
            continue
        colour, x = COLOURS[(0, 2, 3, 5)[i % 4]], told["period_start"]
        ax.plot(x, _limit(told), color=colour, linewidth=0.9, linestyle=(0, (4, 2)),
                drawstyle="steps-mid")  # fmt: skip
        ax.plot(x, told["psi"], color=colour, marker="o", label=name(regime.rsplit(maxsplit=1)[-1]))
        hollow = told[told["smoothing"] > 0]
        ax.plot(hollow["period_start"], hollow["psi"], "o", color=colour, mfc="white")
        loud = told[told["alert"]]
        ax.plot(loud["period_start"], loud["psi"], "o", mfc="none", color=COLOURS[1], markersize=11,
                markeredgewidth=1.6)  # fmt: skip
    ends = part["period_start"]
    margin = (ends.max() - ends.min()) * 0.03 + pd.Timedelta(hours=12)
    ax.set_xlim(ends.min() - margin, ends.max() + margin)
    ax.set_ylim(bottom=0)
    panels.dates(ax)
    ax.set_ylabel(say("psi", lang, joint="\n"))
    ax.set_xlabel(say("date", lang))
    ax.legend(loc="best", fontsize=7.5)


def _events(ax: Any, events: pd.DataFrame | None, kind: str, lang: Lang) -> int:
    """Draw the changes of this request kind; return how many lines their labels take."""
    if events is None:
        return 0
    mine = events[(events["req_key"] == kind) & (events["kind"] == "changed")]
    if not len(mine):
        return 0
    when = [mdates.date2num(at.tz_localize(None)) for at in mine["changed_from"]]
    label = lines("changed", lang)
    return panels.rules(ax, when, [label] * len(when))


def _told(ax: Any, part: pd.DataFrame, title: str, lang: Lang, n_lines: int) -> None:
    told = part[part["psi"].notna()]["n_current"]
    skipped = int(part.loc[part["psi"].isna(), "period"].nunique())
    ends: dict[str, Any] = {"a": int(told.min()), "b": int(told.max()), "c": skipped}
    panels.heading(
        ax, title, panels.both(lang, lambda one: say("per_period", one, **ends)), n_lines
    )
