"""Blocks of bytes become record batches: the fast kernel, equal to `responses` on every input."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from verifyanalytics.envelope import ReadOptions
from verifyanalytics.responses import Refusal, Row, read_response
from verifyanalytics.schema import REJECT_COLUMNS, VERIFICATION_COLUMNS
from verifyanalytics.sources import Block

_FIELDS = [c.field for c in VERIFICATION_COLUMNS if c.name != "batch"]
_MONTH = pa.field("month", pa.string())
_REJECTS = pa.schema([c.field for c in REJECT_COLUMNS if c.name not in ("batch", "rejected_at")])
_BLANK = b" \t\r\n"


@dataclass(frozen=True, slots=True)
class Flattened:
    """What a block holds.

    Attributes
    ----------
    verifications : pyarrow.RecordBatch
        `schema.VERIFICATIONS` without batch, then `month` and `ctx_*` sorted by name.
    rejects : pyarrow.RecordBatch
        `schema.REJECTS` without batch and rejected_at, the reader's own refusals included.
    n_read : int
        Responses met: the rows of both.
    n_bytes : int
        Bytes of the block.
    """

    verifications: pa.RecordBatch
    rejects: pa.RecordBatch
    n_read: int
    n_bytes: int


class Flattener:
    """Flattens one block after another; the same rows however the input is cut into blocks."""

    def __init__(self, options: ReadOptions) -> None:
        self.options = options

    def flatten(self, block: Block) -> Flattened:
        """Flatten one block."""
        rows: list[Row] = []
        rejects = [
            (block.source, r.row, r.byte_offset, r.reason, r.detail, r.sha256, r.n_bytes)
            for r in block.rejects
        ]
        for row, start, end in _documents(block):
            data = block.data[start:end]
            read = read_response(data, self.options, source=block.source, row=row)
            if isinstance(read, Refusal):
                offset = None if block.byte_offset is None else block.byte_offset + start
                digest = hashlib.sha256(data).hexdigest()
                rejects.append(
                    (block.source, row, offset, read.reason, read.detail, digest, len(data))
                )
            else:
                rows.append(read)
        rejects.sort(key=lambda reject: reject[1])
        return Flattened(
            _row_batch(rows), _reject_batch(rejects), len(rows) + len(rejects), len(block.data)
        )


def _documents(block: Block) -> Iterator[tuple[int, int, int]]:
    if block.documents is not None:
        yield from block.documents
        return
    start, row = 0, block.first_row
    while start < len(block.data):
        end = block.data.find(b"\n", start)
        end = len(block.data) if end < 0 else end
        if block.data[start:end].strip(_BLANK):
            yield row, start, end
        start, row = end + 1, row + 1


def _row_batch(rows: list[Row]) -> pa.RecordBatch:
    context = sorted({name for row in rows for name in row if name.startswith("ctx_")})
    fields = [*_FIELDS, _MONTH, *(pa.field(name, pa.string()) for name in context)]
    arrays = [pa.array([row.get(field.name) for row in rows], field.type) for field in fields]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def _reject_batch(rejects: list[tuple[Any, ...]]) -> pa.RecordBatch:
    columns: Any = zip(*rejects, strict=True) if rejects else [()] * len(_REJECTS)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, _REJECTS, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=_REJECTS)
