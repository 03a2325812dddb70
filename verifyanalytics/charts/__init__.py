"""Charts: each bears the group and name of its statistic, takes that frame, and returns Axes.

::

    va.charts.scores.match_rates(va.scores.match_rates(v, thresholds=range(50, 100)))

A chart computes no rate, never calls `plt.show()`, and leaves rcParams alone; `use_style()` is for
charts of one's own. matplotlib is loaded with the first chart.
"""

from verifyanalytics.lazy import face

GROUPS = ("accuracy", "bounds", "quality", "scores", "stability", "tags", "verdicts")

__getattr__, __dir__, __all__ = face(
    __name__, {**{group: f"charts.{group}" for group in GROUPS}, "use_style": "charts.style"}
)
