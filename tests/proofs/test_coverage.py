"""What the intervals and bounds promise, measured: coverage over simulated worlds.

By default a fixed subset of the worlds is run; with VERIFYANALYTICS_NIGHTLY=1 all 2,000, whose
tables stand in docs/statistics.md (VERIFYANALYTICS_COVERAGE_TABLE names a file to write them to).
Every world of a setting lies in one frame and is told apart by a column, so one call of the public
function answers for all of them.
"""

import functools
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from builders import frames as w
from scipy import stats

import verifyanalytics as va
from verifyanalytics.analysis.base import intervals as iv
from verifyanalytics.analysis.labels import audits

NIGHTLY = os.environ.get("VERIFYANALYTICS_NIGHTLY") == "1"
N_WORLDS = 2000 if NIGHTLY else 80
REPORT = os.environ.get("VERIFYANALYTICS_COVERAGE_TABLE")


def told(name, **figures):
    """Append a line to the coverage table, when one is asked for."""
    if REPORT:
        with Path(REPORT).open("a", encoding="utf-8") as table:
            values = " | ".join(f"{k} {v:.4g}" for k, v in figures.items())
            table.write(f"| {name} | {values} |\n")


def enough(n_success, n, promised=0.95):
    """Fewer successes would come once in a thousand times if the promise held."""
    return n_success >= stats.binom.ppf(0.001, n, promised)


# ------------------------------------------------------------------ intervals: exact, no simulation


@pytest.mark.parametrize("expected", [0.1, 1, 3, 10, 30])
@pytest.mark.parametrize("n", [200, 3000, 100_000])
def test_two_sided_intervals_cover_at_least_93_percent(expected, n):
    p = expected / n
    x = np.arange(0, int(expected + 12 * np.sqrt(expected) + 20))
    x = x[x <= n]
    low, high = iv.rate_interval(x, n)
    mass = stats.binom.pmf(x, n, p)
    coverage = mass[(low <= p) & (p <= high)].sum()
    told(f"rate_interval np={expected} n={n}", coverage=coverage)
    assert coverage >= 0.93
    if expected >= 30:
        assert coverage <= 0.97


@pytest.mark.parametrize("n", [50, 1000])
def test_clopper_pearson_never_falls_short_and_the_guard_is_its_one_sided_end(n):
    x = np.arange(n + 1)
    low, high = iv.clopper_pearson(x, n)
    upper = iv.clopper_pearson(x, n, side="upper").high
    for p in np.linspace(0.001, 0.5, 60):
        mass = stats.binom.pmf(x, n, p)
        assert mass[(low <= p) & (p <= high)].sum() >= 0.95 - 1e-9
        assert mass[p <= upper].sum() >= 0.95 - 1e-9


def judged(y, tries, p):
    """Whether the interval holds p, with the persons known and without: one truth value a world."""
    people = y.shape[1]
    sums = (y.sum(1), people * tries, (y * y).sum(1), (y * tries).sum(1), people * tries**2, people)
    intervals = (
        iv.rate_interval(sums[0], sums[1], iv.clustered(*sums).deff, people),
        iv.rate_interval(sums[0], sums[1]),
    )
    return [(low <= p) & (p <= high) for low, high in intervals]


@pytest.mark.parametrize("tries", [3, 10])
@pytest.mark.parametrize("expected", [0.1, 1, 3, 10, 30])
def test_rates_of_repeated_tries_cover(expected, tries):
    """A person's tries hang together: a Gaussian copula with correlation 0.7."""
    rng = np.random.default_rng(100 * tries + int(expected))
    people, worlds = 600, 2000 if NIGHTLY else 300
    p = expected / (people * tries)
    own = np.sqrt(0.7) * rng.normal(size=(worlds, people))
    y = np.zeros((worlds, people), dtype=np.int64)
    for _ in range(tries):
        y += own + np.sqrt(0.3) * rng.normal(size=own.shape) > stats.norm.isf(p)
    covered, blind = judged(y, tries, p)
    told(f"copula 0.7, np={expected}, {tries} tries", coverage=covered.mean(), blind=blind.mean())
    assert enough(covered.sum(), worlds, 0.93)


@pytest.mark.parametrize("expected", [3, 10, 30, 100])
def test_where_half_the_persons_only_repeat_themselves_the_interval_falls_short_but_less(expected):
    """The hardest world, and a limit of what a sample knows of itself.

    Half of the persons fail ten times or never. Until one of them was seen, nothing in the sample
    tells that tries can hang together.
    """
    rng = np.random.default_rng(expected)
    people, worlds, tries = 1500, 2000 if NIGHTLY else 300, 10
    p = expected / (people * tries)
    alike = rng.random((worlds, people)) < 0.5
    together = (rng.random((worlds, people)) < p) * tries
    y = np.where(alike, together, rng.binomial(tries, p, (worlds, people)))
    covered, blind = judged(y, tries, p)
    told(f"half repeat, np={expected}, 10 tries", coverage=covered.mean(), blind=blind.mean())
    assert covered.mean() >= 0.75
    assert covered.mean() >= blind.mean()


# ------------------------------------------------------------------ error rates, end to end


def labelled_world(n_worlds, seed, *, tries=1, withheld=0.0):
    """Owners and strangers; strangers below 1e-4 withheld by chance; persons try `tries` times."""
    rng = np.random.default_rng(seed)
    people = 240 // tries
    world, person = np.divmod(np.arange(n_worlds * people * tries) // tries, people)
    mated = person % 3 > 0
    own = rng.normal(0, 1, n_worlds * people)[world * people + person]
    noise = rng.normal(0, 1, mated.size)
    z = np.sqrt(0.7) * own + np.sqrt(0.3) * noise if tries > 1 else noise
    score = np.where(mated, 80, 58) + 8 * z
    hidden = (score < 70) & (rng.random(mated.size) < withheld)
    frame = pd.DataFrame(
        {
            "world": world,
            "score": np.where(hidden, np.nan, score),
            "mated": mated,
            "subject": [f"{a}-{b}" for a, b in zip(world, person, strict=True)],
            "code": 10000,
            "sub_code": np.where(hidden, 210311, 0),
            "req_key": "cert_pro_src_verify",
            **dict(zip(w.LEVELS, w.PAGE, strict=True)),
        }
    )
    truth = {t: (stats.norm.sf((t - 58) / 8), stats.norm.cdf((t - 80) / 8)) for t in w.PAGE}
    return pa.Table.from_pandas(frame, preserve_index=False), truth


@pytest.mark.parametrize(("tries", "withheld"), [(1, 0.0), (4, 0.0), (1, 0.6), (4, 0.6)])
def test_error_rates_hold_the_truth(tries, withheld):
    frame, truth = labelled_world(N_WORLDS, seed=tries, tries=tries, withheld=withheld)
    table = va.accuracy.error_rates(frame, by="world")
    for t, (fmr, fnmr) in truth.items():
        mine = table[table["threshold"] == t]
        assert len(mine) == N_WORLDS
        for rate, true in (("fmr", fmr), ("fnmr", fnmr)):
            covered = (mine[f"{rate}_low"] <= true) & (true <= mine[f"{rate}_high"])
            told(f"error_rates {rate} at {t:g}, {tries} tries, withheld {withheld:g}",
                 true=true, coverage=covered.mean())  # fmt: skip
            assert enough(covered.sum(), N_WORLDS, 0.93), (rate, t, covered.mean())


# ------------------------------------------------------------------ bounds, end to end


def bounded_world(n_worlds, seed, *, share, tries, k, withheld, n=1500):
    """Strangers follow the claim times k above 1e-3; all tries of one have the same score."""
    rng = np.random.default_rng(seed)
    strangers = int(n * share / tries) * tries
    world = np.repeat(np.arange(n_worlds), n)
    place = np.tile(np.arange(n), n_worlds)
    stranger = place < strangers
    person = np.where(stranger, place // tries, place)
    u = rng.random((n_worlds, n))
    u = u[world, person]
    tail = 60 + 10 * (-np.log10(u / k) - 3)
    below = rng.uniform(5, 60, world.size)
    score = np.where(u < k * 1e-3, tail, below)
    score = np.where(stranger, score, np.clip(rng.normal(83, 8, world.size), 0, 100))
    hidden = (score < 70) & (rng.random(world.size) < withheld)
    frame = {
        "world": world,
        "score": pa.array(np.minimum(score, 100.0), mask=hidden),
        "code": np.full(world.size, 10000),
        "sub_code": np.where(hidden, 210311, 0),
        "req_key": pa.array(np.full(world.size, "cert_pro_src_verify")),
        **{name: np.full(world.size, t) for name, t in zip(w.LEVELS, w.PAGE, strict=True)},
    }
    if tries > 1:
        frame["subject"] = pa.array([f"p{i}" for i in (world * n + person).tolist()])
    return pa.table(frame), pd.DataFrame({"world": world, "stranger": stranger, "score": score})


BOUNDED = [
    {"share": 0.02, "tries": 1, "k": 1, "withheld": 0.0},
    {"share": 0.02, "tries": 1, "k": 3, "withheld": 0.5},
    {"share": 0.30, "tries": 1, "k": 1, "withheld": 0.5},
    {"share": 0.30, "tries": 1, "k": 10, "withheld": 0.0},
    {"share": 0.02, "tries": 10, "k": 3, "withheld": 0.0},
    {"share": 0.30, "tries": 10, "k": 10, "withheld": 0.5},
]


@pytest.mark.parametrize("setting", BOUNDED, ids=lambda s: "-".join(map(str, s.values())))
def test_bounds_hold_the_truth_and_are_no_wider_than_their_formula(setting):
    frame, truth = bounded_world(N_WORLDS, seed=7, **setting)
    k, thresholds = setting["k"], [60.0, 70.0, 75.0, 90.0]
    table = va.bounds.label_free(frame, thresholds, k=[k], by="world")
    owners = truth[~truth["stranger"]]
    for t in thresholds:
        mine = table[table["threshold"] == t].sort_values("world")
        matched = truth["stranger"] & (truth["score"] >= t)
        false_matches = matched.groupby(truth["world"]).sum().to_numpy()
        fnmr = (owners["score"] < t).groupby(owners["world"]).mean().to_numpy()
        high, low = mine["false_matches_high"].to_numpy(), mine["fnmr_low"].to_numpy()
        top = mine["fnmr_high"].to_numpy()
        held = false_matches <= high
        between = (low <= fnmr + 1e-12) & (fnmr <= top + 1e-12)
        name = f"t={t:g}, " + ", ".join(f"{a} {b:g}" for a, b in setting.items())
        told(name, false_matches=held.mean(), fnmr=between.mean(), width=np.median(top - low))
        assert enough(held.sum(), N_WORLDS), (t, held.mean())
        assert enough(between.sum(), N_WORLDS), (t, between.mean())
        m = 1 - setting["share"] + setting["share"] * setting["tries"]
        width = np.median([formula_width(row, k, t, m) for row in mine.to_dict("records")])
        # tries of strangers among owners who try once: the formula's m covers 81 % (see the docs)
        assert np.median(top - low) <= (1.05 if setting["tries"] == 1 else 1.10) * width


def formula_width(row, k, t, m):
    """The width of the FNMR bounds as the formulas write it, with m = Σmᵢ²/Σmᵢ over all rows."""
    n, n3, below = row["n_compared"], row["n_below_1e_3"], row["n_below"]
    claim = 10 ** -(3 + (t - 60) / 10)
    strangers = min(n, n3 + stats.nbinom.ppf(0.975, n3 + 1, 1 - k * 1e-3))
    above = np.ceil(m * stats.poisson.ppf(0.975, k * strangers * (1e-3 - claim) / m) - 1e-9)
    low = max(0.0, below - n3 - max(above, 0.0)) / (n - strangers) if n > strangers else 0.0
    return below / n - min(low, below / n)


def test_the_bounds_are_not_the_whole_interval():
    """[0, 1] would cover: among owners alone the width is nothing."""
    frame, _ = bounded_world(20, seed=3, share=0.0, tries=1, k=1, withheld=0.0)
    table = va.bounds.label_free(frame, 75.0, k=[1], by="world")
    assert table["fnmr_high"].to_numpy() == pytest.approx(1 - table["match_rate"].to_numpy())
    assert ((table["fnmr_high"] - table["fnmr_low"]) < 0.01).all()


# ------------------------------------------------------------------ audits


def test_an_audit_is_unbiased_and_its_limits_hold():
    """Twenty false accepts in 100,000 rows; every world draws another plan of 600."""
    n, wrong = 100_000, 20
    rng = np.random.default_rng(11)
    score = np.clip(rng.normal(85, 7, n), 40, 100)
    accepted = score >= 70
    strangers = rng.choice(np.flatnonzero(accepted & (score < 78)), wrong, replace=False)
    truth = np.ones(n, dtype=bool)
    truth[strangers] = False
    frame = pd.DataFrame(
        {"request_id": [f"r{i:06d}" for i in range(n)], "code": 10000, "sub_code": 0,
         "score": score, "result": accepted, "req_key": "k",
         **dict(zip(w.LEVELS, w.PAGE, strict=True))}
    )  # fmt: skip
    strata = audits.strata(frame, 75.0)
    sizes = strata.groupby("stratum").size()
    drawn = audits.allocate(sizes.to_numpy(), 600)
    number = strata["request_id"].str[1:].astype(int).to_numpy()
    bad = (~truth[number]).astype(int)
    per = pd.Series(bad).groupby(strata["stratum"].to_numpy()).sum()
    seen = [name for name in sizes.index if name.endswith("result true")]
    level = 1 - 0.05 / len(seen)
    limits_of = functools.cache(iv.hypergeometric_limits)
    estimates, covered, naive = [], 0, 0
    for _ in range(2000):
        estimate = low = high = variance = 0.0
        for name, size, m in zip(sizes.index, sizes, drawn, strict=True):
            if name not in seen:
                continue
            x = int(rng.hypergeometric(per[name], size - per[name], m))
            limits = limits_of(x, int(m), int(size), level)
            estimate, low, high = estimate + size * x / m, low + limits[0], high + limits[1]
            variance += size**2 * (x / m) * (1 - x / m) / m
        estimates.append(estimate)
        covered += low <= wrong <= high
        half = 1.96 * np.sqrt(variance)
        naive += estimate - half <= wrong <= estimate + half
    told(
        "audit, 20 in 100,000", mean=np.mean(estimates), coverage=covered / 2000, naive=naive / 2000
    )
    error = np.std(estimates) / np.sqrt(2000)
    assert abs(np.mean(estimates) - wrong) < 4 * error
    assert covered / 2000 >= 0.93
    assert naive / 2000 < 0.9


# ------------------------------------------------------------------ worlds without any effect


def test_false_discoveries_in_null_worlds_stay_rare():
    rng = np.random.default_rng(13)
    reported = 0
    for _ in range(200):
        x = rng.binomial(150, 0.08, 6)
        rest = x.sum() - x
        p = [
            stats.fisher_exact([[a, 150 - a], [b, 750 - b]])[1]
            for a, b in zip(x, rest, strict=True)
        ]
        reported += (iv.benjamini_hochberg(p) <= 0.05).any()
    told("null worlds, six groups", reported_of_200=reported)
    assert reported <= 18


def test_planted_effects_are_found_first():
    rng = np.random.default_rng(17)
    found = first = held = 0
    for _ in range(200):
        p_group = np.array([0.08, 0.08, 0.08, 0.08, 0.08, 0.24])
        x = rng.binomial(150, p_group)
        rest = x.sum() - x
        p = [
            stats.fisher_exact([[a, 150 - a], [b, 750 - b]])[1]
            for a, b in zip(x, rest, strict=True)
        ]
        adjusted = iv.benjamini_hochberg(p)
        low, high = iv.rate_interval(x, 150)
        found += adjusted[5] <= 0.05
        first += int(np.argmax(x)) == 5
        held += low[5] <= 0.24 <= high[5]
    told("planted effect, one of six groups", power=found / 200, first=first / 200, held=held / 200)
    assert found >= 180
    assert first >= 180
    assert enough(held, 200, 0.93)
