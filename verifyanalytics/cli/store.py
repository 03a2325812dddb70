"""Verbs that look at a store and keep it in order."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from verifyanalytics.cli.options import CsvOption, JsonOption, QuietOption, StoreOption
from verifyanalytics.cli.output import clean, note, number, print_frame, print_json
from verifyanalytics.errors import CheckError, UsageError

if TYPE_CHECKING:
    import pandas as pd

    from verifyanalytics.store.store import Store

app = typer.Typer()

AsOfOption = Annotated[
    int | None,
    typer.Option(metavar="VERSION", help="Read the store as it was; see the verb versions."),
]


def open_store(path: str | None) -> Store:
    """Open a store that is there; a verb that reads never makes one."""
    from verifyanalytics.store.store import Store

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
    """List the versions of a store, oldest first, and which of them can be read."""
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
    as_of: AsOfOption = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that are there.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Write every table as a plain file that needs nothing of ours to be read."""
    written = open_store(store).export(folder, file_format, overwrite=overwrite, as_of=as_of)
    return _told(written, as_json=as_json, quiet=quiet)


@app.command()
def compact(
    store: StoreOption = None,
    over: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Only partitions with more small files than this."),
    ] = 1,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Merge small files; no row changes."""
    merged = open_store(store).compact(over=over)
    if merged.empty and not (as_json or quiet):
        print("nothing to merge")
        return 0
    return _told(merged, as_json=as_json, quiet=quiet)


@app.command()
def vacuum(
    store: StoreOption = None,
    retention: Annotated[
        str, typer.Option(metavar="7d|12h", help="How long removed files stay readable.")
    ] = "7d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Delete files that no version of the last days refers to."""
    files = open_store(store).vacuum(retention, dry_run=dry_run)
    if as_json:
        print_json({"dry_run": dry_run, "files": files})
    elif not quiet:
        print(f"{'would delete' if dry_run else 'deleted'} {number(len(files))} files")
    return 0


def _told(frame: pd.DataFrame, *, as_json: bool, quiet: bool) -> int:
    """Print what was done, a row a file."""
    if as_json or not quiet:
        print_frame(frame, as_json=as_json)
    return 0
