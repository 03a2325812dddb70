"""The notebooks: built from short sources, run on the sample, and compared byte by byte.

A notebook's source is `notebooks/src/NAME.py`: cells begin with `# %%`, Markdown ones are comments.
`build` runs it in a kernel of this very interpreter, over a store made from `data/sample`, and
writes `notebooks/NAME.ipynb` without anything that differs from run to run: ids are numbers, there
are no times and no paths, and pictures carry no version of their maker.

::

    python -m verifyanalytics.notebooks.build            rebuild all
    python -m verifyanalytics.notebooks.build --check    build apart, compare: exit 8 if they differ
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat

from verifyanalytics.codebook.book import checked_lang
from verifyanalytics.errors import (
    CheckError,
    NoStoreError,
    StorageError,
    UsageError,
    VerifyAnalyticsError,
)
from verifyanalytics.importing.labels import import_labels
from verifyanalytics.importing.run import import_responses
from verifyanalytics.notebooks.kernel import SPEC, fill_in, html, pixels, plain_png
from verifyanalytics.store.store import Store

_PACKAGE = Path(__file__).parents[1]
_PLACES = (_PACKAGE.parent / "notebooks", _PACKAGE / "_share" / "notebooks")
_SAMPLES = (_PACKAGE.parent / "data" / "sample", _PACKAGE / "_share" / "sample")

_MARK = re.compile(r"^# %%(?: \[(?P<kind>markdown)\])?(?: tags=(?P<tags>\[.*\]))?\s*$")
_PARAMETER = re.compile(r"^(?P<name>\w+) *= *(?P<value>.*?)(?P<comment>  #.*)?$", re.MULTILINE)
_VIEW = "application/vnd.jupyter.widget-view+json"
_SECONDS = 300  # for one cell on the sample, on a slow machine

_OWN = {"PERIOD": "week"}
"""Parameters whose value in the sources is of the sample, and what they are elsewhere."""

_OWN_WORDS = """\
> **Your own data.** The tables and charts are yours once the cells have run. The texts were written
> about the sample: what begins with *In the sample* speaks of that alone. Scores, times and tags of
> real people are personal data; so is this notebook once it has run."""


# ------------------------------------------------------------------ from source to notebook


def parse(source: str, name: str) -> nbformat.NotebookNode:
    """Turn a source in cells into a notebook without outputs; its n-th cell has the id `NAME-n`.

    In the source `# %%` begins a code cell, `# %% [markdown]` a Markdown cell (its lines are
    comments), and `tags=["…"]` behind either tags it.
    """
    cells: list[nbformat.NotebookNode] = []
    for kind, tags, lines in _cells(source, name):
        text = "\n".join(lines).strip("\n")
        if kind == "markdown":
            text = "\n".join(re.sub("^# ?", "", line) for line in text.split("\n"))
            cell = nbformat.v4.new_markdown_cell(text)
        else:
            cell = nbformat.v4.new_code_cell(text.replace("  # fmt: skip", ""))
        cell.id = f"{name}-{len(cells) + 1}"
        if tags:
            cell.metadata["tags"] = tags
        cells.append(cell)
    return nbformat.v4.new_notebook(cells=cells, metadata=_metadata())


def _cells(source: str, name: str) -> list[tuple[str, list[str], list[str]]]:
    found: list[tuple[str, list[str], list[str]]] = []
    for line in source.splitlines():
        if mark := _MARK.match(line):
            tags = re.findall(r'"([^"]+)"', mark["tags"] or "")
            found.append((mark["kind"] or "code", tags, []))
        elif found:
            found[-1][2].append(line)
        elif line.strip():
            raise UsageError(f"notebook source {name}: the first line must begin a cell: # %%")
    return found


def _metadata() -> dict[str, Any]:
    return {"kernelspec": dict(SPEC), "language_info": {"name": "python"}}


# ------------------------------------------------------------------ running


def run(
    notebook: nbformat.NotebookNode,
    parameters: Mapping[str, Any] | None = None,
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> nbformat.NotebookNode:
    """Run a notebook in a kernel of this interpreter; return a copy with outputs.

    `parameters` are set in a cell after the one tagged `parameters`, which must name them
    (UsageError). The kernel works in `folder`, else in a temporary one; `environment` adds to the
    caller's variables. CheckError when a cell failed.
    """
    copy = nbformat.from_dict(notebook)
    if parameters:
        _inject(copy, parameters)
    if failure := fill_in(copy, folder=folder, environment=environment, seconds=_SECONDS):
        raise CheckError([failure])
    return _without_views(copy)


def _without_views(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Take the controls out where a picture stands beside them: a built notebook has no front end.

    A page would otherwise fetch a script to show them, and their ids differ from run to run.
    """
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if "image/png" in output.get("data", {}):
                output.data.pop(_VIEW, None)
    return notebook


def _inject(notebook: nbformat.NotebookNode, parameters: Mapping[str, Any]) -> None:
    at, known = _parameters(notebook)
    if wrong := [name for name in parameters if name not in known]:
        raise UsageError(f"no parameter {', '.join(wrong)}; there are: {', '.join(known)}")
    lines = [f"{name} = {value!r}" for name, value in parameters.items()]
    cell = nbformat.v4.new_code_cell("\n".join(lines), metadata={"tags": ["injected-parameters"]})
    cell.id = "injected-parameters"
    notebook.cells.insert(at + 1, cell)


def _parameters(notebook: nbformat.NotebookNode) -> tuple[int, list[str]]:
    """Find the cell tagged `parameters`, and the names that it sets."""
    for at, cell in enumerate(notebook.cells):
        if "parameters" in cell.metadata.get("tags", ()):
            return at, [match["name"] for match in _PARAMETER.finditer(cell.source)]
    raise UsageError("the notebook has no cell tagged parameters")


# ------------------------------------------------------------------ nothing that differs


def settle(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Take out of a run notebook, in place, what differs from run to run; return it."""
    notebook.metadata = nbformat.from_dict(_metadata())
    number = 0
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict(
            {"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {}
        )
        if cell.cell_type != "code":
            continue
        number += 1
        cell.execution_count = number
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = number
            data = output.get("data", {})
            if "image/png" in data:
                data["image/png"] = plain_png(data["image/png"])
    return notebook


def same(one: nbformat.NotebookNode, other: nbformat.NotebookNode) -> bool:
    """Tell whether two notebooks are equal, pictures by their pixels."""
    return bool(_comparable(one) == _comparable(other))


def _comparable(notebook: nbformat.NotebookNode) -> Any:
    copy = nbformat.from_dict(notebook)
    for cell in copy.cells:
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "image/png" in data:
                data["image/png"] = pixels(data["image/png"])
    return copy


# ------------------------------------------------------------------ building and comparing


def folder() -> Path:
    """Return the folder of the notebooks: of the clone, else the one that came with the wheel.

    See Also
    --------
    names, read, copy

    Examples
    --------
    >>> folder().name
    'notebooks'
    """
    return _existing(_PLACES, "notebooks")


def _existing(places: Sequence[Path], what: str) -> Path:
    for place in places:
        if place.is_dir():
            return place
    raise StorageError(f"the {what} are not where they were installed; install again")


def names() -> list[str]:
    """Return the notebooks' names without suffix, in the order in which they are read.

    See Also
    --------
    read, copy, execute

    Examples
    --------
    >>> names()[:2]
    ['01_first_look', '02_thresholds']
    """
    return sorted(path.stem for path in (folder() / "src").glob("[0-9][0-9]_*.py"))


def read(name: str) -> nbformat.NotebookNode:
    """Return one of the notebooks (format 4.5), without outputs, from its source.

    Parameters
    ----------
    name : str
        One of `names()`.

    Raises
    ------
    UsageError
        There is none of this name.

    See Also
    --------
    names, copy, execute

    Examples
    --------
    >>> read("01_first_look").cells[0].id
    '01-first-look-1'
    """
    if name not in names():
        raise UsageError(f"no notebook {name!r}; there are: {', '.join(names())}")
    source = (folder() / "src" / f"{name}.py").read_text(encoding="utf-8")
    return parse(source, name.replace("_", "-"))


def build(sources: Path, out: Path) -> list[Path]:
    """Build every notebook that has a source, on a store of the synthetic sample.

    `sources` has the `.py` files; the `.ipynb` go to `out`. CheckError when a cell failed.
    """
    built = []
    with tempfile.TemporaryDirectory(prefix="verifyanalytics-") as place:
        work, data = Path(place) / "work", Path(place) / "store"
        work.mkdir()
        fill(data)
        known = {"VERIFYANALYTICS_STORE": str(data)}
        for source in sorted(sources.glob("*.py")):
            notebook = parse(source.read_text(encoding="utf-8"), source.stem.replace("_", "-"))
            if failure := fill_in(notebook, folder=work, environment=known, seconds=_SECONDS):
                raise CheckError([f"{source.name}: {failure}"])
            target = out / f"{source.stem}.ipynb"
            _write(settle(_without_views(notebook)), target)
            built.append(target)
    return built


def fill(data: Path) -> None:
    """Make a store of the synthetic sample and its labels."""
    sample, store = _existing(_SAMPLES, "sample"), Store(data, create=True)
    import_responses(sorted(sample.glob("*.ndjson*")), store)
    import_labels(sample / "labels.csv", store)


def _write(notebook: nbformat.NotebookNode, target: Path) -> None:
    nbformat.validate(notebook)
    text = nbformat.writes(notebook, version=nbformat.NO_CONVERT)
    temporary = target.with_suffix(".ipynb.new")
    temporary.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
    temporary.replace(target)


def check(sources: Path, built: Path) -> None:
    """Build the notebooks anew; CheckError names each that differs, is missing or has no source."""
    findings = []
    with tempfile.TemporaryDirectory(prefix="verifyanalytics-") as place:
        fresh = {path.name: path for path in build(sources, Path(place))}
        there = {path.name: path for path in built.glob("*.ipynb")}
        for name in sorted({*fresh, *there}):
            if name not in there:
                findings.append(f"{name} is not built")
            elif name not in fresh:
                findings.append(f"{name} has no source in {sources.name}/")
            elif not same(*(nbformat.read(d[name], as_version=4) for d in (fresh, there))):
                findings.append(f"{name} differs from what its source gives")
    if findings:
        raise CheckError([*findings, "rebuild: python -m verifyanalytics.notebooks.build"])


# ------------------------------------------------------------------ for users


def copy(
    target: str | os.PathLike[str],
    *,
    store: Store | str | os.PathLike[str] | None = None,
    lang: str = "en",
    force: bool = False,
    run: bool = False,
    progress: Callable[[str], object] | None = None,
) -> list[Path]:
    """Write the notebooks for a user's own data.

    Parameters
    ----------
    target : path
        A folder; made when it is not there.
    store : Store or path, optional
        What the notebooks read; its absolute path is set in them. Default:
        `VERIFYANALYTICS_STORE`, else `data/store`, if there is a store; else none is set, and the
        notebooks look there when they are run.
    lang : {"en", "zh", "both"}
        Language of the charts; the texts are English.
    force : bool
        Write over notebooks of the same names.
    run : bool
        Run each, in the folder, and keep what it shows.
    progress : callable, optional
        Called with each notebook's name before it is run.

    Returns
    -------
    list of Path
        The notebooks written, each in one piece, in the order in which they are read.

    Raises
    ------
    UsageError
        Notebooks of these names are there already; nothing is written then.
    NoStoreError
        A store was given, or is needed to run, and there is none.
    CheckError
        Notebooks did not run to their end: one finding each. They are written all the same, with
        what went wrong in them.

    See Also
    --------
    execute : Runs one and writes it as an HTML page.
    va.report : The weekly page for people who do not program.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as place:
    ...     [path.name for path in copy(place, lang="zh")][:2]
    ['01_first_look.ipynb', '02_thresholds.ipynb']
    """
    out, language = Path(target), checked_lang(lang)
    values = {**_OWN, "STORE": _found(store, needed=run), "LANG": language}
    paths = {name: out / f"{name}.ipynb" for name in names()}
    _make_room(out, [] if force else list(paths.values()))
    failures = []
    for name, path in paths.items():
        notebook = _for_own_data(read(name), values)
        if run:
            if progress is not None:
                progress(name)
            if failure := fill_in(notebook, folder=out.absolute()):
                failures.append(f"{path}: {failure}")
            settle(_without_views(notebook))
        _write(notebook, path)
    if failures:
        raise CheckError(failures)
    return list(paths.values())


def _found(store: Store | str | os.PathLike[str] | None, *, needed: bool) -> str | None:
    """Return the store's absolute path; None when there is none and none was asked for."""
    wanted = store if isinstance(store, Store) else Store(None if store is None else Path(store))
    try:
        wanted.versions()
    except NoStoreError:
        if needed or store is not None:
            raise
        return None
    return str(wanted.path)


def _make_room(out: Path, unwritten: Sequence[Path]) -> None:
    if there := [path.name for path in unwritten if path.exists()]:
        raise UsageError(
            f"{out} has {', '.join(there)} already; give another folder, or --force (force=True)"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UsageError(f"{out} is a file, or lies in one; give a folder") from None
    except OSError as error:
        raise StorageError(f"{out}: {error.strerror}", path=out) from error


def _for_own_data(
    notebook: nbformat.NotebookNode, values: Mapping[str, Any]
) -> nbformat.NotebookNode:
    """Set parameters where they stand, in place, and say whose texts these are."""

    def line(match: re.Match[str]) -> str:
        value = repr(values[match["name"]]) if match["name"] in values else match["value"]
        return f"{match['name']} = {value}{match['comment'] or ''}"

    at, _ = _parameters(notebook)
    notebook.cells[at].source = _PARAMETER.sub(line, notebook.cells[at].source)
    words = nbformat.v4.new_markdown_cell(_OWN_WORDS)
    words.id = "your-own-data"
    notebook.cells.insert(at, words)
    return notebook


def execute(notebook: str, parameters: Mapping[str, Any], out: str | os.PathLike[str]) -> Path:
    """Run one of the notebooks on a user's own data and write it as one HTML page.

    Parameters
    ----------
    notebook : str
        Its name, as `01_first_look`.
    parameters : mapping
        Values for its parameters, as `{"STORE": "data/store", "LANG": "zh"}`.
    out : path
        The HTML file.

    Returns
    -------
    Path
        The page, self-contained: pictures are in it, no script, no network requests.

    Raises
    ------
    UsageError
        No such notebook or parameter.
    CheckError
        A cell failed.

    See Also
    --------
    copy : Writes all of them to be opened in Jupyter.

    Examples
    --------
    >>> execute("01_first_look", {"STOR": "data/store"}, "page.html")
    Traceback (most recent call last):
    verifyanalytics.errors.UsageError: no parameter STOR; there are: STORE, LANG
    """
    page, target = html(run(read(notebook), parameters)), Path(out)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page, encoding="utf-8")
    return target


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the notebooks, or compare with `--check`; the exit code is the error's."""
    parser = argparse.ArgumentParser(prog="python -m verifyanalytics.notebooks.build")
    parser.add_argument("--check", action="store_true", help="build apart, and compare")
    wanted = parser.parse_args(arguments)
    try:
        place = folder()
        if wanted.check:
            check(place / "src", place)
            sys.stdout.write("notebooks: as their sources give them\n")
        else:
            for path in build(place / "src", place):
                sys.stdout.write(f"built {path.name}, {path.stat().st_size:,} bytes\n")
    except VerifyAnalyticsError as error:
        sys.stderr.write(f"notebooks: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
