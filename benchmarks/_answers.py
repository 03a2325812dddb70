"""Made-up answers for the benchmarks: seeded, of a chosen size, no person behind any of them."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterator
from datetime import datetime, timedelta

from verifyanalytics.schema import QUALITY_FIELDS

_TAGS = ("11001", "11005", "13001", "13003", "14001", "14002", "14004", "14009", "14010", "15001")
_START = datetime(2024, 4, 1)
_BAD = ('{"code":10000,"data":', '{"code":NaN}', '{"hello":1}', '{"code":10000,}', "\udcff", "[]")


def answers(n: int, *, seed: int = 1, image_bytes: int = 0, bad: float = 0.0) -> Iterator[bytes]:
    """Lines of `n` answers, about 1.2 KB each without images.

    Parameters
    ----------
    n, seed : int
    image_bytes : int
        Bytes of the two images together, before base64.
    bad : float
        Share of lines that no strict reader accepts, or that need a coercion (half and half).
    """
    rng = random.Random(seed)
    for i in range(n):
        if rng.random() >= bad:
            answer = _success(rng, i, image_bytes) if rng.random() > 0.02 else _fault(rng, i)
            yield _line(answer)
        elif rng.random() < 0.5:
            yield rng.choice(_BAD).encode(errors="surrogateescape") + b"\n"
        else:
            answer = _success(rng, i, image_bytes)
            answer["data"]["source_comp_details"]["score"] = "61.5"
            yield _line(answer)


def _line(answer: dict) -> bytes:
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _request_id(rng: random.Random, i: int) -> str:
    moment = _START + timedelta(seconds=20 * i)
    return f"{moment:%Y%m%d%H%M%S}{rng.getrandbits(80):020X}"


def _fault(rng: random.Random, i: int) -> dict:
    return {
        "code": 50400, "data": None, "message": "Access Denied: Internal Error",
        "request_id": _request_id(rng, i), "status": 50400,
        "time_elapsed": f"{rng.randrange(10_000, 99_999) / 1000}µs",
    }  # fmt: skip


def _quality(rng: random.Random) -> str:
    scale = (100, 5, 1, 0.01, 10, 10, 10, 1e-4, 1e-4, 1e-2, 1e-4)
    values = [rng.random() * unit for unit in scale]
    return json.dumps(dict(zip(QUALITY_FIELDS, values, strict=True)), separators=(",", ":"))


def _image(rng: random.Random, n_bytes: int) -> str:
    return base64.b64encode(rng.randbytes(n_bytes)).decode()


def _success(rng: random.Random, i: int, image_bytes: int) -> dict:
    score = round(min(100.0, rng.gauss(86, 9)), 2)
    tags = rng.sample(_TAGS, rng.choice((0, 0, 0, 1, 2)))
    risk = {"score": 300 * len(tags), "tags": tags}
    return {
        "code": 10000,
        "data": {
            "result": score >= 70,
            "risk_result": json.dumps(risk, separators=(",", ":")),
            "images": {
                "image_best": _image(rng, image_bytes // 2),
                "image_env": _image(rng, image_bytes // 2),
            },
            "source_comp_details": {
                "alive": rng.random() < 0.98,
                "image_env_detail": _quality(rng),
                "image_face_detail": _quality(rng),
                "score": score,
                "thresholds": {"1e-3": 60, "1e-4": 70, "1e-5": 80, "1e-6": 90},
            },
            "algorithm_base_resp": {"status_code": 0, "status_message": ""},
            "req_measure_info": {"measure_type": "query_num", "value": 1},
        },
        "message": "Success",
        "request_id": _request_id(rng, i),
        "time_elapsed": f"{rng.uniform(20, 90):.6f}ms",
    }
