"""The messages between an import and its workers, and how they travel over a pipe.

Down go one `Setup` and then `Task`s, with a `NextBatch` after each commit of a task that makes
several; up come a `Hello`, `Progress`, and for each task `Result`s or a `Failure`. A message is
framed: four bytes of length, then MessagePack. The store's key is the only secret in them, which
is why it travels by pipe and not by argument or environment.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import msgspec

from verifyanalytics import errors
from verifyanalytics.parsing.text import ReadOptions
from verifyanalytics.sources.reading import Source
from verifyanalytics.store.files import StagedFile

_HEAD = struct.Struct(">I")
_CONTEXT: dict[type[errors.VerifyAnalyticsError], tuple[str, ...]] = {
    errors.VerifyAnalyticsError: (),
    errors.InputError: ("source", "row", "reason"),
    errors.StorageError: ("path",),
}
"""Errors that keep their class on the way, and the arguments that they are made of."""


class SourceRange(msgspec.Struct, frozen=True):
    """What is read of one source: a range of its bytes, or what follows a row.

    Attributes
    ----------
    source : Source
    n_bytes : int
        Stored bytes in it.
    start, end : int
        Bytes `[start, end)` of a plain line file; the whole source when `end` is null.
    first_row : int
        Row number of the first line in it, 1-based.
    n_lines : int
        Lines of a plain line file; 0 when they were not counted.
    rows_done : int
        Rows of the source that are committed already; they are passed over.
    """

    source: Source
    n_bytes: int
    start: int = 0
    end: int | None = None
    first_row: int = 1
    n_lines: int = 0
    rows_done: int = 0

    def after(self, rows_done: int) -> SourceRange:
        """Give the same range with that many rows of the source done."""
        return msgspec.structs.replace(self, rows_done=rows_done)


class Setup(msgspec.Struct, frozen=True, tag=True):
    """What holds for every task of an import."""

    options: ReadOptions


class Task(msgspec.Struct, frozen=True, tag=True):
    """Ranges to read into one batch, or into several when there are limits.

    `name` begins the names of the staged files in `folder` and is unique for each try. With
    `max_rows` and `max_bytes` the only range is read until the batch is about so large, then into
    the next.
    """

    name: str
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
    """What was read of one range: responses met, and those of them that became rejects.

    `rows_done` is the last row met, `bytes_done` the offset behind it in the decompressed source.
    """

    rows_done: int = 0
    bytes_done: int = 0
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
