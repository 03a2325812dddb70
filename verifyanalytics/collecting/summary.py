"""What a run did and how the journal stands, for people and for programs."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import Any

from verifyanalytics.collecting.run import Stopped
from verifyanalytics.journal.delivery import undelivered
from verifyanalytics.journal.journal import OPEN_STATES, Call, Journal, JournalView
from verifyanalytics.store.store import Store

MOST_SHOWN = 100
"""Refused lines and open calls that a summary holds at most."""


@dataclass(slots=True)
class CollectSummary:
    """What a run did, and how the journal stands after it.

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
        What became of the answers in the store: new rows, rows that were there, rejects.
    refused : list of (int, str)
        Line numbers and what was wrong, at most 100.
    stopped : str or None
        Why the run ended before its work did.
    exit_code : int
        0, or the gravest of: 7 storage, 5 refused, 4 in doubt, 6 budget or rate, 3 lines refused.
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
            f"sent {self.sent:,}; {_told(self.states)}; billed {self.billed:,}, "
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
    """A call that a query or a person must settle.

    Attributes
    ----------
    key : str
        Of the call; `mark` takes its beginning.
    state : str
    seconds : float
        Since it went out, or since it stands so.
    message : str or None
        What is known of it.
    """

    key: str
    state: str
    seconds: float
    message: str | None


@dataclass(slots=True)
class JournalStatus:
    """How a journal stands.

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
            f"{_told(self.states)}; billed {self.billed:,}, not billed {self.not_billed:,}, "
            f"unknown {self.unknown:,}; {self.undelivered:,} answers not in the store yet{in_use}"
        )

    __repr__ = __str__

    def to_dict(self) -> dict[str, Any]:
        """All fields, for JSON."""
        return asdict(self)


def standing(book: Journal | JournalView, store: Store) -> JournalStatus:
    """Ask a journal how it stands."""
    states, bill = book.states(), book.bill()
    now = time.time()
    return JournalStatus(
        {state.value: n for state, n in states.items()},
        **bill,
        undelivered=undelivered(book, store),
        open_calls=[_open(call, now) for call in book.oldest(*OPEN_STATES, limit=MOST_SHOWN)],
        exit_code=4 if any(states[state] for state in OPEN_STATES) else 0,
        in_use=isinstance(book, JournalView),
    )


def _open(call: Call, now: float) -> OpenCall:
    since = call.changed_at if call.sent_at is None else call.sent_at
    return OpenCall(call.key, call.state.value, round(max(0.0, now - since), 1), call.message)


def gravest(stopped: Stopped | None, *, in_doubt: int, rejected: int) -> int:
    """The exit code of a run: 7 before 5 before 4 before 6 before 3 before 0.

    Examples
    --------
    >>> gravest(Stopped(6, "budget"), in_doubt=1, rejected=2)
    4
    """
    codes = {stopped.exit_code} if stopped else set()
    codes |= ({4} if in_doubt else set()) | ({3} if rejected else set())
    return next((code for code in (1, 7, 5, 4, 6, 3) if code in codes), 0)


def _told(states: dict[str, int]) -> str:
    told = ", ".join(f"{name} {n:,}" for name, n in states.items() if n)
    return told or "nothing planned"
