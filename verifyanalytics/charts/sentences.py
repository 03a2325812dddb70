"""What is written on the charts of risk tags, image quality and drift, in English and Chinese."""

from __future__ import annotations

from typing import Any

from verifyanalytics.charts.names import name
from verifyanalytics.codebook.book import Lang

_TEXT = {
    "tag_lift": ("What each risk tag goes with", "各风险标签与结果的关联"),
    "lift": (
        "lift: share of {outcome} with the tag / share of all, log₂ axis",
        "提升度：带标签应答中{outcome_zh}的比例 / 总体比例（log₂ 轴）",
    ),
    "non_match": ("non-matches", "不匹配"),
    "rejected": ("rejections", "被拒"),
    "attack": ("attacks", "攻击"),
    "association": (
        "association, not proof: nobody has labelled these rows",
        "仅为关联，并非证明：这些应答没有标注",
    ),
    "labels": (
        "of labelled rows; mind how they were chosen",
        "仅限已标注的应答，请注意样本如何选取",
    ),
    "weighted": (
        "rows weighted by the probability with which they were drawn",
        "各行按其抽样概率加权",
    ),
    "random": ("labels taken as random", "假定标注为随机抽取"),
    "column": (
        "against a column of the caller's own",
        "以调用者自带的列为结果",
    ),
    "circular": (
        "circular: the risk score itself takes part in rejecting",
        "循环论证：风险分本身参与拒绝判定",
    ),
    "filled": (
        (
            "filled dots: significant on one row a person (Benjamini–Hochberg, 5\u00a0%); "
            "arrows: unbounded"
        ),
        "实心点：每人一行检验显著（Benjamini–Hochberg，5%）；箭头：无界",
    ),
    "filled_only": (
        "filled dots: significant after Benjamini–Hochberg, 5\u00a0%",
        "实心点：Benjamini–Hochberg 校正后显著（5%）",
    ),
    "unclustered": (
        "no subject in the data: nothing is called significant",
        "数据中没有用户标识：不作显著性判断",
    ),
    "n_outcome": ("n = {n:,}, of them {x:,} {outcome}", "n = {n:,}，其中{outcome_zh} {x:,}"),
    "left_out": (
        "{unknown:,} undecided · {risk:,} without risk result",
        "未定 {unknown:,} · 无风险结果 {risk:,}",
    ),
    "limits95": ("bars: 95\u00a0% intervals", "误差线：95% 区间"),
    "more": ("{n:,} more are not shown", "另有 {n:,} 项未显示"),
    "tag_pairs": ("Risk tags that come together", "同时出现的风险标签"),
    "phi": ("φ, and rows with both tags", "φ 系数与同时带两个标签的应答数"),
    "n_asked": ("n = {n:,} with a risk result", "有风险结果 n = {n:,}"),
    "tag_catch": ("What each risk tag adds to the others", "各风险标签的增量贡献"),
    "catch_rate": ("share of {outcome} caught so far", "累计捕获{outcome_zh}的比例"),
    "catch_note": (
        "each step adds what catches most of the rest: newly caught / new hits; tick: all hits",
        "每一步加入新捕获最多的标签；数字：新捕获数 / 新命中数；短竖线：累计命中比例",
    ),
    "tag": ("risk tag, in order of what it adds", "风险标签（按增量贡献排序）"),
    "risk_bands": ("The risk score, and what goes with it", "风险分与结果"),
    "risk_band": ("risk score", "风险分"),
    "outcome_rate": ("share of {outcome}", "{outcome_zh}的比例"),
    "direction": (
        "direction of the score: {direction} (AUC {auc:.3f}, {low:.3f}–{high:.3f})",
        "风险分方向：{direction_zh}（AUC {auc:.3f}，{low:.3f}–{high:.3f}）",
    ),
    "one_sided": (
        "direction of the score: unknown, since all rows have the same outcome",
        "风险分方向：未知（全部应答结果相同）",
    ),
    "higher": ("higher goes with more", "分数越高比例越高"),
    "lower": ("lower goes with more", "分数越低比例越高"),
    "not evident": ("not evident", "不明显"),
    "unknown": ("cannot be told", "无法判断"),
    "tag_scores": ("Scores with and without a risk tag", "带标签与不带标签的分数分布"),
    "score": ("score (0–100)", "比对分数（0–100）"),
    "share": ("share of the scored rows", "占有分数应答的比例"),
    "with": ("with the tag, n = {n:,}", "带标签 n = {n:,}"),
    "without": ("without, n = {n:,}", "不带 n = {n:,}"),
    "no_score": (
        "without score: {a:,} with the tag, {b:,} without",
        "无分数：带标签 {a:,}，不带 {b:,}",
    ),
    "quality_limits": ("Image quality against the vendor's limits", "图像质量与厂商限值"),
    "face": ("face image", "人脸图"),
    "env": ("environment image", "环境图"),
    "percentiles": (
        "line: 1st to 99th percentile, bar: 25th to 75th, dot: median; dashed: the vendor's limit",
        "细线：第1–99百分位，粗线：第25–75百分位，点：中位数；虚线：厂商限值",
    ),
    "beyond": ("{rate} beyond {limit}", "{rate} 超限（{limit}）"),
    "no_limit": ("no limit stated", "厂商未给限值"),
    "graded": ("n = {n:,} graded · {m:,} not", "已评 n = {n:,} · 未评 {m:,}"),
    "quality_bands": ("Reject and match rate by image quality", "拒绝率、匹配率与图像质量"),
    "band": ("percentile band, low values first", "百分位区间（由低到高）"),
    "reject_rate": ("reject rate", "拒绝率"),
    "match_rate": ("match rate", "匹配率"),
    "missing": ("missing", "缺失"),
    "limit_here": ("limit {limit}", "限值 {limit}"),
    "fnmr_discard": ("Error versus discard", "误差与弃图比例"),
    "reject_discard": ("Reject rate versus discard", "拒绝率与弃图比例"),
    "discard": ("share of images discarded, poorest first", "弃图比例（先弃质量最差者）"),
    "fnmr": ("false non-match rate of the rest", "其余应答的误拒率（FNMR）"),
    "rest_rejected": ("non-match rate of the rest", "其余应答的不匹配率"),
    "ideal": ("ideal: errors leave first", "理想：先弃出错者"),
    "not_fewer": (
        "without labels: a falling curve need not mean fewer errors",
        "没有标注：曲线下降不等于错误减少",
    ),
    "pauc": ("in brackets: area under the steps up to 0.3", "括号内：0.3 以内的阶梯面积"),
    "null_first": (
        "n = {n:,} · {null:,} without this quality (they leave first) · {out:,} not compared",
        "n = {n:,} · 缺此项 {null:,}（最先弃去）· 未比对 {out:,}",
    ),
    "quality_coaching": ("Which single limit at capture would have helped", "采集端单项限值的效果"),
    "excess": (
        "rejections kept away, beyond those of as many other rows (held-out period)",
        "比同等数量其他应答多移走的被拒数（留出时段）",
    ),
    "price": ("{a:,} turned away, {b:,} of them for nothing", "拦下 {a:,}，其中 {b:,} 本可通过"),
    "face_vs_environment": ("Face image against environment image", "人脸图与环境图"),
    "of_both": ("share of the rows with both graded", "占两图均已评分应答的比例"),
    "equal": ("equal grades", "评分完全相同"),
    "face_higher": ("face higher", "人脸图较高"),
    "env_higher": ("environment higher", "环境图较高"),
    "drift": ("Drift between two periods", "两个时段之间的漂移"),
    "drift_over_time": ("Drift over time", "随时间的漂移"),
    "psi": ("PSI (population stability index)", "PSI（群体稳定性指数）"),
    "critical": ("alert above: max(0.1, critical value)", "告警线：max(0.1, 临界值)"),
    "alert": ("alert", "告警"),
    "smoothed": (
        "hollow: a bin is empty on one side, 0.5 was added to every bin",
        "空心：某一区间单侧为空，各区间均加 0.5",
    ),
    "changed": ("thresholds change", "阈值变更"),
    "n_periods": ("n = {a:,} before, {b:,} now", "此前 n = {a:,}，当前 {b:,}"),
    "per_period": (
        "{a:,} to {b:,} rows a period · {c:,} not compared",
        "每期 {a:,} 至 {b:,} 行 · 未比较 {c:,} 期",
    ),
    "date": ("local date", "本地日期"),
}  # fmt: skip


_OUTCOMES, _COLUMN = ("non_match", "rejected", "attack"), 24


def say(key: str, lang: Lang, joint: str = "  ", **values: Any) -> str:
    """Return a text of these charts; `both` joins English and Chinese by `joint`."""
    en, zh = (part.format(**values) for part in _TEXT[key])
    return {"en": en, "zh": zh}.get(lang, en if en == zh else f"{en}{joint}{zh}")


def lines(key: str, lang: Lang, **values: Any) -> str:
    """Return a text of these charts, in `both` on two lines."""
    return say(key, lang, joint="\n", **values)


def outcome(column: str) -> dict[str, str]:
    """Return the words for an outcome; a column of the caller's is called by its name."""
    en, zh = _TEXT[column] if column in _OUTCOMES else (name(column, _COLUMN),) * 2
    return {"outcome": en, "outcome_zh": zh}
