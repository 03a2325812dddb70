"""Blocks of bytes become record batches: the fast kernel, equal to `responses` on every input.

A block of whole lines is decoded at once into typed answers (`typed`), and these become columns
(`heads` for what repeats, `columns` for what does not, `surround` for envelopes). A block that
fails goes line by line; a line that fails, or that a step finds odd, goes through
`responses.read_response`. So the fast road only ever says yes: every reject and every issue but
the empty text comes from the reference, and a wrong yes is what the property test looks for.
"""

from __future__ import annotations

import gc
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec import UNSET

from verifyanalytics import columns, extras, pictures, surround
from verifyanalytics.envelope import ReadOptions, keyed_hash
from verifyanalytics.heads import Heads
from verifyanalytics.responses import Refusal, Row, read_response
from verifyanalytics.schema import REJECT_COLUMNS, VERIFICATION_COLUMNS
from verifyanalytics.sources import Block
from verifyanalytics.surround import Surround
from verifyanalytics.typed import NO_IMAGES, Types, Undecodable, unknown_key

LEARN_AFTER = 4
"""Answers in which a new key must be met before it is learnt."""

MAX_NOTICED = 1 << 10
"""New keys that are counted; hostile input must not fill the memory with names."""

_FIELDS = [c.field for c in VERIFICATION_COLUMNS if c.name != "batch"]
_FIELDS.append(pa.field("month", pa.string()))
_REJECTS = pa.schema([c.field for c in REJECT_COLUMNS if c.name not in ("batch", "rejected_at")])
_BLANK = b" \t\r\n"

Places = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


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


class _Documents(NamedTuple):
    """Where a block's responses stand.

    `is_regular` is true where each stands alone on its line and begins and ends with a brace.
    """

    rows: Places
    starts: Places
    ends: Places
    is_regular: bool


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
        self._types = Types()
        self._heads = Heads()
        self._extras = extras.Texts()
        self._surround = Surround(options)
        self._unknown: Counter[tuple[str, str]] = Counter()
        self._is_enveloped = False

    def flatten(self, block: Block) -> Flattened:
        """Flatten one block; memory is a small multiple of its size."""
        documents = _documents(block)
        with _no_cyclic_gc():
            decoded = self._decode(block.data, documents)
            batch, kept = self._fast_rows(decoded, documents, block)
        is_slow = np.ones(len(documents.rows), bool)
        is_slow[np.array(decoded.places, np.int64)[kept]] = False
        rows, rejects = self._slow_rows(documents, np.flatnonzero(is_slow), block)
        merged = _merged(batch, kept, rows)
        refused = _reject_batch(block, rejects)
        return Flattened(merged, refused, merged.num_rows + refused.num_rows, len(block.data))

    def _decode(self, data: bytes, documents: _Documents) -> _Decoded:
        """Decode what the types accept."""
        n = len(documents.rows)
        if not self.options.is_plain:
            return _Decoded([], None, [], is_large=False)
        is_large = len(data) > n * pictures.LARGE
        if documents.is_regular:
            decoder = self._decoders(is_large)[self._is_enveloped]
            try:
                lines = decoder.decode_lines(data)
            except Undecodable:
                lines = []
            if len(lines) == n:  # else two texts share a line
                envelopes = lines if self._is_enveloped else None
                replies = [None] * n if self._is_enveloped else lines
                return _Decoded(*self._opened(replies, envelopes), range(n), is_large)
        return self._decode_each(data, documents, is_large)

    def _decoders(self, is_large: bool) -> tuple[Any, Any]:
        types = self._types
        return (types.large_reply if is_large else types.reply), types.envelope

    def _decode_each(self, data: bytes, documents: _Documents, is_large: bool) -> _Decoded:
        """Decode one by one, and learn from what fails."""
        lines: list[Any] = []
        enveloped: list[bool] = []
        places: list[int] = []
        view = memoryview(data)
        bounds = zip(documents.starts.tolist(), documents.ends.tolist(), strict=True)
        for place, (start, end) in enumerate(bounds):
            line = self._decode_line(view[start:end], self._decoders(is_large))
            if line is not None:
                lines.append(line)
                enveloped.append(self._is_enveloped)
                places.append(place)
        if not any(enveloped):
            return _Decoded(lines, None, places, is_large)
        pairs = list(zip(lines, enveloped, strict=True))
        envelopes = [line if is_one else self._types.no_envelope for line, is_one in pairs]
        replies = [None if is_one else line for line, is_one in pairs]
        return _Decoded(*self._opened(replies, envelopes), places, is_large)

    def _decode_line(self, line: memoryview, decoders: tuple[Any, Any]) -> Any:
        """Decode a line as what the last one was, else as the other; None where neither fits."""
        try:
            return decoders[self._is_enveloped].decode(line)
        except Undecodable as error:
            if not self._notice(error):
                return None
        try:
            decoded = decoders[not self._is_enveloped].decode(line)
        except Undecodable as error:
            self._notice(error)
            return None
        self._is_enveloped = not self._is_enveloped
        return decoded

    def _notice(self, error: Exception) -> bool:
        """Count an unknown key that ended the fast road, if one did; learn what comes often."""
        key = unknown_key(error)
        if key is None:
            return False
        if len(self._unknown) > MAX_NOTICED:
            self._unknown.clear()
        self._unknown[key] += 1
        if self._unknown[key] == LEARN_AFTER:
            self._types.learn(*key)
        return True

    def _opened(
        self, replies: list[Any], envelopes: list[Any] | None
    ) -> tuple[list[Any], list[Any] | None]:
        """Take the replies out of the envelopes; one that is missing or unfit is an empty one."""
        for place, envelope in enumerate(envelopes or ()):
            reply = envelope.response
            if isinstance(reply, str):
                try:
                    reply = self._types.reply.decode(reply)
                except Undecodable as error:
                    self._notice(error)
                    reply = UNSET
            if replies[place] is None:
                replies[place] = self._types.no_reply if reply is UNSET else reply
        return replies, envelopes

    def _fast_rows(
        self, decoded: _Decoded, documents: _Documents, block: Block
    ) -> tuple[pa.RecordBatch, Flags]:
        """Make columns of decoded answers; returns the batch and which of its rows hold."""
        n = len(decoded.replies)
        kept = np.ones(n, bool)
        if not n:
            return _row_batch([]), kept
        odd: set[int] = set()
        made = self._reply_columns(decoded, documents, block.data, odd)
        made |= self._surround.columns(decoded.envelopes, n, odd)
        made |= self._times(decoded.envelopes, made["request_id"], odd)
        made["source"] = pa.repeat(pa.scalar(block.source), n)
        made["source_row"] = pa.array(documents.rows[np.array(decoded.places, np.int64)])
        kept[list(odd)] = False
        return _batch(made), kept

    def _reply_columns(
        self, decoded: _Decoded, documents: _Documents, data: bytes, odd: set[int]
    ) -> dict[str, pa.Array]:
        replies, types = decoded.replies, self._types
        datas = [reply.data or types.no_data for reply in replies]
        comparisons = [part.source_comp_details or types.no_comparison for part in datas]
        heads = self._heads_of(replies, datas, comparisons, odd)
        made, digests, no_risk = self._heads.columns(heads)
        faces = [part.image_face_detail for part in comparisons]
        envs = [part.image_env_detail for part in comparisons]
        numbers = np.empty((len(replies), 24))
        numbers[:, 0] = columns.elapsed([reply.time_elapsed for reply in replies], odd)
        numbers[:, 1] = [part.score for part in comparisons]
        numbers[:, 2:13] = columns.quality(faces, odd)
        numbers[:, 13:] = columns.quality(envs, odd)
        numbers += 0.0  # minus zero is zero
        request_ids = pa.array([reply.request_id for reply in replies], pa.string())
        odd.update(columns.unfit_ids(request_ids).tolist())
        texts = self._extra_texts(decoded, datas, comparisons, documents, data, odd)
        normalised = None if texts is None else [text and text[1] for text in texts]
        return made | {
            "request_id": request_ids,
            **columns.float_columns(numbers),
            **self._images([d.images or NO_IMAGES for d in datas], decoded, documents, data, odd),
            "issues": columns.issue_lists(_empties(no_risk, faces, envs), len(replies)),
            "extra": None if texts is None else pa.array([t and t[0] for t in texts], pa.string()),
            "content": columns.contents(numbers, digests, normalised),
        }

    def _heads_of(
        self, replies: list[Any], datas: list[Any], comparisons: list[Any], odd: set[int]
    ) -> list[int]:
        keys = [
            (
                r.code, r.message, d.result, d.risk_result, c.alive, c.thresholds,
                d.algorithm_base_resp, d.req_measure_info,
                d.verify_algorithm_base_resp, d.verify_req_measure_info,
            )
            for r, d, c in zip(replies, datas, comparisons, strict=True)
        ]  # fmt: skip
        table = self._heads
        table.shrink()
        heads = [table[key] for key in keys]
        if 0 in heads:
            odd.update(place for place, head in enumerate(heads) if not head)
        return heads

    def _extra_texts(
        self,
        decoded: _Decoded,
        datas: list[Any],
        comparisons: list[Any],
        documents: _Documents,
        data: bytes,
        odd: set[int],
    ) -> list[tuple[str, str] | None] | None:
        parts = {"reply": decoded.replies, "data": datas, "comparison": comparisons}
        found = extras.found_keys(parts, self._types.learnt)
        if not found:
            return None
        texts: list[tuple[str, str] | None] = [None] * len(datas)
        for place, keys in found.items():
            text = self._text_of(decoded, documents, data, place)
            texts[place] = self._extras[tuple(keys)] if extras.is_sound(text) else None
            if texts[place] is None:
                odd.add(place)
        return texts

    def _text_of(self, decoded: _Decoded, documents: _Documents, data: bytes, place: int) -> bytes:
        """The JSON text a reply was decoded from."""
        envelope = decoded.envelopes and decoded.envelopes[place]
        if envelope and isinstance(envelope.response, str):
            return str(envelope.response).encode()
        document = decoded.places[place]
        return data[documents.starts[document] : documents.ends[document]]

    def _images(
        self,
        images: list[Any],
        decoded: _Decoded,
        documents: _Documents,
        data: bytes,
        odd: set[int],
    ) -> dict[str, pa.Array]:
        best: Sequence[pictures.Picture] = [part.image_best for part in images]
        env: Sequence[pictures.Picture] = [part.image_env for part in images]
        if decoded.is_large:
            places = np.array(decoded.places, np.int64)
            starts, ends = documents.starts[places].tolist(), documents.ends[places].tolist()
            pairs = list(zip(best, env, strict=True))
            best, env = zip(*pictures.texts(pairs, data, starts, ends, odd), strict=True)
        made = {
            "image_best_bytes": columns.image_sizes(best),
            "image_env_bytes": columns.image_sizes(env),
        }
        key = self.options.key if self.options.image_prints else None
        if key:
            for name, texts in (("image_best_print", best), ("image_env_print", env)):
                prints = [
                    keyed_hash(key, "image", pictures.characters(text)) if text else None
                    for text in texts
                ]
                made[name] = pa.array(prints, pa.string())
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
        self, documents: _Documents, slow: Places, block: Block
    ) -> tuple[list[Row], list[tuple[Any, ...]]]:
        """Read through the reference what the fast road left."""
        rows: list[Row] = []
        rejects = []
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


class _Decoded(NamedTuple):
    """Answers the types accepted, what stood around them, and their places in the block.

    `is_large`: pictures may have been skipped.
    """

    replies: list[Any]
    envelopes: list[Any] | None
    places: Sequence[int]
    is_large: bool


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


def _documents(block: Block) -> _Documents:
    """Find the responses of a block: as the reader says, else one to a line that is not blank."""
    if block.documents is not None:
        spans = np.array(block.documents, np.int64).reshape(-1, 3)
        return _Documents(spans[:, 0], spans[:, 1], spans[:, 2], is_regular=False)
    data = block.data
    ends = _line_ends(data)
    starts = np.empty_like(ends)
    starts[:1], starts[1:] = 0, ends[:-1] + 1
    rows = np.arange(block.first_row, block.first_row + len(ends))
    # between `}` and `{` on the next line no JSON text can go on: each line is a text of its own
    characters = np.frombuffer(data, np.uint8)
    opens, closes = characters[starts], characters[ends - 1]
    if bool((opens == ord("{")).all() and (closes == ord("}")).all()):
        return _Documents(rows, starts, ends, is_regular=True)
    bounds = zip(starts.tolist(), ends.tolist(), strict=True)
    filled = np.array([bool(data[start:end].strip(_BLANK)) for start, end in bounds], bool)
    return _Documents(rows[filled], starts[filled], ends[filled], is_regular=False)


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


def _empties(
    no_risk: list[int], faces: list[str | None], envs: list[str | None]
) -> dict[int, list[str]]:
    """Name the nested texts that were empty, in the order in which the reference meets them."""
    noted = {place: ["empty:$.data.risk_result"] for place in no_risk}
    for image, texts in (("face", faces), ("env", envs)):
        if "" in texts:
            path = f"empty:$.data.source_comp_details.image_{image}_detail"
            for place in [place for place, text in enumerate(texts) if text == ""]:
                noted.setdefault(place, []).append(path)
    return noted


def _batch(made: dict[str, pa.Array]) -> pa.RecordBatch:
    n = len(made["request_id"])
    context = sorted(name for name in made if name.startswith("ctx_"))
    fields = [*_FIELDS, *(pa.field(name, pa.string()) for name in context)]
    arrays = [made.get(field.name) for field in fields]
    arrays = [
        pa.nulls(n, field.type) if made.get(field.name) is None else made[field.name]
        for field in fields
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def _row_batch(rows: list[Row]) -> pa.RecordBatch:
    names = [field.name for field in _FIELDS]
    names += {name for row in rows for name in row if name.startswith("ctx_")}
    types = {field.name: field.type for field in _FIELDS}
    made = {
        name: pa.array([row.get(name) for row in rows], types.get(name, pa.string()))
        for name in names
    }
    return _batch(made)


def _merged(fast: pa.RecordBatch, kept: Flags, rows: list[Row]) -> pa.RecordBatch:
    """Bring what holds of both roads' rows together, in the order of the source."""
    made = fast
    if rows:
        slow = _row_batch(rows)
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
    return _batch({name: batch[name] if name in batch.schema.names else None for name in names})


def _reject_batch(block: Block, rejects: list[tuple[Any, ...]]) -> pa.RecordBatch:
    own = [(r.row, r.byte_offset, r.reason, r.detail, r.sha256, r.n_bytes) for r in block.rejects]
    rejects = sorted([*own, *rejects], key=lambda reject: reject[0])
    columns_ = list(zip(*rejects, strict=True)) or [()] * (len(_REJECTS) - 1)
    values = [[block.source] * len(rejects), *columns_]
    arrays = [pa.array(column, field.type) for column, field in zip(values, _REJECTS, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=_REJECTS)
