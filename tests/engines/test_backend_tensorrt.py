"""TensorRT's engine on an imagined GPU: what goes up and down, what is recorded, and what is said when it fails.

That a real one computes the same is for machines that have one: the contract of all backends runs there.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import psutil
import pytest

pytest.importorskip("onnx")

from engines import build
from engines.backend_onnxruntime import OnnxRuntimeEngine
from engines.backend_tensorrt import TensorRtEngine
from engines.base import EngineError
from engines.spec import ModelFile
from engines.tensorrt_compile import Compiled, Library
from tests.engines.fake_gpu import FakeGpu
from tests.engines.fake_tensorrt import crops


def test_every_shape_is_recorded_once_and_answers_are_the_networks(gpu: FakeGpu, tiny: ModelFile) -> None:
    engine, reference = TensorRtEngine(tiny), OnnxRuntimeEngine(tiny)
    assert engine.backend == "tensorrt/fp32"
    for seed, batch in enumerate((1, 3, 1, 3, 2, 1)):
        have, want = engine.infer(crops(batch, seed)), reference.infer(crops(batch, seed))
        assert list(have) == [spec.name for spec in tiny.manifest.outputs]
        for name in want:
            np.testing.assert_array_equal(have[name], want[name], err_msg=name)
    assert gpu.launches == 6
    assert len(gpu.graphs) == 3
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.infer(crops(1))


def test_one_upload_and_one_download_a_call(gpu: FakeGpu, tiny: ModelFile) -> None:
    engine = TensorRtEngine(tiny)
    outputs = engine.infer(crops(2))
    gpu.copies.update(up=0, down=0)
    engine.infer(crops(2, 1))
    assert gpu.copies == {"up": crops(2)["crop"].nbytes, "down": sum(each.nbytes for each in outputs.values())}
    engine.close()


def test_the_gpu_s_own_clock_runs_over_upload_network_and_download(gpu: FakeGpu, tiny: ModelFile) -> None:
    engine = TensorRtEngine(tiny)
    engine.infer(crops(1))
    outputs, took = engine.timed(crops(1))
    assert took == 1 + len(outputs), "one copy up, one down for each output"
    for name, value in engine.infer(crops(1)).items():
        np.testing.assert_array_equal(outputs[name], value)
    gpu.fail = "time_since"
    with pytest.raises(EngineError, match="the GPU cannot tell the time"):
        engine.timed(crops(1))
    gpu.fail = ""
    engine.close()


def test_outputs_belong_to_the_caller(gpu: FakeGpu, tiny: ModelFile) -> None:
    engine = TensorRtEngine(tiny)
    first = engine.infer(crops(1))
    kept = {name: array.copy() for name, array in first.items()}
    engine.infer(crops(1, 1))
    for name in kept:
        np.testing.assert_array_equal(first[name], kept[name])
    engine.close()


def test_shapes_that_are_long_unused_give_their_memory_back(gpu: FakeGpu, tiny: ModelFile) -> None:
    engine = TensorRtEngine(tiny)
    for batch in range(1, 30):
        engine.infer(crops(batch))
    assert len(gpu.graphs) == 16
    engine.infer(crops(29))
    assert gpu.launches == 30
    engine.close()


def test_nothing_is_left_behind_by_a_hundred_thousand_calls(gpu: FakeGpu, tiny: ModelFile) -> None:
    """What a call allocates it gives back, here and on the GPU, shapes that come and go included."""
    engine = TensorRtEngine(tiny)
    inputs = [crops(batch) for batch in (1, 2, 1, 3, *range(4, 21))]

    def held(calls: int) -> tuple[int, int, int, int]:
        """Allocations and bytes on the GPU, recorded graphs, and resident bytes of this process."""
        for i in range(calls):
            # Rarely a shape beyond the sixteen that are kept.
            engine.infer(inputs[i % 4 if i % 500 else i // 500 % len(inputs)])
            gpu.moved.clear()
        for each in inputs:  # so that the same sixteen are left
            engine.infer(each)
        bytes_held = sum(map(len, gpu.memory.values()))
        return len(gpu.memory), bytes_held, len(gpu.graphs), psutil.Process().memory_info().rss

    before, after = held(20_000), held(80_000)
    assert len(gpu.graphs) == 16
    assert after[:3] == before[:3]
    assert after[3] - before[3] < 8 * 2**20
    engine.close()


def test_why_an_engine_was_compiled_is_known(gpu: FakeGpu, tiny: ModelFile, tmp_path: Path) -> None:
    def because() -> str:
        engine = TensorRtEngine(tiny)
        engine.close()
        return engine.because

    assert (because(), because()) == ("there was none yet", "")
    (kept,) = (tmp_path / "engines").glob("*.engine")
    kept.write_bytes(kept.read_bytes()[:-3])
    assert (because(), because()) == ("the one there was is cut off or was changed", "")


def test_a_batch_beyond_what_was_compiled_is_refused(gpu: FakeGpu, tiny: ModelFile) -> None:
    engine = TensorRtEngine(tiny)
    with pytest.raises(EngineError, match=r"was not compiled for crop of \[65, 1, 112, 112\]"):
        engine.infer(crops(65))
    engine.close()


def test_a_kept_engine_is_taken_and_one_that_was_changed_is_compiled_again(
    gpu: FakeGpu, tiny: ModelFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    TensorRtEngine(tiny).close()
    (kept,) = (tmp_path / "engines").glob("*.engine")
    compiled: list[str] = []

    def compile_again(network: bytes, *_: object) -> Compiled:
        compiled.append("again")
        return Compiled(b"ENGINE" + network, b"")

    monkeypatch.setattr(build, "compiled", compile_again)
    TensorRtEngine(tiny).close()
    assert not compiled
    content = kept.read_bytes()
    for wrong in (content[:-7], content[:-1] + b"x", b""):
        kept.write_bytes(wrong)
        TensorRtEngine(tiny).close()
        assert kept.read_bytes() == content
    assert len(compiled) == 3


def test_kernels_are_made_once_and_kept_beside_the_engine(gpu: FakeGpu, tiny: ModelFile, tmp_path: Path) -> None:
    gpu.makes_kernels = True

    def session() -> int:
        """How many kernels were made in one."""
        before, engine = gpu.kernels_made, TensorRtEngine(tiny)
        for batch in (1, 2):
            engine.infer(crops(batch))
        engine.close()
        return gpu.kernels_made - before

    assert (session(), session()) == (1, 0)
    (kernels,) = (tmp_path / "engines").glob("*-kernels.cache")
    for wrong in (b"KERNEL", b""):
        kernels.write_bytes(wrong)
        assert (session(), session()) == (1, 0)
        assert kernels.read_bytes() == b"KERNELS"


def test_an_engine_that_fits_no_longer_is_compiled_again_once(
    gpu: FakeGpu, tiny: ModelFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bytes are as they were kept, and the library does not take them."""
    monkeypatch.setattr(build, "compiled", lambda network, *_: Compiled(b"FOREIGN" + network, b""))
    with pytest.raises(
        EngineError,
        match=r"cannot run tiny on .*: The engine cannot run on this GPU, which has compute capability 9\.0\.$",
    ):
        TensorRtEngine(tiny)
    with pytest.raises(
        EngineError,
        match=r"cannot run tiny on .*: The engine cannot run on this GPU, which has compute capability 9\.0\.$",
    ):
        TensorRtEngine(tiny)
    monkeypatch.setattr(build, "compiled", lambda network, *_: Compiled(b"ENGINE" + network, b""))
    engine = TensorRtEngine(tiny)
    assert engine.because == (
        "the one there was does not fit: The engine cannot run on this GPU, which has compute capability 9.0."
    )
    engine.close()


def test_another_gpu_another_precision_and_another_network_are_other_engines(gpu: FakeGpu, tiny: ModelFile) -> None:
    library = Library(None, "tensorrt", "10.1")
    given = ("fp32", "current", "GPU A sm86 driver 1", library)
    keys = {
        build.recipe_of(tiny, *given).key,
        build.recipe_of(tiny, "fp16", *given[1:]).key,
        build.recipe_of(tiny, "fp32", "current", "GPU B sm89 driver 1", library).key,
        build.recipe_of(tiny, "fp32", "current", "GPU A sm86 driver 2", library).key,
        build.recipe_of(tiny, *given[:3], Library(None, "tensorrt_rtx", "10.1")).key,
        build.recipe_of(tiny, *given[:3], Library(None, "tensorrt", "10.2")).key,
    }
    assert len(keys) == 6
