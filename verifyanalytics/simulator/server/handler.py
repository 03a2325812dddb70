"""The handler of one request to the simulated service: signature, clock, rules, tokens, faults.

It touches no socket: a `Request` comes in, the steps that go over the wire come out. Checks run in
the order in which a gateway and a service behind it would: signature, date, limits, fields, token.
"""

from __future__ import annotations

import functools
import hmac
import json
import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from verifyanalytics.simulator.rendering import gateway_body, service_body
from verifyanalytics.simulator.server.answer_pool import AnswerPool, Ready, request_id
from verifyanalytics.simulator.server.faults import HttpReply, Send, Step
from verifyanalytics.simulator.server.ledger import Ledger
from verifyanalytics.simulator.server.scripts import Script, token_digest
from verifyanalytics.vendor import api, signing

DATE_WINDOW_S = 15 * 60

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
    """The keys that the service accepts; the secret ones are in no repr."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


class Handler:
    """Answers requests one at a time; its arguments are those of `serve`."""

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
        self.pool, self.ledger, self.access, self._script = pool, ledger, access, script
        self._seed, self._ready_after, self._clock = seed, ready_after, clock
        self._qps, self._recent = qps, deque[float]()
        self._numbers = dict.fromkeys(api.ACTIONS, 0)
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
            self.ledger.count_request("stray")
            plain = {"Content-Type": "text/plain"}
            return [Send(HttpReply(404, b"not here", plain, now).whole())]
        named = dict(query)
        action = named.get("Action")
        known = action in api.ACTIONS and named.get("Version") == api.API_VERSION
        if request.method != "POST" or action is None or not known:
            return [Send(self._gateway("InvalidActionOrVersion", 100008, 404, now).whole())]
        wrong = self._signature_fault(request, path, query)
        if wrong is not None:
            self.ledger.count_request("unsigned")
            return [Send(self._gateway(*wrong, now).whole())]
        return self._call(action, request, now)

    def _signature_fault(
        self, request: Request, path: str, query: list[tuple[str, str]]
    ) -> tuple[str, int | None, int] | None:
        """Return code, number and HTTP status of a fault of the signature; None: it is good."""
        headers = request.headers
        if "authorization" not in headers:
            return "MissingAuthenticationToken", 100003, 401
        given = _AUTHORIZATION.fullmatch(headers["authorization"])
        if given is None:
            return "InvalidAuthorization", None, 400
        access_key, date, region, service, names, signed = given.groups()
        if access_key != self.access.access_key:
            return "InvalidAccessKey", 100009, 401
        if headers.get(signing.TOKEN_HEADER) != self.access.session_token:
            return "InvalidSecretToken", None, 401
        x_date = headers.get("x-date", "")
        if (date, region, service) != (x_date[:8], api.REGION, api.SERVICE):
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
        try:
            body = json.loads(request.body)
        except (ValueError, RecursionError):
            body = None
        body = body if isinstance(body, dict) else None
        token = body.get("byted_token") if body is not None else None
        digest = token_digest(token if isinstance(token, str) else "")
        self._numbers[action] += 1
        nth = self.ledger.n_received(digest) + 1
        rule = self._script.strike(action, digest, self._numbers[action], nth)
        fault = None if rule is None else rule.kind.name
        now += float(rule.options.get("seconds", 0)) if rule and fault == "clock_skew" else 0.0
        refusal = self._refusal(action, request, body, now)
        if refusal is not None or (rule is not None and not rule.processed):
            self.ledger.count(digest, "refused" if action == api.VERIFY else "query", fault)
        if refusal is not None:
            return [Send(refusal.whole())]
        if rule is not None and not rule.processed:
            return rule.steps(self._reply(50500, "Internal Error", 500, now))
        reply = self._served(action, body or {}, digest, fault, now)
        if request.headers.get("connection", "").lower() == "close":  # echoed, as servers do
            reply = replace(reply, headers={**reply.headers, "Connection": "close"})
        return [Send(reply.whole())] if rule is None else rule.steps(reply)

    def _refusal(
        self, action: str, request: Request, body: dict[str, Any] | None, now: float
    ) -> HttpReply | None:
        """Return the reply to a call that is never processed; None for one that will be."""
        at = _posix(request.headers["x-date"])
        if at is None or abs(at - now) > DATE_WINDOW_S:
            return self._gateway(api.GATEWAY_CLOCK, 100006, 403, now)
        if self._over_limit(now):
            return self._reply(50429, "Request Has Reached API Limit", 429, now)
        if len(request.body) > api.MAX_REQUEST_BYTES:
            return self._reply(50213, "request body over 10 MB", 400, now)
        if body is None:
            return self._reply(50204, "the body is no JSON object", 400, now)
        code, message = _wrong_field(action, body)
        if not code:
            return None
        return self._reply(code, message, 401 if code == 50400 else 400, now)

    def _over_limit(self, now: float) -> bool:
        while self._recent and self._recent[0] <= now - 1.0:
            self._recent.popleft()
        if self._qps is not None and len(self._recent) >= self._qps:
            return True
        self._recent.append(now)
        return False

    def _served(
        self, action: str, body: dict[str, Any], digest: str, fault: str | None, now: float
    ) -> HttpReply:
        if action == api.QUERY:
            self.ledger.count(digest, "query", fault)
            return self._queried(digest, body, now)
        if digest in self._used:
            self.ledger.count(digest, "processed", fault)
            return self._unknown("byted_token was used already", now)
        ready = self.pool.of(body["byted_token"])
        self._used[digest] = (now, ready)
        self.ledger.count(digest, "processed", fault, ready.billed)
        return HttpReply(ready.status, ready.verify_body(self._new_id(now)), now=now)

    def _queried(self, digest: str, body: dict[str, Any], now: float) -> HttpReply:
        at, ready = self._used.get(digest, (None, None))
        if at is None or ready is None or now - at > api.RESULT_KEPT_S:
            return self._unknown("no result of this byted_token", now)
        if now - at < self._ready_after:
            return self._unknown("the result is not ready", now)
        omit = frozenset(name for name, value in body.items() if value is True)
        return HttpReply(200, ready.query_body(self._new_id(now), omit), now=now)

    def _new_id(self, now: float) -> str:
        self._n_ids += 1
        return request_id(self._seed, self._n_ids, now)

    def _unknown(self, sub_message: str, now: float) -> HttpReply:
        """Return the reply for a token of which the service has no result to give."""
        code, sub_code = api.UNKNOWN_TOKEN
        data = {
            "algorithm_base_resp": {"status_code": sub_code, "status_message": sub_message},
            "req_measure_info": {"measure_type": "query_num", "value": 0},
        }
        return self._reply(code, f"RPCProcess: {sub_message}", 400, now, data)

    def _reply(
        self, code: int, message: str, status: int, now: float, data: Any = None
    ) -> HttpReply:
        body = service_body(self._new_id(now), code, message, data)
        return HttpReply(status, body.encode(), now=now)

    def _gateway(self, code: str, number: int | None, status: int, now: float) -> HttpReply:
        body = gateway_body(self._new_id(now), code, number, f"simulated {code}")
        return HttpReply(status, body.encode(), now=now)


def _wrong_field(action: str, body: Mapping[str, Any]) -> tuple[int, str]:
    """Return code and message of a field against the vendor's page; (0, "") if all are right."""
    if body.get("req_key") not in (api.VERIFY_KEYS if action == api.VERIFY else (api.QUERY_KEY,)):
        return 50400, "Access Denied: wrong req_key"
    texts = ["byted_token"]
    if action == api.VERIFY:
        texts.append("risk_info")
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


@functools.lru_cache(maxsize=64)
def _posix(x_date: str) -> float | None:
    try:
        return datetime.strptime(x_date, signing.DATE_FORMAT).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
