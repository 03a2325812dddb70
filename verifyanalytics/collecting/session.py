"""One run over one input: lines are planned by the handful, sent, delivered and summed up."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from pathlib import Path
from typing import Any

from verifyanalytics.collecting.requests import CallLine, count_lines, read_call, read_calls
from verifyanalytics.collecting.run import Planned, Run, SettlingRun
from verifyanalytics.collecting.summary import CollectSummary, gravest
from verifyanalytics.errors import InputError, StorageError
from verifyanalytics.journal.delivery import Delivered, answered, deliver
from verifyanalytics.journal.journal import OPEN_STATES, Call, Journal
from verifyanalytics.store.store import Store
from verifyanalytics.vendor.api import QUERY
from verifyanalytics.vendor.client import query_body
from verifyanalytics.vendor.replies import State

RETENTION_S = 30 * 86400.0
"""Seconds for which raw answers are kept after their rows are in the store."""

_PLANNED_AT_ONCE = 256
_DELIVERED_AT = 5000

Requests = str | Path | Iterable[Mapping[str, Any]]
Progress = Callable[[dict[str, Any]], None]
Log = Callable[[dict[str, Any]], None]


class Session:
    """One run with its journal and store: plans, delivers, sums up."""

    def __init__(
        self,
        store: Store,
        book: Journal,
        progress: Progress | None,
        log: Log | None,
        stop: threading.Event | None,
    ) -> None:
        self._store, self._book, self._progress = store, book, progress
        self._tell = log or (lambda event: None)
        self._log_lock = threading.Lock()
        self._sum = CollectSummary()
        self._delivered = Delivered()
        self._started = time.monotonic()
        self._told_at = 0.0
        self._answers = 0
        self._total: int | None = None
        self._passed = 0
        self.stop = stop or threading.Event()

    def log(self, event: dict[str, Any]) -> None:
        """Hand one event on, one at a time.

        Raises
        ------
        StorageError
            The log cannot be written; what it would tell is in the journal already.
        """
        with self._log_lock:
            self._answers += event["state"] in {State.OK, State.REJECTED}
            try:
                self._tell(event)
            except OSError as error:
                raise StorageError(f"the log cannot be written: {error.strerror}") from error

    def carry_out(
        self, run: Run, source: Requests, *, queries: bool, again: bool
    ) -> CollectSummary:
        """Plan and send what is new, deliver what came back."""
        self._deliver()  # what an earlier run received and could not deliver
        if self._progress is not None:
            self._total = length(source)
        lines = read_lines(source, self._store.key, queries=queries, refused=self._sum.refuse)
        run.send(
            self._planned(lines, queries=queries, again=again), between=lambda: self._between(run)
        )
        if queries and run.n_left:
            run.halt(6, f"tokens without a result: {run.n_left:,}; ask again within the hour")
        self._deliver()
        self._forget()
        return self.summary(run)

    def settle(self, run: SettlingRun) -> CollectSummary:
        """Query every call in doubt, deliver what came back."""
        self._deliver()
        calls = self._book.calls(*OPEN_STATES)
        self._sum.read = self._total = len(calls)
        run.send(
            (_as_query(call) for call in calls if call.token),
            between=lambda: self._between(run),
        )
        self._deliver()
        return self.summary(run)

    def summary(self, run: Run) -> CollectSummary:
        """Sum up, with the gravest exit code."""
        total, book = self._sum, self._book
        states, bill = book.states(), book.bill()
        total.states = {state.value: n for state, n in states.items()}
        total.billed, total.not_billed = bill["billed"], bill["not_billed"]
        total.unknown = bill["unknown"]
        total.added, total.known = self._delivered.added, self._delivered.known
        total.rejected = self._delivered.rejected
        total.seconds = time.monotonic() - self._started
        total.sent = run.n_sent
        total.stopped = run.stopped.reason if run.stopped else None
        in_doubt = sum(states[state] for state in OPEN_STATES)
        total.exit_code = gravest(
            run.stopped, in_doubt=in_doubt, rejected=total.invalid + total.rejected
        )
        return total

    def _planned(
        self, lines: Iterable[CallLine], *, queries: bool, again: bool
    ) -> Iterator[Planned]:
        """Enter lines into the journal by the handful; those that may go out come back."""
        for handful in handfuls(lines):
            self._sum.read += len(handful)
            known = self._book.standing({c.key for c in handful})
            stored = (
                set() if queries else answered(self._store, sendable_keys(handful, known, again))
            )
            fresh = [c for c in handful if c.key not in known and c.key not in stored]
            n_new = self._book.plan((c.key, c.action, c.body["req_key"]) for c in fresh)
            replanned = self._book.plan_again(known.keys() - stored) if again else set()
            n_new += len(replanned)
            self._sum.new += n_new
            self._sum.already += len(handful) - n_new
            planned = {key for key, state in known.items() if state is State.PLANNED} - stored
            going = planned | replanned | {c.key for c in fresh}
            in_doubt = {key for key, state in known.items() if queries and state in OPEN_STATES}
            yield from self._going(handful, going, in_doubt)

    def _going(
        self, handful: list[CallLine], going: set[str], in_doubt: set[str]
    ) -> Iterator[Planned]:
        """Each call once, if it may go out or be asked for again."""
        for call in handful:
            if call.key in going or call.key in in_doubt:
                yield Planned(
                    call.key, call.action, call.body, call.token, call.subject, call.context,
                    is_open=call.key in in_doubt,
                )  # fmt: skip
                going.discard(call.key)
                in_doubt.discard(call.key)
            else:
                self._passed += 1

    def _between(self, run: Run) -> None:
        if self._answers >= _DELIVERED_AT:
            self._deliver()
        now = time.monotonic()
        if self._progress is not None and now - self._told_at > 0.5:
            self._told_at = now
            seconds = max(now - self._started, 1e-9)
            done = self._passed + self._sum.invalid + run.n_done
            left = None if self._total is None else max(0, self._total - done)
            self._progress({
                "read": self._sum.read, "sent": run.n_sent, "rate": run.n_sent / seconds,
                "pace": run.pace.rate, "states": self._book.states(), "seconds": seconds,
                "total": self._total, "done": done,
                # lines that were known are passed over in no time, so they say nothing of the rest
                "left_s": None if left is None or not run.n_done else left * seconds / run.n_done,
            })  # fmt: skip

    def _deliver(self) -> None:
        self._answers = 0
        self._delivered += deliver(self._book, self._store)

    def _forget(self) -> None:
        done = self._store.done(f"journal:{self._book.uuid}")
        if done is not None:
            self._book.forget(done.rows_done, before=time.time() - RETENTION_S)


def read_lines(
    source: Requests, key: bytes, *, queries: bool, refused: Callable[[int, str], None]
) -> Iterator[CallLine]:
    """Read what a file or the caller asks for; `refused` is told of every other line."""
    if isinstance(source, str | Path):
        yield from read_calls(source, key, queries=queries, refused=refused)
        return
    for row, given in enumerate(source, 1):
        try:
            line = json.dumps(dict(given), ensure_ascii=False, allow_nan=False).encode()
            yield read_call(line, key, queries=queries)
        except (InputError, ValueError, TypeError) as error:
            refused(row, str(error) if isinstance(error, InputError) else "not JSON")


def length(source: Requests) -> int | None:
    """How many lines there are at most; None when that is not known before they are read."""
    if isinstance(source, str | Path):
        return count_lines(source)
    return len(source) if isinstance(source, Sized) else None


def sendable_keys(handful: Iterable[CallLine], known: Mapping[str, State], again: bool) -> set[str]:
    """Keys of those calls that may go out as far as the journal knows."""
    states = {State.PLANNED, State.NOT_PROCESSED} if again else {State.PLANNED}
    return {c.key for c in handful if c.key not in known or known[c.key] in states}


def handfuls(lines: Iterable[CallLine]) -> Iterator[list[CallLine]]:
    """Lines in small groups; a request may hold megabytes, so groups are small."""
    group: list[CallLine] = []
    n_bytes = 0
    for line in lines:
        group.append(line)
        n_bytes += len(str(line.body.get("sdk_data", "")))
        if len(group) >= _PLANNED_AT_ONCE or n_bytes > 8 << 20:
            yield group
            group, n_bytes = [], 0
    if group:
        yield group


def _as_query(call: Call) -> Planned:
    return Planned(
        call.key, QUERY, query_body(call.token or ""), call.token or "",
        is_open=True, sent_at=call.sent_at or 0.0,
    )  # fmt: skip
