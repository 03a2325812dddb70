"""What the simulated vendor can answer besides a comparison: codes, shapes, bills.

One table, read by the population (what happens), the renderer (what is sent) and the frame (what
a column holds). Codes, HTTP statuses and stages are those of the code book; the shapes are the
three in which replies come: service with data, service fault, gateway.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Outcome:
    """One way a call can end.

    Attributes
    ----------
    stage : str
        compare, alive, acquire, identity, internal or gateway.
    http_status, code : int, int or None
    message : str
    sub_code, sub_message : int or None, str
        algorithm_base_resp; None: the reply has none.
    measure : int or None
        Billed units; None: the reply has no req_measure_info.
    gateway : tuple of (int or None, str) or None
        CodeN and Code of a gateway error.
    scored, graded : bool
        The reply carries a score; the quality of its images and the thresholds.
    weight : float
        How often, among the outcomes of its stage.
    """

    stage: str
    http_status: int
    code: int | None
    message: str
    sub_code: int | None = None
    sub_message: str = ""
    measure: int | None = None
    gateway: tuple[int | None, str] | None = None
    scored: bool = False
    graded: bool = False
    weight: float = 1.0


def _business(
    stage: str, sub_code: int, sub_message: str, *, billed: bool, weight: float
) -> tuple[Outcome, Outcome]:
    """Return the two forms of a business failure: as 50215 with HTTP 400, and as 10000."""
    graded = stage != "identity"
    seed = Outcome(
        stage, 400, 50215, f"RPCProcess: {sub_message}", sub_code, sub_message, int(billed),
        graded=graded, weight=weight * 0.6,
    )  # fmt: skip
    plain = Outcome(
        stage, 200, 10000, "Success", sub_code, sub_message, int(billed),
        graded=graded, weight=weight * 0.4,
    )  # fmt: skip
    return seed, plain


COMPARED = Outcome("compare", 200, 10000, "Success", 0, "", 1, scored=True, graded=True)

OUTCOMES: tuple[Outcome, ...] = (
    COMPARED,
    *_business("compare", 210311, "faces do not match", billed=True, weight=0.8),
    *_business("compare", 210313, "not consistent, probably one person", billed=True, weight=0.2),
    *_business("alive", 210312, "motion liveness mismatch", billed=False, weight=0.4),
    *_business("alive", 210702, "face liveness score too low", billed=False, weight=0.6),
    *_business("acquire", 210302, "face image bad quality", billed=True, weight=0.35),
    *_business("acquire", 210305, "no face in face image", billed=False, weight=0.25),
    *_business("acquire", 210701, "face quality score too low", billed=False, weight=0.25),
    *_business("acquire", 210306, "several faces in face image", billed=False, weight=0.1),
    *_business("acquire", 210314, "probe image modelling failed", billed=True, weight=0.05),
    *_business("identity", 210207, "name and id number differ", billed=False, weight=0.5),
    *_business("identity", 210309, "source has no base image", billed=False, weight=0.3),
    *_business("identity", 210308, "base image of bad quality", billed=True, weight=0.1),
    *_business("identity", 201403, "daily cap for this id number", billed=False, weight=0.1),
    Outcome("internal", 500, 50500, "Internal Error", weight=0.3),
    Outcome(
        "internal", 500, 50501, "Internal RPC Error", 100001, "data source internal error",
        weight=0.2,
    ),
    Outcome("internal", 429, 50429, "Request Has Reached API Limit", weight=0.2),
    Outcome("internal", 429, 50430, "Request Has Reached API Concurrent Limit", weight=0.1),
    Outcome("internal", 401, 50400, "Access Denied: Internal Error", weight=0.05),
    Outcome(
        "gateway", 429, None, "Request was rejected because the request speed is above the limit",
        gateway=(None, "FlowLimitExceeded"), weight=0.08,
    ),
    Outcome(
        "gateway", 500, None, "Internal error", gateway=(100014, "InternalError"), weight=0.05
    ),
    Outcome(
        "gateway", 401, None, "The request signature does not match",
        gateway=(100010, "SignatureDoesNotMatch"), weight=0.02,
    ),
)  # fmt: skip
"""Every outcome; its index is what the population draws. The first is a comparison with a score."""
