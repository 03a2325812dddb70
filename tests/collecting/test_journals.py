"""A journal that is gone, restored, copied or older is seen before anything is sent."""

from __future__ import annotations

import json
import shutil
import threading

import pytest

import verifyanalytics as va
from verifyanalytics.collecting.verbs import collect, journal_path, open_journal, resolve, status
from verifyanalytics.errors import StorageError, UsageError
from verifyanalytics.store.store import Store
from verifyanalytics.vendor.client import Client
from verifyanalytics.vendor.credentials import Credentials
from verifyanalytics.vendor.replies import read_reply


def request(token):
    return {
        "req_key": "cert_pro_src_verify", "byted_token": token, "sdk_data": "s", "risk_info": "r"
    }  # fmt: skip


class Vendor:
    """Answers every call, and counts them."""

    def __init__(self):
        self.calls, self._lock = [], threading.Lock()

    def send(self, request_, timeouts):
        token = json.loads(request_.data)["byted_token"]
        with self._lock:
            self.calls.append(token)
        data = {"result": True, "req_measure_info": {"value": 1}}
        data["verify_algorithm_base_resp"] = {"status_code": 0}
        body = {"code": 10000, "request_id": f"id-{token}", "message": "", "data": data}
        return read_reply(200, {}, json.dumps(body).encode(), 1.0)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def vendor():
    return Vendor()


def run(store, vendor, *tokens, **options):
    client = Client(Credentials("AK", "SK"), transport=vendor)
    lines = [request(token) for token in tokens]
    return collect(lines, store, client=client, rate=None, workers=2, **options)


def backup(store, folder):
    shutil.copytree(journal_path(store).parent, folder)


def put_back(store, folder):
    shutil.rmtree(journal_path(store).parent)
    shutil.copytree(folder, journal_path(store).parent)


def test_a_journal_restored_from_a_backup_is_refused_before_anything_is_sent(
    store, vendor, tmp_path
):
    run(store, vendor, "a1", "a2")
    backup(store, tmp_path / "copy")
    run(store, vendor, "b1", "b2")
    put_back(store, tmp_path / "copy")
    for act in (
        lambda: run(store, vendor, "c1"),
        lambda: resolve(store, client=Client(Credentials("AK", "SK"), transport=vendor)),
    ):
        with pytest.raises(StorageError, match="journal adopt") as refused:
            act()
        assert refused.value.exit_code == 7
    assert vendor.calls.count("c1") == 0


def test_two_copies_used_in_turn_are_refused(store, vendor, tmp_path):
    run(store, vendor, "a1")
    backup(store, tmp_path / "copy")
    run(store, vendor, "a1")  # nothing is new, yet the other copy is older now
    other = tmp_path / "copy" / "journal.sqlite"
    with pytest.raises(StorageError, match="openings"):
        run(store, vendor, "b1", journal=other)
    assert run(store, vendor, "b1").sent == 1


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_journal_that_is_gone_is_not_replaced_without_a_word(store, vendor, tmp_path, elsewhere):
    run(store, vendor, "a1")
    shutil.rmtree(journal_path(store).parent)
    place = tmp_path / "new.sqlite" if elsewhere else None
    with pytest.raises(StorageError, match="is gone"):
        run(store, vendor, "a2", journal=place)
    assert vendor.calls == ["a1"]


def test_another_journal_in_its_place_is_refused(store, vendor, tmp_path):
    run(store, vendor, "a1")
    other = Store(tmp_path / "other")
    shutil.copy(tmp_path / "store.key", tmp_path / "other.key")
    run(other, vendor, "x1")
    put_back(store, journal_path(other).parent)
    with pytest.raises(StorageError, match="another lies in its place"):
        run(store, vendor, "a2")


def test_a_second_journal_beside_the_first_and_a_moved_store_are_fine(store, vendor, tmp_path):
    run(store, vendor, "a1")
    assert run(store, vendor, "a1", "a2", journal=tmp_path / "second.sqlite").sent == 1
    assert run(store, vendor, "a3").sent == 1
    (tmp_path / "there").mkdir()
    for path in (store.path, journal_path(store).parent, tmp_path / "store.key"):
        shutil.move(path, tmp_path / "there" / path.name)
    shutil.move(tmp_path / "second.sqlite", tmp_path / "there" / "second.sqlite")
    (tmp_path / "there" / "second.sqlite").rename(tmp_path / "second.sqlite")
    with pytest.raises(StorageError, match=r"second\.sqlite"):
        run(Store(tmp_path / "there" / "store"), vendor, "a4")
    shutil.move(tmp_path / "second.sqlite", tmp_path / "there" / "second.sqlite")
    assert run(Store(tmp_path / "there" / "store"), vendor, "a4").sent == 1


@pytest.mark.parametrize("gone", [False, True])
def test_adopting_puts_what_may_have_been_sent_in_doubt(store, vendor, tmp_path, gone):
    run(store, vendor, "a1", "a2")
    with open_journal(store) as journal:
        journal.plan([("0" * 32, "CertVerify", "cert_pro_src_verify")])
    backup(store, tmp_path / "copy")
    run(store, vendor, "b1")
    if gone:
        shutil.rmtree(journal_path(store).parent)
    else:
        put_back(store, tmp_path / "copy")
    given = [request(token) for token in ("a1", "a2", "b1", "lost")]
    with pytest.raises(UsageError, match="reason"):
        va.adopt_journal(store, given, reason=" ")
    n_doubted = va.adopt_journal(store, given, reason="the disk died")
    assert n_doubted == (1 if gone else 2)  # b1 and the others have their rows
    assert run(store, vendor, "a1", "b1", "lost").sent == 0
    assert status(store).states["IN_DOUBT"] == n_doubted
    client = Client(Credentials("AK", "SK"), transport=vendor)
    resolve(store, client=client, rate=None)
    assert status(store).states["OK"] == (1 if gone else 3)
    new = run(store, vendor, "c1")
    assert (new.sent, new.added) == (1, 1)  # numbered above what the store has
    assert len(store.read("verifications")) == 5
    assert store.check() == []


def test_a_backup_put_back_must_be_adopted(store, vendor, tmp_path):
    run(store, vendor, "a1")
    with open_journal(store):  # in use: a backup looks on
        va.backup_journal(store, tmp_path / "copy.sqlite")
    with pytest.raises(UsageError, match="is there"):
        va.backup_journal(store, tmp_path / "copy.sqlite")
    assert (tmp_path / "copy.sqlite").stat().st_mode & 0o777 == 0o600
    with pytest.raises(UsageError, match="is there"):
        va.restore_journal(store, tmp_path / "copy.sqlite")
    shutil.rmtree(journal_path(store).parent)
    va.restore_journal(store, tmp_path / "copy.sqlite")
    with pytest.raises(StorageError, match="adopt"):
        run(store, vendor, "a2")
    va.adopt_journal(store, [], reason="nothing was sent since")
    assert run(store, vendor, "a1", "a2").sent == 1


def test_requests_that_cannot_be_read_adopt_nothing(store, vendor, tmp_path):
    run(store, vendor, "a1")
    shutil.rmtree(journal_path(store).parent)
    (tmp_path / "bad.jsonl").write_text(json.dumps(request("b1")) + "\nno request\n")
    for given in (tmp_path / "none.jsonl", tmp_path / "bad.jsonl"):
        with pytest.raises(UsageError):
            va.adopt_journal(store, given, reason="the disk died")
        with pytest.raises(StorageError, match="is gone"):
            run(store, vendor, "a2")


def test_a_store_that_cannot_keep_the_record_stops_the_run_before_it_sends(
    store, vendor, monkeypatch
):
    from verifyanalytics.journal import registry

    def full(path, data):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(registry, "replace_file", full)
        with pytest.raises(StorageError, match="the disk is full"):
            run(store, vendor, "a1")
    assert vendor.calls == []
    assert run(store, vendor, "a1").sent == 1  # the journal is free again


def test_a_damaged_record_is_told(store, vendor):
    run(store, vendor, "a1")
    (record,) = (store.path / "_journals").glob("*.json")
    record.write_text("{")
    with pytest.raises(StorageError, match="is damaged"):
        run(store, vendor, "a2")


def test_status_only_reads_and_a_run_may_start_meanwhile(store, vendor, monkeypatch):
    run(store, vendor, "a1")
    with open_journal(store) as journal:
        journal.plan([("k", "CertVerify", "cert_pro_src_verify")])
        journal.send("k", "token")
        journal.writer.close()  # as if the process had died
        journal._lock_file.close()
    before = journal_path(store).read_bytes()
    from verifyanalytics.collecting import verbs

    inner, sent = verbs.status_of, []

    def slow(*args, **options):
        sent.append(run(store, vendor, "a2").sent)
        return inner(*args, **options)

    assert status(store).states["IN_DOUBT"] == 1
    assert journal_path(store).read_bytes() == before
    monkeypatch.setattr(verbs, "status_of", slow)
    status(store)
    assert sent == [1]


def test_the_whole_file_is_checked_only_after_an_unclean_end(store, vendor, monkeypatch):
    import sqlite3

    said = []
    connect = sqlite3.connect

    def traced(*args, **options):
        db = connect(*args, **options)
        db.set_trace_callback(said.append)
        return db

    run(store, vendor, "a1")
    monkeypatch.setattr("verifyanalytics.journal.database.sqlite3.connect", traced)
    with open_journal(store) as journal:
        assert not any("integrity_check" in text for text in said)
        journal._lock_file.close()  # it dies: no clean end is written
    journal._lock_file.close()
    with open_journal(store):
        assert any("integrity_check" in text for text in said)
