"""Staging: what waits is bounded, and files are written as the store wants them."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from verifyanalytics.schema import REJECTS, VERIFICATIONS
from verifyanalytics.store.staging import ROW_GROUP_ROWS, Staging


def blocks_of_rows(months, n_rows, **context):
    """Empty-looking batches as a flattener gives them, one for each month."""
    fields = [field for field in VERIFICATIONS if field.name != "batch"]
    fields += [pa.field("month", pa.string()), *(pa.field(name, pa.string()) for name in context)]
    rejects = pa.schema([f for f in REJECTS if f.name not in {"batch", "rejected_at"}])
    nothing = pa.RecordBatch.from_pylist([], schema=rejects)
    for place, month in enumerate(months):
        columns = {
            field.name: pa.repeat(pa.scalar("x" * 100, pa.string()), n_rows)
            if field.type == pa.string()
            else pa.nulls(n_rows, field.type)
            for field in fields
        }
        columns["month"] = pa.array([month] * n_rows)
        columns["source_row"] = pa.array(range(place * n_rows, place * n_rows + n_rows), pa.int64())
        columns.update({name: pa.array([value] * n_rows) for name, value in context.items()})
        yield pa.RecordBatch.from_pydict(columns, schema=pa.schema(fields)), nothing


def test_what_waits_is_bounded_whatever_the_order_of_months(tmp_path):
    months = [f"{year}-{month:02}" for year in range(2020, 2024) for month in range(1, 13)]
    staging = Staging(tmp_path, "b", "t")
    before, most = pa.total_allocated_bytes(), 0
    for batch, nothing in blocks_of_rows(months * 3, 600):
        staging.add(batch, nothing)
        most = max(most, pa.total_allocated_bytes() - before)
    staged = staging.close()
    assert most < 100 << 20  # all of it is 180 MB
    assert sum(file.n_rows for file in staged) == len(months) * 3 * 600
    assert {file.month for file in staged} == set(months)
    rows = [row for file in staged for row in pq.read_table(file.path)["source_row"].to_pylist()]
    assert sorted(rows) == list(range(len(months) * 3 * 600))


def test_row_groups_are_of_about_a_hundred_thousand(tmp_path):
    staging = Staging(tmp_path, "b", "t")
    for batch, nothing in blocks_of_rows(["2024-05"] * 26, 10_000):
        staging.add(batch.select(["score", "source_row", "month"]), nothing)
    (file,) = staging.close()
    footer = pq.ParquetFile(file.path).metadata
    sizes = [footer.row_group(place).num_rows for place in range(footer.num_row_groups)]
    assert sizes == [ROW_GROUP_ROWS, ROW_GROUP_ROWS, 60_000]


def test_a_context_column_that_comes_late_opens_another_file(tmp_path):
    staging = Staging(tmp_path, "b", "t")
    for context in ({"ctx_a": "1"}, {}, {"ctx_b": "2"}):
        ((batch, nothing),) = blocks_of_rows(["2024-05"], ROW_GROUP_ROWS, **context)
        staging.add(batch.select(["score", "month", *context]), nothing)
    first, second = staging.close()
    assert [n for n in pq.read_schema(first.path).names if n[:4] == "ctx_"] == ["ctx_a"]
    assert [n for n in pq.read_schema(second.path).names if n[:4] == "ctx_"] == ["ctx_a", "ctx_b"]
    table = pq.read_table(first.path)
    assert table["ctx_a"].null_count == ROW_GROUP_ROWS
    assert pq.read_table(second.path)["ctx_b"].unique().to_pylist() == ["2"]
