"""Keys without a column on the fast path: counted, learnt, and written as `extra`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any, NamedTuple

from msgspec import UNSET

from verifyanalytics.parsing.text import MAX_DEPTH, Unreadable, dumps, loads, redacted

# A key that the vendor newly sends everywhere becomes a raw field of the types. Without this, a
# response with such a key takes 15 times as long (measured: 210 instead of 14 µs of CPU).
LEARN_AFTER = 4
"""Responses in which a new key must be met before it is learnt."""

MAX_LEARNT = 32
"""Keys learnt at most; beyond, responses with new keys go to the reference parser."""

MAX_COUNTED = 1 << 10
"""New keys that are counted; hostile input must not fill the memory with names."""

MAX_TEXTS = 1 << 12
"""Combinations of raw values whose `extra` is kept at hand."""

LEVELS = {"reply": "", "data": "data", "comparison": "data.source_comp_details"}
"""Where keys can be learnt: the level's name → its path."""

_UNKNOWN = re.compile(
    r"Object contains unknown field `(.{1,256}?)`(?: - at `\$\.?(.*)`)?", re.DOTALL
)


class UnknownKey(NamedTuple):
    """A key without a column; its attribute in the types is UNSET where a response lacks it."""

    level: str
    name: str
    attribute: str


Extra = tuple[str, str]
"""`extra` as written and as normalised."""


class UnknownKeys:
    """The keys that one `Flattener` has `learnt`."""

    def __init__(self, names_in_use: Collection[str]) -> None:
        # service faults repeat their code as `status`, and there are many of them
        self.learnt = [UnknownKey("reply", "status", "learnt_0")]
        self._names_in_use = names_in_use  # never learnt: they have a meaning at another level
        self._counts: Counter[tuple[str, str]] = Counter()

    def notice(self, error: Exception) -> bool:
        """Tell whether an error is about an unknown key; count the key and learn a frequent one."""
        match = _UNKNOWN.fullmatch(str(error))
        path = (match[2] or "").removeprefix("response.") if match else None
        level = next((level for level, at in LEVELS.items() if at == path), None)
        if match is None or level is None:
            return False
        name = match[1]
        if len(self._counts) > MAX_COUNTED:
            self._counts.clear()
        self._counts[level, name] += 1
        is_new = (level, name) not in [(key.level, key.name) for key in self.learnt]
        if (
            self._counts[level, name] == LEARN_AFTER
            and len(self.learnt) < MAX_LEARNT
            and is_new
            and name not in self._names_in_use
        ):
            self.learnt.append(UnknownKey(level, name, f"learnt_{len(self.learnt)}"))
        return True

    # The decoder skips a raw value: it checks its grammar but neither its depth nor its UTF-8. Both
    # are checked for the whole text, because a value given twice was skipped twice.
    def extras(
        self, parts: Mapping[str, Sequence[Any]], text_of: Callable[[int], bytes]
    ) -> dict[int, Extra | None]:
        """`extra` of the responses that have learnt keys; None: ask the reference parser."""
        found: dict[int, list[tuple[UnknownKey, bytes]]] = {}
        for key in self.learnt:
            try:
                values = list(map(attrgetter(key.attribute), parts[key.level]))
            except AttributeError:  # decoded before the key was learnt
                values = [getattr(part, key.attribute, UNSET) for part in parts[key.level]]
            if values.count(UNSET) < len(values):
                for place, raw in enumerate(values):
                    if raw is not UNSET:
                        found.setdefault(place, []).append((key, bytes(raw)))
        return {
            place: _extra(tuple(keys)) if _is_sound(text_of(place)) else None
            for place, keys in found.items()
        }


@lru_cache(MAX_TEXTS)
def _extra(keys: tuple[tuple[UnknownKey, bytes], ...]) -> Extra | None:
    extra: dict[str, Any] = {}
    try:
        for key, raw in keys:
            inner = extra
            for part in LEVELS[key.level].split(".") if LEVELS[key.level] else ():
                inner = inner.setdefault(part, {})
            inner.update(redacted({key.name: loads(raw.decode())}))
    except (Unreadable, UnicodeDecodeError):
        return None
    return dumps(extra), dumps(extra, normalised=True)


def _is_sound(data: bytes) -> bool:
    """Whether a text that was partly skipped is UTF-8 throughout and surely not too deep."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return data.count(b"{") + data.count(b"[") <= MAX_DEPTH
