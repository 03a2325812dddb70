"""The live demo: a few hundred calls to a vendor that misbehaves, and the bill from both sides.

A simulated vendor on loopback limits, loses and garbles some of the calls. The collector sends
them, settles what is in doubt by query, and puts the answers into a store; then its own journal is
held against what the vendor counted.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from verifyanalytics.collecting.verbs import CollectSummary, collect, resolve
from verifyanalytics.simulator import serve
from verifyanalytics.store.store import Store
from verifyanalytics.vendor.client import Client
from verifyanalytics.vendor.credentials import Credentials

if TYPE_CHECKING:
    import pandas as pd

FAULTS = """
rate_50429    share=0.05 retry_after=0
reset_after   share=0.02
reset_before  share=0.02
html_504      share=0.01
truncated_json share=0.01
"""
"""What goes wrong: limits, calls lost before and after they were processed, replies cut off."""

_ROUNDS = 20


@dataclass(frozen=True)
class LiveDemo:
    """What the live demo saw.

    Attributes
    ----------
    store : Path
    collected : CollectSummary
        After all calls went out.
    resolved : CollectSummary
        After calls in doubt were settled.
    runs : int
        How often the collector was started; five lost calls in a row stop a run.
    bill : pandas.DataFrame
        One row a count: what the journal knows and what the vendor counted.
    tables : pandas.DataFrame
        The store's tables.
    """

    store: Path
    collected: CollectSummary
    resolved: CollectSummary
    runs: int
    bill: pd.DataFrame
    tables: pd.DataFrame


def run_live_demo(folder: Path, *, n: int = 300, seed: int = 1) -> LiveDemo:
    """Collect `n` simulated calls with faults into a store, and compare the bills.

    Parameters
    ----------
    folder : Path
        Where store, key and journal go.
    n : int
        Calls.
    seed : int
        Of the answers and the faults.

    Raises
    ------
    StorageError
        The folder cannot be written.
    """
    import pandas as pd

    requests = [
        {
            "req_key": "cert_pro_src_verify",
            "byted_token": f"demo-{number:04}",
            "sdk_data": "simulated",
            "risk_info": "simulated",
        }
        for number in range(n)
    ]
    with (
        serve(seed=seed, faults=FAULTS, latency=0.005, ready_after=0.0) as service,
        closing(Store(folder / "store", create=True)) as store,
    ):
        client = Client(Credentials(service.access_key, service.secret_key), service.address)
        runs, left = 0, n
        while left and runs < _ROUNDS:
            runs += 1
            collected = collect(requests, store, client=client, rate=200.0)
            left = collected.states["PLANNED"]
        resolved = resolve(store, client=client, rate=200.0, grace_s=0.0)
        counted = service.bill()
        received = resolved.states["OK"] + resolved.states["REJECTED"]
        bill = pd.DataFrame(
            [
                ("calls processed", received, counted.processed),
                ("processed more than once", 0, counted.repeated),
                ("units billed", resolved.billed, counted.billed),
                ("calls whose billing is unknown", resolved.unknown, 0),
                ("rows in the store", len(store.read("verifications")), counted.processed),
            ],
            columns=["count", "collector", "vendor"],
        )
        return LiveDemo(store.path, collected, resolved, runs, bill, store.tables())
