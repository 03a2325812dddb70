"""Columns whose values repeat from response to response, made once a combination.

Code, message, sub code, verdict, liveness, thresholds, risk and billing take few different
combinations. So the fast path looks a combination up instead of building eighteen columns from
every response.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec import UNSET, UnsetType

from verifyanalytics.parsing.fast.decoding import Measure, Outcome, Risk, Thresholds, Undecodable
from verifyanalytics.parsing.reference import CONTENT_REPEATED, repeated_digest
from verifyanalytics.parsing.text import MAX_TEXT, are_kept
from verifyanalytics.schema import VERIFICATIONS

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
