"""Columns of a block from what its decoded responses say.

List comprehensions take the parts out, NumPy does what is arithmetic, Arrow takes the rest; no
step loops over columns within a row. A value that a step cannot take exactly as the reference
parser would adds its response to `needs_reference`.
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

from verifyanalytics.parsing.fast.decoding import NAN, Flags, Quality, Undecodable
from verifyanalytics.parsing.reference import CONTENT_NUMBERS, milliseconds
from verifyanalytics.parsing.text import EARLIEST, LATEST, MAX_TEXT
from verifyanalytics.schema import IMAGES, QUALITY_FIELDS, STRINGS

Floats = npt.NDArray[np.float64]

_N_QUALITY = len(QUALITY_FIELDS)
_NOT_GRADED = Quality()
_pack_quality = struct.Struct(f"<{_N_QUALITY}d").pack
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


def quality(texts: Sequence[str | None], needs_reference: set[int]) -> bytes:
    """Read the quality details of one image: eleven float64 a response, NaN where not graded."""
    # Many details are decoded as one array, nulls between them. Where a text leaves a bracket or
    # a quote open, a null comes where these types take none. Where one holds two values the count
    # shows it, because none holds no value: that would leave two commas together.
    joined = ",null,".join([text or "{}" for text in texts])
    try:
        values = _qualities.decode(f"[{joined}]")
        if len(values) == 2 * len(texts) - 1:
            return b"".join([_pack_quality(*astuple(value)) for value in values[::2]])
    except (*Undecodable, TypeError):  # a null among them has no fields
        pass
    details = []
    for place, text in enumerate(texts):
        try:
            details.append(_quality.decode(text) if text else _NOT_GRADED)
        except Undecodable:
            needs_reference.add(place)
            details.append(_NOT_GRADED)
    return b"".join([_pack_quality(*astuple(detail)) for detail in details])


def elapsed(texts: Sequence[str | None], needs_reference: set[int]) -> list[float]:
    """Read durations: milliseconds, NaN where absent."""
    cut = [text[:-2] if text is not None and text[-2:] == "ms" else "0" for text in texts]
    joined = ",".join(cut)
    try:
        # JSON numbers of these characters only are Go's, too; a comma within one shows in the count
        is_plain = not joined.encode().translate(None, _PLAIN)
        numbers = _numbers.decode(f"[{joined}]") if is_plain else []
    except Undecodable:
        numbers = []
    places = [place for place, text in enumerate(cut) if text == "0"] if "0" in cut else []
    if len(numbers) != len(texts):
        numbers, places = [NAN] * len(texts), list(range(len(texts)))
    for place in places:
        number = milliseconds(texts[place])
        if number is None and texts[place] is not None:
            needs_reference.add(place)
        numbers[place] = NAN if number is None else number
    return numbers


def numbers(
    elapsed_ms: Sequence[float],
    scores: Sequence[float | None],
    packed: Mapping[str, Sequence[bytes]],
) -> tuple[Floats, dict[str, pa.Array]]:
    """Put the numbers together: (n, 24) as `CONTENT_NUMBERS`, and as columns, null for NaN."""
    table = np.empty((len(scores), len(CONTENT_NUMBERS)))
    table[:, 0] = elapsed_ms
    table[:, 1] = scores
    for at, image in enumerate(IMAGES):
        pieces = np.frombuffer(b"".join(packed[image]), "<f8")
        table[:, 2 + at * _N_QUALITY : 2 + (at + 1) * _N_QUALITY] = pieces.reshape(-1, _N_QUALITY)
    table += 0.0  # minus zero is zero
    turned = np.ascontiguousarray(table.T)
    has_nan: list[bool] = np.isnan(turned).any(axis=1).tolist()  # type: ignore[assignment]
    columns = {
        name: pa.array(column, from_pandas=True)
        if nulls
        else pa.Array.from_buffers(pa.float64(), len(column), [None, pa.py_buffer(column)])
        for name, column, nulls in zip(CONTENT_NUMBERS, turned, has_nan, strict=True)
    }
    return table, columns


def contents(
    table: Floats, digests: npt.NDArray[np.uint8], extras: Sequence[str | None] | None
) -> pa.Array:
    """Digest what each response says, as `reference.content` defines it."""
    width = 8 * len(CONTENT_NUMBERS)
    rows = np.empty((len(table), width + 32), np.uint8)
    rows[:, :width] = np.ascontiguousarray(table, "<f8").view(np.uint8)
    rows[:, width:] = digests
    packed = rows.view(f"V{width + 32}").ravel().tolist()
    sha256 = hashlib.sha256
    if extras is None:
        sums = [sha256(row).digest() for row in packed]
    else:
        sums = [
            sha256(row + extra.encode() if extra else row).digest()
            for row, extra in zip(packed, extras, strict=True)
        ]
    offsets = np.arange(0, 64 * (len(sums) + 1), 64, dtype=np.int32)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(sums).hex().encode())]
    return pa.Array.from_buffers(pa.string(), len(sums), buffers)


def issue_lists(n: int, no_risk: Sequence[int], empties: Mapping[str, Sequence[int]]) -> pa.Array:
    """Lists of issues of `n` responses: the nested texts that were empty, by their places."""
    issues = {place: ["empty:$.data.risk_result"] for place in no_risk}
    for image in IMAGES:
        path = f"empty:$.data.source_comp_details.image_{image}_detail"
        for place in empties.get(image, ()):
            issues.setdefault(place, []).append(path)
    counts = np.zeros(n + 1, np.int32)
    texts: list[str] = []
    for place in sorted(issues):
        texts += issues[place]
        counts[place + 1] = len(issues[place])
    offsets = pa.py_buffer(np.cumsum(counts, dtype=np.int32))
    values = pa.array(texts, pa.string())
    return pa.Array.from_buffers(STRINGS, n, [None, offsets], children=[values])


def unfit_ids(column: pa.Array) -> list[int]:
    """Places of ids that are absent, empty, too long to be one, or begin like a JSON text."""
    offsets = _offsets(column)
    lengths = np.diff(offsets)
    unfit = (lengths == 0) | (lengths > MAX_TEXT)
    if offsets[-1]:
        characters = np.frombuffer(column.buffers()[2], np.uint8)
        unfit |= _OPENS[characters[np.minimum(offsets[:-1], offsets[-1] - 1)]]
    places: list[int] = np.flatnonzero(unfit).tolist()
    return places


def _offsets(column: pa.Array) -> npt.NDArray[np.int32]:
    # a column just made from a list starts at offset 0
    return np.frombuffer(column.buffers()[1], np.int32, len(column) + 1)


def times(
    request_ids: pa.Array, source: str, sent: tuple[npt.NDArray[np.int64], Flags] | None
) -> dict[str, pa.Array]:
    """`occurred_at`, its source, and `month`: what the envelope says, else the date in the id."""
    moments, known = _dates_in(request_ids)
    sources = np.where(known, 1, 0)
    if sent is not None:
        sent_moments, is_sent = sent
        moments, known = np.where(is_sent, sent_moments, moments), known | is_sent
        sources[is_sent] = 2
    # months are counted from the first possible one, 0 is unknown
    months = moments.view("M8[us]").astype("M8[M]").astype(np.int64) - _FIRST_MONTH + 1
    months[~known] = 0
    return {
        "occurred_at": pa.array(moments, mask=None if known.all() else ~known).view(_TIME),
        "occurred_at_source": pa.array([None, "request_id", source]).take(pa.array(sources)),
        "month": _MONTHS.take(pa.array(months)),
    }


def _dates_in(request_ids: pa.Array) -> tuple[npt.NDArray[np.int64], Flags]:
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
    characters = np.ascontiguousarray(ids.T)  # so that each step runs along all responses
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
