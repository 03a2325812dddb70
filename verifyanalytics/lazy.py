"""Faces of packages: names are listed by their modules, and a module is loaded with its first name.

A worker that imports one module of a package must not pay for the others, so no `__init__` imports
what it shows. ::

    __getattr__, __dir__, __all__ = face(__name__, {"rates": "analysis.tags.frequencies"})
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def face(
    package: str, index: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Make `__getattr__`, `__dir__` and `__all__` of a package from the module of each name."""

    def load(name: str) -> Any:
        if name not in index:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        # a module that ends in the name itself is shown whole
        module = import_module(f"verifyanalytics.{index[name]}")
        value = module if index[name].split(".")[-1] == name else getattr(module, name)
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted(index)

    return load, names, names()
