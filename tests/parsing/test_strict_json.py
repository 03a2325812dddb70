"""Texts that are JSON, that are not, and that are hostile."""

from __future__ import annotations

import json
import time

import pytest
from builders.json_texts import BAD, BAD_BYTES, GOOD
from builders.responses import changed, read

from verifyanalytics.parsing.reference import Refusal


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
