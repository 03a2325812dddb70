"""Answers ready to be given out: a rendered population, one of whose rows each token gets."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from typing import Any

from verifyanalytics.simulator.population import OUTCOMES
from verifyanalytics.simulator.simulation import Simulation
from verifyanalytics.simulator.world import LOCAL_OFFSET_HOURS, World

MAX_POOL_BYTES = 64 * 1024 * 1024
_NOTHING = {"status_code": 0, "status_message": ""}
_FREE = {"measure_type": "query_num", "value": 0}


@dataclass(frozen=True, slots=True)
class Ready:
    """One answer: HTTP status, the JSON around its request_id, units billed, the row of truth."""

    status: int
    before: bytes
    after: bytes
    billed: int
    truth: dict[str, Any]

    def verify_body(self, request_id: str) -> bytes:
        """Return the body of CertVerify."""
        return self.before + request_id.encode() + self.after

    def query_body(self, request_id: str, omit: frozenset[str]) -> bytes:
        """Return the body of CertVerifyQuery for the same verification.

        The verification's own outcome and bill stand under ``verify_…``; the query itself is free.
        `omit` holds those of omit_data, omit_image_data, omit_video_data that are set.
        """
        answer = json.loads(self.verify_body(request_id))
        data = answer["data"]
        data["verify_algorithm_base_resp"] = data.pop("algorithm_base_resp")
        data["verify_req_measure_info"] = data.pop("req_measure_info", None)
        data |= {"algorithm_base_resp": _NOTHING, "req_measure_info": _FREE}
        if "omit_image_data" in omit and "images" in data:
            data["images"] = {"image_best": "", "image_env": ""}
        if "omit_data" in omit:
            for name in ("images", "source_comp_details", "risk_result"):
                data.pop(name, None)
        if not {"omit_data", "omit_video_data"} & omit:
            data |= {"tos_data": {}, "video": ""}
        answer |= {"code": 10000, "message": "Success"}
        return json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()


class AnswerPool:
    """A population from which each token gets its answer.

    The faults of the world are left out: those are for scripts. There are `size` different
    answers, fewer when images are large.
    """

    def __init__(self, seed: int, world: World, size: int = 2048) -> None:
        self._seed = seed
        size = max(16, min(size, MAX_POOL_BYTES // max(1, 2 * world.image_bytes)))
        world = world.altered(fault_share=0.0, thresholds_after=None)
        self._answers = _ready(Simulation(size, seed, world))

    def of(self, token: str) -> Ready:
        """Return the answer of a token; always the same."""
        text = f"{self._seed}\0{token}".encode(errors="surrogatepass")
        digest = hashlib.blake2b(text, digest_size=8).digest()
        return self._answers[int.from_bytes(digest, "big") % len(self._answers)]


def _ready(simulation: Simulation) -> list[Ready]:
    ((block, lines),) = simulation.text_blocks("answer")
    answers = []
    for line, truth, place in zip(
        lines.to_pylist(), simulation.truth_table().to_pylist(), block.outcome.tolist(), strict=True
    ):
        outcome = OUTCOMES[place]
        before, _, after = line.removesuffix(b"\n").partition(truth["request_id"].encode())
        answers.append(Ready(outcome.http_status, before, after, outcome.measure or 0, truth))
    return answers


def request_id(seed: int, number: int, now: float) -> str:
    """Return a fresh id: the moment on the clock of +08:00 and 20 hexadecimal digits."""
    text = f"{seed}\0{number}\0{now}".encode()
    moment = time.strftime("%Y%m%d%H%M%S", time.gmtime(int(now) + LOCAL_OFFSET_HOURS * 3600))
    return moment + hashlib.blake2b(text, digest_size=10).hexdigest().upper()
