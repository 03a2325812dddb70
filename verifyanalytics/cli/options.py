"""Options of the command line, each declared once, and groups of them that verbs share.

typer has no groups of options. A verb takes a dataclass as a parameter instead, and `spread`
shows typer one option for each of its fields.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from verifyanalytics.cli.output import clean, print_frame, print_json
from verifyanalytics.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd


def option(default: Any, metavar: str | None, text: str, *names: str, **more: Any) -> Any:
    """Declare a field of a group: its default, and the option that sets it.

    Without `names` the option is called as the field; `dataclasses.MISSING` as the default makes
    it required.
    """
    info = typer.Option(*names, metavar=metavar, help=text, **more)
    return dataclasses.field(default=default, metadata={"option": info})


def flag(name: str, text: str) -> Any:
    """Declare a field that is False unless the flag is given."""
    return option(False, None, text, name)


JournalOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="The journal; default: beside the store.", show_default=False
    ),
]
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="DIR",
        help="The store; default: VERIFYANALYTICS_STORE, else data/store.",
        show_default=False,
    ),
]
AsOfOption = Annotated[
    int | None,
    typer.Option(metavar="VERSION", help="Read the store as it was; see the verb versions."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress, no summary line; errors only.")
]
LangOption = Annotated[str, typer.Option(metavar="en|zh|both", help="The language.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")]
PrintsOption = Annotated[
    bool, typer.Option("--image-prints", help="Keep a keyed fingerprint of each image.")
]
SettingsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="A field of the simulated world; may be repeated."
    ),
]
MaxRejectedOption = Annotated[
    str,
    typer.Option(
        metavar="N|P%",
        help="Rejected responses to live with, as a count or a share of those read; "
        "more end with exit code 3.",
    ),
]


@dataclass(frozen=True)
class Output:
    """The form of a result: text for a person, which can be left out, or JSON."""

    as_json: JsonOption = False
    quiet: QuietOption = False

    def result(self, value: object, *lines: str) -> None:
        """Print `value` as JSON, or the lines."""
        if self.as_json:
            print_json(value)
        elif not self.quiet:
            for line in lines:
                print(clean(line))

    def frame(self, frame: pd.DataFrame) -> None:
        """Print a frame that a person needs not see."""
        if self.as_json or not self.quiet:
            print_frame(frame, as_json=self.as_json)


@dataclass(frozen=True)
class TableOutput:
    """The form of a table: aligned for a person, JSON or CSV."""

    as_json: JsonOption = False
    as_csv: bool = flag("--csv", "Print CSV instead of a table.")
    quiet: QuietOption = False

    def __post_init__(self) -> None:
        if self.as_json and self.as_csv:
            raise UsageError("--json and --csv: give one of them")

    @property
    def for_person(self) -> bool:
        """Whether neither JSON nor CSV is asked for."""
        return not (self.as_json or self.as_csv)


def spread(verb: Callable[..., int]) -> Callable[..., int]:
    """Give a verb one parameter for each field of its groups of options."""
    signature = inspect.signature(verb, eval_str=True)
    groups: dict[str, list[str]] = {}
    parameters: list[Parameter] = []
    for name, parameter in signature.parameters.items():
        if not dataclasses.is_dataclass(parameter.annotation):
            parameters.append(parameter.replace(kind=Parameter.KEYWORD_ONLY))
            continue
        hints = get_type_hints(parameter.annotation, include_extras=True)
        for field in dataclasses.fields(parameter.annotation):
            kind = hints[field.name]
            if "option" in field.metadata:
                kind = Annotated[kind, field.metadata["option"]]
            default = field.default
            if default is dataclasses.MISSING:
                default = Parameter.empty
            parameters.append(
                Parameter(field.name, Parameter.KEYWORD_ONLY, default=default, annotation=kind)
            )
        groups[name] = list(hints)

    @functools.wraps(verb)
    def run(**given: Any) -> int:
        for name, fields in groups.items():
            group = signature.parameters[name].annotation
            given[name] = group(**{field: given.pop(field) for field in fields})
        return verb(**given)

    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return run


@dataclass(frozen=True, slots=True)
class MaxRejected:
    """The number of rejected responses up to which a run still ends with exit code 0."""

    limit: float
    is_share: bool = False

    @classmethod
    def parse(cls, text: str) -> MaxRejected:
        """Read `N` or `P%`; anything else, or a share over 100 %, is a UsageError.

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


def pairs(words: list[str] | None, option: str) -> dict[str, str]:
    """Read repeated `NAME=VALUE` options; no name, or one given twice, is a UsageError."""
    found: dict[str, str] = {}
    for word in words or []:
        name, equals, value = word.partition("=")
        if not name or not equals:
            raise UsageError(f"{option} {word!r}: give NAME=VALUE")
        if name in found:
            raise UsageError(f"{option} {name!r} is given twice")
        found[name] = value
    return found
