"""Carry one request over the network: once, on a fresh connection, within bounds.

No retries, no redirects, no decompression, no connection that served another call. A call that
fails before its last byte is sent was provably not processed; one that fails after it may have
been. A deadline bounds the whole call, however slowly bytes trickle.
"""

from __future__ import annotations

import http.client
import ipaddress
import ssl
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from verifyanalytics.vendor.replies import MAX_BODY, Outcome, Reply, read_failure, read_reply


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
    """Carries a request with `requests`: once, on a fresh connection, within bounds.

    Proxies and CA bundle come from the usual variables, read once for each endpoint; a stored
    .netrc login is never used.
    """

    def __init__(self) -> None:
        self._deadlines = _Deadlines()
        self._settings: dict[str, dict[str, Any]] = {}

    def send(self, request: requests.Request, timeouts: Timeouts) -> Reply:
        """Send and read; see `Transport`."""
        watch = _Watch()
        self._deadlines.add(watch, time.monotonic() + timeouts.total)
        try:
            return self._exchange(request, timeouts, watch)
        except (
            requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError,
            http.client.HTTPException, ValueError,  # the last for what no parser of HTTP takes
        ) as error:  # fmt: skip
            causes = _causes(error)
            kind = Outcome.LOST if watch.is_sent else Outcome.NOT_SENT
            # a certificate that is not trusted will not be next time; other handshakes may succeed
            is_distrust = any(isinstance(c, ssl.SSLCertVerificationError) for c in causes)
            if is_distrust and isinstance(error, requests.exceptions.SSLError):
                kind = Outcome.LOST if watch.is_sent else Outcome.TLS
            # no text of the error: it may hold an address or a query
            name = type(causes[-1]).__name__
            return read_failure(kind, "timed out" if watch.expired else name)
        finally:
            self._deadlines.remove(watch)

    def _exchange(self, request: requests.Request, timeouts: Timeouts, watch: _Watch) -> Reply:
        # an adapter, not a session: no redirects, no cookies, no connection kept for the next call
        prepared = request.prepare()
        with closing(_WatchedAdapter(watch)) as adapter:
            response = adapter.send(
                prepared,
                timeout=(timeouts.connect, timeouts.read),
                **self._environment(prepared.url or ""),
            )
            with response:
                return self._read(response, watch)

    def _environment(self, url: str) -> dict[str, Any]:
        """Give the proxies and certificates that the environment sets for an endpoint."""
        place = url.partition("?")[0]
        if place not in self._settings:
            with requests.Session() as session:
                settings = session.merge_environment_settings(url, {}, True, None, None)
            if is_loopback(urlsplit(url).hostname or ""):
                settings["proxies"] = {}  # another machine's loopback is not ours
            self._settings[place] = settings
        return self._settings[place]

    def _read(self, response: requests.Response, watch: _Watch) -> Reply:
        chunks: list[bytes] = []
        left = MAX_BODY
        try:
            for chunk in response.raw.stream(65536, decode_content=False):
                left -= len(chunk)
                if left < 0:
                    break
                chunks.append(chunk)
        except urllib3.exceptions.ProtocolError as error:
            # an end that came early but in order is a reply cut short; a reset is a lost one
            if (
                _CUT_SHORT & {type(cause).__name__ for cause in _causes(error)}
                and not watch.expired
            ):
                kind = Outcome.UNPARSED if watch.is_sent else Outcome.NOT_SENT
                return read_failure(kind, "truncated")
            raise
        if watch.expired:
            return read_failure(Outcome.LOST, "timed out")
        if left < 0:
            return read_failure(Outcome.UNPARSED, f"reply over {MAX_BODY >> 20} MiB")
        body = b"".join(chunks)
        status, headers = response.status_code, response.headers
        return read_reply(status, headers, body, time.time(), is_sent=watch.is_sent)


class _Deadlines:
    """One thread that shuts the sockets of calls that are over their time.

    It begins with the first call and ends a second after the last.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._open: dict[_Watch, float] = {}
        self._is_running = False

    def add(self, watch: _Watch, at: float) -> None:
        with self._changed:
            self._open[watch] = at
            if not self._is_running:
                self._is_running = True
                threading.Thread(target=self._run, name="deadlines", daemon=True).start()
            elif at <= min(self._open.values()):
                self._changed.notify()

    def remove(self, watch: _Watch) -> None:
        with self._changed:
            self._open.pop(watch, None)

    def _run(self) -> None:
        with self._changed:
            idle = False
            while self._open or not idle:
                idle = not self._open
                now = time.monotonic()
                next_at = min(self._open.values(), default=now + 1.0)
                self._changed.wait(max(0.0, next_at - now))
                now = time.monotonic()
                for watch in [w for w, at in self._open.items() if at <= now]:
                    del self._open[watch]
                    watch.expire()
            self._is_running = False


class _Watch:
    """Whether the request was sent to its end, and its socket for the deadline to shut."""

    def __init__(self) -> None:
        self.is_sent = False
        self.expired = False
        self._lock = threading.Lock()
        self._connection: Any = None
        self._sock: Any = None

    def connecting(self, connection: Any) -> None:
        with self._lock:
            self._connection = connection
            if self.expired:
                raise TimeoutError("timed out")

    def established(self, sock: Any) -> None:
        """Keep the socket: its connection lets go of it when the server means to close."""
        with self._lock:
            self._sock = sock

    def expire(self) -> None:
        """Shut the socket, so that the thread that waits on it wakes up."""
        with self._lock:
            self.expired = True
            sock = self._sock or getattr(self._connection, "sock", None)
        if sock is not None:
            try:
                sock.shutdown(2)
            except OSError:
                return  # closed already: no thread waits on it


class _WatchedAdapter(HTTPAdapter):
    """An adapter whose connections tell a watch when they are established."""

    def __init__(self, watch: _Watch) -> None:
        self._watch = watch
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=0)

    def get_connection_with_tls_context(self, *args: Any, **options: Any) -> Any:
        pool = super().get_connection_with_tls_context(*args, **options)
        base: Any = pool.ConnectionCls
        watch = self._watch

        class Watched(base):
            def connect(self) -> None:
                watch.connecting(self)
                super().connect()
                watch.established(self.sock)

            def request(self, *args: Any, **options: Any) -> None:
                # urllib3 goes on to read when the server closes in the middle of a request
                super().request(*args, **options)
                watch.is_sent = True

        pool.ConnectionCls = Watched
        return pool


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


def is_loopback(host: str) -> bool:
    """Say whether a host is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
