"""Error rates with labels: FMR, FNMR, operating points, comparisons, detection."""

from verifyanalytics.lazy import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "error_rates": "analysis.accuracy.rates",
        "sample_size": "analysis.accuracy.rates",
        "det_curve": "analysis.accuracy.operating",
        "operating_points": "analysis.accuracy.operating",
        "Cost": "analysis.accuracy.operating",
        "compare": "analysis.accuracy.comparisons",
        "out_of_sample": "analysis.accuracy.comparisons",
        "detection_rates": "analysis.accuracy.detection",
        "transaction_rates": "analysis.accuracy.detection",
        "differentials": "analysis.accuracy.disparities",
        "claim_audit": "analysis.accuracy.rates",
    },
)
