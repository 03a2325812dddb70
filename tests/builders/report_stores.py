"""Stores for the tests of the report: two weeks whose figures a plain loop can count again."""

from __future__ import annotations

import datetime as dt
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import verifyanalytics as va

MONDAY = dt.datetime(2024, 6, 3, tzinfo=dt.timezone(dt.timedelta(hours=8)))
"""When the second week begins; the first one begins a week earlier."""

GATES = {
    "accepted": {},
    "none": {"result": False},
    "match": {"result": False, "score": 65.0},
    "alive": {"result": False, "alive": False},
    "risk": {"result": False, "risk": 900},
    "scored": {"result": False, "score": None, "sub_code": 210305},
}
"""What a row looks like that is accepted, or whose first failing gate is this one."""

WEEKS = {
    0: {"app": ("accepted",) * 290 + ("none",) * 4 + ("match",) * 20 + ("scored",) * 6,
        "h5": ("accepted",) * 80 + ("match",) * 20, "kiosk": ("accepted",) * 3,
        "desk": ("accepted",) * 9},
    1: {"app": ("accepted",) * 180 + ("none",) * 40 + ("match",) * 30 + ("alive",) * 10,
        "h5": ("accepted",) * 150 + ("match",) * 20 + ("risk",) * 8, "kiosk": ("accepted",) * 2,
        "desk": ("accepted",) * 11},
}  # fmt: skip
"""For each week and channel the rows by what became of them."""

OVERLONG = 31
"""Each row of this distance carries a tag of 10,000 characters, and no other."""

NAMES = {
    "channel": {"app": "app", "h5": "h5", "kiosk": "kiosk", "desk": "desk"},
    "tags": ["90001", "9" * 3_800, "90003", "8" * 10_000],
    "req_key": "cert_pro_src_verify",
    "message": "Success",
}
HOSTILE = {
    "channel": {
        "app": "<script>alert(1)</script>",
        "h5": "=cmd|' /C calc'!A0",
        "kiosk": "\u202eksoik\x1b[31m",
        "desk": '"><img src=x onerror=alert(1)>&lt;b&gt;',
    },
    "tags": [
        "</td></tr></table><script src=//evil.example/x.js></script>",
        "T" * 3_800,
        "#import \"x\"; *bold* $x$ \u2066\u2069\x07 'single' <!-- --> ]]>",
        "L" * 10_000,
    ],
    "req_key": "--><svg onload=alert(1)>",
    "message": "<style>*{display:none}</style>",
}


def line(
    i: int, week: int, channel: str, fate: str, names: dict[str, Any], step: float = 22.0
) -> bytes:
    """Write the i-th answer of a week, `step` minutes after the one before."""
    at = MONDAY + dt.timedelta(days=7 * (week - 1), minutes=i * step + 1)
    row = {"result": True, "alive": True, "score": 88.0, "risk": 0, "sub_code": 0} | GATES[fate]
    details: dict[str, Any] = {
        "alive": row["alive"],
        "thresholds": {"1e-3": 60, "1e-4": 70, "1e-5": 80, "1e-6": 90},
    }
    if row["score"] is not None:
        details["score"] = row["score"]
    tags = [names["tags"][0]] if fate == "match" or i % 9 == 0 else []
    tags += [names["tags"][1]] if i % 7 == 0 else []
    tags += [names["tags"][2]] if i % 11 == 0 else []
    if i % OVERLONG == 0:  # a list over 4 KiB is stored as its size, whatever it holds
        tags = [names["tags"][3]]
    response = {
        "code": 10000,
        "message": names["message"],
        "request_id": f"{week}{i:018d}",
        "time_elapsed": "40ms",
        "data": {
            "result": row["result"],
            "risk_result": json.dumps({"score": row["risk"], "tags": tags}),
            "source_comp_details": details,
            "algorithm_base_resp": {"status_code": row["sub_code"], "status_message": ""},
        },
    }
    return json.dumps(
        {
            "occurred_at": at.isoformat(),
            "req_key": names["req_key"],
            "response": response,
            "context": {"channel": names["channel"][channel]},
        }
    ).encode()


def make(
    folder: Path,
    names: dict[str, Any] | None = None,
    weeks: Mapping[int, Mapping[str, tuple[str, ...]]] | None = None,
) -> va.Store:
    """Import the weeks, each from its Monday to its Sunday."""
    lines = []
    for week, channels in (weeks or WEEKS).items():
        fates = [(channel, fate) for channel, all_ in channels.items() for fate in all_]
        step = 7 * 24 * 60 / len(fates)
        for i in range(len(fates)):  # spread over the week: 97 has no common factor with either
            channel, fate = fates[i * 97 % len(fates)]
            lines.append(line(i, week, channel, fate, names or NAMES, step))
    source = folder / "answers.ndjson"
    source.write_bytes(b"\n".join(lines) + b"\n")
    store = va.Store(folder / "store", create=True)
    va.import_responses([source], store, workers=1)
    return store


THRESHOLDS = {"1e-3": 60, "1e-4": 70, "1e-5": 80, "1e-6": 90}


def answer(i: int, at: dt.datetime, **odd: Any) -> dict[str, Any]:
    """Write an accepted answer that is odd in some ways: score, tags, thresholds, req_key …"""
    row: dict[str, Any] = {
        "result": True, "alive": True, "score": 85.0, "thresholds": THRESHOLDS, "code": 10000,
        "tags": None, "req_key": "cert_pro_src_verify", "channel": "app", "subject": None,
    } | odd  # fmt: skip
    details = {name: row[name] for name in ("alive", "score", "thresholds")}
    data = {"result": row["result"], "source_comp_details": details}
    if row["tags"] is not None:
        data["risk_result"] = json.dumps({"score": 0, "tags": row["tags"]})
    response = {
        "code": row["code"], "message": "Success", "request_id": f"{i:019d}",
        "data": data if row["code"] == 10000 else None,
    }  # fmt: skip
    written = {"occurred_at": at.isoformat(), "response": response, "req_key": row["req_key"],
               "context": {"channel": row["channel"]}}  # fmt: skip
    return written | ({"subject": row["subject"]} if row["subject"] else {})


def week(number: int, n: int, **odd: Any) -> Iterator[dict[str, Any]]:
    """Write n answers spread over the number-th week; callables of `odd` are given each number."""
    for i in range(n):
        at = MONDAY + dt.timedelta(days=7 * (number - 1), minutes=1 + i * 7 * 24 * 60 / n)
        held = {name: how(i) if callable(how) else how for name, how in odd.items()}
        serial = zlib.crc32(f"{number} {odd} {n}".encode()) * 10**6 + i
        yield answer(serial, at, **held)


def stored(folder: Path, *answers: Iterable[dict[str, Any]]) -> va.Store:
    """Import answers."""
    source = folder / "answers.ndjson"
    lines = (json.dumps(one) for some in answers for one in some)
    source.write_text("\n".join(lines) + "\n", encoding="utf-8")
    store = va.Store(folder / "store", create=True)
    va.import_responses([source], store, workers=1)
    return store


def counts(week: int, channel: str | None = None) -> dict[str, int]:
    """Rows of a week by what became of them, by a plain loop."""
    found = dict.fromkeys(GATES, 0)
    for name, fates in WEEKS[week].items():
        if channel in (None, name):
            for fate in fates:
                found[fate] += 1
    return found


# ------------------------------------------------------------------ reading a page

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """A page as its elements, its visible text and its tables by caption."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[int, str, tuple[tuple[str, str | None], ...]]] = []
        self.comments: list[str] = []
        self.texts: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self._open: list[str] = []
        self._caption = ""
        self.feed(html)
        self.close()
        assert self._open == [], "an element is not closed"

    @property
    def text(self) -> str:
        return "\n".join(t for t in self.texts if t.strip())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((len(self._open), tag, tuple(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "caption":
            self._caption = ""
        elif tag == "tr":
            self.tables.setdefault(self._caption, []).append([])
        elif tag in ("td", "th"):
            self.tables[self._caption][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"</{tag}> closes nothing"

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            return
        self.texts.append(data)
        if "caption" in self._open:
            self._caption += data
        elif "td" in self._open or "th" in self._open:
            self.tables[self._caption][-1][-1] += data
