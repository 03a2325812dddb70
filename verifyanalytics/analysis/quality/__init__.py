"""Image quality: limits, bands, error versus discard, coaching."""

from verifyanalytics.lazy import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "limits": "analysis.quality.measures",
        "bands": "analysis.quality.measures",
        "face_vs_environment": "analysis.quality.measures",
        "error_versus_discard": "analysis.quality.discard",
        "coaching": "analysis.quality.coach",
    },
)
