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
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from verifyanalytics.errors import StorageError, UsageError
from verifyanalytics.schema import QUALITY_COLUMNS
from verifyanalytics.store.commits import Ledger, add_labels, append, label_rows
from verifyanalytics.store.dedupe import Part, PartCount, Progress
from verifyanalytics.store.files import StagedFile, storage_errors
from verifyanalytics.store.log import read_stamps
from verifyanalytics.store.maintenance import (
    bundles,
    content_findings,
    expired,
    export_paths,
    export_table,
    file_findings,
    merge,
    retention_hours,
    strays,
    sum_findings,
)
from verifyanalytics.store.replace import replace_rows
from verifyanalytics.store.tables import Tables
from verifyanalytics.store.views import TABLES, plain, query_errors, require_select

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = ["Part", "PartCount", "Progress", "StagedFile", "Store"]

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
        self.path = _store_path(given)
        self._tables = Tables(self.path)
        self._ledger = Ledger(self._tables)
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
        self._tables.create()

    @property
    def key(self) -> bytes:
        """The store's 32 secret bytes, for keyed hashes of tokens, persons and images.

        They are in `<store>.key` beside the store, never in it. A store that is not there is made.

        Raises
        ------
        StorageError
            The key file is missing, readable by others, or belongs to another store.
        """
        self.create()
        return self._tables.key()

    def close(self) -> None:
        """Give up staging folders and the engine; the store can be used again afterwards."""
        with self._tables.lock:
            self._tables.staging.release_all()
            self._tables.engine.close()

    # ---------------------------------------------------------------------------- versions

    def versions(self) -> pd.DataFrame:
        """List the versions of the store that its log remembers (30 days), oldest first.

        Returns
        -------
        pandas.DataFrame
            version (for `as_of`), committed_at, verb, batch, n_added, readable: false when it is
            older than the 7 days that removed files are kept.
        """
        import pandas as pd

        rows = [
            (entry.lane, entry.at, entry.verb, entry.batch, entry.n_added, readable)
            for entry, readable in self._tables.kept()
        ]
        names = ["version", "committed_at", "verb", "batch", "n_added", "readable"]
        return pd.DataFrame(rows, columns=names)

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
            By month, then by batch, then as the source had them (by time once merged). Null is
            `pandas.NA`; `v[v.result]` and `~v.alive` work.

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
        query = self._tables.views(as_of).query(
            table, columns=columns, since=since, until=until, where=where
        )
        connection = self._tables.engine.cursor()
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
        views = self._tables.views(as_of)
        connection = self._tables.engine.cursor()
        with query_errors("sql", self.path):
            require_select(connection, query)
            views.create(connection)
            relation = connection.sql(query)
        return self._frame(relation, "sql")

    def _frame(self, relation: duckdb.DuckDBPyRelation, doing: str) -> pd.DataFrame:
        import pandas as pd

        with query_errors(doing, self.path):
            table = plain(relation.to_arrow_table())
        table = table.rename_columns(_distinct(table.column_names))
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

        views = self._tables.views()
        graded = " + ".join(f"count({name})" for name in QUALITY_COLUMNS)
        unfolded = self.sql(
            "SELECT coalesce(sum(len(risk_tags)), 0)::BIGINT AS risk_tags, "
            f"{graded} AS image_quality FROM verifications"
        )
        rows = []
        for table in TABLES:
            derived = table in unfolded.columns
            files = [] if derived else views.files(table)
            n_rows = int(unfolded[table][0]) if derived else sum(file.n_rows for file in files)
            n_bytes = sum(file.n_bytes for file in files)
            rows.append((table, n_rows, len(files), n_bytes, len(views.columns(table))))
        return pd.DataFrame(rows, columns=["table", "rows", "files", "bytes", "columns"])

    # ---------------------------------------------------------------------------- importing

    def new_batch(self) -> str:
        """Name a batch: sortable by the time it began, and like no other."""
        self.create()
        return f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(5)}"

    def staging(self, batch: str) -> Path:
        """Give the folder in which a batch's files are staged; it is this process's to write.

        It goes when `append` has taken the files, when `discard` is called, or, after a death of
        the process, when another import begins.
        """
        self.create()
        with self._tables.lock, storage_errors(self.path, "making a staging folder"):
            for left in self._tables.staging.clean():
                _logger.info("removed what a dead import left: %s", left)
            return self._tables.staging.claim(batch)

    def discard(self, batch: str) -> None:
        """Give up a batch: its staged files are removed."""
        with self._tables.lock:
            self._tables.staging.release(batch, whole=True)

    def done(self, sha256: str) -> Progress | None:
        """Say how far a source is in the store, by the SHA-256 of its bytes; None when it is not.

        The first question at a version reads the ledger and the stamps; further ones cost nothing.
        """
        if not self._tables.exist():
            return None
        with self._tables.lock:
            return self._ledger.at(self._tables.newest(self._tables.responses)).get(sha256)

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
        with self._tables.lock:
            try:
                with storage_errors(self.path, f"committing batch {batch}"):
                    return append(self._tables, self._ledger, batch, files, parts, stamps or {})
            finally:
                for file in files:
                    file.path.unlink(missing_ok=True)
                self._tables.staging.drop(batch, f"{batch}-")

    def add_labels(self, labels: Any) -> int:
        """Add ground truth; rows that are stored already, equal in every column, are known.

        Parameters
        ----------
        labels : pandas.DataFrame or pyarrow.Table
            Columns of `schema.LABELS`, keyed by `request_id` or by the keyed hash of the token.

        Returns
        -------
        int
            Rows added.

        Raises
        ------
        UsageError
            A column, type, key or probability that labels cannot have.
        StorageError
            They could not be committed.
        """
        rows = label_rows(labels)
        batch = self.new_batch()
        with self._tables.lock:
            try:
                with storage_errors(self.path, "committing labels"):
                    return add_labels(self._tables, rows, batch)
            finally:
                self._tables.staging.release(batch, whole=True)

    # ---------------------------------------------------------------------------- upkeep

    def compact(self, *, over: int = 1) -> pd.DataFrame:
        """Merge small files, each partition by itself, sorted by time; no row changes.

        Parameters
        ----------
        over : int
            Take the partitions that hold more than this many files under 64 MB; an import uses 32.

        Returns
        -------
        pandas.DataFrame
            One row a merged file: kind, month, n_files merged, n_rows.

        Raises
        ------
        NoStoreError, StorageError
        """
        import pandas as pd

        done: list[tuple[str, str, int, int]] = []
        with storage_errors(self.path, "compacting"):
            for bundle in bundles(self._tables.newest(self._tables.responses).files, over):
                batch = self.new_batch()
                try:
                    n_rows = merge(self._tables, bundle, batch)
                finally:
                    self.discard(batch)
                if n_rows:
                    done.append((bundle[0].kind, bundle[0].month, len(bundle), n_rows))
        return pd.DataFrame(done, columns=["kind", "month", "n_files", "n_rows"])

    def replace_rows(self, fresh: pa.Table) -> int:
        """Put rows that were read again in the place of those that were read before.

        Parameters
        ----------
        fresh : pyarrow.Table
            Verifications with `batch`, `source` and `source_row` of the stored rows they replace;
            request_id and month must be the same.

        Returns
        -------
        int
            Rows replaced, in one commit.

        Raises
        ------
        NoStoreError
        StorageError
            A row has no stored one in its place; nothing is changed then.
        """
        batch = self.new_batch()
        with self._tables.lock, storage_errors(self.path, "replacing rows"):
            try:
                return replace_rows(self._tables, fresh, batch)
            finally:
                self.discard(batch)

    def vacuum(self, retention: str | timedelta = "7d", *, dry_run: bool = False) -> list[str]:
        """Delete files that no version of the last days refers to, and what dead imports left.

        Parameters
        ----------
        retention : str or timedelta
            How long removed files stay, such as `7d` or `12h`. Below 7 days `as_of` reaches back
            that much less.
        dry_run : bool
            Only say which.

        Returns
        -------
        list of str
            The files, relative to the store.

        Raises
        ------
        NoStoreError, UsageError, StorageError
        """
        hours = retention_hours(retention)
        gone: list[str] = []
        with self._tables.lock, storage_errors(self.path, "vacuuming"):
            for table in (self._tables.responses, self._tables.labels):
                listed = expired(self._tables, table, hours, dry_run=dry_run)
                gone += [f"{table.name}/{path}" for path in listed]
            if not dry_run:
                for path in gone:
                    (self.path / path).unlink(missing_ok=True)
                self._tables.staging.clean()
        return gone

    def check(self, *, deep: bool = False) -> list[str]:
        """Prove that the store adds up.

        Looks whether every committed file is there with its size, ids are unique, each batch has
        the rows and rejects that its ledger counts, the ledger agrees with the log, and the key
        fits. Damaged files come first: what they hold cannot be counted.

        Parameters
        ----------
        deep : bool
            Also read every file to its end: columns, rows, checksums, statistics, months.

        Returns
        -------
        list of str
            One sentence a finding; empty when all is well. Files that nobody refers to are no
            finding: `strays` lists them.

        Raises
        ------
        NoStoreError
            There is nothing to check.
        """
        responses, labels = self._tables.at(None)
        found: list[str] = []
        for table, version in ((self._tables.responses, responses), (self._tables.labels, labels)):
            found += file_findings(table, version.files)
            found += content_findings(table, version.files) if deep and not found else []
        try:
            self._tables.key(again=True)
            if not found:
                connection = self._tables.engine.cursor()
                self._tables.views().create(connection)
                stamps = read_stamps(self._tables.responses, responses.number)
                found += sum_findings(connection, stamps)
        except (StorageError, duckdb.Error) as error:
            found.append(str(error).splitlines()[0])
        return found

    def strays(self) -> list[str]:
        """List Parquet files in the store that no commit refers to; a kill leaves them.

        They are never read; `vacuum` removes them once they are old.
        """
        with storage_errors(self.path, "looking for stray files"):
            return [
                f"{table.name}/{path}"
                for table in (self._tables.responses, self._tables.labels)
                for path in strays(self._tables.newest(table))
            ]

    def export(
        self,
        folder: str | Path,
        format: str = "parquet",
        *,
        overwrite: bool = False,
        as_of: int | None = None,
    ) -> pd.DataFrame:
        """Write the six tables as plain files, `<table>.parquet` or `<table>.csv`.

        Parameters
        ----------
        folder : str or Path
            Made if it is not there.
        format : str
            `parquet` or `csv`. In CSV a text that a spreadsheet would take for a formula begins
            with an apostrophe.
        overwrite : bool
            Replace files that are there.
        as_of : int, optional
            The version to export.

        Returns
        -------
        pandas.DataFrame
            table, path, rows.

        Raises
        ------
        UsageError
            An unknown format, or files that are there.
        StorageError
            They cannot be written; a file that was there stays as it was.
        """
        import pandas as pd

        views = self._tables.views(as_of)
        if Path(folder).resolve().is_relative_to(self.path.resolve()):
            raise UsageError(f"{folder} lies within the store, where upkeep would remove it")
        paths = export_paths(Path(folder), format, overwrite=overwrite)
        done = []
        with storage_errors(self.path, f"exporting to {folder}"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            for table, path in paths.items():
                n_rows = export_table(self._tables.engine.cursor(), views, table, path)
                done.append((table, str(path), n_rows))
        return pd.DataFrame(done, columns=["table", "path", "rows"])


def _distinct(names: Sequence[str]) -> list[str]:
    """Number the names that come again, since pandas gives columns of one name one type."""
    found: list[str] = []
    for name in names:
        number, free = 1, name
        while free in found:
            number += 1
            free = f"{name}_{number}"
        found.append(free)
    return found


def _store_path(given: str | Path) -> Path:
    """Give the absolute path of a store, if a store can be there.

    Raises
    ------
    UsageError
        It is no local path, or one that the formats beneath cannot name.
    """
    if not isinstance(given, str | os.PathLike):
        raise UsageError(f"a store is a folder's path; {type(given).__name__} was given")
    if "://" in str(given):
        raise UsageError(f"{given}: a store is a folder of this machine; export sends copies away")
    path = Path(given).expanduser().absolute()
    shown = path.as_posix().encode(errors="backslashreplace").decode()
    if re.search(r"[=\\\x00-\x1f\x7f]|%[0-9A-Fa-f]{2}", shown):
        raise UsageError(
            f"{shown!r} cannot hold a store: a path with '=', a %-code, a backslash, a control "
            "character or what is not UTF-8 cannot be named by the formats beneath"
        )
    return path
