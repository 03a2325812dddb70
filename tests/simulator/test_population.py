"""The population: retries, tags, attacks, regimes and times follow the world's parameters."""

from __future__ import annotations

import datetime as dt
import hashlib
import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from builders.worlds import ONLY_NONMATED

from verifyanalytics.simulator import (
    SPECIES,
    TAGS,
    World,
    simulate_responses,
)
from verifyanalytics.simulator.population import BLOCK_ROWS, Draw


def test_attempts_of_one_impostor_are_as_alike_as_asked():
    def correlation(rho):
        simulation = simulate_responses(
            40_000, seed=3, impostor_attempts=4, impostor_correlation=rho, **ONLY_NONMATED
        )
        truth = simulation.truth
        wide = truth.pivot_table(index="session", columns="attempt", values="hidden_score")
        wide = wide.dropna().astype("float64")
        ranks = wide.rank()
        return ranks[0].corr(ranks[3]), truth.groupby("session").size().max()

    assert abs(correlation(0.0)[0]) < 0.04
    assert correlation(0.8)[0] == pytest.approx(0.8, abs=0.05)
    same, attempts = correlation(1.0)
    assert same > 0.9999
    assert attempts == 4


def test_impostors_try_as_often_whatever_comes_back():
    simulation = simulate_responses(
        30_000, seed=3, impostor_share=0.3, impostor_attempts=5, retry_share=0.0
    )
    truth = simulation.truth
    attempts = truth[~truth["mated"]].query("attack.isna()").groupby("session").size()
    owners = truth[truth["mated"]].groupby("session").size()
    assert (attempts == 5).mean() > 0.995  # the last ones are cut by the end of a block
    assert owners.max() == 1


def test_retries_follow_rejections_only(usual):
    frame = usual.table(["result", "occurred_at", "subject"]).to_pandas()
    frame[["session", "attempt", "mated"]] = usual.truth[["session", "attempt", "mated"]]
    last = {}
    n_retried = n_rejected = 0
    for row in frame[frame["mated"]].itertuples():
        before = last.get(row.session)
        if row.attempt:
            assert before is not None
            assert before.attempt == row.attempt - 1
            assert before.result is not True
            gap = (row.occurred_at - before.occurred_at).total_seconds()
            assert 15 <= gap <= 75
            assert before.subject == row.subject
            n_retried += 1
        n_rejected += row.result is not True and row.attempt < 3
        last[row.session] = row
    assert n_retried / n_rejected == pytest.approx(0.6, abs=0.02)


def test_marker_tag_doubles_the_attack_rate():
    simulation = simulate_responses(200_000, seed=4, attack_share=0.05, retry_share=0.0)
    tags = simulation.table(["risk_tags"])["risk_tags"].to_pylist()
    attack = simulation.truth["attack"].notna()
    rates = {}
    for marked in (True, False):
        rows = [a for a, t in zip(attack, tags, strict=True) if t is not None]
        of = [("14010" in t) == marked for t in tags if t is not None]
        hit = [a for a, m in zip(rows, of, strict=True) if m]
        rates[marked] = sum(hit) / len(hit)
    assert rates[True] / rates[False] == pytest.approx(2.0, rel=0.08)


def test_tags_of_a_group_come_together_and_keep_their_rates():
    def joint(ties):
        frame = simulate_responses(
            100_000, seed=6, tag_ties=ties, retry_share=0.0, risk_absent=0.0
        ).table(["risk_tags"])
        sets = [set(t) for t in frame["risk_tags"].to_pylist() if t is not None]
        rates = {tag.code: sum(tag.code in s for s in sets) / len(sets) for tag in TAGS}
        both = sum({"14010", "13001"} <= s for s in sets) / len(sets)
        return rates, both / (rates["14010"] * rates["13001"])

    tied, free = joint(0.8), joint(0.0)
    for tag in TAGS:
        assert tied[0][tag.code] == pytest.approx(tag.rate, abs=0.003)
        assert free[0][tag.code] == pytest.approx(tag.rate, abs=0.003)
    assert free[1] == pytest.approx(1.0, abs=0.25)
    assert tied[1] > 5


def test_risk_score_is_that_of_the_worst_tag(usual):
    severity = {tag.code: tag.severity for tag in TAGS}
    frame = usual.table(["risk_score", "risk_tags"]).to_pylist()
    assert {row["risk_score"] for row in frame} == {None, 0, 300, 600, 900}
    for row in frame:
        if row["risk_tags"] is not None:
            assert row["risk_score"] == max([severity[t] for t in row["risk_tags"]], default=0)
        else:
            assert row["risk_score"] is None


def test_result_follows_the_rule_and_the_unwritten_one(usual):
    unwritten = despite = 0
    for row in usual.table().to_pylist():
        if row["result"] is None:
            assert row["code"] not in (10000, 50215)
            continue
        bar = row["threshold_1e_4"]
        if row["req_key"] == "cert_pro_no_src_verify" and bar is not None:
            bar = max(bar, 90)
        gates = row["score"] is not None and row["score"] >= bar and row["alive"]
        gates = bool(gates and (row["risk_score"] is None or row["risk_score"] < 900))
        hidden = row["risk_tags"] is not None and "14004" in row["risk_tags"]
        assert row["result"] == (gates and not hidden)
        unwritten += gates and hidden
        despite += row["alive"] is False and row["score"] is not None
    assert unwritten > 100
    assert despite > 100


def test_attacks_show_the_owner_and_liveness_sees_some():
    simulation = simulate_responses(
        60_000, seed=8, attack_share=1.0, attack_lift=1.0, impostor_share=0.0
    )
    alive = simulation.table(["alive"])["alive"].to_pylist()
    passed = defaultdict(list)
    for species, live in zip(simulation.truth["attack"], alive, strict=True):
        if live is not None:
            passed[species].append(live)
    assert set(passed) == {s.name for s in SPECIES}
    for species in SPECIES:
        share = sum(passed[species.name]) / len(passed[species.name])
        assert share == pytest.approx(1 - species.detected, abs=0.02)
    assert simulation.truth["hidden_score"].astype("float64").median() > 80


def test_withheld_scores_are_below_the_own_threshold():
    simulation = simulate_responses(60_000, seed=8, impostor_share=0.3, withheld_share=0.5)
    frame = simulation.table(["score", "sub_code", "threshold_1e_4"]).to_pylist()
    withheld = shown = 0
    for row, hidden in zip(frame, simulation.truth["hidden_score"], strict=True):
        if row["sub_code"] in (210311, 210313):
            assert row["score"] is None
            assert hidden < row["threshold_1e_4"]
            withheld += 1
        elif row["score"] is not None:
            assert row["score"] == hidden
            shown += row["score"] < row["threshold_1e_4"]
    assert withheld / (withheld + shown) == pytest.approx(0.5, abs=0.02)


def test_dark_images_cost_points_and_a_bad_week_too():
    simulation = simulate_responses(
        120_000, seed=9, impostor_share=0.0, attack_share=0.0, drift_week=5, drift_points=10.0
    )
    truth = simulation.truth
    scores = truth["hidden_score"].astype("float64")
    brightness = simulation.table(["face_brightness"])["face_brightness"].to_pylist()
    for dark, value in zip(truth["dark"], brightness, strict=True):
        assert value is None or (value < 0.08) == dark
    dark = truth["dark"].astype(bool)
    assert scores[~dark].median() - scores[dark].median() == pytest.approx(8, abs=1)
    at = simulation.table(["occurred_at"])["occurred_at"].to_pandas()
    week = (at - dt.datetime(2024, 3, 31, 16, tzinfo=dt.UTC)).dt.days // 7
    medians = scores.groupby(week.to_numpy()).median()
    # a week's medians differ by chance only, except the one
    assert medians.drop([5, 13], errors="ignore").std() < 0.5
    assert medians.drop([5, 13], errors="ignore").mean() - medians[5] == pytest.approx(10, abs=1)


def test_null_world_relates_nothing():
    simulation = simulate_responses(60_000, seed=1, world=World.null())
    truth = simulation.truth
    scores = truth["hidden_score"].astype("float64")
    table = simulation.table(["risk_tags", "ctx_channel", "face_brightness"]).to_pandas()
    first = truth["attempt"] == 0
    spread = scores[first].std()
    for flag in (truth["dark"], truth["blurred"], table["ctx_channel"] == "h5"):
        there = flag.to_numpy(bool)
        chosen, others = scores[first & there], scores[first & ~there]
        assert abs(chosen.mean() - others.mean()) < 4 * spread / math.sqrt(len(chosen))
    assert truth["attack"].isna().all()
    assert simulation.table(["threshold_1e_3"])["threshold_1e_3"].to_pandas().nunique() == 1


def test_regimes_change_once_at_the_switch(usual):
    frame = usual.table(["occurred_at", "threshold_1e_4", "code"]).to_pylist()
    last_before = max(r["occurred_at"] for r in frame if r["threshold_1e_4"] == 70)
    first_after = min(r["occurred_at"] for r in frame if r["threshold_1e_4"] == 72)
    # a session keeps the thresholds it began with
    assert last_before - first_after < dt.timedelta(minutes=5)
    half = dt.datetime(2024, 3, 31, 16, tzinfo=dt.UTC) + dt.timedelta(days=45.5)
    assert abs(first_after - half) < dt.timedelta(days=1)


def test_every_kind_of_reply_occurs(usual):
    frame = usual.table(["code", "gateway_code", "sub_code", "http_status"]).to_pylist()
    codes = Counter(row["code"] for row in frame)
    assert {10000, 50215, 50500, 50501, 50429, 50430, 50400, None} == set(codes)
    assert {"FlowLimitExceeded", "InternalError", "SignatureDoesNotMatch"} <= {
        row["gateway_code"] for row in frame
    }
    assert {0, 210311, 210313, 210312, 210702, 210302, 210305, 210207, 201403} <= {
        row["sub_code"] for row in frame
    }
    assert {200, 400, 401, 429, 500} == {row["http_status"] for row in frame}


def test_period_is_filled_by_day_and_night(usual):
    at = usual.table(["occurred_at"])["occurred_at"].to_pandas().dt.tz_convert("Asia/Shanghai")
    assert at.min() < dt.datetime(2024, 4, 1, 2, tzinfo=at.dt.tz)
    assert at.min() >= dt.datetime(2024, 4, 1, tzinfo=at.dt.tz)
    assert abs(at.max() - dt.datetime(2024, 7, 1, tzinfo=at.dt.tz)) < dt.timedelta(days=2)
    hours = at.dt.hour.value_counts()
    assert hours[20] > 5 * hours[3]
    assert hours.min() > 0


def test_request_ids_and_tokens_are_unique_over_blocks():
    simulation = simulate_responses(3 * BLOCK_ROWS + 5, seed=3)
    table = simulation.table(["request_id", "token", "occurred_at"])
    assert table.num_rows == 3 * BLOCK_ROWS + 5
    for name in ("request_id", "token"):
        assert len(table[name].unique()) == table.num_rows
    times = table["occurred_at"].to_numpy()
    for first in range(0, len(times), BLOCK_ROWS):
        block = times[first : first + BLOCK_ROWS]
        assert (np.diff(block) >= np.timedelta64(0)).all()


def test_numbers_are_those_of_splitmix64():
    # the published generator, in Python's own integers
    def splitmix64(x):
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
        return x ^ (x >> 31)

    key = int.from_bytes(hashlib.blake2b(b"9\0name", digest_size=8).digest(), "little")
    expected = [splitmix64((key + i * 0x9E3779B97F4A7C15) % 2**64) for i in (0, 1, 2**40)]
    assert Draw(9).bits("name", np.array([0, 1, 2**40])).tolist() == expected
    u = Draw(9).uniform("name", np.arange(100_000))
    assert 0 < u.min() < u.max() < 1
    assert abs(u.mean() - 0.5) < 0.005
