"""The notebooks: built from short sources, run on the sample, copied for a user's own data."""

from verifyanalytics.lazy import face

__getattr__, __dir__, __all__ = face(
    __name__, dict.fromkeys(("copy", "execute", "folder", "names", "read"), "notebooks.build")
)
