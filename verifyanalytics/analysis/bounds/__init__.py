"""What can be said without labels, from the vendor's claimed FMR."""

from verifyanalytics.lazy import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "implied_fmr": "analysis.bounds.unlabelled",
        "label_free": "analysis.bounds.unlabelled",
        "threshold_for_budget": "analysis.bounds.unlabelled",
    },
)
