"""Lines of requests and tokens: what is taken, what is refused, and that nothing is repeated."""

import io
import json
import re
from decimal import Decimal

import pytest

from verifyanalytics.collecting import requests as call_files
from verifyanalytics.collecting.requests import count_calls, read_call, read_calls
from verifyanalytics.errors import InputError, UsageError
from verifyanalytics.parsing.text import keyed_hash

KEY = bytes(range(32))
REQUEST = {
    "req_key": "cert_pro_src_verify",
    "byted_token": "TOKENcanary",
    "sdk_data": "SDKcanary",
    "risk_info": "RISKcanary",
}


def line(value):
    return json.dumps(value, ensure_ascii=False).encode()


def test_a_bare_request():
    call = read_call(line(REQUEST), KEY, queries=False)
    assert (call.action, call.body, call.token) == ("CertVerify", REQUEST, "TOKENcanary")
    assert call.key == keyed_hash(KEY, "token", "TOKENcanary")
    assert (call.subject, call.context) == (None, None)
    assert "canary" not in repr(call)


def test_a_request_with_its_surroundings():
    given = {"request": REQUEST, "subject": "P1", "context": {"Channel": "app", "n": 3, "x": None}}
    call = read_call(line(given), KEY, queries=False)
    assert call.body == REQUEST
    assert call.subject == keyed_hash(KEY, "subject", "P1")
    assert call.context == {"channel": "app", "n": "3"}


def test_extra_passes_through():
    extra = {"a": 1, "b": 1.5, "c": [True, None, "x"], "d": {"e": -7}}
    video = {k: v for k, v in REQUEST.items() if k != "sdk_data"}
    video |= {"video_key": "v", "tos_bucket": "b", "extra": extra}
    assert read_call(line(video), KEY, queries=False).body["extra"] == extra


def with_extra(number):
    """A line whose `extra` holds a number as it is written here."""
    video = {k: v for k, v in REQUEST.items() if k != "sdk_data"}
    video |= {"video_key": "v", "tos_bucket": "b", "extra": {"n": ["@"]}}
    return line(video).replace(b'"@"', number.encode())


@pytest.mark.parametrize(
    "number", ["0", "-0", "1.10", "1E2", "5e-324", "9007199254740993", "0.1", "-1.5e-07", "9" * 200]
)
def test_a_number_goes_out_with_its_value(number):
    body = read_call(with_extra(number), KEY, queries=False).body
    (sent,) = re.findall(r'"n": \[(.*?)\]', json.dumps(body))
    assert Decimal(sent) == Decimal(number)


@pytest.mark.parametrize(
    "number",
    ["1e999", "-1e999", "0.12345678901234567890", "9" * 5000, "1e-400", "1e-99999999999999999999"],
)
def test_a_number_that_would_go_out_as_another_is_refused(number):
    with pytest.raises(InputError, match="more digits than can be sent") as caught:
        read_call(with_extra(number), KEY, queries=False)
    assert number not in str(caught.value)


def test_what_is_not_sent_keeps_its_digits():
    given = line({"request": REQUEST, "context": {"n": "@"}}).replace(b'"@"', b"0." + b"1" * 40)
    call = read_call(given, KEY, queries=False)
    assert call.context == {"n": "0." + "1" * 40}


@pytest.mark.parametrize("text", [b"TOKEN1", b'{"byted_token":"TOKEN1"}'])
def test_tokens_to_query(text):
    call = read_call(text, KEY, queries=True)
    assert (call.action, call.token) == ("CertVerifyQuery", "TOKEN1")
    assert call.body["req_key"] == "cert_pro_verify_query"


@pytest.mark.parametrize(
    ("text", "queries", "said"),
    [
        (b"\xff\xfecanary", False, "UTF-8"),
        (b"canary", False, "syntax|Expecting"),
        (b"[1]", False, "not a JSON object"),
        (b'{"byted_token":"canary"}', False, "req_key"),
        (b"two canaries", True, "one byted_token a line"),
        (b'["canary"]', True, "one byted_token a line"),
        (b'{"token":"canary"}', True, "byted_token"),
        (b'{"byted_token":""}', True, "byted_token"),
        (line(REQUEST | {"subject": 5}), False, "subject"),
        (line(REQUEST | {"context": "canary"}), False, "context"),
        (line(REQUEST | {"context": {"a b": "canary"}}), False, "context name"),
    ],
)
def test_a_wrong_line_is_told_without_its_content(text, queries, said):
    with pytest.raises(InputError, match=said) as caught:
        read_call(text, KEY, queries=queries)
    assert "canary" not in str(caught.value)


def test_a_file_is_read_past_its_wrong_lines(tmp_path):
    path = tmp_path / "requests.jsonl"
    path.write_bytes(line(REQUEST) + b"\n\nnonsense\r\n" + line(REQUEST | {"byted_token": "T2"}))
    refused = []
    calls = list(read_calls(path, KEY, queries=False, refused=lambda *said: refused.append(said)))
    assert [call.token for call in calls] == ["TOKENcanary", "T2"]
    assert [number for number, _ in refused] == [3]


def test_a_line_over_the_cap_is_refused_and_passed_over(tmp_path, monkeypatch):
    monkeypatch.setattr(call_files, "MAX_LINE", 1000)
    path = tmp_path / "tokens.txt"
    path.write_bytes(b"T1\n" + b"x" * 5000 + b"\nT2\n" + b"y" * 1001)
    refused = []
    calls = list(read_calls(path, KEY, queries=True, refused=lambda *said: refused.append(said)))
    assert [call.token for call in calls] == ["T1", "T2"]
    assert [number for number, _ in refused] == [2, 4]


def test_stdin(monkeypatch):
    class Stdin:
        buffer = io.BytesIO(b"T1\nT2\n")

    monkeypatch.setattr("sys.stdin", Stdin())
    calls = list(read_calls("-", KEY, queries=True, refused=lambda *_: None))
    assert [call.token for call in calls] == ["T1", "T2"]


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        list(read_calls(tmp_path / "none", KEY, queries=True, refused=lambda *_: None))


@pytest.mark.parametrize("queries", [True, False])
def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path, queries):
    path = tmp_path / "calls"
    path.write_bytes(b"\xef\xbb\xbf" + (b"TOKENcanary\r\nT2" if queries else line(REQUEST)))
    refused = []
    calls = list(read_calls(path, KEY, queries=queries, refused=lambda *said: refused.append(said)))
    assert [call.token for call in calls] == (["TOKENcanary", "T2"] if queries else ["TOKENcanary"])
    assert refused == []


@pytest.mark.parametrize(
    ("data", "lines"), [(b"", 0), (b"a", 1), (b"a\n", 1), (b"a\n\nb", 3), (b"a\r\nb\r\n", 2)]
)
def test_lines_are_counted(tmp_path, data, lines):
    path = tmp_path / "calls"
    path.write_bytes(data)
    assert count_calls(path) == lines
    assert count_calls("-") is None
