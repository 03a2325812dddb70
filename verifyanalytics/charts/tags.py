"""Risk tags: how often each is set, at once or over time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from verifyanalytics.charts import panels
from verifyanalytics.charts.style import style, text, usable
from verifyanalytics.codebook import Lang
from verifyanalytics.errors import UsageError

_MOST_DOTS, _MOST_PANELS = 20, 6


def tag_rates(frame: pd.DataFrame, ax: Any = None, lang: str = "en", top: int | None = None) -> Any:
    """Draw `va.tag_rates`: a dot and its 95 % interval a tag; with periods, a panel a tag.

    Parameters
    ----------
    frame : DataFrame
        From `va.tag_rates`. Groups of `by` have a colour each.
    ax : Axes or sequence of Axes, optional
        One, or with periods one a tag; default a new figure.
    lang : {"en", "zh", "both"}
        The language of labels and of the tags' names.
    top : int, optional
        How many tags, the most frequent first; default 20, with periods 6. The chart says how many
        are left out.

    Returns
    -------
    Axes or ndarray of Axes
        An open dot is a tag that the code book does not know; with periods, a partial period.

    Raises
    ------
    UsageError
        No tag in the frame, or Axes do not fit.
    """
    panels.needs(frame, "tag", "tag_rate", "known")
    usable_lang = usable(lang)
    over_time = "period" in frame
    rated = frame[frame["tag_rate"].notna()]
    if over_time:
        rated = rated[rated["period_start"].notna()]
    tags = list(dict.fromkeys(rated["tag"]))
    shown = tags[: top or (_MOST_PANELS if over_time else _MOST_DOTS)]
    if not shown:
        raise UsageError("the frame holds no risk tag; nothing to draw")
    by = panels.groups(frame, "tag")
    left_out = len(tags) - len(shown)
    notes = [text("limits", usable_lang)]
    colours = panels.palette(rated, by, usable_lang)
    with style():
        if over_time:
            axes = panels.panels(len(shown), ax, what="tags", height=2.5)
            for one, tag in zip(axes, shown, strict=True):
                _over_time(one, rated[rated["tag"] == tag], by, usable_lang, colours)
            if rated["partial"].any():
                notes.append(text("partial", usable_lang))
        else:
            height = (1.9 if usable_lang == "both" else 1.3) + len(shown) * max(
                0.3, 0.13 * _n_groups(rated, by)
            )
            axes = panels.panels(1, ax, what="charts", height=height)
            _dots(axes[0], rated, shown, by, usable_lang, colours)
        if left_out:
            notes.append(text("more_tags", usable_lang, n=left_out))
        title = "tags_over_time" if over_time else "tags"
        panels.finish(axes, ax is None, text(title, usable_lang, joint="\n"), notes)
    return panels.returned(axes)


def _n_groups(frame: pd.DataFrame, by: list[str]) -> int:
    return len(frame.drop_duplicates(by)) if by else 1


def _dots(
    ax: Any,
    frame: pd.DataFrame,
    tags: list[str],
    by: list[str],
    lang: Lang,
    colours: panels.Palette,
) -> None:
    parts = panels.split(frame, by, lang, colours)
    step = min(0.24, 0.7 / len(parts))
    for i, (label, colour, part) in enumerate(parts):
        rows = part.set_index("tag").reindex(tags)
        y = np.arange(len(tags)) + (i - (len(parts) - 1) / 2) * step
        ax.hlines(y, rows["tag_rate_low"], rows["tag_rate_high"], color=colour, linewidth=1.4)
        ax.plot(
            rows["tag_rate"], y, "o", color=colour, label=label or None, markersize=5, clip_on=False
        )
        strange = ~rows["known"].fillna(value=True).to_numpy(dtype=bool)
        ax.plot(
            rows["tag_rate"][strange], y[strange], "o", color=colour, mfc="white", markersize=5,
            clip_on=False, zorder=3,
        )  # fmt: skip
    first = frame.drop_duplicates("tag").set_index("tag", drop=False).loc[tags]
    ax.set_yticks(range(len(tags)), [panels.tag_name(row, lang) for row in first.itertuples()])
    for label in ax.get_yticklabels():
        label.set_parse_math(False)
    ax.tick_params(axis="y", pad=7)  # a dot at 0 reaches over the axis
    ax.set_ylim(len(tags) - 0.4, -0.6)
    ax.set_xlim(left=0)
    panels.percent(ax.xaxis, ax.get_xlim())
    ax.grid(axis="x")
    ax.grid(visible=False, axis="y")
    ax.set_xlabel(text("tag_rate", lang, joint="\n"))
    if by:
        ax.legend(loc="lower right")
    panels.heading(ax, "", _counts(frame, by, lang))


def _over_time(
    ax: Any, frame: pd.DataFrame, by: list[str], lang: Lang, colours: panels.Palette
) -> None:
    for label, colour, part in panels.split(frame, by, lang, colours):
        x = part["period_start"]
        ax.fill_between(
            x, part["tag_rate_low"], part["tag_rate_high"], color=colour, alpha=0.18, linewidth=0
        )
        ax.plot(x, part["tag_rate"], color=colour, marker="o", markersize=3.5, label=label or None)
        partial = part[part["partial"]]
        ax.plot(
            partial["period_start"],
            partial["tag_rate"],
            "o",
            color=colour,
            mfc="white",
            markersize=3.5,
        )
    ax.set_ylim(bottom=0)
    panels.percent(ax.yaxis, ax.get_ylim())
    panels.dates(ax)
    if by:
        ax.legend(loc="best", fontsize=7.5)
    row = next(frame.iloc[:1].itertuples())
    panels.heading(ax, panels.tag_name(row, lang), _counts(frame, [*by, "period"], lang))


def _counts(frame: pd.DataFrame, by: list[str], lang: Lang) -> str:
    once = frame.drop_duplicates(by) if by else frame.iloc[:1]
    return panels.counts_line(
        lang,
        ("n_asked", int(once["n"].sum())),
        ("n_risk_not_asked", int(once["n_risk_not_asked"].sum())),
    )
