"""Workers of an import: tasks of the dead are done by others, faults reach the import."""

from __future__ import annotations

import os
import threading

import pytest
from builders.stored_answers import line, write_lines

from verifyanalytics import errors
from verifyanalytics.importing.pool import WorkerDiedError, WorkerPool
from verifyanalytics.importing.worker import Setup, SourceRange, Task
from verifyanalytics.parsing.text import ReadOptions
from verifyanalytics.sources.reading import discover

pytestmark = pytest.mark.second_tier

OPTIONS = ReadOptions(key=b"k" * 32, context={"channel": "app"})


def task_of(folder, *paths):
    ranges = [SourceRange(source, source.n_bytes) for source in discover(paths)]
    return Task("t", str(folder), "b1", ranges)


def ignore(_):
    """Take what a test does not look at."""


def pool_of(n_workers, on_progress=ignore, on_death=ignore):
    return WorkerPool(n_workers, Setup(OPTIONS), lambda: "never", on_progress, on_death)


class Death:
    """Kills the worker that tells its progress, a number of times."""

    def __init__(self, times):
        self.left, self.notes, self.pool = times, [], None
        self.lock = threading.Lock()

    def strike(self, _):
        with self.lock:
            if self.left:
                self.left -= 1
                for worker in list(self.pool.workers):
                    if worker.process.poll() is None:
                        worker.process.kill()


def busy_task(tmp_path):
    """A task that lasts for several messages of progress."""
    path = write_lines(tmp_path / "busy.ndjson", (line(n) for n in range(25_000)))
    return task_of(tmp_path, path)


def test_a_task_whose_worker_dies_is_done_by_another(tmp_path):
    death = Death(1)
    death.pool = pool_of(1, death.strike, death.notes.append)
    try:
        job = death.pool.submit(busy_task(tmp_path))
        (result,) = job.results(lambda: None)
    finally:
        death.pool.stop()
    assert result.readings[0].n_read == 25_000
    assert sum(file.n_rows for file in result.staged) == 25_000
    assert len(death.notes) == 1
    assert "signal 9" in death.notes[0]
    assert "busy.ndjson" in death.notes[0]


def test_a_task_that_kills_every_worker_is_given_up_by_name(tmp_path):
    death = Death(1000)
    death.pool = pool_of(1, death.strike, death.notes.append)
    try:
        job = death.pool.submit(busy_task(tmp_path))
        with pytest.raises(WorkerDiedError, match=r"busy\.ndjson after 2 tries"):
            list(job.results(lambda: None))
    finally:
        death.pool.stop()


def test_stopping_ends_the_workers_whatever_they_do(tmp_path):
    is_reading = threading.Event()
    pool = pool_of(2, lambda _: is_reading.set())
    pool.submit(busy_task(tmp_path))
    assert is_reading.wait(60)
    pool.stop()
    assert all(worker.process.poll() is not None for worker in pool.workers)


def test_a_package_of_another_place_is_noticed(tmp_path, monkeypatch):
    other = tmp_path / "elsewhere" / "__init__.py"
    monkeypatch.setattr("verifyanalytics.importing.pool.package_file", str(other))
    monkeypatch.setattr(
        "verifyanalytics.importing.pool.child_environment", lambda: dict(os.environ)
    )
    pool = pool_of(1)
    try:
        job = pool.submit(task_of(tmp_path))
        with pytest.raises(errors.VerifyAnalyticsError, match="another package"):
            list(job.results(lambda: None))
    finally:
        pool.stop()


def test_a_fault_of_the_threads_reaches_who_waits(tmp_path):
    path = write_lines(tmp_path / "a.ndjson", [line(1)])
    (source,) = discover([path])
    task = Task("t", str(tmp_path), "\udcff", [SourceRange(source, source.n_bytes)])
    pool = pool_of(1)
    try:
        job = pool.submit(task)
        with pytest.raises(UnicodeEncodeError):
            list(job.results(lambda: None))
    finally:
        pool.stop()
