"""The vendor's request signature as named, pure steps; strings and bytes in, strings out.

::

    canonical_request ─→ string_to_sign ─→ signature ─→ authorization
                                            ↑
                     signing_key(secret, date, region, service)

The scheme is V4-like: HMAC-SHA256 over a canonical request, with a key derived from the secret
by date, region and service. Nothing here knows a clock, an environment or a disk: the time comes
in as an ``X-Date`` string. `SignedRequest` puts the steps together for `requests`, as the last
thing that happens to a request, over the bytes that go out.

Source: the vendor's public page on signing; every step is held against values computed with the
vendor's own client (``tests/data/signing_vectors.json``).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from requests.auth import AuthBase

from verifyanalytics.vendor.api import REGION, SERVICE

ALGORITHM = "HMAC-SHA256"
DATE_FORMAT = "%Y%m%dT%H%M%SZ"
"""``strftime`` format of ``X-Date``, in UTC."""

SIGNED_HEADERS = ("content-type", "host", "x-content-sha256", "x-date")
TOKEN_HEADER = "x-security-token"  # noqa: S105 - the header's name, not a token


def body_sha256(body: bytes) -> str:
    """Hex SHA-256 of the body, the value of ``X-Content-Sha256``.

    Examples
    --------
    >>> body_sha256(b"{}")
    '44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a'
    """
    return hashlib.sha256(body).hexdigest()


def canonical_query(query: Iterable[tuple[str, str]]) -> str:
    """Sorted RFC 3986 query; a space is ``%20``, only ``A-Z a-z 0-9 - _ . ~`` stay bare.

    Parameters
    ----------
    query : iterable of (str, str)
        Decoded names and values; a name may come more than once and keeps its order.

    Examples
    --------
    >>> canonical_query([("Version", "2022-08-31"), ("Action", "a b*")])
    'Action=a%20b%2A&Version=2022-08-31'
    """
    pairs = sorted(query, key=lambda pair: pair[0])
    return "&".join(
        f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in pairs
    )


def canonical_host(host: str) -> str:
    """The host as it is signed: ``:80`` and ``:443`` are no part of it, other ports are.

    Examples
    --------
    >>> canonical_host("localhost:443"), canonical_host("localhost:8443")
    ('localhost', 'localhost:8443')
    """
    name, colon, port = host.rpartition(":")
    return name if colon and port in {"80", "443"} and not name.endswith(":") else host


def signed_header_names(headers: Mapping[str, str]) -> tuple[str, ...]:
    """Names that are signed, lower case and sorted; with the security token when it is there."""
    names = {name.lower() for name in headers}
    return (*SIGNED_HEADERS, TOKEN_HEADER) if TOKEN_HEADER in names else SIGNED_HEADERS


def canonical_request(
    method: str,
    path: str,
    query: Iterable[tuple[str, str]],
    headers: Mapping[str, str],
    body_hash: str,
) -> str:
    """Put the request into the one form that both sides hash.

    Parameters
    ----------
    method, path : str
        As sent; an empty path is ``/``.
    query : iterable of (str, str)
        Decoded names and values.
    headers : mapping
        At least the headers of `SIGNED_HEADERS`, in any letter case.
    body_hash : str
        `body_sha256` of the bytes sent.

    Raises
    ------
    KeyError
        A header that must be signed is not there; the key is its name.
    """
    values = {name.lower(): value.strip() for name, value in headers.items()}
    values["host"] = canonical_host(values["host"])
    names = signed_header_names(headers)
    lines = "".join(f"{name}:{values[name]}\n" for name in names)
    quoted_path = quote(path or "/", safe="/-_.~%")
    return "\n".join(
        [method, quoted_path, canonical_query(query), lines, ";".join(names), body_hash]
    )


def credential_scope(x_date: str, region: str = REGION, service: str = SERVICE) -> str:
    """What a derived key is good for: ``YYYYMMDD/region/service/request``."""
    return f"{x_date[:8]}/{region}/{service}/request"


def string_to_sign(canonical: str, x_date: str, scope: str) -> str:
    """Algorithm, time, scope and the hash of the canonical request, one a line."""
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    return "\n".join([ALGORITHM, x_date, scope, digest])


def signing_key(secret_key: str, date: str, region: str = REGION, service: str = SERVICE) -> bytes:
    """Key of 32 bytes: HMAC of the secret with date, region, service and ``request`` in turn.

    Parameters
    ----------
    secret_key : str
        As given by the vendor; no prefix is put before it.
    date : str
        ``YYYYMMDD``, the first eight characters of ``X-Date``.
    """
    key = secret_key.encode()
    for part in (date, region, service, "request"):
        key = _hmac(key, part)
    return key


def signature(key: bytes, to_sign: str) -> str:
    """Hex HMAC-SHA256 of the string to sign."""
    return _hmac(key, to_sign).hex()


def authorization(access_key: str, scope: str, names: Iterable[str], signed: str) -> str:
    """Value of the ``Authorization`` header."""
    return (
        f"{ALGORITHM} Credential={access_key}/{scope}, "
        f"SignedHeaders={';'.join(names)}, Signature={signed}"
    )


@dataclass(frozen=True)
class SignedRequest(AuthBase):
    """A `requests` auth that signs last, over the frozen body bytes.

    Parameters
    ----------
    access_key, secret_key : str
        Long-lived or temporary credentials; neither is in the repr.
    session_token : str, optional
        Security token of temporary (STS) credentials; it becomes a signed header.
    x_date : callable
        Gives the ``X-Date`` text at the moment of signing.
    region, service : str
        What the vendor calls them.

    Raises
    ------
    TypeError
        The body is neither bytes nor text: a stream cannot be signed and then sent.
    """

    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    x_date: Callable[[], str] = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    region: str = REGION
    service: str = SERVICE

    def __call__(self, request: Any) -> Any:
        """Freeze the body to bytes, set the signed headers and the ``Authorization``."""
        body = request.body or b""
        if not isinstance(body, str | bytes | bytearray):
            raise TypeError(f"a body of bytes or text can be signed, not {type(body).__name__}")
        request.body = body.encode() if isinstance(body, str) else bytes(body)
        url = urlsplit(request.url)
        x_date = self.x_date()
        headers = {
            "Content-Type": request.headers.get("Content-Type", "application/json"),
            "Host": url.netloc.rpartition("@")[2],
            "X-Content-Sha256": body_sha256(request.body),
            "X-Date": x_date,
        }
        if self.session_token:
            headers["X-Security-Token"] = self.session_token
        query = parse_qsl(url.query, keep_blank_values=True)
        canonical = canonical_request(
            request.method, url.path, query, headers, headers["X-Content-Sha256"]
        )
        scope = credential_scope(x_date, self.region, self.service)
        key = signing_key(self.secret_key, x_date[:8], self.region, self.service)
        signed = signature(key, string_to_sign(canonical, x_date, scope))
        request.headers.update(headers)
        request.headers["Host"] = canonical_host(headers["Host"])
        request.headers["Content-Length"] = str(len(request.body))
        request.headers["Authorization"] = authorization(
            self.access_key, scope, signed_header_names(headers), signed
        )
        return request


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()
