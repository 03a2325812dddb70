"""Pictures on the fast road: measured where they lie, fingerprinted if asked, never kept.

In answers of usual size pictures are decoded as text. In large ones they are most of the bytes,
and the decoder only skips them (`Raw`, three times as fast); then what it did not check is checked
here: that the skipped text is ASCII without escapes, and that nothing else was skipped beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from msgspec import Raw

from verifyanalytics.extras import is_sound
from verifyanalytics.typed import Undecodable

LARGE = 8 * 1024
"""Bytes of an answer on average from which on pictures are skipped instead of decoded."""

Picture = str | memoryview | None
"""A picture's text, perhaps as ASCII bytes."""

_text = msgspec.json.Decoder(str | None)


def address(data: Any) -> int:
    """Where a buffer lies in memory."""
    where: int = np.frombuffer(data, np.uint8).__array_interface__["data"][0]
    return where


def texts(
    pictures: Sequence[tuple[Any, Any]],
    data: bytes,
    starts: Sequence[int],
    ends: Sequence[int],
    odd: set[int],
) -> list[tuple[Picture, Picture]]:
    """Texts of the skipped pictures of each answer, as they lie in the block where they can be.

    Parameters
    ----------
    pictures : sequence of (Raw, Raw)
        UNSET, None or a text where nothing was skipped.
    data : bytes
        The block they were decoded from.
    starts, ends : sequence of int
        Bounds of the answers in it.
    odd : set of int
        Grows by the answers that only the reference can read.
    """
    base = address(data) if data else 0
    made = []
    for place, pair in enumerate(pictures):
        skipped = [raw for raw in pair if isinstance(raw, Raw)]
        if skipped and not _is_alone(skipped, data, base, starts[place], ends[place]):
            odd.add(place)
        made.append((_read(pair[0], place, odd), _read(pair[1], place, odd)))
    return made


def _read(picture: Any, place: int, odd: set[int]) -> Picture:
    if not isinstance(picture, Raw):
        return picture if isinstance(picture, str) else None
    text = bytes(picture)
    if text[:1] == b'"' and b"\\" not in text and text.isascii():
        return memoryview(picture)[1:-1]  # as many bytes as characters
    try:
        return _decode(text)
    except Undecodable:
        odd.add(place)
        return None


def _decode(text: bytes) -> str | None:
    decoded: str | None = _text.decode(text)
    return decoded


def characters(picture: str | memoryview) -> str:
    """The text itself."""
    return picture if isinstance(picture, str) else str(picture, "ascii")


def _is_alone(skipped: Sequence[Raw], data: bytes, base: int, start: int, end: int) -> bool:
    """Whether an answer without its pictures is sound: a picture given twice was skipped twice."""
    rest = []
    for at, length in sorted((address(raw) - base, len(memoryview(raw))) for raw in skipped):
        rest.append(data[start:at])
        start = at + length
    rest.append(data[start:end])
    return is_sound(b"".join(rest))
