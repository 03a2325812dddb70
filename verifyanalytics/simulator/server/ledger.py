"""The billing oracle: what was called, processed and billed, for each token."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from verifyanalytics.errors import StorageError


@dataclass(slots=True)
class Calls:
    """The calls that named one token.

    Attributes
    ----------
    received : int
        Signed CertVerify calls.
    refused : int
        Those of them that were turned away before processing: limits, wrong fields, faults.
    processed : int
        Those that the service worked on. More than 1: somebody sent a one-time token again.
    billed : int
        Units billed; a token that was used already is not billed again.
    queries : int
        CertVerifyQuery calls.
    faults : dict
        How often each fault struck a call of either action.
    """

    received: int = 0
    refused: int = 0
    processed: int = 0
    billed: int = 0
    queries: int = 0
    faults: dict[str, int] = field(default_factory=dict)

    @property
    def repeated(self) -> int:
        """Processed calls beyond the first."""
        return max(0, self.processed - 1)


@dataclass(frozen=True, slots=True)
class Bill:
    """All calls so far.

    Attributes
    ----------
    tokens : dict
        `token_digest` → `Calls`.
    unsigned : int
        Requests without a valid signature.
    stray : int
        Requests to other paths: somebody followed a redirect.
    """

    tokens: dict[str, Calls]
    unsigned: int
    stray: int

    @property
    def received(self) -> int:
        """Signed CertVerify calls."""
        return sum(calls.received for calls in self.tokens.values())

    @property
    def processed(self) -> int:
        """Calls that the service worked on."""
        return sum(calls.processed for calls in self.tokens.values())

    @property
    def repeated(self) -> int:
        """Processed calls of tokens that had been used already."""
        return sum(calls.repeated for calls in self.tokens.values())

    @property
    def billed(self) -> int:
        """Units billed."""
        return sum(calls.billed for calls in self.tokens.values())

    def as_json(self) -> dict[str, Any]:
        """Return the bill as ``/_simulator/bill`` sends it."""
        return {
            "received": self.received,
            "processed": self.processed,
            "repeated": self.repeated,
            "billed": self.billed,
            "unsigned": self.unsigned,
            "stray": self.stray,
            "tokens": {
                digest: {**dataclasses.asdict(calls), "repeated": calls.repeated}
                for digest, calls in self.tokens.items()
            },
        }


class Ledger:
    """Counts as things happen; may be asked from other threads.

    Parameters
    ----------
    path : Path, optional
        A file to which each event is appended as a JSON line before the reply goes out, so that
        it can be read after a kill.

    Raises
    ------
    StorageError
        The file cannot be opened.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._lock = threading.Lock()
        self._tokens: dict[str, Calls] = defaultdict(Calls)
        self._unsigned = self._stray = 0
        try:
            self._file = None if path is None else path.open("a", encoding="utf-8")
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror}", path=path) from error

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def unsigned(self) -> None:
        """Count a request without a valid signature."""
        with self._lock:
            self._unsigned += 1

    def stray(self) -> None:
        """Count a request to another path."""
        with self._lock:
            self._stray += 1

    def queried(self, digest: str, fault: str | None) -> None:
        """Count a CertVerifyQuery call."""
        with self._lock:
            calls = self._tokens[digest]
            calls.queries += 1
            self._note(digest, calls, "query", fault)

    def refused(self, digest: str, fault: str | None) -> None:
        """Count a CertVerify call that was turned away before processing."""
        with self._lock:
            calls = self._tokens[digest]
            calls.received += 1
            calls.refused += 1
            self._note(digest, calls, "refused", fault)

    def processed(self, digest: str, billed: int, fault: str | None) -> None:
        """Count a CertVerify call that the service worked on."""
        with self._lock:
            calls = self._tokens[digest]
            calls.received += 1
            calls.processed += 1
            calls.billed += billed
            self._note(digest, calls, "processed", fault)

    def n_received(self, digest: str) -> int:
        """Return how many signed CertVerify calls named the token."""
        with self._lock:
            return self._tokens[digest].received if digest in self._tokens else 0

    def calls(self, digest: str) -> Calls:
        """Return a copy of the counts of a token."""
        with self._lock:
            return _copy(self._tokens.get(digest, Calls()))

    def bill(self) -> Bill:
        """Return a copy of all counts."""
        with self._lock:
            tokens = {digest: _copy(calls) for digest, calls in self._tokens.items()}
            return Bill(tokens, self._unsigned, self._stray)

    def _note(self, digest: str, calls: Calls, event: str, fault: str | None) -> None:
        if fault is not None:
            calls.faults[fault] = calls.faults.get(fault, 0) + 1
        if self._file is not None:
            line = {"token": digest, "event": event, "billed": calls.billed, "fault": fault}
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()


def read_ledger(path: Path) -> dict[str, dict[str, int]]:
    """Count the events of a ledger file for each token.

    Parameters
    ----------
    path : Path
        What `Ledger` wrote, perhaps cut off in the last line by a kill.

    Returns
    -------
    dict
        `token_digest` → {"processed": …, "refused": …, "query": …}.
    """
    counts: dict[str, dict[str, int]] = {}
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if not line.endswith("\n"):
            break
        event = json.loads(line)
        of = counts.setdefault(event["token"], {"processed": 0, "refused": 0, "query": 0})
        of[event["event"]] += 1
    return counts


def _copy(calls: Calls) -> Calls:
    return dataclasses.replace(calls, faults=dict(calls.faults))
