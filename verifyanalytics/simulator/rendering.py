"""Rows written as the vendor writes them: JSON lines, bare or in our own envelope.

Arrow puts the text of a block together column by column; the result is one buffer of lines that
can be written as it is. Numbers are written from whole numbers (see `details`), never by a float
formatter, so that the bytes are the same everywhere. `service_body` and `gateway_body` are the
replies that are no answer of the service; the served API sends them too.
"""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from verifyanalytics.schema import IMAGES, QUALITY_FIELDS, THRESHOLD_LEVELS
from verifyanalytics.simulator.details import Details, decimal_text
from verifyanalytics.simulator.population import (
    OUTCOMES,
    SCORED,
    YES,
    Block,
    Draw,
    Outcome,
    risk_scores,
)
from verifyanalytics.simulator.world import APP_VERSIONS, CHANNELS, REGIONS, TAGS, World
from verifyanalytics.vendor.api import API_VERSION, REGION, SERVICE, VERIFY, VERIFY_KEYS

FORMS = ("envelope", "answer", "mixed")
"""In our own envelope (time, token, subject, context beside the answer), the answer alone, or
each row one or the other."""

MAX_IMAGE_BLOCK = 8 * 1024 * 1024  # bytes of images in memory at a time


def lines(block: Block, seed: int, world: World, form: str = "envelope") -> pa.Array:
    """Return each row as a JSON line (large_binary), its line feed included, in their order.

    `seed` and `world` are those that the block was drawn with; `form` is one of `FORMS`.
    """
    if form == "mixed":
        own = Draw(seed).happens("envelope", block.row, 0.5)
        both = [lines(block.take(own), seed, world), lines(block.take(~own), seed, world, "answer")]
        order = np.argsort(np.argsort(~own, kind="stable"), kind="stable")
        return pa.concat_arrays(both).take(pa.array(order))
    parts, places = [], []
    at_once = max(1, MAX_IMAGE_BLOCK // max(1, 2 * world.image_bytes))
    for shape, render in _SHAPES.items():
        rows = np.flatnonzero(_SHAPE_OF_OUTCOME[block.outcome] == shape)
        for first in range(0, len(rows), at_once):
            some = rows[first : first + at_once]
            details = Details(block.take(some), seed, world)
            answer = render(details)
            parts.append(
                _joined(*(_enveloped(answer, details) if form == "envelope" else (*answer, b"\n")))
            )
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


def _joined(*pieces: Any) -> pa.Array:
    """Join pieces row by row; a bytes piece stands in every row, a null in none."""
    large = [
        pa.scalar(piece, pa.large_binary())
        if isinstance(piece, bytes)
        else piece.cast(pa.large_binary())
        for piece in (*pieces, b"")
    ]
    return pc.binary_join_element_wise(*large, null_handling="replace", null_replacement=b"")


def _enveloped(answer: tuple[Any, ...], details: Details) -> tuple[Any, ...]:
    block = details.block
    return (
        b'{"occurred_at":"', details.occurred_text(),
        b'","action":"%b","req_key":"' % VERIFY.encode(),
        _chosen(VERIFY_KEYS, block.no_source.astype(np.int64)),
        b'","byted_token":"', details.token, b'","subject":"', details.subject,
        b'","http_status":', _by_outcome(details, lambda outcome: str(outcome.http_status)),
        b',"context":{"channel":"', _chosen(tuple(name for name, _ in CHANNELS), block.channel),
        b'","app_version":"', _chosen(APP_VERSIONS, block.version),
        b'","region":"', _chosen(tuple(name for name, _ in REGIONS), block.region),
        b'"},"response":', *answer, b"}\n",
    )  # fmt: skip


# ------------------------------------------------------------------ the four shapes of a reply


def _graded(details: Details) -> tuple[Any, ...]:
    """Answers with images, quality and thresholds; a score unless it is withheld."""
    block = details.block
    regimes = []
    for thresholds in details.world.tuples():
        values = (decimal_text(round(score * 100), 100).decode() for score in thresholds)
        pairs = zip(THRESHOLD_LEVELS, values, strict=True)
        regimes.append("{" + ",".join(f'"{name}":{value}' for name, value in pairs) + "}")
    shown = np.where(SCORED[block.outcome], block.hidden, -1) + 1
    return (
        *_head(details), *_images(details),
        b',"source_comp_details":{', _ALIVE.take(pa.array(block.alive)),
        *_quality(details), _scores().take(pa.array(shown)),
        b'"thresholds":', _chosen(tuple(regimes), block.regime), b"}", *_tail(details),
    )  # fmt: skip


def _fault(details: Details) -> tuple[Any, ...]:
    """Service faults: code, hardly any data, a status."""
    return (
        _by_outcome(details, _fault_head), details.request_id,
        b'","status":', _by_outcome(details, lambda outcome: str(outcome.code)),
        b',"time_elapsed":"', details.fault_text(), b'"}',
    )  # fmt: skip


def _gateway(details: Details) -> tuple[Any, ...]:
    """Errors of the gateway: the service was never reached."""
    head = '{"ResponseMetadata":{"RequestId":"'

    def tail(outcome: Outcome) -> str:
        number, code = outcome.gateway or (None, "")
        return gateway_body("", code, number, outcome.message).removeprefix(head)

    return head.encode(), details.request_id, _by_outcome(details, tail)


_SHAPES: dict[str, Callable[[Details], tuple[Any, ...]]] = {
    "graded": _graded,
    # business failures before any image was looked at
    "ungraded": lambda details: (*_head(details), *_tail(details)),
    "fault": _fault,
    "gateway": _gateway,
}


_SHAPE_OF_OUTCOME = np.array([outcome.shape for outcome in OUTCOMES])


def _head(details: Details) -> tuple[Any, ...]:
    block = details.block
    risk = _risk_texts().take(pa.array(np.where(block.risk_asked, block.tags, -1) + 1))
    return (
        b'{"code":', _by_outcome(details, lambda outcome: str(outcome.code)),
        b',"data":{"result":', _chosen(("false", "true"), (block.result == YES).astype(np.int64)),
        risk,
    )  # fmt: skip


def _tail(details: Details) -> tuple[Any, ...]:
    measure = _by_outcome(
        details,
        lambda o: f',"req_measure_info":{{"measure_type":"query_num","value":{o.measure}}}',
    )
    return (
        b',"algorithm_base_resp":', _by_outcome(details, _sub_text),
        pc.if_else(pa.array(details.measured), measure, pa.scalar(None, pa.binary())),
        b'},"message":', _by_outcome(details, lambda outcome: _json(outcome.message)),
        b',"request_id":"', details.request_id,
        b'","time_elapsed":"', details.elapsed_text(), b'"}',
    )  # fmt: skip


def _quality(details: Details) -> list[Any]:
    """Both nested JSON texts, their quotes escaped."""
    pieces: list[Any] = []
    for image in IMAGES:
        before = f'"image_{image}_detail":"{{'
        for field in QUALITY_FIELDS:
            pieces += [f'{before}\\"{field}\\":'.encode(), details.quality_text(image, field)]
            before = ","
        pieces.append(b'}",')
    return pieces


def _images(details: Details) -> tuple[Any, ...]:
    """Random bytes as base64, of the world's length; the last group is cut there."""
    size, texts = details.world.image_bytes, []
    counter = np.arange(-(-size // 4) * 3 // 8 + 1)  # 64-bit words for at least `size` characters
    for name in ("image_best", "image_env"):
        raw = (
            details.draw.bits(name, row + counter).astype("<u8", copy=False)
            for row in (details.block.row * (1 << 24)).tolist()
        )
        images = [base64.b64encode(bits.data)[:size] for bits in raw] if size else []
        texts.append(pa.array(images, pa.large_binary()) if size else b"")
    return b',"images":{"image_best":"', texts[0], b'","image_env":"', texts[1], b'"}'


# ------------------------------------------------------------------ tables of texts


def _chosen(texts: tuple[str, ...], places: NDArray[Any]) -> pa.Array:
    return pa.array([text.encode() for text in texts], pa.binary()).take(pa.array(places))


def _by_outcome(details: Details, text: Callable[[Outcome], str]) -> pa.Array:
    """Return the text of each row's outcome."""
    return _chosen(tuple(map(text, OUTCOMES)), details.block.outcome)


_ALIVE = pa.array([b'"alive":false,', b'"alive":true,', None], pa.binary())


@functools.cache
def _scores() -> pa.Array:
    """Score members by hundredths plus one; the first is for no score."""
    scores = (b'"score":%b,' % decimal_text(i, 100) for i in range(10_001))
    return pa.array([None, *scores], pa.binary())


@functools.cache
def _risk_texts() -> pa.Array:
    """risk_result members by set of tags plus one; the first is for no risk result."""
    members: list[bytes | None] = [None]
    for mask, score in enumerate(risk_scores().tolist()):
        text = json.dumps(_json({"score": score, "tags": tag_list(mask)}))
        members.append(f',"risk_result":{text}'.encode())
    return pa.array(members, pa.binary())


def tag_list(mask: int) -> list[str]:
    """Return the codes of a set of tags, in the vendor's order."""
    return [tag.code for place, tag in enumerate(TAGS) if mask >> place & 1]


def _sub_text(outcome: Outcome) -> str:
    return _json({"status_code": outcome.sub_code, "status_message": outcome.sub_message})


def _fault_head(outcome: Outcome) -> str:
    data = "null"
    if outcome.sub_code is not None:
        data = f'{{"algorithm_base_resp":{_sub_text(outcome)},"binary_data_base64":[]}}'
    message = _json(outcome.message)
    return f'{{"code":{outcome.code},"data":{data},"message":{message},"request_id":"'


def service_body(request_id: str, code: int, message: str, data: Any = None) -> str:
    """Return the JSON of a reply of the service that holds no answer."""
    return _json(
        {
            "code": code, "data": data, "message": message, "request_id": request_id,
            "status": code, "time_elapsed": "84.448µs",
        }
    )  # fmt: skip


def gateway_body(request_id: str, code: str, number: int | None, message: str) -> str:
    """Return the JSON of an error of the gateway; `number` is its CodeN, if it has one."""
    error = {} if number is None else {"CodeN": number}
    metadata = {
        "RequestId": request_id, "Action": VERIFY, "Version": API_VERSION,
        "Service": SERVICE, "Region": REGION, "Error": {**error, "Code": code, "Message": message},
    }  # fmt: skip
    return _json({"ResponseMetadata": metadata})


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
