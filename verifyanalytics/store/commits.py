"""Commits: one retry for all of them, and the two that bring rows, `append` and `add_labels`.

A commit is decided on one version and goes in only on that version (compare and set). When another
commit comes first, the same work is done again on the new version.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable, Field
from deltalake.exceptions import DeltaError
from msgspec.structs import replace

from verifyanalytics.errors import StorageError, UsageError
from verifyanalytics.store.dedupe import (
    Deduplicator,
    ImportedRange,
    PendingRange,
    RangeCount,
    SourceProgress,
    pending_ranges,
)
from verifyanalytics.store.disk import sync, tidying
from verifyanalytics.store.files import (
    ROW_GROUP_ROWS,
    DataFile,
    StagedFile,
    conform,
    context_of,
    place,
    table_paths,
    table_schema,
    verify,
    writer,
)
from verifyanalytics.store.staging import beyond_limit, fold_file
from verifyanalytics.store.tables import (
    LostRaceError,
    Tables,
    UnconfirmedError,
    Version,
    commit,
    read_stamps,
    secure,
)
from verifyanalytics.store.views import Views, literal, plain

TRIES = 50  # how often a commit is tried; each time it fails, another commit went in
T = TypeVar("T")
_logger = logging.getLogger(__name__)


class CommitTry:
    """One try to commit on `version`, the newest of a table; `at` is when it began, UTC."""

    def __init__(self, tables: Tables, table: Path, batch: str, number: int) -> None:
        self.tables, self.table, self._batch = tables, table, batch
        self.version = tables.newest(table)
        self.at = datetime.now(UTC)
        self._name = f"{batch}-{number}"  # begins the names of the files: each is used once
        self._drafts: list[Path] = []
        self._placed: list[Path] = []

    def draft(self) -> Path:
        """Name a new file in the staging folder; it goes with the try."""
        folder = self.tables.staging.claim(self._batch)
        self._drafts.append(folder / f"{self._name}-draft-{len(self._drafts)}.parquet")
        return self._drafts[-1]

    def write(self, kind: str, rows: pa.Table) -> StagedFile:
        """Write rows as a staged file and flush it to the disk."""
        path = self.draft()
        with writer(path, rows.schema) as out:
            out.write_table(rows, row_group_size=ROW_GROUP_ROWS)
        sync(path)
        month = "unknown" if kind == "label" else f"{self.at:%Y-%m}"
        return StagedFile(str(path), kind, month, rows.num_rows)

    # A vacuum lists the files that no version refers to, commits, and only then deletes what it
    # listed. A try puts its files in place after it has read its version, under names of its own.
    # So a file of ours on such a list belongs to a try that cannot commit any more.
    def place(self, files: Sequence[StagedFile]) -> list[DataFile]:
        """Link staged files to their places in the table."""
        relative = table_paths(files, self._name)
        self._placed = [self.table / path for path in relative]
        return place(files, self.table, relative)

    def commit(self, **options: Any) -> None:
        """Commit on the version of this try; options are those of `tables.commit`."""
        commit(self.table, self.version, **options)
        self._placed.clear()

    def tidy(self) -> None:
        """Remove drafts, and files that were put in place without a commit."""
        with tidying():
            for path in self._drafts:
                path.unlink(missing_ok=True)
        if self._placed:
            # A signal may arrive after the commit and before `commit` returns, so what the newest
            # version refers to stays; if that cannot be read, the files stay as strays.
            with tidying(), contextlib.suppress(StorageError):
                referred = {self.table / f.path for f in self.tables.newest(self.table).files}
                for path in set(self._placed) - referred:
                    path.unlink(missing_ok=True)


def with_retry(
    tables: Tables, table: Path, batch: str, work: Callable[[CommitTry], T], *, doing: str
) -> T:
    """Do work that commits once or never, again while other commits come first, at most `TRIES`."""
    for number in range(TRIES):
        attempt = CommitTry(tables, table, batch, number)
        try:
            return work(attempt)
        except UnconfirmedError:
            raise
        except LostRaceError:
            _logger.info("%s: another commit came first, trying again", doing)
        except (DeltaError, duckdb.IOException, OSError, StorageError):
            # a vacuum or a compaction may have taken files that this version still had
            if tables.newest(table).number == attempt.version.number:
                raise
            _logger.info("%s: failed while another commit came, trying again", doing)
        finally:
            attempt.tidy()
    raise StorageError(f"{doing}: {TRIES} other commits came first; run it again", path=tables.path)


# -------------------------------------------------------------------------------- append


class Ledger:
    """How far each source is in the store, by its ledger rows and stamps, read once a version."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._number = -1
        self._found: dict[str, SourceProgress] = {}

    def at(self, version: Version) -> dict[str, SourceProgress]:
        """Give the progress by source hash."""
        if version.number == self._number:
            return self._found
        tables = self._tables
        views = Views(tables.responses, version.files, tables.labels, (), ())
        names = ["bytes", "n_read", "n_added", "n_known", "n_rejected"]
        sums = ", ".join(f"sum({name})::BIGINT" for name in names)
        query = f"SELECT sha256, {sums} FROM ({views.query('imports')}) GROUP BY sha256"
        found = {}
        with tables.errors("reading the ledger"):
            stamps = read_stamps(tables.responses, version.number)
            for sha256, n_bytes, *counts in tables.engine.cursor().sql(query).fetchall():
                if stamps.get(f"file:{sha256}", 0) < 0:
                    continue  # a repair gave it up: it counts as never imported
                part = stamps.get(f"part:{sha256}", 0)
                rows = stamps.get(f"file:{sha256}", 0)
                found[sha256] = SourceProgress(rows, part or n_bytes, not part, *counts)
        self._found, self._number = found, version.number
        return found


def append(
    tables: Tables,
    ledger: Ledger,
    batch: str,
    staged: Sequence[StagedFile],
    ranges: Sequence[ImportedRange],
    stamps: Mapping[str, int],
) -> list[RangeCount]:
    """Commit what is new of a batch; what `Store.append` does."""
    context = [context_of(verify(Path(file.path), file).names) for file in staged]

    def work(attempt: CommitTry) -> list[RangeCount]:
        files = _with_few_columns(attempt, staged, context)
        hashes = {r.sha256 for r in ranges}
        done = {sha: p for sha, p in ledger.at(attempt.version).items() if sha in hashes}
        pending = pending_ranges(ranges, done)
        found = Deduplicator(
            tables.engine.cursor(), tables.responses, files, pending, tables.tombstones()
        ).run(attempt.version.files)
        kept = [
            file if number not in found.drops else without(file, found.drops[number], attempt)
            for number, file in enumerate(files)
        ]
        brought = [file for file in kept if file.n_rows]
        if found.conflicts.num_rows:
            why = {"batch": batch, "reason": "conflict", "rejected_at": attempt.at}
            rejects = conform(found.conflicts, table_schema("reject"), why)
            brought.append(attempt.write("reject", rejects))
        counts = [
            _stored_count(p.range, done.get(p.range.sha256)) if p.dropped else count
            for p, count in zip(pending, found.counts, strict=True)
        ]
        fresh = [c for p, c in zip(pending, counts, strict=True) if not p.dropped]
        if fresh:
            brought.append(attempt.write("import", _ledger_rows(fresh, batch, attempt.at)))
        if fresh or stamps:
            adds = attempt.place(brought)
            n_added = sum(count.n_added for count in fresh)
            note = {"verb": "import", "batch": batch, "n_added": n_added}
            attempt.commit(adds=adds, stamps=_stamps(stamps, pending), note=note)
        return counts

    return with_retry(tables, tables.responses, batch, work, doing=f"batch {batch}")


def _with_few_columns(
    attempt: CommitTry, staged: Sequence[StagedFile], context: Sequence[Sequence[str]]
) -> list[StagedFile]:
    """Add the context columns that the table lacks; fold those for which it has no room."""
    wanted = {name for names in context for name in names}
    surplus = set(beyond_limit(attempt.version.context, wanted))
    missing = sorted(wanted - surplus - set(attempt.version.context))
    if missing:
        handle = DeltaTable(attempt.table, version=attempt.version.number)
        handle.alter.add_columns([Field(name, "string") for name in missing])
        secure(attempt.table, attempt.version.number + 1)
        attempt.version = attempt.tables.newest(attempt.table)
    folded = [[name for name in names if name in surplus] for names in context]
    return [
        fold_file(file, names, attempt.draft()) if names else file
        for file, names in zip(staged, folded, strict=True)
    ]


def without(staged: StagedFile, rows: np.ndarray[Any, Any], attempt: CommitTry) -> StagedFile:
    """Write a staged file again without some rows, a row group at a time; not when none is left."""
    left = replace(staged, n_rows=staged.n_rows - len(rows))
    if not left.n_rows:
        return left
    path = attempt.draft()
    keep = np.ones(staged.n_rows, dtype=bool)
    keep[rows] = False
    start = 0
    opened = pq.ParquetFile(staged.path, page_checksum_verification=True)
    with opened as source, writer(path, source.schema_arrow) as out:
        for group in range(source.num_row_groups):
            table = source.read_row_group(group)
            mask = pa.array(keep[start : start + table.num_rows])
            start += table.num_rows
            out.write_table(table.filter(mask))
    sync(path)
    return replace(left, path=str(path))


def _stored_count(r: ImportedRange, done: SourceProgress | None) -> RangeCount:
    """Give the counts of a range that is in already: those of its source."""
    # without progress it is a copy of a source that comes earlier in this batch
    counts = (done.n_read, done.n_added, done.n_known, done.n_rejected) if done else (0, 0, 0, 0)
    return RangeCount(r.source, r.sha256, r.n_bytes, *counts, already_imported=True)


def _stamps(given: Mapping[str, int], pending: Sequence[PendingRange]) -> dict[str, int]:
    """Stamp how many rows of each source are done; and how many bytes while it is not complete."""
    stamps = dict(given)
    for p in (p for p in pending if not p.dropped):
        r = p.range
        stamps[f"file:{r.sha256}"] = r.rows_done
        if not r.complete or f"part:{r.sha256}" in stamps or p.after:
            stamps[f"part:{r.sha256}"] = 0 if r.complete else r.bytes_done
    return stamps


def _ledger_rows(counts: Sequence[RangeCount], batch: str, at: datetime) -> pa.Table:
    try:
        code_version = installed_version("verifyanalytics")
    except PackageNotFoundError:
        code_version = "unknown"  # run from a source tree that is not installed
    names = ("source", "sha256", "n_read", "n_added", "n_known", "n_rejected")
    rows = [
        {name: getattr(count, name) for name in names}
        | {"batch": batch, "bytes": count.n_bytes, "n_erased": 0}
        | {"code_version": code_version, "committed_at": at}
        for count in counts
    ]
    return pa.Table.from_pylist(rows, schema=table_schema("import"))


# -------------------------------------------------------------------------------- labels


def label_rows(frame: Any) -> pa.Table:
    """Bring a frame of labels into the table's columns; refuses what `Store.add_labels` refuses."""
    given = frame
    if not isinstance(frame, pa.Table):
        given = pa.Table.from_pandas(frame, preserve_index=False)
    schema = table_schema("label")
    unknown = sorted(set(given.column_names) - set(schema.names))
    if unknown:
        known = ", ".join(schema.names)
        raise UsageError(f"labels have no column {', '.join(unknown)}; they have: {known}")
    try:
        rows = conform(given, schema, {})
    except pa.ArrowException as error:
        raise UsageError(f"labels: {error}") from error
    keyed = pc.xor(pc.is_valid(rows["request_id"]), pc.is_valid(rows["token"]))
    n_wrong = rows.num_rows - int(pc.sum(keyed).as_py() or 0)
    if n_wrong:
        raise UsageError(f"{n_wrong} labels have no key or two; give request_id or token")
    prob = rows["inclusion_prob"]
    fits = pc.and_(pc.greater(prob, 0.0), pc.less_equal(prob, 1.0))
    if pc.any(pc.invert(fits)).as_py():
        raise UsageError("labels: inclusion_prob lies outside (0, 1]")
    return rows


def _not_erased(tables: Tables, rows: pa.Table) -> pa.Table:
    """Leave out labels of answers that were erased."""
    found = tables.tombstones()
    if not found:
        return rows
    cursor = tables.engine.cursor()
    found.load(cursor)
    cursor.register("given", rows)
    query = f"SELECT * FROM given r WHERE NOT {found.of_labels(cursor)}"
    return plain(cursor.sql(query).to_arrow_table()).cast(rows.schema)


def add_labels(tables: Tables, rows: pa.Table, batch: str) -> int:
    """Commit the labels that are not stored yet; what `Store.add_labels` does."""

    def work(attempt: CommitTry) -> int:
        given = attempt.write("label", _not_erased(tables, rows))
        stored = Views(tables.responses, (), tables.labels, attempt.version.files, ())
        query = f"SELECT * FROM read_parquet({literal(given.path)}) EXCEPT {stored.query('labels')}"
        new = plain(tables.engine.cursor().sql(query).to_arrow_table()).cast(rows.schema)
        if new.num_rows:
            note = {"verb": "labels", "batch": batch, "n_added": new.num_rows}
            note["responses_lane"] = tables.newest(tables.responses).sequence
            attempt.commit(adds=attempt.place([attempt.write("label", new)]), note=note)
        return int(new.num_rows)

    return with_retry(tables, tables.labels, batch, work, doing="adding labels")
