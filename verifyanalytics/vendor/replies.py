"""Read the reply to one call, and the retry table: what may be done after it.

`read_reply` tells the three shapes of replies apart in the one safe order (gateway, service,
success); `read_failure` names the ways in which no reply came. Both give an `Outcome`. `RULES` says
for each outcome in which state the call is, whether it may be sent again, and what stops the run.
A call goes back to PLANNED only on proof that nothing was processed; without proof it costs a
query, never a second call.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any

import msgspec

from verifyanalytics.vendor.api import (
    FAULT_CODES,
    GATEWAY_CLOCK,
    GATEWAY_IN_DOUBT,
    GATEWAY_RATE,
    GATEWAY_UNREACHED,
    RATE_CODES,
    REFUSED_CODES,
    SUCCESS,
    UNKNOWN_TOKEN,
)

MAX_BODY = 32 * 1024 * 1024
"""Bytes of a reply that are read; a longer one is `Outcome.UNPARSED`."""

MAX_MESSAGE = 200
"""Characters of the vendor's message that are kept."""

MAX_WAIT = 365 * 86_400.0
"""Seconds; a longer ``Retry-After`` is cut to this."""

MIN_SECRET = 8
REDACTED = "[redacted]"


class State(StrEnum):
    """The state of a call in the journal."""

    PLANNED = "PLANNED"
    SENT = "SENT"
    OK = "OK"
    REJECTED = "REJECTED"
    UNPARSED = "UNPARSED"
    IN_DOUBT = "IN_DOUBT"
    NOT_PROCESSED = "NOT_PROCESSED"


class Outcome(StrEnum):
    """What one attempt came to."""

    ANSWERED = "answered"
    REJECTED = "rejected"
    NOT_SENT = "not_sent"
    TLS = "tls"
    RATE_LIMITED = "rate_limited"
    CLOCK = "clock"
    REFUSED = "refused"
    UNREACHED = "unreached"
    UNPARSED = "unparsed"
    FAULT = "fault"
    LOST = "lost"
    NO_RESULT = "no_result"


@dataclass(frozen=True, slots=True)
class Rule:
    """What follows from an outcome.

    Attributes
    ----------
    state : State
        The state of the call afterwards.
    tries : int
        How often the call may be sent in all before the run gives it up; 1 is never again.
    stop : int or None
        Exit code with which the run stops when the tries are used up, or at once for `tries` 1;
        None lets the run go on.
    in_a_row : int or None
        So many of this outcome one after the other stop the run.
    """

    state: State
    tries: int = 1
    stop: int | None = None
    in_a_row: int | None = None


RULES: Mapping[Outcome, Rule] = {
    Outcome.ANSWERED: Rule(State.OK),
    Outcome.REJECTED: Rule(State.REJECTED),
    Outcome.NOT_SENT: Rule(State.PLANNED, tries=5, stop=6),
    Outcome.UNREACHED: Rule(State.PLANNED, tries=5, stop=6),
    Outcome.TLS: Rule(State.PLANNED, stop=5),
    Outcome.RATE_LIMITED: Rule(State.PLANNED, tries=20, stop=6),
    Outcome.CLOCK: Rule(State.PLANNED, tries=2, stop=5),
    Outcome.REFUSED: Rule(State.PLANNED, tries=1, stop=5),
    Outcome.UNPARSED: Rule(State.UNPARSED),
    Outcome.FAULT: Rule(State.IN_DOUBT, in_a_row=5),
    Outcome.LOST: Rule(State.IN_DOUBT, in_a_row=5),
    Outcome.NO_RESULT: Rule(State.PLANNED, tries=5),
}
"""The retry table of the collector. `CLOCK` corrects the clock before its second try, `REFUSED`
may try once more with refreshed temporary credentials, which the collector decides."""

_AGAIN = Rule(State.PLANNED, tries=5)
QUERY_RULES: Mapping[Outcome, Rule] = {
    **RULES,
    Outcome.UNPARSED: _AGAIN,
    Outcome.FAULT: _AGAIN,
    Outcome.LOST: _AGAIN,
}
"""The same for queries: they consume nothing, so each may be repeated whatever its outcome."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply, or the lack of one, as far as it could be read.

    Attributes
    ----------
    outcome : Outcome
    http_status : int or None
        None when no reply came.
    code : int or None
        The service's code; None for gateway errors.
    gateway_code : str or None
        The gateway's error code.
    sub_code : int or None
        ``algorithm_base_resp.status_code``.
    request_id : str or None
        The vendor's id.
    billed : bool or None
        True or False only when the reply says so (``req_measure_info``) or nothing was processed;
        None is unknown.
    retry_after : float or None
        Seconds the server asks to wait.
    server_time : float or None
        POSIX time of the ``Date`` header.
    message : str
        The vendor's message, shortened, or a word for the failure; never a payload.
    body : bytes
        The reply as received; empty when none came.
    """

    outcome: Outcome
    http_status: int | None = None
    code: int | None = None
    gateway_code: str | None = None
    sub_code: int | None = None
    request_id: str | None = None
    billed: bool | None = None
    retry_after: float | None = None
    server_time: float | None = None
    message: str = ""
    body: bytes = field(default=b"", repr=False)


def read_reply(status: int, headers: Mapping[str, str], body: bytes, now: float) -> Reply:
    """Read a reply that arrived whole.

    Header names may have any letter case; the body is as sent, since only identity was asked for;
    `now` is POSIX time, for a ``Retry-After`` that is a date.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    received = Reply(
        Outcome.UNPARSED,
        http_status=status,
        body=body,
        retry_after=_retry_after(lower.get("retry-after"), now),
        server_time=_http_date(lower.get("date")),
    )
    encoding = lower.get("content-encoding", "identity").strip().lower()
    document = _parse(body) if encoding in {"", "identity"} else None
    if document is None:
        return _with(received, _service_outcome(status, None), message="not JSON")
    if 300 <= status < 400:
        return replace(received, message="redirect")
    error = _gateway_error(document)
    if error is not None:
        return _read_gateway(received, document, error)
    return _read_service(received, document)


def as_query(reply: Reply) -> Reply:
    """Read the reply to a query: only one that says so proves that there is no result.

    A refusal for another reason, of the query itself, tells nothing about the verification.
    """
    if reply.outcome not in {Outcome.ANSWERED, Outcome.REJECTED}:
        return reply
    data = (_parse(reply.body) or {}).get("data")
    telling = ("result", "source_comp_details", "verify_algorithm_base_resp")
    if isinstance(data, dict) and any(data.get(name) is not None for name in telling):
        return reply
    is_unknown = reply.code == SUCCESS or (reply.code, reply.sub_code) == UNKNOWN_TOKEN
    return replace(reply, outcome=Outcome.NO_RESULT if is_unknown else Outcome.FAULT)


def without(reply: Reply, secrets: Iterable[str]) -> Reply:
    """Redact in a reply the secrets that the call itself contained: token, payloads and keys.

    Secrets shorter than eight characters are left, since they occur by chance.
    """
    long = [secret for secret in secrets if len(secret) >= MIN_SECRET]
    forms = {  # as a text may stand in JSON: escaped where it must be, and in ASCII only
        json.dumps(secret, ensure_ascii=is_ascii)[1:-1]
        for secret in long
        for is_ascii in (False, True)
    }
    found = sorted((form for form in forms if form.encode() in reply.body), key=len, reverse=True)
    if not found:
        return reply
    body, document = reply.body, _parse(reply.body) or {}
    error = _gateway_error(document)
    message = _text(document.get("message") if error is None else error.get("Message"))
    message = message or reply.message  # in full: shortened it may end within a secret
    for form in found:
        body = body.replace(form.encode(), REDACTED.encode())
    for secret in long:
        message = message.replace(secret, REDACTED)
    return replace(reply, body=body, message=message[:MAX_MESSAGE])


def read_failure(kind: Outcome, message: str) -> Reply:
    """Give the reply of a call without a whole reply: not sent, TLS, lost or unparsed."""
    unprocessed = kind in {Outcome.NOT_SENT, Outcome.TLS}
    return Reply(kind, message=message, billed=False if unprocessed else None)


def _with(received: Reply, outcome: Outcome, **known: Any) -> Reply:
    if RULES[outcome].state is State.PLANNED:
        known["billed"] = False
    return replace(received, outcome=outcome, **known)


def _read_gateway(received: Reply, document: dict[str, Any], error: dict[str, Any]) -> Reply:
    code = _text(error.get("Code")) or str(error.get("CodeN", "unknown"))
    if received.http_status == 429 or code == GATEWAY_RATE:
        outcome = Outcome.RATE_LIMITED
    elif code == GATEWAY_CLOCK:
        outcome = Outcome.CLOCK
    elif code == GATEWAY_UNREACHED:
        outcome = Outcome.UNREACHED
    elif code in GATEWAY_IN_DOUBT or (received.http_status or 0) >= 500:
        outcome = Outcome.FAULT
    else:
        outcome = Outcome.REFUSED
    metadata = document["ResponseMetadata"]
    return _with(
        received,
        outcome,
        gateway_code=code[:100],
        request_id=_text(metadata.get("RequestId")),
        message=(_text(error.get("Message")) or code)[:MAX_MESSAGE],
    )


def _read_service(received: Reply, document: dict[str, Any]) -> Reply:
    code = _integer(document.get("code"))
    known: dict[str, Any] = {
        "code": code,
        "request_id": _text(document.get("request_id")),
        "message": (_text(document.get("message")) or "")[:MAX_MESSAGE],
    }
    data = document.get("data")
    if isinstance(data, dict):
        known |= _verify_outcome(data)
    return _with(received, _service_outcome(received.http_status or 0, code), **known)


def _service_outcome(status: int, code: int | None) -> Outcome:
    if code == SUCCESS:
        return Outcome.ANSWERED
    if status == 429 or code in RATE_CODES:
        return Outcome.RATE_LIMITED
    if status in {401, 403} or code in REFUSED_CODES:
        return Outcome.REFUSED
    if code in FAULT_CODES or status >= 500:
        return Outcome.FAULT
    return Outcome.UNPARSED if code is None else Outcome.REJECTED


def _verify_outcome(data: dict[str, Any]) -> dict[str, Any]:
    """Sub-code and billing; query replies keep the verification's own under a prefix."""
    base = data.get("verify_algorithm_base_resp", data.get("algorithm_base_resp"))
    measure = data.get("verify_req_measure_info", data.get("req_measure_info"))
    value = _integer(measure.get("value")) if isinstance(measure, dict) else None
    return {
        "sub_code": _integer(base.get("status_code")) if isinstance(base, dict) else None,
        "billed": None if value is None else value > 0,
    }


def _gateway_error(document: dict[str, Any]) -> dict[str, Any] | None:
    metadata = document.get("ResponseMetadata")
    error = metadata.get("Error") if isinstance(metadata, dict) else None
    return error if isinstance(error, dict) and error else None


def _parse(body: bytes) -> dict[str, Any] | None:
    try:
        body.decode("utf-8")
        document = msgspec.json.decode(body)
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


_SECONDS = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*", re.ASCII)


def _retry_after(value: str | None, now: float) -> float | None:
    """Seconds from either form of the header; None for what is neither."""
    if value is None:
        return None
    if match := _SECONDS.fullmatch(value):
        return min(float(match[1]), MAX_WAIT)
    at = _http_date(value)
    return None if at is None else max(0.0, at - now)


def _http_date(value: str | None) -> float | None:
    """POSIX time of a date in any of the three forms of RFC 9110; all of them are UTC."""
    if value is None:
        return None
    try:
        at = parsedate_to_datetime(value)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _integer(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return int(number) if number.is_integer() and abs(number) < 2**53 else None
