"""Charts: each has the name of the frame it draws, takes that frame, and returns Axes.

::

    va.charts.match_rates(va.match_rates(v, thresholds=range(50, 100)))

A chart computes no rate, never calls `plt.show()`, and leaves rcParams alone; `use_style()` is for
charts of one's own. matplotlib is loaded with the first chart.
"""

from __future__ import annotations

import importlib
from typing import Any

_PUBLIC = {
    "acceptance_rate": "decisions",
    "drift": "stability",
    "drift_over_time": "stability",
    "error_versus_discard": "quality",
    "face_vs_environment": "quality",
    "det_curve": "accuracy",
    "error_rates": "accuracy",
    "funnel": "decisions",
    "label_free_bounds": "bounds",
    "match_rates": "thresholds",
    "quality_bands": "quality",
    "quality_coaching": "quality",
    "quality_limits": "quality",
    "operating_points": "accuracy",
    "reject_reasons": "decisions",
    "risk_bands": "associations",
    "score_histogram": "scores",
    "tag_catch": "associations",
    "tag_lift": "associations",
    "tag_pairs": "associations",
    "tag_rates": "tags",
    "tag_scores": "associations",
    "use_style": "style",
    "vendor_thresholds": "thresholds",
}
"""Each chart and the module that draws it."""

__all__ = [*_PUBLIC]  # noqa: PLE0604 - strings, read from the index above


def __getattr__(name: str) -> Any:
    """Load a chart on first use."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Public names only, for completion."""
    return sorted(__all__)
