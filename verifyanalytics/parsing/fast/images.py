r"""Pictures on the fast road: measured where they lie, fingerprinted if asked, never kept.

In answers of usual size pictures are decoded as text. In large ones they are most of the bytes,
and finding the closing quote is many times faster than decoding: so they are cut out before, a
mark in their place, and only what is left is decoded.

Why that is exact. Cut is only what stands between `"image_best":"` (or `image_env`, or the same
with `\"` throughout, as in a nested text) and the next quote, and is ASCII without control
characters and backslashes. Wherever such a piece stands in a text: if the text with the mark is
JSON, then mark and piece are both the whole content of a string there, because a quote before
`image_best` that closed a string would leave a bare word behind it. So both texts are JSON or
neither is. That the string was a picture's is seen afterwards: each mark that went in must come
out as a picture, else the answer goes to the reference.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

LARGE = 8 * 1024
"""Bytes of an answer on average from which on pictures are cut out instead of decoded."""

MARK = secrets.token_hex(16)
"""Stands for a picture that was cut out; nobody can send it, because nobody knows it."""

_MARK = MARK.encode()
_KEY = b'"image_'
_OPENING = re.compile(rb'"image_(best|env)(\\?)": ?\2"')

Picture = str | memoryview | None
"""A picture's text, perhaps as ASCII bytes."""


class Cut(NamedTuple):
    """A picture that was cut out of a block: which one, and its slice of the block."""

    name: str
    start: int
    end: int


Cuts = list[list[Cut]]


def cut(
    data: bytes, starts: Sequence[int], ends: Sequence[int]
) -> tuple[bytes, list[int], list[int], Cuts]:
    """Cut the pictures out of answers.

    Parameters
    ----------
    data : bytes
        A block.
    starts, ends : sequence of int
        Bounds of the answers in it.

    Returns
    -------
    text, starts, ends : bytes, list of int, list of int
        The answers with marks in place of pictures, a line each, and their bounds.
    cuts : list of list of Cut
        What was cut out of each.
    """
    pieces: list[bytes] = []
    thin_starts, thin_ends, cuts = [], [], []
    n_bytes = 0
    for start, end in zip(starts, ends, strict=True):
        found = list(_found(data, start, end))
        thin_starts.append(n_bytes)
        done = start
        for _, at, behind in found:
            pieces += data[done:at], _MARK
            n_bytes += at - done + len(_MARK)
            done = behind
        pieces += data[done:end], b"\n"
        n_bytes += end - done
        thin_ends.append(n_bytes)
        n_bytes += 1
        cuts.append(found)
    return b"".join(pieces), thin_starts, thin_ends, cuts


def _found(data: bytes, start: int, end: int) -> Iterator[Cut]:
    """Pictures of one answer that can be cut out."""
    at = data.find(_KEY, start, end)
    while at >= 0:
        opening = _OPENING.match(data, at, end)
        if opening is None:
            at = data.find(_KEY, at + len(_KEY), end)
            continue
        first = opening.end()
        quote = data.find(b'"', first, end)
        if quote < 0:
            return
        last = quote - len(opening[2])
        if _is_plain(data, first, last) and data[last:quote] == opening[2]:
            yield Cut(opening[1].decode(), first, last)
        at = data.find(_KEY, quote, end)


def _is_plain(data: bytes, start: int, end: int) -> bool:
    """Whether the characters stand for themselves in a JSON string: printable ASCII, no escape."""
    if end <= start or data.find(b"\\", start, end) >= 0:
        return False
    # as signed bytes whatever is not ASCII is negative
    return int(np.frombuffer(data, np.int8, end - start, start).min()) >= ord(" ")


def put_back(
    texts: dict[str, list[Picture]], places: Sequence[int], data: bytes, cuts: Cuts, odd: set[int]
) -> None:
    """Replace marks by the pictures they stand for.

    Parameters
    ----------
    texts : dict
        `best` or `env` → that picture's text of each decoded answer.
    places : sequence of int
        Which answers they are of those that `cut` was given.
    data, cuts
        As `cut` took and gave them.
    odd : set of int
        Grows by the answers in which a mark came out elsewhere, or not at all.
    """
    view = memoryview(data)
    for at, place in enumerate(places):
        n_missing = len(cuts[place])
        for name, start, end in cuts[place]:
            images = texts[name]
            if images[at] == MARK:
                images[at] = view[start:end]  # as many bytes as characters
                n_missing -= 1
        if n_missing:
            odd.add(at)


def characters(picture: str | memoryview) -> str:
    """The text itself."""
    return picture if isinstance(picture, str) else str(picture, "ascii")
