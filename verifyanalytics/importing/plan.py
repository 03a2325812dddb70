"""What an import will do, in which order: sources hashed, cut into ranges, packed into batches.

Sources go in the order of their names, ranges of their rows, however many workers there are and
whatever a killed import left done: so of two contradicting responses the same one wins.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from verifyanalytics.errors import InputError
from verifyanalytics.importing.worker import COMPRESSED_EXPANSION, SourceRange, unreadable
from verifyanalytics.parsing.text import ReadOptions
from verifyanalytics.sources.reading import line_ranges
from verifyanalytics.sources.streams import BLOCK_BYTES, Source, open_location


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large things are meant to be; none of them is a promise."""

    # input of one commit; a larger source makes several
    batch_bytes: int = 1 << 30
    batch_rows: int = 400_000
    batch_sources: int = 2_000
    task_bytes: int = 128 << 20  # of one task, and the step in which plain files of lines are cut

    @classmethod
    def of(cls, batch_bytes: int | None) -> Sizes:
        """Give the usual sizes, or those for commits of another size."""
        if batch_bytes is None:
            return cls()
        return cls(batch_bytes, task_bytes=max(1, min(cls().task_bytes, batch_bytes // 4)))


@dataclass(frozen=True, slots=True)
class Prepared:
    """A source that was hashed and is about to be read."""

    source: Source
    sha256: str  # of the bytes as stored, and a mark of how they are read if it is unusual
    n_bytes: int  # how many were hashed
    state: tuple[int, ...] | None  # of the file before it was hashed; None of a remote source
    ranges: list[SourceRange]  # of a plain file of lines; else one, the whole source
    rows_done: int = 0  # committed already
    bytes_done: int = 0

    def verify(self) -> None:
        """Raise an `InputError` when the file is no longer the one that was hashed."""
        if self.state is not None and file_state(self.source) != self.state:
            raise InputError(
                f"{self.source.name} changed while it was read; what was read since is not "
                "committed; import it again when it is no longer written to",
                source=self.source.name,
            )

    def after(self, rows_done: int, bytes_done: int) -> Prepared:
        """Leave out what is committed: whole ranges, and the head of the first that is kept."""
        *others, last = self.ranges
        left = [part for part in others if part.first_row + part.n_lines - 1 > rows_done]
        ranges = [part.after(rows_done) for part in (*left, last)]
        return replace(self, ranges=ranges, rows_done=rows_done, bytes_done=bytes_done)


@dataclass(slots=True)
class BatchPart:
    """The ranges of one source that belong to one batch; `complete` when its last one does."""

    prepared: Prepared
    ranges: list[SourceRange] = field(default_factory=list)
    complete: bool = False


@dataclass(slots=True)
class Batch:
    """What is committed together; if `is_open_ended`, one source read into several commits."""

    sizes: Sizes
    is_open_ended: bool = False
    parts: list[BatchPart] = field(default_factory=list)
    weight: int = 0
    n_lines: int = 0

    def has_room(self, part: SourceRange) -> bool:
        """Say whether a range fits; into an empty batch every range does."""
        return not self.parts or (
            self.weight + part.n_bytes * expansion(part.source) <= self.sizes.batch_bytes
            and self.n_lines + part.n_lines <= self.sizes.batch_rows
            and len(self.parts) < self.sizes.batch_sources
        )

    def add(self, prepared: Prepared, part: SourceRange) -> None:
        """Put a range in."""
        if not self.parts or self.parts[-1].prepared is not prepared:
            self.parts.append(BatchPart(prepared))
        self.parts[-1].ranges.append(part)
        self.parts[-1].complete = part is prepared.ranges[-1]
        self.weight += part.n_bytes * expansion(prepared.source)
        self.n_lines += part.n_lines

    def tasks(self) -> Iterator[list[SourceRange]]:
        """Share the ranges out among tasks of about `task_bytes`, in order."""
        task: list[SourceRange] = []
        weight = 0
        for part in (part for of_source in self.parts for part in of_source.ranges):
            heavy = part.n_bytes * expansion(part.source)
            if task and weight + heavy > self.sizes.task_bytes:
                yield task
                task, weight = [], 0
            task.append(part)
            weight += heavy
        if task:
            yield task


def pack(sources: Iterable[Prepared], sizes: Sizes) -> Iterator[Batch]:
    """Fill batches with the sources in order; lazily: a source is hashed when it is asked for."""
    batch = Batch(sizes)
    for prepared in sources:
        is_large = prepared.n_bytes * expansion(prepared.source) > sizes.batch_bytes // 2
        if is_large and not prepared.source.splittable:  # too large, and cannot be cut beforehand
            if batch.parts:
                yield batch
            batch = Batch(sizes, is_open_ended=True)
        for part in prepared.ranges:
            if not batch.has_room(part):
                yield batch
                batch = Batch(sizes)
            batch.add(prepared, part)
        if batch.is_open_ended:
            yield batch
            batch = Batch(sizes)
    if batch.parts:
        yield batch


def expansion(source: Source) -> int:
    """Guess how much larger a source becomes when it is read."""
    is_packed = source.compression is not None or source.form == "parquet"
    return COMPRESSED_EXPANSION if is_packed else 1


def file_state(source: Source) -> tuple[int, ...] | None:
    """Say which file a source is and in which state, as far as the file system knows."""
    if "://" in source.location:
        return None
    try:
        stat = Path(source.location).stat()
    except OSError as error:
        raise unreadable(source, error) from error
    # the time of the last status change cannot be set by hand: a write that restores the time of
    # modification is noticed too
    return (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def reading_mark(options: ReadOptions, column: str | None) -> str:
    """Mark how sources are read, as far as it decides which responses are found in them."""
    # a source that was read in another way is another one: what a forgotten option made a reject is
    # found when the import is repeated with it
    given = {
        "strict": options.strict or None,
        "response_path": options.response_path,
        "column": column,
    }
    unusual = {name: value for name, value in given.items() if value is not None}
    if not unusual:
        return ""
    return "+" + hashlib.sha256(json.dumps(unusual, sort_keys=True).encode()).hexdigest()[:8]


def prepare(source: Source, sizes: Sizes, on_chunk: Callable[[], object], mark: str) -> Prepared:
    """Hash a source and cut it into ranges, in one pass over its bytes."""
    before = file_state(source)
    digest = hashlib.sha256()
    pending: Future[None] | None = None
    ranges: list[SourceRange] = []
    n_bytes = 0

    def update(chunk: bytes) -> None:
        nonlocal pending, n_bytes
        if pending is not None:
            pending.result()
        if len(chunk) == BLOCK_BYTES:  # is hashed while the next one is read and its lines counted
            pending = pool.submit(digest.update, chunk)
        else:  # a thread would cost more than it saves
            digest.update(chunk)
        n_bytes += len(chunk)
        on_chunk()

    try:
        with ThreadPoolExecutor(1, thread_name_prefix="sha256") as pool:
            if source.splittable:
                ranges = [
                    SourceRange(source, cut.end - cut.start, *cut)
                    for cut in line_ranges(source, sizes.task_bytes, update=update)
                ]
            else:
                with open_location(source.location) as file:
                    while chunk := file.read(BLOCK_BYTES):
                        update(chunk)
    except OSError as error:
        raise unreadable(source, error) from error
    ranges = ranges or [SourceRange(source, n_bytes)]
    return Prepared(source, digest.hexdigest() + mark, n_bytes, before, ranges)
