"""Arrays, pretty-printed and concatenated JSON, whole and broken."""

from __future__ import annotations

import gzip
import hashlib
import json
import random

import pytest
from builders.sources import (
    answer,
    one,
    read,
    rows,
    written,
)

from verifyanalytics.sources import reading as sources
from verifyanalytics.sources.json_stream import MAX_LEVELS
from verifyanalytics.sources.streams import MAX_DOCUMENTS


class TestJson:
    def read(self, folder, data, **options):
        source = one(written(folder, "a.json", data))
        assert source.form == "json"
        return read(source, **options)

    def test_array_elements(self, tmp_path):
        documents, rejects = self.read(tmp_path, b'[ {"code":1} , {"code":2,"x":["]"]} ]')
        assert documents == [(1, b'{"code":1}'), (2, b'{"code":2,"x":["]"]}')]
        assert not rejects

    def test_one_pretty_printed_object(self, tmp_path):
        text = json.dumps({"code": 1, "data": {"tags": ["{", "\\"]}}, indent=4).encode()
        assert self.read(tmp_path, b"\n" + text + b"\n") == ([(1, text)], [])

    def test_objects_in_a_row(self, tmp_path):
        data = b'{"code":1}{"code":2}\n\n{"code":\n3}, {"code":4}\x1e{"code":5}'
        documents, rejects = self.read(tmp_path, data)
        assert [json.loads(text)["code"] for _, text in documents] == [1, 2, 3, 4, 5]
        assert not rejects

    @pytest.mark.parametrize(
        ("data", "kept", "lost"),
        [
            # a bracket is missing: the next element begins where none can
            (b'[{"code":1,{"code":2},{"code":3}]', [2, 3], [(1, b'{"code":1,')]),
            # a string is not closed: every later quote means the other thing
            (b'[{"code":1,"m":"a},{"code":2,"m":"x"}]', [2], [(1, b'{"code":1,"m":"a},')]),
            (b'[\n{"code":1,"m":"a\n},\n{"code":2}]', [2], [(1, b'{"code":1,"m":"a\n},\n')]),
            # torn in the middle of a write
            (b'[{"code":1,"da{"code":2},{"code":3}]', [2, 3], [(1, b'{"code":1,"da')]),
            # the wrong bracket closes
            (b'[{"code":[1},{"code":2}]', [2], [(1, b'{"code":[1},')]),
            # all that follows seems nested; found again from the end
            (b'[{"code":[1,{"code":2},{"code":3}]', [2, 3], [(1, b'{"code":[1,')]),
            # an unknown first name is known once seen
            (b'[{"id":1},{"id":2,"m":"a},{"id":3,"m":"x"}]', [1, 3], [(2, b'{"id":2,"m":"a},')]),
            # cut off
            (b'[{"code":1},{"code":2,"x', [1], [(2, b'{"code":2,"x')]),
        ],
    )
    def test_a_broken_element_does_not_take_the_rest(self, tmp_path, data, kept, lost):
        documents, rejects = self.read(tmp_path, data)
        assert [json.loads(t).get("code", json.loads(t).get("id")) for _, t in documents] == kept
        got = [(r.row, data[r.byte_offset : r.byte_offset + r.n_bytes]) for r in rejects]
        assert got == lost
        for reject, (_, stretch) in zip(rejects, lost, strict=True):
            assert reject.sha256 == hashlib.sha256(stretch).hexdigest()
            assert reject.reason == "syntax"

    def test_empty_elements_and_an_open_array_are_told(self, tmp_path):
        documents, rejects = self.read(tmp_path, b'[{"code":1},,{"code":3},')
        assert [row for row, _ in documents] == [1, 3]
        assert [(r.row, r.reason, r.n_bytes) for r in rejects] == [
            (2, "syntax", 0),
            (4, "source", 0),
        ]

    def test_scalars_and_garbage_are_documents_for_the_reader(self, tmp_path):
        documents, rejects = self.read(tmp_path, b'[\nnull, "a,]", x{"code":1}, }, 5 ]')
        assert [text for _, text in documents] == [
            b"null", b'"a,]"', b"x", b'{"code":1}', b"}", b"5",
        ]  # fmt: skip
        assert not rejects

    def test_too_deep_and_too_large(self, tmp_path):
        deep = b'{"code":' * (MAX_LEVELS + 1) + b"1" + b"}" * (MAX_LEVELS + 1)
        large = b'{"code":"' + b"A" * 2000 + b'"}'
        data = b"[" + deep + b',{"code":2},' + large + b',{"code":4}]'
        documents, rejects = self.read(tmp_path, data, max_document=1500, block_bytes=200)
        assert [row for row, _ in documents] == [2, 4]
        assert [(r.row, r.reason) for r in rejects] == [(1, "depth"), (3, "size")]
        assert rejects[1].n_bytes == len(large) + 1  # up to the next start

    def test_a_large_array_comes_in_blocks(self, tmp_path):
        data = json.dumps([{"code": i, "x": "A" * 100} for i in range(1000)]).encode()
        source = one(written(tmp_path, "a.json", data))
        blocks = list(sources.blocks(source, block_bytes=4096))
        assert len(blocks) > 20
        for block in blocks:
            assert len(block.data) < 5000
            assert data[block.byte_offset :].startswith(block.data)
            assert block.first_row == block.documents[0].row
        assert rows(source, block_bytes=4096) == list(range(1, 1001))

    @pytest.mark.parametrize(
        ("head", "unit", "rejects_of"), [(b"[\n", b",\n", 1), (b'[{"code":1},', b'{"code":1,{', 2)]
    )
    def test_many_rejects_come_in_few_blocks(self, tmp_path, head, unit, rejects_of):
        n = MAX_DOCUMENTS
        source = one(written(tmp_path, "a.json", head + unit * n))
        made = list(sources.blocks(source))
        n_rejects = [len(block.rejects) for block in made]
        assert sum(n_rejects) >= rejects_of * n
        assert max(n_rejects) <= MAX_DOCUMENTS
        assert len(made) <= rejects_of + 1

    def test_a_loss_between_documents_stays_in_their_block(self, tmp_path):
        data = b'[{"code":1},{"code":[2},{"code":3}]'
        [block] = sources.blocks(one(written(tmp_path, "a.json", data)))
        assert [row for row, *_ in block.documents] == [1, 3]
        [reject] = block.rejects
        assert reject.row == 2
        assert data[reject.byte_offset :].startswith(b'{"code":[2}')

    def test_hostile_nesting_takes_linear_time(self, tmp_path):
        data = b"[" + b'{"code":[1,' * 20_000
        documents, rejects = self.read(tmp_path, data)
        assert not documents
        assert sum(r.n_bytes for r in rejects) == len(data) - 1


def test_damage_in_an_array_keeps_what_is_whole(tmp_path):
    data = b"[" + b",".join(answer(i, noise=random.Random(i).random()) for i in range(5000)) + b"]"
    packed = gzip.compress(data)
    source = one(written(tmp_path, "a.json.gz", packed[: len(packed) // 2]))
    documents, [reject] = read(source)
    assert len(documents) > 1000
    assert [int(json.loads(text)["request_id"]) for _, text in documents] == [
        *range(len(documents))
    ]
    assert (reject.row, reject.reason) == (len(documents) + 1, "source")
