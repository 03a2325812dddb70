"""The collector: planned calls go out once each, what comes back becomes rows once each.

`collect` sends CertVerify calls, `query` asks for stored outcomes, `resolve` settles what is in
doubt, `status` and `mark` are for people. Between vendor and store stands the journal: a crash
anywhere costs at most calls in doubt, never a second call and never an answer. Answers flow into
the same kernel and the same commits as imports; the store's stamp says up to which answer.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from verifyanalytics._collect_run import Planned, QueryRun, Run, SettlingRun, Stopped
from verifyanalytics._store_files import fingerprint
from verifyanalytics.call_files import CallLine, read_call, read_calls
from verifyanalytics.client import Client, query_body
from verifyanalytics.delivery import Delivered, Reflattened, deliver
from verifyanalytics.delivery import reflatten as reread
from verifyanalytics.errors import InputError, UsageError
from verifyanalytics.journal import OPEN_STATES, Call, Journal
from verifyanalytics.pace import Pace
from verifyanalytics.replies import State
from verifyanalytics.store import Store

RATE = 10.0
"""Calls a second by default: the vendor's limit for paying customers."""

WORKERS = 8
KEPT_S = 3600.0
"""Seconds for which the vendor keeps a result to be queried: about an hour."""

GRACE_S = 120.0
"""Seconds after which a query that finds nothing means that nothing was processed."""

RETENTION_S = 30 * 86400.0
"""Seconds for which raw answers are kept after their rows are in the store."""

_PLANNED_AT_ONCE = 256
_DELIVERED_AT = 5000

Requests = str | Path | Iterable[Mapping[str, Any]]
Progress = Callable[[dict[str, Any]], None]
Log = Callable[[dict[str, Any]], None]


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

    def __str__(self) -> str:
        states = ", ".join(f"{name} {n:,}" for name, n in self.states.items() if n)
        if self.dry_run:
            return (
                f"dry run: {self.read:,} lines = {self.new:,} to send + {self.already:,} known "
                f"+ {self.invalid:,} refused; at most {self.new:,} billed calls"
            )
        tail = f"; stopped: {self.stopped}" if self.stopped else ""
        return (
            f"sent {self.sent:,}; {states or 'nothing planned'}; billed {self.billed:,}, "
            f"unknown {self.unknown:,}; added {self.added:,} rows{tail}"
        )

    __repr__ = __str__

    def to_dict(self) -> dict[str, Any]:
        """All fields, for JSON."""
        return asdict(self)


def journal_path(store: Store) -> Path:
    """Where a store's journal is unless told otherwise: beside the store, never in it."""
    return store.path.with_name(f"{store.path.name}.journal") / "journal.sqlite"


def open_journal(store: Store, path: str | Path | None = None, *, create: bool = True) -> Journal:
    """Open the journal of a store, with the store's key.

    Raises
    ------
    StorageError, UsageError
        See `Journal`.
    """
    where = Path(path) if path is not None else journal_path(store)
    return Journal(where, fingerprint(store.key), create=create)


def collect(
    requests: Requests,
    store: Store | str | Path,
    *,
    client: Client | None = None,
    journal: str | Path | None = None,
    workers: int = WORKERS,
    rate: float | None = RATE,
    max_calls: int | None = None,
    dry_run: bool = False,
    again: bool = False,
    image_prints: bool = False,
    stop: threading.Event | None = None,
    progress: Progress | None = None,
    log: Log | None = None,
) -> CollectSummary:
    """Send CertVerify calls, each token once, and put the answers into the store.

    May be stopped and run again with the same input at any time: what was sent is not sent again.

    Parameters
    ----------
    requests : path or iterable of mapping
        JSON lines (see `call_files`), ``-`` for standard input, or the requests themselves.
    store : Store or path
    client : Client, optional
        Default: the vendor's endpoint with credentials from the chain.
    journal : path, optional
        Default: beside the store.
    workers : int
        Calls in flight at most.
    rate : float or None
        Calls a second at most.
    max_calls : int, optional
        Calls this run may send, retries included; then it stops with exit code 6.
    dry_run : bool
        Say what would be sent and the most it could cost; nothing is sent or written.
    again : bool
        Also send calls of which a query proved that nothing was processed.
    image_prints : bool
        Keep a keyed fingerprint of each picture.
    stop : threading.Event, optional
        Set it to end the run: calls in flight are finished and committed.
    progress, log : callable, optional
        Told how far the run is; told each outcome, without secrets.

    Raises
    ------
    StorageError, CredentialsError, UsageError
        Before anything is sent. What happens later ends the run and stands in the summary.
    """
    return _carry_out(
        Run, requests, _as_store(store), client=client, journal=journal, workers=workers, rate=rate,
        max_calls=max_calls, dry_run=dry_run, image_prints=image_prints, stop=stop,
        progress=progress, log=log, again=again,
    )  # fmt: skip


def query(
    tokens: str | Path | Iterable[Mapping[str, Any]],
    store: Store | str | Path,
    *,
    client: Client | None = None,
    journal: str | Path | None = None,
    workers: int = WORKERS,
    rate: float | None = RATE,
    max_calls: int | None = None,
    dry_run: bool = False,
    image_prints: bool = False,
    stop: threading.Event | None = None,
    progress: Progress | None = None,
    log: Log | None = None,
) -> CollectSummary:
    """Ask for the stored outcomes of tokens and put them into the store; consumes nothing.

    The safe way to collect when something else makes the calls: within about an hour of them.
    Parameters and errors are those of `collect`; `tokens` are lines of byted_tokens.
    """
    return _carry_out(
        QueryRun, tokens, _as_store(store), client=client, journal=journal, workers=workers,
        rate=rate, max_calls=max_calls, dry_run=dry_run, image_prints=image_prints, stop=stop,
        progress=progress, log=log,
    )  # fmt: skip


def resolve(
    store: Store | str | Path,
    *,
    client: Client | None = None,
    journal: str | Path | None = None,
    workers: int = WORKERS,
    rate: float | None = RATE,
    grace_s: float = GRACE_S,
    stop: threading.Event | None = None,
    progress: Progress | None = None,
    log: Log | None = None,
) -> CollectSummary:
    """Settle calls in doubt by asking for their outcome; never sends a call again.

    Parameters
    ----------
    grace_s : float
        A query that finds nothing proves that nothing was processed only when the call is at
        least this old, in seconds, and younger than the hour for which results are kept.
    store, client, journal, workers, rate, stop, progress, log
        As for `collect`.
    """
    store = _as_store(store)
    with open_journal(store, journal, create=False) as book:
        session = _Session(store, book, progress, log, stop)
        run = SettlingRun(
            client or Client(), book, Pace(rate), workers=_positive(workers), stop=session.stop,
            log=session.log, grace_s=grace_s, kept_s=KEPT_S,
        )  # fmt: skip
        return session.settle(run)


def status(store: Store | str | Path, *, journal: str | Path | None = None) -> CollectSummary:
    """How the journal stands: calls by state, and what is known of the bill.

    Parameters
    ----------
    store : Store or path
    journal : path, optional
        Default: beside the store.

    Returns
    -------
    CollectSummary
        Its `exit_code` is 4 while calls are in doubt.

    Raises
    ------
    UsageError
        There is no journal.
    """
    store = _as_store(store)
    with open_journal(store, journal, create=False) as book:
        return _Session(store, book, None, None, None).summary(None)


def reflatten(store: Store | str | Path, *, journal: str | Path | None = None) -> Reflattened:
    """Derive rows anew from the raw answers that are kept, after a parser was mended.

    Parameters
    ----------
    store : Store or path
    journal : path, optional
        Default: beside the store. Journals of taps can be given too.

    Returns
    -------
    Reflattened
        Answers read again, rows changed; rows that would change their id or month stay.

    Raises
    ------
    UsageError
        There is no journal.
    StorageError
        The store cannot be written; it stays as it was.
    """
    store = _as_store(store)
    with open_journal(store, journal, create=False) as book:
        return reread(book, store)


def mark(
    store: Store | str | Path,
    key: str,
    state: str,
    *,
    reason: str,
    journal: str | Path | None = None,
) -> Call:
    """Settle one call in doubt by a person's word, when a query cannot.

    Parameters
    ----------
    key : str
        The beginning of the call's key, as `status` and logs show it.
    state : {"REJECTED", "NOT_PROCESSED"}
        An answer that nobody has cannot be marked OK.
    reason : str
        Why; it stays in the journal.

    Raises
    ------
    UsageError
        No call or several begin so, the call is not in doubt, or the reason is empty.
    """
    if state not in {State.REJECTED, State.NOT_PROCESSED}:
        raise UsageError(f"a call can be marked REJECTED or NOT_PROCESSED, not {state[:40]}")
    if not reason.strip():
        raise UsageError("a mark needs a reason")
    with open_journal(_as_store(store), journal, create=False) as book:
        found = [call for call in book.calls(*OPEN_STATES) if call.key.startswith(key)]
        if len(found) != 1 or not key:
            raise UsageError(f"{len(found)} calls in doubt begin with {key[:32]!r}; give one")
        book.settle(found[0].key, State(state), None, note=reason.strip()[:500])
        settled = book.call(found[0].key)
    assert settled is not None  # noqa: S101 - it was settled a moment ago
    return settled


def _carry_out(
    kind: type[Run],
    source: Requests,
    store: Store,
    *,
    client: Client | None,
    journal: str | Path | None,
    workers: int,
    rate: float | None,
    max_calls: int | None,
    dry_run: bool,
    image_prints: bool,
    stop: threading.Event | None,
    progress: Progress | None,
    log: Log | None,
    again: bool = False,
) -> CollectSummary:
    """What `collect` and `query` have in common."""
    queries = kind is QueryRun
    if dry_run:
        return _dry_run(source, store, journal, queries=queries)
    with open_journal(store, journal) as book:
        if again:
            book.plan_again()
        session = _Session(store, book, progress, log, stop)
        run = kind(
            client or Client(), book, Pace(rate), workers=_positive(workers), stop=session.stop,
            max_calls=max_calls, print_key=store.key if image_prints else None, log=session.log,
        )  # fmt: skip
        return session.carry_out(run, source, queries=queries)


class _Session:
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
        self.stop = stop or threading.Event()

    def log(self, event: dict[str, Any]) -> None:
        """Hand one event on, one at a time."""
        with self._log_lock:
            self._answers += event["state"] in {State.OK, State.REJECTED}
            self._tell(event)

    def carry_out(self, run: Run, source: Requests, *, queries: bool) -> CollectSummary:
        """Plan and send what is new, deliver what came back."""
        self._deliver()  # what an earlier run received and could not deliver
        lines = _lines(source, self._store.key, queries=queries, refused=self._refuse)
        run.send(self._planned(lines), between=lambda: self._between(run))
        self._deliver()
        self._forget()
        return self.summary(run)

    def settle(self, run: SettlingRun) -> CollectSummary:
        """Query every call in doubt, deliver what came back."""
        self._deliver()
        calls = self._book.calls(*OPEN_STATES)
        self._sum.read = len(calls)
        run.send(
            (_as_query(call) for call in calls if call.token),
            between=lambda: self._between(run),
        )
        self._deliver()
        return self.summary(run)

    def summary(self, run: Run | None) -> CollectSummary:
        """Sum up, with the gravest exit code."""
        total, book = self._sum, self._book
        states, bill = book.states(), book.bill()
        total.states = {state.value: n for state, n in states.items()}
        total.billed, total.not_billed = bill["billed"], bill["not_billed"]
        total.unknown = bill["unknown"]
        total.added, total.known = self._delivered.added, self._delivered.known
        total.rejected = self._delivered.rejected
        total.seconds = time.monotonic() - self._started
        stopped = run.stopped if run is not None else None
        total.sent = run.n_sent if run is not None else 0
        total.stopped = stopped.reason if stopped else None
        in_doubt = sum(states[state] for state in OPEN_STATES)
        total.exit_code = gravest(
            stopped, in_doubt=in_doubt, rejected=total.invalid + total.rejected
        )
        return total

    def _planned(self, lines: Iterable[CallLine]) -> Iterator[Planned]:
        """Enter lines into the journal by the handful; those that may go out come back."""
        for handful in _handfuls(lines):
            self._sum.read += len(handful)
            new = self._book.plan((c.key, c.action, c.body["req_key"]) for c in handful)
            self._sum.new += new
            planned = self._book.planned({c.key for c in handful})
            self._sum.already += len(handful) - new
            for call in handful:
                if call.key in planned:
                    yield Planned(
                        call.key, call.action, call.body, call.token, call.subject, call.context
                    )

    def _refuse(self, number: int, why: str) -> None:
        self._sum.read += 1
        self._sum.invalid += 1
        if len(self._sum.refused) < 100:
            self._sum.refused.append((number, why))

    def _between(self, run: Run) -> None:
        if self._answers >= _DELIVERED_AT:
            self._deliver()
        now = time.monotonic()
        if self._progress is not None and now - self._told_at > 0.5:
            self._told_at = now
            seconds = max(now - self._started, 1e-9)
            self._progress({
                "read": self._sum.read, "sent": run.n_sent, "rate": run.n_sent / seconds,
                "pace": run.pace.rate, "states": self._book.states(), "seconds": seconds,
            })  # fmt: skip

    def _deliver(self) -> None:
        self._answers = 0
        self._delivered += deliver(self._book, self._store)

    def _forget(self) -> None:
        done = self._store.done(f"journal:{self._book.uuid}")
        if done is not None:
            self._book.forget(done.rows_done, before=time.time() - RETENTION_S)


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


def _lines(
    source: Requests, key: bytes, *, queries: bool, refused: Callable[[int, str], None]
) -> Iterator[CallLine]:
    if isinstance(source, str | Path):
        yield from read_calls(source, key, queries=queries, refused=refused)
        return
    for number, given in enumerate(source, 1):
        try:
            line = json.dumps(dict(given), ensure_ascii=False, allow_nan=False).encode()
            yield read_call(line, key, queries=queries)
        except (InputError, ValueError, TypeError) as error:
            refused(number, str(error) if isinstance(error, InputError) else "not JSON")


def _handfuls(lines: Iterable[CallLine]) -> Iterator[list[CallLine]]:
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
        call.key, "CertVerifyQuery", query_body(call.token or ""), call.token or "",
        sent_at=call.sent_at or 0.0,
    )  # fmt: skip


def _dry_run(
    source: Requests, store: Store, journal: str | Path | None, *, queries: bool
) -> CollectSummary:
    """Read the input and hold it against the journal, if there is one; write nothing."""
    total = CollectSummary(dry_run=True)
    where = Path(journal) if journal is not None else journal_path(store)
    known: set[str] = set()
    if where.exists():
        with open_journal(store, where, create=False) as book:
            known = {call.key for call in book.calls() if call.state is not State.PLANNED}
    key = store.key if where.exists() else bytes(32)
    refused: list[tuple[int, str]] = []
    seen: Counter[str] = Counter(
        line.key
        for line in _lines(source, key, queries=queries, refused=lambda *told: refused.append(told))
    )
    total.read = sum(seen.values()) + len(refused)
    total.new = len(seen.keys() - known)
    total.already = sum(seen.values()) - total.new
    total.invalid, total.refused = len(refused), refused[:100]
    total.exit_code = 3 if refused else 0
    return total


def _as_store(store: Store | str | Path) -> Store:
    return store if isinstance(store, Store) else Store(store)


def _positive(workers: int) -> int:
    if not 1 <= workers <= 256:
        raise UsageError(f"workers must be between 1 and 256, not {workers}")
    return workers
