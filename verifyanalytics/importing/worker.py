"""A worker: ranges of sources in, staged Parquet out; and the messages it exchanges with an import.

An import starts `python -m verifyanalytics.importing.worker` as a child; a small import calls
`perform` in its own process. A message is framed, four bytes of length, then MessagePack. The
store's key is the only secret in them, which is why it travels by pipe.
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
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import msgspec

from verifyanalytics import __file__ as package_file
from verifyanalytics import errors
from verifyanalytics.parsing.fast.flattener import Flattener
from verifyanalytics.parsing.text import ReadOptions
from verifyanalytics.sources.reading import BLOCK_BYTES, Block, Source, blocks
from verifyanalytics.store.files import StagedFile
from verifyanalytics.store.staging import Staging

PROGRESS_SECONDS = 0.2  # how often a task tells how far it is, at most
COMPRESSED_EXPANSION = 8  # compressed input becomes so much larger: for progress and packing only

_HEAD = struct.Struct(">I")
_CONTEXT: dict[type[errors.VerifyAnalyticsError], tuple[str, ...]] = {
    errors.VerifyAnalyticsError: (),
    errors.InputError: ("source", "row", "reason"),
    errors.StorageError: ("path",),
}
"""Errors that keep their class on the way, and the arguments that they are made of."""


# ------------------------------------------------------------------ messages


class SourceRange(msgspec.Struct, frozen=True):
    """What is read of one source: a range of its bytes, or what follows a row."""

    source: Source
    n_bytes: int  # stored bytes in it
    start: int = 0
    end: int | None = None  # null: the whole source
    first_row: int = 1
    n_lines: int = 0  # 0 when they were not counted
    rows_done: int = 0  # rows of the source that are committed already; they are passed over

    def after(self, rows_done: int) -> SourceRange:
        """Give the same range with that many rows of the source done."""
        return msgspec.structs.replace(self, rows_done=rows_done)


class Setup(msgspec.Struct, frozen=True, tag=True):
    """What holds for every task of an import."""

    options: ReadOptions


class Task(msgspec.Struct, frozen=True, tag=True):
    """Ranges to read into one batch; with limits, one range into batches of about that size."""

    name: str  # begins the names of the staged files in `folder`, unique for each try
    folder: str
    batch: str
    ranges: list[SourceRange]
    max_rows: int | None = None
    max_bytes: int | None = None

    def after(self, result: Result, batch: str) -> Task:
        """Give what remains to be read, into another batch, when a result is in."""
        left = [self.ranges[0].after(result.readings[-1].rows_done)]
        return msgspec.structs.replace(self, ranges=left, batch=batch)


class NextBatch(msgspec.Struct, frozen=True, tag=True):
    """Go on with the task, in this batch."""

    batch: str


class Hello(msgspec.Struct, frozen=True, tag=True):
    """The worker is up: the path of its package, to notice another one of that name."""

    package: str


class Progress(msgspec.Struct, frozen=True, tag=True):
    """Responses and stored bytes read since the last message of progress."""

    n_rows: int
    n_bytes: int


class Reading(msgspec.Struct, frozen=True):
    """What was read of one range: responses met, and those of them that became rejects."""

    rows_done: int = 0  # the last row met
    bytes_done: int = 0  # the offset behind it in the decompressed source
    n_read: int = 0
    n_rejected: int = 0


class Result(msgspec.Struct, frozen=True, tag=True):
    """Staged files, and one reading for each range; `final` is the last of its task."""

    batch: str
    staged: list[StagedFile]
    readings: list[Reading]
    final: bool


class Failure(msgspec.Struct, frozen=True, tag=True):
    """An error of our tree, on its way to the parent."""

    kind: str
    message: str
    context: dict[str, str | int | None] = {}

    @classmethod
    def of(cls, error: errors.VerifyAnalyticsError) -> Failure:
        """Take an error apart."""
        context = {name: getattr(error, name) for name in _CONTEXT.get(type(error), ())}
        if isinstance(context.get("path"), Path):
            context["path"] = str(context["path"])
        return cls(type(error).__name__, str(error), context)

    def error(self) -> errors.VerifyAnalyticsError:
        """Put it together again; a class with other arguments becomes its parent."""
        kinds = {kind.__name__: kind for kind in _CONTEXT}
        context: dict[str, Any] = dict(self.context)
        if context.get("path") is not None:
            context["path"] = Path(context["path"])
        return kinds.get(self.kind, errors.UsageError)(self.message, **context)


Down = Setup | Task | NextBatch
Up = Hello | Progress | Result | Failure
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


# ------------------------------------------------------------------ one task


def perform(
    task: Task,
    flattener: Flattener,
    on_progress: Callable[[Progress], object],
    next_batch: Callable[[], str],
) -> Iterator[Result]:
    """Read a task's ranges, flatten them and stage the rows; the last result is `final`."""
    # the flattener learns field names as it goes, so one serves many tasks
    progress = _ByteProgress(on_progress)
    staged = _StagedBatch(task, task.batch)
    try:
        for part in task.ranges:
            staged.begin()
            progress.begin(part)
            for block in _blocks(part, min(BLOCK_BYTES, task.max_bytes or BLOCK_BYTES)):
                progress.move(staged.add(block, flattener), len(block.data))
                if staged.is_full():
                    progress.tell()
                    yield staged.result(final=False)
                    staged = _StagedBatch(task, next_batch())
                    staged.begin()
            progress.end()
        progress.tell()
        yield staged.result(final=True)
    finally:
        staged.staging.discard()


class _ByteProgress:
    """How far a task is in stored bytes; in a compressed source that is a guess until its end."""

    def __init__(self, on_progress: Callable[[Progress], object]) -> None:
        self._on_progress = on_progress
        self._told_at = time.monotonic()
        self._n_rows = self._n_bytes = 0
        self._left, self._expansion = 0, 1

    def begin(self, part: SourceRange) -> None:
        whole = part.source.n_bytes or 0
        self._left = (whole if part.end is None else part.end) - part.start
        self._expansion = 1 if part.source.compression is None else COMPRESSED_EXPANSION

    def move(self, n_rows: int, n_bytes: int) -> None:
        step = min(n_bytes // self._expansion, self._left)
        self._n_rows += n_rows
        self._n_bytes += step
        self._left -= step
        if time.monotonic() - self._told_at > PROGRESS_SECONDS:
            self.tell()

    def end(self) -> None:
        self._n_bytes += self._left  # what the guess left over

    def tell(self) -> None:
        self._on_progress(Progress(self._n_rows, self._n_bytes))
        self._told_at, self._n_rows, self._n_bytes = time.monotonic(), 0, 0


class _StagedBatch:
    """What a task has read and staged for one batch."""

    def __init__(self, task: Task, batch: str) -> None:
        self._task, self._batch = task, batch
        self._folder = Path(task.folder)
        self.staging = Staging(self._folder, batch, f"{task.name}-{batch}")
        self._readings: list[Reading] = []
        self._n_rows = self._n_bytes = 0

    def begin(self) -> None:
        self._readings.append(Reading())

    def add(self, block: Block, flattener: Flattener) -> int:
        """Flatten one block and stage its rows; gives the number of responses in it."""
        flat = flattener.flatten(block)
        with writing(self._folder):
            self.staging.add(flat.verifications, flat.rejects)
        so_far = self._readings[-1]
        self._readings[-1] = Reading(
            rows_done=max(so_far.rows_done, last_row(block)),
            bytes_done=(block.byte_offset or 0) + len(block.data),
            n_read=so_far.n_read + flat.n_read,
            n_rejected=so_far.n_rejected + flat.rejects.num_rows,
        )
        self._n_rows += flat.n_read
        self._n_bytes += len(block.data)
        return flat.n_read

    def is_full(self) -> bool:
        rows, size = self._task.max_rows, self._task.max_bytes
        return (rows is not None and self._n_rows >= rows) or (
            size is not None and self._n_bytes >= size
        )

    def result(self, *, final: bool) -> Result:
        """Finish the files and hand them over; from here on they are the parent's."""
        with writing(self._folder):
            staged = self.staging.close()
        return Result(self._batch, staged, self._readings, final=final)


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn a failed write below a folder into a `StorageError` that says what helps."""
    try:
        yield
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
        hint = "make room there" if full else "see to it"
        raise errors.StorageError(
            f"cannot write to {folder}: {error.strerror or error}; what was committed stays, "
            f"{hint} and import again",
            path=folder,
        ) from error


def unreadable(source: Source, error: OSError) -> errors.InputError:
    """Name the source that the system would not let us read."""
    return errors.InputError(f"cannot read {source.name}: {error.strerror or error}",
                             source=source.name)  # fmt: skip


def _blocks(part: SourceRange, block_bytes: int) -> Iterator[Block]:
    """Read a range block by block, rows that are committed already left out."""
    try:
        for block in blocks(
            part.source,
            start=part.start,
            end=part.end,
            first_row=part.first_row,
            block_bytes=block_bytes,
        ):
            if part.rows_done < block.first_row:
                yield block
            elif part.rows_done < last_row(block):
                yield _rest(block, part.rows_done)
    except OSError as error:
        raise unreadable(part.source, error) from error


def last_row(block: Block) -> int:
    """Number of the last row a block covers; the row before it when it covers none."""
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


# ------------------------------------------------------------------------------ the process


class _Inbox:
    """Messages from the parent, read by a thread that ends the process when they end."""

    def __init__(self, stream: BinaryIO) -> None:
        self.messages: queue.SimpleQueue[Down] = queue.SimpleQueue()
        # a killed parent closes the pipe, and a worker must not outlive it by one task
        threading.Thread(target=self._listen, args=(stream,), daemon=True).start()

    def _listen(self, stream: BinaryIO) -> None:
        decoder = msgspec.msgpack.Decoder(Down)
        code = 1
        try:
            while (message := receive(stream, decoder)) is not None:
                self.messages.put(message)
            code = 0
        except msgspec.DecodeError as error:
            sys.stderr.write(f"a message from the parent is none: {error}\n")
            sys.stderr.flush()
        finally:
            os._exit(code)  # else the working thread would wait for ever, whatever went wrong

    def next_batch(self) -> str:
        """Wait until the parent names the next batch."""
        message = self.messages.get()
        if not isinstance(message, NextBatch):
            raise errors.VerifyAnalyticsError(
                f"the next batch was expected, not {type(message).__name__}"
            )
        return message.batch


def _serve(inbox: _Inbox, out: BinaryIO) -> None:
    """Answer task after task; never returns, the inbox ends the process."""
    flattener: Flattener | None = None
    while True:
        message = inbox.messages.get()
        if isinstance(message, Setup):
            flattener = Flattener(message.options)
        elif isinstance(message, Task) and flattener is not None:
            try:
                for result in perform(
                    message, flattener, lambda progress: send(out, progress), inbox.next_batch
                ):
                    send(out, result)
            except errors.VerifyAnalyticsError as error:
                send(out, Failure.of(error))


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
        os._exit(0)  # the parent has ended


if __name__ == "__main__":
    main()
