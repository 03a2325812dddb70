"""The journal's writer: what several threads ask for at the same moment shares one flush.

A request returns only after the transaction that holds it is flushed to the disk. When the writer
ends, each request that is left fails with a reason.
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
from typing import Any, TypeVar

from verifyanalytics.errors import StorageError

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], Any]
Request = tuple[Work, "Future[Any]"]


class Writer:
    """A thread that does pieces of work on a connection, several in one transaction.

    Parameters
    ----------
    db : sqlite3.Connection
        In autocommit mode; from now on only the writer uses it.
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
        self._requests: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    @property
    def is_inherited(self) -> bool:
        """Whether this process got the writer by a fork: its thread is in the parent only."""
        return os.getpid() != self._pid

    def ask(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do a piece of work; returns when the transaction that holds it is flushed.

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
        done: Future[T] = Future()
        with self._gate:  # no request comes after the end
            if not self._is_open:
                raise StorageError("the journal is closed", path=self._path)
            self._requests.put((work, done))
        return done.result()

    def close(self) -> None:
        """Finish the requests, then end the thread."""
        with self._gate:
            if self._is_open:
                self._is_open = False
                self._requests.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            ended = False
            while not ended:
                # wait for one request, then take all that are there
                batch = [self._requests.get()]
                while not self._requests.empty():
                    batch.append(self._requests.get())
                ended = None in batch
                if requests := [request for request in batch if request is not None]:
                    self._flush(requests)
        finally:
            with self._gate:
                self._is_open = False
            while not self._requests.empty():
                if (request := self._requests.get()) is not None:
                    request[1].set_exception(StorageError("the journal is closed", path=self._path))

    def _flush(self, requests: list[Request]) -> None:
        started = time.perf_counter()
        try:
            self._db.execute("begin immediate")
            results = [_tried(self._db, work) for work, _ in requests]
            self._db.execute("commit")
        except sqlite3.Error as error:
            self._give_up(requests, f"the journal cannot be written: {error}")
            return
        except BaseException as error:
            self._give_up(requests, f"the journal's writer ended: {type(error).__name__}")
            raise
        finally:
            self.n_flushes += 1
            self.seconds_flushing += time.perf_counter() - started
        for (_, done), (value, problem) in zip(requests, results, strict=True):
            if problem is None:
                done.set_result(value)
            else:
                done.set_exception(problem)

    def _give_up(self, requests: list[Request], why: str) -> None:
        try:
            if self._db.in_transaction:
                self._db.execute("rollback")
        except sqlite3.Error as error:
            why = f"{why}; {error}"
        for _, done in requests:
            done.set_exception(StorageError(why, path=self._path))


def _tried(db: sqlite3.Connection, work: Work) -> tuple[Any, Exception | None]:
    """Do one piece of work; when it fails by itself, it is undone and the others stay."""
    db.execute("savepoint piece")
    try:
        value = work(db)
    except sqlite3.Error:
        raise  # the file's fault, so no piece is safe
    except Exception as error:  # noqa: BLE001 - it is raised again where the work was asked for
        db.execute("rollback to piece")
        db.execute("release piece")
        return None, error
    db.execute("release piece")
    return value, None
