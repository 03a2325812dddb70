"""The tap: a service's own calls are journalled, and never disturbed."""

import gzip
import json
import logging
import os
import subprocess
import sys
import textwrap
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests
from requests.adapters import BaseAdapter

from verifyanalytics.errors import StorageError
from verifyanalytics.importing.run import import_responses
from verifyanalytics.journal.tap import record
from verifyanalytics.parsing.text import keyed_hash
from verifyanalytics.simulator import serve
from verifyanalytics.store.store import Store
from verifyanalytics.vendor.replies import State
from verifyanalytics.vendor.signing import DATE_FORMAT, SignedRequest

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


def test_a_body_that_requests_has_unpacked_is_read(session, tmp_path, key_file):
    """The header stays when `requests` has undone the encoding."""

    class Unpacked(Played):
        def send(self, request, **options):
            response = super().send(request, **options)
            response.headers["Content-Encoding"] = "gzip"
            return response

    session.mount("https://", Unpacked())
    tap = record(session, tmp_path / "a.sqlite", key_file=key_file)
    call(session)
    assert tap.journal.states()[State.OK] == 1
    assert tap.n_recorded == 1
    tap.close()


REFUSAL = b'{"code":50429,"data":null,"request_id":"0"}'
FAULT = b'{"code":50500,"data":null,"request_id":"0"}'
ANSWERED = b'{"code":50215,"data":null,"request_id":"0"}'


@pytest.mark.parametrize(
    ("plays", "state", "code"),
    [
        ([(429, REFUSAL), (200, ANSWER)], State.OK, 10000),
        ([(500, FAULT), (200, ANSWER)], State.OK, 10000),
        ([(200, b"<html>"), (200, ANSWER)], State.OK, 10000),
        ([(429, REFUSAL), (400, ANSWERED)], State.REJECTED, 50215),
        ([(200, ANSWER), (429, REFUSAL)], State.OK, 10000),
        ([(200, ANSWER), (400, ANSWERED)], State.OK, 10000),
        ([(400, ANSWERED), (429, REFUSAL)], State.REJECTED, 50215),
    ],
)
def test_an_answer_takes_the_place_of_a_refusal(session, tmp_path, key_file, plays, state, code):
    tap = record(session, tmp_path / "a.sqlite", key_file=key_file)
    for play in plays:
        session.mount("https://", Played(*play))
        call(session)
    (known,) = tap.journal.calls()
    assert (known.state, known.code) == (state, code)
    tap.close()


def test_a_call_of_the_collector_keeps_its_own_story(session, tmp_path, key_file):
    tap = record(session, tmp_path / "a.sqlite", key_file=key_file)
    key = keyed_hash(bytes.fromhex("ab" * 32), "token", "TOKENcanary")
    tap.journal.plan([(key, "CertVerify", "cert_pro_src_verify")])
    call(session)
    assert tap.journal.call(key).state is State.PLANNED
    assert len(tap.journal.answers()) == 1
    tap.close()


# --- the network's own ways: the service sees the same with a tap and without ----------------


def x_date():
    return datetime.now(UTC).strftime(DATE_FORMAT)


def really_call(session, service, token, **options):
    return session.post(
        f"{service.address}/?Action=CertVerify&Version=2022-08-31",
        data=json.dumps({"req_key": "cert_pro_src_verify", "byted_token": token, "sdk_data": "s",
                         "risk_info": "r"}),
        headers={"Content-Type": "application/json"},
        auth=SignedRequest(service.access_key, service.secret_key, x_date),
        timeout=2.0,
        **options,
    )  # fmt: skip


def content(response):
    return response.content


def raw(response):
    return response.raw.read()


def raw_by_parts(response):
    return b"".join(iter(lambda: response.raw.read(100), b""))


def by_iteration(response):
    return b"".join(response.iter_content(100))


def by_lines(response):
    return b"".join(response.iter_lines())


READERS = [content, raw, raw_by_parts, by_iteration, by_lines]


def outcome(session, service, token, reader, stream):
    """What a service sees: the class of the error and where it came, or that all is well."""
    try:
        response = really_call(session, service, token, stream=stream)
    except requests.RequestException as error:
        return "sending", type(error)
    with response:
        try:
            return json.loads(reader(response))["code"]
        except Exception as error:  # noqa: BLE001 - its class is what is compared
            return "reading", type(error)


@pytest.mark.parametrize(
    ("fault", "reader", "stream"),
    [
        (fault, reader, stream)
        for fault in ("", "truncated_chunk", "bad_chunk", "reset_mid_body", "chunked")
        for reader, stream in [(content, False), *((reader, True) for reader in READERS)]
    ]
    + [(fault, content, False) for fault in ("stall_mid_body", "redirect_302", "gzip")],
)
def test_the_service_sees_what_it_would_see_without(tmp_path, key_file, fault, reader, stream):
    with serve(seed=1, faults=fault) as service, requests.Session() as session:
        expected = outcome(session, service, "plain", reader, stream)
        tap = record(session, tmp_path / "a.sqlite", key_file=key_file)
        assert outcome(session, service, "tapped", reader, stream) == expected
        states = tap.journal.states()
        if expected == 10000:
            assert (tap.n_recorded, tap.n_failed) == (1, 0)
            assert states[State.OK] + states[State.REJECTED] == 1
        elif expected[0] == "sending" or fault in {"truncated_chunk", "bad_chunk"}:
            assert tap.n_recorded == 0
        tap.close()


def test_a_streamed_answer_that_is_read_as_it_was_sent_is_unpacked(tmp_path, key_file):
    class Packed(BaseAdapter):
        def send(self, request, **_options):
            from io import BytesIO

            from urllib3.response import HTTPResponse

            response = requests.Response()
            response.status_code, response.request, response.url = 200, request, request.url
            response.raw = HTTPResponse(
                BytesIO(gzip.compress(ANSWER)), {"Content-Encoding": "gzip"}, preload_content=False
            )
            return response

        def close(self):
            pass

    with requests.Session() as session:
        session.mount("https://", Packed())
        tap = record(session, tmp_path / "a.sqlite", key_file=key_file)
        for token, options in (("a", {"decode_content": True}), ("b", {"decode_content": False})):
            body = {"req_key": "q", "byted_token": token}
            session.post(URL, json=body, stream=True).raw.read(**options)
        assert tap.journal.states()[State.OK] == 2
        tap.close()


def test_a_streamed_answer_that_nobody_reads_is_told(tmp_path, key_file, caplog):
    with serve(seed=1) as service, requests.Session() as session:
        tap = record(session, tmp_path / "a.sqlite", key_file=key_file)
        with caplog.at_level(logging.WARNING):
            really_call(session, service, "T", stream=True).close()
        assert (tap.n_recorded, tap.n_failed) == (0, 1)
        assert "did not read it" in caplog.text
        tap.close()


def test_a_tap_that_is_closed_while_answers_come_holds_nobody(session, tmp_path, key_file):
    tap = record(session, tmp_path / "a.sqlite", key_file=key_file)
    begun = threading.Barrier(9)

    def work(name):
        begun.wait()
        for n in range(50):
            assert call(session, token=f"{name}-{n}").content == ANSWER

    crew = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(8)]
    for worker in crew:
        worker.start()
    begun.wait()
    tap.close()
    for worker in crew:
        worker.join(20)
    assert not any(worker.is_alive() for worker in crew)
    assert tap.n_recorded + tap.n_failed == 400


FORKED = textwrap.dedent("""
    import os, sys
    from pathlib import Path
    import requests
    sys.path.insert(0, sys.argv[1])
    from test_tap import Played, call
    from verifyanalytics.journal.tap import record

    def say(*words):
        os.write(1, (" ".join(map(str, words)) + "\\n").encode())  # whole lines, whoever writes

    folder = Path(sys.argv[2])
    session = requests.Session()
    session.mount("https://", Played())
    tap = record(session, folder / "taps" / "a.sqlite", key_file=folder / "store.key")
    call(session, token="parent-1")
    children = []
    for number in range(2):
        pid = os.fork()
        if not pid:
            try:
                tap.journal.states()
            except Exception as error:
                say("child", type(error).__name__)
            assert call(session, token=f"child-{number}").status_code == 200
            say("child", tap.n_recorded, tap.n_failed)
            tap.close()
            os._exit(0)
        children.append(pid)
    call(session, token="parent-2")
    for pid in children:
        os.waitpid(pid, 0)
    say("parent", tap.n_recorded, tap.n_failed)
    tap.close()
""")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks are POSIX")
def test_a_forked_service_goes_on_with_a_journal_of_its_own(tmp_path):
    store = Store(tmp_path / "store", create=True)
    assert store.key
    done = subprocess.run(
        [sys.executable, "-c", FORKED, str(Path(__file__).parent), str(tmp_path)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    told = sorted(done.stdout.splitlines())
    assert told == ["child 1 0"] * 2 + ["child StorageError"] * 2 + ["parent 2 0"], done.stderr
    assert len(list((tmp_path / "taps").glob("*.sqlite"))) == 3
    session_answers = import_responses([tmp_path / "taps"], store)
    assert session_answers.read == 4
