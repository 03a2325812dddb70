"""The texts beside the charts of a report, and of its last page; see `_report_words`."""

from __future__ import annotations

from verifyanalytics.reporting.blocks import Say

ENDING: dict[str, Say] = {
    # ---------------------------------------------------------------- charts
    "charts": Say("Charts", "图表"),
    "figure": Say("Figure {n}. {text}", "图 {n}　{text}"),
    "fig_trend": Say("Acceptance by {every}, times of {tz}.", "按{every}的通过率（{tz} 时间）。"),
    "alt_trend": Say(
        "Line chart: acceptance over {n} period{n_s} up to {period}, between {low} and {high}; "
        "{now} in the last one.",
        "折线图：截至{period}的 {n} 期通过率，介于 {low} 与 {high} 之间，最近一期为 {now}。",
    ),
    "fig_funnel": Say(
        "Where calls were lost, gate by gate, in {period}. Shares are of all {n} calls, those "
        "on the first page of the answers with a verdict.",
        "{period}各关口的流失。占比的分母为全部 {n} 次调用；首页的分母为有核验结论的应答。",
    ),
    "alt_funnel": Say(
        "Bar chart: of {n} call{n_s}, answers and faults, {accepted} passed every gate and were "
        "accepted; largest loss: {worst}.",
        "条形图：{n} 次调用中 {accepted} 次过各关口并通过；流失最多的环节：{worst}。",
    ),
    "lost_most": Say("{gate}, {lost}", "{gate}，{lost} 次"),
    "lost_nothing": Say("none", "无"),
    "lost_answered": Say("not answered", "未作答"),
    "lost_no_verdict": Say("all gates pass, no verdict", "各关口均通过但无结论"),
    "fig_reasons": Say(
        "The most frequent reasons in {period}, coloured by the gate that failed first; a bar "
        "for each set of gates that failed together.",
        "{period}最常见的未通过原因，按首个未通过的关口着色；同时未通过的关口组合各占一条。",
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
        "Histogram of {n} score{n_s} in {k} regime{k_s}, with the four thresholds of each.",
        "{k} 个阈值组共 {n} 个分数的直方图，并标出各组四个阈值。",
    ),
    "fig_match": Say(
        "Match rate at the vendor's own thresholds in {period}.",
        "{period}在厂商各阈值下的匹配率。",
    ),
    "alt_match": Say(
        "Line chart: match rate of {k} regime{k_s} at the claimed false-match rates 1e-3 to 1e-6.",
        "折线图：{k} 个阈值组在标称误识率 1e-3 至 1e-6 处的匹配率。",
    ),
    "fig_thresholds": Say(
        "The vendor's thresholds over the last periods; a dashed rule is a change.",
        "近期厂商阈值的变化；虚线为变更时刻。",
    ),
    "alt_thresholds": Say(
        "Step chart of the four thresholds over time; {k} regime{k_s} shown.",
        "四个阈值随时间变化的阶梯图，共出现 {k} 个阈值组。",
    ),
    "fig_bounds": Say(
        "What can be said without labels in {period}: read the band of the k that you believe.",
        "{period}在没有标注时可得的结论：按您认可的 k 读对应色带。",
    ),
    "alt_bounds": Say(
        "Bands for k = 1, 3, 10 in {k} regime{k_s}: upper limits of false matches, and limits of "
        "the share of owners turned away, by threshold.",
        "{k} 个阈值组在 k = 1、3、10 时的色带：各阈值下误识数上限与本人被拒比例的上下限。",
    ),
    "fig_tags": Say(
        "How often each risk tag was set in {period}.",
        "{period}各风险标签的出现比例。",
    ),
    "alt_tags": Say(
        "Dot chart of {k} risk tag{k_s} over {n} answer{n_s} with a risk result.",
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
        "the two add up to it. The split is arithmetic and has no interval.",
        "“结构”与“组内”：按 Kitagawa 方法把变化拆成客群结构与组内比率两部分，二者之和即为总变化；"
        "此为算术分解，不附区间。",
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
