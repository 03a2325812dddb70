"""The simulated labels: which rows get one, and its content.

Labels are rarely random, so the ways of choosing are parameters of the world: all, a simple random
audit, accepted rows only (no inclusion probability: the selected labels that mislead), or an audit
stratified by score band and result. Fraud that comes to light weeks later is added to each.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from verifyanalytics.schema import LABELS
from verifyanalytics.simulator.details import Details, as_text
from verifyanalytics.simulator.population import KINDS, MATED, SCORED, YES, Block, Draw, Floats
from verifyanalytics.simulator.world import World

BAND_WEIGHTS = (1.0, 8.0, 8.0, 6.0, 2.0, 1.0)
"""Stratified: how much more often a row is chosen: no score, then the five bands of score."""
REJECTED_WEIGHT = 2.0
"""Stratified: the same for rows whose result is false."""
_DAY_US = 86_400_000_000
_ORIGINS = {
    "none": "audit",
    "all": "test",
    "random": "audit",
    "stratified": "audit",
    "accepted": "claim",
}
_LABELLERS = np.array(["claims-desk", "reviewer-1", "reviewer-2", "reviewer-3"])
_PLAIN = pa.schema([pa.field(f.name, f.type) for f in LABELS])


def labels(block: Block, seed: int, world: World) -> pa.Table:
    """Return the labels of a block's rows, in their order, as `schema.LABELS`."""
    draw = Draw(seed)
    probability = inclusion(block, world)
    audited = draw.uniform("label", block.row) < probability
    fraud = draw.happens("fraud", block.row, world.fraud_share)
    fraud &= (block.kind != MATED) & (block.result == YES) & ~audited
    rows = np.flatnonzero(audited | fraud)
    part, fraud, probability = block.take(rows), fraud[rows], probability[rows]
    wrong = draw.happens("label_error", part.row, world.label_error) & ~fraud
    unplanned = fraud | (world.labelled not in ("random", "stratified", "all"))
    # an audit is done within two weeks, fraud takes two to ten
    u = draw.uniform("labelled_at", part.row)
    days = np.where(fraud, 14 + 56 * u, 1 + 13 * u)
    labelled_at = (part.occurred + (days * _DAY_US).astype(np.int64)) // 1_000_000 * 1_000_000
    reviewer = draw.pick("labeller", part.row, (0.5, 0.3, 0.2)) + 1
    columns = {
        "request_id": as_text(Details(part, seed, world).request_id),
        "token": pa.nulls(len(part), pa.string()),
        "mated": (part.kind == MATED) ^ wrong,
        "attack": pa.array(KINDS, pa.string()).take(pa.array(part.kind)),
        "origin": np.where(fraud, "fraud", _ORIGINS[world.labelled]),
        "plan_id": pa.array(np.where(fraud, "", "plan-1"), mask=unplanned),
        "inclusion_prob": pa.array(probability, mask=unplanned),
        "labelled_at": pa.array(labelled_at).cast(pa.timestamp("us", tz="UTC")),
        "labeller": _LABELLERS[np.where(fraud, 0, reviewer)].tolist(),
    }
    return pa.table([pa.array(columns[name]) for name in LABELS.names], schema=_PLAIN)


def inclusion(block: Block, world: World) -> Floats:
    """Return the probability with which each row is chosen."""
    if world.labelled == "stratified":
        edges = np.array([[round(t * 100) for t in tuple_] for tuple_ in world.tuples()])
        above = (block.hidden[:, None] >= edges[block.regime]).sum(axis=1)
        weights = np.array(BAND_WEIGHTS)[np.where(SCORED[block.outcome], 1 + above, 0)]
        weights *= np.where(block.result == YES, 1.0, REJECTED_WEIGHT)
        return np.minimum(np.round(world.label_share * weights, 6), 1.0)
    if world.labelled == "accepted":
        return np.where(block.result == YES, world.label_share, 0.0)
    share = {"none": 0.0, "all": 1.0, "random": world.label_share}[world.labelled]
    return np.full(len(block), share)
