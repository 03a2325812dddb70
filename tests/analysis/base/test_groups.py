"""Base: frames of every kind, periods, bins, merging."""

from __future__ import annotations

import datetime as dt
import math
from collections import Counter

import duckdb
import narwhals as nw
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from builders.frames import engines, frame, row

from verifyanalytics.analysis.base.frames import lazy_rows
from verifyanalytics.analysis.base.groups import add_up, bin_counts, group_counts, group_keys
from verifyanalytics.analysis.base.regimes import name_regimes
from verifyanalytics.analysis.base.rows import REQUIRED, answered, gate
from verifyanalytics.errors import UsageError
from verifyanalytics.schema import THRESHOLD_COLUMNS

ROWS = {
    "code": [10000, None],
    "score": [70.5, None],
    "result": [True, None],
    "req_key": ["a", None],
}


def table(v, **options):
    return group_counts(lazy_rows(v, ROWS), ["req_key"], counts={"n": None}, **options)


@pytest.mark.parametrize(
    "v",
    [
        pd.DataFrame(ROWS),
        pd.DataFrame(ROWS).astype(object),
        pd.DataFrame(ROWS).astype({"req_key": "category"}),
        pd.DataFrame(ROWS).convert_dtypes(dtype_backend="pyarrow"),
        pa.table(ROWS),
        pl.DataFrame(ROWS),
        pl.LazyFrame(ROWS),
        duckdb.connect().from_arrow(pa.table(ROWS)),
        duckdb.sql(
            "select 10000 code, 70.5 score, true result, 'a' req_key "  # 70.5 is a decimal here
            "union all select null, null, null, null"
        ),
    ],
    ids=[
        "pandas", "objects", "category", "pyarrow", "Arrow", "Polars", "lazy", "DuckDB", "decimal",
    ],
)  # fmt: skip
def test_a_frame_of_any_kind(v):
    found = table(v)
    assert found["req_key"].tolist() == ["a", "unknown"]
    assert found["n"].tolist() == [1, 1]
    assert found["n"].dtype == np.int64


def test_a_column_of_only_nulls_has_the_type_of_its_name():
    v = pd.DataFrame({"score": [None, None], "risk_tags": [None, None], "ctx_x": [None, None]})
    schema = lazy_rows(v, v.columns).collect_schema()
    assert schema["score"] == nw.Float64
    assert schema["risk_tags"] == nw.List(nw.String)
    assert schema["ctx_x"] == nw.String


def test_an_optional_column_is_null_where_it_is_not():
    v = lazy_rows(pd.DataFrame({"code": [10000]}), ["code"], ["gateway_code", "risk_score"])
    found = group_counts(v, counts={"n": answered()})
    assert found["n"].item() == 1


def test_null_text_and_the_word_unknown_are_one_group():
    v = pd.DataFrame({**ROWS, "req_key": ["unknown", None]})
    assert table(v)[["req_key", "n"]].values.tolist() == [["unknown", 2]]


@pytest.mark.parametrize(
    ("tz", "moment", "day"),
    [
        ("Asia/Shanghai", "2024-06-02T15:59:59.999999Z", "2024-06-02"),
        ("Asia/Shanghai", "2024-06-02T16:00:00Z", "2024-06-03"),
        ("Europe/Berlin", "2024-03-31T00:59:59Z", "2024-03-31"),  # clocks go forward at 01:00 UTC
        ("Europe/Berlin", "2024-03-31T22:00:00Z", "2024-04-01"),
        ("Europe/Berlin", "2024-03-30T22:59:59Z", "2024-03-30"),
        ("Asia/Kathmandu", "2024-06-02T18:15:00Z", "2024-06-03"),  # 5 h 45 min
        ("Australia/Lord_Howe", "2024-04-06T13:00:00Z", "2024-04-07"),  # half an hour of summer
        ("Australia/Lord_Howe", "2024-04-07T13:29:59Z", "2024-04-07"),
        ("UTC", "1969-12-31T23:59:59Z", "1969-12-31"),
        ("UTC", "9999-12-31T23:59:59Z", "9999-12-31"),
    ],
)
def test_the_local_day(tz, moment, day):
    v = pl.LazyFrame({"occurred_at": [dt.datetime.fromisoformat(moment)]})
    found = group_counts(lazy_rows(v, ["occurred_at"]), counts={"n": None}, every="day", tz=tz)
    assert found["period"].item() == day


def test_a_time_without_a_zone_is_utc_whatever_the_session_s_zone():
    with duckdb.connect() as connection:
        connection.sql("set TimeZone = 'America/New_York'")
        v = connection.sql("select timestamp '2024-06-02 20:00:00' as occurred_at")
        found = group_counts(lazy_rows(v, ["occurred_at"]), counts={"n": None}, every="day")
    assert found["period"].item() == "2024-06-03"


@pytest.mark.parametrize(
    ("every", "labels", "partial"),
    [
        ("week", ["2024-W52", "2025-W01", "2025-W02", "unknown"], [True, False, True, False]),
        ("month", ["2024-12", "2025-01", "unknown"], [True, True, False]),
    ],
)
def test_weeks_and_months_around_a_new_year(every, labels, partial):
    days = [*pd.date_range("2024-12-25", "2025-01-08", tz="Asia/Shanghai"), None]
    v = lazy_rows(pd.DataFrame({"occurred_at": days}), ["occurred_at"])
    found = group_counts(v, counts={"n": None}, every=every)
    assert found["period"].tolist() == labels
    assert found["partial"].tolist() == partial
    assert found["n"].sum() == 16
    assert found["period_start"].isna().tolist() == [False] * (len(labels) - 1) + [True]


def test_a_day_is_partial_when_the_data_begin_or_end_inside_it():
    times = pd.to_datetime(
        ["2024-06-01 05:00", "2024-06-02 12:00", "2024-06-03 23:30"]
    ).tz_localize("UTC")
    v = lazy_rows(pd.DataFrame({"occurred_at": times}), ["occurred_at"])
    found = group_counts(v, counts={"n": None}, every="day", tz="UTC")
    assert found["partial"].tolist() == [True, False, False]


def test_least_and_most_of_merged_groups():
    table = pd.DataFrame(
        {"k": ["a", "a", "b"], "n": [1, 2, 3], "low": [5.0, 4.0, 1.0], "high": [5.0, 9.0, 1.0]}
    )
    merged = add_up(table, ["k"], least=["low"], most=["high"])
    assert merged.to_numpy().tolist() == [["a", 3, 4.0, 9.0], ["b", 3, 1.0, 1.0]]


def test_totals_without_a_key_stay_whole_numbers():
    found = group_counts(
        lazy_rows(pd.DataFrame(ROWS), ROWS),
        counts={"n": None, "n_true": nw.col("result")},
        least={"low": nw.col("score")},
    )
    assert found.iloc[0].to_dict() == {"n": 2, "n_true": 1, "low": 70.5}
    assert found["n"].dtype == np.int64


def of_each_kind(table):
    """An Arrow table, NaN and all, in every engine."""
    polars = pl.DataFrame(pl.from_arrow(table))
    relation = duckdb.connect().from_arrow(table)
    return {"Arrow": table, "Polars": polars, "lazy": polars.lazy(), "DuckDB": relation}


@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai"])
@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_a_time_with_a_zone_has_any_unit(unit, zone):
    moments = pd.to_datetime(["2024-06-02T15:59:59.999Z", None]).tz_convert(zone).as_unit(unit)
    v = pd.DataFrame({"occurred_at": moments})
    expected = [dt.datetime(2024, 6, 2, 15, 59, 59, 999000, tzinfo=dt.UTC).timestamp() * 1e6, None]
    arrow = pa.Table.from_pandas(v, preserve_index=False)
    for engine, held in ({"pandas": v} | of_each_kind(arrow)).items():
        found = lazy_rows(held, ["occurred_at"]).collect("pyarrow").to_native()
        assert found["occurred_us"].to_pylist() == expected, engine


def test_nan_and_what_no_whole_number_holds_are_null():
    odd = [math.nan, None, math.inf, -1e300, 900.0]
    names = ["code", "sub_code", "risk_score", "elapsed_ms", "score"]
    table = pa.table({name: pa.array(odd, pa.float64()) for name in names})
    for engine, v in of_each_kind(table).items():
        found = lazy_rows(v, names).collect("pyarrow").to_native().to_pydict()
        for name in names[:3]:
            assert found[name] == [None, None, None, None, 900], (engine, name)
        for name in names[3:]:
            assert found[name] == [None, None, math.inf, -1e300, 900], (engine, name)


@pytest.mark.parametrize("edges", [[60, 70], [0.1, 60], [70.25, 70.5], [0.333, 70.01]])
def test_a_score_of_any_size_is_in_a_bin(edges):
    """No cell number that fits a whole number could hold these."""
    scores = [math.inf, -math.inf, 1e300, -1e300, 2e19, 70.0, None]
    table = pa.table({"score": pa.array(scores, pa.float64())})
    bins = Counter(-1 if x is None else sum(x >= edge for edge in edges) for x in scores)
    for engine, v in of_each_kind(table).items():
        found = bin_counts(lazy_rows(v, ["score"]), edges, counts={"n": None})
        assert dict(zip(found["bin"], found["n"], strict=True)) == bins, engine


KEYS = {
    "whole": (pa.array([2, 1, 2], pa.int32()), "int64", [1, 2], [1, 2]),
    "holed": (pa.array([2, None, 2], pa.int16()), "float64", [2, None], [2, 1]),
    "exact": (pa.array([2, 1, 2], pa.decimal128(9, 2)), "float64", [1, 2], [1, 2]),
    "short": (pa.array([0.5, None, 0.25], pa.float32()), "float64", [0.25, 0.5, None], [1, 1, 1]),
    "truth": (pa.array([True, None, True]), "boolean", [True, None], [2, 1]),
    "category": (
        pa.array(["b", None, "b"]).dictionary_encode(), "str", ["b", "unknown"], [2, 1],
    ),
    "day": (
        pa.array([dt.date(2024, 5, 10), dt.date(2024, 5, 9), None]),
        "object", [dt.date(2024, 5, 9), dt.date(2024, 5, 10), None], [1, 1, 1],
    ),
    "moment": (
        pa.array([dt.datetime(2024, 5, 10, tzinfo=dt.UTC), None, None], pa.timestamp("ms", "UTC")),
        "datetime64[us, UTC]", [dt.datetime(2024, 5, 10, tzinfo=dt.UTC), None], [1, 2],
    ),
    "tags": (
        pa.array([["b", "a"], ["a", "b", "a"], None]), "object", [("a", "b"), None], [2, 1],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", KEYS)
def test_a_key_has_one_type_on_every_engine(name):
    values, kind, groups, sizes = KEYS[name]
    table = pa.table({name: values})
    for engine, v in ({"pandas": table.to_pandas()} | of_each_kind(table)).items():
        found = group_counts(lazy_rows(v, [name]), [name], counts={"n": None})
        held = [None if x is None or x is pd.NA or x != x else x for x in found[name]]
        assert (held, found["n"].tolist()) == (groups, sizes), engine
        assert found[name].dtype == kind, engine


def test_what_cannot_group_is_refused_in_one_line():
    assert group_keys(None) == []
    assert group_keys(("a", "b", "a")) == ["a", "b"]
    for by, message in (
        (5, "by must be a column's name or several; 5 was given"),
        (["a", None], "None"),
        ("occurred_at", "by occurred_at"),
        (["n", "a"], "by n: this table has that column of its own"),
    ):
        with pytest.raises(UsageError, match=message):
            group_keys(by, made=["n"])
    frame = lazy_rows(pl.DataFrame({"occurred_at": [dt.datetime(2024, 5, 1)]}), ["occurred_at"])
    with pytest.raises(UsageError, match="by occurred_at"):
        group_counts(frame, ["occurred_at"], counts={"n": None})


def test_regimes_that_agree_to_six_digits_have_names_of_their_own():
    near = [69.9999999, 70.0, 69.99999999999999]
    table = pd.DataFrame(dict(zip(THRESHOLD_COLUMNS, (60.0, near, 80.5, 90.0), strict=True)))
    names = name_regimes(table.assign(req_key="a"))["regime"].tolist()
    assert names == ["a 60/69.9999999/80.5/90", "a 60/70/80.5/90", "a 60/69.99999999999999/80.5/90"]


def test_what_cannot_be_is_refused():
    with pytest.raises(UsageError, match="no gate 'luck'"):
        gate("luck")
    with pytest.raises(UsageError, match="a dict is no frame"):
        lazy_rows({"code": [1]}, ["code"])


@pytest.mark.parametrize("steps", [10, 20, 100])
@pytest.mark.parametrize("engine", sorted(engines(frame([row(0)]))))
def test_every_edge_is_exact_on_every_engine(engine, steps):
    """The score on an edge is in the bin above, the number before it below: on all hundredths."""
    edges = np.arange(100 * steps + 1) / steps
    scores = [*edges, *np.nextafter(edges, -1)[1:]]
    v = engines(frame([row(i, score=float(score)) for i, score in enumerate(scores)]))[engine]
    found = bin_counts(lazy_rows(v, (*REQUIRED, "sub_code")), edges, counts={"n": None})
    assert found["n"].tolist() == [2] * (len(edges) - 1) + [1]
    assert found["bin"].tolist() == list(range(1, len(edges) + 1))
