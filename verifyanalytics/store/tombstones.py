"""Tombstones: what was erased stays out, also when a later import brings it again.

An erasure leaves a file in the store, `_erased/<name>.parquet`, flushed before the first row goes.
It holds keyed hashes, never an id, a token or a person. While `<name>.json` lies beside it, the
erasure has not ended and is taken up by the next one.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from verifyanalytics.errors import StorageError
from verifyanalytics.store.disk import hash_of, make_folder, replace_file, storage_errors, sync
from verifyanalytics.store.files import writer
from verifyanalytics.store.views import literal

FOLDER = "_erased"
COPIES = "_copies"
_RULE = "retention"
SCHEMA = pa.schema(
    [("what", pa.string()), ("hash", pa.string()), ("moment", pa.timestamp("us", tz="UTC"))]
)
"""`what` is request_id, token, subject, part (batch and source) or before, which has a moment only.
Of a subject, answers before the moment were erased."""


class Tombstones:
    """The tombstones of a store, or of one of its erasures, as conditions in SQL."""

    def __init__(self, store: Path, key: bytes, names: Sequence[str] | None = None) -> None:
        folder = store / FOLDER
        self._salt = hmac.digest(key, b"verifyanalytics erasure", hashlib.sha256).hex()
        with storage_errors(folder, "reading the tombstones"):
            self._paths = sorted(folder.glob("*.parquet")) if folder.is_dir() else []
            if names is not None:
                self._paths = [path for path in self._paths if _name_of(path) in names]
            for path in self._paths:
                if not hash_of(path).startswith(path.name.split(".")[1]):
                    hint = "restore it from a backup, else what was erased may come back"
                    raise StorageError(f"{path} was changed; {hint}", path=path)

    def __bool__(self) -> bool:
        return bool(self._paths)

    def hashed(self, what: str, value: str) -> str:
        """Give the keyed hash of a stored value: 32 hex digits."""
        inner = hashlib.sha256(f"{self._salt}{what}\0{value}".encode()).hexdigest()
        return hashlib.sha256(f"{self._salt}{inner}".encode()).hexdigest()[:32]

    def among(self, what: str, values: Iterable[str]) -> list[str]:
        """Give those of some values that have a tombstone."""
        columns = [pq.read_table(path, columns=["what", "hash"]) for path in self._paths]
        known = {
            row["hash"] for table in columns for row in table.to_pylist() if row["what"] == what
        }
        return [value for value in values if self.hashed(what, value) in known] if known else []

    def load(self, connection: duckdb.DuckDBPyConnection, given: pa.Table | None = None) -> None:
        """Put them, or some that are given, into the temporary table `tombstones`."""
        if given is not None:
            connection.register("given", given)
            connection.execute("CREATE OR REPLACE TEMP TABLE tombstones AS SELECT * FROM given")
            return
        paths = ", ".join(literal(str(path)) for path in self._paths)
        query = f"SELECT * FROM read_parquet([{paths}])" if paths else _NOTHING
        connection.execute(f"CREATE OR REPLACE TEMP TABLE tombstones AS {query}")

    def of_rows(self, connection: duckdb.DuckDBPyConnection) -> str:
        """Write the condition for verifications that were erased, after `load`."""
        kinds = self._kinds(connection)
        found = [self._any(kinds & {"request_id", "token"})]
        found.append(self.of_subjects(connection))
        if "before" in kinds:
            found.append("occurred_at < (SELECT max(moment) FROM tombstones WHERE what = 'before')")
        return f"coalesce({' OR '.join(found)}, false)"

    def of_subjects(self, connection: duckdb.DuckDBPyConnection) -> str:
        """Write the condition for verifications of persons that were erased, after `load`."""
        if "subject" not in self._kinds(connection):
            return "false"
        # who comes back later is here by a new right
        return (
            "(subject IS NOT NULL AND EXISTS (SELECT 1 FROM tombstones t WHERE "
            f"t.what = 'subject' AND t.hash = {self._sql('subject', 'subject')} "
            "AND coalesce(occurred_at < t.moment, true)))"
        )

    def of_labels(self, connection: duckdb.DuckDBPyConnection) -> str:
        """Write the condition for labels of answers that were erased, after `load`."""
        return self._any(self._kinds(connection) & {"request_id", "token"})

    def of_parts(self, connection: duckdb.DuckDBPyConnection) -> str:
        """Write the condition for rows of a part (batch and source), after `load`."""
        if "part" not in self._kinds(connection):
            return "false"
        hashed = self._sql("part", "batch || chr(0) || source")
        return f"{hashed} IN (SELECT hash FROM tombstones WHERE what = 'part')"

    def rejected_before(self, connection: duckdb.DuckDBPyConnection) -> str:
        """Write the condition for rejects that are older than a moment, after `load`."""
        if "before" not in self._kinds(connection):
            return "false"
        return "rejected_at < (SELECT max(moment) FROM tombstones WHERE what = 'before')"

    def _any(self, kinds: set[str]) -> str:
        found = [
            f"coalesce({self._sql(what, what)} IN "
            f"(SELECT hash FROM tombstones WHERE what = '{what}'), false)"
            for what in sorted(kinds)
        ]
        return f"({' OR '.join(found)})" if found else "false"

    def _kinds(self, connection: duckdb.DuckDBPyConnection) -> set[str]:
        return {
            what
            for (what,) in connection.execute("SELECT DISTINCT what FROM tombstones").fetchall()
        }

    def _sql(self, what: str, value: str) -> str:
        salt = literal(self._salt)
        inner = f"sha256({salt} || '{what}' || chr(0) || {value})"
        return f"left(sha256({salt} || {inner}), 32)"


_NOTHING = (
    "SELECT NULL::VARCHAR AS what, NULL::VARCHAR AS hash, NULL::TIMESTAMPTZ AS moment WHERE false"
)


def _name_of(path: Path) -> str:
    return path.name.split(".")[0]


def write(store: Path, name: str, table: pa.Table) -> None:
    """Write the tombstones of an erasure, and that it began; on the disk when this returns."""
    folder = store / FOLDER
    make_folder(folder)
    draft = folder / f".{name}"
    draft.unlink(missing_ok=True)
    with writer(draft, SCHEMA) as out:
        out.write_table(table)
    sync(draft)
    draft.replace(folder / f"{name}.{hash_of(draft)[:32]}.parquet")
    begun = json.dumps({"begun": datetime.now(UTC).isoformat()})
    replace_file(folder / f"{name}.json", begun.encode())


def pending(store: Path) -> list[str]:
    """Name the erasures that were begun and have not ended, the oldest first."""
    folder = store / FOLDER
    return sorted(path.stem for path in folder.glob("*.json")) if folder.is_dir() else []


def missing(store: Path, names: Iterable[str]) -> list[str]:
    """Find erasures whose tombstones are gone."""
    there = {_name_of(path) for path in (store / FOLDER).glob("*.parquet")}
    gone = sorted({name for name in names if name} - there)
    hint = "restore it from a backup, else what was erased may come back"
    return [f"{store / FOLDER / name}.….parquet is missing; {hint}" for name in gone]


def end(store: Path, name: str) -> None:
    """Note that an erasure has ended; its tombstones stay, of moments only the last."""
    folder = store / FOLDER
    open_names = set(pending(store)) - {name}
    moments = []
    for path in sorted(folder.glob("*.parquet")):
        rows = pq.read_table(path)
        if rows["what"].to_pylist() == ["before"] and _name_of(path) not in open_names:
            moments.append((rows["moment"][0].as_py(), path))
    for _, path in sorted(moments)[:-1]:
        path.unlink(missing_ok=True)
    (folder / f"{name}.json").unlink(missing_ok=True)
    sync(folder)


def retention(store: Path) -> int | None:
    """Give the hours that a store keeps answers, by its rule; None without one."""
    path = store / FOLDER / _RULE
    try:
        return int(path.read_text(encoding="ascii")) if path.exists() else None
    except ValueError:
        raise StorageError(f"{path} is damaged; give the rule again", path=path) from None


def set_retention(store: Path, hours: int) -> None:
    """Keep the rule of a store."""
    make_folder(store / FOLDER)
    replace_file(store / FOLDER / _RULE, str(hours).encode())


# ------------------------------------------------------------------ copies made of a store


def note_copy(store: Path, what: str, path: Path) -> None:
    """Note that something of the store was written outside it, so that an erasure can name it."""
    folder = store / COPIES
    make_folder(folder)
    known = {"what": what, "path": str(path), "at": datetime.now(UTC).isoformat()}
    name = hashlib.sha256(str(path).encode(errors="surrogateescape")).hexdigest()[:32]
    replace_file(folder / f"{name}.json", json.dumps(known).encode())


def copies(store: Path) -> list[dict[str, str]]:
    """List the copies that were noted, the oldest first."""
    found = []
    for path in (store / COPIES).glob("*.json"):
        with contextlib.suppress(ValueError, KeyError):  # cut off: it names nothing
            known = json.loads(path.read_text(encoding="utf-8"))
            found.append({name: str(known[name]) for name in ("at", "what", "path")})
    return sorted(found, key=lambda copy: (copy["at"], copy["path"]))


def count(store: Path) -> int:
    """Count the tombstones of a store."""
    folder = store / FOLDER
    paths = folder.glob("*.parquet") if folder.is_dir() else ()
    return sum(int(pq.read_metadata(path).num_rows) for path in paths)
