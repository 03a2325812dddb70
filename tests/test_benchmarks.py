"""What the benchmarks compare is counted alike both ways: by the package, and by hand in SQL.

That SQL is written for the made-up answers and knows nothing of the package, so it is another road
to the counts of each statistic, through the store and its scan.
"""

import pytest

from benchmarks import analysis
from benchmarks._by_hand import QUESTIONS
from benchmarks._synthetic import build


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    made = build(tmp_path_factory.mktemp("benchmark") / "store", 3000, subjects=400)
    yield made
    made.close()


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.name)
def test_a_statistic_counts_what_sql_by_hand_counts(store, question):
    by_hand = analysis.plain(question.by_hand(analysis.asker(store)))
    assert len(by_hand) > 0
    assert analysis.plain(question.ours(store.scan())) == by_hand


def test_the_table_says_what_was_missed():
    took = {"ours_cpu": 4.0, "ours_wall": 2.0, "ours_peak": 3e8, "hand_cpu": 1.0, "hand_wall": 1.0}
    took |= {"hand_peak": 3e8, "ratio": 1.0, "same": True}
    changes = ({}, {"ratio": 4.0}, {"same": False}, {"ours_peak": 3e9})
    lines = [analysis.line(QUESTIONS[0], took | change) for change in changes]
    assert [line.split()[-1] for line in lines] == ["yes", "MISSED", "NO", "MISSED"]
