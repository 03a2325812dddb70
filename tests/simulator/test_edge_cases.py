"""Bad lines are rejected for their reason; odd lines become rows."""

from __future__ import annotations

from collections import Counter

import pytest

from verifyanalytics.parsing.reference import Refusal, read_response
from verifyanalytics.parsing.text import ReadOptions
from verifyanalytics.schema import REJECT_REASONS
from verifyanalytics.simulator import (
    simulate_responses,
)
from verifyanalytics.simulator.edge_cases import bad_lines, odd_lines


@pytest.mark.parametrize("form", ["envelope", "answer"])
def test_bad_lines_are_rejected_for_the_reason_given(form):
    known = list(simulate_responses(4, 1, fault_share=0.0).answers(form))
    lines = bad_lines(known)
    reasons = Counter(reason for _, reason in lines)
    assert len(lines) == 80
    assert set(reasons) == set(REJECT_REASONS) - {"size", "type", "source"}
    for line, reason in lines:
        assert b"\n" not in line
        read = read_response(line, ReadOptions(), source="s", row=1)
        if reason == "conflict":
            before = {
                row["request_id"]: row["content"]
                for row in (read_response(k, ReadOptions(), source="s", row=1) for k in known)
            }
            assert before[read["request_id"]] != read["content"]
        else:
            assert isinstance(read, Refusal), line
            assert read.reason == reason, (line, read)


def test_odd_lines_become_rows():
    rows = [read_response(line, ReadOptions(), source="s", row=1) for line in odd_lines()]
    assert len(rows) == 20
    assert not any(isinstance(row, Refusal) for row in rows)
    assert len({row["request_id"] for row in rows}) == 20
    assert all(row["issues"] or row["extra"] or row["code"] for row in rows)
    assert sum(bool(row["issues"]) for row in rows) >= 10
    strict = [
        read_response(line, ReadOptions(strict=True), source="s", row=1) for line in odd_lines()
    ]
    assert {row.reason for row in strict if isinstance(row, Refusal)} == {"type"}
