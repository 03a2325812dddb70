"""Erasing: rows go from both tables for good, and so does every older file that held them.

Tombstones are flushed first, so from then on no import brings the rows in. The rows leave by adding
files without them and removing those with them, so the log names no condition. Files that no
version refers to are deleted at once: erasure wins over older versions. Each step finds what is
left to do by the tombstones alone, so one that was cut short is done again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from verifyanalytics.errors import UsageError
from verifyanalytics.store import tombstones
from verifyanalytics.store.commits import CommitTry, with_retry, without
from verifyanalytics.store.files import DataFile, StagedFile, table_schema
from verifyanalytics.store.maintenance import expired, ledger_of_loss
from verifyanalytics.store.tables import Tables
from verifyanalytics.store.tombstones import Tombstones
from verifyanalytics.store.views import literal, selected

ERASED = "erased"
"""What the ledger has in place of the name of an erased source."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What is to go, as the store has it: ids, hashes of tokens and persons, names, a moment."""

    request_ids: Sequence[str] = ()
    tokens: Sequence[str] = ()
    subjects: Sequence[str] = ()
    sources: Sequence[str] = ()
    before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Matches:
    """What an erasure finds: counts, and the tokens of the calls, for the journals."""

    n_rows: int
    n_rejects: int
    n_labels: int
    tokens: tuple[str, ...]
    before: datetime | None  # what is older is to go from the journals too


# -------------------------------------------------------------------------------- beginning


def begin(tables: Tables, selection: Selection, name: str) -> None:
    """Write the tombstones of a selection; what `Store.begin_erasure` does."""
    tombstones.write(tables.path, name, _stones(tables, selection))


def _stones(tables: Tables, selection: Selection) -> pa.Table:
    """Make the tombstones of a selection."""
    at = datetime.now(UTC)
    cursor = tables.engine.cursor()
    tables.views().create(cursor)
    stones = tables.tombstones([])
    rows = [("request_id", value) for value in selection.request_ids]
    rows += [("token", value) for value in selection.tokens]
    rows += [("subject", value) for value in selection.subjects]
    # an answer without its person, such as one to a query, belongs to the person of its token
    rows += [("token", token) for token in _column(cursor, "token", "subject", selection.subjects)]
    rows += [
        ("request_id", found)
        for found in _column(cursor, "request_id", "source", selection.sources)
    ]
    known = "SELECT DISTINCT source FROM imports WHERE source IN "
    missing = set(selection.sources)
    missing -= set(_values(cursor, known, selection.sources)) if missing else set()
    if missing:
        raise UsageError(f"no source of the store is named {min(missing)}; see: sql 'FROM imports'")
    parts = "SELECT DISTINCT batch || chr(0) || source FROM imports WHERE source IN "
    if selection.sources:
        rows += [("part", part) for part in _values(cursor, parts, selection.sources)]
    written = [(what, stones.hashed(what, value), at) for what, value in dict.fromkeys(rows)]
    if selection.before is not None:
        written.append(("before", "", selection.before))
    columns = zip(*written, strict=True)
    arrays = [
        pa.array(list(values), field.type)
        for values, field in zip(columns, tombstones.SCHEMA, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=tombstones.SCHEMA)


def _column(
    cursor: duckdb.DuckDBPyConnection, column: str, by: str, values: Sequence[str]
) -> list[str]:
    """Give a column of the verifications that have one of these values."""
    if not values:
        return []
    query = f"SELECT DISTINCT {column} FROM verifications WHERE {column} IS NOT NULL AND {by} IN "
    return _values(cursor, query, values)


def _values(cursor: duckdb.DuckDBPyConnection, query: str, values: Sequence[str]) -> list[str]:
    found = cursor.execute(f"{query} (SELECT unnest($values))", {"values": list(values)})
    return [value for (value,) in found.fetchall()]


# -------------------------------------------------------------------------------- finding


def matches(tables: Tables, selected: str | Selection) -> Matches:
    """Count what an erasure still finds, or a selection would find."""
    cursor = tables.engine.cursor()
    if isinstance(selected, str):
        stones = tables.tombstones([selected])
        stones.load(cursor)
    else:
        stones = tables.tombstones([])
        stones.load(cursor, _stones(tables, selected))
    tables.views().create(cursor)
    _find_going(cursor, stones)
    n_rows = cursor.execute("SELECT count(*) FROM going").fetchall()[0][0]
    rejects = f"{stones.of_parts(cursor)} OR {stones.rejected_before(cursor)}"
    query = f"SELECT count(*) FROM rejects WHERE {rejects}"
    n_rejects = cursor.execute(query).fetchall()[0][0]
    labels = f"SELECT count(*) FROM labels WHERE {_of_labels(cursor, stones)}"
    n_labels = cursor.execute(labels).fetchall()[0][0]
    query = "SELECT DISTINCT token FROM going WHERE token IS NOT NULL"
    tokens = tuple(token for (token,) in cursor.execute(query).fetchall())
    query = "SELECT max(moment) FROM tombstones WHERE what = 'before'"
    before = cursor.execute(query).fetchall()[0][0]
    return Matches(n_rows, n_rejects, n_labels, tokens, before)


def _find_going(cursor: duckdb.DuckDBPyConnection, stones: Tombstones) -> None:
    """Make the table `going` of the verifications that are to go, with their tokens."""
    cursor.execute(
        "CREATE OR REPLACE TEMP TABLE going AS SELECT request_id, token FROM verifications "
        f"WHERE {stones.of_rows(cursor)}"
    )


def _of_labels(cursor: duckdb.DuckDBPyConnection, stones: Tombstones) -> str:
    """Write the condition for labels of rows that are going, or whose key was erased."""
    stays = (
        "SELECT token FROM verifications WHERE token IN (SELECT token FROM going) "
        "AND request_id NOT IN (SELECT request_id FROM going)"
    )
    return (
        f"({stones.of_labels(cursor)} OR coalesce(request_id IN (SELECT request_id FROM going), "
        "false) OR coalesce(token IN (SELECT token FROM going WHERE token IS NOT NULL "
        f"EXCEPT {stays}), false))"
    )


# -------------------------------------------------------------------------------- erasing


def erase(tables: Tables, name: str, batch: str) -> Matches:
    """Do what is left of an erasure in the store's tables; labels first, since rows find them."""
    found = matches(tables, name)
    with_retry(tables, tables.labels, batch, lambda t: _erase_labels(t, name), doing="erasing")
    with_retry(tables, tables.responses, batch, lambda t: _erase_rows(t, name), doing="erasing")
    for table in (tables.labels, tables.responses):
        for path in expired(tables, table, 0, dry_run=False):
            (table / path).unlink(missing_ok=True)
    return found


def _erase_labels(attempt: CommitTry, name: str) -> None:
    tables, version = attempt.tables, attempt.version
    cursor, stones = tables.engine.cursor(), tables.tombstones([name])
    stones.load(cursor)
    tables.views().create(cursor)
    _find_going(cursor, stones)
    condition = _of_labels(cursor, stones)
    gone = {file: _numbers(cursor, attempt.table / file.path, condition) for file in version.files}
    _replace(attempt, gone, [])


def _erase_rows(attempt: CommitTry, name: str) -> None:
    tables, version = attempt.tables, attempt.version
    cursor, stones = tables.engine.cursor(), tables.tombstones([name])
    stones.load(cursor)
    cursor.execute("CREATE OR REPLACE TEMP TABLE lost (batch VARCHAR, source VARCHAR, n BIGINT)")
    conditions = {
        "verification": stones.of_rows(cursor),
        "reject": f"({stones.of_parts(cursor)} OR {stones.rejected_before(cursor)})",
        "import": stones.of_parts(cursor),
    }
    gone = {}
    for file in version.files:
        path = attempt.table / file.path
        gone[file] = _numbers(cursor, path, conditions[file.kind])
        if len(gone[file]) and file.kind != "import":
            cursor.execute(
                f"INSERT INTO lost SELECT batch, source, count(*) FROM {_read(path)} "
                f"WHERE {conditions[file.kind]} GROUP BY ALL"
            )
    ledgers = [file for file in version.files if file.kind == "import"]
    query = selected(table_schema("import"), attempt.table, ledgers)
    cursor.execute(f"CREATE OR REPLACE TEMP TABLE ledger AS {query}")
    renamed = f"SELECT * REPLACE ('{ERASED}' AS source) FROM ledger WHERE {conditions['import']}"
    fresh = [cursor.sql(renamed).to_arrow_table(), ledger_of_loss(cursor, attempt.at)]
    hidden = stones.of_parts(cursor)
    fresh[1] = _unnamed(cursor, fresh[1], hidden)
    query = "SELECT count(*) FROM tombstones WHERE what != 'before'"
    lasting = cursor.execute(query).fetchall()[0][0] > 0  # of moments only the last is kept
    ledger = [rows for rows in fresh if rows.num_rows]
    _replace(attempt, gone, ledger, erasure=name if lasting else "")


def _unnamed(cursor: duckdb.DuckDBPyConnection, rows: pa.Table, hidden: str) -> pa.Table:
    cursor.register("losses", rows)
    query = f"SELECT * REPLACE (if({hidden}, '{ERASED}', source) AS source) FROM losses"
    return cursor.sql(query).to_arrow_table()


def _numbers(cursor: duckdb.DuckDBPyConnection, path: Path, condition: str) -> np.ndarray[Any, Any]:
    """Give the numbers of a file's rows that a condition is true for."""
    if condition in ("false", "(false OR false)"):
        return np.empty(0, dtype=np.int64)
    query = f"SELECT file_row_number AS n FROM {_read(path)} WHERE {condition} ORDER BY n"
    return np.asarray(cursor.execute(query).fetchnumpy()["n"])


def _read(path: Path) -> str:
    return f"read_parquet({literal(str(path))}, file_row_number = true, hive_partitioning = false)"


def _replace(
    attempt: CommitTry,
    gone: dict[DataFile, np.ndarray[Any, Any]],
    ledger: Sequence[pa.Table],
    erasure: str = "",
) -> None:
    """Commit files without some rows in the place of those that have them."""
    touched = [file for file, numbers in gone.items() if len(numbers)]
    if not touched and attempt.table == attempt.tables.labels:
        return  # `responses` notes an erasure in any case: older versions end there
    brought = []
    for file in touched:
        old = StagedFile(str(attempt.table / file.path), file.kind, file.month, file.n_rows)
        left = without(old, gone[file], attempt)
        brought += [left] if left.n_rows else []
    schema = table_schema("import")
    brought += [attempt.write("import", rows.cast(schema)) for rows in ledger]
    note = {"verb": "erase", "batch": "", "n_added": 0, "erasure": erasure}
    if attempt.table == attempt.tables.labels:
        note["responses_lane"] = attempt.tables.newest(attempt.tables.responses).sequence
    attempt.commit(adds=attempt.place(brought), removes=touched, note=note)
