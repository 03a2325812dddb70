"""Check: a store adds up, from its files and ids to its ledger and the stamps in the log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from verifyanalytics.errors import StorageError
from verifyanalytics.store.files import DataFile, context_of, statistics, table_schema
from verifyanalytics.store.log import read_stamps
from verifyanalytics.store.tables import Tables

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


def findings(tables: Tables, *, deep: bool) -> list[str]:
    """Give one sentence for each thing that is wrong; what `Store.check` does."""
    responses, labels = tables.at(None)
    found: list[str] = []
    for table, version in ((tables.responses, responses), (tables.labels, labels)):
        found += _file_findings(table, version.files)
        found += _content_findings(table, version.files) if deep and not found else []
    try:
        tables.key(again=True)
        if not found:
            connection = tables.engine.cursor()
            tables.views().create(connection)
            found += _sum_findings(connection, read_stamps(tables.responses, responses.number))
    except (StorageError, duckdb.Error) as error:
        found.append(str(error).splitlines()[0])
    return found


def _file_findings(table: Path, files: Iterable[DataFile]) -> list[str]:
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


def _content_findings(table: Path, files: Iterable[DataFile]) -> list[str]:
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
        if schema != table_schema(file.kind, context_of(schema.names)):
            found.append("has other columns than its table")
        if opened.metadata.num_rows != file.n_rows:
            found.append(f"has {opened.metadata.num_rows} rows, the log says {file.n_rows}")
        n_rows = n_outside = 0
        for group in opened.iter_batches(50_000):
            n_rows += group.num_rows
            n_outside += _outside_month(group, file)
    if n_rows != opened.metadata.num_rows:
        found.append(f"gives {n_rows} rows, its footer says {opened.metadata.num_rows}")
    if n_outside:
        found.append(f"has {n_outside} rows that are not of {file.month}")
    if file.kind == "verification" and file.first_at and file.last_at:
        footer = statistics(path)
        found_at = [footer[key].get("occurred_at") for key in ("minValues", "maxValues")]
        if found_at != [f"{at:%Y-%m-%dT%H:%M:%S.%fZ}" for at in (file.first_at, file.last_at)]:
            found.append("has times that the log states otherwise")
    return found


def _outside_month(group: pa.RecordBatch, file: DataFile) -> int:
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


def _sum_findings(connection: duckdb.DuckDBPyConnection, stamps: Mapping[str, int]) -> list[str]:
    """Compare ids with each other, batches with their ledger, and the ledger with the stamps."""
    n_rows, n_ids, n_distinct = connection.execute(
        "SELECT count(*), count(request_id), count(DISTINCT request_id) FROM verifications"
    ).fetchall()[0]
    found = [] if n_rows == n_ids else [f"{n_rows - n_ids} verifications have no request_id"]
    if n_ids != n_distinct:
        found.append(f"{n_ids - n_distinct} verifications repeat a request_id")
    for row in connection.execute(_BATCHES).fetchall():
        found += _batch_findings(*row)
    ledger = {
        sha for (sha,) in connection.execute("SELECT DISTINCT sha256 FROM imports").fetchall()
    }
    stamped = {name[5:] for name in stamps if name.startswith("file:")}
    found += [f"source {sha[:12]}… is in the ledger and not stamped" for sha in ledger - stamped]
    found += [f"source {sha[:12]}… is stamped and not in the ledger" for sha in stamped - ledger]
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
