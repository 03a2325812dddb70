"""Tables: one column of a Parquet, CSV or TSV file holds the answers, the others their context.

Each row becomes one line of our own envelope, in which the answer is a JSON *string*: whatever
a cell holds, it cannot reach out of it. Columns named as the envelope's fields go there, the
time column to `occurred_at`, all others to `context` as text. A row without an answer is a
reject, and an empty line keeps its place, so that line n is row n.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from verifyanalytics.errors import InputError, UsageError
from verifyanalytics.sources.blocks import MAX_DOCUMENTS, Block, BlockReject, Source
from verifyanalytics.sources.streams import StreamDamageError, open_location

ENVELOPE = frozenset({"occurred_at", "action", "req_key", "byted_token", "http_status", "subject"})
"""Columns that are fields of the envelope; tokens and subjects are hashed behind it."""

_BATCH_BYTES = 4 << 20  # decoded bytes of Parquet aimed at
_MAX_BATCH = 1 << 14  # rows
_SHOWN = 40  # columns named in an error, and characters of a name

_Cell = str | bytes
"""A cell on its way: text, or bytes that are still to be checked for UTF-8."""


def check_columns(source: Source, head: bytes) -> str | None:
    """Say why the answers of a table cannot be found, or None.

    A file too damaged to tell its columns passes: reading it gives a reject `source`.
    """
    if source.form == "parquet":
        schema = _parquet_schema(source)
        return None if schema is None else _parquet_complaint(source, schema)
    record = _Records(source.form).first(head)
    return None if record is None else _complaint(source, record)


def _complaint(source: Source, names: Sequence[str]) -> str | None:
    there = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
    if source.column is None:
        return f"a table: name the column that holds the answers (--column); it has: {there}"
    for column in (source.column, source.time_column):
        if column is not None and column not in names:
            return f"no column {column}; it has: {there}"
    twice = sorted(name for name, n in Counter(names).items() if n > 1)
    if twice:
        return f"more than one column is called {', '.join(twice[:_SHOWN])}; rename them"
    return None


def text_table_blocks(
    source: Source, chunks: Iterator[bytes], offset: int, block_bytes: int, max_document: int
) -> Iterator[Block]:
    """Blocks of envelope lines, one a row of a CSV or TSV whose bytes `chunks` are."""
    lines = _EnvelopeLines(source, block_bytes, max_document)
    splitter = _RecordSplitter(_Records(source.form), chunks, offset, max_document)
    yield from _text_rows(source, splitter, lines)
    yield from lines.cut()


def parquet_blocks(source: Source, block_bytes: int, max_document: int) -> Iterator[Block]:
    """Blocks of envelope lines, one a row of a Parquet file, by row group and batch."""
    lines = _EnvelopeLines(source, block_bytes, max_document)
    yield from _parquet_rows(source, lines)
    yield from lines.cut()


class _EnvelopeLines:
    """Rows on their way into blocks of lines."""

    def __init__(self, source: Source, block_bytes: int, max_document: int) -> None:
        self._name, self._block_bytes, self._max_document = source.name, block_bytes, max_document
        time_column = source.time_column or "occurred_at"
        own = {name: name for name in sorted(ENVELOPE - {"occurred_at"})}
        self._fields = {**own, time_column: "occurred_at"}
        self.row = 1
        self._lines: list[bytes] = []
        self._rejects: list[BlockReject] = []
        self._n_bytes = 0
        self._first_row = 1

    def add(
        self, answer: bytes | None, others: Mapping[str, _Cell], place: int | None = None
    ) -> Iterator[Block]:
        """Add a row: the answer and its other cells; give out a block when it is full."""
        if answer is None or not answer.strip():
            return self.refuse("not_a_response", "the cell is empty", None, 0, place)
        if len(answer) > self._max_document:
            detail = f"a cell larger than {self._max_document} bytes"
            return self.refuse("size", detail, _sha256(answer), len(answer), place)
        response = _decoded(answer)
        texts = {
            name: cell if isinstance(cell, str) else _decoded(cell) for name, cell in others.items()
        }
        if response is None or None in texts.values():
            names = [name for name, text in texts.items() if text is None]
            where = f" of column {names[0][:_SHOWN]}" if response is not None else ""
            detail = f"the cell{where} is not UTF-8"
            return self.refuse("encoding", detail, _sha256(answer), len(answer), place)
        envelope = {"response": response, **self._around(texts)}
        line = json.dumps(envelope, ensure_ascii=False, separators=(",", ":"))
        return self._append(line.encode(errors="replace") + b"\n")

    def _around(self, texts: dict[str, str | None]) -> dict[str, Any]:
        """The envelope's fields by their names; all other cells are context."""
        fields: dict[str, Any] = {
            field: texts.pop(column) for column, field in self._fields.items() if column in texts
        }
        status = fields.get("http_status")
        if status is not None and re.fullmatch(r"[0-9]{3}", status):
            fields["http_status"] = int(status)
        return {**fields, "context": texts} if texts else fields

    def refuse(
        self, reason: str, detail: str, sha256: str | None, n_bytes: int | None, place: int | None
    ) -> Iterator[Block]:
        """Refuse a row; a blank line stands for it."""
        self._rejects.append(BlockReject(self.row, place, reason, detail, sha256, n_bytes))
        return self._append(b"\n")

    def _append(self, line: bytes) -> Iterator[Block]:
        self._lines.append(line)
        self._n_bytes += len(line)
        self.row += 1
        is_full = self._n_bytes >= self._block_bytes or len(self._lines) >= MAX_DOCUMENTS
        return self.cut() if is_full else iter(())

    def cut(self) -> Iterator[Block]:
        """Give out what there is."""
        if self._lines:
            data = b"".join(self._lines)
            rejects = tuple(self._rejects)
            yield Block(self._name, data, self._first_row, None, None, rejects)
        self._lines, self._rejects, self._n_bytes = [], [], 0
        self._first_row = self.row


def _decoded(cell: bytes) -> str | None:
    """Its text; None where it is not UTF-8."""
    try:
        return cell.decode()
    except UnicodeDecodeError:
        return None


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# --- CSV and TSV --------------------------------------------------------------------------


class _Records:
    """The grammar of RFC 4180: records, and the cells of one.

    A quote matters only where a cell begins: a TSV may hold JSON as it is.
    """

    def __init__(self, form: str) -> None:
        mark = b"\t" if form == "tsv" else b","
        quoted = rb'"(?:[^"]++|"")*+"'
        cell = rb"(?:" + quoted + rb'|(?!"))[^' + mark + rb"\n]*+"
        self.whole = re.compile(rb"(?:" + cell + mark + rb")*+" + cell + rb"\n")
        self._cell = re.compile(
            rb"(" + quoted + rb")?+([^" + mark + rb"\n]*+)(?:" + mark + rb"|\Z)"
        )

    def cells(self, record: bytes) -> list[bytes]:
        """The cells of a record; `ValueError` where text follows a closing quote."""
        found, position = [], 0
        while True:
            match = self._cell.match(record, position)
            if match is None or (match[1] is not None and match[2]):
                raise ValueError("text behind a closing quote; a quote in a cell is doubled")
            found.append(match[2] if match[1] is None else match[1][1:-1].replace(b'""', b'"'))
            if match.end() == len(record) and match.end() == match.end(2):
                return found
            position = match.end()

    def is_well_formed(self, record: bytes) -> bool:
        """Whether `cells` takes it."""
        try:
            self.cells(record)
        except ValueError:
            return False
        return True

    def first(self, head: bytes) -> list[str] | None:
        """The names in the header, if the head holds one."""
        match = self.whole.match(head.removeprefix(b"\xef\xbb\xbf") + b"\n")
        try:
            cells = self.cells(match[0].rstrip(b"\r\n")) if match else []
        except ValueError:
            return None
        return _column_names(cells) if any(cell.strip() for cell in cells) else None


def _column_names(cells: Sequence[bytes]) -> list[str]:
    """The names in a header; of a column without one, its number."""
    names = [cell.decode(errors="replace").strip() for cell in cells]
    return [name or f"column {number}" for number, name in enumerate(names, 1)]


def _text_rows(source: Source, splitter: _RecordSplitter, lines: _EnvelopeLines) -> Iterator[Block]:
    """Rows of a CSV or TSV; a malformed one is a reject `source` and the next is read."""
    grammar = _Records(source.form)
    names: list[str] = []
    for place, record, fault in splitter.records():
        if fault is not None:
            reason, digest, n_bytes = fault
            yield from lines.refuse(reason, record.decode(), digest, n_bytes, place)
            continue
        try:
            cells = grammar.cells(record)
        except ValueError as error:
            yield from lines.refuse("source", str(error), _sha256(record), len(record), place)
            continue
        if not names:
            names = _column_names(cells)
            if complaint := _complaint(source, names):
                raise UsageError(f"{source.name}: {complaint}")
        elif len(cells) != len(names):
            detail = f"a row of {len(cells)} cells under a header of {len(names)}"
            yield from lines.refuse("source", detail, _sha256(record), len(record), place)
        else:
            there = {name: cell for name, cell in zip(names, cells, strict=True) if cell}
            answer = there.pop(source.column or "", b"")
            yield from lines.add(answer, there, place)


_Fault = tuple[str, str | None, int | None]


class _RecordSplitter:
    """Cuts chunks into records.

    A record that does not end (its quote is never closed, or it is larger than `max_document`)
    is refused up to its first newline, and reading goes on behind that; so is one that runs over
    several lines and is malformed, since a quote left open swallows the rows behind it.
    """

    def __init__(
        self, grammar: _Records, chunks: Iterator[bytes], offset: int, max_document: int
    ) -> None:
        self._grammar, self._chunks, self._max_document = grammar, chunks, max_document
        self._data = bytearray()
        self._offset = offset

    def records(self) -> Iterator[tuple[int, bytes, _Fault | None]]:
        """Yield (offset, record, None), or (offset, detail, fault) for what is refused."""
        damage = None
        try:
            for chunk in self._chunks:
                self._data += chunk
                yield from self._complete()
                while len(self._data) > self._max_document:
                    yield from self._give_up()
                    yield from self._complete()
        except StreamDamageError as error:
            damage = error
        if self._data and damage is None:
            self._data += b"" if self._data.endswith(b"\n") else b"\n"
            yield from self._complete()
            while self._data:
                yield from self._give_up()
                yield from self._complete()
        if damage is not None:
            rest = bytes(self._data)
            digest = _sha256(rest) if rest else None
            yield self._offset, str(damage).encode(), ("source", digest, len(rest))

    def _complete(self) -> Iterator[tuple[int, bytes, _Fault | None]]:
        at = 0
        while match := self._grammar.whole.match(self._data, at):
            record = bytes(match[0]).rstrip(b"\r\n")
            if b"\n" in record and not self._grammar.is_well_formed(record):
                line = record[: record.index(b"\n")]
                fault = ("source", _sha256(line), len(line))
                yield self._offset + at, b"a quote that is not closed", fault
                at += len(line) + 1
                continue
            if record:
                yield self._offset + at, record, None
            at = match.end()
        self._let_go(at)

    def _give_up(self) -> Iterator[tuple[int, bytes, _Fault]]:
        """Refuse the first line of a record without end."""
        start, digest, n_bytes = self._offset, hashlib.sha256(), 0
        while (end := self._data.find(b"\n")) < 0 and self._data:
            digest.update(self._data)
            n_bytes += len(self._data)
            self._let_go(len(self._data))
            self._data += next(self._chunks, b"")
        digest.update(self._data[: max(end, 0)])
        n_bytes += max(end, 0)
        self._let_go(end + 1)
        if n_bytes > self._max_document:
            fault = ("size", digest.hexdigest(), n_bytes)
            yield start, b"a line larger than %d bytes" % self._max_document, fault
        else:
            yield start, b"a quote that is not closed", ("source", digest.hexdigest(), n_bytes)

    def _let_go(self, n_bytes: int) -> None:
        del self._data[:n_bytes]
        self._offset += n_bytes


# --- Parquet ------------------------------------------------------------------------------


def _parquet_schema(source: Source) -> Any:
    """The schema, or None where the file does not tell it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if source.compression is not None:
        return None
    with open_location(source.location) as file:
        try:
            return pq.ParquetFile(file).schema_arrow
        except (OSError, pa.ArrowException):
            return None


def _parquet_complaint(source: Source, schema: Any) -> str | None:
    import pyarrow as pa

    if complaint := _complaint(source, schema.names):
        return complaint
    kind = schema.field(source.column).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if _is_textual(kind) or pa.types.is_null(kind):
        return None
    return f"column {source.column} is {kind}, not text; export the answer as JSON text"


def _is_textual(kind: Any) -> bool:
    import pyarrow as pa

    tests = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
        pa.types.is_binary,
        pa.types.is_large_binary,
        pa.types.is_binary_view,
        pa.types.is_fixed_size_binary,
    )
    return any(test(kind) for test in tests)


def _parquet_rows(source: Source, lines: _EnvelopeLines) -> Iterator[Block]:
    """Rows of a Parquet file; where it is damaged, one reject `source` ends it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _parquet_schema(source)
    if schema is not None and (complaint := _parquet_complaint(source, schema)):
        raise UsageError(f"{source.name}: {complaint}")
    if source.compression is not None:
        detail = f"Parquet inside {source.compression}; decompress it first"
        yield from lines.refuse("source", detail, None, source.n_bytes, None)
        return
    with open_location(source.location) as file:
        try:
            parquet = pq.ParquetFile(file, pre_buffer=False)
            for index in range(parquet.num_row_groups):  # a batch over two would lose both
                size = _batch_rows(parquet.metadata.row_group(index))
                for batch in parquet.iter_batches(size, row_groups=[index], use_threads=False):
                    yield from _batch_blocks(source, batch, lines)
        except (OSError, pa.ArrowException) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise InputError(f"reading {source.name} failed", source=source.name) from error
            detail = f"the Parquet file is damaged ({type(error).__name__})"
            yield from lines.refuse("source", detail, None, None, None)


def _batch_rows(group: Any) -> int:
    """Rows of a row group of which a batch stays near `_BATCH_BYTES`."""
    row_bytes = max(1, group.total_byte_size // max(1, group.num_rows))
    return int(min(_MAX_BATCH, max(1, _BATCH_BYTES // row_bytes)))


def _batch_blocks(source: Source, batch: Any, lines: _EnvelopeLines) -> Iterator[Block]:
    names = batch.schema.names
    others = {
        name: _texts(batch.column(index))
        for index, name in enumerate(names)
        if name != source.column
    }
    answers = _raw_texts(batch.column(names.index(source.column)))
    for index, answer in enumerate(answers):
        cells = {
            name: cell for name, column in others.items() if (cell := column[index]) is not None
        }
        yield from lines.add(answer, cells)


def _raw_texts(array: Any) -> list[bytes | None]:
    """Cells as bytes: Arrow does not check the UTF-8 of a Parquet string, we do."""
    import pyarrow as pa

    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    values: list[bytes | None] = array.cast(pa.large_binary()).to_pylist()
    return values


def _checked_texts(array: Any) -> Sequence[_Cell | None]:
    """Texts where all of them are UTF-8, else bytes for `_decoded` to tell."""
    import pyarrow as pa

    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        return _raw_texts(array)
    texts: list[str | None] = array.to_pylist()
    return texts


def _texts(array: Any) -> Sequence[_Cell | None]:
    """Cells of any type as text: times in UTC as ISO 8601, lists and structs as JSON."""
    import pyarrow as pa

    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    kind = array.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return _checked_texts(array)
    if _is_textual(kind):
        return [None if v is None else _bytes_text(v) for v in _raw_texts(array)]
    if pa.types.is_timestamp(kind):
        zone = "UTC" if kind.tz else None
        times = array.cast(pa.timestamp("us", kind.tz), safe=False).cast(pa.timestamp("us", zone))
        return [
            None if v is None else v.replace(" ", "T") for v in times.cast(pa.string()).to_pylist()
        ]
    if pa.types.is_nested(kind):
        return [_nested_text(value) for value in array]
    try:
        texts: list[str | None] = array.cast(pa.string()).to_pylist()
    except pa.ArrowNotImplementedError:
        return [None if v is None else str(v) for v in array.to_pylist()]
    return texts


def _nested_text(value: Any) -> _Cell | None:
    """A list or struct as JSON; bytes that are no text where a text in it is not UTF-8."""
    try:
        plain = value.as_py()
    except UnicodeDecodeError:
        return b"\xff"
    return None if plain is None else json.dumps(plain, ensure_ascii=False, default=_plain_text)


def _plain_text(value: Any) -> str:
    """What JSON has no type for; bytes, which may be a picture, leave their size only."""
    return _bytes_text(value) if isinstance(value, bytes) else str(value)


def _bytes_text(data: bytes) -> str:
    return f"<{len(data)} bytes>"
