"""The cells of a label: what each column may hold, and in what words another value is refused."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from typing import Any

from verifyanalytics.parsing.envelope import keyed_hash

RAW_TOKEN = "byted_token"  # noqa: S105 - a column's name
"""The column of raw tokens: hashed on the way in; `token` is for hashes that a store gave out."""

ORIGINS = ("audit", "claim", "fraud", "test")
"""Where a label may come from."""

MAX_TEXT = 256
"""Characters of a text; a longer one is no id and no pseudonym."""

_YES = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
_HASH = re.compile(r"[0-9a-f]{32}")
_ROUNDED = re.compile(r"\d(?:\.\d+)?[eE]\+?\d+")
_FACTS = ("mated", "attack", "origin", "plan_id")


class _UnfitError(ValueError):
    """A cell that cannot be what its column holds; the text says why."""


class CellReader:
    """Turns the cells of a row into values of `LABELS`, or says what is wrong with it."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.values: dict[str, Any] = {}

    def read(self, cells: Mapping[str, Any] | None) -> tuple[str, str] | None:
        """Fill `values`; return column and reason when the row is refused."""
        if cells is None:
            return "", "has more or fewer cells than the header"
        self.values = {}
        for name, cell in cells.items():
            if _is_empty(cell):
                continue
            try:
                self._take(name, cell)
            except _UnfitError as unfit:
                return name, str(unfit)
        keys = [name for name in ("request_id", "token") if name in self.values]
        if len(keys) != 1:
            return "", f"has {'two keys' if keys else 'no key'}; give request_id or {RAW_TOKEN}"
        if not any(name in self.values for name in _FACTS):
            return "", f"says nothing: {', '.join(_FACTS)} are empty"
        return None

    def _take(self, name: str, cell: Any) -> None:
        if name == RAW_TOKEN:
            if "token" in self.values:
                raise _UnfitError("token is given as well")
            self.values["token"] = keyed_hash(self._key, "token", _text(cell, shown=False))
        elif name == "token" and "token" in self.values:
            raise _UnfitError(f"{RAW_TOKEN} is given as well")
        else:
            self.values[name] = PARSERS[name](cell)


def _is_empty(cell: Any) -> bool:
    return cell is None or cell == "" or (isinstance(cell, float) and math.isnan(cell))


def shown_cell(cell: Any) -> str:
    """Quote a value for a message: short, and nothing in it steers a terminal."""
    text = str(cell)
    return repr(text if len(text) <= 40 else f"{text[:39]}…")


def _text(cell: Any, *, shown: bool = True) -> str:
    if isinstance(cell, bool | float) or not isinstance(cell, str | int):
        raise _UnfitError(f"{shown_cell(cell)} is no text" if shown else "is no text")
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
            f"{shown_cell(text)} was rounded, by a spreadsheet perhaps; keep ids as text"
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
        raise _UnfitError(f"{shown_cell(cell)} is not true or false")
    return value


def _origin(cell: Any) -> str:
    text = _text(cell)
    if text not in ORIGINS:
        raise _UnfitError(f"{shown_cell(text)} is not one of {', '.join(ORIGINS)}")
    return text


def _probability(cell: Any) -> float:
    try:
        number = math.nan if isinstance(cell, bool) else float(cell)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 < number <= 1:
        raise _UnfitError(f"{shown_cell(cell)} is no probability above 0 and up to 1")
    return number


def _moment(cell: Any) -> datetime:
    try:
        moment = _as_datetime(cell)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise _UnfitError(f"{shown_cell(cell)} is no time as 2024-05-01T08:00:00+08:00") from None


def _as_datetime(cell: Any) -> datetime:
    if isinstance(cell, datetime):
        return cell
    if isinstance(cell, date):
        return datetime(cell.year, cell.month, cell.day, tzinfo=UTC)
    if not isinstance(cell, str) or cell.strip().isdigit():  # 20240501 might be a number of seconds
        raise ValueError
    return datetime.fromisoformat(cell.strip())


PARSERS: dict[str, Callable[[Any], Any]] = {
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
