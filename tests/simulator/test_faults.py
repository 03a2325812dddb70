"""Every fault on the wire and on the bill."""

from __future__ import annotations

import email.utils
import json
import time
import zlib

import pytest
from builders.signed_calls import (
    Clock,
    Got,
    call,
    exchange,
    good,
    raw_call,
    request_bytes,
    signed,
)

from verifyanalytics.simulator import (
    FAULTS,
    parse_script,
    serve,
)
from verifyanalytics.simulator.server.faults import HttpReply, Send


def status(code, *, header=None, contains=b""):
    def check(data, error):
        assert error is None
        got = Got(data)
        assert got.status == code
        assert int(got.headers["content-length"]) == len(got.body)
        assert contains in got.body
        assert header is None or header in got.headers

    return check


def body_is(condition):
    def check(data, error):
        assert error is None
        got = Got(data)
        assert got.status in (200, 400)
        assert int(got.headers["content-length"]) == len(got.body)
        assert condition(got.body)

    return check


def reset(*, bytes_first):
    def check(data, error):
        assert isinstance(error, ConnectionResetError)
        assert bool(data) == bytes_first
        if bytes_first:
            got = Got(data)
            assert 0 < len(got.body) < int(got.headers["content-length"])

    return check


def closed(data, error):
    assert (data, error) == (b"", None)


def silent(data, error):
    assert isinstance(error, TimeoutError)
    assert data == b""


def silent_mid_body(data, error):
    assert isinstance(error, TimeoutError)
    got = Got(data)
    assert 0 < len(got.body) < int(got.headers["content-length"])


def trickles(data, error):
    assert isinstance(error, TimeoutError)
    assert 1 <= len(data.partition(b"\r\n\r\n")[2]) <= 3


def trickles_from_the_start(data, error):
    assert isinstance(error, TimeoutError)
    assert b"HTTP/1.1 200 OK".startswith(data[:3])
    assert 1 <= len(data) <= 3


def length_is(condition):
    def check(data, error):
        assert error is None
        got = Got(data)
        assert condition(got.headers["content-length"], len(got.body))

    return check


def broken_chunks(data, error):
    assert error is None
    got = Got(data)
    assert got.headers["transfer-encoding"] == "chunked"
    assert "content-length" not in got.headers
    assert unchunked(got.body) is None


def good_chunks(data, error):
    assert error is None
    assert json.loads(unchunked(Got(data).body))["code"] in (10000, 50215)


def unchunked(data):
    """The body, or None where it is cut or no chunk begins."""
    body = b""
    while True:
        size, sep, data = data.partition(b"\r\n")
        try:
            length = int(size, 16)
        except ValueError:
            return None
        if not sep or len(data) < length + 2:
            return None
        if length == 0:
            return body
        body, data = body + data[:length], data[length + 2 :]


def bomb(data, error):
    assert error is None
    got = Got(data)
    assert got.headers["content-encoding"] == "gzip"
    assert len(got.body) < 4 << 20
    squeeze, size = zlib.decompressobj(31), 0
    while not squeeze.eof:
        size += len(squeeze.decompress(squeeze.unconsumed_tail or got.body, 1 << 20))
        got.body = b""
    assert size == 256 << 20


def as_gzip(data, error):
    assert error is None
    got = Got(data)
    assert got.headers["content-encoding"] == "gzip"
    assert json.loads(zlib.decompress(got.body, 31))["code"] in (10000, 50215)


def big_header(data, error):
    assert error is None
    assert len(Got(data).headers["x-padding"]) == 100_000
    good(data)


def many_headers(data, error):
    assert error is None
    assert len(Got(data).headers) > 300
    good(data)


def no_http(data, error):
    assert error is None
    assert data
    assert not data.startswith(b"HTTP/")


def without_length(data, error):
    assert error is None
    got = Got(data)
    assert "content-length" not in got.headers
    assert json.loads(got.body)["code"] in (10000, 50215)


def continued(data, error):
    assert error is None
    interim, _, rest = data.partition(b"\r\n\r\n")
    assert interim == b"HTTP/1.1 100 Continue"
    good(rest)


def latin1(body):
    with pytest.raises(UnicodeDecodeError):
        body.decode()
    return json.loads(body.decode("latin-1"))["code"] in (10000, 50215)


def not_json_text(body):
    with pytest.raises(json.JSONDecodeError):
        json.loads(body)
    return body


# what each fault does on the wire, and whether it was processed before: written out once more
EXPECTED = {
    "rate_50429": (False, status(429, contains=b'"code":50429')),
    "rate_50430": (False, status(429, contains=b'"code":50430')),
    "flow_limit": (False, status(429, contains=b"FlowLimitExceeded")),
    "html_429": (False, status(429, contains=b"<html>")),
    "denied_50400": (False, status(401, contains=b'"code":50400')),
    "signature": (False, status(401, contains=b"SignatureDoesNotMatch")),
    "timestamp": (False, status(403, contains=b"InvalidTimestamp")),
    "lack_policy": (False, status(403, contains=b"LackPolicy")),
    "clock_skew": (True, lambda data, error: good(data)),
    "internal_50500": (False, status(500, contains=b'"code":50500')),
    "rpc_50501": (True, status(500, contains=b'"code":50501')),
    "gateway_500": (False, status(500, contains=b"InternalError")),
    "html_502": (False, status(502, contains=b"<html>")),
    "html_503": (False, status(503, contains=b"<html>")),
    "html_504": (True, status(504, contains=b"<html>")),
    "reset_before": (False, reset(bytes_first=False)),
    "reset_after": (True, reset(bytes_first=False)),
    "close_before": (False, closed),
    "close_after": (True, closed),
    "stall_before": (False, silent),
    "stall": (True, silent),
    "reset_mid_body": (True, reset(bytes_first=True)),
    "stall_mid_body": (True, silent_mid_body),
    "trickle": (True, trickles),
    "slow_head": (True, trickles_from_the_start),
    "long_length": (True, length_is(lambda said, sent: int(said) > sent)),
    "short_length": (True, length_is(lambda said, sent: int(said) < sent)),
    "garbage_length": (True, length_is(lambda said, sent: not said.isdigit())),
    "truncated_chunk": (True, broken_chunks),
    "bad_chunk": (True, broken_chunks),
    "truncated_json": (True, body_is(not_json_text)),
    "empty_200": (True, body_is(lambda body: body == b"")),
    "not_json": (True, body_is(not_json_text)),
    "bom": (True, body_is(lambda body: body.startswith(b"\xef\xbb\xbf{"))),
    "latin1": (True, body_is(latin1)),
    "utf16": (True, body_is(lambda body: json.loads(body.decode("utf-16"))["data"])),
    "array": (True, body_is(lambda body: body == b"[]")),
    "no_code": (True, body_is(lambda body: "code" not in json.loads(body))),
    "gzip": (True, as_gzip),
    "gzip_bomb": (True, bomb),
    "huge_body": (True, body_is(lambda body: len(body) == 33 << 20)),
    "big_header": (True, big_header),
    "many_headers": (True, many_headers),
    "not_http": (True, no_http),
    "redirect_301": (False, status(301, header="location")),
    "redirect_302": (False, status(302, header="location")),
    "redirect_307": (False, status(307, header="location")),
    "redirect_308": (False, status(308, header="location")),
    "chunked": (True, good_chunks),
    "no_length": (True, without_length),
    "continue_100": (True, continued),
    "slow": (True, silent),
}


def test_every_fault_is_tried():
    assert set(EXPECTED) == set(FAULTS)


@pytest.mark.parametrize("name", EXPECTED)
def test_fault_on_the_wire_and_on_the_bill(name):
    processed, check = EXPECTED[name]
    with serve(seed=1, faults=f"{name} calls=1") as running:
        waits = check in (silent, silent_mid_body, trickles, trickles_from_the_start)
        check(*raw_call(running, timeout=0.4 if waits else 30.0))
        calls = running.calls("t")
        assert calls.processed == processed
        assert calls.refused == (not processed)
        assert calls.faults == {name: 1}
        assert FAULTS[name].processed == processed
        # the next call is not struck, and finds the token used exactly if it was processed
        good(raw_call(running)[0])
        assert running.calls("t").repeated == processed


@pytest.mark.parametrize("name", [name for name, kind in FAULTS.items() if kind.open])
@pytest.mark.parametrize("processed", [True, False])
def test_faults_that_may_come_before_or_after(name, processed):
    script = f"{name} processed={'yes' if processed else 'no'}"
    with serve(faults=script) as running:
        raw_call(running)
        assert running.calls("t").processed == processed


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        ("7", "7"),
        ("0", "0"),
        ("huge", "86400"),
        ("garbage", "soon, I hope"),
        ("negative", "-5"),
        ("fraction", "1.5"),
        ("absent", None),
    ],
)
@pytest.mark.parametrize("name", ["rate_50429", "flow_limit", "html_429", "html_503"])
def test_every_form_of_retry_after(name, wish, expected):
    with serve(faults=f"{name} retry_after={wish}") as running:
        assert Got(raw_call(running)[0]).headers.get("retry-after") == expected


@pytest.mark.parametrize(("wish", "ahead"), [("date:30", 30), ("date", 2), ("past", -3600)])
def test_retry_after_as_a_date(wish, ahead):
    clock = Clock()
    clock.now = float(int(time.time()))
    with serve(faults=f"rate_50429 retry_after={wish}", clock=clock) as running:
        got = Got(raw_call(running)[0])
        moment = email.utils.parsedate_to_datetime(got.headers["retry-after"]).timestamp()
        assert moment - clock.now == ahead


def test_clock_skew_refuses_until_the_caller_follows():
    with serve(faults="clock_skew seconds=3600") as running:
        got = call(running, "t")
        assert got.gateway == "InvalidTimestamp"
        told = email.utils.parsedate_to_datetime(got.headers["date"]).timestamp()
        assert told - time.time() == pytest.approx(3600, abs=5)
        assert running.calls("t").processed == 0
        assert call(running, "t", at=told).json["code"] in (10000, 50215)
        assert running.calls("t").processed == 1


def test_a_redirect_that_is_followed_is_seen(service):
    before = service.bill().stray
    body = b"{}"
    target = "/elsewhere?Action=CertVerify&Version=2022-08-31"
    headers = {**signed(service, body, target), "connection": "close"}
    assert Got(exchange(service, request_bytes(headers, body, target))[0]).status == 404
    assert service.bill().stray == before + 1


def test_a_stall_ends_when_it_is_told_to():
    with serve(faults="stall seconds=0.2\nstall_mid_body seconds=0.2 calls=2") as running:
        began = time.monotonic()
        good(raw_call(running)[0])
        assert time.monotonic() - began >= 0.2


def test_latency_comes_before_each_reply():
    with serve(latency=0.15) as running:
        began = time.monotonic()
        good(raw_call(running)[0])
        assert time.monotonic() - began >= 0.15


def test_steps_of_a_fault_are_plain_values():
    reply = HttpReply(200, b'{"code":10000}', now=0.0)
    (rule,) = parse_script("empty_200")
    (step,) = rule.steps(reply)
    assert isinstance(step, Send)
    assert step.data == (
        b"HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
        b"Content-Type: application/json; charset=utf-8\r\nContent-Length: 0\r\n\r\n"
    )


def test_faults_from_a_file(tmp_path):
    (tmp_path / "faults.txt").write_text("array\n", encoding="utf-8")
    with serve(faults=tmp_path / "faults.txt") as running:
        assert call(running).json == []
