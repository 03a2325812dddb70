"""What every test shares: Hypothesis profiles, the nightly switch, a quiet environment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

NIGHTLY = os.environ.get("VERIFYANALYTICS_NIGHTLY") == "1"
ROOT = Path(__file__).resolve().parents[1]

# before anything imports jupyter: no deprecated folders
os.environ.setdefault("JUPYTER_PLATFORM_DIRS", "1")

# the same examples on every machine and every run; a failure repeats by itself
settings.register_profile(
    "default",
    max_examples=60,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("nightly", settings.get_profile("default"), max_examples=20_000)
settings.load_profile("nightly" if NIGHTLY else "default")


SECOND_TIER = {"faults", "browser", "notebooks", "proofs", "reporting", "tuner"}
"""Folders of tests that start programs, simulate many populations, or draw whole pages."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the second tier; skip the long proofs unless the nightly switch is on."""
    skip = pytest.mark.skip(reason="a long proof; set VERIFYANALYTICS_NIGHTLY=1 to run it")
    for item in items:
        if item.path.parent.name in SECOND_TIER:
            item.add_marker(pytest.mark.second_tier)
        if "nightly" in item.keywords and not NIGHTLY:
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def _no_settings_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own store or code book must not leak into a test."""
    for name in ("STORE", "CODEBOOK", "DEBUG", "KEY_FILE"):
        monkeypatch.delenv(f"VERIFYANALYTICS_{name}", raising=False)


@pytest.fixture(scope="session")
def golden() -> Path:
    """Figures computed by other programs, kept beside the repository, not in it."""
    path = ROOT.parent / "shared" / "golden"
    if not path.is_dir():
        pytest.skip("the figures of other programs are not beside this clone")
    return path
