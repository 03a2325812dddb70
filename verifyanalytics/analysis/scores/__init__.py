"""Scores against thresholds: distributions, match rates, what another threshold would do."""

from verifyanalytics.lazy import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "histogram": "analysis.scores.distributions",
        "match_rates": "analysis.scores.matches",
        "regimes": "analysis.scores.distributions",
        "vendor_thresholds": "analysis.scores.matches",
        "margins": "analysis.scores.distributions",
        "what_if": "analysis.scores.swap_sets",
        "decision_table": "analysis.scores.decisions",
    },
)
