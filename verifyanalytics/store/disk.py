"""Calls to the operating system: flush to the disk, lock a file, signals, one error for refusals.

Workers and taps import this module, so it loads neither Arrow nor Delta nor DuckDB.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from verifyanalytics.errors import StorageError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_logger = logging.getLogger(__name__)

_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file-size limit is reached",
}
_FULL_TEXTS = ("No space left", "quota exceeded", "File too large")


def sync(path: Path) -> None:
    """Flush a file's bytes, or a folder's names, to the disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no folders and needs no flush of names
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path, mode: int = 0o700) -> None:
    """Make a folder, and those above it; their names are on the disk when this returns."""
    if not path.is_dir():
        make_folder(path.parent, 0o777)
        path.mkdir(mode=mode, exist_ok=True)
        sync(path.parent)


def hash_of(path: Path) -> str:
    """Hash a file in bounded memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def replace_file(path: Path, data: bytes) -> None:
    """Put a small file of mode 0600 in the place of another, whole or not at all, on the disk."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    sync(path.parent)


def ending_signals() -> list[signal.Signals]:
    """Give the signals that end a run in order; a hang-up that `nohup` ignores is none."""
    hangup = getattr(signal, "SIGHUP", None)  # Windows has none
    taken = [signal.SIGINT, signal.SIGTERM]
    return taken + [n for n in [hangup] if n and signal.getsignal(n) is not signal.SIG_IGN]


def lock(file: BinaryIO) -> None:
    """Take the exclusive lock on an open file; it lasts until the file is closed.

    Raises
    ------
    OSError
        Another process holds it.
    """
    if sys.platform == "win32":
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextlib.contextmanager
def tidying() -> Iterator[None]:
    """Log what cannot be removed after the work is done; the next import tries again."""
    try:
        yield
    except OSError as error:
        _logger.warning("left behind: %s", error)


@contextlib.contextmanager
def storage_errors(path: Path, doing: str) -> Iterator[None]:
    """Turn what the disk, Delta, DuckDB and Parquet raise into one `StorageError`."""
    try:
        yield
    except _storage_failures() as error:
        raise StorageError(f"{doing} failed: {_reason(error)}", path=path) from error


def _storage_failures() -> tuple[type[Exception], ...]:
    """Load the libraries' errors; Python calls this only after something was raised."""
    import duckdb
    import pyarrow as pa
    from deltalake.exceptions import DeltaError

    return OSError, DeltaError, duckdb.Error, pa.ArrowException


def _reason(error: Exception) -> str:
    """Write one line that says what went wrong, and what helps when the disk is full."""
    lines = str(error).splitlines() or [type(error).__name__]
    number = getattr(error, "errno", None)
    if number in _FULL:
        return f"{_FULL[number]}; what was committed stays, free some space and run again"
    for line in lines:  # Delta puts the operating system's words into a later line
        if any(full in line for full in _FULL_TEXTS):
            return f"{line.strip()}; what was committed stays, free some space and run again"
    return lines[0]
