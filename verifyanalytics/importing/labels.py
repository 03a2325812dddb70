"""Import ground truth: a table of labels is checked cell by cell and goes into the store.

A row that cannot be right is refused by name (file, row, column) and the others go in. Raw tokens
are hashed with the store's key on the way in and not kept.
"""

from __future__ import annotations

import csv
import gzip
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from verifyanalytics.errors import InputError, UsageError
from verifyanalytics.parsing.text import keyed_hash
from verifyanalytics.schema import LABELS
from verifyanalytics.store.store import Store
from verifyanalytics.wording.numbers import spaced

RAW_TOKEN = "byted_token"  # noqa: S105 - a column's name
"""The column of raw tokens: hashed on the way in; `token` is for hashes that a store gave out."""

ORIGINS = ("audit", "claim", "fraud", "test")  # where a label may come from
MAX_TEXT = 256  # characters of a text; a longer one is no id and no pseudonym
_YES = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
_HASH = re.compile(r"[0-9a-f]{32}")
_ROUNDED = re.compile(r"\d(?:\.\d+)?[eE]\+?\d+")
_FACTS = ("mated", "attack", "origin", "plan_id")
_DELIMITERS = (",", ";", "\t")
_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")
_BLOCK = 65_536  # rows of Parquet, or ids of the store, at a time


class Refusal(NamedTuple):
    """One line that did not become a label."""

    source: str  # the file's name
    row: int  # 1-based, the header not counted
    line: int | None  # of a text file: the one on which the row ends
    column: str  # empty when the row as a whole is wrong
    reason: str

    def __str__(self) -> str:
        line = f" (line {self.line})" if self.line else ""
        column = f", column {self.column}" if self.column else ""
        return f"{self.source}, row {self.row}{line}{column}: {self.reason}"


@dataclass(slots=True)
class LabelSummary:
    """What an import of labels did; its text is one line."""

    read: int = 0  # rows of the file: always added + known + refused
    added: int = 0
    known: int = 0  # there already, or twice in the file
    refused: int = 0
    unknown: int = 0  # of added and known: no stored response has the request_id or token
    undecided: int = 0  # of added and known: neither mated nor attack ("cannot tell")
    refusals: list[Refusal] = field(default_factory=list)

    def __str__(self) -> str:
        """One line: what was read and what became of it."""
        parts = " + ".join(
            f"{name} {spaced(n)}"
            for name, n in (("added", self.added), ("known", self.known), ("refused", self.refused))
        )
        line = f"read {spaced(self.read)} = {parts}"
        line += f"; {spaced(self.unknown)} name no stored answer" if self.unknown else ""
        return line + (f"; {spaced(self.undecided)} cannot tell" if self.undecided else "")

    __repr__ = __str__

    def to_dict(self) -> dict[str, Any]:
        """Every figure under its name, ready for JSON."""
        plain = asdict(self)
        return plain | {"refusals": [refusal._asdict() for refusal in self.refusals]}


def import_labels(
    path: str | os.PathLike[str],
    store: Store | str | os.PathLike[str] | None = None,
    *,
    ignore: Sequence[str] = (),
    strict: bool = False,
) -> LabelSummary:
    r"""Read a CSV or Parquet file of ground truth into the table `labels`.

    Parameters
    ----------
    path : path
        `.csv` or `.tsv` (UTF-8, with a header; `.gz` too) or `.parquet`. Each row has one key,
        `request_id` or `byted_token`, and columns of `schema.LABELS`; an empty cell is null.
        `mated` is true or false, `inclusion_prob` in (0, 1], `labelled_at` an ISO 8601 time
        (without a zone UTC), `origin` one of `ORIGINS`.
    store : Store or path, optional
        A store with responses in it; default as `Store`.
    ignore : sequence of str
        Columns to leave out. Any other column that labels do not have is refused.
    strict : bool
        Refuse labels that name no stored answer instead of counting them.

    Returns
    -------
    LabelSummary
        Rows that are stored already, equal in every column, are known: reading a file twice adds
        nothing. A changed row is a new label; `labels.join` takes a labeller's latest.

    Raises
    ------
    NoStoreError
    UsageError
        No such file, a form or a column that is not known, no key, no column mated or attack,
        or no label names a stored response.
    InputError
        The file is damaged or not UTF-8; nothing is added.

    Examples
    --------
    >>> import json, tempfile
    >>> from verifyanalytics import import_responses
    >>> folder = Path(tempfile.mkdtemp())
    >>> reply = {"code": 10000, "request_id": "r1", "data": {"result": True}}
    >>> n_written = (folder / "day.ndjson").write_text(json.dumps(reply))
    >>> summary = import_responses(folder / "day.ndjson", folder / "store")
    >>> labels = "request_id,mated,origin\nr1,true,audit\nr2,perhaps,audit\n"
    >>> n_written = (folder / "labels.csv").write_text(labels)
    >>> summary = import_labels(folder / "labels.csv", folder / "store")
    >>> summary
    read 2 = added 1 + known 0 + refused 1
    >>> print(*summary.refusals)
    labels.csv, row 2 (line 3), column mated: 'perhaps' is not true or false

    See Also
    --------
    verifyanalytics.import_responses : The responses that labels are about.
    verifyanalytics.labels.join : Puts labels beside the rows of verifications.
    """
    there = store if isinstance(store, Store) else Store(None if store is None else str(store))
    there.versions()  # a store that is not there is refused before its key would make one
    source = Path(path)
    labels, places, refusals = _read(source, there.key, frozenset(ignore))
    n_read = labels.num_rows + len(refusals)
    stored = _stored(there, labels)
    if labels.num_rows and not any(stored):
        raise UsageError(
            f"{source.name}: none of {labels.num_rows} labels names a stored answer; import the "
            "answers first, or look whether request_id is the vendor's and the store is the right "
            "one"
        )
    if strict:
        missing = [place for place, is_known in zip(places, stored, strict=True) if not is_known]
        refusals += [
            Refusal(source.name, *place, "", "names no stored answer") for place in missing
        ]
        refusals.sort(key=lambda refusal: refusal.row)
        labels = labels.filter(pa.array(stored, pa.bool_()))
    decided = pc.or_(pc.is_valid(labels["mated"]), pc.is_valid(labels["attack"]))
    added = there.add_labels(labels) if labels.num_rows else 0
    return LabelSummary(
        read=n_read,
        added=added,
        known=labels.num_rows - added,
        refused=len(refusals),
        unknown=0 if strict else stored.count(False),
        undecided=labels.num_rows - int(pc.sum(decided).as_py() or 0),
        refusals=refusals,
    )


class _Place(NamedTuple):
    row: int
    line: int | None


def _read(
    source: Path, key: bytes, ignore: frozenset[str]
) -> tuple[pa.Table, list[_Place], list[Refusal]]:
    """Read a file whole: labels with their places, and what was refused."""
    schema = pa.schema([pa.field(f.name, f.type) for f in LABELS])
    places, refusals = list[_Place](), list[Refusal]()
    rows: list[dict[str, Any]] = []
    blocks: list[pa.RecordBatch] = []
    for place, cells in _rows(source, ignore):
        label = _label(cells, key)
        if isinstance(label, tuple):
            refusals.append(Refusal(source.name, *place, *label))
            continue
        places.append(place)
        rows.append(label)
        if len(rows) == _BLOCK:  # as Arrow they take less memory
            blocks.append(pa.RecordBatch.from_pylist(rows, schema=schema))
            rows = []
    blocks.append(pa.RecordBatch.from_pylist(rows, schema=schema))
    return pa.Table.from_batches(blocks, schema=schema), places, refusals


# ------------------------------------------------------------------ a file


_Rows = Iterator[tuple[_Place, Mapping[str, Any] | None]]


def _rows(path: Path, ignore: frozenset[str]) -> _Rows:
    """Give each row of a file with its place; None for a row that does not fit the header."""
    name = path.name.lower()
    if not name.endswith(_SUFFIXES):
        raise UsageError(f"{path}: labels are read from {', '.join(_SUFFIXES)} files")
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    return _parquet(path, ignore) if name.endswith(".parquet") else _csv(path, ignore)


def _wanted(source: str, names: Sequence[str], ignore: frozenset[str]) -> set[str]:
    """Return the columns to read, or refuse the file for its header."""
    known = {*_PARSERS, RAW_TOKEN}
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"{source}: column {', '.join(twice)} is there twice")
    if unknown := [name for name in names if name not in known | ignore]:
        listed = ", ".join([*LABELS.names, RAW_TOKEN])
        raise UsageError(
            f"{source}: labels have no column {', '.join(map(_quoted, unknown))}; they have: "
            f"{listed}; leave others out with ignore"
        )
    found = {name for name in names if name in known - ignore}
    if not found & {"request_id", "token", RAW_TOKEN}:
        raise UsageError(f"{source}: no key; give a column request_id or {RAW_TOKEN}")
    if not found & {"mated", "attack"}:
        raise UsageError(f"{source}: nothing is said; give a column mated or attack")
    return found


def _csv(path: Path, ignore: frozenset[str]) -> _Rows:
    how: Any = gzip.open if path.name.lower().endswith(".gz") else open
    try:
        # Excel writes a byte order mark in front
        with how(path, "rt", encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            delimiter = max(_DELIMITERS, key=first.count)
            names = [name.strip() for name in next(csv.reader([first], delimiter=delimiter), [])]
            wanted = _wanted(path.name, names, ignore)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            for row, cells in enumerate(filter(None, reader), 1):  # blank lines are no rows
                place = _Place(row, reader.line_num + 1)
                pairs = zip(names, cells, strict=False)
                fits = len(cells) == len(names)
                yield place, {n: cell.strip() for n, cell in pairs if n in wanted} if fits else None
    except UnicodeDecodeError as error:
        message = f"{path}: not UTF-8; save it as CSV UTF-8"
        raise InputError(message, source=path.name, reason="encoding") from error
    except (csv.Error, EOFError, OSError) as error:
        message = f"{path}: cannot be read to its end: {error}"
        raise InputError(message, source=path.name, reason="source") from error


def _parquet(path: Path, ignore: frozenset[str]) -> _Rows:
    row = 0
    try:
        with pq.ParquetFile(path) as file:
            wanted = _wanted(path.name, file.schema_arrow.names, ignore)
            columns = [name for name in file.schema_arrow.names if name in wanted]
            for block in file.iter_batches(_BLOCK, columns=columns):
                arrays = [  # times lose what is finer than a microsecond
                    pc.cast(column, pa.timestamp("us", tz=column.type.tz), safe=False)
                    if pa.types.is_timestamp(column.type)
                    else column
                    for column in block.columns
                ]
                for cells in pa.RecordBatch.from_arrays(arrays, block.schema.names).to_pylist():
                    row += 1
                    yield _Place(row, None), cells
    except (pa.ArrowException, OSError) as error:
        message = f"{path}: {str(error).splitlines()[0]}"
        raise InputError(message, source=path.name, reason="source") from error


# ------------------------------------------------------------------ the stored responses


def _stored(store: Store, labels: pa.Table) -> list[bool]:
    """Say for each label whether a stored response has its key: one pass over the key columns."""
    known: list[pa.Array] = []
    for name in ("request_id", "token"):
        keys = pc.unique(labels[name].drop_null())
        met: set[str] = set()
        if len(keys):
            for block in store.scan(columns=[name]).to_arrow_reader(_BLOCK):
                column = block.column(0).cast(pa.string())
                met.update(column.filter(pc.is_in(column, value_set=keys)).to_pylist())
        found = pa.array(sorted(met), pa.string())
        known.append(pc.is_in(labels[name], value_set=found, skip_nulls=True))
    flags: list[bool] = pc.or_(*known).to_pylist()
    return flags


# ------------------------------------------------------------------ a row and its cells


class _UnfitError(ValueError):
    """A cell that cannot be what its column holds; the text says why."""


def _label(cells: Mapping[str, Any] | None, key: bytes) -> dict[str, Any] | tuple[str, str]:
    """Turn the cells of a row into a label, or give column and reason of the refusal."""
    if cells is None:
        return "", "has more or fewer cells than the header"
    values: dict[str, Any] = {}
    for name, cell in cells.items():
        if cell is None or cell == "" or (isinstance(cell, float) and math.isnan(cell)):
            continue
        try:
            if name in {"token", RAW_TOKEN} and "token" in values:
                other = "token" if name == RAW_TOKEN else RAW_TOKEN
                raise _UnfitError(f"{other} is given as well")
            if name == RAW_TOKEN:
                values["token"] = keyed_hash(key, "token", _text(cell, shown=False))
            else:
                values[name] = _PARSERS[name](cell)
        except _UnfitError as unfit:
            return name, str(unfit)
    keys = [name for name in ("request_id", "token") if name in values]
    if len(keys) != 1:
        return "", f"has {'two keys' if keys else 'no key'}; give request_id or {RAW_TOKEN}"
    if not any(name in values for name in _FACTS):
        return "", f"says nothing: {', '.join(_FACTS)} are empty"
    return values


def _quoted(cell: Any) -> str:
    """Quote a value for a message: short, and nothing in it steers a terminal."""
    text = str(cell)
    return repr(text if len(text) <= 40 else f"{text[:39]}…")


def _text(cell: Any, *, shown: bool = True) -> str:
    if isinstance(cell, bool | float) or not isinstance(cell, str | int):
        raise _UnfitError(f"{_quoted(cell)} is no text" if shown else "is no text")
    text = str(cell).strip()
    if not text:
        raise _UnfitError("is blank")
    if len(text) > MAX_TEXT:
        raise _UnfitError(f"is longer than {MAX_TEXT} characters")
    return text


def _request_id(cell: Any) -> str:
    text = str(cell).strip() if isinstance(cell, float) else _text(cell)
    if isinstance(cell, float) or _ROUNDED.fullmatch(text):
        raise _UnfitError(
            f"{_quoted(text)} was rounded, by a spreadsheet perhaps; keep ids as text"
        )
    return text


def _token_hash(cell: Any) -> str:
    text = _text(cell, shown=False)
    if not _HASH.fullmatch(text):
        raise _UnfitError(
            f"is no keyed hash; name the column {RAW_TOKEN} and it is hashed on the way in"
        )
    return text


def _mated(cell: Any) -> bool:
    value = _YES.get(str(cell).strip().lower())
    if value is None:
        raise _UnfitError(f"{_quoted(cell)} is not true or false")
    return value


def _origin(cell: Any) -> str:
    text = _text(cell)
    if text not in ORIGINS:
        raise _UnfitError(f"{_quoted(text)} is not one of {', '.join(ORIGINS)}")
    return text


def _probability(cell: Any) -> float:
    try:
        number = math.nan if isinstance(cell, bool) else float(cell)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 < number <= 1:
        raise _UnfitError(f"{_quoted(cell)} is no probability above 0 and up to 1")
    return number


def _moment(cell: Any) -> datetime:
    try:
        if isinstance(cell, date) and not isinstance(cell, datetime):
            return datetime(cell.year, cell.month, cell.day, tzinfo=UTC)
        if not isinstance(cell, datetime):
            if not isinstance(cell, str) or cell.strip().isdigit():  # 20240501 may be seconds
                raise ValueError
            cell = datetime.fromisoformat(cell.strip())
        moment: datetime = cell if cell.tzinfo else cell.replace(tzinfo=UTC)
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise _UnfitError(f"{_quoted(cell)} is no time as 2024-05-01T08:00:00+08:00") from None


_PARSERS: dict[str, Callable[[Any], Any]] = {
    "request_id": _request_id,
    "token": _token_hash,
    "mated": _mated,
    "attack": _text,
    "origin": _origin,
    "plan_id": _text,
    "inclusion_prob": _probability,
    "labelled_at": _moment,
    "labeller": _text,
}
