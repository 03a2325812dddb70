"""What one code means, in a sentence of English or Chinese; a number can mean several things."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from verifyanalytics.codebook import book as books
from verifyanalytics.codebook.book import Codebook, Entry, Lang


@dataclass(frozen=True, slots=True)
class Meaning:
    """One thing that a code can mean.

    Attributes
    ----------
    kind : str
        `code`, `sub_code`, `gateway_code`, `risk_level`, `risk_tag`, `tag_family`, `stage`, `gate`,
        `quality`, or `unknown`.
    entry : Entry
        The book's entry.
    facts : mapping of str to str
        What else the book knows, a sentence by language: keys `en` and `zh`.
    """

    kind: str
    entry: Entry
    facts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def text(self, lang: Lang = "en") -> str:
        """Return one line, or two when `lang` is `both`."""
        if books.checked_lang(lang) == "both":
            return f"{self.text('en')}\n{self.text('zh')}"
        kind, code, gloss = _KINDS[self.kind][lang], self.entry.code, self.entry.gloss(lang)
        if lang == "zh":
            return f"{code}（{kind}）：{'；'.join((gloss, *self.facts.get(lang, ())))}"
        return f"{code} ({kind}): {'; '.join((gloss, *self.facts.get(lang, ())))}"

    def plain(self) -> dict[str, object]:
        """Return everything as plain values, for JSON."""
        values: dict[str, object] = msgspec.to_builtins(self.entry)
        return {"kind": self.kind, **values}


_KINDS = {
    "code": {"en": "service code", "zh": "错误码"},
    "sub_code": {"en": "sub code", "zh": "子错误码"},
    "gateway_code": {"en": "gateway error", "zh": "网关错误"},
    "risk_level": {"en": "risk score", "zh": "风控分数"},
    "risk_tag": {"en": "risk tag", "zh": "风险标签"},
    "tag_family": {"en": "family of risk tags", "zh": "风险标签类别"},
    "stage": {"en": "stage", "zh": "阶段"},
    "gate": {"en": "gate", "zh": "判定关口"},
    "quality": {"en": "quality measure", "zh": "质量指标"},
    "unknown": {"en": "not in the code book", "zh": "不在码表中"},
}


def explain(code: int | str, lang: Lang = "en", book: Codebook | None = None) -> str:
    """Say what a code, risk tag, risk score, gateway error or quality measure means.

    Parameters
    ----------
    code : int or str
        As it stands in a table: `50215`, `210302`, `"14004"`, `"SignatureDoesNotMatch"`, …
    lang : {"en", "zh", "both"}
    book : Codebook, optional
        Default: the book in use.

    Returns
    -------
    str
        One line for each thing it can mean (two for `both`); for a code that is not in the book
        a line that says so: the vendor's codes are open sets.

    Examples
    --------
    >>> print(explain(14004))
    14004 (risk tag): cheating environment (script, emulator); family 14: device (our reading)

    See Also
    --------
    verifyanalytics.use_codebook : name codes that the built-in book does not have
    """
    return "\n".join(meaning.text(lang) for meaning in meanings(code, book))


def meanings(code: int | str, book: Codebook | None = None) -> tuple[Meaning, ...]:
    """Return everything that `code` can mean, most specific table first; never empty.

    Parameters
    ----------
    code : int or str
        A code, sub code, gateway error, risk level, risk tag, gate, stage or quality measure.
    book : Codebook, optional
        Default the book in use.

    See Also
    --------
    verifyanalytics.explain : the same as text

    Examples
    --------
    >>> import verifyanalytics as va
    >>> [meaning.kind for meaning in va.codebook.meanings(600)]
    ['risk_level']
    """
    book = book or books.current()
    key = str(code).strip()
    number = int(key) if key.isascii() and key.isdigit() and len(key) <= 9 else None
    gateway = [e for e in book.gateway_codes.values() if number is not None and e.number == number]
    entries: dict[str, Entry | None] = {
        "code": book.codes.get(number) if number is not None else None,
        "sub_code": book.sub_codes.get(number) if number is not None else None,
        "gateway_code": book.gateway_codes.get(key) or next(iter(gateway), None),
        "risk_level": book.risk_levels.get(number) if number is not None else None,
        "risk_tag": book.risk_tags.get(key),
        "tag_family": book.tag_families.get(key),
        "stage": book.stages.get(key),
        "gate": book.gates.get(key),
        "quality": book.quality.get(key.removeprefix("face_").removeprefix("env_")),
    }
    found = [Meaning(kind, e, _facts(kind, e, book)) for kind, e in entries.items() if e]
    if found:
        return tuple(found)
    family = _family(key, book) if len(key) == 5 and key.isdigit() else {}
    facts = {
        "en": (
            *family.get("en", ()),
            "the vendor's codes are open sets; a code book of your own can name it",
        ),
        "zh": (*family.get("zh", ()), "码表可由自己的文件补充"),
    }
    shown = key if len(key) <= 40 else f"{key[:40]}…"
    return (Meaning("unknown", books.unknown(Entry, shown), facts),)


def _family(tag: str, book: Codebook) -> dict[str, tuple[str, ...]]:
    family = book.tag_family(tag)
    if not family.known:
        return {}
    return {
        "en": (f"family {family.code}: {family.gloss('en')} (our reading)",),
        "zh": (f"类别 {family.code}：{family.gloss('zh')}（按编号推断）",),
    }


def _facts(kind: str, entry: Entry, book: Codebook) -> dict[str, tuple[str, ...]]:
    match entry:
        case books.SubCode():
            stage = book.stages.get(entry.stage) or books.unknown(Entry, entry.stage)
            billed = {
                True: ("billed", "计费"),
                False: ("not billed", "不计费"),
                None: ("billing not known", "是否计费未知"),
            }[entry.billed]
            return {
                "en": (f"stage {entry.stage}: {stage.gloss('en')}", billed[0]),
                "zh": (f"阶段 {entry.stage}：{stage.gloss('zh')}", billed[1]),
            }
        case books.Code():
            answered = entry.code in book.answered_codes
            en = "counts as answered" if answered else "does not count as answered"
            zh = "计入已作答" if answered else "不计入已作答"
            return {"en": (*_http(entry.http), en), "zh": (*_http(entry.http), zh)}
        case books.GatewayCode():
            number = () if entry.number is None else (str(entry.number),)
            return {lang: (*number, *_http(entry.http)) for lang in ("en", "zh")}
        case books.Measure() if entry.poor:
            limit = f"{entry.poor[0]} {entry.poor[1]:g}"
            return {"en": (f"poor {limit}",), "zh": (f"{limit} 为差",)}
    if kind == "risk_tag":
        return _family(str(entry.code), book)
    if kind == "risk_level" and int(entry.code) >= book.risk_fail:
        return {"en": ("fails the risk gate",), "zh": ("判定为不通过",)}
    return {}


def _http(statuses: tuple[int, ...]) -> tuple[str, ...]:
    return (f"HTTP {'/'.join(map(str, statuses))}",) if statuses else ()
