"""A tap for services that call the vendor already: each answer they receive is journalled too.

::

    session = requests.Session()
    tap = va.record(session, "taps/backend.sqlite", key_file="store.key")

The service goes on as before. Every CertVerify and CertVerifyQuery answer that passes the session
is written to the journal, without pictures and with token and person as keyed hashes, before the
service sees it; `import` reads the journal into the store. A tap never breaks the service: what it
cannot write is counted and logged, and the answer goes on to the service all the same.
"""

from __future__ import annotations

import logging
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests

from verifyanalytics._store_files import fingerprint, read_key
from verifyanalytics.envelope import keyed_hash
from verifyanalytics.errors import StorageError, UsageError
from verifyanalytics.journal import Journal
from verifyanalytics.raw_answers import raw_line
from verifyanalytics.replies import RULES, Outcome, State, read_reply
from verifyanalytics.strictjson import Unreadable, loads

ACTIONS = frozenset({"CertVerify", "CertVerifyQuery"})
_logger = logging.getLogger(__name__)


class Tap:
    """A response hook and the journal it writes to.

    Attributes
    ----------
    n_recorded : int
        Answers written so far.
    n_failed : int
        Answers that could not be written; each was logged with its reason.
    """

    def __init__(self, journal: Journal, key: bytes, *, image_prints: bool = False) -> None:
        self.journal = journal
        self.n_recorded = self.n_failed = 0
        self._key, self._prints = key, image_prints
        self._lock = threading.Lock()

    def __call__(self, response: Any, *_args: Any, **_options: Any) -> None:
        """Take one response that passed the session; responses of other services are let by."""
        action = _action(response.request.url or "")
        if action is None:
            return
        try:
            written = self._take(response, action)
        except (StorageError, UsageError, requests.RequestException) as error:
            self._fail(f"{type(error).__name__}: {error}")
            return
        with self._lock:
            self.n_recorded += written

    def close(self) -> None:
        """Close the journal, so that `import` can read it."""
        self.journal.close()

    def _take(self, response: Any, action: str) -> bool:
        body = response.content  # read once, kept by `requests` for the service
        reply = read_reply(response.status_code, response.headers, body, time.time())
        asked = _asked(response.request.body)
        token = asked.get("byted_token")
        if token is None:
            self._fail("the request's body has no byted_token")
            return False
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
        self.journal.record(key, action, asked.get("req_key", ""), state, reply, raw)
        return raw is not None

    def _fail(self, why: str) -> None:
        with self._lock:
            self.n_failed += 1
        _logger.warning("an answer was not recorded: %s", why)


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
