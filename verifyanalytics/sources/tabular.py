"""Tables: one column of a Parquet, CSV or TSV file holds the responses, the others their context.

Each row becomes one line of our own envelope, in which the response is a JSON *string*: whatever a
cell holds, it cannot reach out of it. Line n is row n: a refused row leaves a blank line.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from verifyanalytics.errors import InputError, UsageError
from verifyanalytics.sources.streams import (
    MAX_DOCUMENTS,
    Block,
    BlockReject,
    Source,
    StreamDamageError,
    open_location,
)

ENVELOPE = frozenset({"occurred_at", "action", "req_key", "byted_token", "http_status", "subject"})
"""Columns that are fields of the envelope; tokens and subjects are hashed by the parser."""

_BATCH_BYTES = 4 << 20  # decoded bytes of Parquet aimed at
_MAX_BATCH = 1 << 14  # rows
_SHOWN = 40  # columns named in an error, and characters of a name
_STRINGS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
_BYTES = (
    pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view,
    pa.types.is_fixed_size_binary,
)  # fmt: skip

_Cell = str | bytes  # a cell on its way: text, or bytes that are still to be checked for UTF-8


def check_columns(source: Source, head: bytes) -> str | None:
    """Say why the responses of a table cannot be found; None also if it is too damaged to tell."""
    if source.form != "parquet":
        names = _Grammar(source.form).header(head)
        return None if names is None else _complaint(source, names)
    if source.compression is not None:
        return None
    import pyarrow.parquet as pq

    with open_location(source.location) as file:
        try:
            schema = pq.ParquetFile(file).schema_arrow
        except (OSError, pa.ArrowException):
            return None
    return _complaint(source, schema.names, schema)


def _complaint(source: Source, names: Sequence[str], schema: pa.Schema = None) -> str | None:
    there = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
    if source.column is None:
        return f"a table: name the column that holds the answers (--column); it has: {there}"
    for column in (source.column, source.time_column):
        if column is not None and column not in names:
            return f"no column {column}; it has: {there}"
    twice = sorted(name for name, n in Counter(names).items() if n > 1)
    if twice:
        return f"more than one column is called {', '.join(twice[:_SHOWN])}; rename them"
    kind = pa.string() if schema is None else schema.field(source.column).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if any(is_kind(kind) for is_kind in (*_STRINGS, *_BYTES, pa.types.is_null)):
        return None
    return f"column {source.column} is {kind}, not text; export the answer as JSON text"


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
        self, response: bytes | None, others: Mapping[str, _Cell], place: int | None = None
    ) -> Iterator[Block]:
        """Add a row: the response and its other cells; give out a block when it is full."""
        if response is None or not response.strip():
            return self.refuse("not_a_response", "the cell is empty", None, 0, place)
        if len(response) > self._max_document:
            detail = f"a cell larger than {self._max_document} bytes"
            return self.refuse("size", detail, _sha256(response), len(response), place)
        text = _decoded(response)
        texts = {
            name: cell if isinstance(cell, str) else _decoded(cell) for name, cell in others.items()
        }
        if text is None or None in texts.values():
            names = [name for name, cell in texts.items() if cell is None]
            where = f" of column {names[0][:_SHOWN]}" if text is not None else ""
            detail = f"the cell{where} is not UTF-8"
            return self.refuse("encoding", detail, _sha256(response), len(response), place)
        envelope: dict[str, Any] = {"response": text}
        envelope |= {f: texts.pop(column) for column, f in self._fields.items() if column in texts}
        if re.fullmatch(r"[0-9]{3}", envelope.get("http_status", "")):
            envelope["http_status"] = int(envelope["http_status"])
        if texts:
            envelope["context"] = texts
        line = json.dumps(envelope, ensure_ascii=False, separators=(",", ":"))
        return self._append(line.encode(errors="replace") + b"\n")

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
            data, rejects = b"".join(self._lines), tuple(self._rejects)
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


class _Grammar:
    """The grammar of RFC 4180: records, and the cells of one."""

    def __init__(self, form: str) -> None:
        # a quote matters only where a cell begins: a TSV may hold JSON as it is
        mark = b"\t" if form == "tsv" else b","
        quoted = rb'"(?:[^"]++|"")*+"'
        cell = rb"(?:" + quoted + rb'|(?!"))[^' + mark + rb"\n]*+"
        self.record = re.compile(rb"(?:" + cell + mark + rb")*+" + cell + rb"\n")
        self._cell = re.compile(
            rb"(" + quoted + rb")?+([^" + mark + rb"\n]*+)(?:" + mark + rb"|\Z)"
        )

    def cells(self, record: bytes) -> list[bytes]:
        """The cells of a record; `ValueError` where text follows a closing quote."""
        cells, position = [], 0
        while True:
            match = self._cell.match(record, position)
            if match is None or (match[1] is not None and match[2]):
                raise ValueError("text behind a closing quote; a quote in a cell is doubled")
            cells.append(match[2] if match[1] is None else match[1][1:-1].replace(b'""', b'"'))
            if match.end() == len(record) and match.end() == match.end(2):
                return cells
            position = match.end()

    def header(self, head: bytes) -> list[str] | None:
        """The names in the header, if the head holds one."""
        match = self.record.match(head.removeprefix(b"\xef\xbb\xbf") + b"\n")
        try:
            cells = self.cells(match[0].rstrip(b"\r\n")) if match else []
        except ValueError:
            return None
        return _column_names(cells) if any(cell.strip() for cell in cells) else None


def _column_names(cells: Sequence[bytes]) -> list[str]:
    """The names in a header; of a column without one, its number."""
    names = [cell.decode(errors="replace").strip() for cell in cells]
    return [name or f"column {number}" for number, name in enumerate(names, 1)]


def text_table_blocks(
    source: Source, chunks: Iterator[bytes], offset: int, block_bytes: int, max_document: int
) -> Iterator[Block]:
    """Blocks of envelope lines, one a row of a CSV or TSV whose bytes `chunks` are."""
    lines = _EnvelopeLines(source, block_bytes, max_document)
    names: list[str] = []
    for place, record, cells in _Records(source.form, chunks, offset, max_document).read():
        if isinstance(cells, _Fault):
            yield from lines.refuse(cells.reason, cells.detail, cells.sha256, cells.n_bytes, place)
        elif not names:
            names = _column_names(cells)
            if complaint := _complaint(source, names):
                raise UsageError(f"{source.name}: {complaint}")
        elif len(cells) != len(names):
            detail = f"a row of {len(cells)} cells under a header of {len(names)}"
            yield from lines.refuse("source", detail, _sha256(record), len(record), place)
        else:
            row = {name: cell for name, cell in zip(names, cells, strict=True) if cell}
            yield from lines.add(row.pop(source.column or "", b""), row, place)
    yield from lines.cut()


class _Fault(NamedTuple):
    """Why a record is refused, and the hash and length of what is refused."""

    reason: str
    detail: str
    sha256: str | None
    n_bytes: int


_Record = tuple[int, bytes, list[bytes] | _Fault]  # offset, bytes, and cells or fault of a record


class _Records:
    """Cuts chunks into records."""

    def __init__(self, form: str, chunks: Iterator[bytes], offset: int, max_document: int) -> None:
        self._grammar = _Grammar(form)
        self._chunks, self._max_document = chunks, max_document
        self._data = bytearray()
        self._offset = offset

    def read(self) -> Iterator[_Record]:
        """Yield records in order."""
        try:
            for chunk in self._chunks:
                self._data += chunk
                yield from self._complete(self._max_document)
        except StreamDamageError as damage:
            rest = bytes(self._data)
            digest = _sha256(rest) if rest else None
            yield self._offset, b"", _Fault("source", str(damage), digest, len(rest))
            return
        if self._data:
            self._data += b"" if self._data.endswith(b"\n") else b"\n"
            yield from self._complete(0)

    def _complete(self, max_rest: int) -> Iterator[_Record]:
        """Yield whole records; refuse lines until no more than `max_rest` bytes are left."""
        while True:
            at = 0
            while match := self._grammar.record.match(self._data, at):
                record = bytes(match[0]).rstrip(b"\r\n")
                place, at = self._offset + at, match.end()
                try:
                    if record:
                        yield place, record, self._grammar.cells(record)
                except ValueError as error:
                    line, newline, _ = record.partition(b"\n")
                    detail = "a quote that is not closed" if newline else str(error)
                    yield place, line, _Fault("source", detail, _sha256(line), len(line))
                    if newline:  # a quote left open swallows the rows behind it
                        at = place - self._offset + len(line) + 1
            self._drop(at)
            if len(self._data) <= max_rest:
                return
            yield self._first_line()

    def _first_line(self) -> _Record:
        """Refuse the first line of a record that does not end; reading goes on behind it."""
        start, digest, n_bytes = self._offset, hashlib.sha256(), 0
        while (end := self._data.find(b"\n")) < 0 and self._data:
            digest.update(self._data)
            n_bytes += len(self._data)
            self._drop(len(self._data))
            self._data += next(self._chunks, b"")
        digest.update(self._data[: max(end, 0)])
        n_bytes += max(end, 0)
        self._drop(end + 1)
        reason, detail = "source", "a quote that is not closed"
        if n_bytes > self._max_document:
            reason, detail = "size", f"a line larger than {self._max_document} bytes"
        return start, b"", _Fault(reason, detail, digest.hexdigest(), n_bytes)

    def _drop(self, n_bytes: int) -> None:
        del self._data[:n_bytes]
        self._offset += n_bytes


# --- Parquet ------------------------------------------------------------------------------


def parquet_blocks(source: Source, block_bytes: int, max_document: int) -> Iterator[Block]:
    """Blocks of envelope lines, one a row of a Parquet file, by row group and batch."""
    import pyarrow.parquet as pq

    lines = _EnvelopeLines(source, block_bytes, max_document)
    if source.compression is not None:
        detail = f"Parquet inside {source.compression}; decompress it first"
        yield from lines.refuse("source", detail, None, source.n_bytes, None)
        yield from lines.cut()
        return
    with open_location(source.location) as file:
        try:
            parquet = pq.ParquetFile(file, pre_buffer=False)
            schema = parquet.schema_arrow
            if complaint := _complaint(source, schema.names, schema):
                raise UsageError(f"{source.name}: {complaint}")
            for index in range(parquet.num_row_groups):  # a batch over two would lose both
                group = parquet.metadata.row_group(index)
                row_bytes = max(1, group.total_byte_size // max(1, group.num_rows))
                size = int(min(_MAX_BATCH, max(1, _BATCH_BYTES // row_bytes)))
                for batch in parquet.iter_batches(size, row_groups=[index], use_threads=False):
                    yield from _batch_blocks(source, batch, lines)
        except (OSError, pa.ArrowException) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise InputError(f"reading {source.name} failed", source=source.name) from error
            detail = f"the Parquet file is damaged ({type(error).__name__})"
            yield from lines.refuse("source", detail, None, None, None)
    yield from lines.cut()


def _batch_blocks(source: Source, batch: Any, lines: _EnvelopeLines) -> Iterator[Block]:
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    responses = _raw_texts(columns.pop(source.column))
    others = {name: _texts(column) for name, column in columns.items()}
    for index, response in enumerate(responses):
        cells = {
            name: cell for name, column in others.items() if (cell := column[index]) is not None
        }
        yield from lines.add(response, cells)


def _raw_texts(array: Any) -> list[bytes | None]:
    """Cells as bytes: Arrow does not check the UTF-8 of a Parquet string, we do."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    values: list[bytes | None] = array.cast(pa.large_binary()).to_pylist()
    return values


def _texts(array: Any) -> Sequence[_Cell | None]:
    """Cells of any type as text: times in UTC as ISO 8601, lists and structs as JSON."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    kind = array.type
    texts: list[str | None]
    if any(is_kind(kind) for is_kind in _STRINGS):
        try:
            array.validate(full=True)
        except pa.ArrowInvalid:
            return _raw_texts(array)  # the row with the wrong bytes is refused later
        texts = array.to_pylist()
    elif any(is_kind(kind) for is_kind in _BYTES):
        texts = [None if v is None else _bytes_text(v) for v in _raw_texts(array)]
    elif pa.types.is_timestamp(kind):
        zone = "UTC" if kind.tz else None
        times = array.cast(pa.timestamp("us", kind.tz), safe=False).cast(pa.timestamp("us", zone))
        texts = [v and v.replace(" ", "T") for v in times.cast(pa.string()).to_pylist()]
    elif pa.types.is_nested(kind):
        return [_nested_text(value) for value in array]
    else:
        try:
            texts = array.cast(pa.string()).to_pylist()
        except pa.ArrowNotImplementedError:
            texts = [None if v is None else str(v) for v in array.to_pylist()]
    return texts


def _nested_text(value: Any) -> _Cell | None:
    """A list or struct as JSON; bytes that are no text where a text in it is not UTF-8."""
    try:
        plain = value.as_py()
    except UnicodeDecodeError:
        return b"\xff"
    return None if plain is None else json.dumps(plain, ensure_ascii=False, default=_bytes_text)


def _bytes_text(value: Any) -> str:
    """What JSON has no type for; of bytes, which may be an image, only the size is left."""
    return f"<{len(value)} bytes>" if isinstance(value, bytes) else str(value)
