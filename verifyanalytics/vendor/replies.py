"""Read the reply to one call, and the retry table: what may be done after it.

`read_reply` tells the three shapes of replies apart in the one safe order (gateway, service,
success); `read_failure` names the ways in which no reply came. Both give an `Outcome`. `RULES` says
for each outcome in which state the call is, whether it may be sent again, and what stops the run.
A call goes back to PLANNED only on proof that nothing was processed; without proof it costs a
query, never a second call. What a body says of a verdict or of billing goes before its codes and
its HTTP status.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from verifyanalytics.vendor.api import (
    FAULT_CODES,
    GATEWAY_CLOCK,
    GATEWAY_NUMBERS,
    GATEWAY_RATE,
    GATEWAY_REFUSED,
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

PAGES = frozenset({400, 404, 405, 407, 411, 413, 414, 431})
"""HTTP statuses of pages with which a proxy turns a request away before it passes it on."""

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
    ERASED = "ERASED"


class Outcome(StrEnum):
    """What one attempt came to."""

    ANSWERED = "answered"
    REJECTED = "rejected"
    NO_VERDICT = "no_verdict"
    NOT_SENT = "not_sent"
    TLS = "tls"
    RATE_LIMITED = "rate_limited"
    CLOCK = "clock"
    REFUSED = "refused"
    DENIED = "denied"
    TURNED_AWAY = "turned_away"
    UNPARSED = "unparsed"
    FAULT = "fault"
    LOST = "lost"
    NO_RESULT = "no_result"


ANSWERS = frozenset({Outcome.ANSWERED, Outcome.REJECTED, Outcome.NO_VERDICT})
"""Outcomes with a reply of the service, which is kept and becomes a row."""


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
        So many failures one after the other, with no answer between them, stop the run; then
        `stop` is not for a single one.
    """

    state: State
    tries: int = 1
    stop: int | None = None
    in_a_row: int | None = None


RULES: Mapping[Outcome, Rule] = {
    Outcome.ANSWERED: Rule(State.OK),
    Outcome.REJECTED: Rule(State.REJECTED),
    Outcome.NOT_SENT: Rule(State.PLANNED, tries=5, stop=6),
    Outcome.TLS: Rule(State.PLANNED, stop=5),
    Outcome.RATE_LIMITED: Rule(State.PLANNED, tries=20, stop=6),
    Outcome.CLOCK: Rule(State.PLANNED, tries=2, stop=5),
    Outcome.REFUSED: Rule(State.PLANNED, stop=5),
    Outcome.DENIED: Rule(State.PLANNED, stop=5, in_a_row=5),
    Outcome.TURNED_AWAY: Rule(State.PLANNED, stop=5, in_a_row=5),
    Outcome.NO_VERDICT: Rule(State.REJECTED, stop=5, in_a_row=10),
    Outcome.UNPARSED: Rule(State.UNPARSED, stop=5, in_a_row=5),
    Outcome.FAULT: Rule(State.IN_DOUBT, stop=6, in_a_row=5),
    Outcome.LOST: Rule(State.IN_DOUBT, stop=6, in_a_row=5),
    Outcome.NO_RESULT: Rule(State.PLANNED, tries=5),
}
"""The retry table of the collector. `CLOCK` corrects the clock before its second try, `REFUSED` and
`DENIED` may try once more with refreshed temporary credentials, which the collector decides.
`DENIED`, a refusal by the service, may concern one call only: it is set aside while other calls are
answered. `NO_VERDICT` is a refusal without a word on the verification, such as an account in
arrears; ten in a row stop the run."""

QUERY_RULES: Mapping[Outcome, Rule] = {
    **RULES,
    Outcome.UNPARSED: Rule(State.PLANNED, tries=5),
    Outcome.FAULT: Rule(State.PLANNED, tries=5, stop=6, in_a_row=5),
    Outcome.LOST: Rule(State.PLANNED, tries=5, stop=6, in_a_row=5),
}
"""The same for queries: they consume nothing, so each may be repeated whatever its outcome. Five in
a row that were given up stop the run all the same."""


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


class NoResult(NamedTuple):
    """The answer to a query that proves, by the vendor's word, that a token has no result.

    `sub_code` None: any, or none.
    """

    code: int
    sub_code: int | None = None

    def is_in(self, reply: Reply) -> bool:
        """Whether a reply is this answer."""
        return reply.code == self.code and self.sub_code in {None, reply.sub_code}


def read_reply(
    status: int, headers: Mapping[str, str], body: bytes, now: float, *, is_sent: bool = True
) -> Reply:
    """Read a reply that arrived whole.

    Header names may have any letter case; the body is as sent, since only identity was asked for;
    `now` is POSIX time, for a ``Retry-After`` that is a date. `is_sent` is False when the reply
    came before the request was sent to its end, so that the service never had it.
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
    if document is not None:
        error = _gateway_error(document)
        if error is None or _is_processed(document):
            return _read_service(received, document, is_sent)
        return _read_gateway(received, document, error)
    if not is_sent or (encoding in {"", "identity"} and _is_page(status, body)):
        return _with(received, Outcome.TURNED_AWAY, message=f"a page of HTTP {status}")
    return _with(received, _unreadable(status), message="not JSON")


def as_query(reply: Reply, no_result: NoResult | None = None) -> Reply:
    """Read the reply to a query: only one that says so may mean that there is no result.

    A refusal for another reason, of the query itself, tells nothing about the verification.
    """
    if reply.outcome not in ANSWERS:
        return reply
    data = (_parse(reply.body) or {}).get("data")
    telling = ("result", "source_comp_details", "verify_algorithm_base_resp")
    if isinstance(data, dict) and any(data.get(name) is not None for name in telling):
        return reply
    is_unknown = (
        reply.code == SUCCESS
        or (reply.code, reply.sub_code) == UNKNOWN_TOKEN
        or (no_result is not None and no_result.is_in(reply))
    )
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
    is_planned = RULES[kind].state is State.PLANNED
    return Reply(kind, message=message, billed=False if is_planned else None)


def _with(received: Reply, outcome: Outcome, **known: Any) -> Reply:
    if RULES[outcome].state is State.PLANNED:
        known["billed"] = False
    return replace(received, outcome=outcome, **known)


def _read_gateway(received: Reply, document: dict[str, Any], error: dict[str, Any]) -> Reply:
    code = _text(error.get("Code")) or str(error.get("CodeN", "unknown"))
    name = GATEWAY_NUMBERS.get(_integer(error.get("CodeN")) or 0)
    if _text(error.get("Code")) is not None:
        name = code  # a name that is not on the list is not excused by its number
    if name == GATEWAY_RATE:
        outcome = Outcome.RATE_LIMITED
    elif name == GATEWAY_CLOCK:
        outcome = Outcome.CLOCK
    elif name in GATEWAY_REFUSED:
        outcome = Outcome.REFUSED
    else:
        outcome = Outcome.FAULT
    metadata = document["ResponseMetadata"]
    return _with(
        received,
        outcome,
        gateway_code=code[:100],
        request_id=_text(metadata.get("RequestId")),
        message=(_text(error.get("Message")) or code)[:MAX_MESSAGE],
    )


def _read_service(received: Reply, document: dict[str, Any], is_sent: bool) -> Reply:
    code = _integer(document.get("code"))
    known: dict[str, Any] = {
        "code": code,
        "request_id": _text(document.get("request_id")),
        "message": (_text(document.get("message")) or "")[:MAX_MESSAGE],
    }
    data = document.get("data")
    if isinstance(data, dict):
        known |= _verify_outcome(data)
    if _is_processed(document):
        outcome = Outcome.ANSWERED if code == SUCCESS else Outcome.REJECTED
        outcome = Outcome.UNPARSED if code is None else outcome
    else:
        outcome = _service_outcome(received.http_status or 0, code)
        if outcome is Outcome.REJECTED and known.get("sub_code") is None:
            outcome = Outcome.NO_VERDICT
        if not is_sent and code != SUCCESS and RULES[outcome].state is not State.PLANNED:
            outcome = Outcome.TURNED_AWAY
    return _with(received, outcome, **known)


def _service_outcome(status: int, code: int | None) -> Outcome:
    """Tell what a code without evidence means; a status alone proves nothing."""
    if code == SUCCESS:
        return Outcome.UNPARSED if 300 <= status < 400 else Outcome.ANSWERED
    if code in RATE_CODES:
        return Outcome.RATE_LIMITED
    if code in REFUSED_CODES:
        return Outcome.DENIED
    if code in FAULT_CODES or status >= 500:
        return Outcome.FAULT
    if code is None:
        return _unreadable(status)
    return Outcome.REJECTED


def _unreadable(status: int) -> Outcome:
    return Outcome.FAULT if status >= 500 or status in {408, 429} else Outcome.UNPARSED


def _is_page(status: int, body: bytes) -> bool:
    """Whether a proxy's own page turned the request away; a spoilt reply of the service is none.

    The service itself answers with 400, so there only HTML is a proxy's.
    """
    text = body.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if status == 400:
        return text.startswith((b"<html", b"<!doctype html"))
    return (status in PAGES or 300 <= status < 400) and not text.startswith((b"{", b"["))


def _is_processed(document: dict[str, Any]) -> bool:
    """Whether a reply shows that its call was processed: a verdict, a comparison, or a price."""
    for data in (document.get("data"), document.get("Result"), document):
        if not isinstance(data, dict):
            continue
        details = data.get("source_comp_details")
        if isinstance(data.get("result"), bool) or (isinstance(details, dict) and details):
            return True
        measure = data.get("verify_req_measure_info", data.get("req_measure_info"))
        value = _integer(measure.get("value")) if isinstance(measure, dict) else None
        if value:
            return True
    return False


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
