"""The journal's file: who may read it, who holds it, and what is said when it is hurt."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from verifyanalytics.errors import StorageError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


def open_database(path: Path) -> sqlite3.Connection:
    """Open or make the file: mode 0600, write-ahead log, every commit flushed to the disk."""
    with as_storage_error(path):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        if os.name == "posix" and path.stat().st_mode & 0o077:
            raise StorageError(f"{path} can be read by others; run: chmod 600 {path}", path=path)
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        mode = db.execute("pragma journal_mode = wal").fetchone()[0]
        if mode != "wal":
            raise StorageError(f"{path}: this disk allows no write-ahead log", path=path)
        db.execute("pragma synchronous = full")
        db.execute("pragma secure_delete = on")
        db.execute("pragma trusted_schema = off")
        # frames of an earlier run may hold tokens that have had their outcome since
        db.execute("pragma wal_checkpoint(truncate)")
    return db


def take_lock(path: Path) -> BinaryIO:
    """Hold the lock file as long as the journal is open; the system frees it when we die."""
    with as_storage_error(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = path.with_name(f"{path.name}.lock").open("ab")
    try:
        if sys.platform == "win32":
            msvcrt.locking(lock.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise StorageError(
            f"{path} is in use by another process; wait for it, or give a journal of your own",
            path=path,
        ) from None
    return lock


def damaged(path: Path, fault: str) -> StorageError:
    """The error for a file that cannot be trusted: it says how to salvage, and makes none anew."""
    return StorageError(
        f"{path} is damaged ({fault}). It is not made anew, since it knows which calls were sent: "
        f"copy the folder, then try sqlite3 {path.name} .recover, and settle by query",
        path=path,
    )


@contextmanager
def as_storage_error(path: Path) -> Iterator[None]:
    """Turn what SQLite and the system say into a `StorageError` with the path."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise StorageError(f"{path} cannot be opened: {error}", path=path) from error
        raise damaged(path, str(error)) from error
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}", path=path) from error
