"""Rows that a mended parser reads differently take the place of the rows it gave before.

A row is known by its source and its row there. Its file is written anew with the fresh row in it,
and the old file leaves in the same commit; batch, ledger and everything else stay as they were.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from deltalake.exceptions import DeltaError

from verifyanalytics.errors import StorageError
from verifyanalytics.store.files import (
    ROW_GROUP_ROWS,
    DataFile,
    StagedFile,
    place,
    sync,
    table_schema,
    writer,
)
from verifyanalytics.store.log import LaneTakenError, Version, commit
from verifyanalytics.store.tables import TRIES, Tables
from verifyanalytics.store.views import literal, plain, selected

_SAME = "o.source = n.source AND o.source_row = n.source_row"


def replace_rows(tables: Tables, fresh: pa.Table, batch: str) -> int:
    """Put fresh rows in the place of stored ones.

    Parameters
    ----------
    tables : Tables
    fresh : pyarrow.Table
        Verifications; for each a stored row with the same source, source_row, request_id and
        month must exist.
    batch : str
        Names the staging folder and the new files; the rows keep the batch they have.

    Returns
    -------
    int
        Rows replaced.

    Raises
    ------
    StorageError
        A row has no stored one in its place, or no turn in the lane.
    """
    for attempt in range(TRIES):
        version = tables.newest(tables.responses)
        folder = tables.staging.claim(batch)
        touched = _touched(tables, version, fresh)
        staged = [
            _rewritten(tables, version, file, fresh, folder / f"{attempt}-{i}.parquet")
            for i, file in enumerate(touched)
        ]
        adds: list[DataFile] = []
        try:
            for i, file in enumerate(staged):
                adds.append(place(file, tables.responses, f"{batch}-{attempt}-{i}"))
            note = {"verb": "reflatten", "batch": "", "n_added": 0}
            commit(tables.responses, version, adds=adds, removes=touched, note=note)
        except (LaneTakenError, DeltaError, OSError):
            for placed in adds:
                (tables.responses / placed.path).unlink(missing_ok=True)
            if not tables.moved(version, tables.responses):
                raise
        else:
            return int(fresh.num_rows)
    raise StorageError("no turn to replace rows; run it again", path=tables.path)


def _touched(tables: Tables, version: Version, fresh: pa.Table) -> list[DataFile]:
    """The files in which the rows stand that are to be replaced; each row in exactly one."""
    files = [file for file in version.files if file.kind == "verification"]
    if not files:
        raise StorageError("there are no rows to replace", path=tables.path)
    cursor = tables.engine.cursor()
    cursor.register("fresh", fresh.select(["source", "source_row", "request_id"]))
    paths = ", ".join(literal(str(tables.responses / file.path)) for file in files)
    found = cursor.sql(
        "SELECT o.filename, count(*) FROM read_parquet("
        f"[{paths}], filename = true, hive_partitioning = false, union_by_name = true) o "
        f"JOIN fresh n ON {_SAME} AND o.request_id = n.request_id GROUP BY o.filename"
    ).fetchall()
    if sum(n for _, n in found) != fresh.num_rows:
        raise StorageError("some rows have no stored row in their place", path=tables.path)
    places = {str(Path(name)) for name, _ in found}
    return [file for file in files if str(tables.responses / file.path) in places]


def _rewritten(
    tables: Tables, version: Version, file: DataFile, fresh: pa.Table, path: Path
) -> StagedFile:
    """Write a file anew with the fresh rows in the places of the old ones."""
    schema = table_schema(file.kind, version.context)
    names = ", ".join(f'"{name}"' for name in schema.names)
    absent = [name for name in schema.names if name not in fresh.column_names]
    for name in absent:
        fresh = fresh.append_column(name, pa.nulls(fresh.num_rows, pa.string()))
    cursor = tables.engine.cursor()
    cursor.register("fresh", fresh.select(schema.names))
    old = selected(schema, tables.responses, [file])
    query = (
        f"WITH o AS ({old}) "
        f"SELECT {names} FROM o WHERE NOT EXISTS (SELECT 1 FROM fresh n WHERE {_SAME}) "
        f"UNION ALL SELECT {names} FROM fresh n WHERE EXISTS (SELECT 1 FROM o WHERE {_SAME}) "
        "ORDER BY occurred_at, source, source_row"
    )
    n_rows = 0
    with writer(path, schema) as out:
        for group in cursor.sql(query).to_arrow_reader(ROW_GROUP_ROWS):
            out.write_table(plain(pa.Table.from_batches([group])).cast(schema))
            n_rows += group.num_rows
    sync(path)
    if n_rows != file.n_rows:
        message = f"writing {file.path} anew gave {n_rows} rows instead of {file.n_rows}"
        raise StorageError(message, path=path)
    return StagedFile(path, file.kind, file.month, n_rows)
