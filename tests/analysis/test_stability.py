"""Drift, changes of regime and alerts: figures of other programs, and plain loops."""

from __future__ import annotations

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
from scipy import stats

import verifyanalytics as va
from verifyanalytics.errors import MissingColumnError, UsageError

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "data/golden/psi.json").read_text(encoding="utf-8")
)
VENDOR = [60, 70, 80, 90]
OLD, NEW = w.messy(700, 5), w.messy(500, 6)


def scores(counted):
    return pd.DataFrame({"score": np.repeat([50.0, 65.0, 75.0, 85.0, 95.0], counted)})


# ------------------------------------------------------------------ figures of other programs


def test_psi_on_the_vendors_bins():
    expected, actual = GOLDEN["expected_counts"], GOLDEN["actual_counts"]
    assert va.stability.psi(expected, actual).psi == pytest.approx(
        GOLDEN["psi_vendor_bins_numpy"], rel=1e-13
    )
    row = va.stability.drift(
        scores(expected), scores(actual), "score", GOLDEN["edges_vendor"][1:-1]
    ).iloc[0]
    assert row["psi"] == pytest.approx(0.11469447, abs=5e-9)
    assert (row["smoothing"], row["n_bins"], row["alert"]) == (0.0, 5, True)
    assert row["critical"] == pytest.approx(GOLDEN["yurdakul_95pct_critical"]["B=5"], rel=1e-12)
    assert row["bins"] == "< 60; 60 - < 70; 70 - < 80; 80 - < 90; >= 90"
    regime = [
        [w.row(i, score=s) for i, s in enumerate(scores(side)["score"])]
        for side in (expected, actual)
    ]
    own = va.stability.drift(*(w.frame(rows) for rows in regime), "score").iloc[0]
    assert own["psi"] == pytest.approx(0.11469447, abs=5e-9)
    assert own["regime"] == "cert_pro_src_verify 60/70/80/90"


def test_an_empty_bin_is_smoothed_and_the_smoothing_printed():
    case = GOLDEN["empty_bin_case"]
    row = va.stability.drift(
        scores(case["expected_counts"]), scores(case["actual_counts"]), edges=VENDOR
    ).iloc[0]
    assert row["psi"] == pytest.approx(case["laplace_half_count"], rel=1e-12)
    assert row["smoothing"] == 0.5
    assert row["largest_bin"] == "< 60"


def test_the_closed_form_and_bins_empty_on_both_sides():
    closed = GOLDEN["closed_form_[.25x4]_vs_[.1,.2,.3,.4]"]
    found = va.stability.psi([25, 25, 0, 25, 25], [10, 20, 0, 30, 40])
    assert found.psi == pytest.approx(closed, rel=1e-12)
    assert (found.n_bins, found.smoothing) == (4, 0.0)
    assert found.critical == pytest.approx(stats.chi2.ppf(0.95, 3) * 0.02)
    assert va.stability.psi([5, 0], [7, 0])[:3] == (0.0, 0.0, 1)
    assert math.isnan(va.stability.psi([0, 0], [1, 2]).psi)
    for wrong in (([1, 2], [1]), ([1, -1], [1, 1]), ([[1]], [[1]]), ([math.nan], [1])):
        with pytest.raises(UsageError):
            va.stability.psi(*wrong)


def test_a_large_psi_of_few_rows_is_no_alert():
    found = va.stability.psi([3, 3, 3], [1, 3, 5])
    assert found.psi > 0.1
    assert not found.alert
    assert not va.stability.psi([10_000, 10_000], [9_000, 11_000]).alert
    assert va.stability.psi([1000, 1000], [600, 1400]).alert


# ------------------------------------------------------------------ by loops


def answered(rows, regime):
    return [r for r in rows if w.is_answered(r) and w.regime(r) == regime]


def shares(rows, column, edges):
    """Counts per bin, the missing last."""
    values = [r[column] for r in rows]
    held = [v for v in values if v is not None]
    found = [
        sum(a <= v < b for v in held) for a, b in zip([-1e9, *edges], [*edges, 1e9], strict=True)
    ]
    return [*found, len(values) - len(held)]


def kish(rows):
    sizes = Counter(r["subject"] for r in rows if r["subject"] is not None)
    alone = sum(r["subject"] is None for r in rows)
    return (alone + sum(m * m for m in sizes.values())) / len(rows) if sizes else 1.0


def loop_psi(e, a):
    kept = [(x, y) for x, y in zip(e, a, strict=True) if x or y]
    half = 0.5 if any((x == 0) != (y == 0) for x, y in kept) else 0
    n, m = (sum(pair[i] + half for pair in kept) for i in (0, 1))
    shares_of = [((x + half) / n, (y + half) / m) for x, y in kept]
    return sum((q - p) * math.log(q / p) for p, q in shares_of), half, len(kept)


def test_scores_inside_each_regime_against_loops():
    table = va.stability.drift(w.frame(OLD), w.frame(NEW), "score")
    names = {w.regime(r) for r in OLD + NEW if w.is_answered(r)}
    assert table["regime"].tolist() == sorted(names)
    for row in table.itertuples():
        old, new = answered(OLD, row.regime), answered(NEW, row.regime)
        assert (row.n_reference, row.n_current) == (len(old), len(new))
        if row.regime == "incomplete":
            assert (row.reason, row.alert, math.isnan(row.psi)) == ("incomplete", False, True)
            continue
        edges = [old[0][level] for level in w.LEVELS]
        bins = [shares(side, "score", edges) for side in (old, new)]
        want, half, n_bins = loop_psi(*bins)
        assert (row.psi, row.smoothing, row.n_bins) == (pytest.approx(want), half, n_bins)
        assert (row.n_missing_reference, row.n_missing_current) == (bins[0][-1], bins[1][-1])
        n, m = len(old), len(new)
        deff = (kish(old) / n + kish(new) / m) / (1 / n + 1 / m)
        assert row.deff == pytest.approx(deff)
        critical = stats.chi2.ppf(0.95, n_bins - 1) * (1 / n + 1 / m) * deff
        assert row.critical == pytest.approx(critical)
        assert row.alert == (want > max(0.1, critical))
        held = [[r["score"] for r in side if r["score"] is not None] for side in (old, new)]
        assert row.ks == pytest.approx(stats.ks_2samp(*held).statistic)
        assert row.wasserstein == pytest.approx(stats.wasserstein_distance(*held))


def test_other_columns_are_binned_by_value_by_deciles_or_by_given_edges():
    columns = ["risk_score", "elapsed_ms", "result", "token"]
    table = va.stability.drift(w.frame(OLD), w.frame(NEW), columns, {"elapsed_ms": [30, 100]})
    regime = "cert_pro_src_verify 60/70/80/90"
    old, new = answered(OLD, regime), answered(NEW, regime)
    got = table[table["regime"] == regime].set_index("column")
    for column, values in (
        ("risk_score", (0, 300, 600, 900, None)),
        ("result", (True, False, None)),
    ):
        bins = [[sum(r[column] == x for r in side) for x in values] for side in (old, new)]
        assert got.loc[column, "psi"] == pytest.approx(loop_psi(*bins)[0]), column
    bins = [shares(side, "elapsed_ms", [30, 100]) for side in (old, new)]
    assert got.loc["elapsed_ms", "psi"] == pytest.approx(loop_psi(*bins)[0])
    assert math.isnan(got.loc["result", "ks"])
    top = Counter(r["token"] for r in old if r["token"]).most_common()
    kept = [token for token, _ in sorted(top, key=lambda pair: (-pair[1], pair[0]))[:20]]
    by_token = [
        [sum(r["token"] == t for r in side) for t in kept]
        + [sum(r["token"] is not None and r["token"] not in kept for r in side)]
        + [sum(r["token"] is None for r in side)]
        for side in (old, new)
    ]
    assert got.loc["token", "psi"] == pytest.approx(loop_psi(*by_token)[0])


def test_deciles_of_the_reference_hold_a_tenth_each():
    values = np.round(np.random.default_rng(1).normal(50, 9, 4000), 2)
    old = pd.DataFrame({"face_comprehensive_score": values})
    new = pd.DataFrame({"face_comprehensive_score": values + 3})
    row = va.stability.drift(old, new, "face_comprehensive_score").iloc[0]
    edges = np.array([float(part.split(" ")[-1]) for part in row["bins"].split("; ")[:-1]])
    assert len(edges) == 9
    counted = np.histogram(values, [-np.inf, *edges, np.inf])[0]
    assert np.abs(counted - 400).max() < 25
    moved = np.histogram(values + 3, [-np.inf, *edges, np.inf])[0]
    assert row["psi"] == pytest.approx(va.stability.psi(counted, moved).psi, rel=0.05)
    assert row["wasserstein"] == pytest.approx(3.0, abs=0.01)


def test_a_regime_of_one_side_only_is_an_event_and_no_drift():
    old = w.frame([w.row(i) for i in range(30)])
    new = w.frame([w.row(i, thresholds=w.OTHER) for i in range(30)])
    table = va.stability.drift(old, new, "score").set_index("regime")
    assert table["reason"].to_dict() == {
        "cert_pro_src_verify 60/70/80/90": "only_in_reference",
        "cert_pro_src_verify 55/66/77.5/91": "only_in_current",
    }
    assert table["psi"].isna().all()
    assert not table["alert"].any()


def test_what_is_refused():
    frame = w.frame(OLD[:50])
    with pytest.raises(MissingColumnError, match="no column face_clarity"):
        va.stability.drift(frame, frame, "face_clarity")
    with pytest.raises(UsageError, match="rising"):
        va.stability.drift(frame, frame, "score", [70, 60])
    with pytest.raises(UsageError, match="as a mapping"):
        va.stability.drift(frame, frame, ["score", "risk_score"], [70])
    with pytest.raises(UsageError, match="edges for clarity"):
        va.stability.drift(frame, frame, "score", {"clarity": [1]})
    with pytest.raises(UsageError, match="edges for result, which holds"):
        va.stability.drift(frame, frame, "result", [1])
    with pytest.raises(UsageError, match="no frame"):
        va.stability.drift(3, frame)
    with pytest.raises(UsageError, match="no period 'x'"):
        va.stability.over_time(frame, reference="x")
    with pytest.raises(UsageError, match="at least one column"):
        va.stability.drift(frame, frame, [])


# ------------------------------------------------------------------ over time


def weeks(n_weeks=5, a_week=140, **changes):
    """Rows over whole weeks (Monday 2024-05-06 local); `changes` maps a week to row changes."""
    start = dt.datetime(2024, 5, 5, 16, tzinfo=dt.UTC)
    step = dt.timedelta(days=7) / a_week
    return [
        w.row(
            k * a_week + i,
            occurred_at=start + (k * a_week + i) * step,
            **({"score": round(55 + (i * 27.19) % 44, 2)} | changes.get(f"week{k}", {})),
        )
        for k in range(n_weeks)
        for i in range(a_week)
    ]


def test_each_week_against_the_first():
    rows = weeks(week2={"score": 58.0})
    rows[5]["occurred_at"] = None
    table = va.stability.over_time(w.frame(rows), columns="score").set_index("period")
    assert table.loc["2024-W21", "alert"]
    assert table["alert"].sum() == 1
    assert table.loc["2024-W19", "reason"] == "reference"
    assert table.loc["unknown", ["reason", "n_current"]].tolist() == ["unknown", 1]
    assert set(table["reference"]) == {"2024-W19"}
    week = [[r for r in rows[k * 140 : (k + 1) * 140] if r["occurred_at"]] for k in (0, 2)]
    bins = [shares(side, "score", w.PAGE) for side in week]
    assert table.loc["2024-W21", "psi"] > 1
    assert table.loc["2024-W21", "largest_bin"] == "< 60"
    assert table.loc["2024-W20", "n_current"] == 140
    third = table.loc["2024-W21"]
    assert (third["n_reference"], third["share_current"]) == (139, 0.0) or third[
        "share_current"
    ] == 1.0
    two = va.stability.over_time(w.frame(rows), columns="score", reference="2024-W21")
    assert set(two.loc[two["alert"], "period"]) == {"2024-W19", "2024-W20", "2024-W22", "2024-W23"}
    previous = va.stability.over_time(w.frame(rows), columns="score", reference="previous")
    assert set(previous.loc[previous["alert"], "period"]) == {"2024-W21", "2024-W22"}
    assert previous.loc[0, "reason"] == "no_reference"
    given = va.stability.over_time(w.frame(rows), columns="score", reference=w.frame(week[0]))
    assert set(given.loc[given["alert"], "period"]) == {"2024-W21"}
    assert given.loc[1, "psi"] == pytest.approx(table.loc["2024-W20", "psi"])
    assert given.loc[1, "psi"] == pytest.approx(
        loop_psi(bins[0], shares(rows[140:280], "score", w.PAGE))[0]
    )


def test_partial_weeks_are_flagged_and_not_compared():
    table = va.stability.over_time(w.frame(weeks()[70:]), columns="score")
    assert table["partial"].tolist() == [True, False, False, False, False]
    assert table["reason"].tolist()[:2] == ["partial", "reference"]


@pytest.mark.parametrize("every", ["day", "month"])
def test_days_and_months_are_cut_where_the_local_day_begins(every):
    rows = weeks(4)
    table = va.stability.over_time(w.frame(rows), every, columns="score")
    local = [r["occurred_at"] + dt.timedelta(hours=8) for r in rows]
    want = Counter(t.strftime("%Y-%m-%d" if every == "day" else "%Y-%m") for t in local)
    assert table.set_index("period")["n_current"].to_dict() == want


def test_a_regime_is_compared_with_its_own_first_whole_week():
    rows = weeks(6, **{f"week{k}": {"thresholds": w.OTHER} for k in (3, 4, 5)})
    for r in rows[400:420]:  # it began on the last day of the third week
        r.update(dict(zip(w.LEVELS, w.OTHER, strict=True)))
    table = va.stability.over_time(w.frame(rows), columns="score")
    new = table[table["regime"].str.endswith("91")].set_index("period")
    assert set(new["reference"]) == {"2024-W22"}
    assert new.loc["2024-W21", "n_current"] == 20


# ------------------------------------------------------------------ changes of regime


def test_a_change_is_found_between_its_two_rows():
    rows = weeks(4, **{f"week{k}": {"thresholds": w.OTHER} for k in (2, 3)})
    table = va.stability.regime_changes(w.frame(rows))
    assert len(table) == 1
    row = table.iloc[0]
    assert (row["kind"], row["req_key"]) == ("changed", "cert_pro_src_verify")
    assert row["changed_from"] == pd.Timestamp(rows[279]["occurred_at"])
    assert row["changed_to"] == pd.Timestamp(rows[280]["occurred_at"])
    assert (row["n_before"], row["n_after"], row["n_mixed"]) == (280, 280, 0)
    assert [row[f"shift_1e_{k}"] for k in (3, 4, 5, 6)] == [-5.0, -4.0, -2.5, 1.0]


def test_there_and_back_again_is_two_changes_and_a_few_rows_are_beside():
    rows = weeks(4, week1={"thresholds": w.OTHER})
    for r in rows[430:436]:
        r.update(dict(zip(w.LEVELS, (50.0, 60.0, 70.0, 80.0), strict=True)))
    table = va.stability.regime_changes(w.frame(rows))
    assert table["kind"].tolist() == ["changed", "changed", "beside"]
    assert table["n_before"].tolist()[:2] == [140, 140]
    assert table["n_after"].iloc[2] == 6
    assert table["changed_from"].is_monotonic_increasing


def test_a_slow_change_says_how_long_both_ran():
    rows = weeks(2)
    for i, r in enumerate(rows):
        if i >= 160 or (i >= 100 and i % 3 == 0):
            r.update(dict(zip(w.LEVELS, w.OTHER, strict=True)))
    row = va.stability.regime_changes(w.frame(rows)).iloc[0]
    assert row["changed_from"] == pd.Timestamp(rows[102]["occurred_at"])
    assert row["changed_to"] == pd.Timestamp(rows[158]["occurred_at"])
    assert row["n_mixed"] == 60  # the three days of 20 rows on which both ran


def test_one_regime_has_no_event():
    table = va.stability.regime_changes(w.frame(weeks(2)))
    assert len(table) == 0
    full = va.stability.regime_changes(w.frame(weeks(2, week1={"thresholds": w.OTHER})))
    assert table.dtypes.to_dict() == full.dtypes.to_dict()


# ------------------------------------------------------------------ alerts


def test_alerts_of_drift_and_events():
    rows = weeks(6, week4={"score": 58.0, "thresholds": w.PAGE}, week5={"thresholds": w.OTHER})
    v = w.frame(rows)
    table = va.stability.alerts(
        drift=va.stability.over_time(v, columns="score"), events=va.stability.regime_changes(v)
    )
    assert table[["severity", "kind"]].values.tolist() == [
        ["critical", "drift"], ["warning", "regime_changed"],
    ]  # fmt: skip
    assert "score drifted in 2024-W23: PSI" in table["sentence"].iloc[0]
    assert "most in < 60" in table["sentence"].iloc[0]
    assert table["sentence_zh"].str.contains("[一-鿿]").all()
    assert table["starts_at"].iloc[0] == pd.Timestamp("2024-06-03")
    none = va.stability.alerts(drift=va.stability.drift(v, v))
    assert len(none) == 0
    assert none.dtypes.to_dict() == table.dtypes.to_dict()
    assert len(va.stability.alerts()) == 0


def calls(days=10, an_hour=40):
    start = dt.datetime(2024, 5, 5, 16, tzinfo=dt.UTC)
    rng = np.random.default_rng(3)
    return [
        w.row(
            f * 1000 + i,
            occurred_at=start + dt.timedelta(hours=f, seconds=i * 30),
            subject=f"s{f}-{i}",
        )
        for f in range(24 * days)
        for i in range(rng.poisson(an_hour))
    ]


def at(row):
    return row["occurred_at"] + dt.timedelta(hours=8)


def test_a_gap_a_rush_and_a_run_of_faults_are_each_one_alert():
    rows = [r for r in calls() if not (at(r).day == 9 and at(r).hour in (3, 4))]
    assert len(va.stability.alerts(volume=va.operations.volume(w.frame(calls())))) == 0
    rows += [
        w.row(900_000 + i, occurred_at=rows[0]["occurred_at"] + dt.timedelta(days=5, seconds=i))
        for i in range(200)
    ]
    for r in rows:
        if at(r).day == 12 and at(r).hour == 7:
            r.update(code=50500, result=None, score=None)
    table = va.stability.alerts(volume=va.operations.volume(w.frame(rows)))
    assert table["kind"].tolist() == ["gap", "faults", "volume"]
    assert table["severity"].tolist() == ["critical", "critical", "warning"]
    assert table["starts_at"].tolist() == [
        pd.Timestamp(at) for at in ("2024-05-09 03:00", "2024-05-12 07:00", "2024-05-11 00:00")
    ]
    assert "2024-05-09 03:00 – 2024-05-09 05:00" in table["sentence"].iloc[0]


def test_slow_hours_and_bursts():
    rows = calls(4, 200)
    for r in rows:
        if at(r).day == 8 and at(r).hour == 5:
            r["elapsed_ms"] = 150.0
    for i, r in enumerate(rows[:12]):
        r["subject"] = "one" if i < 7 else f"x{i}"
    v = w.frame(rows)
    table = va.stability.alerts(latency=va.operations.latency(v), bursts=va.attempts.bursts(v))
    assert table[["severity", "kind", "value"]].values.tolist() == [
        ["warning", "burst", 7.0], ["warning", "latency", 150.0],
    ]  # fmt: skip
    assert "7 calls of one subject" in table["sentence"].iloc[0]
    for r in rows:
        if at(r).day == 8 and at(r).hour == 6:
            r["result"] = False
    signals = va.stability.alerts(bursts=va.attempts.bursts(w.frame(rows), "rejects"))
    assert signals["starts_at"].tolist() == [pd.Timestamp("2024-05-08 06:00")]
    assert set(signals["kind"]) == {"out_of_control"}


# ------------------------------------------------------------------ engines


@pytest.mark.parametrize(
    "statistic",
    [
        lambda v: va.stability.drift(v, v, ["score", "risk_score", "elapsed_ms", "alive"]),
        lambda v: va.stability.over_time(v, "day", columns=["score", "elapsed_ms"]),
        va.stability.regime_changes,
    ],
    ids=["drift", "drift_over_time", "regime_changes"],
)
def test_every_engine_gives_the_same_frame(statistic):
    frames = w.engines(w.frame(OLD[:300]))
    first = statistic(frames.pop("pandas"))
    for engine, frame in frames.items():
        pd.testing.assert_frame_equal(first, statistic(frame), obj=engine)


def test_no_rows_are_a_frame_all_the_same():
    empty = w.frame(OLD).iloc[:0]
    assert len(va.stability.drift(empty, empty)) == 0
    assert len(va.stability.over_time(empty)) == 0
    assert len(va.stability.regime_changes(empty)) == 0
    one = va.stability.drift(w.frame(OLD), empty, "score")
    assert set(one["reason"]) == {"only_in_reference", "incomplete"}


# ------------------------------------------------------------------ values that crowd


@pytest.mark.parametrize("before", [0.95, 0.8])
def test_what_leaves_the_commonest_value_is_seen(before):
    old = [0.0] * round(100 * before) + [1.0] * round(100 * (1 - before))
    frames = [pd.DataFrame({"face_have_cap": side}) for side in (old, [0.0] * 50 + [1.0] * 50)]
    row = va.stability.drift(*frames, "face_have_cap").iloc[0]
    assert row["psi"] == pytest.approx(va.stability.psi([old.count(0), old.count(1)], [50, 50]).psi)
    assert row["alert"]


def test_one_value_that_moves_is_seen():
    frames = [pd.DataFrame({"face_clarity": [value] * 500}) for value in (1.0, 1.9)]
    row = va.stability.drift(*frames, "face_clarity").iloc[0]
    assert row["alert"]
    assert (row["ks"], row["wasserstein"]) == (1.0, pytest.approx(0.9))
    dark = [pd.DataFrame({"face_brightness": [value] * 500}) for value in (0.5, 0.05)]
    assert va.stability.drift(*dark, "face_brightness").iloc[0]["alert"]


def test_one_stray_value_hides_no_drift():
    rng = np.random.default_rng(2)
    old = np.r_[rng.random(2000), 1e6]
    for name in ("face_brightness", "face_pose_yaw"):
        frames = [pd.DataFrame({name: side}) for side in (old, rng.random(2000) / 3)]
        assert va.stability.drift(*frames, name).iloc[0]["psi"] > 1


def test_whole_numbers_with_gaps_are_taken_by_value_on_every_engine():
    rng = random.Random(1)
    sides = [
        w.frame([w.row(i) | {"ctx_flag": rng.choice([0, 1, 2, None])} for i in range(300)])
        for _ in range(2)
    ]
    tables = [
        va.stability.drift(old, new, "ctx_flag")
        for old, new in zip(*(w.engines(side).values() for side in sides), strict=True)
    ]
    assert tables[0]["bins"].iloc[0] == "0; 1; 2; other"
    for table in tables[1:]:
        pd.testing.assert_frame_equal(table, tables[0])


def test_the_word_unknown_is_a_value():
    frame = pd.DataFrame({"ctx_a": ["unknown"] * 10 + [None] * 10 + ["x"] * 10})
    row = va.stability.drift(frame, frame, "ctx_a").iloc[0]
    assert (row["n_missing_reference"], row["psi"]) == (10, 0.0)
    assert "unknown" in row["bins"]


# ------------------------------------------------------------------ nonsense


@pytest.mark.parametrize(
    "options",
    [
        {"edges": 3},
        {"edges": [None, 3]},
        {"edges": "abc"},
        {"edges": {"score": 5}},
        {"columns": 3},
        {"columns": "occurred_at"},
        {"columns": "risk_tags"},
        {"cluster": "usr"},
    ],
)
def test_nonsense_asked_of_drift_is_refused(options):
    v = w.frame(OLD)
    with pytest.raises(UsageError):
        va.stability.drift(v, v, **({"columns": "score"} | options))


@pytest.mark.parametrize("options", [{"every": None}, {"every": "hour"}, {"reference": "unknown"}])
def test_nonsense_asked_of_drift_over_time_is_refused(options):
    with pytest.raises(UsageError):
        va.stability.over_time(w.frame(OLD), **options)


def test_a_partial_period_is_no_reference():
    v = w.frame([w.row(i, occurred_at=w.START + dt.timedelta(hours=i)) for i in range(500)])
    table = va.stability.over_time(v, reference="first", columns="score")
    partial = table.loc[table["partial"], "period"].iloc[0]
    with pytest.raises(UsageError, match="no whole period"):
        va.stability.over_time(v, reference=partial, columns="score")


@pytest.mark.parametrize("name", ["drift", "events", "volume", "latency", "bursts"])
@pytest.mark.parametrize("table", [pd.DataFrame({"x": [1]}), "frame", [1]])
def test_a_table_of_another_kind_raises_no_alert(name, table):
    with pytest.raises(UsageError):
        va.stability.alerts(**{name: table})


# ------------------------------------------------------------------ weekends


@pytest.mark.parametrize("every", ["day", "hour"])
def test_half_the_calls_on_weekends_are_no_alert(every):
    rng = np.random.default_rng(3)
    start = pd.Timestamp("2024-05-06", tz="Asia/Shanghai")
    rows = []
    for hour in pd.date_range(start, periods=24 * 7 * 6, freq="h"):
        mean = 30 if hour.day_of_week > 4 else 60
        stamps = hour + pd.to_timedelta(np.sort(rng.integers(0, 3600, rng.poisson(mean))), unit="s")
        rows += stamps.tolist()
    v = pd.DataFrame({"occurred_at": rows}).assign(
        code=10000, gateway_code=None, elapsed_ms=None, result=True, score=90.0
    )
    table = va.stability.alerts(volume=va.operations.volume(v, every=every))
    assert table.empty, table["sentence"].tolist()
