"""One signed call to the vendor: request in, `Response` out.

A request is checked against the rules of the vendor's page, signed last and handed to the
`transport`, which carries it once; `replies` reads what comes back. A response is returned,
everything else is an error that says whether the call may be sent again.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NoReturn
from urllib.parse import urlencode

import requests

from verifyanalytics.errors import InputError, RefusedError, UsageError, VerifyAnalyticsError
from verifyanalytics.vendor.api import (
    API_VERSION,
    DOMAINS,
    ENDPOINT,
    QUERY,
    QUERY_KEY,
    VERIFY,
    VERIFY_KEYS,
)
from verifyanalytics.vendor.credentials import Credentials, find_credentials
from verifyanalytics.vendor.replies import ANSWERS, Outcome, Reply, without
from verifyanalytics.vendor.signing import DATE_FORMAT, SignedRequest
from verifyanalytics.vendor.transport import RequestsTransport, Timeouts, Transport, is_loopback

SECRET_FIELDS = ("byted_token", "sdk_data", "risk_info", "video_key")
REQUEST_FIELDS = frozenset(
    {"req_key", "byted_token", "sdk_data", "video_key", "tos_bucket", "extra", "risk_info"}
)


try:
    USER_AGENT = f"verifyanalytics/{version('verifyanalytics')}"
except PackageNotFoundError:
    USER_AGENT = "verifyanalytics/unknown"

_LABEL = "[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_ENDPOINT = re.compile(
    rf"(?P<scheme>https?)://(?P<host>{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:.]+\])"
    r"(?::(?P<port>[0-9]{1,5}))?/?",
    re.ASCII,
)


class CallError(VerifyAnalyticsError):
    """A call that brought no response.

    Attributes
    ----------
    reply : Reply
        All that is known.
    code, gateway_code, request_id, http_status
        As in the reply; None when absent.
    retryable : bool
        True when nothing was processed, so that the call may be sent again.
    billed : bool or None
        None is unknown: settle it with a query before anything else.
    """

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.code = reply.code
        self.gateway_code = reply.gateway_code
        self.request_id = reply.request_id
        self.http_status = reply.http_status
        self.billed = reply.billed
        self.retryable = reply.outcome in _RETRYABLE
        known = [f"{name} {value}" for name, value in (
            ("HTTP", reply.http_status), ("code", reply.code or reply.gateway_code),
            ("request_id", reply.request_id),
        ) if value is not None]  # fmt: skip
        super().__init__(f"{reply.outcome}: {', '.join([reply.message or 'no reply', *known])}")

    def __reduce__(self) -> tuple[type[CallError], tuple[Reply]]:
        return type(self), (replace(self.reply, body=b""),)  # images stay in this process


class NotSentError(CallError):
    """The call never left: name resolution, connection, proxy, rate limit. Send it again."""

    exit_code = 6


class CallRefusedError(CallError, RefusedError):
    """Credentials, clock, permission or TLS; sending again does not help."""

    exit_code = 5


class CallInDoubtError(CallError):
    """The call may have been processed and billed; never send it again, query its token."""

    exit_code = 4


_RETRYABLE = frozenset({Outcome.NOT_SENT, Outcome.TURNED_AWAY, Outcome.RATE_LIMITED, Outcome.CLOCK})
_REFUSED = frozenset({Outcome.TLS, Outcome.CLOCK, Outcome.REFUSED, Outcome.DENIED})


@dataclass(frozen=True, slots=True)
class Response:
    """The service's response: 10000, or a code that says why there is no verdict.

    Attributes
    ----------
    action : str
        ``CertVerify`` or ``CertVerifyQuery``.
    req_key : str
        As sent.
    reply : Reply
        Code, sub-code, request_id, billing, HTTP status, and the body as received.
    received_at : datetime
        UTC time at which the body was complete.
    elapsed_s : float
        Seconds from connecting to the end of the body.
    """

    action: str
    req_key: str
    reply: Reply
    received_at: datetime
    elapsed_s: float

    @property
    def document(self) -> dict[str, Any]:
        """The body as parsed JSON; images are in it, keep it in memory only."""
        parsed: dict[str, Any] = json.loads(self.reply.body)
        return parsed

    @property
    def verdict(self) -> bool | None:
        """The vendor's ``result``; None when there is none."""
        data = self.document.get("data")
        found = data.get("result") if isinstance(data, dict) else None
        return found if isinstance(found, bool) else None


def validate_request(request: Mapping[str, Any]) -> dict[str, Any]:
    """Check a CertVerify request against the rules of the vendor's page.

    Parameters
    ----------
    request : mapping
        ``req_key``, ``byted_token``, ``risk_info`` and exactly one of ``sdk_data`` and
        ``video_key``; with ``video_key`` also ``tos_bucket`` and ``extra`` (an object).

    Returns
    -------
    dict
        The fields that are set, ready for the body.

    Raises
    ------
    InputError
        Names the field and what it needs, never its value.
    """
    given = {name: value for name, value in request.items() if value is not None}
    unknown = sorted(given.keys() - REQUEST_FIELDS)
    if unknown:
        raise InputError(
            f"unknown field {unknown[0][:60]!r}; "
            f"CertVerify takes: {', '.join(sorted(REQUEST_FIELDS))}"
        )
    for name in ("req_key", "byted_token", "risk_info"):
        _require_text(given, name)
    if given["req_key"] not in VERIFY_KEYS:
        raise InputError(f"req_key must be {' or '.join(VERIFY_KEYS)}")
    if ("sdk_data" in given) == ("video_key" in given):
        raise InputError("exactly one of sdk_data and video_key must be set")
    if "sdk_data" in given:
        _require_text(given, "sdk_data")
        return given
    _require_text(given, "video_key")
    _require_text(given, "tos_bucket")
    if not isinstance(given.get("extra"), dict):
        raise InputError("extra must be an object when video_key is set")
    return given


class Client:
    """Calls CertVerify and CertVerifyQuery, one signed call at a time; safe to use from threads.

    Parameters
    ----------
    credentials : Credentials, optional
        Default: the chain of `credentials.find_credentials`.
    endpoint : str
        The vendor's hosts over https; loopback also over http.
    transport : Transport, optional
        What carries the request; by default `requests`, with proxies and CA bundle from the
        usual variables.
    timeouts : Timeouts, optional
        Bounds of one call.
    clock : callable, optional
        POSIX time in seconds; `clock_offset` is added to it for signing.

    Raises
    ------
    UsageError
        An endpoint that is neither the vendor's nor loopback.
    CredentialsError
        No credentials were found.

    Examples
    --------
    >>> from verifyanalytics import serve
    >>> request = {"req_key": "cert_pro_src_verify", "byted_token": "token-1",
    ...            "sdk_data": "…", "risk_info": "…"}
    >>> with serve(seed=1) as service:
    ...     client = Client(Credentials(service.access_key, service.secret_key), service.address)
    ...     response = client.verify(request)
    >>> response.reply.code, response.verdict
    (10000, False)

    See Also
    --------
    verifyanalytics.Credentials : The access key that a client signs with.
    verifyanalytics.collect : Many calls, each token once, into a store.
    """

    def __init__(
        self,
        credentials: Credentials | None = None,
        endpoint: str = ENDPOINT,
        transport: Transport | None = None,
        *,
        timeouts: Timeouts | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.endpoint = check_endpoint(endpoint)
        self.credentials = find_credentials() if credentials is None else credentials
        self.timeouts = timeouts or Timeouts()
        self.clock_offset = 0.0
        self._given_credentials = credentials is not None
        self._clock = clock
        self._transport = transport or RequestsTransport()

    def __repr__(self) -> str:
        return f"Client(endpoint={self.endpoint!r}, credentials={self.credentials!r})"

    @property
    def account(self) -> str:
        """A fingerprint of the access key: which account a call is made for."""
        return hashlib.sha256(self.credentials.access_key.encode()).hexdigest()[:16]

    def __reduce__(self) -> NoReturn:
        raise TypeError("a client is not pickled; make it where it is used")

    def verify(self, request: Mapping[str, Any]) -> Response:
        """Send one CertVerify call. It is billed when the vendor processes it.

        Raises
        ------
        InputError
            The request breaks a rule of the page; nothing was sent.
        NotSentError, CallRefusedError
            Nothing was processed.
        CallInDoubtError
            It may have been processed: `query` its token, do not verify again.
        """
        return self._send(VERIFY, validate_request(request))

    def query(
        self,
        byted_token: str,
        *,
        omit_data: bool | None = None,
        omit_image_data: bool | None = True,
        omit_video_data: bool | None = True,
    ) -> Response:
        """Ask for the stored result of a token, kept for about an hour; consumes nothing.

        Parameters
        ----------
        byted_token : str
            The one-time token of the verification.
        omit_data, omit_image_data, omit_video_data : bool, optional
            What the vendor may leave out; images are left out by default.

        Raises
        ------
        InputError, CallError
            As `verify`; a query in doubt can simply be sent again.
        """
        return self._send(QUERY, query_body(
            byted_token, omit_data=omit_data, omit_image_data=omit_image_data,
            omit_video_data=omit_video_data,
        ))  # fmt: skip

    def call(self, action: str, body: Mapping[str, Any]) -> Reply:
        """Send one validated body and read the reply; a failure is a reply, too.

        Secrets of the call are redacted where the reply repeats them. A body that is no JSON is an
        `InputError`.
        """
        query = urlencode({"Action": action, "Version": API_VERSION})
        try:
            data = json.dumps(
                body, ensure_ascii=False, separators=(",", ":"), allow_nan=False
            ).encode()
        except (ValueError, TypeError, RecursionError):
            raise InputError("the request holds what JSON has no form for") from None
        request = requests.Request(
            "POST",
            f"{self.endpoint}/?{query}",
            data=data,
            headers={
                "Content-Type": "application/json",
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "Connection": "close",
                "User-Agent": USER_AGENT,
            },
            auth=SignedRequest(
                self.credentials.access_key,
                self.credentials.secret_key,
                self._x_date,
                self.credentials.session_token,
            ),
        )
        keys = (self.credentials.access_key, self.credentials.secret_key)
        payload = (body.get(name) for name in SECRET_FIELDS)
        secrets = (*keys, self.credentials.session_token, *payload)
        reply = self._transport.send(request, self.timeouts)
        return without(reply, [text for text in secrets if isinstance(text, str)])

    def correct_clock(self, reply: Reply) -> bool:
        """Take the server's ``Date`` as the time to sign with; False when it gave none."""
        if reply.server_time is None:
            return False
        self.clock_offset = reply.server_time - self._clock()
        return True

    def refresh_credentials(self) -> bool:
        """Look through the chain again; True when it now holds other credentials.

        Temporary credentials that ran out may have been renewed on disk meanwhile. Credentials
        given as arguments are never replaced.
        """
        if self._given_credentials:
            return False
        found = find_credentials()
        changed = found != self.credentials
        self.credentials = found
        return changed

    def _x_date(self) -> str:
        return datetime.fromtimestamp(self._clock() + self.clock_offset, UTC).strftime(DATE_FORMAT)

    def _send(self, action: str, body: Mapping[str, Any]) -> Response:
        started = time.monotonic()
        reply = self.call(action, body)
        if reply.outcome not in ANSWERS:
            raise call_error(reply)
        return Response(
            action,
            body["req_key"],
            reply,
            datetime.fromtimestamp(self._clock(), UTC),
            time.monotonic() - started,
        )


def call_error(reply: Reply) -> CallError:
    """Give the error for a reply that is no response of the service."""
    if reply.outcome in _REFUSED:
        return CallRefusedError(reply)
    if reply.outcome in _RETRYABLE:
        return NotSentError(reply)
    return CallInDoubtError(reply)


def query_body(byted_token: str, **omit: bool | None) -> dict[str, Any]:
    """Give the body of a CertVerifyQuery call; options that are None are left to the vendor."""
    body: dict[str, Any] = {"req_key": QUERY_KEY, "byted_token": byted_token}
    _require_text(body, "byted_token")
    options = {"omit_image_data": True, "omit_video_data": True} | omit
    return body | {name: value for name, value in options.items() if value is not None}


def check_endpoint(endpoint: str) -> str:
    """Accept only the vendor's hosts over https, and loopback: a call carries images of a face.

    The `UsageError` names the host and what would be accepted.
    """
    found = _ENDPOINT.fullmatch(endpoint.lower())
    if found is None:
        raise UsageError("the endpoint is no scheme://host or scheme://host:port")
    scheme, host, port = found["scheme"], found["host"].strip("[]"), found["port"]
    vendor = any(host == name or host.endswith(f".{name}") for name in DOMAINS)
    if not ((scheme == "https" and vendor) or is_loopback(host)):
        raise UsageError(
            f"endpoint {scheme}://{host} is not allowed; "
            "give a host of volcengineapi.com over https, or loopback"
        )
    if port is not None and not 0 < int(port) < 1 << 16:
        raise UsageError("the endpoint's port is not one of 1 to 65535")
    # put together anew: what was not matched goes nowhere
    return f"{scheme}://{found['host']}" + (f":{int(port)}" if port else "")


def _require_text(given: Mapping[str, Any], name: str) -> None:
    value = given.get(name)
    if not isinstance(value, str) or not value:
        raise InputError(f"{name} must be set to a text that is not empty")
