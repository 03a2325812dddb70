"""The log: what it holds, and how long it takes to open."""

from __future__ import annotations

import json

from builders.staged_answers import answer, bring, reject, sha256

from verifyanalytics.store import tables
from verifyanalytics.store.store import Store


def test_the_log_names_nobody(store):
    rows = [answer(n, subject="person", token="secret-token", message="hello") for n in (1, 2)]
    bring(store, "a-source", rows, [reject(9)])
    folder = store.path / "responses" / "_delta_log"
    text = "".join(path.read_text() for path in folder.glob("*.json"))
    for word in ("id-00000", "person", "secret-token", "hello", "a-source", "content-"):
        assert word not in text
    stats = [
        json.loads(json.loads(line)["add"]["stats"])
        for path in folder.glob("*.json")
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


def test_many_commits_stay_quick_to_open(store, monkeypatch):
    """Now and then a checkpoint sums the log up; versions and stamps are read across it."""
    monkeypatch.setattr(tables, "CHECKPOINT_EVERY", 4)
    for n in range(10):
        bring(store, f"s{n}", [answer(n)])
    folder = store.path / "responses" / "_delta_log"
    assert len(list(folder.glob("*.checkpoint.parquet"))) == 2
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.iterdir() if path.is_file())
    fresh = Store(store.path)
    assert [fresh.done(sha256(f"s{n}")).n_added for n in range(10)] == [1] * 10
    assert len(fresh.read(as_of=3)) == 3
    assert fresh.check() == []
