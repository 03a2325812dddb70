"""What an import is given: paths, and options that must be text or whole numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from verifyanalytics.errors import UsageError
from verifyanalytics.sources.reading import discover


def check_whole(value: Any, name: str, least: int, hint: str) -> None:
    """Refuse what is no whole number of at least `least`; `hint` says what would do."""
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= least
    if value is not None and not whole:
        raise UsageError(f"{name} is {value!r}; {hint}")


def check_texts(said: Mapping[str, Any]) -> None:
    """Refuse what is no text before a worker meets it."""
    for name, value in said.items():
        if value is not None and not isinstance(value, str):
            raise UsageError(f"{name} is {value!r}; it must be text")
        if value is not None and shown(value) != value:
            raise UsageError(f"{name} is no UTF-8 text: {shown(value)}")


def shown(text: str) -> str:
    """Write a path whose bytes are no UTF-8 so that it can be printed."""
    return text.encode(errors="backslashreplace").decode()


def given_paths(given: Any) -> list[str | Path]:
    """Give the paths as a list.

    Raises
    ------
    UsageError
        None is given, or one of them is no path. An empty text is none: a shell makes one of a
        variable that is not set, and the folder one stands in is not what was meant.
    """
    alone = isinstance(given, str | Path)
    if not alone and not isinstance(given, Iterable):
        raise UsageError(f"paths are files or folders; {given!r} was given")
    paths = [given] if alone else list(given)
    for path in paths:
        if not isinstance(path, str | Path) or path == "":
            raise UsageError(f"a path is the name of a file or folder; {path!r} was given")
    return paths


class Found:
    """What there is behind the paths: sources, what was left out, and whether stdin is one."""

    def __init__(
        self, paths: Sequence[str | Path], column: str | None, time_column: str | None
    ) -> None:
        self.column, self.time_column = column, time_column
        self.skipped: list[str] = []
        named = [path for path in paths if str(path) != "-"]
        self.with_stdin = len(named) < len(paths)
        self.sources = discover(named, column=column, time_column=time_column, on_skip=self._skip)
        unknown = [skipped for skipped in self.skipped if skipped.endswith("unknown suffix")]
        if unknown and not self.sources and not self.with_stdin:
            raise UsageError(
                f"no file here has a suffix of ours, {len(unknown)} have another or none: "
                f"{'; '.join(unknown[:3])}; a file that is named is read whatever it is called"
            )

    def _skip(self, name: str, why: str) -> None:
        self.skipped.append(f"{name}: {why}")
