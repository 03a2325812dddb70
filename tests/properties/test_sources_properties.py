"""Laws of reading: no byte is lost, no split of the input matters, an array is its lines."""

from __future__ import annotations

import gzip
import json

from hypothesis import given
from hypothesis import strategies as st

from verifyanalytics.sources import reading as sources
from verifyanalytics.sources.json_stream import JsonStream
from verifyanalytics.sources.reading import line_blocks

names = st.sampled_from(["code", "data", "id", "x", "message", "ResponseMetadata"])
scalars = st.none() | st.booleans() | st.integers(-5, 10**6) | st.floats(0, 100)
texts = st.text(alphabet='ab"\\{}[],: \n\tcode中', max_size=12)
values = st.recursive(
    scalars | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names | texts, inner, max_size=3),
    max_leaves=8,
)
answers = st.dictionaries(names, values, min_size=1, max_size=4)
broken = st.binary(max_size=8) | st.sampled_from(
    [b'"', b"{", b"}", b"[", b"]", b",", b"\n", b'{"code":', b'{"code":1', b"\\", b'"a', b'\\"']
)


@st.composite
def json_like(draw):
    """Valid JSON of answers, compact or spread, with a few bytes cut, doubled or put in."""
    made = draw(st.lists(answers, max_size=6))
    indent = draw(st.sampled_from([None, 0, 2]))
    text = json.dumps(made, indent=indent, ensure_ascii=draw(st.booleans())).encode()
    if draw(st.booleans()):
        text = b"\n".join(json.dumps(answer, indent=indent).encode() for answer in made)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(text)))
        until = min(len(text), at + draw(st.integers(0, 6)))
        text = text[:at] + draw(broken) + text[until:]
    return text


def cut(data, sizes):
    """The data in pieces of the given sizes, over and over."""
    position, turn = 0, 0
    while position < len(data):
        size = sizes[turn % len(sizes)]
        yield data[position : position + size]
        position, turn = position + size, turn + 1


def read_json(data, sizes, *, block_bytes=100, max_document=1000):
    """(row, offset, bytes) of documents and of rejects."""
    documents, rejects = [], []
    chunks = cut(data, sizes)
    stream = JsonStream("x", offset=0, block_bytes=block_bytes, max_document=max_document)
    for block in stream.blocks(chunks):
        rejects += [(r.row, r.byte_offset, r.n_bytes, r.reason, r.sha256) for r in block.rejects]
        for row, start, end in block.documents:
            documents.append((row, block.byte_offset + start, block.data[start:end]))
    return documents, rejects


sizes_of_chunks = st.lists(st.integers(1, 40), min_size=1, max_size=4)


@given(json_like(), sizes_of_chunks, st.sampled_from([40, 1000]))
def test_any_split_gives_the_same_documents(data, sizes, max_document):
    whole = read_json(data, [max(1, len(data))], block_bytes=1 << 20, max_document=max_document)
    assert read_json(data, sizes, max_document=max_document) == whole
    assert read_json(data, [1], block_bytes=1, max_document=max_document) == whole


@given(json_like() | st.binary(max_size=200), sizes_of_chunks)
def test_every_byte_is_a_separator_a_document_or_refused(data, sizes):
    documents, rejects = read_json(data, sizes)
    spans = [(start, start + len(text)) for _, start, text in documents]
    spans += [(start, start + n_bytes) for _, start, n_bytes, _, _ in rejects]
    position = 0
    for start, end in sorted(spans):
        assert start >= position
        assert set(data[position:start]) <= set(b" \t\r\n,[]\x1e")
        position = end
    assert set(data[position:]) <= set(b" \t\r\n,[]\x1e")
    for _, start, text in documents:
        assert data[start : start + len(text)] == text
    rows = sorted([row for row, *_ in documents] + [row for row, *_ in rejects])
    assert rows == list(range(1, len(rows) + 1))


@given(st.lists(answers, max_size=8), st.sampled_from([None, 0, 3]), sizes_of_chunks)
def test_an_array_of_answers_is_their_lines(made, indent, sizes):
    data = json.dumps(made, indent=indent).encode()
    documents, rejects = read_json(data, sizes, max_document=1 << 20)
    assert [json.loads(text) for _, _, text in documents] == made
    assert [row for row, *_ in documents] == list(range(1, len(made) + 1))
    assert not rejects
    in_a_row = "".join(json.dumps(answer, indent=indent) for answer in made).encode()
    documents, rejects = read_json(in_a_row, sizes, max_document=1 << 20)
    assert [json.loads(text) for _, _, text in documents] == made
    assert not rejects


@given(st.lists(answers, min_size=2, max_size=8), st.data())
def test_damage_to_one_element_leaves_the_others(made, data):
    """One byte of one element is lost; the others are all there, beside at most a neighbour.

    The byte is a quote, brace or colon of the first name, so the damage is always structural.
    """
    texts_of = [json.dumps({"code": number, "data": answer}) for number, answer in enumerate(made)]
    hit = data.draw(st.integers(0, len(made) - 1))
    at = data.draw(st.integers(0, len('{"code"') - 1).filter(lambda i: i in (0, 1, 6)))
    texts_of[hit] = texts_of[hit][:at] + texts_of[hit][at + 1 :]
    text = ("[" + ",".join(texts_of) + "]").encode()
    documents, _ = read_json(text, [64], max_document=1 << 20)
    found = {text for _, _, text in documents}
    missing = [n for n, one in enumerate(texts_of) if n != hit and one.encode() not in found]
    assert set(missing) <= {hit + 1}


@given(st.lists(st.binary(max_size=30), max_size=12), sizes_of_chunks, st.integers(40, 60))
def test_lines_are_the_lines_of_the_input(pieces, sizes, max_document):
    data = b"\n".join(pieces)
    found, refused = {}, {}
    for block in line_blocks(
        "x", cut(data, sizes), offset=0, first_row=1, max_document=max_document
    ):
        assert data[block.byte_offset :].startswith(block.data)
        lines = enumerate(block.data.split(b"\n"), block.first_row)
        found |= {row: line for row, line in lines if line}
        refused |= {r.row: data[r.byte_offset : r.byte_offset + r.n_bytes] for r in block.rejects}
    expected = dict(enumerate(data.split(b"\n"), 1))
    assert refused == {row: line for row, line in expected.items() if len(line) > max_document}
    assert found == {row: line for row, line in expected.items() if line and row not in refused}


@given(st.lists(st.binary(max_size=40), max_size=20), st.integers(1, 200), st.integers(1, 64))
def test_ranges_give_what_the_whole_gives(tmp_path_factory, pieces, target, block_bytes):
    data = b"\n".join(pieces)
    path = tmp_path_factory.mktemp("ranges") / "a.ndjson"
    path.write_bytes(b"{}\n" + data)
    [source] = sources.discover([path])
    ranges = list(sources.line_ranges(source, target))
    n_newlines = (b"{}\n" + data).count(b"\n")
    assert sum(r.n_lines for r in ranges) == n_newlines + (not (b"{}\n" + data).endswith(b"\n"))
    joined = b"".join(
        block.data
        for r in ranges
        for block in sources.blocks(
            source, start=r.start, end=r.end, first_row=r.first_row, block_bytes=block_bytes
        )
    )
    assert joined == b"{}\n" + data


@given(st.lists(answers, min_size=1, max_size=20), st.data())
def test_a_cut_archive_keeps_its_whole_lines(tmp_path_factory, made, data):
    text = b"".join(json.dumps(answer).encode() + b"\n" for answer in made)
    packed = gzip.compress(text)
    keep = data.draw(st.integers(20, len(packed) - 1))
    path = tmp_path_factory.mktemp("cut") / "a.ndjson.gz"
    path.write_bytes(packed[:keep])
    [source] = sources.discover([path])
    blocks = list(sources.blocks(source))
    kept = b"".join(block.data for block in blocks)
    [reject] = [r for block in blocks for r in block.rejects]
    assert text.startswith(kept)
    assert reject.reason == "source"
    assert reject.byte_offset == len(kept)
    assert reject.row == len(kept.splitlines()) + 1


cells = st.text(alphabet='a",\t\n{}\\中 :', min_size=1, max_size=20).filter(str.strip)


@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=10), st.integers(1, 50))
def test_csv_cells_come_back_whatever_they_hold(tmp_path_factory, table, block_bytes):
    quoted = [[cell.replace('"', '""') for cell in row] for row in table]
    text = "response,n\n" + "".join(f'"{a}","{b}"\n' for a, b in quoted)
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    path.write_bytes(text.encode())
    [source] = sources.discover([path], column="response")
    found = [
        json.loads(line)
        for block in sources.blocks(source, block_bytes=block_bytes)
        for line in block.data.splitlines()
        if not block.rejects
    ]
    assert [(e["response"], e["context"]["n"]) for e in found] == table
