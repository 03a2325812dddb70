"""Upkeep of a store: check that it adds up, merge small files, remove old ones, replace rows.

What changes the store commits like an import, so it cannot come between another writer's check and
its commit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from verifyanalytics.errors import CheckError, StorageError, UsageError
from verifyanalytics.store import tombstones
from verifyanalytics.store.commits import CommitTry, with_retry, without
from verifyanalytics.store.disk import sync
from verifyanalytics.store.files import (
    DataFile,
    StagedFile,
    conform,
    context_of,
    damage,
    statistics,
    table_schema,
    writer,
)
from verifyanalytics.store.head import history_findings
from verifyanalytics.store.tables import Tables, Version, entries, read_stamps
from verifyanalytics.store.views import literal, selected, write_query

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


# -------------------------------------------------------------------------------- check


def findings(tables: Tables, *, deep: bool) -> list[str]:
    """Give one sentence for each thing that is wrong; what `Store.check` does."""
    try:
        responses, labels = tables.at(None)
    except CheckError as error:
        return error.findings
    found = [
        text for table in (tables.responses, tables.labels) for text in history_findings(table)
    ]
    for table, version in ((tables.responses, responses), (tables.labels, labels)):
        found += _file_findings(table, version.files)
        found += _content_findings(table, version.files) if deep and not found else []
    if tombstones.pending(tables.path):
        found.append("an erasure was begun and has not ended; run erase, which goes on with it")
    try:
        tables.key(again=True)
        found += tombstones.missing(tables.path, (e.erasure for e in entries(tables.responses)))
        tables.tombstones()
        if not found:
            connection = tables.engine.cursor()
            tables.views().create(connection)
            found += _sum_findings(connection, read_stamps(tables.responses, responses.number))
    except (StorageError, duckdb.Error) as error:
        read = [(tables.responses, file) for file in responses.files]
        read += [(tables.labels, file) for file in labels.files]
        wrong = [f"{t.name}/{f.path} {what}" for t, f in read if (what := damage(t, f))]
        found += wrong or [str(error).splitlines()[0]]
    return found


def _file_findings(table: Path, files: Iterable[DataFile]) -> list[str]:
    """Find committed files that are gone or have another size."""
    found = ((file, damage(table, file, deep=False)) for file in files)
    return [f"{table.name}/{file.path} {what}" for file, what in found if what]


def _content_findings(table: Path, files: Iterable[DataFile]) -> list[str]:
    """Read every committed file to its end: columns, types, rows, statistics, checksums, month."""
    found = []
    for file in files:
        try:
            found += [
                f"{table.name}/{file.path} {finding}" for finding in _read_through(table, file)
            ]
        except (OSError, pa.ArrowException) as error:
            found.append(f"{table.name}/{file.path} cannot be read: {str(error).splitlines()[0]}")
    return found


def _read_through(table: Path, file: DataFile) -> list[str]:
    path = table / file.path
    if what := damage(table, file):
        return [what]
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
    known = ledger | {name[5:] for name, n in stamps.items() if n < 0}  # given up by a repair
    ledger -= {"lost"}  # of rows whose ledger was lost
    found += [f"source {sha[:12]}… is in the ledger and not stamped" for sha in ledger - stamped]
    found += [f"source {sha[:12]}… is stamped and not in the ledger" for sha in stamped - known]
    return found


def _batch_findings(
    batch: str, n_rows: int, n_rejects: int, n_read: int | None, *ledger: int
) -> list[str]:
    if n_read is None:
        return [f"batch {batch} has {n_rows} rows and {n_rejects} rejects, and no ledger"]
    n_added, n_known, n_rejected, n_erased = ledger
    found = []
    if not n_erased or n_rows > n_added or n_rejects > n_rejected:
        if n_rows != n_added:
            found.append(f"batch {batch}: {n_rows} rows are not the {n_added} added")
        if n_rejects != n_rejected:
            found.append(f"batch {batch}: {n_rejects} rejects are not the {n_rejected} counted")
    elif n_rows + n_rejects + n_erased != n_added + n_rejected:
        stored = f"{n_rows} rows + {n_rejects} rejects + {n_erased} erased"
        found.append(f"batch {batch}: {stored} are not {n_added} added + {n_rejected} rejected")
    if n_read != n_added + n_known + n_rejected:
        sums = f"{n_added} added + {n_known} known + {n_rejected} rejected"
        found.append(f"batch {batch}: {n_read} read are not {sums}")
    return found


def ledger_of_loss(cursor: duckdb.DuckDBPyConnection, at: datetime) -> pa.Table:
    """Make ledger rows that count `lost` (batch, source, n) rows as erased, by `ledger`."""
    query = (
        "SELECT batch, source, any_value(l.sha256) AS sha256, 0 AS bytes, 0 AS n_read, "
        "0 AS n_added, 0 AS n_known, 0 AS n_rejected, sum(n)::BIGINT AS n_erased, "
        "any_value(l.code_version) AS code_version FROM (SELECT batch, source, sum(n) AS n "
        "FROM lost GROUP BY ALL HAVING sum(n) > 0) JOIN (SELECT batch, source, "
        "any_value(sha256) AS sha256, any_value(code_version) AS code_version FROM ledger "
        "GROUP BY ALL) l USING (batch, source) GROUP BY ALL ORDER BY ALL"
    )
    rows = cursor.sql(query).to_arrow_table()
    return conform(rows, table_schema("import"), {"committed_at": at})


SMALL_BYTES = 64 << 20  # a file below this is worth merging
MERGED_BYTES = 256 << 20  # about how large a merged file may get
_ORDER = {"verification": "occurred_at", "reject": "rejected_at", "import": "committed_at"}


# -------------------------------------------------------------------------------- compact


def bundles(files: Iterable[DataFile], over: int) -> list[list[DataFile]]:
    """Group small files of partitions that have more than `over` of them, to become one each."""
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
    """Put one file in place of a bundle's; 0 rows when another commit took one of the files."""
    version = tables.newest(tables.responses)
    path = tables.staging.claim(batch) / "0.parquet"
    kind, month = bundle[0].kind, bundle[0].month
    schema = table_schema(kind, version.context if kind == "verification" else ())
    query = f"{selected(schema, tables.responses, bundle)} ORDER BY {_ORDER[kind]}"
    n_rows = write_query(tables.engine.cursor(), query, schema, writer(path, schema))
    sync(path)
    expected = sum(file.n_rows for file in bundle)
    if n_rows != expected:
        message = f"merging {kind} {month} gave {n_rows} rows instead of {expected}"
        raise StorageError(message, path=path)
    merged = StagedFile(str(path), kind, month, n_rows)

    def work(attempt: CommitTry) -> int:
        if not set(bundle) <= set(attempt.version.files):
            return 0
        note = {"verb": "compact", "batch": "", "n_added": 0}
        adds = attempt.place([merged])
        attempt.commit(adds=adds, removes=bundle, note=note, data_change=False)
        return n_rows

    return with_retry(tables, tables.responses, batch, work, doing="compacting")


# -------------------------------------------------------------------------------- repair


def repair_files(tables: Tables, batch: str, *, dry_run: bool) -> list[str]:
    """Take damaged data files out, so that their sources can be imported again; tell of each.

    The ledger counts what is lost as erased. Sources that lost rows count as never imported: the
    rows that are there are known then, those that were lost are added.
    """
    done: list[str] = []
    damaged = _damaged(tables, tables.labels)
    if damaged:
        done += [f"labels/{f.path} {what}: read these labels in again" for f, what in damaged]
        if not dry_run:
            with_retry(tables, tables.labels, batch, _take_labels_out, doing="repairing")
    damaged = _damaged(tables, tables.responses)
    if damaged:
        work = partial(_take_out, dry_run=dry_run)
        lost = with_retry(tables, tables.responses, batch, work, doing="repairing")
        said = ", ".join(lost[:20]) + (f" and {len(lost) - 20} more" if len(lost) > 20 else "")
        again = f"import again: {said}" if lost else "no rows are lost"
        done += [f"responses/{f.path} {what}" for f, what in damaged] + [again]
    return done


def _damaged(tables: Tables, table: Path) -> list[tuple[DataFile, str]]:
    """Find the data files of a table whose bytes are not those that were written."""
    files = tables.newest(table).files
    return [(file, what) for file in files if (what := damage(table, file))]


def _take_labels_out(attempt: CommitTry) -> None:
    gone = [file for file, _ in _damaged(attempt.tables, attempt.table)]
    note = {"verb": "repair", "batch": "", "n_added": 0}
    note["responses_lane"] = attempt.tables.newest(attempt.tables.responses).sequence
    attempt.commit(removes=gone, note=note)


def _take_out(attempt: CommitTry, *, dry_run: bool) -> list[str]:
    """Remove damaged files, count what they held, and name the sources that lost rows."""
    tables, table, files = attempt.tables, attempt.table, attempt.version.files
    gone = [file for file, _ in _damaged(tables, table)]
    cursor = tables.engine.cursor()
    for kind, name in (("verification", "rows"), ("reject", "refused"), ("import", "ledger")):
        left = [file for file in files if file.kind == kind and file not in gone]
        query = selected(table_schema(kind), table, left)
        if kind != "import":
            query = f"SELECT batch, source, count(*) AS n FROM ({query}) GROUP BY ALL"
        cursor.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {query}")
    cursor.execute(_LOST)
    stamps = read_stamps(table, attempt.version.number)
    sources = {str(s): str(sha) for s, sha in cursor.execute(_LOST_SOURCES).fetchall()}
    no_ledger = _without_ledger(cursor, stamps) if any(f.kind == "import" for f in gone) else {}
    again = {f"{name}:{sha}": -1 if name == "file" else 0
             for sha in (*sources.values(), *no_ledger) for name in ("file", "part")}  # fmt: skip
    again = {name: value for name, value in again.items() if name in stamps}
    if not dry_run:
        gone, kept = _without_rejects(attempt, gone, cursor)
        ledgers = [ledger_of_loss(cursor, attempt.at), _ledger_of_rows(cursor, attempt.at)]
        fresh = [attempt.write("import", rows) for rows in ledgers if rows.num_rows]
        note = {"verb": "repair", "batch": "", "n_added": 0}
        attempt.commit(adds=attempt.place(kept + fresh), removes=gone, stamps=again, note=note)
    unnamed = [f"the source with SHA-256 {sha[:12]}…" for sha in no_ledger]
    return sorted(sources) + unnamed


def _without_rejects(
    attempt: CommitTry, gone: list[DataFile], cursor: duckdb.DuckDBPyConnection
) -> tuple[list[DataFile], list[StagedFile]]:
    """Take the rejects of sources that lost rows out too, since importing brings them again."""
    again = "(SELECT batch, source FROM ledger WHERE sha256 IN (SELECT sha256 FROM again))"
    cursor.execute(f"CREATE OR REPLACE TEMP TABLE again AS {_LOST_SOURCES}")
    gone, kept = list(gone), []
    for file in (f for f in attempt.version.files if f.kind == "reject" and f not in gone):
        path = attempt.table / file.path
        read = (
            f"FROM read_parquet({literal(str(path))}, file_row_number = true, "
            f"hive_partitioning = false) WHERE (batch, source) IN {again}"
        )
        numbers = cursor.execute(f"SELECT file_row_number AS n {read} ORDER BY n").fetchnumpy()["n"]
        if len(numbers):
            cursor.execute(f"INSERT INTO lost SELECT batch, source, count(*) {read} GROUP BY ALL")
            old = StagedFile(str(path), file.kind, file.month, file.n_rows)
            left = without(old, numbers, attempt)
            kept += [left] if left.n_rows else []
            gone.append(file)
    return gone, kept


def _without_ledger(
    cursor: duckdb.DuckDBPyConnection, stamps: Mapping[str, int]
) -> dict[str, None]:
    """Give the sources that are stamped and of which no ledger is left."""
    held = {sha for (sha,) in cursor.execute("SELECT DISTINCT sha256 FROM ledger").fetchall()}
    stamped = (name[5:] for name, value in stamps.items() if name[:5] == "file:" and value >= 0)
    return dict.fromkeys(sha for sha in stamped if sha not in held)


def _ledger_of_rows(cursor: duckdb.DuckDBPyConnection, at: datetime) -> pa.Table:
    """Make ledger rows for rows and rejects of which no ledger is left."""
    query = (
        "SELECT batch, source, 'lost' AS sha256, 0 AS bytes, sum(a + r)::BIGINT AS n_read, "
        "sum(a)::BIGINT AS n_added, 0 AS n_known, sum(r)::BIGINT AS n_rejected, 0 AS n_erased, "
        "'unknown' AS code_version FROM (SELECT batch, source, n AS a, 0 AS r FROM rows UNION ALL "
        "SELECT batch, source, 0, n FROM refused) WHERE (batch, source) NOT IN "
        "(SELECT (batch, source) FROM ledger) GROUP BY ALL ORDER BY ALL"
    )
    rows = cursor.sql(query).to_arrow_table()
    return conform(rows, table_schema("import"), {"committed_at": at})


_LOST = """
CREATE OR REPLACE TEMP TABLE lost AS
SELECT batch, source, n_added + n_rejected - n_erased
       - coalesce(rows.n, 0) - coalesce(refused.n, 0) AS n
FROM (SELECT batch, source, sum(n_added) AS n_added, sum(n_rejected) AS n_rejected,
             sum(n_erased) AS n_erased FROM ledger GROUP BY ALL)
LEFT JOIN rows USING (batch, source) LEFT JOIN refused USING (batch, source)
"""
_LOST_SOURCES = """
SELECT DISTINCT source, sha256 FROM lost JOIN ledger USING (batch, source) WHERE lost.n > 0
"""


# -------------------------------------------------------------------------------- vacuum


def retention_hours(value: str | timedelta) -> int:
    """Read a time to keep: `7d`, `12h` or a timedelta, in whole hours."""
    if isinstance(value, timedelta) and value >= timedelta(0):
        return int(value.total_seconds() // 3600)
    found = re.fullmatch(r"(\d{1,6})([dh])", value) if isinstance(value, str) else None
    if found is None:
        raise UsageError(f"retention is {value!r}; give days or hours, such as 7d or 12h")
    return int(found[1]) * (24 if found[2] == "d" else 1)


def expired(tables: Tables, table: Path, hours: int, *, dry_run: bool) -> list[str]:
    """List the files of a table that no version refers to, nor has for some hours."""

    # the commit follows the listing: what an import has put in place by then belongs to a try that
    # cannot commit any more
    def work(attempt: CommitTry) -> list[str]:
        listed = _unreferenced(attempt.version, hours, full=True)
        if listed and not dry_run:
            attempt.commit(note={"verb": "vacuum", "batch": "", "n_added": 0})
        return listed

    return with_retry(tables, table, "vacuum", work, doing="vacuuming")


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


# -------------------------------------------------------------------------------- replace

_SAME = "o.source = n.source AND o.source_row = n.source_row"


def replace_rows(tables: Tables, fresh: pa.Table, batch: str) -> int:
    """Put fresh verifications in the places of stored ones, whose batch they keep."""

    # a stored row with the same source, source_row, request_id and month has to exist for each
    def work(attempt: CommitTry) -> int:
        touched = _touched(attempt, fresh)
        adds = attempt.place([_rewritten(attempt, file, fresh) for file in touched])
        note = {"verb": "reflatten", "batch": "", "n_added": 0}
        attempt.commit(adds=adds, removes=touched, note=note)
        return int(fresh.num_rows)

    return with_retry(tables, tables.responses, batch, work, doing="replacing rows")


def _touched(attempt: CommitTry, fresh: pa.Table) -> list[DataFile]:
    """Find the files that hold the rows to be replaced; each row is in exactly one."""
    folder = attempt.table
    files = [file for file in attempt.version.files if file.kind == "verification"]
    if not files:
        raise StorageError("there are no rows to replace", path=attempt.tables.path)
    cursor = attempt.tables.engine.cursor()
    cursor.register("fresh", fresh.select(["source", "source_row", "request_id"]))
    paths = ", ".join(literal(str(folder / file.path)) for file in files)
    found = cursor.sql(
        "SELECT o.filename, count(*) FROM read_parquet("
        f"[{paths}], filename = true, hive_partitioning = false, union_by_name = true) o "
        f"JOIN fresh n ON {_SAME} AND o.request_id = n.request_id GROUP BY o.filename"
    ).fetchall()
    if sum(n for _, n in found) != fresh.num_rows:
        raise StorageError("some rows have no stored row in their place", path=attempt.tables.path)
    places = {str(Path(name)) for name, _ in found}
    return [file for file in files if str(folder / file.path) in places]


def _rewritten(attempt: CommitTry, file: DataFile, fresh: pa.Table) -> StagedFile:
    """Write a file again with the fresh rows in the places of the old ones."""
    schema = table_schema(file.kind, attempt.version.context)
    names = ", ".join(f'"{name}"' for name in schema.names)
    for name in (name for name in schema.names if name not in fresh.column_names):
        fresh = fresh.append_column(name, pa.nulls(fresh.num_rows, pa.string()))
    cursor = attempt.tables.engine.cursor()
    cursor.register("fresh", fresh.select(schema.names))
    query = (
        f"WITH o AS ({selected(schema, attempt.table, [file])}) "
        f"SELECT {names} FROM o WHERE NOT EXISTS (SELECT 1 FROM fresh n WHERE {_SAME}) "
        f"UNION ALL SELECT {names} FROM fresh n WHERE EXISTS (SELECT 1 FROM o WHERE {_SAME}) "
        "ORDER BY occurred_at, source, source_row"
    )
    path = attempt.draft()
    n_rows = write_query(cursor, query, schema, writer(path, schema))
    sync(path)
    if n_rows != file.n_rows:
        message = f"writing {file.path} again gave {n_rows} rows instead of {file.n_rows}"
        raise StorageError(message, path=path)
    return StagedFile(str(path), file.kind, file.month, n_rows)
