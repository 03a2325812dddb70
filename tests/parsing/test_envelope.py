"""Envelopes, log lines, times and contexts around a reply."""

from __future__ import annotations

import hashlib
import hmac
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from builders.answers import FAULT, PAGE_SAMPLE
from builders.responses import KEY, read, row

from verifyanalytics.errors import UsageError
from verifyanalytics.parsing.text import ReadOptions, keyed_hash


def test_own_envelope():
    envelope = {
        "response": json.dumps(PAGE_SAMPLE), "occurred_at": "2024-06-01T08:00:00.123456+08:00",
        "action": "CertVerify",
        "req_key": "cert_pro_src_verify", "byted_token": "t", "http_status": 200, "subject": "p",
        "host": "h",
        "context": {"Channel": "app", "channel": "web", "n": 1.50, "a b": "x", "deep": {"x": 1}},
    }  # fmt: skip
    made = row(envelope, key=KEY)
    assert made["occurred_at"] == datetime(2024, 6, 1, 0, 0, 0, 123456, tzinfo=UTC)
    assert (made["occurred_at_source"], made["month"]) == ("envelope", "2024-06")
    assert (made["action"], made["req_key"], made["http_status"]) == (
        "CertVerify",
        "cert_pro_src_verify",
        200,
    )
    expected = hmac.new(KEY, b"token\0t", hashlib.sha256).hexdigest()[:32]
    assert made["token"] == expected == keyed_hash(KEY, "token", "t")
    assert made["subject"] == keyed_hash(KEY, "subject", "p")
    assert (made["ctx_channel"], made["ctx_n"]) == ("web", "1.5")
    kept = {"host": "h", "context": {"Channel": "app", "a b": "x", "deep": {"x": 1}}}
    assert json.loads(made["extra"]) == {"envelope": kept}
    assert row(envelope)["token"] is None


def test_foreign_envelope_by_paths():
    line = {
        "ts": 1717200000123,
        "payload": {"body": json.dumps(PAGE_SAMPLE), "tags": {"App": "x"}},
        "level": "info",
    }
    made = row(line, response_path="payload.body", time_path="ts", context_path="payload.tags")
    assert made["occurred_at"] == datetime(2024, 6, 1, 0, 0, 0, 123000, tzinfo=UTC)
    assert (made["score"], made["ctx_app"]) == (87.69, "x")
    assert json.loads(made["extra"]) == {"envelope": {"level": "info", "payload": {}}}
    assert row(PAGE_SAMPLE, response_path="payload.body")["score"] == 87.69
    assert read({"level": "x"}, response_path="payload.body").reason == "not_a_response"


@pytest.mark.parametrize("code", [{}, {"code": 0}, {"ResponseMetadata": {"RequestId": "x"}}])
def test_the_path_of_the_response_comes_before_what_looks_like_a_reply(code):
    line = {**code, "request_id": "not this", "payload": {"body": json.dumps(PAGE_SAMPLE)}}
    made = row(line, response_path="payload.body")
    assert (made["request_id"], made["code"]) == (PAGE_SAMPLE["request_id"], 10000)
    ours = {"response": PAGE_SAMPLE, **code}
    assert row(ours, response_path="response")["score"] == 87.69
    if code:  # without a path, `response` is a key of the reply that nobody knows
        assert row(ours)["score"] is None


@pytest.mark.parametrize(
    ("said", "moment"),
    [
        (1714521600, "2024-05-01T00:00:00+00:00"),
        ("1714521600", "2024-05-01T00:00:00+00:00"),
        ("1714521600123", "2024-05-01T00:00:00.123+00:00"),
        ("1714521600.5", "2024-05-01T00:00:00.5+00:00"),
        ("2024-05-01 08:00:00+08", "2024-05-01T00:00:00+00:00"),
        ("2024-05-01 08:00:00.25+0800", "2024-05-01T00:00:00.25+00:00"),
        ("2024-05-01T00:00Z", "2024-05-01T00:00:00+00:00"),
        ("2024-05-01 08:30", "2024-05-01T08:30:00+00:00"),
        ("2024-05-01 00:00:00 UTC", "2024-05-01T00:00:00+00:00"),
        ("2024-05-01 00:00:00.123456 UTC", "2024-05-01T00:00:00.123456+00:00"),
        ("2024-05-01", "2024-05-01T00:00:00+00:00"),
        ("20240501", None), ("20240501080000", None), ("2024", None), ("2024-05-01Z", None),
        ("2024-05-01T24:01", None), ("2024-13-01", None), ("2024-05-01 00:00.5", None),
        (" 1714521600", None), ("1e400", None), ("-1714521600", None), ("١٧١٤٥٢١٦٠٠", None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", [None, "at"])
def test_times_as_warehouses_write_them(said, moment, path):
    line = {"response": PAGE_SAMPLE, path or "occurred_at": said}
    made = row(line, time_path=path)
    assert made["occurred_at"] == (datetime.fromisoformat(moment) if moment else None)
    assert made["issues"] == ([] if moment else ["type:envelope.occurred_at"])


@pytest.mark.parametrize(
    "prefix", [b"", b"2024-06-01 12:00:00 ERROR [verify] ", b"[2024-06-01 12:00:00] ERROR "]
)
def test_log_lines(prefix):
    line = (
        prefix
        + repr(json.dumps(FAULT | {"message": "it's 84µs"}, ensure_ascii=False).encode()).encode()
    )
    assert row(line)["message"] == "it's 84µs"


@pytest.mark.parametrize(
    "line",
    [
        """{"code":10000,"score":NaN,"message":"b'{\\"code\\":1,\\"request_id\\":\\"x\\"}'"}""",
        """["b'{\\"code\\":1}'",]""",
        """ "b'{\\"code\\":1}'" 2""",
    ],
)
def test_a_literal_in_a_string_of_broken_json_is_none(line):
    assert read(line.encode()).reason == "syntax"


@pytest.mark.parametrize("second", [b"b'{\"code\":2}'", b"b'{'", b'b"{'])
def test_two_literals_on_a_line_are_refused(second):
    first = b'ERR b\'{"code":1,"message":"b{"}\''
    assert row(first)["code"] == 1
    refused = read(first + b" then " + second)
    assert (refused.reason, refused.detail) == (
        "syntax",
        "$: more than one bytes literal on the line",
    )


def test_every_byte_of_a_literal_comes_back():
    text = "".join(chr(n) for n in range(1, 0x250)) + "长城\U0001f600'\\"
    for quote in ("", '"'):
        answer = {"code": 1, "message": text.replace('"', "'") + quote}
        literal = repr(json.dumps(answer, ensure_ascii=False).encode()).encode()
        assert row(literal)["message"] == answer["message"]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read there")
@pytest.mark.parametrize("whole", [True, False])
def test_a_long_literal_takes_a_few_times_its_size(whole):
    """Without its end it takes no more: nothing is tried again."""
    done = subprocess.run(
        [sys.executable, "-c", LONG_LITERAL, str(int(whole))],
        capture_output=True,
        text=True,
        check=True,
    )
    n_bytes, n_grown, is_row = map(int, done.stdout.split())
    assert n_bytes > 20_000_000
    assert n_grown < 6 * n_bytes
    assert is_row == whole


LONG_LITERAL = r"""
import re, sys
from verifyanalytics.parsing.reference import ReadOptions
from verifyanalytics.parsing.reference import read_response

def peak():
    return int(re.search(r"VmHWM:\s+([0-9]+)", open("/proc/self/status").read())[1]) * 1024

said = rb"it\'s \xe9\x95\xbf\\n" * 1_000_000
line = b"ERROR b'{\"code\":1,\"message\":\"" + said + b"\"}'" * int(sys.argv[1])
before = peak()
made = read_response(line, ReadOptions(), source="s", row=1)
print(len(line), peak() - before, int(isinstance(made, dict)))
"""


def test_literal_is_not_evaluated_as_code():
    assert read(b"b'{' + str(1) + b'}'").reason == "syntax"
    assert read(b"b'{\"code\":1}\\N{DIGIT ONE}'").reason == "syntax"


def test_context_names():
    given = {f"c{i:02}": "v" for i in range(70)}
    made = row({"response": PAGE_SAMPLE, "context": given})
    assert [name for name in made if name.startswith("ctx_")] == [f"ctx_c{i:02}" for i in range(64)]
    assert sorted(json.loads(made["extra"])["envelope"]["context"]) == [
        f"c{i:02}" for i in range(64, 70)
    ]
    assert row(PAGE_SAMPLE, context={"site": "x"})["ctx_site"] == "x"
    with pytest.raises(UsageError, match="a b"):
        ReadOptions(context={"a b": "x"})
