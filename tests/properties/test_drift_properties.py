"""Tags, quality and drift equal plain loops, and keep their laws, on whatever comes."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import verifyanalytics as va

# one example is several queries, and a query costs about 0.1 s whatever its size
FEW = settings.default.max_examples // 4

tags = st.none() | st.lists(st.sampled_from(["13001", "14004", "15002", "99999"]), max_size=5)
rows = st.lists(
    st.tuples(tags, st.sampled_from([True, False, None]), st.sampled_from([None, "a", "b", "c"])),
    max_size=30,
)
two_counts = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=2, max_size=8)


def frame_of(drawn):
    import pyarrow as pa

    columns = {
        "risk_tags": pa.array([r[0] for r in drawn], pa.list_(pa.string())),
        "bad": pa.array([r[1] for r in drawn], pa.bool_()),
        "subject": pa.array([r[2] for r in drawn], pa.string()),
        "request_id": pa.array([f"r{i:03d}" for i in range(len(drawn))], pa.string()),
    }
    return pa.table(columns)


def known(drawn):
    return [(set(t), bad, who) for t, bad, who in drawn if t is not None and bad is not None]


@settings(max_examples=FEW)
@given(rows)
def test_lift_counts_and_their_laws(drawn):
    table = va.tags.lift(frame_of(drawn), "bad")
    held = known(drawn)
    n, c = len(held), sum(bad for _, bad, _ in held)
    seen, first = set(), 0
    for _, _, who in held:
        first += who is None or who not in seen
        seen.add(who)
    assert set(table["tag"]) == {t for s, _, _ in held for t in s}
    for row in table.itertuples():
        r = sum(row.tag in s for s, _, _ in held)
        a = sum(row.tag in s and bad for s, bad, _ in held)
        assert (row.n, row.n_tag, row.n_outcome, row.n_both) == (n, r, c, a)
        assert row.n_subjects == first
        assert row.precision_low <= row.precision <= row.precision_high
        if c:
            assert row.lift == pytest.approx(a * n / (r * c))
            assert row.lift_low <= row.lift <= row.lift_high
            assert row.recall_low <= row.recall <= row.recall_high
        else:
            assert (row.reason, math.isnan(row.lift)) == ("no_outcome", True)
        assert math.isnan(row.p_value) or 0 <= row.p_value <= row.p_adjusted <= 1
    assert (table["n_unknown"] == sum(t is not None and b is None for t, b, _ in drawn)).all()
    assert (table["n_risk_not_asked"] == sum(t is None for t, _, _ in drawn)).all()


@settings(max_examples=FEW)
@given(rows)
def test_pairs_equal_a_loop(drawn):
    table = va.tags.pairs(frame_of(drawn))
    held = [set(t) for t, _, _ in drawn if t is not None]
    present = {t for s in held for t in s}
    assert len(table) == math.comb(len(present), 2)
    for row in table.itertuples():
        both = sum({row.tag_a, row.tag_b} <= s for s in held)
        either = sum(bool({row.tag_a, row.tag_b} & s) for s in held)
        assert (row.n, row.n_both) == (len(held), both)
        assert row.jaccard == pytest.approx(both / either)
        assert math.isnan(row.phi) or -1 - 1e-9 <= row.phi <= 1 + 1e-9
        x, y = (np.array([t in s for s in held], dtype=float) for t in (row.tag_a, row.tag_b))
        if x.std() and y.std():
            assert row.phi == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-9)


@settings(max_examples=FEW)
@given(rows)
def test_catch_is_greedy_and_adds_up(drawn):
    table = va.tags.catch(frame_of(drawn), "bad")
    left = list(enumerate(known(drawn)))
    rest = {t for _, (s, _, _) in left for t in s}
    for row in table.itertuples():
        new = {t: [bad for _, (s, bad, _) in left if t in s] for t in rest}
        best = min(rest, key=lambda t: (-sum(new[t]), len(new[t]), t))
        assert (row.tag, row.n_new_outcome, row.n_new_hits) == (
            best,
            sum(new[best]),
            len(new[best]),
        )
        left = [(i, r) for i, r in left if best not in r[0]]
        rest.remove(best)
        only = [bad for s, bad, _ in known(drawn) if s == {best}]
        assert (row.n_unique_hits, row.n_unique_outcome) == (len(only), sum(only))
    assert not rest
    if len(table):
        tagged = [bad for s, bad, _ in known(drawn) if s]
        assert table[["n_hits", "n_caught"]].iloc[-1].tolist() == [len(tagged), sum(tagged)]


@given(two_counts)
def test_psi_equals_a_loop_and_is_symmetric(sides):
    e, a = ([pair[i] for pair in sides] for i in (0, 1))
    found = va.stability.psi(e, a)
    if not sum(e) or not sum(a):
        assert math.isnan(found.psi)
        assert not found.alert
        return
    kept = [(x, y) for x, y in zip(e, a, strict=True) if x or y]
    half = 0.5 if any((not x) != (not y) for x, y in kept) else 0.0
    n, m = (sum(k[i] + half for k in kept) for i in (0, 1))
    shares = [((x + half) / n, (y + half) / m) for x, y in kept]
    want = sum((q - p) * math.log(q / p) for p, q in shares)
    assert found.psi == pytest.approx(want, abs=1e-12)
    assert (found.n_bins, found.smoothing) == (len(kept), half)
    assert found.psi >= -1e-12
    back = va.stability.psi(a, e)
    assert (back.psi, back.critical) == pytest.approx((found.psi, found.critical))
    assert va.stability.psi(e, e).psi == pytest.approx(0.0, abs=1e-12)


scores = st.lists(
    st.none() | st.integers(0, 10_000).map(lambda x: x / 100), min_size=1, max_size=40
)


@settings(max_examples=FEW)
@given(scores, scores, st.lists(st.integers(1, 99), min_size=1, max_size=5, unique=True))
def test_drift_of_scores_equals_a_loop(old, new, edges):
    edges = sorted(edges)
    frames = [pd.DataFrame({"score": pd.Series(s, dtype="float64")}) for s in (old, new)]
    row = va.stability.drift(*frames, "score", edges).iloc[0]
    ends = [*zip([-1, *edges], [*edges, 101], strict=True)]
    held = [[v for v in side if v is not None] for side in (old, new)]
    bins = [
        [sum(a <= v < b for v in told) for a, b in ends] + [side.count(None)]
        for told, side in zip(held, (old, new), strict=True)
    ]
    want = va.stability.psi(*bins)
    assert row["psi"] == pytest.approx(want.psi, abs=1e-12)
    assert (row["n_reference"], row["n_current"]) == (len(old), len(new))
    if held[0] and held[1]:
        grid = sorted({*held[0], *held[1]})
        cdf = [[sum(v <= g for v in side) / len(side) for g in grid] for side in held]
        gaps = [abs(x - y) for x, y in zip(*cdf, strict=True)]
        assert row["ks"] == pytest.approx(max(gaps))
        area = sum(g * (b - a) for g, a, b in zip(gaps, grid, grid[1:], strict=False))
        assert row["wasserstein"] == pytest.approx(area, abs=1e-9)


pairs = st.lists(
    st.tuples(st.none() | st.integers(0, 5), st.none() | st.sampled_from([10.0, 49.9, 50.0, 90.0])),
    min_size=1,
    max_size=30,
)


@settings(max_examples=FEW)
@given(pairs)
def test_error_versus_discard_equals_a_loop(drawn):
    frame = pd.DataFrame(
        {
            "quality": pd.Series([q for q, _ in drawn], dtype="float64"),
            "score": pd.Series([s for _, s in drawn], dtype="float64"),
        }
    )
    curve = va.quality.error_versus_discard(frame, "quality", threshold=50)
    held = [(-1 if q is None else q, s < 50) for q, s in drawn if s is not None]
    assert (curve["n_not_compared"] == len(drawn) - len(held)).all()
    if not held:
        assert set(curve["n"]) == {0}
        return
    steps = [(0, sum(e for _, e in held))]
    for level in sorted(Counter(q for q, _ in held)):
        kept = [e for q, e in held if q > level]
        steps.append((len(held) - len(kept), sum(kept)))
    assert curve[["n_discarded", "n_errors"]].values.tolist() == [list(s) for s in steps]
    assert curve["error_fraction"].between(0, 1).all()
    assert (curve["ideal"] <= curve["error_fraction"] + 1e-12).all()
    assert curve["pauc_03"].iloc[0] <= curve["pauc_1"].iloc[0] + 1e-12


@settings(max_examples=FEW)
@given(st.lists(st.none() | st.integers(0, 100).map(float), min_size=1, max_size=40))
def test_percentiles_and_limits_equal_a_loop(values):
    row = va.quality.limits(
        pd.DataFrame({"face_comprehensive_score": pd.Series(values, dtype="float64")})
    ).iloc[0]
    held = sorted(v for v in values if v is not None)
    assert (row["n"], row["n_missing"]) == (len(held), values.count(None))
    assert row["n_beyond"] == sum(v < 50 for v in held)
    if held:
        for level in (1, 5, 25, 50, 75, 95, 99):
            want = held[max(math.ceil(level * len(held) / 100), 1) - 1]
            assert row[f"p{level:02d}"] == pytest.approx(want, abs=1e-6)
