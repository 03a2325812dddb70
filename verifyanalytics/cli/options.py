"""What several verbs share: options, what their words mean, and an import watched."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from verifyanalytics.cli.output import clean, progress
from verifyanalytics.errors import UsageError

if TYPE_CHECKING:
    from verifyanalytics.importing.progress import ImportProgress

StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="DIR",
        help="The store; default: VERIFYANALYTICS_STORE, else data/store.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
CsvOption = Annotated[bool, typer.Option("--csv", help="Print CSV instead of a table.")]
QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress, no summary line; errors only.")
]
MaxRejectedOption = Annotated[
    str,
    typer.Option(
        metavar="N|P%",
        help="Rejected responses to live with, as a count or a share of those read; "
        "more end with exit code 3.",
    ),
]


@dataclass(frozen=True, slots=True)
class MaxRejected:
    """How many rejected responses a run may have and still be called done."""

    limit: float
    is_share: bool = False

    @classmethod
    def parse(cls, text: str) -> MaxRejected:
        """Read `N` or `P%`.

        Raises
        ------
        UsageError
            For anything else, a negative number, or a share over 100 %.

        Examples
        --------
        >>> MaxRejected.parse("0.5%").exceeded(rejected=6, read=1000)
        True
        >>> MaxRejected.parse("6").exceeded(rejected=6, read=6)
        False
        """
        number, percent = text.strip().removesuffix("%"), text.strip().endswith("%")
        try:
            limit = float(number) if percent else int(number)
        except ValueError:
            limit = -1
        if not 0 <= limit <= (100 if percent else float("inf")):
            raise UsageError(f"--max-rejected {text!r}: give a count such as 10, or 0.5%")
        return cls(limit / 100 if percent else limit, percent)

    def exceeded(self, *, rejected: int, read: int) -> bool:
        """Tell whether the run has more rejects than this."""
        return rejected > (self.limit * read if self.is_share else self.limit)


def pairs(words: list[str], option: str) -> dict[str, str]:
    """Read repeated `NAME=VALUE` options.

    Raises
    ------
    UsageError
        For a word without a name before the `=`, or a name given twice.
    """
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not name or not equals:
            raise UsageError(f"{option} {word!r}: give NAME=VALUE")
        if name in found:
            raise UsageError(f"{option} {name!r} is given twice")
        found[name] = value
    return found


def debugging() -> bool:
    """Tell whether a fault of ours shall show its traceback."""
    return os.environ.get("VERIFYANALYTICS_DEBUG", "") not in {"", "0"}


@contextmanager
def watched(quiet: bool) -> Iterator[Callable[[ImportProgress], None] | None]:
    """Show an import's progress on a terminal; gives None when nobody watches."""
    with progress(quiet=quiet) as bar:
        if bar is None:
            yield None
            return
        task = bar.add_task("starting", total=None)

        def watch(now: ImportProgress) -> None:
            bar.update(
                task,
                description=now.state,
                completed=now.bytes_done,
                total=now.bytes_total or None,
            )
            if now.note:
                bar.console.print(clean(now.note))

        yield watch
