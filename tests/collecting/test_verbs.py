"""The collector over a vendor that answers from a script: states, bills, rows, stops."""

import errno
import json
import threading
import time
from email.utils import formatdate

import pyarrow as pa
import pytest
import requests as requests_library

from verifyanalytics.collecting import run as collect_run
from verifyanalytics.collecting import verbs as collecting
from verifyanalytics.collecting.run import exit_code_of
from verifyanalytics.collecting.sender import Stopped
from verifyanalytics.collecting.verbs import (
    collect,
    mark,
    query,
    redo,
    reflatten,
    resolve,
    status,
)
from verifyanalytics.errors import StorageError, UsageError
from verifyanalytics.importing.run import import_responses
from verifyanalytics.journal.delivery import Delivered
from verifyanalytics.parsing import reference as responses
from verifyanalytics.parsing.text import keyed_hash
from verifyanalytics.store.store import Store
from verifyanalytics.vendor.client import Client
from verifyanalytics.vendor.credentials import Credentials
from verifyanalytics.vendor.replies import Outcome, Reply, read_reply

KEYS = Credentials("AKcanary", "SKcanary")
PICTURE = "iVBORcanary" * 500


def request(token):
    return {
        "req_key": "cert_pro_src_verify",
        "byted_token": token,
        "sdk_data": "SDKcanary",
        "risk_info": "RISKcanary",
    }


def answer(token, code=10000, picture=PICTURE, **data):
    body = {
        "code": code,
        "message": "Success",
        "request_id": f"id-{token}",
        "data": {
            "result": True,
            "risk_result": '{"score":300,"tags":["13001"]}',
            "images": {"image_best": picture, "image_env": ""},
            "source_comp_details": {"alive": True, "score": 87.690, "thresholds": {"1e-3": 60}},
            "req_measure_info": {"measure_type": "query_num", "value": 1},
            **data,
        },
    }
    return json.dumps(body).encode()


def reply(status, body, **headers):
    return read_reply(status, headers, body, 1_717_200_000.0)


class Vendor:
    """A transport that knows tokens: a list of replies for each, and a count of calls."""

    def __init__(self, plays=None, otherwise=None):
        self.plays = {token: list(replies) for token, replies in (plays or {}).items()}
        self.otherwise = otherwise or (lambda token: reply(200, answer(token)))
        self.calls = []
        self._lock = threading.Lock()

    def send(self, request, timeouts):
        assert isinstance(request, requests_library.Request)
        body = json.loads(request.data)
        token = body["byted_token"]
        with self._lock:
            self.calls.append((request.url.split("Action=")[1].split("&")[0], token))
            left = self.plays.get(token)
            found = left.pop(0) if left else self.otherwise(token)
        return found(token) if callable(found) else found

    def count(self, token):
        return sum(called == token for _, called in self.calls)


def client(vendor):
    return Client(KEYS, transport=vendor)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def run(tokens, store, vendor, **options):
    options = {"rate": None, "workers": 4} | options
    return collect([request(t) for t in tokens], store, client=client(vendor), **options)


def test_answers_become_rows_once(store):
    vendor = Vendor()
    tokens = [f"T{n}" for n in range(60)]
    summary = run(tokens, store, vendor)
    assert (summary.exit_code, summary.states["OK"], summary.added) == (0, 60, 60)
    assert (summary.billed, summary.unknown) == (60, 0)
    again = run(tokens, store, vendor)
    assert (again.sent, again.already, again.added) == (0, 60, 0)
    assert all(vendor.count(token) == 1 for token in tokens)
    frame = store.read("verifications")
    assert sorted(frame.request_id) == sorted(f"id-{t}" for t in tokens)
    assert set(frame.action) == {"CertVerify"}
    assert set(frame.occurred_at_source) == {"collector"}
    assert set(frame.req_key) == {"cert_pro_src_verify"}
    assert set(frame.http_status) == {200}
    assert set(frame.image_best_bytes) == {len(PICTURE)}
    assert frame.image_best_print.isna().all()
    assert set(frame.score) == {87.69}
    expected = {keyed_hash(store.key, "token", token) for token in tokens}
    assert set(frame.token) == expected
    assert store.check() == []


def test_no_picture_and_no_secret_stays(store, tmp_path):
    tokens = [f"TOKENcanary{n}" for n in range(40)]
    vendor = Vendor(
        {tokens[0]: [NOT_SENT], tokens[1]: [LOST]}, otherwise=lambda t: reply(200, answer(t[-2:]))
    )
    run(tokens, store, vendor, image_prints=True)
    asked = Vendor(otherwise=lambda token: query_answer("settled"))
    assert resolve(store, client=client(asked), rate=None).states["IN_DOUBT"] == 0
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 5
    for path in files:
        assert b"canary" not in path.read_bytes(), path


def test_subject_context_and_prints_travel(store):
    line = {"request": request("T"), "subject": "P", "context": {"channel": "app"}}
    summary = collect([line], store, client=client(Vendor()), rate=None, image_prints=True)
    assert summary.added == 1
    row = store.read("verifications").iloc[0]
    assert row.subject == keyed_hash(store.key, "subject", "P")
    assert row.ctx_channel == "app"
    assert row.image_best_print == keyed_hash(store.print_key, "image", PICTURE)
    assert store.print_key != store.key


def test_the_same_token_twice_is_one_call(store):
    vendor = Vendor()
    summary = run(["T", "T", "U", "T"], store, vendor)
    assert (vendor.count("T"), vendor.count("U"), summary.added) == (1, 1, 2)


NOT_SENT = Reply(Outcome.NOT_SENT, billed=False, message="refused")
LOST = Reply(Outcome.LOST, message="reset")
LIMITED = reply(429, b'{"code":50429,"data":null,"message":"qps"}', **{"Retry-After": "0"})
FAULT = reply(500, b'{"code":50500,"data":null,"message":"oops"}')
REJECTED = reply(400, b'{"code":50215,"data":null,"message":"RPCProcess: x","request_id":"r"}')
REFUSED = reply(401, b'{"ResponseMetadata":{"RequestId":"g","Error":{"Code":"InvalidAccessKey"}}}')


@pytest.fixture(autouse=True)
def no_backoff(monkeypatch):
    monkeypatch.setattr("verifyanalytics.collecting.sender.BACKOFF_S", 0.0)


@pytest.mark.parametrize(
    ("plays", "state", "calls", "exit_code"),
    [
        ([NOT_SENT, NOT_SENT], "OK", 3, 0),
        ([NOT_SENT] * 5, "PLANNED", 5, 6),
        ([LIMITED] * 3, "OK", 4, 0),
        ([REJECTED], "REJECTED", 1, 0),
        ([LOST], "IN_DOUBT", 1, 4),
        ([FAULT], "IN_DOUBT", 1, 4),
        ([reply(200, b"<html>")], "UNPARSED", 1, 4),
        ([reply(200, b"")], "UNPARSED", 1, 4),
        ([REFUSED], "PLANNED", 1, 5),
        ([Reply(Outcome.TLS, billed=False)], "PLANNED", 1, 5),
    ],
)
def test_each_outcome_ends_in_its_state(store, plays, state, calls, exit_code):
    vendor = Vendor({"T": plays})
    summary = run(["T"], store, vendor)
    assert summary.states[state] == 1
    assert vendor.count("T") == calls
    assert summary.exit_code == exit_code
    assert summary.added == (state in {"OK", "REJECTED"})


def test_an_answer_that_is_not_strict_json_is_never_called_again(store):
    odd = b'{"code":10000,"data":{"x":"\\ud800"},"request_id":"1"}'
    vendor = Vendor({"T": [reply(200, odd)]})
    assert run(["T"], store, vendor).states["UNPARSED"] == 1
    run(["T"], store, vendor)
    assert vendor.count("T") == 1


def test_a_long_wish_to_wait_stops_the_run(store):
    vendor = Vendor({"T": [reply(429, LIMITED.body, **{"Retry-After": "121"})]})
    summary = run(["T"], store, vendor)
    assert (summary.exit_code, summary.states["PLANNED"]) == (6, 1)
    assert "121 s" in summary.stopped


def test_the_clock_is_corrected_once_then_the_run_stops(store):
    body = b'{"ResponseMetadata":{"RequestId":"g","Error":{"Code":"InvalidTimestamp"}}}'
    late = reply(403, body, Date="Sat, 01 Jun 2024 00:00:00 GMT")
    assert run(["T"], store, Vendor({"T": [late]})).exit_code == 0
    summary = run(["U"], store, Vendor({"U": [late, late]}))
    assert (summary.exit_code, summary.states["PLANNED"]) == (5, 1)


def test_five_in_a_row_without_an_outcome_stop_the_run(store):
    vendor = Vendor(otherwise=lambda token: LOST)
    summary = run([f"T{n}" for n in range(50)], store, vendor, workers=1)
    assert (len(vendor.calls), summary.states["IN_DOUBT"]) == (5, 5)
    assert summary.exit_code == 4
    assert "in a row" in summary.stopped


def test_the_budget_is_kept(store):
    vendor = Vendor()
    summary = run([f"T{n}" for n in range(30)], store, vendor, max_calls=7)
    assert len(vendor.calls) == summary.sent == 7
    assert (summary.states["OK"], summary.states["PLANNED"], summary.exit_code) == (7, 23, 6)
    assert summary.added == 7


def test_a_stop_from_outside_finishes_what_is_in_flight(store):
    stop = threading.Event()

    def stopping(token):
        stop.set()
        return reply(200, answer(token))

    vendor = Vendor(otherwise=stopping)
    summary = run([f"T{n}" for n in range(100)], store, vendor, stop=stop, workers=2)
    assert summary.states["OK"] == len(vendor.calls) == summary.added
    assert len(vendor.calls) <= 3
    assert summary.states["SENT"] == 0


def test_invalid_lines_are_counted_and_the_rest_is_sent(store, tmp_path):
    path = tmp_path / "requests.jsonl"
    lines = [json.dumps(request("T1")), "nonsense", json.dumps(request("T2"))]
    path.write_text("\n".join(lines))
    summary = collect(path, store, client=client(Vendor()), rate=None)
    assert (summary.read, summary.invalid, summary.added, summary.exit_code) == (3, 1, 2, 3)
    assert summary.refused[0][0] == 2


def test_a_dry_run_sends_and_writes_nothing(store, tmp_path):
    summary = collect([request("T1"), request("T2"), {"a": 1}], store, dry_run=True)
    assert (summary.new, summary.invalid, summary.exit_code) == (2, 1, 3)
    assert "at most 2 billed calls" in str(summary)
    assert list(tmp_path.iterdir()) == []
    run(["T1"], store, Vendor())
    assert collect([request("T1"), request("T2")], store, dry_run=True).new == 1


def query_answer(token):
    return reply(200, answer(token, verify_algorithm_base_resp={"status_code": 0}))


NOTHING = reply(200, b'{"code":10000,"data":null,"message":"no record","request_id":"q"}')


def dated(status, body, ahead=0.0):
    """A reply with the server's date, whose clock may be ahead of ours."""
    return reply(status, body, Date=formatdate(time.time() + ahead, usegmt=True))


def nothing_now(ahead=0.0):
    return dated(200, NOTHING.body, ahead)


@pytest.mark.parametrize(
    ("other", "n_proved"),
    [
        ({}, 1),
        ({"endpoint": "http://127.0.0.2:9"}, 0),
        ({"credentials": Credentials("AKother", "SKcanary")}, 0),
        ({"no_result": (50215, 201202)}, 0),
        ({"no_result": (10000, 7)}, 0),
        ({"answer": NOTHING}, 0),  # without a date
        ({"ahead": -600}, 0),  # 0 s old by the server's clock at both ends
        ({"ahead": 600}, 0),  # 0 s old, though 600 s by our clock
        ({"ahead": 4300}, 0),  # over the hour
    ],
)
def test_a_query_proves_only_at_the_same_place_and_by_the_servers_clock(store, other, n_proved):
    """The call went out when our clock was 600 s slow; the server's answers tell."""
    run(["T"], store, Vendor({"T": [dated(500, FAULT.body, 600)]}))
    asked = Vendor(otherwise=lambda t: other.get("answer") or nothing_now(other.get("ahead", 900)))
    asker = Client(
        other.get("credentials", KEYS),
        **({"endpoint": other["endpoint"]} if "endpoint" in other else {}),
        transport=asked,
    )
    no_result = other.get("no_result", (10000, None))
    summary = resolve(store, client=asker, rate=None, grace_s=200, no_result=no_result)
    assert summary.states["NOT_PROCESSED"] == n_proved


def test_a_call_whose_server_time_is_unknown_stays_in_doubt(store):
    run(["T"], store, Vendor({"T": [LOST]}))
    asked = client(Vendor(otherwise=lambda t: nothing_now(900)))
    summary = resolve(store, client=asked, rate=None, grace_s=0, no_result=(10000, None))
    assert summary.states["IN_DOUBT"] == 1


@pytest.mark.parametrize(
    ("answer_", "state", "exit_code"),
    [
        (reply(200, b"<html>maintenance"), "UNPARSED", 5),
        (reply(404, b"<html>"), "PLANNED", 5),
        (reply(402, b'{"code":50402,"data":null,"message":"overdue"}'), "REJECTED", 5),
        (reply(401, b'{"code":50400,"data":null,"message":"Access Denied"}'), "PLANNED", 5),
    ],
)
def test_the_same_failure_in_a_row_stops_the_run(store, answer_, state, exit_code):
    vendor = Vendor(otherwise=lambda token: answer_)
    summary = run([f"T{n}" for n in range(300)], store, vendor, workers=8)
    assert len(vendor.calls) <= 18
    assert summary.states[state] >= 5
    assert summary.exit_code == exit_code
    assert "in a row" in summary.stopped


def test_refusals_with_a_sub_code_stop_nothing(store):
    body = b'{"code":50215,"data":{"algorithm_base_resp":{"status_code":210301}},"message":"x"}'
    vendor = Vendor(otherwise=lambda token: reply(400, body))
    summary = run([f"T{n}" for n in range(40)], store, vendor)
    assert (summary.states["REJECTED"], summary.exit_code, summary.stopped) == (40, 0, None)


def test_one_call_that_is_always_denied_is_set_aside(store):
    denied = reply(401, b'{"code":50400,"data":null,"message":"Access Denied"}')
    tokens = [f"T{n}" for n in range(40)]
    vendor = Vendor({"T5": [denied] * 9})
    for _ in range(2):
        summary = run(tokens, store, vendor)
        assert (summary.states["OK"], summary.states["PLANNED"], summary.exit_code) == (39, 1, 5)
        assert "1 calls were set aside" in summary.stopped
    assert vendor.count("T5") == 2


def test_what_shows_a_price_is_never_sent_again(store):
    billed = json.loads(answer("T"))
    for code, status_ in ((None, 429), (50215, 429), (50429, 200), (50400, 400), (50500, 500)):
        token = f"T{code}{status_}"
        body = json.dumps(billed | {"code": code, "request_id": token}).encode()
        vendor = Vendor({token: [reply(status_, body)]})
        summary = run([token], store, vendor)
        assert (vendor.count(token), summary.states["PLANNED"]) == (1, 0)
    assert (summary.billed, summary.unknown) == (5, 0)


def test_redo_plans_refusals_again_for_a_reason(store):
    overdue = reply(402, b'{"code":50402,"data":null,"message":"overdue","request_id":"r1"}')
    body = b'{"code":50402,"data":{"req_measure_info":{"value":1}},"request_id":"r2"}'
    tokens = ["A", "B"]
    run(tokens, store, Vendor({"A": [overdue], "B": [reply(402, body)]}))
    assert run(tokens, store, Vendor()).sent == 0
    with pytest.raises(UsageError, match="reason"):
        redo(store, code=50402, reason=" ")
    assert redo(store, code=50400, reason="paid") == 0
    assert redo(store, code=50402, reason="paid") == 1
    vendor = Vendor()
    summary = run(tokens, store, vendor)
    assert (vendor.count("A"), vendor.count("B"), summary.states["OK"]) == (1, 0, 1)
    scores = store.scan(columns=["score"], where="result").fetchall()
    assert scores == [(87.69,)]  # the second answer of the token is a row
    assert redo(store, code=50402, reason="paid") == 0


def test_resolve_settles_by_query_and_never_calls_again(store):
    vendor = Vendor({"T": [LOST], "U": [reply(200, b"<html>")], "V": [dated(500, FAULT.body)]})
    run(["T", "U", "V"], store, vendor)
    asked = Vendor({"V": [NOTHING, NOTHING, NOTHING, NOTHING, NOTHING]}, otherwise=query_answer)
    summary = resolve(store, client=client(asked), rate=None, workers=2)
    assert {action for action, _ in asked.calls} == {"CertVerifyQuery"}
    assert (summary.states["OK"], summary.states["IN_DOUBT"]) == (2, 1)
    assert (summary.added, summary.exit_code) == (2, 4)
    nothing = client(Vendor(otherwise=lambda t: nothing_now()))
    late = resolve(store, client=nothing, rate=None, grace_s=0)
    assert (late.states["IN_DOUBT"], late.exit_code) == (1, 4)
    assert "--no-result-code" in late.stopped
    late = resolve(store, client=nothing, rate=None, grace_s=0, no_result=(10000, None))
    assert (late.states["NOT_PROCESSED"], late.exit_code) == (1, 0)
    assert len(store.read("verifications")) == 2
    assert run(["T", "U", "V"], store, vendor).sent == 0
    assert run(["T", "U", "V"], store, vendor, again=True).sent == 1


def test_a_failing_query_settles_nothing(store):
    run(["T"], store, Vendor({"T": [LOST]}))
    for broken in (LOST, FAULT, NOT_SENT, reply(200, b"<html>")):
        asked = Vendor(otherwise=lambda t, broken=broken: broken)
        summary = resolve(store, client=client(asked), rate=None, grace_s=0)
        assert summary.states["IN_DOUBT"] == 1
        assert len(asked.calls) == 5


def test_query_collects_what_others_called(store):
    vendor = Vendor({"A": [NOTHING, LOST]}, otherwise=query_answer)
    summary = query(
        [{"byted_token": t} for t in "ABC"], store, client=client(vendor), rate=None, workers=2
    )
    assert (summary.states["OK"], summary.added, summary.exit_code) == (3, 3, 0)
    assert vendor.count("A") == 3
    assert set(store.read("verifications").action) == {"CertVerifyQuery"}


def test_mark_needs_a_call_in_doubt_and_a_reason(store):
    run(["T", "U"], store, Vendor({"T": [LOST]}))
    key = keyed_hash(store.key, "token", "T")
    with pytest.raises(UsageError, match="needs a reason"):
        mark(store, key[:8], "REJECTED", reason=" ")
    with pytest.raises(UsageError, match="not OK"):
        mark(store, key[:8], "OK", reason="seen")
    with pytest.raises(UsageError, match="0 calls"):
        mark(store, keyed_hash(store.key, "token", "U")[:8], "REJECTED", reason="seen")
    with pytest.raises(UsageError, match="not UTF-8"):
        mark(store, key[:8], "NOT_PROCESSED", reason="console says no \udcff")
    marked = mark(store, key[:8], "NOT_PROCESSED", reason="the console shows no call")
    assert (marked.state, marked.note) == ("NOT_PROCESSED", "the console shows no call")
    assert status(store).exit_code == 0


def test_status_needs_a_journal(store):
    store.create()
    with pytest.raises(UsageError, match="collect first"):
        status(store)


def test_an_answer_the_store_missed_is_delivered_by_the_next_run(store, monkeypatch):
    """As after a crash between journal and store."""
    vendor = Vendor()
    with monkeypatch.context() as broken:
        broken.setattr(collect_run, "deliver", lambda book, into: Delivered())
        assert run(["T1", "T2"], store, vendor).added == 0
    assert run(["T3"], store, vendor).added == 3
    assert run([], store, vendor).added == 0
    assert store.check() == []


def test_reflatten_mends_rows_in_their_place(store, monkeypatch):
    """A parser that dropped scores and shortened messages is mended; nothing else changes."""
    with monkeypatch.context() as broken:
        read = responses.read_response

        def careless(*args, **options):
            row = read(*args, **options)
            return row | {"score": None, "issues": ["bug"]} if row["request_id"] != "id-T3" else row

        broken.setattr("verifyanalytics.parsing.fast.flattener.read_response", careless)
        run(["T1", "T2", "T3"], store, Vendor())
    run(["T4"], store, Vendor())
    before = store.read("verifications").set_index("request_id")
    assert before.score.isna().sum() == 2
    done = reflatten(store)
    assert (done.read, done.changed, done.refused) == (4, 2, 0)
    after = store.read("verifications").set_index("request_id")
    assert set(after.score) == {87.69}
    assert after.batch.to_dict() == before.batch.to_dict()
    assert [list(issues) for issues in after.issues] == [[]] * 4
    assert store.check(deep=True) == []
    assert reflatten(store).changed == 0
    assert run(["T1", "T2", "T3", "T4"], store, Vendor()).sent == 0


def test_replacing_a_row_that_is_not_there_changes_nothing(store):
    run(["T1"], store, Vendor())
    rows = store.scan("verifications").to_arrow_table().drop_columns("month")
    wrong = rows.set_column(rows.column_names.index("source_row"), "source_row", pa.array([9]))
    with pytest.raises(StorageError, match="no stored row"):
        store.replace_rows(wrong)
    assert len(store.read("verifications")) == 1
    assert store.check(deep=True) == []


def test_progress_and_log_hold_no_secret(store):
    told, logged = [], []
    vendor = Vendor({"TOKENcanary": [LOST]})
    run(["TOKENcanary", "T2"], store, vendor, progress=told.append, log=logged.append)
    assert {event["event"] for event in logged} == {"lost", "answered"}
    assert "canary" not in json.dumps(logged)
    assert "canary" not in str(told)


def test_the_log_counts_attempts_over_all_runs(store):
    logged = []
    run(["T"], store, Vendor({"T": [NOT_SENT] * 5}), log=logged.append)
    run(["T"], store, Vendor({"T": [LIMITED]}), log=logged.append)
    assert [event["attempt"] for event in logged] == [1, 2, 3, 4, 5, 6, 7]
    assert all(isinstance(event["ms"], int) and event["ms"] >= 0 for event in logged)
    assert logged[-1].keys() == {
        "time", "event", "key", "attempt", "http_status", "code", "gateway_code", "request_id",
        "ms", "bytes", "state",
    }  # fmt: skip


def test_progress_says_how_long_the_rest_takes(store, tmp_path, monkeypatch):
    path = tmp_path / "requests.jsonl"
    path.write_text("\n".join(["nonsense", *(json.dumps(request(f"T{n}")) for n in range(99))]))
    run([f"T{n}" for n in range(40)], store, Vendor())
    moments = iter(range(10**6))
    monkeypatch.setattr("time.monotonic", lambda: float(next(moments)))  # a second each look
    told = []
    collect(path, store, client=client(Vendor()), rate=None, workers=1, progress=told.append)
    assert {now["total"] for now in told} == {100}
    done = [now["done"] for now in told]
    assert done == sorted(done)
    assert min(done) >= 41  # what was refused or known is passed over before the first call goes
    last = told[-1]
    n_sent = last["done"] - 41
    assert last["left_s"] == pytest.approx((100 - last["done"]) * last["seconds"] / n_sent)


def test_progress_is_told_while_the_last_calls_are_in_flight(store):
    told = []
    twice = threading.Event()

    def progress(now):
        told.append(now["done"])
        if len(told) == 2:
            twice.set()

    def slow(token):
        assert twice.wait(30)
        return reply(200, answer(token))

    summary = run(["T"], store, Vendor(otherwise=slow), progress=progress)
    assert summary.states["OK"] == 1
    assert told[:2] == [0, 0]


def test_a_log_that_cannot_be_written_stops_the_run(store):
    def full(event):
        raise OSError(errno.ENOSPC, "No space left on device")

    vendor = Vendor()
    summary = run([f"T{n}" for n in range(100)], store, vendor, log=full)
    assert (summary.exit_code, summary.states["SENT"]) == (7, 0)
    assert "log cannot be written: No space" in summary.stopped
    assert len(vendor.calls) == summary.states["OK"] == summary.added <= 4


def test_a_log_that_fails_otherwise_ends_the_run_too(store):
    def broken(event):
        raise KeyError(event["key"])

    summary = run([f"T{n}" for n in range(100)], store, Vendor(), log=broken)
    assert (summary.exit_code, summary.states["SENT"]) == (1, 0)
    assert "KeyError in test_verbs.py" in summary.stopped
    assert summary.added == summary.states["OK"]


@pytest.mark.parametrize(
    "options", [{"rate": 0}, {"rate": -1}, {"max_calls": 0}, {"workers": 0}, {"workers": 1.5}]
)
def test_options_that_cannot_be_are_refused_before_anything(store, options):
    vendor = Vendor()
    with pytest.raises(UsageError, match=next(iter(options))):
        run(["T"], store, vendor, **options)
    assert vendor.calls == []


# --- a journal that does not know what was sent ----------------------------------------------


def test_what_the_store_has_an_answer_for_is_not_sent_again(store, tmp_path):
    vendor = Vendor({"R": [REJECTED]})
    run(["A", "B", "R"], store, vendor)
    other = tmp_path / "other" / "j.sqlite"
    summary = collect([request(t) for t in "ABRC"], store, dry_run=True, journal=other)
    assert (summary.new, summary.already) == (1, 3)
    summary = run(["A", "B", "R", "C"], store, vendor, journal=other)
    assert (summary.new, summary.already, summary.sent) == (1, 3, 1)
    assert [vendor.count(token) for token in "ABRC"] == [1, 1, 1, 1]
    assert len(store.read("verifications")) == 4


def test_what_was_planned_here_and_answered_elsewhere_is_not_sent(store, tmp_path):
    vendor = Vendor()
    assert run(["A", "B"], store, vendor, max_calls=1, workers=1).states["PLANNED"] == 1
    run(["A", "B"], store, vendor, journal=tmp_path / "other" / "j.sqlite")
    assert collect([request(t) for t in "AB"], store, dry_run=True).new == 0
    assert run(["A", "B"], store, vendor).sent == 0
    assert (vendor.count("A"), vendor.count("B")) == (1, 1)


def test_a_refusal_in_the_store_is_no_answer(store, tmp_path):
    lines = tmp_path / "backend.jsonl"
    refusal = {"code": 50429, "data": None, "message": "qps", "request_id": "x"}
    lines.write_text(json.dumps({"response": refusal, "byted_token": "A"}))
    import_responses([lines], store)
    assert len(store.read("verifications")) == 1
    assert run(["A"], store, Vendor()).sent == 1


def test_a_journal_that_was_emptied_is_refused(store):
    vendor = Vendor()
    run(["A", "B"], store, vendor)
    collecting.journal_path(store).write_bytes(b"")
    for again in (lambda: run(["A", "B"], store, vendor), lambda: status(store)):
        with pytest.raises(StorageError, match="damaged"):
            again()
    assert len(vendor.calls) == 2


# --- calls that were proved unprocessed ------------------------------------------------------


@pytest.fixture
def unprocessed(store):
    """Calls A and B of which a query proved that nothing was processed."""
    fault = dated(500, FAULT.body)
    run(["A", "B", "C"], store, Vendor({"A": [fault], "B": [fault]}))
    nothing = client(Vendor(otherwise=lambda token: nothing_now()))
    proof = {"grace_s": 0, "no_result": (10000, None)}
    assert resolve(store, client=nothing, rate=None, **proof).states["NOT_PROCESSED"] == 2
    return store


def test_again_sends_those_of_the_input_only(unprocessed):
    lines = [request("A"), request("C")]
    assert collect(lines, unprocessed, dry_run=True).new == 0
    assert collect(lines, unprocessed, dry_run=True, again=True).new == 1
    vendor = Vendor()
    summary = run(["A", "C"], unprocessed, vendor, again=True)
    assert (summary.new, summary.already, summary.sent) == (1, 1, 1)
    assert vendor.count("A") == 1
    assert status(unprocessed).states["NOT_PROCESSED"] == 1


def test_again_with_a_file_that_is_not_there_changes_nothing(unprocessed, tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        collect(tmp_path / "none", unprocessed, client=client(Vendor()), again=True)
    assert status(unprocessed).states["NOT_PROCESSED"] == 2
    assert run(["A", "B", "C"], unprocessed, Vendor()).sent == 0


def test_a_token_that_stood_twice_needs_no_budget(store):
    vendor = Vendor()
    summary = run(["T", "T"], store, vendor, max_calls=1, workers=1)
    assert (summary.exit_code, summary.stopped, vendor.count("T")) == (0, None, 1)
    summary = run(["U", "U", "V"], store, vendor, max_calls=1, workers=1)
    assert (summary.exit_code, summary.states["PLANNED"]) == (6, 1)


# --- status -----------------------------------------------------------------------------------


def test_status_lists_what_a_person_can_mark(store):
    run(["T", "U", "V"], store, Vendor({"T": [LOST], "U": [reply(200, b"<html>")]}))
    stands = status(store)
    found = {call.key: call for call in stands.open_calls}
    keys = {token: keyed_hash(store.key, "token", token) for token in "TU"}
    assert set(found) == set(keys.values())
    assert (found[keys["T"]].state, found[keys["T"]].message) == ("IN_DOUBT", "reset")
    assert 0 <= found[keys["U"]].seconds < 600
    assert (stands.exit_code, stands.undelivered, stands.in_use) == (4, 0, False)
    told = str(stands)
    assert "0 answers not in the store yet" in told
    assert "sent" not in told
    mark(store, stands.open_calls[0].key[:8], "NOT_PROCESSED", reason="seen")
    assert len(status(store).open_calls) == 1


def test_status_counts_answers_that_the_store_lacks(store, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr(collect_run, "deliver", lambda book, into: Delivered())
        run(["T1", "T2"], store, Vendor())
    assert status(store).undelivered == 2
    run([], store, Vendor())
    assert status(store).undelivered == 0


def test_status_and_a_dry_run_look_on_while_another_collects(store):
    run(["T"], store, Vendor({"T": [LOST]}))
    with collecting.open_journal(store) as book:
        book.plan([("k", "CertVerify", "q")])
        stands = status(store)
        assert (stands.in_use, stands.exit_code, stands.states["PLANNED"]) == (True, 4, 1)
        assert "another process is collecting" in str(stands)
        assert collect([request("T"), request("U")], store, dry_run=True).new == 1
        with pytest.raises(StorageError, match="in use"):
            run(["U"], store, Vendor())


# --- queries ----------------------------------------------------------------------------------


def ask(tokens, store, vendor, **options):
    options = {"rate": None, "workers": 1} | options
    return query([{"byted_token": t} for t in tokens], store, client=client(vendor), **options)


def test_a_token_without_a_result_leaves_the_query_unfinished(store):
    vendor = Vendor({"A": [NOTHING] * 5}, otherwise=query_answer)
    summary = ask("AB", store, vendor)
    assert (summary.states["PLANNED"], summary.states["OK"], summary.exit_code) == (1, 1, 6)
    assert "without a result: 1;" in summary.stopped
    assert ask("AB", store, vendor).exit_code == 0
    assert (vendor.count("A"), vendor.count("B")) == (6, 1)


def test_a_dry_run_of_queries_costs_nothing(store):
    summary = query([{"byted_token": "A"}], store, dry_run=True)
    assert summary.new == 1
    assert "billed" not in str(summary)
    assert "free" in str(summary)


def test_a_query_that_was_killed_is_asked_again(store):
    key = keyed_hash(store.key, "token", "A")
    with collecting.open_journal(store) as book:
        book.plan([(key, "CertVerifyQuery", "cert_pro_verify_query")])
        book.send(key, "A")
    assert query([{"byted_token": "A"}], store, dry_run=True).new == 1
    assert status(store).states["IN_DOUBT"] == 1
    assert query([{"byted_token": "A"}], store, dry_run=True).new == 1
    unsure = ask("A", store, Vendor(otherwise=lambda token: NOTHING))
    assert (unsure.states["IN_DOUBT"], unsure.exit_code) == (1, 4)
    vendor = Vendor(otherwise=query_answer)
    twice = ["A", *(f"T{n}" for n in range(300)), "A"]  # in two chunks
    summary = ask(twice, store, vendor, workers=8)
    assert (summary.states["OK"], summary.added, summary.exit_code) == (301, 301, 0)
    assert {called for called in vendor.calls if called[1] == "A"} == {("CertVerifyQuery", "A")}


def test_a_query_never_makes_a_call_in_doubt_one_to_send(store):
    run(["A"], store, Vendor({"A": [LOST]}))
    for answer_ in (NOTHING, LOST, FAULT, LIMITED):
        ask("A", store, Vendor({"A": [answer_] * 20}, otherwise=lambda token: NOTHING))
        assert status(store).states["IN_DOUBT"] == 1
    assert run(["A"], store, Vendor()).sent == 0


@pytest.mark.parametrize("lost", [LOST, FAULT])
def test_five_queries_in_a_row_that_were_given_up_stop_the_run(store, lost):
    vendor = Vendor(otherwise=lambda token: lost)
    summary = ask([f"T{n}" for n in range(50)], store, vendor)
    assert len(vendor.calls) == 5 * 5
    assert (summary.exit_code, summary.states["PLANNED"]) == (6, 50)
    assert "in a row" in summary.stopped


@pytest.mark.parametrize(
    ("stopped", "in_doubt", "rejected", "code"),
    [
        (None, 0, 0, 0),
        (None, 0, 1, 3),
        (None, 1, 1, 4),
        (Stopped(6, ""), 0, 1, 6),
        (Stopped(6, ""), 1, 1, 4),
        (Stopped(5, ""), 1, 1, 5),
        (Stopped(7, ""), 1, 1, 7),
    ],
)
def test_the_first_exit_code_in_order_stands(stopped, in_doubt, rejected, code):
    assert exit_code_of(stopped, in_doubt=in_doubt, rejected=rejected) == code
