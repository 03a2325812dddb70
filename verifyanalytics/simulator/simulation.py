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
from verifyanalytics.simulator import labels, population, rendering
from verifyanalytics.simulator.details import QUALITY_PLACES, Details, as_text
from verifyanalytics.simulator.population import GRADED, OUTCOMES, SCORED, UNKNOWN, YES, Block
from verifyanalytics.simulator.world import APP_VERSIONS, CHANNELS, REGIONS, TAGS, World
from verifyanalytics.vendor.api import VERIFY, VERIFY_KEYS

if TYPE_CHECKING:
    import pandas as pd

_CONTEXT = {
    "ctx_app_version": ("version", APP_VERSIONS),
    "ctx_channel": ("channel", tuple(name for name, _ in CHANNELS)),
    "ctx_region": ("region", tuple(name for name, _ in REGIONS)),
}
_NOT_SIMULATED = ("content", "batch", "source", "source_row", "extra")
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
        Answers, 0 or more.
    seed : int
        Any integer; the same n, seed and world give the same bytes.
    world : World

    Examples
    --------
    >>> simulation = Simulation(1000, seed=7, world=World.null())
    >>> next(iter(simulation))[:40]
    b'{"occurred_at":"2024-03-31T23:25:16.101Z'
    >>> simulation.table(["score", "threshold_1e_4"]).num_rows
    1000

    See Also
    --------
    simulate_responses : Makes one from parameters of the world.
    simulate : Writes one as files.
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
        if form not in rendering.FORMS:
            raise UsageError(f"form is {form!r}; it can be {', '.join(rendering.FORMS)}")
        for block in self.blocks():
            yield block, rendering.lines(block, self.seed, self.world, form)

    def blocks(self) -> Iterator[Block]:
        """Yield the drawn rows as arrays."""
        return population.blocks(self.n, self.seed, self.world)

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

        Columns: request_id, mated (the person before the camera is the subject), attack (species),
        hidden_score (0–100, also where the answer withholds it), session (a number), attempt (0
        is the first), subject, dark, blurred, stage (where the call ended, see `Outcome`),
        regime (0 before the switch, 1 after).
        """
        return _pandas(self.truth_table())

    def truth_table(self) -> pa.Table:
        """Return `truth` as an Arrow table."""
        return self._collect(_truth)

    @functools.cached_property
    def labels(self) -> pd.DataFrame:
        """Ground truth as a team would have it: `schema.LABELS`, chosen as the world asks."""
        return _pandas(self.label_table())

    def label_table(self) -> pa.Table:
        """Return `labels` as an Arrow table."""
        return self._collect(labels.labels)

    def _collect(self, make: Callable[[Block, int, World], pa.Table]) -> pa.Table:
        parts = [make(block, self.seed, self.world) for block in self.blocks()]
        if not parts:  # a world without rows still has columns
            empty = next(population.blocks(1, self.seed, self.world)).take(np.arange(0))
            parts = [make(empty, self.seed, self.world)]
        return pa.concat_tables(parts)


def simulate_responses(
    n: int, seed: int = 0, *, world: World | None = None, **parameters: Any
) -> Simulation:
    """Simulate answers of the vendor from a population whose truth is known.

    Nothing in it is data of a person: every face, name and device is a random number.

    Parameters
    ----------
    n : int
        Answers, 0 or more.
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

    See Also
    --------
    World : Every parameter with its meaning and range.
    simulate : Writes the answers as files.
    """
    return Simulation(n, seed, (world or World()).altered(**parameters))


def _pandas(table: pa.Table) -> pd.DataFrame:
    import pandas as pd

    frame: pd.DataFrame = table.to_pandas(types_mapper=pd.ArrowDtype)
    return frame


# ------------------------------------------------------------------ columns of `verifications`


def _verifications(block: Block, seed: int, world: World, *, names: Sequence[str]) -> pa.Table:
    details, columns = Details(block, seed, world), {}
    for name in names:
        values = _column(name, details)
        place = VERIFICATIONS.get_field_index(name)
        wanted = VERIFICATIONS.field(place).type if place >= 0 else pa.string()
        columns[name] = values if values.type == wanted else values.cast(wanted)
    return pa.table(columns)


def _column(name: str, details: Details) -> pa.Array:
    """Return one of `COLUMNS` as an import of the lines would give it."""
    block = details.block
    if name in QUALITY_PLACES:
        return _where(GRADED, details, details.quality(*QUALITY_PLACES[name]))
    if name in THRESHOLD_COLUMNS:
        level = THRESHOLD_COLUMNS.index(name)
        values = np.array([thresholds[level] for thresholds in details.world.tuples()])
        return _where(GRADED, details, values[block.regime])
    if name in _CONTEXT:
        field, texts = _CONTEXT[name]
        return pa.array(texts).take(pa.array(getattr(block, field)))
    if name in _OF_OUTCOME:
        return _OF_OUTCOME[name].take(pa.array(block.outcome))
    return _COMPUTED[name](details)


def _where(shown: np.typing.NDArray[np.bool_], details: Details, values: Any) -> pa.Array:
    """Return values, null in rows whose outcome does not show them."""
    return pa.array(values, mask=~shown[details.block.outcome])


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
_UNITS = pa.array([o.measure for o in OUTCOMES], pa.int64())
_MEASURE_TYPES = pa.array([None if o.measure is None else "query_num" for o in OUTCOMES])
_REACHED = np.array([o.gateway is None for o in OUTCOMES])


def _measure(details: Details, of_outcome: pa.Array) -> pa.Array:
    values = of_outcome.take(pa.array(details.block.outcome))
    return pc.if_else(pa.array(details.measured), values, pa.scalar(None, values.type))


def _image_bytes(details: Details) -> pa.Array:
    return _where(GRADED, details, np.full(len(details.block), details.world.image_bytes))


def _month(details: Details) -> pa.Array:
    months = details.block.occurred.astype("datetime64[us]").astype("datetime64[M]")
    first = months.min() if len(months) else np.datetime64(0, "M")
    place = (months - first).astype(np.int64)
    names = (first + np.arange(place.max(initial=0) + 1)).astype(str)
    return pa.array(names.tolist()).take(pa.array(place))


@functools.cache
def _tag_lists() -> pa.Array:
    """Tags of each set plus one; the first is for no risk result."""
    type_ = VERIFICATIONS.field("risk_tags").type
    return pa.array([None, *(rendering.tag_list(mask) for mask in range(1 << len(TAGS)))], type_)


_COMPUTED: dict[str, Callable[[Details], pa.Array]] = {
    "request_id": lambda d: as_text(d.request_id),
    "occurred_at": lambda d: pa.array(d.block.occurred).cast(pa.timestamp("us", tz="UTC")),
    "occurred_at_source": lambda d: pa.repeat("envelope", len(d.block)),
    "month": _month,
    "action": lambda d: pa.repeat(VERIFY, len(d.block)),
    "req_key": lambda d: pa.array(VERIFY_KEYS).take(pa.array(d.block.no_source.astype(np.int64))),
    "elapsed_ms": lambda d: _where(
        _REACHED,
        d,
        np.where(population.ANSWERED[d.block.outcome], d.elapsed_ms(), d.fault_ms()),
    ),
    "result": lambda d: pa.array(d.block.result == YES, mask=d.block.result == UNKNOWN),
    "alive": lambda d: pa.array(
        d.block.alive == YES, mask=(d.block.alive == UNKNOWN) | ~GRADED[d.block.outcome]
    ),
    "score": lambda d: _where(SCORED, d, d.block.hidden / 100),
    "risk_score": lambda d: pa.array(
        population.risk_scores()[d.block.tags], mask=~d.block.risk_asked
    ),
    "risk_tags": lambda d: _tag_lists().take(
        pa.array(np.where(d.block.risk_asked, d.block.tags, -1) + 1)
    ),
    "image_best_bytes": _image_bytes,
    "image_env_bytes": _image_bytes,
    "image_best_print": lambda d: pa.nulls(len(d.block), pa.string()),
    "image_env_print": lambda d: pa.nulls(len(d.block), pa.string()),
    "measure_type": lambda d: _measure(d, _MEASURE_TYPES),
    "measure_value": lambda d: _measure(d, _UNITS),
    "token": lambda d: as_text(d.token),
    "subject": lambda d: as_text(d.subject),
    "issues": lambda d: pa.array([[]] * len(d.block), pa.list_(pa.string())),
}


def _truth(block: Block, seed: int, world: World) -> pa.Table:
    details = Details(block, seed, world)
    stages = pa.array([o.stage for o in OUTCOMES])
    return pa.table(
        {
            "request_id": as_text(details.request_id),
            "mated": block.kind < population.NONMATED,
            "attack": pa.array(population.KINDS, pa.string()).take(pa.array(block.kind)),
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
