"""A synthetic population, the answers the vendor would give it, and the API that gives them.

`simulate_responses` draws a `World` and gives JSON lines, frames and the truth; `simulate` writes
them as files; `serve` answers signed calls on loopback, plays faults and counts what was billed.
Nothing in here is data of a person: every face, name and device is a random number.
"""

from verifyanalytics.lazy import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "COLUMNS": "simulator.simulation",
        "FAULTS": "simulator.server.faults",
        "SPECIES": "simulator.world",
        "TAGS": "simulator.world",
        "Bill": "simulator.server.ledger",
        "Calls": "simulator.server.ledger",
        "Service": "simulator.server.server",
        "SimulatedFiles": "simulator.files",
        "Simulation": "simulator.simulation",
        "World": "simulator.world",
        "claimed_fmr": "simulator.world",
        "parse_script": "simulator.server.scripts",
        "read_ledger": "simulator.server.ledger",
        "run_service": "simulator.server.server",
        "serve": "simulator.server.server",
        "simulate": "simulator.files",
        "simulate_responses": "simulator.simulation",
        "token_digest": "simulator.server.scripts",
    },
)
