"""Tests that start processes, play sound or wait for answers run by themselves; all others may share the cores, so that
no generated example is held to a time."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOMS_WITH_A_CLOCK = {"benchmarks", "e2e", "pipeline", "test_run_live.py"}

settings.register_profile("shared cores", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared cores")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests of these rooms, so that no list of files has to be kept."""
    here = Path(__file__).parent
    for item in items:
        if item.path.relative_to(here).parts[0] in ROOMS_WITH_A_CLOCK:
            item.add_marker("clock")
