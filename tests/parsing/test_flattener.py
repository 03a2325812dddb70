"""Blocks become batches: schema, order, places, learnt keys; the law itself is in properties/."""

from __future__ import annotations

import gc
import json

import pytest
from builders.answers import FAULT, GATEWAY, PAGE_SAMPLE, QUERY
from builders.json_texts import BAD, BAD_BYTES, GOOD

from verifyanalytics.parsing.fast.columns import MAX_COMBINATIONS
from verifyanalytics.parsing.fast.decoding import LEARN_AFTER, MAX_LEARNT
from verifyanalytics.parsing.fast.flattener import Flattener
from verifyanalytics.parsing.reference import Refusal, read_response
from verifyanalytics.parsing.text import ReadOptions
from verifyanalytics.schema import REJECTS, VERIFICATIONS
from verifyanalytics.sources.streams import Block, BlockReject, Document


def line(answer):
    return json.dumps(answer, separators=(",", ":")).encode()


def flatten(data, *, first_row=1, offset=0, options=None, **kwargs):
    return Flattener(options or ReadOptions()).flatten(
        Block("s", data, first_row, offset, **kwargs)
    )


def test_schema_is_the_contract():
    flat = flatten(line({"response": PAGE_SAMPLE, "context": {"b": "1", "a": "2"}}) + b"\n{")
    names = [name for name in VERIFICATIONS.names if name != "batch"]
    assert flat.verifications.schema.names == [*names, "month", "ctx_a", "ctx_b"]
    for name in names:
        assert flat.verifications.schema.field(name).equals(VERIFICATIONS.field(name))
    expected = [name for name in REJECTS.names if name not in ("batch", "rejected_at")]
    assert flat.rejects.schema.names == expected
    flat.verifications.validate(full=True)
    flat.rejects.validate(full=True)


@pytest.mark.parametrize("data", [b"", b"\n", b" \r\n\t\n"])
def test_nothing_in_nothing_out(data):
    flat = flatten(data)
    assert (flat.verifications.num_rows, flat.rejects.num_rows, flat.n_read) == (0, 0, 0)


def test_rows_places_and_order():
    data = b"\n".join(
        [line(PAGE_SAMPLE), b"", b"bad", line(GATEWAY), b" \r", line(FAULT), b"{}", line(QUERY)]
    )
    flat = flatten(data, first_row=11, offset=100)
    assert flat.verifications["source_row"].to_pylist() == [11, 14, 16, 18]
    assert flat.verifications["code"].to_pylist() == [10000, None, 50501, 10000]
    assert flat.rejects["source_row"].to_pylist() == [13, 17]
    assert flat.rejects["byte_offset"].to_pylist() == [
        100 + data.index(b"bad"),
        100 + data.index(b"{}\n"),
    ]
    assert flat.n_read == 6


def test_two_texts_on_a_line_and_one_text_on_two():
    one, two = b'{"code":1}', b'{"code":\n2}'
    flat = flatten(one + b" " + one + b"\n" + two + b"\n" + one)
    assert flat.rejects["source_row"].to_pylist() == [1, 2, 3]
    assert flat.verifications["source_row"].to_pylist() == [4]
    flat = flatten(one + b"\n" + one + one)
    assert (flat.verifications.num_rows, flat.rejects["source_row"].to_pylist()) == (1, [2])


def test_documents_and_the_readers_own_rejects():
    data = b"[" + line(PAGE_SAMPLE) + b",5," + json.dumps(FAULT, indent=1).encode() + b"]"
    five = data.index(b",5,") + 1
    documents = (
        Document(1, 1, five - 1),
        Document(2, five, five + 1),
        Document(4, five + 2, len(data) - 1),
    )
    flat = flatten(data, documents=documents, rejects=(BlockReject(3, 7, "size", "too large"),))
    assert flat.verifications["source_row"].to_pylist() == [1, 4]
    assert flat.rejects["source_row"].to_pylist() == [2, 3]
    assert flat.rejects["reason"].to_pylist() == ["not_a_response", "size"]
    assert flat.n_read == 4


@pytest.mark.parametrize("chosen", [slice(None, None, 2), slice(1, None, 2)])
def test_conformance_over_blocks(chosen):
    """Each text of the list, whole and nested, many to a block."""
    texts = [text.encode() for text in (*GOOD, *BAD) if "\n" not in text and len(text) < 1000]
    texts = [*texts, *BAD_BYTES][chosen]
    lines = []
    for text in texts:
        lines += [text, b'{"code":1,"x":' + text + b"}", line(PAGE_SAMPLE)]
        if text.isascii():
            data = {
                "risk_result": text.decode(),
                "source_comp_details": {"image_env_detail": text.decode()},
            }
            lines.append(line({"code": 1, "data": data}))
    lines = [text for text in lines if b"\n" not in text]
    flat = flatten(b"\n".join(lines))
    refused = {}
    for number, text in enumerate(lines, start=1):
        read = read_response(text, ReadOptions(), source="s", row=number)
        if isinstance(read, Refusal) and text.strip(b" \t\r"):
            refused[number] = read.reason
    rejects = flat.rejects.to_pylist()
    assert {reject["source_row"]: reject["reason"] for reject in rejects} == refused
    assert flat.n_read == sum(bool(text.strip(b" \t\r")) for text in lines)
    assert len(refused) > 100


def test_a_new_key_is_learnt_and_the_slow_road_is_left(monkeypatch):
    import verifyanalytics.parsing.fast.flattener as module

    slow = []

    def counted(*args, **kwargs):
        slow.append(kwargs["row"])
        return read_response(*args, **kwargs)

    monkeypatch.setattr(module, "read_response", counted)
    answer = PAGE_SAMPLE | {"trace": "t", "data": PAGE_SAMPLE["data"] | {"video": "AAAA"}}
    flat = flatten(b"\n".join([line(answer)] * 50))
    assert set(flat.verifications["extra"].to_pylist()) == {
        '{"data":{"video":"[4 bytes]"},"trace":"t"}'
    }
    assert len(slow) == 2 * LEARN_AFTER


def test_hostile_names_are_not_learnt_for_ever():
    flattener = Flattener(ReadOptions())
    for i in range(2 * MAX_LEARNT):
        block = b"\n".join([line({"code": 1, f"name{i}": 1})] * 5)
        assert flattener.flatten(Block("s", block, 1, 0)).verifications.num_rows == 5
    assert len(flattener.unknown_keys.learnt) == MAX_LEARNT


def test_more_combinations_than_are_kept():
    flattener = Flattener(ReadOptions())
    for start in range(0, MAX_COMBINATIONS + 2000, 1000):
        answers = [
            {"code": i, "message": str(i), "request_id": "r"} for i in range(start, start + 1000)
        ]
        flat = flattener.flatten(Block("s", b"\n".join(map(line, answers)), 1, 0))
        assert flat.verifications["code"].to_pylist() == list(range(start, start + 1000))
    assert len(flattener.repeated.rows) <= MAX_COMBINATIONS + 1001


def test_collector_state_is_put_back():
    assert gc.isenabled()
    flatten(b"{")
    assert gc.isenabled()
