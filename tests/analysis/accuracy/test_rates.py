"""Labels, error rates and operating points: goldens of other programs, and plain loops."""

import datetime as dt
import json
import math
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from builders import frames as w
from hypothesis import given, settings
from hypothesis import strategies as st

import verifyanalytics as va
from verifyanalytics.analysis.accuracy import curves as cv
from verifyanalytics.analysis.base import intervals as iv
from verifyanalytics.analysis.base import labelled as lb
from verifyanalytics.errors import MissingColumnError, UsageError

GOLDEN = Path(__file__).parents[2] / "data" / "golden"


def figures(name):
    return json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


def scores(nonmated, mated):
    """A truth frame that has nothing but scores, as a benchmark's files do."""
    return pd.DataFrame(
        {
            "score": [*nonmated, *mated],
            "mated": [False] * len(nonmated) + [True] * len(mated),
        }
    )


# ------------------------------------------------------------------ goldens


@pytest.fixture(scope="module")
def nonsep(golden):
    table = np.loadtxt(golden / "bob" / "nonsep.csv", delimiter=",", skiprows=1)
    return scores(table[table[:, 0] == 0, 1], table[table[:, 0] == 1, 1])


@pytest.fixture(scope="module")
def exp1(golden):
    classes = (np.loadtxt(golden / "pyeer" / f"exp1_{name}.txt") for name in ("false", "true"))
    return scores(*(c[:, -1] if c.ndim > 1 else c for c in classes))


def test_at_most_thresholds_realise_the_rates_of_bob_measure(nonsep):
    expected = figures("bob_measure")["nonsep"]
    for rule, key in (("fmr", "far_threshold"), ("fnmr", "frr_threshold")):
        targets = [float(x) for x in expected[key]]
        got = va.accuracy.operating_points(nonsep, **{rule: targets})
        realised = [case["farfrr"] for case in expected[key].values()]
        assert got[["fmr", "fnmr"]].to_numpy() == pytest.approx(np.array(realised))
    eer = va.accuracy.operating_points(nonsep, eer=True).iloc[0]
    assert [eer["fmr"], eer["fnmr"]] == pytest.approx(expected["farfrr_at_eer"])
    assert [eer["eer_low"], eer["eer_high"]] == pytest.approx(expected["farfrr_at_eer"])
    assert eer["auc"] == pytest.approx(expected["roc_auc"])
    half = va.accuracy.operating_points(nonsep, cost=(1, 1, 0.5)).iloc[0]
    assert [half["fmr"], half["fnmr"]] == pytest.approx(expected["farfrr_at_minhter"])


def test_at_most_thresholds_are_the_conservative_ones_of_pyeer(exp1):
    expected = figures("pyeer")["exp1"]
    targets = {"fmr1000": 1e-3, "fmr100": 1e-2, "fmr20": 0.05, "fmr10": 0.1, "fmr0": 0.0}
    got = va.accuracy.operating_points(exp1, fmr=list(targets.values()))
    for name, row in zip(targets, got.to_dict("records"), strict=True):
        realised = expected["realised"][name]
        assert row["threshold"] == pytest.approx(realised["conservative_th"], rel=1e-12)
        assert row["fmr"] == pytest.approx(realised["conservative_fmr"])
        assert row["fnmr"] == pytest.approx(realised["conservative_fnmr"])
    eer = va.accuracy.operating_points(exp1, eer=True).iloc[0]
    assert [eer["eer_low"], eer["eer_high"]] == pytest.approx(
        [expected["eer_low"], expected["eer_high"]]
    )
    assert eer["eer"] == pytest.approx(expected["eer"])
    assert eer["auc"] == pytest.approx(expected["auc"])
    assert (eer["n_nonmated"], eer["n_mated"]) == (expected["n_impostor"], expected["n_genuine"])


@pytest.mark.parametrize("case", ["sklearn_docs_example", "vendor_scale_with_ties"])
def test_det_points_are_those_of_scikit_learn(case):
    expected = figures("sklearn_det")[case]
    truth = pd.DataFrame({"score": expected["score"], "mated": [y == 1 for y in expected["y"]]})
    got = va.accuracy.det_curve(truth).set_index("threshold")
    wanted = np.array([expected["det_fpr"], expected["det_fnr"]]).T
    assert got.loc[expected["det_thr"], ["fmr", "fnmr"]].to_numpy() == pytest.approx(wanted)
    assert got["auc"].to_numpy() == pytest.approx(expected["auc"])
    # the ROC lists thresholds falling, from above every score
    thresholds = [float(t) for t in expected["roc_thr"][1:]]
    wanted = np.array([expected["roc_fpr"][1:], expected["roc_tpr"][1:]]).T
    assert np.c_[got.loc[thresholds, "fmr"], 1 - got.loc[thresholds, "fnmr"]] == pytest.approx(
        wanted
    )
    assert got.index[-1] == np.nextafter(max(expected["score"]), np.inf)
    assert got["fmr"].iloc[-1] == 0.0
    assert got["fnmr"].iloc[-1] == 1.0


def test_the_interval_of_clustered_rates_is_wilson_on_the_persons_effect():
    expected = figures("clustered")
    tries = [(i, fail) for i, person in enumerate(expected["persons"]) for fail in person]
    truth = pd.DataFrame(
        {
            "score": [10.0 if fail else 90.0 for _, fail in tries] + [5.0],
            "mated": [True] * len(tries) + [False],
            "subject": [f"p{i}" for i, _ in tries] + [None],
        }
    )
    got = va.accuracy.error_rates(truth, 50.0).iloc[0]
    deff = (expected["cluster_se_statsmodels"] ** 2 * len(tries)) / (
        expected["rate"] * (1 - expected["rate"])
    )
    assert got["fnmr"] == pytest.approx(expected["rate"])
    assert got["fnmr_deff"] == pytest.approx(deff)
    assert got["n_mated_subjects"] == expected["n_persons"]
    n = len(tries) / deff
    assert [got["fnmr_low"], got["fnmr_high"]] == pytest.approx([*iv.wilson(got["fnmr"] * n, n)])
    alone = va.accuracy.error_rates(truth, 50.0, cluster=None).iloc[0]
    assert [alone["fnmr_low"], alone["fnmr_high"]] == pytest.approx(
        [*iv.wilson(alone["n_false_nonmatches"], len(tries))]
    )
    curve = va.accuracy.det_curve(truth).set_index("threshold").loc[90.0]
    assert [curve["fnmr_low"], curve["fnmr_high"]] == pytest.approx(
        [got["fnmr_low"], got["fnmr_high"]]
    )


# ------------------------------------------------------------------ brute force


def labelled(rows, seed, share=1.0):
    """Truth for some of the rows: (mated, attack) by request_id."""
    rng = random.Random(seed)
    return {
        r["request_id"]: (rng.random() < 0.6, rng.choice([None] * 6 + ["screen", "mask"]))
        for r in rows
        if rng.random() < share
    }


def label_frame(truth):
    return pd.DataFrame(
        [
            {"request_id": i, "mated": mated, "attack": attack}
            for i, (mated, attack) in truth.items()
        ]
    )


def bona_fide(rows, truth):
    return [
        (r, truth[r["request_id"]][0])
        for r in rows
        if (w.is_scored(r) or w.is_withheld(r))
        and r["request_id"] in truth
        and truth[r["request_id"]][1] is None
    ]


def loop_counts(pairs, reached):
    found = Counter()
    for r, mated in pairs:
        match = r["score"] is not None and reached(r)
        found["n_mated" if mated else "n_nonmated"] += 1
        found["n_false_matches"] += (not mated) and match
        found["n_false_nonmatches"] += mated and not match
        found["n_mated_withheld"] += mated and w.is_withheld(r)
        found["n_nonmated_withheld"] += (not mated) and w.is_withheld(r)
    return found


@settings(max_examples=6)
@given(seed=st.integers(0, 10**6), n=st.integers(60, 150))
def test_error_rates_count_what_a_loop_counts(seed, n):
    rows = w.messy(n, seed)
    truth = labelled(rows, seed)
    joined = va.labels.join(w.frame(rows), label_frame(truth))
    pairs = bona_fide(rows, truth)
    for thresholds in ([70.0, 75.5, 87.0], None):
        table = va.accuracy.error_rates(joined, thresholds, assume_random=True)
        for got in table.to_dict("records"):
            mine = [(r, m) for r, m in pairs if w.regime(r) == got["regime"]]
            counts = loop_counts(mine, lambda r, t=got["threshold"]: r["score"] >= t)
            for name in (
                "n_mated", "n_nonmated", "n_false_matches", "n_false_nonmatches",
                "n_mated_withheld", "n_nonmated_withheld",
            ):  # fmt: skip
                assert got[name] == counts[name], name
            persons = {r["subject"] or r["request_id"] for r, m in mine if m}
            assert got["n_mated_subjects"] == len(persons)
            assert not got["fmr_high"] < got["fmr"]
            assert not got["fnmr_low"] > got["fnmr"]


def test_the_design_effect_is_that_of_a_loop_over_persons():
    rows = w.messy(900, seed=4)
    truth = labelled(rows, 4)
    joined = va.labels.join(w.frame(rows), label_frame(truth))
    table = va.accuracy.error_rates(joined, [80.0], by="alive", assume_random=True)
    for got in table.to_dict("records"):
        alive = None if pd.isna(got["alive"]) else got["alive"]
        people = {}
        for r, mated in bona_fide(rows, truth):
            if mated and w.regime(r) == got["regime"] and r["alive"] == alive:
                miss = r["score"] is None or r["score"] < 80.0
                people.setdefault(r["subject"] or r["request_id"], []).append(miss)
        n = sum(map(len, people.values()))
        g, rate = len(people), got["n_false_nonmatches"] / n
        if g in (1, n) or rate in (0, 1):
            continue
        var = g / (g - 1) * sum((sum(p) - rate * len(p)) ** 2 for p in people.values()) / n**2
        assert got["fnmr_deff"] == pytest.approx(var / (rate * (1 - rate) / n))


@pytest.mark.parametrize("engine", ["arrow", "polars_lazy"])
@pytest.mark.parametrize("key", ["alive", "risk_score", "day", "kind", "when", "risk_tags"])
def test_persons_are_found_again_in_groups_of_any_type(key, engine):
    """A hundred persons try ten times each: whatever splits them, they stay a hundred."""
    days = [dt.date(2024, 5, 1), dt.date(2024, 5, 2), None]
    held = {
        "alive": [True, False, None],
        "risk_score": [0, 300, None],
        "risk_tags": [["13001", "14004"], [], None],
        "day": days,
        "when": [d and dt.datetime(d.year, d.month, d.day) for d in days],
        "kind": ["p", "q", None],
    }
    rows = []
    for i in range(1000):
        score = 65.0 if i // 10 % 10 == 0 else 85.0
        row = w.row(i, score=score, subject=f"s{i // 10}") | {"day": None, "when": None}
        rows.append(row | {"kind": None, "mated": i < 990, key: held[key][i // 10 % 3]})
    v = w.frame(rows)
    v["kind"] = v["kind"].astype("str").astype("category")
    got = va.accuracy.error_rates(w.engines(v)[engine], 70.0, by=key, assume_random=True)
    n_rows = [sum(r["mated"] and r[key] == value for r in rows) for value in held[key]]
    assert sorted(got["n_mated"]) == sorted(n_rows)
    assert (got["n_mated_subjects"] * 10 == got["n_mated"]).all()
    n = got["n_mated"] / 10
    assert got["fnmr_deff"].to_numpy() == pytest.approx((10 * n / (n - 1)).to_numpy())


@pytest.mark.parametrize("n_regimes", [3, 33])
def test_each_of_few_or_many_regimes_has_the_rates_it_has_alone(n_regimes):
    rng = np.random.default_rng(n_regimes)
    n = 30 * n_regimes
    regime = np.arange(n) % n_regimes
    truth = scores(rng.integers(0, 101, n // 2), rng.integers(0, 101, n - n // 2))
    truth["mated"] = rng.random(n) < 0.6
    truth["subject"] = [f"s{i}" for i in rng.integers(0, 12, n)]
    truth["req_key"] = [("a", "b", None)[i % 3] for i in regime]
    for step, name in enumerate(w.LEVELS):
        truth[name] = 40.0 + regime / 4 + 10 * step
    together = va.accuracy.error_rates(truth, assume_random=True)
    assert together["regime"].nunique() == n_regimes
    for i in (0, 1, n_regimes - 1):
        alone = va.accuracy.error_rates(truth[regime == i], assume_random=True)
        same = together[together["regime"] == alone["regime"][0]].reset_index(drop=True)
        pd.testing.assert_frame_equal(same, alone, check_exact=True)
    assert (together[["fmr_deff", "fnmr_deff"]] > 1).any(axis=None)


def test_rates_across_regimes_go_by_the_nominal_fmr_only():
    rows = w.messy(600, seed=8)
    truth = labelled(rows, 8)
    joined = va.labels.join(w.frame(rows), label_frame(truth))
    table = va.accuracy.error_rates(joined, nominal_fmr=[1e-4, 10**-5.5], assume_random=True)
    pairs = [(r, m) for r, m in bona_fide(rows, truth) if w.rising(r)]
    own = [
        lambda r: r["score"] >= r["threshold_1e_4"],
        lambda r: r["score"] >= (r["threshold_1e_5"] + r["threshold_1e_6"]) / 2,
    ]
    for nominal, reached in zip((1e-4, 10**-5.5), own, strict=True):
        got = table[table["nominal_fmr"] == nominal].iloc[0]
        counts = loop_counts(pairs, reached)
        assert got["regime"] == "all complete regimes"
        assert {c: got[c] for c in counts} == counts


def curve_of(nonmated, mated):
    sides = (np.array(s, dtype=float) for s in (nonmated, mated))
    return cv.curve(*(cv.side(s, np.arange(s.size)) for s in sides))


@given(seed=st.integers(0, 10**6), n=st.integers(4, 40))
def test_every_candidate_of_a_curve_counts_what_a_loop_counts(seed, n):
    rng = random.Random(seed)
    nonmated = [rng.choice([50, 55, 60, 65.5, 70]) for _ in range(n)]
    mated = [rng.choice([60, 65.5, 70, 80, 90]) for _ in range(rng.randint(2, 30))]
    curve = curve_of(nonmated, mated)
    pooled = sorted({*nonmated, *mated})
    assert curve.thresholds.tolist() == [*pooled, np.nextafter(float(pooled[-1]), np.inf)]
    for t, fm, fnm in zip(
        curve.thresholds, curve.false_matches, curve.false_nonmatches, strict=True
    ):
        assert fm == sum(s >= t for s in nonmated)
        assert fnm == sum(s < t for s in mated)
    wins = sum((m > s) + 0.5 * (m == s) for m in mated for s in nonmated)
    assert cv.area(curve) == pytest.approx(wins / len(mated) / len(nonmated))


@given(seed=st.integers(0, 10**6), target=st.sampled_from([0.0, 0.05, 0.1, 0.3, 1.0]))
def test_operating_points_are_the_first_candidate_that_fits(seed, target):
    rng = random.Random(seed)
    nonmated = [rng.randint(40, 80) for _ in range(rng.randint(20, 200))]
    mated = [rng.randint(60, 95) for _ in range(rng.randint(20, 200))]
    curve = curve_of(nonmated, mated)
    candidates = sorted({*nonmated, *mated})
    candidates.append(np.nextafter(float(candidates[-1]), np.inf))
    n = len(nonmated)
    fmr = [sum(s >= t for s in nonmated) / n for t in candidates]
    fnmr = [sum(s < t for s in mated) / len(mated) for t in candidates]
    upper = [float(iv.clopper_pearson(round(x * n), n, 0.9, "upper").high) for x in fmr]
    assert cv.at_most_fmr(curve, target) == min(i for i, x in enumerate(fmr) if x <= target)
    assert cv.at_most_fnmr(curve, target) == max(i for i, x in enumerate(fnmr) if x <= target)
    sure = [i for i, x in enumerate(upper) if x <= target]
    assert cv.assured_fmr(curve, target, 0.9) == (min(sure) if sure else None)


@given(seed=st.integers(0, 10**6), target=st.sampled_from([0.05, 0.2, 0.5]))
def test_withheld_strangers_may_have_matched_below_the_pass_rule(seed, target):
    rng = random.Random(seed)
    own = 62.5
    nonmated = [(rng.randint(40, 80), rng.randrange(60)) for _ in range(rng.randint(20, 200))]
    nonmated += [(float("nan"), rng.randrange(60)) for _ in range(rng.randint(1, 30))]
    mated = [rng.randint(60, 95) for _ in range(30)]
    n, people = len(nonmated), sorted({p for _, p in nonmated})
    candidates = sorted({*(s for s, _ in nonmated if s == s), *mated})
    candidates.append(np.nextafter(float(candidates[-1]), np.inf))
    sure = None
    for i, t in reversed([*enumerate(candidates)]):
        errors = [(s >= t or (s != s and t < own), p) for s, p in nonmated]
        x = sum(e for e, _ in errors)
        m = {p: sum(q == p for _, q in errors) for p in people}
        y = {p: sum(e and q == p for e, q in errors) for p in people}
        size = len(people)
        if 0 < x < n:
            g, rate = len(people), x / n
            spread = g / (g - 1) * sum((y[p] - rate * m[p]) ** 2 for p in people)
            size = n / max(1.0, spread / n / (rate * (1 - rate)))
        if iv.clopper_pearson(min(x * size / n, size), size, 0.9, "upper").high > target:
            break
        sure = i
    sides = (
        cv.side(
            np.array([s for s, _ in nonmated]), pd.factorize(np.array([p for _, p in nonmated]))[0]
        ),
        cv.side(np.array(mated, dtype=float), np.arange(30)),
    )
    assert cv.assured_fmr(cv.curve(*sides), target, 0.9, own) == sure


def test_an_assured_threshold_is_not_within_what_was_withheld():
    rows = [w.row(i, score=None, sub_code=210311, result=False) for i in range(500)]
    rows += [w.row(500 + i, score=50.0 + i / 2, result=False) for i in range(20)]
    rows += [w.row(520 + i, score=85.0) for i in range(100)]
    truth = w.frame(rows).assign(mated=[False] * 520 + [True] * 100)
    got = va.accuracy.operating_points(truth, fmr=0.01, assured=0.95, assume_random=True)
    assert got["threshold"].tolist() == [57.5, 85.0]  # all of 500 may stand between 57.5 and 70
    assert (got["fmr_high"] > 0.9).tolist() == [True, False]


def test_a_regime_without_any_score_has_no_operating_point():
    rows = [w.row(i, score=None, sub_code=210311, result=False) for i in range(20)]
    truth = w.frame(rows).assign(mated=[i % 2 == 0 for i in range(20)])
    with pytest.raises(UsageError, match="both in one regime, and scores"):
        va.accuracy.operating_points(truth, fmr=0.1)


def test_the_least_cost_and_its_plateau():
    rng = random.Random(11)
    nonmated = [rng.randint(40, 80) for _ in range(300)]
    mated = [rng.randint(60, 95) for _ in range(300)]
    candidates = sorted({*nonmated, *mated})
    candidates.append(np.nextafter(float(candidates[-1]), np.inf))
    cost = {
        t: 10 * 0.2 * sum(s >= t for s in nonmated) / 300 + 0.8 * sum(s < t for s in mated) / 300
        for t in candidates
    }
    best = va.accuracy.operating_points(
        scores(nonmated, mated), cost=va.accuracy.Cost(10, 1, 0.2)
    ).iloc[0]
    assert best["cost"] == pytest.approx(min(cost.values()))
    assert cost[best["threshold"]] == pytest.approx(min(cost.values()))
    inside = [cost[t] for t in candidates if best["plateau_low"] <= t <= best["plateau_high"]]
    assert max(inside) <= 1.05 * min(cost.values()) * (1 + 1e-12)
    below = [t for t in candidates if t < best["plateau_low"]]
    above = [t for t in candidates if t > best["plateau_high"]]
    assert cost[max(below)] > 1.05 * min(cost.values())
    assert cost[min(above)] > 1.05 * min(cost.values())


def test_an_assured_threshold_counts_persons_not_tries():
    once = scores(range(400), range(300, 500))
    tries = pd.concat([once.assign(subject=[f"p{i}" for i in range(600)])] * 10)
    alone = va.accuracy.operating_points(once, fmr=0.1, assured=0.95)
    many = va.accuracy.operating_points(tries, fmr=0.1, assured=0.95)
    # ten copies of each person carry no more than one: the small-sample factor apart
    assert many["threshold"].tolist() == pytest.approx(alone["threshold"].tolist(), abs=1)
    blind = va.accuracy.operating_points(tries, fmr=0.1, assured=0.95, cluster=None)
    assert blind["threshold"].iloc[1] < many["threshold"].iloc[1] - 5


def test_a_thinned_curve_keeps_its_ends_and_its_points():
    rng = np.random.default_rng(5)
    truth = scores(rng.normal(40, 10, 4000), rng.normal(70, 10, 4000))
    whole, thin = (
        va.accuracy.det_curve(truth, max_points=10**6),
        va.accuracy.det_curve(truth, max_points=50),
    )
    assert len(thin) <= 52
    assert len(whole) == 8001
    assert thin["threshold"].iloc[[0, -1]].tolist() == whole["threshold"].iloc[[0, -1]].tolist()
    merged = thin.merge(whole, on="threshold", suffixes=("", "_whole"))
    assert merged["n_false_matches"].tolist() == merged["n_false_matches_whole"].tolist()
    assert np.abs(np.diff(thin["fnmr"])).max() < 0.15


# ------------------------------------------------------------------ what the sample can carry


def test_one_in_a_million_asked_of_five_thousand_rows():
    truth = scores(np.linspace(0, 50, 5000), np.linspace(60, 100, 500))
    got = va.accuracy.operating_points(truth, fmr=1e-6, assured=0.95)
    assert got["note"].str.contains("< 6e-4 is all this sample can say", regex=False).all()
    assert got["reason"].tolist() == ["", "target_not_met"]
    rates = va.accuracy.error_rates(truth, 55.0).iloc[0]
    assert rates["fmr_says"] == "< 6e-4 (one-sided 95 %)"
    assert rates["fmr_guard"] == pytest.approx(1 - 0.05 ** (1 / 5000))
    assert rates["fmr_high"] == pytest.approx(1 - 0.025 ** (1 / 5000))


def test_persons_not_tries_carry_the_claim():
    truth = scores([10.0] * 1000, [90.0] * 10).assign(
        subject=[f"s{i % 100}" for i in range(1000)] + [None] * 10
    )
    got = va.accuracy.error_rates(truth, 50.0).iloc[0]
    assert got["n_nonmated_subjects"] == 100
    assert got["fmr_high"] == pytest.approx(1 - 0.025 ** (1 / 100))
    assert got["fmr_guard"] == pytest.approx(1 - 0.05 ** (1 / 100))


def test_a_withheld_score_is_a_nonmatch_and_below_the_pass_rule_the_limits_say_it_may_not_be():
    rows = [w.row(i, score=75.0) for i in range(60)]
    rows += [w.row(100 + i, score=None, sub_code=210311, result=False) for i in range(40)]
    rows += [w.row(200 + i, score=50.0, result=False) for i in range(60)]
    rows += [w.row(300 + i, score=None, sub_code=210311, result=False) for i in range(40)]
    labels = pd.DataFrame(
        {"request_id": [r["request_id"] for r in rows], "mated": [True] * 100 + [False] * 100}
    )
    got = va.accuracy.error_rates(va.labels.join(w.frame(rows), labels)).set_index("nominal_fmr")
    assert got["n_mated_withheld"].tolist() == [40] * 4
    for level in (1e-3, 1e-4):
        assert (got.loc[level, "fmr"], got.loc[level, "fnmr"]) == (0.0, 0.4)
    assert [got.loc[1e-4, "fnmr_low"], got.loc[1e-4, "fnmr_high"]] == pytest.approx(
        [*iv.wilson(40, 100)]
    )
    # at the 1e-3 threshold any of them may have matched
    assert got.loc[1e-3, "fnmr_low"] == 0.0
    assert got.loc[1e-3, "fnmr_high"] == pytest.approx(iv.wilson(40, 100).high)
    assert got.loc[1e-3, "fmr_high"] == pytest.approx(iv.wilson(40, 100).high)
    assert got.loc[1e-4, "fmr_high"] == pytest.approx(iv.clopper_pearson(0, 100).high)


def test_sample_size():
    table = va.accuracy.sample_size([1e-3, 1e-4], deff=2.0)
    assert table["n_to_claim"].tolist() == [2995, 29956]
    assert table["n_to_measure"].tolist() == [30_000, 300_000]
    assert table["n_rows_to_claim"].tolist() == [5990, 59912]
    assert iv.guard(2995) <= 1e-3 < iv.guard(2994)
    assert va.accuracy.sample_size(0.01, n_errors=3)["n_to_claim"].tolist() == [773]


# ------------------------------------------------------------------ labels


def test_labels_keyed_by_token_hold_for_its_scored_rows_as_one_person():
    rows = [
        w.row(0, token="t", score=50.0, result=False),
        w.row(1, token="t", score=80.0),
        w.row(2, token="t", score=None, sub_code=210302, result=False),
        w.row(3, token="u", score=40.0, result=False),
    ]
    labels = pd.DataFrame({"token": ["t", "u", "gone"], "mated": [True, False, True]})
    truth = va.labels.join(w.frame(rows), labels)
    assert truth["labelled"].tolist() == [True, True, False, True]
    assert set(truth["n_labels_unknown"]) == {1}
    got = va.accuracy.error_rates(truth, 70.0).iloc[0]
    assert (got["n_mated"], got["n_mated_subjects"]) == (2, 1)


def test_the_latest_label_of_a_labeller_wins_and_different_labellers_are_a_conflict():
    frame = w.frame([w.row(i) for i in range(4)])
    labels = pd.DataFrame(
        [
            ("r000000", True, "ann", "2024-06-01"),
            ("r000000", False, "ann", "2024-06-02"),
            ("r000001", True, "ann", "2024-06-01"),
            ("r000001", True, "bob", "2024-06-01"),
            ("r000002", True, "ann", "2024-06-03"),
            ("r000002", False, "bob", "2024-06-01"),
            ("r000002", False, "cyd", "2024-06-02"),
        ],
        columns=["request_id", "mated", "labeller", "labelled_at"],
    )
    with pytest.raises(UsageError, match="differ on 1 rows"):
        va.labels.join(frame, labels)
    said = {
        how: va.labels.join(frame, labels, conflict=how)["mated"].astype(object).tolist()
        for how in ("latest", "majority", "drop")
    }
    na = pd.NA
    assert said == {
        "latest": [False, True, True, na],
        "majority": [False, True, False, na],
        "drop": [False, True, na, na],
    }
    assert set(va.labels.join(frame, labels, conflict="drop")["n_labels_conflicting"]) == {1}


def test_kappa_is_cohens():
    frame = w.frame([w.row(i) for i in range(100)])
    # 45 both yes, 25 both no, 10 + 20 differ: agreement 0.70, chance 0.51 with 0.55 and 0.65 yes
    ann = [True] * 45 + [True] * 10 + [False] * 20 + [False] * 25
    bob = [True] * 45 + [False] * 10 + [True] * 20 + [False] * 25
    labels = pd.concat(
        pd.DataFrame({"request_id": [f"r{i:06d}" for i in range(100)], "mated": m, "labeller": who})
        for who, m in (("ann", ann), ("bob", bob))
    )
    truth = va.labels.join(frame, labels, conflict="latest")
    chance = 0.55 * 0.65 + 0.45 * 0.35
    assert truth["kappa"].iloc[0] == pytest.approx((0.70 - chance) / (1 - chance))


def test_labels_on_the_accepted_only_are_a_selection():
    rng = random.Random(3)
    rows = []
    for i in range(500):
        score = rng.uniform(50, 100)
        rows.append(w.row(i, score=score, result=score >= 70))
    labels = pd.DataFrame(
        [{"request_id": r["request_id"], "mated": rng.random() < 0.9} for r in rows if r["result"]]
    )
    truth = va.labels.join(w.frame(rows), labels)
    got = va.accuracy.error_rates(truth)
    assert set(got["reason"]) == {"selected_labels"}
    assert got[["fmr", "fnmr", "fmr_high", "fnmr_low", "fmr_guard"]].isna().all(axis=None)
    assert (got["n_mated"] > 0).all()
    assert set(va.accuracy.operating_points(truth, fmr=0.1)["reason"]) == {"selected_labels"}
    assert va.accuracy.det_curve(truth)["fmr"].isna().all()
    consent = va.accuracy.error_rates(truth, assume_random=True)
    assert set(consent["note"]) == {"labels taken as random"}
    assert consent["fnmr"].iloc[1] == 0.0
    coverage = va.labels.coverage(truth).set_index("band")
    assert coverage.loc["< 1e-3", "n_labelled"] == 0
    assert coverage.loc["result true", "labelled_share"] == 1.0
    assert set(coverage["reason"]) == {"selected_labels"}


def test_rows_chosen_with_known_probability_are_weighted():
    rows = [w.row(i, score=80.0) for i in range(900)]
    rows += [w.row(1000 + i, score=50.0, result=False) for i in range(100)]
    labels = [{"request_id": f"r{i:06d}", "mated": True, "inclusion_prob": 0.1} for i in range(90)]
    labels += [
        {"request_id": f"r{1000 + i:06d}", "mated": i < 50, "inclusion_prob": 1.0}
        for i in range(100)
    ]
    truth = va.labels.join(w.frame(rows), pd.DataFrame(labels))
    got = va.accuracy.error_rates(truth).set_index("nominal_fmr").loc[1e-4]
    assert got["weighted"]
    assert got["fnmr"] == pytest.approx(50 / 950)
    assert got["fnmr_low"] < 50 / 950 < got["fnmr_high"]
    unweighted = iv.wilson(50, 140)
    assert got["fnmr_high"] < unweighted.low


def test_rows_drawn_alike_need_no_weights_and_a_reported_fraud_is_no_draw():
    rows = [w.row(i, score=80.0 if i % 4 else 50.0, result=bool(i % 4)) for i in range(800)]
    drawn = [r for i, r in enumerate(rows) if i % 10 < 2]
    labels = [
        {"request_id": r["request_id"], "mated": r["score"] > 60, "inclusion_prob": 0.2}
        for r in drawn
    ]
    fraud = [r for i, r in enumerate(rows) if i % 10 > 7 and r["result"]]
    labels += [{"request_id": r["request_id"], "mated": False, "origin": "fraud"} for r in fraud]
    truth = va.labels.join(w.frame(rows), pd.DataFrame(labels))
    got = va.accuracy.error_rates(truth, 70.0).iloc[0]
    assert not got["weighted"]
    assert got["n_mated"] + got["n_nonmated"] == len(drawn)
    assert got["n_false_matches"] == 0
    n = sum(r["score"] < 60 for r in drawn)
    assert got["fmr_high"] == pytest.approx(iv.clopper_pearson(0, n).high)


def test_no_weight_makes_up_for_a_band_that_could_not_be_drawn():
    rng = random.Random(5)
    rows, labels = [], []
    for i in range(600):
        mated = rng.random() < 0.9
        score = min(99.0, max(1.0, rng.gauss(80 if mated else 45, 8)))
        rows.append(w.row(i, score=score, result=score >= 70))
        labels.append({"request_id": f"r{i:06d}", "mated": mated, "inclusion_prob": 1.0})
    v = w.frame(rows)
    accepted = [x for x, r in zip(labels, rows, strict=True) if r["result"]]
    accepted[0]["mated"] = False
    truth = va.labels.join(v, pd.DataFrame(accepted))
    got = va.accuracy.error_rates(truth, 70.0).iloc[0]
    assert got["reason"] == "selected_labels"
    assert math.isnan(got["fnmr"])
    assert math.isnan(got["fnmr_high"])
    consent = va.accuracy.error_rates(truth, 70.0, assume_random=True).iloc[0]
    assert (consent["fnmr"], consent["note"]) == (0.0, "labels taken as random")
    # one drawn row of each band and verdict is enough, if its label says something
    for undecided, reason in ((False, ""), (True, "selected_labels")):
        first = {}
        for x, r in zip(labels, rows, strict=True):
            where = (sum(r["score"] >= r[level] for level in w.LEVELS), r["result"])
            if not r["result"]:
                first.setdefault(where, x | {"mated": None if undecided else x["mated"]})
        truth = va.labels.join(v, pd.DataFrame([*accepted, *first.values()]))
        assert set(va.accuracy.error_rates(truth, 70.0)["reason"]) == {reason}


@pytest.mark.parametrize("hole", [math.nan, math.inf, -math.inf, 0.0])
def test_a_chance_that_is_no_number_is_no_chance_on_any_engine(hole):
    import polars as pl
    import pyarrow as pa

    held = {
        "score": np.linspace(50, 95, 200),
        "mated": np.arange(200) % 2 == 0,
        "inclusion_prob": np.where(np.arange(200) % 4 < 2, 0.5, hole),
    }
    expected = va.accuracy.error_rates(pd.DataFrame(held), 70.0, assume_random=True)
    assert expected[["n_mated", "n_nonmated"]].to_numpy().tolist() == [[50, 50]]
    arrow = pa.table({name: pa.array(values) for name, values in held.items()})
    for truth in (arrow, pl.from_arrow(arrow), pl.from_arrow(arrow).lazy()):
        got = va.accuracy.error_rates(truth, 70.0, assume_random=True)
        pd.testing.assert_frame_equal(got, expected)


@pytest.mark.parametrize("engine", ["pandas", "pandas_numpy", "arrow", "polars_lazy", "duckdb"])
@pytest.mark.parametrize("as_text", [True, False])
def test_ids_that_were_read_as_numbers_are_the_same_ids(engine, as_text):
    ids = [7370000000000000001 + i for i in range(40)]
    v = w.frame([w.row(i) for i in range(40)]).assign(request_id=ids, token=ids)
    labels = pd.DataFrame({"request_id": ids[:30], "mated": True})
    labels = labels.astype({"request_id": "str"}) if as_text else labels
    by_token = labels.rename(columns={"request_id": "token"})
    for keyed in (labels, by_token):
        truth = va.labels.join(w.engines(v)[engine], keyed)
        if engine == "polars_lazy":
            truth = truth.collect().to_arrow()
        if engine == "duckdb":
            truth = truth.to_arrow_table()
        table = truth.to_pandas() if engine in {"polars_lazy", "duckdb"} else truth
        assert sorted(table.loc[table["labelled"], "request_id"]) == ids[:30]
        assert set(table["n_labels_unknown"]) == {0}


def test_label_coverage_counts_what_a_loop_counts():
    rows = w.messy(500, seed=2)
    truth = labelled(rows, 2, share=0.5)
    table = va.labels.coverage(va.labels.join(w.frame(rows), label_frame(truth)))

    def band(r):
        if not w.is_scored(r):
            return "withheld" if w.is_withheld(r) else "not compared"
        if not w.rising(r):
            return "scored"
        return lb.BANDS[sum(r["score"] >= r[level] for level in w.LEVELS)]

    expected = Counter((w.regime(r), band(r)) for r in rows)
    bands = table[table["kind"] == "score_band"].set_index(["regime", "band"])
    assert bands["n_rows"].to_dict() == expected
    looked = Counter((w.regime(r), band(r)) for r in rows if r["request_id"] in truth)
    assert {k: v for k, v in bands["n_labelled"].to_dict().items() if v} == looked
    verdicts = table[table["kind"] == "result"].groupby("band")["n_rows"].sum()
    compared = [r for r in rows if w.is_scored(r) or w.is_withheld(r)]
    words = {True: "result true", False: "result false", None: "no verdict"}
    assert verdicts.to_dict() == Counter(words[r["result"]] for r in compared)


@pytest.mark.parametrize("engine", ["pandas_numpy", "arrow", "polars", "polars_lazy", "duckdb"])
def test_every_engine_gives_the_same_frame(engine):
    rows = w.messy(300, seed=6)
    labels = label_frame(labelled(rows, 6, 0.7))
    pandas = w.frame(rows)
    expected, other = (va.labels.join(v, labels) for v in (pandas, w.engines(pandas)[engine]))
    statistics = [
        va.labels.coverage,
        lambda t: va.accuracy.error_rates(t, by=["alive", "req_key"], assume_random=True),
        lambda t: va.accuracy.error_rates(t, nominal_fmr=1e-4, assume_random=True),
        lambda t: va.accuracy.operating_points(
            t, fmr=0.5, eer=True, assured=0.9, assume_random=True
        ),
        lambda t: va.accuracy.det_curve(t, assume_random=True),
    ]
    for statistic in statistics:
        pd.testing.assert_frame_equal(statistic(other), statistic(expected))


def test_labels_join_a_scan_whose_connection_sees_nothing_of_python():
    """As a store opens it: no replacement scans, no files, settings locked."""
    import duckdb
    import pyarrow as pa

    rows = w.messy(200, seed=12)
    labels = label_frame(labelled(rows, 12, 0.6)).assign(
        labeller="o'neill \\ ☃", labelled_at=pd.Timestamp("2024-06-01 12:30", tz="UTC")
    )
    connection = duckdb.connect(config={"python_enable_replacements": False})
    table = pa.Table.from_pandas(w.frame(rows), preserve_index=False)
    connection.register("arrow_rows", table.replace_schema_metadata(None))
    connection.execute("create table stored as select * from arrow_rows")
    connection.execute("set enable_external_access = false")
    connection.execute("set lock_configuration = true")
    truth = va.labels.join(connection.table("stored"), labels)
    got = truth.to_arrow_table().to_pandas().sort_values("request_id", ignore_index=True)
    expected = va.labels.join(w.frame(rows), labels).sort_values("request_id", ignore_index=True)
    assert got["labelled"].tolist() == expected["labelled"].tolist()
    told = got["labelled"]
    assert set(got.loc[told, "labeller"]) == {"o'neill \\ ☃"}
    assert set(got.loc[told, "labelled_at"]) == {pd.Timestamp("2024-06-01 12:30")}
    pd.testing.assert_frame_equal(
        va.accuracy.error_rates(truth, assume_random=True),
        va.accuracy.error_rates(expected, assume_random=True),
    )


# ------------------------------------------------------------------ nonsense


def test_nonsense_is_refused_in_one_clear_line():
    join, error_rates = va.labels.join, va.accuracy.error_rates
    frame = w.frame([w.row(i) for i in range(5)])
    some = pd.DataFrame({"request_id": ["r000001"], "mated": [True]})
    truth = va.labels.join(frame, some)
    cases = {
        "no column score": lambda: error_rates(truth.drop(columns="score")),
        "1 of 1 labels name no row": lambda: join(frame, some.assign(request_id="x")),
        "no non-mated comparison is labelled": lambda: error_rates(truth, 70.0),
        "an operating point needs both": lambda: va.accuracy.operating_points(truth, fmr=0.1),
        "no column mated": lambda: error_rates(frame, 70.0),
        "ask for a rule": lambda: va.accuracy.operating_points(truth),
        "fmr must be at least 0 and at most 1": lambda: va.accuracy.operating_points(truth, fmr=10),
        "goes with fmr": lambda: va.accuracy.operating_points(truth, eer=True, assured=0.95),
        "conflict is raise": lambda: join(frame, some, conflict="newest"),
        "lies in (0, 1]": lambda: join(frame, some.assign(inclusion_prob=0.0)),
        "an inclusion_prob is a number": lambda: join(frame, some.assign(inclusion_prob="x")),
        "labelled_at holds times": lambda: join(frame, some.assign(labelled_at="garbage")),
        "such as 2024-05-01T08": lambda: join(frame, some.assign(labelled_at=20240501)),
        "request_id holds fractions": lambda: join(frame, some.assign(request_id=7.37e18)),
        "column mated holds text": lambda: error_rates(truth.assign(mated="yes"), 70.0),
        "no mated comparison is labelled (0": lambda: error_rates(truth.assign(mated=None), 70.0),
        "a NoneType is no frame of labels": lambda: join(frame, None),
        "there are no labels": lambda: join(frame, some.iloc[:0]),
        "no column request_id": lambda: join(frame, some[["mated"]]),
        "mated holds true, false or null": lambda: join(frame, some.assign(mated="yes")),
        "not both": lambda: error_rates(truth, 70.0, nominal_fmr=1e-4),
        "outside the vendor's points": lambda: error_rates(truth, nominal_fmr=0.5),
        "thresholds must be a finite number": lambda: error_rates(truth, float("nan")),
        "finite number; 'abc' was given": lambda: error_rates(truth, "abc"),
        "thresholds must be one number or more": lambda: error_rates(truth, []),
        "nominal_fmr must be one number": lambda: error_rates(truth, nominal_fmr=[]),
        "nominal_fmr must be a finite": lambda: error_rates(truth, nominal_fmr="x"),
        "column": lambda: error_rates(truth, 70.0, by=5),
        "occurred_at": lambda: error_rates(truth, 70.0, by="occurred_at"),
        "cluster is the name": lambda: error_rates(truth, 70.0, cluster=5),
        "fmr must be a finite number": lambda: va.accuracy.sample_size("x"),
        "fmr must be one number": lambda: va.accuracy.sample_size([]),
        "fmr must be at least 1e-09": lambda: va.accuracy.sample_size(1e-320),
        "n_errors must be at least 0": lambda: va.accuracy.sample_size(1e-3, n_errors=-1),
        "n_errors must be a whole": lambda: va.accuracy.sample_size(1e-3, n_errors=1.5),
        "deff must be at least 1": lambda: va.accuracy.sample_size(1e-3, deff=0),
        "confidence must be above 0": lambda: va.accuracy.sample_size(1e-3, confidence=1),
        "give thresholds=": lambda: error_rates(scores([1.0], [2.0])),
        "is no frame": lambda: error_rates([1, 2]),
        "must be at least 2": lambda: va.accuracy.det_curve(scores([1.0], [2.0]), max_points=1),
    }
    for message, nonsense in cases.items():
        with pytest.raises((UsageError, MissingColumnError)) as error:
            nonsense()
        assert message in str(error.value), (message, str(error.value))
        assert "\n" not in str(error.value)


def test_strict_labels_must_all_name_a_row():
    frame = w.frame([w.row(0)])
    labels = pd.DataFrame({"request_id": ["r000000", "x"], "mated": [True, True]})
    assert set(va.labels.join(frame, labels)["n_labels_unknown"]) == {1}
    with pytest.raises(UsageError, match="1 of 2 labels"):
        va.labels.join(frame, labels, strict=True)
