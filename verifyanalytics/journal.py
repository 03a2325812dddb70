"""The collector's memory: what was meant, what was sent, what came back; on disk before it counts.

::

    PLANNED → SENT → OK | REJECTED | UNPARSED | IN_DOUBT
              SENT → PLANNED only on proof that nothing was processed
    IN_DOUBT, UNPARSED → OK | REJECTED | NOT_PROCESSED through `settle`, or a person's `mark`
    at open: every SENT → IN_DOUBT, for its owner is dead; never → PLANNED

One SQLite file in write-ahead mode with full synchronisation, in a folder only its owner can
enter, held by one process at a time. A writer thread puts what several workers ask for at the
same moment into one transaction, so that one flush serves them all; nobody goes on before the
flush that holds its words. A byted_token is kept only while its call is in doubt and is
overwritten when the outcome is known; sdk_data and risk_info are never written here.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from verifyanalytics._journal_file import as_storage_error, damaged, open_database, take_lock
from verifyanalytics.errors import StorageError, UsageError, VerifyAnalyticsError
from verifyanalytics.replies import Outcome, Reply, State

SCHEMA_VERSION = 1
APPLICATION_ID = 0x76614A31
"""What SQLite keeps at byte 68 of our files: journals are known by it."""

OPEN_STATES = (State.IN_DOUBT, State.UNPARSED)
"""States that a query can settle."""

T = TypeVar("T")

_SCHEMA = """
create table meta (name text primary key, value text not null) without rowid;
create table calls (
    key text primary key, state text not null, action text not null, req_key text not null,
    tries integer not null default 0, planned_at real not null, changed_at real not null,
    token text, http_status integer, code integer, gateway_code text, sub_code integer,
    request_id text, billed integer, message text, answer_seq integer, note text
) without rowid;
create index calls_by_state on calls (state);
create table attempts (
    key text not null, try integer not null, sent_at real not null, ended_at real,
    outcome text, http_status integer, code integer, gateway_code text, bytes integer,
    primary key (key, try)
) without rowid;
create table answers (
    answer_seq integer primary key autoincrement, key text not null, received_at real not null,
    raw blob not null
);
"""


@dataclass(frozen=True, slots=True)
class Call:
    """One call as the journal has it.

    Attributes
    ----------
    key : str
        Keyed hash of the byted_token: one token, one call.
    state : State
    action, req_key : str
    tries : int
        How often it was sent.
    token : str or None
        The byted_token, only while the call is in doubt.
    http_status, code, gateway_code, sub_code, request_id, billed, message
        As the last reply said; None when unknown.
    answer_seq : int or None
        Number of its answer among `answers`.
    note : str or None
        A person's reason for a mark.
    sent_at : float or None
        POSIX time at which it last went out.
    """

    key: str
    state: State
    action: str
    req_key: str
    tries: int
    token: str | None
    http_status: int | None
    code: int | None
    gateway_code: str | None
    sub_code: int | None
    request_id: str | None
    billed: bool | None
    message: str | None
    answer_seq: int | None
    note: str | None
    sent_at: float | None

    def __repr__(self) -> str:
        return f"Call({self.key[:8]}, {self.state}, tries={self.tries})"


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """One raw answer: an envelope line without pictures and without the token."""

    answer_seq: int
    key: str
    received_at: float
    raw: bytes


class Journal:
    """The journal of one store; open it in one process at a time.

    Parameters
    ----------
    path : Path
        The SQLite file. Its folder is made with mode 0700, the file with 0600.
    key_fingerprint : str
        Fingerprint of the store key that the calls' keys are made with.
    create : bool
        False: a journal that is not there is an error.

    Attributes
    ----------
    path : Path
    uuid : str
        Identity of this journal, for the store's stamp.
    n_orphaned : int
        Calls that were SENT when their process died; they are IN_DOUBT now.

    Raises
    ------
    StorageError
        The journal is held by another process, damaged, made with another key or by newer code,
        or cannot be written. It is never made anew: that would forget what was sent.
    """

    def __init__(self, path: Path, key_fingerprint: str, *, create: bool = True) -> None:
        self.path = Path(path)
        if not create and not self.path.exists():
            raise UsageError(f"no journal at {self.path.absolute()}; collect first")
        self._lock_file = take_lock(self.path)
        try:
            self._db = open_database(self.path)
            self._check(key_fingerprint)
            self.uuid = self._meta("uuid")
            self.n_orphaned = self._orphans_to_doubt()
        except BaseException:
            self._lock_file.close()
            raise
        self._asked: queue.SimpleQueue[_Asked[Any] | None] = queue.SimpleQueue()
        self.n_flushes = 0
        self.seconds_flushing = 0.0
        self._writer = threading.Thread(target=self._write, name="journal", daemon=True)
        self._writer.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Write what was asked for, close the file and let another process have it."""
        if self._lock_file.closed:
            return
        self._asked.put(None)
        self._writer.join()
        self._db.close()
        self._lock_file.close()

    # --- the life of a call ------------------------------------------------------------------

    def plan(self, calls: Iterable[tuple[str, str, str]]) -> int:
        """Enter calls as PLANNED; a key that is there stays as it is.

        Parameters
        ----------
        calls : iterable of (key, action, req_key)

        Returns
        -------
        int
            How many are new.
        """
        now = time.time()
        rows = [(key, State.PLANNED, action, req_key, now, now) for key, action, req_key in calls]

        def enter(db: sqlite3.Connection) -> int:
            before = db.total_changes
            db.executemany(
                "insert or ignore into calls (key, state, action, req_key, planned_at, changed_at)"
                " values (?, ?, ?, ?, ?, ?)",
                rows,
            )
            return db.total_changes - before

        return self._ask(enter)

    def plan_again(self) -> int:
        """Make calls PLANNED again of which a query proved that nothing was processed; how many."""
        return self._ask(
            lambda db: (
                db.execute(
                    "update calls set state = ?, changed_at = ? where state = ?",
                    (State.PLANNED, time.time(), State.NOT_PROCESSED),
                ).rowcount
            )
        )

    def send(self, key: str, token: str) -> int:
        """Commit the intent to send; only after this returns may the call go out.

        Returns
        -------
        int
            The number of this try, from 1.

        Raises
        ------
        StorageError
            The intent could not be written: do not call.
        UsageError
            The call is not PLANNED: it was sent already.
        """

        def intend(db: sqlite3.Connection) -> int:
            now = time.time()
            changed = db.execute(
                "update calls set state = ?, tries = tries + 1, token = ?, changed_at = ?"
                " where key = ? and state = ?",
                (State.SENT, token, now, key, State.PLANNED),
            ).rowcount
            if changed != 1:
                raise UsageError(f"call {key[:8]} is not planned; it is never sent twice")
            (tries,) = db.execute("select tries from calls where key = ?", (key,)).fetchone()
            db.execute(
                "insert into attempts (key, try, sent_at) values (?, ?, ?)", (key, tries, now)
            )
            return int(tries)

        return self._ask(intend)

    def outcome(self, key: str, state: State, reply: Reply, raw: bytes | None = None) -> int | None:
        """Commit what came of a call that was sent, its raw answer with it.

        Parameters
        ----------
        key : str
        state : State
            What `replies.RULES` says, or PLANNED for another try.
        reply : Reply
        raw : bytes, optional
            The answer as an envelope line without pictures and token; required for OK and
            REJECTED.

        Returns
        -------
        int or None
            The answer's number, when there is one.
        """
        return self._ask(lambda db: _finish(db, key, (State.SENT,), state, reply, raw, None))

    def record(
        self, key: str, action: str, req_key: str, state: State, reply: Reply, raw: bytes | None
    ) -> int | None:
        """Enter a call that somebody else made, and its answer; each answer is one more.

        Parameters are those of `plan` and `outcome`. A call that this journal means to send, has
        sent or has settled keeps its own story; the answer is kept all the same.
        """

        def enter(db: sqlite3.Connection) -> int | None:
            now = time.time()
            made = db.execute(
                "insert or ignore into calls (key, state, action, req_key, planned_at, changed_at)"
                " values (?, ?, ?, ?, ?, ?)",
                (key, State.SENT, action, req_key, now, now),
            ).rowcount
            if made:
                return _finish(db, key, (State.SENT,), state, reply, raw, None)
            return None if raw is None else _keep(db, key, raw, now)

        return self._ask(enter)

    def settle(
        self, key: str, state: State, reply: Reply | None, raw: bytes | None = None,
        *, note: str | None = None,
    ) -> int | None:  # fmt: skip
        """Commit what a query, or a person with a reason (`note`), found out about a call in doubt.

        Raises
        ------
        UsageError
            The call is neither IN_DOUBT nor UNPARSED.
        """
        return self._ask(lambda db: _finish(db, key, OPEN_STATES, state, reply, raw, note))

    # --- what is there -----------------------------------------------------------------------

    def call(self, key: str) -> Call | None:
        """The call with this key, or None."""
        found = self._ask(lambda db: db.execute(f"{_SELECT} where key = ?", (key,)).fetchone())
        return None if found is None else _call(found)

    def calls(self, *states: State) -> list[Call]:
        """Calls in these states (all states when none is given), by key."""
        marks = ", ".join("?" * len(states))
        where = f" where state in ({marks})" if states else ""
        rows = self._ask(lambda db: db.execute(f"{_SELECT}{where} order by key", states).fetchall())
        return [_call(row) for row in rows]

    def planned(self, keys: Collection[str]) -> set[str]:
        """Which of these calls are PLANNED."""
        wanted = list(keys)
        rows = self._ask(
            lambda db: [
                row
                for key in wanted
                for row in db.execute(
                    "select key from calls where key = ? and state = ?", (key, State.PLANNED)
                )
            ]
        )
        return {key for (key,) in rows}

    def states(self) -> dict[State, int]:
        """How many calls stand in each state."""
        rows = self._ask(
            lambda db: db.execute("select state, count(*) from calls group by state").fetchall()
        )
        counted = {State(name): int(n) for name, n in rows}
        return {state: counted.get(state, 0) for state in State}

    def bill(self) -> dict[str, int]:
        """Calls by what is known of their billing: billed, not billed, unknown."""
        (billed, free, unknown) = self._ask(
            lambda db: db.execute(
                "select count(*) filter (where billed = 1),"
                " count(*) filter (where billed = 0),"
                " count(*) filter (where billed is null and state != 'PLANNED') from calls"
            ).fetchone()
        )
        return {"billed": billed, "not_billed": free, "unknown": unknown}

    def answers(self, above: int = 0, limit: int = 1000) -> list[StoredAnswer]:
        """Raw answers with a number above `above`, in order, at most `limit`."""
        rows = self._ask(
            lambda db: db.execute(
                "select answer_seq, key, received_at, raw from answers"
                " where answer_seq > ? order by answer_seq limit ?",
                (above, limit),
            ).fetchall()
        )
        return [StoredAnswer(*row) for row in rows]

    def forget(self, up_to: int, before: float) -> int:
        """Delete raw answers numbered `up_to` or lower and received before `before`.

        Only answers that the store has committed may be forgotten; the caller knows its stamp.
        """
        return self._ask(
            lambda db: (
                db.execute(
                    "delete from answers where answer_seq <= ? and received_at < ?", (up_to, before)
                ).rowcount
            )
        )

    # --- inside ------------------------------------------------------------------------------

    def _ask(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Have the writer do it; returns when the flush that holds it is done."""
        if self._lock_file.closed:
            raise StorageError("the journal is closed", path=self.path)
        asked: _Asked[T] = _Asked(work)
        self._asked.put(asked)
        return asked.done.result()

    def _write(self) -> None:
        ended = False
        while not ended:
            first = self._asked.get()
            batch = [] if first is None else [first]
            ended = first is None
            while not (ended or self._asked.empty()):
                more = self._asked.get()
                ended = more is None
                if more is not None:
                    batch.append(more)
            if batch:
                self._flush(batch)

    def _flush(self, batch: list[_Asked[Any]]) -> None:
        started = time.perf_counter()
        results: list[tuple[_Asked[Any], Any, BaseException | None]] = []
        try:
            self._db.execute("begin immediate")
            results.extend((asked, *_tried(self._db, asked.work)) for asked in batch)
            self._db.execute("commit")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("rollback")
            failure = StorageError(f"the journal cannot be written: {error}", path=self.path)
            for asked in batch:
                asked.done.set_exception(failure)
            return
        finally:
            self.n_flushes += 1
            self.seconds_flushing += time.perf_counter() - started
        for asked, value, problem in results:
            if problem is None:
                asked.done.set_result(value)
            else:
                asked.done.set_exception(problem)

    def _check(self, key_fingerprint: str) -> None:
        with as_storage_error(self.path):
            found = self._db.execute("pragma user_version").fetchone()[0]
            if found > SCHEMA_VERSION:
                raise StorageError(
                    f"{self.path} was written by a newer version (schema {found}); update",
                    path=self.path,
                )
            if found == 0:
                self._make(key_fingerprint)
            faults = [row[0] for row in self._db.execute("pragma integrity_check(3)")]
        if faults != ["ok"]:
            raise damaged(self.path, faults[0])
        if self._meta("key_fingerprint") != key_fingerprint:
            raise StorageError(
                f"{self.path} was made with another store key; give the key file it was made with",
                path=self.path,
            )

    def _make(self, key_fingerprint: str) -> None:
        if self._db.execute("select count(*) from sqlite_master").fetchone()[0]:
            raise StorageError(f"{self.path} is not a journal of ours", path=self.path)
        self._db.executescript(
            f"begin; {_SCHEMA} pragma application_id = {APPLICATION_ID};"
            f" pragma user_version = {SCHEMA_VERSION}; commit;"
        )
        self._db.executemany(
            "insert into meta values (?, ?)",
            [("uuid", uuid.uuid4().hex), ("key_fingerprint", key_fingerprint)],
        )
        # what a journal is can be told by its first page from now on
        self._db.execute("pragma wal_checkpoint(truncate)")

    def _meta(self, name: str) -> str:
        found = self._db.execute("select value from meta where name = ?", (name,)).fetchone()
        if found is None:
            raise damaged(self.path, f"{name} is missing")
        return str(found[0])

    def _orphans_to_doubt(self) -> int:
        with as_storage_error(self.path):
            return self._db.execute(
                "update calls set state = ?, changed_at = ?, message = 'process ended'"
                " where state = ?",
                (State.IN_DOUBT, time.time(), State.SENT),
            ).rowcount


class _Asked(Generic[T]):
    """One piece of work for the writer, and where its result goes."""

    def __init__(self, work: Callable[[sqlite3.Connection], T]) -> None:
        self.work = work
        self.done: Future[T] = Future()


_COLUMNS = (
    "key, state, action, req_key, tries, token, http_status, code, gateway_code, sub_code,"
    " request_id, billed, message, answer_seq, note, sent_at"
)
_SENT_AT = "(select max(sent_at) from attempts where attempts.key = calls.key) as sent_at"
_SELECT = f"select {_COLUMNS.replace('sent_at', _SENT_AT)} from calls"


def _call(row: tuple[Any, ...]) -> Call:
    call = dict(zip(_COLUMNS.replace(",", "").split(), row, strict=True))
    billed = call["billed"]
    return Call(**call | {
        "state": State(call["state"]),
        "billed": None if billed is None else bool(billed),
    })  # fmt: skip


def _tried(
    db: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]
) -> tuple[T | None, VerifyAnalyticsError | None]:
    """Do one piece of work; a refusal of ours undoes that piece and leaves its neighbours."""
    db.execute("savepoint piece")
    try:
        value = work(db)
    except VerifyAnalyticsError as refusal:
        db.execute("rollback to piece")
        db.execute("release piece")
        return None, refusal
    db.execute("release piece")
    return value, None


def _keep(db: sqlite3.Connection, key: str, raw: bytes, now: float) -> int | None:
    return db.execute(
        "insert into answers (key, received_at, raw) values (?, ?, ?)", (key, now, raw)
    ).lastrowid


def _finish(
    db: sqlite3.Connection,
    key: str,
    allowed: tuple[State, ...],
    state: State,
    reply: Reply | None,
    raw: bytes | None,
    note: str | None,
) -> int | None:
    now = time.time()
    found = db.execute("select state, tries from calls where key = ?", (key,)).fetchone()
    if found is None or State(found[0]) not in allowed:
        stands = "not there" if found is None else found[0]
        raise UsageError(f"call {key[:8]} is {stands}; it must be {' or '.join(allowed)}")
    seq = None
    if raw is not None:
        seq = _keep(db, key, raw, now)
    told = reply or Reply(Outcome.LOST)
    db.execute(
        "update calls set state = ?, changed_at = ?, http_status = ?, code = ?, gateway_code = ?,"
        " sub_code = ?, request_id = ?, billed = ?, message = ?, answer_seq = ?, note = ?,"
        f" token = case when ? in ({', '.join(repr(str(s)) for s in OPEN_STATES)}) then token end"
        " where key = ?",
        (state, now, told.http_status, told.code, told.gateway_code, told.sub_code,
         told.request_id, told.billed, told.message, seq, note, state, key),
    )  # fmt: skip
    if allowed == (State.SENT,):
        db.execute(
            "update attempts set ended_at = ?, outcome = ?, http_status = ?, code = ?,"
            " gateway_code = ?, bytes = ? where key = ? and try = ?",
            (now, told.outcome, told.http_status, told.code, told.gateway_code, len(told.body),
             key, found[1]),
        )  # fmt: skip
    return seq
