import email.utils
import hashlib
import hmac
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from verifyanalytics.cli.serve import serve as serve_verb
from verifyanalytics.errors import StorageError, UsageError
from verifyanalytics.simulator import (
    FAULTS,
    World,
    parse_script,
    read_ledger,
    run_service,
    serve,
    token_digest,
)
from verifyanalytics.simulator.server.faults import HttpReply, Send
from verifyanalytics.simulator.server.scripts import Script

KEY, SECRET = "AKLTSIMULATED", "not-a-secret"
CALL = {"req_key": "cert_pro_src_verify", "sdk_data": "x", "risk_info": "y"}
TARGET = "/?Action=CertVerify&Version=2022-08-31"
QUERY = "/?Action=CertVerifyQuery&Version=2022-08-31"


def signed(service, body, target=TARGET, at=None, key=KEY, secret=SECRET, sts=None):
    """A request signed as the vendor's page says, written out once more."""
    x_date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at))
    names = ["content-type", "host", "x-content-sha256", "x-date"]
    headers = {
        "content-type": "application/json",
        "host": f"127.0.0.1:{service.port}",
        "x-content-sha256": hashlib.sha256(body).hexdigest(),
        "x-date": x_date,
    }
    if sts is not None:
        headers["x-security-token"] = sts
        names.append("x-security-token")
    path, _, query = target.partition("?")
    lines = "".join(f"{name}:{headers[name]}\n" for name in names)
    canonical = "\n".join(
        ["POST", path, query, lines, ";".join(names), headers["x-content-sha256"]]
    )
    scope = f"{x_date[:8]}/cn-north-1/cv/request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    derived = secret.encode()
    for part in (x_date[:8], "cn-north-1", "cv", "request"):
        derived = hmac.new(derived, part.encode(), hashlib.sha256).digest()
    to_sign = f"HMAC-SHA256\n{x_date}\n{scope}\n{digest}"
    seal = hmac.new(derived, to_sign.encode(), hashlib.sha256).hexdigest()
    headers["authorization"] = (
        f"HMAC-SHA256 Credential={key}/{scope}, SignedHeaders={';'.join(names)}, Signature={seal}"
    )
    return headers


def request_bytes(headers, body, target=TARGET, method="POST"):
    head = [f"{method} {target} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
    return ("\r\n".join([*head, f"content-length: {len(body)}"]) + "\r\n\r\n").encode() + body


def exchange(service, data, timeout=10.0):
    """Send bytes, read until the other side closes; the error that ended it is returned too."""
    received = []
    with socket.create_connection(("127.0.0.1", service.port), timeout=timeout) as sock:
        sock.sendall(data)
        try:
            while chunk := sock.recv(1 << 20):
                received.append(chunk)
        except (ConnectionResetError, TimeoutError) as error:
            return b"".join(received), error
    return b"".join(received), None


class Got:
    def __init__(self, data):
        head, _, self.body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(first.split(" ")[1])
        self.headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines)}

    @property
    def json(self):
        assert int(self.headers["content-length"]) == len(self.body)
        return json.loads(self.body)

    @property
    def gateway(self):
        return self.json["ResponseMetadata"]["Error"]["Code"]


def call(service, token="t", fields=None, target=TARGET, **signing):
    body = json.dumps({**CALL, "byted_token": token} if fields is None else fields).encode()
    headers = {**signed(service, body, target, **signing), "connection": "close"}
    data, error = exchange(service, request_bytes(headers, body, target))
    assert error is None
    return Got(data)


def query(service, token="t", **fields):
    wanted = {"req_key": "cert_pro_verify_query", "byted_token": token, **fields}
    return call(service, fields=wanted, target=QUERY)


def raw_call(service, token="t", timeout=10.0, **signing):
    body = json.dumps({**CALL, "byted_token": token}).encode()
    headers = {**signed(service, body, **signing), "connection": "close"}
    return exchange(service, request_bytes(headers, body), timeout)


class Clock:
    def __init__(self):
        self.now = 1_716_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture(scope="module")
def service():
    with serve(seed=3) as running:
        yield running


# ------------------------------------------------------------------------------------ answers


def test_a_signed_call_is_answered_and_billed(service):
    got = call(service, "one")
    answer = got.json
    assert got.status == (200 if answer["code"] == 10000 else 400)
    assert answer["code"] in (10000, 50215)
    calls = service.calls("one")
    assert (calls.received, calls.processed, calls.refused, calls.queries) == (1, 1, 0, 0)
    assert calls.billed == answer["data"].get("req_measure_info", {"value": calls.billed})["value"]
    assert len(answer["request_id"]) == 34
    assert {"mated", "attack", "hidden_score"} <= set(service.truth("one"))


def test_answers_depend_on_seed_and_token_only():
    def answers(seed, tokens):
        with serve(seed=seed) as running:
            made = {}
            for token in tokens:
                answer = call(running, token).json
                answer.pop("request_id")
                made[token] = (answer, running.truth(token))
            return made

    tokens = [f"token-{i}" for i in range(12)]
    first = answers(5, tokens)
    assert first == answers(5, reversed(tokens))
    assert first != answers(6, tokens)
    for answer, truth in first.values():
        details = answer["data"].get("source_comp_details", {})
        if "score" in details:
            assert details["score"] == truth["hidden_score"]


def test_request_ids_are_fresh(service):
    ids = [call(service, f"id-{i}").json["request_id"] for i in range(20)]
    ids += [query(service, "id-1").json["request_id"] for _ in range(3)]
    assert len(set(ids)) == 23


def test_population_is_a_parameter():
    with serve(world=World(impostor_share=1.0, attack_share=0.0, image_bytes=5000)) as running:
        for i in range(5):
            answer = call(running, f"{i}").json
            assert running.truth(f"{i}")["mated"] is False
            images = answer["data"].get("images")
            assert images is None or {len(text) for text in images.values()} == {5000}


# --------------------------------------------------------------------------------- signature


def flip(text, place):
    return text[:place] + ("0" if text[place] != "0" else "1") + text[place + 1 :]


@pytest.mark.parametrize(
    ("change", "code", "status"),
    [
        (lambda h: h.pop("authorization"), "MissingAuthenticationToken", 401),
        (lambda h: h.update(authorization="Bearer x"), "InvalidAuthorization", 400),
        (lambda h: h.update(authorization=h["authorization"].replace("AKLT", "AKIA")),
         "InvalidAccessKey", 401),
        (lambda h: h.update(authorization=h["authorization"].replace("cn-north-1", "cn-east-1")),
         "InvalidCredential", 400),
        (lambda h: h.update(authorization=flip(h["authorization"], -1 + len(h["authorization"]))),
         "SignatureDoesNotMatch", 401),
        (lambda h: h.update(authorization=h["authorization"].replace("content-type;", "")),
         "SignatureDoesNotMatch", 401),
        (lambda h: h.update({"content-type": "application/jsom"}), "SignatureDoesNotMatch", 401),
        (lambda h: h.update({"host": "127.0.0.1:1"}), "SignatureDoesNotMatch", 401),
        (lambda h: h.update({"x-date": flip(h["x-date"], 14)}), "SignatureDoesNotMatch", 401),
        (lambda h: h.update({"x-date": "19990101" + h["x-date"][8:]}), "InvalidCredential", 400),
        (lambda h: h.update({"x-content-sha256": flip(h["x-content-sha256"], 3)}),
         "SignatureDoesNotMatch", 401),
        (lambda h: h.update({"x-security-token": "sts"}), "InvalidSecretToken", 401),
        (lambda h: h.pop("x-content-sha256"), "MissingRequestInfo", 400),
    ],
)  # fmt: skip
def test_a_changed_header_is_refused(service, change, code, status):
    body = json.dumps({**CALL, "byted_token": "tampered"}).encode()
    headers = signed(service, body)
    change(headers)
    before = service.bill()
    data, _ = exchange(service, request_bytes({**headers, "connection": "close"}, body))
    assert (Got(data).gateway, Got(data).status) == (code, status)
    assert service.calls("tampered").received == 0
    assert service.bill().unsigned == before.unsigned + 1


def test_a_changed_body_or_query_is_refused(service):
    body = json.dumps({**CALL, "byted_token": "changed"}).encode()
    headers = {**signed(service, body), "connection": "close"}
    for target, sent in (
        (TARGET, body.replace(b'"x"', b'"z"')),
        (TARGET + "&a=1", body),
        (TARGET.replace("/?", "//?"), body),
        (QUERY, body),
    ):
        data, _ = exchange(service, request_bytes(headers, sent, target))
        assert Got(data).status in (401, 404)
    assert service.calls("changed").processed == 0


def test_another_secret_is_refused(service):
    assert call(service, "s", secret=SECRET + " ").gateway == "SignatureDoesNotMatch"


def test_temporary_credentials_need_their_token():
    with serve(session_token="STS2x==") as running:
        assert call(running, "a", sts="STS2x==").json["code"] in (10000, 50215)
        assert call(running, "b", sts="STS2y==").gateway == "InvalidSecretToken"
        assert call(running, "b").gateway == "InvalidSecretToken"


@pytest.mark.parametrize(
    ("off", "accepted"), [(-899, True), (899, True), (-901, False), (901, False)]
)
def test_dates_may_be_a_quarter_of_an_hour_off(off, accepted):
    clock = Clock()
    with serve(clock=clock) as running:
        got = call(running, "t", at=clock.now + off)
        assert (running.calls("t").processed == 1) == accepted
        if not accepted:
            assert (got.gateway, got.status) == ("InvalidTimestamp", 403)
            moment = email.utils.parsedate_to_datetime(got.headers["date"]).timestamp()
            assert moment == clock.now


@pytest.fixture
def theirs(service):
    """The vendor's own Python client, pointed at the simulator."""
    from volcengine.visual.VisualService import VisualService

    client = VisualService()
    client.set_ak(KEY)
    client.set_sk(SECRET)
    client.set_host(urlsplit(service.address).netloc)
    client.set_api_info("CertVerify", "2022-08-31")
    yield client
    client.session.close()


def test_the_vendors_own_client_is_answered(service, theirs):
    for name in ("theirs", "theirs 中文"):
        sent = json.dumps({**CALL, "byted_token": name})
        answer = json.loads(theirs.json("CertVerify", {}, sent))
        assert answer["code"] in (10000, 50215)
        assert service.calls(name).processed == 1


def test_the_vendors_own_client_is_refused_with_another_secret(service, theirs):
    theirs.set_sk(SECRET[:-1] + "s")
    with pytest.raises(Exception, match="SignatureDoesNotMatch"):
        theirs.json("CertVerify", {}, json.dumps({**CALL, "byted_token": "refused"}))
    assert service.calls("refused").received == 0


# ------------------------------------------------------------------------------------- tokens


def test_a_token_is_good_once_and_a_second_call_is_counted(service):
    call(service, "twice")
    billed = service.calls("twice").billed
    again = call(service, "twice")
    assert (again.status, again.json["code"]) == (400, 50215)
    assert again.json["data"]["algorithm_base_resp"]["status_code"] == 201202
    calls = service.calls("twice")
    assert (calls.received, calls.processed, calls.repeated, calls.billed) == (2, 2, 1, billed)
    assert service.bill().repeated >= 1


def test_a_result_is_ready_after_a_while_and_kept_for_an_hour():
    clock = Clock()

    def tells(got):
        return "verify_algorithm_base_resp" in got.json["data"]

    with serve(clock=clock, ready_after=2.0) as running:

        def ask(token):
            fields = {"req_key": "cert_pro_verify_query", "byted_token": token}
            return call(running, fields=fields, target=QUERY, at=clock.now)

        assert not tells(ask("t"))
        answer = call(running, "t", at=clock.now).json
        clock.now += 1.9
        assert not tells(ask("t"))
        clock.now += 0.2
        first = ask("t")
        assert tells(first)
        data = first.json["data"]
        assert data["verify_algorithm_base_resp"] == answer["data"]["algorithm_base_resp"]
        assert data["verify_req_measure_info"] == answer["data"].get("req_measure_info")
        assert data["result"] == answer["data"]["result"]
        assert first.json["request_id"] != answer["request_id"]
        clock.now += 3597
        assert tells(ask("t"))
        clock.now += 2
        assert not tells(ask("t"))
        calls = running.calls("t")
        assert (calls.queries, calls.processed) == (5, 1)


def test_a_query_leaves_out_what_it_is_told_to():
    with serve(ready_after=0.0, world=World(image_bytes=100, identity_share=0.0)) as running:
        token = next(t for t in map(str, range(20)) if call(running, t).json["data"].get("images"))
        whole = query(running, token).json["data"]
        assert len(whole["images"]["image_best"]) == 100
        assert "video" in whole
        no_images = query(running, token, omit_image_data=True, omit_video_data=True).json["data"]
        assert no_images["images"] == {"image_best": "", "image_env": ""}
        assert no_images["source_comp_details"] == whole["source_comp_details"]
        assert "video" not in no_images
        bare = query(running, token, omit_data=True).json["data"]
        assert "source_comp_details" not in bare
        assert bare["result"] == whole["result"]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({**CALL, "byted_token": "f", "req_key": "cert_pro"}, 50400),
        ({**CALL, "byted_token": "f", "video_key": "v"}, 50201),
        ({"req_key": "cert_pro_src_verify", "byted_token": "f", "risk_info": "r"}, 50201),
        ({**CALL, "byted_token": ""}, 50204),
        ({**CALL, "byted_token": 7}, 50204),
        (CALL, 50201),
        ({"req_key": "cert_pro_src_verify", "byted_token": "f", "sdk_data": "s"}, 50201),
        ({"req_key": "cert_pro_src_verify", "byted_token": "f", "video_key": "v", "risk_info": "r",
          "tos_bucket": "b"}, 50204),
        ({"req_key": "cert_pro_src_verify", "byted_token": "f", "video_key": "v", "risk_info": "r",
          "extra": {}}, 50201),
        (["no object"], 50204),
    ],
)  # fmt: skip
def test_wrong_fields_cost_nothing(service, fields, code):
    got = call(service, fields=fields)
    assert got.json["code"] == code
    assert got.status == (401 if code == 50400 else 400)
    assert service.calls("f").processed == 0


def test_video_calls_are_answered(service):
    fields = {
        "req_key": "cert_pro_no_src_verify", "byted_token": "video", "video_key": "v",
        "tos_bucket": "b", "risk_info": "r", "extra": {"备注": "中文"},
    }  # fmt: skip
    assert call(service, fields=fields).json["code"] in (10000, 50215)


def test_eight_threads_lose_nothing(service):
    tokens = [f"thread-{i}" for i in range(160)]
    answers = {}

    def work(part):
        for token in part:
            answers[token] = call(service, token).json["code"]

    threads = [threading.Thread(target=work, args=(tokens[i::8],)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers) == set(tokens)
    assert all(service.calls(token).processed == 1 for token in tokens)


def test_limit_of_calls_a_second():
    clock = Clock()
    with serve(qps=3, clock=clock) as running:
        codes = [call(running, f"{i}", at=clock.now).json["code"] for i in range(5)]
        assert codes[3:] == [50429, 50429]
        assert 50429 not in codes[:3]
        clock.now += 1.0
        assert call(running, "3", at=clock.now).json["code"] != 50429
        assert (running.bill().processed, running.calls("4").refused) == (4, 1)


# -------------------------------------------------------------------------------------- faults


def good(data):
    got = Got(data)
    assert got.status in (200, 400)
    assert got.json["code"] in (10000, 50215)


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


# ------------------------------------------------------------------------------------- scripts


def strikes(text, calls, seed=0):
    script = Script(parse_script(text), seed)
    seen = {}
    numbers = {"CertVerify": 0, "CertVerifyQuery": 0}
    struck = []
    for action, token in calls:
        numbers[action] += 1
        nth = seen[token] = seen.get(token, 0) + 1
        rule = script.strike(action, token_digest(token), numbers[action], nth)
        struck.append(None if rule is None else rule.kind.name)
    return struck


def test_rules_strike_by_number_and_the_first_that_fits():
    calls = [("CertVerify", str(i)) for i in range(8)]
    text = "# comment\n\nbom calls=2,5-6 # more\narray calls=6-7\n"
    assert strikes(text, calls) == [None, "bom", None, None, "bom", "bom", "array", None]


def test_rules_strike_by_token_action_and_count():
    digest = token_digest("b")
    mixed = [("CertVerify", "a"), ("CertVerify", "b"), ("CertVerifyQuery", "b")] * 2
    assert strikes(f"bom token={digest[:8].upper()}", mixed) == [
        None, "bom", None, None, "bom", None,
    ]  # fmt: skip
    assert strikes("bom action=any times=2", mixed) == ["bom", "bom", None, None, None, None]
    assert strikes("bom action=CertVerifyQuery", mixed) == [None, None, "bom"] * 2
    assert strikes("bom per_token=1", mixed) == ["bom", "bom", None, None, None, None]


def test_chances_do_not_depend_on_the_order_of_calls():
    tokens = [str(i) for i in range(2000)]
    one = dict(
        zip(tokens, strikes("bom share=0.3", [("CertVerify", t) for t in tokens]), strict=True)
    )
    turned = tokens[::-1]
    two = dict(
        zip(turned, strikes("bom share=0.3", [("CertVerify", t) for t in turned]), strict=True)
    )
    assert one == two
    assert sum(name == "bom" for name in one.values()) / 2000 == pytest.approx(0.3, abs=0.04)
    other = strikes("bom share=0.3", [("CertVerify", t) for t in tokens], seed=1)
    assert other != list(one.values())
    # a second try of the same token has its own chance
    again = strikes("bom share=0.3", [("CertVerify", "same")] * 400)
    assert sum(name == "bom" for name in again) / 400 == pytest.approx(0.3, abs=0.1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("bomm", "line 1 of the faults: no fault 'bomm'; there are: array"),
        ("\nbom share=2", "line 2 of the faults: share is 2"),
        ("bom share=often", "line 1"),
        ("bom often", "'often' is no key=value"),
        ("bom calls=a-b", "line 1"),
        ("bom action=Verify", "CertVerify, CertVerifyQuery, any"),
        ("bom processed=no", "bom is processed always"),
        ("reset_before processed=yes", "reset_before is not processed always"),
        ("html_502 processed=perhaps", "yes, no"),
        ("bom retry_after=3", "bom has no retry_after"),
        ("stall seconds=long", "line 1"),
        ('bom "share=1', "line 1"),
    ],
)
def test_scripts_that_cannot_be_read(text, said):
    with pytest.raises(UsageError) as caught:
        parse_script(text)
    assert said in str(caught.value)


def test_steps_of_a_fault_are_plain_values():
    reply = HttpReply(200, b'{"code":10000}', now=0.0)
    (rule,) = parse_script("empty_200")
    (step,) = rule.steps(reply)
    assert isinstance(step, Send)
    assert step.data == (
        b"HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
        b"Content-Type: application/json; charset=utf-8\r\nContent-Length: 0\r\n\r\n"
    )


# ------------------------------------------------------------------------------ wire and house


def test_connections_are_kept_and_requests_may_follow_at_once(service):
    requests = []
    for token in ("pipe-1", "pipe-2", "pipe-3"):
        body = json.dumps({**CALL, "byted_token": token}).encode()
        last = {"connection": "close"} if token == "pipe-3" else {}
        requests.append(request_bytes({**signed(service, body), **last}, body))
    data, error = exchange(service, b"".join(requests))
    assert error is None
    assert data.count(b"HTTP/1.1 ") == 3
    assert [service.calls(f"pipe-{i}").processed for i in (1, 2, 3)] == [1, 1, 1]


def test_thousands_of_requests_at_once():
    with serve() as running:
        one = b"GET /_simulator/bill HTTP/1.1\r\nhost: x\r\n\r\n"
        last = b"GET /_simulator/bill HTTP/1.1\r\nconnection: close\r\n\r\n"
        data, error = exchange(running, one * 2999 + last)
    assert error is None
    assert data.count(b"HTTP/1.1 200 OK") == 3000


def test_requests_behind_a_held_reply_wait():
    with serve(faults="stall seconds=0.3 calls=1") as running:
        requests = []
        for token in ("held", "behind"):
            body = json.dumps({**CALL, "byted_token": token}).encode()
            requests.append(request_bytes(signed(running, body), body))
        with socket.create_connection(("127.0.0.1", running.port), timeout=10) as sock:
            sock.sendall(requests[0])
            while running.calls("held").received == 0:
                time.sleep(0.01)
            sock.sendall(requests[1])
            received = b""
            while received.count(b"HTTP/1.1 ") < 2:
                assert not (received == b"" and running.calls("behind").received)
                received += sock.recv(1 << 16)
        assert running.calls("behind").processed == 1


def test_a_request_may_come_in_pieces(service):
    body = json.dumps({**CALL, "byted_token": "pieces"}).encode()
    data = request_bytes({**signed(service, body), "connection": "close"}, body)
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for first in range(0, len(data), 97):
            sock.sendall(data[first : first + 97])
        received = b""
        while chunk := sock.recv(1 << 16):
            received += chunk
    good(received)


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n",
        b"x" * 70_000,
    ],
)
def test_what_is_no_request_is_refused(service, data):
    received, error = exchange(service, data)
    assert error is None or isinstance(error, ConnectionResetError)
    assert received == b"" or Got(received).status == 400


def test_unknown_actions_and_methods(service):
    for target, method in (
        ("/?Action=CertVerifyX&Version=2022-08-31", "POST"),
        ("/?Action=CertVerify&Version=2020-01-01", "POST"),
        (TARGET, "GET"),
        ("/", "POST"),
    ):
        body = b"{}"
        headers = {**signed(service, body, target), "connection": "close"}
        got = Got(exchange(service, request_bytes(headers, body, target, method))[0])
        assert (got.gateway, got.status) == ("InvalidActionOrVersion", 404)


def test_too_large_a_body_is_refused(service):
    got = call(service, fields={**CALL, "byted_token": "large", "sdk_data": "x" * (10 << 20)})
    assert got.json["code"] == 50213
    assert service.calls("large").processed == 0


def test_the_bill_can_be_asked_over_loopback(service):
    call(service, "billed")
    data, _ = exchange(
        service, b"GET /_simulator/bill HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    )
    told = Got(data).json
    here = service.bill()
    assert told == here.as_json()
    assert told["tokens"][token_digest("billed")]["processed"] == 1
    assert told["processed"] == sum(of["processed"] for of in told["tokens"].values())
    assert here.billed == sum(of["billed"] for of in told["tokens"].values())
    assert "billed" not in told["tokens"]


def n_open_files():
    """Open files of this process; None where the system does not tell."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else None


def test_nothing_is_left_when_it_stops():
    threads = set(threading.enumerate())
    open_files = n_open_files()
    with serve(faults="stall calls=1\ntrickle calls=2") as running:
        body = json.dumps({**CALL, "byted_token": "t"}).encode()
        data = request_bytes(signed(running, body), body)
        socks = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(3)]
        for sock in socks[:2]:
            sock.sendall(data)
        while running.bill().received < 2:
            time.sleep(0.01)
        port = running.port
    for sock in socks:
        sock.close()
    assert set(threading.enumerate()) == threads
    assert n_open_files() == open_files
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_an_error_inside_the_context_still_stops_it():
    threads = set(threading.enumerate())
    with pytest.raises(KeyError), serve() as running:  # noqa: PT012
        good(raw_call(running)[0])
        raise KeyError("x")
    assert set(threading.enumerate()) == threads


def test_the_secret_is_in_no_repr():
    with serve(secret_key="canary-secret") as running:
        shown = repr(running) + repr(vars(running)) + repr(vars(running.handler))
        assert running.secret_key == "canary-secret"
    assert "canary-secret" not in shown.replace("'secret_key': 'canary-secret'", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"host": "0.0.0.0"}, "127.0.0.1 and ::1 only"),
        ({"port": 70_000}, "cannot listen on port 70000"),
        ({"latency": -1}, "latency"),
        ({"qps": 0}, "qps"),
        ({"faults": Path("/nowhere/faults.txt")}, "cannot read the faults in"),
        ({"faults": "boo"}, "no fault 'boo'"),
    ],
)
def test_arguments_that_cannot_work(arguments, said):
    with pytest.raises(UsageError) as caught, serve(**arguments):
        pass
    assert said in str(caught.value)


def test_a_port_that_is_taken(service):
    with (
        pytest.raises(UsageError, match=f"cannot listen on port {service.port}"),
        serve(port=service.port),
    ):
        pass


def test_faults_from_a_file(tmp_path):
    (tmp_path / "faults.txt").write_text("array\n", encoding="utf-8")
    with serve(faults=tmp_path / "faults.txt") as running:
        assert call(running).json == []


# -------------------------------------------------------------------------------------- ledger

# the verb by itself, as `verifyanalytics serve` runs it
VERB = "from verifyanalytics.cli.serve import app; app()"


class Elsewhere:
    """The address of a service in another process."""

    def __init__(self, address):
        self.port = int(address.rpartition(":")[2])


@pytest.fixture
def elsewhere(tmp_path):
    (tmp_path / "faults.txt").write_text("close_after calls=2\n", encoding="utf-8")
    (tmp_path / "secret").write_text("of the verb\nsecond line\n", encoding="utf-8")
    command = [
        sys.executable, "-c", VERB, "--seed", "4", "--access-key", "AKLTVERB",
        "--secret-key-file", str(tmp_path / "secret"), "--faults", str(tmp_path / "faults.txt"),
        "--ledger", str(tmp_path / "ledger.jsonl"), "--set", "impostor_share=0.5",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        assert line.startswith("serving on http://127.0.0.1:")
        yield process, Elsewhere(line.strip()), tmp_path / "ledger.jsonl"
        process.kill()


def test_the_ledger_survives_a_kill(elsewhere):
    process, running, ledger = elsewhere
    keys = {"key": "AKLTVERB", "secret": "of the verb"}
    raw_call(running, "a", **keys)
    raw_call(running, "b", **keys)
    raw_call(running, "b", **keys)
    wanted = {"req_key": "cert_pro_verify_query", "byted_token": "a"}
    call(running, fields=wanted, target=QUERY, **keys)
    assert call(running, "c").gateway == "InvalidAccessKey"
    process.kill()
    process.wait()
    counts = read_ledger(ledger)
    assert counts == {
        token_digest("a"): {"processed": 1, "refused": 0, "query": 1},
        token_digest("b"): {"processed": 2, "refused": 0, "query": 0},
    }
    text = ledger.read_text(encoding="utf-8")
    assert '"fault": "close_after"' in text
    ledger.write_text(text[:-5], encoding="utf-8")  # a line that a kill cut off is no event
    assert read_ledger(ledger)[token_digest("a")]["query"] == 0


def test_a_signal_ends_the_server_in_order(elsewhere):
    process, running, _ = elsewhere
    good(raw_call(running, key="AKLTVERB", secret="of the verb")[0])
    process.send_signal(signal.SIGINT)
    assert process.stdout.read() == ""
    assert process.wait() == 0


@pytest.mark.parametrize("text", [None, "", " \nx"])
def test_a_secret_file_without_a_secret(tmp_path, text):
    if text is not None:
        (tmp_path / "secret").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match="secret key"):
        serve_verb(secret_key_file=tmp_path / "secret")


def test_run_service_gives_the_signal_handlers_back():
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def announce(running):
        seen.append(running.port)
        os.kill(os.getpid(), signal.SIGTERM)

    run_service(announce)
    assert len(seen) == 1
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_ledger_that_cannot_be_written(tmp_path):
    with pytest.raises(StorageError, match="cannot write"), serve(ledger=tmp_path / "no" / "l"):
        pass
