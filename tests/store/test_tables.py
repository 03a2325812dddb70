"""Tables: how a store is made, where it may be, and which versions of it can be read."""

from __future__ import annotations

import os
import stat
from datetime import timedelta

import pandas as pd
import pytest
from builders.staged_answers import answer, bring, counts, ids, reject, sha256
from deltalake import DeltaTable

from verifyanalytics.errors import NoStoreError, StorageError, UsageError
from verifyanalytics.store import tables
from verifyanalytics.store.store import Store


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


def test_a_store_of_newer_code_is_refused(store):
    handle = DeltaTable(store.path / "responses")
    handle.alter.set_table_properties(
        {"verifyanalytics.schema_version": "99"}, raise_if_not_exists=False
    )
    with pytest.raises(StorageError, match=r"has schema 99.*update verifyanalytics"):
        Store(store.path).read()


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
    monkeypatch.setattr(tables, "RETENTION", timedelta(0))
    assert store.versions()["readable"].tolist() == [False] * 4 + [False, True]
    with pytest.raises(UsageError, match="no version 2"):
        store.read(as_of=2)
    assert len(store.read(as_of=5)) == 3
