"""The journal's one writer: what several threads ask for at the same moment shares one flush.

Nobody goes on before the flush that holds its words, and nobody waits for a writer that is gone:
what is asked for is either written, or fails with a reason.
"""

from __future__ import annotations

import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Generic, TypeVar

from verifyanalytics.errors import StorageError

T = TypeVar("T")


class Writer:
    """A thread that does pieces of work on a connection, several in one transaction.

    Parameters
    ----------
    db : sqlite3.Connection
        In autocommit mode; the writer's alone from now on.
    path : Path
        Of the file, for messages.

    Attributes
    ----------
    n_flushes : int
    seconds_flushing : float
    """

    def __init__(self, db: sqlite3.Connection, path: Path) -> None:
        self.n_flushes = 0
        self.seconds_flushing = 0.0
        self._db, self._path = db, path
        self._pid = os.getpid()
        self._gate = threading.Lock()
        self._is_open = True
        self._asked: queue.SimpleQueue[_Asked[Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    @property
    def is_inherited(self) -> bool:
        """Whether this process got the writer by a fork: its thread stayed behind."""
        return os.getpid() != self._pid

    def ask(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Have a piece of work done; returns when the flush that holds it is done.

        Raises
        ------
        StorageError
            The journal is closed, was opened before a fork, or cannot be written.
        """
        if self.is_inherited:
            raise StorageError(
                "the journal was opened before this process was forked; open one of its own",
                path=self._path,
            )
        asked: _Asked[T] = _Asked(work)
        with self._gate:  # nothing comes after the end
            if not self._is_open:
                raise StorageError("the journal is closed", path=self._path)
            self._asked.put(asked)
        return asked.done.result()

    def close(self) -> None:
        """Do what was asked for, then end."""
        with self._gate:
            if self._is_open:
                self._is_open = False
                self._asked.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            ended = False
            while not ended:
                batch, ended = self._gather()
                if batch:
                    self._flush(batch)
        finally:
            self._fail_the_rest()

    def _gather(self) -> tuple[list[_Asked[Any]], bool]:
        """Wait for work, take all that is there; whether the end is among it."""
        batch: list[_Asked[Any]] = []
        while not batch or not self._asked.empty():
            asked = self._asked.get()
            if asked is None:
                return batch, True
            batch.append(asked)
        return batch, False

    def _flush(self, batch: list[_Asked[Any]]) -> None:
        started = time.perf_counter()
        try:
            self._db.execute("begin immediate")
            results = [_tried(self._db, asked.work) for asked in batch]
            self._db.execute("commit")
        except sqlite3.Error as error:
            self._give_up(batch, f"the journal cannot be written: {error}")
            return
        except BaseException as error:
            self._give_up(batch, f"the journal's writer ended: {type(error).__name__}")
            raise
        finally:
            self.n_flushes += 1
            self.seconds_flushing += time.perf_counter() - started
        for asked, (value, problem) in zip(batch, results, strict=True):
            if problem is None:
                asked.done.set_result(value)
            else:
                asked.done.set_exception(problem)

    def _give_up(self, batch: list[_Asked[Any]], why: str) -> None:
        try:
            if self._db.in_transaction:
                self._db.execute("rollback")
        except sqlite3.Error as error:
            why = f"{why}; {error}"
        for asked in batch:
            asked.done.set_exception(StorageError(why, path=self._path))

    def _fail_the_rest(self) -> None:
        with self._gate:
            self._is_open = False
        while not self._asked.empty():
            asked = self._asked.get()
            if asked is not None:
                asked.done.set_exception(StorageError("the journal is closed", path=self._path))


class _Asked(Generic[T]):
    """One piece of work for the writer, and where its result goes."""

    def __init__(self, work: Callable[[sqlite3.Connection], T]) -> None:
        self.work = work
        self.done: Future[T] = Future()


def _tried(
    db: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]
) -> tuple[T | None, Exception | None]:
    """Do one piece of work; what fails by itself is undone and leaves its neighbours."""
    db.execute("savepoint piece")
    try:
        value = work(db)
    except sqlite3.Error:
        raise  # the file's fault, so nobody's piece is safe
    except Exception as error:  # noqa: BLE001 - it is raised again where the work was asked for
        db.execute("rollback to piece")
        db.execute("release piece")
        return None, error
    db.execute("release piece")
    return value, None
