"""A kernel of this very interpreter that runs a notebook, apart from the user's own settings."""

from __future__ import annotations

import os
import sys
import tempfile
import textwrap
from collections.abc import Mapping
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

    Parameters
    ----------
    notebook : NotebookNode
        Changed in place.
    folder : Path, optional
        Where the kernel works; default a temporary folder.
    environment : mapping, optional
        Variables beside the caller's.
    seconds : int, optional
        For one cell; without it there is no limit.

    Returns
    -------
    str
        Empty, or which cell failed and how: `cell 4: KeyError: 'score'`.
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
