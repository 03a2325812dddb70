"""Drift: each column's stability index against its limit, at once or over time with events."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import dates as mdates

from verifyanalytics.charts import panels, rows
from verifyanalytics.charts.style import COLOURS, GREY
from verifyanalytics.codebook.book import Lang
from verifyanalytics.errors import UsageError
from verifyanalytics.wording.names import name
from verifyanalytics.wording.texts import text

__all__ = ["drift", "over_time"]

_FLOOR = 1e-4
"""Smaller values stand here: a logarithmic axis has no place for 0."""


def _limit(frame: pd.DataFrame) -> Any:
    return np.maximum(0.1, frame["critical"].to_numpy(dtype=float))


@panels.chart("regime", "column", "psi", "critical", "alert", "smoothing")
def drift(frame: pd.DataFrame, ax: Any = None, lang: Lang = "en") -> Any:
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

    See Also
    --------
    over_time : One column by period.

    Examples
    --------
    >>> import verifyanalytics as va
    >>> v = va.simulator.simulate_responses(400, seed=1).verifications
    >>> v = v.query("req_key == 'cert_pro_src_verify' and threshold_1e_4 == 70")
    >>> table = va.stability.drift(v[:100], v[100:200], ["score", "risk_score"])
    >>> va.charts.stability.drift(table).get_xlabel()
    'PSI (population stability index)'
    """
    compared = frame[frame["psi"].notna()]
    regimes = panels.parts_by(compared, "regime")
    if not regimes:
        raise UsageError("no regime with rows in both periods; nothing to draw")
    height = 1.5 + 0.3 * max(len(part) for part in regimes)
    axes = panels.panels(len(regimes), ax, what="regimes", height=height)
    for one, part in zip(axes, regimes, strict=True):
        _columns(one, part, lang)
    return panels.finish(axes, ax, "drift", lang, _notes(compared, lang))


def _notes(compared: pd.DataFrame, lang: Lang) -> list[str]:
    smoothed = (compared["smoothing"] > 0).any()
    return [panels.lines(key, lang) for key in ("critical", *(["smoothed"] if smoothed else []))]


def _columns(ax: Any, part: pd.DataFrame, lang: Lang) -> None:
    y, regime = np.arange(len(part)), part["regime"].iloc[0]
    part = part.assign(psi=part["psi"].clip(lower=_FLOOR))
    ax.set_xscale("log")
    ax.plot(_limit(part), y, "|", color=GREY, markersize=14, markeredgewidth=1.6)
    for alert, colour in ((False, COLOURS[0]), (True, COLOURS[1])):
        here = (part["alert"] == alert).to_numpy()
        hollow = part["smoothing"][here] > 0
        rows.dots(ax, y[here], part[here], "psi", colour, hollow=hollow, markersize=6)
    rows.label_rows(ax, [name(column) for column in part["column"]])
    low, high = part["psi"].min(), part["psi"].max()
    ax.set_xlim(min(low, 0.01) / 1.6, max(high, _limit(part).max()) * 1.8)
    ax.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
    ax.set_xlabel(text("psi", lang))
    n, m = int(part["n_reference"].max()), int(part["n_current"].max())
    title = "" if regime == "not told" else panels.regime(regime, lang)
    panels.heading(ax, title, panels.lines("n_periods", lang, a=n, b=m))


@panels.chart("regime", "column", "psi", "critical", "alert", "smoothing", "period_start")
def over_time(
    frame: pd.DataFrame,
    ax: Any = None,
    lang: Lang = "en",
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

    See Also
    --------
    drift : All columns of two periods.
    verifyanalytics.charts.scores.vendor_thresholds : When the vendor moved its thresholds.

    Examples
    --------
    >>> import verifyanalytics as va
    >>> v = va.simulator.simulate_responses(400, seed=1).verifications
    >>> v = v[v["req_key"] == "cert_pro_src_verify"]
    >>> table = va.stability.over_time(v, columns="score", every="month")
    >>> va.charts.stability.over_time(table, events=va.stability.regime_changes(v)).get_ylabel()
    'PSI (population stability index)'
    """
    periods = frame[(frame["column"] == column) & frame["period_start"].notna()]
    periods = periods.assign(kind=periods["regime"].str.rsplit(n=1).str[0])
    compared = periods[periods["psi"].notna()]
    if not len(compared):
        raise UsageError(f"no period of {column!r} could be compared; nothing to draw")
    kinds = list(dict.fromkeys(compared["kind"]))
    axes = panels.panels(len(kinds), ax, what="request kinds", height=3.3, columns=1)
    for one, kind in zip(axes, kinds, strict=True):
        part = periods[periods["kind"] == kind]
        _timeline(one, part, lang)
        above = 0
        if events is not None:
            changes = events[(events["req_key"] == kind) & (events["kind"] == "changed")]
            when = [mdates.date2num(at.tz_localize(None)) for at in changes["changed_from"]]
            above = panels.rules(one, when, [panels.lines("changed", lang)] * len(when))
        sizes = part[part["psi"].notna()]["n_current"]
        skipped = int(part.loc[part["psi"].isna(), "period"].nunique())
        ends = {"a": int(sizes.min()), "b": int(sizes.max()), "c": skipped}
        title = f"{name(column)} · {panels.regime(kind, lang)}"
        panels.heading(one, title, panels.lines("per_period", lang, **ends), above)
    return panels.finish(axes, ax, "drift_over_time", lang, _notes(compared, lang))


def _timeline(ax: Any, part: pd.DataFrame, lang: Lang) -> None:
    for i, (regime, periods) in enumerate(part.groupby("regime", sort=False)):
        compared = periods[periods["psi"].notna()]
        if not len(compared):
            continue
        colour, x = COLOURS[(0, 2, 3, 5)[i % 4]], compared["period_start"]
        ax.plot(x, _limit(compared), color=colour, linewidth=0.9, linestyle=(0, (4, 2)),
                drawstyle="steps-mid")  # fmt: skip
        label = name(str(regime).rsplit(maxsplit=1)[-1])
        ax.plot(x, compared["psi"], color=colour, marker="o", label=label)
        hollow, alerts = compared[compared["smoothing"] > 0], compared[compared["alert"]]
        ax.plot(hollow["period_start"], hollow["psi"], "o", color=colour, mfc="white")
        ax.plot(alerts["period_start"], alerts["psi"], "o", mfc="none", color=COLOURS[1],
                markersize=11, markeredgewidth=1.6)  # fmt: skip
    first, last = part["period_start"].min(), part["period_start"].max()
    margin = (last - first) * 0.03 + pd.Timedelta(hours=12)
    ax.set_xlim(first - margin, last + margin)
    ax.set_ylim(bottom=0)
    panels.dates(ax)
    ax.set_ylabel(panels.lines("psi", lang))
    ax.set_xlabel(text("date", lang))
    ax.legend(loc="best", fontsize=7.5)
