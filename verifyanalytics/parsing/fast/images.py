r"""Images on the fast path: measured where they lie, fingerprinted if asked, never kept.

In responses of usual size images are decoded as text. In large ones they are most of the bytes,
and finding the closing quote is many times faster than decoding: so they are cut out before, a
mark in their place, and only what is left is decoded.

Why that is exact. Cut is only what stands between `"image_best":"` (or `image_env`, or the same
with `\"` throughout, as in a nested text) and the next quote, and is ASCII without control
characters and backslashes. Wherever such a piece stands in a text: if the text with the mark is
JSON, then mark and piece are both the whole content of a string there, because a quote before
`image_best` that closed a string would leave a bare word behind it. So both texts are JSON or
neither is. That the string was an image's is seen afterwards: each mark that went in must come
out as an image, else the response goes to the reference parser.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

LARGE = 8 * 1024
"""Bytes of a response on average from which on images are cut out instead of decoded."""

MARK = secrets.token_hex(16)
"""Stands for an image that was cut out; it is random, so that no response can contain it."""

_MARK = MARK.encode()
_KEY = b'"image_'
_OPENING = re.compile(rb'"image_(best|env)(\\?)": ?\2"')

Image = str | memoryview | None
"""An image's text, perhaps as ASCII bytes."""


class Cut(NamedTuple):
    """An image that was cut out of a block: which one, and its slice of the block."""

    name: str
    start: int
    end: int


Cuts = list[list[Cut]]


def cut_out(
    data: bytes, starts: Sequence[int], ends: Sequence[int]
) -> tuple[bytes, list[int], list[int], Cuts]:
    """Cut the images out of responses, which stand at `starts` to `ends` of a block."""
    # gives the responses with marks in place of images, a line each, their starts and ends in this
    # text, and what was cut out of each
    pieces: list[bytes] = []
    new_starts, new_ends, cuts = [], [], []
    n_bytes = 0
    for start, end in zip(starts, ends, strict=True):
        images = list(_find(data, start, end))
        new_starts.append(n_bytes)
        position = start
        for image in images:
            pieces += data[position : image.start], _MARK
            n_bytes += image.start - position + len(_MARK)
            position = image.end
        pieces += data[position:end], b"\n"
        n_bytes += end - position
        new_ends.append(n_bytes)
        n_bytes += 1
        cuts.append(images)
    return b"".join(pieces), new_starts, new_ends, cuts


def _find(data: bytes, start: int, end: int) -> Iterator[Cut]:
    """Images of one response that can be cut out."""
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
        if (
            last > first
            and data.find(b"\\", first, last) < 0
            # as signed bytes whatever is not ASCII is negative
            and np.frombuffer(data, np.int8, last - first, first).min() >= ord(" ")
            and data[last:quote] == opening[2]
        ):
            yield Cut(opening[1].decode(), first, last)
        at = data.find(_KEY, quote, end)


def put_back(
    texts: dict[str, list[Image]],
    places: Sequence[int],
    data: bytes,
    cuts: Cuts,
    needs_reference: set[int],
) -> None:
    """Replace marks by the images they stand for, in the texts of decoded responses by image."""
    view = memoryview(data)
    for at, place in enumerate(places):
        n_missing = len(cuts[place])
        for name, start, end in cuts[place]:
            images = texts[name]
            if images[at] == MARK:
                images[at] = view[start:end]  # as many bytes as characters
                n_missing -= 1
        if n_missing:  # a mark came out elsewhere, or not at all
            needs_reference.add(at)
