"""Options with a form of their own."""

from __future__ import annotations

import pytest

from verifyanalytics.cli.options import MaxRejected, pairs
from verifyanalytics.errors import UsageError


@pytest.mark.parametrize(
    ("text", "rejected", "read", "exceeded"),
    [
        ("0", 0, 0, False),
        ("0", 1, 100, True),
        ("5", 5, 10, False),
        ("5", 6, 10**9, True),
        ("1%", 10, 1000, False),
        ("1%", 11, 1000, True),
        ("0%", 1, 1000, True),
        ("100%", 1000, 1000, False),
    ],
)
def test_max_rejected(text, rejected, read, exceeded):
    assert MaxRejected.parse(text).exceeded(rejected=rejected, read=read) is exceeded


@pytest.mark.parametrize("text", ["", "x", "-1", "-1%", "101%", "nan%", "1.5", "1e999%", "%"])
def test_max_rejected_refuses(text):
    with pytest.raises(UsageError, match="give a count such as 10"):
        MaxRejected.parse(text)


def test_pairs():
    assert pairs(["app=2.1", "note=a=b", "empty="], "--context") == {
        "app": "2.1",
        "note": "a=b",
        "empty": "",
    }
    for words in (["app"], ["=x"], ["a=1", "a=2"]):
        with pytest.raises(UsageError, match="--context"):
            pairs(words, "--context")
