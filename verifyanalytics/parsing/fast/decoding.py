"""A block's responses become decoded answers, a stretch at a time.

A stretch is decoded at once where its lines allow it, else answer by answer; what the types refuse
is left out, for the reference. New keys that come again and again are learnt on the way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from msgspec import UNSET

from verifyanalytics.parsing.fast import images as pictures
from verifyanalytics.parsing.fast.batches import Documents, Flags
from verifyanalytics.parsing.fast.typed import Types, Undecodable, unknown_key

STRETCH = 256
"""Answers decoded at once: few enough that what they become stays in the processor's cache."""

PART = 16
"""Answers of a stretch with bad ones among them that are decoded at once."""

LEARN_AFTER = 4
"""Answers in which a new key must be met before it is learnt."""

MAX_NOTICED = 1 << 10
"""New keys that are counted; hostile input must not fill the memory with names."""


class Text(NamedTuple):
    """The text of a stretch: its answers stand at `starts[i]` to `ends[i]` of `data`.

    `cuts` are the pictures that were cut out of each answer; None where none were.
    """

    data: bytes
    starts: Sequence[int]
    ends: Sequence[int]
    cuts: list[list[pictures.Cut]] | None


class Decoded(NamedTuple):
    """Answers of a stretch that the types accepted.

    Attributes
    ----------
    replies : list of Reply
    envelopes : list of Envelope or None
        What stood around them; None: nothing did.
    places : sequence of int
        Which answers of the stretch they are.
    first : int
        Place of the stretch's first answer among the block's.
    text : Text
        What they were decoded from.
    """

    replies: list[Any]
    envelopes: list[Any] | None
    places: Sequence[int]
    first: int
    text: Text

    def sent(self, at: int) -> bytes:
        """The JSON text of one reply."""
        envelope = self.envelopes and self.envelopes[at]
        if envelope and isinstance(envelope.response, str):
            return envelope.response.encode()
        place = self.places[at]
        return self.text.data[self.text.starts[place] : self.text.ends[place]]


class Decoding:
    """The decoders of one kernel, and what it noticed so far.

    Parameters
    ----------
    stretch, part : int
        Answers decoded at once: of a block, and of a stretch with bad ones. They decide nothing.

    Attributes
    ----------
    types : Types
    """

    def __init__(self, stretch: int = STRETCH, part: int = PART) -> None:
        self.types = Types()
        self._stretch, self._part = stretch, part
        self._unknown: Counter[tuple[str, str]] = Counter()
        self._is_enveloped = False
        self._was_sound = True  # bad answers seldom come alone: after one, parts are tried at once

    def stretches(self, data: bytes, documents: Documents) -> Iterator[Decoded]:
        """Decode what the types accept."""
        starts, ends = documents.starts.tolist(), documents.ends.tolist()
        for first in range(0, len(starts), self._stretch):
            stop = first + self._stretch
            text = Text(data, starts[first:stop], ends[first:stop], None)
            if text.ends[-1] - text.starts[0] > pictures.LARGE * len(text.starts):
                text = Text(*pictures.cut(data, text.starts, text.ends))
            yield self._decode(text, documents.regular[first:stop], first)

    def _decode(self, text: Text, regular: Flags, first: int) -> Decoded:
        """Decode a stretch at once; where it does not fit part by part, and those line by line."""
        n = len(text.starts)
        lines = self._decode_lines(text, regular, 0, n) if self._was_sound else None
        if lines is not None:
            envelopes = lines if self._is_enveloped else None
            replies = [None] * n if self._is_enveloped else lines
            return Decoded(self._opened(replies, envelopes), envelopes, range(n), first, text)
        return self._decode_parts(text, regular, first)

    def _decode_lines(self, text: Text, regular: Flags, at: int, stop: int) -> list[Any] | None:
        """Decode lines of a stretch at once; None where one of them does not fit."""
        if not regular[at:stop].all():
            return None
        decoder = self._decoders()[self._is_enveloped]
        try:
            lines: list[Any] = decoder.decode_lines(
                memoryview(text.data)[text.starts[at] : text.ends[stop - 1]]
            )
        except Undecodable:
            return None
        return lines if len(lines) == stop - at else None  # else two texts share a line

    def _decoders(self) -> tuple[Any, Any]:
        return self.types.reply, self.types.envelope

    def _decode_parts(self, text: Text, regular: Flags, first: int) -> Decoded:
        """Decode what is left when bad answers are left out, and learn from them."""
        lines: list[Any] = []
        enveloped: list[bool] = []
        places: list[int] = []
        n = len(text.starts)
        self._was_sound = True
        for at in range(0, n, self._part):
            stop = min(at + self._part, n)
            part = self._decode_lines(text, regular, at, stop)
            if part is not None:
                lines += part
                enveloped += [self._is_enveloped] * len(part)
                places += range(at, stop)
                continue
            self._was_sound = False
            for place in range(at, stop):
                line = self._decode_line(text, place)
                if line is not None:
                    lines.append(line)
                    enveloped.append(self._is_enveloped)
                    places.append(place)
        if not any(enveloped):
            return Decoded(lines, None, places, first, text)
        pairs = list(zip(lines, enveloped, strict=True))
        envelopes = [line if is_one else self.types.no_envelope for line, is_one in pairs]
        replies = [None if is_one else line for line, is_one in pairs]
        return Decoded(self._opened(replies, envelopes), envelopes, places, first, text)

    def _decode_line(self, text: Text, place: int) -> Any:
        """Decode a line as what the last one was, else as the other; None where neither fits."""
        line = memoryview(text.data)[text.starts[place] : text.ends[place]]
        try:
            return self._decoders()[self._is_enveloped].decode(line)
        except Undecodable as error:
            if not self._notice(error):
                return None
        try:
            decoded = self._decoders()[not self._is_enveloped].decode(line)
        except Undecodable as error:
            self._notice(error)
            return None
        self._is_enveloped = not self._is_enveloped
        return decoded

    def _notice(self, error: Exception) -> bool:
        """Count an unknown key that ended the fast road, if one did; learn what comes often."""
        key = unknown_key(error)
        if key is None:
            return False
        if len(self._unknown) > MAX_NOTICED:
            self._unknown.clear()
        self._unknown[key] += 1
        if self._unknown[key] == LEARN_AFTER:
            self.types.learn(*key)
        return True

    def _opened(self, replies: list[Any], envelopes: list[Any] | None) -> list[Any]:
        """Take the replies out of the envelopes; one that is missing or unfit is an empty one."""
        for place, envelope in enumerate(envelopes or ()):
            reply = envelope.response
            if isinstance(reply, str):
                try:
                    reply = self.types.reply.decode(reply)
                except Undecodable as error:
                    self._notice(error)
                    reply = UNSET
            if replies[place] is None:
                replies[place] = self.types.no_reply if reply is UNSET else reply
        return replies
