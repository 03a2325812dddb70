"""Decoded answers become Arrow columns, a block at a time.

List comprehensions take the parts out, NumPy does what is arithmetic, Arrow takes the rest; no
step loops over columns within a row. What a step cannot do exactly as the reference would, it
marks as odd, and the answer goes there.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec.structs import astuple

from verifyanalytics.parsing.envelope import EARLIEST, LATEST
from verifyanalytics.parsing.fast.typed import NAN, NOT_GRADED, Quality, Undecodable
from verifyanalytics.parsing.object_reader import milliseconds
from verifyanalytics.parsing.redaction import MAX_TEXT
from verifyanalytics.parsing.reference import CONTENT_NUMBERS
from verifyanalytics.schema import IMAGES, STRINGS

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

N_QUALITY = 11
_pack_quality = struct.Struct(f"<{N_QUALITY}d").pack
_quality = msgspec.json.Decoder(Quality)
_qualities: Any = msgspec.json.Decoder(list[Quality | None])  # type: ignore[valid-type]
_numbers = msgspec.json.Decoder(list[float])
_PLAIN = b"0123456789.,"
_TIME = pa.timestamp("us", tz="UTC")
_DAY = 86_400_000_000
_BEIJING = 8 * 3_600_000_000
_LOW, _HIGH = (int(moment.timestamp()) * 1_000_000 for moment in (EARLIEST, LATEST))
_FIRST_MONTH = (EARLIEST.year - 1970) * 12
_MONTHS = pa.array(
    ["unknown"]
    + [f"{year}-{month:02}" for year in range(EARLIEST.year, LATEST.year) for month in range(1, 13)]
)
_MONTH_DAYS = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
_OPENS = np.isin(np.arange(256), list(b'{["\t\n\r '))
_ZERO, _LETTER, _CASE = (np.uint8(ord(character)) for character in "0a ")


def quality(texts: Sequence[str | None], odd: set[int]) -> bytes:
    """Read the quality details of one image: eleven float64 an answer, NaN where not graded."""
    try:
        return _packed(_all_graded(texts))
    except (*Undecodable, TypeError):  # a null among them has no fields
        return _packed([_graded(text, place, odd) for place, text in enumerate(texts)])


def _packed(details: Sequence[Any]) -> bytes:
    return b"".join([_pack_quality(*astuple(detail)) for detail in details])


def _all_graded(texts: Sequence[str | None]) -> Sequence[Any]:
    """Decode many details as one array, nulls between them; `ValueError` where one is not alone.

    Where a text leaves a bracket or a quote open, a null comes where these types take none. Where
    one holds two values the count shows it, because none holds no value: that would leave two
    commas together.
    """
    joined = ",null,".join([text or "{}" for text in texts])
    values: Sequence[Any] = _qualities.decode(f"[{joined}]")
    if len(values) != 2 * len(texts) - 1:
        raise ValueError("two values in a text")
    return values[::2]


def _graded(text: str | None, place: int, odd: set[int]) -> Any:
    try:
        return _quality.decode(text) if text else NOT_GRADED
    except Undecodable:
        odd.add(place)
        return NOT_GRADED


def elapsed(texts: Sequence[str | None], odd: set[int]) -> list[float]:
    """Read durations: milliseconds, NaN where absent."""
    cut = [text[:-2] if text is not None and text[-2:] == "ms" else "0" for text in texts]
    joined = ",".join(cut)
    try:
        # JSON numbers of these characters only are Go's, too; a comma within one shows in the count
        is_plain = not joined.encode().translate(None, _PLAIN)
        numbers = _numbers.decode(f"[{joined}]") if is_plain else []
    except Undecodable:
        numbers = []
    if len(numbers) != len(texts):
        return [_elapsed(text, place, odd) for place, text in enumerate(texts)]
    if "0" in cut:
        for place in [place for place, text in enumerate(cut) if text == "0"]:
            numbers[place] = _elapsed(texts[place], place, odd)
    return numbers


def _elapsed(text: str | None, place: int, odd: set[int]) -> float:
    number = milliseconds(text)
    if number is None:
        if text is not None:
            odd.add(place)
        return NAN
    return number


def numbers(
    elapsed_ms: Sequence[float],
    scores: Sequence[float | None],
    packed: Mapping[str, Sequence[bytes]],
) -> Floats:
    """Put the numbers of answers together, (n, 24), in the order of `CONTENT_NUMBERS`.

    Parameters
    ----------
    elapsed_ms, scores : sequence of float
    packed : mapping
        Image → what `quality` gave, in pieces.
    """
    made = np.empty((len(scores), len(CONTENT_NUMBERS)))
    made[:, 0] = elapsed_ms
    made[:, 1] = scores
    for at, image in enumerate(IMAGES):
        pieces = np.frombuffer(b"".join(packed[image]), "<f8")
        made[:, 2 + at * N_QUALITY : 2 + (at + 1) * N_QUALITY] = pieces.reshape(-1, N_QUALITY)
    made += 0.0  # minus zero is zero
    return made


def float_columns(table: Floats) -> dict[str, pa.Array]:
    """Columns of `CONTENT_NUMBERS` from (n, 24), null for NaN."""
    turned = np.ascontiguousarray(table.T)
    holes: list[bool] = np.isnan(turned).any(axis=1).tolist()  # type: ignore[assignment]
    return {
        name: pa.array(column, from_pandas=True) if hole else _float_array(column)
        for name, column, hole in zip(CONTENT_NUMBERS, turned, holes, strict=True)
    }


def _float_array(column: Floats) -> pa.Array:
    return pa.Array.from_buffers(pa.float64(), len(column), [None, pa.py_buffer(column)])


def contents(
    table: Floats, digests: npt.NDArray[np.uint8], extras: Sequence[str | None] | None
) -> pa.Array:
    """Digest what each answer says, as `responses.content` defines it."""
    width = 8 * len(CONTENT_NUMBERS)
    rows = np.empty((len(table), width + 32), np.uint8)
    rows[:, :width] = np.ascontiguousarray(table, "<f8").view(np.uint8)
    rows[:, width:] = digests
    packed = rows.view(f"V{width + 32}").ravel().tolist()
    sha256 = hashlib.sha256
    if extras is None:
        made = [sha256(row).digest() for row in packed]
    else:
        made = [
            sha256(row + extra.encode() if extra else row).digest()
            for row, extra in zip(packed, extras, strict=True)
        ]
    return hex_column(b"".join(made), len(made))


def hex_column(digests: bytes, n: int) -> pa.Array:
    """Column of 64 hexadecimal digits from 32 bytes a row."""
    offsets = np.arange(0, 64 * (n + 1), 64, dtype=np.int32)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(digests.hex().encode())]
    return pa.Array.from_buffers(pa.string(), n, buffers)


def issue_lists(noted: dict[int, list[str]], n: int) -> pa.Array:
    """Lists of issues; empty for answers without any."""
    counts = np.zeros(n + 1, np.int32)
    texts: list[str] = []
    for place in sorted(noted):
        texts += noted[place]
        counts[place + 1] = len(noted[place])
    values = pa.array(texts, pa.string())
    offsets = pa.py_buffer(np.cumsum(counts, dtype=np.int32))
    return pa.Array.from_buffers(STRINGS, n, [None, offsets], children=[values])


def unfit_ids(column: pa.Array) -> npt.NDArray[np.int64]:
    """Places of ids that are absent, empty, too long to be one, or begin like a JSON text."""
    offsets = _offsets(column)
    lengths = np.diff(offsets)
    unfit = (lengths == 0) | (lengths > MAX_TEXT)
    if offsets[-1]:
        characters = np.frombuffer(column.buffers()[2], np.uint8)
        unfit |= _OPENS[characters[np.minimum(offsets[:-1], offsets[-1] - 1)]]
    return np.flatnonzero(unfit)


def _offsets(column: pa.Array) -> npt.NDArray[np.int32]:
    # a column just made from a list starts at offset 0
    return np.frombuffer(column.buffers()[1], np.int32, len(column) + 1)


def dates_in(request_ids: pa.Array) -> tuple[npt.NDArray[np.int64], Flags]:
    """Moments that dated request_ids name: microseconds since 1970, and which are known."""
    n = len(request_ids)
    moments, known = np.zeros(n, np.int64), np.zeros(n, bool)
    offsets = _offsets(request_ids)
    is_dated = np.diff(offsets) == 34
    data = request_ids.buffers()[2]
    if data is None or not is_dated.any():
        return moments, known
    characters = np.frombuffer(data, np.uint8, offsets[-1])
    if is_dated.all():
        return _moments(characters.reshape(-1, 34))
    characters = characters[offsets[:-1][is_dated][:, None] + np.arange(34)]
    moments[is_dated], known[is_dated] = _moments(characters)
    return moments, known


def _moments(ids: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.int64], Flags]:
    characters = np.ascontiguousarray(ids.T)  # so that each step runs along all answers
    digits, tails = characters[:14] - _ZERO, characters[14:]
    # letters differ from their capitals in one bit; what is below wraps around to above
    is_hex = (tails - _ZERO <= 9) | ((tails | _CASE) - _LETTER <= 5)
    known = (digits <= 9).all(axis=0) & is_hex.all(axis=0)
    digits[:, ~known] = 0
    pairs = (digits[::2] * np.uint8(10) + digits[1::2]).astype(np.int64)
    century, year, month, day, hour, minute, second = pairs
    year = century * 100 + year
    known &= (month >= 1) & (month <= 12)
    month = np.where(known, month, 1)
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    last = _MONTH_DAYS[month] + (leap & (month == 2))
    known &= (day >= 1) & (day <= last) & (hour < 24) & (minute < 60) & (second < 60)
    months = (year - 1970) * 12 + month - 1
    days = months.astype("M8[M]").astype("M8[D]").astype(np.int64) + day - 1
    moments = days * _DAY + (hour * 3600 + minute * 60 + second) * 1_000_000 - _BEIJING
    return moments, known & (moments >= _LOW) & (moments < _HIGH)


def time_columns(moments: npt.NDArray[np.int64], known: Flags) -> dict[str, pa.Array]:
    """`occurred_at` and `month` from microseconds since 1970."""
    times = pa.array(moments, mask=None if known.all() else ~known).view(_TIME)
    # months are counted from the first possible one, 0 is unknown
    months = moments.view("M8[us]").astype("M8[M]").astype(np.int64) - _FIRST_MONTH + 1
    months[~known] = 0
    return {"occurred_at": times, "month": _MONTHS.take(pa.array(months))}
