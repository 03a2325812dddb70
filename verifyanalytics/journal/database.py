"""The journal's SQLite file: how it is made, checked, locked and opened.

A journal is made as a whole under another name and renamed. So an empty or half-made file in its
place is damage, and is never taken for a new journal.
"""

from __future__ import annotations

import os
import sqlite3
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from verifyanalytics.errors import StorageError
from verifyanalytics.journal import settled
from verifyanalytics.store.disk import lock, make_folder, sync

SCHEMA_VERSION = 3
"""2 since attempts know the endpoint, the account and the server's clock, 3 since settled calls
are kept apart."""
APPLICATION_ID = 0x76614A31
"""SQLite's application id, at byte 68 of the file; it marks our journals."""

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
    endpoint text, account text, clock_offset real,
    primary key (key, try)
) without rowid;
create table answers (
    answer_seq integer primary key autoincrement, key text not null, received_at real not null,
    raw blob not null
);
"""


class InUseError(StorageError):
    """Another process holds the journal."""


def open_database(path: Path, key_fingerprint: str) -> sqlite3.Connection:
    """Open or make the file: mode 0600, write-ahead log, every commit flushed to the disk."""
    with as_storage_error(path):
        if not path.exists():
            _make(path, key_fingerprint)
        if not path.stat().st_size:
            raise damaged(path, "it is empty")
        if os.name == "posix" and path.stat().st_mode & 0o077:
            raise StorageError(f"{path} can be read by others; run: chmod 600 {path}", path=path)
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            if db.execute("pragma journal_mode = wal").fetchone()[0] != "wal":
                raise StorageError(f"{path}: this disk allows no write-ahead log", path=path)
            for name in ("synchronous = full", "secure_delete = on", "trusted_schema = off"):
                db.execute(f"pragma {name}")
            # frames of an earlier run may hold tokens whose outcome is known since
            db.execute("pragma wal_checkpoint(truncate)")
            check_identity(db, path, key_fingerprint)
            if db.execute("select 1 from meta where name = 'clean'").fetchone() is None:
                faults = [row[0] for row in db.execute("pragma integrity_check(3)")]
                if faults != ["ok"]:
                    raise damaged(path, faults[0])
            db.execute("delete from meta where name = 'clean'")
            _migrate(db)
        except BaseException:
            db.close()
            raise
    return db


_ADDED = ("endpoint text", "account text", "clock_offset real")
"""Columns of attempts that schema 1 lacks."""


def _migrate(db: sqlite3.Connection) -> None:
    found = db.execute("pragma user_version").fetchone()[0]
    if found == SCHEMA_VERSION:
        return
    added = "".join(f"alter table attempts add column {column};" for column in _ADDED)
    script = f"{added if found == 1 else ''} {settled.SCHEMA} {settled.COUNT_ALL}"
    script += f"{settled.TRIGGERS} pragma user_version = {SCHEMA_VERSION};"
    db.executescript(f"begin immediate; {script} commit;")


def check_identity(db: sqlite3.Connection, path: Path, key_fingerprint: str) -> None:
    """Refuse a file that is no journal, one of newer code, and one of another key."""
    found = db.execute("pragma user_version").fetchone()[0]
    if found > SCHEMA_VERSION:
        raise StorageError(
            f"{path} was written by a newer version (schema {found}); update", path=path
        )
    if found == 0:
        raise StorageError(f"{path} is not a journal of ours", path=path)
    if meta(db, path, "key_fingerprint") != key_fingerprint:
        raise StorageError(
            f"{path} was made with another store key; give the key file it was made with",
            path=path,
        )


def meta(db: sqlite3.Connection, path: Path, name: str) -> str:
    """Read one of the journal's properties."""
    found = db.execute("select value from meta where name = ?", (name,)).fetchone()
    if found is None:
        raise damaged(path, f"{name} is missing")
    return str(found[0])


def _make(path: Path, key_fingerprint: str) -> None:
    """Make a journal, whole or not at all; the caller holds its lock."""
    fresh = path.with_name(f"{path.name}.new")
    for left in (fresh, fresh.with_name(f"{fresh.name}-journal")):
        left.unlink(missing_ok=True)
    os.close(os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    with closing(sqlite3.connect(fresh, isolation_level=None)) as db:
        db.execute("pragma synchronous = full")
        db.executescript(
            f"begin; {_SCHEMA} {settled.SCHEMA} {settled.TRIGGERS}"
            f" pragma application_id = {APPLICATION_ID}; pragma user_version = {SCHEMA_VERSION};"
        )
        db.executemany(
            "insert into meta values (?, ?)",
            [
                ("uuid", uuid.uuid4().hex),
                ("key_fingerprint", key_fingerprint),
                ("settled", "0"),
            ],
        )
        db.execute("commit")
    fresh.replace(path)
    sync(path.parent)


def take_lock(path: Path) -> BinaryIO:
    """Hold the lock file while the journal is open; the system frees it when the process dies.

    The path is that of the file itself, no link to it: each journal has one lock.
    """
    with as_storage_error(path):
        make_folder(path.parent)
        name = path.with_name(f"{path.name}.lock")
        file = os.fdopen(os.open(name, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600), "ab")
        if os.name == "posix" and os.fstat(file.fileno()).st_mode & 0o077:
            name.chmod(0o600)
    for wait in (0.01, 0.02, 0.05, None):  # a look of `is_held` takes no longer
        try:
            lock(file)
        except OSError:
            if wait is None:
                file.close()
                message = f"{path} is in use by another process; wait for it to end"
                raise InUseError(message, path=path) from None
            time.sleep(wait)
        else:
            break
    return file


def is_held(path: Path) -> bool:
    """Whether a process holds the journal at this moment."""
    name = path.with_name(f"{path.name}.lock")
    with as_storage_error(path), suppress(FileNotFoundError), name.open("ab") as file:
        try:
            lock(file)
        except OSError:
            return True
    return False


def set_meta(db: sqlite3.Connection, name: str, value: str) -> None:
    """Write one of the journal's properties."""
    db.execute("insert or replace into meta values (?, ?)", (name, value))


def damaged(path: Path, fault: str) -> StorageError:
    """Make the error for a damaged file; it tells how to salvage what is in it."""
    return StorageError(
        f"{path} is damaged ({fault}). It is not made anew, since it knows which calls were sent: "
        f"copy the folder, then try sqlite3 {path.name} .recover, and settle by query",
        path=path,
    )


@contextmanager
def as_storage_error(path: Path) -> Iterator[None]:
    """Turn errors of SQLite and the system into a `StorageError` with the path."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise StorageError(f"{path} cannot be opened: {error}", path=path) from error
        raise damaged(path, str(error)) from error
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}", path=path) from error
