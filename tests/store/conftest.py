"""A store for each test, with a key of its own."""

from __future__ import annotations

import pytest

from verifyanalytics.store.store import Store


@pytest.fixture(autouse=True)
def _no_key_of_the_caller(monkeypatch):
    monkeypatch.delenv("VERIFYANALYTICS_KEY_FILE", raising=False)


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "store", create=True)
    yield made
    made.close()
