"""Which rows get a label, and what it says: truth as a team would have it.

Labels are rarely random, so the ways of choosing are parameters of the world: all, a simple random
audit, accepted rows only (no inclusion probability: the selected labels that mislead), or an audit
stratified by score band and result. Fraud that comes to light weeks later is added to each.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from verifyanalytics.schema import LABELS
from verifyanalytics.simulator.details import Details, as_text
from verifyanalytics.simulator.outcomes import OUTCOMES
from verifyanalytics.simulator.population import MATED, YES, Block, Bools, Draw, Floats
from verifyanalytics.simulator.world import SPECIES, World

BAND_WEIGHTS = (1.0, 8.0, 8.0, 6.0, 2.0, 1.0)
"""Stratified: how much more often a row is chosen: no score, then the five bands of score."""
REJECTED_WEIGHT = 2.0
"""Stratified: the same for rows whose result is false."""
_DAY_US = 86_400_000_000


def labels(block: Block, seed: int, world: World) -> pa.Table:
    """Return the labels of a block's rows, in their order, as `schema.LABELS`."""
    draw = Draw(seed)
    probability = inclusion(block, world)
    audited = draw.uniform("label", block.row) < probability
    found = _fraud(block, draw, world) & ~audited
    rows = np.flatnonzero(audited | found)
    part, found, probability = block.take(rows), found[rows], probability[rows]
    wrong = draw.happens("label_error", part.row, world.label_error) & ~found
    species = pa.array([None, None, *(s.name for s in SPECIES)], pa.string())
    sampled = world.labelled in ("random", "stratified", "all")
    columns = {
        "request_id": as_text(Details(part, seed, world).request_id),
        "token": pa.nulls(len(part), pa.string()),
        "mated": (part.kind == MATED) ^ wrong,
        "attack": species.take(pa.array(part.kind)),
        "origin": pa.array(np.where(found, "fraud", _ORIGINS[world.labelled])),
        "plan_id": pa.array(np.where(found, "", "plan-1"), mask=found | (not sampled)),
        "inclusion_prob": pa.array(probability, mask=found | (not sampled)),
        "labelled_at": pa.array(_when(part, found, draw)).cast(pa.timestamp("us", tz="UTC")),
        "labeller": pa.array(_labellers(part, found, draw)),
    }
    return pa.table([pa.array(columns[name]) for name in LABELS.names], schema=_PLAIN)


_PLAIN = pa.schema([pa.field(f.name, f.type) for f in LABELS])
_ORIGINS = {
    "none": "audit",
    "all": "test",
    "random": "audit",
    "stratified": "audit",
    "accepted": "claim",
}


def inclusion(block: Block, world: World) -> Floats:
    """Return the probability with which each row is chosen."""
    if world.labelled == "none":
        return np.zeros(len(block))
    if world.labelled == "all":
        return np.ones(len(block))
    if world.labelled == "accepted":
        return np.where(block.result == YES, world.label_share, 0.0)
    if world.labelled == "random":
        return np.full(len(block), world.label_share)
    return np.minimum(np.round(world.label_share * _weights(block, world), 6), 1.0)


def _weights(block: Block, world: World) -> Floats:
    scored = np.array([o.scored for o in OUTCOMES])[block.outcome]
    edges = np.array([[round(t * 100) for t in tuple_] for tuple_ in world.tuples()])[block.regime]
    band = np.where(scored, 1 + (block.hidden[:, None] >= edges).sum(axis=1), 0)
    weights: Floats = np.array(BAND_WEIGHTS)[band]
    return weights * np.where(block.result == YES, 1.0, REJECTED_WEIGHT)


def _fraud(block: Block, draw: Draw, world: World) -> Bools:
    """Return the accepted impostors and attacks that somebody complains about."""
    told = draw.happens("fraud", block.row, world.fraud_share)
    fraud: Bools = told & (block.kind != MATED) & (block.result == YES)
    return fraud


def _when(block: Block, found: Bools, draw: Draw) -> np.typing.NDArray[np.int64]:
    """An audit is done within two weeks, fraud takes two to ten."""
    u = draw.uniform("labelled_at", block.row)
    days = np.where(found, 14 + 56 * u, 1 + 13 * u)
    moment = block.occurred + (days * _DAY_US).astype(np.int64)
    when: np.typing.NDArray[np.int64] = moment // 1_000_000 * 1_000_000
    return when


def _labellers(block: Block, found: Bools, draw: Draw) -> list[str]:
    reviewer = draw.pick("labeller", block.row, (0.5, 0.3, 0.2)) + 1
    names = np.array(["claims-desk", "reviewer-1", "reviewer-2", "reviewer-3"])
    chosen: list[str] = names[np.where(found, 0, reviewer)].tolist()
    return chosen
