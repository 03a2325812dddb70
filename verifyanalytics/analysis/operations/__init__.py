"""The service itself: volume, latency, billed units."""

from verifyanalytics.lazy import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "volume": "analysis.operations.service",
        "latency": "analysis.operations.service",
        "billing": "analysis.operations.service",
    },
)
