"""Tests that start processes, play sound or wait for answers run by themselves; all others may share the cores."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOMS_WITH_A_CLOCK = {"benchmarks", "e2e", "pipeline"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests of these rooms, so that no list of files has to be kept."""
    here = Path(__file__).parent
    for item in items:
        if item.path.relative_to(here).parts[0] in ROOMS_WITH_A_CLOCK:
            item.add_marker("clock")
