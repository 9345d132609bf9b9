"""A GPU that fails, has no memory left or does not fit: what is said, what is given back, what `auto` takes then."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx")

from engines.backend_onnxruntime import OnnxRuntimeEngine
from engines.backend_tensorrt import TensorRtEngine
from engines.base import DeviceError, EngineError
from engines.choose import choose, load
from engines.spec import ModelFile
from tests.engines.fake_gpu import FakeGpu
from tests.engines.fake_tensorrt import crops


@pytest.mark.parametrize(
    ("fail", "says"),
    [
        ("up", "the GPU cannot take what is copied to it: up failed"),
        ("down", "the GPU cannot give what is copied from it: down failed"),
        ("record", "the GPU cannot tell the time: record failed"),
        ("synchronize", "the GPU cannot finish its work: synchronize failed: an illegal memory access"),
        ("launch", "cuGraphLaunch returned CUDA error 700"),
        ("lost", "cuGraphLaunch returned CUDA error 700"),
    ],
)
def test_whatever_fails_first_is_what_is_said_and_closing_says_nothing_more(
    gpu: FakeGpu, tiny: ModelFile, fail: str, says: str
) -> None:
    """After a GPU was lost every call fails, those that give back included."""
    engine = TensorRtEngine(tiny)
    engine.infer(crops(1))
    gpu.fail = fail
    with pytest.raises(DeviceError, match=says) as told:
        if fail == "record":
            engine.timed(crops(1))
        else:
            engine.infer(crops(2) if fail in ("up", "down") else crops(1))
    assert "\n" not in str(told.value)
    if fail != "lost":
        gpu.fail = ""
    engine.close()
    engine.close()


@pytest.mark.parametrize("fail", ["execute", "instantiate", "stream"])
def test_what_could_not_be_made_ready_leaves_nothing_behind(gpu: FakeGpu, tiny: ModelFile, fail: str) -> None:
    """The fixture looks at memory, recorded work and contexts."""
    if fail == "stream":
        gpu.fail = fail
        with pytest.raises(DeviceError, match="the GPU cannot be used: stream failed"):
            TensorRtEngine(tiny)
        assert gpu.contexts == 0
        return
    engine = TensorRtEngine(tiny)
    gpu.fail = fail
    with pytest.raises(DeviceError, match=r"it could not begin|cuGraphInstantiateWithFlags returned CUDA error 2"):
        engine.infer(crops(1))
    assert not gpu.memory
    assert not gpu.graphs
    gpu.fail = ""
    engine.infer(crops(1))
    engine.close()


@pytest.mark.parametrize("room", range(5))
def test_memory_that_is_not_there_is_said_and_what_there_was_is_given_back(
    gpu: FakeGpu, tiny: ModelFile, room: int
) -> None:
    engine = TensorRtEngine(tiny)
    gpu.room = room
    with pytest.raises(DeviceError, match="the GPU is out of memory"):
        engine.infer(crops(1))
    assert not gpu.memory
    gpu.room = None
    engine.infer(crops(1))
    engine.close()


def test_work_that_the_library_does_not_let_record_runs_as_it_is(gpu: FakeGpu, tiny: ModelFile) -> None:
    gpu.records = False
    engine, reference = TensorRtEngine(tiny), OnnxRuntimeEngine(tiny)
    for seed in range(3):
        have, want = engine.infer(crops(1, seed)), reference.infer(crops(1, seed))
        for name in want:
            np.testing.assert_array_equal(have[name], want[name], err_msg=name)
    assert gpu.launches == 0
    engine.close()


def test_a_driver_that_is_too_old_is_one_line_and_left_by_auto(gpu: FakeGpu, tiny: ModelFile) -> None:
    gpu.old_driver = True
    says = r"tensorrt 0\.0 cannot start \(CUDA initialization failure with error: 35\); does it fit the driver"
    with pytest.raises(EngineError, match=says):
        TensorRtEngine(tiny)
    assert gpu.contexts == 0
    chosen = choose("auto", tiny, "fp32", 1, crops(1))
    assert "CUDA initialization failure" in chosen.choice.summary()
    chosen.engine.close()


@pytest.mark.parametrize("fail", ["lost", "up", "synchronize", "mem_alloc", "launch"])
def test_auto_takes_the_cpu_where_the_gpu_fails_while_it_is_tried(gpu: FakeGpu, tiny: ModelFile, fail: str) -> None:
    gpu.fail = fail
    chosen = choose("auto", tiny, "fp32", 1, crops(1))
    assert chosen.engine.device == "cpu"
    assert "not tensorrt/fp32: the GPU" in chosen.choice.summary()
    chosen.engine.close()
    if fail != "lost":
        gpu.fail = ""


def test_auto_takes_the_gpu_where_there_is_one_and_the_cpu_when_it_is_lost(gpu: FakeGpu, tiny: ModelFile) -> None:
    chosen = choose("auto", tiny, "fp32", 1, crops(1))
    tried = {row.name for row in (chosen.choice.taken, *chosen.choice.others)}
    assert "tensorrt/fp32" in tried
    chosen.engine.close()
    gpu.fail = "init"
    chosen = choose("auto", tiny, "fp32", 1, crops(1))
    assert chosen.engine.backend != "tensorrt/fp32"
    assert "not tensorrt/fp32: the GPU cannot be used: init failed" in chosen.choice.summary()
    chosen.engine.close()
    with pytest.raises(EngineError, match="the GPU cannot be used: init failed"):
        load("tensorrt", tiny, "fp32", 1, crops(1))


def test_a_gpu_that_tensorrt_does_not_know_is_left_to_torch(gpu: FakeGpu, tiny: ModelFile) -> None:
    """Loading torch takes seconds, so that it is not asked where TensorRT runs."""
    pytest.importorskip("torch")
    chosen = choose("auto", tiny, "fp32", 1, crops(1))
    assert "torch" not in chosen.choice.summary()
    chosen.engine.close()
    gpu.foreign = True
    chosen = choose("auto", tiny, "fp32", 1, crops(1))
    assert "torch/fp32" in {row.name for row in (chosen.choice.taken, *chosen.choice.others)}
    assert "which has compute capability 9.0" in chosen.choice.summary()
    chosen.engine.close()


def test_without_a_driver_auto_does_not_speak_of_a_gpu(tiny: ModelFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engines.choose.has_driver", lambda row: not row.driver)
    chosen = choose("auto", tiny, "fp32", 1, crops(1))
    assert "tensorrt" not in chosen.choice.summary()
    chosen.engine.close()
