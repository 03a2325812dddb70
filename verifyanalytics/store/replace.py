"""Replace: rows that a mended parser reads differently take the place of the rows it gave before.

A row is known by its source and its row there. Its file is written again with the fresh row in it,
and the old file leaves in the same commit. Batch, ledger and everything else stay as they were.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from verifyanalytics.errors import StorageError
from verifyanalytics.store.commits import CommitTry, with_retry
from verifyanalytics.store.disk import sync
from verifyanalytics.store.files import DataFile, StagedFile, table_schema, writer
from verifyanalytics.store.tables import Tables
from verifyanalytics.store.views import literal, selected, write_query

_SAME = "o.source = n.source AND o.source_row = n.source_row"


def replace_rows(tables: Tables, fresh: pa.Table, batch: str) -> int:
    """Put fresh verifications in the place of stored ones; give their number.

    For each a stored row with the same source, source_row, request_id and month must exist. The
    batch names the new files; the rows keep the batch they have.
    """

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
