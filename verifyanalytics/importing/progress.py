"""The progress of an import: its counts while it runs, its summary, and signals that end it."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from types import FrameType
from typing import Any, Self

from verifyanalytics.store.disk import ending_signals
from verifyanalytics.wording.numbers import spaced

REPORT_SECONDS = 0.1  # how often a progress callback is called, at most


@dataclass(frozen=True, slots=True)
class ImportProgress:
    """How far an import is, as its `progress` callback gets it."""

    state: str  # hashing, reading, committing or done
    bytes_done: int  # stored bytes read; within a compressed source an estimate
    bytes_total: int
    rows: int  # responses met
    seconds: float
    note: str = ""  # for the user: a worker died, a file was skipped; usually empty

    @property
    def bytes_per_second(self) -> float:
        """Stored bytes read in a second so far; 0 at the start."""
        return self.bytes_done / self.seconds if self.seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """What remains at this rate; null as long as nothing was read."""
        rate = self.bytes_per_second
        return (self.bytes_total - self.bytes_done) / rate if rate else None


@dataclass(slots=True)
class ImportSummary:
    """What an import did; its text is one line."""

    read: int = 0  # responses met in this run: always added + known + rejected
    added: int = 0
    known: int = 0  # there already
    rejected: int = 0
    already_imported: int = 0  # committed before this run, not read again, in no count above
    already_rejected: int = 0  # those of them that became rejects then
    rejects: dict[str, int] = field(default_factory=dict)  # `rejected` by reason
    sources: int = 0
    sources_already_imported: int = 0
    skipped: list[str] = field(default_factory=list)  # files that are no input, each with why
    batches: int = 0  # commits made
    bytes: int = 0  # stored, of what was read in this run
    seconds: float = 0.0
    erased: int = 0  # of the known: erased before, so they stay out

    def __str__(self) -> str:
        """One line: what was read and what became of it."""
        counts = ", ".join(f"{reason} {spaced(n)}" for reason, n in sorted(self.rejects.items()))
        line = (
            f"read {spaced(self.read)} = added {spaced(self.added)} + known "
            f"{spaced(self.known)} + rejected {spaced(self.rejected)}"
        )
        line += f" ({counts})" if counts else ""
        if self.erased:
            line += f"; {spaced(self.erased)} of the known were erased before"
        if self.already_imported:
            line += f"; already imported {spaced(self.already_imported)}"
        if self.already_rejected:
            line += f", of them rejected {spaced(self.already_rejected)}"
        left_out = [skipped for skipped in self.skipped if not skipped.endswith("hidden")]
        if left_out:
            line += f"; files left out {spaced(len(left_out))}"
        return line

    __repr__ = __str__

    def to_dict(self) -> dict[str, Any]:
        """Every figure under its name, ready for JSON."""
        return asdict(self)


class ProgressReporter:
    """Adds up what the workers have read, from any thread; reports it from the caller's."""

    def __init__(self, report: Callable[[ImportProgress], object] | None) -> None:
        self._report, self._lock = report, threading.Lock()
        self._began, self._reported_at = time.monotonic(), 0.0
        self._notes: deque[str] = deque()
        self._state = "hashing"
        self.bytes_done = self.bytes_total = self.rows = 0

    @property
    def seconds(self) -> float:
        """Seconds since the import began."""
        return time.monotonic() - self._began

    def add(self, n_rows: int, n_bytes: int) -> None:
        """Add responses and stored bytes that were read."""
        with self._lock:
            self.rows += n_rows
            self.bytes_done += n_bytes

    def note(self, text: str) -> None:
        """Keep a line for the next report."""
        self._notes.append(text)

    def report(self, state: str | None = None) -> None:
        """Report now if the state is new, else when it is time to."""
        changed = state is not None and state != self._state
        self._state = state or self._state
        due = self._notes or self.seconds - self._reported_at > REPORT_SECONDS
        if self._report is None or not (due or changed):
            return
        self._reported_at = self.seconds
        with self._lock:
            done, rows = min(self.bytes_done, self.bytes_total), self.rows
        note = self._notes.popleft() if self._notes else ""
        self._report(ImportProgress(self._state, done, self.bytes_total, rows, self.seconds, note))


class Signals:
    """Handlers of SIGINT, SIGTERM and SIGHUP that unwind an import, and wait while it commits."""

    def __init__(self) -> None:
        # handlers that were there are called in turn, and put back at the end; outside the main
        # thread nothing is changed, because no signal arrives there
        self._before: dict[int, Callable[[int, FrameType | None], object]] = {}
        self._held = False
        self._waiting: list[int] = []

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in ending_signals():
                handler = signal.getsignal(number)
                if callable(handler):
                    self._before[number] = handler
                elif handler is signal.SIG_DFL and number != signal.SIGINT:
                    self._before[number] = _exit
        for taken in self._before:
            signal.signal(taken, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is _exit else handler)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Let signals wait; those that came are delivered at the end."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
            if self._waiting:
                number = self._waiting[0]
                self._waiting.clear()
                self._before[number](number, None)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._held:
            self._waiting.append(number)
        else:
            self._before[number](number, frame)


def _exit(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
