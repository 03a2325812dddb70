"""Changes, volume and latency against plain loops."""

import datetime as dt
import math

import numpy as np
import pandas as pd
import pytest
from builders import frames as w

import verifyanalytics as va
from verifyanalytics.analysis.base import intervals as iv
from verifyanalytics.analysis.verdicts import changes as c
from verifyanalytics.errors import MissingColumnError, UsageError

OLD, NEW = w.messy(400, 1), w.messy(600, 2)


def part_of(r):
    if r["result"]:
        return "accepted"
    first = w.first_gate(r)
    return "unexplained" if first == "none" else first


def test_kitagawa_against_a_loop():
    table = c.change_explained(w.frame(OLD), w.frame(NEW), "req_key")
    decided = [[r for r in rows if r["result"] is not None] for rows in (OLD, NEW)]
    groups = sorted({r["req_key"] or "unknown" for r in OLD + NEW})
    parts = list(dict.fromkeys(table["part"]))
    for part in parts:
        total = 0.0
        for group in groups:
            mine = [[r for r in d if (r["req_key"] or "unknown") == group] for d in decided]
            w0, w1 = (len(m) / len(d) for m, d in zip(mine, decided, strict=True))
            r0, r1 = (sum(part_of(r) == part for r in m) / len(m) for m in mine)
            got = table[(table["req_key"] == group) & (table["part"] == part)].iloc[0]
            assert got["mix"] == pytest.approx((w1 - w0) * (r0 + r1) / 2)
            assert got["rate"] == pytest.approx((w0 + w1) / 2 * (r1 - r0))
            total += got["change"]
        rates = [sum(part_of(r) == part for r in d) / len(d) for d in decided]
        everything = table[(table["req_key"] == "all") & (table["part"] == part)].iloc[0]
        assert everything["change"] == pytest.approx(rates[1] - rates[0]) == pytest.approx(total)
    total = table[table["req_key"] == "all"].set_index("part")["change"]
    assert total.sum() == pytest.approx(0.0)


def test_a_pure_change_of_who_came_is_all_mix():
    def rows(n_web):
        found = [w.row(i, req_key="a", result=i % 2 == 0) for i in range(100 - n_web)]
        return found + [w.row(200 + i, req_key="b") for i in range(n_web)]

    table = c.change_explained(w.frame(rows(20)), w.frame(rows(80)), ["req_key"])
    top = table.iloc[0]
    assert top["change"] == pytest.approx(top["mix"]) == pytest.approx(0.3)
    assert top["says"] == "changed"
    assert [top["change_low"], top["change_high"]] == pytest.approx(
        [*iv.newcombe(90, 100, 60, 100)]
    )


def test_a_group_of_one_period_is_all_mix():
    old = [w.row(i, req_key="a") for i in range(10)]
    new = old + [w.row(50 + i, req_key="b", result=False, alive=False) for i in range(10)]
    table = c.change_explained(w.frame(old), w.frame(new), "req_key")
    got = table[(table["req_key"] == "b") & (table["part"] == "accepted")].iloc[0]
    assert (got["rate"], got["mix"]) == (0.0, 0.0)
    assert math.isnan(got["rate_previous"])
    assert table.iloc[0]["change"] == pytest.approx(-0.5)
    alive = table[(table["req_key"] == "all") & (table["part"] == "alive")].iloc[0]
    assert alive["change"] == pytest.approx(0.5)


def test_the_group_of_unknown_ones_has_a_name():
    table = c.change_explained(w.frame(OLD), w.frame(NEW), "alive")
    assert set(table["alive"]) == {"all", "True", "False", "unknown"}
    unknown = table[(table["alive"] == "unknown") & (table["part"] == "accepted")]
    decided = [r for r in OLD if r["alive"] is None and r["result"] is not None]
    assert unknown["n_previous"].tolist() == [len(decided)]


def test_no_evidence_of_change_says_so():
    table = c.change_explained(w.frame(OLD), w.frame(OLD), "regime")
    assert table.iloc[0]["says"] == "no evidence of change"
    assert np.abs(table["change"]).max() == 0.0


def test_minimal_change_is_two_point_eight_standard_errors_of_a_difference():
    table = c.minimal_change(w.frame(OLD)).set_index(["measure", "regime"])
    decided = [r for r in OLD if r["result"] is not None]
    people = {}
    for r in decided:
        people.setdefault(r["subject"] or r["request_id"], []).append(r["result"])
    n, p = len(decided), sum(r["result"] for r in decided) / len(decided)
    var = sum((sum(x) - p * len(x)) ** 2 for x in people.values()) * len(people)
    deff = max(1.0, var / (len(people) - 1) / n**2 / (p * (1 - p) / n))
    got = table.loc[("acceptance_rate", "all")]
    assert (got["n_rows"], got["n_subjects"]) == (n, len(people))
    assert got["deff"] == pytest.approx(deff)
    assert got["minimal_change"] == pytest.approx(2.8 * math.sqrt(2 * p * (1 - p) * deff / n))
    regime = "cert_pro_src_verify 60/70/80/90"
    compared = [r for r in OLD if w.regime(r) == regime and (w.is_scored(r) or w.is_withheld(r))]
    assert table.loc[("match_rate", regime), "n_rows"] == len(compared)
    alone = c.minimal_change(w.frame(OLD), cluster=None)
    assert (alone["deff"] == 1.0).all()


def test_a_change_of_that_size_is_found_eight_times_in_ten():
    n, p = 2000, 0.8
    rows = [w.row(i, result=i < n * p) for i in range(n)]
    smallest = c.minimal_change(w.frame(rows)).iloc[0]["minimal_change"]
    rng = np.random.default_rng(7)
    x0, x1 = rng.binomial(n, p, 4000), rng.binomial(n, p - smallest, 4000)
    low, high = iv.newcombe(x1, n, x0, n)
    assert 0.76 < np.mean((low > 0) | (high < 0)) < 0.86


@pytest.mark.parametrize("verdict", [True, False])
def test_where_all_rows_have_one_verdict_no_smallest_change_is_named(verdict):
    table = c.minimal_change(w.frame([w.row(i, result=verdict) for i in range(50)]))
    accepted = table[table["measure"] == "acceptance_rate"]
    assert (accepted["rate"] == verdict).all()
    assert accepted["minimal_change"].isna().all()


def local_hour(r):
    if r["occurred_at"] is None:
        return None
    return (r["occurred_at"] + dt.timedelta(hours=8)).replace(
        minute=0, second=0, microsecond=0, tzinfo=None
    )


def test_volume_counts_calls_by_the_local_hour():
    table = va.operations.volume(w.frame(OLD))
    got = {None if pd.isna(t) else t.to_pydatetime(): i for i, t in enumerate(table["starts_at"])}
    assert set(got) == {local_hour(r) for r in OLD}
    for hour, i in got.items():
        mine = [r for r in OLD if local_hour(r) == hour]
        row = table.iloc[i]
        assert row["n_calls"] == len(mine)
        assert row["n_faults"] == sum(not w.is_answered(r) for r in mine)
        assert row["n_accepted"] == sum(r["result"] is True for r in mine)


def test_an_outage_is_hours_without_a_call():
    at = [0, 1, 2, 7, 8]
    rows = [w.row(i, occurred_at=w.START + dt.timedelta(hours=h)) for i, h in enumerate(at)]
    assert va.operations.volume(w.frame(rows))["n_empty_before"].tolist() == [0, 0, 0, 4, 0]
    assert va.operations.volume(w.frame(rows), every="day")["n_calls"].tolist() == [5]


def test_latency_percentiles():
    rows = [w.row(i, elapsed_ms=float(i)) for i in range(101)] + [w.row(200, elapsed_ms=None)]
    got = va.operations.latency(w.frame(rows), every=None).iloc[0]
    assert got.to_dict() == {
        "n_timed": 101, "n_untimed": 1, "p50_ms": 50.0, "p95_ms": 95.0, "p99_ms": 99.0,
        "max_ms": 100.0,
    }  # fmt: skip
    by_day = va.operations.latency(w.frame(OLD), every="day", by="req_key")
    assert by_day["n_timed"].sum() == sum(r["elapsed_ms"] is not None for r in OLD)


def test_latency_is_split_by_what_may_be_null():
    """True, false, numbers, and the word that stands for null: every group once, on any engine."""
    for key in ("alive", "risk_score", "req_key"):
        rows = [r | {"req_key": r["req_key"] and "unknown"} if i % 3 else r
                for i, r in enumerate(OLD[:120])]  # fmt: skip
        groups = {}
        for r in rows:
            name = "unknown" if key == "req_key" and r[key] is None else r[key]
            groups.setdefault(name, []).append(r["elapsed_ms"])
        for engine, v in w.engines(w.frame(rows)).items():
            table = va.operations.latency(v, every=None, by=key)
            names = [None if pd.isna(x) else x for x in table[key]]
            assert len(names) == len(groups), (engine, key)
            for name, n, p95 in zip(names, table["n_timed"], table["p95_ms"], strict=True):
                timed = [x for x in groups[name] if x is not None]
                assert n == len(timed), (engine, key)
                assert p95 == pytest.approx(np.percentile(timed, 95)), (engine, key)


@pytest.mark.parametrize("engine", ["pandas_numpy", "arrow", "polars", "polars_lazy", "duckdb"])
def test_every_engine_gives_the_same_frame(engine):
    pandas, current = w.frame(OLD[:200]), w.frame(NEW[:100])
    other = w.engines(pandas)[engine]
    for statistic in (
        lambda v: c.change_explained(v, current, ["req_key", "alive"]),
        c.minimal_change,
        va.operations.volume,
        lambda v: va.operations.latency(v, by="req_key"),
    ):
        pd.testing.assert_frame_equal(statistic(other), statistic(pandas))


def test_nonsense_is_refused():
    frame = w.frame(OLD)
    with pytest.raises(UsageError, match="needs by="):
        c.change_explained(frame, frame, [])
    with pytest.raises(UsageError, match="the current period has no row with a verdict"):
        c.change_explained(frame, w.frame([w.row(0, result=None)]), "req_key")
    with pytest.raises(UsageError, match="no step"):
        va.operations.volume(frame, every="minute")
    with pytest.raises(UsageError, match="no time zone"):
        va.operations.volume(frame, tz="Mars")
    with pytest.raises(UsageError, match="by occurred_at"):
        va.operations.volume(frame, by="occurred_at")
    with pytest.raises(UsageError, match="risk_tags holds lists"):
        va.operations.latency(frame, by="risk_tags")
    with pytest.raises(UsageError, match="by result: this table has that column"):
        c.change_explained(frame, frame, "result")
    with pytest.raises(UsageError, match="a column has a name"):
        c.minimal_change(frame, cluster=5)
    with pytest.raises(MissingColumnError, match="elapsed_ms"):
        va.operations.latency(frame.drop(columns="elapsed_ms"))
