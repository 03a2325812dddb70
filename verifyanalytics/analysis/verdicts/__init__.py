"""The vendor's verdicts: gates, reasons, contradictions, and what explains a change."""

from verifyanalytics.lazy import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "gates": "analysis.verdicts.decisions",
        "funnel": "analysis.verdicts.decisions",
        "reject_reasons": "analysis.verdicts.decisions",
        "contradictions": "analysis.verdicts.rules",
        "result_rule": "analysis.verdicts.rules",
        "acceptance_rate": "analysis.verdicts.decisions",
        "change_explained": "analysis.verdicts.changes",
        "minimal_change": "analysis.verdicts.changes",
    },
)
