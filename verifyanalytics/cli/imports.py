"""Verbs that bring data in: `import` for stored responses, `labels` for ground truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from verifyanalytics.cli.options import (
    MaxRejected,
    MaxRejectedOption,
    Output,
    PrintsOption,
    StoreOption,
    flag,
    option,
    pairs,
)
from verifyanalytics.cli.output import import_progress, print_error
from verifyanalytics.errors import InputError

MAX_PRINTED = 20
"""Refused labels on stderr; `--json` has them all."""


@dataclass(frozen=True)
class Reading:
    """Options of `import_responses`, under their names."""

    strict: bool = flag("--strict", "Reject a response with a field of the wrong type.")
    workers: int | None = option(
        None, "N", "Worker processes; default: one a core; 0: none.", min=0
    )
    response_path: str | None = option(None, "A.B", "Where a foreign envelope holds the response.")
    time_path: str | None = option(None, "A.B", "Where it holds the time of the call.")
    context_path: str | None = option(None, "A.B", "Where it holds your own context.")
    context: list[str] | None = option(
        None, "NAME=VALUE", "Context of every response; may be repeated."
    )
    column: str | None = option(None, "NAME", "Of Parquet and CSV: the response's column.")
    time_column: str | None = option(None, "NAME", "Of Parquet and CSV: the time's column.")
    action: str | None = option(None, "NAME", "For responses that do not say.")
    req_key: str | None = option(None, "KEY", "For responses that do not say.")
    image_prints: PrintsOption = False
    follow_links: bool = flag("--follow-links", "Also what links in a folder lead to outside it.")


def import_(
    paths: Annotated[
        list[str], typer.Argument(help="Files, folders, globs, s3://…, or - for standard input.")
    ],
    *,
    store: StoreOption = None,
    reading: Reading,
    max_rejected: MaxRejectedOption = "0",
    output: Output,
) -> int:
    """Read stored responses into the store, each exactly once."""
    from verifyanalytics.importing.run import import_responses

    bound = MaxRejected.parse(max_rejected)
    with import_progress(output.quiet) as progress:
        options = vars(reading) | {"context": pairs(reading.context, "--context")}
        summary = import_responses(paths, store, **options, progress=progress)
    output.result(summary.to_dict(), str(summary))
    too_many = bound.exceeded(rejected=summary.rejected, read=summary.read)
    return InputError.exit_code if too_many else 0


@dataclass(frozen=True)
class Labels:
    """Options of `import_labels`, under their names."""

    ignore: list[str] | None = option(None, "NAME", "A column to leave out; may be repeated.")
    strict: bool = flag("--strict", "Refuse labels that name no stored answer.")


def labels(
    path: Annotated[str, typer.Argument(metavar="FILE", help="CSV or Parquet with ground truth.")],
    *,
    store: StoreOption = None,
    reading: Labels,
    max_rejected: MaxRejectedOption = "0",
    output: Output,
) -> int:
    """Read ground truth into the store; reading a file again adds nothing."""
    from verifyanalytics.importing.labels import import_labels

    bound = MaxRejected.parse(max_rejected)
    summary = import_labels(path, store, ignore=reading.ignore or [], strict=reading.strict)
    for refusal in summary.refusals[:MAX_PRINTED]:
        print_error(str(refusal))
    if (more := len(summary.refusals) - MAX_PRINTED) > 0:
        print_error(f"{more} more rows are refused; --json lists them all")
    output.result(summary.to_dict(), str(summary))
    too_many = bound.exceeded(rejected=summary.refused, read=summary.read)
    return InputError.exit_code if too_many else 0
