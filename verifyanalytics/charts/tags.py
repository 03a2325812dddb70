"""Risk tags: rates, lift, overlap, score shifts, and the bands of the risk score."""

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
from verifyanalytics.wording.texts import say, text
from verifyanalytics.wording.words import Say, joined, plain

__all__ = ["catch", "lift", "pairs", "rates", "risk_bands", "scores"]

_MOST, _MOST_PAIRED, _MOST_PANELS = 20, 12, 6
"""Tags that a chart shows unless asked: as rows, as rows and columns, as panels."""

_OUTCOME = 24
"""Columns of text that the name of an outcome may take."""


@panels.chart("tag", "tag_rate", "tag_rate_low", "known", "n_risk_not_asked")
def rates(frame: pd.DataFrame, ax: Any = None, lang: Lang = "en", top: int | None = None) -> Any:
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

    See Also
    --------
    lift : What each tag goes with.

    Examples
    --------
    >>> import verifyanalytics as va
    >>> v = va.simulator.simulate_responses(200, seed=1).verifications
    >>> va.charts.tags.rates(va.tags.rates(v), top=5).get_xlabel()
    'share of answers with a risk result'
    """
    over_time = "period" in frame
    rated = frame[frame["tag_rate"].notna()]
    if over_time:
        rated = rated[rated["period_start"].notna()]
    tags = list(dict.fromkeys(rated["tag"]))
    shown = tags[: top or (_MOST_PANELS if over_time else _MOST)]
    if not shown:
        raise UsageError("the frame holds no risk tag; nothing to draw")
    by = panels.groups(frame, "tag")
    colours = panels.palette(rated, by, lang)
    notes = [text("limits", lang)]
    if over_time:
        axes = panels.panels(len(shown), ax, what="tags", height=2.5)
        for one, tag in zip(axes, shown, strict=True):
            _over_time(one, rated[rated["tag"] == tag], by, lang, colours)
        if rated["partial"].any():
            notes.append(text("partial", lang))
    else:
        each = max(0.3, 0.13 * max(1, len(colours)))
        height = (1.9 if lang == "both" else 1.3) + len(shown) * each
        axes = panels.panels(1, ax, height=height)
        _rates(axes[0], rated, shown, by, lang, colours)
    if left := len(tags) - len(shown):
        notes.append(text("more_tags", lang, n=left))
    return panels.finish(axes, ax, "tags_over_time" if over_time else "tags", lang, notes)


def _rates(
    ax: Any, frame: pd.DataFrame, tags: list[str], by: list[str], lang: Lang,
    colours: panels.Palette,
) -> None:  # fmt: skip
    parts = panels.split(frame, by, lang, colours)
    step = min(0.24, 0.7 / len(parts))
    for i, (label, colour, part) in enumerate(parts):
        table = part.set_index("tag").reindex(tags)
        y = np.arange(len(tags)) + (i - (len(parts) - 1) / 2) * step
        look: dict[str, Any] = {"markersize": 5, "clip_on": False}
        rows.dots(ax, y, table, "tag_rate", colour, label=label or None, **look)
        strange = ~table["known"].fillna(value=True).to_numpy(dtype=bool)
        open_dots = table["tag_rate"][strange], y[strange]
        ax.plot(*open_dots, "o", color=colour, mfc="white", zorder=3, **look)
    _label_tags(ax, frame.drop_duplicates("tag").set_index("tag", drop=False).loc[tags], lang, 7)
    ax.set_xlim(left=0)
    panels.percent(ax.xaxis)
    ax.set_xlabel(panels.lines("tag_rate", lang))
    if by:
        ax.legend(loc="lower right")
    panels.heading(ax, "", _counts(frame, by, lang))


def _over_time(
    ax: Any, frame: pd.DataFrame, by: list[str], lang: Lang, colours: panels.Palette
) -> None:
    for label, colour, part in panels.split(frame, by, lang, colours):
        panels.line(ax, part, "period_start", "tag_rate", colour, label, markersize=3.5)
    ax.set_ylim(bottom=0)
    panels.percent(ax.yaxis)
    panels.dates(ax)
    if by:
        ax.legend(loc="best", fontsize=7.5)
    title = panels.tag_name(next(frame.itertuples()), lang)
    panels.heading(ax, title, _counts(frame, [*by, "period"], lang))


def _counts(frame: pd.DataFrame, by: list[str], lang: Lang) -> str:
    once = frame.drop_duplicates(by) if by else frame[:1]
    asked, not_asked = int(once["n"].sum()), int(once["n_risk_not_asked"].sum())
    return panels.counts_line(lang, n_asked=asked, n_risk_not_asked=not_asked)


def _label_tags(ax: Any, table: pd.DataFrame, lang: Lang, pad: float = 6) -> None:
    # a dot or an arrow at the edge reaches over the axis: the names stand free of it
    rows.label_rows(ax, [panels.tag_name(row, lang) for row in table.itertuples()], pad=pad)


# ------------------------------------------------------------------ tags against an outcome


@panels.chart("tag", "lift", "lift_low", "outcome", "basis", "significant", "reason")
def lift(frame: pd.DataFrame, ax: Any = None, lang: Lang = "en", top: int = _MOST) -> Any:
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

    See Also
    --------
    catch : What each tag adds to the others.

    Examples
    --------
    >>> import verifyanalytics as va
    >>> v = va.simulator.simulate_responses(200, seed=1).verifications
    >>> va.charts.tags.lift(va.tags.lift(v, "rejected")).get_xscale()
    'log'
    """
    _refuse_selected(frame)
    shown = frame[frame["lift"].notna()].head(top).reset_index(drop=True)
    if not len(shown):
        raise UsageError("no tag has a lift; nothing to draw")
    first, words = frame.iloc[0], _outcome(frame)
    (one,) = axes = panels.panels(1, ax, height=1.3 + 0.32 * len(shown))
    _lifts(one, shown)
    _label_tags(one, shown, lang)
    one.set_xlabel(panels.lines("lift", lang, **words), loc="right")  # often wider than the axes
    n, x = int(first["n"]), int(first["n_outcome"])
    unknown, risk = int(first["n_unknown"]), int(first["n_risk_not_asked"])
    counts = [say("n_outcome", n=n, x=x, **words), say("left_out", unknown=unknown, risk=risk)]
    panels.heading(one, "", plain(joined(counts, "\n", "\n"), lang, "\n"))
    notes = [
        *_basis(first, lang),
        panels.lines("filled" if first["clustered"] else "unclustered", lang),
    ]
    if left := len(frame) - len(shown):
        notes.append(text("more", lang, n=left))
    return panels.finish(axes, ax, "tag_lift", lang, notes)


def _outcome(frame: pd.DataFrame) -> dict[str, Say]:
    """Return the word for the outcome; a column of the caller's is called by its name."""
    column = frame["outcome"].iloc[0]
    own = column not in ("non_match", "rejected", "attack")
    return {"outcome": Say(*(name(column, _OUTCOME),) * 2) if own else say(column)}


def _basis(first: Any, lang: Lang) -> list[str]:
    """Say what the rates rest on."""
    holds = {
        str(first["basis"]): True, "circular": first["circular"],
        "weighted": first["weighted"], "random": first["note"],
    }  # fmt: skip
    return [panels.lines(key, lang) for key, true in holds.items() if true]


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
    y, unbounded = np.arange(len(shown)), low < floor
    clipped = shown.assign(
        lift=np.where(unbounded, np.nan, shown["lift"].clip(lower=floor)),
        lift_low=np.maximum(low, floor), lift_high=np.minimum(high, ceiling),
    )  # fmt: skip
    rows.dots(ax, y, clipped, "lift", COLOURS[0], hollow=~shown["significant"], width=1.5,
              markersize=5.5)  # fmt: skip
    for at in y[unbounded]:
        ax.plot([floor], [at], "<", color=COLOURS[0], markersize=5, clip_on=False)
    ax.xaxis.set_major_formatter(
        ticker.FuncFormatter(lambda x, _: f"{x:g}" if x >= 1 else f"1/{1 / x:g}")
    )
    ax.xaxis.set_minor_locator(ticker.NullLocator())


@panels.chart("tag", "catch_rate", "hit_share", "n_new_hits", "n_outcome", "reason")
def catch(frame: pd.DataFrame, ax: Any = None, lang: Lang = "en", top: int = _MOST) -> Any:
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

    See Also
    --------
    lift : Each tag by itself.

    Examples
    --------
    >>> import verifyanalytics as va
    >>> v = va.simulator.simulate_responses(200, seed=1).verifications
    >>> va.charts.tags.catch(va.tags.catch(v, "rejected")).get_xlabel()
    'share of rejections caught so far'
    """
    _refuse_selected(frame)
    shown = frame.head(top)
    if not len(shown) or not shown["n_outcome"].iloc[0]:
        raise UsageError("no tag or no outcome in the frame; nothing to draw")
    first, words = frame.iloc[0], _outcome(frame)
    (one,) = axes = panels.panels(1, ax, height=1.5 + 0.34 * len(shown))
    y = np.arange(len(shown))
    before = np.r_[0.0, shown["catch_rate"].to_numpy()[:-1]]
    one.barh(y, shown["catch_rate"] - before, left=before, color=COLOURS[0], height=0.62)
    one.barh(y, before, color=COLOURS[0], alpha=0.18, height=0.62)
    one.hlines(y, shown["catch_rate_low"], shown["catch_rate_high"], color=INK, linewidth=1.1)
    one.plot(shown["hit_share"], y, "|", color=GREY, markersize=13, markeredgewidth=1.6)
    for i, row in enumerate(shown.itertuples()):
        rows.note(
            one, row.catch_rate_high, i, f"+{row.n_new_outcome:,} / {row.n_new_hits:,}", gap=6
        )
    _label_tags(one, shown, lang)
    one.set_xlim(0, min(1.12, float(shown["catch_rate_high"].max()) * 1.22))
    panels.percent(one.xaxis)
    one.set_xlabel(panels.lines("catch_rate", lang, **words))
    n, x = int(first["n"]), int(first["n_outcome"])
    panels.heading(one, "", panels.lines("n_outcome", lang, n=n, x=x, **words))
    notes = [panels.lines("catch_note", lang), *_basis(first, lang)]
    return panels.finish(axes, ax, "tag_catch", lang, notes)


@panels.chart("band", "n", "n_outcome", "outcome_rate", "auc", "direction", "reason")
def risk_bands(frame: pd.DataFrame, ax: Any = None, lang: Lang = "en") -> Any:
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

    See Also
    --------
    lift : The tags from which the vendor makes the score.

    Examples
    --------
    >>> import verifyanalytics as va
    >>> v = va.simulator.simulate_responses(200, seed=1).verifications
    >>> va.charts.tags.risk_bands(va.tags.risk_bands(v)).get_ylabel()
    'share of non-matches'
    """
    _refuse_selected(frame)
    total = int(frame["n"].sum())
    if not total:
        raise UsageError("no row with a risk score and a known outcome; nothing to draw")
    first, words = frame.iloc[0], _outcome(frame)
    (one,) = axes = panels.panels(1, ax, height=4.6 if lang == "both" else 3.6)
    x = np.arange(len(frame))
    over_all = (frame["outcome_rate"] / frame["lift"]).max()  # also where rows are weighted
    one.axhline(over_all if over_all > 0 else 0.0, color=RULE, linewidth=0.9)
    rows.dots(one, x, frame, "outcome_rate", COLOURS[0], width=1.6, upright=True, markersize=6)
    one.set_xticks(x, [f"{b}\nn = {n:,}" for b, n in zip(frame["band"], frame["n"], strict=True)])
    one.set_xlim(-0.6, len(frame) - 0.4)
    one.set_ylim(bottom=0)
    panels.percent(one.yaxis)
    one.set_xlabel(text("risk_band", lang))
    one.set_ylabel(panels.lines("outcome_rate", lang, **words))
    yes = int(frame["n_outcome"].sum())
    panels.heading(one, "", panels.lines("n_outcome", lang, n=total, x=yes, **words))
    ends = {"auc": first["auc"], "low": first["auc_low"], "high": first["auc_high"]}
    direction = say(f"direction_{first['direction']}")
    note = (
        panels.lines("one_sided", lang)
        if np.isnan(first["auc"])
        else panels.lines("direction", lang, **ends, direction=direction)
    )
    return panels.finish(axes, ax, "risk_bands", lang, [note, *_basis(first, lang)])


# ------------------------------------------------------------------ tags against each other, scores


@panels.chart("tag_a", "tag_b", "phi", "n_both")
def pairs(frame: pd.DataFrame, ax: Any = None, lang: Lang = "en", top: int = _MOST_PAIRED) -> Any:
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

    See Also
    --------
    catch : What a tag adds to those that say the same.

    Examples
    --------
    >>> import verifyanalytics as va
    >>> v = va.simulator.simulate_responses(200, seed=1).verifications
    >>> ax = va.charts.tags.pairs(va.tags.pairs(v), top=4)
    >>> len(ax.get_xticklabels()), len(ax.get_yticklabels())
    (3, 3)
    """
    sides = [
        frame[[f"tag_{s}", f"n_{s}", f"name_{s}_en", f"name_{s}_zh"]].set_axis(
            ["tag", "n", "en", "zh"], axis=1
        )
        for s in "ab"
    ]
    known = (
        pd.concat(sides).drop_duplicates("tag").sort_values(["n", "tag"], ascending=[False, True])
    )
    shown = known.head(top).reset_index(drop=True)
    if len(shown) < 2:
        raise UsageError("the frame holds no pair of tags; nothing to draw")
    place = {tag: i for i, tag in enumerate(shown["tag"])}
    phi, both = np.full((len(place),) * 2, np.nan), np.zeros((len(place),) * 2, dtype="int64")
    for row in frame.itertuples():
        if row.tag_a in place and row.tag_b in place:
            i, j = sorted((place[row.tag_a], place[row.tag_b]))
            phi[j, i], both[j, i] = row.phi, row.n_both
    (one,) = axes = panels.panels(1, ax, height=1.6 + 0.42 * len(shown))
    _matrix(one, phi[1:, :-1], both[1:, :-1])
    spelt = [name(tag, panels.TAG) for tag in shown["tag"]]
    turned = len(spelt) > 8 or max(map(len, spelt)) > 8
    one.set_xticks(range(len(spelt) - 1), spelt[:-1], rotation=90 if turned else 0)
    languages = ("en", "zh") if lang == "both" else (lang,)
    glosses = [" ".join(name(row[one], panels.GLOSS) for one in languages)
               for _, row in shown.iterrows()]  # fmt: skip
    named = [f"{tag}  {gloss}" for tag, gloss in zip(spelt, glosses, strict=True)]
    one.set_yticks(range(len(spelt) - 1), named[1:])
    for label in (*one.get_xticklabels(), *one.get_yticklabels()):
        label.set_parse_math(False)
    panels.heading(one, "", panels.lines("n_asked", lang, n=int(frame["n"].iloc[0])))
    notes = [panels.lines("phi", lang)]
    if left := len(known) - len(shown):
        notes.append(text("more", lang, n=left))
    return panels.finish(axes, ax, "tag_pairs", lang, notes)


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


@panels.chart("regime", "tag", "score_low", "share_with", "share_without", "n_scored_with")
def scores(frame: pd.DataFrame, ax: Any = None, lang: Lang = "en", top: int = _MOST_PANELS) -> Any:
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

    See Also
    --------
    verifyanalytics.charts.scores.histogram : The scores of all rows.

    Examples
    --------
    >>> import verifyanalytics as va
    >>> v = va.simulator.simulate_responses(200, seed=1).verifications
    >>> v = v.query("req_key == 'cert_pro_src_verify' and threshold_1e_4 == 70")
    >>> axes = va.charts.tags.scores(va.tags.scores(v), top=2)
    >>> [ax.get_xlabel() for ax in axes]
    ['score (0–100)', 'score (0–100)']
    """
    regimes = frame["regime"].unique()
    if len(regimes) > 1:
        raise UsageError(f"scores of {len(regimes)} regimes are never pooled: choose one")
    parts = panels.parts_by(frame[frame["n_scored_with"] > 0], "tag")
    if not parts:
        raise UsageError("no tag has a scored row; nothing to draw")
    axes = panels.panels(len(parts[:top]), ax, what="tags", height=2.7)
    for one, part in zip(axes, parts[:top], strict=True):
        _with_without(one, part, lang)
    notes = [panels.regime(regimes[0], lang)]
    if (left := len(parts) - top) > 0:
        notes.append(text("more", lang, n=left))
    return panels.finish(axes, ax, "tag_scores", lang, notes)


def _with_without(ax: Any, part: pd.DataFrame, lang: Lang) -> None:
    row: Any = next(part.itertuples())
    edges = np.r_[part["score_low"], part["score_high"].iloc[-1]]
    for side, colour in (("without", COLOURS[0]), ("with", COLOURS[1])):
        label = panels.lines(side, lang, n=int(part[f"n_scored_{side}"].iloc[0]))
        ax.stairs(part[f"share_{side}"], edges, color=colour, label=label, linewidth=1.5)
    used = part[(part["n_with"] > 0) | (part["n_without"] > 0)]
    ax.set_xlim(max(0.0, used["score_low"].min() - 5), 100)
    ax.set_ylim(bottom=0)
    panels.percent(ax.yaxis)
    ax.set_xlabel(text("score", lang))
    ax.legend(loc="upper left", fontsize=7.5)
    missing = int(row.n_no_score_with), int(row.n_no_score_without)
    counts = panels.lines("no_score", lang, a=missing[0], b=missing[1])
    panels.heading(ax, panels.tag_name(row, lang), counts)
