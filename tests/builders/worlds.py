"""Parameters of simulated worlds that several tests draw from."""

from __future__ import annotations

ONLY_NONMATED = {
    "impostor_share": 1.0,
    "attack_share": 0.0,
    "thresholds_after": None,
    "no_source_share": 0.0,
}
