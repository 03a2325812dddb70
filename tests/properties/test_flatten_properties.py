"""The law of the kernel: on every input, cut any way, the rows and rejects of the reference."""

from __future__ import annotations

import copy
import hashlib
import json
import math
from typing import Any

import pytest
from builders.answers import FAULT, GATEWAY, PAGE_SAMPLE, QUERY
from hypothesis import given
from hypothesis import strategies as st

from verifyanalytics.parsing.fast.flattener import Flattener
from verifyanalytics.parsing.reference import Refusal, read_response
from verifyanalytics.parsing.text import ReadOptions
from verifyanalytics.sources.streams import Block, Document

BASES = (PAGE_SAMPLE, PAGE_SAMPLE, FAULT, GATEWAY, QUERY)
NUMBERS = (
    "0", "-0", "-0.0", "60", "60.0", "6e1", "1.10", "1e400", "-1e400", "1e-400", "2147483648",
    "32768",
    "9007199254740993.0", "9223372036854775807", "9223372036854775808", "-9223372036854775809",
    "18446744073709551616", "1" * 400, "0.1" + "0" * 60 + "1", "01", "1.", "+1", ".5", "NaN",
    "Infinity", "1e", "-", "0x10",
)  # fmt: skip
TEXTS = (
    '""', '"60"', '"60.5"', '"true"', '"1"', '" 60"', '"\\u0000"', '"\\ud800"', '"\\ud83d\\ude00"',
    '"\\/"', '"\\x"', '"tab\t"', '"' + "长" * 1400 + '"', '"' + "a" * 4096 + '"',
    '"' + "a" * 4097 + '"',
    '"1m2.3s"', '"84.448µs"', '"1e3ms"', '"1 ms"', '"-1.5s"', '".5h"', '"ms"', '"5.ms"', '"٣ms"',
    '"20240230112233AAAAAAAAAAAAAAAAAAAA"', '"20240601003000ABCDEFabcdef01234567"', '"202406"',
    '"20240601003000ABCDEFabcdef0123456g"', '"2024-06-01T12:00:00+08:00"', '"{}"', '"null"', '"[]"',
    '"{\\"score\\":300,\\"tags\\":[1,\\"2\\"]}"', '"{\\"score\\":1,\\"score\\":\\"2\\"}"',
    '"{\\"score\\":1e999}"', '"{\\"have_cap\\":null}"', '"{\\"have_cap\\":-0,\\"new\\":[1.0]}"',
    '"{\\"image_best\\":\\"AAAA\\",\\"n\\":1.0}"', '" [\\"{\\\\\\"video\\\\\\":1}\\", 2]"',
    '"{\\"idcard_no\\":\\"1"', '"[verify] video"', '"{ \\"a\\": 1}"',
    '"' + "[" * 65 + "]" * 65 + '"', '"{\\"tags\\":null,\\"score\\":0}"', '"{\\"tags\\":[]}"',
)  # fmt: skip
OTHERS = (
    "null", "true", "false", "[]", "{}", "[1,[2]]", '["a"]', '{"a":{"b":1.0}}', "nul", "'a'",
    "[1,]",
    '{"a":1,}', "[" * 62 + "]" * 62, "[" * 70 + "]" * 70, "[" * 3000, '{"image_best":"AAAA"}',
    '{"score":60,"tags":["14001"]}', "/* c */ 1", "[" + "1," * 3000 + "1]", '{"tags":["a",1]}',
)  # fmt: skip
VALUES = NUMBERS + TEXTS + OTHERS
KEYS = (
    "code", "data", "message", "request_id", "time_elapsed", "ResponseMetadata", "status",
    "response",
    "result", "risk_result", "images", "source_comp_details", "algorithm_base_resp", "score",
    "alive",
    "req_measure_info", "thresholds", "1e-4", "image_best", "image_env", "image_face_detail",
    "image_env_detail", "status_code", "status_message", "measure_type", "value", "video",
    "new key",
    "新", "a`b", "", "occurred_at", "context", "action", "verify_idcard_info", "binary_data_base64",
    "verify_algorithm_base_resp", "verify_req_measure_info", "Error", "RequestId", "Action", "Code",
    "Message", "tags", "1e-3", "have_cap", "brightness", "tos_data", "subject", "k" * 300,
)  # fmt: skip


class Raw(str):
    """A text that stands in the JSON as it is."""

    __slots__ = ()


class Twice(str):
    """A key that comes after another of the same name."""

    __slots__ = ()

    def __hash__(self) -> int:
        return hash((str(self), "twice"))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Twice) and str(self) == str(other)


def write(value: Any, escape: bool) -> str:
    """JSON of a value, its `Raw` parts untouched and its `Twice` keys as they are."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict):
        pairs = (f"{write(str(k), escape)}:{write(v, escape)}" for k, v in value.items())
        return "{" + ",".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join(write(item, escape) for item in value) + "]"
    return json.dumps(value, ensure_ascii=escape)


def objects(value: Any) -> list[dict]:
    """Every object within a value, the value first."""
    if not isinstance(value, dict):
        return []
    return [value, *(found for inner in value.values() for found in objects(inner))]


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """One line: an answer with up to three changes, perhaps in an envelope or a log line."""
    answer = copy.deepcopy(draw(st.sampled_from(BASES)))
    for _ in range(draw(st.integers(0, 3))):
        mutate(draw, answer)
    text = write(answer, draw(st.booleans()))
    form = draw(st.sampled_from(("plain",) * 6 + ("object", "text", "literal", "log", "noise")))
    data = text.encode()
    if form in ("object", "text"):
        data = enveloped(draw, text, as_text=form == "text")
    elif form == "literal":
        data = repr(data).encode()
    elif form == "log":
        data = b"2024-06-01 ERROR [verify] " + repr(data).encode() + b" (retry)"
    elif form == "noise":
        data = noisy(draw, data)
    return data.replace(b"\n", b" ")


def mutate(draw: st.DrawFn, answer: dict) -> None:
    target = draw(st.sampled_from(objects(answer)))
    kind = draw(st.sampled_from(("drop", "retype", "retype", "add", "null", "twice", "nested")))
    keys = sorted(target)
    if kind == "null":
        target[draw(st.sampled_from(KEYS))] = None
        return
    if kind == "add" or not keys:
        target[draw(st.sampled_from(KEYS))] = Raw(draw(st.sampled_from(VALUES)))
        return
    key = draw(st.sampled_from(keys))
    value = Raw(draw(st.sampled_from(VALUES)))
    if kind == "drop":
        del target[key]
    elif kind == "twice":
        target[Twice(key)] = value
    elif kind == "nested" and (inner := opened(target[key])):
        mutate(draw, inner)
        target[key] = write(inner, escape=False)
    else:
        target[key] = value


def opened(value: Any) -> dict:
    """The object in a nested text; empty when there is none, or an earlier mutation broke it."""
    try:
        inner = json.loads(value) if isinstance(value, str) and value.startswith("{") else {}
    except ValueError:
        return {}
    return inner if isinstance(inner, dict) else {}


def enveloped(draw: st.DrawFn, text: str, *, as_text: bool) -> bytes:
    envelope: dict[str, Any] = {"response": text if as_text else Raw(text)}
    for key in draw(st.lists(st.sampled_from(sorted(AROUND)), max_size=4, unique=True)):
        envelope[key] = Raw(draw(st.sampled_from(AROUND[key])))
    return write(envelope, draw(st.booleans())).encode()


AROUND = {
    "occurred_at": ('"2024-06-01T00:00:00.1234567Z"', "1717200000", '"1717200000"', '"2024-06-01"',
    '"2024-06-01 00:00+08"', "1717200000123", '"soon"',
    "-0", "1e400", "true"),
    "action": ('"CertVerify"', '""', "5", '"' + "a" * 5000 + '"', "null"),
    "req_key": ('"cert_pro_src_verify"', '"' + "长" * 1365 + '"'),
    "byted_token": ('"t-1"', "17", '""', "{}", "null"),
    "subject": ('"s-1"', "null", "[1]"),
    "http_status": ("200", "32768", '"200"', "200.0", "-0"),
    "context": (
        '{"channel":"app","version":"1.2"}', '{"Channel":"a","channel":"b","CHANNEL":null}', "{}",
        '{"a b":"x","ok":"y"}', '{"n":1.50,"t":true,"o":{"x":1},"z":null}', '"app"', "null",
        '{"x":null}',
        '{"x":"' + "v" * 4097 + '"}', '{"Image_Best":"AA","x":"y"}', '{"x":"{\\"subject\\":1}"}',
        '{"x":" [1, 2]","y":"[1"}', json.dumps({f"c{i}": "v" for i in range(70)}),
    ),
    "host": ('"h1"', "1.0"),
    "code": ("1",),
}  # fmt: skip


def noisy(draw: st.DrawFn, data: bytes) -> bytes:
    kind = draw(st.sampled_from(("cut", "bytes", "two", "bom", "space", "blank", "nul")))
    at = draw(st.integers(0, len(data)))
    return {
        "cut": data[:at],
        "bytes": data[:at] + b"\xff" + data[at:],
        "two": data + b" " + data,
        "bom": b"\xef\xbb\xbf" + data,
        "space": b" \t" + data + b"\r",
        "blank": b" \r",
        "nul": data[:at] + b"\0" + data[at:],
    }[kind]


@st.composite
def some_options(draw: st.DrawFn) -> ReadOptions:
    return ReadOptions(
        strict=draw(st.booleans()),
        key=draw(st.sampled_from((None, b"k" * 32))),
        print_key=draw(st.sampled_from([None, b"p" * 32])),
        context=draw(st.sampled_from(({}, {"site": "x", "channel": "constant"}))),
        context_columns=draw(st.sampled_from((None, None, frozenset({"channel", "ok"})))),
        action=draw(st.sampled_from((None, "CertVerify"))),
    )


@given(
    given_lines=st.lists(lines(), min_size=1, max_size=9), options=some_options(), data=st.data()
)
def test_kernel_equals_reference(given_lines, options, data):
    text = b"\n".join(given_lines) + data.draw(st.sampled_from((b"", b"\n")))
    expected = by_reference(text, options)
    chunk, part = data.draw(st.sampled_from(((256, 32), (4, 2), (3, 1))))
    flattener = Flattener(options, chunk=chunk, part=part)
    for _ in range(2):  # the second time with whatever was learnt
        assert by_kernel(flattener, text, draw_cuts(data, text)) == expected
    assert as_documents(Flattener(options), text) == expected


@pytest.mark.parametrize(
    "base", [PAGE_SAMPLE, FAULT, GATEWAY, QUERY], ids=["page", "fault", "gateway", "query"]
)
def test_null_is_absent_for_both_parsers(base):
    """Each known key is null once, at each level and beside whatever stands there."""
    paths = [
        (level, key)
        for level in range(len(objects(base)))
        for key in sorted({*KEYS, *objects(base)[level]})
    ]
    texts = []
    for level, key in paths:
        answer = copy.deepcopy(base)
        objects(answer)[level][key] = None
        texts.append(write(answer, False))
    text = "\n".join(texts).encode()
    assert by_kernel(Flattener(ReadOptions()), text, []) == by_reference(text, ReadOptions())


@pytest.mark.parametrize("form", ["plain", "object", "text"])
def test_learnt_keys_change_nothing(form):
    """Every answer has keys nobody knows: learnt after a few, rows the same before and after."""
    values = [
        '"a"',
        "1.50",
        "-0",
        '{"b":[1.0]}',
        '"\\ud800"',
        "[" * 80 + "]" * 80,
        "1e400",
        '"' + "x" * 5000 + '"',
    ]
    texts = []
    for i in range(40):
        answer = copy.deepcopy(PAGE_SAMPLE)
        answer["trace"] = Raw(values[i % len(values)])
        answer["data"][Twice("device")] = Raw(values[i % 5])
        answer["data"]["device"] = Raw(values[(i + 3) % len(values)])
        answer["data"]["source_comp_details"]["model"] = Raw(values[i // 8])
        text = write(answer, False)
        texts.append(
            text
            if form == "plain"
            else write({"response": text if form == "text" else Raw(text)}, False)
        )
    text = "\n".join(texts).encode()
    options = ReadOptions()
    flattener = Flattener(options)
    expected = by_reference(text, options)
    assert by_kernel(flattener, text, []) == expected
    assert by_kernel(flattener, text, []) == expected
    assert len(expected[0]) > 10
    assert len(expected[1]) > 10


def draw_cuts(data: st.DataObject, text: bytes) -> list[int]:
    ends = [i + 1 for i, byte in enumerate(text) if byte == 10]
    return sorted(data.draw(st.sets(st.sampled_from(ends)))) if ends else []


def by_reference(text: bytes, options: ReadOptions) -> tuple[list[dict], list[tuple]]:
    rows, rejects, offset = [], [], 0
    for number, line in enumerate(text.split(b"\n"), start=1):
        if line.strip(b" \t\r"):
            read = read_response(line, options, source="s", row=number)
            if isinstance(read, Refusal):
                digest = hashlib.sha256(line).hexdigest()
                rejects.append((number, offset, read.reason, read.detail, digest, len(line)))
            else:
                rows.append(read)
        offset += len(line) + 1
    context = sorted({name for row in rows for name in row if name.startswith("ctx_")})
    return [plain(row, context) for row in rows], rejects


def by_kernel(flattener: Flattener, text: bytes, cuts: list[int]) -> tuple[list[dict], list[tuple]]:
    rows, rejects, row = [], [], 1
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        flat = flattener.flatten(Block("s", text[start:end], row, start))
        assert flat.n_read == flat.verifications.num_rows + flat.rejects.num_rows
        rows += flat.verifications.to_pylist()
        rejects += flat.rejects.to_pylist()
        row += text[start:end].count(b"\n")
    return gathered(rows, rejects)


def as_documents(flattener: Flattener, text: bytes) -> tuple[list[dict], list[tuple]]:
    documents, start = [], 0
    for number, line in enumerate(text.split(b"\n"), start=1):
        if line.strip(b" \t\r"):
            documents.append(Document(number, start, start + len(line)))
        start += len(line) + 1
    flat = flattener.flatten(Block("s", text, 1, 0, tuple(documents)))
    return gathered(flat.verifications.to_pylist(), flat.rejects.to_pylist())


def gathered(rows: list[dict], rejects: list[dict]) -> tuple[list[dict], list[tuple]]:
    context = sorted({name for row in rows for name in row if name.startswith("ctx_")})
    keys = ("source_row", "byte_offset", "reason", "detail", "sha256", "bytes")
    return [plain(row, context) for row in rows], [tuple(r[key] for key in keys) for r in rejects]


def plain(row: dict, context: list[str]) -> dict:
    """A row that compares: every column there, floats by their bits."""
    made = {
        name: row.get(name) for name in [*(n for n in row if not n.startswith("ctx_")), *context]
    }
    return {
        name: (value, math.copysign(1, value)) if isinstance(value, float) else value
        for name, value in made.items()
    }


@pytest.mark.parametrize("form", ["plain", "object", "text"])
def test_large_images_change_nothing(form):
    """Answers so large that images are skipped, with all that can be wrong with an image."""
    a = "A" * 9000
    images = [
        f'"{a}"', '"' + "\\/" * 4500 + '"', f'"{a}\\ud800"', f'"{a}长"', f'"{a}\\u00e9"',
        f"[{a[:0]}]",
        f'["{a}"]', "null", "5", f'"{a}', '"' + a + '\x01"', f'"{a}","image_best":""',
        f'{"[" * 70}"{a}"{"]" * 70},"image_best":""', f'"{a}","image_best":null',
    ]  # fmt: skip
    texts = []
    for image in images:
        answer = copy.deepcopy(PAGE_SAMPLE)
        answer["data"]["images"] = {"image_best": Raw(image), "image_env": a}
        text = write(answer, False)
        texts.append(
            text
            if form == "plain"
            else write({"response": text if form == "text" else Raw(text)}, False)
        )
    good = texts[0].encode()
    bad_bytes = good.replace(b"AAAA", b"AA\xffA", 1)
    twice = good.replace(b'"image_env"', b'"image_env":"' + a.encode() + b'\xff","image_env"')
    everything = [*(text.encode() for text in texts), bad_bytes, twice, good]
    options = ReadOptions(key=b"k" * 32, print_key=b"k" * 32)
    for text in (b"\n".join(everything), *everything):
        expected = by_reference(text, options)
        assert by_kernel(Flattener(options), text, []) == expected
        assert as_documents(Flattener(options), text) == expected
