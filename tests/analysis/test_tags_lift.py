"""Lift, pairs, catch, bands and scores of risk tags: figures of other programs, and plain loops."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from operator import attrgetter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from builders import frames as w
from scipy import stats

import verifyanalytics as va
from verifyanalytics.errors import MissingColumnError, UsageError

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "data/golden/tags.json").read_text(encoding="utf-8")
)
TAGS = ("13001", "14004", "15002")


def golden_frame():
    cells = [(cell["tags"], cell["fraud"]) for cell in GOLDEN["rows"] for _ in range(cell["n"])]
    return pd.DataFrame({"risk_tags": [c[0] for c in cells], "fraud": [c[1] for c in cells]})


# ------------------------------------------------------------------ figures of other programs


@pytest.mark.parametrize("tag", TAGS)
def test_the_table_of_a_tag_as_scikit_learn_and_scipy_have_it(tag):
    row = va.tags.lift(golden_frame(), "fraud").set_index("tag").loc[tag]
    want = GOLDEN[tag]
    got = [row["hit_rate"], row["precision"], row["recall"], row["lift"], row["phi"]]
    names = ("hit_rate", "precision", "recall", "lift", "phi_mcc")
    assert got == pytest.approx([want[name] for name in names], rel=1e-12)
    assert row["p_value"] == pytest.approx(want["fisher_p"], rel=1e-9)
    assert row["odds_ratio"] == pytest.approx(want["odds_ratio"], rel=1e-12)
    limits = [row["odds_ratio_low"], row["odds_ratio_high"]]
    assert limits == pytest.approx(want["or_ci95"], rel=1e-9)


@pytest.mark.parametrize("pair", GOLDEN["overlap"])
def test_the_overlap_of_two_tags(pair):
    table = va.tags.pairs(golden_frame())
    chosen = [{row.tag_a, row.tag_b} == {*pair.split("&")} for row in table.itertuples()]
    row = table[chosen].iloc[0]
    want = GOLDEN["overlap"][pair]
    assert row["n_both"] == want["both"]
    got = [row["jaccard"], row["phi"], row["lift"]]
    assert got == pytest.approx([want["jaccard"], want["phi"], want["support_lift"]], rel=1e-12)


def test_catch_goes_by_what_is_new_and_not_by_precision():
    table = va.tags.catch(golden_frame(), "fraud")
    assert table["step"].tolist() == [1, 2, 3]
    for row, want in zip(table.itertuples(), GOLDEN["incremental"], strict=True):
        assert (row.tag, row.n_new_hits, row.n_new_outcome) == (
            want["tag"], want["new_hits"], want["new_fraud"],
        )  # fmt: skip
        assert row.marginal_precision == pytest.approx(want["marginal_precision"])
        unique = GOLDEN["unique_only"][row.tag]
        assert (row.n_unique_hits, row.n_unique_outcome) == (unique["hits"], unique["fraud"])
    assert table["n_caught"].tolist() == [38, 49, 51]
    assert table["catch_rate"].tolist() == pytest.approx([38 / 71, 49 / 71, 51 / 71])


# ------------------------------------------------------------------ lift, by loops


ROWS = w.messy(500, 3)


def asked(r):
    return r["risk_tags"] is not None or r["risk_score"] is not None


def non_match(r):
    match = w.gate_states(r)["match"]
    return None if match is None else not match


def rejected(r):
    """Whatever the verdict, a row that only risk turned away is left out; unknown is no failure."""
    fails = {name for name, state in w.gate_states(r).items() if state is False}
    if fails == {"risk"}:
        return "only risk"
    return None if r["result"] is None else not r["result"]


def last_of_each(rows):
    """One row a person: the last; an unknown time comes first, without a subject one is alone."""
    early = w.START.replace(year=1999)
    kept = {}
    for r in sorted(rows, key=lambda r: (r["occurred_at"] or early, r["request_id"])):
        kept[r["subject"] or r["request_id"]] = r
    return [*kept.values()]


@pytest.mark.parametrize(("name", "outcome"), [("non_match", non_match), ("rejected", rejected)])
def test_lift_against_a_loop(name, outcome):
    table = va.tags.lift(w.frame(ROWS), name).set_index("tag")
    counted = [r for r in ROWS if asked(r) and outcome(r) in (True, False)]
    people = last_of_each(counted)
    n, c = len(counted), sum(outcome(r) for r in counted)
    sizes = Counter(r["subject"] for r in counted if r["subject"])
    alone = sum(r["subject"] is None for r in counted)
    deff = (alone + sum(m * m for m in sizes.values())) / n
    assert sorted(table.index) == sorted({t for r in counted for t in r["risk_tags"] or ()})
    p_values = []
    for tag, row in table.iterrows():
        has = [r for r in counted if tag in (r["risk_tags"] or ())]
        a, r = sum(outcome(x) for x in has), len(has)
        assert [row["n"], row["n_tag"], row["n_outcome"], row["n_both"]] == [n, r, c, a]
        lift = (a / r) / (c / n)
        half = stats.norm.ppf(0.975) * math.sqrt(
            deff * (1 / a - 1 / r - 1 / c + (2 * lift - 1) / n)
        )
        limits = [lift, lift * math.exp(-half), lift * math.exp(half), deff]
        assert [row["lift"], row["lift_low"], row["lift_high"], row["deff"]] == pytest.approx(
            limits
        )
        with_tag = [tag in (x["risk_tags"] or ()) for x in people]
        cells = Counter(zip(with_tag, [outcome(x) for x in people], strict=True))
        square = [
            [cells[True, True], cells[True, False]],
            [cells[False, True], cells[False, False]],
        ]
        p_values.append(stats.fisher_exact(square)[1])
        assert row["n_subjects"] == len(people)
    assert table["p_value"].tolist() == pytest.approx(p_values)
    adjusted = stats.false_discovery_control(p_values)
    assert table["p_adjusted"].tolist() == pytest.approx(adjusted.tolist())
    assert (table["significant"] == (adjusted <= 0.05)).all()
    assert table["clustered"].all()
    assert (table["n_risk_not_asked"] == sum(not asked(r) for r in ROWS)).all()
    assert (table["n_unknown"] == sum(asked(r) and outcome(r) is None for r in ROWS)).all()
    only_risk = sum(asked(r) and outcome(r) == "only risk" for r in ROWS)
    assert (table["n_only_risk"] == only_risk).all()
    assert (table["circular"] == (name == "rejected")).all()
    assert table["lift_low"].is_monotonic_decreasing


def test_the_verdict_does_not_choose_the_rows_it_is_held_against():
    """Of rows that only risk speaks against, those the vendor accepted are left out, too."""
    risky = [
        w.row(
            i, risk_score=900, risk_tags=["14001"], result=i % 2 == 0, alive=None if i < 4 else True
        )
        for i in range(20)
    ]
    others = [w.row(100 + i, score=50.0, result=False, risk_tags=["14001"]) for i in range(7)]
    others += [w.row(200 + i) for i in range(30)]
    row = va.tags.lift(w.frame(risky + others), "rejected").iloc[0]
    assert (row["n_only_risk"], row["n"], row["n_tag"], row["n_both"]) == (20, 37, 7, 7)


def test_a_person_is_tested_by_the_last_row_of_the_period():
    hours = pd.to_datetime([f"2024-05-01 0{i}:00" for i in range(7)], utc=True)
    v = pd.DataFrame(
        {
            "risk_tags": [["1"], [], [], ["1"], [], [], ["1"], []],
            "bad": [1, 0, 0, 0, 0, 1, 1, 0],
            "subject": ["a", "a", "b", "b", "c", "d", "e", "a"],
            "occurred_at": [*hours, pd.NaT],  # an unknown time is before all others
            "request_id": list("abcdefgh"),
        }
    )
    # last rows: a ([], 0), b (["1"], 0), c ([], 0), d ([], 1), e (["1"], 1)
    want = stats.fisher_exact([[1, 1], [1, 2]])[1]
    for engine, frame in w.engines(v).items():
        row = va.tags.lift(frame, "bad").iloc[0]
        assert (row["n_subjects"], row["p_value"]) == (5, pytest.approx(want)), engine
    tied = v.assign(occurred_at=hours[0])
    by_id = va.tags.lift(tied.assign(request_id=list("hgfedcba")), "bad").iloc[0]
    # now a (["1"], 1), b ([], 0), c ([], 0), d ([], 1), e (["1"], 1) are last
    assert by_id["p_value"] == pytest.approx(stats.fisher_exact([[2, 0], [1, 2]])[1])


def test_risk_alone_does_not_make_a_tag_look_guilty_of_its_own_rejections():
    tagged = [w.row(i, risk_score=900, risk_tags=["14001"], result=False) for i in range(50)]
    others = [
        w.row(100 + i, score=50.0 if i % 5 == 0 else 85.0, result=i % 5 != 0) for i in range(500)
    ]
    both = [w.row(900, risk_score=900, risk_tags=["14001"], result=False, score=50.0)]
    row = va.tags.lift(w.frame(tagged + others + both), "rejected").iloc[0]
    assert (row["n_only_risk"], row["n_tag"], row["n_both"], row["circular"]) == (50, 1, 1, True)


def test_without_subjects_nothing_is_called_significant():
    frame = golden_frame()
    table = va.tags.lift(frame, "fraud")
    assert table["p_value"].min() < 1e-20
    assert not table["significant"].any()
    assert not table["clustered"].any()
    assert set(table["reason"]) == {"unclustered"}
    table = va.tags.lift(frame.assign(subject=[f"s{i}" for i in range(len(frame))]), "fraud")
    assert table.set_index("tag")["significant"].to_dict() == {
        "14004": True, "13001": True, "15002": False,
    }  # fmt: skip


def test_three_equal_rows_a_person_widen_the_interval_and_leave_the_test_alone():
    once = golden_frame().assign(subject=[f"s{i}" for i in range(1200)])
    thrice = pd.concat([once] * 3, ignore_index=True)
    one, three = (va.tags.lift(f, "fraud").set_index("tag") for f in (once, thrice))
    for name in ("lift", "lift_low", "lift_high", "phi", "p_value", "p_adjusted"):
        assert three[name].tolist() == pytest.approx(one[name].tolist())
    assert (three["deff"] == 3).all()
    assert (three["n"] == 3600).all()
    assert (three["n_subjects"] == 1200).all()


def test_a_tag_that_never_goes_with_the_outcome_has_an_upper_limit():
    rows = [w.row(i, risk_tags=["14010"], subject=f"s{i}") for i in range(100)]
    rows += [w.row(200 + i, score=65.0, result=False, subject=f"t{i}") for i in range(100)]
    row = va.tags.lift(w.frame(rows)).iloc[0]
    assert (row["lift"], row["lift_low"], row["reason"]) == (0.0, 0.0, "none_seen")
    assert row["lift_high"] == pytest.approx((1 - 0.025 ** (1 / 100)) / 0.5)


def test_the_outcome_says_what_it_is():
    truth = pd.DataFrame(
        {
            "risk_tags": [["13001"], ["13001"], [], [], []],
            "mated": [None, True, True, None, False],
            "attack": ["print", None, None, None, None],
            "flag": [True, False, None, True, False],
        }
    )
    attack = va.tags.lift(truth, "attack").iloc[0]
    assert (attack["basis"], attack["n"], attack["n_outcome"], attack["n_unknown"]) == (
        "labels", 4, 1, 1,
    )  # fmt: skip
    flag = va.tags.lift(truth, "flag").iloc[0]
    assert (flag["basis"], flag["n"], flag["n_outcome"], flag["n_unknown"]) == ("column", 4, 2, 1)
    assert va.tags.lift(w.frame(ROWS)).iloc[0]["basis"] == "association"
    with pytest.raises(UsageError, match="risk_tags' holds"):
        va.tags.lift(truth, "risk_tags")
    with pytest.raises(MissingColumnError, match="attack"):
        va.tags.lift(w.frame(ROWS), "attack")


def audited(n=20_000, seed=0):
    """Everything that was rejected is labelled and one accepted row in fifty; tags help reject."""
    rng = np.random.default_rng(seed)
    tag = rng.random(n) < 0.2
    attack = rng.random(n) < np.where(tag, 0.06, 0.02)
    rejected = (attack & (rng.random(n) < 0.5)) | (tag & (rng.random(n) < 0.5))
    chance = np.where(rejected, 1.0, 0.02)
    drawn = rng.random(n) < chance
    v = pd.DataFrame(
        {
            "request_id": [f"r{i}" for i in range(n)],
            "risk_tags": [["13001"] if t else [] for t in tag],
            "risk_score": np.where(tag, 600, 0),
            "result": ~rejected,
            "score": 85.0,
            "subject": [f"s{i}" for i in range(n)],
            "attack": pd.Series(np.where(drawn & attack, "print", None), dtype="object"),
            "mated": pd.Series(np.where(drawn & ~attack, True, None), dtype="object"),
        }
    )
    probability = pd.Series(np.where(drawn, chance, np.nan))
    return v, v.assign(inclusion_prob=probability), tag, attack


RATES = ["hit_rate", "precision", "recall", "lift", "lift_low", "lift_high", "phi", "odds_ratio"]


def test_labels_that_are_a_selection_give_no_rates_unless_taken_as_random():
    v, _, _, _ = audited(4000)
    row = va.tags.lift(v, "attack").iloc[0]
    assert (row["reason"], row["note"], row["significant"]) == ("selected_labels", "", False)
    assert row[[*RATES, "precision_low", "precision_high", "p_value", "p_adjusted"]].isna().all()
    assert row["n_tag"] > 0
    catch, bands = (
        va.tags.catch(v, "attack").iloc[0],
        va.tags.risk_bands(v, outcome="attack").iloc[0],
    )
    assert (catch["reason"], bands["reason"]) == ("selected_labels", "selected_labels")
    assert catch[["marginal_precision", "catch_rate", "catch_rate_low", "hit_share"]].isna().all()
    assert bands[["outcome_rate", "lift", "woe", "gain", "auc", "p_value", "iv"]].isna().all()
    assert bands["direction"] == "unknown"
    for table in (
        va.tags.lift(v, "attack", assume_random=True),
        va.tags.catch(v, "attack", assume_random=True),
        va.tags.risk_bands(v, outcome="attack", assume_random=True),
    ):
        assert set(table["note"]) == {"labels taken as random"}
        assert set(table["reason"]) == {""}
    blind = va.tags.lift(v, "attack", assume_random=True).iloc[0]
    assert blind["lift"] == pytest.approx(
        (blind["n_both"] / blind["n_tag"]) / (blind["n_outcome"] / blind["n"])
    )


def test_rows_drawn_with_known_chance_are_weighted_by_it():
    _, v, tag, attack = audited()
    row = va.tags.lift(v, "attack").iloc[0]
    weight = (1 / v["inclusion_prob"]).fillna(0).to_numpy()
    both = v["attack"].notna().to_numpy() & tag
    r, c, a, n = (weight @ x for x in (tag, v["attack"].notna().to_numpy(), both, np.ones(len(v))))
    want = [r / n, a / r, a / c, a * n / (r * c)]
    assert row[RATES[:4]].tolist() == pytest.approx(want)
    assert row["weighted"]
    assert row["n"] == v["inclusion_prob"].notna().sum()
    assert row["n_both"] == both.sum()
    assert row["hit_rate"] == pytest.approx(tag.mean(), rel=0.1)
    truth = attack[tag].mean()
    assert row["precision_low"] < truth < row["precision_high"]
    assert row["lift_low"] < truth / attack.mean() < row["lift_high"]
    bands = va.tags.risk_bands(v, (0, 600), "attack")
    assert bands["outcome_rate"].tolist() == pytest.approx([(c - a) / (n - r), a / r])
    yes, no = np.array([c - a, a]), np.array([n - r - c + a, r - a])
    auc = (yes[1] * no[0] + (yes @ no) / 2) / (yes.sum() * no.sum())
    assert bands["auc"].iloc[0] == pytest.approx(auc)
    catch = va.tags.catch(v, "attack").iloc[0]
    assert [catch["catch_rate"], catch["hit_share"]] == pytest.approx([a / c, r / n])


def test_one_chance_for_all_weighs_nothing_and_other_labels_are_no_draw():
    _, v, _, _ = audited(3000)
    v["inclusion_prob"] = v["inclusion_prob"].where(v["inclusion_prob"] == 1.0)  # rejected rows
    row = va.tags.lift(v, "attack").iloc[0]
    held = v[v["inclusion_prob"].notna()]
    plain = va.tags.lift(held.drop(columns=["inclusion_prob", "result"]), "attack").iloc[0]
    assert not row["weighted"]
    assert row["n_unknown"] == len(v) - len(held)
    both = [*RATES, "n", "n_both", "p_value", "precision_low", "lift_low", "odds_ratio_high"]
    assert row[both].tolist() == pytest.approx(plain[both].tolist(), nan_ok=True)


@pytest.mark.parametrize("outcome", [None, ["bad"], "occurred_at", "risk_tags", 3])
def test_an_outcome_that_is_none_is_one_clear_line(outcome):
    v = w.frame(ROWS[:5])
    for statistic in (va.tags.lift, va.tags.catch, lambda v, o: va.tags.risk_bands(v, outcome=o)):
        with pytest.raises(UsageError, match="outcome"):
            statistic(v, outcome)


def test_a_tag_the_code_book_does_not_know_is_listed():
    rows = [w.row(i, risk_tags=["99123"] if i < 3 else ["14010"]) for i in range(10)]
    table = va.tags.lift(w.frame(rows)).set_index("tag")
    assert not table.loc["99123", "known"]
    assert table.loc["14010", ["known", "family_en"]].tolist() == [True, "device"]
    assert set(table["reason"]) == {"no_outcome"}
    assert table["lift"].isna().all()


# ------------------------------------------------------------------ pairs, catch


def test_pairs_against_a_loop():
    table = va.tags.pairs(w.frame(ROWS))
    rows = [set(r["risk_tags"] or ()) for r in ROWS if asked(r)]
    tags = sorted({t for r in rows for t in r})
    assert len(table) == len([*itertools.combinations(tags, 2)])
    for row in table.itertuples():
        n_a, n_b = (sum(t in r for r in rows) for t in (row.tag_a, row.tag_b))
        both = sum({row.tag_a, row.tag_b} <= r for r in rows)
        either = sum(bool({row.tag_a, row.tag_b} & r) for r in rows)
        assert (row.n, row.n_a, row.n_b, row.n_both) == (len(rows), n_a, n_b, both)
        x, y = (np.array([t in r for r in rows], dtype=float) for t in (row.tag_a, row.tag_b))
        assert row.phi == pytest.approx(np.corrcoef(x, y)[0, 1])
        assert row.jaccard == pytest.approx(both / either)
        assert row.lift == pytest.approx(both * len(rows) / (n_a * n_b))


def test_ties_of_catch_go_to_fewer_new_hits_then_to_the_tag():
    rows = [w.row(i, risk_tags=["14010"], score=50.0) for i in range(2)]
    rows += [w.row(10 + i, risk_tags=["13001"], score=50.0 if i < 2 else 85.0) for i in range(5)]
    rows += [w.row(20 + i, risk_tags=["11003"], score=50.0) for i in range(2)]
    table = va.tags.catch(w.frame(rows))
    assert table["tag"].tolist() == ["11003", "14010", "13001"]
    assert table["n_new_hits"].tolist() == [2, 2, 5]


# ------------------------------------------------------------------ the risk score


def test_bands_against_loops():
    table = va.tags.risk_bands(w.frame(ROWS), (0, 300, 600, 900))
    counted = [r for r in ROWS if r["risk_score"] is not None and non_match(r) is not None]
    yes, no = ([r["risk_score"] for r in counted if non_match(r) is b] for b in (True, False))
    iv = 0.0
    for row, low, high in zip(
        table.itertuples(), (0, 300, 600, 900), (300, 600, 900, 1e9), strict=True
    ):
        x, m = (sum(low <= s < high for s in side) for side in (yes, no))
        assert (row.n, row.n_outcome) == (x + m, x)
        share = (x / len(yes), m / len(no))
        assert row.woe == pytest.approx(math.log(share[0] / share[1]))
        iv += (share[0] - share[1]) * row.woe
        assert row.gain == pytest.approx(sum(s >= low for s in yes) / len(yes))
        assert row.depth == pytest.approx(sum(s >= low for s in yes + no) / len(counted))
    pairs = [(a > b) + (a == b) / 2 for a in yes for b in no]
    assert table["auc"].tolist() == pytest.approx([sum(pairs) / len(pairs)] * 4)
    assert table["iv"].tolist() == pytest.approx([iv] * 4)
    assert table["ks"].iloc[0] == pytest.approx(stats.ks_2samp(yes, no).statistic)
    assert set(table["smoothing"]) == {0.0}


def risky(falling=False):
    """Risk scores with rising (or falling) rates of non-match, 200 rows each."""
    rates = (1, 2, 4, 8)
    return w.frame(
        [
            w.row(
                1000 * b + i,
                risk_score=300 * (3 - b if falling else b),
                score=50.0 if i % 20 < x else 85.0,
            )
            for b, x in enumerate(rates)
            for i in range(200)
        ]
    )


def test_the_direction_of_the_risk_score_is_estimated():
    up, down = va.tags.risk_bands(risky()), va.tags.risk_bands(risky(falling=True))
    assert set(up["direction"]) == {"higher"}
    assert set(down["direction"]) == {"lower"}
    assert up["gain"].tolist() == pytest.approx(down["gain"].tolist()[::-1])
    assert up["gain"].iloc[0] == pytest.approx(1.0)
    assert down["gain"].iloc[-1] == pytest.approx(1.0)
    assert up["auc_low"].iloc[0] > 0.5 > down["auc_high"].iloc[0]
    even = w.frame(
        [w.row(i, risk_score=300 * (i % 4), score=50.0 if i % 5 == 0 else 85.0) for i in range(400)]
    )
    assert set(va.tags.risk_bands(even)["direction"]) == {"not evident"}


def exact_p(yes, no):
    """Two-sided p-value of the area, by every way to deal the outcome out over the rows."""
    rows = [*yes, *no]

    def area(chosen):
        mine = [rows[i] for i in chosen]
        rest = [rows[i] for i in range(len(rows)) if i not in chosen]
        return sum((a > b) + (a == b) / 2 for a in mine for b in rest) / (len(mine) * len(rest))

    areas = [area(c) for c in itertools.combinations(range(len(rows)), len(yes))]
    far = abs(areas[0] - 0.5)  # the first way is the one that was found
    return sum(abs(a - 0.5) >= far - 1e-12 for a in areas) / len(areas)


@pytest.mark.parametrize(
    ("yes", "no"),
    [
        ([900, 900], [0, 0]),
        ([600, 900], [0] * 8 + [300, 300]),
        ([0, 300, 300], [0] * 3 + [600] * 4 + [900] * 2),
    ],
)
def test_the_p_value_of_the_direction_is_that_of_all_rearrangements(yes, no):
    v = pd.DataFrame({"risk_score": yes + no, "bad": [1] * len(yes) + [0] * len(no)})
    table = va.tags.risk_bands(v, outcome="bad")
    want = exact_p(yes, no)
    assert table["p_value"].iloc[0] == pytest.approx(want, abs=4 * math.sqrt(want / 9999) + 1e-4)
    assert (table["direction"] == "not evident").all() == (want > 0.05)
    low, high = table["auc_low"].iloc[0], table["auc_high"].iloc[0]
    assert low < table["auc"].iloc[0] <= high
    assert (low < 0.5 < high) == (want > 0.05)


def test_rows_of_one_person_do_not_make_a_direction():
    """Four outcomes of one person are one outcome, and the persons are rearranged instead."""
    v = pd.DataFrame(
        {
            "risk_score": [900] * 4 + [0] * 40,
            "bad": [1] * 4 + [0] * 40,
            "subject": ["p"] * 4 + [f"s{i}" for i in range(40)],
        }
    )
    alone = va.tags.risk_bands(v.drop(columns="subject"), outcome="bad").iloc[0]
    known = va.tags.risk_bands(v, outcome="bad").iloc[0]
    assert (alone["direction"], known["clustered"], alone["clustered"]) == ("higher", True, False)
    assert known["p_value"] == pytest.approx(1 / 41, abs=0.006)
    assert known["deff"] == pytest.approx((16 + 40) / 44)
    thrice = pd.concat([risky().assign(subject=[f"s{i}" for i in range(800)])] * 3)
    once, three = (va.tags.risk_bands(f) for f in (thrice.iloc[:800], thrice))
    for name in ("outcome_rate_low", "outcome_rate_high", "auc_low", "auc_high"):
        assert three[name].tolist() == pytest.approx(once[name].tolist(), rel=2e-3)


def test_a_score_between_the_vendor_s_levels_is_not_rounded_into_the_next_band():
    v = pd.DataFrame({"risk_score": [299.6, 0.0, 300.0, None], "bad": [1, 0, 0, 1]})
    for engine, frame in w.engines(v).items():
        table = va.tags.risk_bands(frame, outcome="bad")
        assert table["n"].tolist() == [2, 1, 0, 0], engine
        assert set(table["n_without_score"]) == {1}, engine


def test_bands_nobody_is_in_do_not_change_the_information_value():
    v = pd.DataFrame({"risk_score": [0] * 10 + [900] * 10, "bad": [0] * 10 + [1] * 10})
    few, many = (va.tags.risk_bands(v, b, "bad") for b in ((0, 900), (0, 300, 600, 700, 800, 900)))
    assert few["iv"].iloc[0] == pytest.approx(2 * 10 / 11 * math.log(21) / 1)
    assert many["iv"].iloc[0] == pytest.approx(few["iv"].iloc[0])
    assert many["woe"].dropna().tolist() == pytest.approx(few["woe"].tolist())


def test_a_band_empty_on_one_side_is_smoothed_and_says_so():
    rows = [w.row(i, risk_score=0) for i in range(10)]
    rows += [w.row(20 + i, risk_score=900, score=50.0) for i in range(10)]
    table = va.tags.risk_bands(w.frame(rows))
    assert set(table["smoothing"]) == {0.5}
    woe = math.log((0.5 / 11) / (10.5 / 11))
    assert table["woe"].iloc[0] == pytest.approx(woe)
    assert table["woe"].iloc[1:3].isna().all()
    below = va.tags.risk_bands(w.frame([*rows, w.row(99, risk_score=-1)]), (0, 900))
    assert below["band"].tolist() == ["< 0", "0 - < 900", ">= 900"]
    for wrong in ((), (300, 0), (0, math.nan), ("a",)):
        with pytest.raises(UsageError):
            va.tags.risk_bands(w.frame(rows), wrong)


# ------------------------------------------------------------------ scores


def test_scores_with_and_without_a_tag_against_a_loop():
    table = va.tags.scores(w.frame(ROWS), 5)
    regimes = {w.regime(r) for r in ROWS if w.is_answered(r) and asked(r)} - {"incomplete"}
    assert set(table["regime"]) == regimes
    for (regime, tag), part in table.groupby(["regime", "tag"]):
        rows = [r for r in ROWS if w.is_answered(r) and asked(r) and w.regime(r) == regime]
        for side, has in (("with", True), ("without", False)):
            mine = [r["score"] for r in rows if (tag in (r["risk_tags"] or ())) == has]
            scores = [s for s in mine if s is not None]
            counted, _ = np.histogram(scores, np.arange(0, 101, 5))
            assert part[f"n_{side}"].tolist() == counted.tolist()
            assert (part[f"n_scored_{side}"] == len(scores)).all()
            assert (part[f"n_no_score_{side}"] == len(mine) - len(scores)).all()
    assert len(table) == 20 * len(regimes) * table["tag"].nunique()


def test_a_tag_whose_scores_are_lower_has_a_positive_distance():
    rows = [w.row(i, risk_tags=["14010"], score=71.0) for i in range(10)]
    rows += [w.row(20 + i, score=95.0) for i in range(10)]
    assert set(va.tags.scores(w.frame(rows))["ks"]) == {1.0}
    with pytest.raises(UsageError, match="divide 100"):
        va.tags.scores(w.frame(rows), 3)
    for width in ("5", None, 0, math.nan):
        with pytest.raises(UsageError, match="bin_width"):
            va.tags.scores(w.frame(rows), width)


# ------------------------------------------------------------------ engines, empty frames


STATISTICS = {
    "tag_lift": lambda v: va.tags.lift(v, "rejected"),
    "tag_pairs": va.tags.pairs,
    "tag_catch": va.tags.catch,
    "risk_bands": va.tags.risk_bands,
    "tag_scores": va.tags.scores,
}


@pytest.mark.parametrize("name", STATISTICS)
def test_every_engine_gives_the_same_frame(name):
    frames = w.engines(w.frame(ROWS[:200]))
    first = STATISTICS[name](frames.pop("pandas"))
    for engine, frame in frames.items():
        pd.testing.assert_frame_equal(first, STATISTICS[name](frame), obj=f"{name} on {engine}")


@pytest.mark.parametrize("name", STATISTICS)
@pytest.mark.parametrize(
    "rows", [[], [w.row(0, risk_tags=None, risk_score=None)]], ids=["none", "one"]
)
def test_nothing_to_count_is_an_empty_frame_or_nan_and_no_warning(name, rows):
    frame = w.frame(rows) if rows else w.frame([w.row(0)]).iloc[:0]
    full = STATISTICS[name](w.frame(ROWS))
    table = STATISTICS[name](frame)
    assert list(table.columns) == list(full.columns)
    assert table.dtypes.to_dict() == full.dtypes.to_dict()
    assert len(table) == (4 if name == "risk_bands" else 0)


# ------------------------------------------------------------------ what charts say of labels


DRAWN = {
    "tags.lift": lambda v, **k: va.tags.lift(v, "attack", **k),
    "tags.catch": lambda v, **k: va.tags.catch(v, "attack", **k),
    "tags.risk_bands": lambda v, **k: va.tags.risk_bands(v, (0, 600), "attack", **k),
}


@pytest.mark.parametrize("name", DRAWN)
def test_a_chart_of_selected_labels_is_refused_and_consent_is_printed(name):
    import matplotlib.pyplot as plt

    selected, weighted, _, _ = audited(3000)
    draw = attrgetter(name)(va.charts)
    with pytest.raises(UsageError, match="look like a selection"):
        draw(DRAWN[name](selected))
    for table, words in (
        (DRAWN[name](selected, assume_random=True), "labels taken as random"),
        (DRAWN[name](weighted), "weighted by the probability"),
    ):
        figure = draw(table).figure
        shown = [text.get_text() for text in figure.findobj(plt.Text)]
        assert any(words in text for text in shown)
        plt.close(figure)
