"""An honest population, the answers the vendor would give it, and the API that gives them.

`simulate_responses` draws a `World` (who comes, what is true) and gives JSON lines, frames and the
truth; `simulate` writes them as files; `serve` answers signed calls on loopback, plays faults and
counts what was paid. Nothing in here is data of a person: every face, name and device is a random
number.
"""

from __future__ import annotations

from verifyanalytics.simulator.files import SimulatedFiles, simulate
from verifyanalytics.simulator.server.faults import FAULTS
from verifyanalytics.simulator.server.ledger import Bill, Calls, read_ledger
from verifyanalytics.simulator.server.scripts import parse_script, token_digest
from verifyanalytics.simulator.server.server import Service, run_service, serve
from verifyanalytics.simulator.simulation import COLUMNS, Simulation, simulate_responses
from verifyanalytics.simulator.vendor_claim import claimed_fmr
from verifyanalytics.simulator.world import SPECIES, TAGS, World

__all__ = [
    "COLUMNS",
    "FAULTS",
    "SPECIES",
    "TAGS",
    "Bill",
    "Calls",
    "Service",
    "SimulatedFiles",
    "Simulation",
    "World",
    "claimed_fmr",
    "parse_script",
    "read_ledger",
    "run_service",
    "serve",
    "simulate",
    "simulate_responses",
    "token_digest",
]
