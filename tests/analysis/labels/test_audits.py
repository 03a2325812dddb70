"""The labelling plan, and what may be estimated from it."""

import random

import numpy as np
import pandas as pd
import pytest
from builders import frames as w

import verifyanalytics as va
from verifyanalytics.analysis.base import intervals as iv
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
    plan = va.labels.plan(FRAME, 75.0, 400, known=known)
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
    plan = va.labels.plan(FRAME, 75.0, 300, doubles=0.0)
    shares = plan.groupby("n_stratum")["inclusion_prob"].first()
    assert shares.is_monotonic_decreasing
    assert plan.groupby("stratum").size().min() >= 2


@pytest.mark.parametrize("engine", ["pandas_numpy", "arrow", "polars_lazy", "duckdb"])
def test_the_same_seed_draws_the_same_rows_on_every_engine(engine):
    other = w.engines(FRAME)[engine]
    plan = va.labels.plan(FRAME, 75.0, 200, seed=4)
    pd.testing.assert_frame_equal(va.labels.plan(other, 75.0, 200, seed=4), plan)
    shuffled = FRAME.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(va.labels.plan(shuffled, 75.0, 200, seed=4), plan)
    done = audit(plan, TRUTH)
    pd.testing.assert_frame_equal(va.labels.estimate(other, done), va.labels.estimate(FRAME, done))
    assert va.labels.plan(FRAME, 75.0, 200, seed=5)["request_id"].tolist() != (
        plan["request_id"].tolist()
    )


def test_the_estimate_adds_up_strata_with_their_exact_limits():
    plan = va.labels.plan(FRAME, 75.0, 600)
    got = va.labels.estimate(FRAME, audit(plan, TRUTH), threshold=75.0)
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
    plan = va.labels.plan(FRAME, 75.0, 200)
    row = va.labels.estimate(FRAME, plan.assign(mated=True)).set_index("quantity")
    assert row.loc["false_accepts", "estimate"] == 0
    assert row.loc["false_accepts", "low"] == 0
    assert row.loc["false_accepts", "high"] > 20


def test_everything_looked_at_is_known():
    rows, truth = world(60, 3, 5)
    frame = w.frame(rows)
    plan = va.labels.plan(frame, 75.0, 60, doubles=0.0)
    got = va.labels.estimate(frame, audit(plan, truth)).set_index("quantity")
    assert got.loc["false_accepts", ["estimate", "low", "high"]].tolist() == [5, 5, 5]


def test_cannot_tell_is_a_count_with_a_best_and_a_worst_case():
    plan = va.labels.plan(FRAME, 75.0, 300, doubles=0.0)
    done = audit(plan, TRUTH).astype({"mated": "boolean"})
    done.loc[done.index[:30], "mated"] = pd.NA
    row = va.labels.estimate(FRAME, done).set_index("quantity").loc["nonmated"]
    assert row["n_cannot_tell"] == 30
    assert row["best_case"] <= row["estimate"] <= row["worst_case"]
    assert row["worst_case"] - row["best_case"] == pytest.approx(
        (1 / done.loc[done.index[:30], "inclusion_prob"]).sum()
    )


@pytest.mark.parametrize("dropped", [False, True])
@pytest.mark.parametrize("which", ["70 to 75 | result true", "all"])
def test_a_stratum_that_nobody_could_judge_is_not_free_of_errors(which, dropped):
    """Whether its rows say "cannot tell" or are left out of the audit."""
    plan = va.labels.plan(FRAME, 75.0, 300, doubles=0.0)
    done = audit(plan, TRUTH).astype({"mated": "boolean"})
    unjudged = done["stratum"].str.endswith(which) | (which == "all")
    done.loc[unjudged, "mated"] = pd.NA
    if dropped and which != "all":
        done = done[done["mated"].notna()]
    got = va.labels.estimate(FRAME, done, threshold=75.0).set_index("quantity")
    n_unjudged = sum(r["result"] and 70 <= r["score"] < 75 for r in ROWS)
    seen, expected = done[done["mated"].notna()], {}
    for name, inside in (
        ("nonmated", lambda r: True),
        ("false_accepts", lambda r: r["result"]),
        ("false_rejects", lambda r: not r["result"]),
        ("false_matches", lambda r: r["score"] >= 75),
        ("false_nonmatches", lambda r: r["score"] < 75),
    ):
        mine = {r["request_id"] for r in ROWS if inside(r)}
        truth = name in {"false_rejects", "false_nonmatches"}
        part = seen[seen["request_id"].isin(mine)]
        hits = (1 / part["inclusion_prob"])[part["mated"] == truth].sum()
        expected[name] = (len(mine), hits)
        row = got.loc[name]
        assert row["n_rows"] == len(mine)
        touched = which == "all" or name in {"nonmated", "false_accepts", "false_nonmatches"}
        gap = len(mine) if which == "all" else n_unjudged * touched
        assert row["n_rows_unjudged"] == gap
        assert [row["best_case"], row["worst_case"]] == pytest.approx([hits, hits + gap])
        assert row["reason"] == ("unjudged_stratum" if touched else "")
        blank = row[["estimate", "rate", "corrected"]].isna().tolist()
        assert blank == [touched, touched, True]
        true_number = sum(TRUTH[i] == truth for i in mine)
        assert row["low"] <= true_number <= row["high"]
        assert row["high"] - row["low"] >= gap


def test_rows_left_out_of_the_audit_are_rows_nobody_could_tell():
    plan = va.labels.plan(FRAME, 75.0, 300, doubles=0.0)
    done = audit(plan, TRUTH).astype({"mated": "boolean"})
    done.loc[done.groupby("stratum").cumcount() == 1, "mated"] = pd.NA
    told, left_out = (
        va.labels.estimate(FRAME, given, threshold=75.0).drop(columns="n_audited")
        for given in (done, done[done["mated"].notna()])
    )
    pd.testing.assert_frame_equal(left_out, told)


@pytest.mark.parametrize("seed", range(3))
def test_a_threshold_inside_a_stratum_is_refused_whatever_was_drawn(seed):
    plan = va.labels.plan(FRAME, 75.0, 18, doubles=0.0, seed=seed)
    with pytest.raises(UsageError, match="76 is no stratum edge"):
        va.labels.estimate(FRAME, audit(plan, TRUTH), threshold=76.0)
    for edge in (60, 75):
        got = va.labels.estimate(FRAME, audit(plan, TRUTH), threshold=edge)
        n_rows = got.set_index("quantity")["n_rows"]
        assert n_rows["false_matches"] == sum(r["score"] >= edge for r in ROWS)
        assert n_rows["false_nonmatches"] == sum(r["score"] < edge for r in ROWS)


def test_an_audit_of_other_rows_is_refused():
    plan = va.labels.plan(FRAME, 75.0, 200)
    done = audit(plan, TRUTH)
    first = done[(done["kind"] == "sample") & (done["review"] == 1)].iloc[0]
    moved = FRAME.copy()
    moved.loc[moved["request_id"] == first["request_id"], "score"] = 3.0
    fewer = FRAME[FRAME["request_id"].isin(done["request_id"])]
    for frame, audited, message in (
        (moved, done, "1 of .* audited rows are in another stratum"),
        (fewer, done, "fewer rows than the plan was drawn from"),
        (FRAME.iloc[:0], done, "are not in the frame"),
        (FRAME, pd.concat([done, done]), "stand there twice"),
        (FRAME, done.assign(n_stratum=1), "not as the plan had it"),
        (FRAME, done.assign(n_stratum="many"), "not as the plan had it"),
        (FRAME, done.assign(stratum="young"), "'young' is no stratum"),
        (FRAME, done.assign(mated="yes"), "mated holds true, false or null"),
        (FRAME, done.iloc[:0], "no row of a sample"),
        (FRAME, None, "a NoneType is no frame"),
    ):
        with pytest.raises(UsageError, match=message):
            va.labels.estimate(frame, audited)
    for nonsense in ("x", float("nan")):
        with pytest.raises(UsageError, match="threshold must be a finite number"):
            va.labels.estimate(FRAME, done, threshold=nonsense)
    with pytest.raises(MissingColumnError, match="no column mated, request_id"):
        va.labels.estimate(FRAME, done, known=pd.DataFrame({"a": [1]}))


def test_known_rows_make_no_stratum_that_was_forgotten():
    """A stratum of which all rows are known is not drawn from, and nothing is missing."""
    known = pd.DataFrame([{"request_id": r["request_id"], "mated": True} for r in ROWS
                          if r["score"] < 70])  # fmt: skip
    plan = va.labels.plan(FRAME, 75.0, 300, known=known)
    got = va.labels.estimate(FRAME, audit(plan, TRUTH), known=known)
    assert set(got["reason"]) == {""}
    assert got["n_rows"].iloc[0] == len(ROWS) - len(known)


def test_reviewers_errors_are_seen_and_corrected():
    rng = random.Random(8)
    rows, truth = world(4000, 6, 600)
    frame = w.frame(rows)
    known = pd.DataFrame([{"request_id": i, "mated": m} for i, m in list(truth.items())[:800]])
    plan = va.labels.plan(frame, 75.0, 2400, known=known, seeds=0.25, doubles=0.2)

    def reviewer(i):
        return truth[i] if rng.random() < 0.9 else not truth[i]

    done = plan.assign(mated=[reviewer(i) for i in plan["request_id"]])
    got = va.labels.estimate(frame, done, known=known).set_index("quantity")
    row = got.loc["nonmated"]
    assert row["sensitivity"] == pytest.approx(0.9, abs=0.1)
    assert row["specificity"] == pytest.approx(0.9, abs=0.05)
    assert row["disagreement"] == pytest.approx(0.18, abs=0.05)
    unseen = [i for i in truth if i not in set(known["request_id"])]
    wanted = sum(not truth[i] for i in unseen)
    assert row["estimate"] > wanted * 1.3  # every tenth owner is taken for a stranger
    assert row["corrected"] == pytest.approx(wanted, rel=0.25)


def test_nonsense_is_refused():
    plan = va.labels.plan(FRAME, 75.0, 100)
    done = audit(plan, TRUTH)
    for nonsense, message in (
        (lambda: va.labels.plan(FRAME, 75.0, 5), "two each are needed"),
        (lambda: va.labels.plan(FRAME, float("nan"), 100), "threshold must be a finite"),
        (lambda: va.labels.plan(FRAME, 75.0, "x"), "budget must be a whole number"),
        (lambda: va.labels.plan(FRAME, 75.0, 100.5), "budget must be a whole number"),
        (lambda: va.labels.plan(FRAME, 75.0, 100, seeds=2), "seeds must be at least 0"),
        (lambda: va.labels.plan(FRAME, 75.0, 100, doubles="x"), "doubles must be a finite"),
        (lambda: va.labels.plan(FRAME, 75.0, 100, seed=-1), "seed must be at least 0"),
        (lambda: va.labels.plan(FRAME, 75.0, 100, known=5), "a int is no frame"),
        (lambda: va.labels.plan(FRAME.iloc[:0], 75.0, 100), "to draw from"),
        (lambda: va.labels.estimate(FRAME.iloc[:50], done), "are not in the frame"),
        (lambda: va.labels.estimate(FRAME, done, threshold=85.0), "no stratum edge"),
    ):
        with pytest.raises(UsageError, match=message):
            nonsense()
    with pytest.raises(MissingColumnError, match="no column mated"):
        va.labels.estimate(FRAME, plan)
