"""Settled calls: what leaves the journal, what stays known, and that nothing is sent again."""

import hashlib
import sqlite3
from contextlib import closing

import pytest
from builders.journals import LOST, OK, plan

from verifyanalytics.errors import UsageError
from verifyanalytics.journal import settled
from verifyanalytics.journal.database import SCHEMA_VERSION
from verifyanalytics.journal.journal import Journal
from verifyanalytics.vendor.replies import Outcome, Reply, State

KEYS = sorted(hashlib.sha256(bytes([number])).hexdigest()[:32] for number in range(6))
ARREARS = Reply(Outcome.NO_VERDICT, http_status=200, code=50402, billed=False)


def answered(journal, key, state=State.OK, reply=OK):
    plan(journal, key)
    journal.send(key, "TOKEN")
    return journal.outcome(key, state, reply, f'{{"key":"{key}"}}'.encode())


def counted(journal):
    """The counts as they are kept, and as they are counted."""
    query = (
        "select state, coalesce(billed, -1), count(*) from (select state, billed from calls"
        " union all select state, billed from settled) group by 1, 2 order by 1, 2"
    )
    kept = "select * from counts where n != 0 order by 1, 2"
    return journal._ask(lambda db: (db.execute(kept).fetchall(), db.execute(query).fetchall()))


def test_a_settled_call_stays_known_and_is_never_sent_again(journal):
    seq = answered(journal, KEYS[0])
    plan(journal, KEYS[1])
    before = journal.states(), journal.bill()
    journal.release(seq, before=2e10)
    assert (journal.states(), journal.bill()) == before
    assert [call.key for call in journal.calls()] == [KEYS[1]]
    call = journal.call(KEYS[0])
    assert (call.state, call.billed, call.answer_seq, call.tries) == (State.OK, True, seq, 1)
    assert journal.standing(KEYS) == {KEYS[0]: State.OK, KEYS[1]: State.PLANNED}
    assert plan(journal, KEYS[0]) == 0
    with pytest.raises(UsageError, match="never sent twice"):
        journal.send(KEYS[0], "TOKEN")
    assert journal.doubt([(KEYS[0], "CertVerify", "r", "TOKEN")], "a copy") == 0


def test_calls_that_the_store_does_not_hold_stay_whole(journal):
    answered(journal, KEYS[0])
    second = answered(journal, KEYS[1])
    answered(journal, KEYS[2], State.UNPARSED)
    journal.release(second - 1, before=2e10)
    assert [call.key for call in journal.calls()] == KEYS[1:3]
    assert [answer.answer_seq for answer in journal.answers()] == [2, 3]


def test_raw_answers_stay_as_long_as_they_are_wanted(journal):
    seq = answered(journal, KEYS[0])
    journal.release(seq, before=0)
    assert journal.n_answers() == 1
    assert journal.calls() == []
    journal.release(seq, before=2e10)
    assert journal.n_answers() == 0


def test_more_calls_than_one_transaction_holds_are_settled(journal, monkeypatch):
    monkeypatch.setattr(settled, "CHUNK", 2)
    for key in KEYS[:5]:
        answered(journal, key)
    journal.release(5, before=2e10)
    assert journal.calls() == []
    assert journal.n_answers() == 0
    assert journal.states()[State.OK] == 5


def test_counts_are_kept_through_every_change(journal):
    seq = answered(journal, KEYS[0])
    answered(journal, KEYS[1], State.REJECTED, ARREARS)
    plan(journal, *KEYS)
    journal.send(KEYS[2], "T")
    journal.outcome(KEYS[2], State.IN_DOUBT, LOST)
    for step in (
        lambda: journal.release(seq + 1, before=2e10),
        lambda: journal.redo(50402, "paid"),
        lambda: journal.erase([KEYS[0], KEYS[2]]),
        lambda: journal.plan_again(KEYS),
    ):
        step()
        kept, there = counted(journal)
        assert kept == there


def test_a_settled_refusal_can_be_planned_again(journal):
    seq = answered(journal, KEYS[0], State.REJECTED, ARREARS)
    priced = Reply(Outcome.NO_VERDICT, http_status=200, code=50402, billed=True)
    seq = max(seq, answered(journal, KEYS[1], State.REJECTED, priced))
    journal.release(seq, before=2e10)
    assert journal.redo(50402, "the account is paid again") == 1
    assert journal.standing(KEYS) == {KEYS[0]: State.PLANNED, KEYS[1]: State.REJECTED}
    assert journal.send(KEYS[0], "TOKEN") == 2


def test_a_better_reply_of_a_tap_replaces_a_settled_refusal(journal):
    key = KEYS[0]
    refusal = Reply(Outcome.REFUSED, http_status=200, code=50402, billed=False)
    seq = journal.record(key, "CertVerify", "r", State.REJECTED, refusal, b"{}")
    journal.release(seq, before=2e10)
    seq = journal.record(key, "CertVerify", "r", State.OK, OK, b"{}")
    assert journal.call(key).state is State.OK
    journal.release(seq, before=2e10)
    journal.record(key, "CertVerify", "r", State.REJECTED, refusal, b"{}")
    assert journal.call(key).state is State.OK
    assert journal.n_answers() == 1


@pytest.mark.parametrize("state", [State.OK, State.IN_DOUBT, State.PLANNED])
@pytest.mark.parametrize("released", [False, True])
def test_an_erased_call_leaves_a_hash_and_is_never_sent(journal, path, state, released):
    key = KEYS[0]
    plan(journal, key)
    if state is not State.PLANNED:
        journal.send(key, "CANARY-TOKEN")
        raw = b'{"note":"CANARY-RAW"}' if state is State.OK else None
        journal.outcome(key, state, OK if state is State.OK else LOST, raw)
    if released:
        journal.release(9, before=0)
    assert journal.erase([key, KEYS[1]]) == 1
    assert journal.standing([key]) == {key: State.ERASED}
    assert plan(journal, key) == 0
    assert journal.erase([key]) == 0
    with pytest.raises(UsageError, match="never sent twice"):
        journal.send(key, "T")
    assert journal.bill()["billed"] == (state is State.OK)
    journal.close()
    for left in path.parent.iterdir():
        data = left.read_bytes()
        for canary in (b"CANARY", key.encode(), bytes.fromhex(key), b"r1"):
            assert canary not in data, (left, canary)


def test_erasing_by_age_takes_calls_of_every_kind(journal):
    seq = answered(journal, KEYS[0])
    journal.release(seq, before=0)
    answered(journal, KEYS[1])
    plan(journal, KEYS[2])
    assert journal.erase([], before=0) == 0
    assert journal.erase([], before=2e10) == 3
    assert journal.states()[State.ERASED] == 3
    assert journal.n_answers() == 0


def test_a_journal_of_the_version_before_is_taken_over(path):
    with Journal(path, "fp") as journal:
        seq = answered(journal, KEYS[0])
        answered(journal, KEYS[1])
        plan(journal, KEYS[2])
    with closing(sqlite3.connect(path)) as db:
        for table in ("settled", "kinds", "counts"):
            db.execute(f"drop table {table}")
        names = db.execute("select name from sqlite_master where type = 'trigger'").fetchall()
        for (name,) in names:
            db.execute(f"drop trigger {name}")
        db.execute("delete from meta where name = 'settled'")
        db.execute("delete from answers where answer_seq = ?", (seq,))
        db.execute("pragma user_version = 2")
        db.commit()
    with Journal(path, "fp") as journal:
        assert journal.states()[State.OK] == 2
        journal.release(seq + 1, before=2e10)
        assert [call.key for call in journal.calls()] == KEYS[2:3]
        assert journal.states()[State.OK] == 2
        assert journal._ask(lambda db: db.execute("pragma user_version").fetchone()) == (
            SCHEMA_VERSION,
        )
