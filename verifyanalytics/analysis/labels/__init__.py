"""Labels: join them, see their coverage and age, plan more and estimate from them."""

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
