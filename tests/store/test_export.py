"""Export: plain files of every table."""

from __future__ import annotations

import csv

import pandas as pd
import pyarrow.parquet as pq
import pytest
from builders.staged_answers import answer, bring, reject

from verifyanalytics.errors import UsageError


def test_export_writes_every_table_as_parquet(store, tmp_path):
    bring(store, "a", [answer(n) for n in range(60)], [reject(61)])
    done = store.export(tmp_path / "out")
    assert done["rows"].tolist() == store.tables()["rows"].tolist()
    for table in done["table"]:
        read = pq.read_table(tmp_path / "out" / f"{table}.parquet")
        assert sorted(read.column_names) == sorted(store.read(table).columns)
    back = pq.read_table(tmp_path / "out" / "verifications.parquet").to_pandas(
        types_mapper=pd.ArrowDtype
    )
    ordered = back.sort_values("request_id", ignore_index=True)
    pd.testing.assert_frame_equal(
        ordered, store.read().sort_values("request_id", ignore_index=True)
    )
    with pytest.raises(UsageError, match=r"holds verifications\.parquet"):
        store.export(tmp_path / "out")
    assert len(store.export(tmp_path / "out", overwrite=True)) == 6
    with pytest.raises(UsageError, match="give parquet or csv"):
        store.export(tmp_path / "out", "xlsx")
    assert all(path.name[0] != "." for path in (tmp_path / "out").iterdir())


def test_a_csv_cell_never_starts_a_formula(store, tmp_path):
    texts = ["=cmd|' /C calc'!A0", "+1", "-1", "@x", "\tx", "\rx", "＝1", "plain", 'a"b,c\nd', ""]
    rows = [answer(n, message=text) for n, text in enumerate(texts)]
    bring(store, "=source", rows)
    store.export(tmp_path, "csv")
    with (tmp_path / "verifications.csv").open(newline="", encoding="utf-8") as file:
        read = {row["request_id"]: row for row in csv.DictReader(file)}
    found = [read[f"id-{n:06}"] for n in range(len(texts))]
    assert [row["message"] for row in found] == [
        text if text[:1] in ("p", "a", "") else f"'{text}" for text in texts
    ]
    assert {row["source"] for row in found} == {"'=source"}
    assert found[5]["risk_tags"] == '["14004","13001"]'
    assert found[1]["occurred_at"] == "2024-05-30T01:00:00.000000Z"
    assert found[1]["score"] == "1"


@pytest.mark.parametrize("inside", ["", "responses", "exports/new"])
def test_export_does_not_go_where_upkeep_would_remove_it(store, inside):
    with pytest.raises(UsageError, match="within the store"):
        store.export(store.path / inside)


def test_export_of_an_older_version(store, tmp_path):
    bring(store, "a", [answer(1)])
    bring(store, "b", [answer(2, 1)])
    done = store.export(tmp_path, as_of=1).set_index("table")
    assert done.loc["verifications", "rows"] == 1
