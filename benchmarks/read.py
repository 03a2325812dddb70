"""Statistics over 10 million stored answers: through the store, by hand in SQL, and in pandas.

The question: a histogram of scores in steps of one point by risk tag and month, and four match
rates, one at each of the vendor's thresholds. Every way answers it in a process of its own, in
turns, and the answers are compared. `va` is what an analyst calls: the same per regime, with
intervals and the counts behind them.

    python3 run.py bench read [--rows N] [--rounds N] [--folder DIR] [--keep]
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks._memory import peak_bytes
from benchmarks._synthetic import ROWS_A_FILE, build, grow
from verifyanalytics.schema import THRESHOLD_COLUMNS
from verifyanalytics.store.store import Store

MB = 1 << 20


def through_scan(store: Store):
    """Plain narwhals expressions on lazy relations: the long form of the tags, and the rows."""
    import narwhals as nw

    tags = nw.from_native(store.scan("risk_tags", columns=["tag", "month", "score"]))
    counted = (
        tags.with_columns(bin=nw.col("score").floor())
        .group_by("tag", "month", "bin")
        .agg(n=nw.len())
        .collect()
    )
    v = nw.from_native(store.scan(columns=["score", *THRESHOLD_COLUMNS]))
    score = nw.col("score")
    rates = v.select(
        scored=score.count(), **{name: (score >= nw.col(name)).sum() for name in THRESHOLD_COLUMNS}
    ).collect()
    return counted.rows(), rates.rows()[0]


def by_hand(store: Store):
    """What a person would type into DuckDB, over a list of files."""
    import duckdb

    files = sorted(map(str, (store.path / "responses" / "kind=verification").rglob("*.parquet")))
    source = f"read_parquet({files}, hive_partitioning = true, hive_types_autocast = false)"
    con = duckdb.connect(config={"memory_limit": "768MB"})
    counted = con.sql(
        f"SELECT tag, month, floor(score) AS bin, count(*) AS n FROM "
        f"(SELECT month, score, unnest(risk_tags) AS tag FROM {source}) GROUP BY ALL"
    ).fetchall()
    sums = ", ".join(f"count(*) FILTER (score >= {name})" for name in THRESHOLD_COLUMNS)
    return counted, con.sql(f"SELECT count(score), {sums} FROM {source}").fetchall()[0]


def in_pandas(store: Store):
    """Read the columns into memory, month by month files included, then group."""
    import numpy as np
    import pandas as pd
    import pyarrow.parquet as pq

    columns = ["score", "risk_tags", *THRESHOLD_COLUMNS]
    frames = []
    for path in sorted((store.path / "responses" / "kind=verification").rglob("*.parquet")):
        table = pq.read_table(path, columns=columns, partitioning=None)
        frame = table.to_pandas(types_mapper=pd.ArrowDtype)
        frames.append(frame.assign(month=path.parent.name.removeprefix("month=")))
    v = pd.concat(frames, ignore_index=True)
    tags = v[["month", "score", "risk_tags"]].explode("risk_tags")
    tags = tags[tags["risk_tags"].notna()]
    tags["bin"] = np.floor(tags["score"].astype("float64"))
    counted = tags.groupby(["risk_tags", "month", "bin"], dropna=False).size()
    rates = (int(v["score"].count()), *(int((v["score"] >= v[c]).sum()) for c in THRESHOLD_COLUMNS))
    return [(*key, n) for key, n in counted.items()], rates


def by_va(store: Store):
    """The package's own functions: per regime, with intervals; the histogram over unfolded tags."""
    import verifyanalytics as va

    v = store.scan()
    tags = v.project("* REPLACE (unnest(risk_tags) AS risk_tags)")  # one row a tag
    histogram = va.scores.histogram(tags, by=["risk_tags", "month"])
    rates = va.scores.match_rates(v)
    kept = histogram[histogram["n"] > 0]
    counted = list(
        kept[["risk_tags", "month", "score_low", "n"]].itertuples(index=False, name=None)
    )
    return counted, (int(rates["n"].iloc[0]), *(int(n) for n in rates["n_match"]))


WAYS = {"scan": through_scan, "sql": by_hand, "va": by_va, "pandas": in_pandas}


def _answer(counted, rates) -> str:
    """Write an answer so that two of them can be compared; rows without a score are left out."""
    rows = sorted(
        (str(tag), str(month), int(low), int(n))
        for tag, month, low, n in counted
        if tag is not None and low is not None and low == low  # NaN
    )
    return json.dumps([rows, [int(n) for n in rates]])


def one(way: str, folder: str) -> None:
    """Run one way in this process and print what it took."""
    store = Store(folder)
    wall, cpu = time.perf_counter(), time.process_time()
    answer = WAYS[way](store)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = peak_bytes()
    print(json.dumps({"wall": wall, "cpu": cpu, "peak": peak, "answer": _answer(*answer)}))


def measure(way: str, folder: Path) -> dict:
    command = [sys.executable, "-m", "benchmarks.read", "--one", way, "--folder", str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def append_some(folder: Path, n_rows: int) -> None:
    """Append 5,000 new answers, the key check over all months included."""
    store = Store(folder)
    first = 10 * n_rows + ROWS_A_FILE * len(store.versions())
    wall = time.perf_counter()
    grow(store, first, 5000, "2024-03")
    wall = time.perf_counter() - wall
    peak = peak_bytes()
    print(json.dumps({"wall": wall, "peak": peak}))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="bench read", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the store is made; default: temporary")
    parser.add_argument("--keep", action="store_true", help="leave the store where it is")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.one == "append":
        append_some(given.folder, given.rows)
    elif given.one:
        one(given.one, str(given.folder))
    else:
        _compare(given)


def _compare(given: argparse.Namespace) -> None:
    made = None if given.folder else Path(tempfile.mkdtemp(prefix="benchmark-read-"))
    folder = given.folder or made / "store"
    try:
        build(folder, given.rows).close()
        _report(folder, given)
    finally:
        if not given.keep:
            shutil.rmtree(folder, ignore_errors=True)
            folder.with_name(folder.name + ".key").unlink(missing_ok=True)
            if made is not None:
                made.rmdir()


def _report(folder: Path, given: argparse.Namespace) -> None:
    runs: dict[str, list[dict]] = {way: [] for way in WAYS}
    for number in range(given.rounds):
        for way in WAYS:
            if way != "pandas" or number == 0:  # it takes long, and once is enough for 5×
                runs[way].append(measure(way, folder))
    answers = {way: found[0]["answer"] for way, found in runs.items()}
    median = {
        way: {key: statistics.median(r[key] for r in found) for key in ("wall", "cpu", "peak")}
        for way, found in runs.items()
    }
    n_rows = int(Store(folder).tables()["rows"][0])
    print(f"{n_rows:,} answers: histogram by tag and month, four match rates")
    print(f"{'':8}{'wall s':>8}{'cpu s':>8}{'peak MB':>9}{'wall / sql':>12}  same answer")
    for way, m in median.items():
        ratio = m["wall"] / median["sql"]["wall"]
        same = "yes" if answers[way] == answers["sql"] else "NO"
        print(f"{way:8}{m['wall']:8.2f}{m['cpu']:8.2f}{m['peak'] / MB:9.0f}{ratio:12.2f}  {same}")
    command = [sys.executable, "-m", "benchmarks.read", "--one", "append", "--folder", str(folder)]
    command += ["--rows", str(given.rows)]
    for _ in range(given.rounds):
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        took = json.loads(done.stdout)
        print(f"5,000 new answers in {took['wall']:.2f} s, peak {took['peak'] / MB:.0f} MB")


if __name__ == "__main__":
    main()
