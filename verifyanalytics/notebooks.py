"""The notebooks: built from short sources, run on the sample, and compared byte by byte.

A notebook's source is `notebooks/src/NAME.py`: cells begin with `# %%`, Markdown ones are comments.
`build` runs it in a kernel of this very interpreter, over a store made from `data/sample`, and
writes `notebooks/NAME.ipynb` without anything that differs from run to run: ids are numbers, there
are no times and no paths, and pictures carry no version of their maker.

::

    python -m verifyanalytics.notebooks            rebuild all
    python -m verifyanalytics.notebooks --check    build apart and compare: exit 8 if they differ
"""

from __future__ import annotations

import argparse
import base64
import os
import re
import struct
import sys
import tempfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

from verifyanalytics.errors import CheckError, StorageError, UsageError, VerifyAnalyticsError
from verifyanalytics.importing import import_responses
from verifyanalytics.labelling import import_labels
from verifyanalytics.store import Store

_PACKAGE = Path(__file__).parent
_PLACES = (_PACKAGE.parent / "notebooks", _PACKAGE / "_share" / "notebooks")
_SAMPLES = (_PACKAGE.parent / "data" / "sample", _PACKAGE / "_share" / "sample")

_KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
_MARK = re.compile(r"^# %%(?: \[(?P<kind>markdown)\])?(?: tags=(?P<tags>\[.*\]))?\s*$")
_PNG, _KEPT = b"\x89PNG\r\n\x1a\n", (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_VIEW = "application/vnd.jupyter.widget-view+json"
_SECONDS = 300  # for one cell, on a slow machine


class _OwnKernel(AsyncKernelManager):
    """A kernel of this interpreter, whatever kernels the machine or the user has registered."""

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        if self.has_trait("transport_encryption"):  # newer than the oldest version we allow
            self.transport_encryption = "auto"

    @property
    def kernel_spec(self) -> KernelSpec:
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(
            argv=argv,
            display_name=_KERNEL["display_name"],
            language="python",
            metadata={"supported_encryption": ["curve"]},
        )


# ------------------------------------------------------------------ from source to notebook


def parse(source: str, name: str) -> nbformat.NotebookNode:
    """Turn a source in cells into a notebook without outputs.

    Parameters
    ----------
    source : str
        Python in which `# %%` begins a code cell, `# %% [markdown]` a Markdown cell (its lines
        are comments), and `tags=["…"]` behind either tags it.
    name : str
        What the ids of the cells begin with.

    Returns
    -------
    NotebookNode
        Format 4.5; the n-th cell has the id `NAME-n`.

    Raises
    ------
    UsageError
        The source does not begin with a cell.
    """
    cells: list[nbformat.NotebookNode] = []
    for kind, tags, lines in _cells(source, name):
        text = "\n".join(lines).strip("\n")
        if kind == "markdown":
            text = "\n".join(re.sub("^# ?", "", line) for line in text.split("\n"))
            cell = nbformat.v4.new_markdown_cell(text)
        else:
            cell = nbformat.v4.new_code_cell(text.removesuffix("  # fmt: skip"))
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
    return {"kernelspec": dict(_KERNEL), "language_info": {"name": "python"}}


# ------------------------------------------------------------------ running


def run(
    notebook: nbformat.NotebookNode,
    parameters: Mapping[str, Any] | None = None,
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> nbformat.NotebookNode:
    """Run a notebook in a kernel of this interpreter; return a copy with outputs.

    Parameters
    ----------
    notebook : NotebookNode
    parameters : mapping, optional
        Values for names of the cell tagged `parameters`; set in a cell after it.
    folder : Path, optional
        Where the kernel works; default a temporary folder.
    environment : mapping, optional
        Variables beside the caller's.

    Raises
    ------
    UsageError
        A parameter is not in the cell, or the notebook has no such cell.
    nbclient.exceptions.CellExecutionError
        A cell failed; its traceback is in the message.
    """
    copy = nbformat.from_dict(notebook)
    if parameters:
        _inject(copy, parameters)
    with tempfile.TemporaryDirectory(prefix="verifyanalytics-") as quiet:
        where = {"metadata": {"path": str(folder or quiet)}}
        client = NotebookClient(
            copy,
            timeout=_SECONDS,
            kernel_manager_class=_OwnKernel,
            resources=where,
            record_timing=False,
        )
        client.execute(env=_environment(quiet, environment or {}))
    return _without_views(copy)


def _without_views(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Take the controls out where a picture stands beside them: nobody is there to move them.

    A page would otherwise fetch a script to show them, and their ids differ from run to run.
    """
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if "image/png" in output.get("data", {}):
                output.data.pop(_VIEW, None)
    return notebook


def _environment(quiet: str, extra: Mapping[str, str]) -> dict[str, str]:
    """Keep the user's IPython profile and matplotlib settings out; let the package be found."""
    own = {
        "IPYTHONDIR": quiet,
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "MATPLOTLIBRC": quiet,
        "PYTHONHASHSEED": "0",
        "JUPYTER_PLATFORM_DIRS": "1",
        "PYTHONPATH": os.pathsep.join([str(_PACKAGE.parent), os.environ.get("PYTHONPATH", "")]),
    }
    return {**os.environ, **own, **extra}


def _inject(notebook: nbformat.NotebookNode, parameters: Mapping[str, Any]) -> None:
    at = next(
        (i for i, c in enumerate(notebook.cells) if "parameters" in c.metadata.get("tags", ())),
        None,
    )
    if at is None:
        raise UsageError("the notebook has no cell tagged parameters")
    known = re.findall(r"^(\w+) *=", notebook.cells[at].source, re.MULTILINE)
    if wrong := [name for name in parameters if name not in known]:
        raise UsageError(f"no parameter {', '.join(wrong)}; there are: {', '.join(known)}")
    lines = [f"{name} = {value!r}" for name, value in parameters.items()]
    cell = nbformat.v4.new_code_cell("\n".join(lines), metadata={"tags": ["injected-parameters"]})
    cell.id = "injected-parameters"
    notebook.cells.insert(at + 1, cell)


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
                data["image/png"] = _plain_png(data["image/png"])
    return notebook


def strip(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Take the outputs out of a notebook, in place; return it."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


def _plain_png(encoded: str) -> str:
    """Keep the chunks of a PNG that make the picture; drop its texts, times and resolution."""
    kept = [chunk for kind, chunk in _chunks(base64.b64decode(encoded)) if kind in _KEPT]
    return base64.b64encode(_PNG + b"".join(kept)).decode("ascii")


def _chunks(png: bytes) -> Iterable[tuple[bytes, bytes]]:
    at = len(_PNG)
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        yield png[at + 4 : at + 8], png[at : at + 12 + length]
        at += 12 + length


def _pixels(encoded: str) -> str:
    """Return a picture's size and raw pixels: equal whatever zlib packed them."""
    chunks = list(_chunks(base64.b64decode(encoded)))
    head = b"".join(chunk for kind, chunk in chunks if kind != b"IDAT")
    packed = b"".join(chunk[8:-4] for kind, chunk in chunks if kind == b"IDAT")
    return f"{head.hex()} {zlib.crc32(zlib.decompress(packed))}"


def same(one: nbformat.NotebookNode, other: nbformat.NotebookNode) -> bool:
    """Tell whether two notebooks are equal, pictures by their pixels."""
    return bool(_comparable(one) == _comparable(other))


def _comparable(notebook: nbformat.NotebookNode) -> Any:
    copy = nbformat.from_dict(notebook)
    for cell in copy.cells:
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "image/png" in data:
                data["image/png"] = _pixels(data["image/png"])
    return copy


# ------------------------------------------------------------------ building and comparing


def folder() -> Path:
    """Return the folder of the notebooks: of the clone, else the one that came with the wheel."""
    return _existing(_PLACES, "notebooks")


def _existing(places: Sequence[Path], what: str) -> Path:
    for place in places:
        if place.is_dir():
            return place
    raise StorageError(f"the {what} are not where they were installed; install again")


def names() -> list[str]:
    """Return the notebooks' names without suffix, in the order in which they are read."""
    return sorted(path.stem for path in folder().glob("[0-9][0-9]_*.ipynb"))


def build(sources: Path, out: Path) -> list[Path]:
    """Build every notebook that has a source, on a store of the synthetic sample.

    Parameters
    ----------
    sources : Path
        The folder of the `.py` sources.
    out : Path
        Where the `.ipynb` go.

    Returns
    -------
    list of Path
        The notebooks written, each in one piece.
    """
    built = []
    with tempfile.TemporaryDirectory(prefix="verifyanalytics-") as place:
        data = Path(place) / "store"
        _fill(data)
        for source in sorted(sources.glob("*.py")):
            notebook = parse(source.read_text(encoding="utf-8"), source.stem.replace("_", "-"))
            ran = run(
                notebook, folder=Path(place), environment={"VERIFYANALYTICS_STORE": str(data)}
            )
            target = out / f"{source.stem}.ipynb"
            _write(settle(ran), target)
            built.append(target)
    return built


def _fill(data: Path) -> None:
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
    """Build the notebooks anew and compare them with those that are there.

    Raises
    ------
    CheckError
        Names each notebook that differs, is missing, or has no source.
    """
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
        raise CheckError([*findings, "rebuild: python -m verifyanalytics.notebooks"])


# ------------------------------------------------------------------ for users


def copy(target: str | os.PathLike[str]) -> list[Path]:
    """Copy the notebooks, without outputs, for a user's own data.

    Parameters
    ----------
    target : path
        A folder; made when it is not there.

    Returns
    -------
    list of Path
        The notebooks written.

    Raises
    ------
    UsageError
        A notebook of that name is there already; nothing is written then.
    """
    out, place = Path(target), folder()
    wanted = {name: out / f"{name}.ipynb" for name in names()}
    if there := [path.name for path in wanted.values() if path.exists()]:
        raise UsageError(f"{out} has {', '.join(there)} already; give another folder")
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; give a folder")
    out.mkdir(parents=True, exist_ok=True)
    for name, path in wanted.items():
        _write(strip(nbformat.read(place / f"{name}.ipynb", as_version=4)), path)
    return list(wanted.values())


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
        The page: pictures are in it, there is no script, and it asks nobody for anything.

    Raises
    ------
    UsageError
        No such notebook or parameter.
    """
    if notebook not in names():
        raise UsageError(f"no notebook {notebook!r}; there are: {', '.join(names())}")
    source = nbformat.read(folder() / f"{notebook}.ipynb", as_version=4)
    page, target = html(run(strip(source), parameters)), Path(out)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page, encoding="utf-8")
    return target


_TEMPLATE = """
{%- extends 'lab/index.html.j2' -%}
{%- block html_head_js -%}
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; font-src data:">
{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
"""


def html(notebook: nbformat.NotebookNode) -> str:
    """Turn a notebook with outputs into one HTML page without script or outside reference."""
    from nbconvert import HTMLExporter

    first = next((c.source for c in notebook.cells if c.cell_type == "markdown"), "verifyanalytics")
    title = first.split("\n", 1)[0].lstrip("# ")
    exporter = HTMLExporter(raw_template=_TEMPLATE, embed_images=True)
    page: str
    page, _ = exporter.from_notebook_node(notebook, resources={"metadata": {"name": title}})
    return page


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the notebooks, or compare with `--check`; the exit code is the error's."""
    parser = argparse.ArgumentParser(prog="python -m verifyanalytics.notebooks")
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
