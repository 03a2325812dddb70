"""Simulated labels fit their schema and the truth."""

from __future__ import annotations

import math

import pyarrow as pa
import pytest

from verifyanalytics.schema import LABELS
from verifyanalytics.simulator import (
    simulate_responses,
)


def test_labels_fit_their_schema_and_the_truth():
    simulation = simulate_responses(3000, seed=5, labelled="all")
    table = simulation.label_table()
    assert table.schema.equals(pa.schema([pa.field(f.name, f.type) for f in LABELS]))
    truth = simulation.truth
    assert table["mated"].to_pylist() == truth["mated"].tolist()
    assert table["attack"].to_pylist() == pa.array(truth["attack"]).to_pylist()
    assert set(table["inclusion_prob"].to_pylist()) == {1.0}


def test_stratified_labels_weigh_back_to_the_whole():
    simulation = simulate_responses(60_000, seed=5, labelled="stratified", label_share=0.05)
    labels = simulation.label_table()
    chance = labels["inclusion_prob"].to_numpy()
    assert len(set(chance.tolist())) > 4
    # Horvitz-Thompson: weights add up to the number of rows
    variance = ((1 - chance) / chance**2).sum()
    assert abs((1 / chance).sum() - 60_000) < 5 * math.sqrt(variance)


def test_selected_labels_have_no_inclusion_probability():
    simulation = simulate_responses(20_000, seed=5, labelled="accepted", label_share=0.5)
    labels = simulation.label_table().to_pylist()
    rows = simulation.table(["request_id", "result"]).to_pylist()
    accepted = {row["request_id"] for row in rows if row["result"]}
    assert {label["request_id"] for label in labels} <= accepted
    assert len(labels) / len(accepted) == pytest.approx(0.5, abs=0.02)
    assert {(x["inclusion_prob"], x["plan_id"], x["origin"]) for x in labels} == {
        (None, None, "claim")
    }


def test_wrong_labels_and_fraud_that_comes_to_light():
    simulation = simulate_responses(
        40_000, 5, labelled="random", label_share=0.5, label_error=0.1, fraud_share=1.0,
        attack_share=0.2, attack_detected=0.2,
    )  # fmt: skip
    truth = simulation.truth.set_index("request_id")
    labels = simulation.label_table().to_pylist()
    audit = [x for x in labels if x["origin"] == "audit"]
    fraud = [x for x in labels if x["origin"] == "fraud"]
    wrong = sum(x["mated"] != truth["mated"][x["request_id"]] for x in audit)
    assert wrong / len(audit) == pytest.approx(0.1, abs=0.01)
    assert len(fraud) > 1000
    assert {(x["mated"], x["inclusion_prob"]) for x in fraud} == {(False, None)}
    ids = [x["request_id"] for x in labels]
    assert len(ids) == len(set(ids))
