"""Statistics of 10 million stored answers against the same counts written by hand as SQL.

Every statistic takes the lazy relation of `store.scan`; by hand, DuckDB reads the same Parquet
files. Each way runs in a process of its own (so that its peak of memory is its own), in turns, and
the counts are compared. What it takes to import modules, to open the store and to list its files is
not timed. Shared machines are noisy: the figure to look at is CPU time.

    python3 run.py bench analysis [NAME …] [--rows N] [--subjects N] [--rounds N] [--folder DIR]
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
from collections.abc import Callable
from pathlib import Path

import duckdb

from benchmarks._by_hand import MATED, QUESTIONS, Question, Rows
from benchmarks._memory import peak_bytes
from benchmarks._synthetic import build
from verifyanalytics.store.store import Store

MB = 1 << 20
MEMORY = 1000
"""MB that a statistic may take at most, Python and its libraries included."""

SETTINGS = {"memory_limit": "512MB"}
"""What the store gives its own engine."""


def asker(store: Store) -> Callable[[str], Rows]:
    """Open DuckDB over the store's Parquet files, as a person would."""
    files = sorted(map(str, (store.path / "responses" / "kind=verification").rglob("*.parquet")))
    source = f"read_parquet({files}, hive_partitioning = true, hive_types_autocast = false)"
    con = duckdb.connect(config={**SETTINGS, "temp_directory": str(store.path.parent / "spill")})
    con.execute("SET TimeZone = 'UTC'")
    con.execute(f"CREATE VIEW v AS SELECT * FROM {source}")
    con.execute(
        f"CREATE VIEW labelled AS SELECT *, {MATED} AS mated, NULL::VARCHAR AS attack FROM v"
    )
    return lambda query: con.execute(query).fetchall()


def one(question: Question, way: str, folder: Path) -> None:
    """Answer a question one way in this process, and print what it took."""
    store = Store(folder)
    if way == "hand":
        ask = asker(store)
        work: Callable[[], Rows] = lambda: question.by_hand(ask)  # noqa: E731
    else:
        relation = store.scan()
        work = lambda: question.ours(relation)  # noqa: E731
    wall, cpu = time.perf_counter(), time.process_time()
    answer = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = peak_bytes()
    print(json.dumps({"wall": wall, "cpu": cpu, "peak": peak, "answer": plain(answer)}))


def plain(answer: Rows) -> list[str]:
    """Write an answer so that two can be compared: in no order, 60.0 and Decimal(60) alike."""
    return sorted(json.dumps([_plain(x) for x in row]) for row in answer)


def _plain(value: object) -> object:
    if value is None or isinstance(value, str):
        return value
    number = float(value)  # type: ignore[arg-type]
    return int(number) if number.is_integer() else round(number, 9)


def measure(question: Question, way: str, folder: Path) -> dict:
    """Answer a question in a new process."""
    command = [sys.executable, "-m", "benchmarks.analysis", question.name, "--one", way]
    command += ["--folder", str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def compare(question: Question, folder: Path, rounds: int) -> dict:
    """Answer a question both ways in turns; take the medians."""
    runs: dict[str, list[dict]] = {"ours": [], "hand": []}
    for _ in range(rounds):
        for way, found in runs.items():
            found.append(measure(question, way, folder))
    took = {
        f"{way}_{key}": statistics.median(run[key] for run in found)
        for way, found in runs.items()
        for key in ("cpu", "wall", "peak")
    }
    same = runs["ours"][0]["answer"] == runs["hand"][0]["answer"]
    return took | {"ratio": took["ours_cpu"] / took["hand_cpu"], "same": same}


def main(arguments: list[str] | None = None) -> int:
    """Print one table; return 1 when counts differ or a goal is missed."""
    names = [question.name for question in QUESTIONS]
    parser = argparse.ArgumentParser(prog="bench analysis", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {'; '.join(names)}")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--subjects", type=int, help="how many people; default: a tenth of rows")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the store is made, and kept")
    parser.add_argument("--one", choices=("ours", "hand"), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    chosen = [q for q in QUESTIONS if not given.names or q.name.startswith(tuple(given.names))]
    if given.one:
        one(next(q for q in QUESTIONS if q.name == given.names[0]), given.one, given.folder)
        return 0
    made = None if given.folder else Path(tempfile.mkdtemp(prefix="benchmark-analysis-"))
    folder = given.folder or made / "store"
    try:
        build(folder, given.rows, given.subjects or max(given.rows // 10, 1)).close()
        return report(folder, chosen, given)
    finally:
        if made is not None:
            shutil.rmtree(made)


def report(folder: Path, chosen: list[Question], given: argparse.Namespace) -> int:
    """Compare and print, a line at a time."""
    n_rows = int(Store(folder).tables()["rows"][0])
    print(f"{n_rows:,} answers, medians of {given.rounds}; CPU and wall in seconds, peak in MB")
    print(f"{'':27}{'----- va -----':>21}{'-- by hand --':>22}")
    print(f"{'':27}{'cpu':>7}{'wall':>7}{'peak':>7}{'cpu':>8}{'wall':>7}{'peak':>7}"
          f"{'cpu ratio':>11}{'goal':>6}  same counts")  # fmt: skip
    lines = []
    for question in chosen:
        lines.append(line(question, compare(question, folder, given.rounds)))
        print(lines[-1], flush=True)
    return int(any(text.endswith(("MISSED", "NO")) for text in lines))


def line(question: Question, took: dict) -> str:
    """Write one line of the table."""
    figures = "".join(
        f"{took[f'{way}_cpu']:{width}.2f}{took[f'{way}_wall']:7.2f}{took[f'{way}_peak'] / MB:7.0f}"
        for way, width in (("ours", 7), ("hand", 8))
    )
    over = took["ratio"] > question.goal or took["ours_peak"] > MEMORY * MB
    return (
        f"{question.name:27}{figures}{took['ratio']:11.2f}{question.goal:6.1f}  "
        f"{'yes' if took['same'] else 'NO'}{'  MISSED' if over else ''}"
    )


if __name__ == "__main__":
    sys.exit(main())
