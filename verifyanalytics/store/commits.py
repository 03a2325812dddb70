"""One try to commit a batch: judge, write what must be written again, put in place, commit.

A vacuum lists the files nobody refers to, takes the lane and only then deletes those it listed. A
try puts its files in place after it has read the version it judges by, under names of its own; so
a file of ours that is on such a list belongs to a try whose commit cannot go in any more, and the
next try links it from the staging folder again.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable, Field
from deltalake.exceptions import DeltaError

from verifyanalytics.errors import StorageError, UsageError
from verifyanalytics.store.context import beyond_limit, context_of, fold_file
from verifyanalytics.store.dedupe import Judge, Part, PartCount, Progress, Stretch, stretches
from verifyanalytics.store.files import (
    DataFile,
    StagedFile,
    place,
    storage_errors,
    sync,
    table_schema,
    verify,
    write_table,
    writer,
)
from verifyanalytics.store.log import (
    LABEL_LANE,
    LaneTakenError,
    Version,
    commit,
    read_stamps,
    secure,
)
from verifyanalytics.store.tables import TRIES, Tables
from verifyanalytics.store.views import Views, literal, plain

_logger = logging.getLogger(__name__)


class Ledger:
    """How far each source is in the store: its ledger rows and its stamps, read once a version.

    Parameters
    ----------
    tables : Tables
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._number = -1
        self._found: dict[str, Progress] = {}

    def at(self, version: Version) -> dict[str, Progress]:
        """Give the progress by source hash."""
        number = version.number
        if number != self._number:
            with storage_errors(self._tables.path, "reading the ledger"):
                self._found = self._read(version)
            self._number = number
        return self._found

    def _read(self, version: Version) -> dict[str, Progress]:
        tables = self._tables
        views = Views(tables.responses, version.files, tables.labels, (), ())
        names = ["bytes", "n_read", "n_added", "n_known", "n_rejected"]
        sums = ", ".join(f"sum({name})::BIGINT" for name in names)
        query = f"SELECT sha256, {sums} FROM ({views.query('imports')}) GROUP BY sha256"
        stamps = read_stamps(tables.responses, version.number)
        found = {}
        for sha256, n_bytes, *counts in tables.engine.cursor().sql(query).fetchall():
            part = stamps.get(f"part:{sha256}", 0)
            rows = stamps.get(f"file:{sha256}", 0)
            found[sha256] = Progress(rows, part or n_bytes, not part, *counts)
        return found


def append(
    tables: Tables,
    ledger: Ledger,
    batch: str,
    staged: Sequence[StagedFile],
    parts: Sequence[Part],
    stamps: Mapping[str, int],
) -> list[PartCount]:
    """Judge and commit a batch until the lane is ours; what `Store.append` does."""
    staged, context = _fitted(tables, batch, staged)
    hashes = {part.sha256 for part in parts}
    for number in range(TRIES):
        version = _with_columns(tables, context)
        done = {sha: p for sha, p in ledger.at(version).items() if sha in hashes}
        attempt = Attempt(tables, batch, number, version, stretches(parts, done), done, stamps)
        try:
            return attempt.run(staged)
        except LaneTakenError:
            _logger.info("batch %s: another commit came first, judging again", batch)
        except (OSError, StorageError):
            if not (attempt.has_lost_files() and tables.moved(version, tables.responses)):
                raise
            _logger.info("batch %s: a vacuum came between, judging again", batch)
        finally:
            attempt.tidy()
    message = f"batch {batch}: {TRIES} other commits came first; run the import again"
    raise StorageError(message, path=tables.path)


def _fitted(
    tables: Tables, batch: str, staged: Sequence[StagedFile]
) -> tuple[list[StagedFile], set[str]]:
    """Verify the staged files and hold their context to the columns a store may have."""
    named = [context_of(verify(file).names) for file in staged]
    wanted = {name for names in named for name in names}
    surplus = beyond_limit(tables.newest(tables.responses).context, wanted)
    fitted = []
    for number, (file, names) in enumerate(zip(staged, named, strict=True)):
        folded = [name for name in names if name in surplus]
        path = tables.staging.claim(batch) / f"{batch}-folded-{number}.parquet"
        fitted.append(fold_file(file, folded, path) if folded else file)
    return fitted, wanted - set(surplus)


def without(staged: StagedFile, rows: np.ndarray[Any, Any], path: Path) -> StagedFile | None:
    """Write a staged file again without some rows, in bounded memory; None when none is left."""
    n_left = staged.n_rows - len(rows)
    if n_left == 0:
        return None
    keep = np.ones(staged.n_rows, dtype=bool)
    keep[rows] = False
    start = 0
    with pq.ParquetFile(staged.path) as source, writer(path, source.schema_arrow) as out:
        for group in range(source.num_row_groups):
            table = source.read_row_group(group)
            mask = pa.array(keep[start : start + table.num_rows])
            start += table.num_rows
            out.write_table(table.filter(mask))
    sync(path)
    return StagedFile(path, staged.kind, staged.month, n_left)


def conflict_rejects(conflicts: pa.Table, batch: str, at: Any) -> pa.Table:
    """Make rejects of rows that contradict a stored one: `reason` is `conflict`."""
    schema = table_schema("reject")
    constant = {"batch": batch, "reason": "conflict", "rejected_at": at}
    columns = [
        conflicts[f.name].combine_chunks().cast(f.type)
        if f.name in conflicts.column_names
        else pa.repeat(pa.scalar(constant.get(f.name), f.type), conflicts.num_rows)
        for f in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _with_columns(tables: Tables, context: set[str]) -> Version:
    """Give the newest version once the table has the context columns; adds what it lacks."""
    for _ in range(TRIES):
        version = tables.newest(tables.responses)
        missing = sorted(context - set(version.context))
        if not missing:
            return version
        try:
            handle = DeltaTable(tables.responses, version=version.number)
            handle.alter.add_columns([Field(name, "string") for name in missing])
            secure(tables.responses, version.number + 1)
        except DeltaError:
            if not tables.moved(version, tables.responses):
                raise
    raise StorageError("no turn to add columns; run the import again", path=tables.path)


class Attempt:
    """One try to commit a batch on one version.

    Parameters
    ----------
    tables : Tables
    batch : str
    number : int
        Which try it is; part of the file names, which are used once.
    version : Version
    lined : sequence of Stretch
        The parts behind what is done.
    done : mapping of str to Progress
        What is in of the batch's sources.
    stamps : mapping of str to int
        Application transactions to add to our own.
    """

    def __init__(
        self,
        tables: Tables,
        batch: str,
        number: int,
        version: Version,
        lined: Sequence[Stretch],
        done: Mapping[str, Progress],
        stamps: Mapping[str, int],
    ) -> None:
        self._tables, self._table, self._engine = tables, tables.responses, tables.engine
        self._folder = tables.staging.claim(batch)
        self._batch, self._name = batch, f"{batch}-{number}"
        self._version, self._lined, self._done = version, lined, done
        self._stamps = dict(stamps)
        self._at = datetime.now(UTC)
        self._written: list[Path] = []
        self._placed: list[Path] = []

    def run(self, staged: Sequence[StagedFile]) -> list[PartCount]:
        """Judge, write what must be written again, put all in place, commit."""
        judge = Judge(self._engine.cursor(), self._table, staged, self._lined)
        judgement = judge.judge(self._version.files)
        counts = [
            self._stored(s.part) if s.dropped else count
            for s, count in zip(self._lined, judgement.counts, strict=True)
        ]
        kept = self._kept(staged, judgement.drops)
        if judgement.conflicts.num_rows:
            rejects = conflict_rejects(judgement.conflicts, self._batch, self._at)
            kept.append(self._write("reject", rejects))
        fresh = [count for s, count in zip(self._lined, counts, strict=True) if not s.dropped]
        if fresh or self._stamps:
            kept += [self._write("import", self._ledger_rows(fresh))] if fresh else []
            self._commit(kept, fresh)
        return counts

    def has_lost_files(self) -> bool:
        """Say whether a file was put in place and is gone: a vacuum took the lane before us."""
        return any(not path.exists() for path in self._placed)

    def tidy(self) -> None:
        """Remove what this try wrote and what it put in place without a commit.

        A signal may unwind us between the commit and the line that says so: what the newest
        version refers to stays, whatever we believe. If that cannot be read, files stay as strays.
        """
        for path in self._written:
            path.unlink(missing_ok=True)
        if self._placed:
            with contextlib.suppress(StorageError):
                newest = self._tables.newest(self._table)
                referred = {self._table / file.path for file in newest.files}
                for path in self._placed:
                    if path not in referred:
                        path.unlink(missing_ok=True)

    def _kept(self, staged: Sequence[StagedFile], drops: Mapping[int, Any]) -> list[StagedFile]:
        """Give the staged files as they go in: as they are, or written again without rows."""
        kept: list[StagedFile] = []
        for number, file in enumerate(staged):
            if number not in drops:
                kept.append(file)
                continue
            path = self._folder / f"{self._name}-kept-{number}.parquet"
            self._written.append(path)
            left = without(file, drops[number], path)
            kept += [left] if left else []
        return kept

    def _write(self, kind: str, rows: pa.Table) -> StagedFile:
        path = self._folder / f"{self._name}-{kind}.parquet"
        self._written.append(path)
        write_table(path, rows)
        return StagedFile(path, kind, f"{self._at:%Y-%m}", rows.num_rows)

    def _commit(self, kept: Sequence[StagedFile], fresh: Sequence[PartCount]) -> None:
        adds: list[DataFile] = []
        for number, file in enumerate(kept):
            name = f"{self._name}-{number:04}"
            self._placed.append(self._table / f"kind={file.kind}/month={file.month}/{name}.parquet")
            adds.append(place(file, self._table, name))
        for file, path in zip(kept, self._placed, strict=True):
            verify(StagedFile(path, file.kind, file.month, file.n_rows))
        for stretch in (stretch for stretch in self._lined if not stretch.dropped):
            part = stretch.part
            self._stamps[f"file:{part.sha256}"] = part.rows_done
            if not part.complete or f"part:{part.sha256}" in self._stamps or stretch.after:
                self._stamps[f"part:{part.sha256}"] = 0 if part.complete else part.bytes_done
        note = {
            "verb": "import",
            "batch": self._batch,
            "n_added": sum(count.n_added for count in fresh),
        }
        commit(self._table, self._version, adds=adds, stamps=self._stamps, note=note)
        self._placed.clear()

    def _stored(self, part: Part) -> PartCount:
        """Give the counts of a part that is in already: those of its source."""
        p = self._done.get(part.sha256)
        if p is None:  # a copy of a source that comes earlier in this batch
            return PartCount(part.source, part.sha256, part.n_bytes, 0, 0, 0, 0, True)
        counts = (p.n_read, p.n_added, p.n_known, p.n_rejected)
        return PartCount(part.source, part.sha256, part.n_bytes, *counts, already_imported=True)

    def _ledger_rows(self, fresh: Sequence[PartCount]) -> pa.Table:
        rows = [
            {
                "batch": self._batch,
                "source": count.source,
                "sha256": count.sha256,
                "bytes": count.n_bytes,
                "n_read": count.n_read,
                "n_added": count.n_added,
                "n_known": count.n_known,
                "n_rejected": count.n_rejected,
                "n_erased": 0,
                "code_version": _code_version(),
                "committed_at": self._at,
            }
            for count in fresh
        ]
        return pa.Table.from_pylist(rows, schema=table_schema("import"))


def _code_version() -> str:
    try:
        return installed_version("verifyanalytics")
    except PackageNotFoundError:
        return "unknown"  # run from a source tree that is not installed


# -------------------------------------------------------------------------------- labels


def label_rows(frame: Any) -> pa.Table:
    """Bring labels into the table's columns; a column that is not given is null.

    Parameters
    ----------
    frame : pandas.DataFrame or pyarrow.Table
        Columns of `schema.LABELS`, keyed by `request_id` or by `token` (hashed already).

    Raises
    ------
    UsageError
        A column that labels do not have, a value of the wrong type, a row without a key or with
        two, a probability outside (0, 1].
    """
    given = (
        frame if isinstance(frame, pa.Table) else pa.Table.from_pandas(frame, preserve_index=False)
    )
    schema = table_schema("label")
    unknown = sorted(set(given.column_names) - set(schema.names))
    if unknown:
        known = ", ".join(schema.names)
        raise UsageError(f"labels have no column {', '.join(unknown)}; they have: {known}")
    columns = []
    for field in schema:
        try:
            columns.append(
                given.column(field.name).cast(field.type)
                if field.name in given.column_names
                else pa.nulls(given.num_rows, field.type)
            )
        except pa.ArrowException as error:
            reason = str(error).splitlines()[0]
            raise UsageError(f"labels: column {field.name}: {reason}") from error
    rows = pa.Table.from_arrays(columns, schema=schema)
    _require_keys(rows)
    return rows


def _require_keys(rows: pa.Table) -> None:
    """Refuse labels without a key or with two, and probabilities that are none."""
    keyed = pc.xor(pc.is_valid(rows["request_id"]), pc.is_valid(rows["token"]))
    n_wrong = rows.num_rows - int(pc.sum(keyed).as_py() or 0)
    if n_wrong:
        raise UsageError(f"{n_wrong} labels have no key or two; give request_id or token")
    prob = rows["inclusion_prob"]
    fits = pc.and_(pc.greater(prob, 0.0), pc.less_equal(prob, 1.0))
    if pc.any(pc.invert(fits)).as_py():
        raise UsageError("labels: inclusion_prob lies outside (0, 1]")


def add_labels(tables: Tables, rows: pa.Table, batch: str) -> int:
    """Commit the labels that are not stored yet; what `Store.add_labels` does."""
    folder = tables.staging.claim(batch)
    whole = folder / "labels.parquet"
    write_table(whole, rows)
    for attempt in range(TRIES):
        version = tables.newest(tables.labels)
        new = _new_labels(tables, version, whole).cast(rows.schema)
        if not new.num_rows:
            return 0
        path = tables.labels / f"{batch}-{attempt}.parquet"
        write_table(path, new)
        sync(tables.labels)
        placed = DataFile(path.name, path.stat().st_size, new.num_rows, "label", "unknown")
        note = {"verb": "labels", "batch": batch, "n_added": new.num_rows}
        note["responses_lane"] = tables.newest(tables.responses).lane
        try:
            commit(tables.labels, version, lane_name=LABEL_LANE, adds=[placed], note=note)
        except (LaneTakenError, DeltaError, OSError):
            path.unlink(missing_ok=True)
            if not tables.moved(version, tables.labels):
                raise
        else:
            return int(new.num_rows)
    raise StorageError("no turn to add labels; run it again", path=tables.path)


def _new_labels(tables: Tables, version: Version, staged: Path) -> pa.Table:
    """Give the staged labels that are not stored in every column."""
    stored = Views(tables.responses, (), tables.labels, version.files, ()).query("labels")
    query = f"SELECT * FROM read_parquet({literal(str(staged))}) EXCEPT {stored}"
    return plain(tables.engine.cursor().sql(query).to_arrow_table())
