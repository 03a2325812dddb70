"""Verbs that bring answers in: `import` and `simulate`."""

from __future__ import annotations

from typing import Annotated

import typer

from verifyanalytics.cli.options import (
    JsonOption,
    MaxRejected,
    MaxRejectedOption,
    QuietOption,
    StoreOption,
    pairs,
    watched,
)
from verifyanalytics.cli.output import clean, print_json
from verifyanalytics.errors import InputError

app = typer.Typer()


@app.command("import")
def import_(
    paths: Annotated[
        list[str], typer.Argument(help="Files, folders, globs, s3://…, or - for standard input.")
    ],
    store: StoreOption = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Reject a response with a field of the wrong type.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(min=0, help="Worker processes; default: one a core; 0: none.", metavar="N"),
    ] = None,
    response_path: Annotated[
        str | None, typer.Option(metavar="A.B", help="Where a foreign envelope holds the response.")
    ] = None,
    time_path: Annotated[
        str | None, typer.Option(metavar="A.B", help="Where it holds the time of the call.")
    ] = None,
    context_path: Annotated[
        str | None, typer.Option(metavar="A.B", help="Where it holds your own context.")
    ] = None,
    context: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Context of every response; may be repeated."),
    ] = None,
    column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of Parquet and CSV: the response's column.")
    ] = None,
    time_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of Parquet and CSV: the time's column.")
    ] = None,
    action: Annotated[
        str | None, typer.Option(metavar="NAME", help="For responses that do not say.")
    ] = None,
    req_key: Annotated[
        str | None, typer.Option(metavar="KEY", help="For responses that do not say.")
    ] = None,
    image_prints: Annotated[
        bool, typer.Option("--image-prints", help="Keep a keyed fingerprint of each image.")
    ] = False,
    max_rejected: MaxRejectedOption = "0",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Read stored responses into the store, each exactly once."""
    from verifyanalytics.importing.run import import_responses

    bound = MaxRejected.parse(max_rejected)
    with watched(quiet) as watch:
        summary = import_responses(
            paths,
            store,
            strict=strict,
            workers=workers,
            response_path=response_path,
            time_path=time_path,
            context_path=context_path,
            context=pairs(context or [], "--context"),
            column=column,
            time_column=time_column,
            action=action,
            req_key=req_key,
            image_prints=image_prints,
            progress=watch,
        )
    if as_json:
        print_json(summary.to_dict())
    elif not quiet:
        print(clean(str(summary)))
    too_many = bound.exceeded(rejected=summary.rejected, read=summary.read)
    return InputError.exit_code if too_many else 0
