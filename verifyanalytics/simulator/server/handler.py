"""What the simulated service answers to one request: signature, clock, rules, tokens, faults.

Knows no socket: a `Request` comes in, the steps that go over the wire come out. Checks run in the
order in which a gateway and a service behind it would: signature, date, limits, fields, token.
"""

from __future__ import annotations

import functools
import hmac
import json
import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from verifyanalytics.simulator.server.answer_pool import AnswerPool, Ready, request_id
from verifyanalytics.simulator.server.faults import HttpReply, Send, Step
from verifyanalytics.simulator.server.ledger import Ledger
from verifyanalytics.simulator.server.scripts import ACTIONS, Script, token_digest
from verifyanalytics.simulator.world import REQ_KEYS
from verifyanalytics.vendor import signing
from verifyanalytics.vendor.api import REGION, SERVICE

VERSION = "2022-08-31"
QUERY_KEY = "cert_pro_verify_query"
DATE_WINDOW_S = 15 * 60
KEPT_S = 3600.0
"""How long the result of a token can be queried."""
MAX_BODY = 10 * 1024 * 1024

_AUTHORIZATION = re.compile(
    r"HMAC-SHA256 Credential=([^/,\s]+)/(\d{8})/([^/,\s]+)/([^/,\s]+)/request, ?"
    r"SignedHeaders=([A-Za-z0-9;-]+), ?Signature=([0-9a-f]{64})"
)


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it arrived; header names in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Access:
    """Whom the service lets in; nothing of it stands in a repr."""

    access_key: str
    secret_key: str
    session_token: str | None = None

    def __repr__(self) -> str:
        return "Access(…)"


class Desk:
    """Answers requests one at a time.

    Parameters
    ----------
    pool : AnswerPool
    script : Script
    ledger : Ledger
    access : Access
    seed : int
        Of the request ids.
    ready_after : float
        Seconds after processing in which a query still finds nothing.
    qps : float or None
        Calls a second beyond which 50429 is answered.
    clock : callable
        POSIX time of the service.
    """

    def __init__(
        self,
        pool: AnswerPool,
        script: Script,
        ledger: Ledger,
        access: Access,
        *,
        seed: int = 0,
        ready_after: float = 0.0,
        qps: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._pool, self._script, self._ledger, self._access = pool, script, ledger, access
        self._seed, self._ready_after, self._clock = seed, ready_after, clock
        self._qps, self._recent = qps, deque[float]()
        self._numbers = dict.fromkeys(ACTIONS, 0)
        self._n_ids = 0
        self._used: dict[str, tuple[float, Ready]] = {}
        self._signing_key = functools.lru_cache(maxsize=8)(
            functools.partial(signing.signing_key, access.secret_key)
        )

    def answer(self, request: Request) -> list[Step]:
        """Return what happens on the wire in answer to a request."""
        now = self._clock()
        path, _, text = request.target.partition("?")
        query = parse_qsl(text, keep_blank_values=True)
        if path != "/":
            self._ledger.stray()
            plain = {"Content-Type": "text/plain"}
            return [Send(HttpReply(404, b"not here", plain, now).whole())]
        action = _action(request.method, dict(query))
        if action is None:
            return [Send(self._gateway("InvalidActionOrVersion", 100008, 404, now).whole())]
        wrong = self._signature_fault(request, path, query)
        if wrong is not None:
            self._ledger.unsigned()
            return [Send(self._gateway(*wrong, now).whole())]
        return self._call(action, request, now)

    def _signature_fault(
        self, request: Request, path: str, query: list[tuple[str, str]]
    ) -> tuple[str, int | None, int] | None:
        """Return code, number and HTTP status of what is wrong with a signature; None: nothing."""
        headers = request.headers
        if "authorization" not in headers:
            return "MissingAuthenticationToken", 100003, 401
        given = _AUTHORIZATION.fullmatch(headers["authorization"])
        if given is None:
            return "InvalidAuthorization", None, 400
        access_key, date, region, service, names, signed = given.groups()
        if access_key != self._access.access_key:
            return "InvalidAccessKey", 100009, 401
        if headers.get(signing.TOKEN_HEADER) != self._access.session_token:
            return "InvalidSecretToken", None, 401
        x_date = headers.get("x-date", "")
        if (date, region, service) != (x_date[:8], REGION, SERVICE):
            return "InvalidCredential", None, 400
        if set(signing.SIGNED_HEADERS) - set(headers):
            return "MissingRequestInfo", 100004, 400
        body_hash = signing.body_sha256(request.body)
        canonical = signing.canonical_request(request.method, path, query, headers, body_hash)
        scope = signing.credential_scope(x_date)
        expected = signing.signature(
            self._signing_key(date), signing.string_to_sign(canonical, x_date, scope)
        )
        same = (
            hmac.compare_digest(expected, signed)
            and names == ";".join(signing.signed_header_names(headers))
            and headers["x-content-sha256"] == body_hash
        )
        return None if same else ("SignatureDoesNotMatch", 100010, 401)

    def _call(self, action: str, request: Request, now: float) -> list[Step]:
        """Answer a signed call: faults of the script first, then the service itself."""
        body = _json_object(request.body)
        token = body.get("byted_token") if body is not None else None
        digest = token_digest(token if isinstance(token, str) else "")
        self._numbers[action] += 1
        nth = self._ledger.n_received(digest) + 1
        rule = self._script.strike(action, digest, self._numbers[action], nth)
        fault = None if rule is None else rule.kind.name
        now += float(rule.options.get("seconds", 0)) if rule and fault == "clock_skew" else 0.0
        refusal = self._refusal(action, request, body, now)
        if refusal is not None or (rule is not None and not rule.processed):
            count = self._ledger.refused if action == "CertVerify" else self._ledger.queried
            count(digest, fault)
        if refusal is not None:
            return [Send(refusal.whole())]
        if rule is not None and not rule.processed:
            return rule.steps(self._code(50500, "Internal Error", 500, now))
        reply = self._served(action, body or {}, digest, fault, now)
        if request.headers.get("connection", "").lower() == "close":  # said back, as servers do
            reply = replace(reply, headers={**reply.headers, "Connection": "close"})
        return [Send(reply.whole())] if rule is None else rule.steps(reply)

    def _refusal(
        self, action: str, request: Request, body: dict[str, Any] | None, now: float
    ) -> HttpReply | None:
        """Return the reply to a call that is never processed; None for one that will be."""
        at = _posix(request.headers["x-date"])
        if at is None or abs(at - now) > DATE_WINDOW_S:
            return self._gateway("InvalidTimestamp", 100006, 403, now)
        if self._over_limit(now):
            return self._code(50429, "Request Has Reached API Limit", 429, now)
        if len(request.body) > MAX_BODY:
            return self._code(50213, "request body over 10 MB", 400, now)
        if body is None:
            return self._code(50204, "the body is no JSON object", 400, now)
        code, message = _wrong_field(action, body)
        if not code:
            return None
        return self._code(code, message, 401 if code == 50400 else 400, now)

    def _over_limit(self, now: float) -> bool:
        if self._qps is None:
            return False
        while self._recent and self._recent[0] <= now - 1.0:
            self._recent.popleft()
        if len(self._recent) >= self._qps:
            return True
        self._recent.append(now)
        return False

    def _served(
        self, action: str, body: dict[str, Any], digest: str, fault: str | None, now: float
    ) -> HttpReply:
        if action == "CertVerifyQuery":
            self._ledger.queried(digest, fault)
            return self._queried(digest, body, now)
        if digest in self._used:
            self._ledger.processed(digest, 0, fault)
            return self._business(201202, "byted_token was used already", now)
        ready = self._pool.of(body["byted_token"])
        self._used[digest] = (now, ready)
        self._ledger.processed(digest, ready.billed, fault)
        return HttpReply(ready.status, ready.verify_body(self._new_id(now)), now=now)

    def _queried(self, digest: str, body: dict[str, Any], now: float) -> HttpReply:
        at, ready = self._used.get(digest, (None, None))
        if at is None or ready is None or now - at > KEPT_S:
            return self._business(201202, "no result of this byted_token", now)
        if now - at < self._ready_after:
            return self._business(201202, "the result is not ready", now)
        omit = frozenset(name for name, value in body.items() if value is True)
        return HttpReply(200, ready.query_body(self._new_id(now), omit), now=now)

    def _new_id(self, now: float) -> str:
        self._n_ids += 1
        return request_id(self._seed, self._n_ids, now)

    def _business(self, sub_code: int, sub_message: str, now: float) -> HttpReply:
        data = {
            "algorithm_base_resp": {"status_code": sub_code, "status_message": sub_message},
            "req_measure_info": {"measure_type": "query_num", "value": 0},
        }
        return self._reply(50215, f"RPCProcess: {sub_message}", data, 400, now)

    def _code(self, code: int, message: str, status: int, now: float) -> HttpReply:
        return self._reply(code, message, None, status, now)

    def _reply(self, code: int, message: str, data: Any, status: int, now: float) -> HttpReply:
        body = {
            "code": code, "data": data, "message": message, "request_id": self._new_id(now),
            "status": code, "time_elapsed": "84.448µs",
        }  # fmt: skip
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
        return HttpReply(status, text.encode(), now=now)

    def _gateway(self, code: str, number: int | None, status: int, now: float) -> HttpReply:
        error = {"CodeN": number} if number is not None else {}
        metadata = {
            "RequestId": self._new_id(now), "Action": "CertVerify", "Version": VERSION,
            "Service": "cv", "Region": "cn-north-1",
            "Error": {**error, "Code": code, "Message": f"simulated {code}"},
        }  # fmt: skip
        text = json.dumps({"ResponseMetadata": metadata}, separators=(",", ":"))
        return HttpReply(status, text.encode(), now=now)


def _action(method: str, query: Mapping[str, str]) -> str | None:
    """Return the action that is called; None for anything else."""
    action = query.get("Action")
    known = method == "POST" and action in ACTIONS and query.get("Version") == VERSION
    return action if known else None


def _wrong_field(action: str, body: Mapping[str, Any]) -> tuple[int, str]:
    """Return the code and the words for what breaks the page's rules; (0, "") for nothing."""
    keys = REQ_KEYS if action == "CertVerify" else (QUERY_KEY,)
    if body.get("req_key") not in keys:
        return 50400, "Access Denied: wrong req_key"
    texts = ["byted_token"] + (["risk_info"] if action == "CertVerify" else [])
    if action == "CertVerify":
        if ("sdk_data" in body) == ("video_key" in body):
            return 50201, "exactly one of sdk_data and video_key"
        texts += ["sdk_data"] if "sdk_data" in body else ["video_key", "tos_bucket"]
        if "video_key" in body and not isinstance(body.get("extra"), dict):
            return 50204, "extra must be an object"
    for name in texts:
        if name not in body:
            return 50201, f"{name} is missing"
        if not isinstance(body[name], str) or not body[name]:
            return 50204, f"{name} must be a text"
    return 0, ""


def _json_object(body: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


@functools.lru_cache(maxsize=64)
def _posix(x_date: str) -> float | None:
    try:
        return datetime.strptime(x_date, signing.DATE_FORMAT).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
