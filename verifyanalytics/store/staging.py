"""Rows on their way into the store: buffered by month, written as Parquet, made durable.

One `Staging` belongs to one task of one batch. Flattened blocks go in as they come; out come, for
each month, one Parquet file of verifications and one of rejects (more only when a context column
turns up after a file was begun, or when the input jumps between more months than files may be
open). What is buffered is bounded in rows and bytes, whatever order the months come in. The files
carry every column of the table but the partition's (`kind`, `month`), so the store can move them
in as they are.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from verifyanalytics.schema import REJECTS, VERIFICATIONS, parquet_options
from verifyanalytics.store.context import beyond_limit, context_of, fold

ROW_GROUP_ROWS = 100_000
"""Rows of a Parquet row group, and the most that wait in memory for one month."""

BUFFERED_BYTES = 48 << 20
"""Bytes of Arrow data that may wait in memory, all months together."""

OPEN_FILES = 160
"""Parquet files open at once; the least recently used is finished when one more is needed."""

_BATCH_OVERHEAD = 24_000  # what some 60 Arrow arrays take beside their values, measured


class Staged(msgspec.Struct, frozen=True):
    """One Parquet file that waits to be committed.

    Attributes
    ----------
    path : str
        Absolute path within the staging folder.
    kind : str
        `verification` or `reject`.
    month : str
        `2024-06` in UTC, or `unknown`; for rejects the month they were met in.
    n_rows : int
        Rows in the file, at least 1.
    context : list of str
        Its `ctx_*` columns.
    """

    path: str
    kind: str
    month: str
    n_rows: int
    context: list[str]


class _File:
    """One Parquet file being written, and the rows that wait for its next row group."""

    def __init__(self, path: Path, kind: str, month: str, schema: pa.Schema) -> None:
        path.touch(mode=0o600, exist_ok=False)
        self.path, self.kind, self.month, self.schema = path, kind, month, schema
        self.n_rows = 0
        self._writer = pq.ParquetWriter(path, schema, **parquet_options(schema))

    def write(self, table: pa.Table) -> None:
        """Write one row group."""
        self._writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
        self.n_rows += table.num_rows

    def abandon(self) -> None:
        """Let go of a file that will not be finished; on a full disk even closing it fails."""
        with contextlib.suppress(OSError, pa.ArrowException):
            self._writer.close()
        self._writer.is_open = False  # else its finalizer tries once more, and complains aloud

    def finish(self) -> Staged:
        """Close the file and see it onto the disk."""
        self._writer.close()
        descriptor = os.open(self.path, os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return Staged(
            str(self.path), self.kind, self.month, self.n_rows, context_of(self.schema.names)
        )


class _Waiting:
    """Batches of one kind and month that are not written yet."""

    def __init__(self) -> None:
        self.batches: list[pa.RecordBatch] = []
        self.n_rows = 0
        self.n_bytes = 0

    def add(self, batch: pa.RecordBatch) -> int:
        n_bytes = batch.nbytes + _BATCH_OVERHEAD
        self.batches.append(batch)
        self.n_rows += batch.num_rows
        self.n_bytes += n_bytes
        return int(n_bytes)


class Staging:
    """Collect the rows of one task and write them, month by month.

    Parameters
    ----------
    folder : Path
        An existing folder; the files are made in it with mode 0600.
    batch : str
        The commit the rows belong to; becomes their `batch` column.
    stem : str
        How the file names begin; unique within the folder.
    """

    def __init__(self, folder: Path, batch: str, stem: str) -> None:
        self._folder, self._batch, self._stem = folder, batch, stem
        self._waiting: dict[tuple[str, str], _Waiting] = {}
        self._open: dict[tuple[str, str], _File] = {}
        self._done: list[Staged] = []
        self._paths: list[Path] = []
        self._buffered = 0
        self._closed = False
        self._context: set[str] = set()
        self._met_at = datetime.now(UTC)

    def add(self, verifications: pa.RecordBatch, rejects: pa.RecordBatch) -> None:
        """Take the rows of one block; writes row groups when enough wait.

        Parameters
        ----------
        verifications : pyarrow.RecordBatch
            As `flatten.Flattener` gives them: with `month`, without `batch`.
        rejects : pyarrow.RecordBatch
            Without `batch` and `rejected_at`.

        Raises
        ------
        OSError
            The disk refuses a write.
        """
        for month, rows in _by_month(verifications):
            self._keep(("verification", month), rows)
        if rejects.num_rows:
            self._keep(("reject", f"{self._met_at:%Y-%m}"), rejects)
        while self._buffered > BUFFERED_BYTES:
            self._write(max(self._waiting, key=lambda at: self._waiting[at].n_bytes))

    def close(self) -> list[Staged]:
        """Write what waits, finish every file, and say which there are."""
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
        self._buffered += waiting.add(rows)
        if waiting.n_rows >= ROW_GROUP_ROWS:
            self._write(at)

    def _write(self, at: tuple[str, str]) -> None:
        """Write what waits for one kind and month as one row group."""
        waiting = self._waiting.pop(at)
        self._buffered -= waiting.n_bytes
        tables = [pa.Table.from_batches([batch]) for batch in waiting.batches]
        table = pa.concat_tables(tables, promote_options="default")
        table = self._with_few_columns(table)
        file = self._file(at, set(context_of(table.column_names)))
        file.write(self._complete(table, file.schema))

    def _with_few_columns(self, table: pa.Table) -> pa.Table:
        """Let no task bring more context columns than a store may have."""
        beyond = beyond_limit(self._context, context_of(table.column_names))
        self._context.update(set(context_of(table.column_names)) - set(beyond))
        return fold(table, beyond) if beyond else table

    def _file(self, at: tuple[str, str], context: set[str]) -> _File:
        """Give the open file for a kind and month; a new one when it lacks a context column."""
        file = self._open.pop(at, None)
        if file is not None and not context <= set(file.schema.names):
            context |= set(context_of(file.schema.names))
            self._done.append(file.finish())
            file = None
        if file is None:
            file = self._begin(at, context)
        self._open[at] = file  # at the end: most recently used
        return file

    def _begin(self, at: tuple[str, str], context: set[str]) -> _File:
        while len(self._open) >= OPEN_FILES:
            self._done.append(self._open.pop(next(iter(self._open))).finish())
        kind, month = at
        schema = VERIFICATIONS if kind == "verification" else REJECTS
        for name in sorted(context):
            schema = schema.append(pa.field(name, pa.string()))
        path = self._folder / f"{self._stem}-{kind[0]}-{len(self._paths):04}.parquet"
        self._paths.append(path)
        return _File(path, kind, month, schema.remove_metadata())

    def _complete(self, table: pa.Table, schema: pa.Schema) -> pa.Table:
        """Bring a table into the file's schema: the batch, the clock, nulls for what is absent."""
        constant = {"batch": self._batch, "rejected_at": self._met_at}
        columns = []
        for field in schema:
            if field.name in table.column_names:
                columns.append(table.column(field.name).cast(field.type))
            else:
                value = pa.scalar(constant.get(field.name), type=field.type)
                columns.append(pa.repeat(value, table.num_rows))
        return pa.Table.from_arrays(columns, schema=schema)


def _by_month(batch: pa.RecordBatch) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Split verifications by their month and drop that column; order within a month stays.

    A part is a copy, never a slice: a slice would keep the whole block in memory for as long as
    its month waits.
    """
    at = batch.schema.get_field_index("month")
    months = batch.column(at)
    rows = batch.remove_column(at)
    distinct = pc.unique(months).to_pylist()
    for month in distinct:
        yield month, rows if len(distinct) == 1 else rows.filter(pc.equal(months, month))
