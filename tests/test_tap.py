"""The tap: a service's own calls are journalled, and never disturbed."""

import json
import logging

import pytest
import requests
from requests.adapters import BaseAdapter

from verifyanalytics.envelope import keyed_hash
from verifyanalytics.errors import StorageError
from verifyanalytics.importing import import_responses
from verifyanalytics.replies import State
from verifyanalytics.store import Store
from verifyanalytics.tap import record

URL = "https://visual.volcengineapi.com/?Action=CertVerify&Version=2022-08-31"
ANSWER = json.dumps(
    {
        "code": 10000,
        "request_id": "1",
        "data": {"result": True, "images": {"image_best": "PICTUREcanary" * 99}},
    }
).encode()


class Played(BaseAdapter):
    """What the network would say."""

    def __init__(self, status=200, body=ANSWER):
        super().__init__()
        self.status, self.body = status, body

    def send(self, request, **_options):
        response = requests.Response()
        response.status_code, response.request, response.url = self.status, request, request.url
        response._content = self.body
        return response

    def close(self):
        pass


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "store.key"
    path.write_text("ab" * 32)
    path.chmod(0o600)
    return path


@pytest.fixture
def session():
    with requests.Session() as made:
        made.mount("https://", Played())
        yield made


def call(session, token="TOKENcanary", url=URL):
    body = {"req_key": "cert_pro_src_verify", "byted_token": token, "sdk_data": "SDKcanary"}
    return session.post(url, json=body)


def test_an_answer_is_journalled_and_handed_on(session, tmp_path, key_file):
    tap = record(session, tmp_path / "taps" / "a.sqlite", key_file=key_file)
    response = call(session)
    assert response.content == ANSWER
    (answer,) = tap.journal.answers()
    assert answer.key == keyed_hash(bytes.fromhex("ab" * 32), "token", "TOKENcanary")
    assert b"canary" not in answer.raw
    kept = json.loads(answer.raw)
    assert kept["images"] == {"image_best_bytes": 13 * 99}
    assert (kept["req_key"], kept["http_status"]) == ("cert_pro_src_verify", 200)
    assert (tap.n_recorded, tap.n_failed) == (1, 0)
    tap.close()
    for path in (tmp_path / "taps").iterdir():
        assert b"canary" not in path.read_bytes()


def test_every_answer_of_a_token_is_one_more(session, tmp_path, key_file):
    tap = record(session, tmp_path / "a.sqlite", key_file=key_file)
    session.mount("https://", Played(400, b'{"code":50215,"data":null,"request_id":"0"}'))
    call(session)
    session.mount("https://", Played())
    call(session)
    assert [json.loads(a.raw)["response"]["request_id"] for a in tap.journal.answers()] == [
        "0",
        "1",
    ]
    assert tap.n_recorded == 2
    tap.close()


def test_other_calls_of_the_session_are_let_by(session, tmp_path, key_file):
    tap = record(session, tmp_path / "a.sqlite", key_file=key_file)
    call(session, url="https://other.example/?Action=OCRNormal")
    call(session, url="https://other.example/")
    assert (tap.n_recorded, tap.n_failed, tap.journal.answers()) == (0, 0, [])
    tap.close()


@pytest.mark.parametrize("body", [b"<html>", b"", b'{"code":10000,"data":"\\ud800"}'])
def test_what_is_no_answer_is_remembered_without_a_row(session, tmp_path, key_file, body):
    tap = record(session, tmp_path / "a.sqlite", key_file=key_file)
    session.mount("https://", Played(200, body))
    assert call(session).content == body
    assert tap.journal.states()[State.UNPARSED] == 1
    assert tap.journal.answers() == []
    tap.close()


def test_the_service_goes_on_when_the_tap_cannot(session, tmp_path, key_file, caplog):
    tap = record(session, tmp_path / "a.sqlite", key_file=key_file)
    tap.close()
    with caplog.at_level(logging.WARNING):
        assert call(session).status_code == 200
        session.post(URL, data=b"no json")
    assert (tap.n_recorded, tap.n_failed) == (0, 2)
    assert "closed" in caplog.text
    assert "byted_token" in caplog.text
    assert "canary" not in caplog.text


def test_the_importer_reads_the_journal(session, tmp_path):
    store = Store(tmp_path / "store", create=True)
    folder = tmp_path / "taps"
    for n in range(2):
        tap = record(session, folder / f"backend-{n}.sqlite", key_file=tmp_path / "store.key")
        session.mount("https://", Played(200, ANSWER.replace(b'"1"', f'"{n}"'.encode())))
        call(session, token=f"TOKENcanary{n}")
        tap.close()
        session.hooks["response"].clear()
    (folder / "other.sqlite").write_bytes(b"SQLite format 3\0" + bytes(4080))
    (folder / "more.ndjson").write_bytes(ANSWER.replace(b'"1"', b'"2"'))
    summary = import_responses([folder], store)
    assert (summary.added, summary.rejected, summary.rejects) == (3, 1, {"source": 1})
    again = import_responses([folder / "backend-0.sqlite"], store)
    assert (again.read, again.added) == (0, 0)
    frame = store.read("verifications").set_index("request_id")
    assert frame.loc["0", "token"] == keyed_hash(store.key, "token", "TOKENcanary0")
    assert frame.loc["0", "image_best_bytes"] == 13 * 99
    assert store.check() == []


def test_a_journal_of_another_key_is_refused(session, tmp_path, key_file):
    record(session, tmp_path / "a.sqlite", key_file=key_file).close()
    with pytest.raises(StorageError, match="another store key"):
        import_responses([tmp_path / "a.sqlite"], Store(tmp_path / "other", create=True))


def test_a_journal_in_use_leaves_the_session_as_it_was(session, tmp_path, key_file):
    tap = record(session, tmp_path / "a.sqlite", key_file=key_file)
    with requests.Session() as other, pytest.raises(StorageError, match="in use"):
        record(other, tmp_path / "a.sqlite", key_file=key_file)
    assert other.hooks["response"] == []
    tap.close()
