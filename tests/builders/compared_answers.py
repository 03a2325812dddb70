"""Stored answers with a score and thresholds, for the verbs that decide."""

from __future__ import annotations

from builders.staged_answers import answer

POINTS = dict(zip(("threshold_1e_3", "threshold_1e_4", "threshold_1e_5", "threshold_1e_6"),
                  (60.0, 70.0, 80.0, 90.0), strict=True))  # fmt: skip


def compared(n):
    score = 40.0 + n
    return answer(n, **POINTS, score=score, result=score >= 70, alive=True, sub_code=0,
                  req_key="cert_pro_src_verify", risk_score=0, risk_tags=[])  # fmt: skip
