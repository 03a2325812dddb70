"""Verbs that call the vendor: `collect`, `query`, `resolve`; for people `status`, `mark`, `redo`.

A signal ends a run gracefully: calls in flight are finished and committed, then the exit code is
130 or 143. A second signal ends it at once; calls in flight are then in doubt, never lost.
"""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from verifyanalytics.cli.options import (
    JournalOption,
    JsonOption,
    Output,
    PrintsOption,
    QuietOption,
    StoreOption,
    flag,
    option,
)
from verifyanalytics.cli.output import clean, print_json, print_note, print_table, progress
from verifyanalytics.cli.store import open_store
from verifyanalytics.errors import UsageError
from verifyanalytics.store.disk import ending_signals
from verifyanalytics.vendor.api import ENDPOINT

if TYPE_CHECKING:
    from verifyanalytics.collecting.run import CollectSummary

_SHOWN = 20


@dataclass(frozen=True)
class Calls:
    """Where calls go, where their answers are kept, and how fast they are sent."""

    store: StoreOption = None
    journal: JournalOption = None
    endpoint: str = option(ENDPOINT, "URL", "A host of the vendor over https, or loopback.")
    workers: int = option(8, "N", "Calls in flight.", min=1, max=256)
    rate: float = option(10.0, "N", "Calls a second at most; 0: no limit.", min=0.0)

    def arguments(self, *, dry_run: bool = False) -> dict[str, Any]:
        """Return the arguments of `collect`, `query` and `resolve`."""
        from verifyanalytics.vendor.client import Client

        return {
            "store": open_store(self.store),
            "client": None if dry_run else Client(endpoint=self.endpoint),
            "journal": self.journal,
            "workers": self.workers,
            "rate": self.rate or None,
        }


@dataclass(frozen=True)
class Budget:
    """Limits of a run that sends calls."""

    max_calls: int | None = option(None, "N", "Calls this run may send; then exit code 6.", min=1)
    dry_run: bool = flag("--dry-run", "Say what would be sent and what it could cost at most.")


@dataclass(frozen=True)
class RunOutput:
    """The log of a run, and the form of its summary."""

    log: Path | None = option(None, "FILE", "Append one JSON line an outcome; no secrets in it.")
    as_json: JsonOption = False
    quiet: QuietOption = False


@dataclass(frozen=True)
class JournalOptions:
    """The journal that a verb reads, and the form of its result."""

    store: StoreOption = None
    journal: JournalOption = None
    as_json: JsonOption = False


def collect(
    requests: Annotated[str, typer.Argument(help="JSON lines of CertVerify requests, or -.")],
    *,
    calls: Calls,
    budget: Budget,
    again: Annotated[
        bool, typer.Option("--again", help="Also calls that a query proved unprocessed.")
    ] = False,
    image_prints: PrintsOption = False,
    output: RunOutput,
) -> int:
    """Send CertVerify calls, each token once; may be stopped and run again."""
    from verifyanalytics.collecting import verbs

    with _running(output) as run:
        arguments = calls.arguments(dry_run=budget.dry_run) | vars(budget) | run.arguments
        summary = verbs.collect(requests, again=again, image_prints=image_prints, **arguments)
        return run.finish(summary)


def query(
    tokens: Annotated[str, typer.Argument(help="One byted_token a line, or -.")],
    *,
    calls: Calls,
    budget: Budget,
    image_prints: PrintsOption = False,
    output: RunOutput,
) -> int:
    """Ask for the stored outcomes of tokens, within the hour; consumes nothing."""
    from verifyanalytics.collecting import verbs

    with _running(output) as run:
        arguments = calls.arguments(dry_run=budget.dry_run) | vars(budget) | run.arguments
        return run.finish(verbs.query(tokens, image_prints=image_prints, **arguments))


def resolve(
    *,
    calls: Calls,
    grace: Annotated[
        float,
        typer.Option(
            min=0.0,
            metavar="SECONDS",
            help="A query that finds nothing proves something only when the call is this old.",
        ),
    ] = 120.0,
    no_result_code: Annotated[
        str | None,
        typer.Option(
            metavar="CODE[:SUB]",
            help="The answer to a query that means, by the vendor's word, that there is no result.",
        ),
    ] = None,
    output: RunOutput,
) -> int:
    """Settle calls in doubt by asking for their outcome, within the hour; sends none again."""
    from verifyanalytics.collecting import verbs

    no_result = _no_result(no_result_code)
    with _running(output) as run:
        _existing(calls.store)
        arguments = calls.arguments() | run.arguments
        return run.finish(verbs.resolve(grace_s=grace, no_result=no_result, **arguments))


def _no_result(text: str | None) -> tuple[int, int | None] | None:
    """Read `50215:201202`, or a code alone."""
    if text is None:
        return None
    found = re.fullmatch(r"(-?\d{1,9})(?::(-?\d{1,9}))?", text)
    if found is None:
        raise UsageError(
            f"--no-result-code is {text[:40]!r}; give CODE or CODE:SUB, as 50215:201202"
        )
    return int(found[1]), None if found[2] is None else int(found[2])


def status(*, options: JournalOptions) -> int:
    """Say how the journal stands: calls by state, the bill, answers not in the store yet.

    Calls in doubt are listed, the oldest first, by the key that `mark` takes.
    """
    from verifyanalytics.collecting import verbs

    journal = verbs.status(_existing(options.store), journal=options.journal)
    if options.as_json:
        print_json(journal.to_dict())
        return journal.exit_code
    print(clean(str(journal)))
    if shown := journal.open_calls[:_SHOWN]:
        rows = [(c.key[:8], c.state, _span(c.seconds), c.message) for c in shown]
        print_table(["key", "state", "for", "message"], rows)
    if len(journal.open_calls) > _SHOWN:
        print(f"the {_SHOWN} oldest are shown; --json lists {len(journal.open_calls)}")
    return journal.exit_code


def reflatten(*, options: JournalOptions) -> int:
    """Derive rows anew from the raw answers that are kept, after a parser was mended."""
    from verifyanalytics.collecting import verbs

    done = verbs.reflatten(_existing(options.store), journal=options.journal)
    Output(options.as_json).result(asdict(done), str(done))
    return 0


def mark(
    key: Annotated[str, typer.Argument(help="The beginning of the call's key.")],
    state: Annotated[
        str, typer.Argument(metavar="REJECTED|NOT_PROCESSED", help="What a person found out.")
    ],
    *,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; kept in the journal.")],
    options: JournalOptions,
) -> int:
    """Settle one call in doubt by a person's word."""
    from verifyanalytics.collecting import verbs

    store = _existing(options.store)
    call = verbs.mark(store, key, state, reason=reason, journal=options.journal)
    Output(options.as_json).result(
        {"key": call.key, "state": call.state.value, "note": call.note},
        f"{call.key[:8]} is {call.state} now: {call.note}",
    )
    return 0


def redo(
    *,
    code: Annotated[int, typer.Option(metavar="CODE", help="The refusal's code, as 50402.")],
    state: Annotated[
        str, typer.Option(metavar="REJECTED", help="Only refused calls can be planned again.")
    ] = "REJECTED",
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; kept in the journal.")],
    options: JournalOptions,
) -> int:
    """Plan refused calls with a code again; the next collect of their requests sends them."""
    from verifyanalytics.collecting import verbs

    if state != "REJECTED":
        raise UsageError(f"--state is {state[:40]!r}; only REJECTED calls can be planned again")
    store = _existing(options.store)
    n_planned = verbs.redo(store, code=code, reason=reason, journal=options.journal)
    Output(options.as_json).result(
        {"planned": n_planned}, f"{n_planned:,} refused calls with code {code} are PLANNED now"
    )
    return 0


def journal(
    action: Annotated[str, typer.Argument(metavar="adopt|backup|restore", help="What to do.")],
    path: Annotated[
        str | None, typer.Argument(metavar="FILE", help="The copy, for backup and restore.")
    ] = None,
    *,
    requests: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="For adopt: requests given to collect since the copy; may be repeated.",
        ),
    ] = None,
    none_sent: Annotated[
        bool, typer.Option("--none-sent", help="For adopt: no requests were given since the copy.")
    ] = False,
    reason: Annotated[
        str, typer.Option(metavar="TEXT", help="For adopt: why; kept in the journal.")
    ] = "",
    options: JournalOptions,
) -> int:
    """Copy the journal, put a copy back, or go on with one after the newest was lost."""
    from verifyanalytics.collecting import journals

    store = _existing(options.store)
    if action == "adopt" and path is None:
        if bool(requests) == none_sent:
            raise UsageError("adopt needs --requests FILE for what was given since, or --none-sent")
        sources: list[Any] = [*(requests or [])] or [[]]
        n_doubted = sum(
            journals.adopt_journal(store, source, reason=reason, journal=options.journal)
            for source in sources
        )
        text = f"the journal is adopted; {n_doubted:,} calls came to be in doubt: run resolve"
        Output(options.as_json).result({"in_doubt": n_doubted}, text)
        return 4 if n_doubted else 0
    if action not in {"backup", "restore"} or path is None:
        raise UsageError("give journal adopt, journal backup FILE or journal restore FILE")
    act = journals.backup_journal if action == "backup" else journals.restore_journal
    act(store, path, journal=options.journal)
    Output(options.as_json).result({"file": path}, f"{action} done: {path}")
    return 0


def _existing(path: str | None) -> Any:
    """Open a store that is there: these verbs make none."""
    store = open_store(path)
    store.tables()
    return store


# ------------------------------------------------------------------ a run on a terminal


class _Run:
    """The arguments that a run gets from the terminal: a stop, a progress line, a log."""

    def __init__(self, output: RunOutput) -> None:
        self.output = output
        self.stop = threading.Event()
        self.signalled: int | None = None
        self.arguments: dict[str, Any] = {"stop": self.stop}

    def finish(self, summary: CollectSummary) -> int:
        """Print the summary; a signal's exit code goes before the run's."""
        Output(self.output.as_json, self.output.quiet).result(summary.to_dict(), str(summary))
        if not (self.output.as_json or self.output.quiet):
            for line, why in summary.refused[:10]:
                print(clean(f"line {line}: {why}"), file=sys.stderr)
        if self.signalled is not None:
            return 128 + self.signalled
        if summary.stopped and summary.exit_code:
            print_note(f"stopped: {summary.stopped}")
        return summary.exit_code


@contextmanager
def _running(output: RunOutput) -> Iterator[_Run]:
    run = _Run(output)
    with ExitStack() as stack:
        stack.enter_context(_graceful(run))
        if output.log is not None:
            run.arguments["log"] = stack.enter_context(_logging(output.log))
        bar = stack.enter_context(progress(quiet=output.quiet, counts=True))
        if bar is not None:
            task = bar.add_task("collecting", total=None, left="")

            def show(now: dict[str, Any]) -> None:
                done = ", ".join(f"{n:,} {name}" for name, n in now["states"].items() if n)
                bar.update(
                    task,
                    total=now["total"],
                    completed=now["done"],
                    left="" if now["left_s"] is None else f"{_span(now['left_s'])} left",
                    description=f"{now['rate']:.1f} calls/s: {done}",
                )

            run.arguments["progress"] = show
        yield run


@contextmanager
def _graceful(run: _Run) -> Iterator[None]:
    """Turn the first signal into a stop; the next one, of either kind, ends the process at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in ending_signals()}

    def stop(number: int, _frame: FrameType | None) -> None:
        run.signalled = number
        run.stop.set()
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
    """Append events as JSON lines to a file with mode 0600."""
    try:
        opened = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    except OSError as error:
        raise UsageError(f"--log {path} cannot be written: {error.strerror}") from None
    with os.fdopen(opened, "ab", buffering=0) as file:  # a line that fails is not tried again

        def append(event: dict[str, Any]) -> None:
            line = json.dumps(event, ensure_ascii=True).encode() + b"\n"
            if file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        yield append


def _span(seconds: float) -> str:
    """Write a length of time for a person: hours, minutes, seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
