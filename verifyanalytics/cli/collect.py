"""Verbs that call the vendor: `collect`, `query`, `resolve`; and `status` and `mark` for people.

A signal ends a run gracefully: calls in flight are finished and committed, then the exit code is
130 or 143. A second signal ends it at once; what was in flight is in doubt then, never lost.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from verifyanalytics.cli.options import JsonOption, QuietOption, StoreOption
from verifyanalytics.cli.output import clean, note, print_json, print_table, progress
from verifyanalytics.errors import UsageError

if TYPE_CHECKING:
    from verifyanalytics.collecting.run import CollectSummary

app = typer.Typer()

JournalOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="The journal; default: beside the store.", show_default=False
    ),
]
EndpointOption = Annotated[
    str,
    typer.Option(metavar="URL", help="A host of the vendor over https, or loopback."),
]
WorkersOption = Annotated[int, typer.Option(min=1, max=256, metavar="N", help="Calls in flight.")]
RateOption = Annotated[
    float, typer.Option(min=0.0, metavar="N", help="Calls a second at most; 0: no limit.")
]
MaxCallsOption = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Calls this run may send; then exit code 6."),
]
LogOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Append one JSON line an outcome; no secrets in it."),
]
DryOption = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be sent and what it could cost at most.")
]
PrintsOption = Annotated[
    bool, typer.Option("--image-prints", help="Keep a keyed fingerprint of each image.")
]
_SHOWN = 20
_ENDPOINT = "https://visual.volcengineapi.com"


@app.command()
def collect(
    requests: Annotated[str, typer.Argument(help="JSON lines of CertVerify requests, or -.")],
    store: StoreOption = None,
    journal: JournalOption = None,
    endpoint: EndpointOption = _ENDPOINT,
    workers: WorkersOption = 8,
    rate: RateOption = 10.0,
    max_calls: MaxCallsOption = None,
    dry_run: DryOption = False,
    again: Annotated[
        bool, typer.Option("--again", help="Also calls that a query proved unprocessed.")
    ] = False,
    image_prints: PrintsOption = False,
    log: LogOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Send CertVerify calls, each token once; may be stopped and run again."""
    from verifyanalytics.collecting import verbs as collecting

    with _running(quiet, log) as running:
        return running.finish(
            collecting.collect(
                requests,
                _store(store),
                client=None if dry_run else _client(endpoint),
                journal=journal,
                workers=workers,
                rate=rate or None,
                max_calls=max_calls,
                dry_run=dry_run,
                again=again,
                image_prints=image_prints,
                **running.options,
            ),
            as_json,
        )


@app.command()
def query(
    tokens: Annotated[str, typer.Argument(help="One byted_token a line, or -.")],
    store: StoreOption = None,
    journal: JournalOption = None,
    endpoint: EndpointOption = _ENDPOINT,
    workers: WorkersOption = 8,
    rate: RateOption = 10.0,
    max_calls: MaxCallsOption = None,
    dry_run: DryOption = False,
    image_prints: PrintsOption = False,
    log: LogOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Ask for the stored outcomes of tokens, within the hour; consumes nothing."""
    from verifyanalytics.collecting import verbs as collecting

    with _running(quiet, log) as running:
        return running.finish(
            collecting.query(
                tokens,
                _store(store),
                client=None if dry_run else _client(endpoint),
                journal=journal,
                workers=workers,
                rate=rate or None,
                max_calls=max_calls,
                dry_run=dry_run,
                image_prints=image_prints,
                **running.options,
            ),
            as_json,
        )


@app.command()
def resolve(
    store: StoreOption = None,
    journal: JournalOption = None,
    endpoint: EndpointOption = _ENDPOINT,
    workers: WorkersOption = 8,
    rate: RateOption = 10.0,
    grace: Annotated[
        float,
        typer.Option(
            min=0.0,
            metavar="SECONDS",
            help="A query that finds nothing proves something only when the call is this old.",
        ),
    ] = 120.0,
    log: LogOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Settle calls in doubt by asking for their outcome, within the hour; sends none again."""
    from verifyanalytics.collecting import verbs as collecting

    with _running(quiet, log) as running:
        return running.finish(
            collecting.resolve(
                _existing(store),
                client=_client(endpoint),
                journal=journal,
                workers=workers,
                rate=rate or None,
                grace_s=grace,
                **running.options,
            ),
            as_json,
        )


@app.command()
def status(
    store: StoreOption = None, journal: JournalOption = None, as_json: JsonOption = False
) -> int:
    """Say how the journal stands: calls by state, the bill, answers not in the store yet.

    Calls in doubt are listed, the oldest first, by the key that `mark` takes.
    """
    from verifyanalytics.collecting import verbs as collecting

    stands = collecting.status(_existing(store), journal=journal)
    if as_json:
        print_json(stands.to_dict())
        return stands.exit_code
    print(clean(str(stands)))
    shown = stands.open_calls[:_SHOWN]
    if shown:
        rows = [(c.key[:8], c.state, _span(c.seconds), c.message) for c in shown]
        print_table(["key", "state", "for", "message"], rows)
    if len(stands.open_calls) > _SHOWN:
        print(f"the {_SHOWN} oldest are shown; --json lists {len(stands.open_calls)}")
    return stands.exit_code


@app.command()
def reflatten(
    store: StoreOption = None, journal: JournalOption = None, as_json: JsonOption = False
) -> int:
    """Derive rows anew from the raw answers that are kept, after a parser was mended."""
    from dataclasses import asdict

    from verifyanalytics.collecting import verbs as collecting

    done = collecting.reflatten(_existing(store), journal=journal)
    if as_json:
        print_json(asdict(done))
    else:
        print(clean(str(done)))
    return 0


@app.command()
def mark(
    key: Annotated[str, typer.Argument(help="The beginning of the call's key.")],
    state: Annotated[
        str, typer.Argument(metavar="REJECTED|NOT_PROCESSED", help="What a person found out.")
    ],
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; kept in the journal.")],
    store: StoreOption = None,
    journal: JournalOption = None,
    as_json: JsonOption = False,
) -> int:
    """Settle one call in doubt by a person's word."""
    from verifyanalytics.collecting import verbs as collecting

    call = collecting.mark(_existing(store), key, state, reason=reason, journal=journal)
    if as_json:
        print_json({"key": call.key, "state": call.state.value, "note": call.note})
    else:
        print(clean(f"{call.key[:8]} is {call.state} now: {call.note}"))
    return 0


class _Running:
    """What a run is given by the terminal: a stop, a progress line, a log."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.signalled: int | None = None
        self.options: dict[str, Any] = {"stop": self.stop}
        self.quiet = False

    def finish(self, summary: CollectSummary, as_json: bool) -> int:
        """Print the summary; a signal's exit code goes before the run's."""
        if not self.quiet or as_json:
            _print(summary, as_json)
        if self.signalled is not None:
            return 128 + self.signalled
        if summary.stopped and summary.exit_code:
            note(f"stopped: {summary.stopped}")
        return summary.exit_code


@contextmanager
def _running(quiet: bool, log: Path | None) -> Iterator[_Running]:
    running = _Running()
    running.quiet = quiet
    with ExitStack() as stack:
        stack.enter_context(_graceful(running))
        if log is not None:
            running.options["log"] = stack.enter_context(_logging(log))
        bar = stack.enter_context(progress(quiet=quiet, counts=True))
        if bar is not None:
            task = bar.add_task("collecting", total=None, left="")

            def watch(now: dict[str, Any]) -> None:
                done = ", ".join(f"{n:,} {name}" for name, n in now["states"].items() if n)
                bar.update(
                    task,
                    total=now["total"],
                    completed=now["done"],
                    left="" if now["left_s"] is None else f"{_span(now['left_s'])} left",
                    description=f"{now['rate']:.1f} calls/s: {done}",
                )

            running.options["progress"] = watch
        yield running


@contextmanager
def _graceful(running: _Running) -> Iterator[None]:
    """Turn the first signal into a stop; the next one, of either kind, ends the process at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, _frame: FrameType | None) -> None:
        running.signalled = number
        running.stop.set()
        for each in before:
            signal.signal(each, _end_at_once)

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_at_once(number: int, _frame: FrameType | None) -> None:
    """End without waiting for workers; the journal has every intent, and a death is foreseen."""
    if sys.stderr.isatty():
        os.write(2, b"\x1b[?25h\n")  # the progress bar had hidden the cursor
    os._exit(128 + number)


@contextmanager
def _logging(path: Path) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Append events as JSON lines to a file that only its owner reads."""
    try:
        opened = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    except OSError as error:
        raise UsageError(f"--log {path} cannot be written: {error.strerror}") from None
    with os.fdopen(opened, "ab", buffering=0) as file:  # a line that fails is not tried again

        def tell(event: dict[str, Any]) -> None:
            line = json.dumps(event, ensure_ascii=True).encode() + b"\n"
            if file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        yield tell


def _print(summary: CollectSummary, as_json: bool) -> None:
    if as_json:
        print_json(summary.to_dict())
        return
    print(clean(str(summary)))
    for line, why in summary.refused[:10]:
        print(clean(f"line {line}: {why}"), file=sys.stderr)


def _span(seconds: float) -> str:
    """Write a length of time for a person: hours, minutes, seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _client(endpoint: str) -> Any:
    from verifyanalytics.vendor.client import Client

    return Client(endpoint=endpoint)


def _store(path: str | None) -> Any:
    from verifyanalytics.store.store import Store

    return Store(path)


def _existing(path: str | None) -> Any:
    """A store that is there: these verbs make none."""
    store = _store(path)
    store.tables()
    return store
