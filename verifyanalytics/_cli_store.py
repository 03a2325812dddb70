"""Verbs that look at a store and keep it in order."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from verifyanalytics._cli_options import CsvOption, JsonOption, QuietOption, StoreOption
from verifyanalytics._cli_output import clean, note, number, print_frame, print_json
from verifyanalytics.errors import CheckError, UsageError

if TYPE_CHECKING:
    import pandas as pd

    from verifyanalytics.store import Store

app = typer.Typer()

AsOfOption = Annotated[
    int | None,
    typer.Option(
        metavar="VERSION", help="Read the store as it was; `versions` lists what is kept."
    ),
]


def open_store(path: str | None) -> Store:
    """Open a store that is there; a verb that reads never makes one."""
    from verifyanalytics.store import Store

    return Store(path)


@app.command()
def tables(
    store: StoreOption = None, as_json: JsonOption = False, quiet: QuietOption = False
) -> int:
    """List the tables of a store, with their rows and sizes."""
    frame = open_store(store).tables()
    print_frame(frame, as_json=as_json)
    note(f"{len(frame)} tables", quiet=quiet)
    return 0


@app.command()
def sql(
    query: Annotated[
        str, typer.Argument(help="DuckDB SQL over the tables; - reads it from stdin.")
    ],
    store: StoreOption = None,
    as_of: AsOfOption = None,
    limit: Annotated[
        int, typer.Option(min=0, help="Rows of the table for a person; 0 shows all.")
    ] = 100,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
    quiet: QuietOption = False,
) -> int:
    """Ask the tables anything, in the SQL of DuckDB; `tables` lists them."""
    if as_json and as_csv:
        raise UsageError("--json and --csv: give one of them")
    asked = sys.stdin.read() if query == "-" else query
    frame = open_store(store).sql(asked, as_of=as_of)
    for_person = not (as_json or as_csv)
    shown = frame.head(limit) if for_person and limit else frame
    print_frame(shown, as_json=as_json, as_csv=as_csv)
    note(_row_note(frame, shown), quiet=quiet)
    return 0


def _row_note(frame: pd.DataFrame, shown: pd.DataFrame) -> str:
    if len(shown) < len(frame):
        return f"first {number(len(shown))} of {number(len(frame))} rows; --limit 0 shows all"
    return f"{number(len(frame))} rows"


@app.command()
def versions(
    store: StoreOption = None, as_json: JsonOption = False, quiet: QuietOption = False
) -> int:
    """List the versions of a store that can still be read, newest first."""
    frame = open_store(store).versions()
    print_frame(frame, as_json=as_json)
    note(f"{len(frame)} versions", quiet=quiet)
    return 0


@app.command()
def check(
    store: StoreOption = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Read every row, not only the counts.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """See whether the tables add up: every response read is a row, known, or a reject."""
    findings = [str(finding) for finding in open_store(store).check(deep=deep)]
    if as_json:
        print_json({"ok": not findings, "deep": deep, "findings": findings})
    for finding in () if as_json else findings:
        print(clean(finding))
    if not findings and not as_json and not quiet:
        print("the store adds up" + ("" if deep else "; --deep reads every row too"))
    return CheckError.exit_code if findings else 0


@app.command()
def export(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Where the files go.")],
    store: StoreOption = None,
    file_format: Annotated[
        str, typer.Option("--format", metavar="parquet|csv", help="The form of the files.")
    ] = "parquet",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Write every table as a plain file that needs nothing of ours to be read."""
    if file_format not in {"parquet", "csv"}:
        raise UsageError(f"--format {file_format!r}: there are parquet and csv")
    written = open_store(store).export(folder, format=file_format)
    if as_json:
        print_json({"files": [str(path) for path in written]})
    elif not quiet:
        for path in written:
            print(clean(str(path)))
    return 0
