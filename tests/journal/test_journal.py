"""The journal: which states a call may pass through, what is kept, what survives a kill."""

import signal
import subprocess
import sys
import textwrap

import pytest
from builders.journals import LOST, OK, plan

from verifyanalytics.errors import UsageError
from verifyanalytics.journal.journal import Journal
from verifyanalytics.vendor.replies import Outcome, Reply, State


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


def test_release_takes_only_what_was_named(journal):
    plan(journal, "a", "b")
    for key in ("a", "b"):
        journal.send(key, "T")
        journal.outcome(key, State.OK, OK, b"{}")
    journal.release(1, before=2e10)
    assert [a.answer_seq for a in journal.answers()] == [2]
    journal.release(2, before=0)
    assert [a.answer_seq for a in journal.answers()] == [2]
    assert [call.key for call in journal.calls()] == []


def test_numbers_of_answers_are_never_used_again(path):
    with Journal(path, "fp") as journal:
        plan(journal, "a", "b")
        journal.send("a", "T")
        journal.outcome("a", State.OK, OK, b"{}")
        journal.release(1, before=2e10)
    with Journal(path, "fp") as journal:
        journal.send("b", "T")
        assert journal.outcome("b", State.OK, OK, b"{}") == 2


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


def test_no_token_is_left_in_any_file_after_its_outcome(path):
    with Journal(path, "fp") as journal:
        plan(journal, *(f"{n}" for n in range(50)))
        for n in range(50):
            journal.send(f"{n}", f"canary{n}")
            journal.outcome(f"{n}", State.OK, OK, b"{}")
    for file in path.parent.iterdir():
        assert b"canary" not in file.read_bytes(), file.name
