"""Maintenance: compact changes no row, vacuum takes no file that is needed."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

import pandas as pd
import pyarrow.parquet as pq
import pytest
from builders.staged_answers import (
    answer,
    bring,
    counts,
    ids,
    parquet_files,
    part,
    reject,
    stage,
    write,
)

from verifyanalytics.errors import StorageError, UsageError
from verifyanalytics.schema import VERIFICATIONS
from verifyanalytics.store import commits, tables
from verifyanalytics.store.store import Store


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
    commit = tables.commit

    def vacuum_first(folder, version, **options):
        if not placed:
            placed.extend(options["adds"])
            gone = Store(store.path).vacuum("0h")
            assert set(gone) == {f"responses/{file.path}" for file in placed}
        commit(folder, version, **options)

    monkeypatch.setattr(commits, "commit", vacuum_first)
    assert counts(bring(store, "a", [answer(1), answer(2)], [reject(3)])) == (3, 2, 0, 1)
    assert len(placed) == 3
    assert ids(store.read()) == ["id-000001", "id-000002"]
    assert store.check(deep=True) == []


def test_a_vacuum_leaves_staging_folders_to_their_owners(store):
    batch = store.new_batch()
    files = stage(store, batch, "a", [answer(1)])
    Store(store.path).vacuum("0h")
    assert counts(store.append(batch, files, [part("a", [answer(1)])])[0]) == (1, 1, 0, 0)


@pytest.mark.parametrize("verb", ["compact", "labels", "vacuum"])
def test_what_a_dead_import_staged_goes_with_the_next_verb_that_writes(store, verb):
    store.create()
    left = store.path / "responses" / "_staging" / "20240101T000000000000-dead"
    left.mkdir(parents=True)
    (left / "spool-x").write_bytes(b"raw")
    if verb == "labels":
        store.add_labels(pd.DataFrame({"request_id": ["a"], "mated": [True]}))
    else:
        getattr(store, verb)()
    assert not left.exists()
