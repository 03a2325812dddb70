"""Verbs that write pages: `report`, and `notebooks`, the course for a user's own data."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Annotated

import typer

from verifyanalytics.cli.options import LangOption, Output, StoreOption, option
from verifyanalytics.cli.output import print_error, print_note


@dataclass(frozen=True)
class Report:
    """Options of `va.report`."""

    store: StoreOption = None
    out: str = option("out/report", "DIR|FILE", "A folder, or a file: .html or .pdf.")
    period: str = option(
        "week", "week|month|NAME", "The last whole week or month, or a name: 2024-W23, 2024-06."
    )
    compare: str = option(
        "previous", "previous|none|NAME", "What to compare with; never a partial period."
    )
    by: list[str] | None = option(None, "COLUMN", "Groups, such as channel; may be repeated.")
    regime: list[str] | None = option(None, "NAME", "Only this regime or req_key; may be repeated.")
    lang: LangOption = "en"
    file_format: str = option("html", "html|pdf|both", "The form of the files.", "--format")
    tz: str = option("Asia/Shanghai", "ZONE", "Where days begin.")
    as_of: int | None = option(None, "VERSION", "Read the store as it was.")
    min_group: int = option(5, "N", "Smaller groups are not shown by themselves.", min=1)


def report(*, options: Report, output: Output) -> int:
    """Write the risk report of a week or a month: one HTML page that needs nothing, or PDF."""
    from verifyanalytics.charts.style import MissingFontWarning
    from verifyanalytics.reporting import write

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default", MissingFontWarning)
        arguments = vars(options) | {"by": options.by or ()}
        regimes, file_format = arguments.pop("regime"), arguments.pop("file_format")
        formats = write.FORMATS if file_format == "both" else file_format
        written = write.report(**arguments, regimes=regimes or (), formats=formats)
    for warning in caught:
        print_error(str(warning.message))
    paths = [str(path) for path in written.paths]
    names = ("period", "partial", "compared", "alone", "store_version")
    result = {"paths": paths, **{name: getattr(written, name) for name in names}}
    Output(output.as_json).result(result, *paths)  # the paths also when quiet
    if not output.as_json:
        against = written.compared or f"nothing ({written.alone.replace('_', ' ')})"
        print_note(f"{written.period}, compared with {against}", quiet=output.quiet)
    return 0


def notebooks(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Where they go; made if need be.")],
    *,
    store: StoreOption = None,
    lang: Annotated[
        str, typer.Option(metavar="en|zh|both", help="Language of the charts; texts are English.")
    ] = "en",
    run: Annotated[bool, typer.Option("--run", help="Run each, and keep what it shows.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Write over notebooks of the same names.")
    ] = False,
    output: Output,
) -> int:
    """Write the notebooks for your own data: your store set in them, and run if you like."""
    from verifyanalytics.notebooks.build import copy

    written = copy(
        folder, store=store, lang=lang, force=force, run=run,
        progress=lambda name: print_note(f"running {name}", quiet=output.quiet),
    )  # fmt: skip
    paths = [str(path) for path in written]
    output.result(paths, *paths)
    return 0
