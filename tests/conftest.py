"""Tests that start processes, play sound or wait for answers run by themselves; all others may share the cores, so that
no generated example is held to a time. And a GPU that is imagined."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from engines import backend_tensorrt, build, cuda
from engines.tensorrt_compile import Compiled, Library
from tests.engines.fake_gpu import FakeGpu, driver_of, libcuda_of
from tests.engines.fake_tensorrt import tensorrt_of

ROOMS_WITH_A_CLOCK = {"benchmarks", "e2e", "pipeline", "test_run_live.py"}

settings.register_profile("shared cores", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared cores")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests of these rooms, so that no list of files has to be kept."""
    here = Path(__file__).parent
    for item in items:
        if item.path.relative_to(here).parts[0] in ROOMS_WITH_A_CLOCK:
            item.add_marker("clock")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeGpu]:
    """A machine with a GPU, as far as engines can tell."""
    found = FakeGpu()
    package, driver = ModuleType("pycuda"), driver_of(found)
    package.driver = driver  # type: ignore[attr-defined]  # what is imagined has no stub
    monkeypatch.setitem(sys.modules, "pycuda", package)
    monkeypatch.setitem(sys.modules, "pycuda.driver", driver)
    real = ctypes.CDLL

    def open_library(name: str | None, **options: Any) -> Any:
        return libcuda_of(found) if name == "libcuda.so.1" else real(name, **options)

    monkeypatch.setattr(cuda.ctypes, "CDLL", open_library)
    library = Library(tensorrt_of(found), "tensorrt", "0.0")
    monkeypatch.setattr(backend_tensorrt, "library", lambda: library)
    monkeypatch.setattr(build, "compiled", lambda network, *_: Compiled(b"ENGINE" + network, b""))
    monkeypatch.setattr(build, "in_precision", lambda network, _: network)
    monkeypatch.setattr(build.engine_of, "__defaults__", (tmp_path / "engines",))
    yield found
    if found.fail != "lost":  # a GPU that is gone takes nothing back
        assert not found.memory, "memory of the GPU was not given back"
        assert not found.graphs, "recorded work was not given back"
    assert found.contexts == 0, "the context was not left"
