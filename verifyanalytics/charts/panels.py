"""The page a chart is drawn on: panels, headings, threshold rules, groups and dates.

Regimes are never pooled, so a frame with several of them becomes several panels. What stands above
a panel stands there in this order: title, counts, threshold labels, axes; labels that would touch
go to a second line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import matplotlib.dates as mdates
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib import ticker

from verifyanalytics.charts.style import COLOURS, GREY, RULE, known, known_regime
from verifyanalytics.codebook.book import Lang
from verifyanalytics.errors import MissingColumnError, UsageError
from verifyanalytics.wording.names import MOST, name
from verifyanalytics.wording.numbers import percent as percent_words
from verifyanalytics.wording.texts import text
from verifyanalytics.wording.words import plain

_LABEL_SIZE, _LINE, _MOST_PANELS = 8.0, 10.5, 40
_REQ_KEY, _VALUE, TAG, GLOSS = 28, 24, 24, 72  # columns that these names may take


def needs(frame: pd.DataFrame, *columns: str) -> None:
    """Make sure that a frame is of the kind that a chart draws.

    Raises
    ------
    MissingColumnError
        One of the columns that tell it from others is not there.
    """
    if missing := [column for column in columns if column not in frame]:
        raise MissingColumnError(missing, map(str, frame.columns))


def panels(n: int, ax: Any, *, what: str, height: float = 3.1, columns: int = 2) -> list[Any]:
    """Return n Axes: those given, or the panels of a new figure.

    Parameters
    ----------
    n : int
        How many are needed, at least 1.
    ax : None, Axes or sequence of Axes
    what : str
        What a panel stands for, for the message.

    Raises
    ------
    UsageError
        Another number of Axes was given, or more are needed than a figure can hold.
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


def returned(axes: list[Any]) -> Any:
    """Return one Axes as itself, several as an array."""
    if len(axes) == 1:
        return axes[0]
    array = np.empty(len(axes), dtype=object)
    array[:] = axes
    return array


def finish(axes: list[Any], own_figure: bool, title: str, notes: Iterable[str] = ()) -> None:
    """Put the figure's title and its notes, when the figure is ours; set fonts of the ticks."""
    for ax in axes:
        ax.tick_params(labelfontfamily=plt.rcParams["font.family"])
    figure = axes[0].figure
    if not own_figure:
        return
    left = 0.012
    figure.suptitle(title, x=left, ha="left", fontsize=12, linespacing=1.35)
    note = "\n".join(note for note in notes if note)
    if note:
        figure.supxlabel(note, x=left, ha="left", fontsize=8, color=GREY)
    if "\n" in title:
        _make_room(figure, note)


def _make_room(figure: Any, note: str) -> None:
    """Make a figure in two languages higher by the lines that the second one takes."""
    down = {ax.get_gridspec().nrows for ax in figure.axes if ax.get_gridspec() is not None}
    higher = 0.2 + 0.35 * max(down, default=1) + 0.07 * (1 + note.count("\n"))
    figure.set_figheight(figure.get_figheight() + higher)


def heading(ax: Any, title: str, counts: str, lines: int = 0) -> None:
    """Write title and counts above the axes, over so many lines of labels."""
    pad = 5 + lines * _LINE
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


def groups(frame: pd.DataFrame, before: str) -> list[str]:
    """Return the columns the frame was split by: those that stand before its first own column."""
    columns = list(frame.columns[: frame.columns.get_loc(before)])
    return [column for column in columns if column not in ("period", "period_start", "partial")]


Palette: TypeAlias = dict[str, str]
"""A colour for each group of a chart, the same in all its panels."""


def palette(frame: pd.DataFrame, by: Sequence[str], lang: Lang) -> Palette:
    """Give each group of a frame its colour.

    Raises
    ------
    UsageError
        More groups than a reader could tell apart.
    """
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
    """Write a value of the data; ours in the language, theirs as they can be drawn."""
    plain = (
        "unknown"
        if pd.isna(value)
        else str(value).lower()
        if isinstance(value, (bool, np.bool_))
        else str(value)
    )
    return text(plain, lang, joint=" ") if known(plain) else name(plain, most)


def regime(value: Any, lang: Lang) -> str:
    """Name a regime; of a long request key the end goes, its thresholds stay."""
    if known_regime(plain := str(value)):
        return text(plain, lang, joint=" ")
    key, _, thresholds = plain.rpartition(" ")
    shown = [name(key, _REQ_KEY)] if key else []
    return " ".join([*shown, name(thresholds)])


def tag_name(row: Any, lang: Lang) -> str:
    """Name a risk tag: its digits, and what the code book says of them."""
    glosses = {"en": row.name_en, "zh": row.name_zh}
    told = " ".join(name(glosses[one], GLOSS) for one in languages(lang))
    return f"{name(row.tag, TAG)}  {told if row.known else text('unknown_tag', lang, joint=' ')}"


def both(lang: Lang, write: Callable[[Lang], str]) -> str:
    """One language on one line; `both` on two, unless they say the same."""
    return "\n".join(dict.fromkeys(write(one) for one in languages(lang)))


def languages(lang: Lang) -> tuple[Lang, ...]:
    """Return the language, or the two of `both`."""
    return ("en", "zh") if lang == "both" else (lang,)


def counts_line(lang: Lang, *parts: tuple[str, int | None]) -> str:
    """Join counts with dots; in `both`, English on one line and Chinese on the next."""
    kept = [(key, n) for key, n in parts if n is not None]
    return both(lang, lambda one: " · ".join(text(key, one, n=n) for key, n in kept))


def share(rate: float, lang: Lang) -> str:
    """Write a rate: `62.3 %` with a blank that does not break, in Chinese `62.3%`.

    Below one per cent with two decimals; what is more than nothing is never written as nothing,
    nor what is less than all as all.
    """
    return plain(percent_words(rate, tiny="bound"), lang)


class _Percent(ticker.Formatter):
    """Rates as per cent, with as many decimals as the ticks themselves have: never 82 for 82.5."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{100 * x:.4g}%"

    def format_ticks(self, values: Iterable[float]) -> list[str]:
        shown = [100 * float(value) for value in values]
        fits = (d for d in range(3) if all(abs(round(x, d) - x) < 1e-6 for x in shown))
        digits = next(fits, 3)
        return [f"{x:.{digits}f}%" for x in shown]


def percent(axis: Any, limits: Any) -> None:
    """Show rates as per cent on an axis, at round ticks between these limits."""
    axis.set_major_locator(ticker.MaxNLocator(nbins="auto", steps=[1, 2, 5, 10]))
    axis.set_major_formatter(_Percent())


def dates(ax: Any) -> None:
    """Show days as numbers, so that no language's month names stand on the axis."""
    ax.xaxis.set_major_locator(mdates.AutoDateLocator(minticks=3, maxticks=7))
    ax.xaxis.set_major_formatter(mdates.DateFormatter("%Y-%m-%d"))
