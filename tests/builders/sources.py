"""Sources for tests: stored bytes of made-up replies, and what the blocks of a source hold."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from pathlib import Path

import pyarrow as pa

from verifyanalytics.sources import reading as sources


def answer(number: int, **more: object) -> bytes:
    """One made-up reply on one line."""
    return json.dumps({"code": 10000, "request_id": str(number), **more}).encode()


def lines_of(*numbers: int) -> bytes:
    return b"".join(answer(number) + b"\n" for number in numbers)


def written(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def one(path: object, **options: object) -> sources.Source:
    [source] = sources.discover([path], **options)  # type: ignore[list-item, arg-type]
    return source


def read(source, **options):
    """(row, bytes) of every response, and every reject, by a plain loop over the blocks."""
    documents, rejects = [], []
    for block in sources.blocks(source, **options):
        assert block.source == source.name
        rejects += block.rejects
        if block.documents is None:
            lines = block.data.split(b"\n")
            documents += [
                (row, line) for row, line in enumerate(lines, block.first_row) if line.strip()
            ]
        else:
            documents += [(row, block.data[start:end]) for row, start, end in block.documents]
    return documents, rejects


def rows(source, **options):
    return [row for row, _ in read(source, **options)[0]]


def reasons(source, **options):
    return [(r.row, r.reason) for r in read(source, **options)[1]]


def numbers(source, **options):
    """The request_id of each response."""
    return [int(json.loads(text)["request_id"]) for _, text in read(source, **options)[0]]


ZSTD = pa.Codec("zstd")


def zstd(data: bytes) -> bytes:
    return ZSTD.compress(data, asbytes=True)


CODECS = {"gz": gzip.compress, "zst": zstd, "bz2": bz2.compress, "xz": lzma.compress}
NAMES = {"gz": "gzip", "zst": "zstd", "bz2": "bz2", "xz": "xz"}
