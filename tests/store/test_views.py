"""The views' engine: other readers, threads, memory."""

from __future__ import annotations

import os
import stat
import threading

import duckdb
import pytest
from builders.staged_answers import answer, bring, ids, reject

from verifyanalytics.store.store import Store
from verifyanalytics.store.views import Engine


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
