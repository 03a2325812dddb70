"""A tap for services that call the vendor already: each answer they receive is journalled too.

::

    session = requests.Session()
    tap = va.record(session, "taps/backend.sqlite", key_file="store.key")

The service goes on as before. Every CertVerify and CertVerifyQuery answer that passes the session
is written to the journal, without pictures and with token and person as keyed hashes, before the
service has it whole; `import` reads the journal into the store. A tap never breaks the service nor
changes what it sees: the network's errors stay its own, a streamed answer is overheard as it is
read, and what cannot be written is counted and logged.
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
from verifyanalytics.parsing.envelope import keyed_hash
from verifyanalytics.parsing.strict_json import Unreadable, loads
from verifyanalytics.store.key import fingerprint, read_key
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

    def __init__(self, journal: Journal, key: bytes, *, image_prints: bool = False) -> None:
        self.journal = journal
        self._key, self._prints = key, image_prints
        self._path = journal.path
        self._inherited: list[Journal] = []
        self._begin()
        _taps.add(self)

    def __call__(self, response: Any, *_args: Any, **options: Any) -> None:
        """Take one response that passed the session; responses of other services are let by."""
        action = _action(response.request.url or "")
        if action is None:
            return
        if response.is_redirect:  # no answer; whoever follows it reads its body
            self._take(response, action, b"")
        elif options.get("stream") and response.raw is not None:
            _Overheard(
                response.raw, lambda body: self._take(response, action, _decoded(body)), self._fail
            )
        else:
            try:
                body = response.content  # read once, kept by `requests` for the service
            except requests.RequestException as error:
                self._fail(type(error).__name__)
                raise  # it is what the service would have met
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
        """Record an answer; whatever goes wrong with that is no matter of the service."""
        try:
            written = self._record(response, action, body)
        except Exception as error:  # noqa: BLE001 - see above
            self._fail(f"{type(error).__name__}: {error}")
            return
        with self._lock:
            self.n_recorded += written

    def _record(self, response: Any, action: str, body: bytes) -> bool:
        asked = _asked(response.request.body)
        token = asked.get("byted_token")
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
            req_key=asked.get("req_key", ""),
            token=key,
            received_at=datetime.now(UTC),
            http_status=response.status_code,
            print_key=self._key if self._prints else None,
        )
        state = RULES[reply.outcome].state
        if raw is None:
            state = State.UNPARSED
        elif state is State.PLANNED or reply.outcome is Outcome.FAULT:
            state = State.REJECTED  # it is the service's to try again, not ours
        journal = self._own_journal()
        journal.record(key, action, asked.get("req_key", ""), state, reply, raw)
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
        The store's key file, so that tokens and persons get the store's pseudonyms.
    image_prints : bool
        Keep a keyed fingerprint of each picture.

    Returns
    -------
    Tap
        `close` it before the journal is imported.

    Raises
    ------
    StorageError
        The journal or the key cannot be used; the session is left as it was.
    """
    key = read_key(Path(key_file))
    tap = Tap(Journal(Path(journal), fingerprint(key)), key, image_prints=image_prints)
    session.hooks["response"].append(tap)
    return tap


class _Overheard:
    """What a service reads of one streamed answer, byte for byte; at its end somebody is told.

    The reading methods of this one `urllib3` response are replaced by ones that do the same and
    listen. What goes wrong while reading goes to the service as it would without.

    Parameters
    ----------
    raw : urllib3.HTTPResponse
    done : callable
        Told the whole body.
    failed : callable
        Told why there is none.
    """

    def __init__(
        self, raw: Any, done: Callable[[bytes], None], failed: Callable[[str], None]
    ) -> None:
        self._raw, self._done, self._failed = raw, done, failed
        self._chunks: list[bytes] = []
        self._left = MAX_BODY
        self._is_inside = self._is_over = False
        listening: dict[str, Callable[[Any], Any]] = {
            "read": self._reading, "read1": self._reading, "stream": self._streaming,
            "read_chunked": self._streaming, "close": self._closing,
        }  # fmt: skip
        for name in listening.keys() & set(dir(raw)):
            setattr(raw, name, listening[name](getattr(raw, name)))

    def _reading(self, method: Callable[..., bytes]) -> Callable[..., bytes]:
        def read(*args: Any, **options: Any) -> bytes:
            if self._is_inside:
                return method(*args, **options)
            chunk: bytes = self._step(method, *args, **options)
            amount = args[0] if args else options.get("amt")
            self._hear(chunk)
            everything = (amount is None or amount < 0) and method.__name__ == "read"
            if everything or not (chunk or amount == 0):
                self._end()
            return chunk

        return read

    def _streaming(self, method: Callable[..., Iterator[bytes]]) -> Callable[..., Iterator[bytes]]:
        def stream(*args: Any, **options: Any) -> Iterator[bytes]:
            chunks = method(*args, **options)
            return chunks if self._is_inside else self._following(chunks)

        return stream

    def _following(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        while (chunk := self._step(next, chunks, None)) is not None:
            self._hear(chunk)
            yield chunk
        self._end()

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
        """Read on; reading methods use each other, and the outermost is listened to."""
        self._is_inside = True
        try:
            return work(*args, **options)
        except Exception as error:
            self._give_up(type(error).__name__)
            raise
        finally:
            self._is_inside = False

    def _hear(self, chunk: bytes) -> None:
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
    """The body without gzip, which a service that reads `raw` itself may get as it was sent."""
    if not body.startswith(b"\x1f\x8b"):
        return body
    try:
        return zlib.decompressobj(wbits=31).decompress(body, MAX_BODY)
    except zlib.error:
        return body


def _action(url: str) -> str | None:
    found = parse_qs(urlsplit(url).query).get("Action", [""])[0]
    return found if found in ACTIONS else None


def _asked(body: Any) -> dict[str, str]:
    """What the request said of itself; nothing when it is no JSON object."""
    try:
        text = body.decode() if isinstance(body, bytes) else body
        asked = loads(text) if isinstance(text, str) else {}
    except (UnicodeDecodeError, Unreadable):
        return {}
    names = ("byted_token", "req_key")
    given = asked if isinstance(asked, dict) else {}
    return {name: given[name] for name in names if isinstance(given.get(name), str)}
