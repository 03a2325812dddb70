"""Files, folders, globs, URLs and standard input."""

from __future__ import annotations

import gzip
import io
import os
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from builders.sources import (
    answer,
    lines_of,
    numbers,
    one,
    read,
    rows,
    written,
)

from verifyanalytics.errors import InputError, UsageError
from verifyanalytics.sources import reading as sources


class TestDiscover:
    def test_a_folder_is_walked_in_order_and_tells_what_it_leaves(self, tmp_path):
        inner = tmp_path / "b" / "c"
        inner.mkdir(parents=True)
        (tmp_path / "store" / "responses" / "_delta_log").mkdir(parents=True)
        for name in ("z.json", "a.ndjson", "b/c/x.log", "b/y.json.gz", "store/responses/1.parquet"):
            written(tmp_path, name, lines_of(1))
        for name in (".hidden.json", "_SUCCESS", "notes.md", "labels.csv"):
            written(tmp_path, name, b"id,label\n")
        (tmp_path / "gone.json").symlink_to(tmp_path / "nowhere")
        skipped = {}
        found = sources.discover([tmp_path], on_skip=skipped.__setitem__)
        names = [Path(source.name).relative_to(tmp_path).as_posix() for source in found]
        assert names == ["a.ndjson", "b/c/x.log", "b/y.json.gz", "z.json"]
        why = {Path(k).relative_to(tmp_path).as_posix(): v for k, v in skipped.items()}
        assert why.keys() == {
            ".hidden.json", "_SUCCESS", "notes.md", "labels.csv", "gone.json", "store/responses",
        }  # fmt: skip
        assert why["notes.md"] == "unknown suffix"
        assert "id, label" in why["labels.csv"]

    def test_loops_end_and_each_real_file_comes_once(self, tmp_path):
        written(tmp_path, "a.json", lines_of(1))
        (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
        (tmp_path / "again.json").symlink_to(tmp_path / "a.json")
        found = sources.discover([tmp_path, tmp_path / "a.json", str(tmp_path / "*.json")])
        assert [Path(source.name).name for source in found] == ["a.json"]

    def test_names_are_as_given(self, tmp_path, monkeypatch):
        (tmp_path / "d").mkdir()
        written(tmp_path, "d/a.json", lines_of(1))
        monkeypatch.chdir(tmp_path)
        source = one("d/a.json")
        assert (source.name, Path(source.location)) == ("d/a.json", tmp_path / "d" / "a.json")
        assert [s.name for s in sources.discover(["d/*.json"])] == ["d/a.json"]
        assert [s.name for s in sources.discover(["**/*.json"])] == ["d/a.json"]

    @pytest.mark.skipif(sys.platform != "linux", reason="names are bytes there")
    def test_a_name_that_is_not_utf8_is_shown_with_escapes(self, tmp_path):
        folder = os.fsencode(tmp_path) + b"/st\xff"
        Path(os.fsdecode(folder)).mkdir()
        for name in (b"a\xfe.json", b"a\xfe.md"):
            Path(os.fsdecode(folder + b"/" + name)).write_bytes(lines_of(1))
        skipped = []
        given = os.fsdecode(folder)
        [source] = sources.discover([given], on_skip=lambda name, why: skipped.append(name))
        assert source.name.endswith(r"/st\xff/a\xfe.json")
        assert skipped[0].endswith(r"/st\xff/a\xfe.md")
        assert numbers(source) == [1]

    def test_a_given_file_is_read_whatever_its_name(self, tmp_path):
        assert numbers(one(written(tmp_path, "dump.dat", lines_of(1, 2)))) == [1, 2]
        assert numbers(one(written(tmp_path, "odd[1].json", lines_of(3)))) == [3]

    @pytest.mark.parametrize("path", ["nowhere.json", "no/*.json", "a\0b", "nothing://x/y"])
    def test_what_is_not_there(self, tmp_path, monkeypatch, path):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(UsageError) as caught:
            one(path)
        assert path.split("\0")[0] in str(caught.value)

    def test_no_regular_file(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(UsageError, match="no file or folder"):
            one(tmp_path / "pipe")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_no_permission(self, tmp_path):
        path = written(tmp_path, "a.json", lines_of(1))
        path.chmod(0)
        with pytest.raises(UsageError, match="ermission"):
            one(path)

    def test_a_file_that_vanishes_is_no_damage(self, tmp_path):
        path = written(tmp_path, "a.json", lines_of(1))
        source = one(path)
        path.unlink()
        with pytest.raises(InputError, match=r"cannot read .*a\.json: No such file"):
            read(source)

    def test_memory_urls(self):
        import fsspec

        filesystem = fsspec.filesystem("memory")
        filesystem.pipe(
            {"/in/a.json": lines_of(1, 2), "/in/b.ndjson.gz": gzip.compress(lines_of(3))}
        )
        filesystem.pipe("/in/notes.md", b"x")
        skipped = []
        found = sources.discover(["memory://in"], on_skip=lambda name, why: skipped.append(name))
        assert [s.name for s in found] == ["memory:///in/a.json", "memory:///in/b.ndjson.gz"]
        assert skipped == ["memory:///in/notes.md"]
        assert [numbers(s) for s in found] == [[1, 2], [3]]
        assert not found[0].splittable
        assert [s.name for s in sources.discover(["memory://in/*.json"])] == ["memory:///in/a.json"]
        with pytest.raises(UsageError, match="nothing at"):
            one("memory://in/none.json")
        filesystem.rm("/in", recursive=True)

    def test_s3(self, monkeypatch):
        server = pytest.importorskip("moto.server").ThreadedMotoServer(
            "127.0.0.1", 0, verbose=False
        )
        s3fs = pytest.importorskip("s3fs")
        server.start()
        try:
            host, port = server.get_host_and_port()
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", "made-up")
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
            monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
            filesystem = s3fs.S3FileSystem(skip_instance_cache=True)
            filesystem.mkdir("answers")
            filesystem.pipe("answers/day/a.ndjson", lines_of(1, 2))
            filesystem.pipe("answers/day/b.json.gz", gzip.compress(b"[" + answer(3) + b"]"))
            found = sources.discover(["s3://answers/day"])
            assert [s.name for s in found] == [
                "s3://answers/day/a.ndjson",
                "s3://answers/day/b.json.gz",
            ]
            assert [numbers(s) for s in found] == [[1, 2], [3]]
            assert found[0].n_bytes == len(lines_of(1, 2))
            with pytest.raises(UsageError, match="nothing at s3://answers/none"):
                one("s3://answers/none.json")
        finally:
            server.stop()

    def test_a_secret_in_a_url_stays_out_of_errors(self):
        with pytest.raises(UsageError) as caught:
            one("nothing://user:hunter2@host/a.json?sig=hunter2")
        assert "hunter2" not in str(caught.value)


class TestStdin:
    def test_a_stream_is_spooled_and_recognised(self, tmp_path):
        with ExitStack() as kept:
            given = io.BytesIO(gzip.compress(b'[{"request_id":"7"}]'))
            source = sources.spool(given, tmp_path, kept.enter_context)
            assert (source.name, source.form, source.compression) == ("<stdin>", "json", "gzip")
            assert numbers(source) == [7]
            assert Path(source.location).stat().st_mode & 0o777 == 0o600
            if sys.platform == "linux":  # nothing that a killed process could leave
                assert list(tmp_path.iterdir()) == []

    def test_a_table_on_stdin_is_known_by_its_header(self, tmp_path):
        with ExitStack() as kept:
            given = io.BytesIO(b'n,answer\n1,"{}"\n')
            source = sources.spool(given, tmp_path, kept.enter_context, column="answer")
            assert source.form == "csv"
            assert rows(source) == [1]
