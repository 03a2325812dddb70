"""The store: one folder with Delta tables that grow by whole commits and never lose a row.

An import stages Parquet files and calls `append`: the rows that are new go in with one transaction,
with their ledger, or none does. A version is the number of its commit.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from verifyanalytics.errors import NoStoreError
from verifyanalytics.store.commits import Ledger, add_labels, append, label_rows
from verifyanalytics.store.dedupe import ImportedRange, RangeCount, SourceProgress
from verifyanalytics.store.disk import storage_errors, tidying
from verifyanalytics.store.erasing import Matches, Selection, begin, erase, matches
from verifyanalytics.store.files import StagedFile, key_path, print_key
from verifyanalytics.store.head import repair
from verifyanalytics.store.maintenance import (
    bundles,
    expired,
    merge,
    repair_files,
    replace_rows,
    retention_hours,
)
from verifyanalytics.store.reading import StoreReader
from verifyanalytics.store.tombstones import end, pending, retention, set_retention

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = ["ImportedRange", "RangeCount", "SourceProgress", "StagedFile", "Store"]

_logger = logging.getLogger(__name__)


class Store(StoreReader):
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

    See Also
    --------
    import_responses : Fills a store from stored responses.
    collect : Fills it with calls to the vendor.

    Examples
    --------
    >>> import tempfile
    >>> store = Store(tempfile.mkdtemp() + "/store", create=True)
    >>> len(store.read("verifications"))
    0
    """

    def __init__(self, path: str | Path | None = None, *, create: bool = False) -> None:
        super().__init__(path)
        self._ledger = Ledger(self._tables)
        if create:
            self.create()

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
        """The store's 32 secret bytes, for keyed hashes of tokens, subjects and images.

        They are in `<store>.key` beside the store, never in it. A store that is not there is made.

        Raises
        ------
        StorageError
            The key file is missing, readable by others, or belongs to another store.
        """
        self.create()
        return self._tables.key()

    @property
    def print_key(self) -> bytes:
        """The 32 secret bytes that image prints are made with, in `<store>.key.prints`.

        They are made when prints are first asked for. Once the file is deleted, nobody can tell
        whether a picture is among the prints; later prints are made with new bytes.

        Raises
        ------
        StorageError
            The file is readable by others, or no key.
        """
        self.create()
        with storage_errors(self.path, "making the key of image prints"):
            return print_key(key_path(self.path))

    def close(self) -> None:
        """Give up staging folders and the engine; the store can be used again afterwards."""
        with self._tables.lock:
            self._tables.staging.release_all()
            self._tables.engine.close()

    # ---------------------------------------------------------------------------- importing

    def new_batch(self) -> str:
        """Name a batch: unique, and sortable by the time it began."""
        self.create()
        return f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(5)}"

    def staging(self, batch: str) -> Path:
        """Give the folder in which a batch's files are staged; this process owns it.

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

    def done(self, sha256: str) -> SourceProgress | None:
        """Give how far a source is in the store, by the SHA-256 of its bytes; None when it is not.

        The first call at a version reads the ledger and the stamps; further ones cost nothing.
        """
        if not self._tables.exist():
            return None
        with self._tables.lock:
            return self._ledger.at(self._tables.newest(self._tables.responses)).get(sha256)

    def append(
        self,
        batch: str,
        staged: Sequence[StagedFile],
        ranges: Sequence[ImportedRange],
        *,
        stamps: Mapping[str, int] | None = None,
    ) -> list[RangeCount]:
        """Commit what is new of a batch, with its ledger, in one transaction.

        Rows whose `request_id` is stored with the same content are known, with other content they
        become rejects (`conflict`); within the batch the first by range and row stays. Of the
        answers to one token the first of CertVerify and CertVerifyQuery stays. Ranges that another
        import finished meanwhile are dropped and reported with the stored counts.

        Parameters
        ----------
        batch : str
            From `new_batch`.
        staged : sequence of StagedFile
            Files of verifications and rejects; they are taken and gone afterwards, also when the
            commit fails.
        ranges : sequence of ImportedRange
            What was read, in the order in which ties are settled; every staged row belongs to one.
        stamps : mapping of str to int, optional
            More application transactions for the same commit, such as `journal:<uuid>`.

        Returns
        -------
        list of RangeCount
            One a range, in the order of `ranges`.

        Raises
        ------
        StorageError
            The disk, a staged file that is gone or not what was announced, or too many other
            commits came first. What was committed stays as it was.

        See Also
        --------
        import_responses : Reads, stages and appends whole sources.

        Examples
        --------
        >>> import tempfile
        >>> store = Store(tempfile.mkdtemp() + "/store", create=True)
        >>> empty = ImportedRange("a.ndjson", "0" * 64, 1, 0, 0, True, 0, 0, 0)
        >>> (count,) = store.append(store.new_batch(), [], [empty])
        >>> count.n_added, store.done("0" * 64).complete
        (0, True)
        """
        self.create()
        with self._tables.lock:
            try:
                with self._tables.errors(f"committing batch {batch}"):
                    return append(self._tables, self._ledger, batch, staged, ranges, stamps or {})
            finally:
                with tidying():
                    for file in staged:
                        Path(file.path).unlink(missing_ok=True)
                self._tables.staging.release(batch)

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

        See Also
        --------
        import_labels : Reads them from a table of yours.

        Examples
        --------
        >>> import tempfile
        >>> import pandas as pd
        >>> store = Store(tempfile.mkdtemp() + "/store", create=True)
        >>> labels = pd.DataFrame({"request_id": ["a", "b"], "mated": [True, False]})
        >>> store.add_labels(labels), store.add_labels(labels)
        (2, 0)
        """
        rows = label_rows(labels)
        batch = self.new_batch()
        with self._tables.lock:
            try:
                with self._tables.errors("committing labels"):
                    self._tables.staging.clean()
                    return add_labels(self._tables, rows, batch)
            finally:
                self._tables.staging.release(batch, whole=True)

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

        See Also
        --------
        reflatten : Reads the answers of a journal again.
        """
        batch = self.new_batch()
        with self._tables.lock, self._tables.errors("replacing rows"):
            try:
                return replace_rows(self._tables, fresh, batch)
            finally:
                self.discard(batch)

    # ---------------------------------------------------------------------------- maintenance

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

        See Also
        --------
        vacuum : Deletes the files that were merged, once they are old.

        Examples
        --------
        >>> import tempfile
        >>> store = Store(tempfile.mkdtemp() + "/store", create=True)
        >>> for sha in ("0" * 64, "1" * 64):
        ...     empty = ImportedRange(sha[:1], sha, 1, 0, 0, True, 0, 0, 0)
        ...     _ = store.append(store.new_batch(), [], [empty])
        >>> store.compact()[["kind", "n_files", "n_rows"]]
             kind  n_files  n_rows
        0  import        2       2
        """
        import pandas as pd

        done: list[tuple[str, str, int, int]] = []
        with self._tables.errors("compacting"):
            self._tables.staging.clean()
            for bundle in bundles(self._tables.newest(self._tables.responses).files, over):
                batch = self.new_batch()
                try:
                    n_rows = merge(self._tables, bundle, batch)
                finally:
                    self.discard(batch)
                if n_rows:
                    done.append((bundle[0].kind, bundle[0].month, len(bundle), n_rows))
        return pd.DataFrame(done, columns=["kind", "month", "n_files", "n_rows"])

    def repair(self, *, dry_run: bool = False) -> list[str]:
        """Go back to the last whole version of a damaged log; take damaged data files out.

        What is damaged of a log is set aside beside its place. Rows that are lost are counted as
        erased: import the sources that are named again, and only the missing rows come back.
        Every data file is read.

        Parameters
        ----------
        dry_run : bool
            Only say what would be done.

        Returns
        -------
        list of str
            One sentence a thing that was damaged, with the sources to import again; empty when all
            is whole. A source `journal:…` is a journal: its raw answers are delivered again.

        Raises
        ------
        NoStoreError
        StorageError
            There is no whole version to go back to.

        See Also
        --------
        check : Finds damage of logs, files and sums.

        Examples
        --------
        >>> import tempfile
        >>> Store(tempfile.mkdtemp() + "/store", create=True).repair()
        []
        """
        with self._tables.lock, storage_errors(self.path, "repairing"):
            if not self.path.is_dir():
                raise NoStoreError(self.path)
            done = [
                text
                for table in (self._tables.responses, self._tables.labels)
                for text in repair(table, dry_run=dry_run)
            ]
            self._tables.forget()
            if dry_run and done:
                return done  # what the log names cannot be known yet
            batch = self.new_batch()
            try:
                done += repair_files(self._tables, batch, dry_run=dry_run)
            finally:
                self.discard(batch)
        return done

    def begin_erasure(self, selection: Selection) -> str:
        """Write the tombstones of what is to go, and give the erasure's name; no row goes yet.

        From now on no import brings in what was selected; `erase` does the rest.
        """
        name = self.new_batch()
        with self._tables.lock, storage_errors(self.path, "beginning an erasure"):
            self._tables.key()
            begin(self._tables, selection, name)
        return name

    def erasures(self) -> list[str]:
        """Name the erasures that were begun and have not ended, the oldest first."""
        return pending(self.path)

    def erasable(self, selected: str | Selection) -> Matches:
        """Count what an erasure still has to erase, or a selection would, and give the tokens."""
        with self._tables.errors("looking for what is to be erased"):
            return matches(self._tables, selected)

    def erased_tokens(self, name: str, tokens: Iterable[str]) -> list[str]:
        """Give those of some hashed tokens that an erasure names."""
        return self._tables.tombstones([name]).among("token", tokens)

    def erase(self, name: str) -> Matches:
        """Erase rows, rejects and labels, and every file of older versions; `end_erasure` follows.

        Raises
        ------
        StorageError
            The disk, or too many other commits came first; `erase` again goes on.
        """
        batch = self.new_batch()
        with self._tables.lock, self._tables.errors("erasing"):
            try:
                self._tables.staging.clean()
                return erase(self._tables, name, batch)
            finally:
                self.discard(batch)

    def retention(self) -> int | None:
        """Give the hours that this store keeps answers, by the rule of `retain`."""
        return retention(self.path)

    def set_retention(self, hours: int) -> None:
        """Keep the rule of `retain`."""
        with storage_errors(self.path, "keeping the rule"):
            set_retention(self.path, hours)

    def end_erasure(self, name: str) -> None:
        """Note that nothing is left to do of an erasure."""
        with storage_errors(self.path, "ending an erasure"):
            end(self.path, name)

    def vacuum(self, retention: str | timedelta = "7d", *, dry_run: bool = False) -> list[str]:
        """Delete files that no version of the last days refers to, and what dead imports left.

        Parameters
        ----------
        retention : str or timedelta
            How long removed files stay, such as `7d` or `12h`. Below 7 days `as_of` reaches back
            that much less.
        dry_run : bool
            Only list them.

        Returns
        -------
        list of str
            The files, relative to the store.

        Raises
        ------
        NoStoreError, UsageError, StorageError

        See Also
        --------
        compact : Merges small files.
        strays : Files that no commit ever referred to.

        Examples
        --------
        >>> import tempfile
        >>> Store(tempfile.mkdtemp() + "/store", create=True).vacuum("12h", dry_run=True)
        []
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
