"""The whole import: two workers against one, and the memory of each process.

`python3 run.py bench importing [--answers N] [--repeat R] [--big-line MB]`. Every import runs in a
process of its own into a store of its own; the numbers of workers take turns, and the table shows
the median wall time. Hashing the source is sequential and is measured apart. Memory is the largest
resident set that the system saw of the parent and of any worker; `0` workers is the parent alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks._answers import answers

CHILD = """
import json, resource, sys
import verifyanalytics as va
path, store, workers = sys.argv[1:]
done = va.import_responses(path, store, workers=int(workers)).to_dict()
for who, name in ((resource.RUSAGE_SELF, "cpu"), (resource.RUSAGE_CHILDREN, "workers_cpu")):
    used = resource.getrusage(who)
    done[name] = used.ru_utime + used.ru_stime
print(json.dumps(done))
"""
PATTERN = 50_000


def many_answers(n: int) -> Iterator[bytes]:
    """`n` lean answers: a pattern over again, each with an id of its own."""
    pattern = list(answers(min(n, PATTERN)))
    mark = b'"request_id":"'
    cuts = [line.index(mark) + len(mark) + 14 for line in pattern]
    for number in range(n):
        line, cut = pattern[number % len(pattern)], cuts[number % len(pattern)]
        yield b"%b%020X%b" % (line[:cut], number, line[cut + 20 :])


def children(parent: int) -> list[int]:
    """Process ids of the direct children of a process."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            if int(stat.rpartition(")")[2].split()[1]) == parent:
                found.append(int(entry.name))
    return found


def peak(pid: int) -> int:
    """Largest resident set of a process so far, in MB; 0 when it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    held = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(held[0].split()[1]) // 1024 if held else 0


def run(path: Path, folder: Path, workers: int) -> dict:
    """One import; its summary, with the peaks of parent and workers in MB."""
    store = folder / "store"
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path), str(store), str(workers)],
        stdout=subprocess.PIPE,
    )
    peaks = {"parent": 0, "worker": 0}
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.05):
            peaks["parent"] = max(peaks["parent"], peak(process.pid))
            peaks["worker"] = max([peaks["worker"], *map(peak, children(process.pid))])

    watcher = threading.Thread(target=watch)
    watcher.start()
    out, _ = process.communicate()
    stop.set()
    watcher.join()
    assert process.returncode == 0
    shutil.rmtree(store)
    (folder / "store.key").unlink()
    return {**json.loads(out), **peaks}


def hashing(path: Path) -> float:
    """Seconds to hash a file."""
    began = time.perf_counter()
    with path.open("rb") as file:
        hashlib.file_digest(file, "sha256")
    return time.perf_counter() - began


def row(name: str, runs: list[dict]) -> str:
    seconds = statistics.median(run["seconds"] for run in runs)
    first = runs[0]
    return (
        f"{name:12} {seconds:8.2f} s {1e6 * seconds / max(first['read'], 1):8.2f} µs/row "
        f"{first['bytes'] / seconds / 1e6:8.0f} MB/s "
        f"CPU {first['cpu']:6.2f} s parent {first['workers_cpu']:6.2f} s workers "
        f"{max(run['parent'] for run in runs):6} MB parent "
        f"{max(run['worker'] for run in runs):6} MB worker"
    )


def lean(folder: Path, n: int, repeat: int) -> None:
    path = folder / "lean.ndjson"
    with path.open("wb") as file:
        file.writelines(many_answers(n))
    print(f"{n:,} lean answers, {path.stat().st_size / 1e9:.2f} GB, {os.cpu_count()} cores")
    hashed = statistics.median(hashing(path) for _ in range(repeat))
    print(f"{'hashing':12} {hashed:8.2f} s")
    runs: dict[int, list[dict]] = {0: [], 1: [], 2: []}
    for _ in range(repeat):
        for workers, done in runs.items():
            done.append(run(path, folder, workers))
    for workers, done in runs.items():
        print(row(f"{workers} workers", done))
    one, two = (statistics.median(r["seconds"] for r in runs[w]) for w in (1, 2))
    apart = (one - hashed) / (two - hashed)
    print(f"two workers are {one / two:.2f}× one; {apart:.2f}× with the hashing apart")
    path.unlink()


def big_line(folder: Path, n_mb: int) -> None:
    path = folder / "line.ndjson"
    with path.open("wb") as file:
        file.write(b'{"code":10000,"x":"')
        for _ in range(n_mb):
            file.write(b"x" * 1_000_000)
        file.write(b'"}\n')
    done = run(path, folder, 1)
    assert done["rejects"] == {"size": 1}, done
    print(f"one line of {n_mb} MB, rejected as too large")
    print(row("1 workers", [done]))
    path.unlink()


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="bench importing", description=__doc__)
    parser.add_argument("--answers", type=int, default=2_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--big-line", type=int, default=500, metavar="MB")
    parser.add_argument("--folder", type=Path, help="where to write; needs 2 KB an answer")
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        lean(Path(folder), given.answers, given.repeat)
        big_line(Path(folder), given.big_line)


if __name__ == "__main__":
    main()
