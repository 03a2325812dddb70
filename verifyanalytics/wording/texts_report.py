"""The texts of the risk report, English and Chinese; see `texts`.

Chinese is written as a risk team writes it: 通过率, 环比, 个百分点, and no space before a
per cent sign.
"""

from __future__ import annotations

from verifyanalytics.wording.words import Say

REPORT: dict[str, Say] = {
    # ---------------------------------------------------------------- the page's head
    "title_week": Say("Identity verification: weekly risk report", "人脸核验风险周报"),
    "title_month": Say("Identity verification: monthly risk report", "人脸核验风险月报"),
    "subtitle": Say("{period}: {first} to {last}, {tz} time",
        "{period}（{first} 至 {last}，{tz} 时间）"),
    "against": Say("; compared with {other}", "，对比{other}"),
    "only_regimes": Say("Only these regimes: {names}.", "仅统计以下阈值组：{names}。"),
    "partial_period": Say("The data cover a part of this period only (they go from {first} to "
        "{last}): its figures are not compared with other periods.",
        "本期数据不完整（数据起止：{first} 至 {last}），不与其他时段作比较。"),
    # ---------------------------------------------------------------- why nothing is compared
    "alone_asked": Say("no comparison was asked for", "未要求对比"),
    "alone_partial": Say("this period is not covered whole", "本期数据不完整"),
    "alone_partial_before": Say("the data cover only a part of {other}", "{other}的数据不完整"),
    "alone_nothing_before": Say("there is no data of {other}", "没有{other}的数据"),
    "alone_undecided": Say("a period has no verdict at all", "有一期没有任何核验结论"),
    # ---------------------------------------------------------------- tiles
    "tile_answers": Say("calls: answers and faults", "调用量"),
    "tile_match": Say("match rate at own 1e-4", "匹配率（1e-4 阈值）"),
    "tile_faults": Say("faults: not answered", "故障率（未作答）"),
    "volume_change": Say("{change} on {other}", "较{other} {change}"),
    "volume_previous": Say("{change} on {other}", "环比 {change}"),
    "rate_change": Say("{points} points ({low}\u00a0to\u00a0{high})",
        "{points} 个百分点（{low}\u00a0至\u00a0{high}）"),
    "rate_interval": Say("95\u00a0% interval {interval}", "95% 区间 {interval}"),
    "no_interval": Say("nothing to count", "无可统计的数据"),
    # ---------------------------------------------------------------- in short
    "in_short": Say("In short", "要点"),
    "acceptance_up": Say("Acceptance rose from {before} to {now}: {points} points (95\u00a0% "
        "interval {low} to {high}).",
        "通过率由 {before} 升至 {now}，变化 {points} 个百分点（95% 区间 {low} 至 {high}）。"),
    "acceptance_down": Say("Acceptance fell from {before} to {now}: {points} points (95\u00a0% "
        "interval {low} to {high}).",
        "通过率由 {before} 降至 {now}，变化 {points} 个百分点（95% 区间 {low} 至 {high}）。"),
    "acceptance_none": Say("No evidence of change in acceptance: {before} in {other}, now {now} ("
        "{points} points, 95\u00a0% interval {low} to {high}). With this volume a change of "
        "{smallest} points or more would have shown (80\u00a0% power).",
        "没有证据表明通过率发生变化：{other} {before}，本期 {now}（{points} 个百分点，95% 区间 "
        "{low} 至 {high}）。以本期样本量，变化达到 {smallest} 个百分点才可检出（检验效能 80%）。"),
    "acceptance_alone": Say("Acceptance was {now} (95\u00a0% interval {interval}) of {n} answer"
        "{n_s} with a verdict. Not compared: {why}.",
        "通过率为 {now}（95% 区间 {interval}），共 {n} 条有核验结论。未作对比：{why}。"),
    "acceptance_nothing": Say("No answer of this period has a verdict: there is no acceptance "
        "rate.",
        "本期没有任何核验结论，无法计算通过率。"),
    "explained": Say("Of the difference, {mix} points come from who came (the mix by {by}) and "
        "{rate} points from how they fared (the rates within each group); this is arithmetic, "
        "without intervals.",
        "其中 {mix} 个百分点来自客群结构变化（按 {by} 划分），{rate} 个百分点来自组内通过率变化；此"
        "为算术分解，不附区间。"),
    "reasons_top": Say("Main reasons for turning people away, as shares of the answers with a "
        "verdict: {names}.",
        "被拒的主要原因（占有核验结论应答的比例）：{names}。"),
    "reason_share": Say("{gate} {share}", "{gate} {share}"),
    "reasons_up": Say("More often than in {other}: {names}.", "较{other}增多：{names}。"),
    "reasons_down": Say("Less often than in {other}: {names}.", "较{other}减少：{names}。"),
    "reasons_same": Say("For no reason is there evidence of change against {other}; the table says "
        "what would have shown.",
        "与{other}相比，各原因的拒绝比例均无变化证据；可检出的幅度见下表。"),
    "reason_points": Say("{gate} ({points} points, {low} to {high})",
        "{gate}（{points} 个百分点，{low} 至 {high}）"),
    "nobody": Say("Nobody was turned away: verdicts without a no, n = {n}.",
        "无人被拒：{n} 条有核验结论的应答全部通过。"),
    "no_verdicts": Say("No answer of this period has a verdict: nobody can be said to have been "
        "turned away.",
        "本期没有任何核验结论，无从统计被拒原因。"),
    "regimes_same": Say("The vendor's thresholds are those of {other}.",
        "厂商阈值与{other}相同，无变更。"),
    "regimes_same_named": Say("But for regimes of fewer than {least} calls, the vendor's "
        "thresholds are those of {other}.",
        "除调用量少于 {least} 次的阈值组外，厂商阈值与{other}相同。"),
    "regimes_rest": Say("The other thresholds are those of {other}.", "其余阈值与{other}相同。"),
    "regimes_nothing": Say("No answer names four rising thresholds: there are none to compare "
        "scores with.",
        "没有任何应答返回四个完整且递增的阈值，无法按阈值统计。"),
    "regimes_small": Say("No threshold regime that is in both periods has {least} calls or more in "
        "each: none is named.",
        "没有任何阈值组在各期均达到 {least} 次调用，故不单独列出。"),
    "regimes_new": Say("The vendor's thresholds changed: {name} appeared on {when}.",
        "厂商阈值有变更：{name} 自 {when} 起出现。"),
    "regimes_first": Say("The vendor sends thresholds where it sent none: {name}, first on {when}.",
        "厂商开始返回阈值：{name}，首次出现于 {when}。"),
    "regimes_key_new": Say("A kind of request that was not called before: {name}, first on {when}.",
        "新的请求类型：{name}，首次调用于 {when}。"),
    "regimes_gone": Say("The vendor no longer sends {name}.", "阈值组 {name} 已不再返回。"),
    "regimes_key_gone": Say("A kind of request that was not called in this period: {name}.",
        "本期未调用的请求类型：{name}。"),
    "regimes_alone": Say("Threshold regimes in this period: {names}.", "本期的阈值组：{names}。"),
    "regimes_within": Say("The vendor's thresholds changed within this period: {name} appeared on "
        "{when}.",
        "本期内厂商阈值有变更：{name} 自 {when} 起出现。"),
    "tags_some": Say("Risk tags that go with non-matches: {names}. An association, not a proof of "
        "fraud.",
        "与分数不匹配相关的风险标签：{names}。仅为相关性，不等于欺诈证据。"),
    "tag_lifted": Say("{tag} {name} (lift {lift}, {low} to {high}; n = {n})",
        "{tag} {name}（提升度 {lift}，{low} 至 {high}；n = {n}）"),
    "lift_with_limits": Say("{lift} ({low}–{high})", "{lift}（{low}–{high}）"),
    "tags_none": Say("There is no evidence that any risk tag goes with non-matches (n = {n}, {x} "
        "of them non-matches).",
        "没有证据表明任何风险标签与分数不匹配相关（n = {n}，其中 {x} 条不匹配）。"),
    "tags_not_asked": Say("No call of this period has a risk result: nothing is known of risk "
        "tags.",
        "本期没有任何风险结果，风险标签情况未知。"),
    "tags_absent": Say("No risk tag was set: risk results without any tag, n = {n}.",
        "本期未出现任何风险标签（有风险结果的应答 n = {n}）。"),
    "tags_blind": Say("Whether risk tags go with non-matches cannot be seen: of compared answers "
        "with a risk result (n = {n}), {x} are non-matches.",
        "无法判断风险标签与分数不匹配是否相关：有风险结果的已比对应答 n = {n}，其中 {x} 条不匹"
        "配。"),
    "tags_small": Say("No risk tag is on {least} compared answers or more: nothing can be said of "
        "any.",
        "没有任何风险标签达到 {least} 条已比对应答，无法下结论。"),
    "tags_untested": Say("Persons are not known here, so no tag's association with non-matches is "
        "called significant.",
        "数据中没有用户标识，无法按人检验，故不对任何标签的相关性下显著性结论。"),
    "quality_fine": Say("Data quality: nothing stands out.", "数据质量：未见异常。"),
    "quality_some": Say("Data quality: {names}.", "数据质量：{names}。"),
    "q_found": Say("{name} {x} / {n}", "{name} {x} / {n}"),
    "q_more": Say("(more than in {other})", "（高于{other}）"),
    "q_rejects": Say("unreadable responses of the whole store {n}", "全库无法解析的应答 {n} 条"),
    "q_undated": Say("its answers without a known time {n}", "全库时间未知的应答 {n} 条"),
    # ---------------------------------------------------------------- key figures
    "key_figures": Say("Key figures", "核心指标"),
    "c_figure": Say("figure", "指标"),
    "c_now": Say("{period}\n(95\u00a0% interval)", "{period}\n（95% 区间）"),
    "c_difference": Say("difference, points\n(95\u00a0% interval)", "变化，百分点\n（95% 区间）"),
    "c_reading": Say("reading", "判断"),
    "f_acceptance": Say("accepted: {x} of {n} with a verdict",
        "通过：有核验结论 {n} 条中的 {x} 条"),
    "f_match": Say("matched at own 1e-4: {x} of {n} compared",
        "匹配（自身 1e-4 阈值）：已比对 {n} 条中的 {x} 条"),
    "f_match_withheld": Say("matched at own 1e-4: {x} of {n} compared; withheld scores, not "
        "matched: {withheld}",
        "匹配（自身 1e-4 阈值）：已比对 {n} 条中的 {x} 条；分数未返回、计为不匹配：{withheld} 条"),
    "f_faults": Say("faults: {x} of {n} calls", "故障：{n} 次调用中的 {x} 次"),
    "up": Say("higher", "上升"),
    "down": Say("lower", "下降"),
    "none": Say("no evidence of change\n(≥\u00a0{smallest} would show)",
        "无变化证据（≥\u00a0{smallest}\u00a0可检出）"),
    "none_blunt": Say("no evidence of change", "无变化证据"),
    # ---------------------------------------------------------------- gates
    "turned_away": Say("Why people were turned away: the first gate that failed",
        "被拒原因：首个未通过的关口"),
    "c_gate": Say("first gate that failed", "首个未通过的关口"),
    "c_share": Say("share\n(95\u00a0% interval)", "占比\n（95% 区间）"),
    "c_split": Say("mix / rate", "结构 / 组内"),
    "gate_answered": Say("not answered, yet a verdict", "未作答却有结论"),
    "gate_scored": Say("no comparison score", "无比对分数"),
    "gate_alive": Say("liveness failed", "活体未通过"),
    "gate_match": Say("score below own 1e-4 threshold", "分数低于自身 1e-4 阈值"),
    "gate_risk": Say("risk score too high", "风险分过高"),
    "gate_unknown": Say("unknown (an input is missing)", "未知（缺少判定输入）"),
    "gate_none": Say("unexplained (all gates pass)", "原因不明（各关口均通过）"),
    "turned_note": Say("Shares of the {n} answer{n_s} with a verdict; accepted although a gate "
        "failed: {despite}; without a verdict: {open}. Mix and rate split the difference by {by}: "
        "mix is who came, rate how they fared.",
        "占比的分母为 {n} 条有核验结论的应答；另有 {despite} 条未过关口却仍通过，{open} 条无核验结"
        "论。“结构”与“组内”为按 {by} 分解的变化：前者来自客群结构，后者来自组内比率。"),
    "turned_note_alone": Say("Shares of the {n} answer{n_s} with a verdict; accepted although a "
        "gate failed: {despite}; without a verdict: {open}.",
        "占比的分母为 {n} 条有核验结论的应答；另有 {despite} 条未过关口却仍通过，{open} 条无核验结"
        "论。"),
    # ---------------------------------------------------------------- groups
    "by_groups": Say("By {by}", "按 {by} 划分"),
    "c_acceptance": Say("acceptance, {period}\n(95\u00a0% interval)",
        "{period}通过率\n（95% 区间）"),
    "c_decided": Say("with a\nverdict", "有结论"),
    "c_of_all": Say("of all", "占比"),
    "c_contribution": Say("adds to the change,\npoints: mix / rate", "对总变化的贡献\n结构 / 组内"),
    "g_small": Say("{n} small group{n_s}", "{n} 个小组（合并）"),
    "g_more": Say("{n} more group{n_s}", "其余 {n} 组"),
    "g_all": Say("all", "合计"),
    "g_note": Say("Groups with fewer than {least} answers in a period are not shown by themselves, "
        "nor is the next larger one when it would give them away.",
        "任一期少于 {least} 条的小组不单独列出；若可由合计倒推，则次小的组一并隐藏。"),
    # ---------------------------------------------------------------- regimes
    "regimes": Say("Threshold regimes", "厂商阈值组"),
    "c_regime": Say("request kind and thresholds at 1e-3/1e-4/1e-5/1e-6",
        "请求类型与 1e-3/1e-4/1e-5/1e-6 阈值"),
    "c_first": Say("first seen in the period", "本期首次出现"),
    "c_n_now": Say("calls,\n{period}", "{period}\n调用量"),
    "c_state": Say("state", "状态"),
    "s_new": Say("new thresholds", "阈值变更"),
    "s_first": Say("first thresholds", "首次返回阈值"),
    "s_key_new": Say("new kind of request", "新请求类型"),
    "s_gone": Say("no longer sent", "不再返回"),
    "s_key_gone": Say("not called", "本期未调用"),
    "s_same": Say("as before", "未变"),
    "regimes_more": Say("Regimes not listed: {n}.", "另有 {n} 个阈值组未列出。"),
    "empty": Say("(empty)", "（空）"),
    "no_tag": Say("no tag {tag}", "无标签 {tag}"),
    "named_count": Say("{name} {n}", "{name} {n}"),
    # ---------------------------------------------------------------- tags
    "tags_by_lift": Say("Risk tags by lift against non-matches", "风险标签：对分数不匹配的提升度"),
    "c_tag": Say("tag", "标签"),
    "c_meaning": Say("meaning", "含义"),
    "c_lift": Say("lift\n(95\u00a0% interval)", "提升度\n（95% 区间）"),
    "c_tag_share": Say("share,\n{period}", "{period}\n占比"),
    "tags_note": Say("Lift: how many times as often non-matches occur with the tag as on average, "
        "over {n} compared answer{n_s} with a risk result; tags on {least} answers or more, the "
        "surest first. Without labels this is an association. Without a risk result: {n_not_asked}"
        ".",
        "提升度：带该标签时不匹配的比例与平均水平之比，基于 {n} 条有风险结果的已比对应答；仅列应答"
        "数不少于 {least} 的标签，按区间下限排序。无标注时仅为相关性。另有 {n_not_asked} 条无风险结"
        "果。"),
    # ---------------------------------------------------------------- data quality
    "quality": Say("Data quality", "数据质量"),
    "c_check": Say("check", "检查项"),
    "d_faults": Say("calls not answered (faults)", "未作答的调用（故障）"),
    "d_undecided": Say("answers without a verdict", "无核验结论的应答"),
    "d_incomplete": Say("answers without four rising thresholds", "四个阈值不全或不递增的应答"),
    "d_no_risk": Say("calls without a risk result", "无风险结果的调用"),
    "d_despite": Say("accepted although a gate fails", "未过关口却仍通过"),
    "d_issues": Say("answers with a value not as documented", "有字段与接口文档不符的应答"),
    "d_days": Say("days without any call", "没有任何调用的天数"),
    "d_latency": Say("vendor's time, median / 95\u00a0% / 99\u00a0%",
        "厂商耗时：中位数 / 95% / 99%"),
    "d_store": Say("Whole store, all periods: {rejects} of {read} responses could not be read, "
        "{undated} of {stored} answers have no known time and are in no period.",
        "全库（不分时段）：{read} 条应答中 {rejects} 条无法解析，{stored} 条入库应答中 {undated} 条"
        "时间未知，未计入任何一期。"),
    "d_fine": Say("Looked for and not found: {names}.", "已检查且未发现：{names}。"),
    "reject_encoding": Say("not UTF-8", "编码不是 UTF-8"),
    "reject_syntax": Say("not JSON", "不是合法 JSON"),
    "reject_depth": Say("nested too deep", "嵌套过深"),
    "reject_size": Say("too large", "过大"),
    "reject_number": Say("a number out of range", "数值超出范围"),
    "reject_not_a_response": Say("not a response", "不是核验应答"),
    "reject_type": Say("a field of the wrong type", "字段类型错误"),
    "reject_conflict": Say("another content under a known id", "同一编号内容不一致"),
    "reject_source": Say("the source broke off", "来源中断"),
    "d_reasons": Say("Unreadable responses by reason: {names}.", "无法解析的原因：{names}。"),
    "d_issue_names": Say("Not as documented: {names}.", "与接口文档不符的字段：{names}。"),
    "rules_heading": Say("What the vendor's verdict seems to follow", "厂商结论可能遵循的规则"),
    "rules": Say("The simple rule that agrees best with the verdict, per regime. A rule that "
        "agrees is not proved to be the vendor's.",
        "各阈值组中与核验结论最一致的简单规则。吻合并不证明厂商即按此判定。"),
    "rule": Say("{regime}: {rule} ({agreement} of {n})",
        "{regime}：{rule}（{n} 条中吻合 {agreement}）"),
    # ---------------------------------------------------------------- charts
    "charts": Say("Charts", "图表"),
    "figure": Say("Figure {n}. {text}", "图 {n}　{text}"),
    "fig_trend": Say("Acceptance by {every}, times of {tz}.", "按{every}的通过率（{tz} 时间）。"),
    "alt_trend": Say("Line chart: acceptance over {n} period{n_s} up to {period}, between {low} "
        "and {high}; {now} in the last one.",
        "折线图：截至{period}的 {n} 期通过率，介于 {low} 与 {high} 之间，最近一期为 {now}。"),
    "fig_funnel": Say("Where calls were lost, gate by gate, in {period}. Shares are of all {n} "
        "calls, those on the first page of the answers with a verdict.",
        "{period}各关口的流失。占比的分母为全部 {n} 次调用；首页的分母为有核验结论的应答。"),
    "alt_funnel": Say("Bar chart: of {n} call{n_s}, answers and faults, {accepted} passed every "
        "gate and were accepted; largest loss: {worst}.",
        "条形图：{n} 次调用中 {accepted} 次过各关口并通过；流失最多的环节：{worst}。"),
    "lost_most": Say("{gate}, {lost}", "{gate}，{lost} 次"),
    "lost_nothing": Say("none", "无"),
    "fig_reasons": Say("The most frequent reasons in {period}, coloured by the gate that failed "
        "first; a bar for each set of gates that failed together.",
        "{period}最常见的未通过原因，按首个未通过的关口着色；同时未通过的关口组合各占一条。"),
    "alt_reasons": Say("Bar chart of reasons; the most frequent accounts for {share} of {n} "
        "answers not accepted.",
        "未通过原因条形图：最常见的一项占 {n} 条未通过应答的 {share}。"),
    "fig_scores": Say("Scores in {period} against the vendor's thresholds; regimes are never "
        "pooled.",
        "{period}的分数分布与厂商阈值；不同阈值组不合并。"),
    "alt_scores": Say("Histogram of {n} score{n_s} in {k} regime{k_s}, with the four thresholds of "
        "each.",
        "{k} 个阈值组共 {n} 个分数的直方图，并标出各组四个阈值。"),
    "fig_match": Say("Match rate at the vendor's own thresholds in {period}.",
        "{period}在厂商各阈值下的匹配率。"),
    "alt_match": Say("Line chart: match rate of {k} regime{k_s} at the claimed false-match rates "
        "1e-3 to 1e-6.",
        "折线图：{k} 个阈值组在标称误识率 1e-3 至 1e-6 处的匹配率。"),
    "fig_thresholds": Say("The vendor's thresholds over the last periods; a dashed rule is a "
        "change.",
        "近期厂商阈值的变化；虚线为变更时刻。"),
    "alt_thresholds": Say("Step chart of the four thresholds over time; {k} regime{k_s} shown.",
        "四个阈值随时间变化的阶梯图，共出现 {k} 个阈值组。"),
    "fig_bounds": Say("What can be said without labels in {period}: read the band of the k that "
        "you believe.",
        "{period}在没有标注时可得的结论：按您认可的 k 读对应色带。"),
    "alt_bounds": Say("Bands for k = 1, 3, 10 in {k} regime{k_s}: upper limits of false matches, "
        "and limits of the share of owners turned away, by threshold.",
        "{k} 个阈值组在 k = 1、3、10 时的色带：各阈值下误识数上限与拒真率的上下限。"),
    "fig_tags": Say("How often each risk tag was set in {period}.",
        "{period}各风险标签的出现比例。"),
    "alt_tags": Say("Dot chart of {k} risk tag{k_s} over {n} answer{n_s} with a risk result.",
        "{n} 条有风险结果的应答中 {k} 个风险标签的出现比例点图。"),
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
    "h_interval": Say("Intervals are 95\u00a0%: Wilson's for rates (exact ones for few events), "
        "Newcombe's for differences. Sample sizes are reduced by the design effect of the "
        "acceptance rate, because one person's tries are alike. Of twenty lines without any change "
        "about one will look changed. Numbers of calls are counted whole, not sampled, and have no "
        "interval.",
        "区间均为 95% 置信区间：比率用 Wilson 法（事件很少时用精确法），差值用 Newcombe 法；同一用"
        "户的多次尝试彼此相似，样本量已按通过率的设计效应折减。即便毫无变化，每二十行也约有一行会显"
        "示为有变化。调用量为全量计数而非抽样，故不附区间。"),
    "h_nobody": Say("Persons are not known in this period: intervals take attempts as independent, "
        "and are too narrow where people try again.",
        "本期没有用户标识：区间按各次尝试相互独立计算，若存在重试则偏窄。"),
    "h_change": Say("“No evidence of change” is not “no change”: the smallest change beside it is "
        "what this volume shows in four of five cases.",
        "“无变化证据”不等于“没有变化”：其后的最小变化，是以本期样本量有八成把握检出的幅度。"),
    "h_mix": Say("Mix and rate: Kitagawa's split of a difference into who came and how they fared; "
        "the two add up to it. The split is arithmetic and has no interval.",
        "“结构”与“组内”：按 Kitagawa 方法把变化拆成客群结构与组内比率两部分，二者之和即为总变化；此"
        "为算术分解，不附区间。"),
    "h_gates": Say("Gates in order: answered, scored, alive, match (score at or above the answer's "
        "own 1e-4 threshold), risk. The vendor's verdict is compared with them, never derived from "
        "them.",
        "关口依次为：已作答、有分数、活体、匹配（分数不低于该次返回的 1e-4 阈值）、风险。厂商结论只"
        "与关口对照，从不由关口推算。"),
    "h_regime": Say("A regime is the request kind with its four thresholds. Scores are never "
        "pooled across regimes; a rate “at own 1e-4” holds each answer against its own threshold.",
        "阈值组指请求类型及其四个阈值。不同阈值组的分数从不合并；“1e-4 阈值匹配率”以每条应答各自的"
        "阈值判定。"),
    "h_bounds": Say("Without labels nothing here is a measured error rate. Bounds speak of "
        "zero-effort false matches only: no presentation or injection attack, no look-alike.",
        "没有标注时，本报告中没有任何实测错误率。界限仅涉及随机他人的误识，不含呈现攻击、注入攻击与"
        "相似人脸。"),
}  # fmt: skip
