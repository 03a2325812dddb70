"""Runs a notebook in a kernel of this very interpreter, and writes what it shows.

The kernel is kept apart from the user's own settings. Pictures lose what differs from run to run,
and a notebook with outputs becomes one HTML page without script or outside reference.
"""

from __future__ import annotations

import base64
import os
import struct
import sys
import tempfile
import textwrap
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

_PACKAGE = Path(__file__).parents[1]
_MOST = 160  # characters of what a cell says when it fails

SPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
"""The kernel that a notebook names: any Python will do."""


def fill_in(
    notebook: nbformat.NotebookNode,
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    seconds: int | None = None,
) -> str:
    """Run a notebook's cells in order and write their outputs into it, up to the first that fails.

    The kernel works in `folder`, else in a temporary one; a cell may take so many `seconds`.
    Returned is an empty text, or which cell failed and how: `cell 4: KeyError: 'score'`.
    """
    with tempfile.TemporaryDirectory(prefix="verifyanalytics-") as quiet:
        client = NotebookClient(
            notebook,
            timeout=seconds,
            kernel_manager_class=_OwnKernel,
            resources={"metadata": {"path": str(folder or quiet)}},
            record_timing=False,
        )
        try:
            client.execute(env=_environment(quiet, environment or {}))
        except CellExecutionError as error:
            told = textwrap.shorten(error.evalue, _MOST, placeholder=" …")
            return f"cell {_last(notebook)}: {error.ename}: {told}"
        except CellTimeoutError:
            return f"cell {_last(notebook)} did not end within {seconds} seconds"
        except DeadKernelError:
            return f"the kernel died at cell {_last(notebook)}; was there enough memory?"
    return ""


def _last(notebook: nbformat.NotebookNode) -> int:
    """Number the last code cell that was begun, as the brackets beside it do."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    begun = [i for i, cell in enumerate(code, 1) if cell.execution_count or cell.outputs]
    return max(begun, default=1)


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
            display_name=SPEC["display_name"],
            language="python",
            metadata={"supported_encryption": ["curve"]},
        )


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


# ------------------------------------------------------------------ pictures

_PNG, _KEPT = b"\x89PNG\r\n\x1a\n", (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")


def plain_png(encoded: str) -> str:
    """Keep the chunks of a PNG that make the picture; drop its texts, times and resolution."""
    kept = [chunk for kind, chunk in _chunks(base64.b64decode(encoded)) if kind in _KEPT]
    return base64.b64encode(_PNG + b"".join(kept)).decode("ascii")


def _chunks(png: bytes) -> Iterable[tuple[bytes, bytes]]:
    at = len(_PNG)
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        yield png[at + 4 : at + 8], png[at : at + 12 + length]
        at += 12 + length


def pixels(encoded: str) -> str:
    """Return a picture's size and raw pixels: equal whatever zlib packed them."""
    chunks = list(_chunks(base64.b64decode(encoded)))
    head = b"".join(chunk for kind, chunk in chunks if kind != b"IDAT")
    packed = b"".join(chunk[8:-4] for kind, chunk in chunks if kind == b"IDAT")
    return f"{head.hex()} {zlib.crc32(zlib.decompress(packed))}"


# ------------------------------------------------------------------ one HTML page

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
