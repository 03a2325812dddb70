"""An honest population, and the answers the vendor would give it.

`simulate_responses` draws a `World` (who comes, what is true) and gives JSON lines, frames and the
truth; `simulate` writes them as files. Nothing in here is data of a person: every face, name and
device is a random number.
"""

from __future__ import annotations

from verifyanalytics.simulator.files import SimulatedFiles, simulate
from verifyanalytics.simulator.simulation import COLUMNS, Simulation, simulate_responses
from verifyanalytics.simulator.world import SPECIES, TAGS, World, claimed_fmr

__all__ = [
    "COLUMNS",
    "SPECIES",
    "TAGS",
    "SimulatedFiles",
    "Simulation",
    "World",
    "claimed_fmr",
    "simulate",
    "simulate_responses",
]
