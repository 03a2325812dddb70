"""Every count equals a plain loop over the rows, on every engine."""

from __future__ import annotations

import datetime as dt
import math
from collections import Counter
from zoneinfo import ZoneInfo

import duckdb
import narwhals as nw
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import verifyanalytics as va
from verifyanalytics.analysis.base.frames import lazy_rows
from verifyanalytics.analysis.base.groups import group_counts
from verifyanalytics.analysis.base.regimes import implied_fmr, score_at_fmr, threshold_at_fmr
from verifyanalytics.analysis.base.rows import GATES, OPTIONAL, REQUIRED, complete, gate
from verifyanalytics.schema import THRESHOLD_COLUMNS, VERIFICATIONS

# one example is a dozen queries, and a query costs about 0.1 s whatever its size
FEW = settings.default.max_examples // 6

COLUMNS = [
    "occurred_at", "req_key", "code", "gateway_code", "sub_code", "result", "alive", "score",
    *THRESHOLD_COLUMNS, "risk_score", "risk_tags",
]  # fmt: skip
SCHEMA = pa.schema([VERIFICATIONS.field(name) for name in COLUMNS])

COMPARED = {210311, 210313}  # compared, and the score was withheld: the code book's stage compare
REGIMES = [
    (60.0, 70.0, 80.0, 90.0),
    (62.5, 71.3, 80.0, 90.25),
    (None, 70.0, 80.0, 90.0),
    (60.0, 60.0, 80.0, 90.0),
    (None, None, None, None),
]
SCORES = [0.0, 0.3, 59.999, 60.0, 62.5, 70.0, 71.3, 79.99999999999999, 80.0, 90.0, 99.5, 100.0]


@st.composite
def answers(draw):
    regime = draw(st.sampled_from(REGIMES))
    seconds = draw(st.none() | st.integers(1_711_900_000, 1_712_700_000))
    return {
        "occurred_at": None if seconds is None else dt.datetime.fromtimestamp(seconds, dt.UTC),
        "req_key": draw(st.sampled_from(["cert_pro_src_verify", "cert_pro_no_src_verify", None])),
        "code": draw(st.sampled_from([10000, 50215, 50400, None])),
        "gateway_code": draw(st.sampled_from([None, None, None, "FlowLimitExceeded"])),
        "sub_code": draw(st.sampled_from([0, 210302, 210311, 210313, None])),
        "result": draw(st.sampled_from([True, False, None])),
        "alive": draw(st.sampled_from([True, False, None])),
        "score": draw(st.none() | st.sampled_from(SCORES) | st.floats(0, 100)),
        **dict(zip(THRESHOLD_COLUMNS, regime, strict=True)),
        "risk_score": draw(st.sampled_from([None, 0, 300, 600, 900, 1200])),
        "risk_tags": draw(
            st.none() | st.lists(st.sampled_from(["14004", "13001", "16999", "14001"]), max_size=4)
        ),
    }


frames = st.lists(answers(), max_size=40)


def engines(rows):
    """The same rows in every engine; the Arrow table carries NaN for null, as some files do."""
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    holes = [math.nan if x is None else x for x in table["score"].to_pylist()]
    at = SCHEMA.get_field_index("score")
    return {
        "pandas": table.to_pandas(),
        "pandas on Arrow": table.to_pandas(types_mapper=pd.ArrowDtype),
        "Arrow": table.set_column(at, "score", pa.array(holes, pa.float64())),
        "Polars": pl.DataFrame(pl.from_arrow(table)),
        "Polars lazy": pl.DataFrame(pl.from_arrow(table)).lazy(),
        "DuckDB": duckdb.connect().from_arrow(table),
    }


def is_answered(row):
    return row["code"] in (10000, 50215) and row["gateway_code"] is None


def is_withheld(row):
    return is_answered(row) and row["score"] is None and row["sub_code"] in COMPARED


def points(row):
    four = [row[name] for name in THRESHOLD_COLUMNS]
    whole = None not in four and four[0] < four[1] < four[2] < four[3]
    return four if whole else None


def regime(row):
    four = points(row)
    if four is None:
        return "incomplete"
    return f"{row['req_key'] or 'unknown'} {'/'.join(f'{x:g}' for x in four)}"


def grouped(rows, key, keep=is_answered):
    groups = {}
    for row in filter(keep, rows):
        groups.setdefault(key(row), []).append(row)
    return groups


# ------------------------------------------------------------------ engines


@pytest.mark.parametrize(
    "statistic",
    [
        va.scores.regimes,
        lambda v: va.scores.histogram(v, 0.1, by=["result", "req_key"]),
        va.scores.match_rates,
        lambda v: va.scores.match_rates(v, [60, 71.3, 80, 99.5], by="alive", every="day"),
        lambda v: va.scores.match_rates(v, nominal_fmr=[1e-3, 2e-5], every="week"),
        lambda v: va.scores.vendor_thresholds(v, every="month", tz="Europe/Berlin"),
        lambda v: va.tags.rates(v, by="result", every="week"),
    ],
    ids=["regimes", "histogram", "own", "rates", "nominal", "vendor", "tags"],
)
@settings(max_examples=FEW // 2)
@given(rows=frames)
def test_every_engine_gives_the_same_frame(statistic, rows):
    results = {name: statistic(v) for name, v in engines(rows).items()}
    expected = results.pop("DuckDB")
    for result in results.values():
        pd.testing.assert_frame_equal(result, expected)


# ------------------------------------------------------------------ brute force


def loop_gate(row, name):
    own = points(row)
    if name == "answered":
        return is_answered(row)
    if name == "scored":
        return is_answered(row) and row["score"] is not None
    if name == "alive":
        return row["alive"]
    if name == "match":
        if is_withheld(row):
            return False
        return None if own is None or row["score"] is None else row["score"] >= own[1]
    return True if row["risk_score"] is None else row["risk_score"] < 900


@settings(max_examples=FEW)
@given(rows=frames)
def test_gates_are_a_loop(rows):
    v = lazy_rows(
        engines(rows)["Polars lazy"], (*REQUIRED, "sub_code", "alive", "risk_score"), OPTIONAL
    )
    v = v.with_columns(**{f"gate_{name}": gate(name) for name in GATES})
    names = [f"gate_{name}" for name in GATES]
    table = group_counts(v, names, counts={"n": None})
    got = {
        tuple(None if x is pd.NA else bool(x) for x in key): n
        for *key, n in table.itertuples(index=False)
    }
    assert got == Counter(tuple(loop_gate(row, name) for name in GATES) for row in rows)


@settings(max_examples=FEW)
@given(rows=frames)
def test_regimes_are_a_loop(rows):
    table = va.scores.regimes(engines(rows)["Polars lazy"]).set_index("regime")
    groups = grouped(rows, regime, keep=lambda row: True)
    assert set(table.index) == set(groups)
    for name, group in groups.items():
        got, answered = table.loc[name], [row for row in group if is_answered(row)]
        assert got["n_rows"] == len(group)
        assert got["n_answered"] == len(answered)
        assert got["n_scored"] == sum(row["score"] is not None for row in answered)
        assert got["n_withheld"] == sum(map(is_withheld, answered))
        assert got["n_without_score"] == sum(row["score"] is None for row in answered)
        seen = [row["occurred_at"] for row in group if row["occurred_at"]]
        first, last = (min(seen), max(seen)) if seen else (pd.NaT, pd.NaT)
        assert (got["first_at"] is first and got["last_at"] is last) or (
            got["first_at"] == first and got["last_at"] == last
        )


@settings(max_examples=FEW)
@given(rows=frames, width=st.sampled_from([0.1, 0.25, 1, 3, 7.5, 100]))
def test_histogram_is_a_loop(rows, width):
    table = va.scores.histogram(engines(rows)["Polars lazy"], width, by="result")
    assert table["n"].sum() == sum(is_answered(r) and r["score"] is not None for r in rows)
    groups = grouped(rows, lambda row: (row["result"], regime(row)))
    for (result, name), group in groups.items():
        mine = table["result"].isna() if result is None else table["result"].eq(result)
        bins = table[mine.fillna(value=False) & (table["regime"] == name)]
        scores = [row["score"] for row in group if row["score"] is not None]
        low, high = bins["score_low"].tolist(), bins["score_high"].tolist()
        assert low[1:] == high[:-1]
        assert (low[0], high[-1]) == (0, 100)
        assert set(points(group[0]) or []) <= {*low}
        for a, b, n in zip(low, high, bins["n"], strict=True):
            assert n == sum(a <= s < b or (b == 100 and s == 100) for s in scores)
        assert (bins["n_scored"] == len(scores)).all()
        assert (bins["n_without_score"] == len(group) - len(scores)).all()


def assert_rates(got, group, thresholds_of):
    n = sum(row["score"] is not None or is_withheld(row) for row in group)
    n_match = sum(row["score"] is not None and row["score"] >= thresholds_of(row) for row in group)
    assert (got.n, got.n_match) == (n, n_match)
    assert got.n_withheld == sum(map(is_withheld, group))
    assert got.n_without_score == sum(row["score"] is None for row in group)
    if n:
        assert got.match_rate_low <= got.match_rate == n_match / n <= got.match_rate_high
    else:
        assert math.isnan(got.match_rate)


@settings(max_examples=FEW)
@given(rows=frames, at=st.lists(st.sampled_from(SCORES), min_size=1, max_size=5))
def test_match_rates_are_a_loop(rows, at):
    table = va.scores.match_rates(engines(rows)["Polars lazy"], at)
    groups = grouped(rows, regime)
    assert len(table) == len(groups) * len(set(at))
    for got in table.itertuples():
        group = groups[got.regime]
        if got.regime == "incomplete":
            assert got.reason == "incomplete_regime"
            assert math.isnan(got.match_rate)
        else:
            assert_rates(got, group, lambda row, t=got.threshold: t)


@settings(max_examples=FEW)
@given(rows=frames)
def test_rates_at_the_own_thresholds_are_a_loop(rows):
    groups = grouped(rows, regime)
    table = va.scores.match_rates(engines(rows)["Polars lazy"])
    for got in table[table["regime"] != "incomplete"].itertuples():
        at = points(groups[got.regime][0]).index(got.threshold)
        assert got.nominal_fmr == [1e-3, 1e-4, 1e-5, 1e-6][at]
        assert_rates(got, groups[got.regime], lambda row, at=at: points(row)[at])


@settings(max_examples=FEW)
@given(rows=frames, at=st.sampled_from([0, 1, 2, 3]))
def test_rates_at_a_nominal_fmr_pool_the_regimes(rows, at):
    table = va.scores.match_rates(engines(rows)["Polars lazy"], nominal_fmr=10.0 ** (-3 - at))
    whole = [row for row in rows if is_answered(row) and points(row)]
    assert (len(whole) > 0) == ("all" in set(table["regime"]))
    for got in table[table["regime"] == "all"].itertuples():
        assert got.n_regimes == len({regime(row) for row in whole})
        assert_rates(got, whole, lambda row: points(row)[at])


@settings(max_examples=FEW)
@given(rows=frames, tz=st.sampled_from(["Asia/Shanghai", "Europe/Berlin", "America/New_York"]))
def test_periods_are_local(rows, tz):
    def week(row):
        if row["occurred_at"] is None:
            return "unknown"
        year, number, _ = row["occurred_at"].astimezone(ZoneInfo(tz)).isocalendar()
        return f"{year}-W{number:02}"

    v = lazy_rows(engines(rows)["Polars lazy"], ["occurred_at"])
    table = group_counts(v, counts={"n": None}, every="week", tz=tz)
    assert dict(zip(table["period"], table["n"], strict=True)) == Counter(map(week, rows))


@settings(max_examples=FEW)
@given(rows=frames)
def test_tag_rates_are_a_loop(rows):
    table = va.tags.rates(engines(rows)["Polars lazy"], by="alive")
    groups = grouped(rows, lambda row: row["alive"], keep=lambda row: True)
    names = {tag for row in rows for tag in row["risk_tags"] or []}
    assert len(table) == len(groups) * len(names)
    for got in table.itertuples():
        group = groups[None if got.alive is pd.NA else got.alive]
        asked = [r for r in group if not (r["risk_tags"] is None and r["risk_score"] is None)]
        assert got.n == len(asked)
        assert got.n_tag == sum(got.tag in (row["risk_tags"] or []) for row in asked)
        assert got.n_tagged == sum(bool(row["risk_tags"]) for row in asked)
        assert got.n_risk_not_asked == len(group) - len(asked)
        assert got.known == (got.tag != "16999")


@settings(max_examples=FEW)
@given(
    s=st.floats(0, 100),
    f=st.floats(1e-6, 1e-3),
    four=st.sampled_from(REGIMES[:2]),
)
def test_the_claim_and_its_inverse_agree(s, f, four):
    at = float(score_at_fmr(four, f))
    assert four[0] <= at <= four[3]
    assert float(implied_fmr(four, at)) == pytest.approx(f, rel=1e-9)
    claim = float(implied_fmr(four, s))
    if four[0] <= s <= four[3]:
        assert 1e-6 <= claim <= 1e-3
        assert float(score_at_fmr(four, claim)) == pytest.approx(s, abs=1e-9)
    else:
        assert math.isnan(claim)


@settings(max_examples=FEW)
@given(rows=frames)
def test_threshold_at_fmr_is_the_row_s_own(rows):
    v = lazy_rows(engines(rows)["Polars lazy"], (*REQUIRED, "sub_code"))
    v = v.filter(complete()).with_columns(t=threshold_at_fmr(2e-5))
    table = v.select("t", *THRESHOLD_COLUMNS).collect(backend="pyarrow").to_native().to_pandas()
    for t, *four in table.itertuples(index=False):
        assert t == pytest.approx(float(score_at_fmr(four, 2e-5)))
    assert nw.Float64 == v.collect_schema()["t"]


@settings(max_examples=FEW)
@given(rows=frames, to=st.sampled_from([50, 62.5, 75, 90]), base=st.sampled_from([None, 60, 80]))
def test_what_if_is_a_loop(rows, to, base):
    def passes(row, at):
        compared = False if is_withheld(row) else None
        if row["score"] is not None:
            compared = None if at is None else row["score"] >= at
        gates = [row["score"] is not None, row["alive"], compared, loop_gate(row, "risk")]
        return False if False in gates else None if None in gates else True

    def line(row):
        own = points(row) and points(row)[1]
        old, new = passes(row, own if base is None else base), passes(row, to)
        if passes(row, own) is True and row["result"] is False:
            return "unexplained"
        if None in (old, new):
            return "unknown"
        names = {(True, True): "both", (True, False): "only_old", (False, True): "only_new"}
        return names.get((old, new), "neither")

    table = va.scores.what_if(
        engines(rows)["Polars lazy"].select(pl.exclude("occurred_at")), to, base
    )
    for name, group in grouped(rows, regime).items():
        mine = table[table["regime"] == name].set_index("line")
        lines = Counter(map(line, group))
        for key in ("both", "only_old", "only_new", "neither", "unexplained", "unknown"):
            assert mine.loc[key, "n"] == lines[key]
            assert mine.loc[key, "n_of"] == len(group)
        own = [(passes(r, points(r) and points(r)[1]), r["result"]) for r in group]
        known = [pair for pair in own if None not in pair]
        assert mine.loc["reproduced", "n_of"] == len(known)
        assert mine.loc["reproduced", "n"] == sum(a == b for a, b in known)


@settings(max_examples=FEW)
@given(rows=frames)
def test_margins_are_a_loop(rows):
    table = va.scores.margins(engines(rows)["Polars lazy"], widths=(0.5, 10))
    groups = grouped(rows, regime)
    assert len(table) == 8 * len([name for name in groups if name != "incomplete"])
    for got in table.itertuples():
        scores = [row["score"] for row in groups[got.regime] if row["score"] is not None]
        t, w = got.threshold, got.width
        assert got.n_below == sum(t - w <= s < t for s in scores)
        assert got.n_above == sum(t <= s < t + w for s in scores)
        assert got.n == len(scores) + sum(map(is_withheld, groups[got.regime]))
