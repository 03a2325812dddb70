"""The command line: parse, call one public function, print; no work is done here.

Exit codes stand on the errors (see `errors`): 0 done · 1 a fault of ours · 2 usage · 3 some input
was rejected · 4 calls in doubt · 5 refused · 6 rate or budget · 7 storage · 8 check failed ·
130 and 143 after a signal. Whatever goes wrong is one line on stderr; a traceback is shown only for
a fault of ours, and only with VERIFYANALYTICS_DEBUG=1.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, NoReturn

import typer
from typer.exceptions import TyperException

from verifyanalytics.cli import collect, imports, report, simulate, store, thresholds
from verifyanalytics.cli.options import JsonOption, LangOption, spread
from verifyanalytics.cli.output import clean_lines, print_error, print_json
from verifyanalytics.errors import StorageError, UsageError, VerifyAnalyticsError
from verifyanalytics.store.disk import ending_signals

app = typer.Typer(
    name="verifyanalytics",
    help="Flatten face verification answers into tables; decide where the threshold should stand.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Signalled(BaseException):
    """SIGTERM or SIGHUP: unwinds like Ctrl-C does, so that what runs can leave things in order."""

    def __init__(self, number: int) -> None:
        self.exit_code = 128 + number


@app.callback(invoke_without_command=True)
def verifyanalytics(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> int:
    """Flatten face verification answers into tables; decide where the threshold should stand."""
    if version:
        import verifyanalytics as va

        print(va.__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(UsageError.exit_code)
    return 0


def explain(
    code: Annotated[str, typer.Argument(help="A code, sub code, risk tag, gateway error, …")],
    lang: LangOption = "en",
    as_json: JsonOption = False,
) -> int:
    """Say what a code means."""
    from verifyanalytics.codebook.book import checked_lang
    from verifyanalytics.codebook.explanation import meanings

    found = meanings(code)
    if as_json:
        print_json([meaning.plain() for meaning in found])
    for meaning in () if as_json else found:
        print(clean_lines(meaning.text(checked_lang(lang))))
    return 0


VERBS = (
    explain, simulate.demo, imports.import_,
    store.tables, store.sql, store.versions, store.check, store.export, store.compact, store.vacuum,
    store.repair, store.erase, store.retain, store.inventory,
    imports.labels, thresholds.thresholds, report.report, report.notebooks,
    collect.collect, collect.query, collect.resolve, collect.status, collect.reflatten,
    collect.mark, collect.redo, collect.journal, simulate.simulate, simulate.serve,
)  # fmt: skip
"""Every verb, in the order of the help."""

for _verb in VERBS:
    app.command(_verb.__name__.rstrip("_"))(spread(_verb))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb.

    Parameters
    ----------
    arguments : sequence of str, optional
        What follows the program's name; default: this process's own arguments.

    Returns
    -------
    int
        The exit code.
    """
    # a terminal that cannot show a character gets its escape
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        with _sigterm_unwinds():
            code = _run(arguments)
            sys.stdout.flush()
            return code
    except (BrokenPipeError, SystemExit) as error:
        # the reader of our output has gone; typer makes an exit of the broken pipe
        if not isinstance(error.__context__ or error, BrokenPipeError):
            raise
        _abandon_stdout()
        return 0
    except OSError as error:
        _abandon_stdout()
        print_error(f"{error.filename or 'output'}: {error.strerror or error}")
        return StorageError.exit_code
    except KeyboardInterrupt:
        return 130
    except Signalled as signalled:
        return signalled.exit_code
    except Exception as error:  # the last fence: a fault of ours is one line, not a page
        if os.environ.get("VERIFYANALYTICS_DEBUG", "") not in {"", "0"}:
            raise
        print_error(
            f"a fault of ours: {type(error).__name__}: {error}; VERIFYANALYTICS_DEBUG=1 shows where"
        )
        return VerifyAnalyticsError.exit_code


def _run(arguments: Sequence[str] | None) -> int:
    try:
        return int(app(args=arguments, prog_name="verifyanalytics", standalone_mode=False) or 0)
    except TyperException as error:
        print_error(error.format_message())
        return UsageError.exit_code
    except VerifyAnalyticsError as error:
        print_error(str(error))
        return error.exit_code


@contextmanager
def _sigterm_unwinds() -> Iterator[None]:
    def unwind(number: int, _frame: FrameType | None) -> NoReturn:
        raise Signalled(number)

    before = {
        number: signal.signal(number, unwind)
        for number in ending_signals() if number != signal.SIGINT
    }  # fmt: skip
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _abandon_stdout() -> None:
    """Let the interpreter's last flush go nowhere instead of failing again."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # stdout is no file: nothing will be flushed
        return
