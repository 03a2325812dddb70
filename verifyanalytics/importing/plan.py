"""What an import will do, in which order: sources hashed, cut, packed into lots to be committed.

The plan does not depend on the number of workers, nor on what a killed import left done: sources
go in the order of their names, cuts in the order of their rows, and a lot is filled until it is
full. So commits are made in the order of (source, row), and of two answers that contradict each
other the same one wins however often the import was interrupted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import msgspec

from verifyanalytics.errors import InputError
from verifyanalytics.importing.worker import EXPANSION, Piece
from verifyanalytics.parsing.envelope import ReadOptions
from verifyanalytics.sources.reading import BLOCK_BYTES, Source, line_ranges, open_stored


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large things are meant to be; none of them is a promise.

    Attributes
    ----------
    lot_bytes, lot_rows, lot_sources : int
        Input of one commit; a larger source goes in parts.
    task_bytes : int
        Input of one task, and the step in which plain files of lines are cut.
    """

    lot_bytes: int = 1 << 30
    lot_rows: int = 400_000
    lot_sources: int = 2_000
    task_bytes: int = 128 << 20

    @classmethod
    def of(cls, batch_bytes: int | None) -> Sizes:
        """Give the usual sizes, or those for commits of another size."""
        if batch_bytes is None:
            return cls()
        return cls(
            lot_bytes=batch_bytes, task_bytes=max(1, min(cls().task_bytes, batch_bytes // 4))
        )


Signature = tuple[int, ...]


class Cut(NamedTuple):
    """A piece of a source, its stored bytes, and its lines (0 when nobody counted them)."""

    piece: Piece
    n_bytes: int
    n_lines: int = 0


@dataclass(frozen=True, slots=True)
class Prepared:
    """A source that was hashed and is about to be read.

    Attributes
    ----------
    source : Source
    sha256 : str
        Of the bytes as stored; and how they are read, if not in the usual way.
    n_bytes : int
        How many were hashed.
    signature : tuple of int or None
        What the file system said before the first byte was hashed; None for a remote source.
    cuts : list of Cut
        Ranges of a plain file of lines; else one, the whole source.
    rows_done, bytes_done : int
        Rows and stored bytes that are committed already.
    """

    source: Source
    sha256: str
    n_bytes: int
    signature: Signature | None
    cuts: list[Cut]
    rows_done: int = 0
    bytes_done: int = 0

    @property
    def expansion(self) -> int:
        """How much larger it becomes when read: a guess."""
        return expansion(self.source)

    def goes_in_parts(self, sizes: Sizes) -> bool:
        """Whether it is too large for one commit and cannot be cut beforehand."""
        return not self.source.splittable and self.n_bytes * self.expansion > sizes.lot_bytes // 2

    def verify(self) -> None:
        """Refuse to commit when the file is no longer the one that was hashed.

        Raises
        ------
        InputError
            It was changed, replaced or removed.
        """
        if self.signature is not None and signature(self.source) != self.signature:
            raise InputError(
                f"{self.source.name} changed while it was read; what was read since is not "
                "committed; import it again when nobody writes to it",
                source=self.source.name,
            )


@dataclass(slots=True)
class Portion:
    """The cuts of one source that belong to one lot; `complete` when its last one does."""

    prepared: Prepared
    cuts: list[Cut] = field(default_factory=list)
    complete: bool = False


@dataclass(slots=True)
class Lot:
    """What is committed together; or, `in_parts`, one source that is cut while it is read."""

    sizes: Sizes
    in_parts: bool = False
    portions: list[Portion] = field(default_factory=list)
    weight: int = 0
    n_lines: int = 0

    def has_room(self, cut: Cut, expansion: int) -> bool:
        """Say whether a cut fits; into an empty lot everything does."""
        return not self.portions or (
            self.weight + cut.n_bytes * expansion <= self.sizes.lot_bytes
            and self.n_lines + cut.n_lines <= self.sizes.lot_rows
            and len(self.portions) < self.sizes.lot_sources
        )

    def add(self, prepared: Prepared, cut: Cut) -> None:
        """Put a cut in."""
        if not self.portions or self.portions[-1].prepared is not prepared:
            self.portions.append(Portion(prepared))
        portion = self.portions[-1]
        portion.cuts.append(cut)
        portion.complete = cut is prepared.cuts[-1]
        self.weight += cut.n_bytes * prepared.expansion
        self.n_lines += cut.n_lines

    def tasks(self) -> Iterator[list[Piece]]:
        """Share the cuts out among tasks of about `task_bytes`, in order."""
        task: list[Piece] = []
        weight = 0
        for portion in self.portions:
            for cut in portion.cuts:
                heavy = cut.n_bytes * portion.prepared.expansion
                if task and weight + heavy > self.sizes.task_bytes:
                    yield task
                    task, weight = [], 0
                task.append(cut.piece)
                weight += heavy
        if task:
            yield task


def pack(sources: Iterable[Prepared], sizes: Sizes) -> Iterator[Lot]:
    """Fill lots with the sources in order; lazily, for a source is hashed when it is asked for."""
    lot = Lot(sizes)
    for prepared in sources:
        if prepared.goes_in_parts(sizes):
            if lot.portions:
                yield lot
            lot = Lot(sizes, in_parts=True)
        for cut in prepared.cuts:
            if not lot.has_room(cut, prepared.expansion):
                yield lot
                lot = Lot(sizes)
            lot.add(prepared, cut)
        if lot.in_parts:
            yield lot
            lot = Lot(sizes)
    if lot.portions:
        yield lot


def expansion(source: Source) -> int:
    """Guess how much larger a source becomes when it is read."""
    return EXPANSION if source.compression is not None or source.form == "parquet" else 1


def signature(source: Source) -> Signature | None:
    """Say which file a source is and in which state, as far as the file system knows.

    The time of the last status change is in it: it cannot be set by hand, so a write that restores
    the time of modification is noticed too.

    Raises
    ------
    InputError
        The file is gone.
    """
    if "://" in source.location:
        return None
    try:
        stat = Path(source.location).stat()
    except OSError as error:
        raise unreadable(source, error) from error
    return (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def unreadable(source: Source, error: OSError) -> InputError:
    """Name the source that the system would not let us read."""
    return InputError(f"cannot read {source.name}: {error.strerror or error}", source=source.name)


def reading_mark(options: ReadOptions, column: str | None) -> str:
    """Mark how sources are read, as far as it decides which responses are found in them.

    A source that was read in another way is another one: what a forgotten option made a reject is
    found when the import is repeated with it. Empty for the usual way.
    """
    told = {
        "strict": options.strict or None,
        "response_path": options.response_path,
        "column": column,
    }
    said = {name: value for name, value in told.items() if value is not None}
    if not said:
        return ""
    return "+" + hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:8]


def prepare(
    source: Source, sizes: Sizes, on_bytes: Callable[[int], object], mark: str = ""
) -> Prepared:
    """Hash a source and cut it, in one pass over its bytes.

    Parameters
    ----------
    source : Source
    sizes : Sizes
    on_bytes : callable
        Told how many bytes were hashed, chunk by chunk.
    mark : str
        What `reading_mark` gave; becomes a part of its `sha256`.

    Raises
    ------
    InputError
        The source cannot be read.
    """
    before = signature(source)
    cuts = []
    try:
        with _Digest() as digest:

            def update(chunk: bytes) -> None:
                digest.update(chunk)
                on_bytes(len(chunk))

            if source.splittable:
                for start, end, first_row, n_lines in line_ranges(
                    source, sizes.task_bytes, update=update
                ):
                    cuts.append(Cut(Piece(source, start, end, first_row), end - start, n_lines))
            else:
                with open_stored(source) as file:
                    while chunk := file.read(BLOCK_BYTES):
                        update(chunk)
    except OSError as error:
        raise unreadable(source, error) from error
    cuts = cuts or [Cut(Piece(source), digest.n_bytes)]
    return Prepared(source, digest.sha256.hexdigest() + mark, digest.n_bytes, before, cuts)


class _Digest:
    """SHA-256 of what it is given; a chunk is hashed while the next one is read and counted.

    Attributes
    ----------
    sha256 : hash object
        Complete once the `with` block is left.
    n_bytes : int
    """

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()
        self.n_bytes = 0
        self._pool: ThreadPoolExecutor | None = None
        self._pending: Future[None] | None = None

    def __enter__(self) -> _Digest:
        return self

    def __exit__(self, *raised: object) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def update(self, chunk: bytes) -> None:
        self.n_bytes += len(chunk)
        if self._pool is None:
            if self.n_bytes < BLOCK_BYTES:  # a thread would cost more than it saves
                self.sha256.update(chunk)
                return
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="sha256")
        if self._pending is not None:
            self._pending.result()
        self._pending = self._pool.submit(self.sha256.update, chunk)


def resume(prepared: Prepared, rows_done: int, bytes_done: int) -> Prepared:
    """Leave out what is committed already: whole cuts, and the head of the first that is kept."""

    def is_done(cut: Cut) -> bool:
        last = cut is prepared.cuts[-1]
        return not last and cut.piece.first_row + cut.n_lines - 1 <= rows_done

    cuts = [
        cut._replace(piece=msgspec.structs.replace(cut.piece, rows_done=rows_done))
        for cut in prepared.cuts
        if not is_done(cut)
    ]
    return replace(prepared, cuts=cuts, rows_done=rows_done, bytes_done=bytes_done)
