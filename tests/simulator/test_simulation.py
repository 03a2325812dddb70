"""A simulation: columns, seeds and sizes."""

from __future__ import annotations

import pytest

from verifyanalytics.errors import UsageError
from verifyanalytics.simulator import (
    COLUMNS,
    Simulation,
    simulate_responses,
)


def test_columns_do_not_depend_on_which_are_asked_for():
    simulation = simulate_responses(1000, seed=5)
    whole = simulation.table()
    for name in ("score", "env_clarity", "risk_tags", "month"):
        assert simulation.table([name])[name] == whole[name]
    with pytest.raises(UsageError, match="no simulated column skore"):
        simulation.table(["skore"])


def test_seeds_differ_and_repeat():
    lines = [list(simulate_responses(50, seed)) for seed in (1, 1, 2, -3)]
    assert lines[0] == lines[1]
    assert lines[0] != lines[2] != lines[3]


def test_empty_and_tiny_simulations():
    assert list(simulate_responses(0)) == []
    assert simulate_responses(0).table().column_names == list(COLUMNS)
    assert len(simulate_responses(0).labels) == 0
    assert len(list(simulate_responses(1))) == len(simulate_responses(1)) == 1
    with pytest.raises(UsageError, match="n is -1"):
        Simulation(-1)
