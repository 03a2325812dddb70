"""The words of a report, in English and Chinese.

Chinese is written as a risk team writes it: 通过率, 环比, 个百分点, and no space before a per cent
sign. Nothing here knows a figure; nothing elsewhere writes a sentence.
"""

from __future__ import annotations

from typing import Any

from verifyanalytics._report_blocks import Say

_NBSP = "\u00a0"

_TEXT: dict[str, Say] = {
    # ---------------------------------------------------------------- the page's head
    "title_week": Say("Identity verification: weekly risk report", "人脸核验风险周报"),
    "title_month": Say("Identity verification: monthly risk report", "人脸核验风险月报"),
    "subtitle": Say(
        "{period}: {first} to {last}, {tz} time",
        "{period}（{first} 至 {last}，{tz} 时间）",
    ),
    "against": Say("; compared with {other}", "，对比{other}"),
    "only_regimes": Say("Only these regimes: {names}.", "仅统计以下阈值组：{names}。"),
    "partial": Say(
        "The data cover a part of this period only ({first} to {last}): its figures are not "
        "compared with other periods.",
        "本期数据不完整（仅覆盖 {first} 至 {last}），不与其他时段作比较。",
    ),
    # ---------------------------------------------------------------- why nothing is compared
    "alone_asked": Say("no comparison was asked for", "未要求对比"),
    "alone_partial": Say("this period is not covered whole", "本期数据不完整"),
    "alone_partial_before": Say("the data cover only a part of {other}", "{other}的数据不完整"),
    "alone_nothing_before": Say("there is no data of {other}", "没有{other}的数据"),
    "alone_undecided": Say("a period has no verdict at all", "有一期没有任何核验结论"),
    # ---------------------------------------------------------------- tiles
    "tile_answers": Say("calls: answers and faults", "调用量"),
    "tile_acceptance": Say("acceptance rate", "通过率"),
    "tile_match": Say("match rate at own 1e-4", "匹配率（1e-4 阈值）"),
    "tile_faults": Say("faults: not answered", "故障率（未作答）"),
    "volume_change": Say("{change} on {other}", "较{other} {change}"),
    "volume_previous": Say("{change} on {other}", "环比 {change}"),
    "rate_change": Say(
        "{points} points ({low}{nbsp}to{nbsp}{high})",
        "{points} 个百分点（{low}{nbsp}至{nbsp}{high}）",
    ),
    "rate_interval": Say("95{nbsp}% interval {interval}", "95% 区间 {interval}"),
    "no_interval": Say("nothing to count", "无可统计的数据"),
    # ---------------------------------------------------------------- in short
    "in_short": Say("In short", "要点"),
    "acceptance_up": Say(
        "Acceptance rose from {before} to {now}: {points} points (95{nbsp}% interval {low} "
        "to {high}).",
        "通过率由 {before} 升至 {now}，变化 {points} 个百分点（95% 区间 {low} 至 {high}）。",
    ),
    "acceptance_down": Say(
        "Acceptance fell from {before} to {now}: {points} points (95{nbsp}% interval {low} "
        "to {high}).",
        "通过率由 {before} 降至 {now}，变化 {points} 个百分点（95% 区间 {low} 至 {high}）。",
    ),
    "acceptance_none": Say(
        "No evidence of change in acceptance: {before} in {other}, now {now} ({points} points, "
        "95{nbsp}% interval {low} to {high}). With this volume a change of {smallest} points "
        "or more would have shown (80{nbsp}% power).",
        "没有证据表明通过率发生变化：{other} {before}，本期 {now}（{points} 个百分点，95% 区间 "
        "{low} 至 {high}）。以本期样本量，变化达到 {smallest} 个百分点才可检出（检验效能 "
        "80%）。",
    ),
    "acceptance_alone": Say(
        "Acceptance was {now} (95{nbsp}% interval {interval}) of {n} answers with a verdict. "
        "Not compared: {why}.",
        "通过率为 {now}（95% 区间 {interval}），共 {n} 条有核验结论。未作对比：{why}。",
    ),
    "acceptance_nothing": Say(
        "No answer of this period has a verdict: there is no acceptance rate.",
        "本期没有任何核验结论，无法计算通过率。",
    ),
    "explained": Say(
        "Of the difference, {mix} points come from who came (the mix by {by}) and {rate} "
        "points from how they fared (the rates within each group).",
        "其中 {mix} 个百分点来自客群结构变化（按 {by} 划分），{rate} 个百分点来自组内通过率变化。",
    ),
    "reasons_top": Say(
        "Main reasons for turning people away, as shares of the answers with a verdict: {names}.",
        "被拒的主要原因（占有核验结论应答的比例）：{names}。",
    ),
    "reason_share": Say(
        "{gate} {share}",
        "{gate} {share}",
    ),
    "reasons_up": Say("More often than in {other}: {names}.", "较{other}增多：{names}。"),
    "reasons_down": Say("Less often than in {other}: {names}.", "较{other}减少：{names}。"),
    "reasons_same": Say(
        "For no reason is there evidence of change against {other}; the table says what would "
        "have shown.",
        "与{other}相比，各原因的拒绝比例均无变化证据；可检出的幅度见下表。",
    ),
    "reason_points": Say(
        "{gate} ({points} points, {low} to {high})",
        "{gate}（{points} 个百分点，{low} 至 {high}）",
    ),
    "regimes_same": Say(
        "The vendor's thresholds are those of {other}.",
        "厂商阈值与{other}相同，无变更。",
    ),
    "regimes_new": Say(
        "The vendor's thresholds changed: {name} appeared on {when}.",
        "厂商阈值有变更：{name} 自 {when} 起出现。",
    ),
    "regimes_gone": Say("The vendor no longer sends {name}.", "阈值组 {name} 已不再返回。"),
    "regimes_alone": Say("Threshold regimes in this period: {names}.", "本期的阈值组：{names}。"),
    "regimes_within": Say(
        "The vendor's thresholds changed within this period: {name} appeared on {when}.",
        "本期内厂商阈值有变更：{name} 自 {when} 起出现。",
    ),
    "tags_some": Say(
        "Risk tags that go with non-matches: {names}. An association, not a proof of fraud.",
        "与分数不匹配相关的风险标签：{names}。仅为相关性，不等于欺诈证据。",
    ),
    "tag_lifted": Say(
        "{tag} {name} (lift {lift}, {low} to {high})",
        "{tag} {name}（提升度 {lift}，{low} 至 {high}）",
    ),
    "tags_none": Say(
        "There is no evidence that any risk tag goes with non-matches.",
        "没有证据表明任何风险标签与分数不匹配相关。",
    ),
    "tags_absent": Say(
        "No answer of this period carries a risk tag.",
        "本期没有任何应答带有风险标签。",
    ),
    "tags_untested": Say(
        "Persons are not known here, so no tag's association with non-matches is called "
        "significant.",
        "数据中没有用户标识，无法按人检验，故不对任何标签的相关性下显著性结论。",
    ),
    "quality_fine": Say("Data quality: nothing stands out.", "数据质量：未见异常。"),
    "quality_some": Say("Data quality: {names}.", "数据质量：{names}。"),
    "q_rejects": Say(
        "{n} responses of the whole store could not be read", "全库有 {n} 条应答无法解析"
    ),
    "q_undated": Say(
        "{n} answers of it have no known time",
        "全库有 {n} 条应答时间未知",
    ),
    "q_despite": Say("{n} accepted although a gate fails", "{n} 条未过关口却仍通过"),
    "q_faults": Say("faults are more frequent than in {other}", "故障率高于{other}"),
    "q_issues": Say("{n} answers have a value not as documented", "{n} 条应答有字段与接口文档不符"),
    "q_empty_days": Say("{n} days without any call", "{n} 天没有任何调用"),
    # ---------------------------------------------------------------- key figures
    "key_figures": Say("Key figures", "核心指标"),
    "c_figure": Say("figure", "指标"),
    "c_now": Say("{period}\n(95{nbsp}% interval)", "{period}\n（95% 区间）"),
    "c_before": Say("{period}", "{period}"),
    "c_difference": Say("difference, points\n(95{nbsp}% interval)", "变化，百分点\n（95% 区间）"),
    "c_reading": Say("reading", "判断"),
    "f_acceptance": Say("accepted, of answers with a verdict", "通过率（占有核验结论的应答）"),
    "f_match": Say(
        "matched at own 1e-4, of those compared",
        "匹配率（自身 1e-4 阈值，占已比对）",
    ),
    "f_faults": Say("faults, of all calls", "故障率（占全部调用）"),
    "up": Say("higher", "上升"),
    "down": Say("lower", "下降"),
    "none": Say(
        "no evidence of change\n(≥{nbsp}{smallest} would show)",
        "无变化证据（≥{nbsp}{smallest}{nbsp}可检出）",
    ),
    "none_blunt": Say("no evidence of change", "无变化证据"),
    # ---------------------------------------------------------------- gates
    "turned_away": Say(
        "Why people were turned away: the first gate that failed",
        "被拒原因：首个未通过的关口",
    ),
    "c_gate": Say("first gate that failed", "首个未通过的关口"),
    "c_answers": Say("answers", "应答数"),
    "c_share": Say("share\n(95{nbsp}% interval)", "占比\n（95% 区间）"),
    "c_split": Say("mix / rate", "结构 / 组内"),
    "gate_answered": Say("not answered, yet a verdict", "未作答却有结论"),
    "gate_scored": Say("no comparison score", "无比对分数"),
    "gate_alive": Say("liveness failed", "活体未通过"),
    "gate_match": Say("score below own 1e-4 threshold", "分数低于自身 1e-4 阈值"),
    "gate_risk": Say("risk score too high", "风险分过高"),
    "gate_unknown": Say(
        "unknown (an input is missing)",
        "未知（缺少判定输入）",
    ),
    "gate_none": Say(
        "unexplained (all gates pass)",
        "原因不明（各关口均通过）",
    ),
    "turned_note": Say(
        "Shares of the {n} answers with a verdict; {despite} accepted ones failed a gate all "
        "the same; {open} answers have no verdict. Mix and rate split the difference by "
        "{by}: mix is who came, rate how they fared.",
        "占比的分母为 {n} 条有核验结论的应答；另有 {despite} 条未过关口却仍通过，{open} 条无"
        "核验结论。“结构”与“组内”为按 {by} 分解的变化：前者来自客群结构，后者来自组内比率。",
    ),
    "turned_note_alone": Say(
        "Shares of the {n} answers with a verdict; {despite} accepted ones failed a gate all "
        "the same; {open} answers have no verdict.",
        "占比的分母为 {n} 条有核验结论的应答；另有 {despite} 条未过关口却仍通过，{open} "
        "条无核验结论。",
    ),
    # ---------------------------------------------------------------- groups
    "by_groups": Say(
        "By {by}",
        "按 {by} 划分",
    ),
    "c_group": Say("{by}", "{by}"),
    "c_acceptance": Say(
        "acceptance, {period}\n(95{nbsp}% interval)", "{period}通过率\n（95% 区间）"
    ),
    "c_decided": Say("with a\nverdict", "有结论"),
    "c_of_all": Say("of all", "占比"),
    "c_contribution": Say(
        "adds to the change,\npoints: mix / rate",
        "对总变化的贡献\n结构 / 组内",
    ),
    "g_small": Say("{n} small groups", "{n} 个小组（合并）"),
    "g_more": Say("{n} more groups", "其余 {n} 组"),
    "g_all": Say("all", "合计"),
    "g_note": Say(
        "Groups with fewer than {least} answers in a period are not shown by themselves, nor "
        "is the next larger one when it would give them away.",
        "任一期少于 {least} 条的小组不单独列出；若可由合计倒推，则次小的组一并隐藏。",
    ),
    # ---------------------------------------------------------------- regimes
    "regimes": Say("Threshold regimes", "厂商阈值组"),
    "c_regime": Say(
        "request kind and thresholds at 1e-3/1e-4/1e-5/1e-6",
        "请求类型与 1e-3/1e-4/1e-5/1e-6 阈值",
    ),
    "c_first": Say("first seen in the period", "本期首次出现"),
    "c_n_now": Say("calls,\n{period}", "{period}\n调用量"),
    "c_state": Say("state", "状态"),
    "s_new": Say("new", "新增"),
    "s_gone": Say("gone", "消失"),
    "s_same": Say("as before", "未变"),
    "regimes_more": Say("{n} more regimes are not listed.", "另有 {n} 个阈值组未列出。"),
    "incomplete": Say("no complete thresholds", "阈值不完整"),
    "unknown": Say("unknown", "未知"),
    # ---------------------------------------------------------------- tags
    "tags": Say("Risk tags by lift against non-matches", "风险标签：对分数不匹配的提升度"),
    "c_tag": Say("tag", "标签"),
    "c_meaning": Say("meaning", "含义"),
    "c_tagged": Say("answers", "应答数"),
    "c_lift": Say("lift\n(95{nbsp}% interval)", "提升度\n（95% 区间）"),
    "c_tag_share": Say("share,\n{period}", "{period}\n占比"),
    "unknown_tag": Say("not in the code book", "不在码表中"),
    "tags_note": Say(
        "Lift: how many times as often non-matches occur with the tag as on average, over "
        "{n} compared answers with a risk result; tags on {least} answers or more, the "
        "surest first. Without labels this is an association. {n_not_asked} answers had no "
        "risk result.",
        "提升度：带该标签时不匹配的比例与平均水平之比，基于 {n} 条有风险结果的已比对应答；仅"
        "列应答数不少于 {least} 的标签，按区间下限排序。无标注时仅为相关性。另有 "
        "{n_not_asked} 条无风险结果。",
    ),
    # ---------------------------------------------------------------- data quality
    "quality": Say("Data quality", "数据质量"),
    "c_check": Say("check", "检查项"),
    "d_incomplete": Say("answers without four rising thresholds", "四个阈值不全或不递增的应答"),
    "d_no_risk": Say("calls without a risk result", "无风险结果的调用"),
    "d_despite": Say("accepted although a gate fails", "未过关口却仍通过"),
    "d_issues": Say("answers with a value not as documented", "有字段与接口文档不符的应答"),
    "d_days": Say("days without any call", "没有任何调用的天数"),
    "d_latency": Say(
        "vendor's time, median / 95{nbsp}% / 99{nbsp}%",
        "厂商耗时：中位数 / 95% / 99%",
    ),
    "d_store": Say(
        "Whole store, all periods: {rejects} of {read} responses could not be read, {undated} of "
        "{stored} answers have no known time and are in no period.",
        "全库（不分时段）：{read} 条应答中 {rejects} 条无法解析，{stored} 条入库应答中 {undated} 条"
        "时间未知，未计入任何一期。",
    ),
    "d_fine": Say("Looked for and not found: {names}.", "已检查且未发现：{names}。"),
    "d_of": Say("{x} / {n}", "{x} / {n}"),
    "d_reasons": Say("Unreadable responses by reason: {names}.", "无法解析的原因：{names}。"),
    "d_issue_names": Say("Not as documented: {names}.", "与接口文档不符的字段：{names}。"),
    "rules_heading": Say("What the vendor's verdict seems to follow", "厂商结论可能遵循的规则"),
    "rules": Say(
        "The simple rule that agrees best with the verdict, per regime. A rule that agrees is not "
        "proved to be the vendor's.",
        "各阈值组中与核验结论最一致的简单规则。吻合并不证明厂商即按此判定。",
    ),
    "rule": Say(
        "{regime}: {rule} ({agreement} of {n})",
        "{regime}：{rule}（{n} 条中吻合 {agreement}）",
    ),
    # ---------------------------------------------------------------- charts
    "charts": Say("Charts", "图表"),
    "figure": Say("Figure {n}. {text}", "图 {n}　{text}"),
    "fig_trend": Say("Acceptance by {every}, times of {tz}.", "按{every}的通过率（{tz} 时间）。"),
    "alt_trend": Say(
        "Line chart: acceptance over {n} periods up to {period}, between {low} and {high}; "
        "{now} in the last one.",
        "折线图：截至{period}的 {n} 期通过率，介于 {low} 与 {high} 之间，最近一期为 {now}。",
    ),
    "fig_funnel": Say(
        "Where answers were lost, gate by gate, in {period}.",
        "{period}各关口的流失。",
    ),
    "alt_funnel": Say(
        "Bar chart: of {n} answers and faults {accepted} were accepted; largest loss: "
        "{gate}, {lost}.",
        "条形图：{n} 次调用中 {accepted} 次通过；流失最多的环节：{gate}，{lost} 次。",
    ),
    "fig_reasons": Say(
        "The most frequent reasons in {period}, coloured by the gate that failed first.",
        "{period}最常见的未通过原因，按首个未通过的关口着色。",
    ),
    "alt_reasons": Say(
        "Bar chart of reasons; the most frequent accounts for {share} of {n} answers not accepted.",
        "未通过原因条形图：最常见的一项占 {n} 条未通过应答的 {share}。",
    ),
    "fig_scores": Say(
        "Scores in {period} against the vendor's thresholds; regimes are never pooled.",
        "{period}的分数分布与厂商阈值；不同阈值组不合并。",
    ),
    "alt_scores": Say(
        "Histogram of {n} scores in {k} regimes, with the four thresholds of each.",
        "{k} 个阈值组共 {n} 个分数的直方图，并标出各组四个阈值。",
    ),
    "fig_match": Say(
        "Match rate at the vendor's own thresholds in {period}.",
        "{period}在厂商各阈值下的匹配率。",
    ),
    "alt_match": Say(
        "Line chart: match rate of {k} regimes at the claimed false-match rates 1e-3 to 1e-6.",
        "折线图：{k} 个阈值组在标称误识率 1e-3 至 1e-6 处的匹配率。",
    ),
    "fig_thresholds": Say(
        "The vendor's thresholds over the last periods; a dotted rule is a change.",
        "近期厂商阈值的变化；虚线为变更时刻。",
    ),
    "alt_thresholds": Say(
        "Step chart of the four thresholds over time; {k} regimes were seen.",
        "四个阈值随时间变化的阶梯图，共出现 {k} 个阈值组。",
    ),
    "fig_bounds": Say(
        "What can be said without labels in {period}: read the band of the k that you believe.",
        "{period}在没有标注时可得的结论：按您认可的 k 读对应色带。",
    ),
    "alt_bounds": Say(
        "Bands for k = 1, 3, 10 in {k} regimes: upper limits of false matches, and limits of "
        "the share of owners turned away, by threshold.",
        "{k} 个阈值组在 k = 1、3、10 时的色带：各阈值下误识数上限与本人被拒比例的上下限。",
    ),
    "fig_tags": Say(
        "How often each risk tag was set in {period}.",
        "{period}各风险标签的出现比例。",
    ),
    "alt_tags": Say(
        "Dot chart of {k} risk tags over {n} answers with a risk result.",
        "{n} 条有风险结果的应答中 {k} 个风险标签的出现比例点图。",
    ),
    "largest": Say(" The {n} largest of {all} regimes.", "仅列 {all} 个阈值组中最大的 {n} 个。"),
    "every_week": Say("week", "周"),
    "every_month": Say("month", "月"),
    # ---------------------------------------------------------------- how it was made
    "made": Say("How this was made", "编制说明"),
    "m_parameters": Say("Parameters", "参数"),
    "c_parameter": Say("parameter", "参数"),
    "c_value": Say("value", "取值"),
    "m_store": Say("version of the store", "数据仓版本"),
    "m_code": Say("version of verifyanalytics", "verifyanalytics 版本"),
    "m_period": Say("period", "统计周期"),
    "m_compare": Say("compared with", "对比周期"),
    "m_nothing": Say("nothing: {why}", "无：{why}"),
    "m_tz": Say("time zone; weeks begin on Monday 00:00", "时区；周从周一 00:00 起"),
    "m_data": Say("the data go from … to", "数据起止"),
    "m_by": Say("groups", "分组"),
    "m_regimes": Say("regimes", "阈值组"),
    "m_all": Say("all", "全部"),
    "m_least": Say("smallest group shown", "可单独列出的最小组"),
    "m_book": Say("code book", "码表"),
    "m_builtin": Say("built in", "内置"),
    "m_own": Say("built in, with entries of one's own", "内置，并含自定义条目"),
    "m_answered": Say("codes that count as answered", "计入已作答的错误码"),
    "m_risk_fail": Say("risk score that fails", "判为不通过的风险分"),
    "m_deff": Say("design effect, this period / the other", "设计效应（本期 / 对比期）"),
    "m_persons": Say("persons known, this period", "本期可识别的用户数"),
    "m_again": Say("the same report again", "重新生成本报告"),
    "m_read": Say("How to read it", "阅读说明"),
    "h_interval": Say(
        "Intervals are 95{nbsp}%: Wilson's for rates (exact ones for few events), Newcombe's for "
        "differences. Sample sizes are reduced by the design effect of the acceptance rate, "
        "because one person's tries are alike. Of twenty lines without any change about one will "
        "look changed. Numbers of calls are counted whole, not sampled, and have no interval.",
        "区间均为 95% 置信区间：比率用 Wilson 法（事件很少时用精确法），差值用 Newcombe 法；同一"
        "用户的多次尝试彼此相似，样本量已按通过率的设计效应折减。即便毫无变化，每二十行也约有一行会"
        "显示为有变化。调用量为全量计数而非抽样，故不附区间。",
    ),
    "h_nobody": Say(
        "Persons are not known in this period: intervals take attempts as independent, and "
        "are too narrow where people try again.",
        "本期没有用户标识：区间按各次尝试相互独立计算，若存在重试则偏窄。",
    ),
    "h_change": Say(
        "“No evidence of change” is not “no change”: the smallest change beside it is what "
        "this volume shows in four of five cases.",
        "“无变化证据”不等于“没有变化”：其后的最小变化，是以本期样本量有八成把握检出的幅度。",
    ),
    "h_mix": Say(
        "Mix and rate: Kitagawa's split of a difference into who came and how they fared; "
        "the two add up to it.",
        "“结构”与“组内”：按 Kitagawa 方法把变化拆成客群结构与组内比率两部分，二者之和即为总变化。",
    ),
    "h_gates": Say(
        "Gates in order: answered, scored, alive, match (score at or above the answer's own "
        "1e-4 threshold), risk. The vendor's verdict is compared with them, never derived "
        "from them.",
        "关口依次为：已作答、有分数、活体、匹配（分数不低于该次返回的 1e-4 阈值）、风险。厂商"
        "结论只与关口对照，从不由关口推算。",
    ),
    "h_regime": Say(
        "A regime is the request kind with its four thresholds. Scores are never pooled "
        "across regimes; a rate “at own 1e-4” holds each answer against its own threshold.",
        "阈值组指请求类型及其四个阈值。不同阈值组的分数从不合并；“1e-4 阈值匹配率”以每条应答"
        "各自的阈值判定。",
    ),
    "h_bounds": Say(
        "Without labels nothing here is a measured error rate. Bounds speak of zero-effort "
        "false matches only: no presentation or injection attack, no look-alike.",
        "没有标注时，本报告中没有任何实测错误率。界限仅涉及随机他人的误识，不含呈现攻击、注入"
        "攻击与相似人脸。",
    ),
}


def say(key: str, **values: Any) -> Say:
    """Return a text with its values; each value is words of its own, or a plain text."""
    en, zh = _TEXT[key]
    spoken = [
        {name: _in(value, i) for name, value in values.items()} | {"nbsp": _NBSP} for i in (0, 1)
    ]
    return Say(en.format(**spoken[0]), zh.format(**spoken[1]))


def _in(value: Any, language: int) -> str:
    return str(value[language]) if isinstance(value, Say) else str(value)


def enumerated(items: list[Any]) -> Say:
    """Join words by commas."""
    both = [item if isinstance(item, Say) else Say(str(item), str(item)) for item in items]
    return Say("; ".join(b.en for b in both), "；".join(b.zh for b in both))


_CONDITIONS = {"score >= own 1e-4": "分数 ≥ 自身 1e-4 阈值", "score >= 90": "分数 ≥ 90",
               "risk < 600": "风险分 < 600", "risk < 900": "风险分 < 900",
               "alive": "活体通过"}  # fmt: skip


def rule_words(rule: str) -> Say:
    """Write a rule of `va.result_rule`: its own conditions are said, a tag stays as it is."""
    conditions = rule.split(" and ")
    chinese = [
        _CONDITIONS.get(c, f"无标签 {c[7:]}" if c.startswith("no tag ") else c) for c in conditions
    ]
    return Say(rule.replace(">=", "≥"), "，且".join(chinese))
