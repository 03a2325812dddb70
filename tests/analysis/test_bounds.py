"""Bounds without labels: the formulas by another road, counts by plain loops."""

import datetime as dt
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from builders import frames as w
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from verifyanalytics import bounds as b
from verifyanalytics.analysis.bounds.formulas import false_matches_high, impostors_high
from verifyanalytics.errors import MissingColumnError, UsageError

GOLDEN = Path(__file__).parents[1] / "data" / "golden"


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
    assert impostors_high(n, k) == expected
    assert impostors_high(n, k, 20) == min(expected, 20)


def test_a_mean_is_less_than_the_bound():
    example = json.loads((GOLDEN / "calibration.json").read_text(encoding="utf-8"))
    example = example["label_free_bound_example"]
    assert impostors_high(example["n_below_60"], 1) > example["N_imp_upper_point"]
    for t, mean in example["expected_FA_upper_at"].items():
        rate = log_linear(w.PAGE, float(t))
        assert example["N_imp_upper_point"] * rate == pytest.approx(mean)
    assert false_matches_high(1504, 1e-3) > example["expected_FA_upper_at"]["60"]


def test_tries_of_one_stranger_match_together():
    for mean in (0.02, 0.4, 3.0):
        alone = quantile(lambda c, mu=mean: stats.poisson.cdf(c, mu))
        for m in (1.0, 2.5, 10.0):
            c = quantile(lambda c, mu=mean / m: stats.poisson.cdf(c, mu))
            assert false_matches_high(mean * 1000, 1e-3, m) == max(math.ceil(m * c), alone)


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
    table = b.label_free(w.frame(rows), [59.0, 72.0, 95.0], impostor_share=share)
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
        # below the own 1e-4 threshold the withheld may be owners who match
        hidden = got["n_withheld"] if t < points[1] else 0
        low, owners = 0.0, min(len(mine), len(mine) - impostors + hidden)
        if owners:
            low = max(0.0, max(0, below - n3) - strangers) / owners
        if share is not None:
            low = max(low, (below - hidden - share * len(mine)) / (len(mine) * (1 - share)))
        assert got["fnmr_low"] == pytest.approx(min(low, below / len(mine)))
        assert got["covers"].startswith("zero-effort false matches only")


def test_without_strangers_and_overlap_the_upper_bound_is_the_rows_turned_away():
    rows = [w.row(i, score=65.0 + i % 30) for i in range(3000)]
    got = b.label_free(w.frame(rows), 70.0).iloc[0]
    assert got["fnmr_high"] == pytest.approx(1 - got["match_rate"]) == pytest.approx(500 / 3000)
    assert got["impostors_high"] == 0
    assert got["false_matches_high"] == 0
    assert got["fnmr_low"] == got["fnmr_high"]


def test_a_threshold_at_each_regimes_own_claim():
    rows = w.messy(300, seed=3)
    got = b.label_free(w.frame(rows), nominal_fmr=1e-5, k=[1])
    own = {w.regime(r): r["threshold_1e_5"] for r in rows if w.rising(r)}
    assert dict(zip(got["regime"], got["threshold"], strict=True)) == own
    assert got["claimed_fmr"].to_numpy() == pytest.approx(1e-5)


@pytest.mark.parametrize("share", [None, 0.0, 0.2])
@pytest.mark.parametrize("t", [50.0, 60.0, 66.0, 69.999, 70.0, 75.0])
def test_owners_whose_score_was_withheld_may_match_below_the_pass_threshold(t, share):
    """Whatever scores below 70 the withheld have, the rate of the owners is within the bounds."""
    rows = [w.row(i, score=None, sub_code=210311, result=False) for i in range(400)]
    rows += [w.row(400 + i, score=63.0, result=False) for i in range(60)]
    rows += [w.row(460 + i, score=85.0) for i in range(540)]
    got = b.label_free(w.frame(rows), t, k=[1], impostor_share=share).iloc[0]
    scored_below = 60 * (t > 63)
    possible = [scored_below, scored_below + 400] if t < 70 else [460]
    assert got["fnmr_low"] <= min(possible) / 1000
    assert got["fnmr_high"] >= max(possible) / 1000
    assert got["fnmr_low"] > 0 or t <= 63


def groups_of_tries(rows, key):
    """Rows by regime and group: a loop; a list counts as a set, an absent value is one group."""
    found = {}
    for r in rows:
        if w.rising(r) and (w.is_scored(r) or w.is_withheld(r)):
            value = tuple(sorted(r[key])) if isinstance(r[key], list) else r[key]
            found.setdefault((w.regime(r), repr(value)), []).append(r)
    return found


def plain(value):
    if isinstance(value, (tuple, list)):
        return repr(tuple(sorted(value)))
    if not isinstance(value, str) and pd.isna(value):
        return "None"
    if isinstance(value, pd.Timestamp):
        return repr(value.date())
    return repr(bool(value) if isinstance(value, np.bool_) else value)


@pytest.mark.parametrize("engine", ["pandas", "pandas_numpy", "arrow", "polars_lazy", "duckdb"])
@pytest.mark.parametrize("key", ["alive", "result", "risk_tags", "day", "kind"])
def test_persons_are_found_again_in_groups_of_any_type(key, engine):
    rows = w.messy(240, seed=11)
    days = [dt.date(2024, 5, 1), dt.date(2024, 5, 2), None]
    for i, r in enumerate(rows):
        # texts that a category holds; an absent one is the group `unknown`
        r |= {"subject": f"s{i % 40}", "day": days[i % 7 % 3], "kind": "pq"[i % 2]}
        r["alive"] = r["alive"] if i % 5 else None
    pandas = w.frame(rows)
    pandas["kind"] = pandas["kind"].astype("str").astype("category")
    table = b.label_free(w.engines(pandas)[engine], 75.0, k=[1], by=key)
    expected = groups_of_tries(rows, key)
    assert {(r["regime"], plain(r[key])) for r in table.to_dict("records")} == {*expected}
    for got in table.to_dict("records"):
        mine = expected[got["regime"], plain(got[key])]
        low = [r for r in mine if r["score"] is None or r["score"] < r["threshold_1e_3"]]
        m = max(tries_a_person(mine), math.ceil(tries_a_person(low) - 1e-9))
        assert got["attempts_per_person"] == pytest.approx(m)
        assert got["n_compared"] == len(mine)


def test_one_absent_value_does_not_undo_the_persons_of_all_groups():
    rows = [w.row(i, score=85.0, subject=f"o{i}") for i in range(300)]
    rows += [w.row(300 + i, score=50.0, subject=f"x{i // 30}", result=False) for i in range(900)]
    rows[0]["alive"] = None
    got = b.label_free(w.frame(rows), 60.0, k=[1], by="alive").set_index("alive")
    assert got.loc[True, "attempts_per_person"] == 30  # thirty strangers, thirty tries each
    assert got.loc[True, "false_matches_high"] == 30


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
            top = b.label_free(frame, 90.0, k=[got["k"]]).iloc[0]
            assert top["false_matches_high"] > per_month * 2
            continue
        at, under = (
            b.label_free(frame, t, k=[got["k"]]).iloc[0]
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


def test_a_regime_seen_for_a_moment_has_no_month():
    hours = [dt.timedelta(hours=i) for i in range(200)]
    rows = [
        w.row(i, score=50.0 if i < 20 else 85.0, occurred_at=w.START + hours[i]) for i in range(200)
    ]
    alone = b.threshold_for_budget(w.frame(rows), 5)
    for seconds in (None, 0, 1, 3599):
        times = [w.START] if seconds is None else [w.START, w.START + dt.timedelta(seconds=seconds)]
        more = [
            w.row(900 + i, thresholds=w.OTHER, score=58.0, occurred_at=time)
            for i, time in enumerate(times)
        ]
        got = b.threshold_for_budget(w.frame(rows + more), 5)
        short = got["regime"].str.endswith("55/66/77.5/91")
        assert set(got.loc[short, "reason"]) == {"shorter_than_an_hour"}
        missing = ["threshold", "claimed_fmr", "false_matches_high", "n_below", "fnmr_high",
                   "more_turned_away_per_month", "n_more_turned_away"]  # fmt: skip
        assert got.loc[short, missing].isna().all(axis=None)
        assert set(got.loc[short, "n_below_own"]) == {len(times)}
        pd.testing.assert_frame_equal(got[~short].reset_index(drop=True), alone)
        with pytest.raises(UsageError, match="give months="):
            b.threshold_for_budget(w.frame(more), 5)
    told = b.threshold_for_budget(w.frame(more), 5, months=0.25)
    assert set(told["threshold"]) == {55.0}


def test_a_frame_without_rows_gives_a_budget_table_without_rows():
    frame = w.frame(w.messy(60))
    full, empty = (b.threshold_for_budget(v, 5, months=1) for v in (frame, frame.iloc[:0]))
    assert empty.empty
    assert list(empty) == list(full)
    assert list(b.threshold_for_budget(frame.iloc[:0], 5)) == list(full)


@pytest.mark.parametrize("engine", ["pandas_numpy", "arrow", "polars", "polars_lazy", "duckdb"])
def test_every_engine_gives_the_same_frame(engine):
    pandas = w.frame(w.messy(200))
    other = w.engines(pandas)[engine]
    for statistic in (
        lambda v: b.label_free(v, [65.0, 75.0], by=["alive"]),
        lambda v: b.threshold_for_budget(v, 3),
        b.implied_fmr,
    ):
        pd.testing.assert_frame_equal(statistic(other), statistic(pandas))


def test_nonsense_is_refused():
    frame = w.frame(w.messy(30))
    for nonsense, message in (
        (lambda: b.label_free(frame), "give threshold or nominal_fmr"),
        (lambda: b.label_free(frame, 70.0, k=[0]), "k must be above 0"),
        (lambda: b.label_free(frame, 70.0, k=[1000]), "k must be above 0 and below 1000"),
        (lambda: b.label_free(frame, 70.0, k="x"), "k must be a finite number"),
        (lambda: b.label_free(frame, 70.0, impostor_share=1.0), "impostor_share must be"),
        (lambda: b.label_free(frame, 70.0, impostor_share="x"), "impostor_share must be"),
        (lambda: b.label_free(frame, math.nan), "threshold must be a finite number"),
        (lambda: b.label_free(frame, "x"), "threshold must be a finite number"),
        (lambda: b.label_free(frame, []), "threshold must be one number or more"),
        (lambda: b.label_free(frame, nominal_fmr=[]), "nominal_fmr must be one number"),
        (lambda: b.label_free(frame, 70.0, by=5), "by must be a column's name"),
        (lambda: b.label_free(frame, 70.0, by="threshold_1e_4"), "by threshold_1e_4"),
        (lambda: b.label_free(frame, 70.0, by="occurred_at"), "by occurred_at"),
        (lambda: b.threshold_for_budget(frame, 0), "false_matches_per_month must be above 0"),
        (lambda: b.threshold_for_budget(frame, None), "false_matches_per_month must be a finite"),
        (lambda: b.threshold_for_budget(frame, 1, impostor_share=-1), "impostor_share must be"),
        (lambda: b.threshold_for_budget(frame, 1, impostor_share=2), "impostor_share must be"),
        (lambda: b.threshold_for_budget(frame, 1, months=0), "months must be above 0"),
        (lambda: b.threshold_for_budget(frame, 1, months=math.nan), "months must be a finite"),
        (lambda: b.threshold_for_budget(frame.assign(occurred_at=pd.NaT), 1), "give months="),
    ):
        with pytest.raises(UsageError, match=message):
            nonsense()
    with pytest.raises(MissingColumnError, match="no column score"):
        b.label_free(frame.drop(columns="score"), 70.0)
