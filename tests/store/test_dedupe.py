"""Deduplication: new, known and contradicting rows; ranges of sources; the rule of one token."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders.staged_answers import answer, bring, counts, ids, part, reject, sha256, stage

from verifyanalytics.errors import StorageError, UsageError
from verifyanalytics.store.store import StagedFile


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
