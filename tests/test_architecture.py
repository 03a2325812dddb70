"""The layers of the package, the length of modules, and what importing costs.

Every import counts, those inside functions too. Each package has its line in LAYERS.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "verifyanalytics"

LAYERS = (
    {"errors", "lazy", "schema"},
    {"arguments", "codebook"},
    {"wording"},
    {"sources", "vendor", "charts", "analysis.base"},
    {"parsing", "simulator"},
    {"store", "analysis"},
    {"journal", "analysis.scores"},
    {"importing", "collecting", "reporting", "tuner"},
    {"notebooks"},
    {"", "demo"},
    {"cli"},
    {"__main__"},
)
"""A module imports from lower layers and its own package. A package of `analysis` without a line
of its own has the layer of `analysis`."""

LAYER = {package: number for number, packages in enumerate(LAYERS) for package in packages}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def package_of(module: str) -> str:
    return ".".join(module.split(".")[: 2 if module.startswith("analysis.") else 1])


def layer_of(module: str) -> int:
    package = package_of(module)
    return LAYER[package if package in LAYER else package.split(".")[0]]


def imported(path: Path) -> Iterator[str]:
    """Each module of the package that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            names = [f"{node.module}.{a.name}" for a in node.names if a.name[:2] != "__"]
        yield from (known_module(name) for name in names if name.split(".")[0] == PACKAGE.name)


def known_module(name: str) -> str:
    inner = name.split(".")[1:]
    while inner and ".".join(inner) not in MODULES:
        inner.pop()
    return ".".join(inner)


IMPORTS = {
    module: {other for other in imported(path) if other != module}
    for module, path in MODULES.items()
}


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module):
    wrong = {
        other
        for other in IMPORTS[module]
        if package_of(other) != package_of(module) and layer_of(other) >= layer_of(module)
    }
    assert not wrong


def test_no_cycle_of_imports_anywhere():
    TopologicalSorter(IMPORTS).prepare()  # a CycleError names the modules


KNOWS_NOTHING_OF = {
    "analysis": {"store", "charts"},  # a statistic gets a frame
    "charts": {"analysis", "store"},  # a chart computes no rate
    "vendor": {"store"},  # a call touches no disk
    "store": {"vendor"},  # the store touches no network; names of the API are no network
}


@pytest.mark.parametrize("package", KNOWS_NOTHING_OF)
def test_what_a_package_must_not_reach(package):
    for module in MODULES:
        if module.split(".")[0] == package:
            reached = {other.split(".")[0] for other in reachable(module) - {"vendor.api"}}
            assert not reached & KNOWS_NOTHING_OF[package], module


def reachable(module: str) -> set[str]:
    found, left = set(), [module]
    while left:
        new = IMPORTS[left.pop()] - found
        found |= new
        left += new
    return found


@pytest.mark.parametrize("module", MODULES)
def test_a_module_is_named_documented_and_short_enough_to_be_read(module):
    text = MODULES[module].read_text(encoding="utf-8")
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "tools"}
    assert not {word for part in module.split(".") for word in part.split("_")} & vague
    assert len(text.splitlines()) <= 600
    assert ast.get_docstring(ast.parse(text))


HEAVY = {"IPython", "deltalake", "duckdb", "fsspec", "ipywidgets", "matplotlib", "msgspec",
         "narwhals", "nbconvert", "numpy", "pandas", "pyarrow", "requests", "scipy"}  # fmt: skip


@pytest.mark.parametrize(
    ("code", "not_loaded"),
    [
        ("import verifyanalytics", HEAVY | {"rich", "socket", "typer", "urllib.request"}),
        ("import verifyanalytics.cli.app", HEAVY - {"msgspec"}),
        (
            "import verifyanalytics as va; va.Store, va.import_responses, va.verdicts.funnel",
            {"matplotlib.pyplot", "requests", "IPython", "ipywidgets", "nbconvert"},
        ),
    ],
)
def test_an_import_loads_what_it_needs_only(code, not_loaded):
    program = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert set(done.stdout.split()) & not_loaded == set()
