"""The verb `notebooks`: the course, for a user's own data."""

from __future__ import annotations

from typing import Annotated

import typer

from verifyanalytics.cli.options import JsonOption, QuietOption, StoreOption
from verifyanalytics.cli.output import clean, note, print_json

app = typer.Typer()


@app.command()
def notebooks(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Where they go; made if need be.")],
    store: StoreOption = None,
    lang: Annotated[
        str, typer.Option(metavar="en|zh|both", help="Language of the charts; texts are English.")
    ] = "en",
    run: Annotated[bool, typer.Option("--run", help="Run each, and keep what it shows.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Write over notebooks of the same names.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Write the notebooks for your own data: your store set in them, and run if you like."""
    from verifyanalytics.notebooks.build import copy

    written = copy(
        folder, store=store, lang=lang, force=force, run=run,
        progress=lambda name: note(f"running {name}", quiet=quiet),
    )  # fmt: skip
    if as_json:
        print_json([str(path) for path in written])
    elif not quiet:
        for path in written:
            print(clean(str(path)))
    return 0
