"""The verb `simulate`: answers of a population whose truth is known, as files."""

from __future__ import annotations

import typing
from typing import Annotated, Any

import msgspec
import typer

from verifyanalytics.cli.options import JsonOption, QuietOption, pairs
from verifyanalytics.cli.output import clean, number, print_json
from verifyanalytics.errors import UsageError

app = typer.Typer()


@app.command()
def simulate(
    out: Annotated[str, typer.Option(metavar="DIR", help="The folder for the files.")],
    n: Annotated[int, typer.Option("--n", "-n", min=0, metavar="N", help="Answers.")] = 10_000,
    seed: Annotated[
        int, typer.Option(metavar="N", help="The same arguments give the same text.")
    ] = 0,
    form: Annotated[
        str, typer.Option(metavar="envelope|answer|mixed", help="What a line is.")
    ] = "envelope",
    compression: Annotated[
        str, typer.Option(metavar="gz|zst|none", help="How the files are packed.")
    ] = "gz",
    by: Annotated[
        str | None, typer.Option(metavar="day|week|month", help="A file for each.")
    ] = None,
    files: Annotated[int, typer.Option(metavar="N", help="So many files of equal length.")] = 1,
    repeats: Annotated[
        int, typer.Option(metavar="N", help="So many answers stand a second time.")
    ] = 0,
    oddities: Annotated[
        bool, typer.Option("--oddities", help="Also files of odd and of bad lines.")
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="A field of the simulated world; may be repeated."
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that are there.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Write simulated answers, their labels, and the arguments that made them."""
    from verifyanalytics import simulator

    written = simulator.simulate(
        n,
        seed,
        out=out,
        form=form,
        compression=compression,
        by=by,
        files=files,
        repeats=repeats,
        oddities=oddities,
        overwrite=overwrite,
        **world_fields(settings or []),
    )
    if as_json:
        print_json(
            {
                "answers": written.n_answers,
                "repeated": written.n_repeated,
                "bad": written.n_bad,
                "labels": written.n_labels,
                "bytes": written.n_bytes,
                "files": [str(path) for path in written.paths],
            }
        )
    elif not quiet:
        print(
            clean(
                f"wrote {number(written.n_answers)} answers and {number(written.n_labels)} labels "
                f"into {out}: {len(written.paths)} files, {number(written.n_bytes)} bytes"
            )
        )
    return 0


def world_fields(words: list[str]) -> dict[str, Any]:
    """Read `NAME=VALUE` settings as the types that the world's fields have.

    Raises
    ------
    UsageError
        A field that does not exist, or a value that does not fit it.

    Examples
    --------
    >>> world_fields(["k=3", "thresholds=61,71,81,91", "attack_detected=null"])
    {'k': 3.0, 'thresholds': (61.0, 71.0, 81.0, 91.0), 'attack_detected': None}
    """
    from verifyanalytics.simulator import World

    types = typing.get_type_hints(World)
    fields: dict[str, Any] = {}
    for name, text in pairs(words, "--set").items():
        if name not in types:
            raise UsageError(f"--set {name!r}: the world has {', '.join(sorted(types))}")
        value = text.split(",") if "," in text else text
        try:
            fields[name] = msgspec.convert(value, types[name], strict=False)
        except msgspec.ValidationError as error:
            raise UsageError(f"--set {name}={text}: {error}") from error
    return fields
