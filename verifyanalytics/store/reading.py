"""Reading a store: its six tables at any version, what they hold, whether they add up, copies.

Readers see exactly the files of one version, however many writers are at work. Nothing here
changes the store.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from verifyanalytics.errors import UsageError
from verifyanalytics.schema import QUALITY_COLUMNS
from verifyanalytics.store import tombstones
from verifyanalytics.store.disk import storage_errors, tidying
from verifyanalytics.store.maintenance import findings, strays
from verifyanalytics.store.tables import Tables
from verifyanalytics.store.views import (
    TABLES,
    distinct,
    export_paths,
    export_table,
    plain,
    require_select,
)

if TYPE_CHECKING:
    import pandas as pd


class StoreReader:
    """The reading half of `Store`; parameters and attributes are described there."""

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = _store_path(path or os.environ.get("VERIFYANALYTICS_STORE") or "data/store")
        self._tables = Tables(self.path)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

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

        See Also
        --------
        scan : The same without loading it.
        sql : Any query over all tables.

        Examples
        --------
        >>> import tempfile
        >>> import pandas as pd
        >>> from verifyanalytics import Store
        >>> store = Store(tempfile.mkdtemp() + "/store", create=True)
        >>> _ = store.add_labels(pd.DataFrame({"request_id": ["a", "b"], "mated": [True, False]}))
        >>> store.read("labels", where="mated")["request_id"].tolist()
        ['a']
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

        See Also
        --------
        read : The same as a pandas frame.

        Examples
        --------
        >>> import tempfile
        >>> from verifyanalytics import Store
        >>> store = Store(tempfile.mkdtemp() + "/store", create=True)
        >>> store.scan(columns=["request_id", "score"]).columns
        ['request_id', 'score']
        """
        query = self._tables.views(as_of).query(
            table, columns=columns, since=since, until=until, where=where
        )
        connection = self._tables.engine.cursor()
        with self._tables.errors(f"reading {table}", of_query=True):
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

        See Also
        --------
        read : One table, with its time and columns chosen.

        Examples
        --------
        >>> import tempfile
        >>> from verifyanalytics import Store
        >>> store = Store(tempfile.mkdtemp() + "/store", create=True)
        >>> store.sql("SELECT count(*) AS n FROM verifications")
           n
        0  0
        """
        views = self._tables.views(as_of)
        connection = self._tables.engine.cursor()
        with self._tables.errors("sql", of_query=True):
            require_select(connection, query)
            views.create(connection)
            relation = connection.sql(query)
        return self._frame(relation, "sql")

    def _frame(self, relation: duckdb.DuckDBPyRelation, doing: str) -> pd.DataFrame:
        import pandas as pd

        with self._tables.errors(doing, of_query=True):
            table = plain(relation.to_arrow_table())
        table = table.rename_columns(distinct(table.column_names))
        frame: pd.DataFrame = table.to_pandas(types_mapper=pd.ArrowDtype)
        return frame

    def tables(self) -> pd.DataFrame:
        """Count what is in the store.

        Returns
        -------
        pandas.DataFrame
            One row a table: table, rows, files, bytes, columns. The derived tables have no files
            of their own.

        Raises
        ------
        NoStoreError, StorageError

        See Also
        --------
        versions : The commits that brought it.

        Examples
        --------
        >>> import tempfile
        >>> from verifyanalytics import Store
        >>> tables = Store(tempfile.mkdtemp() + "/store", create=True).tables()
        >>> dict(zip(tables["table"], tables["rows"]))  # doctest: +NORMALIZE_WHITESPACE
        {'verifications': 0, 'rejects': 0, 'imports': 0, 'labels': 0,
         'risk_tags': 0, 'image_quality': 0}
        """
        import pandas as pd

        views = self._tables.views()
        graded = " + ".join(f"count({name})" for name in QUALITY_COLUMNS)
        derived = self.sql(
            "SELECT coalesce(sum(len(risk_tags)), 0)::BIGINT AS risk_tags, "
            f"{graded} AS image_quality FROM verifications"
        )
        rows = []
        for table in TABLES:
            files = [] if table in derived.columns else views.files(table)
            n_rows = sum(file.n_rows for file in files)
            if table in derived.columns:
                n_rows = int(derived[table][0])
            n_bytes = sum(file.n_bytes for file in files)
            rows.append((table, n_rows, len(files), n_bytes, len(views.columns(table))))
        return pd.DataFrame(rows, columns=["table", "rows", "files", "bytes", "columns"])

    def versions(self) -> pd.DataFrame:
        """List the versions of the store that its log remembers (30 days), oldest first.

        Returns
        -------
        pandas.DataFrame
            version (for `as_of`), committed_at, verb, batch, n_added, readable: false when it is
            older than the 7 days that removed files are kept.

        Raises
        ------
        NoStoreError, StorageError

        See Also
        --------
        read : Takes a version as `as_of`.

        Examples
        --------
        >>> import tempfile
        >>> from verifyanalytics import Store
        >>> store = Store(tempfile.mkdtemp() + "/store", create=True)
        >>> store.versions()[["version", "verb", "n_added", "readable"]]
           version    verb  n_added  readable
        0        0  create        0      True
        """
        import pandas as pd

        rows = [
            (entry.sequence, entry.at, entry.verb, entry.batch, entry.n_added, readable)
            for entry, readable in self._tables.kept()
        ]
        names = ["version", "committed_at", "verb", "batch", "n_added", "readable"]
        return pd.DataFrame(rows, columns=names)

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
            One sentence a finding; empty when all is well. Files that no commit refers to are no
            finding: `strays` lists them.

        Raises
        ------
        NoStoreError
            There is nothing to check.

        See Also
        --------
        strays : Files that no commit refers to.

        Examples
        --------
        >>> import tempfile
        >>> from verifyanalytics import Store
        >>> Store(tempfile.mkdtemp() + "/store", create=True).check(deep=True)
        []
        """
        return findings(self._tables, deep=deep)

    def strays(self) -> list[str]:
        """List Parquet files in the store that no commit refers to; a kill leaves them.

        They are never read; `vacuum` removes them once they are old.

        Returns
        -------
        list of str
            The files, relative to the store.

        See Also
        --------
        Store.vacuum : Removes them.

        Examples
        --------
        >>> import tempfile
        >>> from verifyanalytics import Store
        >>> Store(tempfile.mkdtemp() + "/store", create=True).strays()
        []
        """
        with storage_errors(self.path, "looking for stray files"):
            return [
                f"{table.name}/{path}"
                for table in (self._tables.responses, self._tables.labels)
                for path in strays(self._tables.newest(table))
            ]

    def leftovers(self) -> dict[str, int]:
        """Count what is on the disk beside the tables: older files, staged ones, tombstones."""
        tables = self._tables
        older = 0
        for table in (tables.responses, tables.labels):
            referred = {table / file.path for file in tables.newest(table).files}
            there = table.rglob("*.parquet")
            kept = {p for p in there if not p.relative_to(table).parts[0].startswith("_")}
            older += len(kept - referred)
        staged = sum(1 for _ in (tables.responses / "_staging").glob("*/*.parquet"))
        counts = {"files of older versions": older, "staged files": staged}
        return counts | {"tombstones": tombstones.count(self.path)}

    def copies(self) -> list[dict[str, str]]:
        """List the exports, reports and copies that were made: at, what, path; oldest first."""
        return tombstones.copies(self.path)

    def note_copy(self, what: str, path: str | Path) -> None:
        """Note that something was written outside the store, so that an erasure can name it."""
        with tidying():
            tombstones.note_copy(self.path, what, Path(path).absolute())

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

        See Also
        --------
        read : One table as a frame.

        Examples
        --------
        >>> import tempfile
        >>> from verifyanalytics import Store
        >>> folder = tempfile.mkdtemp()
        >>> done = Store(folder + "/store", create=True).export(folder + "/copy", "csv")
        >>> done["rows"].sum(), sorted(done["table"])[0]
        (np.int64(0), 'image_quality')
        """
        import pandas as pd

        views = self._tables.views(as_of)
        if Path(folder).resolve().is_relative_to(self.path.resolve()):
            raise UsageError(f"{folder} lies within the store, where maintenance would remove it")
        paths = export_paths(Path(folder), format, overwrite=overwrite)
        done = []
        with storage_errors(self.path, f"exporting to {folder}"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            for table, path in paths.items():
                n_rows = export_table(self._tables.engine.cursor(), views, table, path)
                done.append((table, str(path), n_rows))
        self.note_copy("export", folder)
        return pd.DataFrame(done, columns=["table", "path", "rows"])


def _store_path(given: str | Path) -> Path:
    """Give the absolute path of a store; refuse a path that the formats beneath cannot name."""
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
