"""Verbs of the simulated vendor: `demo`, `simulate` (files) and `serve` (the API on loopback)."""

from __future__ import annotations

import shlex
import shutil
import sys
import typing
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from verifyanalytics.cli.options import (
    Output,
    OverwriteOption,
    SettingsOption,
    flag,
    option,
    pairs,
)
from verifyanalytics.cli.output import (
    clean,
    frame_rows,
    import_progress,
    number,
    print_frame,
    print_json,
    print_table,
)
from verifyanalytics.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

    from verifyanalytics.demo import Demo
    from verifyanalytics.simulator.server.server import Service


@dataclass(frozen=True)
class Files:
    """Options of `va.simulate`, under their names."""

    out: str = option(MISSING, "DIR", "The folder for the files.")
    n: int = option(10_000, "N", "Answers.", "--n", "-n", min=0)
    seed: int = option(0, "N", "The same arguments give the same text.")
    form: str = option("envelope", "envelope|answer|mixed", "What a line is.")
    compression: str = option("gz", "gz|zst|none", "How the files are packed.")
    by: str | None = option(None, "day|week|month", "A file for each.")
    files: int = option(1, "N", "So many files of equal length.")
    repeats: int = option(0, "N", "So many answers stand a second time.")
    oddities: bool = flag("--oddities", "Also files of odd and of bad lines.")


def simulate(
    *,
    files: Files,
    settings: SettingsOption = None,
    overwrite: OverwriteOption = False,
    output: Output,
) -> int:
    """Write simulated answers, their labels, and the arguments that made them."""
    from verifyanalytics import simulator

    written = simulator.simulate(**vars(files), overwrite=overwrite, **world_fields(settings))
    counts = {
        "answers": written.n_answers,
        "repeated": written.n_repeated,
        "bad": written.n_bad,
        "labels": written.n_labels,
        "bytes": written.n_bytes,
    }
    output.result(
        counts | {"files": [str(path) for path in written.paths]},
        f"wrote {number(written.n_answers)} answers and {number(written.n_labels)} labels "
        f"into {files.out}: {len(written.paths)} files, {number(written.n_bytes)} bytes",
    )
    return 0


@dataclass(frozen=True)
class Serving:
    """Options of `va.serve`, under their names."""

    port: int = option(0, "N", "0: any free one.")
    seed: int = option(0, "N", "Of the answers and the faults.")
    faults: Path | None = option(None, "SCRIPT", "A file that says what goes wrong when.")
    access_key: str | None = option(None, "KEY", "What a client must sign with.")
    secret_key_file: Path | None = option(None, "FILE", "The first line is the secret key.")
    latency: float = option(0.0, "SECONDS", "Before each reply.", min=0)
    ready_after: float = option(0.2, "SECONDS", "Until a query finds a result.", min=0)
    qps: float | None = option(None, "N", "Calls a second; more are refused.")
    ledger: Path | None = option(None, "FILE", "Append what is processed and billed.")


def serve(
    *,
    serving: Serving,
    settings: SettingsOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the address as JSON.")] = False,
) -> int:
    """Serve the simulated API on loopback until Ctrl-C; prints its address."""
    from verifyanalytics import simulator

    options = {name: value for name, value in vars(serving).items() if value is not None}
    if path := options.pop("secret_key_file", None):
        options["secret_key"] = _first_line(path)

    def announce(service: Service) -> None:
        if as_json:
            print_json({"address": service.address, "port": service.port})
        else:
            print(f"serving on {service.address}")
        sys.stdout.flush()  # the caller of the process waits for the line

    world = simulator.World(**world_fields(settings))
    simulator.run_service(announce, world=world, **options)
    return 0


def _first_line(path: Path) -> str:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the secret key in {path}") from error
    if not lines or not lines[0].strip():
        raise UsageError(f"{path} holds no secret key")
    return lines[0].strip()


def world_fields(words: list[str] | None) -> dict[str, Any]:
    """Read `NAME=VALUE` settings as the types that the world's fields have.

    An unknown field, or a value that does not fit it, is a UsageError.

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


# ------------------------------------------------------------------ the demo


def demo(
    *,
    out: Annotated[
        str, typer.Option(metavar="DIR", help="A new folder, or one of an earlier demo.")
    ] = "out/demo",
    live: Annotated[
        bool, typer.Option("--live", help="Collect from a simulated vendor that misbehaves.")
    ] = False,
    output: Output,
) -> int:
    """Import a synthetic sample, sum it up, draw the charts, run the first notebook."""
    from verifyanalytics.demo import run_demo

    if live:
        return _live(out, output)
    with import_progress(output.quiet) as progress:
        made = run_demo(out, progress=progress)
    if output.as_json:
        print_json(
            {
                "imported": made.imported.to_dict(),
                "summary": {title: frame_rows(frame) for title, frame in made.tables.items()},
                "store": str(made.store),
                "charts": [str(path) for path in made.charts],
                "page": str(made.page),
            }
        )
    elif not output.quiet:
        _print_demo(made)
    return 0


def _live(out: str, output: Output) -> int:
    """Run the collector against faults; print the bill from both sides."""
    from verifyanalytics.demo import prepare, run_live_demo

    folder = Path(out).absolute()
    prepare(folder)
    made = run_live_demo(folder)
    if output.as_json:
        print_json({"bill": frame_rows(made.bill), "store": str(made.store), "runs": made.runs})
    elif not output.quiet:
        print(clean(f"collected in {made.runs} runs: {made.collected}"))
        print(clean(f"after asking for what was in doubt: {made.resolved}"))
        tables = {"The bill, from both sides": made.bill, "The store": made.tables}
        for title, frame in tables.items():
            print(f"\n{title}\n")
            print_frame(frame)
        print(clean(f"store: {made.store}"))
    return 0


def _print_demo(made: Demo) -> None:
    print(clean(str(made.imported)))
    for title, frame in made.tables.items():
        print(f"\n{clean(title)}\n")
        columns = _with_percentages(frame)
        print_table(list(columns), zip(*columns.values(), strict=True))
    print()
    charts = (("chart", path) for path in made.charts)
    for name, path in (("first look", made.page), *charts, ("store", made.store)):
        print(clean(f"{name + ':':12}{path}"))
    print("\nAsk it anything:")
    query = ["sql", "select * from risk_tags limit 10", "--store", str(made.store)]
    print(clean(f"  {shlex.join([_command(), *query])}"))


def _command() -> str:
    """Return the name of this program where that finds it, else its path."""
    script = Path(sys.executable).with_name("verifyanalytics")
    found = shutil.which("verifyanalytics")
    is_there = found is not None and Path(found).resolve() == script.resolve()
    return "verifyanalytics" if is_there or not script.exists() else str(script)


def _with_percentages(frame: pd.DataFrame) -> dict[str, list[object]]:
    """Write a rate and its interval as two columns that a person reads; times as days."""
    import pandas as pd

    columns: dict[str, list[object]] = {}
    for name in frame.columns:
        if name.endswith(("_low", "_high")):
            continue
        if f"{name}_low" in frame.columns:
            columns[name.replace("_", " ")] = [_percent(value) for value in frame[name]]
            bounds = zip(frame[f"{name}_low"], frame[f"{name}_high"], strict=True)
            columns["95 % interval"] = [f"{_percent(a)} to {_percent(b)}" for a, b in bounds]
        elif name.endswith("_at"):
            columns[name.replace("_at", " seen")] = [
                None if pd.isna(time) else str(time)[:10] for time in frame[name]
            ]
        else:
            short = name.removeprefix("n_")
            heading = name if short in frame.columns else short
            columns[heading.replace("_", " ")] = list(frame[name])
    return columns


def _percent(share: float) -> str:
    return "–" if share != share else f"{100 * share:.2f} %"
