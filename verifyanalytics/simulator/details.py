"""The quantities of an answer beside its verdict: ids, times, durations, image quality.

Each quantity exists twice, as a column of numbers and as the text that the answer shows, and both
come from the same whole number: 0.949275362318841 is 949275362318841 · 10⁻¹⁵, so that the number
read from the text is the number in the column, bit for bit, on every platform. No logarithm or
power is involved, only whole-number interpolation in tables of quantiles.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from verifyanalytics.schema import IMAGES, QUALITY_FIELDS
from verifyanalytics.simulator.population import Block, Draw, Floats, Ints
from verifyanalytics.simulator.world import LOCAL_OFFSET_HOURS, World

Bytes = NDArray[np.uint8]

_LEVELS = 1 << 16
_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class _Measure:
    """The spread of a quality measure: quantiles (share, value), usual and in a bad image.

    `digits` follow the decimal point; 3 stands for the short numbers, whose texts come from a
    table; `bad` names the flag of the block that selects the second list.
    """

    digits: int
    usual: Sequence[tuple[float, float]]
    worse: Sequence[tuple[float, float]] = ()
    bad: str = ""


_COVERED = ((0.0, 0.000001), (0.5, 0.00003), (0.9, 0.001), (0.97, 0.06), (1.0, 0.98))
_POSE = ((0.0, -24.0), (0.05, -6.0), (0.5, 0.1), (0.95, 6.0), (1.0, 24.0))
_MEASURES: dict[str, _Measure] = {
    "comprehensive_score": _Measure(
        13, ((0.0, 48.0), (0.1, 62.0), (0.6, 76.0), (0.95, 88.0), (1.0, 96.0)),
        ((0.0, 12.0), (0.2, 34.0), (0.7, 52.0), (1.0, 68.0)), "blurred",
    ),
    "face_clarity": _Measure(
        15, ((0.0, 3.01), (0.3, 3.5), (0.9, 4.3), (1.0, 4.95)),
        ((0.0, 1.02), (0.5, 2.1), (1.0, 2.99)), "blurred",
    ),
    "brightness": _Measure(
        15, ((0.0, 0.12), (0.1, 0.4), (0.8, 0.85), (1.0, 0.99)),
        ((0.0, 0.01), (1.0, 0.0799)), "dark",
    ),
    "exposure": _Measure(3, ((0.0, 0.0), (0.85, 0.0), (0.97, 0.2), (1.0, 0.9))),
    **dict.fromkeys(("pose_pitch", "pose_yaw", "pose_roll"), _Measure(3, _POSE)),
    **dict.fromkeys(
        ("mouth_occlude", "left_eye_occlude", "right_eye_occlude", "have_cap"),
        _Measure(15, _COVERED),
    ),
}  # fmt: skip
_BEFORE_POINT = {"comprehensive_score": 2, "face_clarity": 1}  # digits; the others begin with 0
_ELAPSED_NS = (
    (0.0, 17e6), (0.3, 31e6), (0.6, 42e6), (0.9, 88e6), (0.99, 410e6), (0.999, 1.3e9), (1.0, 4.8e9)
)  # fmt: skip
_FAULT_NS = ((0.0, 61e3), (1.0, 970e3))


class Details:
    """The details of a block's rows, each computed when it is first asked for and then kept."""

    def __init__(self, block: Block, seed: int, world: World) -> None:
        self.block, self.world, self.draw = block, world, Draw(seed)
        self._same = self.draw.happens("env_same", block.row, world.env_same)
        self._quality: dict[tuple[str, str], Ints] = {}

    def quality(self, image: str, field: str) -> Floats:
        """Return a quality measure, of the face or env image, as numbers."""
        number: Floats = self._units(image, field) / 10.0 ** _MEASURES[field].digits
        return number

    def quality_text(self, image: str, field: str) -> pa.Array:
        """Return the same as texts (binary)."""
        units, digits = self._units(image, field), _MEASURES[field].digits
        if digits == 3:
            return _short_numbers().take(pa.array(units + _SHORT_OFFSET))
        if (before := _BEFORE_POINT.get(field)) is not None:
            return pc.binary_replace_slice(_digits(units), before, before, b".")
        return pc.binary_replace_slice(_digits(units + 10**digits), 0, 1, b"0.")

    def _units(self, image: str, field: str) -> Ints:
        key = (image, field)
        if key not in self._quality:
            measure = _MEASURES[field]
            bad = getattr(self.block, measure.bad) if measure.bad else None
            bits = self.draw.bits("/".join(key), self.block.row)
            units = _spread(bits, measure, bad)
            if image == IMAGES[1]:
                units = np.where(self._same, self._units(IMAGES[0], field), units)
            self._quality[key] = units
        return self._quality[key]

    @functools.cached_property
    def request_id(self) -> pa.Array:
        """Ids of 19 digits or of a date (+08:00) and 20 hexadecimal digits, as binary."""
        bits = self.draw.bits("request_id", self.block.row)
        number = (bits >> np.uint64(2)).astype(np.int64) + (1 << 62)
        digits = self.draw.happens("digit_id", self.block.row, self.world.digit_ids)
        return pc.if_else(pa.array(digits), _digits(number), self._dated("request_id"))

    @functools.cached_property
    def token(self) -> pa.Array:
        """The byted_token of each call."""
        return self._dated("token")

    @functools.cached_property
    def subject(self) -> pa.Array:
        """The account; mated and nonmated rows look alike."""
        return _fixed(_hex(self.draw.bits("subject", self.block.subject)), b"user-")

    @functools.cached_property
    def measured(self) -> NDArray[np.bool_]:
        """Whether an answer has req_measure_info, if its outcome has one at all."""
        return ~self.draw.happens("measure_absent", self.block.row, self.world.measure_absent)

    def _dated(self, name: str) -> pa.Array:
        bits = self.draw.bits(name, self.block.row)
        more = self.draw.bits(name + "/2", self.block.row)
        local = self.block.occurred // 1_000_000 + LOCAL_OFFSET_HOURS * 3600
        day, second = np.divmod(local, _DAY_S)
        return _fixed(
            np.hstack([_days(day, ""), _seconds("")[second], _hex(more)[:, :4], _hex(bits)])
        )

    def occurred_text(self) -> pa.Array:
        """Return the time in ISO 8601 with milliseconds, UTC."""
        ms_of_day, day = self.block.occurred // 1000, self.block.occurred // (_DAY_S * 1_000_000)
        ms_of_day = ms_of_day - day * _DAY_S * 1000
        second, ms = np.divmod(ms_of_day, 1000)
        return _fixed(np.hstack([_days(day, "-"), _seconds(":")[second], _MILLISECONDS[ms]]))

    @property
    def _elapsed_ns(self) -> Ints:
        """Duration of an answered call; its last digit is never 0."""
        return _spread(self.draw.bits("elapsed", self.block.row), _Measure(0, _ELAPSED_NS))

    @property
    def _fault_ns(self) -> Ints:
        """Duration of a call that a fault ended: microseconds."""
        return _spread(self.draw.bits("elapsed", self.block.row), _Measure(0, _FAULT_NS))

    def elapsed_text(self) -> pa.Array:
        """Return the duration as Go writes it: 41.897331ms, or 1.300412773s."""
        ns = self._elapsed_ns
        return pc.if_else(pa.array(ns < 10**9), _duration(ns, 6, "ms"), _duration(ns, 9, "s"))

    def fault_text(self) -> pa.Array:
        """Return the short duration: 84.448µs."""
        return _duration(self._fault_ns, 3, "µs")

    def elapsed_ms(self) -> Floats:
        """Return milliseconds exactly as a reader gets them from `elapsed_text`."""
        ns = self._elapsed_ns
        return np.where(ns < 10**9, ns / 1e6, ns / 1e9 * 1e3)

    def fault_ms(self) -> Floats:
        """Return milliseconds exactly as a reader gets them from `fault_text`."""
        number: Floats = self._fault_ns / 1e3 * 1e-3
        return number


def _spread(
    bits: NDArray[np.uint64], measure: _Measure, bad: NDArray[np.bool_] | None = None
) -> Ints:
    """Interpolate in the quantiles, in whole units of 10^-digits."""
    floor, step = _quantiles(measure.digits, tuple(measure.usual), tuple(measure.worse))
    level = (bits >> np.uint64(48)).astype(np.int64)
    if bad is not None:
        level += bad * _LEVELS
    within = ((bits >> np.uint64(12)) & np.uint64(0xFFFFF)).astype(np.int64)
    units = step[level]
    units *= within
    units >>= 20
    units += floor[level]
    if measure.digits != 3:
        units *= 10
        units += 1 + (bits & np.uint64(7)).astype(np.int64)
    return units


@functools.cache
def _quantiles(digits: int, *spreads: tuple[tuple[float, float], ...]) -> tuple[Ints, Ints]:
    """Return value and rise at each of 65,536 levels, one spread after the other."""
    scale = 10 ** (digits if digits == 3 else max(digits - 1, 0))
    scale = scale if digits else 1
    floors, steps = [], []
    for spread in filter(None, spreads):
        for (share, value), (next_share, next_value) in itertools.pairwise(spread):
            n_levels = round(next_share * _LEVELS) - round(share * _LEVELS)
            low, high = round(value * scale), round(next_value * scale)
            if digits == 0:
                low, high = low // 10, high // 10
            step = (high - low) // max(n_levels, 1)
            rest = high - low - step * n_levels
            rises = np.arange(n_levels, dtype=np.int64)
            floors.append(low + step * rises + rest * rises // max(n_levels, 1))
            steps.append(np.full(n_levels, step, dtype=np.int64))
    return np.concatenate(floors), np.concatenate(steps)


_SHORT_OFFSET = 90_000


@functools.cache
def _short_numbers() -> pa.Array:
    """Texts of -90.000 … 90.000 in thousandths, shortest form: 0, -0.53, 6.2."""
    return pa.array(
        [b"%b" % decimal_text(i, 1000) for i in range(-_SHORT_OFFSET, _SHORT_OFFSET + 1)]
    )


def decimal_text(units: int, scale: int) -> bytes:
    """Return units / scale in its shortest decimal form; scale is a power of ten.

    Examples
    --------
    >>> decimal_text(8769, 100), decimal_text(-530, 1000), decimal_text(6000, 100)
    (b'87.69', b'-0.53', b'60')
    """
    whole, part = divmod(abs(units), scale)
    digits = str(scale + part)[1:].rstrip("0")
    sign = "-" if units < 0 else ""
    return f"{sign}{whole}{'.' if digits else ''}{digits}".encode()


def _digits(numbers: Ints) -> pa.Array:
    return pa.array(numbers).cast(pa.string()).cast(pa.binary())


def _duration(ns: Ints, digits: int, unit: str) -> pa.Array:
    """Return texts such as 41.897331ms: nanoseconds in units of 10^digits."""
    part = pc.binary_replace_slice(_digits(ns % 10**digits + 10**digits), 0, 1, b".")
    return pc.binary_join_element_wise(_digits(ns // 10**digits), part, unit.encode(), b"")


def _fixed(characters: Bytes, prefix: bytes = b"") -> pa.Array:
    """Return rows of characters as an array of texts (binary), a prefix before each."""
    n, width = characters.shape
    if prefix:
        characters = np.hstack(
            [np.broadcast_to(np.frombuffer(prefix, np.uint8), (n, len(prefix))), characters]
        )
        width += len(prefix)
    offsets = np.arange(0, (n + 1) * width, width, dtype=np.int32)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(characters))]
    return pa.Array.from_buffers(pa.binary(), n, buffers)


def _hex(bits: NDArray[np.uint64]) -> Bytes:
    """Return 16 hexadecimal digits for each number."""
    text = bits.astype(">u8").tobytes().hex().upper()
    return np.frombuffer(text.encode(), np.uint8).reshape(len(bits), 16)


def _days(day: Ints, dash: str) -> Bytes:
    """Return dates as characters, from days since 1970; ends in T with a dash."""
    first = int(day.min()) if len(day) else 0
    n_days = int(day.max()) - first + 1 if len(day) else 1
    names = (np.datetime64(first, "D") + np.arange(n_days)).astype(str)
    texts = [name.replace("-", dash) + ("T" if dash else "") for name in names.tolist()]
    table = _characters(texts)
    return table[day - first]


@functools.cache
def _seconds(colon: str) -> Bytes:
    """Return the clock at each second of the day as characters."""
    two = [f"{number:02d}" for number in range(60)]
    return _characters(
        [
            f"{hour}{colon}{minute}{colon}{second}"
            for hour in two[:24]
            for minute in two
            for second in two
        ]
    )


def _characters(texts: list[str]) -> Bytes:
    width = len(texts[0])
    return np.frombuffer("".join(texts).encode(), np.uint8).reshape(len(texts), width)


_MILLISECONDS = _characters([f".{ms:03d}Z" for ms in range(1000)])

QUALITY_PLACES = {
    f"{image}_{field.removeprefix('face_')}": (image, field)
    for image in IMAGES
    for field in QUALITY_FIELDS
}
"""Image and field of each of the 22 quality columns."""


def as_text(values: pa.Array) -> pa.Array:
    """Return binary texts as strings."""
    return values.cast(pa.string())
