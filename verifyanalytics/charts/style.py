"""How our charts look and what is written on them, in English and Chinese.

Colours are Okabe and Ito's, told apart by everybody. Text is DejaVu Sans first and then an
installed Chinese font, glyph by glyph; where none is installed, one warning says what to install
and labels are English. Chinese is never bold: few of these fonts have a bold face, and a
synthesised one is illegible.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import font_manager, rcsetup

from verifyanalytics.codebook.book import Lang
from verifyanalytics.errors import UsageError

INK, GREY, RULE = "#222222", "#6b6b6b", "#9a9a9a"
"""Text, secondary text, thin rules."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#B8A900")
"""Okabe–Ito, the strong ones first; its yellow is darkened to be seen on white."""

CJK_FONTS = (
    "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Noto Sans CJK SC", "Noto Sans SC",
    "Source Han Sans SC", "Source Han Sans CN", "Microsoft YaHei", "PingFang SC", "SimHei",
    "Hiragino Sans GB", "Heiti SC", "Heiti TC", "Arial Unicode MS", "Droid Sans Fallback",
)  # fmt: skip
"""Fonts with simplified Chinese, in the order in which they are looked for."""

_FILES = (
    "wqy-microhei",
    "wqy-zenhei",
    "notosanscjk",
    "sourcehansans",
    "msyh",
    "simhei",
    "pingfang",
)

_TEXT = {
    "score": ("score (0–100)", "比对分数（0–100）"),
    "per_point": ("answers per score point", "每分应答数"),
    "threshold": ("threshold (score)", "阈值（分数）"),
    "nominal_fmr": ("claimed false-match rate of the threshold", "阈值对应的标称误识率"),
    "match_rate": ("match rate", "匹配率"),
    "tag_rate": ("share of answers with a risk result", "占有风险结果的应答的比例"),
    "date": ("local date", "本地日期"),
    "scores": ("Scores against the vendor's thresholds", "分数分布与厂商阈值"),
    "match_rates": ("Match rate by threshold", "各阈值下的匹配率"),
    "vendor_thresholds": ("The vendor's thresholds over time", "厂商阈值的变化"),
    "tags": ("How often each risk tag is set", "各风险标签的出现比例"),
    "tags_over_time": (
        "Risk tags over time: share of answers with a risk result",
        "风险标签随时间的变化：占有风险结果的应答的比例",
    ),
    "n_scored": ("n = {n:,} scored", "有分数 n = {n:,}"),
    "n_answered_or_not": (
        "n = {n:,} answers, with a verdict or without",
        "应答 n = {n:,}（含无核验结论者）",
    ),
    "n_compared": ("n = {n:,} compared", "已比对 n = {n:,}"),
    "n_without_score": ("{n:,} without score", "无分数 {n:,}"),
    "n_outside": ("{n:,} outside 0–100", "超出0–100 {n:,}"),
    "n_asked": ("n = {n:,} with a risk result", "有风险结果 n = {n:,}"),
    "n_risk_not_asked": ("{n:,} without", "无风险结果 {n:,}"),
    "no_regime": (
        "{n:,} answers carry no complete thresholds, and belong to no panel",
        "{n:,} 条应答没有完整的阈值，未列入任何分图",
    ),
    "more_tags": ("{n:,} rarer tags are not shown", "另有 {n:,} 个较少见的标签未显示"),
    "interval": (
        "bars and bands: 95\u00a0% intervals",
        "误差线与色带：95% 区间",
    ),
    "limits": (
        "bars and bands: 95\u00a0% intervals",
        "误差线与色带：95% 区间",
    ),
    "partial": ("open circles: partial periods", "空心点：不完整的时段"),
    "unknown_tag": ("not in the code book", "不在码表中"),
    "incomplete": ("no complete thresholds", "阈值不完整"),
    "all": ("all regimes", "全部阈值组"),
    "unknown": ("unknown", "未知"),
    "true": ("true", "是"),
    "false": ("false", "否"),
    "result": ("result", "核验结果"),
    "change": ("change of regime {when}", "阈值组变更 {when}"),
    "funnel": (
        "From all answers to the accepted: what each gate took",
        "从全部应答到通过：各关口的流失",
    ),
    "all_answers": ("all answers", "全部应答"),
    "lost_answered": ("not answered", "未作答（故障）"),
    "lost_scored": ("no score", "无比对分数"),
    "lost_alive": ("liveness failed", "活体未通过"),
    "lost_match": ("score below own 1e-4", "分数低于 1e-4 阈值"),
    "lost_risk": ("risk score too high", "风险分过高"),
    "lost_unknown": ("not all gates known", "部分关口未知"),
    "lost_unexplained": ("rejected, all gates pass", "各关口均过仍被拒"),
    "lost_no_verdict": ("all gates pass, no verdict", "各关口均过无结论"),
    "accepted": ("accepted", "核验通过"),
    "despite": ("({n:,} accepted)", "（其中 {n:,} 仍通过）"),
    "only": ("only {gate}", "仅{gate}"),
    "of_all": ("in brackets: share of all answers", "括号内：占全部应答的比例"),
    "n_answers": ("answers", "应答数"),
    "acceptance": ("Acceptance rate", "通过率"),
    "acceptance_rate": ("acceptance rate", "通过率"),
    "n_decided": ("n = {n:,} with a verdict", "有核验结论 n = {n:,}"),
    "n_undecided": ("{n:,} without", "无结论 {n:,}"),
    "interval_any": ("bars and bands: 95\u00a0% intervals", "误差线与色带：95% 区间"),
    "reasons": ("Why answers were not accepted", "未通过的原因"),
    "n_not_accepted": ("n = {n:,} not accepted", "未通过 n = {n:,}"),
    "share_not_accepted": ("share of the answers not accepted", "占未通过应答的比例"),
    "more_reasons": (
        "{n:,} rarer reasons ({rows:,} answers) are not shown",
        "另有 {n:,} 个较少见的原因（{rows:,} 条应答）未显示",
    ),
    "bounds": (
        "Without labels: limits of false matches and of owners turned away",
        "无标注时：误识数与本人被拒比例的上下限",
    ),
    "false_matches_high": ("false matches, at most", "误识数上限"),
    "fnmr_bounds": ("owners turned away (FNMR)", "本人被拒比例（FNMR）"),
    "n_withheld": ("{n:,} scores withheld", "分数未返回 {n:,}"),
    "bounds_k": (
        "k: the true false-match rate is at most k times the vendor's claim; limits of 95\u00a0%",
        "k：真实误识率不超过厂商标称值的 k 倍；95% 界限",
    ),
    "bounds_cover": (
        (
            "zero-effort false matches only: no presentation or injection attack, no look-alike; "
            "liveness and risk are not applied"
        ),
        "仅指随机他人的误识：不含呈现攻击、注入攻击与相似人脸；未计活体与风险判定",
    ),
}  # fmt: skip


_WORDS = frozenset({"unknown", "true", "false", "result"})
"""Words that occur in the data and have a text of ours."""

_REGIMES = frozenset({"incomplete", "all", "unknown"})
"""What stands for a regime where there is none, or for several."""


class MissingFontWarning(UserWarning):
    """Chinese labels were asked for and no font has the glyphs."""


def use_style() -> None:
    """Set matplotlib's rcParams to our style, for charts of one's own.

    Our charts carry their style with them and do not need it.
    """
    mpl.rcParams.update(_parameters())


@contextmanager
def style() -> Iterator[None]:
    """Let our style hold for a while; afterwards it is as if nothing had been.

    `matplotlib.rc_context` would also undo what a back end sets when its first figure is made: in
    a notebook, that pictures are shown at all.
    """
    ours = _parameters()
    before = {name: mpl.rcParams[name] for name in ours}
    mpl.rcParams.update(ours)
    try:
        yield
    finally:
        mpl.rcParams.update(before)


def _parameters() -> dict[str, Any]:
    font = cjk_font()
    return {
        "font.family": ["DejaVu Sans", *([font] if font else [])],
        "font.size": 9.5,
        "axes.titlesize": 10.5,
        "axes.titlelocation": "left",
        "axes.titleweight": "normal",
        "axes.labelsize": 9.0,
        "axes.labelcolor": INK,
        "axes.edgecolor": RULE,
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.axisbelow": True,
        "axes.prop_cycle": rcsetup.cycler(color=COLOURS),
        "grid.color": "#e6e6e6",
        "grid.linewidth": 0.6,
        "lines.linewidth": 1.6,
        "lines.markersize": 4.5,
        "text.color": INK,
        "text.parse_math": False,  # a tag or a channel may hold a dollar sign
        "xtick.color": GREY,
        "ytick.color": GREY,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "xtick.labelsize": 8.5,
        "ytick.labelsize": 8.5,
        "xtick.major.size": 3,
        "ytick.major.size": 0,
        "legend.frameon": False,
        "legend.fontsize": 8.5,
        "figure.dpi": 110,
        "savefig.dpi": 150,
        "figure.facecolor": "white",
        "svg.fonttype": "none",
    }


@cache
def cjk_font() -> str | None:
    """Return the name of an installed font with Chinese, None when there is none."""
    installed = {entry.name for entry in font_manager.fontManager.ttflist}
    for name in CJK_FONTS:
        if name in installed:
            return name
    for path in sorted(font_manager.findSystemFonts()):  # newer than matplotlib's own list
        if Path(path).stem.lower().replace("-regular", "").startswith(_FILES):
            font_manager.fontManager.addfont(path)
            return str(font_manager.get_font(path).family_name)
    return None


@cache
def _warn_once() -> None:
    warnings.warn(
        "no font with Chinese characters is installed, so labels are English; install one "
        "(Debian, Ubuntu: apt-get install fonts-wqy-microhei) and start Python again",
        MissingFontWarning,
        stacklevel=4,
    )


def usable(lang: str) -> Lang:
    """Return the language that can be drawn: English where no font has Chinese.

    Raises
    ------
    UsageError
        `lang` is not `en`, `zh` or `both`.
    """
    if lang not in ("en", "zh", "both"):
        raise UsageError(f"no language {lang!r}; there are: en, zh, both")
    if lang == "en" or cjk_font():
        return "en" if lang == "en" else "zh" if lang == "zh" else "both"
    _warn_once()
    return "en"


def text(key: str, lang: Lang, joint: str = "  ", **values: Any) -> str:
    """Return a text of ours; `both` joins English and Chinese by `joint`."""
    en, zh = (part.format(**values) for part in _TEXT[key])
    return {"en": en, "zh": zh}.get(lang, en if en == zh else f"{en}{joint}{zh}")


def known(key: str) -> bool:
    """Tell whether a word of the data (true, unknown, result, …) has a text of ours."""
    return key in _WORDS


def known_regime(key: str) -> bool:
    """Tell whether a regime is one of our words."""
    return key in _REGIMES
