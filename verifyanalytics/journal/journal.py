"""The journal: what was planned, what was sent, what came back; on disk before it counts.

::

    PLANNED → SENT → OK | REJECTED | UNPARSED | IN_DOUBT
              SENT → PLANNED only on proof that nothing was processed
    any state → ERASED through `erase`; the call is never sent again
    IN_DOUBT, UNPARSED → OK | REJECTED | NOT_PROCESSED through `settle`, by a query or a `mark`
    at open: every SENT → IN_DOUBT, for its process is dead; never → PLANNED

One SQLite file in write-ahead mode with full synchronisation, in a folder only its owner can
enter, held by one process at a time. A writer thread puts what several workers ask for at the
same moment into one transaction, and a call returns after the flush of its transaction. A
byted_token is kept only while its call is in doubt and is overwritten when the outcome is known;
sdk_data and risk_info are never written here.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import TypeVar

from verifyanalytics.errors import StorageError, UsageError
from verifyanalytics.journal import settled
from verifyanalytics.journal.database import (
    as_storage_error,
    meta,
    open_database,
    set_meta,
    take_lock,
)
from verifyanalytics.journal.reader import OPEN_STATES, Call, JournalView, Readable, StoredAnswer
from verifyanalytics.journal.registry import Registry
from verifyanalytics.journal.writer import Writer
from verifyanalytics.vendor.replies import ANSWERS, Outcome, Reply, State

__all__ = ["OPEN_STATES", "Call", "Journal", "JournalView", "StoredAnswer"]

T = TypeVar("T")
REDO = "redo: "
"""How the note of a refused call begins that a person planned again."""


class Journal(Readable):
    """The journal of one store; open it in one process at a time.

    Parameters
    ----------
    path : Path
        The SQLite file. Its folder is made with mode 0700, the file with 0600.
    key_fingerprint : str
        Fingerprint of the store key that the calls' keys are made with.
    create : bool
        False: a journal that is not there is an error.
    registry : Registry, optional
        What the store knows of its journals: one that lacks something of it is refused.

    Attributes
    ----------
    path : Path
    uuid : str
        Identity of this journal, for the store's stamp.
    writer : Writer
        Counts its transactions.
    n_orphaned : int
        Calls that were SENT when their process died; they are IN_DOUBT now.

    Raises
    ------
    StorageError
        The journal is held by another process, damaged, made with another key or by newer code,
        or cannot be written. It is never made anew: that would forget what was sent.
    """

    def __init__(
        self, path: Path, key_fingerprint: str, *, create: bool = True,
        registry: Registry | None = None,
    ) -> None:  # fmt: skip
        self.path = Path(path)
        self._registry = registry
        if not create and not self.path.exists():
            raise UsageError(f"no journal at {self.path.absolute()}; collect first")
        place = self.path.resolve()  # a link to a journal leads to the same lock
        with ExitStack() as opened:
            self._lock_file = opened.enter_context(take_lock(place))
            if registry is not None and not place.exists():
                registry.check_new(place)
            self._db = opened.enter_context(closing(open_database(place, key_fingerprint)))
            with as_storage_error(place):
                self.uuid = meta(self._db, place, "uuid")
                self._place = place
                if registry is not None:
                    registry.check(place, self.uuid, _epoch(self._db), _seq(self._db))
                    _enter_epoch(self._db)
                self.n_orphaned = self._db.execute(
                    "update calls set state = ?, changed_at = ?, message = 'process ended'"
                    " where state = ?",
                    (State.IN_DOUBT, time.time(), State.SENT),
                ).rowcount
            opened.pop_all()
        self.writer = Writer(self._db, self.path)
        try:
            self.remember()
        except BaseException:
            self.close()
            raise

    def remember(self) -> None:
        """Tell the store how far this journal is; before the first call, and now and then."""
        if self._registry is not None:
            epoch, seq = self._ask(lambda db: (_epoch(db), _seq(db)))
            self._registry.record(self._place, self.uuid, epoch, seq)

    def close(self) -> None:
        """Write what was asked for, close the file and release the lock.

        A forked process releases the lock file only: the rest belongs to its parent.
        """
        if self._lock_file.closed:
            return
        if not self.writer.is_inherited:
            self.writer.close()
            self._leave()
            with suppress(sqlite3.Error):  # else the next opening does it
                self._db.execute("pragma wal_checkpoint(truncate)")
            self._db.close()
        self._lock_file.close()

    def _leave(self) -> None:
        """Mark a clean end: no full check is needed, and every copy made until now is older.

        What cannot be written is left: the next opening checks the whole file then.
        """
        db = self._db
        with suppress(sqlite3.Error, StorageError):
            db.execute("begin immediate")
            if self._registry is not None:
                _enter_epoch(db)
            set_meta(db, "clean", "1")
            db.execute("commit")
            if self._registry is not None:
                self._registry.record(self._place, self.uuid, _epoch(db), _seq(db))

    # --- states of a call ------------------------------------------------------------------

    def plan(self, calls: Iterable[tuple[str, str, str]]) -> int:
        """Enter calls, each (key, action, req_key), as PLANNED; give the number of new ones.

        A key that is there stays as it is.
        """
        now = time.time()
        rows = [(key, State.PLANNED, action, req_key, now, now) for key, action, req_key in calls]

        def enter(db: sqlite3.Connection) -> int:
            return db.executemany(_ENTER, settled.unknown(db, rows)).rowcount

        return self._ask(enter)

    def plan_again(self, keys: Collection[str]) -> set[str]:
        """Make calls that are NOT_PROCESSED PLANNED again; give their keys."""
        change = "update calls set state = ?, changed_at = ? where key = ? and state = ?"

        def replan(db: sqlite3.Connection) -> set[str]:
            now = time.time()
            values = {key: (State.PLANNED, now, key, State.NOT_PROCESSED) for key in keys}
            return {key for key, row in values.items() if db.execute(change, row).rowcount}

        return self._ask(replan)

    def adopt(self, seq: int, epoch: int, reason: str) -> int:
        """Go on with this file although others know more; give the calls that are in doubt now.

        Each PLANNED call may have been sent meanwhile. Answers are numbered above `seq`.
        """
        change = "update calls set state = ?, changed_at = ?, message = 'adopted', note = ?"

        def work(db: sqlite3.Connection) -> int:
            _enter_epoch(db, epoch + 1)
            if _seq(db) < seq:
                db.execute("delete from sqlite_sequence where name = 'answers'")
                db.execute("insert into sqlite_sequence values ('answers', ?)", (seq,))
            row = (State.IN_DOUBT, time.time(), reason, State.PLANNED)
            return db.execute(f"{change} where state = ?", row).rowcount

        return self._ask(work)

    def doubt(self, calls: Iterable[tuple[str, str, str, str]], reason: str) -> int:
        """Enter calls, each (key, action, req_key, token), as in doubt; give their number.

        A call in doubt gets its token, so that a query can settle it; other known calls stay.
        """
        given = list(calls)

        def work(db: sqlite3.Connection) -> int:
            now = time.time()
            rows = [(k, State.IN_DOUBT, action, req, now, now) for k, action, req, _ in given]
            n_new = db.executemany(_ENTER, settled.unknown(db, rows)).rowcount
            db.executemany(
                "update calls set token = ?, message = 'adopted', note = ?"
                " where key = ? and state = ? and token is null",
                [(token, reason, k, State.IN_DOUBT) for k, _, _, token in given],
            )
            return n_new

        return self._ask(work)

    def redo(self, code: int, reason: str) -> int:
        """Plan refused calls with a code again, for a person's reason; give their number.

        Only refusals without a verdict, a sub-code or a price: nothing says that they were billed.
        """
        change = (
            "update calls set state = ?, changed_at = ?, note = ? where state = ? and code = ?"
            " and sub_code is null and coalesce(billed, 0) = 0"
        )
        row = (State.PLANNED, time.time(), f"{REDO}{reason}", State.REJECTED, code)

        def work(db: sqlite3.Connection) -> int:
            settled.recall(db, "code = ? and coalesce(billed, 0) = 0", (code,))
            return db.execute(change, row).rowcount

        return self._ask(work)

    def redone(self, keys: Collection[str]) -> set[str]:
        """Give those of these calls that `redo` planned again."""
        query = "select 1 from calls where key = ? and state = ? and note like ?"
        row = (State.PLANNED, f"{REDO}%")
        return self._ask(lambda db: {k for k in keys if db.execute(query, (k, *row)).fetchone()})

    def send(
        self, key: str, token: str, *, endpoint: str | None = None, account: str | None = None,
        clock_offset: float | None = None,
    ) -> int:  # fmt: skip
        """Commit the intent to send; only after this returns may the call go out.

        `endpoint`, `account` and `clock_offset` (seconds by which the server's clock is ahead, as
        last seen) are what a later query needs to prove anything of the call.

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
                "insert into attempts (key, try, sent_at, endpoint, account, clock_offset)"
                " values (?, ?, ?, ?, ?, ?)",
                (key, tries, now, endpoint, account, clock_offset),
            )
            return int(tries)

        return self._ask(intend)

    def outcome(self, key: str, state: State, reply: Reply, raw: bytes | None = None) -> int | None:
        """Commit the outcome of a call that was sent, with its raw answer; give its number.

        Parameters
        ----------
        key : str
        state : State
            By `replies.RULES`, or PLANNED for another try.
        reply : Reply
        raw : bytes, optional
            The answer as an envelope line without images and token; required for OK and REJECTED.
        """
        return self._ask(lambda db: _finish(db, key, (State.SENT,), state, reply, raw, None))

    def record(
        self, key: str, action: str, req_key: str, state: State, reply: Reply, raw: bytes | None
    ) -> int | None:
        """Enter a call that another program made, and its answer; each answer is kept.

        Parameters are those of `plan` and `outcome`. The state of a call does not change when this
        journal planned, sent or settled it, nor when it was answered. A refusal is no answer, so
        the next reply takes its place.
        """

        def enter(db: sqlite3.Connection) -> int | None:
            now = time.time()
            settled.recall(db, "tries = 0 and key = ?", (settled.packed(key),))
            if settled.find(db, key) is not None:
                return None if raw is None else _keep(db, key, raw, now)
            if db.execute(_ENTER, (key, State.SENT, action, req_key, now, now)).rowcount:
                return _finish(db, key, (State.SENT,), state, reply, raw, None)
            if _is_better(db, key, reply):
                return _finish(db, key, (State.REJECTED, State.UNPARSED), state, reply, raw, None)
            return None if raw is None else _keep(db, key, raw, now)

        return self._ask(enter)

    def settle(
        self, key: str, state: State, reply: Reply | None, raw: bytes | None = None,
        *, note: str | None = None,
    ) -> int | None:  # fmt: skip
        """Commit what a query, or a mark with a reason (`note`), found out about a call in doubt.

        Raises
        ------
        UsageError
            The call is neither IN_DOUBT nor UNPARSED.
        """
        return self._ask(lambda db: _finish(db, key, OPEN_STATES, state, reply, raw, note))

    def release(self, up_to: int, before: float) -> None:
        """Let go of what the store has committed: answers numbered `up_to` or lower.

        Of their calls only what `settled` keeps stays; raw answers that were received before
        `before` are deleted. The caller knows the store's stamp.
        """
        while self._ask(lambda db: settled.settle(db, up_to)):
            pass
        while self._ask(lambda db: settled.forget_answers(db, up_to, before)) == settled.CHUNK:
            pass

    def erase(self, keys: Collection[str], *, before: float | None = None) -> int:
        """Erase calls by their keys, and those that did not change since a time; count them.

        A call that is erased is never sent again; whether it was billed stays known.
        """
        given = list(keys)
        n_erased = 0
        for start in range(0, len(given), settled.CHUNK):
            n_erased += self._erase(given[start : start + settled.CHUNK])
        while before is not None and (part := self._ask(lambda db: settled.older(db, before))):
            n_erased += self._erase(part)
        if before is not None:
            query = "delete from answers where received_at < ?"
            self._ask(lambda db: db.execute(query, (before,)))
        return n_erased

    def _erase(self, keys: Collection[str]) -> int:
        return self._ask(lambda db: settled.erase(db, keys))

    def _ask(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return self.writer.ask(work)


def _epoch(db: sqlite3.Connection) -> int:
    """Count openings and closings; a copy that was put back has −1."""
    found = db.execute("select value from meta where name = 'epoch'").fetchone()
    return int(found[0]) if found else 0


def _enter_epoch(db: sqlite3.Connection, at_least: int = 0) -> None:
    set_meta(db, "epoch", str(max(_epoch(db) + 1, at_least)))


def _seq(db: sqlite3.Connection) -> int:
    """Give the highest number of an answer, also of those that are deleted."""
    found = db.execute("select seq from sqlite_sequence where name = 'answers'").fetchone()
    return int(found[0]) if found else 0


_ENTER = (
    "insert or ignore into calls (key, state, action, req_key, planned_at, changed_at)"
    " values (?, ?, ?, ?, ?, ?)"
)


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
    if found is None or found[0] not in allowed:
        state_now = "not there" if found is None else found[0]
        raise UsageError(f"call {key[:8]} is {state_now}; it must be {' or '.join(allowed)}")
    seq = None if raw is None else _keep(db, key, raw, now)
    reply = reply or Reply(Outcome.LOST)
    db.execute(
        "update calls set state = ?, changed_at = ?, http_status = ?, code = ?, gateway_code = ?,"
        " sub_code = ?, request_id = ?, billed = ?, message = ?, answer_seq = ?, note = ?,"
        f" token = case when ? in ({', '.join(repr(str(s)) for s in OPEN_STATES)}) then token end"
        " where key = ?",
        (state, now, reply.http_status, reply.code, reply.gateway_code, reply.sub_code,
         reply.request_id, reply.billed, reply.message, seq, note, state, key),
    )  # fmt: skip
    if allowed == (State.SENT,):
        db.execute(
            "update attempts set ended_at = ?, outcome = ?, http_status = ?, code = ?,"
            " gateway_code = ?, bytes = ?, clock_offset = coalesce(?, clock_offset)"
            " where key = ? and try = ?",
            (now, reply.outcome, reply.http_status, reply.code, reply.gateway_code, len(reply.body),
             None if reply.server_time is None else reply.server_time - now, key, found[1]),
        )  # fmt: skip
    return seq


def _is_better(db: sqlite3.Connection, key: str, reply: Reply) -> bool:
    """Whether a reply tells more than the last one of a call that another program made."""
    state, tries, billed = db.execute(
        "select state, tries, billed from calls where key = ?", (key,)
    ).fetchone()
    if tries or state not in (State.REJECTED, State.UNPARSED):
        return False
    refused = state == State.UNPARSED or billed == 0
    is_refusal = reply.outcome in ANSWERS - {Outcome.ANSWERED}
    return reply.outcome is Outcome.ANSWERED or (is_refusal and refused)
