"""Maintenance: merge small files (compact), remove old ones (vacuum), replace rows read anew.

Each commits like an import, so neither can come between another writer's check and its commit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path

import pyarrow as pa

from verifyanalytics.errors import StorageError, UsageError
from verifyanalytics.store.commits import CommitTry, with_retry
from verifyanalytics.store.disk import sync
from verifyanalytics.store.files import DataFile, StagedFile, table_schema, writer
from verifyanalytics.store.log import Version
from verifyanalytics.store.tables import Tables
from verifyanalytics.store.views import literal, selected, write_query

SMALL_BYTES = 64 << 20
"""A file below this is worth merging."""

MERGED_BYTES = 256 << 20
"""About how large a merged file may get."""

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
