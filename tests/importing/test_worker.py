"""A worker: its messages, its staged files, and how it ends."""

from __future__ import annotations

import io
import itertools
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders.stored_answers import BAD, line, mixed, write_lines

from verifyanalytics import errors
from verifyanalytics.importing.pool import Crew, Job, WorkerDiedError, child_environment
from verifyanalytics.importing.worker import (
    Beat,
    Down,
    Failure,
    Hello,
    Onward,
    Piece,
    Result,
    Setup,
    Task,
    Up,
    perform,
    receive,
    send,
)
from verifyanalytics.parsing.envelope import ReadOptions
from verifyanalytics.parsing.fast.flattener import Flattener
from verifyanalytics.schema import LOW_CARDINALITY, REJECTS, VERIFICATIONS
from verifyanalytics.sources.reading import discover
from verifyanalytics.store.staging import ROW_GROUP_ROWS, Staging

OPTIONS = ReadOptions(key=b"k" * 32, context={"channel": "app"})


def task_of(folder, *paths, **limits):
    return Task("t", str(folder), "b1", [Piece(source) for source in discover(paths)], **limits)


def results(task, options=OPTIONS):
    """Drive a task to its end in this process; each cut gets a batch of its own."""
    work, batches, batch, found = perform(task, Flattener(options)), itertools.count(2), None, []
    while True:
        try:
            message = work.send(batch)
        except StopIteration:
            return found
        batch = None
        if isinstance(message, Result):
            found.append(message)
            batch = None if message.final else f"b{next(batches)}"


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


# ------------------------------------------------------------------------------------ messages


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (Setup(OPTIONS), Down),
        (Task("t", "/f", "b", []), Down),
        (Onward("b2"), Down),
        (Hello("/p"), Up),
        (Beat(3, 4), Up),
        (Result("b", [], [], final=True), Up),
        (Failure("InputError", "m", source="s", row=3, reason="size"), Up),
    ],
)
def test_a_message_arrives_as_it_was_sent(message, kind):
    stream = io.BytesIO()
    send(stream, message)
    stream.seek(0)
    assert receive(stream, msgspec.msgpack.Decoder(kind)) == message
    assert receive(stream, msgspec.msgpack.Decoder(kind)) is None


def test_a_message_that_is_cut_off_is_the_end():
    stream = io.BytesIO()
    send(stream, Onward("b2"))
    whole = stream.getvalue()
    for size in range(len(whole)):
        assert receive(io.BytesIO(whole[:size]), msgspec.msgpack.Decoder(Down)) is None


@pytest.mark.parametrize(
    "error",
    [
        errors.InputError("no", source="a.ndjson", row=7, reason="size"),
        errors.StorageError("full", path=Path("/somewhere")),
        errors.UsageError("wrong"),
        errors.VerifyAnalyticsError("ours"),
        errors.MissingColumnError(["response"], ["a", "b"]),
    ],
)
def test_an_error_keeps_its_exit_code_and_context_on_the_way(error):
    again = Failure.of(error).error()
    assert isinstance(error, type(again))
    assert (again.exit_code, str(again)) == (error.exit_code, str(error))
    context = {name: value for name, value in vars(again).items() if name in vars(error)}
    assert context == {name: vars(error)[name] for name in context}


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
    assert reading.complete
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


def test_what_was_not_handed_over_is_removed(tmp_path):
    path = write_lines(tmp_path / "a.ndjson", mixed(range(300)))
    folder = tmp_path / "staging"
    folder.mkdir()
    work = perform(task_of(folder, path, path, max_rows=1), Flattener(OPTIONS))
    handed = next(message for message in work if isinstance(message, Result))
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
    task = Task("t", str(tmp_path), "b", [Piece(source, rows_done=rows_done)])
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
            while isinstance(answer, Beat):
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


class Death:
    """Kills the worker that beats, a number of times."""

    def __init__(self, times):
        self.left, self.notes, self.crew = times, [], None
        self.lock = threading.Lock()

    def beat(self, beat):
        with self.lock:
            if self.left:
                self.left -= 1
                for worker in list(self.crew._workers):
                    if worker._process.poll() is None:
                        worker.kill()


def busy_task(tmp_path):
    """A task that lasts for several beats."""
    path = write_lines(tmp_path / "busy.ndjson", (line(n) for n in range(25_000)))
    return task_of(tmp_path, path)


def test_a_task_whose_worker_dies_is_done_by_another(tmp_path):
    death = Death(1)
    death.crew = Crew(1, Setup(OPTIONS), death.beat, death.notes.append)
    try:
        job = death.crew.submit(Job(busy_task(tmp_path), lambda: "never"))
        (result,) = job.results(lambda: None)
    finally:
        death.crew.stop()
    assert result.readings[0].n_read == 25_000
    assert sum(file.n_rows for file in result.staged) == 25_000
    assert len(death.notes) == 1
    assert "signal 9" in death.notes[0]
    assert "busy.ndjson" in death.notes[0]


def test_a_task_that_kills_every_worker_is_given_up_by_name(tmp_path):
    death = Death(1000)
    death.crew = Crew(1, Setup(OPTIONS), death.beat, death.notes.append)
    try:
        job = death.crew.submit(Job(busy_task(tmp_path), lambda: "never"))
        with pytest.raises(WorkerDiedError, match=r"busy\.ndjson after 2 tries"):
            list(job.results(lambda: None))
    finally:
        death.crew.stop()


def test_stopping_ends_the_workers_whatever_they_do(tmp_path):
    beat = threading.Event()
    crew = Crew(2, Setup(OPTIONS), lambda _: beat.set(), lambda _: None)
    crew.submit(Job(busy_task(tmp_path), lambda: "never"))
    assert beat.wait(60)
    crew.stop()
    assert all(worker._process.poll() is not None for worker in crew._workers)


def test_a_package_of_another_place_is_noticed(tmp_path, monkeypatch):
    other = tmp_path / "elsewhere" / "__init__.py"
    monkeypatch.setattr("verifyanalytics.importing.pool.package_file", str(other))
    monkeypatch.setattr(
        "verifyanalytics.importing.pool.child_environment", lambda: dict(os.environ)
    )
    crew = Crew(1, Setup(OPTIONS), lambda _: None, lambda _: None)
    try:
        job = crew.submit(Job(task_of(tmp_path), lambda: "never"))
        with pytest.raises(errors.VerifyAnalyticsError, match="another package"):
            list(job.results(lambda: None))
    finally:
        crew.stop()


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


def test_a_fault_of_the_threads_reaches_who_waits(tmp_path):
    path = write_lines(tmp_path / "a.ndjson", [line(1)])
    (source,) = discover([path])
    task = Task("t", str(tmp_path), "\udcff", [Piece(source)])
    crew = Crew(1, Setup(OPTIONS), lambda beat: None, lambda death: None)
    try:
        job = crew.submit(Job(task, lambda: "b2"))
        with pytest.raises(UnicodeEncodeError):
            list(job.results(lambda: None))
    finally:
        crew.stop()
