"""The worker processes as the import sees them: start, hand out tasks, notice deaths, stop.

One thread keeps each worker company: it takes a job from the common queue, sends its task, and
puts what comes back into the job. A job in parts goes on only when its last result was fetched, so
a fast worker cannot fill the disk. A worker that dies is replaced and its task tried once more.
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
from verifyanalytics.importing.worker import (  # fmt: skip
    Beat,
    Failure,
    Hello,
    Onward,
    Result,
    Setup,
    Task,
    Up,
    perform,
    receive,
    send,
)
from verifyanalytics.parsing.fast.flattener import Flattener

POLL_SECONDS = 0.1
"""How long a wait may last before the caller gets a chance to look around."""

TRIES = 2
"""How often a task may be begun."""


class WorkerDiedError(VerifyAnalyticsError):
    """A worker process ended in the middle of a task."""


class Job:
    """A task that somebody works on, and the results as they come.

    Attributes
    ----------
    task : Task
        What remains to be done: moves on with each result of a job in parts.
    """

    def __init__(self, task: Task, next_batch: Callable[[], str]) -> None:
        self.task = task
        self._next_batch = next_batch
        self._results: queue.Queue[Result | BaseException] = queue.Queue(maxsize=1)
        self.cancelled = threading.Event()

    def put(self, result: Result | BaseException) -> None:
        """Hand over a result, or what is raised in its place; waits for the one before it."""
        while not self.cancelled.is_set():
            with contextlib.suppress(queue.Full):
                self._results.put(result, timeout=POLL_SECONDS)
                return

    def results(self, idle: Callable[[], None]) -> Iterator[Result]:
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

    def move_on(self, result: Result) -> Onward:
        """Take note of a part that is done, and name the batch of the next."""
        self.task = msgspec.structs.replace(self.task.after(result), batch=self._next_batch())
        return Onward(self.task.batch)


class LocalJob:
    """The same for a small import: the task is done in this process when its results are asked."""

    def __init__(
        self,
        task: Task,
        flattener: Flattener,
        next_batch: Callable[[], str],
        on_beat: Callable[[Beat], None],
    ) -> None:
        self._task, self._flattener = task, flattener
        self._next_batch, self._on_beat = next_batch, on_beat

    def results(self, idle: Callable[[], None]) -> Iterator[Result]:
        """Do the task; `idle` is called at each beat."""
        work = perform(self._task, self._flattener)
        batch: str | None = None
        with contextlib.suppress(StopIteration):
            while True:
                message = work.send(batch)
                batch = None
                if isinstance(message, Beat):
                    self._on_beat(message)
                    idle()
                else:
                    yield message
                    batch = None if message.final else self._next_batch()


class _Worker:
    """One child process."""

    def __init__(self) -> None:
        self._said: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 - close() closes it
        options = ["-P", *(["-s"] if sys.flags.no_user_site else [])]
        self._process = subprocess.Popen(
            [sys.executable, *options, "-m", "verifyanalytics.importing.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env=child_environment(),
            # an interrupt from the keyboard goes to the import, which then stops the workers
            process_group=0 if os.name == "posix" else None,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        self._stdin = cast("BinaryIO", self._process.stdin)
        self._stdout = cast("BinaryIO", self._process.stdout)
        self._decoder: msgspec.msgpack.Decoder[Up] = msgspec.msgpack.Decoder(Up)

    def greet(self, setup: Setup) -> None:
        """Wait until the worker is up, see that it is ours, and tell it what holds for all."""
        hello = self.receive()
        ours = str(Path(package_file).resolve())
        if not isinstance(hello, Hello) or hello.package != ours:
            raise VerifyAnalyticsError(f"it runs another package: {hello}, not {ours}")
        self.send(setup)

    def send(self, message: Setup | Task | Onward) -> None:
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
        """Describe how the process ended, with the last line it said."""
        code = self._process.wait()
        how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
        if code == -signal.SIGKILL:
            how += " (out of memory, or by hand)"
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return WorkerDiedError(f"a worker {how}{': ' + last[:300] if last else ''}")

    def kill(self) -> None:
        """End the process now."""
        self._process.kill()

    def close(self) -> None:
        """Wait until the process is gone and close its pipes."""
        self._process.wait()
        for stream in (self._stdin, self._stdout, self._said):
            with contextlib.suppress(OSError):
                stream.close()


class Crew:
    """A number of workers and the queue they take jobs from.

    Parameters
    ----------
    n_workers : int
    setup : Setup
        Sent to each worker first.
    on_beat : callable
        Gets each `Beat`, from the worker's thread.
    on_death : callable
        Gets the message when a worker died and its task is tried again, from its thread.
    """

    def __init__(
        self,
        n_workers: int,
        setup: Setup,
        on_beat: Callable[[Beat], None],
        on_death: Callable[[str], None],
    ) -> None:
        self._setup, self._on_beat, self._on_death = setup, on_beat, on_death
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._running: set[Job] = set()
        self._workers: set[_Worker] = set()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._keep, daemon=True) for _ in range(n_workers)]
        for thread in self._threads:
            thread.start()

    def submit(self, job: Job) -> Job:
        """Queue a job; workers take jobs in this order."""
        self._jobs.put(job)
        return job

    def stop(self) -> None:
        """End the workers at once, whatever they do, and wait for the threads."""
        with self._lock:
            self._stopping.set()
            for job in self._running:
                job.cancelled.set()
            for worker in self._workers:
                worker.kill()
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        for worker in self._workers:
            worker.close()

    def _keep(self) -> None:
        """Serve one worker for as long as there are jobs."""
        worker: _Worker | None = None
        while (job := self._jobs.get()) is not None:
            with self._lock:
                self._running.add(job)
                if self._stopping.is_set():
                    return
            for left in reversed(range(TRIES)):
                try:
                    worker = worker or self._hire()
                    self._work(worker, job)
                    break
                except WorkerDiedError as death:
                    if self._stopping.is_set():
                        return
                    worker = None
                    self._mourn(job, death, left)
                except (OSError, VerifyAnalyticsError) as error:  # it could not even be started
                    job.put(VerifyAnalyticsError(f"cannot start a worker: {error}"))
                    break
                except BaseException as fault:  # noqa: BLE001 - raised where results are waited for
                    job.put(fault)
                    break
            with self._lock:
                self._running.discard(job)

    def _hire(self) -> _Worker:
        with self._lock:
            if self._stopping.is_set():
                raise WorkerDiedError("the import stops")
            worker = _Worker()
            self._workers.add(worker)
        worker.greet(self._setup)
        return worker

    def _work(self, worker: _Worker, job: Job) -> None:
        """See one task through on one worker."""
        worker.send(job.task)
        while True:
            message = worker.receive()
            if isinstance(message, Beat):
                self._on_beat(message)
            elif isinstance(message, Failure):
                return job.put(message.error())
            elif isinstance(message, Result) and message.final:
                return job.put(message)
            elif isinstance(message, Result):
                onward = job.move_on(message)
                job.put(message)
                worker.send(onward)

    def _mourn(self, job: Job, death: WorkerDiedError, left: int) -> None:
        """Try a task again whose worker died, or give up and say what it was reading."""
        names = [piece.source.name for piece in job.task.pieces]
        reading = names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")
        if left:
            self._on_death(f"{death}; trying {reading} again")
            job.task = msgspec.structs.replace(job.task, name=f"{job.task.name}-again")
        else:
            job.put(WorkerDiedError(f"{death}; gave up reading {reading} after {TRIES} tries"))


def child_environment() -> dict[str, str]:
    """Give the environment in which a child imports what this process imports.

    The folder of the package and what was put on `sys.path` go to `PYTHONPATH`; the folder of the
    script and the working folder do not, for a `queue.py` that lies there is not ours (`-P` keeps
    Python from adding them). What the child finds by itself is left out: `PYTHONPATH` comes
    before the standard library, and a backport in site-packages must not.
    """
    root = Path(package_file).resolve().parents[1]
    main_file = getattr(sys.modules.get("__main__"), "__file__", None)
    strangers = {Path.cwd(), *([Path(main_file).resolve().parent] if main_file else [])}
    by_itself = {Path(path) for path in (*site.getsitepackages(), site.getusersitepackages())}
    standard = Path(sysconfig.get_path("stdlib"))
    entries = [root] if root not in by_itself else []
    for path in (Path(entry) for entry in sys.path if entry):
        ours = path not in strangers | by_itself and path not in entries
        if ours and path.exists() and path != standard and standard not in path.parents:
            entries.append(path)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if entries:
        environment["PYTHONPATH"] = os.pathsep.join(str(path.absolute()) for path in entries)
    return environment
