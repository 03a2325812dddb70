"""The verb `serve`: the simulated API on loopback, for trying a client before it costs money."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from verifyanalytics.cli.output import print_json
from verifyanalytics.cli.simulate import world_fields
from verifyanalytics.errors import UsageError

if TYPE_CHECKING:
    from verifyanalytics.simulator import Service

app = typer.Typer()


@app.command()
def serve(
    port: Annotated[int, typer.Option(metavar="N", help="0: any free one.")] = 0,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the answers and the faults.")] = 0,
    faults: Annotated[
        Path | None, typer.Option(metavar="SCRIPT", help="A file that says what goes wrong when.")
    ] = None,
    access_key: Annotated[
        str | None, typer.Option(metavar="KEY", help="What a client must sign with.")
    ] = None,
    secret_key_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The first line is the secret key.")
    ] = None,
    latency: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="Before each reply.")
    ] = 0.0,
    ready_after: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="Until a query finds a result.")
    ] = 0.2,
    qps: Annotated[
        float | None, typer.Option(metavar="N", help="Calls a second; more are refused.")
    ] = None,
    ledger: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Append what is processed and billed.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="A field of the simulated world; may be repeated."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the address as JSON.")] = False,
) -> int:
    """Serve the simulated API on loopback until Ctrl-C; prints its address."""
    from verifyanalytics import simulator

    keys: dict[str, Any] = {}
    if access_key is not None:
        keys["access_key"] = access_key
    if secret_key_file is not None:
        keys["secret_key"] = _first_line(secret_key_file)

    def announce(service: Service) -> None:
        if as_json:
            print_json({"address": service.address, "port": service.port})
        else:
            print(f"serving on {service.address}")
        sys.stdout.flush()  # whoever started us waits for the line

    simulator.run_service(
        announce,
        port=port,
        seed=seed,
        faults=faults or "",
        world=simulator.World(**world_fields(settings or [])),
        latency=latency,
        ready_after=ready_after,
        qps=qps,
        ledger=ledger,
        **keys,
    )
    return 0


def _first_line(path: Path) -> str:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the secret key in {path}") from error
    if not lines or not lines[0].strip():
        raise UsageError(f"{path} holds no secret key")
    return lines[0].strip()
