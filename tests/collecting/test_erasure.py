"""Erasing: what is gone, from where, what stays out, and that counts still add up."""

import json
import signal
import subprocess
import sys
import textwrap
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from builders.responses import changed

import verifyanalytics as va
from verifyanalytics.collecting.verbs import open_journal
from verifyanalytics.errors import StorageError, UsageError
from verifyanalytics.parsing.text import keyed_hash
from verifyanalytics.store import erasing
from verifyanalytics.store.store import Store
from verifyanalytics.vendor.replies import Outcome, Reply, State

START = datetime(2024, 5, 30, tzinfo=UTC)


def line(number, *, person=True, broken=False):
    """One stored answer; three persons in turn, each with two answers to one token."""
    if broken:
        return b'{"code": 10000, "data"'
    envelope = {
        "occurred_at": (START + timedelta(hours=number)).isoformat(),
        "action": "CertVerify",
        "byted_token": f"token-{number // 2}",
        "context": {"note": f"CONTEXT-{number // 2 % 3}"},
        "response": changed("request_id", f"CANARY-{number:04}"),
    }
    if person and number % 2 == 0:
        envelope["subject"] = f"person-{number // 2 % 3}"
    return json.dumps(envelope).encode()


def wrote(path, numbers, **options):
    path.write_bytes(b"\n".join(line(number, **options) for number in numbers) + b"\n")
    return path


@pytest.fixture
def filled(tmp_path):
    store = Store(tmp_path / "store", create=True)
    va.import_responses([wrote(tmp_path / "one.ndjson", range(12))], store)
    va.import_responses([wrote(tmp_path / "two.ndjson", range(12, 24))], store)
    rows = store.read()
    labels = pd.DataFrame({"request_id": rows["request_id"].astype(str)[:8], "mated": True})
    store.add_labels(labels)
    store.add_labels(pd.DataFrame({"token": rows["token"].astype(str)[:6:2], "mated": True}))
    return store


def everything(store):
    """Each byte of the store and of what lies beside it, but the key."""
    for folder in (store.path, store.path.with_name(f"{store.path.name}.journal")):
        for path in folder.rglob("*"):
            if path.is_file():
                yield path, path.read_bytes()


def found(store, canaries):
    return [
        (path.name, canary)
        for path, data in everything(store)
        for canary in canaries
        if canary.encode() in data
    ]


def canaries_of(store, rows):
    names = ["request_id", "token", "subject", "ctx_note"]
    return {value for name in names for value in rows[name].dropna().astype(str)}


def test_a_person_is_gone_from_every_byte(filled):
    rows = filled.read()
    tokens = set(rows[rows["subject"] == keyed_hash(filled.key, "subject", "person-1")]["token"])
    theirs = rows[rows["token"].isin(tokens)]
    canaries = canaries_of(filled, theirs)
    assert found(filled, canaries)
    done = va.erase(filled, subjects=["person-1"])
    assert done.rows == len(theirs) == 8
    assert done.labels == 3
    assert found(filled, canaries) == []
    left = filled.read()
    assert len(left) == 16
    assert not set(left["token"]) & tokens
    assert filled.check(deep=True) == []
    assert len(filled.read("labels")) == 8


def test_erased_rows_stay_out_of_later_imports(filled, tmp_path):
    va.erase(filled, subjects=["person-1"])
    again = wrote(tmp_path / "again.ndjson", range(26))
    summary = va.import_responses([again], filled)
    assert (summary.read, summary.added, summary.known) == (26, 2, 24)
    assert summary.erased == 8
    assert "8 of the known were erased before" in str(summary)
    assert len(filled.read()) == 18
    # without the person in the lines the token tells
    nameless = wrote(tmp_path / "nameless.ndjson", range(24), person=False)
    assert va.import_responses([nameless], filled).added == 0
    assert filled.check(deep=True) == []


def test_who_comes_back_later_is_not_kept_out(filled, tmp_path):
    va.erase(filled, subjects=["person-1"])
    later = json.loads(line(100))
    later |= {"subject": "person-1", "occurred_at": datetime.now(UTC).isoformat()}
    path = tmp_path / "later.ndjson"
    path.write_text(json.dumps(later) + "\n")
    assert va.import_responses([path], filled).added == 1


@pytest.mark.parametrize("hashed", [False, True])
def test_a_token_takes_both_its_answers(filled, hashed):
    token = keyed_hash(filled.key, "token", "token-3") if hashed else "token-3"
    assert va.erase(filled, tokens=[token]).rows == 2
    assert len(filled.read()) == 22


def test_one_answer_goes_by_its_request_id(filled, tmp_path):
    chosen = str(filled.read()["request_id"][4])
    assert va.erase(filled, request_ids=[chosen]).rows == 1
    assert found(filled, [chosen]) == []
    again = wrote(tmp_path / "again.ndjson", range(13))
    assert va.import_responses([again], filled).added == 0
    labels = pd.DataFrame({"request_id": [chosen], "mated": [True]})
    assert filled.add_labels(labels) == 0


def test_a_source_goes_with_its_rejects_and_its_name(tmp_path):
    store = Store(tmp_path / "store", create=True)
    path = tmp_path / "NAME-OF-A-PERSON.ndjson"
    path.write_bytes(b"\n".join([line(0), line(1, broken=True), line(2)]) + b"\n")
    va.import_responses([path], store)
    va.import_responses([wrote(tmp_path / "two.ndjson", range(4, 8))], store)
    done = va.erase(store, sources=[str(path)])
    assert (done.rows, done.rejects) == (2, 1)
    assert found(store, ["NAME-OF-A-PERSON"]) == []
    assert store.check(deep=True) == []
    assert va.import_responses([path], store).added == 0
    ledger = store.read("imports").groupby("source")[["n_added", "n_rejected", "n_erased"]].sum()
    assert ledger.loc["erased"].tolist() == [2, 1, 3]


def test_what_is_old_goes_and_stays_out(filled, tmp_path):
    at = START + timedelta(hours=12)
    assert va.erase(filled, before=at).rows == 12
    assert filled.read()["occurred_at"].min() == at
    again = wrote(tmp_path / "again.ndjson", range(24))
    summary = va.import_responses([again], filled)
    assert (summary.added, summary.erased) == (0, 12)
    assert filled.check(deep=True) == []
    va.erase(filled, before=at + timedelta(hours=1))
    assert len(list((filled.path / "_erased").glob("*.parquet"))) == 1


def test_older_versions_end_with_an_erasure(filled):
    last = filled.versions()["version"].max()
    va.erase(filled, tokens=["token-3"])
    assert not filled.versions().set_index("version")["readable"].loc[:last].any()
    with pytest.raises(UsageError, match="goes before older versions"):
        filled.read(as_of=int(last))
    assert filled.strays() == []


def test_a_dry_run_changes_nothing(filled):
    before = sorted((path, data) for path, data in everything(filled))
    done = va.erase(filled, subjects=["person-1"], before="2024-05-30T04:00Z", dry_run=True)
    assert (done.rows, done.dry_run) == (10, True)
    assert sorted((path, data) for path, data in everything(filled)) == before


def test_a_selection_is_needed_and_a_source_must_be_known(filled):
    with pytest.raises(UsageError, match="nothing is selected"):
        va.erase(filled)
    with pytest.raises(UsageError, match="no source of the store is named other"):
        va.erase(filled, sources=["other.ndjson"])
    with pytest.raises(UsageError, match="texts that are not empty"):
        va.erase(filled, subjects=[""])
    assert filled.erasures() == []


@pytest.mark.parametrize("step", ["_erase_labels", "_erase_rows", "expired"])
def test_an_erasure_that_was_cut_short_is_taken_up(filled, monkeypatch, step):
    rows = filled.read()
    theirs = rows[rows["token"] == keyed_hash(filled.key, "token", "token-3")]
    canaries = set(theirs["request_id"]) | set(theirs["token"])

    def cut(*_, **__):
        raise OSError("the disk is gone")

    with monkeypatch.context() as patched:
        patched.setattr(erasing, step, cut)
        with pytest.raises(StorageError):
            va.erase(filled, tokens=["token-3"])
    assert filled.check() == [
        "an erasure was begun and has not ended; run erase, which goes on with it"
    ]
    assert va.erase(filled).resumed == 1
    assert found(filled, canaries) == []
    assert filled.check(deep=True) == []


def test_an_import_that_comes_between_brings_nothing_back(filled, tmp_path, monkeypatch):
    """Its rows are compared with the tombstones that are there when it commits."""
    real = erasing._erase_rows
    again = wrote(tmp_path / "again.ndjson", range(30))
    done = []

    def between(attempt, name):
        if not done:
            done.append(va.import_responses([again], Store(filled.path)))
        real(attempt, name)

    monkeypatch.setattr(erasing, "_erase_rows", between)
    va.erase(filled, subjects=["person-1"])
    assert len(filled.read()) == 16 + 4
    assert filled.check(deep=True) == []


def test_calls_and_raw_answers_go_from_the_journal(tmp_path):
    store = Store(tmp_path / "store", create=True)
    requests = [
        {"req_key": "cert_pro_src_verify", "byted_token": f"token-{n}", "sdk_data": "…",
         "risk_info": "…", "subject": f"person-{n % 2}"}
        for n in range(6)
    ]  # fmt: skip
    with va.serve(seed=1) as service:
        credentials = va.Credentials(service.access_key, service.secret_key)
        client = va.Client(credentials, service.address)
        va.collect(requests, store, client=client)
        rows = store.read()
        theirs = rows[rows["subject"] == keyed_hash(store.key, "subject", "person-1")]
        canaries = set(theirs["request_id"]) | set(theirs["token"]) | set(theirs["subject"])
        assert found(store, canaries)
        billed = va.status(store).billed
        done = va.erase(store, subjects=["person-1"])
        assert (done.rows, done.calls) == (3, 3)
        assert found(store, canaries) == []
        again = va.collect(requests, store, client=client)
        assert (again.sent, again.already) == (0, 6)
        assert service.bill().received == 6
    assert va.status(store).states["ERASED"] == 3
    assert va.status(store).billed == billed
    assert store.check(deep=True) == []


def test_a_call_in_doubt_loses_its_token_and_is_never_sent(tmp_path):
    store = Store(tmp_path / "store", create=True)
    key = keyed_hash(store.key, "token", "CANARY")
    with open_journal(store) as journal:
        journal.plan([(key, "CertVerify", "cert_pro_src_verify")])
        journal.send(key, "CANARY")
        journal.outcome(key, State.IN_DOUBT, Reply(Outcome.LOST))
    assert va.erase(store, tokens=["CANARY"]).calls == 1
    assert found(store, ["CANARY", key]) == []
    with open_journal(store) as journal:
        assert journal.standing([key]) == {key: State.ERASED}


def test_a_journal_that_is_in_use_stops_an_erasure_before_it_begins(filled):
    with open_journal(filled), pytest.raises(StorageError, match="in use"):
        va.erase(filled, tokens=["token-3"])
    assert filled.erasures() == []


def test_a_kill_at_any_moment_leaves_an_erasure_that_ends(tmp_path, filled):
    script = textwrap.dedent(
        """
        import os, signal, sys
        import verifyanalytics as va
        from verifyanalytics.store import disk, files, head, tables, tombstones
        n = int(sys.argv[2])
        real = disk.sync
        def sync(path):
            global n
            n -= 1
            if n == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            real(path)
        for module in (disk, files, head, tables, tombstones):
            module.sync = sync
        va.erase(sys.argv[1], subjects=["person-1"])
        print("ended")
        """
    )
    n = 0
    while True:
        n += 4
        run = subprocess.run(
            [sys.executable, "-c", script, str(filled.path), str(n)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if run.returncode == 0:
            break
        assert run.returncode == -signal.SIGKILL, run.stderr
    assert n > 4
    store = Store(filled.path)
    assert store.erasures() == []
    assert len(store.read()) == 16
    assert store.check(deep=True) == []


def test_retention_is_a_rule_of_the_store(filled):
    with pytest.raises(UsageError, match="no rule yet"):
        va.retain(filled)
    assert va.retain(filled, "1d", dry_run=True).rows == 24
    assert filled.retention() is None
    va.retain(filled, "36500d")
    assert len(filled.read()) == 24
    held = va.inventory(filled).set_index("what")
    assert held.loc["verifications", "n"] == 24
    assert held.loc["verifications", "subjects"] == 3
    assert held.loc["verifications", "kept_until"] == START + timedelta(days=36500)
    va.retain(filled, "1d")
    assert va.retain(filled).rows == 0
    assert len(filled.read()) == 0


def test_copies_that_were_made_are_named(filled, tmp_path):
    filled.export(tmp_path / "copy")
    with open_journal(filled):
        pass
    va.backup_journal(filled, tmp_path / "copy.sqlite")
    done = va.erase(filled, tokens=["token-3"])
    assert done.copies == [str(tmp_path / "copy"), str(tmp_path / "copy.sqlite")]
    held = va.inventory(filled)
    assert {"export", "copy of the journal", "raw answers"} <= set(held["what"])


def test_a_changed_tombstone_is_seen(filled):
    va.erase(filled, tokens=["token-3"])
    (path,) = (filled.path / "_erased").glob("*.parquet")
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert "was changed" in filled.check()[0]
    path.unlink()
    assert "is missing" in filled.check()[0]
