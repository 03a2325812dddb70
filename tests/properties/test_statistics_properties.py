"""Laws that the statistics keep on any data."""

import numpy as np
import pandas as pd
import pytest
from builders import frames as w
from hypothesis import given, settings
from hypothesis import strategies as st

import verifyanalytics as va
from verifyanalytics import verdicts as decisions
from verifyanalytics.analysis.accuracy import curves
from verifyanalytics.analysis.base import intervals as iv

counts = st.integers(0, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
scores = st.lists(st.floats(0, 100, allow_nan=False, width=32), min_size=1, max_size=60)


@given(counts, st.floats(1, 50))
def test_an_interval_contains_its_rate(pair, deff):
    x, n = pair
    for interval in (iv.wilson, iv.clopper_pearson, lambda a, b: iv.rate_interval(a, b, deff)):
        low, high = interval(x, n)
        if n == 0:
            assert np.isnan([low, high]).all()
        else:
            assert 0 <= low <= x / n + 1e-12
            assert x / n - 1e-12 <= high <= 1


@given(counts, st.integers(1, 1000))
def test_an_interval_mirrors(pair, more):
    x, n = pair[0], pair[1] + more
    for interval in (iv.wilson, iv.clopper_pearson, iv.rate_interval):
        low, high = interval(x, n)
        mirrored = interval(n - x, n)
        assert [low, high] == pytest.approx([1 - mirrored.high, 1 - mirrored.low], abs=1e-9)


@given(counts, st.floats(1, 20), st.floats(1, 20))
def test_a_larger_design_effect_never_narrows(pair, one, two):
    x, n = pair[0], pair[1] + 2
    small, large = (iv.rate_interval(x, n, d) for d in sorted((one, two)))
    assert large.high - large.low >= small.high - small.low - 1e-9


@given(st.integers(0, 400), st.integers(1, 400), st.integers(0, 400), st.integers(1, 400))
def test_newcombe_turns_round(x1, n1, x2, n2):
    n1, n2 = max(x1, n1), max(x2, n2)
    forth, back = iv.newcombe(x1, n1, x2, n2), iv.newcombe(x2, n2, x1, n1)
    assert [forth.low, forth.high] == pytest.approx([-back.high, -back.low], abs=1e-12)
    assert forth.low - 1e-12 <= x1 / n1 - x2 / n2 <= forth.high + 1e-12


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_adjusted_p_values_keep_the_order_and_never_shrink(p):
    adjusted = iv.benjamini_hochberg(p)
    assert (adjusted >= np.array(p) - 1e-15).all()
    order = np.argsort(p, kind="stable")
    assert (np.diff(adjusted[order]) >= -1e-15).all()


@given(scores, scores)
def test_fmr_falls_and_fnmr_rises_with_the_threshold(nonmated, mated):
    sides = (curves.side(np.array(s), np.arange(len(s))) for s in (nonmated, mated))
    curve = curves.curve(*sides)
    assert (np.diff(curve.fmr) <= 0).all()
    assert (np.diff(curve.fnmr) >= 0).all()
    assert (curve.fmr[0], curve.fnmr[-1]) == (
        sum(s >= curve.thresholds[0] for s in nonmated) / len(nonmated), 1.0,
    )  # fmt: skip
    low, high, _ = curves.equal_error(curve)
    assert 0 <= low <= high <= 1


@given(scores, scores, st.floats(-5, 5), st.floats(0.01, 3))
def test_error_rates_do_not_know_the_scale_of_the_scores(nonmated, mated, shift, scale):
    """Only the order of scores counts."""
    levels = np.unique([*nonmated, *mated])
    place = {s: i * scale + shift for i, s in enumerate(levels)}
    both = [
        curves.curve(
            *(
                curves.side(np.array([f(x) for x in s]), np.arange(len(s)))
                for s in (nonmated, mated)
            )
        )
        for f in (lambda x: x, place.__getitem__)
    ]
    assert (both[0].false_matches == both[1].false_matches).all()
    assert (both[0].false_nonmatches == both[1].false_nonmatches).all()


@settings(max_examples=4)
@given(st.integers(0, 10**6), st.integers(2, 60))
def test_counts_add_up_however_the_rows_are_split(seed, n):
    rows = w.messy(n, seed)
    whole = decisions.funnel(w.frame(rows)).groupby("line")["n_rows"].sum()
    parts = [rows[: n // 2], rows[n // 2 :]]
    split = pd.concat(decisions.funnel(w.frame(part)) for part in parts if part)
    assert split.groupby("line")["n_rows"].sum().to_dict() == whole.to_dict()


@settings(max_examples=3)
@given(st.integers(0, 10**6))
def test_the_order_of_the_rows_does_not_matter(seed):
    frame = w.frame(w.messy(60, seed))
    shuffled = frame.sample(frac=1, random_state=seed % 1000)
    for statistic in (
        decisions.funnel,
        decisions.contradictions,
        lambda v: va.bounds.label_free(v, [65.0, 75.0]),
    ):
        pd.testing.assert_frame_equal(statistic(frame), statistic(shuffled))


@settings(max_examples=4)
@given(st.integers(0, 10**6))
def test_bounds_widen_with_k_and_the_false_matches_fall_with_the_threshold(seed):
    rows = [
        w.row(i, score=float(s))
        for i, s in enumerate(np.random.default_rng(seed).uniform(20, 100, 400))
    ]
    table = va.bounds.label_free(w.frame(rows), [60.0, 70.0, 80.0, 90.0])
    wide = table.pivot_table(index="threshold", columns="k", values="false_matches_high")
    assert (wide[1.0] <= wide[3.0]).all()
    assert (wide[3.0] <= wide[10.0]).all()
    for k in wide:
        assert wide[k].is_monotonic_decreasing
    assert (table["fnmr_low"] <= table["fnmr_high"]).all()
    assert table["fnmr_high"].to_numpy() == pytest.approx(1 - table["match_rate"].to_numpy())


@settings(max_examples=4)
@given(st.integers(0, 10**6), st.integers(2, 5))
def test_copies_of_every_try_carry_no_more_than_the_tries(seed, times):
    """The same rows again, by the same persons: the rate stays, the interval does not narrow."""
    rng = np.random.default_rng(seed)
    score = rng.uniform(0, 100, 60)
    frame = pd.DataFrame(
        {"score": score, "mated": rng.random(60) < 0.5, "subject": [f"p{i}" for i in range(60)]}
    )
    if frame["mated"].nunique() < 2:
        return
    once = va.accuracy.error_rates(frame, 50.0).iloc[0]
    often = va.accuracy.error_rates(pd.concat([frame] * times), 50.0).iloc[0]
    for rate in ("fmr", "fnmr"):
        assert often[rate] == pytest.approx(once[rate])
        width = once[f"{rate}_high"] - once[f"{rate}_low"]
        assert often[f"{rate}_high"] - often[f"{rate}_low"] >= 0.85 * width
