"""Stored bytes: opened wherever they lie, decompressed as they come, and stopped when damaged.

What was read before damage is always handed on first, to the last byte that can be had; then
`StreamDamageError` says where the stream broke. Compression is known by its first bytes, never
by a name.
"""

from __future__ import annotations

import bz2
import lzma
import re
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from verifyanalytics.errors import InputError

MAX_RATIO = 500.0
"""Decompressed over stored bytes, beyond which a stream longer than `FREE_BYTES` is a bomb."""

FREE_BYTES = 1 << 30
"""Decompressed bytes that are never called a bomb."""

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


class _Stored:
    """The stored bytes, counted; a failing disk or network is not mistaken for damage."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file, self._name = file, name
        self.n_read = 0
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        try:
            data = self._file.read(size)
        except access_errors() as error:
            raise self._failure(error) from error
        self.n_read += len(data)
        return data

    def seek(self, position: int) -> None:
        try:
            self._file.seek(position)
        except access_errors() as error:
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> InputError:
        message = f"reading {self._name} failed: {access_reason(error)}"
        return InputError(message, source=self._name, reason="source")

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True


class _Decoder(Protocol):
    """What bz2 and lzma offer for one member; `_Inflate` gives zlib the same shape."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Inflate:
    """One gzip member, its checksum verified."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(31)

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def needs_input(self) -> bool:
        return not self._zlib.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._zlib.decompress(self._zlib.unconsumed_tail or data, max_length)


class _Members:
    """Compressed members one after the other, as `cat a.gz b.gz` makes them."""

    def __init__(self, stored: _Stored, new_decoder: Callable[[], _Decoder]) -> None:
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
            data = self._decoder.decompress(piece, size)
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
        return True


_DECODERS: dict[str, Callable[[], _Decoder]] = {
    "gzip": _Inflate,
    "bz2": cast("Callable[[], _Decoder]", bz2.BZ2Decompressor),
    "xz": lambda: cast("_Decoder", lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)),
}


def _reader(stored: _Stored, compression: str) -> Any:
    """Something with `read(size)` over the decompressed bytes."""
    if compression != "zstd":
        return _Members(stored, _DECODERS[compression])
    import pyarrow as pa

    return pa.CompressedInputStream(pa.PythonFile(stored, mode="r"), "zstd")


def stored_chunks(
    location: str, name: str, size: int, start: int, end: int | None
) -> Iterator[bytes]:
    """Bytes [start, end) as stored, in pieces of `size`."""
    with _opened(location, name) as file:
        if start:
            file.seek(start)
        stored = _Stored(file, name)
        left = None if end is None else end - start
        while left is None or left > 0:
            chunk = stored.read(size if left is None else min(size, left))
            if not chunk:
                return
            if left is not None:
                left -= len(chunk)
            yield chunk


def aligned_chunks(
    location: str, name: str, size: int, start: int, end: int | None
) -> Iterator[bytes]:
    """Bytes [start, end) of a local file, in pieces of up to `size` that end behind a newline.

    Only a line longer than `size` comes in several pieces. The last newline is looked for before
    the piece is read, so that no byte but a few at its end is read or copied twice.
    """
    at, stop = start, sys.maxsize if end is None else end
    with _opened(location, name) as file:
        stored = _Stored(file, name)
        while at < stop:
            length = _whole_lines(stored, at, min(size, stop - at))
            stored.seek(at)
            chunk = stored.read(length)
            if not chunk:
                return
            at += len(chunk)
            yield chunk


def _whole_lines(stored: _Stored, start: int, size: int) -> int:
    """How many of the next `size` bytes are whole lines; all where none is or the file ends."""
    last = start + size
    while last > start:
        first = max(start, last - _TAIL)
        stored.seek(first)
        tail = stored.read(last - first)
        if len(tail) < last - first:
            return size
        cut = tail.rfind(b"\n") + 1
        if cut:
            return first - start + cut
        last = first
    return size


def inflated_chunks(
    location: str, name: str, compression: str, max_ratio: float, free_bytes: int
) -> Iterator[bytes]:
    """Decompressed bytes; `StreamDamageError` behind the last good one.

    A codec that fails in the middle of a read keeps what that read had already decoded. The
    stream is then opened once more and read byte by byte up to the same failure, so that no
    whole line before the damage is lost.
    """
    position = 0
    try:
        for chunk, n_stored in _inflate(location, name, compression, 0, _OUTPUT):
            position += len(chunk)
            yield chunk
            if position > free_bytes and position > max_ratio * n_stored:
                message = f"more than {max_ratio:g} times its stored size: a decompression bomb?"
                raise StreamDamageError(message, position)
    except _CODEC_ERRORS as error:
        tail = b"".join(_salvaged(location, name, compression, position))
        if tail:
            yield tail
        message = f"the {compression} stream is damaged or cut off: {str(error)[:100]}"
        raise StreamDamageError(message, position + len(tail)) from error


def _inflate(
    location: str, name: str, compression: str, skip: int, size: int
) -> Iterator[tuple[bytes, int]]:
    """Chunks behind the first `skip` bytes, each with the stored bytes taken so far."""
    with _opened(location, name) as file:
        stored = _Stored(file, name)
        reader = _reader(stored, compression)
        while skip:  # the same reads as before, so the same chunks
            skip -= len(reader.read(_OUTPUT))
        while chunk := reader.read(size):
            yield chunk, stored.n_read


def _salvaged(location: str, name: str, compression: str, skip: int) -> Iterator[bytes]:
    """Single bytes from `skip` to where the codec gives up."""
    try:
        for byte, _ in _inflate(location, name, compression, skip, 1):
            yield byte
    except _CODEC_ERRORS:
        return
