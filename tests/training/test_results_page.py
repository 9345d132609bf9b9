"""The figures on the page of systems are those that training.evaluate kept, and no others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("sklearn")

from training.results import Result, read_results

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| .* \| `(?:system-)?(?P<config>[\w-]+)\.toml`[^|]* \| (?P<figure>[^|]+) \|$", re.MULTILINE)


def kept() -> dict[str, Result]:
    """FER+ valid accuracy by the name of the configuration; AGCM's embedding sizes have one each."""
    found = {}
    for each in read_results(ROOT / "docs" / "results"):
        if (each.dataset, each.split, each.metric) == ("ferplus", "valid", "accuracy"):
            size = f"-m{each.embedding}" if each.system == "agcm" and each.embedding != 16 else ""
            found[each.system + size] = each
    return found


def test_every_figure_of_a_system_was_measured() -> None:
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    rows = {match["config"]: match["figure"].strip() for match in ROW.finditer(page)}
    assert len(rows) > 10
    results = kept()
    for config, figure in rows.items():
        if config in results:
            assert figure == f"{100 * results[config].value:.1f} %", config
        else:
            assert figure == "not run yet", config
