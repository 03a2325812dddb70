"""Answers staged as a worker would stage them, for tests that need no parsing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from verifyanalytics.schema import REJECTS, VERIFICATIONS
from verifyanalytics.store.store import ImportedRange, RangeCount, StagedFile, Store

FIRST = datetime(2024, 5, 30, tzinfo=UTC)


def answer(number: int, row: int = 0, **changes: Any) -> dict[str, Any]:
    """One row of verifications without batch and source; an hour apart, so months differ."""
    return {
        "request_id": f"id-{number:06}",
        "occurred_at": FIRST + timedelta(hours=number),
        "action": "CertVerify",
        "code": 10000,
        "result": number % 3 > 0,
        "alive": None if number % 5 == 0 else True,
        "score": None if number % 7 == 0 else float(number % 100),
        "risk_tags": ["14004", "13001"][: number % 3],
        "issues": [],
        "content": f"content-{number}",
        "source_row": row or number + 1,
    } | changes


def month(row: dict[str, Any]) -> str:
    at = row.get("occurred_at")
    return f"{at:%Y-%m}" if at else "unknown"


def reject(row: int, reason: str = "syntax") -> dict[str, Any]:
    return {"source_row": row, "reason": reason, "detail": "made up", "rejected_at": FIRST}


def write(path: Path, rows: Sequence[dict[str, Any]], schema: pa.Schema) -> Path:
    """Write rows as Parquet with the columns of a table, and the context the rows have."""
    context = sorted({name for row in rows for name in row if name.startswith("ctx_")})
    fields = [field.remove_metadata() for field in schema]
    fields += [pa.field(name, pa.string()) for name in context]
    pq.write_table(pa.Table.from_pylist(list(rows), schema=pa.schema(fields)), path)
    return path


def stage(
    store: Store,
    batch: str,
    source: str,
    rows: Iterable[dict[str, Any]],
    rejects: Iterable[dict[str, Any]] = (),
) -> list[StagedFile]:
    """Stage the rows of one source: a file a month, and one of rejects."""
    folder = store.staging(batch)
    months: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        full = {**row, "batch": batch, "source": source}
        months.setdefault(("verification", month(row)), []).append(full)
    for row in rejects:
        full = {**row, "batch": batch, "source": source}
        months.setdefault(("reject", "2024-06"), []).append(full)
    files = []
    for (kind, name), held in sorted(months.items()):
        path = folder / f"{source}-{kind}-{name}.parquet"
        write(path, held, VERIFICATIONS if kind == "verification" else REJECTS)
        files.append(StagedFile(str(path), kind, name, len(held)))
    return files


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def part(
    source: str,
    rows: Sequence[dict[str, Any]],
    rejects: Sequence[dict[str, Any]] = (),
    **changes: Any,
) -> ImportedRange:
    """The part that holds these rows; the source is complete with it unless told otherwise."""
    numbers = [row["source_row"] for row in (*rows, *rejects)] or [0]
    last = max(numbers)
    fields = {
        "source": source,
        "sha256": sha256(source),
        "first_row": 1,
        "rows_done": last,
        "bytes_done": last * 100,
        "complete": True,
        "n_bytes": last * 100,
        "n_read": len(rows) + len(rejects),
        "n_rejected": len(rejects),
    }
    return ImportedRange(**(fields | changes))


def bring(
    store: Store,
    source: str,
    rows: Sequence[dict[str, Any]],
    rejects: Sequence[dict[str, Any]] = (),
    **changes: Any,
) -> RangeCount:
    """Append one source as one batch and give its counts."""
    batch = store.new_batch()
    files = stage(store, batch, source, rows, rejects)
    (count,) = store.append(batch, files, [part(source, rows, rejects, **changes)])
    return count


def counts(count: RangeCount) -> tuple[int, int, int, int]:
    return count.n_read, count.n_added, count.n_known, count.n_rejected


def ids(frame: Any) -> list[str]:
    return sorted(frame["request_id"].tolist())


def parquet_files(store: Store) -> list[Path]:
    return sorted(store.path.rglob("*.parquet"))
