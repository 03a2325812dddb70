"""Check: damage and sums that do not agree are found."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders.staged_answers import answer, bring, part, write

from verifyanalytics.errors import StorageError
from verifyanalytics.schema import VERIFICATIONS
from verifyanalytics.store.store import StagedFile, Store
from verifyanalytics.store.tables import commit


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
    commit(tables.responses, version, adds=[forged], removes=[old], stamps=stamps, note=note)
    batch = store.read("imports")["batch"][0]
    assert store.check() == [
        "1 verifications repeat a request_id",
        f"batch {batch}: 0 rows are not the 5 added",
        "batch nobody has 2 rows and 0 rejects, and no ledger",
        "source 000000000000… is stamped and not in the ledger",
    ]
