"""Requests and tokens to call with: one a line of a file read as a stream, or given as mappings.

A request line is a CertVerify body, or ``{"request": {…}, "subject": "…", "context": {…}}``. A
token line is the bare byted_token, or an object with ``byted_token`` and, if wanted, ``subject``
and ``context``. A line that breaks a rule is reported by its number, never by its content.
"""

from __future__ import annotations

import codecs
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO

from verifyanalytics.errors import InputError, UsageError
from verifyanalytics.journal.journal import Call
from verifyanalytics.parsing.text import CONTEXT_NAME, Number, Unreadable, dumps, keyed_hash, loads
from verifyanalytics.vendor.api import QUERY, VERIFY
from verifyanalytics.vendor.client import query_body, validate_request

MAX_LINE = 64 * 1024 * 1024
"""Bytes of one line; the vendor takes bodies of at most 10 MB."""

MAX_DIGITS = 400
"""Characters of one number: a float64 written out has at most about so many."""

CHUNK_CALLS = 256
CHUNK_BYTES = 8 << 20

Requests = str | Path | Iterable[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """One call that may go out; body and token are secret, so they are not in its repr.

    Attributes
    ----------
    key, subject : str
        Keyed hashes of the byted_token, and of the person if given.
    action, body, token, context
        As validated.
    is_open : bool
        It is in doubt: a query may settle it, and it is never sent.
    sent : Call, optional
        What the journal knows of a call in doubt.
    """

    key: str
    action: str
    body: dict[str, Any] = field(repr=False)
    token: str = field(repr=False)
    subject: str | None = None
    context: dict[str, str] | None = field(default=None, repr=False)
    is_open: bool = False
    sent: Call | None = field(default=None, repr=False)


def read_calls(
    source: Requests,
    key: bytes,
    *,
    queries: bool,
    refused: Callable[[int, str], None],
) -> Iterator[PlannedCall]:
    """Read requests, or tokens to query, from a file (``-`` for standard input) or mappings.

    `key` is the store's; `refused` is called with the line number, from 1, and what is wrong, for
    each line that cannot be sent. A file that cannot be read is a `UsageError`.
    """
    if not isinstance(source, str | Path):
        for number, given in enumerate(source, 1):
            try:
                text = json.dumps(dict(given), ensure_ascii=False, allow_nan=False)
                yield read_call(text.encode(), key, queries=queries)
            except (InputError, ValueError, TypeError) as error:
                refused(number, str(error) if isinstance(error, InputError) else "not JSON")
        return
    with _opened(source) as file:
        for number, line in _lines(file):
            if line is None:
                refused(number, f"over {MAX_LINE >> 20} MiB")
            elif line.strip():
                try:
                    yield read_call(line.strip(), key, queries=queries)
                except InputError as error:
                    refused(number, str(error))


def count_calls(source: Requests) -> int | None:
    """Count the lines there are at most; None when that is not known before they are read."""
    if not isinstance(source, str | Path):
        return len(source) if isinstance(source, Sized) else None
    if str(source) == "-" or not Path(source).is_file():
        return None
    with _opened(source) as file:
        n_lines, last = 0, b"\n"
        while chunk := file.read(1 << 20):
            n_lines, last = n_lines + chunk.count(b"\n"), chunk[-1:]
    return n_lines + (last != b"\n")


def read_call(line: bytes, key: bytes, *, queries: bool) -> PlannedCall:
    """Read one line; the `InputError` says what is wrong without the line's content."""
    given = _parse(line, queries=queries)
    subject, context = given.pop("subject", None), given.pop("context", None)
    if subject is not None and (not isinstance(subject, str) or isinstance(subject, Number)):
        raise InputError("subject must be a text")
    inner = given.get("request")
    asked = _plain(inner if isinstance(inner, dict) and not queries else given)
    body = query_body(asked.get("byted_token", "")) if queries else validate_request(asked)
    token = str(body["byted_token"])
    return PlannedCall(
        keyed_hash(key, "token", token),
        QUERY if queries else VERIFY,
        body,
        token,
        keyed_hash(key, "subject", subject) if subject else None,
        _context(context),
    )


def _parse(line: bytes, *, queries: bool) -> dict[str, Any]:
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise InputError("not UTF-8") from None
    if queries and not text.startswith("{"):
        if any(c.isspace() or not c.isprintable() for c in text) or text[0] in "[\"'":
            raise InputError("not a token: one byted_token a line, or a JSON object")
        return {"byted_token": text}
    try:
        given = loads(text)
    except Unreadable as error:
        raise InputError(error.detail) from None
    if not isinstance(given, dict):
        raise InputError("not a JSON object")
    return given


def chunks(calls: Iterable[PlannedCall]) -> Iterator[list[PlannedCall]]:
    """Give calls in small groups; a request may hold megabytes, so groups are small."""
    group: list[PlannedCall] = []
    n_bytes = 0
    for call in calls:
        group.append(call)
        n_bytes += len(str(call.body.get("sdk_data", "")))
        if len(group) >= CHUNK_CALLS or n_bytes > CHUNK_BYTES:
            yield group
            group, n_bytes = [], 0
    if group:
        yield group


def _plain(value: Any) -> Any:
    """Numbers as Python has them; `loads` keeps their text."""
    if isinstance(value, Number):
        return _number(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return value


def _number(text: str) -> float:
    """A number that goes out as it came in; one that would become another is refused."""
    if len(text) <= MAX_DIGITS:
        value = float(text) if set(text) & set(".eE") else int(text)
        with suppress(ArithmeticError, OverflowError):  # an exponent beyond any number
            if math.isfinite(value) and Decimal(repr(value)) == Decimal(text):
                return value
    raise InputError("a number has more digits than can be sent on; give it as a text")


def _context(given: Any) -> dict[str, str] | None:
    if given is None:
        return None
    if not isinstance(given, dict):
        raise InputError("context must be an object")
    wrong = [name for name in given if not CONTEXT_NAME.fullmatch(name.lower())]
    if wrong:
        raise InputError(f"a context name is made of a-z, 0-9 and _, not {wrong[0][:40]!r}")
    return {
        name.lower(): str(value) if isinstance(value, str) else dumps(value)
        for name, value in given.items()
        if value is not None
    }


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """Lines with their numbers; None for one that is too long, which is never held whole."""
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if len(line) <= MAX_LINE:
            yield number, line
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(MAX_LINE + 1)
        yield number, None


@contextmanager
def _opened(path: str | Path) -> Iterator[BinaryIO]:
    if str(path) == "-":
        yield sys.stdin.buffer
        return
    try:
        file = Path(path).open("rb")  # noqa: SIM115 - closed by the with below
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    with file:
        yield file
