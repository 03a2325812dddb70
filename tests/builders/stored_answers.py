"""Made-up stored answers for the tests of the import, and what a plain loop expects of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

FIRST = datetime(2024, 4, 20, tzinfo=UTC)

BAD = {
    b'{"code": 10000, "data": {': "syntax",
    b'{"hello": "world"}': "not_a_response",
    b'{"code": 10000, "message": "\xff"}': "encoding",
    b"[" * 70 + b"]" * 70: "depth",
    b"NaN": "syntax",
}
"""Lines that are no answers, each with its reason."""


def request_id(number: int, *, days: float = 0.0) -> str:
    """An id as the vendor makes them: the time in +08:00, then 20 hexadecimal digits."""
    at = FIRST + timedelta(days=days, seconds=number % 86_400)
    digest = hashlib.sha256(str(number).encode()).hexdigest()[:20].upper()
    return f"{at + timedelta(hours=8):%Y%m%d%H%M%S}{digest}"


def answer(number: int, *, days: float = 0.0, score: float | None = None) -> dict[str, Any]:
    """One answer of a comparison; its score depends on the number unless it is given."""
    return {
        "code": 10000,
        "message": "Success",
        "request_id": request_id(number, days=days),
        "time_elapsed": "41.897331ms",
        "data": {
            "result": number % 3 > 0,
            "risk_result": json.dumps({"score": 0, "tags": []}),
            "source_comp_details": {
                "alive": True,
                "score": (number * 37 % 9000) / 100 if score is None else score,
                "thresholds": {"1e-3": 60, "1e-4": 70, "1e-5": 80, "1e-6": 90},
            },
        },
    }


def line(number: int, **options: Any) -> bytes:
    """The same as one line, without its end."""
    return json.dumps(answer(number, **options)).encode()


def mixed(numbers: Iterable[int], *, bad_every: int = 50, blank_every: int = 70) -> list[bytes]:
    """Lines over three months, with bad ones and blank ones among them."""
    bad = sorted(BAD)
    lines = []
    for place, number in enumerate(numbers):
        if bad_every and place % bad_every == bad_every - 1:
            lines.append(bad[place // bad_every % len(bad)])
        elif blank_every and place % blank_every == blank_every - 1:
            lines.append(b"")
        else:
            lines.append(line(number, days=number % 60))
    return lines


def write_lines(path: Path, lines: Iterable[bytes]) -> Path:
    path.write_bytes(b"".join(text + b"\n" for text in lines))
    return path


def expected(files: Iterable[tuple[str, list[bytes]]]) -> tuple[dict[str, Any], set[Any], int]:
    """Rows, rejects and the number of known ones, by a plain loop over the files in order.

    Rows: by request_id the score, the source and the row. Rejects: (source, row, reason).
    """
    rows: dict[str, Any] = {}
    contents: dict[str, bytes] = {}
    rejects: set[Any] = set()
    n_known = 0
    for source, row, text in _numbered(files):
        if text in BAD:
            rejects.add((source, row, BAD[text]))
            continue
        read = json.loads(text)
        name = read["request_id"]
        if name not in rows:
            rows[name] = (read["data"]["source_comp_details"]["score"], source, row)
            contents[name] = text
        elif contents[name] == text:
            n_known += 1
        else:
            rejects.add((source, row, "conflict"))
    return rows, rejects, n_known


def _numbered(files: Iterable[tuple[str, list[bytes]]]) -> Iterator[tuple[str, int, bytes]]:
    for source, lines in files:
        for row, text in enumerate(lines, start=1):
            if text.strip():
                yield source, row, text


def found(store: Any) -> tuple[dict[str, Any], set[Any]]:
    """What a store holds, in the shape of `expected`."""
    rows = store.sql("SELECT request_id, score, source, source_row FROM verifications")
    rejects = store.sql("SELECT source, source_row, reason FROM rejects")
    held = {row.request_id: (row.score, row.source, row.source_row) for row in rows.itertuples()}
    assert len(held) == len(rows), "a request_id is there twice"
    refused = list(rejects.itertuples(index=False, name=None))
    assert len(set(refused)) == len(refused), "a row was rejected twice"
    return held, set(refused)
