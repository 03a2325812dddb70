"""Which form a text has, and JSON5."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from builders.sources import (
    answer,
    one,
    read,
    written,
)

from verifyanalytics.sources.discovery import text_form

DATA = Path(__file__).parents[1] / "data"


class TestForm:
    @pytest.mark.parametrize(
        ("data", "form"),
        [
            (b"", "lines"),
            (b'{"code":1}', "lines"),
            (b'\n\n  {"code":1}\n', "lines"),
            (b'{"code":1}\n{"code":2}', "lines"),
            (b'{"code":10000,"da\n{"code":2}\n{"code":3}\n', "lines"),
            (b'{"code":10000,"da\n{"code":2', "lines"),
            (b'{"code":10000,"data":\n{"code":2,"x":{', "lines"),
            (b'[{"code":10000,\n{"code":2}\n{"code":3}\n', "lines"),
            (b"[2024-05-01 12:00:00] b'{}'\n[2024-05-01 12:00:01] b'{}'\n", "lines"),
            (b'garbage\n{"code":2}\n', "lines"),
            (b'[1.5e3]\n["x"]\n[]\n', "lines"),
            (b'"text"\n', "lines"),
            (b'{"code":1} trailing\n{"code":2} trailing\n', "lines"),
            (b'{"code":1]\n[}\n', "lines"),
            (b'{"code":1}{"code":2}', "json"),
            (b'{"code":1}{"code":2}\n{"code":3}{"code":4}\n', "json"),
            (b'{"code":1}, {"code":2}', "json"),
            (b'{"code":1}{"code":2}\n{"code":3}\n{"code":4}\n', "lines"),
            (b'{\n  "code": 1\n}\n', "json"),
            (b'{"code":\n10000}', "json"),
            (b"[]", "json"),
            (b'[{"code":1}]', "json"),
            (b'[{"code":1},{"code":2}]\n', "json"),
            (b'[\n{"code":1},\n{"code":2},\n{"code":3}\n]\n', "json"),
            (b'[{"code":1},\n{"code":2}]', "json"),
            (b"[\n  null,\n  {}\n]", "json"),
            (b"[1, 2]\n", "json"),
            (b"[2024-05-01 08:00:00] ERROR b'{\"code\":10000}'", "lines"),
            (b"[1, 2] [3]", "lines"),
            (b'{"code":1} \x1e{"code":2}', "json"),
            (b'\x1e{"code":1}\n\x1e{"code":2}\n', "json"),
        ],
    )
    def test_form_by_content(self, data, form):
        assert text_form(data, whole=True) == form

    @pytest.mark.parametrize("suffix", [".ndjson", ".jsonl", ".log"])
    def test_a_promise_of_lines_is_taken(self, tmp_path, suffix):
        assert one(written(tmp_path, f"a{suffix}", b'[{"code":1}]\n[]\n')).form == "lines"

    def test_long_first_lines(self, tmp_path):
        heavy = answer(1, image="A" * 400_000)
        assert one(written(tmp_path, "a.json", heavy + b"\n" + heavy)).form == "lines"
        assert one(written(tmp_path, "b.json", heavy + heavy)).form == "json"
        assert one(written(tmp_path, "c.json", b"[" + heavy + b"]")).form == "json"

    @pytest.mark.parametrize(
        ("head", "word"),
        [(b"PK\x03\x04" + b"x" * 500, "ZIP"), (b"a.json".ljust(257, b"\0") + b"ustar\0", "tar")],
    )
    def test_archives_are_named(self, tmp_path, head, word):
        documents, [reject] = read(one(written(tmp_path, "a.dat", head)))
        assert not documents
        assert reject.reason == "source"
        assert word in reject.detail


class TestJson5:
    def test_the_sample_is_one_document_with_all_digits(self):
        source = one(DATA / "sample_reply.json5")
        [(row, text)], rejects = read(source)
        assert (row, rejects) == (1, [])
        reply = json.loads(text)
        assert reply["data"]["source_comp_details"]["score"] == 87.69
        assert "3.6389399293661118" in reply["data"]["source_comp_details"]["image_face_detail"]
        assert reply["request_id"] == "6838889517957515275"

    def test_numbers_keep_every_digit(self, tmp_path):
        values = [0.1, 72.7593973238521, 2.6744861315819435e-05, 6838889517957515275]
        text = f"{{'code': [{', '.join(map(repr, values))},]}}"
        [(_, got)], _ = read(one(written(tmp_path, "a.json5", text.encode())))
        assert json.loads(got)["code"] == values

    def test_an_array_is_its_elements(self, tmp_path):
        documents, _ = read(one(written(tmp_path, "a.json5", b"[{code:1}, {code:2},]")))
        assert [(row, json.loads(text)) for row, text in documents] == [
            (1, {"code": 1}),
            (2, {"code": 2}),
        ]

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"{code:", "syntax"),
            (b"{code:1} x", "syntax"),
            (b"{'a':'\xff'}", "encoding"),
            (b"[" * 5000, "depth"),
            (b" " * (4 << 20) + b"{} ", "size"),
        ],
    )
    def test_what_cannot_be_read(self, tmp_path, data, reason):
        documents, [reject] = read(one(written(tmp_path, "a.json5", data)))
        assert not documents
        assert (reject.reason, reject.n_bytes) == (reason, len(data))
        assert reject.sha256 == hashlib.sha256(data).hexdigest()
