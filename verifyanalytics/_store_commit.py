"""One try to commit a batch: judge, write what must be written again, put in place, commit.

A vacuum lists the files nobody refers to, takes the lane and only then deletes those it listed. A
try puts its files in place after it has read the version it judges by, under names of its own; so
a file of ours that is on such a list belongs to a try whose commit cannot go in any more, and the
next try links it from the staging folder again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pyarrow as pa

from verifyanalytics._store_files import (
    DataFile,
    StagedFile,
    place,
    table_schema,
    verify,
    write_table,
)
from verifyanalytics._store_judgement import (
    Judge,
    Part,
    PartCount,
    Progress,
    Stretch,
    conflict_rejects,
    without,
)
from verifyanalytics._store_log import LANE, Version, commit
from verifyanalytics._store_views import Engine


class Attempt:
    """One try to commit a batch on one version.

    Parameters
    ----------
    table, folder : Path
        The Delta table, and the batch's staging folder.
    engine : Engine
    batch : str
    number : int
        Which try it is; part of the file names, which are used once.
    version : Version
    lined : sequence of Stretch
        The parts behind what is done.
    ledger : mapping of str to Progress
    stamps : dict of str to int
        Application transactions to add to our own.
    """

    def __init__(
        self,
        *,
        table: Path,
        folder: Path,
        engine: Engine,
        batch: str,
        number: int,
        version: Version,
        lined: Sequence[Stretch],
        ledger: Mapping[str, Progress],
        stamps: dict[str, int],
    ) -> None:
        self._table, self._folder, self._engine = table, folder, engine
        self._batch, self._name = batch, f"{batch}-{number}"
        self._version, self._lined, self._ledger = version, lined, ledger
        self._stamps = stamps
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

    def tidy(self) -> None:
        """Remove what this try wrote and what it put in place without a commit."""
        for path in (*self._written, *self._placed):
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
        commit(
            self._table, self._version, lane_name=LANE, adds=adds, stamps=self._stamps, note=note
        )
        self._placed.clear()

    def _stored(self, part: Part) -> PartCount:
        """Give the counts of a part that is in already: those of its source."""
        p = self._ledger.get(part.sha256)
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
        return version("verifyanalytics")
    except PackageNotFoundError:
        return "unknown"  # run from a source tree that is not installed
