"""Simulated files hold every answer, and the sample is rebuilt from its arguments."""

from __future__ import annotations

import csv
import dataclasses
import datetime as dt
import gzip
import hashlib
import json
import tomllib
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from verifyanalytics.errors import StorageError, UsageError
from verifyanalytics.schema import LABELS
from verifyanalytics.simulator import (
    Simulation,
    World,
    simulate,
    simulate_responses,
)
from verifyanalytics.simulator.edge_cases import odd_lines
from verifyanalytics.simulator.population import BLOCK_ROWS

SAMPLE = Path(__file__).parents[2] / "data" / "sample"


KEY = bytes(range(32))


def lines_of(path):
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return data.splitlines()


def test_files_hold_every_answer_once_and_repeats_twice(tmp_path):
    done = simulate(500, 3, out=tmp_path, by="month", repeats=7, oddities=True)
    text = [line for path in sorted(tmp_path.glob("*.ndjson.gz")) for line in lines_of(path)]
    assert len(text) == 507
    assert Counter(text) == Counter(list(simulate_responses(500, 3))) + Counter(
        [line for line, times in Counter(text).items() if times == 2]
    )
    assert sum(times == 2 for times in Counter(text).values()) == 7
    assert done.n_answers == 500 + len(odd_lines())
    assert done.n_bad == len(lines_of(tmp_path / "bad_lines.ndjson"))
    assert {path.name for path in done.paths} == {path.name for path in tmp_path.iterdir()}
    assert done.n_bytes == sum(path.stat().st_size for path in tmp_path.iterdir())
    for path in tmp_path.glob("2024-*.ndjson.gz"):
        for line in set(lines_of(path)) - set(text[-7:]):
            utc = dt.datetime.fromisoformat(json.loads(line)["occurred_at"])
            assert path.name.startswith(f"{utc + dt.timedelta(hours=8):%Y-%m}")


def test_labels_file_is_the_labels(tmp_path):
    n = BLOCK_ROWS + 300
    world = World(labelled="stratified", label_share=0.01, fraud_share=0.5)
    done = simulate(n, 3, out=tmp_path, world=world, compression="none")
    with (tmp_path / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    expected = Simulation(n, 3, world).label_table().to_pylist()
    assert done.n_labels == len(rows) == len(expected)
    for row, label in zip(rows, expected, strict=True):
        assert list(row) == LABELS.names
        assert row["request_id"] == label["request_id"]
        assert row["mated"] == ("true" if label["mated"] else "false")
        assert (row["attack"] or None) == label["attack"]
        assert (float(row["inclusion_prob"] or "nan") == label["inclusion_prob"]) or (
            label["inclusion_prob"] is None and row["inclusion_prob"] == ""
        )
        assert dt.datetime.fromisoformat(row["labelled_at"]) == label["labelled_at"]


@pytest.mark.parametrize("compression", ["gz", "zst", "none"])
def test_several_files_in_each_compression(tmp_path, compression):
    simulate(101, 3, out=tmp_path, files=3, compression=compression, form="answer")
    suffix = "" if compression == "none" else f".{compression}"
    paths = [tmp_path / f"responses-{i:03d}.ndjson{suffix}" for i in (1, 2, 3)]
    if compression == "zst":
        texts = [pa.CompressedInputStream(str(path), "zstd").read() for path in paths]
    else:
        texts = [b"\n".join(lines_of(path)) + b"\n" for path in paths]
    assert b"".join(texts).splitlines() == list(simulate_responses(101, 3).answers("answer"))
    assert [text.count(b"\n") for text in texts] == [34, 34, 33]


def test_same_arguments_same_bytes(tmp_path):
    for name in ("a", "b"):
        simulate(200, 3, out=tmp_path / name, oddities=True, image_bytes=50)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert "responses.ndjson.gz" in names
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_files_that_are_there_are_kept(tmp_path):
    simulate(5, 3, out=tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UsageError, match=r"responses\.ndjson\.gz is there"):
        simulate(6, 4, out=tmp_path)
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    simulate(6, 4, out=tmp_path, overwrite=True)
    assert before != {path.name: path.read_bytes() for path in tmp_path.iterdir()}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"form": "xml"}, "envelope, answer, mixed"),
        ({"compression": "rar"}, "gz, zst, none"),
        ({"by": "year"}, "day, week, month"),
        ({"files": 0}, "files is 0"),
        ({"files": 2, "by": "day"}, "not both"),
        ({"repeats": 11}, r"repeats is 11; it must lie in \[0, 10\]"),
    ],
)
def test_arguments_that_cannot_work(tmp_path, arguments, said):
    with pytest.raises(UsageError, match=said):
        simulate(10, out=tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot write"):
        simulate(10, out=tmp_path / "file" / "out")


def test_sample_is_rebuilt_from_the_arguments_beside_it(tmp_path):
    made = tomllib.loads((SAMPLE / "simulation.toml").read_text(encoding="utf-8"))
    digests, world = made.pop("sha256"), made.pop("world")
    fields = {f.name: f.default for f in dataclasses.fields(World)}
    assert set(world) <= set(fields)
    world |= dict.fromkeys(set(fields) - set(world))
    world = {n: tuple(v) if isinstance(v, list) else v for n, v in world.items()}
    for name, digest in digests.items():
        path = SAMPLE / name
        text = (
            path.read_bytes()
            if path.exists()
            else gzip.decompress((SAMPLE / f"{name}.gz").read_bytes())
        )
        assert hashlib.sha256(text).hexdigest() == digest, name
    made |= {"by": made["by"] or None, "compression": "none"}
    simulate(out=tmp_path, world=World(**world), **made)
    rebuilt = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in tmp_path.iterdir()
        if path.name != "simulation.toml"
    }
    assert rebuilt == digests


def test_sample_adds_up():
    names = sorted(path.name for path in SAMPLE.glob("*.ndjson*"))
    assert names == [
        "2024-04.ndjson.gz", "2024-05.ndjson.gz", "2024-06.ndjson.gz",
        "bad_lines.ndjson", "odd_lines.ndjson",
    ]  # fmt: skip
    months = [line for name in names[:3] for line in lines_of(SAMPLE / name)]
    bad = (SAMPLE / "bad_lines.ndjson").read_bytes().split(b"\n")[:-1]
    odd = (SAMPLE / "odd_lines.ndjson").read_bytes().split(b"\n")[:-1]
    assert len(months) + len(bad) + len(odd) == 20_000
    assert len(set(months)) + len(odd) == 19_880
    assert len(bad) == 80
    assert sum(path.stat().st_size for path in SAMPLE.iterdir()) < 6_000_000
