"""The six tables of a store, as SQL over exactly the files of one version, and as plain files.

DuckDB gets the file names from the log and never lists the folder, so what a kill left there is not
read. The engine opens files of the store only, and runs one `SELECT` at a time.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import tempfile
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.csv as pacsv

from verifyanalytics.errors import MissingColumnError, UsageError
from verifyanalytics.schema import IMAGES, QUALITY_MEASURES, STRINGS
from verifyanalytics.store.disk import storage_errors, sync
from verifyanalytics.store.files import ROW_GROUP_ROWS, DataFile, table_schema, writer

TABLES = ("verifications", "rejects", "imports", "labels", "risk_tags", "image_quality")
"""The public tables; the last two are derived from `verifications`."""

TIMES = {
    "verifications": "occurred_at",
    "rejects": "rejected_at",
    "imports": "committed_at",
    "labels": "labelled_at",
    "risk_tags": "occurred_at",
    "image_quality": "occurred_at",
}
"""The column that `since` and `until` look at."""

_KIND = {"verifications": "verification", "rejects": "reject", "imports": "import"}
_DERIVED = ("risk_tags", "image_quality")
_SQL_TYPES = {
    pa.string(): "VARCHAR",
    pa.float64(): "DOUBLE",
    pa.int64(): "BIGINT",
    pa.int32(): "INTEGER",
    pa.int16(): "SMALLINT",
    pa.bool_(): "BOOLEAN",
    pa.timestamp("us", tz="UTC"): "TIMESTAMPTZ",
    STRINGS: "VARCHAR[]",
}
_OURS = (duckdb.IOException, duckdb.OutOfMemoryException, duckdb.InternalException)
_READ_ONLY = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)


def quoted(name: str) -> str:
    """Quote an identifier for DuckDB."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Quote a string for DuckDB."""
    return "'" + text.replace("'", "''") + "'"


class Engine:
    """One DuckDB database in memory, locked to the store's folder; what is too large spills."""

    def __init__(self, folder: Path, memory: str = "512MB") -> None:
        self._folder, self._memory = folder, memory
        self._lock = threading.Lock()
        self._database: duckdb.DuckDBPyConnection | None = None
        self._tidy: weakref.finalize[..., Any] | None = None

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Give a connection of its own to the one database: temporary views are its own too."""
        with self._lock:
            if self._database is None:
                self._database = self._open()
            return self._database.cursor()

    def close(self) -> None:
        """Close the database and remove what it spilled."""
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None
            if self._tidy is not None:
                self._tidy()

    def _open(self) -> duckdb.DuckDBPyConnection:
        spill = str(_spill_folder())
        self._tidy = weakref.finalize(self, shutil.rmtree, spill, ignore_errors=True)
        settings = {
            "memory_limit": self._memory,
            "temp_directory": spill,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "python_enable_replacements": False,
        }
        database = duckdb.connect(config=settings)
        database.execute("SET TimeZone = 'UTC'")
        database.execute("SET allowed_directories = $folders", {"folders": [str(self._folder)]})
        database.execute("SET enable_external_access = false")
        database.execute("SET lock_configuration = true")
        return database


def _spill_folder() -> Path:
    """Name a folder that DuckDB makes if it must spill, in one that only this user may enter."""
    user = os.getuid() if hasattr(os, "getuid") else "user"
    parent = Path(tempfile.gettempdir()) / f"verifyanalytics-{user}"
    parent.mkdir(mode=0o700, exist_ok=True)
    found = parent.lstat()
    ours = os.name != "posix" or (found.st_uid == user and stat.S_IMODE(found.st_mode) == 0o700)
    if not ours or not stat.S_ISDIR(found.st_mode):  # another user made it, to read along
        parent = Path(tempfile.mkdtemp(prefix="verifyanalytics-"))
    return parent / secrets.token_hex(8)


@contextmanager
def query_errors(path: Path, doing: str) -> Iterator[None]:
    """Turn DuckDB's errors about a query into `UsageError`, about the disk into `StorageError`."""
    try:
        yield
    except _OURS as error:
        with storage_errors(path, doing):
            raise error from None
    except duckdb.Error as error:
        raise UsageError(f"{doing}: {str(error).splitlines()[0]}") from error


def require_select(connection: duckdb.DuckDBPyConnection, query: str) -> None:
    """Refuse anything but one statement that reads."""
    if not isinstance(query, str):
        raise UsageError(f"a query is text; {type(query).__name__} was given")
    try:
        query.encode()
    except UnicodeEncodeError:
        raise UsageError("the query is not UTF-8 text") from None
    statements = connection.extract_statements(query)
    if len(statements) != 1 or statements[0].type not in _READ_ONLY:
        found = ", ".join(statement.type.name for statement in statements) or "nothing"
        raise UsageError(f"sql takes one SELECT; given: {found}")


class Views:
    """The six tables over the files of one version; `context` names its `ctx_*` columns."""

    def __init__(
        self,
        responses: Path,
        files: Sequence[DataFile],
        labels: Path,
        label_files: Sequence[DataFile],
        context: Sequence[str],
    ) -> None:
        self._responses, self._labels = responses, labels
        self._files, self._label_files = files, label_files
        self._context = list(context)

    def columns(self, table: str) -> list[str]:
        """Name a table's columns in their order."""
        return [field.name for field in self.schema(table)]

    def schema(self, table: str) -> pa.Schema:
        """Give a table's columns and types."""
        if table == "verifications":
            fields = list(table_schema("verification", self._context))
            fields.insert(3, pa.field("month", pa.string()))
            return pa.schema(fields)
        if table == "labels":
            return table_schema("label")
        if table in _KIND:
            return table_schema(_KIND[table])
        if table in _DERIVED:
            return _DERIVED_SCHEMAS[table]
        raise UsageError(f"no table {table}; there are: {', '.join(TABLES)}")

    def files(self, table: str) -> Sequence[DataFile]:
        """Give the files a table is read from."""
        if table == "labels":
            return self._label_files
        kind = _KIND.get(table, "verification")
        return [file for file in self._files if file.kind == kind]

    def query(
        self,
        table: str,
        *,
        columns: Sequence[str] | None = None,
        since: Any = None,
        until: Any = None,
        where: str | None = None,
    ) -> str:
        """Write the SELECT of a table: `since` ≤ time < `until`, and a condition in SQL."""
        names = self.columns(table)
        if columns is not None and not isinstance(columns, Iterable):
            raise UsageError(f"columns are names; {columns!r} was given")
        chosen = names if columns is None else [columns] if isinstance(columns, str) else columns
        missing = [name for name in chosen if name not in names]
        if missing:
            raise MissingColumnError(missing, names)
        low, high = instant(since, "since"), instant(until, "until")
        at = quoted(TIMES[table])
        conditions = [f"{at} >= TIMESTAMPTZ {literal(low.isoformat())}"] if low else []
        conditions += [f"{at} < TIMESTAMPTZ {literal(high.isoformat())}"] if high else []
        conditions += [f"({where}\n)"] if where else []
        selection = ", ".join(map(quoted, chosen))
        condition = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        return f"SELECT {selection} FROM ({self._relation(table, low, high)}){condition}"

    def create(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Make the six tables temporary views of a connection."""
        for table in TABLES:
            if table in _DERIVED:
                body = _DERIVED_SQL[table].format(verifications="verifications")
            else:
                body = self._relation(table, None, None)
            connection.execute(f"CREATE OR REPLACE TEMP VIEW {table} AS {body}")

    def _relation(self, table: str, low: datetime | None, high: datetime | None) -> str:
        """Write a whole table as SQL; files that cannot hold the period are left out."""
        if table in _DERIVED:
            inner = self._relation("verifications", low, high)
            return _DERIVED_SQL[table].format(verifications=f"({inner})")
        folder = self._labels if table == "labels" else self._responses
        files = [
            file
            for file in self.files(table)
            if file.kind != "verification"
            or not file.first_at
            or not file.last_at
            or not ((low and file.last_at < low) or (high and file.first_at >= high))
        ]
        return selected(self.schema(table), folder, files)


def selected(schema: pa.Schema, folder: Path, files: Sequence[DataFile]) -> str:
    """Select the columns of a schema from files; a column no file has is null of its type."""
    # `read_parquet([])` is an error, and a context column may be in later files only: a typed part
    # without rows, united by name, settles both
    nulls = ", ".join(
        f"CAST(NULL AS {_SQL_TYPES[field.type]}) AS {quoted(field.name)}" for field in schema
    )
    typed = f"SELECT {nulls} WHERE false"
    if not files:
        return typed
    names = ", ".join(map(quoted, schema.names))
    hive = "hive_partitioning = false"
    if "month" in schema.names:
        hive = "hive_partitioning = true, hive_types = {'kind': VARCHAR, 'month': VARCHAR}"
    paths = ", ".join(literal(str(folder / file.path)) for file in files)
    read = f"read_parquet([{paths}], union_by_name = true, {hive})"
    return f"SELECT {names} FROM ({typed} UNION ALL BY NAME SELECT * FROM {read})"


def instant(value: Any, name: str) -> datetime | None:
    """Read a point in time: a datetime, a date or ISO 8601 text; without a zone it is UTC."""
    if value is None:
        return None
    try:
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        elif isinstance(value, date) and not isinstance(value, datetime):
            value = datetime(value.year, value.month, value.day, tzinfo=UTC)
        at: datetime = value if value.tzinfo else value.replace(tzinfo=UTC)
        return datetime.fromtimestamp(0, UTC) + (at - datetime.fromtimestamp(0, UTC))
    except (ValueError, TypeError, AttributeError, OverflowError):
        hint = "give a date or time such as 2024-05-01 or 2024-05-01T08:00Z"
        raise UsageError(f"{name} is {value!r}; {hint}") from None


def write_query(
    connection: duckdb.DuckDBPyConnection, query: str, schema: pa.Schema, out: Any
) -> int:
    """Write the rows of a query with a Parquet or CSV writer, a row group at a time; count them."""
    n_rows = 0
    with out:
        for group in connection.sql(query).to_arrow_reader(ROW_GROUP_ROWS):
            out.write_table(plain(pa.Table.from_batches([group])).cast(schema))
            n_rows += group.num_rows
    return n_rows


def _quality_sql() -> str:
    """Unfold the 22 quality columns into rows (image, measure, value) that have a value."""
    pairs = [(image, measure) for image in IMAGES for measure in QUALITY_MEASURES]
    images = ", ".join(literal(image) for image, _ in pairs)
    measures = ", ".join(literal(measure) for _, measure in pairs)
    values = ", ".join(quoted(f"{image}_{measure}") for image, measure in pairs)
    return (
        "SELECT * FROM (SELECT request_id, occurred_at, month, "
        f"unnest([{images}]) AS image, unnest([{measures}]) AS measure, "
        f"unnest([{values}]) AS value "
        "FROM {verifications}) WHERE value IS NOT NULL"
    )


_DERIVED_SQL: Mapping[str, str] = {
    "risk_tags": "SELECT request_id, occurred_at, month, result, score, risk_score, "
    "unnest(risk_tags) AS tag FROM {verifications}",
    "image_quality": _quality_sql(),
}
_TIME = pa.timestamp("us", tz="UTC")
_BEGINNING = {"request_id": pa.string(), "occurred_at": _TIME, "month": pa.string()}
_DERIVED_SCHEMAS = {
    "risk_tags": pa.schema(
        _BEGINNING
        | {"result": pa.bool_(), "score": pa.float64(), "risk_score": pa.int32()}
        | {"tag": pa.string()}
    ),
    "image_quality": pa.schema(
        _BEGINNING | {"image": pa.string(), "measure": pa.string(), "value": pa.float64()}
    ),
}


def distinct(names: Sequence[str]) -> list[str]:
    """Number the names that come again: pandas gives columns of one name one type."""
    found: list[str] = []
    for name in names:
        number, free = 1, name
        while free in found:
            number += 1
            free = f"{name}_{number}"
        found.append(free)
    return found


def plain(table: pa.Table) -> pa.Table:
    """Name the zone UTC and list items as our schema does; DuckDB has names of its own."""
    fields = [field.with_type(_plain_type(field.type)) for field in table.schema]
    # by place: two columns of a query may have one name
    columns = [column.cast(field.type) for column, field in zip(table.columns, fields, strict=True)]
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def _plain_type(found: pa.DataType) -> pa.DataType:
    if pa.types.is_timestamp(found) and found.tz is not None:
        return pa.timestamp(found.unit, tz="UTC")
    if pa.types.is_list(found):
        return pa.list_(pa.field("element", _plain_type(found.value_type)))
    return found


# ------------------------------------------------------------------ plain files

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
