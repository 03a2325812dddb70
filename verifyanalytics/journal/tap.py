"""A tap: a service that calls the vendor already gets a journal of the answers it receives.

Every CertVerify and CertVerifyQuery answer that passes a `requests` session is written to the
journal, without images and with token and subject as keyed hashes, before the service has it whole;
`import` reads the journal into the store. A tap never breaks the service nor changes what it sees:
network errors stay its own, a streamed answer is copied while the service reads it, and an answer
that cannot be written is counted and logged.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests

from verifyanalytics.journal.journal import Journal
from verifyanalytics.journal.raw_answers import raw_line
from verifyanalytics.parsing.text import Unreadable, keyed_hash, loads
from verifyanalytics.store.files import fingerprint, print_key, read_key
from verifyanalytics.vendor.replies import MAX_BODY, RULES, Outcome, State, as_query, read_reply

ACTIONS = frozenset({"CertVerify", "CertVerifyQuery"})
_logger = logging.getLogger(__name__)


class Tap:
    """A response hook and the journal it writes to.

    In a forked process the tap goes on with a journal of that process: `backend-4711.sqlite`
    beside `backend.sqlite`, made with its first answer.

    Attributes
    ----------
    journal : Journal
    n_recorded : int
        Answers that this process wrote so far.
    n_failed : int
        Answers that could not be written; each was logged with its reason.
    """

    def __init__(self, journal: Journal, key: bytes, *, prints: bytes | None = None) -> None:
        self.journal = journal
        self._key, self._prints = key, prints
        self._path = journal.path
        self._inherited: list[Journal] = []
        self._begin()
        _taps.add(self)

    def __call__(self, response: Any, *_args: Any, **options: Any) -> None:
        """Record one response that passed the session; responses of other services are ignored."""
        action = parse_qs(urlsplit(response.request.url or "").query).get("Action", [""])[0]
        if action not in ACTIONS:
            return
        if response.is_redirect:  # no answer; its body belongs to the redirect
            self._take(response, action, b"")
        elif options.get("stream") and response.raw is not None:
            _StreamCopy(
                response.raw, lambda body: self._take(response, action, _decoded(body)), self._fail
            )
        else:
            try:
                body = response.content  # read once, kept by `requests` for the service
            except requests.RequestException as error:
                self._fail(type(error).__name__)
                raise  # the service would have met it too
            self._take(response, action, body)

    def close(self) -> None:
        """Close the journal, so that `import` can read it."""
        self.journal.close()

    def after_fork(self) -> None:
        """Leave the parent's journal to the parent."""
        self.journal.close()
        self._inherited.append(self.journal)  # its connection is the parent's: never closed here
        self._begin(forked=True)

    def _begin(self, *, forked: bool = False) -> None:
        self.n_recorded = self.n_failed = 0
        self._lock = threading.Lock()
        self._is_forked = forked

    def _take(self, response: Any, action: str, body: bytes) -> None:
        """Record an answer; a failure of the tap never reaches the service."""
        try:
            written = self._record(response, action, body)
        except Exception as error:  # noqa: BLE001 - see above
            self._fail(f"{type(error).__name__}: {error}")
            return
        with self._lock:
            self.n_recorded += written

    def _record(self, response: Any, action: str, body: bytes) -> bool:
        request = _request_texts(response.request.body)
        token, req_key = request.get("byted_token"), request.get("req_key", "")
        if token is None:
            self._fail("the request's body has no byted_token")
            return False
        # `requests` has undone the encoding that the headers name
        headers = {k: v for k, v in response.headers.items() if k.lower() != "content-encoding"}
        reply = read_reply(response.status_code, headers, body, time.time())
        if action == "CertVerifyQuery":
            reply = as_query(reply)
        key = keyed_hash(self._key, "token", token)
        raw = raw_line(
            body,
            action=action,
            req_key=req_key,
            token=key,
            received_at=datetime.now(UTC),
            http_status=response.status_code,
            print_key=self._prints,
        )
        state = RULES[reply.outcome].state
        if raw is None:
            state = State.UNPARSED
        elif state is State.PLANNED or reply.outcome is Outcome.FAULT:
            state = State.REJECTED  # the service may try again, the journal may not
        journal = self._own_journal()
        journal.record(key, action, req_key, state, reply, raw)
        return raw is not None

    def _own_journal(self) -> Journal:
        with self._lock:
            if self._is_forked:
                name = f"{self._path.stem}-{os.getpid()}{self._path.suffix}"
                self.journal = Journal(self._path.with_name(name), fingerprint(self._key))
                self._is_forked = False
            return self.journal

    def _fail(self, why: str) -> None:
        with self._lock:
            self.n_failed += 1
        _logger.warning("an answer was not recorded: %s", why)


_taps: weakref.WeakSet[Tap] = weakref.WeakSet()


def _after_fork() -> None:
    for tap in list(_taps):
        tap.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def record(
    session: requests.Session,
    journal: str | Path,
    *,
    key_file: str | Path,
    image_prints: bool = False,
) -> Tap:
    """Journal every VerifyPro answer that passes a session.

    Parameters
    ----------
    session : requests.Session
        The service's own; the hook is added after those that are there.
    journal : path
        A file of this process alone: give each worker process its own name.
    key_file : path
        The store's key file, so that tokens and subjects get the store's pseudonyms.
    image_prints : bool
        Keep a keyed fingerprint of each image.

    Returns
    -------
    Tap
        `close` it before the journal is imported.

    Raises
    ------
    StorageError
        The journal or the key cannot be used; the session is left as it was.

    See Also
    --------
    import_responses : Reads the journal into a store.
    collect : Sends the calls itself.

    Examples
    --------
    >>> import tempfile
    >>> import requests
    >>> import verifyanalytics as va
    >>> folder = Path(tempfile.mkdtemp())
    >>> store = va.Store(folder / "store", create=True)
    >>> session = requests.Session()
    >>> tap = va.record(session, folder / "backend.sqlite", key_file=folder / "store.key")
    >>> tap.close()  # after the service has sent its calls
    >>> va.import_responses(folder / "backend.sqlite", store).read
    0
    """
    key = read_key(Path(key_file))
    prints = print_key(Path(key_file)) if image_prints else None
    tap = Tap(Journal(Path(journal), fingerprint(key)), key, prints=prints)
    session.hooks["response"].append(tap)
    return tap


class _StreamCopy:
    """A copy of a streamed answer, made while the service reads it.

    The reading methods of one `urllib3` response are wrapped. Their errors reach the service as
    they are. At the end `done` gets the whole body, or `failed` the reason why there is none.
    """

    def __init__(
        self, raw: Any, done: Callable[[bytes], None], failed: Callable[[str], None]
    ) -> None:
        self._raw, self._done, self._failed = raw, done, failed
        self._chunks: list[bytes] = []
        self._left = MAX_BODY
        self._is_inside = self._is_over = False
        wrappers: dict[str, Callable[[Any], Any]] = {
            "read": self._reading, "read1": self._reading, "stream": self._streaming,
            "read_chunked": self._streaming, "close": self._closing,
        }  # fmt: skip
        for name in wrappers.keys() & set(dir(raw)):
            setattr(raw, name, wrappers[name](getattr(raw, name)))

    def _reading(self, method: Callable[..., bytes]) -> Callable[..., bytes]:
        def read(*args: Any, **options: Any) -> bytes:
            if self._is_inside:
                return method(*args, **options)
            chunk: bytes = self._step(method, *args, **options)
            amount = args[0] if args else options.get("amt")
            self._keep(chunk)
            everything = (amount is None or amount < 0) and method.__name__ == "read"
            if everything or not (chunk or amount == 0):
                self._end()
            return chunk

        return read

    def _streaming(self, method: Callable[..., Iterator[bytes]]) -> Callable[..., Iterator[bytes]]:
        def copied(chunks: Iterator[bytes]) -> Iterator[bytes]:
            while (chunk := self._step(next, chunks, None)) is not None:
                self._keep(chunk)
                yield chunk
            self._end()

        def stream(*args: Any, **options: Any) -> Iterator[bytes]:
            chunks = method(*args, **options)
            return chunks if self._is_inside else copied(chunks)

        return stream

    def _closing(self, method: Callable[[], None]) -> Callable[[], None]:
        def close() -> None:
            is_whole = bool(self._raw.closed)
            method()
            if is_whole and self._chunks:
                self._end()
            else:
                self._give_up("the service did not read it to its end")

        return close

    def _step(self, work: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call a reading method; such methods call each other, and the outermost one is copied."""
        self._is_inside = True
        try:
            return work(*args, **options)
        except Exception as error:
            self._give_up(type(error).__name__)
            raise
        finally:
            self._is_inside = False

    def _keep(self, chunk: bytes) -> None:
        if chunk and not self._is_over:
            self._left -= len(chunk)
            self._chunks.append(chunk)
            if self._left < 0:
                self._give_up(f"over {MAX_BODY >> 20} MiB")

    def _end(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._done(b"".join(self._chunks))
            self._chunks = []

    def _give_up(self, why: str) -> None:
        if not self._is_over:
            self._is_over, self._chunks = True, []
            self._failed(why)


def _decoded(body: bytes) -> bytes:
    """Undo gzip: a service that reads `raw` itself gets the body as it was sent."""
    if not body.startswith(b"\x1f\x8b"):
        return body
    try:
        return zlib.decompressobj(wbits=31).decompress(body, MAX_BODY)
    except zlib.error:
        return body


def _request_texts(body: Any) -> dict[str, str]:
    """Read the texts of a request's body; none when it is no JSON object."""
    try:
        text = body.decode() if isinstance(body, bytes) else body
        values = loads(text) if isinstance(text, str) else {}
    except (UnicodeDecodeError, Unreadable):
        return {}
    found = values.items() if isinstance(values, dict) else ()
    return {name: value for name, value in found if isinstance(value, str)}
