"""The verb `notebooks`: the course, for a user's own data."""

from __future__ import annotations

from typing import Annotated

import typer

from verifyanalytics._cli_options import JsonOption, QuietOption
from verifyanalytics._cli_output import clean, print_json

app = typer.Typer()


@app.command()
def notebooks(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Where they go; made if need be.")],
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Copy the notebooks, without outputs, for your own data."""
    from verifyanalytics.notebooks import copy

    written = copy(folder)
    if as_json:
        print_json([str(path) for path in written])
    elif not quiet:
        for path in written:
            print(clean(str(path)))
    return 0
