"""Streams: sources, their stored bytes decompressed as they come, and the blocks made of them.

Of a stream that is cut off every byte before the cut is handed on; where a checksum or the code
itself is wrong, nothing of the member is: it is held back until it has proved sound. One that is
longer than `HELD_BYTES` is decompressed to its end first, and then once more.
"""

from __future__ import annotations

import bz2
import lzma
import re
import sys
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO, NamedTuple, cast

from verifyanalytics.errors import InputError

MAX_DOCUMENT = 64 << 20
"""Bytes one response may have; a longer one is a reject and never held whole."""

MAX_DOCUMENTS = 50_000
"""Responses and refusals of a block: where they are tiny, they weigh more than their bytes."""

BLOCK_BYTES = 4 << 20
"""Bytes of a block, unless one document is longer: making a table of one costs some 500 µs."""


def count_lines(data: bytes) -> int:
    """Count newlines; `bytes.count` takes twenty times as long where lines are long."""
    n_lines, at = 0, data.find(b"\n")
    while at >= 0:
        n_lines, at = n_lines + 1, data.find(b"\n", at + 1)
    return n_lines


class Document(NamedTuple):
    """One response inside a block: its 1-based row and its slice of `Block.data`."""

    row: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class BlockReject:
    """Bytes the reader itself refused, in the columns of `rejects`."""

    row: int  # 1-based: a line, an element or a table row
    byte_offset: int | None  # None where rows have none (Parquet)
    reason: str
    detail: str
    sha256: str | None = None  # None where there is nothing to hash
    n_bytes: int | None = None  # None where it is not known


@dataclass(frozen=True, slots=True)
class Block:
    """Some megabytes of responses with their provenance."""

    source: str  # its name in tables
    data: bytes  # not yet checked for UTF-8; empty when there are only `rejects`
    first_row: int  # of the first line or document
    byte_offset: int | None  # of data[0] in the decompressed source; None: the text was rewritten
    # None: one response a line, the last perhaps without its newline; a blank line counts as a row
    documents: tuple[Document, ...] | None = None
    # not in `documents`, and not in `data` but for the blank line of a refused table row
    rejects: tuple[BlockReject, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """One thing to read: where it is, its name, and the form of its bytes."""

    name: str  # in tables: the path as given, a URL without credentials, <stdin>
    location: str  # absolute path or URL to open
    n_bytes: int | None  # as stored; None when the place does not tell
    # lines, json (array, pretty-printed, concatenated), json5, parquet, csv, tsv, journal (not
    # read by `blocks`), or refused (nothing we read: one reject tells why)
    form: str
    compression: str | None = None  # gzip, zstd, bz2 or xz, by the bytes, not the name
    column: str | None = None  # tables only: where the answers are, and their times
    time_column: str | None = None

    @property
    def splittable(self) -> bool:
        """True when it may be read in pieces: plain lines on a local disk."""
        return self.form == "lines" and self.compression is None and "://" not in self.location


# ------------------------------------------------------------------ stored bytes

MAX_RATIO = 500.0
"""Decompressed over stored bytes, beyond which a stream longer than `FREE_BYTES` is a bomb."""

FREE_BYTES = 1 << 30  # decompressed bytes that are never called a bomb
HELD_BYTES = 32 << 20  # decompressed bytes that are held back until their checksum is known
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".xz": "xz"}
"""Suffix of a compressed file and the codec it promises."""

_MAGIC = re.compile(
    rb"(?P<gzip>\x1f\x8b)|(?P<zstd>\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18)"
    rb"|(?P<xz>\xfd7zXZ\x00)|(?P<bz2>BZh[1-9](?:1AY&SY|\x17rE8P\x90))"
)
_PIECE = 1 << 15  # compressed bytes fed at a time
_OUTPUT = 1 << 17  # decompressed bytes asked for at a time
_TAIL = 1 << 16  # bytes looked at in one step for the last newline of a piece
_XZ_MEMORY = 256 << 20  # a dictionary larger than xz -9 asks for is hostile
_CODEC_ERRORS = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError)


class StreamDamageError(InputError):
    """A stream that cannot be read beyond `position` of its decompressed bytes."""

    def __init__(self, message: str, position: int) -> None:
        self.position = position
        super().__init__(message, reason="source")


def compression_of(head: bytes) -> str | None:
    """Name the codec whose magic bytes stand at the head, if any."""
    match = _MAGIC.match(head)
    return match.lastgroup if match else None


def open_location(location: str) -> BinaryIO:
    """Open a local path, or a URL through fsspec; `OSError` when that fails."""
    if "://" not in location:
        return Path(location).open("rb")
    import fsspec

    filesystem, path = fsspec.core.url_to_fs(location)
    return cast("BinaryIO", filesystem.open(path, "rb"))


def stored_size(location: str) -> int | None:
    """Bytes at a location; None where the place does not tell."""
    if "://" not in location:
        return Path(location).stat().st_size
    import fsspec

    filesystem, path = fsspec.core.url_to_fs(location)
    size = filesystem.size(path)
    return None if size is None else int(size)


def access_errors() -> tuple[type[Exception], ...]:
    """What opening or reading a place may raise; botocore, once loaded, has a tree of its own."""
    botocore: Any = sys.modules.get("botocore.exceptions")
    own = (botocore.BotoCoreError, botocore.ClientError) if botocore else ()
    return (OSError, ValueError, ImportError, *own)


def access_reason(error: Exception) -> str:
    """Say what failed without repeating a URL that may hold a secret."""
    if isinstance(error, ImportError):
        return "the package for this protocol is missing; for s3:// install verifyanalytics[s3]"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__


def _opened(location: str, name: str) -> BinaryIO:
    try:
        return open_location(location)
    except access_errors() as error:
        why = access_reason(error)
        raise InputError(f"cannot read {name}: {why}", source=name, reason="source") from error


class _PaddingError(EOFError):
    """Only zeros follow, to the end of the file."""


class _BrokenError(Exception):
    """The codec gave up in a member; `is_doubtful`: what it had decoded of it may be wrong."""

    def __init__(self, cause: Exception, member: int) -> None:
        self.why, self.member = str(cause)[:100], member
        self.is_padding = isinstance(cause, _PaddingError)
        self.is_doubtful = not isinstance(cause, EOFError)
        super().__init__(self.why)


class _Inflated(NamedTuple):
    """Decompressed bytes, the member they are of, and the stored bytes taken so far."""

    data: bytes
    member: int
    n_stored: int


class _Stored:
    """The stored bytes, counted; a failing disk or network is not mistaken for damage."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file, self._name = file, name
        self.n_read = 0

    def read(self, size: int, at: int | None = None) -> bytes:
        """Up to `size` bytes, from here or from a position on."""
        try:
            if at is not None:
                self._file.seek(at)
            data = self._file.read(size)
        except access_errors() as error:
            message = f"reading {self._name} failed: {access_reason(error)}"
            raise InputError(message, source=self._name, reason="source") from error
        self.n_read += len(data)
        return data


class _Inflate:
    """One gzip member, its checksum verified, with the methods that bz2 and lzma offer."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(31)

    def __getattr__(self, name: str) -> Any:  # eof, unused_data
        return getattr(self._zlib, name)

    @property
    def needs_input(self) -> bool:
        return not self._zlib.unconsumed_tail

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._zlib.decompress(self._zlib.unconsumed_tail or data, max_length)


_DECODERS: dict[str, Callable[[], Any]] = {
    "gzip": _Inflate,
    "bz2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY),
}


class _Members:
    """Compressed members one after the other, as `cat a.gz b.gz` makes them."""

    def __init__(self, stored: _Stored, new_decoder: Callable[[], Any]) -> None:
        self.member = 0  # those before were whole, and their checksums right
        self._stored, self._new_decoder = stored, new_decoder
        self._decoder = new_decoder()
        self._pending = b""

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, at least one; empty at the proper end."""
        while True:
            if self._decoder.eof and not self._next_member():
                return b""
            piece = b""
            if self._decoder.needs_input:
                piece = self._pending or self._stored.read(_PIECE)
                self._pending = b""
            data: bytes = self._decoder.decompress(piece, size)
            if data:
                return data
            if not piece and self._decoder.needs_input and not self._decoder.eof:
                raise EOFError("it ends inside a member")

    def _next_member(self) -> bool:
        """Begin the next member; padding with zeros, as tapes leave it, is skipped."""
        rest = self._decoder.unused_data.lstrip(b"\0")
        while not rest:
            piece = self._stored.read(_PIECE)
            if not piece:
                return False
            rest = piece.lstrip(b"\0")
        self._pending, self._decoder = rest, self._new_decoder()
        self.member += 1
        return True


class _Frames:
    """Frames of zstd one after the other; where one ends is not told, so they are one member."""

    member = 0
    closed = False

    def __init__(self, stored: _Stored) -> None:
        import pyarrow as pa

        # Padding with zeros is skipped: zeros at the end of a piece wait for what follows, those
        # at the end of the file are fed singly, which fails where a frame would have to begin.
        self._stored, self._n_zeros, self._is_padding = stored, 0, False
        feed = pa.PythonFile(SimpleNamespace(read=self._feed, closed=False), mode="r")
        self._stream = pa.CompressedInputStream(feed, "zstd")

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; empty at the proper end."""
        try:
            data: bytes = self._stream.read(size)
            return data
        except OSError as error:
            begins = "Unknown frame descriptor" in str(error)
            if begins and self._is_padding:
                raise _PaddingError from error  # what this read had decoded is still to be had
            if begins or "Truncated" in str(error):
                raise EOFError(str(error)) from error
            raise

    def _feed(self, size: int) -> bytes:
        while piece := self._stored.read(size):
            zeros = bytes(self._n_zeros)
            sent = piece.rstrip(b"\0")
            self._n_zeros = len(piece) - len(sent) + (0 if sent else self._n_zeros)
            if sent:
                return zeros + sent
        self._is_padding = self._n_zeros > 0
        self._n_zeros -= self._is_padding
        return b"\0" * self._is_padding


def stored_chunks(
    location: str, name: str, size: int, start: int, end: int | None
) -> Iterator[bytes]:
    """Bytes [start, end) as stored, in pieces of `size`."""
    with _opened(location, name) as file:
        if start:
            file.seek(start)
        stored = _Stored(file, name)
        left = sys.maxsize if end is None else end - start
        while left > 0 and (chunk := stored.read(min(size, left))):
            left -= len(chunk)
            yield chunk


def aligned_chunks(
    location: str, name: str, size: int, start: int, end: int | None
) -> Iterator[bytes]:
    """Bytes [start, end) of a local file, in pieces of up to `size` that end behind a newline."""
    # the last newline is looked for before the piece is read: no byte but a few is copied twice
    at, stop = start, sys.maxsize if end is None else end
    with _opened(location, name) as file:
        stored = _Stored(file, name)
        while at < stop:
            length = _whole_lines(stored, at, min(size, stop - at))
            if not (chunk := stored.read(length, at)):
                return
            at += len(chunk)
            yield chunk


def _whole_lines(stored: _Stored, start: int, size: int) -> int:
    """How many of the next `size` bytes are whole lines; all where none is or the file ends."""
    last = start + size
    while last > start:
        first = max(start, last - _TAIL)
        tail = stored.read(last - first, first)
        if len(tail) < last - first:
            return size
        cut = tail.rfind(b"\n") + 1
        if cut:
            return first - start + cut
        last = first
    return size


def inflated_chunks(
    location: str,
    name: str,
    compression: str,
    max_ratio: float,
    free_bytes: int,
    *,
    held_bytes: int = HELD_BYTES,
) -> Iterator[bytes]:
    """Decompressed bytes; `StreamDamageError` behind the last good one."""

    def is_bomb(position: int, piece: _Inflated) -> bool:
        return position > free_bytes and position > max_ratio * piece.n_stored

    def first_damage() -> _BrokenError | None:
        n_bytes = 0
        try:
            for piece in _inflate(location, name, compression, 0, _OUTPUT):
                n_bytes += len(piece.data)
                if is_bomb(n_bytes, piece):
                    return None  # it ends there, with a reason of its own
        except _BrokenError as broken:
            return broken if broken.is_doubtful else None
        return None

    position = 0
    try:
        pieces = _inflate(location, name, compression, 0, _OUTPUT)
        for piece in _held_back(pieces, held_bytes, first_damage):
            position += len(piece.data)
            yield piece.data
            if is_bomb(position, piece):
                message = f"more than {max_ratio:g} times its stored size: a decompression bomb?"
                raise StreamDamageError(message, position)
    except _BrokenError as broken:
        what = "damaged" if broken.is_doubtful else "cut off"
        if not broken.is_doubtful:
            # a codec may keep what a read had already decoded: the stream is opened once more and
            # read byte by byte up to the same failure, so that no whole line is lost
            tail = bytearray()
            with suppress(_BrokenError):
                for piece in _inflate(location, name, compression, position, 1):
                    tail += piece.data
            if tail:
                position += len(tail)
                yield bytes(tail)
            if broken.is_padding:
                return
        message = f"the {compression} stream is {what}: {broken.why}"
        raise StreamDamageError(message, position) from broken


def _held_back(
    pieces: Iterator[_Inflated], n_bytes: int, first_damage: Callable[[], _BrokenError | None]
) -> Iterator[_Inflated]:
    """Give pieces out once their member proved sound; a long one is proved when it is needed."""
    waiting: deque[_Inflated] = deque()
    n_waiting = 0
    damage: _BrokenError | None = None
    is_proved = not n_bytes  # to recognise a form, doubtful bytes will do
    try:
        for piece in pieces:
            if waiting and waiting[0].member != piece.member:
                yield from waiting
                waiting.clear()
                n_waiting = 0
            waiting.append(piece)
            n_waiting += len(piece.data)
            if n_waiting > n_bytes and not is_proved:
                damage, is_proved = first_damage(), True
            if damage is not None and damage.member == piece.member:
                waiting.clear()
                raise damage
            while n_waiting > n_bytes:
                n_waiting -= len(waiting[0].data)
                yield waiting.popleft()
    except _BrokenError as broken:
        if broken.is_doubtful and waiting and waiting[0].member == broken.member:
            waiting.clear()
        yield from waiting
        raise
    yield from waiting


def _inflate(
    location: str, name: str, compression: str, skip: int, size: int
) -> Iterator[_Inflated]:
    """Pieces behind the first `skip` bytes."""
    with _opened(location, name) as file:
        stored = _Stored(file, name)
        reader: _Members | _Frames
        if compression == "zstd":
            reader = _Frames(stored)
        else:
            reader = _Members(stored, _DECODERS[compression])
        try:
            while skip:  # the same reads as before, so the same pieces
                skip -= len(reader.read(_OUTPUT))
            while data := reader.read(size):
                yield _Inflated(data, reader.member, stored.n_read)
        except _CODEC_ERRORS as error:
            raise _BrokenError(error, reader.member) from error
