"""One flatten worker: pieces of sources in, staged Parquet out, over pipes.

`python -m verifyanalytics.importing.worker` is started by an import, never by a person. It speaks
framed
messages: four bytes of length, then MessagePack. Down come one `Setup` and then `Task`s; up go a
`Hello`, `Beat`s of progress, and for each task `Result`s or a `Failure`. Nothing that a message
says is secret but the store key, which is why it travels by pipe and not by argument or
environment. The worker ends when its input does: also when the parent is killed.

The work itself is `perform`, a generator that a small import runs in its own process.
"""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import signal
import struct
import sys
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec

from verifyanalytics import __file__ as package_file
from verifyanalytics import errors
from verifyanalytics.parsing.envelope import ReadOptions
from verifyanalytics.parsing.fast.flattener import Flattener
from verifyanalytics.sources.reading import BLOCK_BYTES, Block, Source, blocks
from verifyanalytics.store.staging import Staged, Staging

BEAT_SECONDS = 0.2
"""How often a worker tells how far it is, at most."""

EXPANSION = 8
"""How much larger compressed input becomes: a guess, for progress and packing only."""

_HEAD = struct.Struct(">I")


class Piece(msgspec.Struct, frozen=True):
    """What a task reads of one source: a range of its bytes, or what follows a row.

    Attributes
    ----------
    source : Source
    start, end : int
        Bytes `[start, end)` of a plain line file; the whole source when `end` is null.
    first_row : int
        Row number of the first line in the range, 1-based.
    rows_done : int
        Rows of the source that are committed already; they are passed over.
    """

    source: Source
    start: int = 0
    end: int | None = None
    first_row: int = 1
    rows_done: int = 0


class Setup(msgspec.Struct, frozen=True, tag=True):
    """What holds for every task of an import."""

    options: ReadOptions


class Task(msgspec.Struct, frozen=True, tag=True):
    """Pieces to read into one batch, or into several when there are limits.

    Attributes
    ----------
    name : str
        Begins the names of the staged files; unique in the folder for each try.
    folder, batch : str
        Where to stage, and the commit the rows belong to.
    pieces : list of Piece
    max_rows, max_bytes : int, optional
        Cut the (only) piece into parts of about this size and wait for the next batch at each.
    """

    name: str
    folder: str
    batch: str
    pieces: list[Piece]
    max_rows: int | None = None
    max_bytes: int | None = None

    def after(self, result: Result) -> Task:
        """Give what remains when this much of a task in parts is done."""
        done = result.readings[-1]
        return msgspec.structs.replace(
            self, pieces=[msgspec.structs.replace(self.pieces[0], rows_done=done.rows_done)]
        )


class Onward(msgspec.Struct, frozen=True, tag=True):
    """Go on with the next part of a task, in another batch."""

    batch: str


class Hello(msgspec.Struct, frozen=True, tag=True):
    """The worker is up: which package it runs, so that a stranger of that name is noticed."""

    package: str


class Beat(msgspec.Struct, frozen=True, tag=True):
    """Responses and stored bytes read since the last beat."""

    n_rows: int
    n_bytes: int


class Reading(msgspec.Struct, frozen=True):
    """What was read of one piece: the figures of its part in the ledger.

    Attributes
    ----------
    rows_done, bytes_done : int
        The last row met, and the offset behind it in the decompressed source.
    n_read, n_rejected : int
        Responses met, and those of them that became rejects.
    complete : bool
        The piece was read to its end.
    """

    rows_done: int
    bytes_done: int
    n_read: int
    n_rejected: int
    complete: bool


class Result(msgspec.Struct, frozen=True, tag=True):
    """Staged files, and one reading for each piece; `final` is the last of its task."""

    batch: str
    staged: list[Staged]
    readings: list[Reading]
    final: bool


class Failure(msgspec.Struct, frozen=True, tag=True):
    """An error of our tree, on its way to the parent."""

    kind: str
    message: str
    source: str | None = None
    row: int | None = None
    reason: str | None = None
    path: str | None = None

    @classmethod
    def of(cls, error: errors.VerifyAnalyticsError) -> Failure:
        """Take an error apart."""
        path = getattr(error, "path", None)
        return cls(
            kind=type(error).__name__,
            message=str(error),
            source=getattr(error, "source", None),
            row=getattr(error, "row", None),
            reason=getattr(error, "reason", None),
            path=None if path is None else str(path),
        )

    def error(self) -> errors.VerifyAnalyticsError:
        """Put it together again; a class with other arguments becomes its parent."""
        if self.kind == "InputError":
            return errors.InputError(
                self.message, source=self.source, row=self.row, reason=self.reason
            )
        if self.kind == "StorageError":
            return errors.StorageError(self.message, path=Path(self.path) if self.path else None)
        if self.kind == "VerifyAnalyticsError":
            return errors.VerifyAnalyticsError(self.message)
        return errors.UsageError(self.message)


Down = Setup | Task | Onward
Up = Hello | Beat | Result | Failure
_Message = TypeVar("_Message")


def send(stream: BinaryIO, message: Down | Up) -> None:
    """Write one framed message and flush it."""
    body = msgspec.msgpack.encode(message)
    stream.write(_HEAD.pack(len(body)) + body)
    stream.flush()


def receive(stream: BinaryIO, decoder: msgspec.msgpack.Decoder[_Message]) -> _Message | None:
    """Read one framed message; null at the end of the stream, also in mid-message."""
    head = stream.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    (size,) = _HEAD.unpack(head)
    body = stream.read(size)
    return decoder.decode(body) if len(body) == size else None


def perform(task: Task, flattener: Flattener) -> Generator[Beat | Result, str | None, None]:
    """Read a task's pieces, flatten them and stage the rows.

    Parameters
    ----------
    task : Task
    flattener : Flattener
        Learns field names as it goes, so one serves many tasks.

    Yields
    ------
    Beat or Result
        Beats now and then; a `Result` at each cut (send the next batch to go on) and one, `final`,
        at the end.

    Raises
    ------
    InputError
        A source cannot be opened or read.
    StorageError
        The staging folder cannot be written.
    """
    part, odometer = _Part(task, task.batch), _Odometer()
    try:
        for piece in task.pieces:
            part.begin()
            odometer.begin(piece)
            for block in _blocks(piece, min(BLOCK_BYTES, task.max_bytes or BLOCK_BYTES)):
                odometer.move(part.add(block, flattener), len(block.data))
                if part.is_full():
                    yield odometer.beat()
                    batch = yield part.result(final=False)
                    part = _Part(task, batch or task.batch)
                    part.begin()
                elif odometer.is_due():
                    yield odometer.beat()
            part.complete()
            odometer.arrive()
        yield odometer.beat()
        yield part.result(final=True)
    finally:
        part.discard()


class _Odometer:
    """How far a task is in stored bytes; in a compressed source that is a guess until its end."""

    def __init__(self) -> None:
        self._told_at = time.monotonic()
        self._n_rows = self._n_bytes = 0
        self._left, self._expansion = 0, 1

    def begin(self, piece: Piece) -> None:
        """Start the next piece."""
        whole = piece.source.n_bytes or 0
        self._left = (whole if piece.end is None else piece.end) - piece.start
        self._expansion = 1 if piece.source.compression is None else EXPANSION

    def move(self, n_rows: int, n_bytes: int) -> None:
        """Count a block."""
        step = min(n_bytes // self._expansion, self._left)
        self._n_rows += n_rows
        self._n_bytes += step
        self._left -= step

    def arrive(self) -> None:
        """Count what the guess left over."""
        self._n_bytes += self._left

    def is_due(self) -> bool:
        """Say whether it is time for a beat."""
        return time.monotonic() - self._told_at > BEAT_SECONDS

    def beat(self) -> Beat:
        """Tell what was read since the last beat."""
        beat = Beat(self._n_rows, self._n_bytes)
        self._told_at, self._n_rows, self._n_bytes = time.monotonic(), 0, 0
        return beat


class _Part:
    """What a task has read and staged for one batch."""

    def __init__(self, task: Task, batch: str) -> None:
        self._task, self._batch = task, batch
        self._staging = Staging(Path(task.folder), batch, f"{task.name}-{batch}")
        self._readings: list[Reading] = []
        self._n_rows = self._n_bytes = 0

    def begin(self) -> None:
        """Start the next piece."""
        self._readings.append(Reading(0, 0, 0, 0, complete=False))

    def complete(self) -> None:
        """Note that the current piece was read to its end."""
        self._readings[-1] = msgspec.structs.replace(self._readings[-1], complete=True)

    def add(self, block: Block, flattener: Flattener) -> int:
        """Flatten one block and stage its rows; gives the number of responses in it."""
        flat = flattener.flatten(block)
        with self._storage_errors():
            self._staging.add(flat.verifications, flat.rejects)
        so_far = self._readings[-1]
        self._readings[-1] = Reading(
            rows_done=max(so_far.rows_done, last_row(block)),
            bytes_done=(block.byte_offset or 0) + len(block.data),
            n_read=so_far.n_read + flat.n_read,
            n_rejected=so_far.n_rejected + flat.rejects.num_rows,
            complete=False,
        )
        self._n_rows += flat.n_read
        self._n_bytes += len(block.data)
        return flat.n_read

    def is_full(self) -> bool:
        """Say whether the batch should be closed here."""
        rows, size = self._task.max_rows, self._task.max_bytes
        return (rows is not None and self._n_rows >= rows) or (
            size is not None and self._n_bytes >= size
        )

    def result(self, *, final: bool) -> Result:
        """Finish the files and hand them over; from here on they are the parent's."""
        with self._storage_errors():
            staged = self._staging.close()
        return Result(self._batch, staged, self._readings, final=final)

    def discard(self) -> None:
        """Remove files that were not handed over."""
        self._staging.discard()

    @contextlib.contextmanager
    def _storage_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise write_error(Path(self._task.folder), error) from error


def write_error(folder: Path, error: OSError) -> errors.StorageError:
    """Say that a folder cannot be written, and what helps when that is for want of room."""
    full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
    hint = "make room there" if full else "see to it"
    return errors.StorageError(
        f"cannot write to {folder}: {error.strerror or error}; what was committed stays, "
        f"{hint} and import again",
        path=folder,
    )


def _blocks(piece: Piece, block_bytes: int) -> Iterator[Block]:
    """Read a piece block by block, rows that are committed already left out."""
    source = piece.source
    try:
        for block in blocks(
            source,
            start=piece.start,
            end=piece.end,
            first_row=piece.first_row,
            block_bytes=block_bytes,
        ):
            if piece.rows_done < block.first_row:
                yield block
            elif piece.rows_done < last_row(block):
                yield _rest(block, piece.rows_done)
    except OSError as error:
        raise errors.InputError(
            f"cannot read {source.name}: {error.strerror or error}", source=source.name
        ) from error


def last_row(block: Block) -> int:
    r"""Number of the last row a block covers; the row before it when it covers none.

    Examples
    --------
    >>> last_row(Block("a.ndjson", b'{}\n\n{}', first_row=5, byte_offset=90))
    7
    """
    rows = [block.first_row - 1, *(reject.row for reject in block.rejects)]
    if block.documents is not None:
        rows.extend(document.row for document in block.documents[-1:])
    elif block.data:
        lines = block.data.count(b"\n") + (not block.data.endswith(b"\n"))
        rows.append(block.first_row + lines - 1)
    return max(rows)


def _rest(block: Block, rows_done: int) -> Block:
    """Cut off the head of a block up to and with a row."""
    rejects = tuple(reject for reject in block.rejects if reject.row > rows_done)
    if block.documents is not None:
        documents = tuple(document for document in block.documents if document.row > rows_done)
        return replace(block, documents=documents, rejects=rejects)
    start = 0
    for _ in range(rows_done - block.first_row + 1):
        start = block.data.index(b"\n", start) + 1
    return replace(
        block,
        data=block.data[start:],
        first_row=rows_done + 1,
        byte_offset=None if block.byte_offset is None else block.byte_offset + start,
        rejects=rejects,
    )


class _Inbox:
    """Messages from the parent, read by a thread that ends the process when they end.

    A killed parent closes the pipe, and a worker must not outlive it by one task: so somebody has
    to listen while the other thread works.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._messages: queue.SimpleQueue[Down] = queue.SimpleQueue()
        threading.Thread(target=self._listen, args=(stream,), daemon=True).start()

    def _listen(self, stream: BinaryIO) -> None:
        decoder = msgspec.msgpack.Decoder(Down)
        try:
            while (message := receive(stream, decoder)) is not None:
                self._messages.put(message)
        except msgspec.DecodeError as error:  # nobody else would notice: the other thread waits
            sys.stderr.write(f"a message from the parent is none: {error}\n")
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)

    def next(self) -> Down:
        """Wait for the next message."""
        return self._messages.get()


def _serve(inbox: _Inbox, out: BinaryIO) -> None:
    """Answer task after task; never returns, the inbox ends the process."""
    flattener: Flattener | None = None
    while True:
        message = inbox.next()
        if isinstance(message, Setup):
            flattener = Flattener(message.options)
        elif isinstance(message, Task) and flattener is not None:
            try:
                _answer(perform(message, flattener), inbox, out)
            except errors.VerifyAnalyticsError as error:
                send(out, Failure.of(error))


def _answer(work: Generator[Beat | Result, str | None, None], inbox: _Inbox, out: BinaryIO) -> None:
    """Send up what a task yields; at a cut wait for the next batch."""
    batch: str | None = None
    with contextlib.suppress(StopIteration):
        while True:
            message = work.send(batch)
            send(out, message)
            batch = None
            if isinstance(message, Result) and not message.final:
                onward = inbox.next()
                batch = onward.batch if isinstance(onward, Onward) else None


def main() -> None:
    """Serve the parent at the other end of standard input and output."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    if sys.platform == "win32":
        import msvcrt

        for stream in (sys.stdin, sys.stdout):
            msvcrt.setmode(stream.fileno(), os.O_BINARY)
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints must not break the frames
    try:
        send(out, Hello(str(Path(package_file).resolve())))
        _serve(_Inbox(sys.stdin.buffer), out)
    except BrokenPipeError:
        os._exit(0)  # the parent is gone


if __name__ == "__main__":
    main()
