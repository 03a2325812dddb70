"""The vendor's API on loopback: signed calls, one-time tokens, asynchronous results, faults, bill.

Answers come from a seeded population, so that the truth of each token is known; which answer a
token gets depends on the seed and the token only. Processed and billed calls are counted for each
token: the oracle of whether a client paid twice. It can be asked in the process
(`Service.calls`, `Service.bill`), over loopback (``GET /_simulator/bill``), or read from a ledger
file that is written as things happen and survives a kill.

One thread runs an event loop: `Handler` decides what is answered, a connection plays it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

from verifyanalytics.errors import UsageError
from verifyanalytics.simulator.server.answer_pool import AnswerPool
from verifyanalytics.simulator.server.faults import Close, HttpReply, Send, Step, Wait
from verifyanalytics.simulator.server.handler import Access, Handler, Request
from verifyanalytics.simulator.server.ledger import Bill, Calls, Ledger
from verifyanalytics.simulator.server.scripts import Script, parse_script, token_digest
from verifyanalytics.simulator.world import World

LOOPBACK = ("127.0.0.1", "::1")
MAX_HEAD = 64 * 1024
MAX_REQUEST = 32 * 1024 * 1024
BILL_PATH = "/_simulator/bill"
# SO_LINGER of 0 s: closing sends RST
_RESET = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)


class Service:
    """A running simulator of the API; made by `serve`.

    Attributes
    ----------
    address : str
        Where it listens, such as ``http://127.0.0.1:40123``: the endpoint for a client.
    port : int
    access_key, secret_key : str
        The keys that it accepts; not in the repr.

    See Also
    --------
    serve, Calls, Bill
    """

    def __init__(self, listener: socket.socket, handler: Handler, latency: float) -> None:
        host, self.port = listener.getsockname()[:2]
        self.address = f"http://{f'[{host}]' if ':' in host else host}:{self.port}"
        self.access_key, self.secret_key = handler.access.access_key, handler.access.secret_key
        self.handler, self.latency, self._listener = handler, latency, listener
        self.connections: set[_Connection] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="simulator", daemon=True)

    def __repr__(self) -> str:
        return f"Service({self.address})"

    def calls(self, token: str) -> Calls:
        """Return what happened to a token: received, refused, processed, billed, queries."""
        return self.handler.ledger.calls(token_digest(token))

    def bill(self) -> Bill:
        """Return what happened to all tokens."""
        return self.handler.ledger.bill()

    def truth(self, token: str) -> dict[str, Any]:
        """Return the row of `Simulation.truth` of a token's verification."""
        return dict(self.handler.pool.of(token).truth)

    def start(self) -> None:
        """Begin to answer; `serve` does it."""
        self._thread.start()
        self._started.wait()

    def stop(self) -> None:
        """Close every connection and end the thread; `serve` does it."""
        if self._loop is not None:
            # the loop may have ended by itself
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        finally:
            self._started.set()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        server = await self._loop.create_server(lambda: _Connection(self), sock=self._listener)
        self._started.set()
        await self._stopping.wait()
        server.close()
        while self.connections:
            for connection in list(self.connections):
                connection.transport.abort()
            await asyncio.sleep(0)
        await server.wait_closed()


class _Connection(asyncio.Protocol):
    """One connection: reads requests and plays the steps of each answer, one at a time."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._buffer = bytearray()
        self._steps: list[Step] = []  # of the request that is being answered
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._service.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self._timer is not None:
            self._timer.cancel()
        self._service.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > MAX_HEAD + MAX_REQUEST:
            self.transport.abort()  # a client that does not wait for replies
        else:
            self._pump()

    def _pump(self) -> None:
        """Answer the requests that are there, one after the other."""
        while not self._steps and not self.transport.is_closing():
            try:
                request = _take_request(self._buffer)
            except ValueError as error:
                text = {"Content-Type": "text/plain", "Connection": "close"}
                reply = HttpReply(400, str(error).encode(), text, time.time())
                self._steps = [Send(reply.whole()), Close()]
            else:
                if request is None:
                    return
                self._steps = self._answer(request)
            if not self._play():
                return

    def _answer(self, request: Request) -> list[Step]:
        if request.method == "GET" and request.target == BILL_PATH:
            body = json.dumps(self._service.bill().as_json()).encode()
            steps: list[Step] = [Send(HttpReply(200, body, now=time.time()).whole())]
        else:
            steps = list(self._service.handler.answer(request))
        before: list[Step] = [Wait(self._service.latency)] if self._service.latency else []
        last = request.headers.get("connection", "").lower() == "close"
        return [*before, *steps, *([Close()] if last else [])]

    def _play(self) -> bool:
        """Play steps until none is left (True), or one takes time or ends the connection."""
        while self._steps:
            step = self._steps.pop(0)
            if isinstance(step, Send) and (step.per_second is None or len(step.data) <= 1):
                self.transport.write(step.data)
                continue
            if isinstance(step, Send):
                self.transport.write(step.data[:1])
                self._steps.insert(0, Send(step.data[1:], step.per_second))
                self._later(1 / (step.per_second or 1))
            elif isinstance(step, Wait):
                self._steps.insert(0, Send(b""))  # still busy, also when nothing follows
                self._later(step.seconds)
            elif step.reset:
                sock = self.transport.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                self.transport.abort()
            else:
                self.transport.close()
            return False
        return True

    def _resume(self) -> None:
        self._timer = None
        if self._play():
            self._pump()

    def _later(self, seconds: float) -> None:
        if seconds < math.inf:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._resume)


def _take_request(buffer: bytearray) -> Request | None:
    """Take a whole request off the buffer; None while more is to come.

    A ValueError has the reason why the bytes are no request that can be answered.
    """
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        if len(buffer) > MAX_HEAD:
            raise ValueError("the head is too long")
        return None
    first, *lines = buffer[:end].decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise ValueError("no HTTP/1 request")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    length = headers.get("content-length", "0")
    if not length.isdigit() or "transfer-encoding" in headers:
        raise ValueError("a body needs a Content-Length")
    if int(length) > MAX_REQUEST:
        raise ValueError("the body is too long")
    whole = end + 4 + int(length)
    if len(buffer) < whole:
        return None
    body = bytes(buffer[end + 4 : whole])
    del buffer[:whole]
    return Request(words[0], words[1], headers, body)


@contextlib.contextmanager
def serve(
    *,
    port: int = 0,
    seed: int = 0,
    faults: str | Path = "",
    access_key: str = "AKLTSIMULATED",
    secret_key: str = "not-a-secret",  # noqa: S107 - opens the simulator only
    session_token: str | None = None,
    world: World | None = None,
    latency: float = 0.0,
    ready_after: float = 0.2,
    qps: float | None = None,
    ledger: Path | None = None,
    host: str = "127.0.0.1",
    clock: Callable[[], float] = time.time,
) -> Iterator[Service]:
    """Serve the simulated API on loopback while the context lasts.

    Parameters
    ----------
    port : int
        0: any free one; see `Service.port`.
    seed : int
        Of the answers, the request ids and the chances of faults.
    faults : str or Path
        A script (see `parse_script`), or the file it stands in.
    access_key, secret_key, session_token : str
        The keys that a client must sign with.
    world : World, optional
        The population; its own faults are left out.
    latency : float
        Seconds before each reply.
    ready_after : float
        Seconds after a call in which a query finds its result not ready yet.
    qps : float, optional
        Calls a second beyond which 50429 is answered.
    ledger : Path, optional
        A file to which each event is appended.
    host : str
        A loopback address; nothing else is served.
    clock : callable
        POSIX time of the service.

    Yields
    ------
    Service

    Raises
    ------
    UsageError
        A host that is not loopback, a port that is taken, or a script that cannot be read.
    StorageError
        The ledger cannot be written.

    Examples
    --------
    >>> with serve(seed=1, faults="html_504 share=0.1") as service:
    ...     service.bill().processed
    0

    See Also
    --------
    run_service : The same until a signal comes.
    parse_script : The faults that can be played.
    collect : Sends calls; give its `Client` the service's address and keys.
    """
    if host not in LOOPBACK:
        raise UsageError(f"host is {host!r}; the simulator serves {' and '.join(LOOPBACK)} only")
    if latency < 0 or ready_after < 0 or (qps is not None and qps <= 0):
        raise UsageError("latency and ready_after must be 0 or more, qps more than 0")
    if isinstance(faults, Path):
        try:
            faults = faults.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"cannot read the faults in {faults}: {error}") from error
    script = Script(parse_script(faults), seed)
    access = Access(access_key, secret_key, session_token)
    pool = AnswerPool(seed, world or World())
    with contextlib.closing(Ledger(ledger)) as counts:
        handler = Handler(
            pool, script, counts, access, seed=seed, ready_after=ready_after, qps=qps, clock=clock
        )
        service = Service(_listen(host, port), handler, latency)
        service.start()
        try:
            yield service
        finally:
            service.stop()


def run_service(announce: Callable[[Service], None], **arguments: Any) -> None:
    """Serve until SIGINT or SIGTERM; the verb `serve`.

    Parameters
    ----------
    announce : callable
        Is given the running `Service` once, to print its address.
    **arguments
        Of `serve`.

    Raises
    ------
    UsageError
        An argument that cannot work, as of `serve`.

    Examples
    --------
    >>> import signal
    >>> run_service(lambda service: signal.raise_signal(signal.SIGINT), seed=1)

    See Also
    --------
    serve
    """
    stop = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: stop.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        with serve(**arguments) as service:
            announce(service)
            while not stop.wait(0.5):  # some platforms deliver no signal during an endless wait
                pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if not 0 <= port <= 65535:
        raise UsageError(f"cannot listen on port {port}; it must lie in [0, 65535]")
    try:
        return socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        raise UsageError(f"cannot listen on port {port} of {host}: {error}") from error
