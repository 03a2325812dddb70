"""Columns of a block from what its decoded responses say, and from what stood around them.

List comprehensions take the parts out, NumPy does what is arithmetic, Arrow takes the rest. A value
that a step cannot take exactly as the reference parser would adds its response to
`needs_reference`.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec import UNSET, UnsetType
from msgspec.structs import astuple

from verifyanalytics.parsing.fast.decoding import (
    NAN,
    Flags,
    Measure,
    Outcome,
    Quality,
    Risk,
    Thresholds,
    Undecodable,
)
from verifyanalytics.parsing.reference import (
    CONTENT_NUMBERS,
    CONTENT_REPEATED,
    milliseconds,
    repeated_digest,
)
from verifyanalytics.parsing.text import (
    EARLIEST,
    EPOCH,
    LATEST,
    MAX_TEXT,
    MICROSECOND,
    Number,
    ReadOptions,
    are_kept,
    context_names,
    is_kept,
    keyed_hash,
    read_time,
)
from verifyanalytics.schema import IMAGES, QUALITY_FIELDS, STRINGS, VERIFICATIONS

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


# ------------------------------------------------------------------ values that repeat

MAX_COMBINATIONS = 1 << 12
"""Combinations kept from block to block; when there are more, the table starts over."""

Digests = npt.NDArray[np.uint8]

_SCHEMA = pa.schema([VERIFICATIONS.field(name) for name in CONTENT_REPEATED])
_NO_OUTCOME, _NO_MEASURE, _NO_THRESHOLDS, _NO_RISK = Outcome(), Measure(), Thresholds(), Risk()
_risk = msgspec.json.Decoder(Risk)


class Combination(NamedTuple):
    """What repeats, as decoded; the flattener makes plain tuples in this order."""

    code: int | UnsetType | None
    message: str | None
    result: bool | None
    risk_result: str | None
    alive: bool | None
    thresholds: Thresholds | None
    outcome: Outcome | None
    measure: Measure | None
    verify_outcome: Outcome | None
    verify_measure: Measure | None


class Values(NamedTuple):
    """Values of the `CONTENT_REPEATED` columns, their digest, whether the risk text was empty."""

    columns: tuple[Any, ...]
    digest: bytes
    is_risk_empty: bool


_BLANK = Values((None,) * len(CONTENT_REPEATED), bytes(32), is_risk_empty=False)


class RepeatedColumns(dict[tuple[Any, ...], int]):
    """Combination → its number in `rows`, made on first use; 0: it needs the reference parser."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Values] = [_BLANK]
        self._n_in_table = 0

    def __missing__(self, key: tuple[Any, ...]) -> int:
        values = values_of(Combination(*key))
        self[key] = number = len(self.rows) if values else 0
        if values:
            self.rows.append(values)
        return number

    def columns(self, numbers: Sequence[int]) -> tuple[dict[str, pa.Array], Digests, list[int]]:
        """Columns of a block, digests (n, 32), and places whose risk text was empty.

        No number holds beyond this call: the table may start over.
        """
        if self._n_in_table != len(self.rows):
            self._build()
        places = np.array(numbers, np.int32)
        columns = self._batch.take(pa.array(places)).columns
        digests, is_risk_empty = self._digests[places], self._is_risk_empty[places]
        if len(self) > MAX_COMBINATIONS:
            self.clear()
            del self.rows[1:]
        return (
            dict(zip(CONTENT_REPEATED, columns, strict=True)),
            digests,
            np.flatnonzero(is_risk_empty).tolist(),
        )

    def _build(self) -> None:
        rows, digests, is_risk_empty = zip(*self.rows, strict=True)
        columns = zip(zip(*rows, strict=True), _SCHEMA, strict=True)
        arrays = [pa.array(values, field.type) for values, field in columns]
        self._batch = pa.RecordBatch.from_arrays(arrays, schema=_SCHEMA)
        self._digests: Digests = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32)
        self._is_risk_empty = np.array(is_risk_empty)
        self._n_in_table = len(self.rows)


def values_of(key: Combination) -> Values | None:
    """Make the values of a combination; None for what the reference parser would name or refuse."""
    if key.code is UNSET:
        return None
    if (key.verify_outcome and key.outcome) or (key.verify_measure and key.measure):
        return None  # a query's own outcome goes to extra, as it was written
    try:
        risk = _risk.decode(key.risk_result) if key.risk_result else _NO_RISK
    except Undecodable:
        return None
    tags = risk.tags
    if tags is None and risk.score is not None:
        tags = []
    outcome = key.verify_outcome or key.outcome or _NO_OUTCOME
    measure = key.verify_measure or key.measure or _NO_MEASURE
    thresholds = key.thresholds or _NO_THRESHOLDS
    texts = [key.message, outcome.status_message, measure.measure_type, *(tags or ())]
    present = [text for text in texts if text is not None]
    n_bytes = sum(len(text.encode()) + 3 for text in present)  # tags are limited together
    integers = (key.code, outcome.status_code, risk.score)
    if not (
        all(_fits(value, 32) for value in integers)
        and _fits(measure.value, 64)
        and n_bytes <= MAX_TEXT // 2
        and are_kept(present)
    ):
        return None
    sent = (thresholds.e3, thresholds.e4, thresholds.e5, thresholds.e6)
    try:
        scores = [None if score is None else score + 0.0 for score in sent]
    except OverflowError:  # an integer beyond all floats
        return None
    columns = (
        key.code, None, key.message, outcome.status_code, outcome.status_message, key.result,
        key.alive, *scores, risk.score, tags, measure.measure_type, measure.value,
    )  # fmt: skip
    return Values(columns, repeated_digest(columns), is_risk_empty=key.risk_result == "")


def _fits(value: int | UnsetType | None, bits: int) -> bool:
    return not isinstance(value, int) or -(1 << (bits - 1)) <= value < 1 << (bits - 1)


# ------------------------------------------------------------------ what stands around the replies

_MAX_PLANS = 1 << 10


class EnvelopeColumns:
    """Makes columns of envelopes; one for a flattener, because contexts repeat their names."""

    def __init__(self, options: ReadOptions) -> None:
        self._options = options
        self._plan = lru_cache(_MAX_PLANS)(self._plan_of)

    def columns(
        self, envelopes: Sequence[Any] | None, n: int, needs_reference: set[int]
    ) -> dict[str, pa.Array]:
        """Columns of `n` responses that come from `envelopes` (None: all replies stand alone)."""
        options = self._options
        if envelopes is None:
            constants = {
                "action": options.action,
                "req_key": options.req_key,
                **{f"ctx_{name}": text for name, text in options.context.items()},
            }
            return {
                name: pa.nulls(n, pa.string()) if text is None else pa.repeat(pa.scalar(text), n)
                for name, text in constants.items()
            }
        columns: dict[str, list[Any]] = {
            "action": [e.action or options.action for e in envelopes],
            "req_key": [e.req_key or options.req_key for e in envelopes],
            **self._contexts([e.context or {} for e in envelopes], needs_reference),
        }
        for texts in columns.values():
            # few different texts stand over many responses
            unfit = {text for text in set(texts) if text is not None and not is_kept(text)}
            if unfit:
                needs_reference.update(i for i, text in enumerate(texts) if text in unfit)
        key = options.key
        for kind, secrets in (
            ("token", [e.byted_token for e in envelopes]),
            ("subject", [e.subject for e in envelopes]),
        ):
            columns[kind] = [keyed_hash(key, kind, s) if s and key else None for s in secrets]
        statuses = [e.http_status for e in envelopes]
        for place, status in enumerate(statuses):
            if status is not None and not -32768 <= status < 32768:
                needs_reference.add(place)
                statuses[place] = None
        arrays = {name: pa.array(texts, pa.string()) for name, texts in columns.items()}
        return {**arrays, "http_status": pa.array(statuses, pa.int16())}

    def _contexts(
        self, contexts: list[dict[str, str | None]], needs_reference: set[int]
    ) -> dict[str, list[str | None]]:
        plans = [self._plan(tuple(context)) for context in contexts]
        needs_reference.update(place for place, plan in enumerate(plans) if plan is None)
        constants = self._options.context
        columns: dict[str, list[str | None]] = {
            name: [constants.get(name)] * len(plans)
            for name in sorted({*constants, *(name for plan in plans if plan for name in plan)})
        }
        for place, (context, plan) in enumerate(zip(contexts, plans, strict=True)):
            for name, sent_as in (plan or {}).items():
                text = context[sent_as]
                if text is not None:
                    columns[name][place] = text
        return {f"ctx_{name}": texts for name, texts in columns.items()}

    def _plan_of(self, names: tuple[str, ...]) -> dict[str, str] | None:
        """Column → name in a context; None when something of it has to go to `extra`."""
        chosen = context_names(dict.fromkeys(names), self._options)
        return chosen if len(chosen) == len(names) else None


def moments(
    envelopes: Sequence[Any], needs_reference: set[int]
) -> tuple[npt.NDArray[np.int64], Flags]:
    """Times that envelopes name: microseconds since 1970, and where there is one."""
    times, known = np.zeros(len(envelopes), np.int64), np.zeros(len(envelopes), bool)
    for place, envelope in enumerate(envelopes):
        sent = envelope.occurred_at
        if sent is None:
            continue
        moment = read_time(Number(sent) if isinstance(sent, int) else sent)
        if moment is None:
            needs_reference.add(place)
        else:
            times[place], known[place] = (moment - EPOCH) // MICROSECOND, True
    return times, known
