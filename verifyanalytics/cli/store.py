"""Verbs that read a store and keep it in order."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from verifyanalytics.cli.options import (
    AsOfOption,
    JournalOption,
    Output,
    OverwriteOption,
    StoreOption,
    TableOutput,
)
from verifyanalytics.cli.output import number, print_frame, print_note
from verifyanalytics.errors import CheckError, UsageError

if TYPE_CHECKING:
    from verifyanalytics.store.store import Store


def open_store(path: str | None) -> Store:
    """Open a store that is there; a verb that reads never makes one."""
    from verifyanalytics.store.store import Store

    return Store(path)


def tables(*, store: StoreOption = None, output: Output) -> int:
    """List the tables of a store, with their rows and sizes."""
    frame = open_store(store).tables()
    print_frame(frame, as_json=output.as_json)
    print_note(f"{len(frame)} tables", quiet=output.quiet)
    return 0


def sql(
    query: Annotated[
        str, typer.Argument(help="DuckDB SQL over the tables; - reads it from stdin.")
    ],
    *,
    store: StoreOption = None,
    as_of: AsOfOption = None,
    limit: Annotated[
        int, typer.Option(min=0, help="Rows of the table for a person; 0 shows all.")
    ] = 100,
    output: TableOutput,
) -> int:
    """Ask the tables anything, in the SQL of DuckDB; `tables` lists them."""
    text = sys.stdin.read() if query == "-" else query
    frame = open_store(store).sql(text, as_of=as_of)
    shown = frame.head(limit) if output.for_person and limit else frame
    print_frame(shown, as_json=output.as_json, as_csv=output.as_csv)
    rows = f"{number(len(frame))} rows"
    if len(shown) < len(frame):
        rows = f"first {number(len(shown))} of {rows}; --limit 0 shows all"
    print_note(rows, quiet=output.quiet)
    return 0


def versions(*, store: StoreOption = None, output: Output) -> int:
    """List the versions of a store, oldest first, and which of them can be read."""
    frame = open_store(store).versions()
    print_frame(frame, as_json=output.as_json)
    print_note(f"{len(frame)} versions", quiet=output.quiet)
    return 0


def check(
    *,
    store: StoreOption = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Read every row, not only the counts.")
    ] = False,
    output: Output,
) -> int:
    """See whether the tables add up: every response read is a row, known, or a reject."""
    findings = [str(finding) for finding in open_store(store).check(deep=deep)]
    adds_up = "the store adds up" + ("" if deep else "; --deep reads every row too")
    result = {"ok": not findings, "deep": deep, "findings": findings}
    if findings:  # printed also when quiet
        Output(output.as_json).result(result, *findings)
        return CheckError.exit_code
    output.result(result, adds_up)
    return 0


def export(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Where the files go.")],
    *,
    store: StoreOption = None,
    file_format: Annotated[
        str, typer.Option("--format", metavar="parquet|csv", help="The form of the files.")
    ] = "parquet",
    as_of: AsOfOption = None,
    overwrite: OverwriteOption = False,
    output: Output,
) -> int:
    """Write every table as a plain file that needs nothing of ours to be read."""
    output.frame(open_store(store).export(folder, file_format, overwrite=overwrite, as_of=as_of))
    return 0


def repair(
    *,
    store: StoreOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what is to be done.")
    ] = False,
    output: Output,
) -> int:
    """Mend a damaged log, take damaged data files out; names what to import again."""
    from verifyanalytics.collecting.journals import deliver_again

    opened = open_store(store)
    done = opened.repair(dry_run=dry_run)
    if done and not dry_run and (n_added := deliver_again(opened)):
        done.append(f"{number(n_added)} rows came back from the raw answers of the journals")
    text = "\n".join(done) or "the logs and the data files are whole; check looks at the sums"
    output.result({"dry_run": dry_run, "done": done}, text)
    return 0


def erase(
    *,
    store: StoreOption = None,
    subject: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="A person; may be given again.")
    ] = None,
    token: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="A byted_token, or its hash.")
    ] = None,
    request_id: Annotated[list[str] | None, typer.Option(metavar="ID", help="One answer.")] = None,
    source: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="All that a file brought.")
    ] = None,
    before: Annotated[
        str | None, typer.Option(metavar="TIME", help="All that is older; UTC without a zone.")
    ] = None,
    selection: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="FILE", help="Persons, one a line, so that no shell keeps them."
        ),
    ] = None,
    journal: JournalOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    output: Output,
) -> int:
    """Erase persons, calls, sources or old answers for good; older versions go too."""
    from verifyanalytics.collecting.erasure import erase as do

    persons = [*(subject or ()), *(_lines(selection) if selection else ())]
    done = do(
        open_store(store), subjects=persons, tokens=token or (), request_ids=request_id or (),
        sources=source or (), before=before, journal=journal, dry_run=dry_run,
    )  # fmt: skip
    output.result(asdict(done), str(done))
    return 0


def _lines(path: Path) -> list[str]:
    """Read a file of one text a line."""
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    return [line for line in text.splitlines() if line]


def retain(
    keep: Annotated[
        str | None, typer.Argument(metavar="[180d|12h]", help="The rule; else the one given once.")
    ] = None,
    *,
    store: StoreOption = None,
    journal: JournalOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    output: Output,
) -> int:
    """Erase what is older than this store may keep; for each night."""
    from verifyanalytics.collecting.erasure import retain as do

    done = do(open_store(store), keep, journal=journal, dry_run=dry_run)
    output.result(asdict(done), str(done))
    return 0


def inventory(*, store: StoreOption = None, journal: JournalOption = None, output: Output) -> int:
    """List what is held of persons, where, since when and until when."""
    from verifyanalytics.collecting.erasure import inventory as look

    output.frame(look(open_store(store), journal=journal))
    return 0


def compact(
    *,
    store: StoreOption = None,
    over: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Only partitions with more small files than this."),
    ] = 1,
    output: Output,
) -> int:
    """Merge small files; no row changes."""
    merged = open_store(store).compact(over=over)
    if merged.empty and not output.as_json:
        output.result(None, "nothing to merge")
    else:
        output.frame(merged)
    return 0


def vacuum(
    *,
    store: StoreOption = None,
    retention: Annotated[
        str, typer.Option(metavar="7d|12h", help="How long removed files stay readable.")
    ] = "7d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which.")] = False,
    output: Output,
) -> int:
    """Delete files that no version of the last days refers to."""
    files = open_store(store).vacuum(retention, dry_run=dry_run)
    done = "would delete" if dry_run else "deleted"
    output.result({"dry_run": dry_run, "files": files}, f"{done} {number(len(files))} files")
    return 0
