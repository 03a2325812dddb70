"""Carries one request over the network: once, on a fresh connection, within bounds.

No retries, no redirects, no decompression, no connection that served another call. Connecting is
a phase of its own: what fails before the connection stands was provably never processed, what
fails after it may have been. A deadline bounds the whole call, however slowly bytes trickle.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any, Protocol

import requests
import urllib3
from requests.adapters import HTTPAdapter

from verifyanalytics.replies import MAX_BODY, Outcome, Reply, read_failure, read_reply


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Bounds of one call in seconds: connecting, one wait for bytes, and the whole."""

    connect: float = 5.0
    read: float = 30.0
    total: float = 60.0


class Transport(Protocol):
    """Sends one prepared request once and reads what comes back."""

    def send(self, request: requests.Request, timeouts: Timeouts) -> Reply:
        """Never raises for what the network does: each failure is a `Reply`."""
        ...


class RequestsTransport:
    """Carries a request with `requests`: once, on a fresh connection, within bounds."""

    def send(self, request: requests.Request, timeouts: Timeouts) -> Reply:
        """Send and read; see `Transport`."""
        watch = _Watch()
        deadline = threading.Timer(timeouts.total, watch.expire)
        deadline.daemon = True
        deadline.start()
        try:
            return self._exchange(request, timeouts, watch)
        except requests.exceptions.SSLError as error:
            kind = Outcome.LOST if watch.connected else Outcome.TLS
            return read_failure(kind, _failure_name(error))
        except (
            requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError,
        ) as error:  # fmt: skip
            kind = Outcome.LOST if watch.connected else Outcome.NOT_SENT
            return read_failure(kind, "timed out" if watch.expired else _failure_name(error))
        finally:
            deadline.cancel()
            deadline.join()

    def _exchange(self, request: requests.Request, timeouts: Timeouts, watch: _Watch) -> Reply:
        with requests.Session() as session:
            adapter = _WatchedAdapter(watch)
            session.mount("https://", adapter)
            session.mount("http://", adapter)
            # the environment's proxies and CA bundle count, a stored .netrc login does not
            prepared = session.prepare_request(request)
            settings = session.merge_environment_settings(prepared.url, {}, True, None, None)
            response = session.send(
                prepared,
                timeout=(timeouts.connect, timeouts.read),
                allow_redirects=False,
                **settings,
            )
            with response:
                return self._read(response, watch)

    def _read(self, response: requests.Response, watch: _Watch) -> Reply:
        try:
            body = _read_body(response)
        except urllib3.exceptions.ProtocolError as error:
            # an end that came early but in order is a reply cut short; a reset is a lost one
            if (
                _CUT_SHORT & {type(cause).__name__ for cause in _causes(error)}
                and not watch.expired
            ):
                return read_failure(Outcome.UNPARSED, "truncated")
            raise
        if watch.expired:
            return read_failure(Outcome.LOST, "timed out")
        if body is None:
            return read_failure(Outcome.UNPARSED, f"reply over {MAX_BODY >> 20} MiB")
        return read_reply(response.status_code, response.headers, body, time.time())


class _Watch:
    """Whether the connection stood already, and its socket for the deadline to shut."""

    def __init__(self) -> None:
        self.connected = False
        self.expired = False
        self._lock = threading.Lock()
        self._connection: Any = None

    def connects(self, connection: Any) -> None:
        with self._lock:
            self._connection = connection
            if self.expired:
                raise TimeoutError("timed out")

    def expire(self) -> None:
        """Shut the socket, so that whoever waits on it wakes up."""
        with self._lock:
            self.expired = True
            sock = getattr(self._connection, "sock", None)
        if sock is not None:
            try:
                sock.shutdown(2)
            except OSError:
                return  # closed already: nobody waits on it


class _WatchedAdapter(HTTPAdapter):
    """An adapter whose connections tell a watch when they stand."""

    def __init__(self, watch: _Watch) -> None:
        self._watch = watch
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=0)

    def get_connection_with_tls_context(self, *args: Any, **options: Any) -> Any:
        pool = super().get_connection_with_tls_context(*args, **options)
        pool.ConnectionCls = _watched(pool.ConnectionCls, self._watch)
        return pool


def _watched(kind: type, watch: _Watch) -> type:
    base: Any = kind

    class Watched(base):
        def connect(self) -> None:
            watch.connects(self)
            super().connect()
            watch.connected = True

    return Watched


def _read_body(response: requests.Response) -> bytes | None:
    """The body as sent, or None when it is over the cap; no decompression."""
    chunks: list[bytes] = []
    left = MAX_BODY
    for chunk in response.raw.stream(65536, decode_content=False):
        left -= len(chunk)
        if left < 0:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


_CUT_SHORT = {"IncompleteRead", "InvalidChunkLength"}


def _causes(error: BaseException) -> list[BaseException]:
    """The error and what it wraps, outermost first, by whichever of four ways it is wrapped."""
    chain = [error]
    while len(chain) < 16:
        seen = chain[-1]
        wrapped = next((a for a in seen.args if isinstance(a, BaseException)), None)
        inner = getattr(seen, "reason", None) or wrapped or seen.__cause__ or seen.__context__
        if not isinstance(inner, BaseException):
            break
        chain.append(inner)
    return chain


def _failure_name(error: BaseException) -> str:
    """Name of the innermost cause: no text, since texts hold addresses and queries."""
    return type(_causes(error)[-1]).__name__
