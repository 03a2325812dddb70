"""Intervals against figures that somebody else computed or published."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from verifyanalytics.analysis.base import intervals as iv
from verifyanalytics.errors import UsageError

GOLDEN = Path(__file__).parents[2] / "data" / "golden"


def golden(name):
    return json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


SINGLE = golden("proportion")["single"]


@pytest.mark.parametrize("case", SINGLE, ids=lambda c: f"{c['x']}/{c['n']}")
def test_wilson_and_clopper_pearson_are_those_of_statsmodels(case):
    assert iv.wilson(case["x"], case["n"]) == pytest.approx(case["wilson"], abs=1e-14)
    assert iv.clopper_pearson(case["x"], case["n"]) == pytest.approx(case["beta"], abs=1e-12)


def test_clopper_pearson_is_that_of_bob_measure():
    for fraction, limits in golden("bob_measure")["clopper_pearson"].items():
        x, n = map(int, fraction.split("/"))
        assert iv.clopper_pearson(x, n) == pytest.approx(limits, abs=1e-12)


def test_all_cases_at_once_are_the_cases_one_by_one():
    x, n = [c["x"] for c in SINGLE], [c["n"] for c in SINGLE]
    for interval in (iv.wilson, iv.clopper_pearson, iv.rate_interval):
        at_once = interval(x, n)
        for i, (a, b) in enumerate(zip(x, n, strict=True)):
            assert (at_once.low[i], at_once.high[i]) == tuple(interval(a, b))


@pytest.mark.parametrize("n", [1, 7, 10**3, 10**7])
def test_limits_are_exact_at_the_ends(n):
    for interval in (iv.wilson, iv.clopper_pearson, iv.rate_interval):
        assert interval(0, n).low == 0.0
        assert interval(n, n).high == 1.0
    assert iv.clopper_pearson(0, n).high == pytest.approx(1 - 0.025 ** (1 / n), rel=1e-9)


def test_an_empty_denominator_says_nothing():
    for interval in (iv.wilson, iv.clopper_pearson, iv.rate_interval):
        assert np.isnan([*interval(0, 0)]).all()
    assert math.isnan(iv.guard(0))
    assert np.isnan([*iv.newcombe(0, 0, 1, 2)]).all()


def test_one_sided_limits_put_all_error_on_one_side():
    upper = iv.clopper_pearson(0, 60, side="upper")
    assert upper.low == 0.0
    assert upper.high == pytest.approx(0.04870291331009746, rel=1e-12)
    lower = iv.clopper_pearson(60, 60, side="lower")
    assert lower.high == 1.0
    assert lower.low == pytest.approx(1 - 0.04870291331009746, rel=1e-12)


def test_few_events_are_exact_and_many_are_scores():
    for x, n in [(0, 50), (9, 400), (395, 400), (10, 400), (200, 400)]:
        few = min(x, n - x) < 10
        assert iv.rate_interval(x, n) == (iv.clopper_pearson if few else iv.wilson)(x, n)


def test_a_design_effect_divides_the_sample():
    assert iv.rate_interval(100, 1000, deff=4.0) == iv.wilson(25, 250)
    assert iv.rate_interval(8, 1000, deff=2.0) == pytest.approx(iv.clopper_pearson(4, 500))
    assert iv.rate_interval(100, 1000, deff=0.3) == iv.wilson(100, 1000)
    assert iv.rate_interval(100, 1000, deff=float("nan")) == iv.wilson(100, 1000)


def test_without_an_event_the_persons_are_the_sample():
    assert iv.rate_interval(0, 1000, n_clusters=300) == iv.clopper_pearson(0, 300)
    assert iv.rate_interval(1000, 1000, n_clusters=300) == iv.clopper_pearson(300, 300)


def clusters(persons):
    y = np.array([sum(p) for p in persons])
    m = np.array([len(p) for p in persons])
    return y.sum(), m.sum(), (y * y).sum(), (y * m).sum(), (m * m).sum(), len(persons)


def test_the_clustered_standard_error_is_that_of_statsmodels():
    expected = golden("clustered")
    got = iv.clustered(*clusters(expected["persons"]))
    assert got.rate == pytest.approx(expected["rate"], rel=1e-12)
    assert got.standard_error == pytest.approx(expected["cluster_se_statsmodels"], rel=1e-9)
    # The golden design effect leaves out G/(G−1) and divides by n−1: 0.3 % less than ours.
    assert got.deff == pytest.approx(expected["design_effect"], rel=5e-3)
    assert got.deff > expected["design_effect"]


def test_single_tries_have_no_design_effect_beyond_the_small_sample_factor():
    got = iv.clustered(*clusters([[1], [0], [0], [0], [1]]))
    assert got.deff == pytest.approx(5 / 4)
    assert iv.clustered(*clusters([[1, 1, 1]] * 2 + [[0, 0, 0]] * 8)).deff == pytest.approx(
        3 * 10 / 9
    )


def test_one_person_alone_is_one_observation():
    alone = iv.clustered(*clusters([[1, 0, 1, 1]]))
    assert math.isnan(alone.standard_error)
    assert alone.deff == 4


@pytest.mark.parametrize(
    ("pairs", "key"),
    [
        ((56, 70, 48, 80), "56/70-48/80"),
        ((9, 10, 3, 10), "9/10-3/10"),
        ((10, 10, 0, 20), "10/10-0/20"),
    ],
)
def test_newcombe_is_as_published(pairs, key):
    expected = golden("proportion")["difference"][key]["newcomb"]
    assert iv.newcombe(*pairs) == pytest.approx(expected, abs=1e-12)


def test_mcnemar():
    expected = golden("proportion")["mcnemar"]
    (_, b), (c, _) = expected["table"]
    got = iv.mcnemar(b, c)
    assert got.p_exact == pytest.approx(expected["exact_p"], rel=1e-12)
    assert got.chi_square == pytest.approx(expected["chi2_corrected"], rel=1e-12)
    assert got.p_chi_square == pytest.approx(expected["chi2_corrected_p"], rel=1e-12)
    assert iv.mcnemar(0, 0) == (1.0, 0.0, 1.0)
    assert iv.mcnemar(5, 5).p_exact == 1.0


def test_benjamini_hochberg():
    expected = golden("proportion")["benjamini_hochberg_1995"]
    adjusted = iv.benjamini_hochberg(expected["p"])
    assert adjusted == pytest.approx(expected["adjusted"], rel=1e-12)
    assert (adjusted <= 0.05).sum() == expected["n_rejected_q05"]
    shuffled = np.random.default_rng(3).permutation(len(expected["p"]))
    assert iv.benjamini_hochberg(np.array(expected["p"])[shuffled]) == pytest.approx(
        np.array(expected["adjusted"])[shuffled]
    )


def test_a_test_that_was_not_made_does_not_count():
    assert iv.benjamini_hochberg([0.01, np.nan, 0.04])[[0, 2]].tolist() == [0.02, 0.04]
    assert np.isnan(iv.benjamini_hochberg([np.nan])).all()
    assert iv.benjamini_hochberg([]).tolist() == []


def test_the_guard_is_the_rule_of_three():
    for case in golden("proportion")["rule_of_three"]:
        assert iv.guard(case["n"]) == pytest.approx(case["exact_upper95_one_sided"], rel=1e-10)
        upper = iv.clopper_pearson(0, case["n"], side="upper").high
        assert iv.guard(case["n"]) == pytest.approx(upper, rel=1e-10)


def test_the_rule_of_thirty():
    expected = golden("proportion")["rule_of_30"]
    assert iv.relative_halfwidth(30) == pytest.approx(expected["normal_approx_rel_halfwidth"])
    low, high = iv.poisson_exact(30, 0.90)
    assert [low / 30, high / 30] == pytest.approx(expected["poisson_exact_90ci_relative"])


def test_trials_to_claim_is_the_first_size_that_carries_the_claim():
    for rate in (0.2, 1e-3, 1e-5):
        for errors in (0, 1, 5):
            n = float(iv.trials_to_claim(rate, errors))
            assert stats.binom.cdf(errors, n, rate) <= 0.05
            assert stats.binom.cdf(errors, n - 1, rate) > 0.05


def test_the_search_ends_where_floats_are_wider_than_one():
    size = iv.trials_to_claim(1e-17, 1)
    assert size == pytest.approx(4.74386451839058e17, rel=1e-6)  # P(Poisson(4.7439) <= 1) = 5 %


def test_poisson_exact_leaves_two_and_a_half_percent_on_either_side():
    for x in (1, 4, 50):
        low, high = iv.poisson_exact(x)
        assert stats.poisson.sf(x - 1, low) == pytest.approx(0.025)
        assert stats.poisson.cdf(x, high) == pytest.approx(0.025)
    assert iv.poisson_exact(0).low == 0.0
    assert iv.poisson_exact(0).high == pytest.approx(-math.log(0.025))
    assert iv.poisson_exact(0, side="upper").high == pytest.approx(-math.log(0.05))
    assert iv.poisson_exact(3, side="lower").high == math.inf


def test_quantiles_are_the_smallest_counts_that_reach_the_level():
    for mean in (0.03, 1.0, 17.3, 4e4):
        c = float(iv.poisson_quantile(0.975, mean))
        assert stats.poisson.cdf(c, mean) >= 0.975 > stats.poisson.cdf(c - 1, mean)
    assert iv.poisson_quantile(0.975, 0.0) == 0.0
    for successes, p in [(1, 0.97), (1501, 0.999), (10**6, 0.99)]:
        c = float(iv.negative_binomial_quantile(0.975, successes, p))
        assert stats.nbinom.cdf(c, successes, p) >= 0.975 > stats.nbinom.cdf(c - 1, successes, p)
    assert iv.negative_binomial_quantile(0.975, 10, 1.0) == 0.0


@pytest.mark.parametrize(
    ("x", "n", "population"), [(0, 5, 20), (3, 8, 30), (8, 8, 12), (4, 30, 30)]
)
def test_hypergeometric_limits_are_the_totals_that_are_not_contradicted(x, n, population):
    kept = [
        total
        for total in range(population + 1)
        if stats.hypergeom.cdf(x, population, total, n) > 0.025
        and stats.hypergeom.sf(x - 1, population, total, n) > 0.025
    ]
    assert iv.hypergeometric_limits(x, n, population) == (min(kept), max(kept))


def test_nothing_drawn_is_nothing_known():
    assert iv.hypergeometric_limits(0, 0, 12) == (0, 12)


@pytest.mark.parametrize(
    "nonsense",
    [
        lambda: iv.wilson(3, 2),
        lambda: iv.wilson(-1, 2),
        lambda: iv.clopper_pearson(np.nan, 2),
        lambda: iv.clopper_pearson(1, np.inf),
        lambda: iv.wilson(1, 2, confidence=95),
        lambda: iv.clopper_pearson(1, 2, side="both"),
        lambda: iv.benjamini_hochberg([0.2, 1.5]),
        lambda: iv.benjamini_hochberg([[0.2]]),
        lambda: iv.poisson_exact(-1),
        lambda: iv.negative_binomial_quantile(0.5, 3, 0.0),
        lambda: iv.trials_to_claim(0.0),
        lambda: iv.hypergeometric_limits(3, 2, 10),
    ],
)
def test_counts_that_cannot_be_are_refused(nonsense):
    with pytest.raises(UsageError):
        nonsense()
