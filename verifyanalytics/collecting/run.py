"""A run of the collector: calls are planned in the journal, sent, delivered to the store, counted.

`CollectRun` does it over one input; `CollectSummary` and `JournalStatus` are the counts, printed as
one line and given as a dict.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from verifyanalytics.collecting.requests import (
    PlannedCall,
    Requests,
    chunks,
    count_calls,
    read_calls,
)
from verifyanalytics.collecting.sender import CollectOptions, QuerySender, Sender, Stopped
from verifyanalytics.errors import StorageError
from verifyanalytics.journal.delivery import Delivered, answered, deliver, undelivered
from verifyanalytics.journal.journal import OPEN_STATES, Journal, JournalView
from verifyanalytics.store.store import Store
from verifyanalytics.vendor.api import QUERY
from verifyanalytics.vendor.client import query_body
from verifyanalytics.vendor.replies import State

DELIVERED_AT = 5000
"""Responses in the journal after which they are delivered while the run goes on."""


_UNPROVEN = (
    "of {:,} calls no result was found, which proves nothing by itself: settle them by hand with "
    "mark, or give the answer that is proof by the vendor's word (no_result, --no-result-code)"
)


REMEMBERED_EVERY_S = 5.0
"""Seconds after which the store is told how far the journal is."""


class CollectRun:
    """One run with its journal and store: plans, sends, delivers, sums up."""

    def __init__(self, options: CollectOptions, journal: Journal) -> None:
        self._options, self._store, self._journal = options, options.store, journal
        self._log_lock = threading.Lock()
        kind = QuerySender if options.queries else Sender
        self._sender = kind(options, journal, self._log)
        self._sum = CollectSummary()
        self._delivered = Delivered()
        self._started = time.monotonic()
        self._told_at = 0.0
        self._remembered_at = self._started
        self._answers = 0
        self._total: int | None = None
        self._passed = 0

    def _log(self, event: dict[str, Any]) -> None:
        """Hand one event on, one at a time."""
        with self._log_lock:
            self._answers += event["state"] in {State.OK, State.REJECTED}
            try:
                if self._options.log is not None:
                    self._options.log(event)
            except OSError as error:
                raise StorageError(f"the log cannot be written: {error.strerror}") from error

    def send(self, source: Requests) -> CollectSummary:
        """Plan and send what is new, deliver what came back."""
        queries, sender = self._options.queries, self._sender
        self._deliver()  # what an earlier run received and could not deliver
        if self._options.progress is not None:
            self._total = count_calls(source)
        calls = read_calls(source, self._store.key, queries=queries, refused=self._sum.refuse)
        sender.send(self._planned(calls), between=self._between)
        if sender.set_aside:
            said, n = sender.set_aside.most_common(1)[0]
            sender.halt(
                5, f"{sender.set_aside.total():,} calls were set aside; {n:,} of them: {said}"
            )
        if queries and sender.n_left:
            sender.halt(6, f"tokens without a result: {sender.n_left:,}; ask again within the hour")
        self._deliver()
        return self._summary()

    def settle(self) -> CollectSummary:
        """Query every call in doubt, deliver what came back."""
        self._deliver()
        calls = self._journal.calls(*OPEN_STATES)
        self._sum.read = self._total = len(calls)
        queries = (
            PlannedCall(
                call.key, QUERY, query_body(call.token), call.token,
                is_open=True, sent=call,
            )
            for call in calls if call.token
        )  # fmt: skip
        self._sender.send(queries, between=self._between)
        if isinstance(self._sender, QuerySender) and self._sender.unproven:
            self._sender.halt(4, _UNPROVEN.format(len(self._sender.unproven)))
        self._deliver()
        return self._summary()

    def _summary(self) -> CollectSummary:
        total, run = self._sum, self._sender
        states, bill = self._journal.states(), self._journal.bill()
        total.states = {state.value: n for state, n in states.items()}
        total.billed, total.not_billed = bill["billed"], bill["not_billed"]
        total.unknown = bill["unknown"]
        total.added, total.known = self._delivered.added, self._delivered.known
        total.rejected = self._delivered.rejected
        total.seconds = time.monotonic() - self._started
        total.sent = run.n_sent
        total.stopped = run.stopped.reason if run.stopped else None
        in_doubt = sum(states[state] for state in OPEN_STATES)
        total.exit_code = exit_code_of(
            run.stopped, in_doubt=in_doubt, rejected=total.invalid + total.rejected
        )
        return total

    def _planned(self, calls: Iterable[PlannedCall]) -> Iterator[PlannedCall]:
        """Enter calls into the journal, a chunk at a time; those that may go out come back."""
        queries, again = self._options.queries, self._options.again
        for chunk in chunks(calls):
            self._sum.read += len(chunk)
            known = self._journal.standing({c.key for c in chunk})
            sendable = sendable_keys(chunk, known, again)
            # a person said that the refusal in the store is no answer
            sendable -= self._journal.redone(sendable & known.keys())
            stored = set() if queries else answered(self._store, sendable)
            fresh = [c for c in chunk if c.key not in known and c.key not in stored]
            n_new = self._journal.plan((c.key, c.action, c.body["req_key"]) for c in fresh)
            replanned = self._journal.plan_again(known.keys() - stored) if again else set()
            n_new += len(replanned)
            self._sum.new += n_new
            self._sum.already += len(chunk) - n_new
            planned = {key for key, state in known.items() if state is State.PLANNED} - stored
            going = planned | replanned | {c.key for c in fresh}
            in_doubt = {key for key, state in known.items() if queries and state in OPEN_STATES}
            for call in chunk:  # each once, if it may go out or be asked for again
                if call.key in going or call.key in in_doubt:
                    yield replace(call, is_open=call.key in in_doubt)
                    going.discard(call.key)
                    in_doubt.discard(call.key)
                else:
                    self._passed += 1

    def _between(self) -> None:
        """Deliver now and then, and report progress, while calls go out."""
        run, progress = self._sender, self._options.progress
        now = time.monotonic()
        if self._answers >= DELIVERED_AT:
            self._deliver()
        elif now - self._remembered_at > REMEMBERED_EVERY_S:
            self._journal.remember()
            self._remembered_at = now
        if progress is not None and now - self._told_at > 0.5:
            self._told_at = now
            seconds = max(now - self._started, 1e-9)
            done = self._passed + self._sum.invalid + run.n_done
            left = None if self._total is None else max(0, self._total - done)
            progress({
                "read": self._sum.read, "sent": run.n_sent, "rate": run.n_sent / seconds,
                "pace": run.limit.rate, "states": self._journal.states(), "seconds": seconds,
                "total": self._total, "done": done,
                # lines that were known are passed over in no time, so they say nothing of the rest
                "left_s": None if left is None or not run.n_done else left * seconds / run.n_done,
            })  # fmt: skip

    def _deliver(self) -> None:
        self._answers = 0
        self._delivered += deliver(self._journal, self._store)
        self._journal.remember()


def sendable_keys(
    chunk: Iterable[PlannedCall], known: Mapping[str, State], again: bool
) -> set[str]:
    """Give the keys of those calls that may go out as far as the journal knows."""
    states = {State.PLANNED, State.NOT_PROCESSED} if again else {State.PLANNED}
    return {c.key for c in chunk if c.key not in known or known[c.key] in states}


MOST_SHOWN = 100
"""Refused lines and open calls that a summary holds at most."""


@dataclass(slots=True)
class CollectSummary:
    """The counts of a run, and of the journal after it.

    Attributes
    ----------
    read, new, already, invalid : int
        Lines read, calls planned by this run, calls that were known already, lines refused.
    sent : int
        Calls that went out, retries included.
    states : dict
        Calls of the whole journal by state.
    billed, not_billed, unknown : int
        Calls of the whole journal by what is known of their billing.
    added, known, rejected : int
        What became of the responses in the store: new rows, rows that were there, rejects.
    refused : list of (int, str)
        Line numbers and what was wrong, at most 100.
    stopped : str or None
        Why the run ended before its work did.
    exit_code : int
        0, or the first that applies: 7 storage, 5 refused, 4 in doubt, 6 budget or rate, 3 lines
        refused.
    seconds : float
    dry_run : bool
    queries : bool
        The calls are queries, which are free.
    """

    read: int = 0
    new: int = 0
    already: int = 0
    invalid: int = 0
    sent: int = 0
    states: dict[str, int] = field(default_factory=dict)
    billed: int = 0
    not_billed: int = 0
    unknown: int = 0
    added: int = 0
    known: int = 0
    rejected: int = 0
    refused: list[tuple[int, str]] = field(default_factory=list)
    stopped: str | None = None
    exit_code: int = 0
    seconds: float = 0.0
    dry_run: bool = False
    queries: bool = False

    def __str__(self) -> str:
        if self.dry_run:
            cost = "queries are free" if self.queries else f"at most {self.new:,} billed calls"
            return (
                f"dry run: {self.read:,} lines = {self.new:,} to send + {self.already:,} known "
                f"+ {self.invalid:,} refused; {cost}"
            )
        tail = f"; stopped: {self.stopped}" if self.stopped else ""
        return (
            f"sent {self.sent:,}; {_listed(self.states)}; billed {self.billed:,}, "
            f"unknown {self.unknown:,}; added {self.added:,} rows{tail}"
        )

    __repr__ = __str__

    def refuse(self, number: int, why: str) -> None:
        """Count a line that cannot be sent."""
        self.read += 1
        self.invalid += 1
        if len(self.refused) < MOST_SHOWN:
            self.refused.append((number, why))

    def to_dict(self) -> dict[str, Any]:
        """All fields, for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class OpenCall:
    """A call in doubt: a query or a mark must settle it.

    Attributes
    ----------
    key : str
        Of the call; `mark` takes its beginning.
    state : str
    seconds : float
        Since it went out, or since it is in this state.
    message : str or None
        What is known of it.
    """

    key: str
    state: str
    seconds: float
    message: str | None


@dataclass(slots=True)
class JournalStatus:
    """The calls of a journal.

    Attributes
    ----------
    states : dict
        Calls by state.
    billed, not_billed, unknown : int
        Calls by what is known of their billing.
    undelivered : int
        Answers that are not in the store yet; the next run delivers them.
    open_calls : list of OpenCall
        Calls in doubt, the oldest first, at most 100.
    exit_code : int
        4 while calls are in doubt, else 0.
    in_use : bool
        Another process is collecting at this moment.
    """

    states: dict[str, int]
    billed: int
    not_billed: int
    unknown: int
    undelivered: int
    open_calls: list[OpenCall]
    exit_code: int
    in_use: bool

    def __str__(self) -> str:
        in_use = "; another process is collecting" if self.in_use else ""
        return (
            f"{_listed(self.states)}; billed {self.billed:,}, not billed {self.not_billed:,}, "
            f"unknown {self.unknown:,}; {self.undelivered:,} answers not in the store yet{in_use}"
        )

    __repr__ = __str__

    def to_dict(self) -> dict[str, Any]:
        """All fields, for JSON."""
        return asdict(self)


def status_of(journal: JournalView, store: Store, *, in_use: bool) -> JournalStatus:
    """Count the calls of a journal; what was sent by a process that is gone is in doubt."""
    states, bill = journal.states(), journal.bill()
    now = time.time()
    open_states: tuple[State, ...] = OPEN_STATES
    if not in_use:
        states[State.IN_DOUBT] += states[State.SENT]
        states[State.SENT] = 0
        open_states = (*OPEN_STATES, State.SENT)
    return JournalStatus(
        {state.value: n for state, n in states.items()},
        **bill,
        undelivered=undelivered(journal, store),
        open_calls=[
            OpenCall(
                call.key, _doubted(call.state).value, round(max(0.0, now - since), 1), call.message
            )
            for call in journal.oldest(*open_states, limit=MOST_SHOWN)
            for since in [call.changed_at if call.sent_at is None else call.sent_at]
        ],
        exit_code=4 if any(states[state] for state in OPEN_STATES) else 0,
        in_use=in_use,
    )


def _doubted(state: State) -> State:
    return State.IN_DOUBT if state is State.SENT else state


def exit_code_of(stopped: Stopped | None, *, in_doubt: int, rejected: int) -> int:
    """Give the exit code of a run: the first of 7, 5, 4, 6, 3 that applies, else 0.

    Examples
    --------
    >>> exit_code_of(Stopped(6, "budget"), in_doubt=1, rejected=2)
    4
    """
    codes = {stopped.exit_code} if stopped else set()
    codes |= ({4} if in_doubt else set()) | ({3} if rejected else set())
    return next((code for code in (1, 7, 5, 4, 6, 3) if code in codes), 0)


def _listed(states: dict[str, int]) -> str:
    return ", ".join(f"{name} {n:,}" for name, n in states.items() if n) or "nothing planned"
