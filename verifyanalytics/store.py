"""The store: one folder with Delta tables that grow by whole commits and never lose a row.

Whoever imports stages Parquet files in a folder of its own and calls `append`; the rows that are
new go in with one transaction, with their ledger, or none does. Readers see exactly the files of
one version, however many writers are at work. A version is the number of its commit.

Below are files and logs (`_store_files`, `_store_log`), what is new (`_store_judgement`) and SQL
(`_store_views`); above, everything that reads or writes a store goes through `Store`.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from verifyanalytics._store_commit import Attempt
from verifyanalytics._store_files import (
    StagedFile,
    Staging,
    fingerprint,
    key_path,
    make_key,
    read_key,
    storage_errors,
    table_schema,
    verify,
)
from verifyanalytics._store_judgement import (
    Part,
    PartCount,
    Progress,
    stretches,
)
from verifyanalytics._store_log import LANE, LaneTakenError, Version, open_version, read_stamps
from verifyanalytics._store_views import (
    TABLES,
    Engine,
    Views,
    plain,
    query_errors,
    require_select,
)
from verifyanalytics.errors import NoStoreError, StorageError, UsageError
from verifyanalytics.schema import IMPORTS, REJECTS, SCHEMA_VERSION, VERIFICATIONS

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Part", "PartCount", "Progress", "StagedFile", "Store"]

RETENTION = timedelta(days=7)
"""How far back `as_of` reaches; removed files stay that long."""

_TRIES = 50
_PROPERTIES = {
    "delta.dataSkippingStatsColumns": "occurred_at,score,code",
    "delta.deletedFileRetentionDuration": f"interval {RETENTION.days} days",
    "delta.logRetentionDuration": "interval 30 days",
}
_logger = logging.getLogger(__name__)


class Store:
    """Tables of verifications, rejects, imports and labels in one folder.

    Parameters
    ----------
    path : str or Path, optional
        The folder; `VERIFYANALYTICS_STORE` if not given, else `data/store`.
    create : bool
        Make the store now if there is none. Without it the first write makes it, and reading
        raises `NoStoreError`.

    Attributes
    ----------
    path : Path
        Absolute.

    Examples
    --------
    >>> import tempfile
    >>> store = Store(tempfile.mkdtemp() + "/store", create=True)
    >>> len(store.read("verifications"))
    0
    """

    def __init__(self, path: str | Path | None = None, *, create: bool = False) -> None:
        given = path or os.environ.get("VERIFYANALYTICS_STORE") or "data/store"
        self.path = Path(given).expanduser().absolute()
        if re.search(r"=|%[0-9A-Fa-f]{2}", str(self.path)):
            message = f"{self.path} cannot hold a store: its path has '=' or a %-code in it"
            raise UsageError(message)
        self._responses = self.path / "responses"
        self._labels = self.path / "labels"
        self._lock = threading.RLock()
        self._engine = Engine(self.path)
        self._staging = Staging(self._responses / "_staging")
        self._newest: dict[Path, Version] = {}
        self._progress: tuple[int, dict[str, Progress]] | None = None
        self._key: bytes | None = None
        if create:
            self.create()

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r})"

    # ---------------------------------------------------------------------------- being there

    def create(self) -> None:
        """Make the store and its key if they are not there; also what a kill left of it.

        Raises
        ------
        StorageError
            The folder cannot be made, or the key does not fit.
        """
        with self._lock, storage_errors(self.path, f"making the store {self.path}"):
            if not self._exists():
                self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
                self.path.chmod(0o700)
                key = make_key(key_path(self.path))
                self._create_table(self._labels, table_schema("label"), [], key)
                self._create_table(self._responses, _responses_schema(), ["kind", "month"], key)
            self._check_key()

    def _create_table(self, folder: Path, schema: pa.Schema, by: list[str], key: bytes) -> None:
        """Make one empty Delta table; another process may make it at the same time."""
        ours = {
            "verifyanalytics.schema_version": str(SCHEMA_VERSION),
            "verifyanalytics.key": fingerprint(key),
        }
        folder.mkdir(mode=0o700, exist_ok=True)
        try:
            DeltaTable.create(
                folder,
                schema,
                partition_by=by,
                configuration={**_PROPERTIES, **ours},
                raise_if_key_not_exists=False,
            )
            (folder / "_delta_log").chmod(0o700)
        except DeltaError:
            if not DeltaTable.is_deltatable(str(folder)):
                raise

    def _exists(self) -> bool:
        return (self._responses / "_delta_log").is_dir() and DeltaTable.is_deltatable(
            str(self._responses)
        )

    @property
    def key(self) -> bytes:
        """The store's 32 secret bytes, for keyed hashes of tokens, persons and images.

        They are in `<store>.key` beside the store, never in it. A store that is not there is made.

        Raises
        ------
        StorageError
            The key file is missing, readable by others, or belongs to another store.
        """
        if self._key is None:
            self.create()
        return self._check_key()

    def _check_key(self) -> bytes:
        """Read the key once and hold it against the fingerprint in the table's properties."""
        if self._key is None:
            path = key_path(self.path)
            key = read_key(path)
            properties = self._version(self._responses).handle.metadata().configuration
            if properties.get("verifyanalytics.key") != fingerprint(key):
                hint = "put the right key there, or set VERIFYANALYTICS_KEY_FILE to where it is"
                message = f"the key {path} is not the one this store was made with; {hint}"
                raise StorageError(message, path=path)
            self._key = key
        return self._key

    def close(self) -> None:
        """Give up staging folders and the engine; the store can be used again afterwards."""
        with self._lock:
            self._staging.release_all()
            self._engine.close()

    # ---------------------------------------------------------------------------- versions

    def _version(self, table: Path) -> Version:
        """Give the newest version of a table; the last one again while the log has no newer."""
        with self._lock, storage_errors(self.path, f"reading the store {self.path}"):
            if not self._exists():
                raise NoStoreError(self.path)
            known = self._newest.get(table)
            if known is None or not _is_newest(table, known.handle.version()):
                known = open_version(table, LANE if table == self._responses else "labels")
                _require_schema(known.handle, self.path)
                self._newest[table] = known
            return known

    def _views(self, as_of: int | None = None) -> Views:
        if as_of is not None:
            raise UsageError("as_of is not there yet")
        responses, labels = self._version(self._responses), self._version(self._labels)
        return Views(
            self._responses, responses.files, self._labels, labels.files, responses.context
        )

    # ---------------------------------------------------------------------------- reading

    def read(
        self,
        table: str = "verifications",
        *,
        columns: Sequence[str] | None = None,
        since: Any = None,
        until: Any = None,
        where: str | None = None,
        as_of: int | None = None,
    ) -> pd.DataFrame:
        """Read a table into pandas, its columns backed by Arrow.

        Parameters
        ----------
        table : str
            `verifications`, `rejects`, `imports`, `labels`, `risk_tags` or `image_quality`.
        columns : sequence of str, optional
            Only these, in this order.
        since, until : datetime, date or ISO text, optional
            since ≤ time < until; without a zone UTC. Rows of unknown time are left out when one
            is given. The time is `occurred_at`, `rejected_at`, `committed_at` or `labelled_at`.
        where : str, optional
            A condition in DuckDB's SQL, such as ``"code = 10000 and score is not null"``.
        as_of : int, optional
            The version to read, from `versions`.

        Returns
        -------
        pandas.DataFrame
            In no particular order. Null is `pandas.NA`; `v[v.result]` and `~v.alive` work.

        Raises
        ------
        NoStoreError, UsageError, MissingColumnError
        StorageError
            A file cannot be read.
        """
        relation = self.scan(
            table, columns=columns, since=since, until=until, where=where, as_of=as_of
        )
        return self._frame(relation, f"reading {table}")

    def scan(
        self,
        table: str = "verifications",
        *,
        columns: Sequence[str] | None = None,
        since: Any = None,
        until: Any = None,
        where: str | None = None,
        as_of: int | None = None,
    ) -> duckdb.DuckDBPyRelation:
        """Give a table as a lazy DuckDB relation over the files of one version.

        Nothing is read until the relation is asked for rows; statistics take it as it is, and
        `narwhals.from_native` too. Later commits do not change it. Parameters and errors are
        those of `read`.
        """
        query = self._views(as_of).query(
            table, columns=columns, since=since, until=until, where=where
        )
        connection = self._engine.cursor()
        with query_errors(f"reading {table}", self.path):
            require_select(connection, query)
            return connection.sql(query)

    def sql(self, query: str, *, as_of: int | None = None) -> pd.DataFrame:
        """Run one SELECT in DuckDB's SQL over the six tables.

        Parameters
        ----------
        query : str
            Reads `verifications`, `rejects`, `imports`, `labels`, `risk_tags`, `image_quality`;
            no other file, and nothing is written.
        as_of : int, optional
            The version to read.

        Returns
        -------
        pandas.DataFrame
            Backed by Arrow, as `read` gives it.

        Raises
        ------
        UsageError
            DuckDB's message when the query is wrong.
        """
        views = self._views(as_of)
        connection = self._engine.cursor()
        with query_errors("sql", self.path):
            require_select(connection, query)
            views.create(connection)
            relation = connection.sql(query)
        return self._frame(relation, "sql")

    def _frame(self, relation: duckdb.DuckDBPyRelation, doing: str) -> pd.DataFrame:
        import pandas as pd

        with query_errors(doing, self.path):
            table = plain(relation.to_arrow_table())
        frame: pd.DataFrame = table.to_pandas(types_mapper=pd.ArrowDtype)
        return frame

    def tables(self) -> pd.DataFrame:
        """Say what is in the store.

        Returns
        -------
        pandas.DataFrame
            One row a table: table, rows, files, bytes, columns. The derived tables have no files
            of their own.
        """
        import pandas as pd

        views = self._views()
        unfolded = self.sql(
            "SELECT (SELECT count(*) FROM risk_tags) AS risk_tags, "
            "(SELECT count(*) FROM image_quality) AS image_quality"
        )
        rows = []
        for table in TABLES:
            derived = table in unfolded
            files = [] if derived else views.files(table)
            n_rows = int(unfolded[table][0]) if derived else sum(file.n_rows for file in files)
            n_bytes = sum(file.n_bytes for file in files)
            rows.append((table, n_rows, len(files), n_bytes, len(views.columns(table))))
        return pd.DataFrame(rows, columns=["table", "rows", "files", "bytes", "columns"])

    # ---------------------------------------------------------------------------- importing

    def new_batch(self) -> str:
        """Name a batch: sortable by the time it began, and like no other."""
        self.create()
        return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(6)}"

    def staging(self, batch: str) -> Path:
        """Give the folder in which a batch's files are staged; it is this process's to write.

        It goes when `append` has taken the files, when `discard` is called, or, after a death of
        the process, when another import begins.
        """
        self.create()
        with self._lock, storage_errors(self.path, "making a staging folder"):
            for left in self._staging.clean():
                _logger.info("removed what a dead import left: %s", left)
            return self._staging.claim(batch)

    def discard(self, batch: str) -> None:
        """Give up a batch: its staged files are removed."""
        with self._lock:
            self._staging.release(batch, whole=True)

    def done(self, sha256: str) -> Progress | None:
        """Say how far a source is in the store, by the SHA-256 of its bytes; None when it is not.

        The first question at a version reads the ledger and the stamps; further ones cost nothing.
        """
        if not self._exists():
            return None
        with self._lock:
            return self._ledger(self._version(self._responses)).get(sha256)

    def _ledger(self, version: Version) -> dict[str, Progress]:
        """Bring ledger and stamps of a version together: by source hash, how far it is."""
        number = version.handle.version()
        if self._progress is not None and self._progress[0] == number:
            return self._progress[1]
        views = Views(self._responses, version.files, self._labels, (), ())
        names = ["n_read", "n_added", "n_known", "n_rejected"]
        sums = ", ".join(f"sum({name})::BIGINT" for name in names)
        query = (
            f"SELECT sha256, sum(bytes)::BIGINT, {sums} "
            f"FROM ({views.query('imports')}) GROUP BY sha256"
        )
        with storage_errors(self.path, "reading the ledger"):
            counted = self._engine.cursor().sql(query).fetchall()
            stamps = read_stamps(self._responses, number)
        found = {}
        for sha256, n_bytes, *counts in counted:
            part = stamps.get(f"part:{sha256}", 0)
            rows = stamps.get(f"file:{sha256}", 0)
            found[sha256] = Progress(rows, part or n_bytes, not part, *counts)
        self._progress = (number, found)
        return found

    def append(
        self,
        batch: str,
        staged: Sequence[StagedFile],
        parts: Sequence[Part],
        *,
        stamps: Mapping[str, int] | None = None,
    ) -> list[PartCount]:
        """Commit what is new of a batch, with its ledger, in one transaction.

        Rows whose `request_id` is stored with the same content are known, with other content they
        become rejects (`conflict`); within the batch the first by part and row stays. Of the
        answers to one token the first of CertVerify and CertVerifyQuery stays. Parts that another
        import finished meanwhile are dropped and reported with the stored counts.

        Parameters
        ----------
        batch : str
            From `new_batch`.
        staged : sequence of StagedFile
            Files of verifications and rejects; they are taken and gone afterwards, also when the
            commit fails.
        parts : sequence of Part
            What was read, in the order in which ties are settled; every staged row belongs to one.
        stamps : mapping of str to int, optional
            More application transactions for the same commit, such as `journal:<uuid>`.

        Returns
        -------
        list of PartCount
            One a part, in the order of `parts`.

        Raises
        ------
        StorageError
            The disk, a staged file that is gone or not what was said, or no turn in the lane. What
            was committed stays as it was.
        """
        self.create()
        files = [StagedFile(Path(f.path), f.kind, f.month, f.n_rows) for f in staged]
        with self._lock:
            try:
                with storage_errors(self.path, f"committing batch {batch}"):
                    return self._append(batch, files, parts, dict(stamps or {}))
            finally:
                for file in files:
                    file.path.unlink(missing_ok=True)
                self._staging.release(batch)

    def _append(
        self,
        batch: str,
        staged: Sequence[StagedFile],
        parts: Sequence[Part],
        stamps: Mapping[str, int],
    ) -> list[PartCount]:
        """Judge and commit until the lane is ours; each try uses file names of its own."""
        context = {name for file in staged for name in verify(file).names if name[:4] == "ctx_"}
        for attempt in range(_TRIES):
            version = self._with_columns(context)
            ledger = self._ledger(version)
            lined = stretches(
                parts, {p.sha256: ledger[p.sha256] for p in parts if p.sha256 in ledger}
            )
            work = Attempt(
                table=self._responses,
                folder=self._staging.claim(batch),
                engine=self._engine,
                batch=batch,
                number=attempt,
                version=version,
                lined=lined,
                ledger=ledger,
                stamps=dict(stamps),
            )
            try:
                return work.run(staged)
            except LaneTakenError:
                _logger.info("batch %s: another commit came first, judging again", batch)
            finally:
                work.tidy()
        message = f"batch {batch}: {_TRIES} other commits came first; run the import again"
        raise StorageError(message, path=self.path)

    def _with_columns(self, context: set[str]) -> Version:
        """Give the newest version once the table has the context columns; adds what it lacks."""
        from deltalake import Field

        for _ in range(_TRIES):
            version = self._version(self._responses)
            missing = sorted(context - set(version.context))
            if not missing:
                return version
            try:
                version.handle.alter.add_columns([Field(name, "string") for name in missing])
            except DeltaError:
                if self._version(self._responses).handle.version() == version.handle.version():
                    raise
            self._newest.pop(self._responses, None)
        raise StorageError(f"{self.path}: no turn to add columns; run the import again")


def _responses_schema() -> pa.Schema:
    """Give the table's columns: those of every kind, then the partition."""
    fields: dict[str, pa.Field] = {}
    for field in (*VERIFICATIONS, *REJECTS, *IMPORTS):
        fields.setdefault(field.name, field.remove_metadata())
    return pa.schema([*fields.values(), ("kind", pa.string()), ("month", pa.string())])


def _is_newest(table: Path, number: int) -> bool:
    """Say whether the log ends at a Delta version, by the names of its entries."""
    log = table / "_delta_log"
    return (log / f"{number:020}.json").exists() and not (log / f"{number + 1:020}.json").exists()


def _require_schema(handle: DeltaTable, path: Path) -> None:
    """Refuse a store that newer code made."""
    found = handle.metadata().configuration.get("verifyanalytics.schema_version", "")
    if not found.isdigit():
        raise StorageError(f"{path} is a Delta table, but no store of ours", path=path)
    if int(found) > SCHEMA_VERSION:
        message = f"the store {path} has schema {found}, this program knows {SCHEMA_VERSION}"
        raise StorageError(f"{message}; update verifyanalytics", path=path)
