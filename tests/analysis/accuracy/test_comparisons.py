"""Whole transactions, pairs of rules, groups, the vendor's claim: against plain loops."""

import datetime as dt
import random
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from builders import frames as w
from scipy import stats

import verifyanalytics as va
from verifyanalytics import verdicts as decisions
from verifyanalytics.analysis.base import intervals as iv
from verifyanalytics.errors import UsageError


def truth_of(rows, seed=0, attacks=True):
    rng = random.Random(seed)
    said = [
        (r, rng.random() < 0.7, rng.choice([None] * 5 + ["screen", "mask"]) if attacks else None)
        for r in rows
    ]
    labels = pd.DataFrame(
        [{"request_id": r["request_id"], "mated": m, "attack": a} for r, m, a in said]
    )
    return said, va.labels.join(w.frame(rows), labels)


# ------------------------------------------------------------------ attacks and transactions


def test_detection_rates_are_those_of_a_loop():
    said, truth = truth_of(w.messy(600, seed=1), 1)
    table = va.accuracy.detection_rates(truth, assume_random=True)
    table = table.set_index(["measure", "species"])
    for species in ("mask", "screen"):
        mine = [r for r, _, a in said if a == species]
        decided = [r for r in mine if r["alive"] is not None]
        apcer = table.loc[("APCER", species)]
        assert (apcer["n_errors"], apcer["n_rows"]) == (
            sum(r["alive"] for r in decided),
            len(decided),
        )
        apnrr = table.loc[("APNRR", species)]
        assert (apnrr["n_errors"], apnrr["n_rows"]) == (len(mine) - len(decided), len(mine))
        accepted = sum(w.gate_states(r)["match"] is True and r["result"] is True for r in mine)
        assert table.loc[("IAPAR", species), "n_errors"] == accepted
    bona_fide = [r for r, m, a in said if a is None and m]
    decided = [r for r in bona_fide if r["alive"] is not None]
    bpcer = table.loc[("BPCER", "bona fide")]
    assert (bpcer["n_errors"], bpcer["n_rows"]) == (
        sum(not r["alive"] for r in decided),
        len(decided),
    )
    worst = table.loc["APCER"].drop(index=[i for i in table.loc["APCER"].index if "max" in i])
    top = table.loc["APCER"].filter(like="maximum", axis=0).iloc[0]
    assert top["rate"] == worst["rate"].max()
    with pytest.raises(UsageError, match="no row is labelled as an attack"):
        va.accuracy.detection_rates(truth.assign(attack=None))


def test_transaction_rates_are_those_of_a_loop():
    said, truth = truth_of(w.messy(800, seed=2), 2)
    table = va.accuracy.transaction_rates(truth, assume_random=True)
    rows = table[table["unit"] == "row"].set_index(["measure", "first_gate"])
    for measure, mated, wrong in (("FRR", True, False), ("FAR", False, True)):
        mine = [r for r, m, a in said if a is None and m == mated]
        decided = [r for r in mine if r["result"] is not None]
        events = [r for r in decided if r["result"] == wrong]
        top = rows.loc[(measure, "all")]
        assert (top["n_events"], top["n_transactions"]) == (len(events), len(decided))
        assert top["n_undecided"] == len(mine) - len(decided)
        for gate in ("answered", "match", "risk"):
            assert rows.loc[(measure, gate), "n_events"] == sum(
                w.first_gate(r) == gate for r in events
            )
    mated = [r for r, m, a in said if a is None and m and w.is_answered(r)]
    base = [r for r in mated if r["sub_code"] != 210205]
    fta = rows.loc[("FTA", "all")]
    assert (fta["n_events"], fta["n_transactions"]) == (
        sum(r["sub_code"] == 210302 for r in base), len(base),
    )  # fmt: skip
    known = [w.gate_states(r)["match"] for r in mated if w.gate_states(r)["match"] is not None]
    fnmr = rows.loc[("FNMR", "all")]
    assert (fnmr["n_events"], fnmr["n_transactions"]) == (known.count(False), len(known))
    both = rows.loc[("frr_comparison_only", "all"), "rate"]
    assert both == pytest.approx(fta["rate"] + fnmr["rate"] * (1 - fta["rate"]))


def test_a_session_is_one_transaction():
    rows = []
    for who in range(20):
        for j in range(2):  # owners fail once, then pass; strangers fail twice
            rows.append(
                w.row(
                    len(rows),
                    subject=f"p{who}",
                    occurred_at=w.START + dt.timedelta(minutes=j),
                    score=80.0 if j and who < 15 else 60.0,
                    result=bool(j and who < 15),
                )
            )
    labels = pd.DataFrame(
        {"request_id": [r["request_id"] for r in rows], "mated": [i < 30 for i in range(40)]}
    )
    table = va.accuracy.transaction_rates(va.labels.join(w.frame(rows), labels))
    table = table[table["first_gate"] == "all"].set_index(["unit", "measure"])
    assert table.loc[("row", "FRR"), "rate"] == 0.5
    assert table.loc[("session", "FRR"), ["n_events", "n_transactions"]].tolist() == [0, 15]
    assert table.loc[("session", "FAR"), ["n_events", "n_transactions"]].tolist() == [0, 5]


def test_selected_labels_give_no_transaction_rate():
    rows = [w.row(i, score=65.0 + i % 30, result=i % 30 >= 5) for i in range(300)]
    labels = pd.DataFrame(
        {"request_id": [r["request_id"] for r in rows if r["result"]], "mated": True}
    )
    truth = va.labels.join(w.frame(rows), labels)
    table = va.accuracy.transaction_rates(truth)
    assert table["rate"].isna().all()
    assert set(table["reason"]) == {"selected_labels"}
    assert set(va.accuracy.transaction_rates(truth, assume_random=True)["note"]) == {
        "labels taken as random"
    }


def repeated(n_persons, tries, seed=0):
    """Persons who only repeat themselves: a tenth of the owners fails, of the strangers matches."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(n_persons), tries)
    mated, odd = who % 2 == 0, rng.random(n_persons)[who] < 0.1
    score = np.where(mated, np.where(odd, 65.0, 85.0), np.where(odd, 75.0, 45.0))
    return [
        w.row(
            i, score=float(s), result=bool(s >= 70), subject=f"p{p}",
            occurred_at=w.START + dt.timedelta(hours=i), alive=bool(p % 3),
        )
        for i, (s, p) in enumerate(zip(score, who, strict=True))
    ], mated.tolist()  # fmt: skip


def persons_interval(persons, base, event):
    """The interval of a rate when persons are the sample: the formula, over a dict of persons."""
    m, y = {}, {}
    for i, who in enumerate(persons):
        m[who] = m.get(who, 0) + base[i]
        y[who] = y.get(who, 0) + event[i]
    n, g = sum(m.values()), sum(1 for v in m.values() if v)
    rate = sum(y.values()) / n
    spread = sum((y[p] - rate * m[p]) ** 2 for p in m)
    deff = g / (g - 1) * spread / n**2 / (rate * (1 - rate) / n)
    return rate, iv.rate_interval(sum(y.values()), n, deff, g)


def test_ten_tries_of_a_person_are_not_ten_transactions():
    rows, mated = repeated(600, 10)
    truth = w.frame(rows).assign(mated=mated, attack=None)
    table = va.accuracy.transaction_rates(truth, assume_random=True)
    table = table[table["first_gate"] == "all"].set_index(["unit", "measure"])
    for measure, side, wrong in (("FRR", True, False), ("FAR", False, True), ("FNMR", True, False)):
        mine = [r for r, m in zip(rows, mated, strict=True) if m == side]
        rate, (low, high) = persons_interval(
            [r["subject"] for r in mine], [1] * len(mine), [r["result"] == wrong for r in mine]
        )
        for unit in ("row",) if measure == "FNMR" else ("row", "session"):
            got = table.loc[(unit, measure)]
            assert got["rate"] == pytest.approx(rate)
            assert [got["rate_low"], got["rate_high"]] == pytest.approx([low, high])
    blind = va.accuracy.transaction_rates(truth, cluster=None, assume_random=True).iloc[0]
    assert blind["rate_high"] < table.loc[("row", "FRR"), "rate_high"]


def test_ten_tries_of_an_attacker_are_not_ten_attacks():
    rows, mated = repeated(60, 10)
    species = [None if m else "mask" for m in mated]
    truth = w.frame(rows).assign(mated=mated, attack=species)
    table = va.accuracy.detection_rates(truth, assume_random=True)
    got = table.set_index(["measure", "species"])
    for measure, name, side, wrong in (
        ("APCER", "mask", False, True), ("BPCER", "bona fide", True, False),
    ):  # fmt: skip
        mine = [r for r, m in zip(rows, mated, strict=True) if m == side]
        rate, limits = persons_interval(
            [r["subject"] for r in mine], [1] * len(mine), [r["alive"] == wrong for r in mine]
        )
        there = got.loc[(measure, name)]
        assert there["rate"] == pytest.approx(rate)
        assert [there["rate_low"], there["rate_high"]] == pytest.approx([*limits])


def drawn_unequally(n=3000, seed=3):
    """Rows near the threshold drawn always, others one time in ten; a third come with a person."""
    rng = random.Random(seed)
    rows, labels = [], []
    for i in range(n):
        owner = rng.random() < 0.6
        score = min(100.0, max(0.0, rng.gauss(82 if owner else 45, 9)))
        row = w.row(
            i, score=score, result=score >= 70, alive=rng.random() < (0.95 if owner else 0.3),
            subject=f"s{rng.randrange(n // 4)}" if i % 3 else None,
            occurred_at=w.START + dt.timedelta(hours=5 * i),
        )  # fmt: skip
        rows.append(row)
        chance = 1.0 if 60 < score < 80 else 0.1
        if rng.random() < chance:
            attack = "mask" if not owner and i % 4 == 0 else None
            labels.append((row["request_id"], owner, attack, chance))
        elif rng.random() < 0.05:  # reported: no draw
            labels.append((row["request_id"], owner, "mask", None))
    names = ["request_id", "mated", "attack", "inclusion_prob"]
    table = pd.DataFrame(labels, columns=names)
    by_id = {r["request_id"]: r for r in rows}
    sample = [(by_id[i], m, a, c) for i, m, a, c in labels if c]
    return sample, va.labels.join(w.frame(rows), table)


def hajek(sample, base, event):
    weights = [(1 / c, event(r)) for r, m, a, c in sample if base(r, m, a)]
    return sum(x for x, e in weights if e) / sum(x for x, _ in weights)


def test_rows_drawn_unequally_are_weighted_in_transactions_and_attacks():
    sample, truth = drawn_unequally()
    table = va.accuracy.transaction_rates(truth)
    rows = table[table["unit"] == "row"].set_index(["measure", "first_gate"])
    frr = hajek(sample, lambda r, m, a: m and a is None, lambda r: not r["result"])
    far = hajek(sample, lambda r, m, a: not m and a is None, lambda r: r["result"])
    dead = hajek(
        sample, lambda r, m, a: m and a is None, lambda r: not r["result"] and not r["alive"]
    )
    got = [rows.loc[k, "rate"] for k in (("FRR", "all"), ("FAR", "all"), ("FRR", "alive"))]
    assert got == pytest.approx([frr, far, dead])
    same = va.accuracy.error_rates(truth, 70.0).iloc[0]
    assert rows.loc[("FNMR", "all"), ["rate", "rate_low", "rate_high"]].tolist() == pytest.approx(
        same[["fnmr", "fnmr_low", "fnmr_high"]].tolist()
    )
    sessions = table[table["unit"] == "session"]
    assert set(sessions["reason"]) == {"unequal_inclusion"}
    assert sessions[["rate", "rate_low", "rate_high"]].isna().all(axis=None)
    found = va.accuracy.detection_rates(truth).set_index(["measure", "species"])["rate"]
    apcer = hajek(sample, lambda r, m, a: a == "mask", lambda r: r["alive"])
    bpcer = hajek(sample, lambda r, m, a: m and a is None, lambda r: not r["alive"])
    assert found[("APCER", "mask")] == pytest.approx(apcer)
    assert found[("BPCER", "bona fide")] == pytest.approx(bpcer)


def test_reported_attacks_are_a_selection_while_rows_are_drawn():
    _, truth = drawn_unequally()
    drawn_attack = truth["attack"].notna() & truth["inclusion_prob"].notna()
    truth = truth[~drawn_attack]
    table = va.accuracy.detection_rates(truth).set_index("measure")
    assert table.loc["APCER", ["reason", "n_rows"]].tolist() == [
        "selected_labels", int(truth["attack"].notna().sum()),
    ]  # fmt: skip
    assert np.isnan(table.loc["APCER", "rate"])
    assert table.loc["BPCER", "rate"] > 0
    taken = va.accuracy.detection_rates(truth, assume_random=True).set_index(["measure", "species"])
    assert taken.loc[("APCER", "mask"), "note"] == "labels taken as random"
    assert taken.loc[("BPCER", "bona fide"), "note"] == ""


def test_labels_of_those_whom_liveness_turned_away_give_no_rate_of_detection():
    rows = [w.row(i, alive=i % 10 != 0, result=i % 10 != 0) for i in range(300)]
    mated = pd.array([True if i % 10 == 0 else None for i in range(300)], dtype="boolean")
    attack = ["print" if i == 5 else None for i in range(300)]
    truth = w.frame(rows).assign(mated=mated, attack=attack)
    table = va.accuracy.detection_rates(truth)
    assert set(table["reason"]) == {"selected_labels"}
    assert table[["rate", "rate_low", "rate_high"]].isna().all(axis=None)
    assert table.set_index("measure").loc["BPCER", ["n_errors", "n_rows"]].tolist() == [30, 30]
    taken = va.accuracy.detection_rates(truth, assume_random=True).set_index("measure")
    assert taken.loc["BPCER", "rate"] == 1
    assert set(taken["note"]) == {"labels taken as random"}


# ------------------------------------------------------------------ two rules


def test_compare_is_mcnemar_on_different_scores_and_counts_on_nested_thresholds():
    rng = np.random.default_rng(1)
    mated = rng.random(500) < 0.6
    score = rng.normal(50 + 30 * mated, 10)
    other = score + rng.normal(0, 8, 500)
    truth = pd.DataFrame({"score": score, "score_new": other, "mated": mated})
    table = va.accuracy.compare(truth, 65.0, ("score_new", 65.0)).set_index("class")
    for name, wanted in (("mated", True), ("nonmated", False)):
        mine = mated == wanted
        wrong = [(x[mine] >= 65) != wanted for x in (score, other)]
        only = [int((wrong[0] & ~wrong[1]).sum()), int((wrong[1] & ~wrong[0]).sum())]
        got = table.loc[name]
        assert [got["n_only_a"], got["n_only_b"]] == only
        assert got["p_exact"] == pytest.approx(stats.binomtest(only[0], sum(only)).pvalue)
        assert got["difference"] == pytest.approx((only[1] - only[0]) / mine.sum())
    nested = va.accuracy.compare(truth, 60.0, 70.0).set_index("class")
    assert nested["p_exact"].isna().all()
    assert set(nested["reason"]) == {"nested_thresholds"}
    assert nested.loc["mated", "n_only_a"] == 0  # the lower threshold turns away nobody else
    assert nested.loc["nonmated", "n_only_b"] == 0


def test_tries_of_one_person_do_not_make_a_difference_significant():
    truth = pd.DataFrame(
        {"score": [80.0] * 10 + [10.0] * 5, "mated": [True] * 10 + [False] * 5,
         "new": [60.0] * 10 + [10.0] * 5, "subject": ["p"] * 10 + [None] * 5}
    )  # fmt: skip
    got = va.accuracy.compare(truth, 70.0, ("new", 70.0)).set_index("class").loc["mated"]
    assert np.isnan(got["p_exact"])  # ten rows of one person are no ten trials
    assert got["p_clustered"] == pytest.approx(stats.chi2.sf(1, 1))
    blind = va.accuracy.compare(truth, 70.0, ("new", 70.0), cluster=None).iloc[0]
    assert blind["p_exact"] == pytest.approx(2 * 0.5**10)


def test_the_verdict_is_a_rule_too_and_a_score_is_compared_within_its_regime():
    said, truth = truth_of(w.messy(300, seed=5), 5, attacks=False)
    table = va.accuracy.compare(truth, "result", 70.0, assume_random=True)
    assert set(table["note"]) <= {"", "labels taken as random"}
    compared = [(r, m) for r, m, _ in said if w.is_scored(r) or w.is_withheld(r)]
    assert set(table["regime"]) == {w.regime(r) for r, _ in compared}
    for got in table.to_dict("records"):
        mated = got["class"] == "mated"
        mine = [r for r, m in compared if m == mated and w.regime(r) == got["regime"]]
        assert got["n_rows"] == len(mine)
        assert got["n_errors_a"] == sum((r["result"] is True) != mated for r in mine)
        assert got["n_errors_b"] == sum(
            (r["score"] is not None and r["score"] >= 70) != mated for r in mine
        )
    other = va.accuracy.compare(truth, "result", "alive", assume_random=True)
    assert other["regime"].tolist() == ["all regimes"] * 2
    assert other["n_rows"].sum() == len(compared)


def test_two_rules_on_rows_drawn_unequally():
    sample, truth = drawn_unequally()
    got = va.accuracy.compare(truth, "result", 75.0).set_index("class").loc["mated"]
    owners = [(r, 1 / c) for r, m, a, c in sample if m and a is None]
    total = sum(x for _, x in owners)
    a = sum(x for r, x in owners if not r["result"]) / total
    b = sum(x for r, x in owners if r["score"] < 75) / total
    assert got[["rate_a", "rate_b", "difference"]].tolist() == pytest.approx([a, b, b - a])
    assert got["weighted"]
    assert np.isnan(got["p_exact"])
    gain = {}
    for i, (r, x) in enumerate(owners):
        who = r["subject"] or i
        gain[who] = gain.get(who, 0) - x * (r["result"] and r["score"] < 75)
    chi = sum(gain.values()) ** 2 / sum(g * g for g in gain.values())
    assert got["p_clustered"] == pytest.approx(stats.chi2.sf(chi, 1))


@pytest.mark.parametrize("engine", ["pandas", "arrow", "polars", "polars_lazy", "duckdb"])
def test_a_second_score_that_is_null_or_nan_is_a_rejection(engine):
    import polars as pl
    import pyarrow as pa

    rows = w.frame([w.row(i) for i in range(20)])
    table = pl.from_arrow(pa.Table.from_pandas(rows, preserve_index=False)).with_columns(
        mated=pl.Series([i % 2 == 0 for i in range(20)]),
        score_new=pl.Series([float("nan"), None] * 10),
    )
    import duckdb

    frames = {
        "pandas": table.to_pandas, "arrow": table.to_arrow, "polars": lambda: table,
        "polars_lazy": table.lazy, "duckdb": lambda: duckdb.connect().from_arrow(table.to_arrow()),
    }  # fmt: skip
    got = va.accuracy.compare(frames[engine](), 70.0, ("score_new", 71.5))
    assert got[["n_errors_a", "n_errors_b"]].to_numpy().tolist() == [[0, 10], [10, 0]]


def selected_labels():
    """Owners and strangers of whom those just below the threshold are hardly labelled."""
    truth = population(600, 6)
    for name, t in zip(w.LEVELS, w.PAGE, strict=True):
        truth[name] = t
    truth = truth.assign(req_key="k", result=truth["score"] >= 70)
    odd = truth["score"].between(60, 70) & (truth.index % 10 > 0)
    return truth.assign(mated=truth["mated"].astype("boolean").where(~odd))


def test_selected_labels_give_no_comparison_and_no_threshold():
    truth = selected_labels()
    both = va.accuracy.compare(truth, 70.0, "result")
    assert set(both["reason"]) == {"selected_labels"}
    assert both[["rate_a", "rate_b", "difference", "p_exact"]].isna().all(axis=None)
    assert (both["n_rows"] > 0).all()
    taken = va.accuracy.compare(truth, 70.0, "result", assume_random=True)
    assert taken["rate_a"].notna().all()
    assert set(taken["note"]) == {"labels taken as random"}
    chosen = va.accuracy.out_of_sample(truth, 0.5, fmr=0.05).iloc[0]
    assert chosen["reason"] == "selected_labels"
    rates = [c for c in chosen.index if c.endswith(("fmr", "fnmr", "_low", "_high", "threshold"))]
    assert len(rates) == 9
    assert chosen[rates].isna().all()
    taken = va.accuracy.out_of_sample(truth, 0.5, fmr=0.05, assume_random=True).iloc[0]
    assert taken[rates].notna().all()
    assert taken["note"] == "labels taken as random"


# ------------------------------------------------------------------ out of sample


def population(n, seed, tries=1):
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(n), tries)
    mated = who % 2 == 0
    person = rng.normal(0, 5, n)[who]
    score = np.clip(np.where(mated, 75, 40) + person + rng.normal(0, 8, who.size), 0, 100)
    moments = [w.START + dt.timedelta(hours=int(h)) for h in rng.integers(0, 24 * 28, who.size)]
    frame = pd.DataFrame({"score": score, "mated": mated, "subject": [f"s{i}" for i in who]})
    return frame.assign(occurred_at=pd.to_datetime(pd.Series(moments), utc=True))


def test_no_subject_is_on_both_sides():
    truth = population(400, 3, tries=3)
    got = va.accuracy.out_of_sample(truth, choose_on=0.5, fmr=0.05).iloc[0]
    total = got["chosen_n_mated"] + got["chosen_n_nonmated"]
    total += got["scored_n_mated"] + got["scored_n_nonmated"]
    assert total == len(truth)
    assert got["n_left_out"] == 0
    for side in ("chosen", "scored"):
        assert got[f"{side}_n_mated"] % 3 == 0  # whole persons
    assert got["chosen_fmr"] <= 0.05


def test_by_time_the_later_rows_of_earlier_subjects_are_left_out():
    truth = population(400, 4, tries=3)
    got = va.accuracy.out_of_sample(truth, choose_on="2024-05-20", fnmr=0.1).iloc[0]
    day = pd.Timestamp("2024-05-20", tz="UTC")
    early = truth["occurred_at"] < day
    seen = set(truth.loc[early, "subject"])
    later = truth[~early & ~truth["subject"].isin(seen)]
    assert got["chosen_n_mated"] + got["chosen_n_nonmated"] == early.sum()
    assert got["scored_n_mated"] + got["scored_n_nonmated"] == len(later)
    assert got["n_left_out"] == len(truth) - early.sum() - len(later)
    t = got["threshold"]
    mated = later[later["mated"]]
    assert got["scored_fnmr"] == pytest.approx((mated["score"] < t).mean())
    span = va.accuracy.out_of_sample(
        truth, choose_on=("2024-05-06", "2024-05-13"), score_on=("2024-05-20", "2024-05-27")
    ).iloc[0]
    assert span["rule"] == "eer"


def test_the_realised_rate_is_too_good_out_of_sample_it_is_not():
    chosen, scored = [], []
    for seed in range(12):
        truth = population(300, seed)
        got = va.accuracy.out_of_sample(truth, choose_on=0.4, fmr=0.05, seed=seed).iloc[0]
        chosen.append(got["chosen_fmr"])
        scored.append(got["scored_fmr"])
    assert max(chosen) <= 0.05
    assert np.mean(np.array(scored) > 0.05) > 0.15


def test_the_scored_part_has_the_limits_of_error_rates():
    rows = [(f"a{i}", 85.0, True, 1) for i in range(100)]
    rows += [(f"b{i}", 45.0 + i % 20, False, 1) for i in range(100)]
    rows += [(f"c{i}", 65.0 if i < 50 else 85.0, True, 20) for i in range(1000)]
    rows += [(f"d{i}", 45.0 + i % 20, False, 20) for i in range(1000)]
    rows += [("bad", 50.0, True, 20)] * 300  # one person with three hundred tries
    rows += [(f"e{i}", None, m, 20) for i, m in enumerate([True, False] * 30)]
    frame = w.frame(
        [
            w.row(
                i, subject=s, score=x, occurred_at=w.START + dt.timedelta(days=d),
                sub_code=0 if x else 210311, result=x == 85.0,
            )
            for i, (s, x, _, d) in enumerate(rows)
        ]
    )  # fmt: skip
    truth = frame.assign(mated=[m for _, _, m, _ in rows])
    later = truth[[d == 20 for *_, d in rows]]
    for target in ({"fmr": 0.0}, {"fmr": 0.2}):  # above and below the own 1e-4 threshold
        got = va.accuracy.out_of_sample(truth, "2024-05-15", **target, assume_random=True).iloc[0]
        same = va.accuracy.error_rates(later, got["threshold"], assume_random=True).iloc[0]
        for name in ("fmr", "fmr_low", "fmr_high", "fnmr", "fnmr_low", "fnmr_high"):
            assert got[f"scored_{name}"] == pytest.approx(same[name]), (target, name)
    assert got["threshold"] < 70
    assert got["scored_fnmr_high"] - got["scored_fnmr_low"] > 0.5


def test_no_threshold_is_chosen_on_rows_drawn_unequally():
    _, truth = drawn_unequally()
    got = va.accuracy.out_of_sample(truth, 0.5, fmr=0.01).iloc[0]
    assert got["reason"] == "unequal_inclusion"
    assert np.isnan([got["threshold"], got["scored_fmr"], got["chosen_fnmr"]]).all()


def test_a_target_that_no_threshold_meets_gives_no_counts():
    rows = [w.row(i, score=None, sub_code=210311, result=False) for i in range(40)]
    rows += [w.row(40 + i, score=50.0 + i % 40) for i in range(160)]
    truth = w.frame(rows).assign(mated=[True] * 80 + [False, True] * 60)
    got = va.accuracy.out_of_sample(truth, 0.5, fnmr=0.0, assume_random=True).iloc[0]
    assert got["reason"] == "target_not_met"
    assert np.isnan(got["threshold"])
    assert got[["chosen_n_false_matches", "scored_n_false_nonmatches"]].isna().all()


# ------------------------------------------------------------------ groups


def grouped(counts):
    """Mated rows by group: (group, n, misses); a few strangers so that both classes are there."""
    parts = [
        pd.DataFrame({"score": [10.0] * x + [90.0] * (n - x), "mated": True, "ctx_group": g})
        for g, n, x in counts
    ]
    parts.append(pd.DataFrame({"score": [5.0] * 50, "mated": False, "ctx_group": counts[0][0]}))
    return pd.concat(parts, ignore_index=True)


def test_differentials_against_their_formulas():
    truth = grouped([("a", 200, 20), ("b", 200, 10), ("c", 400, 40)])
    table = va.accuracy.differentials(truth, "ctx_group", 50.0)
    got = table[table["measure"] == "fnmr"].set_index("ctx_group")
    rates = np.array([0.1, 0.05, 0.1])
    assert got["rate"].to_numpy() == pytest.approx(rates)
    assert got["max_min"].iloc[0] == pytest.approx(2.0)
    assert got["max_geomean"].iloc[0] == pytest.approx(0.1 / np.exp(np.log(rates).mean()))
    gini = sum(abs(x - y) for x in rates for y in rates) / (2 * 9 * rates.mean()) * 3 / 2
    assert got["gini"].iloc[0] == pytest.approx(gini)
    assert got.loc["b", "p"] == pytest.approx(stats.fisher_exact([[10, 190], [60, 540]])[1])
    assert [got.loc["b", "difference_low"], got.loc["b", "difference_high"]] == pytest.approx(
        [*iv.newcombe(10, 200, 60, 600)]
    )
    known = table["p"].dropna()
    assert table["p_adjusted"].dropna().to_numpy() == pytest.approx(
        iv.benjamini_hochberg(known.to_numpy())
    )


def test_a_zero_rate_makes_the_ratio_a_bound():
    truth = grouped([("a", 200, 20), ("b", 100, 0)])
    got = va.accuracy.differentials(truth, "ctx_group", 50.0)
    got = got[got["measure"] == "fnmr"].iloc[0]
    assert got["is_bound"]
    assert got["max_min"] == pytest.approx(0.1 / iv.clopper_pearson(0, 100).high)


def test_a_small_group_is_hidden_and_so_is_the_next_that_would_reveal_it():
    truth = grouped([("a", 200, 20), ("b", 3, 1), ("c", 50, 5), ("d", 90, 8)])
    got = va.accuracy.differentials(truth, "ctx_group", 50.0)
    got = got[got["measure"] == "fnmr"].set_index("ctx_group")
    assert got["hidden"].to_dict() == {"a": False, "b": True, "c": True, "d": False}
    assert got.loc[["b", "c"], ["rate", "n_errors", "n_rows", "p"]].isna().all(axis=None)
    two = grouped([("a", 200, 20), ("b", 3, 1), ("c", 4, 1), ("d", 90, 8)])
    got = va.accuracy.differentials(two, "ctx_group", 50.0)
    got = got[got["measure"] == "fnmr"].set_index("ctx_group")
    assert got["hidden"].to_dict() == {"a": False, "b": True, "c": True, "d": False}


def test_groups_that_do_not_differ_stay_below_their_null_spread():
    rng = np.random.default_rng(2)
    above, reported = 0, 0
    for seed in range(12):
        counts = [(g, 150, int(rng.binomial(150, 0.08))) for g in "abcdef"]
        table = va.accuracy.differentials(grouped(counts), "ctx_group", 50.0, n_null=100, seed=seed)
        got = table[table["measure"] == "fnmr"]
        above += got["gini"].iloc[0] > got["gini_null_high"].iloc[0]
        reported += (got["p_adjusted"] <= 0.05).any()
    assert above <= 4
    assert reported <= 4


def test_ten_tries_of_a_person_do_not_make_a_difference_between_groups():
    rng, found = np.random.default_rng(5), 0
    for seed in range(12):
        person = np.repeat(np.arange(400), 10)
        bad, group = rng.random(400) < 0.1, rng.integers(0, 4, 400)
        owners = pd.DataFrame(
            {"score": np.where(bad[person], 65.0, 85.0), "mated": True,
             "subject": [f"s{p}" for p in person], "ctx_group": [f"g{g}" for g in group[person]]}
        )  # fmt: skip
        strangers = pd.DataFrame(
            {"score": 40.0, "mated": False, "subject": [f"q{i}" for i in range(8)],
             "ctx_group": "g0"}
        )  # fmt: skip
        truth = pd.concat([owners, strangers], ignore_index=True)
        table = va.accuracy.differentials(truth, "ctx_group", 70.0, n_null=99, seed=seed)
        got = table[table["measure"] == "fnmr"].set_index("ctx_group")
        found += (got["p_adjusted"] < 0.05).any() + (got["gini"] > got["gini_null_high"]).iloc[0]
        if seed:
            continue
        # persons who only repeat themselves: the exact test on persons, up to the small-sample G−1
        for name in got.index:
            mine = group == int(name[1])
            x, n = int(bad[mine].sum()), int(mine.sum())
            table = [[x, n - x], [int(bad.sum()) - x, 400 - n - int(bad.sum()) + x]]
            assert got.loc[name, "p"] == pytest.approx(stats.fisher_exact(table)[1], abs=0.1)
            assert got.loc[name, "rate"] == pytest.approx(x / n)
    assert found <= 4


def test_groups_drawn_unequally_differ_by_weighted_rates():
    sample, truth = drawn_unequally()
    truth["ctx_group"] = [f"g{int(i[1:]) % 3}" for i in truth["request_id"]]
    table = va.accuracy.differentials(truth, "ctx_group", 75.0, n_null=19)
    rates = va.accuracy.error_rates(truth, 75.0, by="ctx_group").set_index("ctx_group")
    got = table[table["measure"] == "fnmr"].set_index("ctx_group")
    owners = [(r, 1 / c) for r, m, a, c in sample if m and a is None]
    sums = {}
    for r, x in owners:
        group = sums.setdefault(f"g{int(r['request_id'][1:]) % 3}", [0.0, 0.0])
        group[0] += x * (r["score"] < 75)
        group[1] += x
    for name, (x, n) in sums.items():
        others = [v for k, v in sums.items() if k != name]
        other_rate = sum(v[0] for v in others) / sum(v[1] for v in others)
        size = {k: rates.loc[k, "n_mated"] / max(1.0, rates.loc[k, "fnmr_deff"]) for k in sums}
        other_size = sum(v[1] for v in others) ** 2 / sum(
            sums[k][1] ** 2 / size[k] for k in sums if k != name
        )
        assert got.loc[name, "rate"] == pytest.approx(x / n)
        assert got.loc[name, "difference"] == pytest.approx(x / n - other_rate)
        four = (x / n * size[name], size[name], other_rate * other_size, other_size)
        assert got.loc[name, ["difference_low", "difference_high"]].tolist() == pytest.approx(
            [*iv.newcombe(*four)]
        )
        whole = [round(v) for v in (four[0], four[1] - four[0], four[2], four[3] - four[2])]
        assert got.loc[name, "p"] == pytest.approx(stats.fisher_exact([whole[:2], whole[2:]])[1])


# ------------------------------------------------------------------ the claim, and ripe labels


@pytest.mark.parametrize(("k", "believe"), [(1, {"1", "3"}), (8, {"10"}), (30, {"none"})])
def test_the_claim_audit_finds_k(k, believe):
    rng = np.random.default_rng(k + 100)
    n = 200_000
    # strangers' scores follow the claim times k: 10 points a decade
    score = 60 + 10 * (-np.log10(rng.random(n) / k) - 3)
    rows = pd.DataFrame({"score": np.clip(score, 0, 100), "mated": False})
    owners = pd.DataFrame({"score": [95.0] * 50, "mated": True})
    truth = pd.concat([rows, owners], ignore_index=True)
    for name, t in zip(w.LEVELS, w.PAGE, strict=True):
        truth[name] = t
    truth["req_key"] = "cert_pro_src_verify"
    got = va.accuracy.claim_audit(truth).set_index("nominal_fmr").loc[1e-3]
    x = int((truth.loc[~truth["mated"], "score"] >= 60).sum())
    assert got["n_false_matches"] == x
    assert got["k_hat"] == pytest.approx(x / (n * 1e-3))
    assert [got["k_low"], got["k_high"]] == pytest.approx(
        [v / (n * 1e-3) for v in iv.poisson_exact(x)]
    )
    assert got["k_low"] <= k <= got["k_high"]
    assert got["believe"] in believe


def test_the_claim_is_audited_with_weights():
    _, truth = drawn_unequally()
    audit = va.accuracy.claim_audit(truth)
    rates = va.accuracy.error_rates(truth)
    assert rates["weighted"].all()
    assert audit["k_hat"].tolist() == pytest.approx((rates["fmr"] / rates["nominal_fmr"]).tolist())
    for got, rate in zip(audit.to_dict("records"), rates.to_dict("records"), strict=True):
        if rate["fmr"] > 0:
            size = rate["n_nonmated"] / max(1.0, rate["fmr_deff"])
            low, high = (
                x / size / rate["nominal_fmr"] for x in iv.poisson_exact(rate["fmr"] * size)
            )
            assert [got["k_low"], got["k_high"]] == pytest.approx([low, high])
        else:  # nothing seen: the persons say how much that is
            persons = np.log(0.05) / np.log1p(-rate["fmr_guard"])
            bound = -np.log(0.025) / persons / rate["nominal_fmr"]
            assert [got["k_low"], got["k_high"]] == [0, pytest.approx(bound)]


def test_withheld_strangers_may_refute_the_claim_below_the_pass_rule():
    rows = [w.row(i, score=None, sub_code=210311, result=False) for i in range(5000)]
    rows += [w.row(5000 + i) for i in range(100)]
    truth = w.frame(rows).assign(mated=[False] * 5000 + [True] * 100)
    got = va.accuracy.claim_audit(truth, assume_random=True).set_index("nominal_fmr")
    assert got.loc[1e-3, "k_high"] == 1000  # all of them may have matched at 1e-3
    assert got.loc[1e-3, "believe"] == "none"
    assert got.loc[1e-4, "k_high"] == pytest.approx(-np.log(0.025) / 5000 / 1e-4)
    assert got.loc[1e-4, "believe"] == "10"


def labelled_at(moment, labels):
    """What a loop knows of one row: the first label, the first that says fraud, the last one."""
    mine = sorted(labels, key=lambda label: label[1])
    fraud = [at for mated, at in mine if not mated] if mine and not mine[-1][0] else []
    return moment, mine[0][1] if mine else None, fraud[0] if fraud else None


@pytest.mark.parametrize("tz", ["Asia/Shanghai", "UTC", "America/New_York"])
def test_label_maturity_is_that_of_a_loop(tz):
    rng, zone, week = random.Random(3), ZoneInfo(tz), dt.timedelta(weeks=1)
    rows, labels, known = [], [], []
    for i in range(400):
        at = w.START + dt.timedelta(minutes=rng.randrange(6 * 7 * 24 * 60))
        moment = None if i % 50 == 7 else at
        rows.append(w.row(i, occurred_at=moment, token=f"t{i}"))
        mine = []
        for labeller in range(rng.choice([0, 1, 1, 2])):
            mine.append((rng.random() < 0.7, at + dt.timedelta(days=rng.uniform(0, 25))))
            key = {"token": f"t{i}"} if labeller else {"request_id": f"r{i:06d}"}
            labels.append({**key, "mated": mine[-1][0], "labelled_at": mine[-1][1],
                           "labeller": f"l{labeller}"})  # fmt: skip
        known.append(labelled_at(moment, mine))
    table = va.labels.maturity(w.frame(rows), pd.DataFrame(labels), tz=tz)
    now = max(label["labelled_at"] for label in labels)

    def monday(moment):
        day = moment.astimezone(zone).date()
        return day - dt.timedelta(days=day.weekday())

    for got in table.to_dict("records"):
        if pd.isna(got["week"]):
            mine, age = [k for k in known if k[0] is None], None
        else:
            start = got["week"].date()
            mine = [k for k in known if k[0] and monday(k[0]) == start]
            age = None if pd.isna(got["age_weeks"]) else got["age_weeks"]
            end = dt.datetime.combine(start + week, dt.time(), zone)
            assert (age is None) == (end + week > now)
            assert age is None or end + (age + 1) * week <= now
        within = [
            [k[at] is not None and (age is None or k[at] - k[0] < (age + 1) * week) for k in mine]
            for at in (1, 2)
        ]
        assert got["n_rows"] == len(mine)
        assert [got["n_labelled"], got["n_fraud"]] == [sum(x) for x in within]
    weeks = table["week"].nunique()
    ages = table.groupby("week")["age_weeks"].max().dropna().tolist()
    assert ages == sorted(ages, reverse=True)
    assert weeks == len({monday(k[0]) for k in known if k[0]})
    accepted = decisions.acceptance_rate(w.frame(rows), every="week", tz=tz)
    assert set(accepted["period_start"].dropna()) == set(table["week"].dropna())


def test_a_week_is_ripe_at_the_age_at_which_the_oldest_had_its_labels():
    monday = dt.datetime(2024, 5, 6, 12, tzinfo=dt.UTC)
    rows, labels = [], []
    for week in range(8):
        for i in range(40):
            moment = monday + dt.timedelta(weeks=week)
            rows.append(w.row(len(rows), occurred_at=moment))
            labelled = moment + dt.timedelta(weeks=i % 4, hours=1)  # three weeks long
            if i < 20 and labelled <= monday + dt.timedelta(weeks=7, hours=2):
                labels.append((rows[-1]["request_id"], i % 5 > 0, labelled))
    frame = pd.DataFrame(labels, columns=["request_id", "mated", "labelled_at"])
    table = va.labels.maturity(w.frame(rows), frame)
    first = table[table["week"] == pd.Timestamp("2024-05-06")].set_index("age_weeks")
    assert first["n_labelled"].tolist() == [5, 10, 15, 20, 20, 20]
    assert first["n_rows"].unique().tolist() == [40]
    assert first["n_fraud"].iloc[-1] == 4
    # of the fourth week the fourth age is not over yet
    assert table.groupby("week")["ripe"].all().tolist() == [True] * 3 + [False] * 5
    assert table.groupby("week")["age_weeks"].max().isna().tolist() == [False] * 6 + [True] * 2


NONSENSE = [
    (lambda t: va.accuracy.compare(t, float("nan"), 1.0), "must be a finite number"),
    (lambda t: va.accuracy.compare(t, 70.0, ("score", "high")), "threshold of score must be"),
    (lambda t: va.accuracy.compare(t, 70.0, ("score",)), "is no rule"),
    (lambda t: va.accuracy.compare(t, 70.0, "subject"), "subject is no rule: it holds String"),
    (lambda t: va.accuracy.compare(t, 70.0, "score"), "not true and false"),
    (lambda t: va.accuracy.compare(t, 70.0, ("subject", 1.0)), "not numbers"),
    (lambda t: va.accuracy.out_of_sample(t, 1.5), "choose_on must be above 0 and below 1"),
    (lambda t: va.accuracy.out_of_sample(t, 0.5, 0.7), "score_on must be"),
    (lambda t: va.accuracy.out_of_sample(t, 0.5, "2024-05-20"), "score_on must be"),
    (lambda t: va.accuracy.out_of_sample(t, "soon"), "no date"),
    (lambda t: va.accuracy.out_of_sample(t, (0.1, 0.2)), "no date"),
    (
        lambda t: va.accuracy.out_of_sample(t, pd.Timestamp("NaT")),
        "must be a finite number|no date",
    ),
    (lambda t: va.accuracy.out_of_sample(t, ("2024-05-20", "2024-05-06")), "two rising ones"),
    (lambda t: va.accuracy.out_of_sample(t, 0.5, fmr=0.1, fnmr=0.1), "not both"),
    (lambda t: va.accuracy.out_of_sample(t, 0.5, fmr=-1), "fmr must be at least 0"),
    (lambda t: va.accuracy.out_of_sample(t, 0.5, fmr=float("nan")), "fmr must be a finite"),
    (lambda t: va.accuracy.out_of_sample(t, 0.5, fnmr="low"), "fnmr must be a finite"),
    (lambda t: va.accuracy.out_of_sample(t, 0.5, seed=1.5), "seed must be a whole number"),
    (lambda t: va.accuracy.out_of_sample(t[t["mated"]], 0.5), "no regime has mated"),
    (lambda t: va.accuracy.compare(t.assign(mated=None), 1.0, 2.0), "no labelled comparison"),
    (lambda t: va.labels.maturity(t, t, ripe=2), "ripe must be at least 0 and at most 1"),
    (lambda t: va.labels.maturity(t, t, ripe="old"), "ripe must be a finite number"),
    (lambda t: va.accuracy.differentials(t, "subject", "high"), "must be a finite"),
    (lambda t: va.accuracy.differentials(t, "subject", 1.0, "few"), "min_group must be a whole"),
    (
        lambda t: va.accuracy.differentials(t, "subject", 1.0, n_null=-1),
        "n_null must be at least",
    ),
    (lambda t: va.accuracy.differentials(t, "subject", 1.0, seed="x"), "seed must be a whole"),
]


@pytest.mark.parametrize(("nonsense", "message"), NONSENSE)
def test_nonsense_is_refused_in_one_clear_line(nonsense, message):
    with pytest.raises(UsageError, match=message) as error:
        nonsense(population(60, 0))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "day", [pd.Timestamp("2024-05-20"), dt.date(2024, 5, 20), np.datetime64("2024-05-20")]
)
def test_a_date_is_one_however_it_is_written(day):
    truth = population(200, 4)
    pd.testing.assert_frame_equal(
        va.accuracy.out_of_sample(truth, day), va.accuracy.out_of_sample(truth, "2024-05-20")
    )


@pytest.mark.parametrize("engine", ["pandas_numpy", "polars_lazy", "duckdb"])
def test_every_engine_gives_the_same_frame(engine):
    rows = w.messy(300, seed=7)
    said, expected = truth_of(rows, 7)
    labels = pd.DataFrame(
        [
            {"request_id": r["request_id"], "mated": m, "attack": a,
             "labelled_at": w.START + dt.timedelta(days=9)}
            for r, m, a in said
        ]
    )  # fmt: skip
    other = w.engines(w.frame(rows))[engine]
    truth = va.labels.join(other, labels)
    for statistic in (
        lambda t: va.accuracy.detection_rates(t, assume_random=True),
        lambda t: va.accuracy.transaction_rates(t, assume_random=True),
        lambda t: va.accuracy.compare(t, "result", 70.0, assume_random=True),
        lambda t: va.accuracy.out_of_sample(t, 0.5, assume_random=True),
        lambda t: va.accuracy.differentials(t, "req_key", 70.0, assume_random=True, n_null=20),
        lambda t: va.accuracy.claim_audit(t, assume_random=True),
    ):
        pd.testing.assert_frame_equal(statistic(truth), statistic(expected))
    pd.testing.assert_frame_equal(
        va.labels.maturity(other, labels), va.labels.maturity(w.frame(rows), labels)
    )


@pytest.mark.parametrize("engine", ["polars_lazy", "duckdb"])
def test_every_engine_weighs_rows_and_adds_up_persons_alike(engine):
    _, expected = drawn_unequally(800)
    truth = w.engines(expected)[engine]
    for statistic in (
        va.accuracy.detection_rates,
        va.accuracy.transaction_rates,
        lambda t: va.accuracy.compare(t, "result", 70.0),
        lambda t: va.accuracy.differentials(t, "req_key", 70.0, n_null=5),
        va.accuracy.claim_audit,
    ):
        pd.testing.assert_frame_equal(statistic(truth), statistic(expected))
