"""Reading: frames, relations and SQL over the six tables."""

from __future__ import annotations

from datetime import datetime

import narwhals as nw
import pandas as pd
import pyarrow as pa
import pytest
from builders.staged_answers import answer, bring, ids, reject

from verifyanalytics.errors import MissingColumnError, UsageError
from verifyanalytics.schema import IMPORTS, LABELS, QUALITY_COLUMNS, REJECTS, VERIFICATIONS


def test_read_gives_frames_that_pandas_can_filter(store):
    bring(store, "a", [answer(n) for n in range(20)])
    v = store.read()
    assert ids(v[v.result]) == [f"id-{n:06}" for n in range(20) if n % 3 > 0]
    assert (~v.alive).sum() == 0
    assert v.score.isna().sum() == 3
    assert v.score.mean() == sum(n for n in range(20) if n % 7) / 17
    assert str(v.dtypes["occurred_at"]) == "timestamp[us, tz=UTC][pyarrow]"
    assert str(v.dtypes["risk_tags"]) == "list<element: string>[pyarrow]"
    assert v.columns[:4].tolist() == ["request_id", "occurred_at", "occurred_at_source", "month"]


def test_rows_stand_by_month_batch_and_source_row(store):
    """So that a frame, and what is printed of it, is the same every time."""
    bring(store, "b", [answer(n, n + 1) for n in range(60)])
    bring(store, "a", [answer(n, n - 199) for n in range(200, 260)])
    bring(store, "c", [answer(500, 1, occurred_at=None), answer(61, 2)])
    v = store.read(columns=["month", "source", "source_row"])
    expected = [("2024-05", "b", n) for n in range(1, 49)]
    expected += [("2024-06", "b", n) for n in range(49, 61)]
    expected += [("2024-06", "a", n - 199) for n in range(200, 260)]
    expected += [("2024-06", "c", 2), ("unknown", "c", 1)]
    assert list(v.itertuples(index=False, name=None)) == expected


@pytest.mark.parametrize(
    ("table", "schema"), [("rejects", REJECTS), ("imports", IMPORTS), ("labels", LABELS)]
)
def test_the_tables_have_the_columns_of_the_schema_even_when_empty(store, table, schema):
    frame = store.read(table)
    assert len(frame) == 0
    assert frame.columns.tolist() == schema.names
    arrow = pa.Table.from_pandas(frame, preserve_index=False).schema
    assert [field.type for field in arrow] == [field.type for field in schema]
    verifications = store.read("verifications").columns.tolist()
    assert [name for name in verifications if name != "month"] == VERIFICATIONS.names


def test_since_and_until_are_half_open_and_leave_unknown_times_out(store):
    bring(store, "a", [answer(n) for n in range(100)] + [answer(200, occurred_at=None)])
    start = answer(10)["occurred_at"]
    end = answer(90)["occurred_at"]
    expected = [f"id-{n:06}" for n in range(10, 90)]
    assert ids(store.read(since=start, until=end)) == expected
    assert ids(store.read(since=start.isoformat(), until=pd.Timestamp(end))) == expected
    assert ids(store.read(since="2024-06-01", until="2024-06-01T02:00:00+01:00")) == ["id-000048"]
    assert len(store.read(since=datetime(2024, 6, 1).date())) == 100 - 48
    assert len(store.read()) == 101
    with pytest.raises(UsageError, match="since is 'soon'"):
        store.read(since="soon")


def test_columns_and_conditions(store):
    bring(store, "a", [answer(n) for n in range(10)])
    frame = store.read(columns=["score", "request_id"], where="score > 7 -- nearly all")
    assert frame.columns.tolist() == ["score", "request_id"]
    assert ids(frame) == ["id-000008", "id-000009"]
    with pytest.raises(MissingColumnError, match="no column nope; the frame has: request_id"):
        store.read(columns=["nope"])
    with pytest.raises(UsageError, match="no table nope; there are: verifications, rejects"):
        store.read("nope")
    with pytest.raises(UsageError, match="nope"):
        store.read(where="nope > 1")


def test_scan_is_lazy_and_serves_narwhals(store):
    bring(store, "a", [answer(n) for n in range(100)])
    lazy = nw.from_native(store.scan(since="2024-05-30"))
    counted = lazy.group_by("month").agg(nw.len().alias("n")).sort("month").collect()
    assert counted.rows() == [("2024-05", 48), ("2024-06", 52)]


def test_the_long_forms(store):
    graded = answer(1, 1, face_clarity=3.5, env_have_cap=0.0, risk_score=600)
    rows = [graded, answer(2, 2), answer(3, 3, risk_tags=None)]
    bring(store, "a", rows)
    tags = store.read("risk_tags").sort_values(["request_id", "tag"])
    assert tags[["request_id", "tag"]].to_numpy().tolist() == [
        ["id-000001", "14004"],
        ["id-000002", "13001"],
        ["id-000002", "14004"],
    ]
    assert tags["risk_score"].tolist() == [600, pd.NA, pd.NA]
    quality = store.read("image_quality").sort_values("image")
    assert quality[["image", "measure", "value"]].to_numpy().tolist() == [
        ["env", "have_cap", 0.0],
        ["face", "clarity", 3.5],
    ]
    everything = dict.fromkeys(QUALITY_COLUMNS, 1.0)
    bring(store, "b", [answer(4, 1, **everything)])
    found = store.read("image_quality", where="request_id = 'id-000004'")
    assert sorted(found["image"] + "_" + found["measure"]) == sorted(QUALITY_COLUMNS)


def test_tables_counts_what_is_there(store):
    bring(store, "a", [answer(n) for n in range(60)], [reject(61)])
    bring(store, "b", [answer(100, 1, face_clarity=1.0)])
    store.add_labels(pd.DataFrame({"request_id": ["id-000001"], "mated": [True]}))
    tables = store.tables().set_index("table")
    n_tags = sum(n % 3 for n in (*range(60), 100))
    assert tables["rows"].to_dict() == {
        "verifications": 61,
        "rejects": 1,
        "imports": 2,
        "labels": 1,
        "risk_tags": n_tags,
        "image_quality": 1,
    }
    assert tables["files"].to_dict()["verifications"] == 3
    on_disk = sum(
        path.stat().st_size for path in (store.path / "responses").rglob("kind=*/**/*.parquet")
    )
    assert tables.loc[["verifications", "rejects", "imports"], "bytes"].sum() == on_disk


def test_sql_sees_the_six_tables(store):
    bring(store, "a", [answer(n) for n in range(10)], [reject(11)])
    for table, n in [("verifications", 10), ("rejects", 1), ("imports", 1), ("labels", 0)]:
        assert store.sql(f"SELECT count(*) AS n FROM {table}")["n"].tolist() == [n]
    frame = store.sql(
        "WITH t AS (SELECT tag, count(*) AS n FROM risk_tags GROUP BY ALL) FROM t ORDER BY tag"
    )
    assert frame.to_numpy().tolist() == [["13001", 3], ["14004", 6]]
    assert store.sql("SELECT count(*) AS n FROM verifications", as_of=0)["n"].tolist() == [0]
    assert len(store.sql("DESCRIBE verifications")) == len(store.read().columns)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT nope FROM verifications", 'column "nope" not found'),
        ("SELECT * FROM nope", "Table with name nope does not exist"),
        ("SELEC 1", "syntax error"),
        ("SELECT 1; SELECT 2", "takes one SELECT; given: SELECT, SELECT"),
        ("", "takes one SELECT; given: nothing"),
        ("DELETE FROM verifications", "given: DELETE"),
        ("CREATE TABLE x AS SELECT 1", "given: CREATE"),
        ("SET threads = 1", "given: SET"),
        ("ATTACH 'x.db'", "given: ATTACH"),
        ("INSTALL httpfs", "given: LOAD"),
        ("COPY (SELECT 1) TO 'x.csv'", "given: COPY"),
        ("PRAGMA database_list", "given: PRAGMA"),
        ("SELECT * FROM read_text('/etc/hostname')", "Permission Error"),
        ("SELECT * FROM read_csv('https://127.0.0.1/x.csv')", "Permission Error"),
        ("SELECT * FROM glob('/etc/*')", "Permission Error"),
        ("SELECT 'a'::INTEGER", "Could not convert"),
    ],
)
def test_sql_reads_the_store_and_nothing_else(store, query, message):
    with pytest.raises(UsageError, match=message) as caught:
        store.sql(query)
    assert "\n" not in str(caught.value)


def test_two_columns_of_a_query_may_have_one_name(store):
    frame = store.sql("SELECT '007' AS a, 1 AS a, 2 AS a_2, 3 AS a")
    assert frame.iloc[0].to_dict() == {"a": "007", "a_2": 1, "a_2_2": 2, "a_3": 3}
    bring(store, "a", [answer(1)])
    frame = store.sql("SELECT source AS s, source_row AS s FROM verifications")
    assert frame.iloc[0].tolist() == ["a", 2]


@pytest.mark.parametrize("query", [None, 5, "SELECT '\udcff'"])
def test_a_query_that_is_no_text_is_refused(store, query):
    with pytest.raises(UsageError):
        store.sql(query)


@pytest.mark.parametrize(
    "asked",
    [
        {"columns": 5},
        {"since": datetime.min, "until": "9999-12-31T23:59:59-12:00"},
        {"until": "9999-12-31T23:59:59-12:00"},
        {"where": "\udcff"},
    ],
)
def test_nonsense_asked_of_a_table_is_refused(store, asked):
    with pytest.raises(UsageError):
        store.read(**asked)


def test_sql_cannot_reach_the_callers_variables_or_the_stores_own_files(store, tmp_path):
    secret = pd.DataFrame({"a": [1]})
    with pytest.raises(UsageError, match="Table with name secret does not exist"):
        store.sql("SELECT * FROM secret")
    assert len(secret) == 1
    with pytest.raises(UsageError, match="given: COPY"):
        store.sql(f"COPY (SELECT 1) TO '{store.path}/x.parquet'")
    with pytest.raises(UsageError, match="Permission Error"):
        store.sql(f"SELECT * FROM read_text('{tmp_path}/store.key')")
