"""What the tuner says, English and Chinese; see `texts`."""

from __future__ import annotations

from verifyanalytics.wording.words import Say

TUNER: dict[str, Say] = {
    "everyone": Say("everyone", "全部"),
    "control_threshold": Say("threshold", "阈值"),
    "control_regime": Say("regime", "阈值组"),
    "control_segment": Say("segment", "分组"),
    "control_language": Say("language", "语言"),
    "code": Say("The same as code (v: your frame; select it and copy)",
        "等价代码（v 为您的数据框；选中后复制）"),
    "code_truth": Say("The same as code (v, {truth}: your frames; select it and copy)",
        "等价代码（v、{truth} 为您的数据框；选中后复制）"),
    "rates": Say("At or above {t}", "分数 ≥ {t}"),
    "n_match": Say("matches of compared", "匹配数／比对数"),
    "answers_without_score": Say("answers without score", "无分数的应答"),
    "claimed_fmr": Say("claimed false-match rate", "厂商标称误识率"),
    "bounds_at_k": Say("Without labels, at k times the claim",
        "无标注的界限（实际误识率为标称的 k 倍）"),
    "bound": Say("false matches ≤ {n} · owners turned away {ends}", "误识 ≤ {n} · 拒真率 {ends}"),
    "bound_below": Say("owners turned away {ends}", "拒真率 {ends}"),
    "m3": Say("{n} (with three tries each: {m3})", "{n}（若每人尝试三次：{m3}）"),
    "covers": Say("Zero-effort strangers only: no attack, no chosen look-alike; no liveness, no "
        "risk gate.",
        "仅限随机他人：不含呈现或注入攻击、刻意挑选的相似人脸；未计入活体与风险判定。"),
    "below_calibration": Say("Below the vendor's 1e-3 threshold nothing is claimed, so false "
        "matches have no bound.",
        "低于厂商 1e-3 阈值时没有标称值，误识数没有界限。"),
    "swap": Say("Against today, the own 1e-4 threshold ({own})", "与现行的 1e-4 阈值（{own}）相比"),
    "swap_both": Say("pass both", "两者均通过"),
    "swap_only_old": Say("would be turned away", "将被拒绝"),
    "swap_only_new": Say("would be let in", "将被放行"),
    "swap_neither": Say("pass neither", "两者均不通过"),
    "swap_unexplained": Say("refused for no known reason", "原因不明的拒绝"),
    "swap_unknown": Say("not known (a gate is missing)", "未知（缺少某一关口）"),
    "reproduced": Say("The gates give the vendor's verdict in {share} of {n} answers.",
        "各关口与厂商结论一致的比例：{share}（共 {n} 条）。"),
    "not_explained": Say("Less than 99\u00a0%: something else decides too.",
        "不足 99%：另有其他因素参与判定。"),
    "truth_unknown": Say("Who of them is who they claim to be is not in these rows.",
        "这些数据不能说明其中谁是本人。"),
    "errors_labelled": Say("With labels (95\u00a0% intervals)", "有标注的错误率（95% 区间）"),
    "fmr_name": Say("FMR", "误识率（FMR）"),
    "fnmr_name": Say("FNMR", "拒真率（FNMR）"),
    "none_seen": Say("< {limit} (one-sided 95\u00a0%)", "< {limit}（单侧 95%）"),
    "rate_of": Say("{rate} ({ends}) · {x} of {n}", "{rate}（{ends}）· {x}／{n}"),
    "not_given": Say("not given · {x} of {n}", "不给出 · {x}／{n}"),
    "selected_labels": Say("The labels look like a selection, so no rate is given: see "
        "va.labels.coverage.",
        "标注疑似经过挑选，因此不给出错误率：参见 va.labels.coverage。"),
    "one_class_empty": Say("One of the two classes has no label.", "两类中有一类没有标注。"),
    "labels taken as random": Say("The labels are taken as random.", "假定标注为随机抽取。"),
    "weighted_rate": Say("Weighted by how likely each row was to be drawn; the counts are not.",
        "比率按各行被抽中的概率加权，计数未加权。"),
    "no_labels": Say("No label stands here.", "此处没有标注。"),
}  # fmt: skip
