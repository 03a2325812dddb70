"""What tests and the examples of docstrings share: no display, and no figure left open."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

os.environ.setdefault("MPLBACKEND", "Agg")  # before anything imports matplotlib


@pytest.fixture(autouse=True)
def _no_figure_stays() -> Iterator[None]:
    """Close the figures of each test; matplotlib warns when twenty are open."""
    yield
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")
