"""Heads of answers: what repeats from answer to answer, made into columns once.

Code, message, sub code, verdict, liveness, thresholds, risk and billing take few different
combinations, so the kernel looks a combination up instead of building eighteen columns from every
answer. The numbers that differ everywhere are not here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec import UNSET, UnsetType

from verifyanalytics.parsing.fast.typed import Measure, Outcome, Risk, Thresholds, Undecodable
from verifyanalytics.parsing.redaction import MAX_TEXT, is_kept
from verifyanalytics.parsing.reference import CONTENT_HEAD, head_digest
from verifyanalytics.schema import VERIFICATIONS

MAX_HEADS = 1 << 12
"""Combinations kept; when there are more, the kernel starts over."""

Digests = npt.NDArray[np.uint8]

HEAD_SCHEMA = pa.schema([VERIFICATIONS.field(name) for name in CONTENT_HEAD])

_NO_OUTCOME, _NO_MEASURE, _NO_THRESHOLDS, _NO_RISK = Outcome(), Measure(), Thresholds(), Risk()
_risk = msgspec.json.Decoder(Risk)


class Key(NamedTuple):
    """What a head is made of, as decoded; the kernel makes plain tuples in this order."""

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


class Head(NamedTuple):
    """One combination.

    Attributes
    ----------
    values : tuple
        Of the `CONTENT_HEAD` columns.
    digest : bytes
        What it adds to an answer's content: 32 bytes.
    no_risk : bool
        Whether `risk_result` was the empty text.
    """

    values: tuple[Any, ...]
    digest: bytes
    no_risk: bool


NO_HEAD = Head((None,) * len(CONTENT_HEAD), bytes(32), no_risk=False)
"""Stands in for the head of an answer that goes to the reference."""


class _Table(NamedTuple):
    """All heads made so far, as columns to take from."""

    batch: pa.RecordBatch
    digests: Digests
    no_risk: npt.NDArray[np.bool_]


def _table(heads: Sequence[Head]) -> _Table:
    values = zip(*[head.values for head in heads], strict=True)
    made = [pa.array(v, field.type) for v, field in zip(values, HEAD_SCHEMA, strict=True)]
    digests = np.frombuffer(b"".join([head.digest for head in heads]), np.uint8).reshape(-1, 32)
    no_risk = np.array([head.no_risk for head in heads])
    return _Table(pa.RecordBatch.from_arrays(made, schema=HEAD_SCHEMA), digests, no_risk)


class Heads(dict[tuple[Any, ...], int]):
    """Key → number of its head in `made`, made on first use; 0: only the reference can tell."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[Head] = [NO_HEAD]
        self._table = _table(self.made)

    def __missing__(self, key: tuple[Any, ...]) -> int:
        head = make_head(Key(*key))
        self[key] = number = len(self.made) if head else 0
        if head:
            self.made.append(head)
        return number

    def columns(self, numbers: Sequence[int]) -> tuple[dict[str, pa.Array], Digests, list[int]]:
        """Columns of `HEAD_SCHEMA`, digests (n, 32), and places whose risk text was empty."""
        if len(self.made) != self._table.batch.num_rows:
            self._table = _table(self.made)
        batch, digests, no_risk = self._table
        taken = np.array(numbers, np.int32)
        columns = batch.take(pa.array(taken)).columns
        empty = np.flatnonzero(no_risk[taken]).tolist()
        return dict(zip(CONTENT_HEAD, columns, strict=True)), digests[taken], empty

    def shrink(self) -> None:
        """Start over when there are too many; between blocks, while no number is in use."""
        if len(self) > MAX_HEADS:
            self.clear()
            del self.made[1:]
            self._table = _table(self.made)


def make_head(key: Key) -> Head | None:
    """Make the head of a combination; None for what the reference would name or refuse."""
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
    texts = (key.message, outcome.status_message, measure.measure_type, *(tags or ()))
    integers = (key.code, outcome.status_code, risk.score)
    if not _fits(integers, 32) or not _fits((measure.value,), 64) or not _are_kept(texts):
        return None
    sent = (thresholds.e3, thresholds.e4, thresholds.e5, thresholds.e6)
    try:
        scores = [None if score is None else score + 0.0 for score in sent]
    except OverflowError:  # an integer beyond all floats
        return None
    values = (
        key.code, None, key.message, outcome.status_code, outcome.status_message, key.result,
        key.alive, *scores, risk.score, tags, measure.measure_type, measure.value,
    )  # fmt: skip
    return Head(
        values,
        head_digest(values),
        no_risk=key.risk_result == "",
    )


def _fits(integers: Sequence[int | None], bits: int) -> bool:
    bound = 1 << (bits - 1)
    return all(value is None or -bound <= value < bound for value in integers)


def _are_kept(texts: Sequence[str | None]) -> bool:
    """Whether texts stay as they are; their sizes together, because tags are limited together."""
    there = [text for text in texts if text is not None]
    size = sum(len(text.encode()) + 3 for text in there)
    return size <= MAX_TEXT // 2 and all(map(is_kept, there))
