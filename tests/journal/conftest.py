"""A journal for each test."""

import pytest

from verifyanalytics.journal.journal import Journal


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store.journal" / "journal.sqlite"


@pytest.fixture
def journal(path):
    with Journal(path, "fp") as made:
        yield made
