"""The notebooks in the repository are what their sources give, byte for byte."""

from __future__ import annotations

import platform
import sys

import pytest

from verifyanalytics.notebooks import build as notebooks


@pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"),
    reason="they are built on Linux, x86-64; the last digits of a float may differ elsewhere",
)
def test_the_notebooks_are_what_their_sources_give():
    notebooks.check(notebooks.folder() / "src", notebooks.folder())
