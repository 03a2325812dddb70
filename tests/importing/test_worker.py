"""A worker: its staged files, its batches, and how it ends."""

from __future__ import annotations

import itertools
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders.stored_answers import BAD, line, mixed, write_lines

from verifyanalytics import errors
from verifyanalytics.importing.pool import child_environment
from verifyanalytics.importing.worker import (
    Failure,
    Hello,
    Progress,
    Result,
    Setup,
    SourceRange,
    Task,
    Up,
    perform,
    receive,
    send,
)
from verifyanalytics.parsing.fast.flattener import Flattener
from verifyanalytics.parsing.text import ReadOptions
from verifyanalytics.schema import LOW_CARDINALITY, REJECTS, VERIFICATIONS
from verifyanalytics.sources.reading import discover

OPTIONS = ReadOptions(key=b"k" * 32, context={"channel": "app"})


def task_of(folder, *paths, **limits):
    ranges = [SourceRange(source, source.n_bytes) for source in discover(paths)]
    return Task("t", str(folder), "b1", ranges, **limits)


def results(task, options=OPTIONS):
    """Do a task in this process; each of its batches has a name of its own."""
    numbers, progress = itertools.count(2), []
    found = list(perform(task, Flattener(options), progress.append, lambda: f"b{next(numbers)}"))
    n_read = sum(reading.n_read for result in found for reading in result.readings)
    assert sum(step.n_rows for step in progress) == n_read
    return found


def rows_of(staged, kind):
    """(source, row) of every staged row of a kind, in the order of the files."""
    tables = [pq.read_table(file.path) for file in staged if file.kind == kind]
    return [
        (source, row)
        for table in tables
        for source, row in zip(
            table["source"].to_pylist(), table["source_row"].to_pylist(), strict=True
        )
    ]


# ------------------------------------------------------------------------------------ staging


def test_a_task_stages_one_file_a_month_and_one_of_rejects(tmp_path):
    lines = mixed(range(700))
    path = write_lines(tmp_path / "a.ndjson", lines)
    (result,) = results(task_of(tmp_path, path))
    by_place = sorted((file.kind, file.month) for file in result.staged)
    months = ["2024-04", "2024-05", "2024-06"]
    assert by_place[1:] == [("verification", month) for month in months]
    assert by_place[0][0] == "reject"
    name = path.as_posix()
    good = [row for row, text in enumerate(lines, 1) if text and text not in BAD]
    bad = [row for row, text in enumerate(lines, 1) if text in BAD]
    assert sorted(rows_of(result.staged, "verification")) == [(name, row) for row in good]
    assert rows_of(result.staged, "reject") == [(name, row) for row in bad]
    (reading,) = result.readings
    assert (reading.n_read, reading.n_rejected) == (len(good) + len(bad), len(bad))
    assert (reading.rows_done, reading.bytes_done) == (len(lines), path.stat().st_size)
    assert result.final


def test_staged_files_have_every_column_of_the_table_and_nothing_of_its_partition(tmp_path):
    path = write_lines(tmp_path / "a.ndjson", mixed(range(100)))
    (result,) = results(task_of(tmp_path, path))
    for file in result.staged:
        schema = VERIFICATIONS if file.kind == "verification" else REJECTS
        table = pq.read_table(file.path, partitioning=None)
        expected = {field.name: field.type for field in schema}
        if file.kind == "verification":
            expected["ctx_channel"] = pa.string()
        assert {field.name: field.type for field in table.schema} == expected
        assert table["batch"].unique().to_pylist() == ["b1"]
        assert table.num_rows == file.n_rows
        assert stat.S_IMODE(Path(file.path).stat().st_mode) == 0o600


def test_rows_of_a_file_keep_the_order_of_the_source(tmp_path):
    path = write_lines(tmp_path / "a.ndjson", mixed(range(3000)))
    (result,) = results(task_of(tmp_path, path))
    for file in result.staged:
        rows = pq.read_table(file.path)["source_row"].to_pylist()
        assert rows == sorted(rows)


def test_parquet_is_written_as_the_store_wants_it(tmp_path):
    path = write_lines(tmp_path / "a.ndjson", (line(n) for n in range(2000)))
    (result,) = results(task_of(tmp_path, path))
    (file,) = result.staged
    group = pq.ParquetFile(file.path).metadata.row_group(0)
    for place in range(group.num_columns):
        column = group.column(place)
        assert column.compression == "ZSTD"
        dictionary = {"PLAIN_DICTIONARY", "RLE_DICTIONARY"} & set(column.encodings)
        assert bool(dictionary) == (column.path_in_schema in LOW_CARDINALITY), column
        real = column.physical_type == "DOUBLE" and column.path_in_schema not in LOW_CARDINALITY
        assert ("BYTE_STREAM_SPLIT" in column.encodings) == real, column


def test_what_was_not_handed_over_is_removed(tmp_path):
    path = write_lines(tmp_path / "a.ndjson", mixed(range(300)))
    folder = tmp_path / "staging"
    folder.mkdir()
    task = task_of(folder, path, path, max_rows=1)
    work = perform(task, Flattener(OPTIONS), lambda _: None, lambda: "b2")
    handed = next(work)
    work.close()
    assert sorted(map(str, folder.iterdir())) == sorted(file.path for file in handed.staged)


# ------------------------------------------------------------------------------------ parts


def test_parts_bring_the_same_rows_as_the_whole_and_each_its_batch(tmp_path):
    lines = mixed(range(5000))
    path = write_lines(tmp_path / "a.ndjson", lines)
    whole = results(task_of(tmp_path, path))
    (tmp_path / "parts").mkdir()
    parts = results(task_of(tmp_path / "parts", path, max_bytes=500_000))
    assert len(parts) > 2
    assert [part.final for part in parts] == [False] * (len(parts) - 1) + [True]
    for kind in ("verification", "reject"):
        staged = [file for part in parts for file in part.staged]
        assert sorted(rows_of(staged, kind)) == sorted(rows_of(whole[0].staged, kind))
    for part in parts:
        batches = {b for f in part.staged for b in pq.read_table(f.path)["batch"].to_pylist()}
        assert batches <= {part.batch}
    assert len({part.batch for part in parts}) == len(parts)
    assert sum(part.readings[0].n_read for part in parts) == whole[0].readings[0].n_read


@pytest.mark.parametrize("suffix", ["ndjson", "json"])
@pytest.mark.parametrize("rows_done", [1, 2500, 4321, 5999, 6000])
def test_rows_that_are_done_are_passed_over(tmp_path, rows_done, suffix):
    lines = [line(number) for number in range(6000)]
    path = tmp_path / f"a.{suffix}"
    if suffix == "json":
        path.write_bytes(b"[" + b",\n".join(lines) + b"]")
    else:
        write_lines(path, lines)
    (source,) = discover([path])
    task = Task("t", str(tmp_path), "b", [SourceRange(source, source.n_bytes, rows_done=rows_done)])
    (result,) = results(task)
    expected = [(source.name, row) for row in range(rows_done + 1, 6001)]
    assert rows_of(result.staged, "verification") == expected
    assert result.readings[0].n_read == len(expected)


def test_a_source_that_is_gone_is_named(tmp_path):
    path = write_lines(tmp_path / "a.ndjson", [line(1)])
    task = task_of(tmp_path, path)
    path.unlink()
    with pytest.raises(errors.InputError, match=r"a\.ndjson") as caught:
        results(task)
    assert caught.value.source == path.as_posix()


def test_a_staging_folder_that_is_gone_is_a_storage_error(tmp_path):
    path = write_lines(tmp_path / "a.ndjson", [line(1)])
    with pytest.raises(errors.StorageError, match="nowhere"):
        results(task_of(tmp_path / "nowhere", path))


# ------------------------------------------------------------------------------------ processes


def start(**options):
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "verifyanalytics.importing.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=child_environment(),
        **options,
    )


def test_a_worker_answers_tasks_and_errors_and_ends_with_its_input(tmp_path):
    path = write_lines(tmp_path / "a.ndjson", mixed(range(200)))
    decoder = msgspec.msgpack.Decoder(Up)
    with start() as process:
        hello = receive(process.stdout, decoder)
        assert isinstance(hello, Hello)
        send(process.stdin, Setup(OPTIONS))
        staging = tmp_path / "staging"
        staging.mkdir()
        for folder, expected in ((tmp_path / "none", Failure), (staging, Result)):
            send(process.stdin, task_of(folder, path))
            answer = receive(process.stdout, decoder)
            while isinstance(answer, Progress):
                answer = receive(process.stdout, decoder)
            assert isinstance(answer, expected)
        assert answer.readings == results(task_of(tmp_path, path))[0].readings
        process.stdin.close()
        assert process.wait(30) == 0
        assert process.stderr.read() == b""


def test_a_worker_does_not_outlive_a_killed_parent(tmp_path):
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT], stdout=subprocess.PIPE, env=child_environment()
    )
    with parent:
        assert parent.stdout.readline() == b"up\n"
        parent.kill()
        parent.wait()
        # the worker holds the other end of this pipe: it ends when the worker is gone
        assert parent.stdout.read() == b""


_PARENT = """
import subprocess, sys, time
worker = subprocess.Popen(
    [sys.executable, "-P", "-m", "verifyanalytics.importing.worker"],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=sys.stdout)
worker.stdout.read(1)
print("up", flush=True)
time.sleep(600)
"""


def test_a_message_that_is_none_ends_the_worker():
    """Its other thread waits for the next message and would wait for ever."""
    process = subprocess.run(
        [sys.executable, "-P", "-m", "verifyanalytics.importing.worker"],
        input=(3).to_bytes(4, "big") + b"abc",
        check=False,
        capture_output=True, timeout=60, env=child_environment(),
    )  # fmt: skip
    assert process.returncode == 1
    assert b"a message from the parent is none" in process.stderr
