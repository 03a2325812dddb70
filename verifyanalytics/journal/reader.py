"""Reading a journal: in the process that writes it (`Journal`) or beside it (`JournalView`)."""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TypeVar

from verifyanalytics.errors import StorageError, UsageError
from verifyanalytics.journal import settled
from verifyanalytics.journal.database import (
    SCHEMA_VERSION,
    as_storage_error,
    check_identity,
    damaged,
    meta,
)
from verifyanalytics.vendor.replies import State

OPEN_STATES = (State.IN_DOUBT, State.UNPARSED)
"""States that a query can settle."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call:
    """One call as the journal has it; what is not known is None.

    `key` is the keyed hash of the byted_token: one token, one call. `token` is the byted_token
    itself, only while the call is in doubt. `tries` counts how often it was sent, `sent_at` and
    `changed_at` are POSIX times of the last sending and the last change of state; `endpoint`,
    `account` and `clock_offset` are those of the last sending. From
    `http_status` to `message` the columns are of the last reply. `answer_seq` is the number of its
    answer, `note` the reason given with a mark.
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
    endpoint: str | None
    account: str | None
    clock_offset: float | None
    changed_at: float

    def __repr__(self) -> str:
        return f"Call({self.key[:8]}, {self.state}, tries={self.tries})"


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """One raw answer: an envelope line without images and without the token."""

    answer_seq: int
    key: str
    received_at: float
    raw: bytes


class Readable(ABC):
    """The questions that a journal answers.

    Attributes
    ----------
    path : Path
    uuid : str
        Identity of the journal, for the store's stamp.
    """

    path: Path
    uuid: str

    @abstractmethod
    def _ask(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do a piece of work on the connection."""

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, key: str) -> Call | None:
        """The call with this key, or None; of a settled one only what is kept of it."""

        def look(db: sqlite3.Connection) -> tuple[Any, ...] | None:
            row: tuple[Any, ...] | None = db.execute(f"{_SELECT} where key = ?", (key,)).fetchone()
            if row is not None or (kept := settled.find(db, key)) is None:
                return row
            _, state, billed, seq, at, code, tries, action, req_key = kept
            known = {"key": key, "state": state, "action": action, "req_key": req_key}
            known |= {"tries": tries, "code": code, "billed": billed}
            known |= {"answer_seq": seq, "changed_at": at}
            return tuple(known.get(name) for name in _NAMES)

        found = self._ask(look)
        return None if found is None else self._call(found)

    def calls(self, *states: State) -> list[Call]:
        """Calls in these states (all when none is given), by key; no settled ones."""
        return self._calls(states, "order by key")

    def oldest(self, *states: State, limit: int) -> list[Call]:
        """At most `limit` calls in these states, the longest in its state first."""
        return self._calls(states, f"order by changed_at, key limit {int(limit)}")

    def keys(self) -> list[str]:
        """Keys of the calls that are not settled."""
        return [
            key for (key,) in self._ask(lambda db: db.execute("select key from calls").fetchall())
        ]

    def keys_of(self, needles: Collection[str]) -> set[str]:
        """Keys of the raw answers and calls in which one of some texts stands."""
        queries = (
            "select key from answers where instr(raw, cast(? as blob))",
            "select key from calls where request_id = ?",
        )

        def look(db: sqlite3.Connection) -> set[str]:
            found = (db.execute(query, (text,)) for query in queries for text in needles)
            return {key for rows in found for (key,) in rows}

        return self._ask(look) if needles else set()

    def span(self) -> tuple[str | None, str | None]:
        """When the oldest and the newest raw answer were received, as ISO 8601 in UTC."""
        query = "select min(received_at), max(received_at) from answers"
        found = self._ask(lambda db: db.execute(query).fetchone())
        first, last = (
            None if at is None else datetime.fromtimestamp(at, UTC).isoformat() for at in found
        )
        return first, last

    def standing(self, keys: Collection[str]) -> dict[str, State]:
        """The states of those of these calls that are known."""
        query = "select state from calls where key = ?"

        def look(db: sqlite3.Connection) -> dict[str, str]:
            found = {}
            for key in keys:
                row = db.execute(query, (key,)).fetchone()
                if row is None and (kept := settled.find(db, key)):
                    row = kept[1:2]
                if row is not None:
                    found[key] = row[0]
            return found

        return {key: self._state(name) for key, name in self._ask(look).items()}

    def states(self) -> dict[State, int]:
        """How many calls are in each state."""
        query = "select state, sum(n) from counts group by state"
        rows = self._ask(lambda db: db.execute(query).fetchall())
        counted = {self._state(name): int(n) for name, n in rows}
        return {state: counted.get(state, 0) for state in State}

    def bill(self) -> dict[str, int]:
        """Count calls by what is known of their billing: billed, not billed, unknown."""
        query = (
            "select sum(n) filter (where billed = 1), sum(n) filter (where billed = 0),"
            " sum(n) filter (where billed = -1 and state != 'PLANNED') from counts"
        )
        billed, free, unknown = self._ask(lambda db: db.execute(query).fetchone())
        return {"billed": billed or 0, "not_billed": free or 0, "unknown": unknown or 0}

    def answers(self, above: int = 0, limit: int = 1000) -> list[StoredAnswer]:
        """Raw answers with a number above `above`, in order, at most `limit`."""
        query = (
            "select answer_seq, key, received_at, raw from answers"
            " where answer_seq > ? order by answer_seq limit ?"
        )
        rows = self._ask(lambda db: db.execute(query, (above, limit)).fetchall())
        return [StoredAnswer(*row) for row in rows]

    def n_answers(self, above: int = 0) -> int:
        """How many raw answers have a number above `above`."""
        query = "select count(*) from answers where answer_seq > ?"
        return int(self._ask(lambda db: db.execute(query, (above,)).fetchone()[0]))

    def _calls(self, states: Collection[State], order: str) -> list[Call]:
        given = tuple(states)
        where = f" where state in ({', '.join('?' * len(given))})" if given else ""
        rows = self._ask(lambda db: db.execute(f"{_SELECT}{where} {order}", given).fetchall())
        return [self._call(row) for row in rows]

    def _call(self, row: tuple[Any, ...]) -> Call:
        call = dict(zip(_NAMES, row, strict=True))
        billed = call["billed"]
        return Call(**call | {
            "state": self._state(call["state"]),
            "billed": None if billed is None else bool(billed),
        })  # fmt: skip

    def _state(self, name: str) -> State:
        try:
            return State(name)
        except ValueError:
            raise damaged(self.path, "a call is in a state that there is not") from None


class JournalView(Readable):
    """A journal read beside the process that holds it; nothing is written, no lock is taken.

    Parameters
    ----------
    path : Path
    key_fingerprint : str
        Fingerprint of the store key that the calls' keys are made with.

    Raises
    ------
    UsageError
        There is no journal.
    StorageError
        It is damaged, made with another key or by newer code.
    """

    def __init__(self, path: Path, key_fingerprint: str) -> None:
        self.path = Path(path)
        if not self.path.exists():
            raise UsageError(f"no journal at {self.path.absolute()}; collect first")
        if not self.path.stat().st_size:
            raise damaged(self.path, "it is empty")
        with as_storage_error(self.path):
            self._db = sqlite3.connect(
                f"{self.path.absolute().as_uri()}?mode=ro",
                uri=True, isolation_level=None, check_same_thread=False,
            )  # fmt: skip
        try:
            with as_storage_error(self.path):
                self._db.execute("pragma trusted_schema = off")
                check_identity(self._db, self.path, key_fingerprint)
                if self._db.execute("pragma user_version").fetchone()[0] < SCHEMA_VERSION:
                    message = f"{self.path} is of an older version; collect or resolve updates it"
                    raise StorageError(message, path=self.path)
                self.uuid = meta(self._db, self.path, "uuid")
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def copy_to(self, other: sqlite3.Connection) -> None:
        """Copy the whole journal of one moment into an empty database."""
        with as_storage_error(self.path):
            self._db.backup(other)

    def _ask(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with as_storage_error(self.path):
            return work(self._db)


_NAMES = (
    "key", "state", "action", "req_key", "tries", "token", "http_status", "code", "gateway_code",
    "sub_code", "request_id", "billed", "message", "answer_seq", "note",
    "sent_at", "endpoint", "account", "clock_offset", "changed_at",
)  # fmt: skip
_OF_ATTEMPT = (
    "(select {0} from attempts a where a.key = calls.key order by try desc limit 1) as {0}"
)
_SELECT = "select {} from calls".format(
    ", ".join(_OF_ATTEMPT.format(name) if name in _NAMES[15:19] else name for name in _NAMES)
)
