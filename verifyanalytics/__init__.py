"""Where should the threshold stand, and what are the risk tags telling: the public names.

`import verifyanalytics as va` gives every public name and loads none of them: this module is the
index, and a name brings its module (and matplotlib, pandas, Delta …) when it is first used. It
starts no thread, opens no file and no connection.

::

    store = va.Store("data/store")
    va.import_responses("answers/*.ndjson.gz", store)
    v = store.read("verifications")
    va.charts.match_rates(va.match_rates(v, thresholds=range(50, 100)))
"""

from __future__ import annotations

import importlib
from typing import Any

_PUBLIC = {
    "BudgetError": "errors",
    "CheckError": "errors",
    "Client": "client",
    "Codebook": "codebook",
    "CodebookError": "errors",
    "CollectSummary": "_collect_summary",
    "Cost": "analysis.operating",
    "Credentials": "credentials",
    "ImportProgress": "_import_figures",
    "ImportSummary": "_import_figures",
    "InDoubtError": "errors",
    "InputError": "errors",
    "JournalStatus": "_collect_summary",
    "LabelSummary": "labelling",
    "MissingColumnError": "errors",
    "NoStoreError": "errors",
    "OpenCall": "_collect_summary",
    "RefusedError": "errors",
    "SimulatedFiles": "simulator",
    "Simulation": "simulator",
    "StorageError": "errors",
    "Store": "store",
    "UsageError": "errors",
    "VerifyAnalyticsError": "errors",
    "World": "simulator",
    "acceptance_rate": "analysis.decisions",
    "alerts": "analysis._drift_alerts",
    "attempts_to_pass": "analysis.attempts",
    "billing": "analysis.billing",
    "bursts": "analysis.attempts",
    "change_explained": "analysis.changes",
    "claim_audit": "analysis.claims",
    "collect": "collecting",
    "compare": "analysis.comparisons",
    "contradictions": "analysis.decisions",
    "decision_table": "decision",
    "det_curve": "analysis.operating",
    "detection_rates": "analysis.detection",
    "differentials": "analysis.differentials",
    "drift": "analysis.drift",
    "drift_over_time": "analysis.drift",
    "error_rates": "analysis.accuracy",
    "error_versus_discard": "analysis._quality_discard",
    "estimate_from_audit": "analysis.audits",
    "explain": "glossary",
    "exposure": "analysis.attempts",
    "face_vs_environment": "analysis.quality",
    "funnel": "analysis.decisions",
    "gates": "analysis.decisions",
    "implied_fmr": "analysis.bounds",
    "import_labels": "labelling",
    "import_responses": "importing",
    "join_labels": "analysis.labels",
    "label_coverage": "analysis.labels",
    "label_free_bounds": "analysis.bounds",
    "label_maturity": "analysis.claims",
    "labelling_plan": "analysis.audits",
    "latency": "analysis.service",
    "lost_people": "analysis.attempts",
    "margins": "analysis._thresholds_swap",
    "mark": "collecting",
    "match_rates": "analysis.thresholds",
    "minimal_change": "analysis.changes",
    "operating_points": "analysis.operating",
    "out_of_sample": "analysis.comparisons",
    "psi": "analysis.drift",
    "quality_bands": "analysis.quality",
    "quality_coaching": "analysis._quality_coaching",
    "quality_limits": "analysis.quality",
    "query": "collecting",
    "record": "tap",
    "reflatten": "collecting",
    "regime_changes": "analysis._drift_regimes",
    "regimes": "analysis.thresholds",
    "reject_reasons": "analysis.decisions",
    "report": "reporting",
    "resolve": "collecting",
    "result_rule": "analysis.decisions",
    "retry_then_pass": "analysis.attempts",
    "risk_bands": "analysis._tags_risk",
    "run_demo": "demo",
    "run_service": "simulator",
    "sample_size": "analysis.accuracy",
    "score_histogram": "analysis.thresholds",
    "serve": "simulator",
    "sessions": "analysis.attempts",
    "simulate": "simulator",
    "simulate_responses": "simulator",
    "status": "collecting",
    "tag_catch": "analysis._tags_overlap",
    "tag_lift": "analysis._tags_lift",
    "tag_pairs": "analysis._tags_overlap",
    "tag_rates": "analysis.tags",
    "tag_scores": "analysis._tags_scores",
    "threshold_for_budget": "analysis.bounds",
    "transaction_rates": "analysis.detection",
    "tune": "tuner",
    "use_codebook": "codebook",
    "vendor_thresholds": "analysis.thresholds",
    "volume": "analysis.service",
    "what_if": "analysis._thresholds_swap",
}
"""Each public name and the module that defines it; sorted as `sorted` does."""

_MODULES = ("charts", "codebook", "notebooks", "simulator")
"""Modules that are reached by their name, as in `va.charts.match_rates`."""

__all__ = [*_PUBLIC, *_MODULES]  # noqa: PLE0604 - strings, read from the index above


def __getattr__(name: str) -> Any:
    """Load a public name on first use; `__version__` is the installed distribution's."""
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("verifyanalytics")
    elif name in _PUBLIC:
        value = getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    elif name in _MODULES:
        value = importlib.import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Public names only, so that completion in a notebook shows what is meant to be used."""
    return sorted([*__all__, "__version__"])
