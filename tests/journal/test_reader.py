"""Reading a journal beside the process that holds it."""

import sqlite3

import pytest
from builders.journals import LOST, OK, plan

from verifyanalytics.errors import StorageError, UsageError
from verifyanalytics.journal.journal import Journal, JournalView
from verifyanalytics.vendor.replies import State


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
