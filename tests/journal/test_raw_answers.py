"""What the journal keeps of a reply: all that makes a row, and nothing that is a person."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from verifyanalytics.journal.raw_answers import raw_line

AT = datetime(2024, 6, 1, tzinfo=UTC)


def kept(reply):
    line = raw_line(
        json.dumps(reply).encode(), action="CertVerify", req_key="cert_pro_src_verify",
        token="t" * 32, received_at=AT, http_status=200,
    )  # fmt: skip
    return json.loads(line)


def test_pictures_become_their_sizes():
    line = kept({"code": 10000, "data": {"images": {"image_best": "FACE", "image_env": ""}}})
    assert line["images"] == {"image_best_bytes": 4}
    assert line["response"]["data"]["images"] == {"image_best": "", "image_env": ""}


@pytest.mark.parametrize("name", ["idcard_no", "IDCARD_NO", "Subject", "byted_token", "Video"])
def test_personal_values_leave_their_size_however_the_name_is_written(name):
    assert kept({"code": 10000, "data": {name: "CANARY"}})["response"]["data"] == {
        name: "[6 bytes]"
    }
    assert kept({"code": 10000, name: 110101})["response"][name] == "[number]"
    assert "CANARY" not in json.dumps(kept({"list": [{name: ["CANARY"]}]}))


def test_what_is_no_strict_json_is_not_kept():
    for body in (b'{"code":NaN}', b"\xff", b"<html>", b""):
        assert (
            raw_line(
                body, action="CertVerify", req_key="k", token="t", received_at=AT, http_status=200
            )
            is None
        )
