"""One response, one row or one reason: shapes, types, ids and content."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from builders.answers import FAULT, GATEWAY, PAGE_SAMPLE, QUALITY, QUERY, nested
from builders.responses import changed, read, row

from verifyanalytics.parsing.reference import Refusal, read_response
from verifyanalytics.parsing.text import ReadOptions
from verifyanalytics.schema import REJECT_REASONS, VERIFICATIONS


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


def test_extra_keeps_numbers_as_they_were():
    made = row(
        json.dumps(PAGE_SAMPLE)[:-1].encode()
        + b',"x":[1e400,1.10,123456789012345678901234567890,-0]}'
    )
    assert made["extra"] == '{"x":[1e400,1.10,123456789012345678901234567890,-0]}'
