"""The labelling plan, and what may be estimated from it."""

import random

import numpy as np
import pandas as pd
import pytest
import worlds as w

from verifyanalytics.analysis import audits
from verifyanalytics.analysis import intervals as iv
from verifyanalytics.errors import MissingColumnError, UsageError


def world(n=3000, seed=1, n_wrong=20):
    """Rows with their truth: a few strangers among the accepted, owners among the rejected."""
    rng = random.Random(seed)
    rows, truth = [], {}
    for i in range(n):
        score = min(100.0, max(0.0, rng.gauss(84, 9)))
        r = w.row(i, score=score, result=score >= 70)
        rows.append(r)
        truth[r["request_id"]] = True
    for r in rng.sample([r for r in rows if r["result"]], n_wrong):
        truth[r["request_id"]] = False
    return rows, truth


ROWS, TRUTH = world()
FRAME = w.frame(ROWS)


def audit(plan, truth):
    return plan.assign(mated=plan["request_id"].map(truth))


def test_the_plan_keeps_its_budget_and_its_probabilities():
    known = pd.DataFrame({"request_id": [r["request_id"] for r in ROWS[:100]], "mated": True})
    plan = audits.labelling_plan(FRAME, 75.0, 400, known=known)
    assert len(plan) == 400
    assert (plan["kind"] == "known").sum() == 20
    assert (plan["review"] == 2).sum() == 40
    first = plan[(plan["kind"] == "sample") & (plan["review"] == 1)]
    assert first["request_id"].is_unique
    assert not set(first["request_id"]) & set(known["request_id"])
    for stratum, part in first.groupby("stratum"):
        regime, band, verdict = stratum.split(" | ")
        assert regime == "cert_pro_src_verify 60/70/80/90"
        low, high = (0.0, 60.0) if band.startswith("0 to") else (None, None)
        if band.startswith(">="):
            low, high = float(band[3:]), np.inf
        elif low is None:
            low, high = map(float, band.split(" to "))
        mine = [
            r
            for r in ROWS[100:]
            if low <= r["score"] < high and r["result"] == (verdict == "result true")
        ]
        assert set(part["n_stratum"]) == {len(mine)}
        assert set(part["n_sampled"]) == {len(part)}
        assert part["inclusion_prob"].to_numpy() == pytest.approx(len(part) / len(mine))
        assert set(part["request_id"]) <= {r["request_id"] for r in mine}
    bands = {s.split(" | ")[1] for s in first["stratum"]}
    assert {"70 to 75", "75 to 80", ">= 90"} <= bands


def test_small_strata_are_looked_at_more_than_large_ones():
    plan = audits.labelling_plan(FRAME, 75.0, 300, doubles=0.0)
    shares = plan.groupby("n_stratum")["inclusion_prob"].first()
    assert shares.is_monotonic_decreasing
    assert plan.groupby("stratum").size().min() >= 2


@pytest.mark.parametrize("engine", ["pandas_numpy", "arrow", "polars_lazy", "duckdb"])
def test_the_same_seed_draws_the_same_rows_on_every_engine(engine):
    other = w.engines(FRAME)[engine]
    plan = audits.labelling_plan(FRAME, 75.0, 200, seed=4)
    pd.testing.assert_frame_equal(audits.labelling_plan(other, 75.0, 200, seed=4), plan)
    shuffled = FRAME.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(audits.labelling_plan(shuffled, 75.0, 200, seed=4), plan)
    done = audit(plan, TRUTH)
    pd.testing.assert_frame_equal(
        audits.estimate_from_audit(other, done), audits.estimate_from_audit(FRAME, done)
    )
    assert audits.labelling_plan(FRAME, 75.0, 200, seed=5)["request_id"].tolist() != (
        plan["request_id"].tolist()
    )


def test_the_estimate_adds_up_strata_with_their_exact_limits():
    plan = audits.labelling_plan(FRAME, 75.0, 600)
    got = audits.estimate_from_audit(FRAME, audit(plan, TRUTH), threshold=75.0)
    got = got.set_index("quantity")
    first = plan[(plan["kind"] == "sample") & (plan["review"] == 1)]
    accepted = first[first["stratum"].str.endswith("result true")]
    strata = [part for _, part in accepted.groupby("stratum")]
    estimate = low = high = 0.0
    for part in strata:
        x = sum(not TRUTH[i] for i in part["request_id"])
        size = part["n_stratum"].iloc[0]
        estimate += size * x / len(part)
        limits = iv.hypergeometric_limits(x, len(part), size, 1 - 0.05 / len(strata))
        low, high = low + limits[0], high + limits[1]
    row = got.loc["false_accepts"]
    assert [row["estimate"], row["low"], row["high"]] == pytest.approx([estimate, low, high])
    assert row["low"] <= 20 <= row["high"]
    assert row["n_rows"] == sum(r["result"] for r in ROWS)
    assert row["rate"] == pytest.approx(estimate / row["n_rows"])
    rejected = got.loc["false_rejects"]
    assert rejected["estimate"] == pytest.approx(sum(not r["result"] for r in ROWS))
    misses = got.loc["false_nonmatches"]
    assert misses["estimate"] == pytest.approx(
        sum(r["score"] < 75 and TRUTH[r["request_id"]] for r in ROWS), rel=0.03
    )


def test_nothing_found_is_a_bound():
    plan = audits.labelling_plan(FRAME, 75.0, 200)
    row = audits.estimate_from_audit(FRAME, plan.assign(mated=True)).set_index("quantity")
    assert row.loc["false_accepts", "estimate"] == 0
    assert row.loc["false_accepts", "low"] == 0
    assert row.loc["false_accepts", "high"] > 20


def test_everything_looked_at_is_known():
    rows, truth = world(60, 3, 5)
    frame = w.frame(rows)
    plan = audits.labelling_plan(frame, 75.0, 60, doubles=0.0)
    got = audits.estimate_from_audit(frame, audit(plan, truth)).set_index("quantity")
    assert got.loc["false_accepts", ["estimate", "low", "high"]].tolist() == [5, 5, 5]


def test_cannot_tell_is_a_count_with_a_best_and_a_worst_case():
    plan = audits.labelling_plan(FRAME, 75.0, 300, doubles=0.0)
    done = audit(plan, TRUTH).astype({"mated": "boolean"})
    done.loc[done.index[:30], "mated"] = pd.NA
    row = audits.estimate_from_audit(FRAME, done).set_index("quantity").loc["nonmated"]
    assert row["n_cannot_tell"] == 30
    assert row["best_case"] <= row["estimate"] <= row["worst_case"]
    assert row["worst_case"] - row["best_case"] == pytest.approx(
        (1 / done.loc[done.index[:30], "inclusion_prob"]).sum()
    )


def test_reviewers_errors_are_seen_and_corrected():
    rng = random.Random(8)
    rows, truth = world(4000, 6, 600)
    frame = w.frame(rows)
    known = pd.DataFrame([{"request_id": i, "mated": m} for i, m in list(truth.items())[:800]])
    plan = audits.labelling_plan(frame, 75.0, 2400, known=known, seeds=0.25, doubles=0.2)

    def reviewer(i):
        return truth[i] if rng.random() < 0.9 else not truth[i]

    done = plan.assign(mated=[reviewer(i) for i in plan["request_id"]])
    got = audits.estimate_from_audit(frame, done, known=known).set_index("quantity")
    row = got.loc["nonmated"]
    assert row["sensitivity"] == pytest.approx(0.9, abs=0.1)
    assert row["specificity"] == pytest.approx(0.9, abs=0.05)
    assert row["disagreement"] == pytest.approx(0.18, abs=0.05)
    unseen = [i for i in truth if i not in set(known["request_id"])]
    wanted = sum(not truth[i] for i in unseen)
    assert row["estimate"] > wanted * 1.3  # every tenth owner is taken for a stranger
    assert row["corrected"] == pytest.approx(wanted, rel=0.25)


def test_nonsense_is_refused():
    plan = audits.labelling_plan(FRAME, 75.0, 100)
    done = audit(plan, TRUTH)
    for nonsense, message in (
        (lambda: audits.labelling_plan(FRAME, 75.0, 5), "two each are needed"),
        (lambda: audits.labelling_plan(FRAME, float("nan"), 100), "finite score"),
        (lambda: audits.labelling_plan(FRAME.iloc[:0], 75.0, 100), "to draw from"),
        (lambda: audits.estimate_from_audit(FRAME.iloc[:50], done), "are not in the frame"),
        (lambda: audits.estimate_from_audit(FRAME, done, threshold=85.0), "no stratum edge"),
    ):
        with pytest.raises(UsageError, match=message):
            nonsense()
    with pytest.raises(MissingColumnError, match="no column mated"):
        audits.estimate_from_audit(FRAME, plan)
