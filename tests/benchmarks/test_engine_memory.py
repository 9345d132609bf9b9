"""Memory is that of a process of its own, in which the engine's library was not loaded before."""

from __future__ import annotations

import numpy as np
import psutil
import pytest

from benchmarks import machine
from benchmarks.engine_memory import memory_of
from benchmarks.machine import gpu_used_mb
from engines.spec import load_model_file


def test_an_engine_grows_a_process_of_its_own_with_its_library_and_the_faces_in_a_call() -> None:
    faces = np.zeros((16, 1, 112, 112), np.float32)
    process, model = psutil.Process(), load_model_file("agcm-live")
    before = process.memory_info().rss
    found = memory_of("onnxruntime", model, "fp32", 1, faces, (16, 1))
    assert list(found) == [1, 16]
    assert found[1].rss_mb > 20.0, "the weights alone are 23 MB"
    assert found[16].rss_mb > found[1].rss_mb + 1.0
    assert {each.gpu_mb for each in found.values()} == {None}
    assert process.memory_info().rss - before < 20e6, "this process loaded nothing"


@pytest.mark.parametrize(("says", "used_mb"), [("1024\n2048", 1073.741824), ("[N/A]", None), ("", None)])
def test_the_memory_of_the_first_gpu_is_what_the_driver_says(
    says: str, used_mb: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_output", lambda *_: says)
    assert gpu_used_mb() == used_mb
