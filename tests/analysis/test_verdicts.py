"""Decisions against a plain loop over the rows."""

from collections import Counter

import pandas as pd
import pytest
from builders import frames as w
from hypothesis import given, settings
from hypothesis import strategies as st

from verifyanalytics import verdicts as d
from verifyanalytics.errors import MissingColumnError, UsageError

ROWS = w.messy(400)
FRAME = w.frame(ROWS)


def line(r):
    first, result = w.first_gate(r), r["result"]
    if first == "unknown":
        return "unknown"
    if first == "none":
        return {True: "accepted", False: "unexplained", None: "no verdict"}[result]
    return f"accepted despite {first}" if result else first


def test_gates_of_each_row():
    table = d.gates(FRAME)
    words = {True: "pass", False: "fail", None: "unknown"}
    for r, got in zip(ROWS, table.to_dict("records"), strict=True):
        states = w.gate_states(r)
        assert got["request_id"] == r["request_id"]
        assert {name: got[name] for name in states} == {n: words[s] for n, s in states.items()}
        assert got["first_gate"] == w.first_gate(r)
        assert got["failing_gates"] == "+".join(n for n, s in states.items() if s is False)
        assert got["withheld"] == w.is_withheld(r)
        assert got["risk_not_asked"] == (r["risk_score"] is None)


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 40), limit=st.sampled_from([None, 300, 600]))
def test_the_funnel_counts_each_row_once(seed, n, limit):
    rows = w.messy(n, seed)
    table = d.funnel(w.frame(rows), risk_fail=limit)
    expected = Counter((w.first_gate(r, limit or 900), r["result"]) for r in rows)
    got = {
        (first, None if pd.isna(result) else bool(result)): count
        for first, result, count in zip(
            table["first_gate"], table["result"], table["n_rows"], strict=True
        )
    }
    assert got == expected
    assert (table["n_total"] == n).all()
    assert table["n_withheld"].sum() == sum(map(w.is_withheld, rows))


def test_the_funnel_says_its_lines_in_words_and_by_regime():
    table = d.funnel(FRAME, by="regime")
    expected = Counter((w.regime(r), line(r)) for r in ROWS)
    got = table.groupby(["regime", "line"])["n_rows"].sum().to_dict()
    assert got == expected
    totals = Counter(map(w.regime, ROWS))
    assert dict(zip(table["regime"], table["n_total"], strict=True)) == totals
    assert (table["share_low"] <= table["share"]).all()
    assert (table["share_high"] >= table["share"]).all()


def test_no_risk_result_passes_and_is_counted():
    rows = [w.row(0, risk_score=None), w.row(1, risk_score=900, result=False)]
    table = d.funnel(w.frame(rows)).set_index("line")
    assert table.loc["accepted", "n_risk_not_asked"] == 1
    assert table.loc["risk", "n_rows"] == 1


def test_reject_reasons_are_those_of_the_rows_without_acceptance():
    table = d.reject_reasons(FRAME)
    expected = Counter(
        (w.first_gate(r), r["gateway_code"] or "", r["code"], r["sub_code"])
        for r in ROWS
        if r["result"] is not True
    )
    got = Counter()
    for r in table.to_dict("records"):
        code, sub = (None if pd.isna(r[c]) else int(r[c]) for c in ("code", "sub_code"))
        got[r["first_gate"], r["gateway_code"], code, sub] += r["n_rows"]
    assert got == expected
    assert (table["n_not_accepted"] == sum(expected.values())).all()
    assert table["n_rows"].is_monotonic_decreasing
    assert table.set_index("sub_code").loc[[210302], "stage"].tolist()[0] == "acquire"
    assert set(table.set_index("gateway_code").loc["FlowLimitExceeded", "stage"]) == {"gateway"}


def test_a_sub_code_that_the_book_does_not_know_is_said_to_be_unknown():
    table = d.reject_reasons(w.frame([w.row(0, score=None, sub_code=299999, result=False)]))
    assert table[["sub_code", "stage", "meaning"]].to_numpy().tolist() == [
        [299999, "unknown", "unknown"]
    ]


def others_pass(r):
    return all(state for name, state in w.gate_states(r).items() if name != "match")


KINDS = {
    **{
        f"accepted_despite_{name}": (
            lambda r, name=name: r["result"] is True and w.gate_states(r)[name] is False
        )
        for name in ("answered", "scored", "alive", "match", "risk")
    },
    "unexplained": lambda r: r["result"] is False and w.first_gate(r) == "none",
    "no_verdict": lambda r: r["result"] is None and w.first_gate(r) == "none",
    "at_threshold_accepted": lambda r: (
        r["result"] is True and w.rising(r) and r["score"] == r["threshold_1e_4"] and others_pass(r)
    ),
    "at_threshold_rejected": lambda r: (
        r["result"] is False
        and w.rising(r)
        and r["score"] == r["threshold_1e_4"]
        and others_pass(r)
    ),
    "score_on_unanswered": lambda r: not w.is_answered(r) and r["score"] is not None,
    "score_out_of_range": lambda r: r["score"] is not None and not 0 <= r["score"] <= 100,
    "thresholds_incomplete": lambda r: r["score"] is not None and not w.rising(r),
}


def test_contradictions_with_their_first_and_last_example():
    rows = [*w.messy(400), w.row(9001, score=101.5), w.row(9002, score=-0.1, result=False)]
    table = d.contradictions(w.frame(rows))
    expected = {}
    for r in rows:
        for kind, shows in KINDS.items():
            if shows(r):
                expected.setdefault((w.regime(r), kind), []).append(r["request_id"])
    got = table.set_index(["regime", "kind"])
    assert set(got.index) == set(expected)
    for key, ids in expected.items():
        assert got.loc[key, "n_rows"] == len(ids)
        assert (got.loc[key, "first_example"], got.loc[key, "last_example"]) == (min(ids), max(ids))
    of = sum(r["result"] is True and w.regime(r) == "incomplete" for r in rows)
    assert got.loc[("incomplete", "accepted_despite_risk"), "n_of"] == of


def test_the_page_sample_contradicts_nothing_it_is_just_unexplained():
    sample = w.row(1, score=87.69, risk_score=600, risk_tags=["14004", "13001"], result=False)
    assert d.contradictions(w.frame([sample]))["kind"].tolist() == ["unexplained"]
    assert d.funnel(w.frame([sample]))["line"].tolist() == ["unexplained"]


def test_a_frame_without_contradiction_gives_an_empty_table_of_the_same_columns():
    table = d.contradictions(w.frame([w.row(1)]))
    assert table.empty
    assert list(table.columns) == list(d.contradictions(FRAME).columns)


def conjunction(r, names):
    """A rule in words, evaluated on one row: False beats unknown, as in logic."""
    risk = r["risk_score"]
    states = {
        "score >= own 1e-4": w.gate_states(r)["match"],
        "score >= 90": r["score"] >= 90,
        "risk < 600": risk is None or risk < 600,
        "risk < 900": risk is None or risk < 900,
        "alive": r["alive"],
    } | {f"no tag {t}": t not in (r["risk_tags"] or []) for t in ("13001", "14004", "14009")}
    values = [states[name] for name in names]
    return False if False in values else None if None in values else True


def test_result_rule_counts_both_errors_of_every_rule():
    table = d.result_rule(FRAME)
    assert {"alive", "no tag 13001", "score >= 90 and risk < 600 and alive"} <= {*table["rule"]}
    for got in table.to_dict("records"):
        mine = [
            (conjunction(r, got["rule"].split(" and ")), r["result"])
            for r in ROWS
            if w.is_scored(r) and r["result"] is not None and w.regime(r) == got["regime"]
        ]
        known = [(rule, result) for rule, result in mine if rule is not None]
        assert got["n_rows"] == len(known)
        assert got["n_unknown"] == len(mine) - len(known)
        assert got["n_agree"] == sum(rule == result for rule, result in known)
        assert got["n_only_rule"] == sum(rule and not result for rule, result in known)
        assert got["n_only_result"] == sum(result and not rule for rule, result in known)


def test_result_rule_finds_the_rule_that_made_the_verdicts():
    rows = w.messy(600, seed=5)
    for r in rows:
        if w.is_scored(r):
            r["result"] = bool(
                r["score"] >= 90 and r["alive"] and "14004" not in (r["risk_tags"] or [])
            )
    table = d.result_rule(w.frame(rows))
    best = table[table["regime"] == "cert_pro_src_verify 60/70/80/90"].iloc[0]
    assert best["rule"] == "score >= 90 and alive and no tag 14004"
    assert best["agreement"] == 1.0


def test_result_rule_takes_any_text_for_a_tag():
    renamed = {"13001": "a\0a", "14004": "", "14009": "a\0b"}
    tags = [r["risk_tags"] and [renamed.get(t, t) for t in r["risk_tags"]] for r in ROWS]
    rows = [r | {"risk_tags": held} for r, held in zip(ROWS, tags, strict=True)]
    figures = ["n_rows", "n_unknown", "n_agree", "n_only_rule"]
    plain, odd = (
        d.result_rule(frame).set_index(["regime", "rule"]) for frame in (FRAME, w.frame(rows))
    )
    assert len(odd) == len(plain)
    for old, new in renamed.items():
        for (regime, rule), expected in plain.iterrows():
            if rule.endswith(f"no tag {old}"):
                got = odd.loc[(regime, rule.replace(old, new))]
                assert got[figures].tolist() == expected[figures].tolist()


def test_acceptance_rate_names_its_denominators():
    table = d.acceptance_rate(FRAME, by="regime").set_index("regime")
    for regime, got in table.iterrows():
        mine = [r for r in ROWS if w.regime(r) == regime]
        decided = [r for r in mine if r["result"] is not None]
        compared = [r for r in mine if w.rising(r) and (w.is_scored(r) or w.is_withheld(r))]
        assert got["n_rows"] == len(mine)
        assert got["n_decided"] == len(decided)
        assert got["acceptance_rate"] == sum(r["result"] for r in decided) / len(decided)
        assert got["acceptance_of_all"] == sum(r["result"] for r in decided) / len(mine)
        assert got["n_compared"] == len(compared)
        assert got["n_matched"] == sum(w.gate_states(r)["match"] for r in compared)
        assert got["n_withheld"] == sum(map(w.is_withheld, mine))


def test_acceptance_rate_by_week_keeps_the_rows_without_time():
    table = d.acceptance_rate(FRAME, every="week").set_index("period")
    assert table.loc["unknown", "n_rows"] == sum(r["occurred_at"] is None for r in ROWS)
    assert table["n_rows"].sum() == len(ROWS)


STATISTICS = {
    "gates": d.gates,
    "funnel": d.funnel,
    "funnel by": lambda v: d.funnel(v, by=["regime", "alive"]),
    "reject_reasons": lambda v: d.reject_reasons(v, by="req_key"),
    "contradictions": d.contradictions,
    "result_rule": d.result_rule,
    "acceptance_rate": lambda v: d.acceptance_rate(v, by="regime", every="week"),
}


@pytest.mark.parametrize("name", STATISTICS)
def test_every_engine_gives_the_same_frame(name):
    expected = STATISTICS[name](FRAME)
    for engine, frame in w.engines(FRAME).items():
        pd.testing.assert_frame_equal(STATISTICS[name](frame), expected, obj=engine)


def test_what_is_missing_is_named():
    with pytest.raises(MissingColumnError, match="no column score"):
        d.funnel(FRAME.drop(columns="score"))
    with pytest.raises(UsageError, match="column of its own"):
        d.funnel(FRAME, by="result")
    with pytest.raises(MissingColumnError, match="ctx_channel"):
        d.acceptance_rate(FRAME, by="ctx_channel")
    for nonsense, message in (
        (lambda: d.reject_reasons(FRAME, by="code"), "by code: this table has that column"),
        (lambda: d.funnel(FRAME, by="occurred_at"), "by occurred_at"),
        (lambda: d.acceptance_rate(FRAME, by=5), "by must be a column's name"),
        (lambda: d.funnel(FRAME, risk_fail="x"), "risk_fail must be a whole number"),
        (lambda: d.result_rule(FRAME, max_tags="x"), "max_tags must be a whole number"),
    ):
        with pytest.raises(UsageError, match=message):
            nonsense()


def test_an_empty_frame_gives_empty_tables():
    empty = FRAME.iloc[:0]
    for name, statistic in STATISTICS.items():
        assert len(statistic(empty)) == 0, name
