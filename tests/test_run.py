"""run.py sets a clone up: proved on a clone of its own that needs nothing from outside."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.second_tier

ROOT = Path(__file__).parents[1]

PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "tiny"
version = "1"
"""

BACKEND = '''
"""A build backend in a dozen lines: an editable wheel is a zip with one path in it."""
import os, zipfile

def build_editable(folder, config_settings=None, metadata_directory=None):
    name = "tiny-1-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        wheel.writestr("tiny.pth", os.getcwd())
        for file, text in (
            ("METADATA", "Metadata-Version: 2.1\\nName: tiny\\nVersion: 1\\n"),
            ("WHEEL", "Wheel-Version: 1.0\\nTag: py3-none-any\\n"),
            ("RECORD", ""),
        ):
            wheel.writestr("tiny-1.dist-info/" + file, text)
    return name
'''

SAYS = """
import sys
print("verb:", sys.argv[1:])
sys.exit(int(sys.argv[-1]) if sys.argv[-1].isdigit() else 0)
"""


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """A clone with an empty lock and a package that prints what it is asked."""
    root = tmp_path_factory.mktemp("a clone")
    shutil.copy(ROOT / "run.py", root)
    (root / "requirements.lock").write_text("# nothing\n")
    (root / "pyproject.toml").write_text(PYPROJECT)
    (root / "backend.py").write_text(BACKEND)
    (root / "verifyanalytics").mkdir()
    (root / "verifyanalytics" / "__main__.py").write_text(SAYS)
    (root / "verifyanalytics" / "__init__.py").touch()
    (root / "benchmarks").mkdir()
    (root / "benchmarks" / "flatten.py").write_text(SAYS)
    return root


def run(root: Path, *words: str, code: int = 0) -> subprocess.CompletedProcess:
    # no index: whatever would be fetched fails
    environment = os.environ | {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": "",
        "PIP_CONFIG_FILE": os.devnull,
    }
    done = subprocess.run(
        [sys.executable, str(root / "run.py"), *words],
        capture_output=True, text=True, check=False, timeout=120, env=environment, cwd=root.parent,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done


def test_set_up_once_then_at_a_glance(clone):
    first = run(clone, "setup")
    assert "installing what requirements.lock lists" in first.stderr
    again = run(clone, "setup")
    assert again.stderr == ""
    assert "ready" in again.stdout


def test_words_and_exit_codes_go_through(clone):
    assert "verb: ['demo', '--quiet', '7']" in run(clone, "demo", "--quiet", "7", code=7).stdout
    assert "verb: ['--rows', '3']" in run(clone, "bench", "flatten", "--rows", "3", code=3).stdout


def test_a_set_up_that_was_interrupted_is_made_again(clone):
    run(clone, "setup")
    (clone / ".venv" / "setup.stamp").write_text("unfinished")
    (clone / ".venv" / "left over").touch()
    assert "making" in run(clone, "setup").stderr
    assert not (clone / ".venv" / "left over").exists()


def test_a_changed_lock_is_installed_into_the_same_environment(clone):
    run(clone, "setup")
    (clone / "requirements.lock").write_text("# still nothing\n")
    again = run(clone, "setup")
    assert "installing" in again.stderr
    assert "making" not in again.stderr


def test_what_cannot_be_installed_is_said_and_tried_again(clone):
    run(clone, "setup")
    lock = clone / "requirements.lock"
    lock.write_text("nowhere==1 --hash=sha256:" + "0" * 64 + "\n")
    failed = run(clone, "setup", code=1)
    assert "pip could not install everything" in failed.stderr
    assert run(clone, "demo", code=1).stdout == ""
    lock.write_text("# nothing\n")
    run(clone, "setup")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nope"], "no verb 'nope'; there are: setup, demo, test, lab, bench, notebooks"),
        (["bench"], "bench needs a name; there are: flatten"),
        (["bench", "../x"], "bench needs a name"),
        (["setup", "now"], "setup takes no words, but got: now"),
        (["lab", "--lang", "fr"], "lab --lang needs one of: en, zh"),
        (["lab", "--lang"], "lab --lang needs one of: en, zh"),
        ([], ""),
    ],
)
def test_mistakes_are_exit_2(clone, words, says):
    assert says in run(clone, *words, code=2).stderr


@pytest.mark.parametrize(
    ("words", "locale"),
    [([], "default"), (["--lang", "zh"], "zh_CN"), (["--lang", "en"], "default")],
)
def test_lab_asks_for_no_news_and_speaks_the_language_asked_for(clone, words, locale):
    package = clone / "jupyterlab"
    package.mkdir(exist_ok=True)
    (package / "__main__.py").write_text(SAYS)
    done = run(clone, "lab", *words, "--port=4321")
    assert "'--LabApp.news_url=None'" in done.stdout
    assert "'--port=4321'" in done.stdout
    assert "--lang" not in done.stdout
    settings = clone / ".venv" / "share" / "jupyter" / "lab" / "settings" / "overrides.json"
    assert json.loads(settings.read_text()) == {
        "@jupyterlab/apputils-extension:notification": {"fetchNews": "false"},
        "@jupyterlab/translation-extension:plugin": {"locale": locale},
    }


@pytest.mark.parametrize(
    ("words", "passed_on"),
    [
        ([], []),
        (["-k", "store"], ["-k", "store"]),
        (["--quick"], ["-m", "not second_tier"]),
        (["-x", "--quick"], ["-x", "-m", "not second_tier"]),
    ],
)
def test_each_step_of_the_tests_runs_and_quick_leaves_the_second_tier_out(clone, words, passed_on):
    for tool in ("ruff", "codespell_lib", "mypy", "pytest"):
        (clone / tool).mkdir(exist_ok=True)
        (clone / tool / "__main__.py").write_text(SAYS)
    done = run(clone, "test", *words)
    steps = re.findall(r"^--- (.+)$", done.stdout, re.MULTILINE)
    assert steps == ["ruff format", "ruff check", "codespell", "mypy", "pytest"]
    assert f"verb: {['-n', '3', '--dist', 'loadfile', *passed_on]}" in done.stdout


def test_help_lists_every_verb(clone):
    text = run(clone, "--help").stdout
    for verb in ("setup", "demo", "test", "lab", "bench", "notebooks"):
        assert f"run.py {verb}" in text


@pytest.mark.skipif(os.name == "nt", reason="another layout")
def test_a_python_without_venv_says_what_to_install(tmp_path, clone):
    program = f"""
import importlib.abc, runpy, sys
import importlib.util
class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        return None
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name == "ensurepip" else find_spec(name)
sys.argv = ["run.py", "setup"]
runpy.run_path({str(tmp_path / "run.py")!r}, run_name="__main__")
"""
    shutil.copy(ROOT / "run.py", tmp_path)
    for name in ("requirements.lock", "pyproject.toml"):
        shutil.copy(clone / name, tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "its module 'ensurepip' is missing" in done.stderr
    assert "sudo apt-get install python3-venv" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_an_older_python_could_read_the_file_and_is_told():
    """Python 3.6 must get as far as the check: no newer grammar, and the check comes first."""
    tree = ast.parse((ROOT / "run.py").read_text(encoding="utf-8"), feature_version=(3, 6))
    docstring, imports, check, *_ = tree.body
    assert isinstance(docstring, ast.Expr)
    assert ast.unparse(imports) == "import sys"
    assert ast.unparse(check).startswith("if sys.version_info < (3, 11):\n    sys.exit(f'")
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.NamedExpr | ast.Match)]


def test_ci_runs_what_a_person_runs():
    text = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert text.startswith("#!/usr/bin/env bash\n")
    assert text.rstrip().splitlines()[-1] == 'exec python3 run.py test "$@"'
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
