"""What the vendor's codes, risk tags and quality limits mean; a user's file overrides."""

from verifyanalytics.lazy import face

_BOOK = ("Code", "Codebook", "Entry", "GatewayCode", "Limit", "Measure", "SubCode")

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        **dict.fromkeys((*_BOOK, "current", "load", "use_codebook"), "codebook.book"),
        **dict.fromkeys(("Meaning", "explain", "meanings"), "codebook.explanation"),
    },
)
