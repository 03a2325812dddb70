"""Every form an answer is stored in, whole, damaged and hostile."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import random
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from verifyanalytics.errors import InputError, UsageError
from verifyanalytics.parsing.envelope import ReadOptions
from verifyanalytics.parsing.fast.flattener import Flattener
from verifyanalytics.sources import reading as sources
from verifyanalytics.sources.blocks import MAX_DOCUMENTS
from verifyanalytics.sources.formats import text_form
from verifyanalytics.sources.json_stream import MAX_LEVELS
from verifyanalytics.sources.streams import StreamDamageError, inflated_chunks

DATA = Path(__file__).parents[1] / "data"


def answer(number: int, **more: object) -> bytes:
    """One made-up reply on one line."""
    return json.dumps({"code": 10000, "request_id": str(number), **more}).encode()


def lines_of(*numbers: int) -> bytes:
    return b"".join(answer(number) + b"\n" for number in numbers)


def written(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def one(path: object, **options: object) -> sources.Source:
    [source] = sources.discover([path], **options)  # type: ignore[list-item, arg-type]
    return source


def read(source, **options):
    """(row, bytes) of every response, and every reject, by a plain loop over the blocks."""
    documents, rejects = [], []
    for block in sources.blocks(source, **options):
        assert block.source == source.name
        rejects += block.rejects
        if block.documents is None:
            lines = block.data.split(b"\n")
            documents += [
                (row, line) for row, line in enumerate(lines, block.first_row) if line.strip()
            ]
        else:
            documents += [(row, block.data[start:end]) for row, start, end in block.documents]
    return documents, rejects


def rows(source, **options):
    return [row for row, _ in read(source, **options)[0]]


def reasons(source, **options):
    return [(r.row, r.reason) for r in read(source, **options)[1]]


def numbers(source, **options):
    """The request_id of each response."""
    return [int(json.loads(text)["request_id"]) for _, text in read(source, **options)[0]]


ZSTD = pa.Codec("zstd")


def zstd(data: bytes) -> bytes:
    return ZSTD.compress(data, asbytes=True)


CODECS = {"gz": gzip.compress, "zst": zstd, "bz2": bz2.compress, "xz": lzma.compress}
NAMES = {"gz": "gzip", "zst": "zstd", "bz2": "bz2", "xz": "xz"}


class TestLines:
    def test_rows_and_offsets_of_plain_lines(self, tmp_path):
        data = lines_of(1, 2) + b"\n  \n" + lines_of(3)
        path = written(tmp_path, "a.ndjson", data)
        documents, rejects = read(one(path))
        assert [row for row, _ in documents] == [1, 2, 5]
        assert not rejects
        for block in sources.blocks(one(path), block_bytes=40):
            assert data[block.byte_offset :].startswith(block.data)

    @pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
    @pytest.mark.parametrize("last", [True, False])
    def test_endings(self, tmp_path, ending, last):
        data = ending.join([answer(1), answer(2)]) + (ending if last else b"")
        assert numbers(one(written(tmp_path, "a.jsonl", data))) == [1, 2]

    @pytest.mark.parametrize("name", ["a.json", "a.ndjson", "a.txt", "a.json.gz", "a.csv"])
    def test_an_empty_file_has_no_responses(self, tmp_path, name):
        assert read(one(written(tmp_path, name, b""), column="response")) == ([], [])

    def test_a_mark_is_left_out_and_counted(self, tmp_path):
        path = written(tmp_path, "a.json", b"\xef\xbb\xbf" + lines_of(1, 2))
        [block] = sources.blocks(one(path))
        assert (block.byte_offset, block.data) == (3, lines_of(1, 2))

    @pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
    def test_other_encodings_are_one_clear_reject(self, tmp_path, codec):
        data = lines_of(1, 2).decode().encode(codec)
        source = one(written(tmp_path, "a.ndjson", data))
        documents, [reject] = read(source)
        assert not documents
        assert (reject.row, reject.byte_offset, reject.reason) == (1, 0, "encoding")
        assert reject.n_bytes == len(data)
        assert reject.sha256 == hashlib.sha256(data).hexdigest()
        assert "UTF-8" in reject.detail

    def test_zero_bytes_and_garbage_stay_lines(self, tmp_path):
        data = b"\x01\x00\xff\n" + lines_of(2) + b"\0\0\0\n" + lines_of(4)
        assert rows(one(written(tmp_path, "a.json", data))) == [1, 2, 3, 4]

    def test_a_line_too_long_is_hashed_not_held(self, tmp_path):
        long = b'{"x":"' + b"A" * 5000 + b'"}'
        data = lines_of(1) + long + b"\n" + lines_of(3) + long
        source = one(written(tmp_path, "a.ndjson", data))
        documents, rejects = read(source, max_document=1000, block_bytes=300)
        assert [row for row, _ in documents] == [1, 3]
        assert [(r.row, r.reason, r.n_bytes) for r in rejects] == [
            (2, "size", len(long)),
            (4, "size", len(long)),
        ]
        assert [r.byte_offset for r in rejects] == [data.index(long), data.rindex(long)]
        assert {r.sha256 for r in rejects} == {hashlib.sha256(long).hexdigest()}

    def test_a_line_as_long_as_allowed_is_read(self, tmp_path):
        path = written(tmp_path, "a.ndjson", b"A" * 1000 + b"\n" + b"B" * 1001 + b"\n")
        assert reasons(one(path), max_document=1000) == [(2, "size")]
        assert rows(one(path), max_document=1000) == [1]

    def test_tiny_lines_are_not_all_in_one_block(self, tmp_path):
        n = 2 * MAX_DOCUMENTS + 7
        data = b"1\n" * n
        made = list(sources.blocks(one(written(tmp_path, "a.ndjson", data))))
        assert [block.first_row for block in made] == [1, MAX_DOCUMENTS + 1, 2 * MAX_DOCUMENTS + 1]
        assert [block.byte_offset for block in made] == [0, 2 * MAX_DOCUMENTS, 4 * MAX_DOCUMENTS]
        assert b"".join(block.data for block in made) == data

    def test_log_lines_stay_as_they_are(self, tmp_path):
        line = rb"""b'{"code":50400,"time_elapsed":"84.448\xc2\xb5s"}'"""
        source = one(written(tmp_path, "sdk.txt", line + b"\n" + line + b"\n"))
        assert source.form == "lines"
        assert read(source)[0] == [(1, line), (2, line)]


class TestRanges:
    def test_ranges_cover_the_file_and_hash_it(self, tmp_path):
        rng = random.Random(5)
        data = b"".join(b"x" * rng.randrange(60) + b"\n" for _ in range(500)) + b"tail"
        source = one(written(tmp_path, "a.ndjson", data))
        digest = hashlib.sha256()
        ranges = list(sources.line_ranges(source, 700, update=digest.update))
        assert digest.hexdigest() == hashlib.sha256(data).hexdigest()
        assert len(ranges) > 10
        assert [r.start for r in ranges] == [0, *(r.end for r in ranges[:-1])]
        assert ranges[-1].end == len(data)
        for piece in ranges:
            assert piece.first_row == data[: piece.start].count(b"\n") + 1
            assert piece.n_lines == len(data[piece.start : piece.end].splitlines())
        pieces = [
            read(source, start=r.start, end=r.end, first_row=r.first_row, block_bytes=100)[0]
            for r in ranges
        ]
        assert [found for piece in pieces for found in piece] == read(source)[0]

    def test_a_mark_at_the_start(self, tmp_path):
        source = one(written(tmp_path, "a.ndjson", b"\xef\xbb\xbf" + lines_of(1, 2)))
        [piece] = sources.line_ranges(source, 1 << 20)
        assert numbers(source, start=piece.start, end=piece.end) == [1, 2]

    def test_an_empty_file_has_no_ranges(self, tmp_path):
        assert not list(sources.line_ranges(one(written(tmp_path, "a.json", b"")), 100))

    def test_only_plain_lines_can_be_cut(self, tmp_path):
        source = one(written(tmp_path, "a.ndjson.gz", gzip.compress(lines_of(1))))
        assert not source.splittable
        with pytest.raises(UsageError, match="plain file of lines"):
            list(sources.line_ranges(source, 100))
        with pytest.raises(UsageError, match="in pieces"):
            list(sources.blocks(source, start=5))


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


@pytest.mark.parametrize("suffix", CODECS)
class TestCompression:
    def test_members_in_a_row(self, tmp_path, suffix):
        packed = CODECS[suffix](lines_of(1, 2)) + CODECS[suffix](lines_of(3))
        source = one(written(tmp_path, f"a.ndjson.{suffix}", packed))
        assert (source.compression, source.n_bytes) == (NAMES[suffix], len(packed))
        assert numbers(source) == [1, 2, 3]

    def test_known_by_its_bytes(self, tmp_path, suffix):
        source = one(written(tmp_path, "a.json", CODECS[suffix](b'[{"code":1}]')))
        assert (source.compression, source.form) == (NAMES[suffix], "json")
        assert one(written(tmp_path, f"b.json.{suffix}", lines_of(1))).compression is None

    @pytest.mark.parametrize("junk", [b"trailing garbage", b"\xff" * 40])
    def test_garbage_behind_it(self, tmp_path, suffix, junk):
        whole = lines_of(1, 2)[:-1]  # the last line has no newline, and is whole all the same
        source = one(written(tmp_path, f"a.ndjson.{suffix}", CODECS[suffix](whole) + junk))
        documents, [reject] = read(source)
        assert [row for row, _ in documents] == [1, 2]
        assert (reject.row, reject.byte_offset, reject.reason) == (3, len(whole), "source")

    def test_cut_off(self, tmp_path, suffix):
        data = b"".join(answer(i, noise=random.Random(i).random()) + b"\n" for i in range(5_000))
        packed = CODECS[suffix](data)
        packed = packed + packed[: len(packed) * 9 // 10]  # a member whole, then one cut off
        source = one(written(tmp_path, f"a.ndjson.{suffix}", packed))
        documents, rejects = read(source)
        assert [text for _, text in documents] == (data + data).split(b"\n")[: len(documents)]
        assert len(documents) >= 5_000
        assert [r.reason for r in rejects] == ["source"]
        assert rejects[0].row == len(documents) + 1
        before = (data + data)[: rejects[0].byte_offset]
        assert before.splitlines() == [text for _, text in documents]

    @pytest.mark.parametrize("n_zeros", [1, 3, 4, 512, 200_000])
    def test_zeros_behind_it_are_padding(self, tmp_path, suffix, n_zeros):
        zeros = b"\0" * n_zeros  # in the middle, too, and where a frame ends in zeros of its own
        packed = CODECS[suffix](lines_of(1)) + CODECS[suffix](b"\n" + b"\0" * 3000 + b"\n")
        source = one(written(tmp_path, f"a.ndjson.{suffix}", packed + zeros))
        documents, rejects = read(source)
        assert [row for row, _ in documents] == [1, 3]
        assert not rejects

    def test_damage_in_the_middle_doubts_its_member_only(self, tmp_path, suffix):
        noise = random.Random(3)
        data = b"".join(answer(i, noise=noise.random()) + b"\n" for i in range(3_000))
        packed = bytearray(CODECS[suffix](data))
        for at in range(len(packed) // 2, len(packed) // 2 + 40):
            packed[at] ^= 0x55
        source = one(written(tmp_path, f"a.ndjson.{suffix}", CODECS[suffix](data) + packed))
        documents, [reject] = read(source)
        sound = 0 if suffix == "zst" else 3_000  # the frames of zstd are not told apart
        assert len(documents) == sound
        assert (reject.row, reject.reason) == (sound + 1, "source")
        assert "damaged" in reject.detail

    def test_not_compressed_at_all(self, tmp_path, suffix):
        documents, rejects = read(one(written(tmp_path, f"a.ndjson.{suffix}", b"\0\1\2binary")))
        assert not documents
        assert [(r.row, r.byte_offset, r.reason) for r in rejects] == [(1, 0, "source")]

    def test_a_bomb_stops(self, tmp_path, suffix):
        data = lines_of(1) + b"\n" * 3_000_000
        source = one(written(tmp_path, f"a.ndjson.{suffix}", CODECS[suffix](data)))
        documents, rejects = read(source, max_ratio=50, free_bytes=100_000)
        assert [row for row, _ in documents] == [1]
        [reject] = rejects
        assert reject.reason == "source"
        assert "bomb" in reject.detail
        assert reject.byte_offset < len(data)
        assert not read(source)[1]


def test_what_a_wrong_checksum_stands_behind_is_not_taken(tmp_path):
    """A changed digit decodes like any other; only the checksum at the end tells."""
    data = lines_of(*range(5000))
    packed = gzip.compress(data, compresslevel=0)
    bad = packed.replace(b'"4000"', b'"4444"')
    path = written(tmp_path, "a.ndjson.gz", bad)
    documents, [reject] = read(one(path))
    assert not documents
    assert (reject.row, reject.byte_offset, reject.reason) == (1, 0, "source")
    assert reject.detail.startswith("the gzip stream is damaged: ")
    chunks = inflated_chunks(str(path), "a", "gzip", 500, 1 << 30, held_bytes=100_000)
    assert data.startswith(next(chunks))
    with pytest.raises(StreamDamageError, match="before this one may be wrong") as caught:
        list(chunks)
    assert 0 < caught.value.position <= len(data) - 100_000


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


CELLS = ['{"code":1,"x":"a, \\"b\\"\\n"}', '{"code":2}', '{"response":{"code":9}}", "evil":1}']


def envelopes(source, **options):
    documents, rejects = read(source, **options)
    return [(row, json.loads(text)) for row, text in documents], rejects


def occurred(source):
    """Times as rows have them."""
    moments = []
    for block in sources.blocks(source):
        made = Flattener(ReadOptions()).flatten(block).verifications["occurred_at"].to_pylist()
        moments += [None if m is None else f"{m:%Y-%m-%d %H:%M:%S.%f}" for m in made]
    return [None if m is None else m.rstrip("0").rstrip(".") if "." in m else m for m in moments]


class TestTables:
    def parquet(self, folder, name="a.parquet", **columns):
        pq.write_table(pa.table(columns), folder / name, row_group_size=2)
        return folder / name

    def test_a_column_and_its_context(self, tmp_path):
        at = datetime(2024, 6, 1, 20, 0, 0, 123456, tzinfo=UTC)
        path = self.parquet(
            tmp_path,
            response=CELLS,
            at=pa.array([at] * 3, pa.timestamp("ns", "Asia/Shanghai")),
            subject=["s1", "s2", None],
            channel=pa.array(["app", None, "web"]).dictionary_encode(),
            n=[1, 2, 3],
            list=[[1], None, []],
        )
        found, rejects = envelopes(one(path, column="response", time_column="at"))
        assert not rejects
        assert [row for row, _ in found] == [1, 2, 3]
        assert [envelope["response"] for _, envelope in found] == CELLS
        assert {envelope["occurred_at"] for _, envelope in found} == {"2024-06-01T20:00:00.123456Z"}
        assert [envelope.get("subject") for _, envelope in found] == ["s1", "s2", None]
        assert [envelope["context"] for _, envelope in found] == [
            {"channel": "app", "n": "1", "list": "[1]"},
            {"n": "2"},
            {"channel": "web", "n": "3", "list": "[]"},
        ]

    @pytest.mark.parametrize(
        "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary()]
    )
    def test_text_and_bytes(self, tmp_path, kind):
        path = self.parquet(tmp_path, response=pa.array(CELLS).cast(pa.binary()).cast(kind))
        found, _ = envelopes(one(path, column="response"))
        assert [envelope["response"] for _, envelope in found] == CELLS

    def test_cells_without_an_answer_keep_their_row(self, tmp_path):
        cells = pa.array([b"{}", None, b"", b"\xff", b"A" * 3000, b"{}"])
        path = self.parquet(tmp_path, response=cells)
        found, rejects = envelopes(one(path, column="response"), max_document=2000)
        assert [row for row, _ in found] == [1, 6]
        assert [(r.row, r.reason, r.byte_offset) for r in rejects] == [
            (2, "not_a_response", None),
            (3, "not_a_response", None),
            (4, "encoding", None),
            (5, "size", None),
        ]

    def test_a_damaged_file(self, tmp_path):
        path = self.parquet(tmp_path, response=[f'{{"code":{i}}}' for i in range(10)])
        data = bytearray(path.read_bytes())
        column = pq.ParquetFile(path).metadata.row_group(3).column(0)
        data[column.data_page_offset : column.data_page_offset + 8] = b"\xff" * 8
        found, rejects = envelopes(one(written(tmp_path, "b.parquet", data), column="response"))
        assert 0 < len(found) <= 6
        assert [(r.row, r.reason) for r in rejects] == [(len(found) + 1, "source")]
        short = written(tmp_path, "c.parquet", data[:50])
        assert reasons(one(short, column="response")) == [(1, "source")]

    def test_csv(self, tmp_path):
        text = "\ufeffid,response,occurred_at,http_status\r\n"
        quoted = [cell.replace('"', '""') for cell in CELLS]
        text += "".join(f'{i},"{cell}",2024-06-0{i},200\r\n' for i, cell in enumerate(quoted, 1))
        source = one(written(tmp_path, "a.csv", text.encode()), column="response")
        found, rejects = envelopes(source)
        assert not rejects
        assert found == [
            (
                i,
                {
                    "response": cell,
                    "occurred_at": f"2024-06-0{i}",
                    "http_status": 200,
                    "context": {"id": str(i)},
                },
            )
            for i, cell in enumerate(CELLS, 1)
        ]

    def test_csv_with_line_breaks_in_a_cell(self, tmp_path):
        data = b'response,n\n"{""code"":\n1}",x\n'
        found, rejects = envelopes(one(written(tmp_path, "a.csv", data), column="response"))
        assert not rejects
        assert found == [(1, {"response": '{"code":\n1}', "context": {"n": "x"}})]

    def test_tsv_takes_json_as_it_is(self, tmp_path):
        data = b'n\tresponse\n1\t{"code":1,"m":"a, \\" b"}\n2\t{"code":2}'
        found, rejects = envelopes(one(written(tmp_path, "a.tsv", data), column="response"))
        assert not rejects
        assert [e["response"] for _, e in found] == ['{"code":1,"m":"a, \\" b"}', '{"code":2}']

    def test_malformed_csv_rows_are_refused_one_by_one(self, tmp_path):
        rows_of_csv = [
            b'1,"{""code"":1}"',
            b"2",
            b'3,"{\\"code\\":3}"',
            b"4,",
            b'5,"{""code"":5},',
            b'6,"{""code"":6}"',
            b'7,"\xff"',
            b'8,"{""code"":8}"',
        ]
        data = b"id,response\n" + b"\n".join(rows_of_csv)
        found, rejects = envelopes(one(written(tmp_path, "a.csv", data), column="response"))
        assert [(row, e["context"]["id"]) for row, e in found] == [(1, "1"), (6, "6"), (8, "8")]
        assert [(r.row, r.reason) for r in rejects] == [
            (2, "source"),
            (3, "source"),
            (4, "not_a_response"),
            (5, "source"),
            (7, "encoding"),
        ]
        for reject in rejects:
            row_text = rows_of_csv[reject.row - 1]
            assert data[reject.byte_offset :].startswith(row_text)

    def test_a_csv_line_too_large(self, tmp_path):
        data = b"id,response\n1," + b"A" * 5000 + b"\n2,{}\n"
        source = one(written(tmp_path, "a.csv", data), column="response")
        found, rejects = envelopes(source, max_document=1000, block_bytes=100)
        assert [row for row, _ in found] == [2]
        assert [(r.row, r.reason, r.n_bytes) for r in rejects] == [(1, "size", 5002)]

    @pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.parquet"])
    def test_a_wrong_column_lists_what_is_there(self, tmp_path, name):
        path = tmp_path / name
        if name == "a.parquet":
            self.parquet(tmp_path, id=[1], payload=["{}"])
        else:
            path.write_bytes(
                (gzip.compress if name.endswith("gz") else bytes)(b"id,payload\n1,{}\n")
            )
        with pytest.raises(UsageError, match=r"no column response; it has: id, payload"):
            one(path, column="response")
        with pytest.raises(UsageError, match=r"name the column .*id, payload"):
            one(path)
        with pytest.raises(UsageError, match="no column at"):
            one(path, column="payload", time_column="at")
        with pytest.raises(UsageError, match="no column response"):
            read(one(path, column="payload"), column="response")

    def test_a_column_that_is_no_text(self, tmp_path):
        path = self.parquet(tmp_path, response=[{"code": 1}])
        with pytest.raises(UsageError, match="struct<code: int64>, not text"):
            one(path, column="response")

    @pytest.mark.parametrize(
        ("column", "moments"),
        [
            (pa.array([1714521600, None]), ["2024-05-01 00:00:00", None]),
            (pa.array([1714521600123]), ["2024-05-01 00:00:00.123"]),
            (pa.array([1714521600.25]), ["2024-05-01 00:00:00.25"]),
            (pa.array(["1714521600", "soon"]), ["2024-05-01 00:00:00", None]),
            (pa.array([date(2024, 5, 1)]), ["2024-05-01 00:00:00"]),
            (pa.array([datetime(2024, 5, 1, 8)], pa.timestamp("s")), ["2024-05-01 08:00:00"]),
            (
                pa.array([datetime(2024, 5, 1, tzinfo=UTC)], pa.timestamp("ns", "+08:00")),
                ["2024-05-01 00:00:00"],
            ),
        ],
    )
    def test_times_of_every_type(self, tmp_path, column, moments):
        cells = ['{"code":1}'] * len(column)
        source = one(self.parquet(tmp_path, r=column, a=cells), column="a", time_column="r")
        assert occurred(source) == moments
        if not pa.types.is_date(column.type):
            text = "".join(
                f'{"" if v is None else v},"{{""code"":1}}"\n' for v in column.to_pylist()
            )
            path = written(tmp_path, "a.csv", b"r,a\n" + text.encode())
            assert occurred(one(path, column="a", time_column="r")) == moments

    def test_columns_of_one_name_are_refused(self, tmp_path):
        path = written(tmp_path, "a.csv", b"id,response,c,c\n1,{},x,y\n")
        with pytest.raises(UsageError, match="more than one column is called c;"):
            one(path, column="response")
        table = pa.Table.from_arrays([pa.array(["{}"])] * 3, ["response", "c", "c"])
        pq.write_table(table, tmp_path / "a.parquet")
        with pytest.raises(UsageError, match="more than one column is called c;"):
            one(tmp_path / "a.parquet", column="response")

    def test_columns_without_a_name_have_a_number(self, tmp_path):
        path = written(tmp_path, "a.csv", b"response,,\n{},x,y\n")
        [(_, envelope)], _ = envelopes(one(path, column="response"))
        assert envelope["context"] == {"column 2": "x", "column 3": "y"}

    @pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
    def test_a_cell_that_is_not_utf8_is_told(self, tmp_path, name):
        if name == "a.csv":
            path = written(tmp_path, name, b"response,c\n{},x\n{},\xff\n{},y\n")
        else:
            broken = pa.array([b"x", b"\xff", b"y"]).view(pa.string())
            path = self.parquet(tmp_path, response=["{}"] * 3, c=broken)
        found, [reject] = envelopes(one(path, column="response"))
        assert [row for row, _ in found] == [1, 3]
        assert (reject.row, reject.reason) == (2, "encoding")
        assert reject.detail == "the cell of column c is not UTF-8"

    def test_a_nested_cell_that_is_not_utf8_is_told(self, tmp_path):
        broken = pa.array([b"x", b"\xff"]).view(pa.string())
        lists = pa.ListArray.from_arrays([0, 1, 2], broken)
        path = self.parquet(tmp_path, response=["{}"] * 2, c=lists)
        found, [reject] = envelopes(one(path, column="response"))
        assert [envelope["context"] for _, envelope in found] == [{"c": '["x"]'}]
        assert (reject.row, reject.reason) == (2, "encoding")

    def test_personal_cells_leave_their_size(self, tmp_path):
        face = {"image_best": "QUJD", "raw": b"QUJD", "n": 1}
        path = self.parquet(
            tmp_path,
            response=['{"code":1}'],
            image_best=["QUJD"],
            IDCARD_NO=["QUJD"],
            st=pa.array([face]),
            raw=pa.array([b"QUJD"]),
        )
        csv = b'image_best,response,st\nQUJD,"{""code"":1}","{""video"":""QUJD""}"\n'
        for source in (
            one(path, column="response"),
            one(written(tmp_path, "a.csv", csv), column="response"),
        ):
            [block] = sources.blocks(source)
            [row] = Flattener(ReadOptions()).flatten(block).verifications.to_pylist()
            assert "QUJD" not in repr(row)
            assert "image_best" in row["extra"]
        assert row["ctx_st"] == '{"video":"[4 bytes]"}'

    def test_many_tiny_rows_come_in_several_blocks(self, tmp_path):
        data = b"id,response\n" + b'"a\n' * (2 * MAX_DOCUMENTS)
        made = list(sources.blocks(one(written(tmp_path, "a.csv", data), column="response")))
        assert len(made) >= 2
        assert max(len(block.rejects) for block in made) <= MAX_DOCUMENTS

    def test_compressed_parquet_is_refused(self, tmp_path):
        path = self.parquet(tmp_path, response=["{}"])
        packed = written(tmp_path, "b.parquet.gz", gzip.compress(path.read_bytes()))
        documents, [reject] = read(one(packed, column="response"))
        assert not documents
        assert "decompress" in reject.detail


class TestDiscover:
    def test_a_folder_is_walked_in_order_and_tells_what_it_leaves(self, tmp_path):
        inner = tmp_path / "b" / "c"
        inner.mkdir(parents=True)
        (tmp_path / "store" / "responses" / "_delta_log").mkdir(parents=True)
        for name in ("z.json", "a.ndjson", "b/c/x.log", "b/y.json.gz", "store/responses/1.parquet"):
            written(tmp_path, name, lines_of(1))
        for name in (".hidden.json", "_SUCCESS", "notes.md", "labels.csv"):
            written(tmp_path, name, b"id,label\n")
        (tmp_path / "gone.json").symlink_to(tmp_path / "nowhere")
        skipped = {}
        found = sources.discover([tmp_path], on_skip=skipped.__setitem__)
        names = [Path(source.name).relative_to(tmp_path).as_posix() for source in found]
        assert names == ["a.ndjson", "b/c/x.log", "b/y.json.gz", "z.json"]
        why = {Path(k).relative_to(tmp_path).as_posix(): v for k, v in skipped.items()}
        assert why.keys() == {
            ".hidden.json", "_SUCCESS", "notes.md", "labels.csv", "gone.json", "store/responses",
        }  # fmt: skip
        assert why["notes.md"] == "unknown suffix"
        assert "id, label" in why["labels.csv"]

    def test_loops_end_and_each_real_file_comes_once(self, tmp_path):
        written(tmp_path, "a.json", lines_of(1))
        (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
        (tmp_path / "again.json").symlink_to(tmp_path / "a.json")
        found = sources.discover([tmp_path, tmp_path / "a.json", str(tmp_path / "*.json")])
        assert [Path(source.name).name for source in found] == ["a.json"]

    def test_names_are_as_given(self, tmp_path, monkeypatch):
        (tmp_path / "d").mkdir()
        written(tmp_path, "d/a.json", lines_of(1))
        monkeypatch.chdir(tmp_path)
        source = one("d/a.json")
        assert (source.name, Path(source.location)) == ("d/a.json", tmp_path / "d" / "a.json")
        assert [s.name for s in sources.discover(["d/*.json"])] == ["d/a.json"]
        assert [s.name for s in sources.discover(["**/*.json"])] == ["d/a.json"]

    @pytest.mark.skipif(sys.platform != "linux", reason="names are bytes there")
    def test_a_name_that_is_not_utf8_is_shown_with_escapes(self, tmp_path):
        folder = os.fsencode(tmp_path) + b"/st\xff"
        Path(os.fsdecode(folder)).mkdir()
        for name in (b"a\xfe.json", b"a\xfe.md"):
            Path(os.fsdecode(folder + b"/" + name)).write_bytes(lines_of(1))
        skipped = []
        given = os.fsdecode(folder)
        [source] = sources.discover([given], on_skip=lambda name, why: skipped.append(name))
        assert source.name.endswith(r"/st\xff/a\xfe.json")
        assert skipped[0].endswith(r"/st\xff/a\xfe.md")
        assert numbers(source) == [1]

    def test_a_given_file_is_read_whatever_its_name(self, tmp_path):
        assert numbers(one(written(tmp_path, "dump.dat", lines_of(1, 2)))) == [1, 2]
        assert numbers(one(written(tmp_path, "odd[1].json", lines_of(3)))) == [3]

    @pytest.mark.parametrize("path", ["nowhere.json", "no/*.json", "a\0b", "nothing://x/y"])
    def test_what_is_not_there(self, tmp_path, monkeypatch, path):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(UsageError) as caught:
            one(path)
        assert path.split("\0")[0] in str(caught.value)

    def test_no_regular_file(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(UsageError, match="no file or folder"):
            one(tmp_path / "pipe")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_no_permission(self, tmp_path):
        path = written(tmp_path, "a.json", lines_of(1))
        path.chmod(0)
        with pytest.raises(UsageError, match="ermission"):
            one(path)

    def test_a_file_that_vanishes_is_no_damage(self, tmp_path):
        path = written(tmp_path, "a.json", lines_of(1))
        source = one(path)
        path.unlink()
        with pytest.raises(InputError, match=r"cannot read .*a\.json: No such file"):
            read(source)

    def test_memory_urls(self):
        import fsspec

        filesystem = fsspec.filesystem("memory")
        filesystem.pipe(
            {"/in/a.json": lines_of(1, 2), "/in/b.ndjson.gz": gzip.compress(lines_of(3))}
        )
        filesystem.pipe("/in/notes.md", b"x")
        skipped = []
        found = sources.discover(["memory://in"], on_skip=lambda name, why: skipped.append(name))
        assert [s.name for s in found] == ["memory:///in/a.json", "memory:///in/b.ndjson.gz"]
        assert skipped == ["memory:///in/notes.md"]
        assert [numbers(s) for s in found] == [[1, 2], [3]]
        assert not found[0].splittable
        assert [s.name for s in sources.discover(["memory://in/*.json"])] == ["memory:///in/a.json"]
        with pytest.raises(UsageError, match="nothing at"):
            one("memory://in/none.json")
        filesystem.rm("/in", recursive=True)

    def test_s3(self, monkeypatch):
        server = pytest.importorskip("moto.server").ThreadedMotoServer(
            "127.0.0.1", 0, verbose=False
        )
        s3fs = pytest.importorskip("s3fs")
        server.start()
        try:
            host, port = server.get_host_and_port()
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", "made-up")
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
            monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
            filesystem = s3fs.S3FileSystem(skip_instance_cache=True)
            filesystem.mkdir("answers")
            filesystem.pipe("answers/day/a.ndjson", lines_of(1, 2))
            filesystem.pipe("answers/day/b.json.gz", gzip.compress(b"[" + answer(3) + b"]"))
            found = sources.discover(["s3://answers/day"])
            assert [s.name for s in found] == [
                "s3://answers/day/a.ndjson",
                "s3://answers/day/b.json.gz",
            ]
            assert [numbers(s) for s in found] == [[1, 2], [3]]
            assert found[0].n_bytes == len(lines_of(1, 2))
            with pytest.raises(UsageError, match="nothing at s3://answers/none"):
                one("s3://answers/none.json")
        finally:
            server.stop()

    def test_a_secret_in_a_url_stays_out_of_errors(self):
        with pytest.raises(UsageError) as caught:
            one("nothing://user:hunter2@host/a.json?sig=hunter2")
        assert "hunter2" not in str(caught.value)


class TestStdin:
    def test_a_stream_is_spooled_and_recognised(self, tmp_path):
        source = sources.spool(io.BytesIO(gzip.compress(b'[{"request_id":"7"}]')), tmp_path)
        assert (source.name, source.form, source.compression) == ("<stdin>", "json", "gzip")
        assert numbers(source) == [7]
        assert Path(source.location).stat().st_mode & 0o777 == 0o600

    def test_a_table_on_stdin_is_known_by_its_header(self, tmp_path):
        source = sources.spool(io.BytesIO(b'n,answer\n1,"{}"\n'), tmp_path, column="answer")
        assert source.form == "csv"
        assert rows(source) == [1]

    def test_a_dash_needs_a_folder(self, tmp_path, monkeypatch):
        with pytest.raises(UsageError, match="standard input"):
            one("-")
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines_of(1))))
        assert numbers(one("-", spool_folder=tmp_path)) == [1]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read there")
def test_a_long_line_is_not_held_in_memory(tmp_path):
    path = tmp_path / "long.ndjson"
    with path.open("wb") as file:
        file.write(lines_of(1) + b'{"x":"')
        for _ in range(200):
            file.write(b"A" * 1_000_000)
        file.write(b'"}\n' + lines_of(3))
    program = (
        "import re, sys\n"
        "from verifyanalytics.sources import reading as sources\n"
        "[source] = sources.discover([sys.argv[1]])\n"
        "rejects = [r for b in sources.blocks(source) for r in b.rejects]\n"
        "peak = re.search(r'VmHWM:\\s+([0-9]+)', open('/proc/self/status').read())[1]\n"
        "print(rejects[0].n_bytes, peak)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
    )
    n_bytes, peak_kib = map(int, done.stdout.split())
    assert n_bytes == 200_000_008
    assert peak_kib < 150 * 1024
