"""Tags, quality and drift in worlds whose truth is known: power, coverage, and false alarms.

Nightly 200 worlds each; by default a fixed few, enough to notice that something broke.
"""

from __future__ import annotations

import datetime as dt
import os

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import verifyanalytics as va
from verifyanalytics.simulator import Simulation, World

NIGHTLY = os.environ.get("VERIFYANALYTICS_NIGHTLY") == "1"
WORLDS = 200 if NIGHTLY else 6
FALSE_ALARMS = 18 if NIGHTLY else 2
"""Of `WORLDS`; chance alone gives 5 % of them, and 18 of 200 or more with probability 0.02."""

ROW = (
    "request_id", "occurred_at", "req_key", "code", "gateway_code", "sub_code", "score",
    "threshold_1e_3", "threshold_1e_4", "threshold_1e_5", "threshold_1e_6", "subject",
)  # fmt: skip
TAGS = (*ROW, "risk_score", "risk_tags")
MEASURES = ("comprehensive_score", "clarity", "brightness", "exposure")
IMAGES = (*ROW, *(f"face_{m}" for m in MEASURES))
MARKER, MARKER_RATE = "14010", 0.05

ONCE = World.null(attack_share=0.02, attack_lift=2.0, retry_share=0.0)
THRICE = {"people_share": 1 / 3}


def enough(successes, share):
    """At least `share` of the worlds, less what chance may cost one time in a thousand."""
    return successes >= stats.binom.ppf(0.001, WORLDS, share)


def with_attacks(n, seed, world):
    """Rows with the species of attack, and `mated` for the others, as an audit would know it."""
    simulation = Simulation(n, seed, world)
    v, truth = simulation.table(TAGS).to_pandas(), simulation.truth
    return v.assign(attack=truth["attack"].to_numpy(), mated=truth["mated"].to_numpy())


# ------------------------------------------------------------------ tags


def test_a_tag_that_doubles_the_attack_rate_is_found_first():
    first = covered = 0
    true_lift = 2 / (1 + MARKER_RATE)
    for seed in range(WORLDS):
        table = va.tag_lift(with_attacks(40_000, seed, ONCE), "attack")
        row = table[table["tag"] == MARKER].iloc[0]
        first += table["tag"].iloc[0] == MARKER and row["significant"]
        covered += row["lift_low"] <= true_lift <= row["lift_high"]
    assert enough(first, 0.90), first
    assert enough(covered, 0.93), covered


@pytest.mark.parametrize("clustering", [{}, THRICE], ids=["usual", "three_rows_each"])
def test_no_tag_is_called_significant_where_none_is(clustering):
    alarms = 0
    for seed in range(WORLDS):
        v = Simulation(5_000, seed, World.null(**clustering)).table(TAGS)
        alarms += va.tag_lift(v)["significant"].any()
    assert alarms <= FALSE_ALARMS, alarms


def test_rows_sent_three_times_raise_no_more_alarms():
    alarms = 0
    for seed in range(WORLDS):
        v = Simulation(2_000, seed, World.null()).table(TAGS).to_pandas()
        thrice = pd.concat([v.assign(request_id=v["request_id"] + f"-{k}") for k in range(3)])
        alarms += va.tag_lift(thrice)["significant"].any()
    assert alarms <= FALSE_ALARMS, alarms


# ------------------------------------------------------------------ quality


def dark_difference():
    """P(non-match | dark) − P(non-match | not dark) among graded rows, from a large simulation."""
    v = Simulation(400_000, 1_000_003, World()).table(IMAGES).to_pandas()
    withheld = v["score"].isna() & v["sub_code"].isin([210311, 210313])
    known = (v["score"].notna() & v["threshold_1e_4"].notna()) | withheld
    v = v[known & v["face_brightness"].notna()]
    fails = v["score"].isna() | (v["score"] < v["threshold_1e_4"])
    dark = v["face_brightness"] < 0.08
    return fails[dark].mean() - fails[~dark].mean()


def test_dark_images_that_cost_eight_points_are_found_first():
    truth, first, covered = dark_difference(), 0, 0
    for seed in range(WORLDS):
        table = va.quality_coaching(Simulation(20_000, seed, World()).table(IMAGES))
        row = table[table["measure"] == "brightness"].iloc[0]
        first += table["measure"].iloc[0] == "brightness" and row["significant"]
        # the interval is that of the cut that was chosen; nearly always the vendor's
        covered += not row["documented"] or row["difference_low"] <= truth <= row["difference_high"]
    assert enough(first, 0.90), first
    assert enough(covered, 0.93), covered


@pytest.mark.parametrize("clustering", [{}, THRICE], ids=["usual", "three_rows_each"])
def test_no_limit_is_advised_where_quality_costs_nothing(clustering):
    alarms = 0
    for seed in range(WORLDS):
        v = Simulation(5_000, seed, World.null(**clustering)).table(IMAGES)
        alarms += va.quality_coaching(v)["significant"].any()
    assert alarms <= FALSE_ALARMS, alarms


# ------------------------------------------------------------------ drift


def test_a_change_of_regime_in_week_seven_is_found_where_it_was():
    world = World(switch_at=7 / 13)
    true_at = pd.Timestamp(world.start, tz="Asia/Shanghai") + dt.timedelta(days=49)
    found = 0
    for seed in range(WORLDS):
        table = va.regime_changes(Simulation(6_000, seed, world).table(ROW))
        held = table["changed_from"] <= true_at
        held &= table["changed_to"] >= true_at - pd.Timedelta(hours=1)  # attempts follow a session
        found += len(table) == 2 and set(table["kind"]) == {"changed"} and held.all()
    assert enough(found, 0.93), found


def test_a_week_of_lower_scores_is_the_first_alert():
    first = 0
    for seed in range(WORLDS):
        v = Simulation(12_000, seed, World.null(drift_week=6, drift_points=8)).table(ROW)
        table = va.drift_over_time(v, columns="score")
        worst = table.loc[table["psi"].idxmax()]
        first += worst["alert"] and worst["period"] == "2024-W20"
    assert enough(first, 0.90), first


@pytest.mark.parametrize("clustering", [{}, THRICE], ids=["usual", "three_rows_each"])
def test_two_halves_of_a_world_without_drift_raise_no_alert(clustering):
    alarms = 0
    for seed in range(WORLDS):
        v = Simulation(3_000, seed, World.null(**clustering)).table(TAGS)
        alarms += va.drift(v.slice(0, 1_500), v.slice(1_500))["alert"].any()
    assert alarms <= FALSE_ALARMS, alarms


def test_the_critical_value_holds_for_persons_with_several_rows():
    """The PSI of small samples of a null world stays below its critical value in 95 %."""
    beyond = n_tests = 0
    for seed in range(WORLDS):
        v = Simulation(1_200, seed, World.null(**THRICE)).table(ROW)
        table = va.drift(v.slice(0, 600), v.slice(600), "score")
        told = table[table["psi"].notna()]
        beyond += int((told["psi"] > told["critical"]).sum())
        n_tests += len(told)
    assert beyond <= stats.binom.ppf(0.999, n_tests, 0.05), (beyond, n_tests)
    assert np.isfinite(n_tests)


@pytest.mark.nightly
def test_weeks_of_a_world_without_drift_raise_no_alert():
    alarms = 0
    for seed in range(WORLDS):
        v = Simulation(16_000, seed, World.null()).table(TAGS)
        alarms += len(va.alerts(drift=va.drift_over_time(v))) > 0
    assert alarms <= FALSE_ALARMS, alarms
