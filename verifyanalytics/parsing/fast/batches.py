"""Where a block's responses stand, and the record batches that are made of what was read."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from verifyanalytics.parsing.reference import Row
from verifyanalytics.schema import REJECT_COLUMNS, VERIFICATION_COLUMNS
from verifyanalytics.sources.reading import Block

_FIELDS = [c.field for c in VERIFICATION_COLUMNS if c.name != "batch"]
_FIELDS.append(pa.field("month", pa.string()))
_REJECTS = pa.schema([c.field for c in REJECT_COLUMNS if c.name not in ("batch", "rejected_at")])
_SCHEMA = pa.schema(_FIELDS)
_NO_REJECTS = pa.RecordBatch.from_pylist([], schema=_REJECTS)
_BLANK = b" \t\r\n"

Places = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Reject = tuple[Any, ...]
"""Row, byte offset, reason, detail, sha256 and length of one rejected response."""


class Documents(NamedTuple):
    """Where a block's responses stand.

    `regular` says which stand alone on their line and begin and end with a brace.
    """

    rows: Places
    starts: Places
    ends: Places
    regular: Flags


def documents_of(block: Block) -> Documents:
    """Find the responses of a block: as the reader says, else one to a line that is not blank."""
    if block.documents is not None:
        spans = np.array(block.documents, np.int64).reshape(-1, 3)
        return Documents(spans[:, 0], spans[:, 1], spans[:, 2], np.zeros(len(spans), bool))
    data = block.data
    ends = _line_ends(data)
    starts = np.empty_like(ends)
    starts[:1], starts[1:] = 0, ends[:-1] + 1
    rows = np.arange(block.first_row, block.first_row + len(ends))
    # between `}` and `{` on the next line no JSON text can go on: each line is a text of its own
    characters = np.frombuffer(data, np.uint8)
    regular = (characters[starts] == ord("{")) & (characters[ends - 1] == ord("}"))
    if regular.all():
        return Documents(rows, starts, ends, regular)
    filled = np.ones(len(rows), bool)
    for place in np.flatnonzero(~regular).tolist():
        filled[place] = bool(data[starts[place] : ends[place]].strip(_BLANK))
    return Documents(rows[filled], starts[filled], ends[filled], regular[filled])


def _line_ends(data: bytes) -> Places:
    """Where lines end; the last may lack its newline."""
    ends: list[int] = []
    find, add = data.find, ends.append
    end = find(b"\n")
    while end >= 0:
        add(end)
        end = find(b"\n", end + 1)
    if data and not data.endswith(b"\n"):
        add(len(data))
    return np.array(ends, np.int64)


def column_batch(made: dict[str, pa.Array]) -> pa.RecordBatch:
    """Put columns into the order of the schema, `ctx_*` behind; what is missing is null."""
    n = len(made["request_id"])
    context = sorted(name for name in made if name.startswith("ctx_"))
    fields, schema = _FIELDS, _SCHEMA
    if context:
        fields = [*_FIELDS, *(pa.field(name, pa.string()) for name in context)]
        schema = pa.schema(fields)
    arrays = [
        pa.nulls(n, field.type) if made.get(field.name) is None else made[field.name]
        for field in fields
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def row_batch(rows: list[Row]) -> pa.RecordBatch:
    """Columns of rows that the reference read."""
    names = [field.name for field in _FIELDS]
    names += {name for row in rows for name in row if name.startswith("ctx_")}
    types = {field.name: field.type for field in _FIELDS}
    made = {
        name: pa.array([row.get(name) for row in rows], types.get(name, pa.string()))
        for name in names
    }
    return column_batch(made)


def merged(fast: pa.RecordBatch, kept: Flags, rows: list[Row]) -> pa.RecordBatch:
    """Bring what holds of both roads' rows together, in the order of the source."""
    made = fast
    if rows:
        slow = row_batch(rows)
        names = {*fast.schema.names, *slow.schema.names}
        made = pa.concat_batches([_widened(fast, names), _widened(slow, names)])
        kept = np.concatenate([kept, np.ones(len(rows), bool)])
    if not kept.all() or rows:
        places = np.flatnonzero(kept)
        order = np.argsort(made["source_row"].to_numpy()[places], kind="stable")
        made = made.take(pa.array(places[order]))
    if made.num_columns == len(_FIELDS):
        return made
    # a name that only refused answers had is no column
    context = made.schema.names[len(_FIELDS) :]
    said = [name for name in context if made[name].null_count < len(made)]
    return made.select([*(field.name for field in _FIELDS), *said])


def _widened(batch: pa.RecordBatch, names: set[str]) -> pa.RecordBatch:
    """The batch with all of these columns, null where it has none."""
    if len(names) == batch.num_columns:
        return batch
    return column_batch(
        {name: batch[name] if name in batch.schema.names else None for name in names}
    )


def reject_batch(block: Block, rejects: list[Reject]) -> pa.RecordBatch:
    """Rejects of a block, the reader's own among them, in the order of their rows."""
    if not rejects and not block.rejects:
        return _NO_REJECTS
    own = [(r.row, r.byte_offset, r.reason, r.detail, r.sha256, r.n_bytes) for r in block.rejects]
    rejects = sorted([*own, *rejects], key=lambda reject: reject[0])
    columns = list(zip(*rejects, strict=True)) or [()] * (len(_REJECTS) - 1)
    values = [[block.source] * len(rejects), *columns]
    arrays = [pa.array(column, field.type) for column, field in zip(values, _REJECTS, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=_REJECTS)
