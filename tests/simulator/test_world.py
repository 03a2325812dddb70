"""The world: the vendor's claim holds by construction; rates are those of the rows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from builders.worlds import ONLY_NONMATED

from verifyanalytics.errors import UsageError
from verifyanalytics.simulator import (
    World,
    claimed_fmr,
    simulate_responses,
)
from verifyanalytics.simulator.world import nonmated_scores


def two_decimals(scores):
    return np.floor(scores * 100).astype(np.int64)


@pytest.mark.parametrize("k", [0.5, 1.0, 3.0, 10.0])
@pytest.mark.parametrize("thresholds", [(60, 70, 80, 90), (55.5, 66, 77.25, 91), (62, 72, 82, 92)])
def test_impostors_reach_each_score_exactly_as_often_as_claimed(k, thresholds):
    # a grid of uniform numbers instead of a sample: the shares are then exact up to one step
    n = 4_000_000
    u = (np.arange(n) + 0.5) / n
    scores = two_decimals(nonmated_scores(u, thresholds, k))
    for tenth in range(int(thresholds[0] * 10), 1000, 7):
        score = max(tenth / 10, thresholds[0])
        if score <= thresholds[3]:
            below = max(i for i in range(3) if thresholds[i] <= score)
            part = (score - thresholds[below]) / (thresholds[below + 1] - thresholds[below])
            claimed = 10 ** -(3 + below + part)
        else:
            claimed = 10 ** -(6 + (score - thresholds[3]) / (thresholds[3] - thresholds[2]))
        reached = int((scores >= round(score * 100)).sum())
        assert abs(reached - k * claimed * n) <= 1.0001


@pytest.mark.parametrize("k", [1.0, 3.0])
def test_rounding_moves_no_score_over_a_threshold(k):
    for level, threshold in zip((1e-3, 1e-4, 1e-5, 1e-6), (60, 70, 80, 90), strict=True):
        below, above = level * k * (1 - 1e-9), level * k * (1 + 1e-9)
        scores = two_decimals(nonmated_scores([below, above], (60, 70, 80, 90), k))
        assert scores[0] >= threshold * 100 > scores[1]


def test_body_meets_the_tail_in_value_and_slope():
    world = World(k=2.0)
    assert world.fmr(60 - 1e-9) == pytest.approx(world.fmr(60), rel=1e-6)
    left = math.log10(world.fmr(60 - 1e-4)) - math.log10(world.fmr(60 - 2e-4))
    right = math.log10(world.fmr(60 + 2e-4)) - math.log10(world.fmr(60 + 1e-4))
    assert left == pytest.approx(right, rel=1e-3)
    assert world.fmr(0) == 1.0
    assert world.fmr(70) == pytest.approx(2e-4)
    assert world.fmr(72, after=True) == pytest.approx(2e-4)


def test_fmr_of_the_world_is_that_of_its_rows():
    simulation = simulate_responses(200_000, seed=5, k=10.0, withheld_share=0.5, **ONLY_NONMATED)
    scores = simulation.truth["hidden_score"].to_numpy()
    for threshold in (20, 40, 60, 65, 70, 75):
        expected = simulation.world.fmr(threshold) * len(scores)
        assert abs((scores >= threshold).sum() - expected) < 5 * math.sqrt(expected) + 1


def test_claimed_rate_says_nothing_below_its_first_point():
    assert math.isnan(claimed_fmr(59.99, (60, 70, 80, 90)))
    assert claimed_fmr(95, (60, 70, 80, 90)) == pytest.approx(10**-6.5)


def test_fnmr_of_the_world_is_that_of_first_attempts():
    simulation = simulate_responses(150_000, seed=2, impostor_share=0.0, attack_share=0.0)
    truth = simulation.truth
    first = truth[truth["attempt"] == 0]["hidden_score"].to_numpy()
    for threshold in (60, 70, 80, 90):
        expected = simulation.world.fnmr(threshold)
        error = math.sqrt(expected * (1 - expected) / len(first))
        # persons return: allow for their correlation
        assert abs((first < threshold).mean() - expected) < 6 * error
    assert simulation.world.fnmr(0) < 1e-9 or simulation.world.fnmr(0) < simulation.world.fnmr(1)
    assert simulation.world.fnmr(150) == 1.0


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"impostor_share": 1.5}, r"impostor_share is 1.5; it must lie in \[0, 1\]"),
        ({"k": 0}, "k is 0"),
        ({"max_attempts": 16}, "max_attempts"),
        ({"thresholds": (60, 70, 70, 90)}, "four rising scores"),
        ({"thresholds": (60, 70, 80)}, "four rising scores"),
        ({"thresholds_after": (60.001, 70, 80, 90)}, "two decimals"),
        ({"labelled": "some"}, "none, all, random"),
        ({"marker_tag": "1"}, "marker_tag"),
        ({"impostor_share": 0.6, "attack_share": 0.6}, "together exceed 1"),
        ({"attack_detected": 2}, "attack_detected"),
        ({"attack_share": 0.5, "attack_lift": 500.0}, "too large for these shares"),
        ({"imposter_share": 0.5}, "no parameter imposter_share of a world; there are: acquire"),
        ({"image_bytes": -1}, "image_bytes"),
        ({"k": math.nan}, "k is nan"),
    ],
)
def test_parameters_out_of_range_are_refused(parameters, said):
    with pytest.raises(UsageError, match=said):
        simulate_responses(1, **parameters)
