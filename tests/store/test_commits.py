"""Commits: one after another whoever comes first, and labels each once."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pandas as pd
import pyarrow as pa
import pytest
from builders.staged_answers import answer, bring, counts, ids, part, sha256, stage
from deltalake import DeltaTable

from verifyanalytics.errors import StorageError, UsageError
from verifyanalytics.store import tables
from verifyanalytics.store.store import Store


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
    with pytest.raises(tables.LostRaceError):
        tables.commit(other._tables.responses, version, note=note)
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
