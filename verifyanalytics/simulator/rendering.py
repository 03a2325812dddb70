"""Rows written as the vendor writes them: JSON lines, bare or in our own envelope.

The text of a block is put together column by column by Arrow; the result is one buffer of lines
that can be written as it is. Numbers are written from whole numbers (module `details`), never by
a float formatter, so that the bytes are the same everywhere.
"""

from __future__ import annotations

import base64
import functools
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from verifyanalytics.schema import IMAGES, QUALITY_FIELDS, THRESHOLD_LEVELS
from verifyanalytics.simulator.details import Details, decimal_text
from verifyanalytics.simulator.outcomes import OUTCOMES, Outcome
from verifyanalytics.simulator.population import YES, Block, Draw, risk_scores
from verifyanalytics.simulator.world import APP_VERSIONS, CHANNELS, REGIONS, REQ_KEYS, TAGS, World

FORMS = ("envelope", "answer", "mixed")
"""In our own envelope (time, token, subject, context beside the answer), the answer alone, or
each row one or the other."""

MAX_IMAGE_BLOCK = 8 * 1024 * 1024  # bytes of images made at a time


def lines(block: Block, seed: int, world: World, form: str = "envelope") -> pa.Array:
    """Return each row as a JSON line, its line feed included.

    Parameters
    ----------
    block : Block
    seed, world : int, World
        Those the block was drawn with.
    form : {"envelope", "answer", "mixed"}

    Returns
    -------
    pyarrow.Array
        Of type large_binary, in the order of the rows.
    """
    if form == "mixed":
        own = Draw(seed).happens("envelope", block.row, 0.5)
        both = [lines(block.take(own), seed, world), lines(block.take(~own), seed, world, "answer")]
        order = np.argsort(np.argsort(~own, kind="stable"), kind="stable")
        return pa.concat_arrays(both).take(pa.array(order))
    parts, places = [], []
    for name, render in _SHAPES.items():
        rows = np.flatnonzero(_shape_of()[block.outcome] == name)
        for some in _portions(rows, world):
            part = block.take(some)
            details = Details(part, seed, world)
            answers = render(part, details, seed, world)
            ended = _enveloped(answers, part, details) if form == "envelope" else (*answers, b"\n")
            parts.append(_joined(*ended))
            places.append(some)
    if not parts:
        return pa.array([], pa.large_binary())
    order = np.empty(len(block), dtype=np.int64)
    order[np.concatenate(places)] = np.arange(len(block))
    return pa.concat_arrays(parts).take(pa.array(order))


def text_of(lines_: pa.Array) -> memoryview:
    """Return the bytes of all lines of an array, one after the other, without a copy."""
    if not len(lines_):
        return memoryview(b"")
    offsets = np.frombuffer(lines_.buffers()[1], np.int64)[lines_.offset :][: len(lines_) + 1]
    return memoryview(lines_.buffers()[2])[int(offsets[0]) : int(offsets[-1])]


def _portions(rows: NDArray[np.intp], world: World) -> list[NDArray[np.intp]]:
    """Split rows so that their images fit into memory."""
    if not len(rows):
        return []
    at_once = max(1, MAX_IMAGE_BLOCK // max(1, 2 * world.image_bytes))
    return [rows[first : first + at_once] for first in range(0, len(rows), at_once)]


def _joined(*pieces: Any) -> pa.Array:
    """Join pieces row by row; a bytes piece stands in every row, a null in none."""
    large = [pa.scalar(p, pa.large_binary()) if isinstance(p, bytes) else p for p in pieces]
    large = [
        p.cast(pa.large_binary()) if isinstance(p, pa.Array) and p.type != pa.large_binary() else p
        for p in large
    ]
    return pc.binary_join_element_wise(
        *large,
        pa.scalar(b"", pa.large_binary()),
        null_handling="replace",
        null_replacement=b"",
    )


def _enveloped(answers: tuple[Any, ...], block: Block, details: Details) -> tuple[Any, ...]:
    http = _table(tuple(str(o.http_status) for o in OUTCOMES)).take(pa.array(block.outcome))
    return (
        b'{"occurred_at":"', details.occurred_text,
        b'","action":"CertVerify","req_key":"',
        _table(REQ_KEYS).take(pa.array(block.no_source.astype(np.int64))),
        b'","byted_token":"', details.token, b'","subject":"', details.subject,
        b'","http_status":', http,
        b',"context":{"channel":"',
        _table(tuple(name for name, _ in CHANNELS)).take(pa.array(block.channel)),
        b'","app_version":"', _table(APP_VERSIONS).take(pa.array(block.version)),
        b'","region":"', _table(tuple(name for name, _ in REGIONS)).take(pa.array(block.region)),
        b'"},"response":', *answers, b"}\n",
    )  # fmt: skip


def _graded(block: Block, details: Details, seed: int, world: World) -> tuple[Any, ...]:
    """Answers with images, quality and thresholds; a score unless it is withheld."""
    regimes = tuple(_thresholds_text(t) for t in world.tuples())
    scored = np.array([o.scored for o in OUTCOMES])[block.outcome]
    score = _scores().take(pa.array(np.where(scored, block.hidden, -1) + 1))
    return (
        *_head(block, details, seed, world),
        _images(block, seed, world),
        b',"source_comp_details":{', _ALIVE.take(pa.array(block.alive)),
        *_quality(details), score,
        b'"thresholds":', _table(regimes).take(pa.array(block.regime)), b"}",
        *_tail(block, details, seed, world),
    )  # fmt: skip


def _ungraded(block: Block, details: Details, seed: int, world: World) -> tuple[Any, ...]:
    """Business failures before any image was looked at."""
    return (*_head(block, details, seed, world), *_tail(block, details, seed, world))


def _fault(block: Block, details: Details, seed: int, world: World) -> tuple[Any, ...]:
    """Service faults: code, hardly any data, a status."""
    del seed, world
    heads = _table(tuple(_fault_head(o) for o in OUTCOMES)).take(pa.array(block.outcome))
    statuses = _table(tuple(str(o.code) for o in OUTCOMES)).take(pa.array(block.outcome))
    return (
        heads, details.request_id, b'","status":', statuses,
        b',"time_elapsed":"', details.fault_text, b'"}',
    )  # fmt: skip


def _gateway(block: Block, details: Details, seed: int, world: World) -> tuple[Any, ...]:
    """Errors of the gateway: the service was never reached."""
    del seed, world
    tails = _table(tuple(_gateway_tail(o) for o in OUTCOMES)).take(pa.array(block.outcome))
    return b'{"ResponseMetadata":{"RequestId":"', details.request_id, tails


_SHAPES = {"graded": _graded, "ungraded": _ungraded, "fault": _fault, "gateway": _gateway}


@functools.cache
def _shape_of() -> NDArray[np.str_]:
    return np.array([shape(outcome) for outcome in OUTCOMES])


def shape(outcome: Outcome) -> str:
    """Return which of the four forms an outcome is written in."""
    if outcome.gateway is not None:
        return "gateway"
    if outcome.measure is None:
        return "fault"
    return "graded" if outcome.graded else "ungraded"


def _head(block: Block, details: Details, seed: int, world: World) -> tuple[Any, ...]:
    codes = _table(tuple(str(o.code) for o in OUTCOMES)).take(pa.array(block.outcome))
    del details, seed, world
    risk = _risk_texts().take(pa.array(np.where(block.risk_asked, block.tags, -1) + 1))
    return (
        b'{"code":', codes, b',"data":{"result":',
        _table(("false", "true")).take(pa.array((block.result == YES).astype(np.int64))), risk,
    )  # fmt: skip


def _tail(block: Block, details: Details, seed: int, world: World) -> tuple[Any, ...]:
    outcome = pa.array(block.outcome)
    measured = ~Draw(seed).happens("measure_absent", block.row, world.measure_absent)
    measure = _table(tuple(_measure_text(o) for o in OUTCOMES)).take(outcome)
    return (
        b',"algorithm_base_resp":', _table(tuple(_sub_text(o) for o in OUTCOMES)).take(outcome),
        pc.if_else(pa.array(measured), measure, pa.scalar(None, pa.binary())),
        b'},"message":', _table(tuple(_quoted(o.message) for o in OUTCOMES)).take(outcome),
        b',"request_id":"', details.request_id,
        b'","time_elapsed":"', details.elapsed_text, b'"}',
    )  # fmt: skip


def _quality(details: Details) -> list[Any]:
    """Both nested JSON texts, their quotes escaped."""
    pieces: list[Any] = []
    for image in IMAGES:
        before = f'"image_{image}_detail":"{{'.encode()
        for field in QUALITY_FIELDS:
            pieces += [before + f'\\"{field}\\":'.encode(), details.quality_text(image, field)]
            before = b","
        pieces.append(b'}",')
    return pieces


def _images(block: Block, seed: int, world: World) -> pa.Array | bytes:
    size = world.image_bytes
    if not size:
        return b',"images":{"image_best":"","image_env":""}'
    texts = [_random_base64(seed, name, block, size) for name in ("image_best", "image_env")]
    return _joined(
        b',"images":{"image_best":"', texts[0], b'","image_env":"', texts[1], b'"}'
    )  # fmt: skip


def _random_base64(seed: int, name: str, block: Block, size: int) -> pa.Array:
    """Random bytes of each row as base64; the last group is cut at the size."""
    words = -(-size // 4) * 3 // 8 + 1  # 64-bit words that give at least `size` characters
    counter, draw = np.arange(words), Draw(seed)
    texts = []
    for row in (block.row * (1 << 24)).tolist():
        raw = draw.bits(name, row + counter).astype("<u8", copy=False)
        texts.append(base64.b64encode(raw.data)[:size])
    return pa.array(texts, pa.large_binary())


@functools.lru_cache(maxsize=64)
def _table(texts: tuple[str | bytes, ...]) -> pa.Array:
    return pa.array([t if isinstance(t, bytes) else t.encode() for t in texts], pa.binary())


_ALIVE = pa.array([b'"alive":false,', b'"alive":true,', None], pa.binary())


@functools.cache
def _scores() -> pa.Array:
    """Score members by hundredths plus one; the first is for no score."""
    return pa.array(
        [None, *(b'"score":%b,' % decimal_text(i, 100) for i in range(10_001))], pa.binary()
    )


@functools.cache
def _risk_texts() -> pa.Array:
    """risk_result members by set of tags plus one; the first is for no risk result."""
    members: list[bytes | None] = [None]
    for mask, score in enumerate(risk_scores().tolist()):
        risk = {"score": score, "tags": tag_list(mask)}
        text = json.dumps(json.dumps(risk, separators=(",", ":")))
        members.append(f',"risk_result":{text}'.encode())
    return pa.array(members, pa.binary())


def tag_list(mask: int) -> list[str]:
    """Return the codes of a set of tags, in the vendor's order."""
    return [tag.code for place, tag in enumerate(TAGS) if mask >> place & 1]


def _thresholds_text(thresholds: tuple[float, ...]) -> bytes:
    values = (decimal_text(round(t * 100), 100) for t in thresholds)
    pairs = (b'"%b":%b' % (n.encode(), v) for n, v in zip(THRESHOLD_LEVELS, values, strict=True))
    return b"{" + b",".join(pairs) + b"}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _sub_text(outcome: Outcome) -> str:
    return f'{{"status_code":{outcome.sub_code},"status_message":{_quoted(outcome.sub_message)}}}'


def _measure_text(outcome: Outcome) -> str:
    measure = {"measure_type": "query_num", "value": outcome.measure}
    return f',"req_measure_info":{json.dumps(measure, separators=(",", ":"))}'


def _fault_head(outcome: Outcome) -> str:
    data = "null"
    if outcome.sub_code is not None:
        data = f'{{"algorithm_base_resp":{_sub_text(outcome)},"binary_data_base64":[]}}'
    message = _quoted(outcome.message)
    return f'{{"code":{outcome.code},"data":{data},"message":{message},"request_id":"'


def _gateway_tail(outcome: Outcome) -> str:
    number, code = outcome.gateway or (None, "")
    error = {"CodeN": number} if number is not None else {}
    body = json.dumps({**error, "Code": code, "Message": outcome.message}, separators=(",", ":"))
    return (
        '","Action":"CertVerify","Version":"2022-08-31","Service":"cv","Region":"cn-north-1",'
        f'"Error":{body}}}}}'
    )
