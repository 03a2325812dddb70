"""Image quality: limits, bands, error versus discard and coaching against plain loops."""

from __future__ import annotations

import datetime as dt
import json
import math
import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from builders import frames as w
from scipy import stats

import verifyanalytics as va
from verifyanalytics.errors import MissingColumnError, UsageError

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "data/golden/edc.json").read_text(encoding="utf-8")
)
MEASURES = {
    "face_comprehensive_score": lambda rng: rng.choice([None, 49.99, 50.0, *range(20, 95, 5)]),
    "env_comprehensive_score": lambda rng: rng.choice([None, 50.0, 70.0]),
    "face_brightness": lambda rng: rng.choice([None, 0.0799, 0.08, 0.05, 0.5, 0.9]),
    "env_brightness": lambda rng: rng.choice([None, 0.05, 0.5]),
    "face_pose_yaw": lambda rng: rng.choice([None, -30.5, -3.0, 0.0, 3.0, 30.25]),
    "face_exposure": lambda rng: rng.choice([None, 0.0, 0.6, 0.61]),
}


def graded(n=400, seed=4):
    rng = random.Random(seed)
    rows = w.messy(n, seed)
    return [r | {name: draw(rng) for name, draw in MEASURES.items()} for r in rows]


ROWS = graded()
FRAME = w.frame(ROWS)


def told(name, rows=ROWS):
    return [r[name] for r in rows if r[name] is not None]


# ------------------------------------------------------------------ limits


def test_limits_and_percentiles_against_loops():
    table = va.quality.limits(FRAME)
    assert len(table) == len(MEASURES)
    broken = {
        "comprehensive_score": lambda x: x < 50, "brightness": lambda x: x < 0.08,
        "exposure": lambda x: x > 0.6,
    }  # fmt: skip
    for row in table.itertuples():
        values = sorted(told(f"{row.image}_{row.measure}"))
        assert (row.n, row.n_missing) == (len(values), len(ROWS) - len(values))
        for level in (1, 5, 25, 50, 75, 95, 99):
            want = values[math.ceil(level * len(values) / 100) - 1]
            got = getattr(row, f"p{level:02d}")
            assert got == pytest.approx(want, abs=1e-9), (row.measure, level)
        if row.measure in broken:
            assert row.n_beyond == sum(map(broken[row.measure], values))
            assert row.beyond_rate == pytest.approx(row.n_beyond / row.n)
            assert row.beyond_rate_low <= row.beyond_rate < row.beyond_rate_high
        else:
            assert row.limit == ""
            assert math.isnan(row.beyond_rate)
    limits = table.set_index(["image", "measure"])["limit"]
    assert limits["face", "comprehensive_score"] == "< 50"
    assert table["name_zh"].str.contains("[一-鿿]").all()


def test_a_percentile_of_numbers_with_many_digits_is_exact_to_its_cell():
    values = np.random.default_rng(0).normal(60, 12, 5000)
    row = va.quality.limits(pd.DataFrame({"face_comprehensive_score": values})).iloc[0]
    for level in (1, 25, 50, 99):
        want = np.sort(values)[math.ceil(level / 100 * 5000) - 1]
        assert 0 <= want - row[f"p{level:02d}"] < row["resolution"] + 1e-8


@pytest.mark.parametrize("stray", [1e4, 1e6, -1e9, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["face_brightness", "face_pose_yaw"])
def test_one_wrong_value_does_not_put_all_others_into_one_cell(name, stray):
    values = np.random.default_rng(1).random(5000)
    frame = pd.DataFrame({name: np.r_[values, stray], "request_id": "x"})
    row = va.quality.limits(frame).iloc[0]
    for level in (5, 25, 50, 95):
        want = np.sort(frame[name])[math.ceil(level / 100 * 5001) - 1]
        assert 0 <= want - row[f"p{level:02d}"] < 1.1e-3


def test_no_quality_column_is_told():
    with pytest.raises(MissingColumnError, match="face_comprehensive_score"):
        va.quality.limits(w.frame(w.messy(5)))
    with pytest.raises(UsageError, match="no frame"):
        va.quality.limits(7)


# ------------------------------------------------------------------ bands


@pytest.mark.parametrize("name", ["face_comprehensive_score", "face_pose_yaw"])
def test_bands_against_a_loop(name):
    table = va.quality.bands(FRAME, name, (0, 20, 50, 100))
    rows = [r for r in ROWS if w.is_answered(r)]
    values = sorted(told(name, rows))
    cuts = [values[math.ceil(q * len(values) / 100) - 1] for q in (20, 50)]
    parts = [
        [r for r in rows if r[name] is not None and r[name] <= cuts[0]],
        [r for r in rows if r[name] is not None and cuts[0] < r[name] <= cuts[1]],
        [r for r in rows if r[name] is not None and r[name] > cuts[1]],
        [r for r in rows if r[name] is None],
    ]
    assert table["band"].tolist() == ["0-20", "20-50", "50-100", "missing"]
    for row, part in zip(table.itertuples(), parts, strict=True):
        compared = [r for r in part if (w.is_scored(r) or w.is_withheld(r)) and w.rising(r)]
        decided = [r for r in part if r["result"] is not None]
        assert (row.n, row.n_compared, row.n_decided) == (len(part), len(compared), len(decided))
        assert row.n_matched == sum(w.gate_states(r)["match"] is True for r in compared)
        assert row.n_rejected == sum(not r["result"] for r in decided)
        assert row.match_rate == pytest.approx(row.n_matched / row.n_compared)
        assert row.reject_rate_low <= row.reject_rate <= row.reject_rate_high
        if row.band != "missing":
            assert all(row.value_low <= r[name] < row.value_high for r in part)


def test_a_measure_without_its_image_is_of_both_images():
    table = va.quality.bands(FRAME, "brightness")
    assert table["image"].drop_duplicates().tolist() == ["face", "env"]
    assert set(va.quality.bands(FRAME, "exposure")["image"]) == {"face"}
    with pytest.raises(UsageError, match="no measure 'colour'"):
        va.quality.bands(FRAME, "colour")
    with pytest.raises(MissingColumnError, match="env_clarity"):
        va.quality.bands(FRAME, "env_clarity")
    for wrong in ((0, 50), (0, 60, 40, 100), (0,), ("a", 100), (0, math.nan, 100), (0, 101), 5):
        with pytest.raises(UsageError, match="bands"):
            va.quality.bands(FRAME, "brightness", wrong)


# ------------------------------------------------------------------ error versus discard


def test_the_case_with_ties():
    frame = pd.DataFrame({"quality": GOLDEN["quality"], "score": GOLDEN["score"]})
    curve = va.quality.error_versus_discard(frame, "quality", threshold=GOLDEN["threshold"])
    assert curve["discard_fraction"].tolist() == pytest.approx(GOLDEN["discard_fractions"])
    assert curve["error_fraction"].tolist() == pytest.approx(GOLDEN["error_fractions"])
    assert curve["pauc_03"].iloc[0] == pytest.approx(GOLDEN["pauc_0.3"])
    assert curve["pauc_1"].iloc[0] == pytest.approx(GOLDEN["pauc_1"])
    want = [max(0, (0.5 - d) / (1 - d)) if d < 1 else 0 for d in GOLDEN["discard_fractions"]]
    assert curve["ideal"].tolist() == pytest.approx(want)


ORIENTED = {
    "face_comprehensive_score": lambda x: x,
    "face_brightness": lambda x: min(x - 0.08, 0.0),
    "face_pose_yaw": lambda x: -abs(x),
    "face_exposure": lambda x: -x,
}


@pytest.mark.parametrize("name", ORIENTED)
def test_discard_goes_by_the_orientation_of_the_measure(name):
    table = va.quality.error_versus_discard(FRAME, name)
    assert set(table["kind"]) == {"reject_rate"}
    assert "incomplete" in set(table["regime"])
    for regime, curve in table.groupby("regime"):
        if regime == "incomplete":  # nothing was compared, and that is told
            left_out = sum(w.regime(r) == regime for r in ROWS)
            assert curve[["n", "n_not_compared"]].values.tolist() == [[0, left_out]]
            assert curve["error_fraction"].isna().all()
            continue
        rows = [r for r in ROWS if w.regime(r) == regime and w.gate_states(r)["match"] is not None]
        rows = [r for r in rows if w.is_scored(r) or w.is_withheld(r)]
        quality = [-math.inf if r[name] is None else ORIENTED[name](r[name]) for r in rows]
        wrong = [not w.gate_states(r)["match"] for r in rows]
        steps = [(0.0, sum(wrong) / len(rows))]
        for level in sorted(set(quality)):
            kept = [e for q, e in zip(quality, wrong, strict=True) if q > level]
            gone = 1 - len(kept) / len(rows)
            steps.append((gone, sum(kept) / len(kept) if kept else 0.0))
        assert curve["discard_fraction"].tolist() == pytest.approx([s[0] for s in steps])
        assert curve["error_fraction"].tolist() == pytest.approx([s[1] for s in steps])
        assert (curve["n_null_quality"] == sum(r[name] is None for r in rows)).all()


def test_with_labels_the_errors_are_false_non_matches_of_mated_rows():
    frame = pd.DataFrame(
        {
            "quality": [1, 2, 3, 4, 5, 6],
            "score": [50.0, 95.0, 50.0, 95.0, 50.0, 95.0],
            "mated": [True, True, False, True, True, None],
            "attack": [None, None, None, None, "print", None],
        }
    )
    curve = va.quality.error_versus_discard(frame, "quality", threshold=70)
    assert set(curve["kind"]) == {"fnmr"}
    assert set(curve["n"]) == {3}
    assert curve["error_fraction"].tolist() == pytest.approx([1 / 3, 0, 0, 0])


def test_one_threshold_of_each_regimes_own_at_a_nominal_fmr():
    table = va.quality.error_versus_discard(FRAME, nominal_fmr=1e-4)
    own = va.quality.error_versus_discard(FRAME)
    assert set(table["regime"]) == {"all", "incomplete"}
    first = own[own["discard_fraction"] == 0]
    assert table["n"].iloc[0] == first["n"].sum()
    assert table["n_errors"].iloc[0] == first["n_errors"].sum()
    with pytest.raises(UsageError, match="not both"):
        va.quality.error_versus_discard(FRAME, threshold=70, nominal_fmr=1e-4)
    with pytest.raises(MissingColumnError, match="sharpness"):
        va.quality.error_versus_discard(FRAME, "sharpness")


SELECTED = pd.DataFrame(
    {
        "code": 10000, "sub_code": 0, "gateway_code": None, "req_key": "k", "attack": None,
        "threshold_1e_3": 60.0, "threshold_1e_4": 70.0, "threshold_1e_5": 80.0,
        "threshold_1e_6": 90.0, "request_id": [f"r{i}" for i in range(1200)],
        "score": [95.0, 85.0, 75.0, 65.0, 50.0, 95.0] * 200, "result": [True, True, True] * 400,
        "quality": [5.0, 4.0, 3.0, 2.0, 1.0, 6.0] * 200, "mated": True,
    }
)  # fmt: skip


def test_labels_that_were_selected_make_no_curve():
    told = SELECTED["score"] >= 70
    frame = SELECTED.assign(mated=SELECTED["mated"].where(told))
    curve = va.quality.error_versus_discard(frame, "quality")
    assert set(curve["reason"]) == {"selected_labels"}
    assert curve[["error_fraction", "discard_fraction", "ideal", "pauc_1"]].isna().all(axis=None)
    assert set(curve["n_unlabelled"]) == {400}
    taken = va.quality.error_versus_discard(frame, "quality", assume_random=True)
    assert set(taken["reason"]) == {""}
    assert taken["error_fraction"].iloc[0] == 0.0
    with pytest.raises(UsageError, match="nothing to draw"):
        va.charts.quality.error_versus_discard(curve)


def test_rows_that_were_drawn_weigh_what_they_stand_for():
    """Drawn in part where scores are high, in full where they are low: the curve is that of all."""
    whole = va.quality.error_versus_discard(SELECTED, "quality")
    chance = np.where(SELECTED["score"] >= 70, 0.25, 1.0)
    drawn = (SELECTED["score"] < 70) | (np.arange(1200) // 6 % 4 == 0)
    frame = SELECTED.assign(mated=SELECTED["mated"].where(drawn), inclusion_prob=chance)
    frame["inclusion_prob"] = frame["inclusion_prob"].where(drawn)
    curve = va.quality.error_versus_discard(frame, "quality")
    assert set(curve["reason"]) == {""}
    for name in ("discard_fraction", "error_fraction", "ideal", "pauc_03", "pauc_1"):
        assert curve[name].tolist() == pytest.approx(whole[name].tolist())
    assert set(curve["n"]) == {600}
    assert whole["n_errors"].iloc[0] == curve["n_errors"].iloc[0] == 400


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("quality", {"threshold": math.nan}),
        ("quality", {"threshold": "70"}),
        ("quality", {"nominal_fmr": 0}),
        ("quality", {"nominal_fmr": math.nan}),
        ("req_key", {}),
        ("mated", {}),
    ],
)
def test_a_discard_that_cannot_be_is_refused(name, options):
    with pytest.raises(UsageError):
        va.quality.error_versus_discard(SELECTED, name, **options)


def test_a_long_curve_is_thinned_and_its_area_is_not():
    rng = np.random.default_rng(5)
    frame = pd.DataFrame({"quality": rng.random(30_000), "score": rng.random(30_000) * 100})
    curve = va.quality.error_versus_discard(frame, "quality", threshold=30)
    assert len(curve) <= 1000
    assert curve["discard_fraction"].iloc[[0, -1]].tolist() == [0.0, 1.0]
    order = np.argsort(frame["quality"].to_numpy())
    wrong = (frame["score"].to_numpy() < 30)[order]
    kept = wrong[::-1].cumsum()[::-1] / np.arange(30_000, 0, -1)
    assert curve["pauc_1"].iloc[0] == pytest.approx(kept.mean())


# ------------------------------------------------------------------ coaching


def shot(i, dark, fails, **more):
    day = w.START + dt.timedelta(minutes=10 * i)
    images = {"face_brightness": 0.05 if dark else 0.5}
    images["face_comprehensive_score"] = float(30 + i % 61)
    return images | w.row(
        i, occurred_at=day, score=50.0 if fails else 95.0, result=not fails, subject=f"s{i}", **more
    )


def dark_world(n=4000, seed=1):
    rng = random.Random(seed)
    rows = []
    for i in range(n):
        dark = rng.random() < 0.1
        rows.append(shot(i, dark, rng.random() < (0.3 if dark else 0.05)))
    return rows


def test_the_limit_that_moves_most_rejects_is_first_and_its_price_is_counted():
    rows = dark_world()
    table = va.quality.coaching(w.frame(rows))
    row = table.iloc[0]
    assert (row["image"], row["measure"], row["documented"]) == ("face", "brightness", True)
    assert (row["turned_away_if"], row["significant"]) == ("< 0.08", True)
    times = [r["occurred_at"] for r in rows]
    split = times[0] + 0.5 * (times[-1] - times[0])
    held = [r for r in rows if r["occurred_at"] > split]
    away = [r for r in held if r["face_brightness"] < 0.08]
    kept = [r for r in held if r["face_brightness"] >= 0.08]
    fails = [sum(r["score"] < 70 for r in part) for part in (away, kept)]
    assert (row["n"], row["n_rejected"]) == (len(held), sum(fails))
    assert (row["n_turned_away"], row["n_turned_away_rejected"]) == (len(away), fails[0])
    assert row["n_turned_away_accepted"] == len(away) - fails[0]
    rates = [fails[0] / len(away), fails[1] / len(kept)]
    assert row["difference"] == pytest.approx(rates[0] - rates[1])
    assert row["excess"] == pytest.approx(len(away) * (rates[0] - rates[1]))
    assert row["excess_low"] < row["excess"] < row["excess_high"]
    assert row["held_out_from"] == pd.Timestamp(split)
    assert not table.iloc[1]["significant"]
    rejected = va.quality.coaching(w.frame(rows), "rejected").iloc[0]
    assert rejected["n_turned_away_rejected"] == row["n_turned_away_rejected"]


def test_without_subjects_or_with_the_same_rows_thrice_it_is_not_more_certain():
    rows = dark_world(1500)
    once = va.quality.coaching(w.frame(rows)).iloc[0]
    thrice = [r | {"request_id": f"{r['request_id']}-{k}"} for r in rows for k in range(3)]
    three = va.quality.coaching(w.frame(thrice)).iloc[0]
    assert (once["deff"], three["deff"]) == (1.0, 3.0)
    assert three["p_value"] == pytest.approx(once["p_value"])
    assert three["excess_low"] == pytest.approx(3 * once["excess_low"])
    nobody = va.quality.coaching(w.frame([r | {"subject": None} for r in rows]))
    assert not nobody["significant"].any()
    assert set(nobody["reason"]) <= {"unclustered", "no_limit"}


def test_whoever_is_in_the_first_part_is_not_judged_in_the_second():
    rows = dark_world(1200)
    for i, r in enumerate(rows[600:900]):
        r["subject"] = rows[i]["subject"]
    for r in rows[1100:]:
        r["subject"] = None
    table = va.quality.coaching(w.frame(rows))
    assert set(table["n_met_before"]) == {300}
    assert set(table["n"] + table["n_missing"]) == {300}


def test_the_test_is_exact_and_counts_every_measure_looked_at():
    row = va.quality.coaching(w.frame(dark_world())).iloc[0]
    away, hit = row["n_turned_away"], row["n_turned_away_rejected"]
    rest, other = row["n"] - away, row["n_rejected"] - hit
    exact = stats.fisher_exact([[hit, away - hit], [other, rest - other]]).pvalue
    assert row["p_value"] == pytest.approx(exact)
    frame = w.frame(dark_world()).assign(env_clarity=np.nan, env_exposure=0.0)
    padded = va.quality.coaching(frame)
    adjusted = padded.set_index(["image", "measure"]).loc[("face", "brightness"), "p_adjusted"]
    assert adjusted == pytest.approx(4 * exact)
    assert padded["p_adjusted"].isna().sum() == padded["p_value"].isna().sum() == 2


def test_nothing_at_all_has_no_date():
    table = va.quality.coaching(w.frame(dark_world(1)).head(0))
    assert table["held_out_from"].isna().all()


def test_nothing_to_learn_from_is_no_limit():
    rows = [shot(i, dark=False, fails=False) for i in range(50)]
    table = va.quality.coaching(w.frame(rows))
    assert set(table["reason"]) == {"no_limit"}
    assert table["cut"].isna().all()
    with pytest.raises(UsageError, match="train must be above 0 and below 1"):
        va.quality.coaching(w.frame(rows), train=1.0)


# ------------------------------------------------------------------ both images


def test_the_same_rows_thrice_differ_no_more_between_images():
    seen = [(0.05, 0.5)] * 4 + [(0.5, 0.05)]
    rows = [
        w.row(i) | {"subject": f"s{i}", "face_brightness": face, "env_brightness": env}
        for i, (face, env) in enumerate(seen)
    ]
    thrice = [r | {"request_id": f"{r['request_id']}-{k}"} for r in rows for k in range(3)]
    once, three = (va.quality.face_vs_environment(w.frame(v)).iloc[0] for v in (rows, thrice))
    assert once["p_value"] == pytest.approx(stats.binomtest(1, 5).pvalue)
    assert three["p_value"] == pytest.approx(once["p_value"])
    assert three["n_beyond_face_only"] == 12


def test_the_two_images_of_an_answer_against_a_loop():
    row = va.quality.face_vs_environment(FRAME).set_index("measure").loc["brightness"]
    pairs = [(r["face_brightness"], r["env_brightness"]) for r in ROWS]
    both = [p for p in pairs if None not in p]
    assert row["n_both"] == len(both)
    assert row["n_face_only"] == sum(f is not None and e is None for f, e in pairs)
    assert row["n_env_only"] == sum(f is None and e is not None for f, e in pairs)
    assert row["n_neither"] == pairs.count((None, None))
    assert row["n_equal"] == sum(f == e for f, e in both)
    assert row["n_face_higher"] == sum(f > e for f, e in both)
    beyond = [(f < 0.08, e < 0.08) for f, e in both]
    assert row["n_beyond_both"] == beyond.count((True, True))
    assert row["n_beyond_face_only"] == beyond.count((True, False))
    assert row["n_beyond_env_only"] == beyond.count((False, True))
    with pytest.raises(MissingColumnError, match="env_"):
        va.quality.face_vs_environment(pd.DataFrame({"face_clarity": [3.0]}))


# ------------------------------------------------------------------ engines


@pytest.mark.parametrize(
    "statistic",
    [
        va.quality.limits,
        lambda v: va.quality.bands(v, "brightness"),
        lambda v: va.quality.error_versus_discard(v, "face_pose_yaw"),
        va.quality.face_vs_environment,
        va.quality.coaching,
    ],
    ids=["limits", "bands", "discard", "both", "coaching"],
)
def test_every_engine_gives_the_same_frame(statistic):
    few = FRAME.drop(columns=["face_exposure", "env_comprehensive_score"]).iloc[:150]
    frames = w.engines(few)
    first = statistic(frames.pop("pandas"))
    for engine, frame in frames.items():
        pd.testing.assert_frame_equal(first, statistic(frame), obj=engine)


def test_no_rows_are_a_frame_all_the_same():
    empty = FRAME.iloc[:0]
    assert va.quality.limits(empty)["p50"].isna().all()
    assert (va.quality.bands(empty, "brightness")["n"] == 0).all()
    assert va.quality.error_versus_discard(empty)["n"].sum() == 0
    assert va.quality.face_vs_environment(empty)["equal_rate"].isna().all()
    assert set(va.quality.coaching(empty)["reason"]) == {"no_limit"}
