"""An import that is killed, raced, starved of disk or swept under: no row lost, none invented.

Each test ends the same way: the store holds exactly the rows and the rejects of an import that
nothing happened to, and its ledger adds up.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from builders.stored_answers import BAD, expected, found, line, mixed, write_lines

import verifyanalytics as va
from verifyanalytics.importing.pool import child_environment
from verifyanalytics.store.store import Store

NIGHTLY = pytest.mark.nightly

BATCH_BYTES = 200_000
"""So small that the input below makes a dozen commits."""

IMPORT = """
import sys
import verifyanalytics as va
paths, store, batch_bytes = sys.argv[2:], sys.argv[1], {batch_bytes}
try:
    summary = va.import_responses(paths, store, workers=2, batch_bytes=batch_bytes)
except va.errors.VerifyAnalyticsError as error:
    print(error)
    sys.exit(error.exit_code)
print(summary)
"""


def begin(store, *paths, **options):
    """Start an import with two workers in a process of its own."""
    code = IMPORT.format(batch_bytes=BATCH_BYTES)
    argv = [sys.executable, "-c", code, str(store), *map(str, paths)]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        argv, env=child_environment(), stdout=pipe, stderr=pipe, text=True, **options
    )


def complete(store, *paths):
    """Import undisturbed."""
    process = begin(store, *paths)
    out, err = process.communicate()
    assert process.returncode == 0, (out, err)


def conflict(number):
    """A line with the id of `number` and other content."""
    return line(number, days=number % 60, score=99.5)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Plain, compressed and small files with overlaps, conflicts and bad lines, in name order."""
    folder = tmp_path_factory.mktemp("input")
    parts = {
        "a.ndjson": [*mixed(range(3000)), *map(conflict, range(0, 100, 7))],
        "b.ndjson.gz": [*mixed(range(2800, 4500)), conflict(4000)],
        "c.ndjson": mixed(range(4400, 4800), bad_every=9),
        "d.ndjson": [*map(conflict, range(4500, 4700, 11)), *mixed(range(4800, 4900))],
    }
    found_files = []
    for name, lines in parts.items():
        path = folder / name
        if name.endswith(".gz"):
            path.write_bytes(gzip.compress(b"\n".join(lines)))
        else:
            write_lines(path, lines)
        found_files.append((path.as_posix(), lines))
    return found_files


@pytest.fixture(scope="module")
def truth(files):
    """Rows and rejects of an import that nothing happens to, by a plain loop."""
    rows, rejects, n_known = expected(files)
    assert {reason for _, _, reason in rejects} == {"conflict", *BAD.values()}
    assert n_known > 100
    return rows, rejects


def assert_whole(path, truth):
    """The store is what it would be without the fault, and adds up."""
    store = Store(path)
    assert found(store) == truth
    assert [str(finding) for finding in store.check()] == []
    ledger = store.sql("SELECT * FROM imports")
    assert int(ledger["n_added"].sum()) == len(truth[0])
    assert int(ledger["n_rejected"].sum()) == len(truth[1])
    balance = ledger["n_added"] + ledger["n_known"] + ledger["n_rejected"]
    assert (ledger["n_read"] == balance).all()


class Sight:
    """What can be seen of an import from outside: its staged files and its commits."""

    def __init__(self, store):
        self._responses = Path(store) / "responses"

    def staged(self):
        """Staged files; a folder may go while it is looked at."""
        found_files = set()
        for folder in (self._responses / "_staging").glob("*"):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                found_files |= {path for path in folder.iterdir() if path.suffix == ".parquet"}
        return found_files

    def commits(self):
        """Entries of the log that carry a batch; the first entry makes the table."""
        return max(0, len(list((self._responses / "_delta_log").glob("*.json"))) - 1)

    def phase(self, n_commits):
        """Where the import is, in words."""
        done = self.commits()
        if done >= n_commits:
            return "after the last commit"
        if done:
            return f"between commits {done} and {done + 1} of {n_commits}"
        return "staged, nothing committed" if self.staged() else "before the first staged file"


def wait_until(condition, process, seconds=120.0):
    """Look until something is so or the process has ended."""
    end = time.monotonic() + seconds
    while not condition() and process.poll() is None:
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.001)


def kill_at(process, sight, place, n_kills, n_commits):
    """Kill an import at one of many moments: most between the first staged file and the end.

    Every fifth kill comes early, by the clock; the others wait for a number of commits and then
    for a part of the time that a commit takes.
    """
    began = time.monotonic()
    if place % 5 == 0:
        wait_until(lambda: time.monotonic() - began > place / n_kills * 1.5, process)
    else:
        wanted = (place * n_commits // n_kills) % n_commits
        wait_until(lambda: sight.staged() and sight.commits() >= wanted, process)
        since = time.monotonic()
        wait_until(lambda: time.monotonic() - since > (place % 7) * 0.02, process)
    process.kill()
    process.communicate()


def run_kills(files, truth, tmp_path, n_kills, capsys):
    names = [name for name, _ in files]
    whole = tmp_path / "whole"
    complete(whole, *names)
    assert_whole(whole, truth)
    n_commits = Sight(whole).commits()
    assert n_commits >= 8
    phases = []
    for place in range(n_kills):
        store = tmp_path / f"store-{place}"
        process = begin(store, *names)
        kill_at(process, Sight(store), place, n_kills, n_commits)
        phases.append(Sight(store).phase(n_commits) if process.returncode else "it had ended")
        complete(store, *names)
        assert_whole(store, truth)
        assert not Sight(store).staged()
        shutil.rmtree(store)
    with capsys.disabled():
        print()
        for phase, n in sorted(Counter(phases).items()):
            print(f"  killed {n:3} × {phase}")
    return [phase for phase in phases if phase.startswith(("staged", "between"))]


def test_a_killed_import_is_finished_by_the_next(files, truth, tmp_path, capsys):
    within = run_kills(files, truth, tmp_path, 6, capsys)
    assert len(within) >= 3


@NIGHTLY
def test_fifty_kills_twenty_of_them_between_staging_and_the_last_commit(
    files, truth, tmp_path, capsys
):
    within = run_kills(files, truth, tmp_path, 50, capsys)
    assert len(within) >= 20


@NIGHTLY
def test_a_kill_after_a_kill_after_a_kill(files, truth, tmp_path):
    """The rerun is killed too, again and again, at the second commit after its start."""
    names = [name for name, _ in files]
    store = tmp_path / "store"
    sight = Sight(store)
    for _ in range(3):
        process = begin(store, *names)
        before = sight.commits()
        wait_until(lambda before=before: sight.commits() >= before + 2, process)
        process.kill()
        process.communicate()
    complete(store, *names)
    assert_whole(store, truth)


def test_two_imports_of_overlapping_files_at_once(files, tmp_path):
    """Each row comes in once, whoever brings it; of contradicting ones the first commit wins."""
    names = [name for name, _ in files]
    store = tmp_path / "store"
    Store(store, create=True)
    both = [begin(store, *names), begin(store, *names[::-1][:3])]
    for process in both:
        out, err = process.communicate()
        assert process.returncode == 0, (out, err)
    rows, rejects = found(Store(store))
    by_loop, loop_rejects, _ = expected(files)
    assert set(rows) == set(by_loop)
    not_conflicts = {reject for reject in loop_rejects if reject[2] != "conflict"}
    assert {reject for reject in rejects if reject[2] != "conflict"} == not_conflicts
    contested = {name for name in rows if rows[name][0] != by_loop[name][0]}
    # a row that lost its place became a conflict, one for one, known rows aside
    assert len(contested) <= len(loop_rejects)
    assert [str(finding) for finding in Store(store).check()] == []
    ledger = Store(store).sql("SELECT * FROM imports")
    assert int(ledger["n_added"].sum()) == len(rows)
    n_read = sum(len([text for text in lines if text]) for _, lines in files)
    assert int(ledger["n_read"].sum()) == n_read


@NIGHTLY
def test_the_same_file_by_two_imports_at_once(files, truth, tmp_path):
    names = [name for name, _ in files]
    store = tmp_path / "store"
    Store(store, create=True)
    for process in [begin(store, *names) for _ in range(2)]:
        out, err = process.communicate()
        assert process.returncode == 0, (out, err)
    assert_whole(store, truth)


def test_a_vacuum_during_an_import_takes_nothing_from_it(files, truth, tmp_path):
    names = [name for name, _ in files]
    path = tmp_path / "store"
    store = Store(path, create=True)
    process = begin(path, *names)
    sight, n_vacuums = Sight(path), 0
    while process.poll() is None:
        staged = sight.staged()
        store.vacuum("0h")
        n_vacuums += 1
        wait_until(lambda staged=staged: sight.staged() != staged, process)
    out, err = process.communicate()
    assert process.returncode == 0, (out, err)
    assert n_vacuums > 1
    assert_whole(path, truth)


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=NIGHTLY)])
def test_a_signal_stops_the_workers_and_keeps_what_is_committed(files, truth, tmp_path, number):
    names = [name for name, _ in files]
    store = tmp_path / "store"
    sight = Sight(store)
    process = begin(store, *names)
    wait_until(lambda: sight.commits() >= 3, process)
    process.send_signal(number)
    process.communicate()  # ends when the workers are gone too: they hold the pipe
    assert process.returncode in (-signal.SIGINT, 128 + number)
    assert sight.commits() >= 3
    assert not sight.staged()
    complete(store, *names)
    assert_whole(store, truth)


# ------------------------------------------------------------------------------------ full disk


def small_files(limit):
    """A limit on the size of files, for a child and its workers."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


@pytest.mark.parametrize(
    "limit", [30_000, *(pytest.param(limit, marks=NIGHTLY) for limit in (4_096, 15_000))]
)
def test_a_limit_on_file_sizes_is_a_storage_error_and_the_rerun_completes(
    files, truth, tmp_path, limit
):
    names = [name for name, _ in files]
    store = tmp_path / "store"
    Store(store, create=True)
    process = begin(store, *names, preexec_fn=small_files(limit))
    out, err = process.communicate()
    assert process.returncode == va.errors.StorageError.exit_code, (out, err)
    assert "Traceback" not in err
    assert "too large" in out or "limit" in out
    assert not Sight(store).staged()
    complete(store, *names)
    assert_whole(store, truth)


@contextlib.contextmanager
def small_disk(folder, size):
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
        check=False,
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.skipif(
    os.name != "posix" or os.geteuid() != 0, reason="mounting a small disk needs root"
)
@pytest.mark.parametrize(
    "size", ["700k", *(pytest.param(size, marks=NIGHTLY) for size in ("300k", "500k"))]
)
def test_a_full_disk_is_a_storage_error_and_the_rerun_completes(files, truth, tmp_path, size):
    names = [name for name, _ in files]
    disk = tmp_path / "disk"
    with small_disk(disk, size):
        process = begin(disk / "store", *names)
        out, err = process.communicate()
        assert process.returncode == va.errors.StorageError.exit_code, (out, err)
        assert "Traceback" not in err
        assert "No space left" in out or "full" in out
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        complete(disk / "store", *names)
        assert_whole(disk / "store", truth)


@pytest.mark.skipif(sys.platform != "linux", reason="files without a name are shown there only")
def test_a_killed_import_of_standard_input_leaves_no_raw_byte(tmp_path):
    place = tmp_path / "store"
    process = subprocess.Popen(
        [sys.executable, "-m", "verifyanalytics", "import", "-", "--store", str(place)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    for _ in range(40):  # more than a pipe takes, so the process has read
        process.stdin.write(b'{"code":10000,"data":"canary"}\n' * 20_000)
    process.stdin.flush()
    process.kill()
    process.communicate()
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert left
    assert not [path for path in left if b"canary" in path.read_bytes()]
