"""Every statistic says which it is."""

from __future__ import annotations

import inspect
import pickle
from operator import attrgetter

import pandas as pd
import pytest

import verifyanalytics as va
from verifyanalytics.analysis.base.statistic import statistic

STATISTICS = [
    name
    for group in va._GROUPS
    for name in (f"{group}.{function}" for function in getattr(va, group).__all__)
    if inspect.isfunction(attrgetter(name)(va))
    and inspect.signature(attrgetter(name)(va)).return_annotation == "pd.DataFrame"
]


@pytest.mark.parametrize("name", STATISTICS)
def test_a_statistic_is_marked_with_its_own_group_and_name(name):
    assert inspect.getclosurevars(attrgetter(name)(va)).nonlocals["name"] == name


def test_the_mark_survives_what_an_analyst_does_with_a_frame():
    @statistic("scores.some")
    def some() -> pd.DataFrame:
        return pd.DataFrame({"n": [1, 2], "regime": ["a", "b"]})

    table = some()
    for kept in (
        table[table["n"] > 1],
        table[["n"]],
        table.copy(),
        table.sort_values("n"),
        table.assign(n=0),
        table.reset_index(drop=True),
        pd.concat([some(), some()]),
        pickle.loads(pickle.dumps(table)),
    ):
        assert kept.attrs == {"statistic": "scores.some"}


def test_a_mark_takes_no_part_in_comparing_joining_or_aggregating_frames():
    @statistic("scores.some")
    def some() -> pd.DataFrame:
        return pd.DataFrame({"n": [1, 2]})

    plain = pd.DataFrame({"n": [1, 2]})
    pd.testing.assert_frame_equal(some(), plain)
    assert pd.concat([some(), plain])["n"].tolist() == [1, 2, 1, 2]
    assert some().merge(plain, on="n")["n"].tolist() == [1, 2]
    assert some().groupby("n").size().tolist() == [1, 1]
