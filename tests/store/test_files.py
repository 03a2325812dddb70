"""Data files: a staged file that is not what was announced is refused."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders.staged_answers import answer, part, write

from verifyanalytics.errors import StorageError
from verifyanalytics.schema import VERIFICATIONS
from verifyanalytics.store.store import StagedFile


def test_a_staged_file_that_is_not_what_was_said_is_refused(store):
    batch = store.new_batch()
    folder = store.staging(batch)
    rows = [answer(1) | {"batch": batch, "source": "a"}]

    def refused(path, message, *, kind="verification", n_rows=1, month="2024-05"):
        with pytest.raises(StorageError, match=message):
            store.append(batch, [StagedFile(str(path), kind, month, n_rows)], [part("a", rows)])
        assert not path.exists()
        folder.mkdir(exist_ok=True)

    path = folder / "0.parquet"
    refused(write(path, rows, VERIFICATIONS), "holds 1 rows, 2 were announced", n_rows=2)
    refused(write(path, rows, VERIFICATIONS), "no partition kind=other", kind="other")
    refused(write(path, rows, VERIFICATIONS), "month=2024-13", month="2024-13")
    refused(write(path, rows, VERIFICATIONS), "month=../..", month="../..")
    table = pq.read_table(write(path, rows, VERIFICATIONS))
    at = table.schema.get_field_index("score")
    pq.write_table(table.set_column(at, "score", table["score"].cast(pa.string())), path)
    refused(path, "columns that are not the table's: score")
    pq.write_table(table.drop_columns(["content"]), path)
    refused(path, "columns that are not the table's: content")
    pq.write_table(table.append_column("face", pa.array(["x"])), path)
    refused(path, "columns that are not the table's: face")
    path.write_bytes(b"no Parquet")
    refused(path, "reading the staged file 0.parquet failed")
    gone = StagedFile(str(folder / "gone.parquet"), "verification", "2024-05", 1)
    with pytest.raises(StorageError, match=r"reading the staged file gone\.parquet failed"):
        store.append(batch, [gone], [])
    assert store.versions()["version"].tolist() == [0]
    assert store.strays() == []
