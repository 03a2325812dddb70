"""Images, personal values and long texts leave their size only."""

from __future__ import annotations

import itertools
import json

import pytest
from builders.answers import PAGE_SAMPLE
from builders.responses import KEY, changed, read, row

from verifyanalytics.errors import UsageError
from verifyanalytics.parsing.fast.flattener import Flattener
from verifyanalytics.parsing.reference import Refusal
from verifyanalytics.parsing.text import ReadOptions, keyed_hash
from verifyanalytics.sources.streams import Block


def test_images_leave_their_size_and_a_print_on_request():
    answer = changed("data.images", {"image_best": "QUJD", "image_env": "", "image_new": "QUJD"})
    made = row(answer, key=KEY, print_key=KEY)
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

HOW = ["plain", "text", "array", "twice", "deep", "escaped", "covered", "cut"]
PLACES = [
    "message", "request_id", "time_elapsed", "new", "data", "data.risk_result", "data.new",
    "data.source_comp_details", "data.source_comp_details.image_face_detail",
    "data.source_comp_details.thresholds", "data.req_measure_info.measure_type",
    "data.algorithm_base_resp.status_message", "envelope", "action", "context", "context.a",
]  # fmt: skip


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
