"""The index of public names: each is there, is documented, and comes only when it is asked for."""

from __future__ import annotations

import inspect
import subprocess
import sys
import zipfile
from importlib.metadata import version
from operator import attrgetter
from pathlib import Path

import pytest

import verifyanalytics as va

ROOT = Path(__file__).parents[1]
GROUPS = sorted(va._GROUPS)
STATISTICS = [f"{group}.{name}" for group in GROUPS for name in getattr(va, group).__all__]
CHARTS = [f"charts.{group}.{name}" for group in va.charts.GROUPS
          for name in getattr(va.charts, group).__all__]  # fmt: skip
OTHERS = [f"{package}.{name}" for package in ("codebook", "notebooks", "simulator")
          for name in getattr(va, package).__all__
          if inspect.isfunction(getattr(getattr(va, package), name))]  # fmt: skip
FUNCTIONS = sorted(
    [name for name in va._PUBLIC if not inspect.ismodule(getattr(va, name))]
    + [*STATISTICS, *CHARTS, *OTHERS]
)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_public_name_is_documented(name):
    value = attrgetter(name)(va)
    docstring = inspect.getdoc(value)
    assert docstring, f"{name} has no docstring"
    assert value.__name__ == name.split(".")[-1]
    if inspect.isfunction(value):
        assert "Parameters" in docstring or not inspect.signature(value).parameters, name
        assert inspect.signature(value).return_annotation is not inspect.Signature.empty
        assert "\nExamples\n" in docstring, name
        assert ">>> " in docstring, name
        assert "\nSee Also\n" in docstring, name


def test_all_is_the_index_and_nothing_else():
    assert sorted(va.__all__) == sorted(va._PUBLIC) == dir(va)


def test_star_import_gives_the_index():
    names: dict[str, object] = {}
    exec("from verifyanalytics import *", names)
    assert set(va.__all__) <= set(names)


def test_a_public_name_is_not_hidden_by_a_module_of_the_same_name():
    package = Path(va.__file__).parent
    for folder, names in [
        (package, {name for name in va._PUBLIC if not inspect.ismodule(getattr(va, name))}),
        *((package / "analysis" / group, set(getattr(va, group).__all__)) for group in GROUPS),
    ]:
        modules = {path.stem for path in folder.iterdir()} - {"__init__"}
        assert modules.isdisjoint(names), (
            "importing the module would put it where the function is meant to be"
        )


def test_each_chart_has_group_and_name_of_its_statistic():
    for group in va.charts.GROUPS:
        drawn = set(getattr(va.charts, group).__all__)
        assert drawn
        assert drawn <= set(getattr(va, group).__all__)


def test_there_is_one_version():
    assert va.__version__ == version("verifyanalytics")


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'nope'"):
        va.nope  # noqa: B018


def test_what_the_demo_needs_travels_in_the_wheel(tmp_path):
    pytest.importorskip("hatchling", reason="the build backend is a development dependency")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT, check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for shared in [*ROOT.glob("data/sample/*"), *ROOT.glob("notebooks/src/*.py")]:
        folder = "sample" if shared.parent.name == "sample" else "notebooks/src"
        assert f"verifyanalytics/_share/{folder}/{shared.name}" in names
    assert {"verifyanalytics/py.typed", "verifyanalytics/codebook/codebook.json"} <= names
    modules = {
        path.relative_to(ROOT).as_posix() for path in (ROOT / "verifyanalytics").rglob("*.py")
    }
    assert modules == {n for n in names if n.endswith(".py") and "/_share/" not in n}
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "out"))]
