"""Change over time: drift, PSI, alerts, changes of regime."""

from verifyanalytics.lazy import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "drift": "analysis.stability.shifts",
        "over_time": "analysis.stability.shifts",
        "psi": "analysis.stability.shifts",
        "alerts": "analysis.stability.alarms",
        "regime_changes": "analysis.stability.alarms",
    },
)
