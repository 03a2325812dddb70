from __future__ import annotations

import csv
import json
import os
import stat
import subprocess
import sys
import threading
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import narwhals as nw
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders.staged_answers import answer, bring, counts, part, reject, sha256, stage, write
from deltalake import DeltaTable

from verifyanalytics.errors import MissingColumnError, NoStoreError, StorageError, UsageError
from verifyanalytics.parsing.reference import content
from verifyanalytics.schema import IMPORTS, LABELS, QUALITY_COLUMNS, REJECTS, VERIFICATIONS
from verifyanalytics.store import log as _store_log
from verifyanalytics.store import tables as _store_tables
from verifyanalytics.store.store import StagedFile, Store
from verifyanalytics.store.views import Engine


@pytest.fixture(autouse=True)
def _no_key_of_the_caller(monkeypatch):
    monkeypatch.delenv("VERIFYANALYTICS_KEY_FILE", raising=False)


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "store", create=True)
    yield made
    made.close()


def ids(frame):
    return sorted(frame["request_id"].tolist())


def parquet_files(store):
    return sorted(store.path.rglob("*.parquet"))


# -------------------------------------------------------------------------------- being there


def test_reading_never_makes_a_store(tmp_path):
    store = Store(tmp_path / "store")
    for read in (
        store.read,
        store.scan,
        store.tables,
        store.versions,
        store.check,
        store.strays,
        store.compact,
        store.vacuum,
        lambda: store.sql("SELECT 1"),
        lambda: store.export(tmp_path / "out"),
    ):
        with pytest.raises(NoStoreError, match="import first, or set VERIFYANALYTICS_STORE"):
            read()
    assert store.done(sha256("a")) is None
    assert list(tmp_path.iterdir()) == []


def test_the_first_write_makes_the_store(tmp_path):
    store = Store(tmp_path / "deep" / "store")
    assert counts(bring(store, "a", [answer(1)])) == (1, 1, 0, 0)
    assert ids(Store(tmp_path / "deep" / "store").read()) == ["id-000001"]


def test_the_path_comes_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("VERIFYANALYTICS_STORE", str(tmp_path / "named"))
    assert Store().path == tmp_path / "named"
    monkeypatch.delenv("VERIFYANALYTICS_STORE")
    monkeypatch.chdir(tmp_path)
    assert Store().path == tmp_path / "data" / "store"


@pytest.mark.parametrize("name", ["month=2024-01", "a%20b", "a\\b", "a\nb", "a\udcff"])
@pytest.mark.skipif(os.name != "posix", reason="a backslash parts folders elsewhere")
def test_a_path_that_engines_would_misread_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match="cannot hold a store"):
        Store(tmp_path / name / "store")


@pytest.mark.parametrize("given", ["s3://bucket/store", "memory://store", 5, ["a"]])
def test_what_is_no_folder_of_this_machine_is_no_store(tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError):
        Store(given, create=True)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_other_files_is_no_place_for_a_store(tmp_path):
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"holds other files \(letter\.txt"):
        Store(tmp_path, create=True)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_path_with_signs_that_mean_something_elsewhere_works(tmp_path):
    store = Store(tmp_path / "a b [1] *? é # % '", create=True)
    bring(store, "a", [answer(1), answer(50)])
    bring(store, "b", [answer(1, 1), answer(2, 2)])
    assert ids(store.read()) == ["id-000001", "id-000002", "id-000050"]
    assert len(store.compact()) == 2
    assert store.check(deep=True) == []


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_nothing_of_a_store_is_open_to_others(store):
    bring(store, "a", [answer(n) for n in range(60)], [reject(100)])
    bring(store, "b", [answer(100, 1, ctx_app="x")])
    store.add_labels(pd.DataFrame({"request_id": ["id-000001"], "mated": [True]}))
    store.compact()
    for path in (store.path, *store.path.rglob("*"), store.path.with_name("store.key")):
        open_to_others = stat.S_IMODE(path.stat().st_mode) & 0o077
        assert not open_to_others or path.parent != store.path.parent, path
        assert not (path.is_file() and open_to_others), path


# -------------------------------------------------------------------------------- the key


def test_the_key_lies_beside_the_store_and_stays(store, tmp_path):
    file = tmp_path / "store.key"
    assert store.key == bytes.fromhex(file.read_text())
    assert len(store.key) == 32
    assert Store(store.path).key == store.key
    everything = b"".join(path.read_bytes() for path in store.path.rglob("*") if path.is_file())
    assert store.key.hex().encode() not in everything
    assert Store(tmp_path / "other", create=True).key != store.key


def test_the_key_may_lie_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("VERIFYANALYTICS_KEY_FILE", str(tmp_path / "keys" / "one"))
    store = Store(tmp_path / "store", create=True)
    assert (tmp_path / "keys" / "one").exists()
    assert not (tmp_path / "store.key").exists()
    assert Store(store.path).key == store.key


def test_a_lost_key_is_not_made_again(store, tmp_path):
    (tmp_path / "store.key").rename(tmp_path / "moved")
    with pytest.raises(StorageError, match="set VERIFYANALYTICS_KEY_FILE to where it is"):
        Store(store.path).key  # noqa: B018
    with pytest.raises(StorageError, match="is missing"):
        Store(store.path).new_batch()
    assert not (tmp_path / "store.key").exists()
    assert any("is missing" in finding for finding in Store(store.path).check())
    assert len(Store(store.path).read()) == 0  # reading needs no key


def test_another_stores_key_is_refused(store, tmp_path):
    Store(tmp_path / "other", create=True)
    (tmp_path / "other.key").replace(tmp_path / "store.key")
    with pytest.raises(StorageError, match="not the one this store was made with"):
        Store(store.path).new_batch()


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_a_key_that_others_may_read_is_refused(store, tmp_path):
    (tmp_path / "store.key").chmod(0o640)
    with pytest.raises(StorageError, match="run: chmod 600"):
        Store(store.path).key  # noqa: B018


@pytest.mark.parametrize("text", ["", "0" * 63, "x" * 64, "é"])
def test_a_key_that_is_none_is_refused(store, tmp_path, text):
    (tmp_path / "store.key").write_text(text, encoding="utf-8")
    with pytest.raises(StorageError, match=r"64 hexadecimal digits|cannot be read"):
        Store(store.path).key  # noqa: B018


def test_a_store_of_newer_code_is_refused(store):
    handle = DeltaTable(store.path / "responses")
    handle.alter.set_table_properties(
        {"verifyanalytics.schema_version": "99"}, raise_if_not_exists=False
    )
    with pytest.raises(StorageError, match=r"has schema 99.*update verifyanalytics"):
        Store(store.path).read()


# -------------------------------------------------------------------------------- what is new


def test_rows_rejects_and_ledger_come_in_one_version(store):
    rows, rejects = [answer(n) for n in range(30)], [reject(31), reject(32, "encoding")]
    assert counts(bring(store, "a", rows, rejects)) == (32, 30, 0, 2)
    assert store.versions()["version"].tolist() == [0, 1]
    assert ids(store.read()) == [row["request_id"] for row in rows]
    assert sorted(store.read("rejects")["source_row"].tolist()) == [31, 32]
    (ledger,) = store.read("imports").to_dict("records")
    assert ledger["n_read"] == ledger["n_added"] + ledger["n_known"] + ledger["n_rejected"] == 32
    assert (ledger["sha256"], ledger["source"], ledger["bytes"]) == (sha256("a"), "a", 3200)
    assert ledger["batch"] == store.read()["batch"].unique().tolist()[0]
    assert store.check(deep=True) == []


def test_values_come_back_as_they_were(store):
    row = answer(3, ctx_app="7.1", face_clarity=3.6389399293661118, http_status=200)
    bring(store, "a", [row])
    found = store.read().to_dict("records")[0]
    for name, value in row.items():
        got = found[name]
        assert (list(got) if isinstance(value, list) else got) == value, name
    assert found["month"] == "2024-05"
    assert found["env_clarity"] is None


def test_a_file_is_moved_as_it_is_when_all_is_new(store):
    rows = [answer(n) for n in range(10)]
    batch = store.new_batch()
    (staged,) = stage(store, batch, "a", rows)
    inode = Path(staged.path).stat().st_ino
    store.append(batch, [staged], [part("a", rows)])
    placed = list((store.path / "responses" / "kind=verification").rglob("*.parquet"))
    assert [path.stat().st_ino for path in placed] == [inode]
    assert list((store.path / "responses" / "_staging").iterdir()) == []


def test_the_same_answer_is_known_whatever_month_it_comes_in(store):
    bring(store, "a", [answer(n) for n in range(10)])
    moved = answer(3, 1, occurred_at=datetime(2025, 1, 1, tzinfo=UTC))
    timeless = answer(4, 2, occurred_at=None)
    assert counts(bring(store, "b", [moved, timeless, answer(99, 3)])) == (3, 1, 2, 0)
    held = store.read().set_index("request_id")["occurred_at"]
    assert held["id-000003"] == answer(3)["occurred_at"]
    assert len(held) == 11


def test_other_content_under_a_stored_id_is_a_conflict(store):
    bring(store, "a", [answer(n) for n in range(5)])
    other = [answer(1, 1, content="x"), answer(9, 2)]
    assert counts(bring(store, "b", other)) == (2, 1, 0, 1)
    (refused,) = store.read("rejects").to_dict("records")
    assert (refused["source"], refused["source_row"], refused["reason"]) == ("b", 1, "conflict")
    first = store.read("imports", where="source = 'a'")["batch"][0]
    assert refused["detail"] == (f"the same request_id has other content in batch {first}, row 2")
    assert store.read(where="request_id = 'id-000001'")["content"].tolist() == ["content-1"]
    assert store.check() == []


def test_within_a_batch_ties_go_to_the_first_part_and_row(store):
    first = [answer(1, 5), answer(2, 2), answer(1, 3, content="x")]
    second = [answer(2, 1, content="y"), answer(3, 2), answer(3, 3)]
    batch = store.new_batch()
    # the files are handed over in the other order: the parts decide
    files = stage(store, batch, "z", second) + stage(store, batch, "a", first)
    made = store.append(batch, files, [part("a", first), part("z", second)])
    assert [counts(count) for count in made] == [(3, 2, 0, 1), (3, 1, 1, 1)]
    kept = {(r.request_id, r.source, r.source_row) for r in store.read().itertuples()}
    assert kept == {("id-000001", "a", 3), ("id-000002", "a", 2), ("id-000003", "z", 2)}
    refused = store.read("rejects")
    assert sorted(zip(refused["source"], refused["source_row"], strict=True)) == [
        ("a", 5),
        ("z", 1),
    ]
    assert store.check() == []


def test_the_same_source_again_changes_nothing(store):
    rows = [answer(n) for n in range(5)]
    bring(store, "a", rows, [reject(6)])
    before = store.versions()
    again = bring(store, "a", rows, [reject(6)])
    assert (again.already_imported, counts(again)) == (True, (6, 5, 0, 1))
    assert store.versions().equals(before)
    # its siblings in the batch are not skipped
    batch = store.new_batch()
    more = [answer(50, 1)]
    files = stage(store, batch, "a", rows) + stage(store, batch, "b", more)
    old, new = store.append(batch, files, [part("a", rows), part("b", more)])
    assert (old.already_imported, new.already_imported, new.n_added) == (True, False, 1)
    assert store.check() == []


def test_a_copy_of_a_source_in_the_same_batch_is_dropped(store):
    rows = [answer(n) for n in range(3)]
    batch = store.new_batch()
    files = stage(store, batch, "a", rows) + stage(store, batch, "copy", rows)
    parts = [part("a", rows), part("copy", rows, sha256=sha256("a"))]
    first, second = store.append(batch, files, parts)
    assert (counts(first), second.already_imported) == ((3, 3, 0, 0), True)
    assert store.read()["source"].unique().tolist() == ["a"]
    assert store.check() == []


def test_a_source_in_parts_says_how_far_it_is(store):
    rows = [answer(n) for n in range(10)]
    first, second = rows[:4], rows[4:]
    bring(store, "a", first, complete=False, rows_done=4, bytes_done=400, n_bytes=400)
    progress = store.done(sha256("a"))
    assert (progress.rows_done, progress.bytes_done, progress.complete) == (4, 400, False)
    assert progress.n_read == progress.n_added == 4
    bring(store, "a", second, first_row=5, rows_done=10, bytes_done=1000, n_bytes=600)
    progress = store.done(sha256("a"))
    assert (progress.rows_done, progress.bytes_done, progress.complete) == (10, 1000, True)
    assert progress.n_read == 10
    assert store.check() == []


def test_parts_that_are_in_already_are_dropped_and_the_rest_counts(store):
    rows = [answer(n) for n in range(10)]
    bring(store, "a", rows[:6], complete=False, rows_done=6, bytes_done=600, n_bytes=600)
    # another import cut the source elsewhere: rows 5 and 6 are in, 7 to 10 are not
    late = bring(
        store, "a", rows[4:], [reject(11)], first_row=5, rows_done=11, bytes_done=1100, n_bytes=700
    )
    assert counts(late) == (5, 4, 0, 1)
    assert late.n_bytes == 500
    assert store.done(sha256("a")).n_read == 11
    again = bring(store, "a", rows[:6], complete=False, rows_done=6, bytes_done=600)
    assert again.already_imported
    assert store.check() == []


def test_a_gap_between_parts_is_refused(store):
    rows = [answer(n) for n in range(4, 8)]
    with pytest.raises(StorageError, match="rows 1 to 4 are missing"):
        bring(store, "a", rows, first_row=5)
    assert len(store.read()) == 0


def test_counts_that_do_not_agree_with_what_is_staged_are_refused(store):
    with pytest.raises(StorageError, match="1 rows and 0 rejects are staged, 2 read"):
        bring(store, "a", [answer(1)], n_read=2)
    batch = store.new_batch()
    files = stage(store, batch, "a", [answer(1)])
    with pytest.raises(StorageError, match="belong to no range"):
        store.append(batch, files, [])
    with pytest.raises(UsageError, match="two sources are named a"):
        store.append(store.new_batch(), [], [part("a", []), part("a", [], sha256="0" * 64)])
    assert store.versions()["version"].tolist() == [0]


def test_an_empty_source_is_remembered(store):
    assert counts(bring(store, "empty", [])) == (0, 0, 0, 0)
    assert store.done(sha256("empty")).complete
    assert store.check(deep=True) == []


# -------------------------------------------------------------------------------- one token

QUERY = "CertVerifyQuery"


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize(
    ("rows", "kept"),
    [
        # a query reports an answer that is there
        ([(1, "t", "CertVerify", 10000), (2, "t", QUERY, 10000)], [1]),
        # the answer comes late, its outcome was queried
        ([(1, "t", QUERY, 10000), (2, "t", "CertVerify", 10000)], [1]),
        ([(1, "t", QUERY, 10000), (2, "t", QUERY, 10000)], [1]),
        # a refused try and a good one
        ([(1, "t", "CertVerify", 50215), (2, "t", "CertVerify", 10000)], [1, 2]),
        ([(1, "t", "CertVerify", 50215), (2, "t", QUERY, 10000)], [1]),
        # other tokens, and none
        ([(1, "t", "CertVerify", 10000), (2, "u", QUERY, 10000)], [1, 2]),
        ([(1, None, "CertVerify", 10000), (2, None, QUERY, 10000)], [1, 2]),
        # a fault settles nothing: the query brings the outcome
        ([(1, "t", "CertVerify", 50500), (2, "t", QUERY, 10000)], [1, 2]),
        # a query that found nothing keeps no answer out
        ([(1, "t", QUERY, 50500), (2, "t", "CertVerify", 10000)], [1, 2]),
        # after two tries a query, then another
        (
            [
                (1, "t", "CertVerify", 50215),
                (2, "t", "CertVerify", 10000),
                (3, "t", QUERY, 10000),
                (4, "t", QUERY, 10000),
            ],
            [1, 2],
        ),
    ],
)
def test_the_first_answer_to_a_token_stays(store, rows, kept, together):
    made = [answer(n, n, token=token, action=action, code=code) for n, token, action, code in rows]
    others = [answer(n, n, token=f"other-{n}") for n in range(100, 110)]
    if together:
        bring(store, "all", made + others)
    else:
        for row in made:
            bring(store, f"s{row['source_row']}", [row])
        bring(store, "others", others)
    expected = [f"id-{n:06}" for n in kept] + [row["request_id"] for row in others]
    assert ids(store.read()) == expected
    ledger = store.read("imports")
    assert ledger["n_known"].sum() == len(rows) - len(kept)
    assert store.check() == []


def test_an_id_and_a_token_settle_each_other_in_order(store):
    rows = [
        answer(1, 1, token="t"),
        answer(2, 2, token="t", action=QUERY),  # known: the token has its answer
        answer(2, 3, token=None, action=QUERY),  # the id is not stored: new
        answer(2, 4, token=None, action=QUERY, content="x"),  # contradicts row 3
    ]
    assert counts(bring(store, "a", rows)) == (4, 2, 1, 1)
    assert sorted(store.read()["source_row"].tolist()) == [1, 3]
    assert store.check() == []


# -------------------------------------------------------------------------------- staged files


def test_a_staged_file_that_is_not_what_was_said_is_refused(store):
    batch = store.new_batch()
    folder = store.staging(batch)
    rows = [answer(1) | {"batch": batch, "source": "a"}]

    def refused(path, message, *, kind="verification", n_rows=1, month="2024-05"):
        with pytest.raises(StorageError, match=message):
            store.append(batch, [StagedFile(str(path), kind, month, n_rows)], [part("a", rows)])
        assert not path.exists()
        folder.mkdir(exist_ok=True)

    path = folder / "0.parquet"
    refused(write(path, rows, VERIFICATIONS), "holds 1 rows, 2 were announced", n_rows=2)
    refused(write(path, rows, VERIFICATIONS), "no partition kind=other", kind="other")
    refused(write(path, rows, VERIFICATIONS), "month=2024-13", month="2024-13")
    refused(write(path, rows, VERIFICATIONS), "month=../..", month="../..")
    table = pq.read_table(write(path, rows, VERIFICATIONS))
    at = table.schema.get_field_index("score")
    pq.write_table(table.set_column(at, "score", table["score"].cast(pa.string())), path)
    refused(path, "columns that are not the table's: score")
    pq.write_table(table.drop_columns(["content"]), path)
    refused(path, "columns that are not the table's: content")
    pq.write_table(table.append_column("face", pa.array(["x"])), path)
    refused(path, "columns that are not the table's: face")
    path.write_bytes(b"no Parquet")
    refused(path, "reading the staged file 0.parquet failed")
    gone = StagedFile(str(folder / "gone.parquet"), "verification", "2024-05", 1)
    with pytest.raises(StorageError, match=r"reading the staged file gone\.parquet failed"):
        store.append(batch, [gone], [])
    assert store.versions()["version"].tolist() == [0]
    assert store.strays() == []


def test_context_columns_come_with_the_first_row_that_has_them(store):
    bring(store, "a", [answer(1)])
    bring(store, "b", [answer(2, 1, ctx_app="x")])
    bring(store, "c", [answer(3, 1, ctx_app="y", ctx_channel="web")])
    frame = store.read(columns=["request_id", "ctx_app", "ctx_channel"])
    found = {row.request_id: (row.ctx_app, row.ctx_channel) for row in frame.itertuples()}
    assert found == {
        "id-000001": (pd.NA, pd.NA),
        "id-000002": ("x", pd.NA),
        "id-000003": ("y", "web"),
    }
    assert "ctx_app" not in store.read(as_of=1).columns
    assert store.read(as_of=2)["ctx_app"].dropna().tolist() == ["x"]
    assert store.check(deep=True) == []


def test_context_beyond_64_columns_goes_to_extra(store):
    names = [f"ctx_n{n:02}" for n in range(63)]
    bring(store, "a", [answer(1, **dict.fromkeys(names, "x"))])
    extra = '{"envelope":{"other":1},"key":2}'
    more = {"ctx_b": "1", "ctx_c": "2", "ctx_a": "0", "ctx_n00": "y"}
    row = answer(2, 1, extra=extra, **more)
    row["content"] = content(defaultdict(lambda: None, row), '{"key":2}')  # `other` is no reply's
    bring(store, "b", [row, answer(3, 2, ctx_b="3"), answer(4, 3)])
    frame = store.read().set_index("request_id")
    assert len([name for name in frame.columns if name.startswith("ctx_")]) == 64
    assert frame.loc["id-000002", "ctx_a"] == "0"
    assert frame.loc["id-000002", "ctx_n00"] == "y"
    assert json.loads(frame.loc["id-000002", "extra"]) == {
        "envelope": {"context": {"b": "1", "c": "2"}, "other": 1},
        "key": 2,
    }
    assert json.loads(frame.loc["id-000003", "extra"]) == {"envelope": {"context": {"b": "3"}}}
    assert frame.loc["id-000004", "extra"] is pd.NA
    assert store.check(deep=True) == []


def test_the_log_names_nobody(store):
    rows = [answer(n, subject="person", token="secret-token", message="hello") for n in (1, 2)]
    bring(store, "a-source", rows, [reject(9)])
    log = store.path / "responses" / "_delta_log"
    text = "".join(path.read_text() for path in log.glob("*.json"))
    for word in ("id-00000", "person", "secret-token", "hello", "a-source", "content-"):
        assert word not in text
    stats = [
        json.loads(json.loads(line)["add"]["stats"])
        for path in log.glob("*.json")
        for line in path.read_text().splitlines()
        if "add" in json.loads(line)
    ]
    logged = {
        name for stat in stats for group in ("minValues", "maxValues") for name in stat[group]
    }
    assert logged == {"occurred_at", "score", "code"}
    (verification,) = [stat for stat in stats if "score" in stat["minValues"]]
    assert verification["minValues"]["occurred_at"] == "2024-05-30T01:00:00.000000Z"
    assert verification["maxValues"] == {
        "occurred_at": "2024-05-30T02:00:00.000000Z",
        "score": 2.0,
        "code": 10000,
    }


# -------------------------------------------------------------------------------- sequence


def test_the_sequence_and_the_sources_are_stamped(store):
    rows = [answer(n) for n in range(3)]
    bring(store, "a", rows)
    batch = store.new_batch()
    store.append(batch, stage(store, batch, "b", []), [part("b", [])], stamps={"journal:x": 7})
    handle = DeltaTable(store.path / "responses")
    assert handle.transaction_version("ingest") == 2
    assert handle.transaction_version(f"file:{sha256('a')}") == 3
    assert handle.transaction_version("journal:x") == 7


def test_a_commit_that_lost_the_race_is_tried_again(store):
    """Two handles start from one version; the second finds what the first brought."""
    other = Store(store.path)
    version = other._tables.newest(other._tables.responses)
    bring(store, "a", [answer(1), answer(2)])
    note = {"verb": "test", "batch": "", "n_added": 0}
    with pytest.raises(_store_log.LostRaceError):
        _store_log.commit(other._tables.responses, version, note=note)
    assert counts(bring(other, "b", [answer(2, 1), answer(3, 2)])) == (2, 1, 1, 0)
    assert store.check() == []


def test_threads_that_append_at_once_add_each_row_once(store):
    stores = [Store(store.path) for _ in range(4)]
    problems = []

    def run(number):
        rows = [answer(n, n + 1) for n in range(number * 5, number * 5 + 20)]
        try:
            bring(stores[number], f"s{number}", rows)
        except StorageError as error:
            problems.append(error)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(len(stores))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert ids(store.read()) == [f"id-{n:06}" for n in range(35)]
    assert store.versions()["version"].tolist() == [0, 1, 2, 3, 4]
    assert store.check(deep=True) == []
    assert store.strays() == []


def test_columns_added_meanwhile_do_not_stop_an_append(store):
    other = Store(store.path)
    other.read()  # has opened the version without the column
    bring(store, "a", [answer(1, ctx_a="1")])
    bring(other, "b", [answer(2, 1, ctx_b="2")])
    assert set(store.read().columns) >= {"ctx_a", "ctx_b"}
    assert store.check(deep=True) == []


def test_a_reader_keeps_its_version_while_others_write(store):
    bring(store, "a", [answer(n) for n in range(10)])
    lazy = store.scan()
    bring(Store(store.path), "b", [answer(50, 1)])
    store.compact()
    assert lazy.aggregate("count(*)").fetchall() == [(10,)]
    assert len(store.read()) == 11


def test_many_commits_stay_quick_to_open(store, monkeypatch):
    """Now and then a checkpoint sums the log up; versions and stamps are read across it."""
    monkeypatch.setattr(_store_log, "CHECKPOINT_EVERY", 4)
    for n in range(10):
        bring(store, f"s{n}", [answer(n)])
    log = store.path / "responses" / "_delta_log"
    assert len(list(log.glob("*.checkpoint.parquet"))) == 2
    assert all(path.stat().st_mode & 0o077 == 0 for path in log.iterdir() if path.is_file())
    fresh = Store(store.path)
    assert [fresh.done(sha256(f"s{n}")).n_added for n in range(10)] == [1] * 10
    assert len(fresh.read(as_of=3)) == 3
    assert fresh.check() == []


# -------------------------------------------------------------------------------- reading


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


# -------------------------------------------------------------------------------- versions


def test_a_version_is_the_number_of_its_commit(store):
    for n in range(3):
        bring(store, f"s{n}", [answer(n, ctx_app="x")])
    versions = store.versions()
    assert versions["version"].tolist() == [0, 1, 2, 3]
    assert versions["verb"].tolist() == ["create", "import", "import", "import"]
    assert versions["n_added"].tolist() == [0, 1, 1, 1]
    assert versions["readable"].all()
    for n in range(4):
        assert ids(store.read(as_of=n)) == [f"id-{k:06}" for k in range(n)]
        assert store.sql("SELECT count(*) AS n FROM imports", as_of=n)["n"].tolist() == [n]
        assert store.scan(as_of=n).aggregate("count(*)").fetchall() == [(n,)]
    with pytest.raises(UsageError, match="reaches back 7 days, to version 0, and on to version 3"):
        store.read(as_of=4)


def test_labels_are_read_as_they_were(store):
    bring(store, "a", [answer(1)])
    store.add_labels(pd.DataFrame({"request_id": ["id-000001"], "mated": [True]}))
    bring(store, "b", [answer(2, 1)])
    store.add_labels(pd.DataFrame({"request_id": ["id-000002"], "mated": [False]}))
    assert [len(store.read("labels", as_of=n)) for n in (0, 1, 2)] == [0, 1, 2]


def test_as_of_reaches_back_as_far_as_files_are_kept(store, monkeypatch):
    for n in range(3):
        bring(store, f"s{n}", [answer(n)])
    store.compact()
    monkeypatch.setattr(_store_tables, "RETENTION", timedelta(0))
    assert store.versions()["readable"].tolist() == [False] * 4 + [False, True]
    with pytest.raises(UsageError, match="no version 2"):
        store.read(as_of=2)
    assert len(store.read(as_of=5)) == 3


# -------------------------------------------------------------------------------- upkeep


def test_compact_merges_and_keeps_every_row(store):
    for n in range(6):
        rows = [answer(30 * n + k, k + 1) for k in range(30)]
        bring(store, f"s{n}", rows if n % 2 else rows[::-1], [reject(99)])
    bring(store, "c", [answer(900, 1, ctx_app="x"), answer(901, 2, occurred_at=None)])
    before = store.read().sort_values("request_id", ignore_index=True)
    merged = store.compact()
    assert set(zip(merged["kind"], merged["month"], merged["n_files"], strict=True)) >= {
        ("verification", "2024-05", 2),
        ("verification", "2024-06", 5),
        ("reject", "2024-06", 6),
    }
    after = store.read().sort_values("request_id", ignore_index=True)
    pd.testing.assert_frame_equal(after, before)
    times = [file.path for file in store._tables.newest(store._tables.responses).files]
    for path in times:
        table = pq.read_table(store.path / "responses" / path, partitioning=None)
        if "kind=verification" in path:
            found = table["occurred_at"].to_pylist()
            assert found == sorted(found, key=lambda at: (at is None, at))
    assert store.check(deep=True) == []
    assert len(store.compact()) == 0
    assert len(store.read(as_of=7)) == len(before)


def test_compact_takes_only_what_holds_more_files_than_asked(store):
    for n in range(3):
        bring(store, f"s{n}", [answer(n)])
    assert len(store.compact(over=32)) == 0
    assert len(store.compact(over=3)) == 0
    assert sorted(store.compact(over=2)["kind"]) == ["import", "verification"]


def test_vacuum_keeps_what_a_version_of_the_week_needs(store):
    for n in range(3):
        bring(store, f"s{n}", [answer(n)])
    store.compact()
    n_files = len(parquet_files(store))
    assert store.vacuum() == []
    assert store.vacuum(timedelta(days=1)) == []
    listed = store.vacuum("0h", dry_run=True)
    assert len(listed) == 6
    assert len(parquet_files(store)) == n_files
    assert store.vacuum("0d") == listed
    assert len(parquet_files(store)) == n_files - 6
    assert len(store.read()) == 3
    assert store.check(deep=True) == []
    with pytest.raises(StorageError, match=r"version 2 was vacuumed: \d+ of its files are gone"):
        store.read(as_of=2)
    for wrong in ("7", "-1d", "7 days", timedelta(days=-1), 7):
        with pytest.raises(UsageError, match="such as 7d or 12h"):
            store.vacuum(wrong)


def test_a_stray_file_is_told_not_read_and_goes_with_age(store):
    bring(store, "a", [answer(1)])
    folder = store.path / "responses" / "kind=verification" / "month=2024-05"
    stray = write(folder / "left-by-a-kill.parquet", [answer(2)], VERIFICATIONS)
    assert store.strays() == [f"responses/{stray.relative_to(store.path / 'responses').as_posix()}"]
    assert ids(store.read()) == ["id-000001"]
    assert store.check(deep=True) == []
    assert store.vacuum() == []
    old = (datetime.now(UTC) - timedelta(days=8)).timestamp()
    os.utime(stray, (old, old))
    assert store.vacuum() == [
        *store.strays(),
        "responses/kind=verification/month=2024-05/left-by-a-kill.parquet",
    ]
    assert not stray.exists()


def test_a_vacuum_takes_no_file_of_a_running_import(store, monkeypatch):
    """The vacuum runs between an import's placing of its files and its commit."""
    placed = []
    commit = _store_log.commit

    def vacuum_first(folder, version, **options):
        if not placed:
            placed.extend(options["adds"])
            gone = Store(store.path).vacuum("0h")
            assert set(gone) == {f"responses/{file.path}" for file in placed}
        commit(folder, version, **options)

    from verifyanalytics.store import commits as _store_commit

    monkeypatch.setattr(_store_commit, "commit", vacuum_first)
    assert counts(bring(store, "a", [answer(1), answer(2)], [reject(3)])) == (3, 2, 0, 1)
    assert len(placed) == 3
    assert ids(store.read()) == ["id-000001", "id-000002"]
    assert store.check(deep=True) == []


def test_a_vacuum_leaves_staging_folders_to_their_owners(store):
    batch = store.new_batch()
    files = stage(store, batch, "a", [answer(1)])
    Store(store.path).vacuum("0h")
    assert counts(store.append(batch, files, [part("a", [answer(1)])])[0]) == (1, 1, 0, 0)


def test_labels_come_in_once(store):
    labels = pd.DataFrame(
        {"request_id": ["id-1", "id-2"], "mated": [True, None], "inclusion_prob": [0.5, None]}
    )
    assert store.add_labels(labels) == 2
    assert store.add_labels(labels) == 0
    assert (
        store.add_labels(pa.table({"token": ["t"], "labelled_at": ["2024-06-01T00:00:00Z"]})) == 1
    )
    changed = labels.assign(mated=False)
    assert store.add_labels(changed) == 2
    frame = store.read("labels").sort_values("request_id")
    assert frame["request_id"].tolist() == ["id-1", "id-1", "id-2", "id-2", pd.NA]
    assert frame["labelled_at"].dropna().tolist() == [datetime(2024, 6, 1, tzinfo=UTC)]
    assert store.check(deep=True) == []


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"request_id": ["a"], "truth": [True]}, "labels have no column truth; they have: req"),
        ({"request_id": ["a"], "mated": ["perhaps"]}, "labels: column mated"),
        ({"mated": [True]}, "1 labels have no key or two"),
        ({"request_id": ["a"], "token": ["t"]}, "1 labels have no key or two"),
        ({"request_id": ["a"], "inclusion_prob": [0.0]}, "outside"),
        ({"request_id": ["a"], "inclusion_prob": [1.5]}, "outside"),
    ],
)
def test_labels_that_cannot_be_are_refused(store, labels, message):
    with pytest.raises(UsageError, match=message):
        store.add_labels(pd.DataFrame(labels))
    assert len(store.read("labels")) == 0


# -------------------------------------------------------------------------------- check


def damaged(store, change):
    """Apply a change to the one data file of verifications; give the findings, shallow and deep."""
    (path,) = (store.path / "responses" / "kind=verification").rglob("*.parquet")
    change(path)
    return Store(store.path).check(), Store(store.path).check(deep=True)


def test_check_finds_a_missing_file(store):
    bring(store, "a", [answer(n) for n in range(3)])
    shallow, deep = damaged(store, Path.unlink)
    assert shallow == deep
    assert [finding.split(".parquet ")[1] for finding in shallow] == ["is missing (3 rows)"]
    with pytest.raises(StorageError, match="reading verifications"):
        store.read()


def test_check_finds_a_file_of_another_size(store):
    bring(store, "a", [answer(n) for n in range(3)])
    shallow, _ = damaged(store, lambda path: path.write_bytes(path.read_bytes() + b"x"))
    assert "the log says" in shallow[0]


def test_a_deep_check_finds_damage_inside_a_file(store):
    bring(store, "a", [answer(n) for n in range(300)])

    def flip(path):
        data = bytearray(path.read_bytes())
        data[200] ^= 0xFF
        path.write_bytes(bytes(data))

    (path, *_) = sorted((store.path / "responses" / "kind=verification").rglob("*.parquet"))
    flip(path)
    assert store.check(deep=True)


def test_a_deep_check_finds_rows_of_another_month(store):
    batch = store.new_batch()
    rows = [answer(1), answer(100)]
    full = [row | {"batch": batch, "source": "a"} for row in rows]
    path = write(store.staging(batch) / "0.parquet", full, VERIFICATIONS)
    store.append(batch, [StagedFile(str(path), "verification", "2024-05", 2)], [part("a", rows)])
    assert store.check() == []
    assert [f.split(".parquet ")[1] for f in store.check(deep=True)] == [
        "has 1 rows that are not of 2024-05"
    ]


def test_check_finds_what_does_not_add_up(store):
    """Rows of nobody's ledger, a ledger without its rows, and an id that comes twice."""
    bring(store, "a", [answer(n) for n in range(5)])
    tables = store._tables
    version = tables.newest(tables.responses)
    old = next(file for file in version.files if file.kind == "verification")
    rows = [answer(n) | {"batch": "nobody", "source": "a"} for n in (1, 1)]
    folder = store.path / "responses" / "kind=verification" / "month=2024-05"
    path = write(folder / "forged.parquet", rows, VERIFICATIONS)
    forged = type(old)(
        f"kind=verification/month=2024-05/{path.name}", path.stat().st_size, 2, old.kind, old.month
    )
    note = {"verb": "test", "batch": "", "n_added": 0}
    stamps = {f"file:{'0' * 64}": 1}
    _store_log.commit(
        tables.responses, version, adds=[forged], removes=[old], stamps=stamps, note=note
    )
    batch = store.read("imports")["batch"][0]
    assert store.check() == [
        "1 verifications repeat a request_id",
        f"batch {batch}: 0 rows + 0 erased are not 5 added",
        "batch nobody has 2 rows and 0 rejects, and no ledger",
        "source 000000000000… is stamped and not in the ledger",
    ]


# -------------------------------------------------------------------------------- export


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


def test_files_are_read_by_others_too(store):
    """The tables are plain Delta: Polars reads the same rows, kind by kind."""
    import polars as pl

    bring(store, "a", [answer(n) for n in range(60)], [reject(61)])
    bring(store, "b", [answer(100, 1, ctx_app="x")])
    lazy = pl.scan_delta(str(store.path / "responses"))
    rows = lazy.filter(pl.col("kind") == "verification").collect()
    assert sorted(rows["request_id"].to_list()) == ids(store.read())
    assert rows["ctx_app"].drop_nulls().to_list() == ["x"]
    assert lazy.filter(pl.col("kind") == "reject").collect()["reason"].to_list() == ["syntax"]


def test_one_connection_serves_threads(store):
    bring(store, "a", [answer(n) for n in range(100)])
    found = []

    def run():
        found.append(len(store.read()) + store.sql("SELECT count(*) AS n FROM risk_tags")["n"][0])

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [100 + sum(n % 3 for n in range(100))] * 8


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_what_does_not_fit_in_memory_spills_where_nobody_else_looks(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    engine = Engine(tmp_path / "store", memory="48MB")
    query = "SELECT sha256(i::VARCHAR) AS h, i FROM range(400_000) t(i) ORDER BY h"
    batches = engine.cursor().sql(query).to_arrow_reader(10_000)
    first = next(iter(batches))
    (private,) = tmp_path.iterdir()
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    (spilled,) = private.iterdir()
    assert any(spilled.iterdir())
    assert first["h"][0].as_py() < first["h"][9_999].as_py()
    engine.close()
    assert list(private.iterdir()) == []


def test_a_relation_outlives_its_store(tmp_path):
    lazy = Store(tmp_path / "store", create=True).scan()
    assert isinstance(lazy, duckdb.DuckDBPyRelation)
    assert lazy.fetchall() == []


APPEND = """
import re, sys
from pathlib import Path
from builders.staged_answers import answer, bring
from verifyanalytics.store.store import Store

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) >> 10

store = Store(sys.argv[1])
store.sql("SELECT count(*) FROM verifications")
before = peak()
count = bring(store, "few", [answer(n) for n in range(2_000)])
print(count.n_known, peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux' /proc")
def test_the_memory_of_an_append_does_not_grow_with_the_store(store):
    """DuckDB takes all files to be as long as the first one, here the one of a single row."""
    bring(store, "one", [answer(0)])
    n = 800_000
    batch = store.new_batch()
    (file,) = stage(store, batch, "many", [answer(1)])
    one = pq.read_table(file.path)
    many = pa.table({name: pa.repeat(one[name][0], n) for name in one.column_names})
    ids = pa.array([f"id-{number:036}" for number in range(n)])
    rows = pa.array(range(1, n + 1), pa.int64())
    for name, column in (("request_id", ids), ("source_row", rows)):
        at = many.column_names.index(name)
        many = many.set_column(at, name, column.cast(many.schema.field(at).type))
    pq.write_table(many, file.path)
    big = StagedFile(file.path, file.kind, file.month, n)
    store.append(batch, [big], [part("many", [answer(1)], rows_done=n, n_read=n)])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", APPEND, str(store.path)],
        capture_output=True, text=True, check=True, env=environment,
    )  # fmt: skip
    n_known, grown_mb = map(int, done.stdout.split())
    assert n_known == 1
    assert grown_mb < 100, grown_mb
