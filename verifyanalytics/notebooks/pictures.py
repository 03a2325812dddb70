"""PNG pictures in notebooks: without anything that differs from run to run, compared by pixels."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterable

_PNG, _KEPT = b"\x89PNG\r\n\x1a\n", (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")


def plain_png(encoded: str) -> str:
    """Keep the chunks of a PNG that make the picture; drop its texts, times and resolution."""
    kept = [chunk for kind, chunk in _chunks(base64.b64decode(encoded)) if kind in _KEPT]
    return base64.b64encode(_PNG + b"".join(kept)).decode("ascii")


def _chunks(png: bytes) -> Iterable[tuple[bytes, bytes]]:
    at = len(_PNG)
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        yield png[at + 4 : at + 8], png[at : at + 12 + length]
        at += 12 + length


def pixels(encoded: str) -> str:
    """Return a picture's size and raw pixels: equal whatever zlib packed them."""
    chunks = list(_chunks(base64.b64decode(encoded)))
    head = b"".join(chunk for kind, chunk in chunks if kind != b"IDAT")
    packed = b"".join(chunk[8:-4] for kind, chunk in chunks if kind == b"IDAT")
    return f"{head.hex()} {zlib.crc32(zlib.decompress(packed))}"
