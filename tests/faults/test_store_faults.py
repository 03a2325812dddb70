"""A store after kills, full disks, and several processes at once: nothing lost, nothing twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from builders.staged_answers import answer, bring, counts, part, reject, stage

from verifyanalytics.errors import StorageError
from verifyanalytics.store import commits
from verifyanalytics.store.store import Store

TESTS = Path(__file__).resolve().parents[1]
POSIX = pytest.mark.skipif(os.name != "posix", reason="signals and limits are POSIX")

BEGINNING = f"""
import os, resource, signal, sys
sys.path[:0] = [{str(TESTS.parent)!r}, {str(TESTS)!r}]
from builders.staged_answers import *
from verifyanalytics.store import commits, tables
store = Store(sys.argv[1])
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def _no_key_of_the_caller(monkeypatch):
    monkeypatch.delenv("VERIFYANALYTICS_KEY_FILE", raising=False)


def start(store: Path, script: str, *arguments: str) -> subprocess.Popen:
    code = BEGINNING + script
    command = [sys.executable, "-W", "error", "-c", code, str(store), *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )


def run(store: Path, script: str, *arguments: str) -> tuple[int, str]:
    """Run a script on a store in a process of its own; exit code and what it printed."""
    with start(store, script, *arguments) as process:
        out, err = process.communicate()
    return process.returncode, out + err


ROWS = [answer(n) for n in range(120)]  # over two months
REJECTS = [reject(121), reject(122)]
BRING = """
rows, rejects = [answer(n) for n in range(120)], [reject(121), reject(122)]
rows[50] = answer(1, 51, content="other")  # a conflict: one file is written again
"""


def leftovers(store: Path) -> list[str]:
    staging = store / "responses" / "_staging"
    return sorted(path.name for path in staging.iterdir()) if staging.is_dir() else []


# -------------------------------------------------------------------------------- kills


def test_a_signal_right_after_the_commit_takes_no_committed_file(tmp_path, monkeypatch):
    store = Store(tmp_path / "store", create=True)

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as signalled:
        signalled.setattr("verifyanalytics.store.tables.secure", interrupt)
        with pytest.raises(KeyboardInterrupt):
            bring(store, "source", ROWS, REJECTS)
    assert store.check(deep=True) == []
    assert len(store.read("verifications")) == len(ROWS)
    assert len(store.read("imports")) == 1


@POSIX
@pytest.mark.parametrize(
    ("phase", "committed"),
    [
        ("commits.verify = die", False),  # staged, nothing judged
        ("commits.without = die", False),  # judged
        ("commits.place = die", False),  # the kept rows and the ledger are written
        ("commits.commit = die", False),  # all is in place
        ("tables.secure = die", True),  # the log has it
    ],
)
def test_a_kill_leaves_all_of_a_batch_or_nothing(tmp_path, phase, committed):
    store = Store(tmp_path / "store", create=True)
    bring(store, "before", [answer(900, 1)])
    code, output = run(store.path, BRING + phase + '\nbring(store, "a", rows, rejects)')
    assert code == -signal.SIGKILL, output
    after = Store(store.path)
    assert len(after.read()) == 1 + (119 if committed else 0)
    assert after.check(deep=True) == []
    assert leftovers(store.path) != []

    rows = [answer(n) for n in range(120)]
    rows[50] = answer(1, 51, content="other")
    again = bring(after, "a", rows, REJECTS)
    assert counts(again) == (122, 119, 0, 3)
    assert again.already_imported == committed
    assert leftovers(store.path) == []
    assert len(after.read()) == 120
    assert sorted(after.read("rejects")["source_row"].tolist()) == [51, 121, 122]
    assert after.check(deep=True) == []


@POSIX
def test_a_kill_while_the_store_is_made_leaves_one_that_can_be_made(tmp_path):
    script = """
from verifyanalytics.store.tables import DeltaTable
create = DeltaTable.create
def create_labels_only(folder, *rest, **options):
    return die() if folder.name == "responses" else create(folder, *rest, **options)
DeltaTable.create = create_labels_only
Store(sys.argv[1], create=True)
"""
    code, output = run(tmp_path / "store", script)
    assert code == -signal.SIGKILL, output
    assert (tmp_path / "store" / "labels").is_dir()
    store = Store(tmp_path / "store")
    assert counts(bring(store, "a", [answer(1)])) == (1, 1, 0, 0)
    assert store.check(deep=True) == []


@POSIX
def test_a_kill_of_compact_changes_no_row(tmp_path):
    store = Store(tmp_path / "store", create=True)
    for n in range(4):
        bring(store, f"s{n}", [answer(n)])
    script = "commits.commit = die\nstore.compact()"
    code, output = run(store.path, script)
    assert code == -signal.SIGKILL, output
    assert len(store.strays()) == 1
    assert store.check(deep=True) == []
    store.compact()
    assert len(store.read()) == 4
    assert store.check(deep=True) == []


def test_a_dead_importers_folder_is_cleaned_and_a_live_ones_is_not(tmp_path):
    store = Store(tmp_path / "store", create=True)
    hold = """
batch = store.new_batch()
(store.staging(batch) / "x.parquet").write_bytes(b"x")
print(batch, flush=True)
sys.stdin.read()
"""
    with start(store.path, hold) as alive, start(store.path, hold) as dead:
        living, dying = alive.stdout.readline().strip(), dead.stdout.readline().strip()
        dead.kill()
        dead.wait()
        batch = store.new_batch()
        store.staging(batch)
        assert leftovers(store.path) == sorted([living, f"{living}.owner", batch, f"{batch}.owner"])
        assert (store.path / "responses" / "_staging" / living / "x.parquet").exists()
        store.vacuum("0h")
        assert (store.path / "responses" / "_staging" / living / "x.parquet").exists()
        alive.stdin.close()
        alive.wait()
    assert dying not in leftovers(store.path)
    store.discard(batch)
    store.vacuum()
    assert leftovers(store.path) == []


# -------------------------------------------------------------------------------- full disks

LIMITED = """
from verifyanalytics.errors import StorageError
batch = store.new_batch()
months = int(sys.argv[3])
rows = [answer(n * 31 * 24, n + 1) for n in range(months)]
if sys.argv[4] == "conflict":
    rows.append(answer(0, 999, content="other"))
files = stage(store, batch, "a", rows)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    store.append(batch, files, [part("a", rows)])
except StorageError as error:
    print(error.exit_code, error)
    sys.exit(error.exit_code)
"""


@POSIX
@pytest.mark.parametrize(
    ("limit", "months", "kind"),
    [
        (100, 2, "plain"),  # the ledger does not fit
        (7000, 2, "conflict"),  # a file written again does not fit
        (4000, 24, "plain"),  # the ledger fits, the log's entry does not
    ],
)
def test_a_full_disk_is_said_and_what_was_committed_stays(tmp_path, limit, months, kind):
    store = Store(tmp_path / "store", create=True)
    bring(store, "before", [answer(1)])
    arguments = str(limit), str(months), kind
    code, output = run(store.path, LIMITED, *arguments)
    assert code == 7, output
    assert "free some space and run again" in output
    assert store.versions()["version"].tolist() == [0, 1]
    assert len(store.read()) == 1
    assert store.check(deep=True) == []
    assert store.strays() == []
    assert leftovers(store.path) == []
    code, output = run(store.path, LIMITED, str(1 << 30), *arguments[1:])
    assert code == 0, output
    assert len(store.read()) == 1 + months
    assert store.check(deep=True) == []


@POSIX
def test_a_checkpoint_that_does_not_fit_stops_no_import(tmp_path):
    store = Store(tmp_path / "store", create=True)
    script = """
tables.CHECKPOINT_EVERY = 1
resource.setrlimit(resource.RLIMIT_FSIZE, (14_000,) * 2)
print(bring(store, "a", [answer(1)]).n_added)
"""
    code, output = run(store.path, script)
    assert (code, output[:2]) == (0, "1\n"), output
    assert "no checkpoint at 1" in output
    assert len(store.read()) == 1
    assert store.check(deep=True) == []


def test_a_staged_file_that_vanishes_is_said(tmp_path, monkeypatch):
    store = Store(tmp_path / "store", create=True)
    batch = store.new_batch()
    files = stage(store, batch, "a", ROWS)
    place = commits.place

    def vanish(staged, table, paths):
        Path(staged[0].path).unlink()
        return place(staged, table, paths)

    monkeypatch.setattr(commits, "place", vanish)
    with pytest.raises(StorageError, match=r"is gone; run the import again"):
        store.append(batch, files, [part("a", ROWS)])
    assert store.versions()["version"].tolist() == [0]
    assert store.strays() == []


def test_a_folder_without_links_gets_copies(tmp_path, monkeypatch):
    def no_links(*_, **__):
        raise PermissionError(1, "Operation not permitted")

    store = Store(tmp_path / "store", create=True)
    monkeypatch.setattr(os, "link", no_links)
    assert counts(bring(store, "a", ROWS, REJECTS)) == (122, 120, 0, 2)
    assert store.check(deep=True) == []
    assert leftovers(store.path) == []


# -------------------------------------------------------------------------------- several at once

OVERLAPPING = """
number = int(sys.argv[2])
sys.stdin.readline()
for k in range(5):
    rows = [answer(n, n + 1) for n in range(k * 10, k * 10 + 15)]
    # half of the shared ids say something else in each process
    rows = [r | {"content": f"{r['content']}-{number}"} if i % 2 else r for i, r in enumerate(rows)]
    count = bring(store, f"{number}-{k}", rows)
    assert (count.n_read, count.n_added + count.n_known + count.n_rejected) == (15, 15)
    bring(store, f"shared-{k}", [answer(1000 + k, 1)])
print("done")
"""
VACUUMING = """
sys.stdin.readline()
for _ in range(6):
    store.vacuum("0h")
    store.compact(over=6)
print("done")
"""


def test_processes_with_overlapping_sources_conflicts_and_a_vacuum(tmp_path):
    """Two importers with shared ids, half of them in conflict, while a third vacuums and merges."""
    store = Store(tmp_path / "store", create=True)
    processes = [
        start(store.path, OVERLAPPING, "1"),
        start(store.path, OVERLAPPING, "2"),
        start(store.path, VACUUMING),
    ]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        with process:
            out, err = process.communicate()
        assert (process.returncode, out) == (0, "done\n"), err
    assert store.check(deep=True) == []
    assert sorted(store.read()["request_id"].tolist()) == [
        f"id-{n:06}" for n in (*range(55), *range(1000, 1005))
    ]
    ledger = store.read("imports")
    assert ledger["n_read"].sum() == 2 * 5 * 15 + 5
    assert ledger["n_added"].sum() == 60
    # of the shared ids with two contents exactly one content is stored, the other a reject
    contents = {row.request_id: row.content for row in store.read().itertuples()}
    offered = {(n, (n - k * 10) % 2) for k in range(5) for n in range(k * 10, k * 10 + 15)}
    for n, odd in offered:
        if (n, 1 - odd) not in offered:
            expected = {f"content-{n}-1", f"content-{n}-2"} if odd else {f"content-{n}"}
            assert contents[f"id-{n:06}"] in expected
    assert ledger["n_rejected"].sum() == len(store.read("rejects"))


def test_processes_that_make_the_same_store_agree_on_its_key(tmp_path):
    script = "sys.stdin.readline()\nprint(store.key.hex())"
    processes = [start(tmp_path / "store", script) for _ in range(3)]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    keys = set()
    for process in processes:
        with process:
            out, err = process.communicate()
        assert process.returncode == 0, err
        keys.add(out)
    assert keys == {Store(tmp_path / "store").key.hex() + "\n"}
