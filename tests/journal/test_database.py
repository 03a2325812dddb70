"""The journal's file: who may open it, what damage is refused, how it is made."""

import os
import sqlite3
import subprocess
import sys
import textwrap

import pytest
from builders.journals import OK, plan

from verifyanalytics.errors import StorageError, UsageError
from verifyanalytics.journal.journal import Journal
from verifyanalytics.vendor.replies import State


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_modes(journal, path):
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    for side in path.parent.iterdir():
        assert side.stat().st_mode & 0o077 == 0, side.name


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_an_open_file_is_refused(path):
    Journal(path, "fp").close()
    path.chmod(0o644)
    with pytest.raises(StorageError, match="chmod 600"):
        Journal(path, "fp")


def test_one_process_at_a_time(journal, path):
    with pytest.raises(StorageError, match="in use by another process") as caught:
        Journal(path, "fp")
    assert "of your own" not in str(caught.value)  # another journal knows nothing of what was sent
    journal.close()
    Journal(path, "fp").close()


def test_another_key_is_refused(path):
    Journal(path, "fp").close()
    with pytest.raises(StorageError, match="another store key"):
        Journal(path, "other")
    Journal(path, "fp").close()


def test_a_newer_schema_is_refused(path):
    Journal(path, "fp").close()
    with sqlite3.connect(path) as db:
        db.execute("pragma user_version = 99")
    db.close()
    with pytest.raises(StorageError, match="newer version"):
        Journal(path, "fp")


def test_a_journal_that_is_not_there_is_not_made_for_reading(path):
    with pytest.raises(UsageError, match="collect first"):
        Journal(path, "fp", create=False)
    assert not path.exists()


@pytest.mark.parametrize("damage", ["garbage", "torn"])
def test_a_damaged_file_is_refused_and_left_as_it_is(path, damage):
    with Journal(path, "fp") as journal:
        plan(journal, *(f"{n}" for n in range(500)))
    data = path.read_bytes()
    hurt = b"x" * len(data) if damage == "garbage" else data[:5000] + b"\xff" * 9000 + data[14000:]
    path.write_bytes(hurt)
    with pytest.raises(StorageError, match="damaged") as caught:
        Journal(path, "fp")
    assert ".recover" in str(caught.value)
    assert path.read_bytes() == hurt


def test_an_empty_file_is_a_damaged_one(path):
    with Journal(path, "fp") as journal:
        plan(journal, "k")
    path.write_bytes(b"")
    with pytest.raises(StorageError, match="it is empty"):
        Journal(path, "fp")
    assert path.read_bytes() == b""


DYING = textwrap.dedent("""
    import os, sys
    from pathlib import Path
    from verifyanalytics.journal.journal import Journal
    Path.replace = lambda *names: os._exit(9)
    Journal(Path(sys.argv[1]), "fp")
""")


def test_a_death_while_it_is_made_leaves_nothing_in_its_place(path):
    done = subprocess.run([sys.executable, "-c", DYING, str(path)], check=False)
    assert done.returncode == 9
    assert not path.exists()
    with Journal(path, "fp") as journal:
        assert plan(journal, "k") == 1
    assert {file.suffix for file in path.parent.iterdir()} == {".sqlite", ".lock"}


@pytest.mark.skipif(os.name != "posix", reason="links are POSIX")
def test_a_link_to_a_journal_leads_to_the_same_lock(path, tmp_path):
    link = tmp_path / "elsewhere" / "link.sqlite"
    link.parent.mkdir()
    link.symlink_to(path)
    with Journal(path, "fp") as journal:
        plan(journal, "k")
        journal.send("k", "T")
        with pytest.raises(StorageError, match="in use"):
            Journal(link, "fp")
        journal.outcome("k", State.OK, OK, b"{}")
    with Journal(link, "fp") as journal:
        assert journal.states()[State.OK] == 1


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_an_open_lock_file_is_closed_to_others(path):
    path.parent.mkdir()
    lock = path.with_name(f"{path.name}.lock")
    lock.touch(mode=0o644)
    lock.chmod(0o644)
    Journal(path, "fp").close()
    assert lock.stat().st_mode & 0o777 == 0o600


def test_somebody_elses_database_is_refused(path):
    path.parent.mkdir(mode=0o700)
    os.close(os.open(path, os.O_CREAT, 0o600))
    with sqlite3.connect(path) as db:
        db.execute("create table t (x)")
    db.close()
    with pytest.raises(StorageError, match="not a journal"):
        Journal(path, "fp")
