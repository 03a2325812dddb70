"""Import stored responses: sources are planned, workers flatten them, the store commits.

::

    discover → hash, cut, pack (_import_plan) → flatten and stage (worker) → Store.append

Nothing here is remembered between runs but what the store remembers: the hash of each source and
how many of its rows are committed. So an import that was killed is repeated by calling it again,
and one that was done costs a hash of each file.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from verifyanalytics.errors import UsageError
from verifyanalytics.importing.arguments import Found, check_texts, check_whole, given_paths, shown
from verifyanalytics.importing.plan import (
    Lot,
    Portion,
    Prepared,
    Sizes,
    expansion,
    pack,
    prepare,
    reading_mark,
    resume,
)
from verifyanalytics.importing.pool import Crew, Job, LocalJob
from verifyanalytics.importing.progress import ImportProgress, ImportSummary, Meter
from verifyanalytics.importing.signals import Signals
from verifyanalytics.importing.worker import Beat, Reading, Result, Setup, Task, write_error
from verifyanalytics.journal.delivery import Delivered, deliver
from verifyanalytics.journal.journal import Journal
from verifyanalytics.parsing.envelope import ReadOptions
from verifyanalytics.parsing.fast.flattener import Flattener
from verifyanalytics.sources.reading import BLOCK_BYTES, Source, open_stored, spool
from verifyanalytics.store.files import fingerprint
from verifyanalytics.store.store import Part, PartCount, StagedFile, Store

IN_PROCESS_BYTES = 48 << 20
"""Input up to which starting workers costs more time than it saves."""

SMALL_FILES = 32
"""A month that holds more small files than this is compacted when the import is done."""

LOTS_AHEAD = 3
"""How many lots may be in the hands of the workers or wait for their commit."""


def import_responses(
    paths: str | Path | Iterable[str | Path],
    store: Store | str | Path | None = None,
    *,
    strict: bool = False,
    workers: int | None = None,
    time_path: str | None = None,
    response_path: str | None = None,
    context_path: str | None = None,
    context: Mapping[str, str] | None = None,
    column: str | None = None,
    time_column: str | None = None,
    action: str | None = None,
    req_key: str | None = None,
    image_prints: bool = False,
    batch_bytes: int | None = None,
    progress: Callable[[ImportProgress], object] | None = None,
) -> ImportSummary:
    """Read stored responses into the store, each exactly once.

    Every response becomes a row of `verifications`, a row of `rejects`, or was there already. What
    was imported before is recognised by the hash of its file and not read again; an import that
    was interrupted goes on where its last commit ended. Of two answers with one request_id and
    different content the first in the order of (source, row) stays, the other becomes a reject.

    Parameters
    ----------
    paths : path or iterable of paths
        Files, folders, globs, `s3://…`, or `-` for standard input; also journals of taps.
    store : Store or path, optional
        Made when it does not exist; by default `VERIFYANALYTICS_STORE`, else `data/store`.
    strict : bool
        A field of the wrong type makes a reject instead of a null and an issue.
    workers : int, optional
        Worker processes; by default one for each core. 0 works in this process, and so does a
        small input.
    response_path, time_path, context_path : str, optional
        Where a foreign envelope holds them, as names joined by dots.
    context : mapping of str to str, optional
        Becomes `ctx_…` of every response; what a response says itself wins.
    column, time_column : str, optional
        Of a Parquet or CSV source: the column of responses, and that of their time.
    action, req_key : str, optional
        For responses that do not say.
    image_prints : bool
        Keep a keyed fingerprint of each image; the image itself is never kept.
    batch_bytes : int, optional
        Input of one commit, about; by default 1 GiB or 400,000 rows. Smaller commits lose less
        when the import is killed, and cost more.
    progress : callable, optional
        Gets an `ImportProgress` now and then, in the caller's thread.

    Returns
    -------
    ImportSummary

    Raises
    ------
    UsageError
        A path that does not exist, an option that does not fit.
    InputError
        A source that cannot be read, or that changes while it is read.
    StorageError
        The store cannot be written. What was committed stays; call again to go on.

    Examples
    --------
    >>> import_responses("answers/*.ndjson.gz", "data/store")  # doctest: +SKIP
    read 20 000 = added 19 880 + known 40 + rejected 80
    """
    check_whole(workers, "workers", 0, "give 0 for none, 1 or more, or leave it out")
    check_whole(batch_bytes, "batch_bytes", 1, "give 1 or more, or leave it out")
    said = {
        "time_path": time_path, "response_path": response_path, "context_path": context_path,
        "column": column, "time_column": time_column, "action": action, "req_key": req_key,
        **{f"context {name!r}": value for name, value in (context or {}).items()},
    }  # fmt: skip
    check_texts(said)
    found = Found(
        given_paths(paths), column, time_column
    )  # a path that is not there makes no store
    target = store if isinstance(store, Store) else Store(store, create=True)
    options = ReadOptions(
        strict=strict,
        response_path=response_path,
        time_path=time_path,
        context_path=context_path,
        key=target.key,
        image_prints=image_prints,
        context=dict(context or {}),
        action=action,
        req_key=req_key,
        time_source="column" if time_column else "envelope",
    )
    with (
        Signals() as signals,
        _Import(target, options, workers, Sizes.of(batch_bytes), progress, signals, column) as run,
    ):
        run.everything(found)
    return run.summary


@dataclass(slots=True)
class _Started:
    """A lot whose tasks were handed out."""

    lot: Lot
    jobs: list[Job | LocalJob]


class _Import:
    """One run: its staging folder, its workers, its counts."""

    def __init__(
        self,
        store: Store,
        options: ReadOptions,
        workers: int | None,
        sizes: Sizes,
        report: Callable[[ImportProgress], object] | None,
        signals: Signals,
        column: str | None,
    ) -> None:
        self._signals = signals
        self.summary = ImportSummary()
        self._store, self._options, self._workers = store, options, workers
        self._sizes, self._meter = sizes, Meter(report)
        self._crew: Crew | None = None
        self._flattener = Flattener(options)  # for a small input
        self._n_tasks = self._n_copies = 0
        self._seen: set[str] = set()
        self._again: list[str] = []
        self._mark = reading_mark(options, column)
        self._batch = store.new_batch()
        self._folder = store.staging(self._batch)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the workers and remove what they staged; what was committed stays."""
        if self._crew is not None:
            self._crew.stop()
        self._store.discard(self._batch)

    def everything(self, given: Found) -> None:
        """Import all there is behind the paths."""
        found = self._find(given)
        delivered = self._deliver([source for source in found if source.form == "journal"])
        sources = [source for source in found if source.form != "journal"]
        self._choose_workers(sources)
        self._meter.bytes_total = sum(source.n_bytes or 0 for source in sources)
        batches = [
            batch
            for started in self._started(pack(self._prepared(sources), self._sizes))
            for batch in self._committed(started)
        ]
        self._finish([*delivered, *batches])

    def _find(self, given: Found) -> list[Source]:
        """Give the sources, each once, in the order of their names; standard input is spooled.

        Raises
        ------
        UsageError
            Standard input is closed, or a file has a name that is no text.
        """
        for skipped in given.skipped:
            self._meter.note(f"skipped {skipped}")
        self.summary.skipped += given.skipped
        found = list(given.sources)
        if given.with_stdin and sys.stdin is None:
            raise UsageError("standard input is closed")
        if given.with_stdin:
            with _writing(self._folder):
                found.append(
                    spool(
                        sys.stdin.buffer,
                        self._folder,
                        column=given.column,
                        time_column=given.time_column,
                    )
                )
        for source in found:
            if shown(source.location) != source.location:
                raise UsageError(f"rename {shown(source.location)}: its name is no UTF-8 text")
        distinct = {source.location: source for source in reversed(found)}
        self.summary.sources = len(distinct)
        return sorted(distinct.values(), key=lambda source: source.name)

    def _deliver(self, journals: list[Source]) -> list[str]:
        """Take the answers of journals; the store's stamps say how far each of them is in it."""
        total = Delivered()
        for source in journals:
            path = Path(source.location)
            with (
                Journal(path, fingerprint(self._store.key), create=False) as journal,
                self._signals.held(),
            ):
                total += deliver(journal, self._store)
        self.summary.added, self.summary.known = total.added, total.known
        self.summary.rejected = total.rejected
        self.summary.read = total.added + total.known + total.rejected
        self.summary.batches += len(total.batches)
        return list(total.batches)

    def _choose_workers(self, sources: list[Source]) -> None:
        """Start workers, unless the input is so small that they would come too late."""
        n_workers = _cores() if self._workers is None else self._workers
        weight = sum((source.n_bytes or IN_PROCESS_BYTES) * expansion(source) for source in sources)
        if n_workers == 0 or (self._workers is None and weight <= IN_PROCESS_BYTES):
            return
        self._crew = Crew(n_workers, Setup(self._options), self._meter.beat, self._meter.note)

    # ---------------------------------------------------------------------------- reading

    def _prepared(self, sources: Iterable[Source]) -> Iterator[Prepared]:
        """Hash the sources; leave out what is committed, or is the same file under another name."""
        for source in sources:
            self._meter.tell("hashing")
            prepared = prepare(
                self._local(source), self._sizes, lambda _: self._meter.tell(), self._mark
            )
            done = self._store.done(prepared.sha256)
            if prepared.sha256 in self._seen:
                self._again.append(prepared.sha256)
            elif done is not None and done.complete:
                self._skip(done.n_read, done.n_rejected)
            else:
                self._seen.add(prepared.sha256)
                if done is not None:
                    self.summary.already_imported += done.n_read
                    self.summary.already_rejected += done.n_rejected
                    prepared = resume(prepared, done.rows_done, done.bytes_done)
                yield prepared
                continue
            self._meter.beat(Beat(0, prepared.n_bytes))

    def _skip(self, n_read: int, n_rejected: int) -> None:
        self.summary.already_imported += n_read
        self.summary.already_rejected += n_rejected
        self.summary.sources_already_imported += 1

    def _local(self, source: Source) -> Source:
        """Copy a remote source, so that what is hashed is what is read, and it travels once."""
        if "://" not in source.location:
            return source
        self._n_copies += 1
        path = self._folder / f"copy-{self._n_copies}"
        with open_stored(source) as remote, _writing(self._folder), path.open("xb") as copy:
            shutil.copyfileobj(remote, copy, BLOCK_BYTES)
        return replace(source, location=str(path), n_bytes=path.stat().st_size)

    def _started(self, lots: Iterable[Lot]) -> Iterator[_Started]:
        """Hand out the tasks of a few lots ahead of the one that is given for its commit."""
        ahead: deque[_Started] = deque()
        for lot in lots:
            ahead.append(self._start(lot))
            if len(ahead) == LOTS_AHEAD:
                yield ahead.popleft()
        yield from ahead

    def _start(self, lot: Lot) -> _Started:
        batch = self._store.new_batch()
        limits = (self._sizes.lot_rows, self._sizes.lot_bytes) if lot.in_parts else (None, None)
        jobs = []
        for pieces in lot.tasks():
            self._n_tasks += 1
            task = Task(f"{self._n_tasks:05}", str(self._folder), batch, pieces, *limits)
            jobs.append(self._job(task))
        return _Started(lot, jobs)

    def _job(self, task: Task) -> Job | LocalJob:
        if self._crew is not None:
            return self._crew.submit(Job(task, self._store.new_batch))
        return LocalJob(task, self._flattener, self._store.new_batch, self._meter.beat)

    # ---------------------------------------------------------------------------- committing

    def _committed(self, started: _Started) -> Iterator[str]:
        """Commit a lot when it is read, or part by part while it is; gives the batches."""
        self._meter.tell("reading")
        results = (result for job in started.jobs for result in job.results(self._meter.tell))
        if started.lot.in_parts:
            (portion,) = started.lot.portions
            done = (portion.prepared.rows_done, portion.prepared.bytes_done)
            for result in results:
                part = _next_part(portion.prepared, result, *done)
                done = (part.rows_done, part.bytes_done)
                yield self._commit(started.lot, [result], [part])
        else:
            read = list(results)
            readings = iter([reading for result in read for reading in result.readings])
            parts = [
                _part(portion, [next(readings) for _ in portion.cuts])
                for portion in started.lot.portions
            ]
            yield self._commit(started.lot, read, parts)

    def _commit(self, lot: Lot, results: list[Result], parts: list[Part]) -> str:
        """Commit what was read, if the sources are still what they were when they were hashed."""
        self._meter.tell("committing")
        for portion in lot.portions:
            portion.prepared.verify()
        batch = results[0].batch
        staged = [
            StagedFile(Path(file.path), file.kind, file.month, file.n_rows)
            for result in results
            for file in result.staged
        ]
        with self._signals.held():
            counts = self._store.append(batch, staged, parts)
        for part, count in zip(parts, counts, strict=True):
            self._add_up(part, count)
        self.summary.batches += 1
        self._meter.tell("reading")
        return batch

    def _add_up(self, part: Part, count: PartCount) -> None:
        """Take over what became of a part; what another import did meanwhile was there before."""
        summary = self.summary
        if count.already_imported:
            summary.already_imported += part.n_read
            return
        summary.already_imported += part.n_read - count.n_read
        summary.read += count.n_read
        summary.added += count.n_added
        summary.known += count.n_known
        summary.rejected += count.n_rejected
        summary.bytes += part.n_bytes

    def _finish(self, batches: list[str]) -> None:
        """Compact; count the sources that came twice, and the rejects by reason."""
        if batches:
            with self._signals.held():
                self._store.compact(over=SMALL_FILES)
        for sha256 in self._again:
            done = self._store.done(sha256)
            self._skip(done.n_read if done else 0, done.n_rejected if done else 0)
        if self.summary.rejected:
            self.summary.rejects = _reasons(self._store, batches)
        self.summary.seconds = self._meter.seconds
        self._meter.tell("done")


def _part(portion: Portion, readings: list[Reading]) -> Part:
    """Make the ledger's part of cuts that were read side by side."""
    prepared, first, last = portion.prepared, portion.cuts[0].piece, portion.cuts[-1].piece
    first_row = max(first.first_row, first.rows_done + 1)
    return Part(
        source=prepared.source.name,
        sha256=prepared.sha256,
        first_row=first_row,
        rows_done=max(first_row - 1, *(reading.rows_done for reading in readings)),
        bytes_done=prepared.n_bytes if portion.complete else last.end or 0,
        complete=portion.complete,
        n_bytes=sum(cut.n_bytes for cut in portion.cuts),
        n_read=sum(reading.n_read for reading in readings),
        n_rejected=sum(reading.n_rejected for reading in readings),
    )


def _next_part(prepared: Prepared, result: Result, rows_done: int, bytes_done: int) -> Part:
    """Make the next part of a source that is cut while it is read.

    How many stored bytes it took is a guess, but together the parts have as many as the source.
    """
    (reading,) = result.readings
    guess = min(prepared.n_bytes - 1, reading.bytes_done // prepared.expansion)
    reached = prepared.n_bytes if result.final else max(1, bytes_done, guess)
    return Part(
        source=prepared.source.name,
        sha256=prepared.sha256,
        first_row=rows_done + 1,
        rows_done=max(rows_done, reading.rows_done),
        bytes_done=reached,
        complete=result.final,
        n_bytes=reached - bytes_done,
        n_read=reading.n_read,
        n_rejected=reading.n_rejected,
    )


def _reasons(store: Store, batches: list[str]) -> dict[str, int]:
    """Count the rejects of some batches by reason."""
    quoted = ", ".join(f"'{batch}'" for batch in batches)
    counted = store.sql(
        f"SELECT reason, count(*) AS n FROM rejects WHERE batch IN ({quoted}) GROUP BY reason"
    )
    return dict(sorted(zip(counted["reason"].tolist(), counted["n"].tolist(), strict=True)))


def _cores() -> int:
    """Cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Turn a full disk under a folder into an error that says what stays."""
    try:
        yield
    except OSError as error:
        raise write_error(folder, error) from error
