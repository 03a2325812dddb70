"""Lines and ranges of lines: rows, offsets, what is too long."""

from __future__ import annotations

import gzip
import hashlib
import random
import subprocess
import sys
from pathlib import Path

import pytest
from builders.sources import (
    answer,
    lines_of,
    numbers,
    one,
    read,
    reasons,
    rows,
    written,
)

from verifyanalytics.errors import UsageError
from verifyanalytics.sources import reading as sources
from verifyanalytics.sources.streams import MAX_DOCUMENTS


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
