"""Bounds without labels: the formulas by another road, counts by plain loops."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import worlds as w
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from verifyanalytics.analysis import bounds as b
from verifyanalytics.errors import MissingColumnError, UsageError

GOLDEN = Path(__file__).parent / "data" / "golden"


def log_linear(points, t):
    """The vendor's claim, by straight lines through (score, log10 claim)."""
    return 10 ** np.interp(t, points, [-3, -4, -5, -6])


def test_the_claim_between_the_points_is_that_of_the_published_calibrations():
    book = json.loads((GOLDEN / "calibration.json").read_text(encoding="utf-8"))
    points = tuple(book["calibrations"]["volcengine_CertVerify_doc_example"].values())
    middle = book["volcengine_CertVerify_doc_example_fit"]["FAR_at_mid"]
    rows = [w.row(i, score=float(s), thresholds=points) for i, s in enumerate(middle)]
    got = b.implied_fmr(w.frame(rows))
    assert got["implied_fmr"].to_numpy() == pytest.approx(list(middle.values()))
    assert got["request_id"].tolist() == [r["request_id"] for r in rows]


def test_outside_the_points_there_are_only_words():
    rows = [w.row(i, score=s) for i, s in enumerate([59.9, 60.0, 70.0, 90.0, 90.1])]
    rows.append(w.row(9, score=80.0, thresholds=(60.0, None, 80.0, 90.0)))
    got = b.implied_fmr(w.frame(rows))
    assert got["says"].tolist() == ["> 1e-3", "1e-3", "1e-4", "1e-6", "< 1e-6", ""]
    assert got["implied_fmr"].isna().tolist() == [True, False, False, False, True, True]
    assert set(got["meaning"]) == {"P(score >= s | impostor), not P(impostor | score)"}


def quantile(cdf, q=0.975):
    """Smallest whole number whose distribution function reaches q: by counting up."""
    c = 0
    while cdf(c) < q:
        c += 1
    return c


@pytest.mark.parametrize("n", [0, 3, 40, 1500])
@pytest.mark.parametrize("k", [1, 3, 10])
def test_strangers_above_are_failures_before_the_next_one_below(n, k):
    expected = n + quantile(lambda c: stats.nbinom.cdf(c, n + 1, 1 - k * 1e-3))
    assert b.impostors_high(n, k) == expected
    assert b.impostors_high(n, k, 20) == min(expected, 20)


def test_a_mean_is_less_than_the_bound():
    example = json.loads((GOLDEN / "calibration.json").read_text(encoding="utf-8"))
    example = example["label_free_bound_example"]
    assert b.impostors_high(example["n_below_60"], 1) > example["N_imp_upper_point"]
    for t, mean in example["expected_FA_upper_at"].items():
        rate = log_linear(w.PAGE, float(t))
        assert example["N_imp_upper_point"] * rate == pytest.approx(mean)
    assert b.false_matches_high(1504, 1e-3) > example["expected_FA_upper_at"]["60"]


def test_tries_of_one_stranger_match_together():
    for mean in (0.02, 0.4, 3.0):
        alone = quantile(lambda c, mu=mean: stats.poisson.cdf(c, mu))
        for m in (1.0, 2.5, 10.0):
            c = quantile(lambda c, mu=mean / m: stats.poisson.cdf(c, mu))
            assert b.false_matches_high(mean * 1000, 1e-3, m) == max(math.ceil(m * c), alone)


def tries_a_person(rows):
    tries = {}
    for r in rows:
        key = r["subject"] or r["request_id"]
        tries[key] = tries.get(key, 0) + 1
    return sum(x * x for x in tries.values()) / max(len(rows), 1)


def at_most(mean, m):
    together = quantile(lambda c: stats.poisson.cdf(c, mean / m))
    alone = quantile(lambda c: stats.poisson.cdf(c, mean))
    return max(math.ceil(m * together - 1e-9), alone)


@settings(max_examples=8)
@given(seed=st.integers(0, 10**6), share=st.sampled_from([None, 0.3]))
def test_bounds_are_the_formulas_on_the_counts_of_a_loop(seed, share):
    rows = w.messy(150, seed)
    for i, r in enumerate(rows):
        r["subject"] = None if seed % 2 else (r["subject"] if i % 3 else None)
    table = b.label_free_bounds(w.frame(rows), [59.0, 72.0, 95.0], impostor_share=share)
    seen = {w.regime(r) for r in rows if w.rising(r) and (w.is_scored(r) or w.is_withheld(r))}
    assert set(table["regime"]) == seen
    for got in table.to_dict("records"):
        mine = [r for r in rows if w.regime(r) == got["regime"] and w.rising(r)]
        mine = [r for r in mine if w.is_scored(r) or w.is_withheld(r)]
        points = [mine[0][level] for level in w.LEVELS]
        t, k = got["threshold"], got["k"]
        n3 = sum(r["score"] is None or r["score"] < points[0] for r in mine)
        below = sum(r["score"] is None or r["score"] < t for r in mine)
        assert (got["n_compared"], got["n_below_1e_3"], got["n_below"]) == (len(mine), n3, below)
        assert got["n_withheld"] == sum(r["score"] is None for r in mine)
        cap = math.inf if share is None else math.ceil(share * len(mine) - 1e-9)
        subjects = any(r["subject"] for r in mine)
        low_rows = [r for r in mine if r["score"] is None or r["score"] < points[0]]
        below_m = math.ceil(tries_a_person(low_rows) - 1e-9)
        m = max(tries_a_person(mine), below_m) if subjects else 1.0
        assert got["attempts_per_person"] == pytest.approx(m if subjects else math.nan, nan_ok=True)
        alone, together = (
            quantile(lambda c, n=n3 / x, k=k: stats.nbinom.cdf(c, n + 1, 1 - k * 1e-3))
            for x in (1, m)
        )
        more = max(alone, math.ceil(m * together - 1e-9))
        impostors = min(n3 + more, cap, len(mine))
        assert got["impostors_high"] == impostors
        assert got["fnmr_high"] == pytest.approx(below / len(mine))
        assert got["match_rate"] == pytest.approx(1 - below / len(mine))
        if t < points[0]:
            assert math.isnan(got["false_matches_high"])
            assert got["reason"] == "below_calibration"
            claim = 1e-3
        else:
            claim = log_linear(points, min(t, points[3]))
            assert got["false_matches_high"] == min(at_most(impostors * k * claim, m), impostors)
        strangers = at_most(impostors * k * (1e-3 - claim), m)
        low = 0.0
        if len(mine) > impostors:
            low = max(0.0, max(0, below - n3) - strangers) / (len(mine) - impostors)
        if share is not None:
            low = max(low, (below - share * len(mine)) / (len(mine) * (1 - share)))
        assert got["fnmr_low"] == pytest.approx(min(low, below / len(mine)))
        assert got["covers"].startswith("zero-effort false matches only")


def test_without_strangers_and_overlap_the_upper_bound_is_the_rows_turned_away():
    rows = [w.row(i, score=65.0 + i % 30) for i in range(3000)]
    got = b.label_free_bounds(w.frame(rows), 70.0).iloc[0]
    assert got["fnmr_high"] == pytest.approx(1 - got["match_rate"]) == pytest.approx(500 / 3000)
    assert got["impostors_high"] == 0
    assert got["false_matches_high"] == 0
    assert got["fnmr_low"] == got["fnmr_high"]


def test_a_threshold_at_each_regimes_own_claim():
    rows = w.messy(300, seed=3)
    got = b.label_free_bounds(w.frame(rows), nominal_fmr=1e-5, k=[1])
    own = {w.regime(r): r["threshold_1e_5"] for r in rows if w.rising(r)}
    assert dict(zip(got["regime"], got["threshold"], strict=True)) == own
    assert got["claimed_fmr"].to_numpy() == pytest.approx(1e-5)


@pytest.mark.parametrize("per_month", [1, 5, 40])
@pytest.mark.parametrize("subjects", [False, True])
def test_the_budget_threshold_is_the_smallest_that_keeps_it(per_month, subjects):
    rows = [
        w.row(i, score=20.0 + (i * 7919) % 8000 / 100, subject=f"s{i // 3}" if subjects else None)
        for i in range(6000)
    ]
    frame = w.frame(rows)
    table = b.threshold_for_budget(frame, per_month, months=2)
    for got in table.to_dict("records"):
        if math.isnan(got["threshold"]):
            assert got["reason"] == "not_reachable"
            top = b.label_free_bounds(frame, 90.0, k=[got["k"]]).iloc[0]
            assert top["false_matches_high"] > per_month * 2
            continue
        at, under = (
            b.label_free_bounds(frame, t, k=[got["k"]]).iloc[0]
            for t in (got["threshold"], max(60.0, got["threshold"] - 1e-6))
        )
        assert at["false_matches_high"] == got["false_matches_high"] <= per_month * 2
        assert got["threshold"] == 60.0 or under["false_matches_high"] > per_month * 2
        assert got["n_below"] == sum(r["score"] < got["threshold"] for r in rows)
        assert got["n_more_turned_away"] == got["n_below"] - sum(r["score"] < 70 for r in rows)


def test_the_length_of_the_data_is_that_of_their_times():
    rows = w.messy(400, seed=1)
    got = b.threshold_for_budget(w.frame(rows), 3, k=1)
    for row in got.to_dict("records"):
        times = [
            r["occurred_at"]
            for r in rows
            if w.regime(r) == row["regime"]
            and (w.is_scored(r) or w.is_withheld(r))
            and r["occurred_at"]
        ]
        days = (max(times) - min(times)).total_seconds() / 86400
        assert row["months"] == pytest.approx(days / (365.25 / 12))


@pytest.mark.parametrize("engine", ["pandas_numpy", "arrow", "polars", "polars_lazy", "duckdb"])
def test_every_engine_gives_the_same_frame(engine):
    pandas = w.frame(w.messy(200))
    other = w.engines(pandas)[engine]
    for statistic in (
        lambda v: b.label_free_bounds(v, [65.0, 75.0], by=["alive"]),
        lambda v: b.threshold_for_budget(v, 3),
        b.implied_fmr,
    ):
        pd.testing.assert_frame_equal(statistic(other), statistic(pandas))


def test_nonsense_is_refused():
    frame = w.frame(w.messy(30))
    for nonsense, message in (
        (lambda: b.label_free_bounds(frame), "give threshold or nominal_fmr"),
        (lambda: b.label_free_bounds(frame, 70.0, k=[0]), "k is above 0"),
        (lambda: b.label_free_bounds(frame, 70.0, k=[1000]), "k is above 0"),
        (lambda: b.label_free_bounds(frame, 70.0, impostor_share=1.0), "impostor_share"),
        (lambda: b.label_free_bounds(frame, math.nan), "finite score"),
        (lambda: b.threshold_for_budget(frame, 0), "budget"),
        (lambda: b.threshold_for_budget(frame.assign(occurred_at=pd.NaT), 1), "give months="),
    ):
        with pytest.raises(UsageError, match=message):
            nonsense()
    with pytest.raises(MissingColumnError, match="no column score"):
        b.label_free_bounds(frame.drop(columns="score"), 70.0)
