"""One tree of errors; each knows its exit code and carries its context.

::

    VerifyAnalyticsError            1   a fault of ours
    ├── UsageError                  2   an argument, an option, a setting
    │   ├── CodebookError               a user's code book does not fit
    │   ├── LabelsError                 no error rate can be made of the labels
    │   ├── MissingColumnError          a frame lacks columns: .missing .available
    │   └── NoStoreError                a reading verb found no store: .path
    ├── InputError                  3   a source or a response: .source .row .reason
    ├── InDoubtError                4   calls whose outcome is not known remain: .n_in_doubt
    ├── RefusedError                5   credentials, clock, TLS
    ├── BudgetError                 6   rate or budget; resume later
    ├── StorageError                7   disk, table, commit, key: .path
    └── CheckError                  8   a store does not add up: .findings

A message says what was given and what would work, and holds no secret and no payload.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path


class VerifyAnalyticsError(Exception):
    """Root of the errors this package raises on purpose; the command line ends with `exit_code`."""

    exit_code = 1


class UsageError(VerifyAnalyticsError):
    """An argument, option or setting that cannot work as given."""

    exit_code = 2


class CodebookError(UsageError):
    """A user's code book has an entry that does not fit."""


class LabelsError(UsageError):
    """Labels that no error rate can be made of: none names a row, or one class is missing."""


class MissingColumnError(UsageError):
    """A frame lacks columns that a statistic needs.

    Parameters
    ----------
    missing, available : iterable of str
        Names that were looked for and not found, and the names that are there.

    Examples
    --------
    >>> raise MissingColumnError(["score"], ["request_id", "code"])
    Traceback (most recent call last):
    ...
    verifyanalytics.errors.MissingColumnError: no column score; the frame has: request_id, code
    """

    def __init__(self, missing: Iterable[str], available: Iterable[str]) -> None:
        self.missing = sorted(missing)
        self.available = list(available)
        shown = ", ".join(self.available[:40]) + (", …" if len(self.available) > 40 else "")
        super().__init__(f"no column {', '.join(self.missing)}; the frame has: {shown or 'none'}")


class NoStoreError(UsageError):
    """A verb that reads was pointed at a place where no store is."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(
            f"no store at {path.absolute()}; import first, or set VERIFYANALYTICS_STORE"
        )


class InputError(VerifyAnalyticsError):
    """A source or a response that could not be read; where, as the columns of `rejects` name it."""

    exit_code = 3

    def __init__(
        self,
        message: str,
        *,
        source: str | None = None,
        row: int | None = None,
        reason: str | None = None,
    ) -> None:
        self.source = source
        self.row = row
        self.reason = reason
        super().__init__(message)


class InDoubtError(VerifyAnalyticsError):
    """Calls whose outcome is not known remain; `resolve` settles them."""

    exit_code = 4

    def __init__(self, n_in_doubt: int) -> None:
        self.n_in_doubt = n_in_doubt
        super().__init__(f"{n_in_doubt} calls are in doubt; run resolve within the hour")


class RefusedError(VerifyAnalyticsError):
    """The vendor, the clock or TLS refuses us; nothing gets better by trying again."""

    exit_code = 5


class BudgetError(VerifyAnalyticsError):
    """A rate limit or the run's own budget stops the run; it can be resumed."""

    exit_code = 6


class StorageError(VerifyAnalyticsError):
    """The disk, the table, a commit or the key; what was committed stays as it was."""

    exit_code = 7

    def __init__(self, message: str, *, path: Path | None = None) -> None:
        self.path = path
        super().__init__(message)


class CheckError(VerifyAnalyticsError):
    """A store whose tables do not add up; `findings` are one sentence each."""

    exit_code = 8

    def __init__(self, findings: Sequence[str]) -> None:
        self.findings = list(findings)
        super().__init__("; ".join(self.findings))
