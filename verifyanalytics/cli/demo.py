"""The verb `demo`, and how its summary is printed."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from verifyanalytics.cli.options import JsonOption, QuietOption, watched
from verifyanalytics.cli.output import clean, frame_rows, print_frame, print_json, print_table

if TYPE_CHECKING:
    import pandas as pd

    from verifyanalytics.demo import Demo

app = typer.Typer()


@app.command()
def demo(
    out: Annotated[
        str, typer.Option(metavar="DIR", help="A new folder, or one of an earlier demo.")
    ] = "out/demo",
    live: Annotated[
        bool, typer.Option("--live", help="Collect from a simulated vendor that misbehaves.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Import a synthetic sample, sum it up, draw the charts, run the first notebook."""
    from verifyanalytics.demo import run_demo

    if live:
        return _live(out, as_json=as_json, quiet=quiet)
    with watched(quiet) as watch:
        made = run_demo(out, progress=watch)
    if as_json:
        print_json(
            {
                "imported": made.imported.to_dict(),
                "summary": {title: frame_rows(frame) for title, frame in made.tables.items()},
                "store": str(made.store),
                "charts": [str(path) for path in made.charts],
                "page": str(made.page),
            }
        )
    elif not quiet:
        _tell(made)
    return 0


def _live(out: str, *, as_json: bool, quiet: bool) -> int:
    """Show the collector against faults, and the bill from both sides."""
    from verifyanalytics.demo import prepare, run_live_demo

    folder = Path(out).absolute()
    prepare(folder)
    made = run_live_demo(folder)
    if as_json:
        print_json({"bill": frame_rows(made.bill), "store": str(made.store), "runs": made.runs})
        return 0
    if not quiet:
        print(clean(f"collected in {made.runs} runs: {made.collected}"))
        print(clean(f"after asking for what was in doubt: {made.resolved}"))
        for title, frame in {
            "The bill, from both sides": made.bill,
            "The store": made.tables,
        }.items():
            print(f"\n{title}\n")
            print_frame(frame)
        print(clean(f"store: {made.store}"))
    return 0


def _tell(made: Demo) -> None:
    print(clean(str(made.imported)))
    for title, frame in made.tables.items():
        print(f"\n{clean(title)}\n")
        shown = _with_percentages(frame)
        print_table(list(shown), list(zip(*shown.values(), strict=True)))
    print()
    for what, path in (
        ("first look", made.page),
        *(("chart", path) for path in made.charts),
        ("store", made.store),
    ):
        print(clean(f"{what + ':':12}{path}"))
    print("\nAsk it anything:")
    query = ["sql", "select * from risk_tags limit 10", "--store", str(made.store)]
    print(clean(f"  {shlex.join([_command(), *query])}"))


def _command() -> str:
    """How this program is called: by its name when that finds it, else by its path."""
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
            columns["95 % interval"] = [
                f"{_percent(low)} to {_percent(high)}" for low, high in bounds
            ]
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
