"""Sessions and what is counted in them, against plain loops over persons."""

import datetime as dt
from collections import defaultdict

import numpy as np
import pandas as pd
import pytest
from builders import frames as w
from hypothesis import given, settings
from hypothesis import strategies as st

import verifyanalytics as va
from verifyanalytics.errors import MissingColumnError, UsageError


def minutes(*at_minutes, subject="p", **changes):
    return [
        w.row(i, subject=subject, occurred_at=w.START + dt.timedelta(minutes=m), **changes)
        for i, m in enumerate(at_minutes)
    ]


def loop_sessions(rows, gap=10):
    """Lists of rows, one a session."""
    people, found = defaultdict(list), []
    for r in rows:
        if r["subject"] is None or r["occurred_at"] is None:
            found.append([r])
        else:
            people[r["subject"]].append(r)
    for mine in people.values():
        mine.sort(key=lambda r: (r["occurred_at"], r["request_id"]))
        last = None
        for r in mine:
            late = last is None or r["occurred_at"] - last["occurred_at"] > dt.timedelta(
                minutes=gap
            )
            if late or last["result"]:
                found.append([])
            found[-1].append(r)
            last = r
    return found


@settings(max_examples=12)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 120))
def test_sessions_are_those_of_a_loop(seed, n):
    rows = w.messy(n, seed)
    table = va.attempts.sessions(w.frame(rows))
    expected = sorted(
        (
            s[0]["subject"] or "",
            len(s),
            sum(map(w.is_scored, s)),
            any(r["result"] for r in s),
            w.first_gate(s[-1]),
        )
        for s in loop_sessions(rows)
    )
    got = sorted(
        (
            "" if pd.isna(r["subject"]) else r["subject"],
            r["n_attempts"],
            r["n_scored"],
            bool(r["accepted"]),
            r["last_gate"],
        )
        for r in table.to_dict("records")
    )
    assert got == expected


def test_a_pause_of_exactly_the_gap_does_not_end_a_session_and_an_acceptance_does():
    rows = minutes(0, 10, 20, result=False)
    assert va.attempts.sessions(w.frame(rows))["n_attempts"].tolist() == [3]
    rows = minutes(0, 10, 20.1, result=False)
    assert va.attempts.sessions(w.frame(rows))["n_attempts"].tolist() == [2, 1]
    rows = minutes(0, 1, 2, result=True)
    assert va.attempts.sessions(w.frame(rows))["n_attempts"].tolist() == [1, 1, 1]
    assert va.attempts.sessions(w.frame(minutes(0, 3, result=False)), gap="2min")[
        "session"
    ].tolist() == [
        0,
        1,
    ]


def test_attempts_to_pass_is_kaplan_meier_with_the_abandoned_censored():
    rows, number = [], 0
    plan = (
        [(1, True)] * 50
        + [(1, False)] * 10
        + [(2, True)] * 20
        + [(3, False)] * 5
        + [(3, True)] * 15
    )
    for who, (length, passed) in enumerate(plan):
        for j in range(length):
            number += 1
            rows.append(
                w.row(
                    number,
                    subject=f"p{who}",
                    occurred_at=w.START + dt.timedelta(minutes=j),
                    result=passed and j == length - 1,
                )
            )
    table = va.attempts.attempts_to_pass(w.frame(rows))
    assert table["n_at_risk"].tolist() == [100, 40, 20]
    assert table["n_passed"].tolist() == [50, 20, 15]
    assert table["n_gave_up"].tolist() == [10, 0, 5]
    expected = [1 - 0.5, 1 - 0.5 * 0.5, 1 - 0.5 * 0.5 * 0.25]
    assert table["passed_by"].to_numpy() == pytest.approx(expected)
    # Greenwood on the log(-log) scale, as published with every survival table
    surv = 1 - np.array(expected)
    var = np.cumsum([50 / (100 * 50), 20 / (40 * 20), 15 / (20 * 5)])
    theta = 1.959963984540054 * np.sqrt(var) / np.abs(np.log(surv))
    assert table["passed_by_low"].to_numpy() == pytest.approx(1 - surv ** np.exp(-theta))
    assert table["passed_by_high"].to_numpy() == pytest.approx(1 - surv ** np.exp(theta))


def score_fail(r):
    states = w.gate_states(r)
    return (
        w.rising(r)
        and all(states[n] for n in ("answered", "scored", "alive", "risk"))
        and not states["match"]
    )


def test_retry_then_pass_counts_score_fails_and_then_a_match():
    rows = w.messy(1500, seed=9)
    for i, r in enumerate(rows):
        r["subject"] = f"s{i % 60}"
        r["occurred_at"] = w.START + dt.timedelta(minutes=i // 60 * 6)
    base, tries = defaultdict(lambda: [0, 0, 0]), 0
    for session in loop_sessions(rows):
        clean = [r for r in session if score_fail(r) or (w.rising(r) and w.first_gate(r) == "none")]
        misses = [i for i, r in enumerate(clean) if score_fail(r)]
        if not misses:
            continue
        after = clean[misses[0] + 1 :]
        hit = next((i for i, r in enumerate(after) if not score_fail(r)), None)
        tries = len(after) if hit is None else hit + 1
        found = base[w.regime(clean[misses[0]])]
        found[0] += 1
        found[1] += hit is not None
        found[2] += tries
    table = va.attempts.retry_then_pass(w.frame(rows), k=[3])
    got = table.set_index("regime")[["n_sessions", "n_then_passed", "n_tries"]]
    assert {regime: row.tolist() for regime, row in got.iterrows()} == dict(base)
    chance = 3e-4 * table["n_tries"]
    assert table["expected_by_chance"].to_numpy() == pytest.approx(chance.to_numpy())
    assert table["n_floor"].to_numpy() == pytest.approx(
        np.maximum(0, table["n_then_passed"] - chance).to_numpy()
    )
    assert set(table["says"]) == {
        "a floor on wrongly rejected owners only if one person made both attempts"
    }


def test_a_liveness_fail_between_is_neither():
    rows = minutes(0, 1, 2, result=False)
    rows[0]["score"], rows[1]["alive"], rows[2]["result"] = 65.0, False, True
    assert va.attempts.retry_then_pass(w.frame(rows), k=[1])["n_then_passed"].tolist() == [1]
    rows[2]["alive"] = False
    got = va.attempts.retry_then_pass(w.frame(rows), k=[1]).iloc[0]
    assert (got["n_sessions"], got["n_then_passed"], got["n_tries"]) == (1, 0, 0)


def test_lost_people_are_those_who_never_came_back_in_time():
    rows = []

    def visit(who, hours, result, **changes):
        moment = w.START + dt.timedelta(hours=hours)
        rows.append(w.row(len(rows), subject=who, occurred_at=moment, result=result, **changes))

    visit("a", 0, False, score=65.0)  # comes back within a day
    visit("a", 5, True)
    visit("b", 0, False, alive=False)  # comes back too late
    visit("b", 30, True)
    visit("c", 1, False, score=65.0)  # never
    visit("d", 90, False, risk_score=900)  # the data end before the day is over
    visit("e", 100, True)
    visit("f", 2, None, code=50400)  # no verdict: not turned away
    table = va.attempts.lost_people(w.frame(rows)).set_index("gate")
    assert table.loc["all"].drop(["lost_share", "lost_share_low", "lost_share_high"]).to_dict() == {
        "n_rejected": 4, "n_came_back": 1, "n_lost": 2, "n_open": 1, "n_lost_people": 2,
    }  # fmt: skip
    assert table["n_lost"].to_dict() == {"all": 2, "alive": 1, "match": 1, "risk": 0}
    assert table.loc["all", "lost_share"] == pytest.approx(2 / 3)
    assert va.attempts.lost_people(w.frame(rows), within="48h").iloc[0]["n_came_back"] == 2


def test_exposure_adds_up_and_stops_at_one():
    table = va.attempts.exposure([1e-4, 0.4], [1, 3])
    assert table["exposure_high"].tolist() == [1e-4, pytest.approx(3e-4), 0.4, 1.0]
    rng = np.random.default_rng(0)
    matches = rng.random((20_000, 3)) < 0.05
    bound = va.attempts.exposure(0.05, 3)["exposure_high"].iloc[0]
    assert matches.any(axis=1).mean() < bound  # independent attempts
    assert (matches[:, :1] | matches[:, :1]).any(axis=1).mean() < bound  # the same one again


def test_bursts_of_attempts_are_hours_with_many():
    rows = minutes(*range(7), result=False) + minutes(*range(3), subject="q")
    for i, r in enumerate(rows):
        r["request_id"] = f"r{i}"
    table = va.attempts.bursts(w.frame(rows))
    assert table[["subject", "n_calls", "n_accepted"]].to_numpy().tolist() == [["p", 7, 0]]
    assert table["starts_at"].tolist() == [pd.Timestamp("2024-05-06 08:00")]
    assert len(va.attempts.bursts(w.frame(rows), at_least=3)) == 2
    assert va.attempts.bursts(w.frame(rows), key="token").empty


def test_a_bad_hour_signals_on_the_laney_chart_and_quiet_ones_do_not():
    rng = np.random.default_rng(5)
    rows = []
    for hour in range(48):
        for i in range(200):
            rejected = rng.random() < (0.5 if hour == 30 else 0.1)
            moment = w.START + dt.timedelta(hours=hour, seconds=18 * i)
            rows.append(w.row(len(rows), occurred_at=moment, result=not rejected))
    table = va.attempts.bursts(w.frame(rows), of="rejects")
    assert np.flatnonzero(table["signal"] == "high").tolist() == [30]
    n, x = table["n_rows"].to_numpy(), table["n_events"].to_numpy()
    centre = x.sum() / n.sum()
    z = (x / n - centre) / np.sqrt(centre * (1 - centre) / n)
    sigma_z = max(1.0, np.abs(np.diff(z)).mean() / 1.128)
    assert table["sigma_z"].to_numpy() == pytest.approx(sigma_z)
    high = centre + 3 * sigma_z * np.sqrt(centre * (1 - centre) / n)
    assert table["limit_high"].to_numpy() == pytest.approx(high)


@pytest.mark.parametrize("of", ["near_threshold", "tags"])
def test_charts_count_what_a_loop_counts(of):
    rows = w.messy(300, seed=3)
    table = va.attempts.bursts(w.frame(rows), of=of)
    if of == "tags":
        base = [r for r in rows if r["risk_tags"] is not None]
        events = [r for r in base if r["risk_tags"]]
    else:
        base = [r for r in rows if w.is_scored(r) and w.rising(r)]
        events = [r for r in base if r["threshold_1e_3"] <= r["score"] < r["threshold_1e_4"]]
    assert table["n_rows"].sum() == sum(r["occurred_at"] is not None for r in base)
    assert table["n_events"].sum() == sum(r["occurred_at"] is not None for r in events)


@pytest.mark.parametrize("engine", ["pandas_numpy", "arrow", "polars_lazy", "duckdb"])
def test_every_engine_gives_the_same_frame(engine):
    pandas = w.frame(w.messy(200))
    other = w.engines(pandas)[engine]
    for statistic in (
        va.attempts.sessions,
        va.attempts.attempts_to_pass,
        va.attempts.retry_then_pass,
        va.attempts.lost_people,
        lambda v: va.attempts.bursts(v, at_least=2),
        lambda v: va.attempts.bursts(v, of="near_threshold"),
    ):
        pd.testing.assert_frame_equal(statistic(other), statistic(pandas))


def test_nonsense_is_refused():
    frame = w.frame(w.messy(20))
    for nonsense, message in (
        (lambda: va.attempts.sessions(frame, gap="soon"), "no duration"),
        (lambda: va.attempts.sessions(frame, gap="0min"), "above 0"),
        (lambda: va.attempts.sessions(frame, gap=None), "above 0"),
        (lambda: va.attempts.sessions(frame, gap="NaT"), "above 0"),
        (lambda: va.attempts.lost_people(frame, within=10), "above 0"),
        (lambda: va.attempts.exposure("x", 1), "fmr must be a finite number"),
        (lambda: va.attempts.exposure(0.1, float("inf")), "k must be a whole number"),
        (lambda: va.attempts.retry_then_pass(frame, k=[-1]), "k must be above 0"),
        (lambda: va.attempts.retry_then_pass(frame, k=[float("nan")]), "k must be a finite number"),
        (lambda: va.attempts.retry_then_pass(frame, k="x"), "k must be a finite number"),
        (lambda: va.attempts.bursts(frame, key="occurred_at"), "key occurred_at"),
        (lambda: va.attempts.bursts(frame, key="risk_tags"), "risk_tags holds lists"),
        (lambda: va.attempts.bursts(frame, key=5), "key must be a column's name"),
        (lambda: va.attempts.bursts(frame, tz=None), "a time zone is a name"),
        (lambda: va.attempts.bursts(frame, at_least="x"), "at_least must be a whole number"),
        (lambda: va.attempts.exposure(2.0, 1), "fmr must be at least 0 and at most 1"),
        (lambda: va.attempts.exposure(0.1, 0), "k must be at least 1"),
        (lambda: va.attempts.bursts(frame, of="everything"), "no bursts of"),
        (lambda: va.attempts.bursts(frame, at_least=1), "at least 2"),
        (
            lambda: va.attempts.attempts_to_pass(frame, max_attempts=0),
            "max_attempts must be at least 1",
        ),
    ):
        with pytest.raises(UsageError, match=message):
            nonsense()
    with pytest.raises(MissingColumnError, match="subject"):
        va.attempts.sessions(frame.drop(columns="subject"))
