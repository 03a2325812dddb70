"""The billing ledger: calls received, processed and billed, for each token.

It is the oracle of what a client did: a token that was processed twice was sent twice.
"""

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
        Those of them that were refused before processing: limits, wrong fields, faults.
    processed : int
        Those that the service worked on. More than 1: a one-time token was sent again.
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
    received, processed, repeated, billed : int
        Sums of the same counts of each token.
    unsigned : int
        Requests without a valid signature.
    stray : int
        Requests to other paths: a redirect was followed.
    tokens : dict
        `token_digest` → `Calls`.

    See Also
    --------
    serve, read_ledger
    """

    received: int
    processed: int
    repeated: int
    billed: int
    unsigned: int
    stray: int
    tokens: dict[str, Calls]

    def as_json(self) -> dict[str, Any]:
        """Return the bill as ``/_simulator/bill`` sends it."""
        tokens = {
            digest: {**dataclasses.asdict(calls), "repeated": calls.repeated}
            for digest, calls in self.tokens.items()
        }
        return dataclasses.asdict(self) | {"tokens": tokens}


class Ledger:
    """Counts calls while the service runs; may be asked from other threads.

    Each event is appended to the file, if one is given, as a JSON line before the reply goes out,
    so that it can be read after a kill.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._lock = threading.Lock()
        self._tokens: dict[str, Calls] = defaultdict(Calls)
        self._requests = {"unsigned": 0, "stray": 0}
        try:
            self._file = None if path is None else path.open("a", encoding="utf-8")
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror}", path=path) from error

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def count_request(self, kind: str) -> None:
        """Count a request that is no call: `unsigned`, or `stray` (to another path)."""
        with self._lock:
            self._requests[kind] += 1

    def count(self, digest: str, event: str, fault: str | None, billed: int = 0) -> None:
        """Count a call: `query`, or of CertVerify `refused` or `processed`."""
        with self._lock:
            calls = self._tokens[digest]
            calls.billed += billed
            if event == "query":
                calls.queries += 1
            else:
                calls.received += 1
                calls.refused += event == "refused"
                calls.processed += event == "processed"
            if fault is not None:
                calls.faults[fault] = calls.faults.get(fault, 0) + 1
            if self._file is not None:
                line = {"token": digest, "event": event, "billed": calls.billed, "fault": fault}
                self._file.write(json.dumps(line) + "\n")
                self._file.flush()

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
            sums = {
                name: sum(getattr(calls, name) for calls in tokens.values())
                for name in ("received", "processed", "repeated", "billed")
            }
            return Bill(**sums, **self._requests, tokens=tokens)


def read_ledger(path: Path) -> dict[str, dict[str, int]]:
    r"""Count the events of a ledger file for each token.

    Parameters
    ----------
    path : Path
        A file that `serve` wrote; a last line that a kill cut off is left out.

    Returns
    -------
    dict
        `token_digest` → {"processed": …, "refused": …, "query": …}.

    Raises
    ------
    OSError
        The file cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "ledger"
    ...     text = '{"token": "628b49", "event": "processed", "billed": 1, "fault": null}'
    ...     _ = path.write_text(text + "\n" + text[:20])
    ...     read_ledger(path)
    {'628b49': {'processed': 1, 'refused': 0, 'query': 0}}

    See Also
    --------
    serve : Writes the file.
    Bill : The same counts, asked from the running service.
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
