"""Output of the command line: data on stdout, notes and progress on stderr.

A table for a person, `--json` and `--csv` for a program. Notes and progress are for a person too:
they appear on a terminal only. Text from outside (tags, messages, file names) is cleaned of
characters that would steer a terminal or turn text around.
"""

from __future__ import annotations

import csv
import datetime as dt
import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    import pandas as pd
    from rich.progress import Progress

    from verifyanalytics.importing.progress import ImportProgress

MAX_CELL = 60
"""Characters of a cell in a table for a person; longer ones end in an ellipsis."""

_UNBOUNDED = 1_000_000
_NAMES = re.compile(r"(?:code|status|tag|row|year|id)$")
"""Columns whose integers are names, not amounts: 50215 is not fifty thousand."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # what spreadsheets run
_STEERING = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e0fff]"
)
"""Control characters, the bidirectional and other invisible format characters, lone surrogates."""


def clean(text: str) -> str:
    r"""Make text safe for a terminal: every steering character is shown as its escape.

    Examples
    --------
    >>> clean("a\x1b[31mb\u202e\n")
    'a\\x1b[31mb\\u202e\\n'
    """
    return _STEERING.sub(lambda match: ascii(match[0])[1:-1], text)


def clean_lines(text: str) -> str:
    """Clean a text of several lines; its line breaks stay."""
    return "\n".join(clean(line) for line in text.splitlines())


def number(value: float) -> str:
    """Write a count for a person: thousands apart by a narrow no-break space.

    Examples
    --------
    >>> number(20000).replace("\u202f", "_")
    '20_000'
    """
    return f"{value:,}".replace(",", "\u202f")


# ------------------------------------------------------------------ data


def print_json(value: object, file: TextIO | None = None) -> None:
    """Write one JSON document and a line break.

    Steering characters stay, as escapes: the document means the same and steers nothing.
    """
    text = json.dumps(_plain(value), ensure_ascii=False, allow_nan=False, indent=None)
    print(_STEERING.sub(_json_escape, text), file=file or sys.stdout)


def print_frame(frame: pd.DataFrame, *, as_json: bool = False, as_csv: bool = False) -> None:
    """Write a frame: a table for a person, a JSON list of objects, or CSV with a header."""
    if as_json:
        print_json(frame_rows(frame))
        return
    names, rows = _names_and_rows(frame)
    if as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow([csv_cell(name) for name in names])
        writer.writerows([csv_cell(value) for value in row] for row in rows)
    else:
        print_table(names, rows)


def frame_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a frame as objects of plain values."""
    names, rows = _names_and_rows(frame)
    return [dict(zip(names, row, strict=True)) for row in rows]


def print_table(names: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write an aligned table, as wide as its content where it is piped."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    rows = list(rows)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for position, name in enumerate(names):
        numeric = all(isinstance(row[position], int | float | None) for row in rows)
        table.add_column(Text(clean(name)), justify="right" if numeric else "left")
    for row in rows:
        table.add_row(
            *(
                Text(str(value) if isinstance(value, int) and _NAMES.search(name) else cell(value))
                for value, name in zip(row, names, strict=True)
            )
        )
    console = _console(sys.stdout)
    if not console.is_terminal:  # rich would cut at 80 columns
        console.width = _UNBOUNDED
        console.width = console.measure(table).maximum
    console.print(table)


def cell(value: object) -> str:
    """Write one value for a person: null as a dash, floats short, text cleaned and cut."""
    value = _scalar(value)
    if value is None:
        return "–"
    if isinstance(value, int):
        return number(value) if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        return f"{value:.8g}"
    text = clean(value)
    return text if len(text) <= MAX_CELL else f"{text[: MAX_CELL - 1]}…"


def csv_cell(value: object) -> object:
    """Return a value for CSV: a text that a spreadsheet would run as a formula gets a quote before.

    Examples
    --------
    >>> csv_cell("=cmd|' /C calc'!A0"), csv_cell(-1.5), csv_cell(None)
    ("'=cmd|' /C calc'!A0", -1.5, '')
    """
    value = _scalar(value)
    if value is None:
        return ""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


# ------------------------------------------------------------------ notes


def print_note(text: str, *, quiet: bool = False) -> None:
    """Print a note on stderr, if that is a terminal."""
    if not quiet and sys.stderr.isatty():
        print(clean_lines(text), file=sys.stderr)


def print_error(text: str) -> None:
    """Print one line on stderr."""
    line = " ".join(text.split())  # messages of DuckDB come on several lines
    print(f"verifyanalytics: {clean(line)}", file=sys.stderr)


@contextmanager
def progress(*, quiet: bool = False, counts: bool = False) -> Iterator[Progress | None]:
    """Give a progress bar with bytes, rate and time left; None if stderr is no terminal.

    With `counts` it is of things, not bytes, and the field `left` of a task is the time left.
    """
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    measures: tuple[ProgressColumn, ...] = (
        (MofNCompleteColumn(), TextColumn("{task.fields[left]}", markup=False))
        if counts
        else (DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    )
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), *measures)
    with Progress(*columns, console=_console(sys.stderr), transient=True) as bar:
        yield bar


@contextmanager
def import_progress(quiet: bool) -> Iterator[Callable[[ImportProgress], None] | None]:
    """Give a callback that shows an import's progress; None if stderr is no terminal."""
    with progress(quiet=quiet) as bar:
        if bar is None:
            yield None
            return
        task = bar.add_task("starting", total=None)

        def show(now: ImportProgress) -> None:
            total = now.bytes_total or None
            bar.update(task, description=now.state, completed=now.bytes_done, total=total)
            if now.note:
                bar.console.print(clean(now.note))

        yield show


# ------------------------------------------------------------------ plain values


def _console(file: TextIO) -> Any:
    from rich.console import Console

    return Console(file=file, highlight=False, markup=False, emoji=False, soft_wrap=False)


def _names_and_rows(frame: pd.DataFrame) -> tuple[list[str], list[tuple[object, ...]]]:
    """Return plain rows; the second column of a name gets a number, as JSON holds each once."""
    seen: dict[str, int] = {}
    names = []
    for name in map(str, frame.columns):
        seen[name] = seen.get(name, 0) + 1
        names.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    columns = ([_plain(v) for v in frame.iloc[:, i]] for i in range(frame.shape[1]))
    return names, list(zip(*columns, strict=True))


def _scalar(value: object) -> str | int | float | None:
    """Return a value for a cell: booleans, lists and mappings as JSON text."""
    value = _plain(value)
    if value is None or (isinstance(value, str | int | float) and not isinstance(value, bool)):
        return value
    return json.dumps(value, ensure_ascii=False)


def _plain(value: object) -> Any:
    """Turn a value of pandas, NumPy or Arrow into one that JSON has; null is None."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):  # DuckDB sums integers into decimals
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat() if value == value else None  # NaT is not equal to itself
    if isinstance(value, bytes):
        return value.hex()
    if hasattr(value, "tolist"):  # NumPy scalars and arrays
        return _plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return None if str(value) in {"<NA>", "NaT"} else str(value)


def _json_escape(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))
