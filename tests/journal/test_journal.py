"""The journal: what it refuses, what it keeps, what it forgets, and what survives a kill."""

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from verifyanalytics.errors import StorageError, UsageError
from verifyanalytics.journal.journal import Journal, JournalView
from verifyanalytics.vendor.replies import Outcome, Reply, State

OK = Reply(Outcome.ANSWERED, http_status=200, code=10000, request_id="r1", billed=True)
LOST = Reply(Outcome.LOST, message="ConnectionResetError")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store.journal" / "journal.sqlite"


@pytest.fixture
def journal(path):
    with Journal(path, "fp") as made:
        yield made


def plan(journal, *keys):
    return journal.plan((key, "CertVerify", "cert_pro_src_verify") for key in keys)


def test_a_call_walks_from_planned_to_ok(journal):
    assert plan(journal, "k1", "k2") == 2
    assert plan(journal, "k1", "k3") == 1
    assert journal.send("k1", "TOKEN") == 1
    sent = journal.call("k1")
    assert (sent.state, sent.token, sent.tries) == (State.SENT, "TOKEN", 1)
    seq = journal.outcome("k1", State.OK, OK, b'{"response":{}}')
    done = journal.call("k1")
    assert (done.state, done.token, done.code, done.billed) == (State.OK, None, 10000, True)
    assert done.answer_seq == seq == 1
    (answer,) = journal.answers()
    assert (answer.key, answer.raw) == ("k1", b'{"response":{}}')
    assert journal.states() | {} == {
        **dict.fromkeys(State, 0),
        State.OK: 1,
        State.PLANNED: 2,
    }
    assert journal.bill() == {"billed": 1, "not_billed": 0, "unknown": 0}


@pytest.mark.parametrize(
    "state", [State.OK, State.REJECTED, State.UNPARSED, State.IN_DOUBT, State.SENT]
)
def test_what_was_sent_is_never_sent_again(journal, state):
    plan(journal, "k")
    journal.send("k", "T")
    if state is not State.SENT:
        journal.outcome("k", state, OK)
    with pytest.raises(UsageError, match="never sent twice"):
        journal.send("k", "T")
    assert plan(journal, "k") == 0
    with pytest.raises(UsageError, match="never sent twice"):
        journal.send("k", "T")


def test_only_proof_of_nothing_processed_allows_another_try(journal):
    plan(journal, "k")
    assert journal.send("k", "T") == 1
    journal.outcome("k", State.PLANNED, Reply(Outcome.NOT_SENT, billed=False))
    assert journal.call("k").token is None
    assert journal.send("k", "T") == 2


def test_the_token_stays_only_while_in_doubt(journal):
    plan(journal, "k")
    journal.send("k", "T")
    journal.outcome("k", State.IN_DOUBT, LOST)
    assert journal.call("k").token == "T"
    journal.settle("k", State.OK, OK, b"{}")
    assert journal.call("k").token is None
    with pytest.raises(UsageError, match="k is OK"):
        journal.settle("k", State.OK, OK, b"{}")
    assert len(journal.answers()) == 1


def test_only_what_a_query_proved_unprocessed_is_planned_again(journal):
    plan(journal, "a", "b", "c")
    for key in ("a", "b"):
        journal.send(key, "T")
        journal.outcome(key, State.IN_DOUBT, LOST)
    journal.settle("a", State.NOT_PROCESSED, Reply(Outcome.NO_RESULT, billed=False))
    assert journal.call("b").sent_at <= journal.call("a").sent_at + 60
    assert journal.call("c").sent_at is None
    assert journal.plan_again([]) == set()
    assert journal.plan_again(["a", "b", "c", "nobody"]) == {"a"}
    assert journal.call("a").state is State.PLANNED
    assert journal.call("b").state is State.IN_DOUBT
    assert journal.send("a", "T") == 2


def test_outcomes_need_a_call_that_was_sent(journal):
    plan(journal, "k")
    with pytest.raises(UsageError, match="PLANNED"):
        journal.outcome("k", State.OK, OK, b"{}")
    with pytest.raises(UsageError, match="not there"):
        journal.outcome("nobody", State.OK, OK, b"{}")


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


def test_forget_takes_only_what_was_named(journal):
    plan(journal, "a", "b")
    for key in ("a", "b"):
        journal.send(key, "T")
        journal.outcome(key, State.OK, OK, b"{}")
    assert journal.forget(1, before=2e10) == 1
    assert [a.answer_seq for a in journal.answers()] == [2]
    assert journal.forget(2, before=0) == 0


def test_numbers_of_answers_are_never_used_again(path):
    with Journal(path, "fp") as journal:
        plan(journal, "a", "b")
        journal.send("a", "T")
        journal.outcome("a", State.OK, OK, b"{}")
        journal.forget(1, before=2e10)
    with Journal(path, "fp") as journal:
        journal.send("b", "T")
        assert journal.outcome("b", State.OK, OK, b"{}") == 2


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


def test_a_state_that_there_is_not_is_damage(path):
    with Journal(path, "fp") as journal:
        plan(journal, "k")
    with sqlite3.connect(path) as db:
        db.execute("update calls set state = 'WHAT'")
    db.close()
    with Journal(path, "fp") as journal:
        for question in (journal.states, journal.calls, lambda: journal.standing(["k"])):
            with pytest.raises(StorageError, match="damaged"):
                question()


def test_somebody_elses_database_is_refused(path):
    path.parent.mkdir(mode=0o700)
    os.close(os.open(path, os.O_CREAT, 0o600))
    with sqlite3.connect(path) as db:
        db.execute("create table t (x)")
    db.close()
    with pytest.raises(StorageError, match="not a journal"):
        Journal(path, "fp")


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


def test_a_view_reads_beside_the_owner_and_changes_nothing(journal, path):
    plan(journal, *"abcd")
    for key in "cba":
        journal.send(key, f"TOKEN{key}")
        if key != "b":
            journal.outcome(key, State.IN_DOUBT, LOST)
    with JournalView(path, "fp") as view:
        assert view.uuid == journal.uuid
        assert view.states() == journal.states()
        assert view.states()[State.SENT] == 1
        assert view.standing("adx") == {"a": State.IN_DOUBT, "d": State.PLANNED}
        assert [call.key for call in view.oldest(State.IN_DOUBT, limit=1)] == ["c"]
        journal.settle("c", State.OK, OK, b"{}")
        assert [call.key for call in view.oldest(State.IN_DOUBT, limit=9)] == ["a"]
        assert (view.n_answers(), view.n_answers(above=1)) == (1, 0)
        with pytest.raises(StorageError):
            view._ask(lambda db: db.execute("delete from calls"))
    with pytest.raises(StorageError, match="another store key"):
        JournalView(path, "other")
    with pytest.raises(UsageError, match="collect first"):
        JournalView(path.with_name("none"), "fp")


KILLED = textwrap.dedent("""
    import sys
    from pathlib import Path
    from verifyanalytics.journal.journal import Journal
    from verifyanalytics.vendor.replies import Outcome, Reply, State
    journal = Journal(Path(sys.argv[1]), "fp")
    for number in range(1_000_000):
        key = f"{number:08d}"
        journal.plan([(key, "CertVerify", "q")])
        journal.send(key, f"TOKEN{number}")
        print("sent", key, flush=True)
        journal.outcome(key, State.OK, Reply(Outcome.ANSWERED, code=10000), b"{}")
        print("done", key, flush=True)
""")


def test_a_kill_loses_nothing_that_was_said(path):
    said = {"sent": set(), "done": set()}
    for round_ in range(3):
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                KILLED.replace("range(1", f"range({round_ * 100000}, 1"),
                str(path),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        for count, line in enumerate(process.stdout):
            what, key = line.split()
            said[what].add(key)
            if count == 21 + round_:
                process.send_signal(signal.SIGKILL)
                break
        for line in process.stdout:
            if line.endswith("\n") and len(line.split()) == 2:
                said[line.split()[0]].add(line.split()[1])
        process.stdout.close()
        process.wait()
    with Journal(path, "fp") as journal:
        calls = {call.key: call for call in journal.calls()}
        for key in said["done"]:
            assert calls[key].state is State.OK
        for key in said["sent"] - said["done"]:
            assert calls[key].state in {State.OK, State.IN_DOUBT}
        in_doubt = journal.calls(State.IN_DOUBT)
        assert len(in_doubt) <= 3
        assert all(call.token == f"TOKEN{int(call.key)}" for call in in_doubt)
        assert len(journal.answers(limit=10_000)) == journal.states()[State.OK]
        assert journal.states()[State.SENT] == 0


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


def test_no_token_is_left_in_any_file_after_its_outcome(path):
    with Journal(path, "fp") as journal:
        plan(journal, *(f"{n}" for n in range(50)))
        for n in range(50):
            journal.send(f"{n}", f"canary{n}")
            journal.outcome(f"{n}", State.OK, OK, b"{}")
    for file in path.parent.iterdir():
        assert b"canary" not in file.read_bytes(), file.name
