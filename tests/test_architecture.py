"""The street has one direction: who may import whom, how long a module may be, what imports cost.

Every import statement counts, those inside functions too. A module that the table below does not
know fails the first test: give it a layer, or the noun it is a part of.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "verifyanalytics"

LAYERS = (
    {"errors"},
    {"schema", "codebook", "signing", "analysis.arguments"},
    {"analysis.intervals"},
    {"sources", "responses", "glossary", "replies", "analysis.counts"},
    {
        "flatten",
        "client",
        "journal",
        "analysis",
        "analysis.accuracy",
        "analysis.attempts",
        "analysis.audits",
        "analysis.billing",
        "analysis.bounds",
        "analysis.decisions",
        "analysis.drift",
        "analysis.quality",
        "analysis.service",
        "analysis.tags",
        "analysis.thresholds",
    },
    {"store", "worker", "simulator", "charts"},
    {"delivery"},
    {"collecting", "tap", "importing", "labelling", "decision", "tuner", "reporting", "spark"},
    {"notebooks"},
    {"__init__", "demo"},
    {"cli"},
    {"__main__"},
)
"""Nouns by layer: an import goes to a lower layer, or stays within the noun."""

PARTS = {
    "responses": ("envelope", "fields", "redaction", "strictjson"),
    "sources": ("_json_stream", "_source_*"),
    "flatten": ("_flatten_*", "columns", "extras", "heads", "pictures", "surround", "typed"),
    "client": ("credentials", "transport"),
    "journal": ("_journal_*", "raw_answers"),
    "store": ("_store_*",),
    "worker": ("_worker_*",),
    "importing": ("_import_*",),
    "labelling": ("_label_*",),
    "collecting": ("_collect_*", "call_files", "pace"),
    "tuner": ("_tuner_*",),
    "notebooks": ("_notebook_*",),
    "reporting": ("_report_*",),
    "cli": ("_cli_*",),
    "demo": ("_demo_*",),
    "simulator": ("simulator.*",),
    "charts": ("charts.*",),
    "analysis.counts": (
        "analysis._counts_*",
        "analysis.hours",
        "analysis.labels",
        "analysis.patterns",
        "analysis.sessions",
    ),
    "analysis.intervals": ("analysis.rates",),
    "analysis.accuracy": (
        "analysis.claims",
        "analysis.comparisons",
        "analysis.curves",
        "analysis.detection",
        "analysis.differentials",
        "analysis.operating",
        "analysis._accuracy_*",
    ),
    "analysis.decisions": ("analysis.changes", "analysis._decisions_*"),
    "analysis.thresholds": ("analysis._thresholds_*",),
    "analysis.tags": ("analysis._tags_*",),
    "analysis.quality": ("analysis._quality_*",),
    "analysis.bounds": ("analysis._bounds_*",),
    "analysis.drift": ("analysis._drift_*",),
}
"""Modules that are parts of a noun; a pattern ends in a star."""

LAYER = {noun: number for number, nouns in enumerate(LAYERS) for noun in nouns}
GROUND = {"analysis.arguments", "analysis.counts", "analysis.intervals"}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1]) or "__init__" if parts[-1] == "__init__" else ".".join(parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def noun(module: str) -> str:
    """The noun that a module is, or is a part of."""
    for whole, parts in PARTS.items():
        if any(module == part or module.startswith(part.rstrip("*")) for part in parts):
            return whole
    return module


def imported(path: Path) -> Iterator[str]:
    """Each module of the package that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            names = [
                f"{node.module}.{alias.name}" for alias in node.names if alias.name[:2] != "__"
            ]
        else:
            continue
        yield from (known_module(name) for name in names if name.split(".")[0] == PACKAGE.name)


def known_module(name: str) -> str:
    """The longest beginning of a dotted name that is a module of the package."""
    inner = name.split(".")[1:]
    while inner and ".".join(inner) not in MODULES:
        inner.pop()
    return ".".join(inner) or "__init__"


IMPORTS = {
    module: {other for other in imported(path) if other != module}
    for module, path in MODULES.items()
}


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module):
    whole = noun(module)
    assert whole in LAYER, f"{module} has no layer: see LAYERS and PARTS in this file"
    wrong = {
        other
        for other in IMPORTS[module]
        if noun(other) != whole and LAYER.get(noun(other), 9) >= LAYER[whole]
    }
    assert not wrong, f"{module} (layer {LAYER[whole]}) imports {sorted(wrong)}"


def test_no_cycle_of_imports_anywhere():
    try:
        TopologicalSorter(IMPORTS).prepare()
    except CycleError as error:
        pytest.fail(f"cycle: {' → '.join(error.args[1])}")


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith("analysis.")])
def test_analysis_stands_on_its_ground_only(module):
    own = noun(module)
    for other in IMPORTS[module]:
        whole = noun(other)
        assert whole not in {"store", "charts"}, f"{module} imports {other}"
        if whole.startswith("analysis"):
            assert whole == own or whole in GROUND, f"{module} imports its sibling {other}"


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith("charts")])
def test_charts_get_frames_and_compute_nothing(module):
    computing = {other for other in IMPORTS[module] if noun(other).startswith("analysis")}
    assert not computing, f"{module} imports {sorted(computing)}: a chart takes a frame"
    assert "store" not in {noun(other) for other in IMPORTS[module]}


def test_client_knows_no_disk_and_the_store_no_network():
    reach = {module: reachable(module) for module in MODULES}
    for module in MODULES:
        if noun(module) == "client":
            assert "store" not in {noun(other) for other in reach[module]}
        if noun(module) == "store":
            assert "client" not in {noun(other) for other in reach[module]}


def reachable(module: str) -> set[str]:
    found: set[str] = set()
    left = [module]
    while left:
        for other in IMPORTS[left.pop()] - found:
            found.add(other)
            left.append(other)
    return found


@pytest.mark.parametrize("module", MODULES)
def test_a_module_is_a_noun_of_the_field(module):
    words = {word for part in module.split(".") for word in part.strip("_").split("_")}
    vague = {"utils", "util", "helpers", "helper", "common", "base", "misc", "tools"}
    assert not words & vague, f"{module}: name it for what it is"


@pytest.mark.parametrize("module", MODULES)
def test_a_module_is_short_enough_to_be_read(module):
    n_lines = len(MODULES[module].read_text(encoding="utf-8").splitlines())
    assert n_lines < 700, f"{module} has {n_lines} lines; 500 is a warning, 700 a wall"


@pytest.mark.parametrize("module", MODULES)
def test_a_module_says_what_it_is(module):
    docstring = ast.get_docstring(ast.parse(MODULES[module].read_text(encoding="utf-8")))
    assert docstring, f"{module} has no docstring"


ENGINES = {
    "IPython",
    "deltalake",
    "duckdb",
    "fsspec",
    "ipywidgets",
    "matplotlib",
    "narwhals",
    "nbconvert",
    "numpy",
    "pandas",
    "pyarrow",
    "scipy",
    "statsmodels",
}


def test_importing_the_package_loads_nothing_heavy():
    heavy = {"msgspec", "requests", "rich", "socket", "typer", "urllib.request", *ENGINES}
    assert loaded_by("import verifyanalytics") & heavy == set()


def test_the_command_line_starts_without_the_engines():
    heavy = {
        "deltalake",
        "duckdb",
        "matplotlib",
        "narwhals",
        "pandas",
        "pyarrow",
        "scipy",
        "requests",
    }
    assert loaded_by("import verifyanalytics.cli") & heavy == set()


def test_no_chart_and_no_network_client_until_asked_for():
    code = "import verifyanalytics as va; va.Store, va.import_responses, va.funnel, va.match_rates"
    drawing = {"matplotlib.pyplot", "requests", "IPython", "ipywidgets", "nbconvert"}
    assert loaded_by(code) & drawing == set()


def loaded_by(code: str) -> set[str]:
    program = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.split())
