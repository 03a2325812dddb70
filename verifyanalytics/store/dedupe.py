"""What one commit brings: which rows are new, which are known, which contradict.

`request_id` is unique over all months, and the same id with the same `content` is the same answer.
The judgement is made against exactly the files of one version, by DuckDB, on the columns it needs;
nothing is known until it was compared in full. If another commit comes between, the
judgement is made again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from verifyanalytics.errors import StorageError, UsageError
from verifyanalytics.store.files import DataFile, StagedFile
from verifyanalytics.store.views import literal
from verifyanalytics.vendor.api import UNSETTLED_CODES

_END = 2**62  # after every row of a source


# -------------------------------------------------------------------------------- parts


@dataclass(frozen=True, slots=True)
class Part:
    """One stretch of one source, as a worker read it.

    Attributes
    ----------
    source, sha256 : str
        Its name in the tables, and the SHA-256 of the whole source.
    first_row, rows_done : int
        First row of this part (1-based), and rows of the source done after it.
    bytes_done : int
        Bytes of the source done after it.
    complete : bool
        Nothing of the source is left after it.
    n_bytes : int
        Bytes this part covers.
    n_read, n_rejected : int
        Responses met, and how many of them are rejects.
    """

    source: str
    sha256: str
    first_row: int
    rows_done: int
    bytes_done: int
    complete: bool
    n_bytes: int
    n_read: int
    n_rejected: int


@dataclass(frozen=True, slots=True)
class PartCount:
    """What became of one part: `n_read = n_added + n_known + n_rejected`.

    Attributes
    ----------
    source, sha256 : str
    n_bytes : int
        Bytes the counts are about.
    n_read, n_added, n_known, n_rejected : int
    already_imported : bool
        The source was done before, by this or another import; the counts are the stored ones.
    """

    source: str
    sha256: str
    n_bytes: int
    n_read: int
    n_added: int
    n_known: int
    n_rejected: int
    already_imported: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a source is in the store.

    Attributes
    ----------
    rows_done, bytes_done : int
        Rows and bytes of the source that are in.
    complete : bool
        The whole source is in.
    n_read, n_added, n_known, n_rejected : int
        Over all its parts.
    """

    rows_done: int
    bytes_done: int
    complete: bool
    n_read: int
    n_added: int
    n_known: int
    n_rejected: int


@dataclass(slots=True)
class Stretch:
    """A part in its place: which rows of it still count.

    `after` is the last row that is in already, `bytes_before` the bytes up to it, `until` the first
    row of the next part.
    """

    part: Part
    after: int
    bytes_before: int
    until: int = _END
    dropped: bool = False


def stretches(parts: Sequence[Part], done: Mapping[str, Progress]) -> list[Stretch]:
    """Line the parts up behind what is done: what is in is dropped, a gap is refused.

    Raises
    ------
    StorageError
        Rows between what is in and what a part brings are missing.
    UsageError
        Two sources have one name.
    """
    lined: list[Stretch] = []
    state = {sha256: (p.rows_done, p.bytes_done, p.complete) for sha256, p in done.items()}
    last: dict[str, Stretch] = {}
    for part in parts:
        before = last.get(part.source)
        if before is not None:
            if before.part.sha256 != part.sha256 or part.first_row <= before.part.rows_done:
                raise UsageError(f"two sources are named {part.source}; give them apart")
            before.until = part.first_row
        rows, n_bytes, complete = state.get(part.sha256, (0, 0, False))
        dropped = complete or (part.rows_done <= rows and not part.complete)
        if not dropped and part.first_row > rows + 1:
            message = f"{part.source}: rows {rows + 1} to {part.first_row - 1} are missing"
            raise StorageError(f"{message}; run the import again")
        last[part.source] = stretch = Stretch(part, rows, n_bytes, dropped=dropped)
        lined.append(stretch)
        if not dropped:
            state[part.sha256] = (part.rows_done, part.bytes_done, part.complete)
    return lined


# -------------------------------------------------------------------------------- judgement


@dataclass(slots=True)
class Judgement:
    """What becomes of the staged rows.

    Attributes
    ----------
    drops : dict of int to array
        Per staged file the row numbers that do not go in.
    conflicts : pyarrow.Table
        Source, row and detail of rows that contradict a stored one.
    counts : list of PartCount
        One a part, in their order; those of dropped parts are not filled.
    """

    drops: dict[int, np.ndarray[Any, Any]]
    conflicts: pa.Table
    counts: list[PartCount] = field(default_factory=list)


class Judge:
    """Compare staged rows with each other and with every committed row.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        Of its own; temporary tables are made on it.
    folder : Path
        The table `responses`.
    staged : sequence of StagedFile
    lined : sequence of Stretch
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        folder: Path,
        staged: Sequence[StagedFile],
        lined: Sequence[Stretch],
    ) -> None:
        self._db, self._folder, self._staged, self._lined = connection, folder, staged, lined

    def judge(self, committed: Sequence[DataFile]) -> Judgement:
        """Settle the fate of every staged row against the committed files."""
        self._load()
        answers = [file for file in committed if file.kind == "verification"]
        # DuckDB takes every file to be as long as the first; the largest first lets it hash the
        # staged ids and stream the committed ones, never the other way round.
        answers.sort(key=lambda file: -file.n_rows)
        paths = [str(self._folder / file.path) for file in answers]
        self._settle_known(paths)
        self._settle_tokens(paths)
        self._settle_repeats()
        return Judgement(self._drops(), self._conflicts(), self._counts())

    def _load(self) -> None:
        """Bring the staged rows in, each with its part; refuse rows that belong to none."""
        db = self._db
        db.execute(
            "CREATE OR REPLACE TEMP TABLE part (part INTEGER, source VARCHAR, first BIGINT, "
            "until BIGINT, after BIGINT, dropped BOOLEAN)"
        )
        rows = self._part_rows()
        if rows:
            db.executemany("INSERT INTO part VALUES (?, ?, ?, ?, ?, ?)", rows)
        db.execute(_TABLES)
        for number, file in enumerate(self._staged):
            columns = _VERIFICATION_INPUT if file.kind == "verification" else _REJECT_INPUT
            path = literal(str(file.path))
            db.execute(_INPUT.format(file=number, columns=columns, path=path))
        db.execute(f"CREATE OR REPLACE TEMP VIEW contents AS {self._contents()}")
        n_orphans = self._one("SELECT count(*) FROM staged WHERE part IS NULL")
        if n_orphans:
            raise StorageError(f"{n_orphans} staged rows belong to no part")
        if self._one("SELECT count(*) FROM staged WHERE answer AND request_id IS NULL"):
            raise StorageError("a staged verification has no request_id")
        db.execute("INSERT INTO fate SELECT file, row, 'done' FROM staged WHERE done")

    def _contents(self) -> str:
        """Read `content` from the staged files when it is asked for: it is too long to keep."""
        files = [(n, file) for n, file in enumerate(self._staged) if file.kind == "verification"]
        return (
            " UNION ALL ".join(
                f"SELECT {number} AS file, file_row_number AS row, content FROM read_parquet("
                f"{literal(str(file.path))}, file_row_number = true, hive_partitioning = false)"
                for number, file in files
            )
            or "SELECT 0 AS file, 0 AS row, NULL::VARCHAR AS content WHERE false"
        )

    def _part_rows(self) -> list[tuple[Any, ...]]:
        seen: set[str] = set()
        rows = []
        for number, s in enumerate(self._lined):
            first = s.part.first_row if s.part.source in seen else 0
            seen.add(s.part.source)
            rows.append((number, s.part.source, first, s.until, s.after, s.dropped))
        return rows

    def _settle_known(self, paths: Sequence[str]) -> None:
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
            "INSERT INTO fate SELECT file, row, if(c.content = t.content, 'known', 'conflict') "
            "FROM staged s JOIN stored t USING (request_id) JOIN contents c USING (file, row) "
            "WHERE s.answer AND NOT s.done"
        )
        db.execute(
            "INSERT INTO other SELECT f.file, f.row, t.batch, t.source_row FROM fate f "
            "JOIN staged s USING (file, row) JOIN stored t USING (request_id) "
            "WHERE f.fate = 'conflict'"
        )

    def _settle_tokens(self, paths: Sequence[str]) -> None:
        """Apply the rule of one token: the first of CertVerify and CertVerifyQuery stays."""
        db = self._db
        db.execute(
            "CREATE OR REPLACE TEMP VIEW rest AS SELECT * FROM staged s "
            "WHERE answer AND NOT done AND NOT EXISTS "
            "(SELECT 1 FROM fate f WHERE f.file = s.file AND f.row = s.row)"
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
        if queried or held:
            self._follow_tokens(held)

    def _follow_tokens(self, held: Sequence[tuple[str, str]]) -> None:
        """Walk the few rows whose token a query and another answer share, in their order."""
        db = self._db
        db.execute("CREATE OR REPLACE TEMP TABLE held (token VARCHAR, settles VARCHAR)")
        if held:
            db.executemany("INSERT INTO held VALUES (?, ?)", held)
        rows = db.execute(_CONTENDED).fetchall()
        walk = _Walk(held)
        fates = [(file, row, *walk.fate(*rest)) for file, row, *rest in rows]
        if fates:
            db.executemany("INSERT INTO walked VALUES (?, ?)", [(f[0], f[1]) for f in fates])
        settled = [fate for fate in fates if fate[2] != "new"]
        if settled:
            db.executemany("INSERT INTO fate VALUES (?, ?, ?)", [fate[:3] for fate in settled])
            others = [(f[0], f[1], None, f[3]) for f in settled if f[2] == "conflict"]
            if others:
                db.executemany("INSERT INTO other VALUES (?, ?, ?, ?)", others)

    def _settle_repeats(self) -> None:
        """Of an id that comes several times in the batch the first stays."""
        db = self._db
        hashes = np.sort(db.execute("SELECT hash(request_id) AS h FROM rest").fetchnumpy()["h"])
        twice = np.unique(hashes[1:][hashes[1:] == hashes[:-1]])  # grouping would take ten times
        if not len(twice):
            return
        db.execute(
            "CREATE OR REPLACE TEMP TABLE again AS SELECT * FROM rest r WHERE NOT EXISTS "
            "(SELECT 1 FROM walked w WHERE w.file = r.file AND w.row = r.row) AND request_id IN "
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
            "WINDOW first AS (PARTITION BY request_id ORDER BY part, source_row, file, row)"
        )
        db.execute(
            "INSERT INTO fate SELECT file, row, if(content = kept, 'known', 'conflict') "
            "FROM ranked WHERE place > 1"
        )
        db.execute(
            "INSERT INTO other SELECT file, row, NULL, kept_row FROM ranked "
            "WHERE place > 1 AND content IS DISTINCT FROM kept"
        )

    def _drops(self) -> dict[int, np.ndarray[Any, Any]]:
        drops = {}
        for (file,) in self._db.execute("SELECT DISTINCT file FROM fate ORDER BY file").fetchall():
            query = "SELECT row FROM fate WHERE file = $file ORDER BY row"
            drops[file] = self._db.execute(query, {"file": file}).fetchnumpy()["row"]
        return drops

    def _conflicts(self) -> pa.Table:
        return self._db.sql(
            "SELECT p.source, s.source_row, 'the same request_id has other content in ' || "
            "if(o.batch IS NULL, 'this batch', 'batch ' || o.batch) || ', row ' || "
            "coalesce(o.source_row::VARCHAR, 'unknown') AS detail "
            "FROM staged s JOIN other o USING (file, row) JOIN part p USING (part) "
            "ORDER BY s.part, s.source_row"
        ).to_arrow_table()

    def _counts(self) -> list[PartCount]:
        """Count the fates of each part, and hold them against what the worker counted."""
        found = {row[0]: row[1:] for row in self._db.execute(_COUNTS).fetchall()}
        counts = []
        for number, stretch in enumerate(self._lined):
            part = stretch.part
            n_answers, n_refused, n_left, n_known, n_conflicts, n_met, n_rejects = found.get(
                number, (0,) * 7
            )
            if (n_answers + n_refused, n_refused) != (part.n_read, part.n_rejected):
                message = (
                    f"{part.source}: {n_answers} rows and {n_refused} rejects are staged, "
                    f"{part.n_read} read and {part.n_rejected} rejected were announced"
                )
                raise StorageError(message)
            n_added = n_left - n_known - n_conflicts
            n_bytes = part.n_bytes
            if stretch.after >= part.first_row:  # another import brought the beginning
                n_bytes = min(n_bytes, max(0, part.bytes_done - stretch.bytes_before))
            counts.append(
                PartCount(
                    part.source, part.sha256, n_bytes, n_met, n_added, n_known,
                    n_rejects + n_conflicts,
                )
            )  # fmt: skip
        return counts

    def _one(self, query: str) -> int:
        return int(self._db.execute(query).fetchall()[0][0])


class _Walk:
    """The plain loop behind the token rule, for the rows where order matters."""

    def __init__(self, held: Sequence[tuple[str, str]]) -> None:
        self._settled: dict[str, set[str]] = {}
        for token, settles in held:
            self._settled.setdefault(token, set()).add(settles)
        self._kept: dict[str, tuple[str, int]] = {}

    def fate(
        self, request_id: str, content: str, token: str | None, settles: str | None, row: int
    ) -> tuple[str, int | None]:
        """Settle one row: `new`, `known`, or `conflict` with the row it contradicts."""
        if request_id in self._kept:
            kept, kept_row = self._kept[request_id]
            return ("known", None) if kept == content else ("conflict", kept_row)
        if token is not None and settles is not None:
            before = self._settled.setdefault(token, set())
            if "query" in before or (settles == "query" and before):
                return "known", None
            before.add(settles)
        self._kept[request_id] = (content, row)
        return "new", None


_SETTLES = (
    "CASE WHEN token IS NULL THEN NULL WHEN action = 'CertVerifyQuery' AND code = 10000 "
    "THEN 'query' WHEN action = 'CertVerify' AND code IS NOT NULL AND code NOT IN "
    f"{UNSETTLED_CODES} THEN 'verify' END"
)
"""Whether a row answers its token: a fault does not, nor a query that found no outcome."""

_TABLES = """
CREATE OR REPLACE TEMP TABLE staged (
    file INTEGER, row BIGINT, part INTEGER, done BOOLEAN, answer BOOLEAN,
    source_row BIGINT, request_id VARCHAR, token VARCHAR, settles VARCHAR);
CREATE OR REPLACE TEMP TABLE fate (file INTEGER, row BIGINT, fate VARCHAR);
CREATE OR REPLACE TEMP TABLE other (file INTEGER, row BIGINT, batch VARCHAR, source_row BIGINT);
CREATE OR REPLACE TEMP TABLE walked (file INTEGER, row BIGINT);
"""
_VERIFICATION_INPUT = f"true AS answer, request_id, token, {_SETTLES} AS settles"
_REJECT_INPUT = "false AS answer, NULL AS request_id, NULL AS token, NULL AS settles"
_INPUT = """
INSERT INTO staged
SELECT {file}, file_row_number, part, dropped OR coalesce(source_row <= after, false),
       answer, source_row, request_id, token, settles
FROM (SELECT file_row_number, source, source_row, {columns}
      FROM read_parquet({path}, file_row_number = true, hive_partitioning = false)) i
LEFT JOIN part p ON i.source = p.source
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
WHERE request_id IN (SELECT request_id FROM ids) ORDER BY part, source_row, file, row
"""
_COUNTS = """
SELECT part,
       count(*) FILTER (WHERE answer), count(*) FILTER (WHERE NOT answer),
       count(*) FILTER (WHERE answer AND NOT done),
       count(*) FILTER (WHERE fate = 'known'), count(*) FILTER (WHERE fate = 'conflict'),
       count(*) FILTER (WHERE NOT done), count(*) FILTER (WHERE NOT answer AND NOT done)
FROM staged LEFT JOIN fate USING (file, row) GROUP BY part
"""


def _read(paths: Sequence[str], *, filename: bool = False) -> str:
    listed = ", ".join(map(literal, paths))
    return f"read_parquet([{listed}], filename = {filename}, hive_partitioning = false)"
