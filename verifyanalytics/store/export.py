"""Export: the six tables of a version as plain files, Parquet or CSV.

A file is written under a draft name and renamed, so a file that was there stays until the new one
is whole.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.csv as pacsv

from verifyanalytics.errors import UsageError
from verifyanalytics.store.disk import sync
from verifyanalytics.store.files import writer
from verifyanalytics.store.views import TABLES, Views, quoted, write_query

_FORMULA = r"^[=+\-@\t\r\n＝＋－＠]"


def export_paths(folder: Path, format: str, *, overwrite: bool) -> dict[str, Path]:
    """Name the six files of an export; refuse an unknown format and files that are there."""
    if format not in ("parquet", "csv"):
        raise UsageError(f"format is {format!r}; give parquet or csv")
    paths = {table: folder / f"{table}.{format}" for table in TABLES}
    there = [path.name for path in paths.values() if path.exists()]
    if there and not overwrite:
        hint = "choose another folder, or allow overwriting"
        raise UsageError(f"{folder} holds {', '.join(there)} already; {hint}")
    return paths


def export_table(
    connection: duckdb.DuckDBPyConnection, views: Views, table: str, path: Path
) -> int:
    """Write one table as Parquet or CSV, by the path's ending; give the number of rows."""
    schema = views.schema(table)
    query = views.query(table)
    draft = path.with_name(f".{path.name}.part")
    if path.suffix == ".csv":
        cells = [_csv_cell(field) for field in schema]
        query = f"SELECT {', '.join(sql for sql, _ in cells)} FROM ({query})"
        schema = pa.schema([(f.name, kind) for f, (_, kind) in zip(schema, cells, strict=True)])
        draft.touch(mode=0o600)
        out: Any = pacsv.CSVWriter(draft, schema)
    else:
        out = writer(draft, schema)
    try:
        n_rows = write_query(connection, query, schema, out)
        sync(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return n_rows


def _csv_cell(field: pa.Field) -> tuple[str, pa.DataType]:
    """Give a column as SQL for CSV, and its type there: lists as JSON, times as ISO 8601."""
    name, kind = quoted(field.name), field.type
    if pa.types.is_timestamp(kind):
        return f"strftime({name}, '%Y-%m-%dT%H:%M:%S.%fZ') AS {name}", pa.string()
    if pa.types.is_list(kind):
        return f"CAST(to_json({name}) AS VARCHAR) AS {name}", pa.string()
    if pa.types.is_string(kind):
        return f"if(regexp_matches({name}, '{_FORMULA}'), '''' || {name}, {name}) AS {name}", kind
    return name, kind
