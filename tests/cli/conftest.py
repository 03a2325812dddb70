"""Stores that the verbs read."""

from __future__ import annotations

import pytest
from builders.compared_answers import compared
from builders.staged_answers import bring

from verifyanalytics.cli import app as cli
from verifyanalytics.store.store import Store


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory):
    """Sixty answers of one regime, scores 40 to 99; nobody has labelled any."""
    store = Store(tmp_path_factory.mktemp("verbs") / "store", create=True)
    bring(store, "a", [compared(n) for n in range(60)])
    return store.path


@pytest.fixture
def labelled(tmp_path):
    store = Store(tmp_path / "store", create=True)
    bring(store, "a", [compared(n) for n in range(60)])
    lines = [f"id-{n:06},{str(n % 4 > 0).lower()}" for n in range(60)]
    (tmp_path / "labels.csv").write_text("request_id,mated\n" + "\n".join(lines) + "\n")
    assert cli.main(["labels", str(tmp_path / "labels.csv"), "--store", str(store.path), "-q"]) == 0
    return store.path
