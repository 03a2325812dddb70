"""Risk tags and the risk score: rates, lift, overlap, score shifts, bands."""

from verifyanalytics.lazy import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "rates": "analysis.tags.frequencies",
        "lift": "analysis.tags.associations",
        "pairs": "analysis.tags.associations",
        "catch": "analysis.tags.associations",
        "scores": "analysis.tags.associations",
        "risk_bands": "analysis.tags.risk",
    },
)
