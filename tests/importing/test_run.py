"""The import as its caller sees it: what it reads, what it counts, where it runs."""

from __future__ import annotations

import gzip
import json
import os
import sys
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders.stored_answers import BAD, answer, expected, found, line, mixed, write_lines

import verifyanalytics as va
from verifyanalytics.errors import UsageError
from verifyanalytics.importing.progress import ImportSummary
from verifyanalytics.store.store import Store


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store", create=True)


def staged_things(store):
    """What is left in the staging folder."""
    folder = store.path / "responses" / "_staging"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def conflict(number):
    """A line with the id of `number` and other content."""
    return line(number, days=number % 60, score=99.5)


@pytest.fixture
def four_files(tmp_path):
    """Overlapping files with known rows, conflicts and bad lines; (name, lines) in name order."""
    contents = {
        "a.ndjson": mixed(range(900)),
        "b.ndjson": [*mixed(range(800, 1200)), conflict(3), conflict(1100), b'{"x": 1}'],
        "c.ndjson": mixed(range(1200, 1300), bad_every=3),
        "d.ndjson": [],
    }
    BAD.setdefault(b'{"x": 1}', "not_a_response")
    return [
        (write_lines(tmp_path / name, lines).as_posix(), lines) for name, lines in contents.items()
    ]


# ------------------------------------------------------------------------------------ counting


@pytest.mark.parametrize(
    ("workers", "batch_bytes"), [(0, None), (1, None), (0, 100_000), (2, 100_000)]
)
def test_rows_rejects_and_counts_are_those_of_a_plain_loop(store, four_files, workers, batch_bytes):
    rows, rejects, n_known = expected(four_files)
    summary = va.import_responses(
        [name for name, _ in four_files], store, workers=workers, batch_bytes=batch_bytes
    )
    assert found(store) == (rows, rejects)
    assert (summary.added, summary.known, summary.rejected) == (len(rows), n_known, len(rejects))
    assert summary.read == summary.added + summary.known + summary.rejected
    reasons = [reason for _, _, reason in rejects]
    assert summary.rejects == {reason: reasons.count(reason) for reason in sorted(set(reasons))}
    assert summary.batches == (1 if batch_bytes is None else summary.batches) > 0
    assert (batch_bytes is None) == (summary.batches == 1)
    assert summary.bytes == sum(Path(name).stat().st_size for name, _ in four_files)
    assert staged_things(store) == []


def test_the_same_files_again_are_not_read(store, four_files):
    names = [name for name, _ in four_files]
    first = va.import_responses(names, store)
    again = va.import_responses(names, store)
    assert (again.read, again.added, again.batches) == (0, 0, 0)
    assert again.already_imported == first.read
    assert again.sources_already_imported == again.sources == 4
    assert found(store) == expected(four_files)[:2]


def test_a_copy_under_another_name_is_the_same_file(store, tmp_path):
    lines = mixed(range(300))
    one = write_lines(tmp_path / "one.ndjson", lines)
    two = write_lines(tmp_path / "two.ndjson", lines)
    summary = va.import_responses([two, one, one], store)
    assert summary.sources == 2
    assert summary.sources_already_imported == 1
    assert summary.already_imported == summary.read == len([text for text in lines if text])
    sources = set(store.sql("SELECT DISTINCT source FROM verifications")["source"])
    assert sources == {one.as_posix()}


def test_a_done_file_does_not_keep_its_siblings_out(store, four_files):
    names = [name for name, _ in four_files]
    va.import_responses(names[1], store)
    summary = va.import_responses(names, store)
    assert summary.sources_already_imported == 1
    assert summary.read > 0
    in_order = [four_files[1], four_files[0], *four_files[2:]]
    assert found(store) == expected(in_order)[:2]


def test_the_order_of_the_paths_decides_nothing(tmp_path, four_files):
    names = [name for name, _ in four_files]
    held = []
    for place, order in enumerate((names, names[::-1], [tmp_path])):
        store = Store(tmp_path.parent / f"{tmp_path.name}-{place}", create=True)
        va.import_responses(order, store)
        held.append(found(store))
    assert held[0] == held[1] == held[2] == expected(four_files)[:2]


@pytest.mark.parametrize("suffix", ["ndjson.gz", "json"])
def test_a_source_that_cannot_be_cut_goes_in_parts(store, tmp_path, suffix):
    lines = [line(number, days=number % 60) for number in range(6_000)]
    path = tmp_path / f"a.{suffix}"
    if suffix == "json":
        path.write_bytes(b"[" + b",".join(lines) + b"]")
    else:
        path.write_bytes(gzip.compress(b"\n".join(lines)))
    summary = va.import_responses(path, store, workers=1, batch_bytes=400_000)
    assert summary.batches > 2
    assert (summary.added, summary.rejected) == (len(lines), 0)
    ledger = store.sql("SELECT * FROM imports")
    assert int(ledger["n_added"].sum()) == len(lines)
    assert int(ledger["bytes"].sum()) == path.stat().st_size == summary.bytes
    again = va.import_responses(path, store, workers=1)
    assert (again.read, again.already_imported) == (0, len(lines))


def test_a_forgotten_option_can_be_given_later(store, tmp_path):
    """Rejects of a first reading do not stand in the way of a second one that is told better."""
    path = tmp_path / "foreign.ndjson"
    wrapped = [json.dumps({"at": "x", "payload": {"body": json.loads(line(n))}}) for n in range(3)]
    path.write_text("\n".join(wrapped))
    first = va.import_responses(path, store)
    assert (first.added, first.rejects) == (0, {"not_a_response": 3})
    told = va.import_responses(path, store, response_path="payload.body")
    assert (told.added, told.rejected, told.already_imported) == (3, 0, 0)
    again = va.import_responses(path, store, response_path="payload.body")
    assert (again.read, again.already_imported, again.already_rejected) == (0, 3, 0)
    plainly = va.import_responses(path, store)
    assert (plainly.read, plainly.already_imported, plainly.already_rejected) == (0, 3, 3)
    assert str(plainly).endswith("; already imported 3, of them rejected 3")
    assert store.check(deep=True) == []


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    "options",
    [
        {"context": {"day": 5}},
        {"context": {"day": "\udcff"}},
        {"action": 5},
        {"response_path": 5},
        {"req_key": b"k"},
        {"column": 1.5},
        {"batch_bytes": "1"},
        {"batch_bytes": 0},
    ],
)
def test_an_option_of_the_wrong_kind_is_refused(store, tmp_path, workers, options):
    path = write_lines(tmp_path / "a.ndjson", [line(1)])
    with pytest.raises(UsageError):
        va.import_responses(path, store, workers=workers, **options)


@pytest.mark.parametrize("workers", ["2", 1.5, -1, True])
def test_workers_are_a_whole_number(store, tmp_path, workers):
    path = write_lines(tmp_path / "a.ndjson", [line(1)])
    with pytest.raises(UsageError, match="workers"):
        va.import_responses(path, store, workers=workers)


@pytest.mark.parametrize("paths", [None, 5, [None], "", ["a.ndjson", ""]])
def test_what_is_no_path_is_refused(store, tmp_path, monkeypatch, paths):
    """An empty text above all: it would be the folder one stands in, with all that is below."""
    write_lines(tmp_path / "a.ndjson", [line(1)])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError):
        va.import_responses(paths, store)
    assert store.read().empty


def test_a_folder_of_files_with_names_of_others_is_no_empty_import(store, tmp_path):
    folder = tmp_path / "spark"
    folder.mkdir()
    written = write_lines(folder / "part-00000", [line(1)])
    write_lines(folder / "app.log.1", [line(2)])
    with pytest.raises(UsageError, match=r"2 have another or none: .*app\.log\.1.*part-00000"):
        va.import_responses(folder, store)
    write_lines(folder / "b.ndjson", [line(3)])
    summary = va.import_responses(folder, store)
    assert str(summary) == "read 1 = added 1 + known 0 + rejected 0; files left out 2"
    assert va.import_responses(written, store).added == 1


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes there only")
@pytest.mark.parametrize("workers", [0, 1])
def test_a_name_that_is_no_text_is_told(store, tmp_path, workers):
    path = os.fsencode(tmp_path) + b"/\xff.ndjson"
    with open(path, "wb") as file:  # noqa: PTH123
        file.write(line(1))
    with pytest.raises(UsageError, match=r"rename .*\\udcff\.ndjson"):
        va.import_responses(tmp_path, store, workers=workers)


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes there only")
def test_a_name_that_is_no_text_does_not_stop_its_folder(store, tmp_path):
    folder = tmp_path / "input"
    with open(os.fsencode(folder) + b"/\xff.ndjson", "wb") as file:  # noqa: PTH123
        file.write(line(1))
    write_lines(folder / "a.ndjson", [line(2)])
    summary = va.import_responses(folder, store)
    assert summary.added == 1
    (skipped,) = summary.skipped
    assert "udcff.ndjson: its name is no UTF-8 text" in skipped


def test_links_out_of_a_folder_are_followed_only_when_asked(store, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    write_lines(tmp_path / "elsewhere" / "b.ndjson", [line(2)])
    folder = tmp_path / "input"
    write_lines(folder / "a.ndjson", [line(1)])
    (folder / "b.ndjson").symlink_to(tmp_path / "elsewhere" / "b.ndjson")
    (folder / "more").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (folder / "same.ndjson").symlink_to(folder / "a.ndjson")
    summary = va.import_responses(folder, store)
    assert summary.added == 1
    assert len([text for text in summary.skipped if "--follow-links" in text]) == 2
    assert va.import_responses(folder, store, follow_links=True).added == 1


def test_a_closed_standard_input_is_told(store, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UsageError, match="standard input is closed"):
        va.import_responses("-", store)


def test_many_small_files_are_one_commit(store, tmp_path):
    for number in range(150):
        write_lines(tmp_path / f"{number:03}.ndjson", [line(number)])
    summary = va.import_responses(tmp_path, store)
    assert (summary.sources, summary.added, summary.batches) == (150, 150, 1)


def test_nothing_to_import_is_no_commit(store, tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()
    summary = va.import_responses(folder, store)
    assert (summary.sources, summary.read, summary.batches) == (0, 0, 0)
    assert str(summary) == "read 0 = added 0 + known 0 + rejected 0"


def test_files_of_a_folder_that_are_no_input_are_told(store, tmp_path):
    write_lines(tmp_path / "a.ndjson", [line(1)])
    (tmp_path / "photo.png").write_bytes(b"\x89PNG")
    summary = va.import_responses(tmp_path / "", store)
    assert [text for text in summary.skipped if "photo.png" in text]
    assert summary.added == 1


def test_a_table_column_context_and_options_arrive(store, tmp_path):
    table = pa.table(
        {
            "answer": [line(1).decode(), "no json", line(2).decode()],
            "shop": ["x", "y", "z"],
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    summary = va.import_responses(
        tmp_path / "t.parquet",
        store,
        column="answer",
        context={"channel": "app"},
        req_key="cert_pro_verify",
        action="CertVerify",
        workers=1,
    )
    assert (summary.added, summary.rejects) == (2, {"syntax": 1})
    v = store.read("verifications").sort_values("source_row")
    assert v["ctx_shop"].tolist() == ["x", "z"]
    assert v["ctx_channel"].tolist() == ["app", "app"]
    assert v["req_key"].unique().tolist() == ["cert_pro_verify"]


def test_strict_rejects_what_is_otherwise_coerced(tmp_path):
    odd = answer(1)
    odd["data"]["source_comp_details"]["score"] = {"not": "a number"}
    path = write_lines(tmp_path / "a.ndjson", [json.dumps(odd).encode()])
    for strict, counts in ((False, (1, {})), (True, (0, {"type": 1}))):
        summary = va.import_responses(path, tmp_path / f"store-{strict}", strict=strict)
        assert (summary.added, summary.rejects) == counts


@pytest.mark.parametrize(("workers", "batch_bytes"), [(0, None), (1, 2_000)])
def test_context_beyond_sixty_four_columns_goes_to_extra(store, tmp_path, workers, batch_bytes):
    """One answer after another brings names of its own; none of them is lost."""
    lines, said = [], {}
    for number in range(30):
        context = {f"n{number:02}_{place}": f"v{place}" for place in range(4)}
        said[number + 1] = context
        lines.append(json.dumps({"response": answer(number), "context": context}).encode())
    path = write_lines(tmp_path / "a.ndjson", lines)
    va.import_responses(path, store, workers=workers, batch_bytes=batch_bytes)
    v = store.read("verifications")
    columns = [name for name in v.columns if name.startswith("ctx_")]
    assert len(columns) == 64
    for record in v.to_dict("records"):
        held = {
            name.removeprefix("ctx_"): record[name]
            for name in columns
            if isinstance(record[name], str)
        }
        if isinstance(record["extra"], str):
            held |= json.loads(record["extra"]).get("envelope", {}).get("context", {})
        assert held == said[record["source_row"]]


# ------------------------------------------------------------------------------------ going on


def test_an_import_goes_on_behind_its_last_commit(tmp_path, four_files):
    """Stop at each commit in turn, by the callback, then import again."""
    names = [name for name, _ in four_files]
    for stop_after in (1, 4):
        store = Store(tmp_path / f"store-{stop_after}", create=True)
        commits = iter(range(stop_after))

        def stop(progress, commits=commits):
            if progress.state == "committing" and next(commits, None) is None:
                raise KeyboardInterrupt

        try:
            va.import_responses(names, store, workers=0, batch_bytes=90_000, progress=stop)
        except KeyboardInterrupt:
            assert len(store.read("imports")) >= stop_after
        assert staged_things(store) == []
        summary = va.import_responses(names, store, workers=0, batch_bytes=80_000)
        rows, rejects, n_known = expected(four_files)
        assert found(store) == (rows, rejects)
        assert summary.read + summary.already_imported == len(rows) + len(rejects) + n_known


def test_a_file_that_changes_while_it_is_read_is_refused_by_name(store, tmp_path):
    path = write_lines(tmp_path / "log.ndjson", [line(number) for number in range(2000)])

    def write_on(progress):
        if progress.state == "reading":
            with path.open("ab") as log:
                log.write(line(9999) + b"\n")

    with pytest.raises(
        va.errors.InputError, match=r"log\.ndjson changed while it was read"
    ) as caught:
        va.import_responses(path, store, progress=write_on)
    assert caught.value.source == path.as_posix()
    assert len(store.read("imports")) == 0
    assert va.import_responses(path, store).added == 2001


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_vanishes_is_named_and_nothing_of_it_committed(store, tmp_path, workers):
    path = write_lines(tmp_path / "gone.ndjson", [line(number) for number in range(2000)])

    def remove(progress):
        if progress.state == "reading":
            path.unlink(missing_ok=True)

    with pytest.raises(va.errors.InputError, match=r"gone\.ndjson"):
        va.import_responses(path, store, progress=remove, workers=workers)
    assert len(store.read("verifications")) == 0
    assert staged_things(store) == []


# ------------------------------------------------------------------------------------ arguments


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"workers": -1}, "workers must be at least 0"),
        ({"batch_bytes": 0}, "batch_bytes must be at least 1"),
        ({"context": {"no good": "x"}}, "no good"),
        ({"paths": "nowhere.ndjson"}, "nowhere"),
    ],
)
def test_an_argument_that_does_not_fit_is_told(store, tmp_path, options, text):
    path = write_lines(tmp_path / "a.ndjson", [line(1)])
    with pytest.raises(va.errors.UsageError, match=text):
        va.import_responses(options.pop("paths", path), store, **options)


def test_the_summary_is_one_line_and_a_dict():
    summary = ImportSummary(20_000, 19_880, 40, 80, rejects={"syntax": 76, "conflict": 4})
    text = "read 20 000 = added 19 880 + known 40 + rejected 80 (conflict 4, syntax 76)"
    assert str(summary) == repr(summary) == text
    assert str(ImportSummary(already_imported=1234)).endswith("; already imported 1 234")
    assert json.loads(json.dumps(summary.to_dict()))["rejects"] == {"syntax": 76, "conflict": 4}


@pytest.mark.parametrize("workers", [0, 2])
def test_progress_rises_to_the_end_in_the_thread_of_the_caller(store, tmp_path, workers):
    lines = [line(number) for number in range(8_000)]
    write_lines(tmp_path / "a.ndjson", lines[:5_000])
    (tmp_path / "b.ndjson.gz").write_bytes(gzip.compress(b"\n".join(lines[5_000:])))
    seen, threads = [], set()

    def watch(progress):
        seen.append(progress)
        threads.add(threading.current_thread())

    paths = [tmp_path / "a.ndjson", tmp_path / "b.ndjson.gz"]
    va.import_responses(paths, store, workers=workers, progress=watch)
    assert threads == {threading.current_thread()}
    assert [p.state for p in seen][-1] == "done"
    assert {"hashing", "reading", "committing", "done"} >= {p.state for p in seen}
    done = [p.bytes_done for p in seen]
    assert done == sorted(done)
    total = sum(path.stat().st_size for path in paths)
    assert (seen[-1].bytes_done, seen[-1].bytes_total, seen[-1].rows) == (total, total, 8_000)
    assert seen[-1].seconds_left == 0
    assert all(p.bytes_per_second >= 0 for p in seen)


@pytest.fixture(autouse=True)
def _folder_of_input(tmp_path):
    (tmp_path / "input").mkdir()


def test_a_remote_source_is_copied_once_and_keeps_its_name(store):
    import fsspec

    lines = mixed(range(200))
    memory = fsspec.filesystem("memory")
    memory.pipe("/bucket/a.ndjson", b"\n".join(lines))
    try:
        summary = va.import_responses("memory://bucket/a.ndjson", store, workers=1)
    finally:
        memory.rm("/bucket", recursive=True)
    assert summary.read == len([text for text in lines if text])
    (name,) = set(store.read("verifications")["source"])
    assert name.startswith("memory://")
    assert name.endswith("/bucket/a.ndjson")
    assert staged_things(store) == []


def test_a_path_that_is_not_there_makes_no_store(tmp_path):
    with pytest.raises(va.errors.UsageError, match="no such file"):
        va.import_responses(tmp_path / "nothing", tmp_path / "store")
    assert not any(path.name.startswith("store") for path in tmp_path.iterdir())
