"""Where should the threshold stand, and what are the risk tags telling: the public names.

`import verifyanalytics as va` gives every public name and loads none of them: this module is the
index, and a name brings its module (and matplotlib, pandas, Delta …) when it is first used. It
starts no thread, opens no file and no connection.

::

    store = va.Store("data/store")
    va.import_responses("answers/*.ndjson.gz", store)
    v = store.read("verifications")
    va.charts.scores.match_rates(va.scores.match_rates(v, thresholds=range(50, 100)))
"""

from __future__ import annotations

from typing import Any

from verifyanalytics.lazy import face

_GROUPS = (
    "accuracy",
    "attempts",
    "bounds",
    "labels",
    "operations",
    "quality",
    "scores",
    "stability",
    "tags",
    "verdicts",
)
"""Statistics by question: the packages of `analysis`."""

_PUBLIC = {
    "Client": "vendor.client",
    "Codebook": "codebook.book",
    "Credentials": "vendor.credentials",
    "Store": "store.store",
    **{group: f"analysis.{group}" for group in _GROUPS},
    "adopt_journal": "collecting.journals",
    "backup_journal": "collecting.journals",
    "charts": "charts",
    "codebook": "codebook",
    "collect": "collecting.verbs",
    "draw": "charts.finding",
    "erase": "collecting.erasure",
    "errors": "errors",
    "explain": "codebook.explanation",
    "import_labels": "importing.labels",
    "import_responses": "importing.run",
    "inventory": "collecting.erasure",
    "mark": "collecting.verbs",
    "notebooks": "notebooks",
    "query": "collecting.verbs",
    "record": "journal.tap",
    "redo": "collecting.verbs",
    "reflatten": "collecting.verbs",
    "replayed_images": "analysis.attempts.replays",
    "report": "reporting.write",
    "resolve": "collecting.verbs",
    "restore_journal": "collecting.journals",
    "retain": "collecting.erasure",
    "run_demo": "demo",
    "serve": "simulator.server.server",
    "simulate": "simulator.files",
    "simulator": "simulator",
    "status": "collecting.verbs",
    "tune": "tuner.tuner",
    "use_codebook": "codebook.book",
}
"""Each public name and the module, below this package, that defines it."""

_load, __dir__, __all__ = face(__name__, _PUBLIC)


def __getattr__(name: str) -> Any:
    """Load a public name on first use; `__version__` is the installed distribution's."""
    if name == "__version__":
        from importlib.metadata import version

        return version("verifyanalytics")
    return _load(name)
