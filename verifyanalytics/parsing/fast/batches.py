"""Record batches of a block: rows of the fast path and of the reference parser, and rejects."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from verifyanalytics.parsing.fast.decoding import Flags
from verifyanalytics.parsing.reference import Row
from verifyanalytics.schema import REJECT_COLUMNS, VERIFICATION_COLUMNS
from verifyanalytics.sources.blocks import Block

_FIELDS = [c.field for c in VERIFICATION_COLUMNS if c.name != "batch"]
_FIELDS.append(pa.field("month", pa.string()))
_NAMES = [field.name for field in _FIELDS]
_TYPES = {field.name: field.type for field in _FIELDS}
_SCHEMA = pa.schema(_FIELDS)
_REJECTS = pa.schema([c.field for c in REJECT_COLUMNS if c.name not in ("batch", "rejected_at")])
_NO_REJECTS = pa.RecordBatch.from_pylist([], schema=_REJECTS)

Reject = tuple[Any, ...]
"""Row, byte offset, reason, detail, sha256 and length of one rejected response."""


def column_batch(columns: dict[str, pa.Array]) -> pa.RecordBatch:
    """Put columns into the order of the schema, `ctx_*` behind; what is missing is null."""
    n = len(columns["request_id"])
    context = sorted(name for name in columns if name.startswith("ctx_"))
    schema = _SCHEMA
    if context:
        schema = pa.schema([*_FIELDS, *(pa.field(name, pa.string()) for name in context)])
    arrays = [
        pa.nulls(n, field.type) if columns.get(field.name) is None else columns[field.name]
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def row_batch(rows: list[Row]) -> pa.RecordBatch:
    """Columns of rows that the reference parser made."""
    names = {*_NAMES, *(name for row in rows for name in row if name.startswith("ctx_"))}
    return column_batch(
        {
            name: pa.array([row.get(name) for row in rows], _TYPES.get(name, pa.string()))
            for name in names
        }
    )


def joined_batch(fast: pa.RecordBatch, kept: Flags, rows: list[Row]) -> pa.RecordBatch:
    """Join the `kept` rows of the fast path with the reference parser's, in the source's order."""
    batch = fast
    if rows:
        parts = [fast, row_batch(rows)]
        if parts[0].schema.names != parts[1].schema.names:
            columns = [dict(zip(part.schema.names, part.columns, strict=True)) for part in parts]
            names = dict.fromkeys(name for part in columns for name in part)
            parts = [column_batch(names | part) for part in columns]
        batch = pa.concat_batches(parts)
        kept = np.concatenate([kept, np.ones(len(rows), bool)])
    if not kept.all() or rows:
        places = np.flatnonzero(kept)
        order = np.argsort(batch["source_row"].to_numpy()[places], kind="stable")
        batch = batch.take(pa.array(places[order]))
    if batch.num_columns == len(_FIELDS):
        return batch
    # a name that only refused responses had is no column
    context = batch.schema.names[len(_FIELDS) :]
    return batch.select(
        [*_NAMES, *(name for name in context if batch[name].null_count < len(batch))]
    )


def reject_batch(block: Block, rejects: list[Reject]) -> pa.RecordBatch:
    """Rejects of a block, the reader's own among them, in the order of their rows."""
    if not rejects and not block.rejects:
        return _NO_REJECTS
    own = [(r.row, r.byte_offset, r.reason, r.detail, r.sha256, r.n_bytes) for r in block.rejects]
    rejects = sorted([*own, *rejects], key=lambda reject: reject[0])
    values = [[block.source] * len(rejects), *zip(*rejects, strict=True)]
    arrays = [pa.array(column, field.type) for column, field in zip(values, _REJECTS, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=_REJECTS)
