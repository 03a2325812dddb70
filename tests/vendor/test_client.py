"""The client over a fake transport: rules of requests, errors, secrets, the clock."""

import json
import math
import pickle

import pytest

from verifyanalytics.errors import InputError, UsageError
from verifyanalytics.vendor.client import (
    CallInDoubtError,
    CallRefusedError,
    Client,
    NotSentError,
    call_error,
    check_endpoint,
    query_body,
    validate_request,
)
from verifyanalytics.vendor.credentials import Credentials
from verifyanalytics.vendor.replies import Outcome, Reply

KEYS = Credentials("AKcanary", "SKcanary", "STScanary")
REQUEST = {
    "req_key": "cert_pro_src_verify",
    "byted_token": "TOKENcanary",
    "sdk_data": "SDKcanary",
    "risk_info": "RISKcanary",
}
OK_BODY = b'{"code":10000,"data":{"result":true},"message":"Success","request_id":"1"}'


class FakeTransport:
    """A transport that returns one reply and keeps the requests."""

    def __init__(self, reply):
        self.reply = reply
        self.sent = []

    def send(self, request, timeouts):
        self.sent.append(request.prepare())
        return self.reply


def test_verify_signs_and_returns_the_answer():
    fake = FakeTransport(Reply(Outcome.ANSWERED, http_status=200, code=10000, body=OK_BODY))
    answer = Client(KEYS, transport=fake, clock=lambda: 1_717_200_000).verify(REQUEST)
    sent = fake.sent[0]
    assert sent.url == "https://visual.volcengineapi.com/?Action=CertVerify&Version=2022-08-31"
    assert json.loads(sent.body) == REQUEST
    assert sent.headers["X-Date"] == "20240601T000000Z"
    assert sent.headers["X-Security-Token"] == "STScanary"
    assert sent.headers["Accept-Encoding"] == "identity"
    assert sent.headers["User-Agent"].startswith("verifyanalytics/")
    assert answer.verdict is True
    assert answer.received_at.isoformat() == "2024-06-01T00:00:00+00:00"


def test_query_leaves_pictures_out_by_default():
    fake = FakeTransport(Reply(Outcome.ANSWERED, body=OK_BODY))
    Client(KEYS, transport=fake).query("T")
    assert json.loads(fake.sent[0].body) == {
        "req_key": "cert_pro_verify_query",
        "byted_token": "T",
        "omit_image_data": True,
        "omit_video_data": True,
    }
    assert "Action=CertVerifyQuery&" in fake.sent[0].url
    assert query_body("T", omit_data=False, omit_image_data=None, omit_video_data=None) == {
        "req_key": "cert_pro_verify_query",
        "byted_token": "T",
        "omit_data": False,
    }


@pytest.mark.parametrize(
    ("outcome", "error", "code", "retryable"),
    [
        (Outcome.NOT_SENT, NotSentError, 6, True),
        (Outcome.TURNED_AWAY, NotSentError, 6, True),
        (Outcome.RATE_LIMITED, NotSentError, 6, True),
        (Outcome.REFUSED, CallRefusedError, 5, False),
        (Outcome.TLS, CallRefusedError, 5, False),
        (Outcome.CLOCK, CallRefusedError, 5, True),
        (Outcome.UNPARSED, CallInDoubtError, 4, False),
        (Outcome.FAULT, CallInDoubtError, 4, False),
        (Outcome.LOST, CallInDoubtError, 4, False),
    ],
)
def test_each_lack_of_an_answer_has_its_class(outcome, error, code, retryable):
    fake = FakeTransport(Reply(outcome, http_status=500, gateway_code="G", request_id="r"))
    with pytest.raises(error) as caught:
        Client(KEYS, transport=fake).verify(REQUEST)
    assert (caught.value.exit_code, caught.value.retryable) == (code, retryable)
    assert (caught.value.http_status, caught.value.request_id) == (500, "r")
    assert "canary" not in str(caught.value)


def without(name):
    return {key: value for key, value in REQUEST.items() if key != name}


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        (without("req_key"), "req_key"),
        (REQUEST | {"req_key": "cert_pro_src_verfy"}, "req_key"),
        (without("byted_token"), "byted_token"),
        (without("risk_info"), "risk_info"),
        (without("sdk_data"), "sdk_data and video_key"),
        (REQUEST | {"video_key": "v"}, "sdk_data and video_key"),
        (REQUEST | {"sdk_data": ""}, "sdk_data"),
        (REQUEST | {"byted_token": 5}, "byted_token"),
        (REQUEST | {"bytedtoken": "TOKENcanary"}, "bytedtoken"),
        (without("sdk_data") | {"video_key": "v"}, "tos_bucket"),
        (without("sdk_data") | {"video_key": "v", "tos_bucket": "b"}, "extra"),
        (without("sdk_data") | {"video_key": "v", "tos_bucket": "b", "extra": "{}"}, "extra"),
    ],
)
def test_a_request_that_breaks_a_rule_is_not_sent(request_, named):
    fake = FakeTransport(Reply(Outcome.ANSWERED))
    with pytest.raises(InputError, match=named) as caught:
        Client(KEYS, transport=fake).verify(request_)
    assert fake.sent == []
    assert "canary" not in str(caught.value)


def test_the_video_form_passes():
    given = without("sdk_data") | {"video_key": "v", "tos_bucket": "b", "extra": {"a": 1}}
    assert validate_request(given | {"sdk_data": None}) == given


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://visual.volcengineapi.com",
        "https://visual.volcengineapi.com.evil.example",
        "https://evilvolcengineapi.com",
        "https://10.0.0.1",
        "http://127.0.0.1.evil.example",
        "https://user:pw@visual.volcengineapi.com",
        "https://visual.volcengineapi.com/path",
        "ftp://localhost",
        "localhost:80",
        "http://localhost:notaport",
        "http://localhost:0",
        "http://localhost:65536",
        "",
        # another reader of addresses may find another host in these
        "https://evil.example\\.volcengineapi.com",
        "https://evil.example%2f.volcengineapi.com",
        "https://evil.example／.volcengineapi.com",
        "https://evil.example‥.volcengineapi.com",
        "https://x;.volcengineapi.com",
        "https://.volcengineapi.com",
        "https://a b.volcengineapi.com",
        "https://visual.volcengineapi.com.",
        "https://visual.volcengineapi.com#x",
        "http://[::1",
        "http://localhost\n",
    ],
)
def test_other_endpoints_are_refused(endpoint):
    with pytest.raises(UsageError) as caught:
        Client(KEYS, endpoint)
    assert "pw" not in str(caught.value)


def test_vendor_hosts_and_loopback_pass():
    for good in ("https://visual.volcengineapi.com", "https://open.volcengineapi.com:443"):
        assert check_endpoint(good + "/") == good
    for good in (
        "http://127.0.0.1:8000",
        "http://[::1]:9",
        "https://localhost",
        "http://127.8.8.8",
    ):
        assert check_endpoint(good) == good


def test_nothing_secret_in_reprs_and_pickles():
    client = Client(KEYS, transport=FakeTransport(None))
    assert "canary" not in repr(client)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(client)


def test_the_clock_is_taken_from_the_server():
    fake = FakeTransport(Reply(Outcome.ANSWERED, body=OK_BODY))
    client = Client(KEYS, transport=fake, clock=lambda: 1_717_200_000)
    assert not client.correct_clock(Reply(Outcome.CLOCK))
    assert client.correct_clock(Reply(Outcome.CLOCK, server_time=1_717_203_600))
    client.verify(REQUEST)
    assert fake.sent[0].headers["X-Date"] == "20240601T010000Z"


@pytest.mark.parametrize("value", [math.inf, math.nan, object(), "\ud800"])
def test_what_json_has_no_form_for_is_not_sent(value):
    fake = FakeTransport(Reply(Outcome.ANSWERED))
    with pytest.raises(InputError):
        Client(KEYS, transport=fake).call("CertVerify", REQUEST | {"extra": {"n": value}})
    assert fake.sent == []


def test_an_error_travels_between_processes_without_the_body():
    error = call_error(Reply(Outcome.LOST, message="timed out", body=b"CANARY"))
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.retryable) == (type(error), str(error), False)
    assert again.reply.body == b""
