"""The decision table puts side by side what three statistics say, and invents nothing."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from builders import frames as worlds

import verifyanalytics as va
from verifyanalytics.errors import MissingColumnError, UsageError

REGIME = "cert_pro_src_verify 60/70/80/90"


def simple(scores, **changes):
    return worlds.frame([worlds.row(i, score=float(s), **changes) for i, s in enumerate(scores)])


def test_counts_are_those_of_a_plain_loop():
    scores = [59.99, 60, 65, 69.5, 70, 70, 75, 79.99, 80, 89, 90, 95]
    table = va.scores.decision_table(simple(scores), [65, 70, 75.5, 96])
    assert table["threshold"].tolist() == [65.0, 70.0, 75.5, 96.0]
    for row in table.itertuples():
        matched = sum(s >= row.threshold for s in scores)
        assert (row.n, row.n_match) == (len(scores), matched)
        assert row.n_more_turned_away == sum(s >= 70 for s in scores) - matched
        assert row.match_rate_low <= row.match_rate == matched / 12 <= row.match_rate_high
        assert row.fnmr_bound_high == pytest.approx(sum(s < row.threshold for s in scores) / 12)
    assert table["today"].tolist() == [False, True, False, False]
    assert table["claim_says"].tolist() == ["3.2e-4", "1e-4", "2.8e-5", "< 1e-6"]


def test_each_regime_has_its_own_four_by_default_and_rows_of_none_are_counted_once():
    v = worlds.frame(worlds.messy(400, seed=5))
    table = va.scores.decision_table(v)
    for regime, part in table[table["reason"] == ""].groupby("regime"):
        points = [float(x) for x in regime.split()[-1].split("/")]
        assert part["threshold"].tolist() == points
        assert part["today"].tolist() == [False, True, False, False]
    (incomplete,) = table[table["reason"] != ""].to_dict("records")
    assert incomplete["regime"] == "incomplete"
    assert math.isnan(incomplete["threshold"])
    assert pd.isna(incomplete["n_more_turned_away"])
    assert math.isnan(incomplete["false_matches_high_k1"])


def test_bounds_stand_side_by_side_as_the_bounds_say():
    v = worlds.frame(worlds.messy(600, seed=6))
    table = va.scores.decision_table(v, [72], k=(2, 5.5))
    bounds = va.bounds.label_free(v, 72, k=(2, 5.5)).set_index(["regime", "k"])
    shown = table[table["reason"] == ""].set_index("regime")
    assert set(shown.index) == set(bounds.index.get_level_values(0))
    for (regime, k), row in bounds.iterrows():
        name = f"k{k:g}"
        assert shown.loc[regime, f"false_matches_high_{name}"] == row["false_matches_high"]
        assert shown.loc[regime, f"fnmr_bound_low_{name}"] == row["fnmr_low"]
        assert shown.loc[regime, "fnmr_bound_high"] == row["fnmr_high"]
        assert "zero-effort" in shown.loc[regime, "covers"]


def test_below_the_vendor_s_points_no_false_match_bound_is_given():
    table = va.scores.decision_table(simple([50, 65, 75]), [55])
    assert table["bound_reason"].tolist() == ["below_calibration"]
    assert table["claim_says"].tolist() == ["> 1e-3"]
    assert table["false_matches_high_k1"].isna().all()


def test_labels_add_error_rates_by_a_plain_loop():
    mated = [s % 3 > 0 for s in range(40)]
    scores = [60 + s for s in range(40)]
    v = simple(scores).assign(mated=mated)
    table = va.scores.decision_table(v, [70, 85], v)
    for row in table.itertuples():
        false = sum(not m and s >= row.threshold for m, s in zip(mated, scores, strict=True))
        missed = sum(m and s < row.threshold for m, s in zip(mated, scores, strict=True))
        assert (row.n_false_matches, row.n_false_nonmatches) == (false, missed)
        assert row.fmr == pytest.approx(false / mated.count(False))
        assert row.fnmr == pytest.approx(missed / mated.count(True))
        assert row.label_reason == ""


def test_a_regime_without_a_label_says_so():
    rows = [worlds.row(i, score=60.0 + i) for i in range(30)]
    rows += [worlds.row(100 + i, score=70.0 + i, thresholds=worlds.OTHER) for i in range(5)]
    v = worlds.frame(rows)
    truth = v[v["threshold_1e_3"] == 60.0].assign(mated=[i % 2 == 0 for i in range(30)])
    table = va.scores.decision_table(v, [72], truth).set_index("regime")
    other = table.loc["cert_pro_src_verify 55/66/77.5/91"]
    assert other["label_reason"] == "no_label"
    assert math.isnan(other["fmr"])
    assert other["fmr_says"] == ""
    assert table.loc[REGIME, "n_mated"] == 15


def test_selected_labels_give_no_rate_without_consent():
    scores = [65.0] * 30 + [75.0] * 30
    v = simple(scores).assign(mated=pd.array([None] * 30 + [True, False] * 15, dtype="boolean"))
    told = va.scores.decision_table(v, [70], v)
    assert told["label_reason"].tolist() == ["selected_labels"]
    assert told["fmr"].isna().all()
    consent = va.scores.decision_table(v, [70], v, assume_random=True)
    assert consent["label_note"].tolist() == ["labels taken as random"]
    assert consent["fmr"].tolist() == [1.0]


def test_how_well_the_gates_explain_the_result_stands_beside():
    v = worlds.frame([worlds.row(i, score=75.0, result=i % 4 > 0) for i in range(40)])
    assert va.scores.decision_table(v, [70])["gates_reproduce_result"].tolist() == [0.75]
    silent = va.scores.decision_table(v.drop(columns=["result", "alive"]), [70])
    assert silent["gates_reproduce_result"].isna().all()


def test_every_engine_gives_the_same_table():
    pandas = worlds.frame(worlds.messy(300, seed=7))
    expected = va.scores.decision_table(pandas)
    for name, v in worlds.engines(pandas).items():
        pd.testing.assert_frame_equal(va.scores.decision_table(v), expected, obj=name)


@pytest.mark.parametrize("thresholds", [[], ["high"], [float("nan")], float("inf"), None])
def test_nonsense_is_refused_in_one_line(thresholds):
    v = simple([70.0])
    if thresholds is None:
        with pytest.raises(MissingColumnError, match="no column score"):
            va.scores.decision_table(v.drop(columns="score"))
    else:
        with pytest.raises(UsageError, match="thresholds must be"):
            va.scores.decision_table(v, thresholds)


def test_a_frame_without_rows_or_regimes_gives_no_line_to_decide_on():
    v = simple([70.0, 80.0])
    assert va.scores.decision_table(v.iloc[:0]).empty
    none = v.assign(threshold_1e_4=None)
    assert va.scores.decision_table(none)["reason"].tolist() == ["incomplete_regime"]
