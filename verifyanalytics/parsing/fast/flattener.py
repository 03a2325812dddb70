"""Blocks of bytes become record batches: the fast kernel, equal to `responses` on every input.

A block of whole lines is decoded stretch by stretch into typed answers (`_flatten_decoding`,
`typed`), what they say is gathered while it is at hand, and becomes columns once for the block
(`heads` for what repeats, `columns` for what does not, `surround` for envelopes). A stretch that
fails goes line by line; a line that fails, or that a step finds odd, goes through
`responses.read_response`. So the fast road only ever says yes: every reject and every issue but
the empty text comes from the reference, and a wrong yes is what the property test looks for.
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

from verifyanalytics.parsing.envelope import ReadOptions, keyed_hash
from verifyanalytics.parsing.fast import columns
from verifyanalytics.parsing.fast import envelope_columns as surround
from verifyanalytics.parsing.fast import images as pictures
from verifyanalytics.parsing.fast import unknown_keys as extras
from verifyanalytics.parsing.fast.batches import (
    Documents,
    Flags,
    Places,
    Reject,
    column_batch,
    documents_of,
    merged,
    reject_batch,
    row_batch,
)
from verifyanalytics.parsing.fast.decoding import Decoded, Decoding
from verifyanalytics.parsing.fast.envelope_columns import Surround
from verifyanalytics.parsing.fast.repeated import Heads
from verifyanalytics.parsing.fast.typed import NO_IMAGES
from verifyanalytics.parsing.reference import Refusal, Row, read_response
from verifyanalytics.schema import IMAGES, VERIFICATIONS
from verifyanalytics.sources.reading import Block

_NO_EXTRA = (None, None)


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


@dataclass(slots=True)
class _Gathered:
    """What the fast road knows of a block's answers, which are counted from 0 as they come.

    Attributes
    ----------
    places : list of int
        Which of the block's documents each answer is.
    request_ids, heads, elapsed, scores : list
        An item an answer; heads are numbers that `Heads` gave.
    quality : dict
        Image → the eleven measures of each answer, packed, in pieces.
    images : dict
        Column → sizes or prints.
    empties : dict
        Image → answers in which its detail was the empty text.
    extras : dict
        Answer → its `extra` as written and as normalised.
    envelopes : list or None
        None as long as no answer had one.
    odd : set of int
        Answers that only the reference can read.
    """

    places: list[int] = field(default_factory=list)
    request_ids: list[str | None] = field(default_factory=list)
    heads: list[int] = field(default_factory=list)
    elapsed: list[float] = field(default_factory=list)
    scores: list[float | None] = field(default_factory=list)
    quality: dict[str, list[bytes]] = field(default_factory=lambda: {image: [] for image in IMAGES})
    images: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    empties: dict[str, list[int]] = field(default_factory=dict)
    extras: dict[int, tuple[str, str]] = field(default_factory=dict)
    envelopes: list[Any] | None = None
    odd: set[int] = field(default_factory=set)


class Flattener:
    r"""Flattens one block after another; the same rows however the input is cut into blocks.

    Parameters
    ----------
    options : ReadOptions

    Examples
    --------
    >>> from verifyanalytics.sources import Block
    >>> block = Block("answers.ndjson", b'{"code":10000,"request_id":"1"}\n{"code":NaN}\n', 1, 0)
    >>> flat = Flattener(ReadOptions()).flatten(block)
    >>> flat.verifications.num_rows, flat.rejects["reason"].to_pylist()
    (1, ['syntax'])
    """

    def __init__(self, options: ReadOptions) -> None:
        self.options = options
        self._decoding = Decoding()
        self._heads = Heads()
        self._extras = extras.Texts()
        self._surround = Surround(options)

    def flatten(self, block: Block) -> Flattened:
        """Flatten one block; memory is a small multiple of its size."""
        documents = documents_of(block)
        with _no_cyclic_gc():
            gathered = self._gather(block.data, documents)
            batch, kept = self._fast_rows(gathered, documents, block)
        is_slow = np.ones(len(documents.rows), bool)
        is_slow[np.array(gathered.places, np.int64)[kept]] = False
        rows, rejects = self._slow_rows(documents, np.flatnonzero(is_slow), block)
        made = merged(batch, kept, rows)
        refused = reject_batch(block, rejects)
        return Flattened(made, refused, made.num_rows + refused.num_rows, len(block.data))

    def _gather(self, data: bytes, documents: Documents) -> _Gathered:
        """Decode what the types accept, and take from each answer what columns are made of."""
        gathered = _Gathered()
        if self.options.is_plain:
            self._heads.shrink()
            for decoded in self._decoding.stretches(data, documents):
                self._take(gathered, decoded, data)
        return gathered

    def _take(self, gathered: _Gathered, decoded: Decoded, data: bytes) -> None:
        """Take what a stretch says; its answers are let go of while they are still in the cache."""
        replies, types = decoded.replies, self._decoding.types
        datas = [reply.data or types.no_data for reply in replies]
        comparisons = [part.source_comp_details or types.no_comparison for part in datas]
        odd: set[int] = set()
        at = len(gathered.places)
        gathered.request_ids += [reply.request_id for reply in replies]
        gathered.heads += self._heads_of(replies, datas, comparisons, odd)
        gathered.elapsed += columns.elapsed([reply.time_elapsed for reply in replies], odd)
        gathered.scores += [part.score for part in comparisons]
        details = {
            "face": [part.image_face_detail for part in comparisons],
            "env": [part.image_env_detail for part in comparisons],
        }
        for image, texts in details.items():
            gathered.quality[image].append(columns.quality(texts, odd))
            if "" in texts:
                empty = [at + place for place, text in enumerate(texts) if text == ""]
                gathered.empties.setdefault(image, []).extend(empty)
        for name, column in self._images(
            [d.images or NO_IMAGES for d in datas], decoded, data, odd
        ):
            gathered.images[name] += column
        parts = {"reply": replies, "data": datas, "comparison": comparisons}
        for place, extra in self._extra_texts(decoded, parts, odd):
            gathered.extras[at + place] = extra
        self._take_envelopes(gathered, decoded.envelopes, len(replies))
        gathered.places += [decoded.first + place for place in decoded.places]
        gathered.odd.update([at + place for place in odd])

    def _take_envelopes(self, gathered: _Gathered, envelopes: list[Any] | None, n: int) -> None:
        if envelopes is None and gathered.envelopes is None:
            return
        none = self._decoding.types.no_envelope
        if gathered.envelopes is None:
            gathered.envelopes = [none] * len(gathered.places)
        for envelope in envelopes or ():
            envelope.response = UNSET  # or the replies would stay until the end of the block
        gathered.envelopes += envelopes or [none] * n

    def _heads_of(
        self, replies: list[Any], datas: list[Any], comparisons: list[Any], odd: set[int]
    ) -> list[int]:
        table = self._heads
        heads = [
            table[
                r.code, r.message, d.result, d.risk_result, c.alive, c.thresholds,
                d.algorithm_base_resp, d.req_measure_info,
                d.verify_algorithm_base_resp, d.verify_req_measure_info,
            ]
            for r, d, c in zip(replies, datas, comparisons, strict=True)
        ]  # fmt: skip
        if 0 in heads:
            odd.update(place for place, head in enumerate(heads) if not head)
        return heads

    def _images(
        self, images: list[Any], decoded: Decoded, data: bytes, odd: set[int]
    ) -> Iterator[tuple[str, list[Any]]]:
        """Sizes and, where wanted, prints: column's name and values."""
        texts: dict[str, list[pictures.Picture]] = {
            "best": [part.image_best for part in images],
            "env": [part.image_env for part in images],
        }
        if decoded.text.cuts:
            pictures.put_back(texts, decoded.places, data, decoded.text.cuts, odd)
        key = self.options.key if self.options.image_prints else None
        for name, column in texts.items():
            yield f"image_{name}_bytes", [None if text is None else len(text) for text in column]
            if key:
                prints = [
                    keyed_hash(key, "image", pictures.characters(text)) if text else None
                    for text in column
                ]
                yield f"image_{name}_print", prints

    def _extra_texts(
        self, decoded: Decoded, parts: dict[str, list[Any]], odd: set[int]
    ) -> Iterator[tuple[int, tuple[str, str]]]:
        """The `extra` of answers with learnt keys, as written and as normalised."""
        for place, keys in extras.found_keys(parts, self._decoding.types.learnt).items():
            is_sound = extras.is_sound(decoded.sent(place))
            texts = self._extras[tuple(keys)] if is_sound else None
            if texts is None:
                odd.add(place)
            else:
                yield place, texts

    def _fast_rows(
        self, gathered: _Gathered, documents: Documents, block: Block
    ) -> tuple[pa.RecordBatch, Flags]:
        """Make columns of what was gathered; returns the batch and which of its rows hold."""
        n = len(gathered.places)
        kept = np.ones(n, bool)
        if not n:
            return row_batch([]), kept
        odd = gathered.odd
        made = self._reply_columns(gathered)
        made |= self._surround.columns(gathered.envelopes, n, odd)
        made |= self._times(gathered.envelopes, made["request_id"], odd)
        made["source"] = pa.repeat(pa.scalar(block.source), n)
        made["source_row"] = pa.array(documents.rows[np.array(gathered.places, np.int64)])
        kept[list(odd)] = False
        return column_batch(made), kept

    def _reply_columns(self, gathered: _Gathered) -> dict[str, pa.Array]:
        n = len(gathered.places)
        made, digests, no_risk = self._heads.columns(gathered.heads)
        numbers = columns.numbers(gathered.elapsed, gathered.scores, gathered.quality)
        request_ids = pa.array(gathered.request_ids, pa.string())
        gathered.odd.update(columns.unfit_ids(request_ids).tolist())
        made |= {"request_id": request_ids, **columns.float_columns(numbers)}
        for name, values in gathered.images.items():
            made[name] = pa.array(values, VERIFICATIONS.field(name).type)
        written = normalised = None
        if gathered.extras:
            texts = [gathered.extras.get(place, _NO_EXTRA) for place in range(n)]
            written, normalised = (list(column) for column in zip(*texts, strict=True))
            made["extra"] = pa.array(written, pa.string())
        made["content"] = columns.contents(numbers, digests, normalised)
        made["issues"] = columns.issue_lists(_issues(no_risk, gathered.empties), n)
        return made

    def _times(
        self, envelopes: list[Any] | None, request_ids: pa.Array, odd: set[int]
    ) -> dict[str, pa.Array]:
        """Time of each answer: what the envelope says, else the date in its id."""
        moments, known = columns.dates_in(request_ids)
        sources = np.where(known, 1, 0)
        if envelopes is not None:
            said, is_said = surround.moments(envelopes, odd)
            moments, known = np.where(is_said, said, moments), known | is_said
            sources[is_said] = 2
        names = pa.array([None, "request_id", self.options.time_source], pa.string())
        return {
            **columns.time_columns(moments, known),
            "occurred_at_source": names.take(pa.array(sources)),
        }

    def _slow_rows(
        self, documents: Documents, slow: Places, block: Block
    ) -> tuple[list[Row], list[Reject]]:
        """Read through the reference what the fast road left."""
        rows: list[Row] = []
        rejects: list[Reject] = []
        for place in slow.tolist():
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
    """Decoded answers form no cycles; the collector would walk them again and again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _issues(no_risk: list[int], empties: dict[str, list[int]]) -> dict[int, list[str]]:
    """Name the nested texts that were empty, in the order in which the reference meets them."""
    noted = {place: ["empty:$.data.risk_result"] for place in no_risk}
    for image in IMAGES:
        path = f"empty:$.data.source_comp_details.image_{image}_detail"
        for place in empties.get(image, ()):
            noted.setdefault(place, []).append(path)
    return noted
