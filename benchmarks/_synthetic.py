"""A large store of made-up answers, written straight as Parquet and committed by `Store.append`.

No answer is parsed: this is about reading and committing, at a size that parsing would take long
to reach. Scores and thresholds follow the vendor's scale; ids and contents are hashes of a number.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from verifyanalytics.schema import LOW_CARDINALITY, QUALITY_COLUMNS, VERIFICATIONS
from verifyanalytics.store.store import ImportedRange, StagedFile, Store

ROWS_A_FILE = 500_000
MONTHS = ("2024-01", "2024-02", "2024-03", "2024-04", "2024-05")

_KNOWN = {
    "request_id": "strftime(seen, '%Y%m%d%H%M%S') || upper(left(sha256(i::VARCHAR), 20))",
    "occurred_at": "seen",
    "occurred_at_source": "'request_id'",
    "action": "'CertVerify'",
    "req_key": "'cert_pro_src_verify'",
    "http_status": "200",
    "code": "10000",
    "message": "'Success'",
    "sub_code": "0",
    "sub_message": "'Success'",
    "elapsed_ms": "30 + (hash(i, 1) % 1000000007)::BIGINT % 100000 / 1000",
    "result": "(hash(i, 2) % 1000000007)::BIGINT % 10 < 9",
    "alive": "(hash(i, 3) % 1000000007)::BIGINT % 100 < 98",
    "score": "if((hash(i, 4) % 1000000007)::BIGINT % 50 = 0, NULL, "
    "100 * sqrt(hash(i, 5) % 10000019 / 10000019))",
    "threshold_1e_3": "60",
    "threshold_1e_4": "70",
    "threshold_1e_5": "80",
    "threshold_1e_6": "90",
    "risk_score": "[0, 300, 600, 900][1 + (hash(i, 6) % 1000000007)::BIGINT % 4]",
    "risk_tags": "[['14004', '13001'], [], ['14004'], ['11002', '13001', '12005']]"
    "[1 + (hash(i, 7) % 1000000007)::BIGINT % 4]",
    "issues": "[]",
    "content": "sha256('content ' || i)",
    "batch": "$batch",
    "source": "$source",
    "source_row": "i - $first + 1",
    "token": "if($tokens, left(sha256('token ' || i), 32), NULL)",
    "subject": "if($known, left(sha256('subject ' || hash(i, 8) % $subjects), 32), NULL)",
    "measure_type": "'count'",
    "measure_value": "1",
    **{name: f"(hash(i, {n}) % 100000) / 100000" for n, name in enumerate(QUALITY_COLUMNS, 10)},
}


def stage(
    path: Path,
    batch: str,
    source: str,
    first: int,
    n: int,
    month: str,
    *,
    tokens: bool = False,
    subjects: int = 0,
) -> None:
    """Write answers first … first + n - 1 of a month as a worker would stage them."""
    types = {pa.string(): "VARCHAR", pa.float64(): "DOUBLE", pa.int64(): "BIGINT"}
    types |= {pa.int32(): "INTEGER", pa.int16(): "SMALLINT", pa.bool_(): "BOOLEAN"}
    columns = ", ".join(
        f"({_KNOWN.get(f.name, 'NULL')})::{types[f.type]} AS {f.name}"
        if f.type in types
        else f"({_KNOWN[f.name]}) AS {f.name}"
        for f in VERIFICATIONS
    )
    query = (
        f"SELECT {columns} FROM (SELECT i, TIMESTAMP '{month}-01' + to_microseconds("
        f"((i - $first) * (28 * 86400000000 / $n))::BIGINT) AS seen "
        f"FROM range($first, $first + $n) t(i))"
    )
    given = {"batch": batch, "source": source, "first": first, "n": n}
    given |= {"tokens": tokens, "subjects": max(subjects, 1), "known": subjects > 0}
    schema = pa.schema([field.remove_metadata() for field in VERIFICATIONS])
    plain = [name for name in schema.names if name in LOW_CARDINALITY]
    real = [f.name for f in schema if f.type == pa.float64() and f.name not in LOW_CARDINALITY]
    reader = duckdb.sql(query, params=given).to_arrow_reader(100_000)
    options = {"compression": "zstd", "compression_level": 1, "use_dictionary": plain}
    with pq.ParquetWriter(path, schema, use_byte_stream_split=real, **options) as out:
        for record_batch in reader:
            out.write_table(pa.Table.from_batches([record_batch]).cast(schema))


def grow(
    store: Store, first: int, n: int, month: str, *, tokens: bool = False, subjects: int = 0
) -> list:
    """Append answers first … first + n - 1 of a month as one batch."""
    batch = store.new_batch()
    source = f"made-up-{first}"
    path = store.staging(batch) / "0.parquet"
    stage(path, batch, source, first, n, month, tokens=tokens, subjects=subjects)
    sha256 = hashlib.sha256(f"{source} {n}".encode()).hexdigest()
    part = ImportedRange(source, sha256, 1, n, n * 1200, True, n * 1200, n, 0)
    return store.append(batch, [StagedFile(str(path), "verification", month, n)], [part])


def build(folder: Path, n: int, subjects: int = 0) -> Store:
    """Make a store of n answers over five months, unless the folder holds one already.

    With `subjects` every answer names one of so many people, else none.
    """
    store = Store(folder, create=True)
    have = int(store.sql("SELECT count(*) AS n FROM verifications")["n"][0])
    for number, first in enumerate(range(have, n, ROWS_A_FILE), have // ROWS_A_FILE):
        grow(
            store,
            first,
            min(ROWS_A_FILE, n - first),
            MONTHS[number % len(MONTHS)],
            subjects=subjects,
        )
    return store
