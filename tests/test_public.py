"""The index of public names: each is there, is documented, and comes only when it is asked for."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

import verifyanalytics as va

ROOT = Path(__file__).parents[1]
PUBLIC = sorted(va._PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_what_its_module_defines(name):
    value = getattr(va, name)
    module = importlib.import_module(f"verifyanalytics.{va._PUBLIC[name]}")
    assert value is getattr(module, name)
    assert value.__module__.startswith(module.__name__), f"{name} is of {value.__module__}"


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_documented(name):
    value = getattr(va, name)
    docstring = inspect.getdoc(value)
    assert docstring, f"{name} has no docstring"
    if inspect.isfunction(value):
        assert "Parameters" in docstring or not inspect.signature(value).parameters, name
        assert inspect.signature(value).return_annotation is not inspect.Signature.empty


def test_all_is_the_index_and_nothing_else():
    assert sorted(va.__all__) == sorted([*va._PUBLIC, *va._MODULES])
    assert sorted([*va.__all__, "__version__"]) == dir(va)
    assert list(va._PUBLIC) == sorted(va._PUBLIC)


def test_star_import_gives_the_index():
    names: dict[str, object] = {}
    exec("from verifyanalytics import *", names)
    assert set(va.__all__) <= set(names)


@pytest.mark.parametrize("name", va._MODULES)
def test_a_public_module_is_reached_by_its_name(name):
    assert getattr(va, name) is importlib.import_module(f"verifyanalytics.{name}")


def test_a_public_name_is_not_hidden_by_a_module_of_the_same_name():
    package = Path(va.__file__).parent
    modules = {path.stem for path in package.iterdir()} - {"__init__"}
    assert modules.isdisjoint(PUBLIC), (
        "importing the module would put it where the function is meant to be"
    )


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
    assert {"verifyanalytics/py.typed", "verifyanalytics/codebook.json"} <= names
    modules = {
        path.relative_to(ROOT).as_posix() for path in (ROOT / "verifyanalytics").rglob("*.py")
    }
    assert modules == {n for n in names if n.endswith(".py") and "/_share/" not in n}
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "out"))]
