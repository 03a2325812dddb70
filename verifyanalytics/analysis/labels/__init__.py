"""Ground truth: joined, how it was chosen, how old it is, and how to get more."""

from verifyanalytics.lazy import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "join": "analysis.labels.joining",
        "coverage": "analysis.labels.progress",
        "maturity": "analysis.labels.progress",
        "plan": "analysis.labels.audits",
        "estimate": "analysis.labels.audits",
    },
)
