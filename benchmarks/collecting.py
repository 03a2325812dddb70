"""How fast the collector gets through calls, and what of it is the journal's.

`python -m benchmarks collecting [N]`: N tokens (1,000) against the simulator on loopback, 5 ms
latency, 8 workers: under a rate limit, and without one. The simulator runs in a process of its own,
so that its work is not counted as the collector's.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from verifyanalytics.collecting.run import CollectSummary
from verifyanalytics.collecting.verbs import collect
from verifyanalytics.journal.journal import Journal
from verifyanalytics.store.store import Store
from verifyanalytics.vendor.client import Client
from verifyanalytics.vendor.credentials import Credentials

SERVICE = """
import sys
from verifyanalytics.simulator import serve
with serve(seed=1, latency=0.005) as service:
    print(service.address, service.access_key, service.secret_key, flush=True)
    sys.stdin.read()
"""


def one_run(
    n: int, rate: float | None, client: Client, folder: Path
) -> tuple[CollectSummary, float]:
    requests = (
        {
            "req_key": "cert_pro_src_verify",
            "byted_token": f"{folder.name}-{number}",
            "sdk_data": "s" * 2000,
            "risk_info": "r" * 200,
        }
        for number in range(n)
    )
    store = Store(folder / "store", create=True)
    flushing: list[float] = []
    close = Journal.close

    def closing(journal: Journal) -> None:
        flushing.append(journal.writer.seconds_flushing)
        close(journal)

    Journal.close = closing  # type: ignore[method-assign]
    started = time.perf_counter()
    try:
        summary = collect(requests, store, client=client, rate=rate, workers=8)
    finally:
        Journal.close = close  # type: ignore[method-assign]
    seconds = time.perf_counter() - started
    summary.seconds = seconds
    return summary, flushing[0] / seconds


def main(arguments: list[str]) -> int:
    n = int(arguments[0]) if arguments else 1000
    service = subprocess.Popen(
        [sys.executable, "-c", SERVICE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    address, access_key, secret_key = service.stdout.readline().split()
    client = Client(Credentials(access_key, secret_key), address)
    print(f"{n:,} tokens, 8 workers, 5 ms latency; medians of 3\n")
    print(f"{'rate limit':>12} {'calls/s':>10} {'of the limit':>13} {'journal flushing':>17}")
    with tempfile.TemporaryDirectory() as base:
        for rate in (100.0, 200.0, None):
            rates, shares = [], []
            for attempt in range(3):
                folder = Path(base) / f"{rate}-{attempt}"
                folder.mkdir()
                summary, share = one_run(n, rate, client, folder)
                assert summary.exit_code == 0, summary
                rates.append(n / summary.seconds)
                shares.append(share)
            speed = statistics.median(rates)
            of_limit = "–" if rate is None else f"{speed / rate:.0%}"
            shown = "none" if rate is None else f"{rate:.0f}/s"
            print(f"{shown:>12} {speed:>10.0f} {of_limit:>13} {statistics.median(shares):>17.0%}")
    service.stdin.close()
    service.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
