"""Scores against thresholds: distributions, match rates, what another threshold would do."""

from verifyanalytics.lazy import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "histogram": "analysis.scores.distributions",
        "match_rates": "analysis.scores.distributions",
        "regimes": "analysis.scores.distributions",
        "vendor_thresholds": "analysis.scores.distributions",
        "margins": "analysis.scores.swap_sets",
        "what_if": "analysis.scores.swap_sets",
        "decision_table": "analysis.scores.decisions",
    },
)
