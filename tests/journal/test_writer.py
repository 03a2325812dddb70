"""The journal's writer: shared flushes, pieces that fail, ends and forks."""

import os
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from builders.journals import LOST, OK, plan

from verifyanalytics.errors import StorageError, UsageError
from verifyanalytics.journal.journal import Journal
from verifyanalytics.vendor.replies import Outcome, Reply, State


def test_a_refusal_leaves_its_neighbours_in_the_same_flush(journal):
    plan(journal, "a", "b")
    journal.send("b", "T")
    with ThreadPoolExecutor(8) as pool:
        sends = [pool.submit(journal.send, key, "T") for key in ["b", "a", "b", "b"]]
    failed = [s.exception() for s in sends]
    assert [type(error) for error in failed] == [UsageError, type(None), UsageError, UsageError]
    assert journal.call("a").state is State.SENT


def test_workers_share_flushes(journal):
    keys = [f"{n:04d}" for n in range(400)]
    plan(journal, *keys)
    before = journal.writer.n_flushes
    barrier = threading.Barrier(8)

    def work(part):
        barrier.wait()
        for key in part:
            journal.send(key, "T")
            journal.outcome(key, State.OK, OK, b"{}")

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(work, keys[n::8]) for n in range(8)]:
            done.result()
    assert journal.states()[State.OK] == 400
    assert [a.answer_seq for a in journal.answers()] == list(range(1, 401))
    assert journal.writer.n_flushes - before < 800


def test_closed_means_closed(path):
    journal = Journal(path, "fp")
    journal.close()
    journal.close()
    with pytest.raises(StorageError, match="closed"):
        journal.states()


def test_a_close_lets_nobody_wait(path):
    """Whoever asks at that moment is either served or told that the journal is closed."""
    for _ in range(20):
        journal = Journal(path, "fp")
        begun = threading.Barrier(9)

        def work(journal=journal, begun=begun):
            begun.wait()
            served = 0
            try:
                while True:
                    journal.states()
                    served += 1
            except StorageError:
                return served

        with ThreadPoolExecutor(8) as pool:
            asking = [pool.submit(work) for _ in range(8)]
            begun.wait()
            journal.close()
            assert all(done.result(20) >= 0 for done in asking)


def test_a_piece_that_fails_by_itself_fails_alone(journal):
    plan(journal, "a")
    journal.send("a", "T")
    journal.outcome("a", State.IN_DOUBT, LOST)
    with pytest.raises(UnicodeEncodeError):
        journal.settle("a", State.NOT_PROCESSED, None, note="console says no \udcff")
    assert journal.call("a").state is State.IN_DOUBT
    with pytest.raises(OverflowError):
        journal.settle("a", State.REJECTED, Reply(Outcome.REJECTED, code=1 << 70))
    journal.settle("a", State.OK, OK, b"{}")
    assert journal.call("a").state is State.OK


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_nobody_waits_for_a_writer_that_is_gone(journal):
    plan(journal, "a")
    with pytest.raises(StorageError, match="writer ended: SystemExit"):
        journal._ask(lambda db: sys.exit())
    with pytest.raises(StorageError, match="closed"):
        journal.send("a", "T")


FORKED = textwrap.dedent("""
    import os, sys
    from pathlib import Path
    from verifyanalytics.errors import StorageError
    from verifyanalytics.journal.journal import Journal
    journal = Journal(Path(sys.argv[1]), "fp")
    journal.plan([("k", "CertVerify", "q")])
    pid = os.fork()
    if not pid:
        try:
            journal.send("k", "T")
        except StorageError as error:
            print(error, flush=True)
        journal.close()
        os._exit(0)
    os.waitpid(pid, 0)
    try:
        Journal(Path(sys.argv[1]), "fp")
    except StorageError as error:
        print(error)
    print(journal.send("k", "T"))
""")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks are POSIX")
def test_a_fork_leaves_the_journal_to_its_parent(path):
    done = subprocess.run(
        [sys.executable, "-c", FORKED, str(path)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    in_child, still_held, sent = done.stdout.splitlines()
    assert "before this process was forked" in in_child
    assert "in use" in still_held
    assert sent == "1"


FULL = textwrap.dedent("""
    import resource, signal, sys
    from pathlib import Path
    from verifyanalytics.errors import StorageError
    from verifyanalytics.journal.journal import Journal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    journal = Journal(Path(sys.argv[1]), "fp")
    journal.plan([(str(n), "CertVerify", "q") for n in range(100)])
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    try:
        journal.send("0", "T")
    except StorageError as error:
        print(error.exit_code)
""")


@pytest.mark.skipif(os.name != "posix", reason="file size limits are POSIX")
def test_a_full_disk_stops_the_intent(path):
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, check=False
    )
    assert done.stdout == "7\n", done.stderr
    with Journal(path, "fp") as journal:
        assert journal.states()[State.PLANNED] == 100
