"""The worker processes as the import sees them: start, hand out tasks, notice deaths, stop.

One thread serves each worker. A worker that dies is replaced and its task tried once more.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import site
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from verifyanalytics import __file__ as package_file
from verifyanalytics.errors import VerifyAnalyticsError
from verifyanalytics.importing.worker import (
    Failure,
    Hello,
    NextBatch,
    Progress,
    Result,
    Setup,
    Task,
    Up,
    receive,
    send,
)

POLL_SECONDS = 0.1  # how long a wait may last before the caller gets a chance to look around
TRIES = 2  # how often a task may be begun


class WorkerDiedError(VerifyAnalyticsError):
    """A worker process ended in the middle of a task."""


class Job:
    """A task in the hands of the pool: what remains of it, and its results as they come."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.cancelled = threading.Event()
        self._results: queue.Queue[Result | BaseException] = queue.Queue(maxsize=1)

    def put(self, result: Result | BaseException) -> None:
        """Hand over a result, or what is raised in its place; waits for the one before it."""
        # so a fast worker cannot fill the disk
        while not self.cancelled.is_set():
            with contextlib.suppress(queue.Full):
                self._results.put(result, timeout=POLL_SECONDS)
                return

    def results(self, idle: Callable[[], object]) -> Iterator[Result]:
        """Fetch the results in order; `idle` is called now and then while waiting."""
        while True:
            try:
                result = self._results.get(timeout=POLL_SECONDS)
            except queue.Empty:
                idle()
                continue
            if isinstance(result, BaseException):
                raise result
            yield result
            if result.final:
                return


class Worker:
    """One child process."""

    def __init__(self) -> None:
        self._stderr: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 - close() closes it
        options = ["-P", *(["-s"] if sys.flags.no_user_site else [])]
        self.process = subprocess.Popen(
            [sys.executable, *options, "-m", "verifyanalytics.importing.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=child_environment(),
            # an interrupt from the keyboard goes to the import, which then stops the workers
            process_group=0 if os.name == "posix" else None,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        self._stdin = cast("BinaryIO", self.process.stdin)
        self._stdout = cast("BinaryIO", self.process.stdout)
        self._decoder: msgspec.msgpack.Decoder[Up] = msgspec.msgpack.Decoder(Up)

    def handshake(self, setup: Setup) -> None:
        """Wait until the worker is up, check that it runs this package, send the setup."""
        hello = self.receive()
        ours = str(Path(package_file).resolve())
        if not isinstance(hello, Hello) or hello.package != ours:
            raise VerifyAnalyticsError(f"it runs another package: {hello}, not {ours}")
        self.send(setup)

    def send(self, message: Setup | Task | NextBatch) -> None:
        """Send a message; a dead worker is noticed here or at the next receive."""
        try:
            send(self._stdin, message)
        except OSError:
            raise self._death() from None

    def receive(self) -> Up:
        """Wait for a message."""
        message = receive(self._stdout, self._decoder)
        if message is None:
            raise self._death()
        return message

    def _death(self) -> WorkerDiedError:
        """Describe how the process ended, with the last line of its standard error."""
        code = self.process.wait()
        how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
        if code == -signal.SIGKILL:
            how += " (out of memory, or by hand)"
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return WorkerDiedError(f"a worker {how}{': ' + last[:300] if last else ''}")

    def close(self) -> None:
        """Wait until the process has ended and close its pipes."""
        self.process.wait()
        for stream in (self._stdin, self._stdout, self._stderr):
            with contextlib.suppress(OSError):
                stream.close()


class WorkerPool:
    """A number of workers and the queue they take tasks from."""

    def __init__(
        self,
        n_workers: int,
        setup: Setup,
        next_batch: Callable[[], str],
        on_progress: Callable[[Progress], object],  # both are called from a worker's thread
        on_death: Callable[[str], object],
    ) -> None:
        self._setup, self._next_batch = setup, next_batch
        self._on_progress, self._on_death = on_progress, on_death
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._running: set[Job] = set()
        self.workers: set[Worker] = set()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._serve, daemon=True) for _ in range(n_workers)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, task: Task) -> Job:
        """Queue a task; workers take tasks in this order."""
        job = Job(task)
        self._jobs.put(job)
        return job

    def stop(self) -> None:
        """End the workers at once, whatever they do, and wait for the threads."""
        with self._lock:
            self._stopping.set()
            for job in self._running:
                job.cancelled.set()
            for worker in self.workers:
                worker.process.kill()
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        for worker in self.workers:
            worker.close()

    def _serve(self) -> None:
        """Serve one worker for as long as there are jobs."""
        worker: Worker | None = None
        while (job := self._jobs.get()) is not None:
            with self._lock:
                self._running.add(job)
                if self._stopping.is_set():
                    return
            for tries_left in reversed(range(TRIES)):
                try:
                    worker = worker or self._start()
                    self._work(worker, job)
                    break
                except WorkerDiedError as death:
                    if self._stopping.is_set():
                        return
                    worker = None
                    self._retry(job, death, tries_left)
                except (OSError, VerifyAnalyticsError) as error:  # it could not even be started
                    job.put(VerifyAnalyticsError(f"cannot start a worker: {error}"))
                    break
                except BaseException as fault:  # noqa: BLE001 - raised where results are waited for
                    job.put(fault)
                    break
            with self._lock:
                self._running.discard(job)

    def _start(self) -> Worker:
        with self._lock:
            if self._stopping.is_set():
                raise WorkerDiedError("the import stops")
            worker = Worker()
            self.workers.add(worker)
        worker.handshake(self._setup)
        return worker

    def _work(self, worker: Worker, job: Job) -> None:
        """See one task through on one worker."""
        worker.send(job.task)
        while True:
            message = worker.receive()
            if isinstance(message, Progress):
                self._on_progress(message)
            elif isinstance(message, Failure):
                return job.put(message.error())
            elif isinstance(message, Result) and message.final:
                return job.put(message)
            elif isinstance(message, Result):
                job.task = job.task.after(message, self._next_batch())
                job.put(message)
                worker.send(NextBatch(job.task.batch))

    def _retry(self, job: Job, death: WorkerDiedError, tries_left: int) -> None:
        """Prepare another try of a task whose worker died, or give up and name its sources."""
        names = [part.source.name for part in job.task.ranges]
        reading = names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")
        if tries_left:
            self._on_death(f"{death}; trying {reading} again")
            job.task = msgspec.structs.replace(job.task, name=f"{job.task.name}-again")
        else:
            job.put(WorkerDiedError(f"{death}; gave up reading {reading} after {TRIES} tries"))


def child_environment() -> dict[str, str]:
    """Give the environment in which a child imports what this process imports."""
    # The folders of the script and of work are left out: a `queue.py` that lies there is not ours
    # (`-P` keeps Python from adding them). So is what the child finds by itself: `PYTHONPATH` comes
    # before the standard library, and a backport in site-packages must not.
    root = Path(package_file).resolve().parents[1]
    main_file = getattr(sys.modules.get("__main__"), "__file__", None)
    foreign = {Path.cwd(), *([Path(main_file).resolve().parent] if main_file else [])}
    by_itself = {Path(path) for path in (*site.getsitepackages(), site.getusersitepackages())}
    standard = Path(sysconfig.get_path("stdlib"))
    entries = [root] if root not in by_itself else []
    for path in (Path(entry) for entry in sys.path if entry):
        ours = path not in foreign | by_itself and path not in entries
        if ours and path.exists() and path != standard and standard not in path.parents:
            entries.append(path)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if entries:
        environment["PYTHONPATH"] = os.pathsep.join(str(path.absolute()) for path in entries)
    return environment
