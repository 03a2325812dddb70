"""A simulation: answers as lines, `verifications` as a frame, and the truth beside them.

The frame comes straight from the drawn arrays, without JSON, so that a proof can run thousands of
worlds; it equals what an import of the lines gives (except keyed hashes, digests and provenance).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from verifyanalytics.errors import UsageError
from verifyanalytics.schema import THRESHOLD_COLUMNS, VERIFICATIONS
from verifyanalytics.simulator import labels
from verifyanalytics.simulator import rendering as answers
from verifyanalytics.simulator.details import Details, as_text, quality_columns
from verifyanalytics.simulator.outcomes import OUTCOMES
from verifyanalytics.simulator.population import (
    NONMATED,
    UNKNOWN,
    YES,
    Block,
    Draw,
    blocks,
    risk_scores,
)
from verifyanalytics.simulator.world import (
    APP_VERSIONS,
    CHANNELS,
    REGIONS,
    REQ_KEYS,
    SPECIES,
    TAGS,
    World,
)

if TYPE_CHECKING:
    import pandas as pd

_CONTEXT = {
    "ctx_app_version": ("version", APP_VERSIONS),
    "ctx_channel": ("channel", tuple(name for name, _ in CHANNELS)),
    "ctx_region": ("region", tuple(name for name, _ in REGIONS)),
}
_NOT_SIMULATED = ("content", "batch", "source", "source_row", "extra")
_QUALITY = {column: (image, field) for column, image, field in quality_columns()}
COLUMNS = (*(n for n in VERIFICATIONS.names if n not in _NOT_SIMULATED), "month", *_CONTEXT)
"""Columns of `Simulation.table`: those of `verifications` that do not depend on an import."""


@dataclass(frozen=True)
class Simulation:
    """`n` answers of a world, drawn with a seed. Nothing is computed before it is asked for.

    Iterating gives the answers in our own envelope, one JSON text (bytes) each, in the order of
    time within blocks of 32,768.

    Parameters
    ----------
    n : int
        Answers.
    seed : int
    world : World

    Examples
    --------
    >>> simulation = Simulation(1000, seed=7, world=World.null())
    >>> next(iter(simulation))[:40]
    b'{"occurred_at":"2024-03-31T23:25:16.101Z'
    >>> simulation.table(["score", "threshold_1e_4"]).num_rows
    1000
    """

    n: int
    seed: int = 0
    world: World = World()  # noqa: RUF009 - frozen

    def __post_init__(self) -> None:
        if self.n < 0:
            raise UsageError(f"n is {self.n}; it must be 0 or more")

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[bytes]:
        return self.answers()

    def answers(self, form: str = "envelope") -> Iterator[bytes]:
        """Yield each answer as JSON without a line feed; `form` is ``envelope`` or ``answer``."""
        for _, part in self.text_blocks(form):
            yield from (line.removesuffix(b"\n") for line in part.to_pylist())

    def text_blocks(self, form: str = "envelope") -> Iterator[tuple[Block, pa.Array]]:
        """Yield blocks of rows with their lines (large_binary, line feeds included)."""
        if form not in answers.FORMS:
            raise UsageError(f"form is {form!r}; it can be {', '.join(answers.FORMS)}")
        for block in self.blocks():
            yield block, answers.lines(block, self.seed, self.world, form)

    def blocks(self) -> Iterator[Block]:
        """Yield the drawn rows as arrays."""
        return blocks(self.n, self.seed, self.world)

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return rows of `verifications` as an Arrow table; the fast way for proofs.

        Parameters
        ----------
        columns : sequence of str, optional
            Some of `COLUMNS`; a column that is not asked for costs nothing.

        Returns
        -------
        pyarrow.Table
            As an import of the lines gives them; `token` and `subject` are the plain pseudonyms
            where an import stores keyed hashes.
        """
        names = list(COLUMNS if columns is None else columns)
        if unknown := sorted(set(names) - set(COLUMNS)):
            raise UsageError(f"no simulated column {', '.join(unknown)}")
        return self._collect(functools.partial(_verifications, names=names))

    @functools.cached_property
    def verifications(self) -> pd.DataFrame:
        """All `COLUMNS` as an Arrow-backed pandas frame, as `Store.read` gives it."""
        return _pandas(self.table())

    @functools.cached_property
    def truth(self) -> pd.DataFrame:
        """What is hidden from the analyst, row by row in the order of the answers.

        Columns: request_id, mated (the person before the camera is the owner), attack (species),
        hidden_score (0–100, also where the answer withholds it), session (a number), attempt (0
        is the first), subject, dark, blurred, stage (where the call ended, as in `outcomes`),
        regime (0 before the switch, 1 after).
        """
        return _pandas(self.truth_table())

    def truth_table(self) -> pa.Table:
        """Return `truth` as an Arrow table."""
        return self._collect(_truth)

    @functools.cached_property
    def labels(self) -> pd.DataFrame:
        """Ground truth as a team would have it: `schema.LABELS`, chosen as the world says."""
        return _pandas(self.label_table())

    def label_table(self) -> pa.Table:
        """Return `labels` as an Arrow table."""
        return self._collect(labels.labels)

    def _collect(self, make: Callable[[Block, int, World], pa.Table]) -> pa.Table:
        parts = [make(block, self.seed, self.world) for block in self.blocks()]
        if not parts:  # a world without rows still has columns
            nobody = next(blocks(1, self.seed, self.world)).take(np.arange(0))
            parts = [make(nobody, self.seed, self.world)]
        return pa.concat_tables(parts)


def simulate_responses(
    n: int, seed: int = 0, *, world: World | None = None, **parameters: Any
) -> Simulation:
    """Simulate answers of the vendor from a population whose truth is known.

    Parameters
    ----------
    n : int
        Answers.
    seed : int
        The same n, seed and world give the same bytes on every platform and Python.
    world : World, optional
        Default: a realistic one. `World.null()` has no relation in it at all.
    **parameters
        Fields of `World` that shall differ, such as ``k=3`` or ``impostor_share=0.3``.

    Returns
    -------
    Simulation
        Iterate it for JSON lines; `.verifications`, `.truth` and `.labels` are frames.

    Raises
    ------
    UsageError
        An unknown parameter, or one out of range.

    Examples
    --------
    >>> simulation = simulate_responses(2000, seed=1, withheld_share=0.0, fault_share=0.0)
    >>> int(simulation.truth["mated"].sum()), len(simulation.labels)
    (1920, 2000)
    """
    return Simulation(n, seed, (world or World()).altered(**parameters))


def _pandas(table: pa.Table) -> pd.DataFrame:
    import pandas as pd

    frame: pd.DataFrame = table.to_pandas(types_mapper=pd.ArrowDtype)
    return frame


def _verifications(block: Block, seed: int, world: World, *, names: Sequence[str]) -> pa.Table:
    columns = _Columns(block, seed, world)
    types = {name: VERIFICATIONS.field(name).type for name in VERIFICATIONS.names}
    made = {name: columns.column(name) for name in names}
    return pa.table({name: _cast(made[name], types.get(name, pa.string())) for name in names})


def _cast(values: pa.Array, to: pa.DataType) -> pa.Array:
    return values if values.type == to else values.cast(to)


class _Columns:
    """The columns of a block as an import of its lines would give them."""

    def __init__(self, block: Block, seed: int, world: World) -> None:
        self._block, self._seed, self._world = block, seed, world
        self._details = Details(block, seed, world)
        self._outcome = pa.array(block.outcome)
        self._graded = np.array([o.graded for o in OUTCOMES])[block.outcome]

    def column(self, name: str) -> pa.Array:
        """Return one of `COLUMNS`."""
        if name in _QUALITY:
            return pa.array(self._details.quality(*_QUALITY[name]), mask=~self._graded)
        if name in THRESHOLD_COLUMNS:
            level = THRESHOLD_COLUMNS.index(name)
            values = np.array([t[level] for t in self._world.tuples()])[self._block.regime]
            return pa.array(values, mask=~self._graded)
        if name in _CONTEXT:
            field, texts = _CONTEXT[name]
            return pa.array(texts).take(pa.array(getattr(self._block, field)))
        if name in _OF_OUTCOME:
            return _OF_OUTCOME[name].take(self._outcome)
        make: Callable[[], pa.Array] = getattr(self, f"_{name}")
        return make()

    def _request_id(self) -> pa.Array:
        return as_text(self._details.request_id)

    def _occurred_at(self) -> pa.Array:
        return pa.array(self._block.occurred).cast(pa.timestamp("us", tz="UTC"))

    def _occurred_at_source(self) -> pa.Array:
        return self._constant("envelope")

    def _month(self) -> pa.Array:
        months = self._block.occurred.astype("datetime64[us]").astype("datetime64[M]")
        first = months.min() if len(months) else np.datetime64(0, "M")
        place = (months - first).astype(np.int64)
        names = (first + np.arange(place.max(initial=0) + 1)).astype(str)
        return pa.array(names.tolist()).take(pa.array(place))

    def _action(self) -> pa.Array:
        return self._constant("CertVerify")

    def _req_key(self) -> pa.Array:
        return pa.array(REQ_KEYS).take(pa.array(self._block.no_source.astype(np.int64)))

    def _elapsed_ms(self) -> pa.Array:
        answered = np.array([o.measure is not None for o in OUTCOMES])[self._block.outcome]
        reached = np.array([o.gateway is None for o in OUTCOMES])[self._block.outcome]
        ms = np.where(answered, self._details.elapsed_ms(), self._details.fault_ms())
        return pa.array(ms, mask=~reached)

    def _result(self) -> pa.Array:
        return pa.array(self._block.result == YES, mask=self._block.result == UNKNOWN)

    def _alive(self) -> pa.Array:
        unknown = (self._block.alive == UNKNOWN) | ~self._graded
        return pa.array(self._block.alive == YES, mask=unknown)

    def _score(self) -> pa.Array:
        scored = np.array([o.scored for o in OUTCOMES])[self._block.outcome]
        return pa.array(self._block.hidden / 100, mask=~scored)

    def _risk_score(self) -> pa.Array:
        return pa.array(risk_scores()[self._block.tags], mask=~self._block.risk_asked)

    def _risk_tags(self) -> pa.Array:
        place = np.where(self._block.risk_asked, self._block.tags, -1) + 1
        return _tag_lists().take(pa.array(place))

    def _image_best_bytes(self) -> pa.Array:
        size = np.full(len(self._block), self._world.image_bytes)
        return pa.array(size, mask=~self._graded)

    _image_env_bytes = _image_best_bytes

    def _image_best_print(self) -> pa.Array:
        return pa.nulls(len(self._block), pa.string())

    _image_env_print = _image_best_print

    def _measured(self) -> pa.Array:
        draw, share = Draw(self._seed), self._world.measure_absent
        return pa.array(~draw.happens("measure_absent", self._block.row, share))

    def _measure_type(self) -> pa.Array:
        value = self._measure_value()
        return pc.if_else(pc.is_valid(value), "query_num", pa.scalar(None, pa.string()))

    def _measure_value(self) -> pa.Array:
        value = _MEASURES.take(self._outcome)
        return pc.if_else(self._measured(), value, pa.scalar(None, pa.int64()))

    def _token(self) -> pa.Array:
        return as_text(self._details.token)

    def _subject(self) -> pa.Array:
        return as_text(self._details.subject)

    def _issues(self) -> pa.Array:
        return pa.array([[]], pa.list_(pa.string())).take(
            pa.array(np.zeros(len(self._block), dtype=np.int64))
        )

    def _constant(self, text: str) -> pa.Array:
        return pa.repeat(text, len(self._block))


_OF_OUTCOME = {
    "http_status": pa.array([o.http_status for o in OUTCOMES], pa.int16()),
    "code": pa.array([o.code for o in OUTCOMES], pa.int32()),
    "gateway_code": pa.array([o.gateway and o.gateway[1] for o in OUTCOMES], pa.string()),
    "message": pa.array([o.message for o in OUTCOMES], pa.string()),
    "sub_code": pa.array([o.sub_code for o in OUTCOMES], pa.int32()),
    "sub_message": pa.array(
        [None if o.sub_code is None else o.sub_message for o in OUTCOMES], pa.string()
    ),
}
_MEASURES = pa.array([o.measure for o in OUTCOMES], pa.int64())


@functools.cache
def _tag_lists() -> pa.Array:
    """Tags of each set plus one; the first is for no risk result."""
    type_ = VERIFICATIONS.field("risk_tags").type
    return pa.array([None, *(answers.tag_list(mask) for mask in range(1 << len(TAGS)))], type_)


def _truth(block: Block, seed: int, world: World) -> pa.Table:
    details = Details(block, seed, world)
    species = [None, None, *(s.name for s in SPECIES)]
    stages = pa.array([o.stage for o in OUTCOMES])
    return pa.table(
        {
            "request_id": as_text(details.request_id),
            "mated": block.kind < NONMATED,
            "attack": pa.array(species, pa.string()).take(pa.array(block.kind)),
            "hidden_score": block.hidden / 100,
            "session": block.row // 16,
            "attempt": block.attempt,
            "subject": as_text(details.subject),
            "dark": block.dark,
            "blurred": block.blurred,
            "stage": stages.take(pa.array(block.outcome)),
            "regime": block.regime,
        }
    )
