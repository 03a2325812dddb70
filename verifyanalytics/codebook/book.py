"""What the vendor's codes, risk tags and quality limits mean, in English and Chinese.

The book is `codebook.json` beside this file: facts of the vendor's public pages, with our reading
of each sub code's stage. All codes are open sets, so a look-up never fails: for what is not in the
book it returns an entry "unknown" with `known=False`. A file of the same shape, named by
`VERIFYANALYTICS_CODEBOOK` or given to `use_codebook`, overrides single fields or adds entries::

    {"risk_tags": {"16001": {"en": "house list", "zh": "内部名单"}},
     "sub_codes": {"210313": {"stage": "acquire"}},
     "rules": {"risk_fail": 600}}

Statistics take three things from the book: which codes count as answered, the risk score that
fails, and the stage of a sub code.
"""

from __future__ import annotations

import json
import math
import operator
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast, get_args

import msgspec

from verifyanalytics.errors import CodebookError, UsageError

ENVIRONMENT = "VERIFYANALYTICS_CODEBOOK"
"""The variable that names a user's own file."""

Lang = Literal["en", "zh", "both"]

_Text = Annotated[str, msgspec.Meta(max_length=200)]
_Http = tuple[Annotated[int, msgspec.Meta(ge=100, le=599)], ...]


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry of the book: a risk level, tag, family, stage or gate, or the base of the others.

    `code` is the key, as the vendor sends it; `en` and `zh` are the gloss, and one given alone
    stands for both; `known` is false when the book has no such entry.
    """

    code: int | str
    en: _Text = ""
    zh: _Text = ""
    known: bool = True

    def __post_init__(self) -> None:
        if not (self.en or self.zh):
            raise ValueError("needs a gloss: en, zh or both")

    def gloss(self, lang: Lang = "en") -> str:
        """Return the gloss in `lang`; `both` joins the two with a slash."""
        en, zh = self.en or self.zh, self.zh or self.en
        return {"en": en, "zh": zh, "both": en if en == zh else f"{en} / {zh}"}[checked_lang(lang)]


class Code(Entry, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A service code, with the HTTP statuses it has been seen with."""

    code: int
    http: _Http = ()


class SubCode(Entry, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A sub code: `algorithm_base_resp.status_code`.

    `stage` says where the verification stood: a key of `Codebook.stages`, or `unknown`. `billed`
    says whether the vendor bills it, None when not known; `req_measure_info` of a reply wins.
    `outer_code` is the service code it comes with.
    """

    code: int
    stage: str = "unknown"
    billed: bool | None = None
    outer_code: int | None = None


class GatewayCode(Entry, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An error of the gateway in front of the service: a word and, mostly, a number."""

    code: str
    number: int | None = None
    http: _Http = ()


class Measure(Entry, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A quality measure of an image, named as our columns end.

    `low` and `high` are its range, None where the vendor states none; `better` says which way is
    better, where `magnitude` is nearer to 0 and `unordered` neither end; `poor` is the vendor's
    limit: the comparison that makes an image poor, as `("<", 50.0)`.
    """

    code: str
    low: float | None = None
    high: float | None = None
    better: Literal["higher", "lower", "magnitude", "unordered"] = "unordered"
    poor: tuple[Literal["<", "<=", ">", ">="], float] | None = None

    def is_poor(self, value: float) -> bool | None:
        """Tell whether `value` breaks the vendor's limit; None where there is no limit or value."""
        if self.poor is None or math.isnan(value):
            return None
        return _COMPARE[self.poor[0]](value, self.poor[1])


class Limit(Entry, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A limit of the service, such as calls a second."""

    code: str
    value: float


class _Rules(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    answered_codes: frozenset[int]
    risk_fail: int

    def __post_init__(self) -> None:
        if not self.answered_codes:
            raise ValueError("answered_codes may not be empty")


_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge
}  # fmt: skip

_SECTIONS: dict[str, tuple[type[Entry], type]] = {
    "codes": (Code, int),
    "sub_codes": (SubCode, int),
    "gateway_codes": (GatewayCode, str),
    "risk_levels": (Entry, int),
    "risk_tags": (Entry, str),
    "tag_families": (Entry, str),
    "stages": (Entry, str),
    "gates": (Entry, str),
    "quality": (Measure, str),
    "limits": (Limit, str),
}
"""Each section of the file: the type of its entries, and of its keys."""

_E = TypeVar("_E", bound=Entry)


@dataclass(frozen=True, slots=True)
class Codebook:
    """The book in use: look-ups that never fail, and what the statistics need.

    Attributes
    ----------
    codes, sub_codes, gateway_codes, …, limits : mapping
        The entries by key: integers for codes, sub codes and risk levels, else strings.
    answered_codes : frozenset of int
        Service codes that answer the question that was asked.
    risk_fail : int
        The risk gate fails from this score on.
    source : str
        The user's file laid over the built-in book, or `built-in`.

    Examples
    --------
    >>> book = load()
    >>> book.sub_code(210302).stage
    'acquire'
    >>> book.risk_tag("14999").known, book.tag_family("14999").en
    (False, 'device')

    See Also
    --------
    verifyanalytics.use_codebook : choose the book that everything uses
    verifyanalytics.explain : what a code means, in a sentence
    """

    codes: Mapping[int, Code]
    sub_codes: Mapping[int, SubCode]
    gateway_codes: Mapping[str, GatewayCode]
    risk_levels: Mapping[int, Entry]
    risk_tags: Mapping[str, Entry]
    tag_families: Mapping[str, Entry]
    stages: Mapping[str, Entry]
    gates: Mapping[str, Entry]
    quality: Mapping[str, Measure]
    limits: Mapping[str, Limit]
    answered_codes: frozenset[int]
    risk_fail: int
    source: str = "built-in"

    def code(self, code: int) -> Code:
        """Look up a service code."""
        return self.codes.get(code) or unknown(Code, code)

    def sub_code(self, code: int) -> SubCode:
        """Look up a sub code; one that is not in the book has the stage `unknown`."""
        return self.sub_codes.get(code) or unknown(SubCode, code)

    def gateway_code(self, code: str) -> GatewayCode:
        """Look up an error of the gateway by its word."""
        return self.gateway_codes.get(code) or unknown(GatewayCode, code)

    def risk_level(self, score: int) -> Entry:
        """Look up a risk score."""
        return self.risk_levels.get(score) or unknown(Entry, score)

    def risk_tag(self, tag: str) -> Entry:
        """Look up a risk tag: a string of digits."""
        return self.risk_tags.get(tag) or unknown(Entry, tag)

    def tag_family(self, tag: str) -> Entry:
        """Look up the family of a risk tag: its first two digits, a reading of ours."""
        return self.tag_families.get(tag[:2]) or unknown(Entry, tag[:2])

    def measure(self, name: str) -> Measure:
        """Look up a quality measure by its name, with or without `face_` or `env_` before it."""
        short = name.removeprefix("face_").removeprefix("env_")
        return self.quality.get(short) or unknown(Measure, name)

    def stage(self, sub_code: int) -> str:
        """Return the stage of a sub code, `unknown` when the book has none."""
        return self.sub_code(sub_code).stage

    def sub_codes_in(self, stage: str) -> tuple[int, ...]:
        """Return the sub codes of a stage, ascending; `UsageError` when there is no such stage."""
        if stage not in self.stages:
            raise UsageError(f"no stage {stage!r}; the code book has: {', '.join(self.stages)}")
        return tuple(sorted(c for c, entry in self.sub_codes.items() if entry.stage == stage))


def unknown(kind: type[_E], code: int | str) -> _E:
    """Make the entry of a code that the book does not have."""
    return kind(code=code, known=False, en="unknown", zh="未知")


# ------------------------------------------------------------------ reading a book


def load(path: str | os.PathLike[str] | None = None) -> Codebook:
    """Read the built-in book, with a user's file laid over it.

    Parameters
    ----------
    path : path, optional
        A JSON file of the same shape. Fields that it gives replace ours, entries that are new are
        added; everything else stays.

    Raises
    ------
    CodebookError
        The file cannot be read or an entry does not fit; the message names file, section, entry.

    Examples
    --------
    >>> load().quality["clarity"].poor
    ('<=', 3.0)

    See Also
    --------
    verifyanalytics.use_codebook : choose the book that everything uses
    """
    text = (files("verifyanalytics.codebook") / "codebook.json").read_text(encoding="utf-8")
    raw: dict[str, dict[str, Any]] = json.loads(text)
    raw.pop("about")
    if path is None:
        return _build(raw, "built-in")
    source = str(path)
    _lay_over(raw, _read(Path(path)), source)
    return _build(raw, source)


_load_once = cache(load)
_chosen: list[Codebook] = []  # the process's choice, at most one


def use_codebook(book: str | os.PathLike[str] | Codebook | None) -> Codebook:
    """Choose the book that everything in this process uses from now on.

    Parameters
    ----------
    book : path, Codebook or None
        A user's file, a book from `load`, or None for the file that the environment variable
        `VERIFYANALYTICS_CODEBOOK` names, else the built-in one.

    Returns
    -------
    Codebook
        The book now in use.

    Raises
    ------
    CodebookError
        The file cannot be read or an entry does not fit.

    Examples
    --------
    >>> use_codebook(None).risk_fail
    900

    See Also
    --------
    verifyanalytics.explain : what a code means, by the book in use
    verifyanalytics.Codebook : the look-ups
    """
    if book is not None and not isinstance(book, Codebook):
        book = load(book)
    _chosen[:] = [] if book is None else [book]
    return current()


def current() -> Codebook:
    """Return the book in use: `use_codebook`, else `VERIFYANALYTICS_CODEBOOK`, else built-in.

    Raises
    ------
    CodebookError
        The file that the environment names cannot be read as a code book.

    See Also
    --------
    verifyanalytics.use_codebook : choose another for this process

    Examples
    --------
    >>> import verifyanalytics as va
    >>> va.codebook.current().codes[10000].en
    'success'
    """
    return _chosen[0] if _chosen else _load_once(os.environ.get(ENVIRONMENT) or None)


def _read(path: Path) -> dict[str, Any]:
    def refuse_constant(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    try:
        # utf-8-sig: editors on Windows write a byte order mark
        raw = json.loads(path.read_text(encoding="utf-8-sig"), parse_constant=refuse_constant)
    except OSError as error:
        raise CodebookError(f"code book {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise CodebookError(f"code book {path}: not JSON ({error})") from error
    if not isinstance(raw, dict):
        raise CodebookError(f"code book {path}: an object of sections is needed")
    return raw


def _lay_over(raw: dict[str, dict[str, Any]], own: dict[str, Any], source: str) -> None:
    own.pop("about", None)
    where = f"code book {source}:"
    for section, entries in own.items():
        if section not in raw:
            raise CodebookError(f"{where} no section {section!r}; there are: {', '.join(raw)}")
        if not isinstance(entries, dict):
            raise CodebookError(f"{where} {section} must be an object of entries")
        for key, fields in entries.items():
            if section == "rules":
                raw[section][key] = fields
            elif not isinstance(fields, dict):
                raise CodebookError(f"{where} {section} {key!r} must be an object")
            else:
                raw[section][key] = raw[section].get(key, {}) | fields


def _build(raw: dict[str, dict[str, Any]], source: str) -> Codebook:
    sections: dict[str, Any] = {}
    for section, (kind, key_type) in _SECTIONS.items():
        entries = (
            _entry(kind, key_type, section, key, fields, source)
            for key, fields in raw[section].items()
        )
        sections[section] = {entry.code: entry for entry in entries}
    try:
        rules = msgspec.convert(raw["rules"], _Rules)
    except msgspec.ValidationError as error:
        raise CodebookError(f"code book {source}: rules: {error}") from error
    for code, entry in sections["sub_codes"].items():
        if entry.stage not in {*sections["stages"], "unknown"}:
            raise CodebookError(
                f"code book {source}: sub_codes '{code}': no stage {entry.stage!r}; "
                f"there are: {', '.join(sections['stages'])}"
            )
    return Codebook(
        answered_codes=rules.answered_codes, risk_fail=rules.risk_fail, source=source, **sections
    )


def _entry(
    kind: type[Entry], key_type: type, section: str, key: str, fields: dict[str, Any], source: str
) -> Entry:
    where = f"code book {source}: {section} {key!r}"
    for name in ("code", "known"):
        if name in fields:
            raise CodebookError(f"{where}: {name!r} is not a field of an entry")
    if key_type is int and not (key.isascii() and key.isdigit() and len(key) <= 9):
        raise CodebookError(f"{where}: the key must be a whole number")
    try:
        return msgspec.convert({**fields, "code": key_type(key)}, kind)
    except msgspec.ValidationError as error:
        raise CodebookError(f"{where}: {error}") from error


def checked_lang(lang: str) -> Lang:
    """Return `lang`, or raise a UsageError that lists the languages there are."""
    if lang not in get_args(Lang):
        raise UsageError(f"no language {lang!r}; there are: {', '.join(get_args(Lang))}")
    return cast("Lang", lang)
