"""Compressed sources: whole, cut off, damaged, hostile."""

from __future__ import annotations

import gzip
import random

import pytest
from builders.sources import (
    CODECS,
    NAMES,
    answer,
    lines_of,
    numbers,
    one,
    read,
    written,
)

from verifyanalytics.sources.streams import StreamDamageError, inflated_chunks


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
    with pytest.raises(StreamDamageError, match="is damaged") as caught:
        next(chunks)  # the member is longer than what is held back: it was read to its end first
    assert caught.value.position == 0
