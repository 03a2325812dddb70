"""The fast path: blocks of bytes become record batches, equal to the reference parser's rows.

It only accepts. A response that it cannot decode, or that a step is unsure of (`needs_reference`),
is parsed again by `read_response`, from which every reject and all issues but one kind come.
"""

from __future__ import annotations

import gc
import hashlib
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from msgspec import UNSET

from verifyanalytics.parsing.fast import columns, decoding
from verifyanalytics.parsing.fast.columns import EnvelopeColumns, RepeatedColumns, moments
from verifyanalytics.parsing.fast.decoding import Extra, Flags, UnknownKeys
from verifyanalytics.parsing.reference import Refusal, Row, read_response
from verifyanalytics.parsing.text import ReadOptions, keyed_hash
from verifyanalytics.schema import IMAGES, REJECT_COLUMNS, VERIFICATION_COLUMNS, VERIFICATIONS
from verifyanalytics.sources.streams import Block

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


_NO_IMAGES = decoding.Images()
_NO_EXTRA = (None, None)


@dataclass(frozen=True, slots=True)
class Flattened:
    """What a block holds."""

    verifications: pa.RecordBatch  # without `batch`; then `month`, and `ctx_*` sorted by name
    rejects: pa.RecordBatch  # without `batch` and `rejected_at`; the reader's own are among them
    n_read: int  # responses met: the rows of both


@dataclass(slots=True)
class _Gathered:
    """What the fast path read of a block: lists with an item a response, counted from 0."""

    places: list[int] = field(default_factory=list)  # among the block's documents
    request_ids: list[str | None] = field(default_factory=list)
    combinations: list[int] = field(default_factory=list)
    elapsed: list[float] = field(default_factory=list)
    scores: list[float | None] = field(default_factory=list)
    quality: dict[str, list[bytes]] = field(default_factory=lambda: {image: [] for image in IMAGES})
    images: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    empties: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    extras: dict[int, Extra] = field(default_factory=dict)
    envelopes: list[Any] | None = None  # None as long as no response had one
    needs_reference: set[int] = field(default_factory=set)


class Flattener:
    """Flattens one block after another; the same rows however the input is cut into blocks."""

    def __init__(
        self, options: ReadOptions, *, chunk: int = decoding.CHUNK, part: int = decoding.PART
    ) -> None:
        self.options = options
        self.unknown_keys = UnknownKeys(decoding.NAMES_IN_USE)
        self.repeated = RepeatedColumns()
        self._decoding = decoding.Decoding(self.unknown_keys, chunk, part)
        self._envelope_columns = EnvelopeColumns(options)

    def flatten(self, block: Block) -> Flattened:
        """Flatten one block; memory is a small multiple of its size."""
        documents = decoding.documents_of(block)
        gathered = _Gathered()
        with _no_cyclic_gc():
            if self.options.is_plain:
                for decoded in self._decoding.chunks(block.data, documents):
                    self._gather(gathered, decoded, block.data)
            fast, kept = self._fast_rows(gathered, documents, block)
        is_left = np.ones(len(documents.rows), bool)
        is_left[np.array(gathered.places, np.int64)[kept]] = False
        rows, rejects = self._reference_rows(documents, np.flatnonzero(is_left), block)
        verifications = joined_batch(fast, kept, rows)
        refused = reject_batch(block, rejects)
        return Flattened(verifications, refused, verifications.num_rows + refused.num_rows)

    def _gather(self, gathered: _Gathered, decoded: decoding.Decoded, data: bytes) -> None:
        """Take what a chunk says; its replies are let go of while they are still in the cache."""
        replies, types = decoded.replies, self._decoding.types
        datas = [reply.data or types.no_data for reply in replies]
        comparisons = [part.source_comp_details or types.no_comparison for part in datas]
        needs_reference: set[int] = set()
        at = len(gathered.places)
        gathered.request_ids += [reply.request_id for reply in replies]
        repeated = self.repeated
        combinations = [
            repeated[
                r.code, r.message, d.result, d.risk_result, c.alive, c.thresholds,
                d.algorithm_base_resp, d.req_measure_info,
                d.verify_algorithm_base_resp, d.verify_req_measure_info,
            ]
            for r, d, c in zip(replies, datas, comparisons, strict=True)
        ]  # fmt: skip
        if 0 in combinations:
            needs_reference.update(place for place, n in enumerate(combinations) if not n)
        gathered.combinations += combinations
        times = [reply.time_elapsed for reply in replies]
        gathered.elapsed += columns.elapsed(times, needs_reference)
        gathered.scores += [part.score for part in comparisons]
        for image, texts in (
            ("face", [part.image_face_detail for part in comparisons]),
            ("env", [part.image_env_detail for part in comparisons]),
        ):
            gathered.quality[image].append(columns.quality(texts, needs_reference))
            if "" in texts:
                gathered.empties[image] += [at + i for i, text in enumerate(texts) if text == ""]
        self._gather_images(gathered, datas, decoded, data, needs_reference)
        parts = {"reply": replies, "data": datas, "comparison": comparisons}
        for place, extra in self.unknown_keys.extras(parts, decoded.reply_text).items():
            if extra is None:
                needs_reference.add(place)
            else:
                gathered.extras[at + place] = extra
        if decoded.envelopes is not None and gathered.envelopes is None:
            gathered.envelopes = [types.no_envelope] * at
        if gathered.envelopes is not None:
            for envelope in decoded.envelopes or ():
                envelope.response = UNSET  # or the replies would stay until the end of the block
            gathered.envelopes += decoded.envelopes or [types.no_envelope] * len(replies)
        gathered.places += [decoded.first + place for place in decoded.places]
        gathered.needs_reference.update([at + place for place in needs_reference])

    def _gather_images(
        self,
        gathered: _Gathered,
        datas: list[Any],
        decoded: decoding.Decoded,
        data: bytes,
        needs_reference: set[int],
    ) -> None:
        """Take sizes and, where wanted, prints."""
        parts = [part.images or _NO_IMAGES for part in datas]
        texts: dict[str, list[decoding.Image]] = {
            "best": [part.image_best for part in parts],
            "env": [part.image_env for part in parts],
        }
        if decoded.text.cuts:
            decoding.put_back(texts, decoded.places, data, decoded.text.cuts, needs_reference)
        key = self.options.print_key
        for name, column in texts.items():
            gathered.images[f"image_{name}_bytes"] += [
                None if text is None else len(text) for text in column
            ]
            if key:
                gathered.images[f"image_{name}_print"] += [
                    # an image that was cut out is a slice of ASCII bytes
                    keyed_hash(key, "image", text if isinstance(text, str) else str(text, "ascii"))
                    if text
                    else None
                    for text in column
                ]

    def _fast_rows(
        self, gathered: _Gathered, documents: decoding.Documents, block: Block
    ) -> tuple[pa.RecordBatch, decoding.Flags]:
        """Make columns of what was gathered; returns the batch and which of its rows hold."""
        n = len(gathered.places)
        kept = np.ones(n, bool)
        if not n:
            return row_batch([]), kept
        needs_reference, envelopes = gathered.needs_reference, gathered.envelopes
        batch, digests, no_risk = self.repeated.columns(gathered.combinations)
        table, floats = columns.numbers(gathered.elapsed, gathered.scores, gathered.quality)
        batch |= floats
        batch["request_id"] = request_ids = pa.array(gathered.request_ids, pa.string())
        needs_reference.update(columns.unfit_ids(request_ids))
        for name, values in gathered.images.items():
            batch[name] = pa.array(values, VERIFICATIONS.field(name).type)
        normalised = None
        if gathered.extras:
            extras = [gathered.extras.get(place, _NO_EXTRA) for place in range(n)]
            written, normalised = (list(texts) for texts in zip(*extras, strict=True))
            batch["extra"] = pa.array(written, pa.string())
        batch["content"] = columns.contents(table, digests, normalised)
        batch["issues"] = columns.issue_lists(n, no_risk, gathered.empties)
        batch |= self._envelope_columns.columns(envelopes, n, needs_reference)
        sent = None if envelopes is None else moments(envelopes, needs_reference)
        batch |= columns.times(request_ids, self.options.time_source, sent)
        batch["source"] = pa.repeat(pa.scalar(block.source), n)
        batch["source_row"] = pa.array(documents.rows[np.array(gathered.places, np.int64)])
        kept[list(needs_reference)] = False
        return column_batch(batch), kept

    def _reference_rows(
        self, documents: decoding.Documents, places: decoding.Places, block: Block
    ) -> tuple[list[Row], list[Reject]]:
        """Read through the reference parser what the fast path left."""
        rows: list[Row] = []
        rejects: list[Reject] = []
        for place in places.tolist():
            row, start = int(documents.rows[place]), int(documents.starts[place])
            data = block.data[start : documents.ends[place]]
            read = read_response(data, self.options, source=block.source, row=row)
            if isinstance(read, Refusal):
                offset = None if block.byte_offset is None else block.byte_offset + start
                digest = hashlib.sha256(data).hexdigest()
                rejects.append((row, offset, read.reason, read.detail, digest, len(data)))
            else:
                rows.append(read)
        return rows, rejects


@contextmanager
def _no_cyclic_gc() -> Iterator[None]:
    """Decoded replies form no cycles; the collector would walk them again and again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
