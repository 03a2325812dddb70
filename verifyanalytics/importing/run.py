"""Import stored responses: sources are planned, workers flatten them, the store commits.

Only the store keeps state between runs: the hash of each source and how many of its rows are
committed. So an import that was killed is repeated by calling it again.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Self

from verifyanalytics.arguments import check_texts, number, printable
from verifyanalytics.arguments import paths as checked_paths
from verifyanalytics.errors import UsageError
from verifyanalytics.importing.plan import (
    Batch,
    BatchPart,
    Prepared,
    Sizes,
    expansion,
    pack,
    prepare,
    reading_mark,
)
from verifyanalytics.importing.pool import WorkerPool
from verifyanalytics.importing.progress import (
    ImportProgress,
    ImportSummary,
    ProgressReporter,
    Signals,
)
from verifyanalytics.importing.worker import (
    Progress,
    Reading,
    Result,
    Setup,
    Task,
    perform,
    writing,
)
from verifyanalytics.journal.delivery import Delivered, deliver
from verifyanalytics.journal.journal import Journal
from verifyanalytics.parsing.fast.flattener import Flattener
from verifyanalytics.parsing.text import ReadOptions
from verifyanalytics.sources.discovery import discover, private_file, spool
from verifyanalytics.sources.streams import BLOCK_BYTES, Source, open_location
from verifyanalytics.store.files import fingerprint
from verifyanalytics.store.store import ImportedRange, RangeCount, Store

IN_PROCESS_BYTES = 48 << 20  # input up to which starting workers costs more time than it saves
SMALL_FILES = 32
"""A month that holds more small files than this is compacted when the import is done."""

BATCHES_AHEAD = 3  # how many batches may be in the hands of the workers or wait for their commit


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
    follow_links: bool = False,
    batch_bytes: int | None = None,
    progress: Callable[[ImportProgress], object] | None = None,
) -> ImportSummary:
    r"""Read stored responses into the store, each exactly once.

    Every response becomes a row of `verifications`, a row of `rejects`, or was there already. What
    was imported before is recognised by the hash of its file and not read again; an import that
    was interrupted goes on where its last commit ended. Of two responses with one request_id and
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
        Becomes `ctx_…` of every response; context that a response brings itself wins.
    column, time_column : str, optional
        Of a Parquet or CSV source: the column of responses, and that of their time.
    action, req_key : str, optional
        For responses that do not say.
    image_prints : bool
        Keep a keyed fingerprint of each image; the image itself is never kept.
    follow_links : bool
        Also read what links in a folder lead to outside of it; otherwise they are skipped.
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
    >>> import json, tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> reply = {"code": 10000, "request_id": "r1", "data": {"result": True}}
    >>> lines = json.dumps(reply) + "\nno JSON\n"
    >>> n_written = (folder / "day.ndjson").write_text(lines)
    >>> import_responses(folder / "day.ndjson", folder / "store")
    read 2 = added 1 + known 0 + rejected 1 (syntax 1)
    >>> import_responses(folder / "day.ndjson", folder / "store")
    read 0 = added 0 + known 0 + rejected 0; already imported 2, of them rejected 1

    See Also
    --------
    verifyanalytics.import_labels : Ground truth for the stored responses.
    verifyanalytics.collect : Call the vendor and store the responses.
    verifyanalytics.Store : What was imported, for reading.
    """
    if workers is not None:
        workers = int(number(workers, "workers", low=0, whole=True))
    if batch_bytes is not None:
        batch_bytes = int(number(batch_bytes, "batch_bytes", low=1, whole=True))
    check_texts({
        "time_path": time_path, "response_path": response_path, "context_path": context_path,
        "column": column, "time_column": time_column, "action": action, "req_key": req_key,
        **{f"context {name!r}": value for name, value in (context or {}).items()},
    })  # fmt: skip
    given = checked_paths(paths)
    # before the store: a path that is not there makes none
    sources, skipped = _discover(given, column, time_column, follow_links)
    target = store if isinstance(store, Store) else Store(store, create=True)
    options = ReadOptions(
        strict=strict,
        response_path=response_path,
        time_path=time_path,
        context_path=context_path,
        key=target.key,
        print_key=target.print_key if image_prints else None,
        context=dict(context or {}),
        action=action,
        req_key=req_key,
        time_source="column" if time_column else "envelope",
    )
    reporter = ProgressReporter(progress)
    with (
        Signals() as signals,
        _Import(target, options, workers, Sizes.of(batch_bytes), reporter, signals) as run,
    ):
        if "-" in map(str, given):
            sources = [*sources, run.standard_input(column, time_column)]
        run.everything(sources, skipped, reading_mark(options, column))
    return run.summary


def _discover(
    paths: list[str | Path], column: str | None, time_column: str | None, follow_links: bool
) -> tuple[list[Source], list[str]]:
    """Give the sources behind some paths, standard input apart, and what was left out, and why."""
    skipped: list[str] = []
    named = [path for path in paths if str(path) != "-"]
    sources = discover(
        named, column=column, time_column=time_column, follow_links=follow_links,
        on_skip=lambda name, why: skipped.append(f"{name}: {why}"),
    )  # fmt: skip
    nameless = [source for source in sources if printable(source.location) != source.location]
    if nameless and len(nameless) < len(sources):  # one odd name does not stop its folder
        sources = [source for source in sources if source not in nameless]
        skipped += [f"{printable(s.location)}: its name is no UTF-8 text" for s in nameless]
    unknown = [text for text in skipped if text.endswith("unknown suffix")]
    if unknown and not sources and len(named) == len(paths):
        raise UsageError(
            f"no file here has a suffix of ours, {len(unknown)} have another or none: "
            f"{'; '.join(unknown[:3])}; a file that is named is read whatever it is called"
        )
    return sources, skipped


class _Import:
    """One run: its staging folder, its workers, its counts."""

    def __init__(
        self,
        store: Store,
        options: ReadOptions,
        workers: int | None,
        sizes: Sizes,
        reporter: ProgressReporter,
        signals: Signals,
    ) -> None:
        self.summary = ImportSummary()
        self._store, self._options, self._workers = store, options, workers
        self._sizes, self._reporter, self._signals = sizes, reporter, signals
        self._pool: WorkerPool | None = None
        self._flattener = Flattener(options)  # for a small input
        self._n_tasks = 0
        self._spooled: list[BinaryIO] = []
        self._seen: set[str] = set()
        self._again: list[str] = []
        self._batch = store.new_batch()
        self._folder = store.staging(self._batch)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the workers and remove what they staged; what was committed stays."""
        if self._pool is not None:
            self._pool.stop()
        for file in self._spooled:
            file.close()
        self._store.discard(self._batch)

    def standard_input(self, column: str | None, time_column: str | None) -> Source:
        """Spool standard input into the staging folder."""
        if sys.stdin is None:
            raise UsageError("standard input is closed")
        with writing(self._folder):
            return spool(
                sys.stdin.buffer, self._folder, self._spooled.append,
                column=column, time_column=time_column,
            )  # fmt: skip

    def everything(self, found: list[Source], skipped: list[str], mark: str) -> None:
        """Import some sources."""
        for name in skipped:
            self._reporter.note(f"skipped {name}")
        self.summary.skipped += skipped
        sources = self._distinct(found)
        journals = [source for source in sources if source.form == "journal"]
        delivered = self._deliver(journals) if journals else []
        sources = [source for source in sources if source.form != "journal"]
        self._choose_workers(sources)
        self._reporter.bytes_total = sum(source.n_bytes or 0 for source in sources)
        batches = [
            batch_id
            for started in self._started(pack(self._prepared(sources, mark), self._sizes))
            for batch_id in self._committed(started)
        ]
        self._finish([*delivered, *batches])

    def _distinct(self, sources: list[Source]) -> list[Source]:
        """Give the sources, each once, in the order of their names, which must be text."""
        for source in sources:
            if printable(source.location) != source.location:
                raise UsageError(f"rename {printable(source.location)}: its name is no UTF-8 text")
        distinct = {source.location: source for source in reversed(sources)}
        self.summary.sources = len(distinct)
        return sorted(distinct.values(), key=lambda source: source.name)

    def _deliver(self, journals: list[Source]) -> list[str]:
        """Deliver the responses of journals; the store's stamps say which are delivered."""
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
        cores = getattr(os, "sched_getaffinity", None)  # those that this process may use
        n_cores = len(cores(0)) if cores else os.cpu_count() or 1
        n_workers = n_cores if self._workers is None else self._workers
        weight = sum((source.n_bytes or IN_PROCESS_BYTES) * expansion(source) for source in sources)
        if n_workers > 0 and (self._workers is not None or weight > IN_PROCESS_BYTES):
            self._pool = WorkerPool(
                n_workers,
                Setup(self._options),
                self._store.new_batch,
                lambda progress: self._reporter.add(progress.n_rows, progress.n_bytes),
                self._reporter.note,
            )

    # ---------------------------------------------------------------------------- reading

    def _prepared(self, sources: Iterable[Source], mark: str) -> Iterator[Prepared]:
        """Hash the sources; leave out what is committed, or is the same file under another name."""
        for source in sources:
            self._reporter.report("hashing")
            prepared = prepare(self._local(source), self._sizes, self._reporter.report, mark)
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
                    prepared = prepared.after(done.rows_done, done.bytes_done)
                yield prepared
                continue
            self._reporter.add(0, prepared.n_bytes)

    def _skip(self, n_read: int, n_rejected: int) -> None:
        self.summary.already_imported += n_read
        self.summary.already_rejected += n_rejected
        self.summary.sources_already_imported += 1

    def _local(self, source: Source) -> Source:
        """Copy a remote source, so that what is hashed is what is read, and it travels once."""
        if "://" not in source.location:
            return source
        with open_location(source.location) as remote, writing(self._folder):
            copy, location = private_file(self._folder, self._spooled.append)
            shutil.copyfileobj(remote, copy, BLOCK_BYTES)
            copy.flush()
        return replace(source, location=location, n_bytes=copy.tell())

    def _started(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, Iterator[Result]]]:
        """Hand out the tasks of a few batches ahead of the one that is given for its commit."""
        ahead: deque[tuple[Batch, Iterator[Result]]] = deque()
        for batch in batches:
            ahead.append((batch, self._start(batch)))
            if len(ahead) == BATCHES_AHEAD:
                yield ahead.popleft()
        yield from ahead

    def _start(self, batch: Batch) -> Iterator[Result]:
        """Hand the tasks of a batch to the pool; without one they are done when asked for."""
        batch_id = self._store.new_batch()
        sizes = self._sizes
        limits = (sizes.batch_rows, sizes.batch_bytes) if batch.is_open_ended else (None, None)
        tasks = []
        for ranges in batch.tasks():
            self._n_tasks += 1
            tasks.append(Task(f"{self._n_tasks:05}", str(self._folder), batch_id, ranges, *limits))
        if self._pool is None:
            return self._performed(tasks)
        jobs = [self._pool.submit(task) for task in tasks]
        return (result for job in jobs for result in job.results(self._reporter.report))

    def _performed(self, tasks: list[Task]) -> Iterator[Result]:
        def on_progress(progress: Progress) -> None:
            self._reporter.add(progress.n_rows, progress.n_bytes)
            self._reporter.report()

        for task in tasks:
            yield from perform(task, self._flattener, on_progress, self._store.new_batch)

    # ---------------------------------------------------------------------------- committing

    def _committed(self, started: tuple[Batch, Iterator[Result]]) -> Iterator[str]:
        """Commit a batch when it is read, or several while it is; gives their ids."""
        batch, results = started
        self._reporter.report("reading")
        if batch.is_open_ended:
            (prepared,) = [part.prepared for part in batch.parts]
            done = (prepared.rows_done, prepared.bytes_done)
            for result in results:
                part = _next_part(prepared, result, *done)
                done = (part.rows_done, part.bytes_done)
                yield self._commit(batch, [result], [part])
        else:
            read = list(results)
            readings = iter([reading for result in read for reading in result.readings])
            parts = [_part(part, [next(readings) for _ in part.ranges]) for part in batch.parts]
            yield self._commit(batch, read, parts)

    def _commit(self, batch: Batch, results: list[Result], parts: list[ImportedRange]) -> str:
        """Commit what was read, if the sources are still what they were when they were hashed."""
        self._reporter.report("committing")
        for of_source in batch.parts:
            of_source.prepared.verify()
        staged = [file for result in results for file in result.staged]
        with self._signals.held():
            counts = self._store.append(results[0].batch, staged, parts)
        for part, count in zip(parts, counts, strict=True):
            self._add_up(part, count)
        self.summary.batches += 1
        self._reporter.report("reading")
        return results[0].batch

    def _add_up(self, part: ImportedRange, count: RangeCount) -> None:
        """Count what became of a part; rows that another import committed meanwhile are known."""
        summary = self.summary
        if count.already_imported:
            summary.already_imported += part.n_read
            return
        summary.already_imported += part.n_read - count.n_read
        summary.read += count.n_read
        summary.added += count.n_added
        summary.known += count.n_known
        summary.erased += count.n_erased
        summary.rejected += count.n_rejected
        summary.bytes += part.n_bytes

    def _finish(self, batch_ids: list[str]) -> None:
        """Compact; count the sources that came twice, and the rejects by reason."""
        if batch_ids:
            with self._signals.held():
                self._store.compact(over=SMALL_FILES)
        for sha256 in self._again:
            done = self._store.done(sha256)
            self._skip(done.n_read if done else 0, done.n_rejected if done else 0)
        if self.summary.rejected:
            quoted = ", ".join(f"'{batch_id}'" for batch_id in batch_ids)
            counted = self._store.sql(
                "SELECT reason, count(*) AS n FROM rejects "
                f"WHERE batch IN ({quoted}) GROUP BY reason ORDER BY reason"
            )
            self.summary.rejects = dict(
                zip(counted["reason"].tolist(), counted["n"].tolist(), strict=True)
            )
        self.summary.seconds = self._reporter.seconds
        self._reporter.report("done")


def _part(planned: BatchPart, readings: list[Reading]) -> ImportedRange:
    """Make the ledger's part of ranges that were read side by side."""
    prepared, first, last = planned.prepared, planned.ranges[0], planned.ranges[-1]
    first_row = max(first.first_row, first.rows_done + 1)
    return ImportedRange(
        source=prepared.source.name,
        sha256=prepared.sha256,
        first_row=first_row,
        rows_done=max(first_row - 1, *(reading.rows_done for reading in readings)),
        bytes_done=prepared.n_bytes if planned.complete else last.end or 0,
        complete=planned.complete,
        n_bytes=sum(part.n_bytes for part in planned.ranges),
        n_read=sum(reading.n_read for reading in readings),
        n_rejected=sum(reading.n_rejected for reading in readings),
    )


def _next_part(
    prepared: Prepared, result: Result, rows_done: int, bytes_done: int
) -> ImportedRange:
    """Make the next part of a source that is read into several commits."""
    # how many stored bytes it took is a guess, but together the parts have as many as the source
    (reading,) = result.readings
    guess = min(prepared.n_bytes - 1, reading.bytes_done // expansion(prepared.source))
    reached = prepared.n_bytes if result.final else max(1, bytes_done, guess)
    return ImportedRange(
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
