"""Staging: rows on their way into the store, as Parquet files in a folder of their batch.

A store has at most `MAX_CONTEXT_COLUMNS` columns `ctx_*`; context beyond moves into `extra`, to
the rest of the envelope that the parser put there.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from msgspec.structs import replace

from verifyanalytics.parsing.reference import CONTENT_NUMBERS, CONTENT_REPEATED, content, free_name
from verifyanalytics.parsing.text import Number, dumps
from verifyanalytics.schema import MAX_CONTEXT_COLUMNS
from verifyanalytics.store.disk import lock, sync, tidying
from verifyanalytics.store.files import (
    ROW_GROUP_ROWS,
    StagedFile,
    conform,
    context_of,
    table_schema,
    writer,
)

BUFFERED_BYTES = 48 << 20  # bytes of Arrow data that may wait in memory, all months together
OPEN_FILES = 160
"""Parquet files open at once; the least recently used is finished when one more is needed."""

_BATCH_OVERHEAD = 24_000  # what some 60 Arrow arrays take beside their values, measured

# no limit of depth: `extra` holds the line one level deeper, and nested texts as objects
_loads = json.JSONDecoder(parse_float=Number, parse_int=Number).decode


# ------------------------------------------------------------------ context without a column


def beyond_limit(held: Collection[str], wanted: Iterable[str]) -> list[str]:
    """Name the wanted context columns that find no room beside those that are there."""
    new = sorted(set(wanted) - set(held))
    return new[max(0, MAX_CONTEXT_COLUMNS - len(held)) :]


def fold(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """Move context columns of verifications, all of text, into `extra`."""
    given = table.select(list(names)).to_pylist()
    extra = table["extra"].to_pylist()
    rows = [row for row, values in enumerate(given) if any(v is not None for v in values.values())]
    named = table.select(["content", *CONTENT_NUMBERS, *CONTENT_REPEATED])
    # an empty list alone would be of type null, by which Arrow takes nothing
    digested = named.take(pa.array(rows, pa.int64())).to_pylist()
    for row, columns in zip(rows, digested, strict=True):
        values = {name[4:]: text for name, text in given[row].items() if text is not None}
        extra[row] = _added(extra[row], values, columns)
    place = table.column_names.index("extra")
    folded = table.set_column(place, "extra", pa.array(extra, pa.string()))
    return folded.drop_columns(list(names))


def fold_file(staged: StagedFile, names: Sequence[str], path: Path) -> StagedFile:
    """Write a staged file of verifications again with some context columns in `extra`."""
    with pq.ParquetFile(staged.path, page_checksum_verification=True) as source:
        kept = [field for field in source.schema_arrow if field.name not in names]
        with writer(path, pa.schema(kept)) as out:
            for group in range(source.num_row_groups):
                out.write_table(fold(source.read_row_group(group), names))
    sync(path)
    return replace(staged, path=str(path))


def _added(extra: str | None, context: Mapping[str, str], row: dict[str, Any]) -> str:
    """Add context to the `extra` of a row; the reply's own keys stay as they are."""
    values = _loads(extra) if extra else {}
    envelope = values.setdefault(_envelope_name(values, row), {})
    name = "context"
    while not isinstance(envelope.get(name, {}), dict):
        name += "_"  # the caller's envelope has something else under this name
    place = envelope.setdefault(name, {})
    for key, text in context.items():
        place[free_name(place, key)] = text
    return dumps(values)


def _envelope_name(extra: dict[str, Any], row: dict[str, Any]) -> str:
    """Find the key of `extra` that holds the rest of the envelope, or a free name for it."""
    # `content` covers the reply's own keys and no others: so it tells which of the two a key is
    name = "envelope"
    while name in extra:
        reply = {key: value for key, value in extra.items() if key != name}
        if row["content"] == content(row, dumps(reply, normalised=True) if reply else None):
            return name
        name += "_"
    return name


# -------------------------------------------------------------------------------- rows


class _File:
    """One Parquet file that is being written."""

    def __init__(self, path: Path, kind: str, month: str, schema: pa.Schema) -> None:
        self.path, self.kind, self.month, self.schema = path, kind, month, schema
        self.n_rows = 0
        path.touch(mode=0o600, exist_ok=False)  # a name that is there is a mistake of ours
        self._writer = writer(path, schema)

    def write(self, table: pa.Table) -> None:
        """Write one row group."""
        self._writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
        self.n_rows += table.num_rows

    def abandon(self) -> None:
        """Close a file that will not be finished; on a full disk even that fails."""
        with contextlib.suppress(OSError, pa.ArrowException):
            self._writer.close()
        self._writer.is_open = False  # else its finalizer tries again and writes to stderr

    def finish(self) -> StagedFile:
        """Close the file and flush it to the disk."""
        self._writer.close()
        sync(self.path)
        return StagedFile(str(self.path), self.kind, self.month, self.n_rows)


@dataclass(slots=True)
class _Waiting:
    """Record batches of one kind and month that are not written yet."""

    batches: list[pa.RecordBatch] = field(default_factory=list)
    n_rows: int = 0
    n_bytes: int = 0


class Staging:
    """Collect the rows of one task and write them, month by month, in bounded memory."""

    def __init__(self, folder: Path, batch: str, stem: str) -> None:
        self._folder, self._batch = folder, batch
        self._stem = stem  # begins the file names, unique within the folder
        self._waiting: dict[tuple[str, str], _Waiting] = {}
        self._open: dict[tuple[str, str], _File] = {}
        self._done: list[StagedFile] = []
        self._paths: list[Path] = []
        self._buffered = 0
        self._closed = False
        self._context: set[str] = set()
        self._met_at = datetime.now(UTC)

    def add(self, verifications: pa.RecordBatch, rejects: pa.RecordBatch) -> None:
        """Take the rows of one block, as `Flattener` gives them; write when enough wait."""
        for month, rows in _by_month(verifications):
            self._keep(("verification", month), rows)
        if rejects.num_rows:
            self._keep(("reject", f"{self._met_at:%Y-%m}"), rejects)
        while self._buffered > BUFFERED_BYTES:
            self._write(max(self._waiting, key=lambda at: self._waiting[at].n_bytes))

    def close(self) -> list[StagedFile]:
        """Write what waits, finish every file, and give the files."""
        for at in list(self._waiting):
            self._write(at)
        while self._open:
            at, file = next(iter(self._open.items()))
            self._done.append(file.finish())
            del self._open[at]
        self._closed = True
        return self._done

    def discard(self) -> None:
        """Remove the files of a task that failed; without effect once `close` has returned."""
        if self._closed:
            return
        for file in self._open.values():
            file.abandon()
        self._open.clear()
        for path in self._paths:
            path.unlink(missing_ok=True)

    def _keep(self, at: tuple[str, str], rows: pa.RecordBatch) -> None:
        waiting = self._waiting.setdefault(at, _Waiting())
        n_bytes = int(rows.nbytes) + _BATCH_OVERHEAD
        waiting.batches.append(rows)
        waiting.n_rows += rows.num_rows
        waiting.n_bytes += n_bytes
        self._buffered += n_bytes
        if waiting.n_rows >= ROW_GROUP_ROWS:
            self._write(at)

    def _write(self, at: tuple[str, str]) -> None:
        """Write what waits for one kind and month as one row group."""
        waiting = self._waiting.pop(at)
        self._buffered -= waiting.n_bytes
        tables = [pa.Table.from_batches([batch]) for batch in waiting.batches]
        table = pa.concat_tables(tables, promote_options="default")
        # a task brings no more context columns than a store may have
        beyond = beyond_limit(self._context, context_of(table.column_names))
        if beyond:
            table = fold(table, beyond)
        context = set(context_of(table.column_names))
        self._context |= context
        file = self._file(at, context)
        constants = {"batch": self._batch, "rejected_at": self._met_at}
        file.write(conform(table, file.schema, constants))

    def _file(self, at: tuple[str, str], context: set[str]) -> _File:
        """Give the open file for a kind and month; a new one when it lacks a context column."""
        file = self._open.pop(at, None)
        if file is not None and not context <= set(file.schema.names):
            context |= set(context_of(file.schema.names))
            self._done.append(file.finish())
            file = None
        if file is None:
            while len(self._open) >= OPEN_FILES:
                self._done.append(self._open.pop(next(iter(self._open))).finish())
            path = self._folder / f"{self._stem}-{at[0][0]}-{len(self._paths):04}.parquet"
            self._paths.append(path)
            file = _File(path, *at, table_schema(at[0], sorted(context)))
        self._open[at] = file  # at the end: most recently used
        return file


def _by_month(batch: pa.RecordBatch) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Split verifications by their month and drop that column; order within a month stays."""
    # each result is a copy: a slice would keep the whole block in memory while its month waits
    at = batch.schema.get_field_index("month")
    months = batch.column(at)
    rows = batch.remove_column(at)
    distinct = pc.unique(months).to_pylist()
    for month in distinct:
        yield month, rows if len(distinct) == 1 else rows.filter(pc.equal(months, month))


class StagingFolders:
    """The staging folders of one store, one a batch, and which of them this process owns."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._owned: dict[str, BinaryIO] = {}

    def claim(self, batch: str) -> Path:
        """Make a batch's folder and hold its owner file until `release`."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        while batch not in self._owned:
            if owner := self._locked(batch):
                self._owned[batch] = owner
        path = self.folder / batch
        path.mkdir(mode=0o700, exist_ok=True)
        return path

    def release(self, batch: str, *, whole: bool = False) -> None:
        """Give a folder up once it is empty; with `whole`, whatever is in it."""
        path = self.folder / batch
        with tidying():
            if whole:
                shutil.rmtree(path, ignore_errors=True)
            elif path.is_dir() and not any(path.iterdir()):
                path.rmdir()
        if (whole or not path.exists()) and batch in self._owned:
            with tidying():
                (self.folder / f"{batch}.owner").unlink(missing_ok=True)
            self._owned.pop(batch).close()

    def release_all(self) -> None:
        """Give every folder up, at the end of the process or of the store."""
        for batch in list(self._owned):
            self.release(batch, whole=True)

    def clean(self) -> list[str]:
        """Remove the folders whose owners are dead; give their names."""
        if not self.folder.is_dir():
            return []
        batches = sorted({path.name.removesuffix(".owner") for path in self.folder.iterdir()})
        cleaned = []
        for batch in batches:
            if batch not in self._owned and (owner := self._locked(batch)):
                shutil.rmtree(self.folder / batch, ignore_errors=True)
                with tidying():
                    (self.folder / f"{batch}.owner").unlink(missing_ok=True)
                owner.close()
                cleaned.append(batch)
        return cleaned

    def _locked(self, batch: str) -> BinaryIO | None:
        """Lock a batch's owner file; None when another holds it or it was removed meanwhile."""
        # the system frees the lock when the process dies: a folder without one is left over
        path = self.folder / f"{batch}.owner"
        file = path.open("ab")
        try:
            lock(file)
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except (BlockingIOError, PermissionError, FileNotFoundError):
            pass
        file.close()
        return None
