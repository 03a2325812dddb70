"""The verb `report`."""

from __future__ import annotations

import warnings
from typing import Annotated

import typer

from verifyanalytics.cli.options import JsonOption, QuietOption, StoreOption
from verifyanalytics.cli.output import clean, complain, note, print_json

app = typer.Typer()


@app.command()
def report(
    store: StoreOption = None,
    out: Annotated[
        str, typer.Option(metavar="DIR|FILE", help="A folder, or a file: .html or .pdf.")
    ] = "out/report",
    period: Annotated[
        str,
        typer.Option(
            metavar="week|month|NAME",
            help="The last whole week or month, or a name: 2024-W23, 2024-06.",
        ),
    ] = "week",
    compare: Annotated[
        str,
        typer.Option(
            metavar="previous|none|NAME", help="What to compare with; never a partial period."
        ),
    ] = "previous",
    by: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Groups, such as channel; may be repeated."),
    ] = None,
    regime: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this regime or req_key; may be repeated."),
    ] = None,
    lang: Annotated[str, typer.Option(metavar="en|zh|both", help="The language.")] = "en",
    file_format: Annotated[
        str, typer.Option("--format", metavar="html|pdf|both", help="The form of the files.")
    ] = "html",
    tz: Annotated[str, typer.Option(metavar="ZONE", help="Where days begin.")] = "Asia/Shanghai",
    as_of: Annotated[
        int | None, typer.Option(metavar="VERSION", help="Read the store as it was.")
    ] = None,
    min_group: Annotated[
        int, typer.Option(metavar="N", min=1, help="Smaller groups are not shown by themselves.")
    ] = 5,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Write the risk report of a week or a month: one HTML page that needs nothing, or PDF."""
    from verifyanalytics.charts.style import MissingFontWarning
    from verifyanalytics.reporting.write import FORMATS
    from verifyanalytics.reporting.write import report as write

    formats = FORMATS if file_format == "both" else file_format
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default", MissingFontWarning)
        made = write(
            store, out, period=period, compare=compare, by=by or (), regimes=regime or (),
            lang=lang, formats=formats, tz=tz, as_of=as_of, min_group=min_group,
        )  # fmt: skip
    for warning in told:
        complain(str(warning.message))
    if as_json:
        print_json(
            {"paths": [str(path) for path in made.paths], "period": made.period,
             "partial": made.partial, "compared": made.compared, "alone": made.alone,
             "store_version": made.store_version}
        )  # fmt: skip
        return 0
    for path in made.paths:
        print(clean(str(path)))
    against = made.compared or f"nothing ({made.alone.replace('_', ' ')})"
    note(f"{made.period}, compared with {against}", quiet=quiet)
    return 0
