"""Keys without a column on the fast road: learnt raw values become `extra` as the reference has it.

A raw value was skipped by the decoder, which checks its grammar but neither its depth nor its
UTF-8; both are checked here, for the whole line, because a value given twice was skipped twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

from msgspec import UNSET

from verifyanalytics.parsing.fast.typed import LEVELS, Learnt
from verifyanalytics.parsing.redaction import redacted
from verifyanalytics.parsing.strict_json import MAX_DEPTH, Unreadable, dumps, loads

MAX_TEXTS = 1 << 12
"""Combinations of raw values whose texts are kept at hand."""

Found = tuple[tuple[Learnt, bytes], ...]
"""The learnt keys of one answer and their values as sent."""


class Texts(dict[Found, tuple[str, str] | None]):
    """Found keys → `extra` as written and as normalised; None where only the reference can tell."""

    def __missing__(self, found: Found) -> tuple[str, str] | None:
        if len(self) >= MAX_TEXTS:
            self.clear()
        self[found] = texts = extra_texts(found)
        return texts


def extra_texts(found: Found) -> tuple[str, str] | None:
    """Write `extra` of one answer's learnt keys, twice: as sent and normalised."""
    extra: dict[str, Any] = {}
    try:
        for key, raw in found:
            inner = extra
            for part in LEVELS[key.level].split(".") if LEVELS[key.level] else ():
                inner = inner.setdefault(part, {})
            inner.update(redacted({key.name: loads(raw.decode())}))
    except (Unreadable, UnicodeDecodeError):
        return None
    return dumps(extra), dumps(extra, normalised=True)


def is_sound(data: bytes) -> bool:
    """Whether a text that was partly skipped is UTF-8 throughout and surely not too deep."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return data.count(b"{") + data.count(b"[") <= MAX_DEPTH


def found_keys(
    parts: Mapping[str, Sequence[Any]], learnt: Sequence[Learnt]
) -> dict[int, list[tuple[Learnt, bytes]]]:
    """Collect what was found: place → learnt keys with their raw values.

    Parameters
    ----------
    parts : dict
        Level's name → the decoded part of each answer.
    learnt : sequence of Learnt
    """
    found: dict[int, list[tuple[Learnt, bytes]]] = {}
    for key in learnt:
        values = _taken(parts[key.level], key.attribute)
        if values.count(UNSET) == len(values):
            continue
        for place, raw in enumerate(values):
            if raw is not UNSET:
                found.setdefault(place, []).append((key, bytes(raw)))
    return found


def _taken(parts: Sequence[Any], attribute: str) -> list[Any]:
    try:
        return list(map(attrgetter(attribute), parts))
    except AttributeError:  # decoded before the key was learnt
        return [getattr(part, attribute, UNSET) for part in parts]
