"""The frame of every chart: its check, its panels, headings, threshold rules, groups and axes.

Regimes are never pooled, so a table with several of them becomes several panels. Above a panel
stand, from the top: title, counts, threshold labels, axes; labels that would touch go to a second
line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any, TypeAlias, TypeVar, cast

import matplotlib.dates as mdates
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib import ticker

from verifyanalytics.charts.style import COLOURS, GREY, RULE, style, usable
from verifyanalytics.codebook.book import Lang
from verifyanalytics.errors import MissingColumnError, UsageError
from verifyanalytics.wording.names import MOST, name
from verifyanalytics.wording.texts import say, text
from verifyanalytics.wording.words import Say, joined, plain

_LABEL_SIZE, _LINE, _MOST_PANELS = 8.0, 10.5, 40
_REQ_KEY, _VALUE, TAG, GLOSS = 28, 24, 24, 72
"""Columns of text that these names may take."""

_WORDS = frozenset({"unknown", "true", "false", "result"})
"""Values and columns of the data that have a text in the catalogue."""

_REGIMES = frozenset({"incomplete", "all", "unknown"})
"""What stands for a regime where there is none, or for several."""

Chart = TypeVar("Chart", bound=Callable[..., Any])


def chart(*columns: str) -> Callable[[Chart], Chart]:
    """Make a function a chart: check its frame, choose a language it can show, apply the style.

    `columns` tell the frame from those of other charts: a frame without one of them raises
    MissingColumnError. They are kept as `columns` of the function, for `va.draw`.
    """

    def decorate(function: Chart) -> Chart:
        @wraps(function)
        def drawn(
            frame: pd.DataFrame, ax: Any = None, lang: str = "en", *more: Any, **options: Any
        ) -> Any:
            if missing := [column for column in columns if column not in frame]:
                raise MissingColumnError(missing, map(str, frame.columns))
            language = usable(lang)
            with style():
                return function(frame, ax, language, *more, **options)

        drawn.columns = columns  # type: ignore[attr-defined]
        return cast("Chart", drawn)

    return decorate


# ------------------------------------------------------------------ panels


def panels(n: int, ax: Any, *, height: float, what: str = "charts", columns: int = 2) -> list[Any]:
    """Return n Axes: those given, or panels of this height in inches, so many across.

    UsageError for another number of Axes, or for more `what` than a figure can hold.
    """
    if ax is not None:
        given = list(np.ravel(ax))
        if len(given) != n:
            raise UsageError(
                f"the frame has {n} {what}, which are never pooled: give {n} Axes, none, or choose "
                f"one; {len(given)} given"
            )
        return given
    if n > _MOST_PANELS:
        raise UsageError(f"{n} {what} do not fit a figure, {_MOST_PANELS} do; choose some")
    across = min(n, columns)
    down = -(-n // across)
    width = 7.2 if across == 1 else 10.4
    figure, grid = plt.subplots(
        down, across, figsize=(width, height * down + 0.5), squeeze=False, layout="constrained"
    )
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1)
    spare = list(grid.flat)
    for unused in spare[n:]:
        unused.remove()
    return spare[:n]


def finish(axes: Sequence[Any], ax: Any, title: str, lang: Lang, notes: Iterable[str] = ()) -> Any:
    """Write title and notes on a figure made here (`ax` is None); return one Axes, or an array."""
    for each in axes:
        each.tick_params(labelfontfamily=plt.rcParams["font.family"])
    if ax is None:
        figure, left, note = axes[0].figure, 0.012, "\n".join(line for line in notes if line)
        written = lines(title, lang)
        figure.suptitle(written, x=left, ha="left", fontsize=12, linespacing=1.35)
        if note:
            figure.supxlabel(note, x=left, ha="left", fontsize=8, color=GREY)
        if "\n" in written:
            # the second language takes a line above each panel, and in each note
            down = {each.get_gridspec().nrows for each in figure.axes if each.get_gridspec()}
            higher = 0.2 + 0.35 * max(down, default=1) + 0.07 * (1 + note.count("\n"))
            figure.set_figheight(figure.get_figheight() + higher)
    return axes[0] if len(axes) == 1 else np.array(axes, dtype=object)


def heading(ax: Any, title: str, counts: str, above: int = 0) -> None:
    """Write title and counts above the axes, over so many lines of labels."""
    pad = 5 + above * _LINE
    ax.annotate(
        counts, (0, 1), (0, pad), xycoords="axes fraction", textcoords="offset points", ha="left",
        va="bottom", fontsize=_LABEL_SIZE + 0.3, color=GREY, linespacing=1.25, parse_math=False,
        in_layout=False,
    )  # fmt: skip
    # the title is what makes the layout leave room: in height by its pad, in width not at all
    height = _LINE * 1.25 * (1 + counts.count("\n")) + 2
    ax.set_title(title or " ", loc="left", pad=pad + height, fontsize=10 if title else 2)


def rules(ax: Any, positions: Sequence[float], labels: Sequence[str]) -> int:
    """Draw thin rules with their labels above the axes; return how many lines the labels take.

    A label that would touch its neighbour goes higher.
    """
    rows = _stagger(ax, positions, labels)
    deep = 1 + max((label.count("\n") for label in labels), default=0)
    for position, label, row in zip(positions, labels, rows, strict=True):
        ax.axvline(position, color=RULE, linewidth=0.8, linestyle=(0, (4, 2)), zorder=1.5)
        ax.annotate(
            label, (position, 1), (0, 2 + row * deep * _LINE), xycoords=("data", "axes fraction"),
            textcoords="offset points", ha="center", va="bottom", fontsize=_LABEL_SIZE, color=GREY,
            linespacing=1.1, parse_math=False, in_layout=False,
        )  # fmt: skip
    return deep * (max(rows) + 1) if rows else 0


def _stagger(ax: Any, positions: Sequence[float], labels: Sequence[str]) -> list[int]:
    across = ax.figure.get_size_inches()[0] * 72 * ax.get_position().width
    scale = ax.xaxis.get_transform()
    low, high = scale.transform(np.asarray(ax.get_xlim(), dtype=float))
    places = (scale.transform(np.asarray(positions, dtype=float)) - low) / (high - low) * across
    taken: list[float] = []  # the right end of the last label of each row
    rows = [0] * len(labels)
    for at in np.argsort(places, kind="stable"):
        longest = max(len(line) for line in labels[at].split("\n"))
        half = 0.5 * longest * _LABEL_SIZE * 0.62 + 1.5
        row = next((i for i, end in enumerate(taken) if places[at] - half > end), len(taken))
        taken[row : row + 1] = [places[at] + half]
        rows[at] = row
    return rows


# ------------------------------------------------------------------ groups

Palette: TypeAlias = dict[str, str]
"""A colour for each group of a chart, the same in all its panels."""


def groups(frame: pd.DataFrame, before: str) -> list[str]:
    """Return the columns the frame was split by: those that stand before its first own column."""
    columns = list(frame.columns[: frame.columns.get_loc(before)])
    return [column for column in columns if column not in ("period", "period_start", "partial")]


def refuse_groups(frame: pd.DataFrame, before: str, but: str = "regime") -> None:
    """Raise UsageError for a frame that is split by groups, where a chart shows one."""
    if by := [column for column in groups(frame, before) if column != but]:
        raise UsageError(f"the frame is split by {', '.join(by)}: choose one group")


def palette(frame: pd.DataFrame, by: Sequence[str], lang: Lang) -> Palette:
    """Give each group its colour; UsageError for more groups than a reader can distinguish."""
    keys = [key for key, _ in frame.groupby(list(by), dropna=False, sort=False)] if by else []
    if len(keys) > len(COLOURS):
        raise UsageError(
            f"{len(keys)} groups of {', '.join(by)} do not fit a chart, {len(COLOURS)} do; "
            "choose some"
        )
    return {group_label(by, key, lang): COLOURS[i] for i, key in enumerate(keys)}


def split(
    frame: pd.DataFrame, by: Sequence[str], lang: Lang, colours: Palette
) -> list[tuple[str, str, Any]]:
    """Cut a frame into its groups: label, colour, rows; one nameless group without `by`."""
    if not by:
        return [("", COLOURS[0], frame)]
    parts = [
        (group_label(by, key, lang), part)
        for key, part in frame.groupby(list(by), dropna=False, sort=False)
    ]
    return [(label, colours[label], part) for label, part in parts]


def parts_by(frame: pd.DataFrame, *columns: str) -> list[pd.DataFrame]:
    """Cut a frame by the values of columns, in the order in which they come."""
    return [part for _, part in frame.groupby(list(columns), sort=False)]


# ------------------------------------------------------------------ words


def group_label(by: Sequence[str], key: Any, lang: Lang) -> str:
    """Name a group, as `result true`."""
    keys = key if isinstance(key, tuple) else (key,)
    label = ", ".join(
        regime(value, lang)
        if column == "regime"
        else f"{word(column.removeprefix('ctx_'), lang, _VALUE)} {word(value, lang, _VALUE)}"
        for column, value in zip(by, keys, strict=True)
    )
    return f" {label}" if label.startswith("_") else label  # a legend would leave it out


def word(value: Any, lang: Lang, most: int = MOST) -> str:
    """Write a value or a column of the data, in the language where the catalogue has it."""
    shown = "unknown" if pd.isna(value) else str(value)
    if isinstance(value, (bool, np.bool_)):
        shown = shown.lower()
    return text(shown, lang, joint=" ") if shown in _WORDS else name(shown, most)


def regime(value: Any, lang: Lang) -> str:
    """Name a regime; of a long request key the end goes, its thresholds stay."""
    if (whole := str(value)) in _REGIMES:
        return text(whole, lang, joint=" ")
    key, _, thresholds = whole.rpartition(" ")
    shown = [name(key, _REQ_KEY)] if key else []
    return " ".join([*shown, name(thresholds)])


def tag_name(row: Any, lang: Lang) -> str:
    """Name a risk tag: its digits, and what the code book says of them."""
    gloss = (
        Say(name(row.name_en, GLOSS), name(row.name_zh, GLOSS)) if row.known else say("unknown_tag")
    )
    return f"{name(row.tag, TAG)}  {plain(gloss, lang, ' ')}"


def lines(key: str, lang: Lang, **values: Any) -> str:
    """Return a text of the catalogue, in `both` on two lines."""
    return text(key, lang, "\n", **values)


def counts_line(lang: Lang, **counts: int) -> str:
    """Join counts, by the keys of their texts, with dots; in `both` on two lines."""
    words = joined([say(key, n=n) for key, n in counts.items()], " · ", " · ")
    return plain(words, lang, "\n")


# ------------------------------------------------------------------ axes


def line(
    ax: Any, part: pd.DataFrame, x: str, rate: str, colour: str, label: str = "", *,
    bar: bool = False, **style: Any,
) -> None:  # fmt: skip
    """Draw a rate over x with its 95 % band, or one bar; dots of partial periods are open."""
    low, high = part[f"{rate}_low"], part[f"{rate}_high"]
    if bar:
        ax.vlines(part[x], low, high, color=colour, linewidth=1.4)
    else:
        ax.fill_between(part[x], low, high, color=colour, alpha=0.18, linewidth=0)
    ax.plot(part[x], part[rate], color=colour, label=label or None, **{"marker": "o", **style})
    if "partial" in part:
        partial = part[part["partial"]]
        ax.plot(partial[x], partial[rate], "o", color=colour, mfc="white", **style)


class _Percent(ticker.Formatter):
    """Rates as per cent, with as many decimals as the ticks themselves have: never 82 for 82.5."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{100 * x:.4g}%"

    def format_ticks(self, values: Iterable[float]) -> list[str]:
        shown = [100 * float(value) for value in values]
        fits = (d for d in range(3) if all(abs(round(x, d) - x) < 1e-6 for x in shown))
        digits = next(fits, 3)
        return [f"{x:.{digits}f}%" for x in shown]


def percent(axis: Any) -> None:
    """Show rates as per cent on an axis, at round ticks."""
    axis.set_major_locator(ticker.MaxNLocator(nbins="auto", steps=[1, 2, 5, 10]))
    axis.set_major_formatter(_Percent())


def fixed_ticks(axis: Any, ticks: Sequence[float], write: Callable[..., str]) -> None:
    """Put ticks at these values and nowhere else."""
    axis.set_major_locator(ticker.FixedLocator(ticks))
    axis.set_major_formatter(ticker.FuncFormatter(write))
    axis.set_minor_locator(ticker.NullLocator())


def dates(ax: Any) -> None:
    """Show days as numbers, so that no language's month names stand on the axis."""
    ax.xaxis.set_major_locator(mdates.AutoDateLocator(minticks=3, maxticks=7))
    ax.xaxis.set_major_formatter(mdates.DateFormatter("%Y-%m-%d"))
