"""What the papers say is true: commands, options, names, links and Python blocks are tried."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer

import run
import verifyanalytics as va
from verifyanalytics.cli import app as cli

ROOT = Path(__file__).parents[1]
PAPERS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "data" / "README.md"])
COMMANDS = typer.main.get_command(cli.app).commands

NAMES = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in PAPERS}
each_paper = pytest.mark.parametrize("paper", NAMES)


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def command_lines(text: str, program: str) -> list[list[str]]:
    """Each command of a program: in fenced and indented blocks, and in backticks."""
    fenced = re.findall(r"```(?:sh|console|)\n(.*?)```", text, flags=re.DOTALL)
    lines = [line.strip() for block in fenced for line in block.splitlines()]
    lines += [line.strip() for line in text.splitlines() if line.startswith("    ")]
    lines += re.findall(rf"`({re.escape(program)} [^`]*)`", text)
    pattern = re.compile(rf"^(?:\w+=\S+ )*{re.escape(program)}(?: |$)")
    return [
        shlex.split(line[pattern.match(line).end() :].split(" | ")[0], comments=True)
        for line in lines
        if pattern.match(line)
    ]


@each_paper
def test_every_verb_and_option_that_is_written_down_exists(paper):
    for words in command_lines(NAMES[paper], "verifyanalytics"):
        verb = words[0]
        assert verb in COMMANDS, f"{paper}: verifyanalytics {' '.join(words)}"
        known = {option for parameter in COMMANDS[verb].params for option in parameter.opts}
        for word in words[1:]:
            if word.startswith("-") and word != "-":
                assert word.split("=")[0] in known, f"{paper}: {verb} has no {word}"


@each_paper
def test_every_word_of_the_launcher_exists(paper):
    for words in command_lines(NAMES[paper], "python3 run.py"):
        assert words[0] in run.VERBS, f"{paper}: run.py {' '.join(words)}"


@each_paper
def test_every_python_block_compiles_and_names_what_is_there(paper):
    for block in blocks(NAMES[paper], "python"):
        compile(block, paper, "exec")
        for dotted in re.findall(r"\bva\.([A-Za-z_][\w.]*)", block):
            resolve(dotted)


def resolve(dotted: str) -> object:
    value: object = va
    for name in dotted.split("."):
        value = getattr(value, name)
    return value


@each_paper
def test_links_into_the_tree_lead_somewhere(paper):
    folder = (ROOT / paper).parent
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", NAMES[paper]):
        if "://" not in target:
            assert (folder / target).exists(), f"{paper}: {target}"


def test_the_architecture_names_modules_that_are_there():
    text = NAMES["docs/architecture.md"]
    package = ROOT / "verifyanalytics"
    files = re.findall(r"`((?:\w+/)+\w+\.py|\w+\.py)`", text)
    modules = re.findall(r"`(?:verifyanalytics\.)?([a-z_]+(?:\.[a-z_]+)+)`", text)
    assert len(files) > 12
    assert len(modules) > 12
    assert [f for f in files if not (package / f).exists() and not (ROOT / f).exists()] == []
    for dotted in {*modules} - {*files}:
        path = package.joinpath(*dotted.split("."))
        assert path.is_dir() or path.with_suffix(".py").exists(), dotted


@each_paper
def test_variables_of_the_environment_are_ours(paper):
    ours = {
        name
        for path in [*(ROOT / "verifyanalytics").rglob("*.py"), ROOT / "tests" / "conftest.py"]
        for name in re.findall(r"VERIFYANALYTICS_[A-Z]+", path.read_text(encoding="utf-8"))
    }
    assert set(re.findall(r"VERIFYANALYTICS_[A-Z]+", NAMES[paper])) <= ours


# ------------------------------------------------------------------ the table of verbs

ROW = re.compile(r"^\| `(?P<verb>[a-z]+)` \| `(?P<python>[^`]+)` \|", flags=re.MULTILINE)
VERBS = {match["verb"]: match["python"] for match in ROW.finditer(NAMES["README.md"])}


def test_the_readme_lists_exactly_the_verbs_there_are():
    assert sorted(VERBS) == sorted(COMMANDS)


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_is_one_public_function(verb):
    dotted = VERBS[verb].removeprefix("va.").replace("store.", "Store.").split("(")[0]
    function = resolve(dotted)
    assert callable(function), VERBS[verb]
    assert inspect.getdoc(function)


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_option_of_a_verb_has_a_help(verb):
    assert COMMANDS[verb].help
    for parameter in COMMANDS[verb].params:
        assert parameter.help or parameter.name == "help", f"{verb} {parameter.opts}"


def test_every_public_dependency_has_its_line():
    text = NAMES["docs/decisions/0002-dependencies.md"]
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for name in re.findall(r'^    "([A-Za-z0-9-]+)(?:\[\w+\])?>=', pyproject, flags=re.MULTILINE):
        assert re.search(rf"\b{re.escape(name)}\b", text), f"{name} has no line of reason"


def test_the_package_imports_every_package_that_it_requires():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = {re.split(r"[\[>=<~!]", line)[0] for line in project["dependencies"]}
    imported = {
        name.split(".")[0]
        for path in (ROOT / "verifyanalytics").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in [getattr(node, "module", None) or ""]
        + [alias.name for alias in getattr(node, "names", []) if isinstance(node, ast.Import)]
    }
    programs = {"jupyter", "jupyterlab"}  # what the notebooks are opened with
    assert required - programs <= imported


def test_the_hooks_have_the_versions_of_the_lock():
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    for name, version in re.findall(r"/(ruff|codespell)(?:-pre-commit)?\n +rev: v(\S+)", hooks):
        assert f"\n{name}=={version} " in lock
    assert hooks.count("rev:") == 2


# ------------------------------------------------------------------ what may not stand in the tree


@each_paper
def test_no_registry_and_no_path_of_a_machine(paper):
    assert not re.search(r"(?<![\w.])/(?:work|root|home|tmp)/", NAMES[paper])
    assert not re.search(r"://[^ ]*/simple", NAMES[paper])


def test_the_lock_names_hashes_and_no_index():
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "://" not in lock
    pinned = re.findall(r"^\S+==\S+", lock, flags=re.MULTILINE)
    assert len(pinned) > 100
    for block in re.split(r"^(?=\S+==)", lock, flags=re.MULTILINE)[1:]:
        assert "--hash=sha256:" in block, block[:80]
