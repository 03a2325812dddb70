"""The risk report: one week or month of a store, for people who decide and do not program.

It is read from one version of the store, counted by the public statistics, written in English,
Chinese or both, and set as one HTML page without any script or reference to the outside, or as PDF.
There is no clock in it: the same store version, parameters and code give the same bytes.

`data` reads and counts; `summary`, `pages` and `drawings` write it as blocks; `html` and `pdf` set
the blocks.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from uuid import uuid4

from verifyanalytics.analysis.base.periods import TZ
from verifyanalytics.codebook.book import checked_lang
from verifyanalytics.errors import StorageError, UsageError
from verifyanalytics.reporting.blocks import Document, Heading
from verifyanalytics.reporting.changes import MIN_GROUP
from verifyanalytics.reporting.data import Asked, read_data
from verifyanalytics.reporting.drawings import drawn
from verifyanalytics.reporting.html import html
from verifyanalytics.reporting.pages import first_page, last_page, second_page
from verifyanalytics.reporting.pdf import check_font, engine, pdf
from verifyanalytics.store.store import Store
from verifyanalytics.wording.texts import say

FORMATS = ("html", "pdf")


@dataclass(frozen=True)
class Report:
    """What was written.

    Attributes
    ----------
    paths : list of Path
        The files, absolute.
    period : str
        As `2024-W23`.
    compared : str or None
        The period compared with; None when nothing was compared, for the reason `alone`.
    alone : str
        ``, `asked`, `partial`, `partial_before`, `nothing_before` or `undecided`.
    partial : bool
        The data do not cover the period whole.
    store_version : int
        The version of the store that was read.
    """

    paths: list[Path]
    period: str
    compared: str | None
    alone: str
    partial: bool
    store_version: int


def report(
    store: Store | str | Path | None = None,
    out: str | os.PathLike[str] = "out/report",
    *,
    period: str = "week",
    compare: str = "previous",
    by: str | Sequence[str] = (),
    regimes: str | Sequence[str] = (),
    lang: str = "en",
    formats: str | Sequence[str] = "html",
    tz: str = TZ,
    as_of: int | None = None,
    min_group: int = MIN_GROUP,
) -> Report:
    """Write the risk report of a week or a month.

    Parameters
    ----------
    store : Store or path, optional
        Default: `VERIFYANALYTICS_STORE`, else `data/store`.
    out : path
        A folder, or a file that ends in `.html` or `.pdf` when one format is asked for. Files in a
        folder are named by period and language: `report-2024-W23-en.html`.
    period : str
        `week` or `month` (the last one that the data cover whole; if none, the one in which they
        end), or a name: `2024-W23`, `2024-06`.
    compare : str
        `previous`, the name of another period of the same length, or `none`. Periods that the data
        do not cover whole are flagged and not compared.
    by : str or sequence of str
        Columns that make groups, such as `channel` for `ctx_channel`: acceptance by group, and the
        change split into mix and rate by them. Without it the split is by `req_key`.
    regimes : str or sequence of str
        Only these, by the names that `va.scores.regimes` prints, or by req_key.
    lang : {"en", "zh", "both"}
    formats : str or sequence of str
        `html`, `pdf`; PDF needs the extra `pdf`.
    tz : str
        Where days begin.
    as_of : int, optional
        The store's version to read; default the newest. It is printed in the report.
    min_group : int
        Groups with fewer rows are not shown by themselves.

    Returns
    -------
    Report

    Raises
    ------
    NoStoreError
        There is no store.
    UsageError
        A parameter that cannot be, or no answers in the period.
    StorageError
        The store cannot be read, or a file cannot be written.

    See Also
    --------
    va.verdicts.acceptance_rate, va.verdicts.change_explained : What the first page compares.
    va.notebooks.copy : The same questions as notebooks, for an analyst.

    Examples
    --------
    >>> import tempfile
    >>> import verifyanalytics as va
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = va.Store(f"{folder}/store", create=True)
    ...     va.simulate(300, seed=1, out=f"{folder}/answers").n_answers
    ...     va.import_responses(f"{folder}/answers/*.ndjson.gz", store, workers=1).added
    ...     made = va.report(store, f"{folder}/may.html", period="2024-05", compare="none")
    ...     made.paths[0].name, made.period, made.alone
    300
    300
    ('may.html', '2024-05', 'asked')
    """
    language = checked_lang(lang)
    targets = _targets(Path(out), [formats] if isinstance(formats, str) else list(formats))
    if "pdf" in targets:
        engine()  # before minutes of counting
        check_font(language)
    if min_group < 1:
        raise UsageError(f"min_group is a number of rows from 1 on, not {min_group}")
    asked = Asked(
        period=period, compare=compare, by=_several(by), regimes=_several(regimes), tz=tz,
        as_of=as_of, min_group=min_group,
    )  # fmt: skip
    store = store if isinstance(store, Store) else Store(store)
    found = read_data(store, asked)
    document = first_page(found, language)
    document.add(*second_page(found), Heading(say("charts")), *drawn(found, language))
    document.add(*last_page(found, language, version("verifyanalytics"), list(targets)))
    name = f"report-{found.period.name}-{language}"
    paths = [_write(document, kind, target, name) for kind, target in targets.items()]
    for path in paths:
        store.note_copy("report", path)
    compared = found.compared.name if found.before is not None and found.compared else None
    return Report(
        paths=paths, period=found.period.name, compared=compared, alone=found.alone,
        partial=found.partial, store_version=found.version,
    )  # fmt: skip


def _several(given: str | Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _targets(out: Path, formats: Sequence[str]) -> dict[str, Path]:
    """Find where each format goes: into a folder, or into the one file that is named."""
    for name in formats:
        if name not in FORMATS:
            raise UsageError(f"no format {name!r}; there are: {', '.join(FORMATS)}")
    suffix = out.suffix.lower().removeprefix(".")
    if suffix in FORMATS and not out.is_dir():
        if {*formats} - {suffix} and list(formats) != ["html"]:
            raise UsageError(f"{out} is one file; give a folder for {' and '.join(formats)}")
        return {suffix: out.absolute()}
    if not formats:
        raise UsageError(f"no format is asked for; there are: {', '.join(FORMATS)}")
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; give a folder, or a name that ends in .html or .pdf")
    return {name: out.absolute() for name in dict.fromkeys(formats)}


def _write(document: Document, kind: str, target: Path, name: str) -> Path:
    """Set the document and put it in place whole: a reader never sees half a report."""
    content = html(document).encode() if kind == "html" else pdf(document)
    path = target if target.suffix.lower() == f".{kind}" else target / f"{name}.{kind}"
    draft = path.with_name(f".{uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            draft.write_bytes(content)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror or error}", path=path) from error
    return path
