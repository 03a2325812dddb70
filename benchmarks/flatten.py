"""Answers → one Arrow table: ours against what a user would pick instead, as ratios of one run.

`python3 run.py bench flatten [--answers N] [--heavy N] [--repeat R]`. The engines take turns, each
in a process of its own with one thread; the table shows the median CPU and wall time of an answer.
All make the same columns, from stored bytes to an Arrow table in memory. Only ours besides refuses
what is not RFC 8259, names coercions, digests the content and keeps unknown keys, and that is in
its figures. The peers are not run on `dirty`: they stop at the first bad line, or read it as
something else. dlt is measured where it is installed.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import hashlib
import importlib.util
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks._answers import answers
from verifyanalytics.schema import QUALITY_FIELDS, QUALITY_MEASURES, THRESHOLD_LEVELS

IMAGES = ("face", "env")
DETAILS = {image: f"image_{image}_detail" for image in IMAGES}


def ours(path: Path) -> int:
    """Our kernel on the blocks of our reader."""
    from verifyanalytics.parsing.fast.flattener import Flattener
    from verifyanalytics.parsing.text import ReadOptions
    from verifyanalytics.sources.reading import blocks, discover

    (source,) = discover([path])
    flattener = Flattener(ReadOptions())
    flat = [flattener.flatten(block) for block in blocks(source)]
    import pyarrow as pa

    table = pa.Table.from_batches([part.verifications for part in flat])
    return table.num_rows + sum(part.rejects.num_rows for part in flat)


def duckdb_(path: Path) -> int:
    """`read_json` with the reply's types, `json_transform` of the nested texts."""
    import duckdb

    connection = duckdb.connect(config={"threads": 1})
    return connection.sql(DUCKDB.replace("@path", str(path))).to_arrow_table().num_rows


_TYPES = "{" + ",".join(f'"{name}":"DOUBLE"' for name in QUALITY_FIELDS) + "}"
_RISK = '{"score":"INTEGER","tags":["VARCHAR"]}'
_THRESHOLDS = ",".join(f'"{level}" DOUBLE' for level in THRESHOLD_LEVELS)
_QUALITY = ", ".join(
    f"{image}.{name} {image}_{measure}"
    for image in IMAGES
    for name, measure in zip(QUALITY_FIELDS, QUALITY_MEASURES, strict=True)
)
DUCKDB = f"""
with raw as (select * from read_json('@path', format='newline_delimited',
  maximum_object_size=100000000, columns={{
  code:'INTEGER', message:'VARCHAR', request_id:'VARCHAR', time_elapsed:'VARCHAR', status:'INTEGER',
  data:'STRUCT(result BOOLEAN, risk_result VARCHAR,
    images STRUCT(image_best VARCHAR, image_env VARCHAR),
    source_comp_details STRUCT(alive BOOLEAN, score DOUBLE, thresholds STRUCT({_THRESHOLDS}),
      image_face_detail VARCHAR, image_env_detail VARCHAR),
    algorithm_base_resp STRUCT(status_code INTEGER, status_message VARCHAR),
    req_measure_info STRUCT(measure_type VARCHAR, value BIGINT))'}})),
opened as (select *, data.source_comp_details d,
  json_transform(data.risk_result, '{_RISK}') risk,
  json_transform(data.source_comp_details.image_face_detail, '{_TYPES}') face,
  json_transform(data.source_comp_details.image_env_detail, '{_TYPES}') env from raw)
select code, message, request_id, status,
  try_strptime(left(request_id, 14), '%Y%m%d%H%M%S') - interval 8 hour occurred_at,
  case when time_elapsed like '%ms' then cast(left(time_elapsed, -2) as double)
       when time_elapsed like '%µs' then cast(left(time_elapsed, -2) as double) / 1000
  end elapsed_ms,
  data.result, d.alive, d.score, unnest(d.thresholds), risk.score risk_score, risk.tags risk_tags,
  {_QUALITY},
  length(data.images.image_best) image_best_bytes, length(data.images.image_env) image_env_bytes,
  data.algorithm_base_resp.status_code, data.algorithm_base_resp.status_message,
  data.req_measure_info.measure_type, data.req_measure_info.value
from opened"""


def pandas_(path: Path) -> int:
    """`json.loads` of each line, `json_normalize` of the reply and of the nested texts."""
    import pandas as pd
    import pyarrow as pa

    frame = pd.json_normalize([json.loads(line) for line in _lines(path)])
    for image, column in DETAILS.items():
        nested = pd.json_normalize(_loaded(frame.pop(f"data.source_comp_details.{column}")))
        frame = frame.join(nested.add_prefix(f"{image}_"))
    risk = pd.json_normalize(_loaded(frame.pop("data.risk_result")))
    frame = frame.join(risk.add_prefix("risk_"))
    for name in ("best", "env"):
        frame[f"image_{name}_bytes"] = frame.pop(f"data.images.image_{name}").str.len()
    frame["occurred_at"] = pd.to_datetime(
        frame["request_id"].str[:14], format="%Y%m%d%H%M%S", errors="coerce"
    ).dt.tz_localize("Asia/Shanghai")
    text = frame["time_elapsed"]
    scale = text.str.endswith("µs").map({True: 1e-3, False: 1.0})
    frame["elapsed_ms"] = text.str[:-2].astype(float) * scale
    return pa.Table.from_pandas(frame, preserve_index=False).num_rows


def _lines(path: Path) -> list[bytes]:
    opened = gzip.open if path.suffix == ".gz" else Path.open
    with opened(path, "rb") as file:
        return file.read().splitlines()


def _loaded(texts) -> list[dict]:
    return [json.loads(text) if isinstance(text, str) else {} for text in texts]


def polars_(path: Path) -> int:
    """`read_ndjson` with the reply's types, `json_decode` of the nested texts."""
    import polars as pl

    quality = pl.Struct(dict.fromkeys(QUALITY_FIELDS, pl.Float64))
    details = pl.Struct(
        {
            "alive": pl.Boolean, "score": pl.Float64, **dict.fromkeys(DETAILS.values(), pl.String),
            "thresholds": pl.Struct(dict.fromkeys(THRESHOLD_LEVELS, pl.Float64)),
        }
    )  # fmt: skip
    data = pl.Struct(
        {
            "result": pl.Boolean, "risk_result": pl.String, "source_comp_details": details,
            "images": pl.Struct({"image_best": pl.String, "image_env": pl.String}),
            "algorithm_base_resp": pl.Struct(
                {"status_code": pl.Int32, "status_message": pl.String}
            ),
            "req_measure_info": pl.Struct({"measure_type": pl.String, "value": pl.Int64}),
        }
    )  # fmt: skip
    schema = {
        "code": pl.Int32, "data": data, "message": pl.String, "request_id": pl.String,
        "status": pl.Int32, "time_elapsed": pl.String,
    }  # fmt: skip
    frame = pl.read_ndjson(path, schema=schema).unnest("data").unnest("source_comp_details")
    risk = pl.Struct({"score": pl.Int32, "tags": pl.List(pl.String)})
    text, images = pl.col("time_elapsed"), pl.col("images").struct
    frame = frame.with_columns(
        *(pl.col(name).str.json_decode(quality).alias(image) for image, name in DETAILS.items()),
        pl.col("risk_result").str.json_decode(risk),
        images.field("image_best").str.len_bytes().alias("image_best_bytes"),
        images.field("image_env").str.len_bytes().alias("image_env_bytes"),
        (
            text.str.head(-2).cast(pl.Float64)
            * pl.when(text.str.ends_with("µs")).then(1e-3).otherwise(1.0)
        ).alias("elapsed_ms"),
        pl.col("request_id")
        .str.head(14)
        .str.to_datetime("%Y%m%d%H%M%S", strict=False)
        .alias("occurred_at"),
    ).drop("images", *DETAILS.values(), "time_elapsed")
    for image in IMAGES:
        names = [f"{image}_{measure}" for measure in QUALITY_MEASURES]
        frame = frame.with_columns(pl.col(image).struct.rename_fields(names)).unnest(image)
    named = pl.col("risk_result").struct.rename_fields(["risk_score", "risk_tags"])
    return frame.with_columns(named).unnest("risk_result", "thresholds").to_arrow().num_rows


def dlt_(path: Path) -> int:
    """Extract and normalise with dlt, nested texts opened by hand, up to its own files."""
    import dlt

    def opened():
        for line in _lines(path):
            answer = json.loads(line)
            details = (answer.get("data") or {}).get("source_comp_details") or {}
            for column in DETAILS.values():
                if column in details:
                    details[column] = json.loads(details[column])
            if answer.get("data"):
                answer["data"]["risk_result"] = json.loads(answer["data"]["risk_result"])
                for name, image in list(answer["data"]["images"].items()):
                    answer["data"]["images"][name] = len(image)
            yield answer

    with tempfile.TemporaryDirectory() as folder:
        target = dlt.destinations.filesystem(bucket_url=folder)
        pipeline = dlt.pipeline("bench", pipelines_dir=folder, destination=target, dataset_name="a")
        pipeline.extract(opened(), table_name="answers", loader_file_format="parquet")
        pipeline.normalize()
        return pipeline.last_trace.last_normalize_info.row_counts["answers"]


ENGINES: dict[str, Callable[[Path], int]] = {
    "verifyanalytics": ours,
    "DuckDB": duckdb_,
    "Polars": polars_,
    "pandas": pandas_,
    "dlt": dlt_,
}
PACKAGES = {"DuckDB": "duckdb", "Polars": "polars", "pandas": "pandas", "dlt": "dlt"}


def measure(engines: list[str], path: Path, n: int, repeat: int) -> dict[str, tuple[float, float]]:
    """Median CPU and wall microseconds an answer; the engines take turns."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in engines}
    with contextlib.ExitStack() as stack:
        # one engine's idle threads must not count as another's time
        spawn = multiprocessing.get_context("spawn")
        homes = {
            name: stack.enter_context(ProcessPoolExecutor(1, mp_context=spawn)) for name in engines
        }
        for turn in range(repeat + 1):
            for name, home in homes.items():
                met, cpu, wall = home.submit(_timed, name, path).result()
                if met != n:
                    raise SystemExit(f"{name} met {met} of {n} answers in {path.name}")
                if turn:  # the first warms up
                    times[name].append((cpu / n * 1e6, wall / n * 1e6))
    return {
        name: (
            statistics.median(cpu for cpu, _ in spent),
            statistics.median(wall for _, wall in spent),
        )
        for name, spent in times.items()
    }


def _timed(name: str, path: Path) -> tuple[int, float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    met = ENGINES[name](path)
    return met, time.process_time() - cpu, time.perf_counter() - wall


def show(title: str, n_bytes: int, n: int, figures: dict[str, tuple[float, float]]) -> None:
    base = figures["verifyanalytics"][0]
    print(f"\n{title}: {n:,} answers, {n_bytes / n:,.0f} bytes each")
    print(f"  {'engine':16}{'CPU µs':>10}{'wall µs':>10}{'GB/s CPU':>10}{'CPU to ours':>13}")
    for name, (cpu, wall) in figures.items():
        speed = n_bytes / n / cpu / 1e3
        print(f"  {name:16}{cpu:10.2f}{wall:10.2f}{speed:10.2f}{cpu / base:12.2f}×")


def main(arguments: list[str] | None = None) -> None:
    """Make the answers, run the engines in turn, print one table."""
    parser = argparse.ArgumentParser(prog="benchmarks flatten", description=__doc__)
    parser.add_argument("--answers", type=int, default=100_000, help="of the lean kind")
    parser.add_argument("--heavy", type=int, default=2_000, help="answers of 200 KB")
    parser.add_argument("--repeat", type=int, default=5, help="turns that count")
    chosen = parser.parse_args(arguments)
    os.environ["POLARS_MAX_THREADS"] = "1"  # read when Polars is imported
    quick = [name for name in ENGINES if name not in PACKAGES or _installed(name)]
    fast = [name for name in quick if name in ("verifyanalytics", "DuckDB", "Polars")]
    with tempfile.TemporaryDirectory() as folder:
        lean = _written(folder, "lean.ndjson", chosen.answers)
        n = chosen.answers
        show("lean", lean.stat().st_size, n, measure(quick, lean, n, chosen.repeat))
        dirty = _written(folder, "dirty.ndjson", n, bad=0.01)
        both = measure(["verifyanalytics"], dirty, n, chosen.repeat)
        show("dirty (1 % of lines bad)", dirty.stat().st_size, n, both)
        size = lean.stat().st_size
        for suffix, packed in (("gz", gzip.compress(lean.read_bytes(), 6)), ("zst", _zstd(lean))):
            path = lean.with_suffix(f".ndjson.{suffix}")
            path.write_bytes(packed)
            engines = [name for name in fast if name != "Polars"]
            show(f"lean .{suffix}", size, n, measure(engines, path, n, chosen.repeat))
        heavy = _written(folder, "heavy.ndjson", chosen.heavy, image_bytes=150_000)
        figures = measure(fast, heavy, chosen.heavy, chosen.repeat)
        show("heavy", heavy.stat().st_size, chosen.heavy, figures)
        _hashing(heavy)


def _installed(name: str) -> bool:
    return importlib.util.find_spec(PACKAGES[name]) is not None


def _written(folder: str, name: str, n: int, **kind) -> Path:
    path = Path(folder) / name
    with path.open("wb") as file:
        file.writelines(answers(n, **kind))
    return path


def _zstd(path: Path) -> bytes:
    import pyarrow as pa

    return pa.Codec("zstd", compression_level=3).compress(path.read_bytes(), asbytes=True)


def _hashing(path: Path) -> None:
    data = path.read_bytes()
    cpu = time.process_time()
    hashlib.sha256(data).hexdigest()
    speed = len(data) / (time.process_time() - cpu) / 1e9
    print(f"\nSHA-256 of the source, which an import does besides: {speed:.2f} GB/s")


if __name__ == "__main__":
    main(sys.argv[1:])
