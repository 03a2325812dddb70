"""Workers start, and import, from wherever an import may be called."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from builders.stored_answers import line, write_lines

import verifyanalytics as va
from verifyanalytics.importing.pool import child_environment

pytestmark = pytest.mark.second_tier
PACKAGE = Path(va.__file__).parents[1]

SCRIPT = """
import sys
{insert}
import verifyanalytics as va
print(va.import_responses({path!r}, {store!r}, workers=2))
"""


@pytest.fixture
def small(tmp_path):
    (tmp_path / "input").mkdir()
    path = write_lines(tmp_path / "input" / "a.ndjson", [line(n) for n in range(50)])
    return SCRIPT.format(insert="", path=str(path), store=str(tmp_path / "store"))


def run(argv, cwd, *, text=None, path=PACKAGE):
    environment = {**os.environ, "PYTHONPATH": str(path)}
    if path is None:
        del environment["PYTHONPATH"]
    done = subprocess.run(
        argv,
        check=False,
        cwd=cwd,
        input=text,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


ADDED = "read 50 = added 50 + known 0 + rejected 0\n"


def test_workers_start_from_a_script_without_a_main_guard(small, tmp_path):
    (tmp_path / "script.py").write_text(small)
    assert run([sys.executable, "script.py"], tmp_path) == ADDED


def test_workers_start_from_a_script_on_standard_input(small, tmp_path):
    assert run([sys.executable, "-"], tmp_path, text=small) == ADDED


def test_workers_start_from_a_command(small, tmp_path):
    assert run([sys.executable, "-c", small], tmp_path) == ADDED


def test_workers_start_where_files_have_the_names_of_modules(small, tmp_path):
    """What lies in the working folder or beside the script is not what a worker imports."""
    for name in ("queue", "struct", "msgspec", "pyarrow", "signal"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a stranger was imported')")
    code = f"import sys; sys.path[:0] = []\n{small}"
    assert run([sys.executable, "-P", "-c", code], tmp_path) == ADDED


def test_workers_import_what_the_caller_put_on_its_path(small, tmp_path):
    """The package is found by `sys.path` alone, in a copy that no installation knows."""
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "verifyanalytics").symlink_to(PACKAGE / "verifyanalytics")
    insert = f"sys.path.insert(0, {str(tmp_path / 'copy')!r})\n"
    code = small.replace("import sys\n", f"import sys\n{insert}", 1)
    assert run([sys.executable, "-c", code], tmp_path, path=None) == ADDED


def test_workers_start_when_the_working_folder_holds_the_package(small, tmp_path):
    (tmp_path / "verifyanalytics").symlink_to(PACKAGE / "verifyanalytics")
    assert run([sys.executable, "-"], tmp_path, text=small, path=None) == ADDED


def test_workers_start_from_a_notebook(small, tmp_path):
    nbformat = pytest.importorskip("nbformat")
    cells = [nbformat.v4.new_code_cell(small)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbformat.write(notebook, tmp_path / "n.ipynb")
    code = (
        "import nbformat, nbclient; n = nbformat.read('n.ipynb', 4);"
        "nbclient.NotebookClient(n, kernel_name='python3', timeout=100).execute();"
        "print(n.cells[0].outputs[0]['text'], end='')"
    )
    assert run([sys.executable, "-W", "ignore", "-c", code], tmp_path) == ADDED


def test_standard_input_is_spooled_and_named(tmp_path):
    code = (
        "import verifyanalytics as va; s = va.Store('store', create=True);"
        "print(va.import_responses('-', s)); print(va.import_responses('-', s));"
        "print(set(s.read('verifications')['source']))"
    )
    text = "\n".join(line(n).decode() for n in range(50))
    out = run([sys.executable, "-c", code], tmp_path, text=text)
    assert out == ADDED + "read 0 = added 0 + known 0 + rejected 0\n{'<stdin>'}\n"
    staging = tmp_path / "store" / "responses" / "_staging"
    assert list(staging.iterdir()) == []


def test_the_environment_of_a_child_leaves_the_working_folder_out(tmp_path, monkeypatch):
    extra = tmp_path / "extra"
    extra.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), str(extra), str(PACKAGE), *sys.path])
    path = child_environment().get("PYTHONPATH", "").split(os.pathsep)
    assert str(extra) in path
    assert str(tmp_path) not in path
    assert not [entry for entry in path if "site-packages" in entry]
