"""One response, one row or one reason: shapes, types, envelopes, and what never lands."""

from __future__ import annotations

import copy
import hashlib
import hmac
import itertools
import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from builders.answers import FAULT, GATEWAY, PAGE_SAMPLE, QUALITY, QUERY, nested
from builders.json_texts import BAD, BAD_BYTES, GOOD

from verifyanalytics.errors import UsageError
from verifyanalytics.parsing.envelope import ReadOptions, keyed_hash
from verifyanalytics.parsing.fast.flattener import Flattener
from verifyanalytics.parsing.reference import Refusal, read_response
from verifyanalytics.schema import REJECT_REASONS, VERIFICATIONS
from verifyanalytics.sources.blocks import Block

KEY = b"k" * 32


def read(value, options=None, **changes):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    options = options or ReadOptions(**changes)
    return read_response(data, options, source="s", row=7)


def row(value, **changes):
    made = read(value, **changes)
    assert not isinstance(made, Refusal), made
    return made


def changed(path, value, base=PAGE_SAMPLE):
    """A copy of an answer with one value replaced at a dotted path."""
    answer = copy.deepcopy(base)
    *parents, last = path.split(".")
    target = answer
    for name in parents:
        target = target[name]
    target[last] = value
    return answer


def test_page_sample():
    made = row(PAGE_SAMPLE)
    expected = {
        "request_id": "6838889517957515275", "code": 10000, "message": "Success", "sub_code": 0,
        "result": False, "alive": True, "score": 87.69, "threshold_1e_3": 60.0,
        "threshold_1e_4": 70.0,
        "threshold_1e_5": 80.0, "threshold_1e_6": 90.0, "risk_score": 600, "risk_tags": ["14004",
        "13001"],
        "elapsed_ms": 41.897331, "face_clarity": 3.6389399293661118, "env_pose_yaw": 0.405,
        "face_have_cap": QUALITY["have_cap"], "image_best_bytes": 0, "measure_type": "query_num",
        "measure_value": 1, "month": "unknown", "occurred_at": None, "extra": None, "issues": [],
        "source": "s", "source_row": 7,
    }  # fmt: skip
    assert {name: made[name] for name in expected} == expected
    assert set(made) == {*VERIFICATIONS.names, "month"} - {"batch"}


def test_service_fault():
    made = row(FAULT)
    assert (made["code"], made["sub_code"], made["result"], made["score"]) == (
        50501,
        100202,
        None,
        None,
    )
    assert made["occurred_at"] == datetime(2025, 4, 4, 13, 28, 56, tzinfo=UTC)
    assert (made["occurred_at_source"], made["month"]) == ("request_id", "2025-04")
    assert json.loads(made["extra"]) == {"status": 50501, "data": {"binary_data_base64": []}}


def test_gateway_error_comes_before_everything():
    made = row(
        GATEWAY | {"code": 10000, "data": {"result": True, "images": {"image_best": "AAAA"}}}
    )
    assert made["gateway_code"] == "SignatureDoesNotMatch"
    assert made["request_id"] == GATEWAY["ResponseMetadata"]["RequestId"]
    assert (made["code"], made["result"], made["action"]) == (None, None, "CertVerify")
    assert json.loads(made["extra"])["data"]["images"] == "[21 bytes]"


def test_metadata_without_error_is_no_gateway_error():
    made = row({"ResponseMetadata": {"RequestId": "r"}, "code": 10000})
    assert (made["code"], made["request_id"], made["gateway_code"]) == (10000, "r", None)
    assert row(PAGE_SAMPLE | {"ResponseMetadata": None})["content"] == row(PAGE_SAMPLE)["content"]


def test_query_reply_holds_the_verification_under_verify():
    made = row(QUERY)
    assert (made["sub_code"], made["measure_value"]) == (210311, 2)
    extra = json.loads(made["extra"])["data"]
    assert extra["algorithm_base_resp"] == {"status_code": 0, "status_message": ""}
    assert (
        extra["verify_idcard_info"] == f"[{len(nested(QUERY['data']['verify_idcard_info']))} bytes]"
    )
    assert "nobody" not in made["extra"]
    assert extra["video"] == "[4 bytes]"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "syntax"), (b"[]", "not_a_response"), (b"{}", "not_a_response"), (b"null",
        "not_a_response"),
        (b'{"ResponseMetadata":null}', "not_a_response"), (b'{"data":{}}', "not_a_response"),
        (b'{"response":{"data":1}}', "not_a_response"), (b'{"response":""}', "syntax"),
        (b'{"code":9223372036854775808}', "number"), (b'{"code":1e400}', "number"),
        (b'{"code":1,"data":{"source_comp_details":{"score":-1e400}}}', "number"),
        (b'{"code":1,"data":{"risk_result":"{\\"score\\":1e999}"}}', "number"),
        (b'{"code":1,"message":"\\ud800"}', "encoding"), (b'{"code":1,"m":"\xff"}', "encoding"),
        (b'{"code":1,"m":' + b"[" * 64 + b"]" * 64 + b"}", "depth"),
        (b'{"code":1,"m":' + b"[" * 63 + b"]" * 63 + b',"m":1}', None),
        (b'{"code":1,"m":' + b"[" * 64 + b"]" * 64 + b',"m":1}', "depth"),
        (b"b'{\"code\":1,}'", "syntax"), (b"b'{\"code\":\\xff}'", "encoding"),
    ],
)  # fmt: skip
def test_reasons(text, reason):
    made = read(text)
    assert (made.reason if isinstance(made, Refusal) else None) == reason
    assert reason is None or reason in REJECT_REASONS


@pytest.mark.parametrize(
    ("path", "sent", "column", "value", "issue"),
    [
        ("data.source_comp_details.score", "60", "score", 60.0, True),
        ("data.source_comp_details.score", 60, "score", 60.0, False),
        ("data.source_comp_details.score", " 60", "score", None, True),
        ("data.source_comp_details.score", "abc", "score", None, True),
        ("data.source_comp_details.score", True, "score", None, True),
        ("data.source_comp_details.score", None, "score", None, False),
        ("code", "10000", "code", 10000, True),
        ("code", 10000.0, "code", 10000, True),
        ("code", 10000.5, "code", None, True),
        ("data.req_measure_info.value", 9007199254740992.0, "measure_value", 2**53, True),
        ("code", 2**31, "code", None, True),
        ("code", -(2**31), "code", -(2**31), False),
        ("data.result", "true", "result", True, True),
        ("data.result", 0, "result", False, True),
        ("data.result", 2, "result", None, True),
        ("message", 5, "message", "5", True),
        ("message", 5.0, "message", None, True),
        ("request_id", 6838889517957515275, "request_id", "6838889517957515275", True),
        ("data.req_measure_info", True, "measure_value", None, True),
        ("data.images", "AAAA", "image_best_bytes", None, True),
        ("time_elapsed", "soon", "elapsed_ms", None, True),
        ("time_elapsed", 41.9, "elapsed_ms", None, True),
    ],
)
def test_coercions_lose_nothing_and_are_named(path, sent, column, value, issue):
    answer = changed(path, sent)
    made = row(answer)
    assert made[column] == value
    assert made["issues"] == ([f"type:$.{path}"] if issue else [])
    if issue and value is None:
        kept = json.loads(made["extra"])
        for name in path.split("."):
            kept = kept[name]
        assert kept == ("[4 bytes]" if path == "data.images" else sent)
    refused = read(answer, strict=True)
    assert (isinstance(refused, Refusal) and refused.reason == "type") is issue


@pytest.mark.parametrize(
    ("number", "value"),
    [
        ("9007199254740993.0", 9007199254740993), ("9223372036854775807e0", 2**63 - 1),
        ("1e18", 10**18),
        ("10000.00000000000000000001", None), ("1e-400", None), ("0.0", 0), ("-0.0", 0),
        ("9007199254740993.5", None), ("1e-99999999999999999999", None),
    ],
)  # fmt: skip
def test_integers_written_as_floats_lose_no_digit(number, value):
    data = b'{"code":1,"data":{"req_measure_info":{"value":%s}}}' % number.encode()
    made = row(data)
    assert made["measure_value"] == value
    assert made["issues"] == ["type:$.data.req_measure_info.value"]
    kept = f'{{"data":{{"req_measure_info":{{"value":{number}}}}}}}'
    assert made["extra"] == (kept if value is None else None)


@pytest.mark.parametrize("name", ["algorithm_base_resp", "req_measure_info"])
def test_null_is_absent_beside_what_a_query_holds(name):
    plain, own = {name: PAGE_SAMPLE["data"][name]}, {f"verify_{name}": None}
    without = row({"code": 1, "request_id": "1", "data": plain})
    assert row({"code": 1, "request_id": "1", "data": plain | own}) == without
    turned = {f"verify_{name}": plain[name]}
    assert row({"code": 1, "request_id": "1", "data": turned | {name: None}}) == without
    no_error = {"ResponseMetadata": {"Error": None, "RequestId": "1"}, "code": 1}
    assert row(no_error)["extra"] is None


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("41.897331ms", 41.897331), ("84.448µs", 0.084448), ("84.448μs", 0.084448), ("84.448us",
        0.084448),
        ("12ns", 12e-6), ("1m2.3s", 62300.0), ("1h", 3.6e6), ("1h1m1s1ms", 3661001.0), ("0s", 0.0),
        ("-1.5s", -1500.0),
        (".5s", 500.0), ("", None), ("ms", None), ("1", None), ("1e3ms", None), ("1 ms", None),
        ("٣ms", None), ("1d", None),
    ],
)  # fmt: skip
def test_durations(text, milliseconds):
    assert row(PAGE_SAMPLE | {"time_elapsed": text})["elapsed_ms"] == pytest.approx(milliseconds)


@pytest.mark.parametrize(
    ("request_id", "moment"),
    [
        ("20240601003000ABCDEFabcdef01234567", datetime(2024, 5, 31, 16, 30, tzinfo=UTC)),
        ("20240229235959" + "0" * 20, datetime(2024, 2, 29, 15, 59, 59, tzinfo=UTC)),
        ("20230229235959" + "0" * 20, None),
        ("20241301000000" + "0" * 20, None),
        ("20240601240000" + "0" * 20, None),
        ("19991231000000" + "0" * 20, None),
        ("20240601003000" + "0" * 19 + "g", None),
        ("20240601003000" + "0" * 19, None),
        ("6838889517957515275", None),
    ],
)
def test_dates_in_request_ids(request_id, moment):
    made = row(PAGE_SAMPLE | {"request_id": request_id})
    assert made["occurred_at"] == moment
    assert made["month"] == ("unknown" if moment is None else moment.strftime("%Y-%m"))


def test_risk_result_as_object_as_nothing_and_with_go_null():
    as_object = row(changed("data.risk_result", {"score": 600, "tags": ["14004", "13001"]}))
    assert as_object["content"] == row(PAGE_SAMPLE)["content"]
    empty = row(changed("data.risk_result", ""))
    assert (empty["risk_score"], empty["risk_tags"], empty["issues"]) == (
        None,
        None,
        ["empty:$.data.risk_result"],
    )
    assert row(changed("data.risk_result", '{"score":0,"tags":null}'))["risk_tags"] == []
    assert row(changed("data.risk_result", '{"tags":[14004]}'))["risk_tags"] == ["14004"]


def test_content_does_not_depend_on_how_it_was_written():
    answer = changed("message", "成功 é") | {"new": {"b": 60, "a": [1, "长"]}}
    ours = row(answer)
    turned = json.loads(json.dumps(answer), object_pairs_hook=lambda pairs: dict(reversed(pairs)))
    spaced = json.dumps(turned, indent=1, ensure_ascii=False).replace(": 60", ": 60.0").encode()
    assert row(spaced)["content"] == ours["content"]
    assert row(changed("data.images.image_best", "AAAA", answer))["content"] == ours["content"]
    assert (
        row({"response": answer, "occurred_at": 1717200000, "x": 1})["content"] == ours["content"]
    )
    for path, value in (
        ("time_elapsed", "41.897332ms"),
        ("data.risk_result", nested({"score": 600})),
        ("new", 1),
    ):
        assert row(changed(path, value, answer))["content"] != ours["content"]


def test_id_of_a_reply_without_one():
    answer = {"code": 50500, "data": None}
    made = row(answer)
    assert made["request_id"].startswith("sha256:")
    assert made["request_id"] == row(answer)["request_id"]
    other = read_response(json.dumps(answer).encode(), ReadOptions(), source="s", row=8)
    assert other["request_id"] != made["request_id"]


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
from verifyanalytics.parsing.envelope import ReadOptions
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


def test_images_leave_their_size_and_a_print_on_request():
    answer = changed("data.images", {"image_best": "QUJD", "image_env": "", "image_new": "QUJD"})
    made = row(answer, key=KEY, image_prints=True)
    assert (made["image_best_bytes"], made["image_env_bytes"]) == (4, 0)
    assert made["image_best_print"] == keyed_hash(KEY, "image", "QUJD")
    assert made["image_env_print"] is None
    assert row(answer, key=KEY)["image_best_print"] is None
    assert "QUJD" not in repr(made)


FACE = "QUJD" * 2000


@pytest.mark.parametrize(
    "path",
    [
        "message", "request_id", "time_elapsed", "code", "new", "data", "data.result",
        "data.risk_result",
        "data.images", "data.images.other", "data.new", "data.source_comp_details",
        "data.req_measure_info",
        "data.source_comp_details.score", "data.source_comp_details.thresholds",
        "data.algorithm_base_resp",
        "data.algorithm_base_resp.status_message", "data.req_measure_info.measure_type",
        "data.images.image_best",
        "ResponseMetadata",
    ],
)  # fmt: skip
@pytest.mark.parametrize("shape", ["text", "list", "object", "deep", "name", "chars"])
def test_a_face_never_lands(path, shape):
    value = {
        "text": FACE, "list": [FACE], "object": {"x": FACE}, "deep": {"x": [{"y": FACE}]},
        "name": {FACE: 1},
        "chars": [FACE[i : i + 70] for i in range(0, len(FACE), 70)],
    }[shape]  # fmt: skip
    made = read(changed(path, value))
    assert FACE[:400] not in repr(made)
    if not isinstance(made, Refusal):
        assert "QUJD" * 15 not in repr(made)


@pytest.mark.parametrize(
    "field", ["action", "req_key", "subject", "occurred_at", "http_status", "context", "x"]
)
def test_a_face_never_lands_through_the_envelope(field):
    made = row({"response": PAGE_SAMPLE, field: {"a": FACE} if field == "context" else FACE})
    assert FACE[:400] not in repr(made)


SECRET = "SECRET-1"
HIDING = {
    "value": SECRET,
    "list": [SECRET],
    "object": {"name": SECRET},
    "number": 5550123,
}
"""What a personal key may hold; it is short, so that only its key gives it away."""


def hidden(name, value, how):
    """A personal value, plain or in a JSON text."""
    held = {name: value, "n": 1}
    text = json.dumps(held, indent=1)
    return {
        "plain": held,
        "text": text,
        "array": f" [{text}]",
        "twice": json.dumps(text),
        "deep": {"x": [{"y": text}]},
        "escaped": json.dumps(held).replace("_", "\\u005f").replace("video", "vid\\u0065o"),
        "covered": f'{{"{name}":{json.dumps(value)},"{name}":"","a":1}}',
        "cut": text[:-1],
    }[how]


HOW = ["plain", "text", "array", "twice", "deep", "escaped", "covered", "cut"]
PLACES = [
    "message", "request_id", "time_elapsed", "new", "data", "data.risk_result", "data.new",
    "data.source_comp_details", "data.source_comp_details.image_face_detail",
    "data.source_comp_details.thresholds", "data.req_measure_info.measure_type",
    "data.algorithm_base_resp.status_message", "envelope", "action", "context", "context.a",
]  # fmt: skip


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("place", PLACES)
def test_a_personal_value_never_lands(place, how):
    """Wherever its key stands, and however it is written, on either road."""
    names = itertools.cycle(("image_best", "IDCARD_no", "byted_token", "subject", "video"))
    for name, held in zip(names, HIDING.values(), strict=False):
        value = hidden(name, held, how)
        around = {
            "envelope": {"x": value},
            "action": {"action": value},
            "context": {"context": value},
            "context.a": {"context": {"a": value}},
        }
        inside = place not in around
        line = changed(place, value) if inside else {"response": PAGE_SAMPLE} | around[place]
        data = json.dumps(line, ensure_ascii=False).encode()
        made = read(data)
        assert SECRET not in repr(made)
        assert "5550123" not in repr(made)
        flat = Flattener(ReadOptions()).flatten(Block("s", data, 7, 0))
        rows = [made] if isinstance(made, dict) else []
        names_there = flat.verifications.schema.names
        assert flat.verifications.to_pylist() == [{n: r.get(n) for n in names_there} for r in rows]


def test_only_the_personal_part_of_a_json_text_goes():
    made = row(
        {
            "response": PAGE_SAMPLE | {"data": '{"images": {"image_best": "AAAA"}, "n": 1.50}'},
            "subject": ["nobody"],
            "context": {"app": '{"b": 1, "a": 2}', "log": '{"video":"AA","n":1}', "image_env": "A"},
        }
    )
    assert (made["ctx_app"], made["ctx_log"]) == ('{"b": 1, "a": 2}', '{"n":1,"video":"[2 bytes]"}')
    assert json.loads(made["extra"]) == {
        "data": '{"images":"[21 bytes]","n":1.50}',
        "envelope": {"subject": "[10 bytes]", "context": {"image_env": "[1 bytes]"}},
    }
    assert made["issues"] == ["type:$.data", "type:envelope.subject", "size:envelope.context.log"]
    assert row(PAGE_SAMPLE | {"message": "[verify] video expired"})["message"] == (
        "[verify] video expired"
    )


def test_a_context_path_to_a_personal_value():
    line = {"response": PAGE_SAMPLE, "call": {"byted_token": SECRET}}
    made = row(line, context_path="call.byted_token")
    assert SECRET not in repr(made)
    with pytest.raises(UsageError, match="idcard_no"):
        ReadOptions(context={"idcard_no": "1"})


def test_long_ids_are_no_ids():
    made = row(PAGE_SAMPLE | {"request_id": "x" * 5000})
    assert made["request_id"].startswith("sha256:")
    assert made["issues"] == ["size:$.request_id"]
    assert json.loads(made["extra"]) == {"request_id": "[5000 bytes]"}


def test_extra_keeps_numbers_as_they_were():
    made = row(
        json.dumps(PAGE_SAMPLE)[:-1].encode()
        + b',"x":[1e400,1.10,123456789012345678901234567890,-0]}'
    )
    assert made["extra"] == '{"x":[1e400,1.10,123456789012345678901234567890,-0]}'


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


@pytest.mark.parametrize(
    "text",
    [
        '"' + '\\"' * 500_000,
        "[" * 1_000_000,
        '{"":' * 300_000,
        "b'{" * 300_000,
        'b"{' + "b'{" * 300_000,
        '{"code":1,"x":' + "9" * 1_000_000 + "}",
        '{"code":' + "9" * 1_000_000 + "}",
        "[]," * 300_000,
        '{"code":1,"x":' + '[{"a":' * 30 + "[1,2," * 3 + "1" * 200_000 + "]" * 3 + "}]" * 30 + "}",
        '{"code":1,"data":{"source_comp_details":{"score":"' + "9" * 1_000_000 + '"}}}',
    ],
)
def test_hostile_texts_take_no_longer_than_they_are_long(text):
    started = time.process_time()
    made = read(text.encode())
    assert time.process_time() - started < 5
    assert len(repr(made)) < 20_000


@pytest.mark.parametrize("text", GOOD)
def test_valid_texts_are_read(text):
    line = b'{"code":1,"data":{"risk_result":%b},"x":%b}' % (
        json.dumps(text).encode(),
        text.encode(),
    )
    assert not isinstance(read(line), Refusal)
    alone = read(text.encode())
    assert alone.reason == "not_a_response"


@pytest.mark.parametrize("text", BAD)
def test_invalid_texts_are_refused(text):
    data = text.encode()
    refused = read(data)
    assert refused.reason in {"syntax", "depth", "encoding"}
    assert len(refused.detail) <= 200
    inside = read(b'{"code":1,"x":' + data + b"}")
    assert isinstance(inside, Refusal)
    for path in ("data.risk_result", "data.source_comp_details.image_face_detail"):
        if text:
            assert read(changed(path, text)).reason in {"syntax", "depth", "encoding"}


@pytest.mark.parametrize("data", BAD_BYTES)
def test_bytes_that_are_no_utf8(data):
    assert read(data).reason in {"encoding", "syntax"}
    assert read(b'{"code":1,"x":' + data + b"}").reason in {"encoding", "syntax"}
