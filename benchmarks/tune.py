"""The tuner on 10 million answers: what a move of the threshold takes, and what it would without.

A move is what the kernel does from the slider's new value to the new picture, numbers and code; on
a real page the way there and back is added (the browser tests print it). Beside it: the same figure
drawn whole from counts that stand ready, and the functions that the tuner answers for, which pass
over the answers each time. The answers are made up, lie in a Parquet file, and are read lazily.

    python3 run.py bench tune [--rows N] [--labels N] [--moves N] [--folder DIR]
"""

from __future__ import annotations

import argparse
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import pandas as pd
from matplotlib.figure import Figure

import verifyanalytics as va
from verifyanalytics.tuner.picture import DPI, SIZE

T = TypeVar("T")

GOAL = 150
"""Milliseconds that a move may take, median."""

_ANSWERS = """
SELECT printf('r%09d', i) AS request_id, 10000 AS code, if(score IS NULL, 210302, 0) AS sub_code,
    if(i % 4 = 0, 'cert_pro_no_src_verify', 'cert_pro_src_verify') AS req_key, score,
    if(i % 4 = 0, 62.0, 60.0) AS threshold_1e_3, if(i % 4 = 0, 72.5, 70.0) AS threshold_1e_4,
    if(i % 4 = 0, 83.0, 80.0) AS threshold_1e_5, if(i % 4 = 0, 94.0, 90.0) AS threshold_1e_6,
    hash(i, 3) % 50 > 0 AS alive, [0, 0, 0, 300, 600, 900][1 + i // 7 % 6] AS risk_score,
    score >= if(i % 4 = 0, 72.5, 70.0) AND alive AND risk_score < 900 AS result,
    printf('s%07d', hash(i, 5) % ($n // 3 + 1)) AS subject,
    ['app', 'web', 'kiosk', 'desk'][1 + i // 5 % 4] AS ctx_channel
FROM (SELECT i, if(hash(i, 1) % 50 = 0, NULL, round(if(hash(i, 7) % 20 = 0, 65, 100)
    * pow(hash(i, 2) % 10000019 / 10000019, 0.2), 3)) AS score FROM range($n) t(i))
"""


def make(path: Path, n: int) -> duckdb.DuckDBPyRelation:
    """Write n answers as Parquet, unless they lie there already; return them unread."""
    connection = duckdb.connect()
    if not path.exists():
        connection.sql(_ANSWERS, params={"n": n}).write_parquet(str(path), compression="zstd")
    return connection.read_parquet(str(path))


def label(v: duckdb.DuckDBPyRelation, n: int, n_rows: int) -> pd.DataFrame:
    """Label about n answers, drawn evenly."""
    drawn = v.filter(f"hash(request_id) % {max(n_rows // n, 1)} = 0 AND score IS NOT NULL")
    return drawn.project("request_id, hash(subject) % 20 > 0 AND score > 40 AS mated").df()


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """Return what the work gives, and the milliseconds that it takes."""
    since = time.perf_counter()
    made = work()
    return made, 1000 * (time.perf_counter() - since)


def moves(tuner: Any, n: int) -> tuple[list[float], list[float]]:
    """Move the slider up and down, by little and by much: milliseconds of each, and of CPU time."""
    took, cpu = [], []
    for i in range(n):
        score = 50.0 + 0.5 * (i * 37 % 97)
        since = time.process_time()
        took.append(timed(lambda score=score: setattr(tuner._slider, "value", score))[1])
        cpu.append(1000 * (time.process_time() - since))
        assert tuner.threshold == score
    return took, cpu


def drawn_whole(histogram: pd.DataFrame, threshold: float) -> bytes:
    """Draw the figure that a move shows, as one would without a tuner."""
    figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained")
    ax = va.charts.scores.histogram(histogram, ax=figure.subplots())
    ax.axvspan(0, threshold, color="white", alpha=0.62)
    ax.axvline(threshold)
    with io.BytesIO() as file:
        figure.savefig(file, format="png")
        return file.getvalue()


def asked_anew(v: Any, truth: Any, threshold: float) -> dict[str, pd.DataFrame]:
    """Ask the functions themselves, over all answers."""
    return {
        "match_rates": va.scores.match_rates(v, threshold),
        "label_free": va.bounds.label_free(v, threshold),
        "what_if": va.scores.what_if(
            v.project("* EXCLUDE (subject)"), threshold
        ),  # rows, no sessions
        "error_rates": va.accuracy.error_rates(truth, threshold),
    }


def same(tuner: Any, tables: dict[str, pd.DataFrame]) -> bool:
    """Tell whether the tuner shows what the functions say."""
    for name, mine in tuner.tables().items():
        theirs = tables[name][tables[name]["regime"] == tuner.regime].reset_index(drop=True)
        try:
            pd.testing.assert_frame_equal(mine, theirs, check_dtype=False, check_exact=True)
        except AssertionError as error:
            print(f"{name}: {error}", file=sys.stderr)
            return False
    return True


def line(name: str, took: Sequence[float]) -> None:
    """Print the median of what something took, and its ends."""
    print(
        f"{name:46}{statistics.median(took):12,.0f} ms{min(took):12,.0f}{max(took):10,.0f}"
        f"{len(took):7}"
    )


def main(arguments: list[str] | None = None) -> int:
    """Print one table; return 1 when the goal is missed, or the numbers differ."""
    parser = argparse.ArgumentParser(prog="bench tune", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--labels", type=int, default=20_000)
    parser.add_argument("--moves", type=int, default=60)
    parser.add_argument("--folder", type=Path, help="where the answers are made, and kept")
    given = parser.parse_args(arguments)
    if given.folder:
        given.folder.mkdir(parents=True, exist_ok=True)
        return report(given.folder, given)
    with tempfile.TemporaryDirectory(prefix="benchmark-tune-") as folder:
        return report(Path(folder), given)


def report(folder: Path, given: argparse.Namespace) -> int:
    """Measure, print, judge."""
    v = make(folder / f"answers-{given.rows}.parquet", given.rows)
    labels = label(v, given.labels, given.rows)
    truth, joining = timed(lambda: va.labels.join(v, labels))
    print(f"{given.rows:,} answers, {len(labels):,} labels; milliseconds")
    print(f"{'':46}{'median':>15}{'least':>12}{'most':>10}{'times':>7}")
    line("labels joined, once", [joining])
    tuner, counting = timed(lambda: va.tune(v, truth, by="ctx_channel"))
    line("all counted, by four channels too, once", [counting])
    moved, cpu = moves(tuner, given.moves)
    line("a move: numbers, picture, code", moved)
    line("  in CPU time, which no neighbour lengthens", cpu)
    histogram = tuner._tally.histogram(tuner.regime, tuner._segment)
    line("  its picture alone", [timed(tuner.png)[1] for _ in range(given.moves)])
    whole = [timed(lambda: drawn_whole(histogram, tuner.threshold))[1] for _ in range(20)]
    line("the same figure drawn whole, counts ready", whole)
    tables, asking = timed(lambda: asked_anew(v, truth, tuner.threshold))
    line("the four functions asked over the answers", [asking])
    agree, met = same(tuner, tables), statistics.median(moved) <= GOAL
    print(f"the tuner shows what the functions say: {'yes' if agree else 'NO'}")
    print(f"goal: a move within {GOAL} ms (median): {'met' if met else 'MISSED'}")
    return 0 if agree and met else 1


if __name__ == "__main__":
    sys.exit(main())
