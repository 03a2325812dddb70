"""Deduplication: which rows of a batch are new, which are known, which contradict a stored one.

`request_id` is unique over all months. The same id with the same `content` is the same answer, with
other content a conflict. Decisions hold for exactly the files of one version.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from verifyanalytics.errors import StorageError, UsageError
from verifyanalytics.store.files import DataFile, StagedFile
from verifyanalytics.store.tombstones import Tombstones
from verifyanalytics.store.views import literal
from verifyanalytics.vendor.api import UNSETTLED_CODES

_END = 2**62  # after every row of a source


# -------------------------------------------------------------------------------- ranges


@dataclass(frozen=True, slots=True)
class ImportedRange:
    """Rows of one source that a batch brings, as they were read."""

    source: str
    sha256: str  # of the whole source
    first_row: int  # 1-based
    rows_done: int  # of the source, after this range
    bytes_done: int
    complete: bool  # nothing of the source is left after it
    n_bytes: int
    n_read: int  # responses in the range
    n_rejected: int  # those of them that became rejects


@dataclass(frozen=True, slots=True)
class RangeCount:
    """What became of a range: `n_read = n_added + n_known + n_rejected`, over `n_bytes` bytes."""

    source: str
    sha256: str
    n_bytes: int
    n_read: int
    n_added: int
    n_known: int
    n_rejected: int
    already_imported: bool = False  # the source was done before; the counts are the stored ones
    n_erased: int = 0  # of the known: erased before, so they stay out


@dataclass(frozen=True, slots=True)
class SourceProgress:
    """How far a source is in the store, with the counts of what is in; `complete`: all of it is."""

    rows_done: int
    bytes_done: int
    complete: bool
    n_read: int
    n_added: int
    n_known: int
    n_rejected: int


@dataclass(slots=True)
class PendingRange:
    """A range in its place: which of its rows still count."""

    range: ImportedRange
    after: int  # the last row that is in already
    bytes_before: int  # the bytes up to it
    until: int = _END  # the first row of the next range
    dropped: bool = False  # it is in as a whole


def pending_ranges(
    ranges: Sequence[ImportedRange], done: Mapping[str, SourceProgress]
) -> list[PendingRange]:
    """Line the ranges up behind what is done; a gap, and two sources of one name, are refused."""
    pending: list[PendingRange] = []
    state = {sha256: (p.rows_done, p.bytes_done, p.complete) for sha256, p in done.items()}
    last: dict[str, PendingRange] = {}
    for r in ranges:
        before = last.get(r.source)
        if before is not None:
            if before.range.sha256 != r.sha256 or r.first_row <= before.range.rows_done:
                raise UsageError(f"two sources are named {r.source}; give them apart")
            before.until = r.first_row
        rows, n_bytes, complete = state.get(r.sha256, (0, 0, False))
        dropped = complete or (r.rows_done <= rows and not r.complete)
        if not dropped and r.first_row > rows + 1:
            message = f"{r.source}: rows {rows + 1} to {r.first_row - 1} are missing"
            raise StorageError(f"{message}; run the import again")
        last[r.source] = PendingRange(r, rows, n_bytes, dropped=dropped)
        pending.append(last[r.source])
        if not dropped:
            state[r.sha256] = (r.rows_done, r.bytes_done, r.complete)
    return pending


# -------------------------------------------------------------------------------- decisions


@dataclass(frozen=True, slots=True)
class DedupeResult:
    """What becomes of the staged rows."""

    drops: dict[int, np.ndarray[Any, Any]]  # staged file → numbers of the rows that do not go in
    conflicts: pa.Table  # source, row and detail of rows that contradict another
    counts: list[RangeCount]  # one a range, void for dropped ones


class Deduplicator:
    """Compare staged rows with each other and with every committed row, in temporary tables."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        folder: Path,
        staged: Sequence[StagedFile],
        pending: Sequence[PendingRange],
        tombstones: Tombstones,
    ) -> None:
        self._db, self._folder, self._staged, self._pending = connection, folder, staged, pending
        self._tombstones = tombstones

    def run(self, committed: Sequence[DataFile]) -> DedupeResult:
        """Decide about every staged row against the committed files."""
        self._load()
        if self._tombstones:
            self._keep_out()
        answers = [file for file in committed if file.kind == "verification"]
        # DuckDB takes every file to be as long as the first; the largest first lets it hash the
        # staged ids and stream the committed ones, never the other way round.
        answers.sort(key=lambda file: -file.n_rows)
        paths = [str(self._folder / file.path) for file in answers]
        self._find_stored(paths)
        self._apply_token_rule(paths)
        self._find_repeats()
        return DedupeResult(self._drops(), self._conflicts(), self._counts())

    def _load(self) -> None:
        """Load the staged rows, each with its range; refuse rows that belong to none."""
        db = self._db
        db.execute(
            "CREATE OR REPLACE TEMP TABLE ranges (range_no INTEGER, source VARCHAR, first BIGINT, "
            "until BIGINT, after BIGINT, dropped BOOLEAN)"
        )
        rows: list[tuple[Any, ...]] = []
        seen: set[str] = set()
        for number, p in enumerate(self._pending):
            first = p.range.first_row if p.range.source in seen else 0
            seen.add(p.range.source)
            rows.append((number, p.range.source, first, p.until, p.after, p.dropped))
        self._insert("ranges", rows)
        db.execute(_TABLES)
        for number, file in enumerate(self._staged):
            columns = _VERIFICATION_INPUT if file.kind == "verification" else _REJECT_INPUT
            db.execute(_INPUT.format(file=number, columns=columns, path=literal(file.path)))
        # `content` is read when it is needed: it is too long to keep
        contents = " UNION ALL ".join(
            f"SELECT {number} AS file, file_row_number AS row, content FROM read_parquet("
            f"{literal(file.path)}, file_row_number = true, hive_partitioning = false)"
            for number, file in enumerate(self._staged)
            if file.kind == "verification"
        )
        nothing = "SELECT 0 AS file, 0 AS row, NULL::VARCHAR AS content WHERE false"
        db.execute(f"CREATE OR REPLACE TEMP VIEW contents AS {contents or nothing}")
        n_orphans = self._one("SELECT count(*) FROM staged WHERE range_no IS NULL")
        if n_orphans:
            raise StorageError(f"{n_orphans} staged rows belong to no range")
        if self._one("SELECT count(*) FROM staged WHERE answer AND request_id IS NULL"):
            raise StorageError("a staged verification has no request_id")
        db.execute("INSERT INTO decisions SELECT file, row, 'done' FROM staged WHERE done")

    def _keep_out(self) -> None:
        """Let nothing in that was erased: such rows count as known."""
        db = self._db
        self._tombstones.load(db)
        condition = self._tombstones.of_rows(db)
        files = {n: f.path for n, f in enumerate(self._staged) if f.kind == "verification"}
        for number, path in files.items():
            db.execute(
                f"INSERT INTO decisions SELECT {number}, file_row_number, 'erased' FROM "
                f"read_parquet({literal(path)}, file_row_number = true, "
                f"hive_partitioning = false) r WHERE {condition} AND NOT EXISTS (SELECT 1 "
                f"FROM decisions d WHERE d.file = {number} AND d.row = r.file_row_number)"
            )
        # an answer without its person belongs to the person of its token
        query = self._tombstones.of_subjects(db)
        theirs = " UNION ALL ".join(
            f"SELECT token FROM {_read([path])} WHERE token IS NOT NULL AND {query}"
            for path in files.values()
        )
        if query != "false" and theirs:
            db.execute(
                "INSERT INTO decisions SELECT file, row, 'erased' FROM staged s WHERE answer "
                f"AND token IN ({theirs}) AND NOT EXISTS "
                "(SELECT 1 FROM decisions d WHERE d.file = s.file AND d.row = s.row)"
            )
        db.execute(
            "UPDATE staged SET settles = NULL, request_id = NULL FROM decisions d "
            "WHERE d.file = staged.file AND d.row = staged.row AND d.decision = 'erased'"
        )

    def _find_stored(self, paths: Sequence[str]) -> None:
        """Find ids that are stored: same content is known, other content a conflict."""
        db = self._db
        if not paths:
            return
        db.execute(
            "CREATE OR REPLACE TEMP TABLE met AS SELECT request_id, filename AS path "
            f"FROM {_read(paths, filename=True)} WHERE request_id IN "
            "(SELECT request_id FROM staged WHERE answer AND NOT done)"
        )
        found = [path for (path,) in db.execute("SELECT DISTINCT path FROM met").fetchall()]
        if not found:
            return
        db.execute(
            "CREATE OR REPLACE TEMP TABLE stored AS SELECT request_id, content, batch, source_row "
            f"FROM {_read(found)} WHERE request_id IN (SELECT request_id FROM met)"
        )
        db.execute(
            "INSERT INTO decisions "
            "SELECT file, row, if(c.content = t.content, 'known', 'conflict') FROM staged s "
            "JOIN stored t USING (request_id) JOIN contents c USING (file, row) "
            "WHERE s.answer AND NOT s.done"
        )
        db.execute(
            "INSERT INTO contradicted SELECT f.file, f.row, t.batch, t.source_row FROM decisions f "
            "JOIN staged s USING (file, row) JOIN stored t USING (request_id) "
            "WHERE f.decision = 'conflict'"
        )

    def _apply_token_rule(self, paths: Sequence[str]) -> None:
        """Of the answers to one token the first of CertVerify and CertVerifyQuery stays."""
        db = self._db
        db.execute(
            "CREATE OR REPLACE TEMP VIEW rest AS SELECT * FROM staged s "
            "WHERE answer AND NOT done AND NOT EXISTS "
            "(SELECT 1 FROM decisions f WHERE f.file = s.file AND f.row = s.row)"
        )
        asked, queried = db.execute(
            "SELECT count(*), count(*) FILTER (WHERE settles = 'query') "
            "FROM rest WHERE settles IS NOT NULL"
        ).fetchall()[0]
        if not asked:
            return
        held: list[tuple[str, str]] = []
        if paths:
            only = "" if queried else "action = 'CertVerifyQuery' AND "
            held = db.execute(
                f"SELECT DISTINCT token, {_SETTLES} AS settles FROM {_read(paths)} "
                f"WHERE {only} token IN (SELECT token FROM rest WHERE settles IS NOT NULL) "
                f"AND {_SETTLES} IS NOT NULL"
            ).fetchall()
        if not (queried or held):
            return
        db.execute("CREATE OR REPLACE TEMP TABLE held (token VARCHAR, settles VARCHAR)")
        self._insert("held", held)
        rule = TokenRule(held)
        found = [
            (file, row, *rule.decide(*answer))
            for file, row, *answer in db.execute(_CONTENDED).fetchall()
        ]
        self._insert("by_token", [row[:2] for row in found])
        self._insert("decisions", [row[:3] for row in found if row[2]])
        conflicts = [
            (file, row, None, kept) for file, row, what, kept in found if what == "conflict"
        ]
        self._insert("contradicted", conflicts)

    def _find_repeats(self) -> None:
        """Of an id that comes several times in the batch the first stays."""
        db = self._db
        hashes = np.sort(db.execute("SELECT hash(request_id) AS h FROM rest").fetchnumpy()["h"])
        twice = np.unique(hashes[1:][hashes[1:] == hashes[:-1]])  # grouping would take ten times
        if not len(twice):
            return
        db.execute(
            "CREATE OR REPLACE TEMP TABLE again AS SELECT * FROM rest r WHERE NOT EXISTS "
            "(SELECT 1 FROM by_token w WHERE w.file = r.file AND w.row = r.row) AND request_id IN "
            "(SELECT request_id FROM rest WHERE hash(request_id) IN (SELECT unnest($twice)) "
            "GROUP BY request_id HAVING count(*) > 1)",
            {"twice": twice},
        )
        if not self._one("SELECT count(*) FROM again"):
            return
        db.execute(
            "CREATE OR REPLACE TEMP TABLE ranked AS SELECT file, row, content, "
            "row_number() OVER first AS place, first_value(content) OVER first AS kept, "
            "first_value(source_row) OVER first AS kept_row "
            "FROM again JOIN contents USING (file, row) "
            "WINDOW first AS (PARTITION BY request_id ORDER BY range_no, source_row, file, row)"
        )
        db.execute(
            "INSERT INTO decisions SELECT file, row, if(content = kept, 'known', 'conflict') "
            "FROM ranked WHERE place > 1"
        )
        db.execute(
            "INSERT INTO contradicted SELECT file, row, NULL, kept_row FROM ranked "
            "WHERE place > 1 AND content IS DISTINCT FROM kept"
        )

    def _drops(self) -> dict[int, np.ndarray[Any, Any]]:
        drops = {}
        for (file,) in self._db.execute(
            "SELECT DISTINCT file FROM decisions ORDER BY file"
        ).fetchall():
            query = "SELECT row FROM decisions WHERE file = $file ORDER BY row"
            drops[file] = self._db.execute(query, {"file": file}).fetchnumpy()["row"]
        return drops

    def _conflicts(self) -> pa.Table:
        return self._db.sql(
            "SELECT p.source, s.source_row, 'the same request_id has other content in ' || "
            "if(o.batch IS NULL, 'this batch', 'batch ' || o.batch) || ', row ' || "
            "coalesce(o.source_row::VARCHAR, 'unknown') AS detail "
            "FROM staged s JOIN contradicted o USING (file, row) JOIN ranges p USING (range_no) "
            "ORDER BY s.range_no, s.source_row"
        ).to_arrow_table()

    def _counts(self) -> list[RangeCount]:
        """Count the decisions of each range, and compare them with what was announced."""
        found = {row[0]: row[1:] for row in self._db.execute(_COUNTS).fetchall()}
        counts = []
        for number, pending in enumerate(self._pending):
            r = pending.range
            n_answers, n_refused, n_left, n_known, n_conflicts, n_met, n_rejects, n_erased = (
                found.get(number, (0,) * 8)
            )
            if (n_answers + n_refused, n_refused) != (r.n_read, r.n_rejected):
                message = (
                    f"{r.source}: {n_answers} rows and {n_refused} rejects are staged, "
                    f"{r.n_read} read and {r.n_rejected} rejected were announced"
                )
                raise StorageError(message)
            n_bytes = r.n_bytes
            if pending.after >= r.first_row:  # another import brought the beginning
                n_bytes = min(n_bytes, max(0, r.bytes_done - pending.bytes_before))
            n_added = n_left - n_known - n_conflicts
            n_rejected = n_rejects + n_conflicts
            counts.append(
                RangeCount(
                    r.source,
                    r.sha256,
                    n_bytes,
                    n_met,
                    n_added,
                    n_known,
                    n_rejected,
                    n_erased=n_erased,
                )
            )
        return counts

    def _insert(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        if rows:
            marks = ", ".join("?" * len(rows[0]))
            self._db.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)

    def _one(self, query: str) -> int:
        return int(self._db.execute(query).fetchall()[0][0])


class TokenRule:
    """The rule of one token in plain Python, for the few rows where their order matters."""

    def __init__(self, held: Sequence[tuple[str, str]]) -> None:
        self._settled: dict[str, set[str]] = {}
        for token, settles in held:
            self._settled.setdefault(token, set()).add(settles)
        self._kept: dict[str, tuple[str, int]] = {}

    def decide(
        self, request_id: str, content: str, token: str | None, settles: str | None, row: int
    ) -> tuple[str | None, int | None]:
        """Decide about one row: new (None), `known`, or `conflict` with the row it contradicts."""
        if request_id in self._kept:
            kept, kept_row = self._kept[request_id]
            return ("known", None) if kept == content else ("conflict", kept_row)
        if token is not None and settles is not None:
            before = self._settled.setdefault(token, set())
            if "query" in before or (settles == "query" and before):
                return "known", None
            before.add(settles)
        self._kept[request_id] = (content, row)
        return None, None


_SETTLES = (
    "CASE WHEN token IS NULL THEN NULL WHEN action = 'CertVerifyQuery' AND code = 10000 "
    "THEN 'query' WHEN action = 'CertVerify' AND code IS NOT NULL AND code NOT IN "
    f"{UNSETTLED_CODES} THEN 'verify' END"
)
"""Whether a row answers its token: a fault does not, nor a query that found no outcome."""

_TABLES = """
CREATE OR REPLACE TEMP TABLE staged (
    file INTEGER, row BIGINT, range_no INTEGER, done BOOLEAN, answer BOOLEAN,
    source_row BIGINT, request_id VARCHAR, token VARCHAR, settles VARCHAR);
CREATE OR REPLACE TEMP TABLE decisions (file INTEGER, row BIGINT, decision VARCHAR);
CREATE OR REPLACE TEMP TABLE contradicted (
    file INTEGER, row BIGINT, batch VARCHAR, source_row BIGINT);
CREATE OR REPLACE TEMP TABLE by_token (file INTEGER, row BIGINT);
"""
_VERIFICATION_INPUT = f"true AS answer, request_id, token, {_SETTLES} AS settles"
_REJECT_INPUT = "false AS answer, NULL AS request_id, NULL AS token, NULL AS settles"
_INPUT = """
INSERT INTO staged
SELECT {file}, file_row_number, range_no, dropped OR coalesce(source_row <= after, false),
       answer, source_row, request_id, token, settles
FROM (SELECT file_row_number, source, source_row, {columns}
      FROM read_parquet({path}, file_row_number = true, hive_partitioning = false)) i
LEFT JOIN ranges p ON i.source = p.source
    AND coalesce(source_row, until - 1) >= p.first AND coalesce(source_row, until - 1) < p.until
"""
_CONTENDED = """
WITH answers AS (SELECT token, settles FROM rest WHERE settles IS NOT NULL
                 UNION ALL SELECT token, settles FROM held),
contended AS (SELECT token FROM answers GROUP BY token
              HAVING count(*) > 1 AND bool_or(settles = 'query')),
ids AS (SELECT request_id FROM rest
        WHERE settles IS NOT NULL AND token IN (SELECT token FROM contended))
SELECT file, row, request_id, content, token, settles, source_row
FROM rest JOIN contents USING (file, row)
WHERE request_id IN (SELECT request_id FROM ids) ORDER BY range_no, source_row, file, row
"""
_COUNTS = """
SELECT range_no,
       count(*) FILTER (WHERE answer), count(*) FILTER (WHERE NOT answer),
       count(*) FILTER (WHERE answer AND NOT done),
       count(*) FILTER (WHERE decision IN ('known', 'erased')),
       count(*) FILTER (WHERE decision = 'conflict'),
       count(*) FILTER (WHERE NOT done), count(*) FILTER (WHERE NOT answer AND NOT done),
       count(*) FILTER (WHERE decision = 'erased')
FROM staged LEFT JOIN decisions USING (file, row) GROUP BY range_no
"""


def _read(paths: Sequence[str], *, filename: bool = False) -> str:
    listed = ", ".join(map(literal, paths))
    return f"read_parquet([{listed}], filename = {filename}, hive_partitioning = false)"
