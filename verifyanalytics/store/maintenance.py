"""Keeping a store in shape: merge small files, remove old ones, prove that it adds up, export.

Each of these goes by exactly the files of one version. Merging and removing take the lane like an
import, so none of them can come between another's judgement and its commit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from deltalake.exceptions import DeltaError

from verifyanalytics.errors import StorageError, UsageError
from verifyanalytics.store.files import (
    ROW_GROUP_ROWS,
    DataFile,
    StagedFile,
    place,
    statistics,
    sync,
    table_schema,
    writer,
)
from verifyanalytics.store.log import LABEL_LANE, LANE, LaneTakenError, Version, commit
from verifyanalytics.store.tables import TRIES, Tables
from verifyanalytics.store.views import TABLES, Views, plain, quoted, selected

SMALL_BYTES = 64 << 20
"""A file below this is worth merging."""

MERGED_BYTES = 256 << 20
"""About how large a merged file may get."""

_ORDER = {"verification": "occurred_at", "reject": "rejected_at", "import": "committed_at"}
_FORMULA = r"^[=+\-@\t\r\n＝＋－＠]"


# -------------------------------------------------------------------------------- compact


def bundles(files: Iterable[DataFile], over: int) -> list[list[DataFile]]:
    """Group small files of one partition that are worth merging.

    Parameters
    ----------
    files : iterable of DataFile
    over : int
        Partitions with more small files than this are taken.

    Returns
    -------
    list of list of DataFile
        Each to become one file of about `MERGED_BYTES` at most; never a single file.
    """
    partitions: dict[tuple[str, str], list[DataFile]] = {}
    for file in files:
        if file.n_bytes < SMALL_BYTES:
            partitions.setdefault((file.kind, file.month), []).append(file)
    found: list[list[DataFile]] = []
    for _, small in sorted(partitions.items()):
        if len(small) > over:
            found += _bins(sorted(small, key=lambda file: (str(file.first_at), file.path)))
    return [bundle for bundle in found if len(bundle) > 1]


def _bins(files: Sequence[DataFile]) -> list[list[DataFile]]:
    bins: list[list[DataFile]] = [[]]
    n_bytes = 0
    for file in files:
        if bins[-1] and n_bytes + file.n_bytes > MERGED_BYTES:
            bins.append([])
            n_bytes = 0
        bins[-1].append(file)
        n_bytes += file.n_bytes
    return bins


def merge(tables: Tables, bundle: Sequence[DataFile], batch: str) -> int:
    """Put one file in place of a bundle's; no row changes.

    Returns
    -------
    int
        Rows merged; 0 when another commit took one of the files meanwhile.

    Raises
    ------
    StorageError
        Not every row arrived; nothing is committed then.
    """
    version = tables.newest(tables.responses)
    staged = _sorted_file(tables, version, bundle, tables.staging.claim(batch) / "0.parquet")
    for attempt in range(TRIES):
        version = tables.newest(tables.responses)
        if not set(bundle) <= set(version.files):
            return 0
        placed = place(staged, tables.responses, f"{batch}-{attempt}")
        note = {"verb": "compact", "batch": "", "n_added": 0}
        try:
            commit(
                tables.responses,
                version,
                adds=[placed],
                removes=bundle,
                note=note,
                data_change=False,
            )
        except (LaneTakenError, DeltaError, OSError):
            (tables.responses / placed.path).unlink(missing_ok=True)
            if not tables.moved(version, tables.responses):
                raise
        else:
            return staged.n_rows
    raise StorageError("no turn to compact; run it again", path=tables.path)


def _sorted_file(
    tables: Tables, version: Version, bundle: Sequence[DataFile], path: Path
) -> StagedFile:
    """Write the rows of a bundle into one file, sorted by their time."""
    kind, month = bundle[0].kind, bundle[0].month
    schema = table_schema(kind, version.context if kind == "verification" else ())
    query = f"{selected(schema, tables.responses, bundle)} ORDER BY {_ORDER[kind]}"
    n_rows = 0
    with writer(path, schema) as out:
        for group in tables.engine.cursor().sql(query).to_arrow_reader(ROW_GROUP_ROWS):
            out.write_table(plain(pa.Table.from_batches([group])).cast(schema))
            n_rows += group.num_rows
    sync(path)
    expected = sum(file.n_rows for file in bundle)
    if n_rows != expected:
        message = f"merging {kind} {month} gave {n_rows} rows instead of {expected}"
        raise StorageError(message, path=path)
    return StagedFile(path, kind, month, n_rows)


# -------------------------------------------------------------------------------- vacuum


def retention_hours(value: str | timedelta) -> int:
    """Read a time to keep: `7d`, `12h` or a timedelta, in whole hours.

    Raises
    ------
    UsageError
        It is none of these.
    """
    if isinstance(value, timedelta) and value >= timedelta(0):
        return int(value.total_seconds() // 3600)
    found = re.fullmatch(r"(\d{1,6})([dh])", value) if isinstance(value, str) else None
    if found is None:
        raise UsageError(f"retention is {value!r}; give days or hours, such as 7d or 12h")
    return int(found[1]) * (24 if found[2] == "d" else 1)


def expired(tables: Tables, table: Path, hours: int, *, dry_run: bool) -> list[str]:
    """List the files of a table that nobody refers to, nor has for some hours.

    Staging folders are left alone. Unless `dry_run`, the lane is taken after listing: what an
    import has put in place by then belongs to a try that cannot commit any more.
    """
    lane = LANE if table == tables.responses else LABEL_LANE
    for _ in range(TRIES):
        version = tables.newest(table)
        listed = _unreferenced(version, hours, full=True)
        if dry_run or not listed:
            return listed
        note = {"verb": "vacuum", "batch": "", "n_added": 0}
        try:
            commit(table, version, lane_name=lane, note=note)
        except LaneTakenError:
            continue
        return listed
    raise StorageError("no turn to vacuum; run it again", path=tables.path)


def strays(version: Version) -> list[str]:
    """List the files in a table's folder that no version ever referred to."""
    removed = set(_unreferenced(version, 0, full=False))
    return [path for path in _unreferenced(version, 0, full=True) if path not in removed]


def _unreferenced(version: Version, hours: int, *, full: bool) -> list[str]:
    """List files that were removed so long ago; with `full`, also those that were never added."""
    listed = version.handle.vacuum(
        retention_hours=hours, dry_run=True, enforce_retention_duration=False, full=full
    )
    return sorted(path for path in listed if not path.startswith("_"))


# -------------------------------------------------------------------------------- check


def file_findings(table: Path, files: Iterable[DataFile]) -> list[str]:
    """Find committed files that are gone or have another size."""
    found = []
    for file in files:
        try:
            n_bytes = (table / file.path).stat().st_size
        except FileNotFoundError:
            found.append(f"{file.path} is missing ({file.n_rows} rows)")
            continue
        if n_bytes != file.n_bytes:
            found.append(f"{file.path} has {n_bytes} bytes, the log says {file.n_bytes}")
    return found


def content_findings(table: Path, files: Iterable[DataFile]) -> list[str]:
    """Read every committed file to its end: columns, types, rows, statistics, checksums, month."""
    found = []
    for file in files:
        try:
            found += [
                f"{file.path} {finding}" for finding in _read_through(table / file.path, file)
            ]
        except (OSError, pa.ArrowException) as error:
            found.append(f"{file.path} cannot be read: {str(error).splitlines()[0]}")
    return found


def _read_through(path: Path, file: DataFile) -> list[str]:
    found = []
    with pq.ParquetFile(path, page_checksum_verification=True) as opened:
        schema = opened.schema_arrow
        context = [name for name in schema.names if name.startswith("ctx_")]
        if schema != table_schema(file.kind, context):
            found.append("has other columns than its table")
        if opened.metadata.num_rows != file.n_rows:
            found.append(f"has {opened.metadata.num_rows} rows, the log says {file.n_rows}")
        n_rows = n_strange = 0
        for group in opened.iter_batches(50_000):
            n_rows += group.num_rows
            n_strange += _strangers(group, file)
    if n_rows != opened.metadata.num_rows:
        found.append(f"gives {n_rows} rows, its footer says {opened.metadata.num_rows}")
    if n_strange:
        found.append(f"has {n_strange} rows that are not of {file.month}")
    return found + _statistics_findings(path, file)


def _strangers(group: pa.RecordBatch, file: DataFile) -> int:
    """Count verifications whose time is not in the file's month."""
    if file.kind != "verification":
        return 0
    at = group.column(group.schema.get_field_index("occurred_at"))
    if file.month == "unknown":
        return int(len(at) - at.null_count)
    first = datetime.strptime(file.month, "%Y-%m").replace(tzinfo=UTC)
    after = (first + timedelta(days=32)).replace(day=1)
    inside = pc.and_(pc.greater_equal(at, first), pc.less(at, after))
    return int(len(at) - (pc.sum(inside).as_py() or 0))


def _statistics_findings(path: Path, file: DataFile) -> list[str]:
    if file.kind != "verification" or file.first_at is None or file.last_at is None:
        return []
    told = statistics(path)
    least, greatest = told["minValues"].get("occurred_at"), told["maxValues"].get("occurred_at")
    logged = tuple(f"{at:%Y-%m-%dT%H:%M:%S.%fZ}" for at in (file.first_at, file.last_at))
    return [] if (least, greatest) == logged else ["has times that the log states otherwise"]


_BATCHES = """
WITH ledger AS (
    SELECT batch, sum(n_read) AS n_read, sum(n_added) AS n_added, sum(n_known) AS n_known,
           sum(n_rejected) AS n_rejected, sum(n_erased) AS n_erased
    FROM imports GROUP BY batch),
rows AS (SELECT batch, count(*) AS n FROM verifications GROUP BY batch),
refused AS (SELECT batch, count(*) AS n FROM rejects GROUP BY batch)
SELECT batch, coalesce(rows.n, 0)::BIGINT, coalesce(refused.n, 0)::BIGINT,
       n_read::BIGINT, n_added::BIGINT, n_known::BIGINT, n_rejected::BIGINT, n_erased::BIGINT
FROM ledger FULL JOIN rows USING (batch) FULL JOIN refused USING (batch) ORDER BY batch
"""


def sum_findings(connection: duckdb.DuckDBPyConnection, stamps: Mapping[str, int]) -> list[str]:
    """Find what does not add up: ids, batches against their ledger, the ledger against the stamps.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        The six tables are views on it.
    stamps : mapping of str to int
        The application stamps of the version.
    """
    found = _id_findings(connection)
    for row in connection.execute(_BATCHES).fetchall():
        found += _batch_findings(*row)
    ledger = {
        sha for (sha,) in connection.execute("SELECT DISTINCT sha256 FROM imports").fetchall()
    }
    stamped = {name[5:] for name in stamps if name.startswith("file:")}
    found += [f"source {sha[:12]}… is in the ledger and not stamped" for sha in ledger - stamped]
    found += [f"source {sha[:12]}… is stamped and not in the ledger" for sha in stamped - ledger]
    return found


def _id_findings(connection: duckdb.DuckDBPyConnection) -> list[str]:
    n_rows, n_ids, n_distinct = connection.execute(
        "SELECT count(*), count(request_id), count(DISTINCT request_id) FROM verifications"
    ).fetchall()[0]
    found = [] if n_rows == n_ids else [f"{n_rows - n_ids} verifications have no request_id"]
    if n_ids != n_distinct:
        found.append(f"{n_ids - n_distinct} verifications repeat a request_id")
    return found


def _batch_findings(
    batch: str, n_rows: int, n_rejects: int, n_read: int | None, *ledger: int
) -> list[str]:
    if n_read is None:
        return [f"batch {batch} has {n_rows} rows and {n_rejects} rejects, and no ledger"]
    n_added, n_known, n_rejected, n_erased = ledger
    found = []
    if n_rows + n_erased != n_added:
        found.append(f"batch {batch}: {n_rows} rows + {n_erased} erased are not {n_added} added")
    if n_rejects != n_rejected:
        found.append(f"batch {batch}: {n_rejects} rejects are not the {n_rejected} counted")
    if n_read != n_added + n_known + n_rejected:
        sums = f"{n_added} added + {n_known} known + {n_rejected} rejected"
        found.append(f"batch {batch}: {n_read} read are not {sums}")
    return found


# -------------------------------------------------------------------------------- export


def export_table(
    connection: duckdb.DuckDBPyConnection, views: Views, table: str, path: Path
) -> int:
    """Write one table as plain Parquet or CSV, by the path's ending; give the number of rows.

    A CSV cell of text that a spreadsheet would take for a formula gets an apostrophe before it;
    lists are JSON, times ISO 8601 in UTC.
    """
    schema = views.schema(table)
    query = views.query(table)
    draft = path.with_name(f".{path.name}.part")
    if path.suffix == ".csv":
        query = f"SELECT {', '.join(map(_csv_cell, schema))} FROM ({query})"
        schema = pa.schema([(f.name, _csv_type(f.type)) for f in schema])
        draft.touch(mode=0o600)
        out: Any = pacsv.CSVWriter(draft, schema)
    else:
        out = writer(draft, schema)
    n_rows = 0
    try:
        with out:
            for group in connection.sql(query).to_arrow_reader(ROW_GROUP_ROWS):
                out.write_table(plain(pa.Table.from_batches([group])).cast(schema))
                n_rows += group.num_rows
        sync(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return n_rows


def export_paths(folder: Path, format: str, *, overwrite: bool) -> dict[str, Path]:
    """Name the six files of an export.

    Raises
    ------
    UsageError
        No such format, or files that are there and may not be replaced.
    """
    if format not in ("parquet", "csv"):
        raise UsageError(f"format is {format!r}; give parquet or csv")
    paths = {table: folder / f"{table}.{format}" for table in TABLES}
    there = [path.name for path in paths.values() if path.exists()]
    if there and not overwrite:
        hint = "choose another folder, or allow overwriting"
        raise UsageError(f"{folder} holds {', '.join(there)} already; {hint}")
    return paths


def _csv_type(found: pa.DataType) -> pa.DataType:
    textual = pa.types.is_list(found) or pa.types.is_timestamp(found)
    return pa.string() if textual else found


def _csv_cell(field: pa.Field) -> str:
    name = quoted(field.name)
    if pa.types.is_timestamp(field.type):
        return f"strftime({name}, '%Y-%m-%dT%H:%M:%S.%fZ') AS {name}"
    if pa.types.is_list(field.type):
        return f"CAST(to_json({name}) AS VARCHAR) AS {name}"
    if pa.types.is_string(field.type):
        return f"if(regexp_matches({name}, '{_FORMULA}'), '''' || {name}, {name}) AS {name}"
    return name
