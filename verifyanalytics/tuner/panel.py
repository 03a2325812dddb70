"""What the tuner says beside its picture: the frames put into lines, in words; a part of `tuner`.

The same sections become HTML under the picture of a notebook, and plain text where there is no
front end. Regimes, segments and channels are born by the data: they are escaped.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd

from verifyanalytics.analysis.base.rates import short
from verifyanalytics.codebook.book import Lang

_WORDS = {
    "everyone": ("everyone", "全部"),
    "threshold": ("threshold", "阈值"),
    "regime": ("regime", "阈值组"),
    "segment": ("segment", "分组"),
    "language": ("language", "语言"),
    "code": (
        "The same as code (v: your frame; select it and copy)",
        "等价代码（v 为您的数据框；选中后复制）",
    ),
    "code_truth": (
        "The same as code (v, {truth}: your frames; select it and copy)",
        "等价代码（v、{truth} 为您的数据框；选中后复制）",
    ),
    "rates": ("At or above {t}", "分数 ≥ {t}"),
    "match_rate": ("match rate", "匹配率"),
    "n_match": ("matches of compared", "匹配数／比对数"),
    "n_without_score": ("answers without score", "无分数的应答"),
    "claim": ("claimed false-match rate", "厂商标称误识率"),
    "bounds": ("Without labels, at k times the claim", "无标签的界限（实际误识率为标称的 k 倍）"),
    "bound": (
        "false matches ≤ {n} · owners turned away {ends}",
        "误识 ≤ {n} · 本人被拒 {ends}",
    ),
    "bound_below": ("owners turned away {ends}", "本人被拒 {ends}"),
    "m3": ("{n} (with three tries each: {m3})", "{n}（若每人尝试三次：{m3}）"),
    "covers": (
        "Zero-effort strangers only: no attack, no chosen look-alike; no liveness, no risk gate.",
        "仅限随机冒用者：不含呈现或注入攻击、刻意挑选的相似者；未计入活体与风控。",
    ),
    "below_calibration": (
        "Below the vendor's 1e-3 threshold nothing is claimed, so false matches have no bound.",
        "低于厂商 1e-3 阈值时没有标称值，误识数没有界限。",
    ),
    "swap": ("Against today, the own 1e-4 threshold ({own})", "与现行的 1e-4 阈值（{own}）相比"),
    "both": ("pass both", "两者均通过"),
    "only_old": ("would be turned away", "将被拒绝"),
    "only_new": ("would be let in", "将被放行"),
    "neither": ("pass neither", "两者均不通过"),
    "unexplained": ("refused for no known reason", "原因不明的拒绝"),
    "unknown": ("not known (a gate is missing)", "未知（缺少某一判定）"),
    "reproduced": (
        "The gates give the vendor's verdict in {share} of {n} answers.",
        "判定关口与厂商结果一致的比例：{share}（共 {n} 条）。",
    ),
    "not_explained": (
        "Less than 99\u00a0%: something else decides too.",
        "不足 99%：另有其他因素参与判定。",
    ),
    "truth_unknown": (
        "Who of them is who they claim to be is not in these rows.",
        "这些数据不能说明其中谁是本人。",
    ),
    "errors": ("With labels (95\u00a0% intervals)", "有标签的错误率（95% 区间）"),
    "fmr": ("FMR", "误识率 FMR"),
    "fnmr": ("FNMR", "拒真率 FNMR"),
    "none_seen": ("< {limit} (one-sided 95\u00a0%)", "< {limit}（单侧 95%）"),
    "rate": ("{says} ({ends}) · {x} of {n}", "{says}（{ends}）· {x}／{n}"),
    "not_given": ("not given · {x} of {n}", "不给出 · {x}／{n}"),
    "selected_labels": (
        "The labels look like a selection, so no rate is given: see va.labels.coverage.",
        "标签疑似经过挑选，因此不给出错误率：参见 va.labels.coverage。",
    ),
    "one_class_empty": ("One of the two classes has no label.", "两类中有一类没有标签。"),
    "labels taken as random": ("The labels are taken as random.", "假定标签为随机抽取。"),
    "weighted": (
        "Weighted by how likely each row was to be drawn; the counts are not.",
        "比率按各行被抽中的概率加权，计数未加权。",
    ),
    "no_labels": ("No label stands here.", "此处没有标签。"),
}


class Section(NamedTuple):
    """A heading, its lines of label and value, and its notes."""

    title: str
    lines: list[tuple[str, str]]
    notes: list[str]


def word(key: str, lang: Lang, **values: Any) -> str:
    """Return a text of ours; `both` joins English and Chinese."""
    en, zh = (part.format(**values) for part in _WORDS[key])
    return {"en": en, "zh": zh}.get(lang, en if en == zh else f"{en} · {zh}")


def percent(rate: float, lang: Lang) -> str:
    """Write a rate as per cent, small ones by the power of ten.

    Examples
    --------
    >>> percent(0.93412, "zh"), percent(0.0000312, "zh"), percent(0.0, "zh")
    ('93.41%', '3.1e-5', '0.00%')
    """
    return short(rate) if 0 < rate < 5e-4 else f"{100 * rate:.2f}{_sign(lang)}"


def between(low: float, high: float, lang: Lang) -> str:
    """Write an interval of rates, the sign once.

    Examples
    --------
    >>> between(0.9237, 0.9354, "zh"), between(0.00002, 0.01, "zh"), between(2e-5, 1e-4, "zh")
    ('92.37 – 93.54%', '0.002 – 1.00%', '2e-5 – 1e-4')
    """
    if 0 < high < 5e-4:
        return f"{short(low)} – {short(high)}"
    first = f"{100 * low:.1g}" if 0 < low < 5e-4 else f"{100 * low:.2f}"
    return f"{first} – {100 * high:.2f}{_sign(lang)}"


def _sign(lang: Lang) -> str:
    """The sign of per cent: after a blank that does not break, in Chinese at once."""
    return "%" if lang == "zh" else "\u00a0%"


def sections(
    tables: dict[str, pd.DataFrame], own: float, lang: Lang, segment: str = ""
) -> list[Section]:
    """Put the tuner's frames into words.

    Parameters
    ----------
    tables : dict of DataFrame
        `match_rates`, `label_free_bounds`, `what_if` and, with labels, `error_rates`.
    own : float
        The regime's own 1e-4 threshold.
    lang : {"en", "zh", "both"}
    segment : str
        What the rows are a part of, as `ctx_channel = app`.
    """
    found = [
        _rates(tables["match_rates"].iloc[0], lang, segment),
        _bounds(tables["label_free_bounds"], lang),
        _swap(tables["what_if"], own, lang),
    ]
    if "error_rates" in tables:
        found.insert(1, _errors(tables["error_rates"], lang))
    return found


def _rates(row: Any, lang: Lang, segment: str) -> Section:
    ends = between(row["match_rate_low"], row["match_rate_high"], lang)
    claim = row["reason"] or short(row["nominal_fmr"])
    lines = [
        (word("match_rate", lang), f"{percent(row['match_rate'], lang)} ({ends})"),
        (word("n_match", lang), f"{row['n_match']:,} / {row['n']:,}"),
        (word("n_without_score", lang), f"{row['n_without_score']:,}"),
        (word("claim", lang), claim),
    ]
    title = word("rates", lang, t=f"{row['threshold']:g}")
    return Section(f"{title} · {segment}" if segment else title, lines, [])


def _bounds(table: pd.DataFrame, lang: Lang) -> Section:
    lines = []
    for row in table.to_dict("records"):
        ends = between(row["fnmr_low"], row["fnmr_high"], lang)
        if math.isnan(row["false_matches_high"]):
            text = word("bound_below", lang, ends=ends)
        else:
            n, m3 = row["false_matches_high"], row["false_matches_high_m3"]
            told = f"{n:,.0f}"
            if not math.isnan(m3):
                told = word("m3", lang, n=told, m3=f"{m3:,.0f}")
            text = word("bound", lang, n=told, ends=ends)
        lines.append((f"k = {row['k']:g}", text))
    notes = [word("covers", lang)]
    if (table["reason"] != "").any():
        notes.insert(0, word(str(table["reason"].iloc[0]), lang))
    return Section(word("bounds", lang), lines, notes)


def _swap(table: pd.DataFrame, own: float, lang: Lang) -> Section:
    rows = {row["line"]: row for row in table.to_dict("records")}
    first = rows.pop("reproduced")
    lines = [
        (word(line, lang), f"{row['n']:,} ({percent(row['share'], lang)})")
        for line, row in rows.items()
        if row["n"] or line not in ("unexplained", "unknown")
    ]
    notes = []
    if first["n_of"]:
        share = percent(first["share"], lang)
        notes = [word("reproduced", lang, share=share, n=f"{first['n_of']:,}")]
        notes += [word("not_explained", lang)] if first["reason"] else []
    return Section(word("swap", lang, own=f"{own:g}"), lines, [*notes, word("truth_unknown", lang)])


def _errors(table: pd.DataFrame, lang: Lang) -> Section:
    if table.empty:
        return Section(word("errors", lang), [], [word("no_labels", lang)])
    row = table.iloc[0]
    lines = [
        (word(rate, lang), _rate(row, rate, errors, n, lang))
        for rate, errors, n in (
            ("fmr", "n_false_matches", "n_nonmated"),
            ("fnmr", "n_false_nonmatches", "n_mated"),
        )
    ]
    notes = [word(key, lang) for key in (row["reason"], row["note"]) if key]
    notes += [word("weighted", lang)] if row["weighted"] and not row["reason"] else []
    return Section(word("errors", lang), lines, notes)


def _rate(row: Any, rate: str, errors: str, n: str, lang: Lang) -> str:
    counted = {"x": f"{row[errors]:,}", "n": f"{row[n]:,}"}
    if math.isnan(row[rate]):
        return word("not_given", lang, **counted)
    ends = between(row[f"{rate}_low"], row[f"{rate}_high"], lang)
    says = percent(row[rate], lang)
    if not row[errors]:  # no error seen is a bound, never zero
        says = word("none_seen", lang, limit=short(row[f"{rate}_guard"]))
    return word("rate", lang, says=says, ends=ends, **counted)


# ------------------------------------------------------------------ forms


_CELL = "padding:1px 12px 1px 0;vertical-align:top;line-height:1.35"
_HEAD = f"{_CELL};font-weight:normal;text-align:left;opacity:.75;white-space:nowrap"


def to_html(found: Sequence[Section]) -> str:
    """Return the sections as HTML that follows the theme of the page."""
    parts = []
    for section in found:
        rows = "".join(
            f'<tr><th scope="row" style="{_HEAD}">'
            f'{html.escape(label)}</th><td style="{_CELL}">{html.escape(value)}</td></tr>'
            for label, value in section.lines
        )
        notes = "".join(
            f'<div style="font-size:85%;opacity:.75;line-height:1.35">{html.escape(note)}</div>'
            for note in section.notes
        )
        parts.append(
            '<div style="margin:0 0 10px 0"><div style="border-bottom:1px solid rgba(128,128,128,'
            f'.45);margin-bottom:3px;line-height:1.6">{html.escape(section.title)}</div>'
            f'<table style="border-collapse:collapse">{rows}</table>{notes}</div>'
        )
    return f'<div role="status" style="font-size:92%">{"".join(parts)}</div>'


def to_text(found: Sequence[Section]) -> str:
    """Return the sections as plain text."""
    lines = []
    for section in found:
        lines += [section.title, *(f"  {label}: {value}" for label, value in section.lines)]
        lines += [f"  {note}" for note in section.notes]
    return "\n".join(lines)
