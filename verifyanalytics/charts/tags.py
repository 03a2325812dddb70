"""Risk tags: rates, lift, overlap, score shifts, and the bands of the risk score."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import ticker

from verifyanalytics.charts import panels
from verifyanalytics.charts.sentences import lines, outcome
from verifyanalytics.charts.style import COLOURS, GREY, INK, RULE, style, usable
from verifyanalytics.codebook.book import Lang
from verifyanalytics.errors import UsageError
from verifyanalytics.wording import texts
from verifyanalytics.wording.names import name
from verifyanalytics.wording.texts import text
from verifyanalytics.wording.texts import text as say

__all__ = ["catch", "lift", "pairs", "rates", "risk_bands", "scores"]

_MOST_DOTS, _MOST_PANELS = 20, 6


def rates(frame: pd.DataFrame, ax: Any = None, lang: str = "en", top: int | None = None) -> Any:
    """Draw `va.tags.rates`: a dot and its 95 % interval a tag; with periods, a panel a tag.

    Parameters
    ----------
    frame : DataFrame
        From `va.tags.rates`. Groups of `by` have a colour each.
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


_MOST, _MOST_PAIRED, _MOST_PANELS_associations = 20, 12, 6


def lift(frame: pd.DataFrame, ax: Any = None, lang: str = "en", top: int = _MOST) -> Any:
    """Draw `va.tags.lift`: a dot and its 95 % interval a tag, on a log₂ axis.

    Parameters
    ----------
    frame : DataFrame
        From `va.tags.lift`.
    ax : Axes, optional
    lang : {"en", "zh", "both"}
    top : int
        How many tags, in the frame's order.

    Returns
    -------
    Axes
        Filled dots are significant. A lift of 0 stands at the left edge with an arrow. Tags whose
        lift cannot be told are left out, and the chart says how many.

    Raises
    ------
    UsageError
        No tag has a lift; the labels are a selection.
    """
    panels.needs(frame, "tag", "lift", "outcome", "basis", "reason")
    _refuse_selected(frame)
    chosen, held = usable(lang), frame[frame["lift"].notna()]
    shown = held.head(top).reset_index(drop=True)
    if not len(shown):
        raise UsageError("no tag has a lift; nothing to draw")
    first = frame.iloc[0]
    named = outcome(first["outcome"])
    with style():
        (axes,) = panels.panels(1, ax, what="charts", height=1.3 + 0.32 * len(shown))
        _lifts(axes, shown)
        _named_rows(axes, shown, chosen)
        label = lines("lift", chosen, outcome=named)  # often wider than the axes
        axes.set_xlabel(label, loc="right")
        panels.heading(axes, "", panels.both(
            chosen,
            lambda one: say("n_outcome", one, n=int(first["n"]), x=int(first["n_outcome"]),
                            outcome=named)
            + "\n" + say("left_out", one, unknown=int(first["n_unknown"]),
                          risk=int(first["n_risk_not_asked"])),
        ))  # fmt: skip
        panels.finish(
            [axes], ax is None, lines("tag_lift", chosen), _warnings(frame, shown, chosen)
        )
    return axes


def _warnings(frame: pd.DataFrame, shown: pd.DataFrame, lang: Lang) -> list[str]:
    first = frame.iloc[0]
    notes = _basis(first, lang)
    notes.append(lines("filled" if first["clustered"] else "unclustered", lang))
    if left := len(frame) - len(shown):
        notes.append(say("more", lang, n=left))
    return notes


def _basis(first: Any, lang: Lang) -> list[str]:
    """Say what the rates rest on."""
    told = {
        str(first["basis"]): True, "circular": first["circular"],
        "weighted": first["weighted"], "random": first["note"],
    }  # fmt: skip
    return [lines(key, lang) for key, holds in told.items() if holds]


def _refuse_selected(frame: pd.DataFrame) -> None:
    if len(frame) and frame["reason"].iloc[0] == "selected_labels":
        raise UsageError(
            "no rate is given, the labels look like a selection (see va.labels.coverage); nothing "
            "to draw"
        )


def _lifts(ax: Any, shown: pd.DataFrame) -> None:
    low, high = shown["lift_low"].to_numpy(), shown["lift_high"].to_numpy()
    inner = np.r_[shown["lift"][shown["lift"] > 0], low[low > 0], high[np.isfinite(high)], 1.0]
    floor, ceiling = 2 ** (np.log2(inner.min()) - 0.6), 2 ** (np.log2(inner.max()) + 0.6)
    ax.set_xscale("log", base=2)
    ax.set_xlim(floor, ceiling)
    ax.axvline(1.0, color=RULE, linewidth=0.9, zorder=1.5)
    for i, row in enumerate(shown.itertuples()):
        start, end = max(row.lift_low, floor), min(row.lift_high, ceiling)
        ax.hlines(i, start, end, color=COLOURS[0], linewidth=1.5)
        if row.lift_low < floor:
            ax.plot([floor], [i], marker="<", color=COLOURS[0], markersize=5, clip_on=False)
        else:
            filled = COLOURS[0] if row.significant else "white"
            ax.plot([max(row.lift, floor)], [i], "o", color=COLOURS[0], mfc=filled, markersize=5.5)
    ax.xaxis.set_major_formatter(ticker.FuncFormatter(_power_of_two))
    ax.xaxis.set_minor_locator(ticker.NullLocator())
    ax.grid(visible=True, axis="x")
    ax.grid(visible=False, axis="y")


def _power_of_two(x: float, _: Any = None) -> str:
    return f"{x:g}" if x >= 1 else f"1/{1 / x:g}"


def _named_rows(ax: Any, shown: pd.DataFrame, lang: Lang) -> None:
    ax.set_yticks(range(len(shown)), [panels.tag_name(row, lang) for row in shown.itertuples()])
    for label in ax.get_yticklabels():
        label.set_parse_math(False)
    ax.tick_params(axis="y", pad=6)  # an arrow at the edge stands free of the name beside it
    ax.set_ylim(len(shown) - 0.4, -0.6)


def pairs(frame: pd.DataFrame, ax: Any = None, lang: str = "en", top: int = _MOST_PAIRED) -> Any:
    """Draw `va.tags.pairs`: a matrix of φ, with the number of rows that have both tags.

    Parameters
    ----------
    frame : DataFrame
        From `va.tags.pairs`.
    ax : Axes, optional
    lang : {"en", "zh", "both"}
    top : int
        How many tags, the most frequent first.

    Returns
    -------
    Axes
        Blue: together more often than by chance; orange: less often; white: as by chance. Cells
        above the diagonal are empty.

    Raises
    ------
    UsageError
        No pair in the frame.
    """
    panels.needs(frame, "tag_a", "tag_b", "phi", "n_both")
    chosen = usable(lang)
    sizes = pd.concat([
        frame.set_index("tag_a")["n_a"], frame.set_index("tag_b")["n_b"]
    ]).groupby(level=0).first()  # fmt: skip
    tags = sorted(sizes.index, key=lambda tag: (-sizes[tag], tag))[:top]
    if len(tags) < 2:
        raise UsageError("the frame holds no pair of tags; nothing to draw")
    place = {tag: i for i, tag in enumerate(tags)}
    phi, both = np.full((len(tags),) * 2, np.nan), np.zeros((len(tags),) * 2, dtype="int64")
    names: dict[str, str] = {}
    for row in frame.itertuples():
        for tag, en, zh in (
            (row.tag_a, row.name_a_en, row.name_a_zh), (row.tag_b, row.name_b_en, row.name_b_zh)
        ):  # fmt: skip
            told = {"en": en, "zh": zh}
            names[tag] = " ".join(name(told[one], panels.GLOSS) for one in panels.languages(chosen))
        if row.tag_a in place and row.tag_b in place:
            i, j = sorted((place[row.tag_a], place[row.tag_b]))
            phi[j, i], both[j, i] = row.phi, row.n_both
    with style():
        (axes,) = panels.panels(1, ax, what="charts", height=1.6 + 0.42 * len(tags))
        _matrix(axes, phi[1:, :-1], both[1:, :-1])
        spelt = [name(tag, panels.TAG) for tag in tags]
        turned = len(tags) > 8 or max(map(len, spelt)) > 8
        axes.set_xticks(range(len(tags) - 1), spelt[:-1], rotation=90 if turned else 0)
        each = zip(spelt[1:], tags[1:], strict=True)
        axes.set_yticks(range(len(tags) - 1), [f"{shown}  {names[tag]}" for shown, tag in each])
        for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
            label.set_parse_math(False)
        n = int(frame["n"].iloc[0])
        panels.heading(axes, "", panels.both(chosen, lambda one: say("n_asked", one, n=n)))
        notes = [lines("phi", chosen)]
        if left := len(sizes) - len(tags):
            notes.append(say("more", chosen, n=left))
        panels.finish([axes], ax is None, lines("tag_pairs", chosen), notes)
    return axes


def _matrix(ax: Any, phi: Any, both: Any) -> None:
    top = max(float(np.nanmax(np.abs(phi), initial=0.0)), 0.05)
    ends = [np.array([int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)]) for c in COLOURS[:2]]
    part = np.nan_to_num(np.abs(phi) / top)[..., None] * 0.85
    colour = np.where((phi >= 0)[..., None], ends[0], ends[1])
    ax.imshow(1 - part * (1 - colour), aspect="auto", interpolation="nearest")
    size = 8 if len(phi) <= 8 else 6.5
    for i, j in zip(*np.nonzero(~np.isnan(phi)), strict=True):
        ink = "white" if abs(phi[i, j]) > 0.6 * top else INK
        shown = f"{phi[i, j].round(2) + 0.0:.2f}\n{both[i, j]:,}"  # never -0.00
        ax.text(j, i, shown, ha="center", va="center", color=ink,
                fontsize=size, linespacing=1.15)  # fmt: skip
    ax.grid(visible=False)
    for spine in ax.spines.values():
        spine.set_visible(False)


def catch(frame: pd.DataFrame, ax: Any = None, lang: str = "en", top: int = _MOST) -> Any:
    """Draw `va.tags.catch`: how the catch rises with each tag that is added.

    Parameters
    ----------
    frame : DataFrame
        From `va.tags.catch`.
    ax : Axes, optional
    lang : {"en", "zh", "both"}
    top : int
        How many steps.

    Returns
    -------
    Axes
        A step a tag with its 95 % interval; the grey tick is the share of all rows hit so far: what
        tags set at random would catch.

    Raises
    ------
    UsageError
        No tag, or no row with the outcome; the labels are a selection.
    """
    panels.needs(frame, "tag", "catch_rate", "n_outcome", "reason")
    _refuse_selected(frame)
    chosen, shown = usable(lang), frame.head(top)
    if not len(shown) or not shown["n_outcome"].iloc[0]:
        raise UsageError("no tag or no outcome in the frame; nothing to draw")
    first = frame.iloc[0]
    named = outcome(first["outcome"])
    with style():
        (axes,) = panels.panels(1, ax, what="charts", height=1.5 + 0.34 * len(shown))
        y = np.arange(len(shown))
        before = np.r_[0.0, shown["catch_rate"].to_numpy()[:-1]]
        axes.barh(y, shown["catch_rate"] - before, left=before, color=COLOURS[0], height=0.62)
        axes.barh(y, before, color=COLOURS[0], alpha=0.18, height=0.62)
        axes.hlines(y, shown["catch_rate_low"], shown["catch_rate_high"], color=INK, linewidth=1.1)
        axes.plot(shown["hit_share"], y, "|", color=GREY, markersize=13, markeredgewidth=1.6)
        for i, row in enumerate(shown.itertuples()):
            axes.annotate(
                f"+{row.n_new_outcome:,} / {row.n_new_hits:,}", (row.catch_rate_high, i), (6, 0),
                textcoords="offset points", va="center", fontsize=8, color=GREY,
            )  # fmt: skip
        _named_rows(axes, shown, chosen)
        axes.set_xlim(0, min(1.12, float(shown["catch_rate_high"].max()) * 1.22))
        panels.percent(axes.xaxis, axes.get_xlim())
        axes.grid(visible=True, axis="x")
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(lines("catch_rate", chosen, outcome=named))
        n, x = int(first["n"]), int(first["n_outcome"])
        panels.heading(
            axes, "", panels.both(chosen, lambda o: say("n_outcome", o, n=n, x=x, outcome=named))
        )
        notes = [lines("catch_note", chosen), *_basis(first, chosen)]
        panels.finish([axes], ax is None, lines("tag_catch", chosen), notes)
    return axes


def risk_bands(frame: pd.DataFrame, ax: Any = None, lang: str = "en") -> Any:
    """Draw `va.tags.risk_bands`: the rate of the outcome in each band of the risk score.

    Parameters
    ----------
    frame : DataFrame
        From `va.tags.risk_bands`.
    ax : Axes, optional
    lang : {"en", "zh", "both"}

    Returns
    -------
    Axes
        Dots with 95 % intervals, and the number of rows of each band; the line is the rate of all.

    Raises
    ------
    UsageError
        No row in the frame; the labels are a selection.
    """
    panels.needs(frame, "band", "n", "outcome_rate", "auc", "reason")
    _refuse_selected(frame)
    chosen, total = usable(lang), int(frame["n"].sum())
    if not total:
        raise UsageError("no row with a risk score and a known outcome; nothing to draw")
    first = frame.iloc[0]
    named = outcome(first["outcome"])
    with style():
        (axes,) = panels.panels(1, ax, what="charts", height=4.6 if chosen == "both" else 3.6)
        x = np.arange(len(frame))
        over_all = (frame["outcome_rate"] / frame["lift"]).max()  # also where rows are weighted
        axes.axhline(over_all if over_all > 0 else 0.0, color=RULE, linewidth=0.9)
        axes.vlines(x, frame["outcome_rate_low"], frame["outcome_rate_high"], color=COLOURS[0])
        axes.plot(x, frame["outcome_rate"], "o", color=COLOURS[0], markersize=6)
        axes.set_xticks(
            x, [f"{b}\nn = {n:,}" for b, n in zip(frame["band"], frame["n"], strict=True)]
        )
        axes.set_xlim(-0.6, len(frame) - 0.4)
        axes.set_ylim(bottom=0)
        panels.percent(axes.yaxis, axes.get_ylim())
        axes.set_xlabel(say("risk_band", chosen))
        axes.set_ylabel(lines("outcome_rate", chosen, outcome=named))
        yes = int(frame["n_outcome"].sum())
        panels.heading(
            axes,
            "",
            panels.both(chosen, lambda o: say("n_outcome", o, n=total, x=yes, outcome=named)),
        )
        notes = [_direction(first, chosen), *_basis(first, chosen)]
        panels.finish([axes], ax is None, lines("risk_bands", chosen), notes)
    return axes


def _direction(row: Any, lang: Lang) -> str:
    """Tell which end of the risk score goes with the outcome, where rows can tell."""
    if np.isnan(row["auc"]):
        return lines("one_sided", lang)
    turn = {"direction": texts.say(f"direction_{row['direction']}")}
    ends = {"auc": row["auc"], "low": row["auc_low"], "high": row["auc_high"]}
    return lines("direction", lang, **ends, **turn)


def scores(
    frame: pd.DataFrame, ax: Any = None, lang: str = "en", top: int = _MOST_PANELS_associations
) -> Any:
    """Draw `va.tags.scores`: a panel a tag, scores with it and without it, of one regime.

    Parameters
    ----------
    frame : DataFrame
        From `va.tags.scores`, of one regime.
    ax : sequence of Axes, optional
        One a tag shown.
    lang : {"en", "zh", "both"}
    top : int
        How many tags, the most frequent first.

    Returns
    -------
    Axes or ndarray of Axes

    Raises
    ------
    UsageError
        Several regimes, which are never pooled, or no tag with scores.
    """
    panels.needs(frame, "regime", "tag", "n_scored_with")
    chosen = usable(lang)
    regimes = frame["regime"].unique()
    if len(regimes) > 1:
        raise UsageError(f"scores of {len(regimes)} regimes are never pooled: choose one")
    held = frame[frame["n_scored_with"] > 0]
    tags = list(dict.fromkeys(held["tag"]))
    if not tags:
        raise UsageError("no tag has a scored row; nothing to draw")
    with style():
        axes = panels.panels(len(tags[:top]), ax, what="tags", height=2.7)
        for one, tag in zip(axes, tags[:top], strict=True):
            _with_without(one, held[held["tag"] == tag], chosen)
        notes = [panels.regime(regimes[0], chosen)]
        if left := len(tags) - top:
            notes += [say("more", chosen, n=left)] if left > 0 else []
        panels.finish(axes, ax is None, lines("tag_scores", chosen), notes)
    return panels.returned(axes)


def _with_without(ax: Any, part: pd.DataFrame, lang: Lang) -> None:
    edges = np.r_[part["score_low"], part["score_high"].iloc[-1]]
    for side, colour in (("without", COLOURS[0]), ("with", COLOURS[1])):
        label = lines(side, lang, n=int(part[f"n_scored_{side}"].iloc[0]))
        ax.stairs(part[f"share_{side}"], edges, color=colour, label=label, linewidth=1.5)
    used = part[(part["n_with"] > 0) | (part["n_without"] > 0)]
    ax.set_xlim(max(0.0, used["score_low"].min() - 5), 100)
    ax.set_ylim(bottom=0)
    panels.percent(ax.yaxis, ax.get_ylim())
    ax.set_xlabel(say("score", lang))
    ax.legend(loc="upper left", fontsize=7.5)
    row = next(part.iloc[:1].itertuples())
    gone: dict[str, Any] = {"a": int(row.n_no_score_with), "b": int(row.n_no_score_without)}
    panels.heading(
        ax, panels.tag_name(row, lang), panels.both(lang, lambda one: say("no_score", one, **gone))
    )
