"""A simulation and a service that the tests of a module share."""

from __future__ import annotations

import pytest

from verifyanalytics.simulator import serve, simulate_responses


@pytest.fixture(scope="session")
def usual():
    return simulate_responses(60_000, seed=11)


@pytest.fixture(scope="module")
def service():
    with serve(seed=3) as running:
        yield running
