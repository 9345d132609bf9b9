"""A session on a GPU that is imagined: each picture goes up once, and what is said is what the CPU says."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from engines.base import DeviceError, EngineError
from engines.frame_engine import FrameEngine
from pipeline import networks as networks_module
from pipeline.analyze import Analyzer
from pipeline.bus import GPU_FAILED, Received, WorkerError
from pipeline.clock import now_ns
from pipeline.config import EngineConfig, LiveConfig
from pipeline.messages import Drops, EngagementFrame
from pipeline.networks import Networks, load
from tests.engines.fake_gpu import FakeGpu
from tests.pipeline.bench import BLACK, MODEL, astronaut, config, needs_model, packet

ON_GPU = msgspec.structs.replace(config(), engine=EngineConfig(model=MODEL, backend="tensorrt", precision="fp32"))


@pytest.fixture(autouse=True)
def _frames_are_kept_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(FrameEngine.__init__, "__defaults__", ("fp32", tmp_path / "frames"))


def analysed(cfg: LiveConfig, networks: Networks, pictures: list[np.ndarray]) -> list[EngagementFrame]:
    analyzer, found = Analyzer(cfg, networks), []
    for seq, picture in enumerate(pictures):
        frame = Received(packet(seq, picture), memoryview(picture).cast("B"))
        found += analyzer.results(frame, seq * 33_000_000, None, Drops(), now_ns())
    analyzer.close()
    return found


@needs_model
def test_a_session_gives_each_picture_to_the_gpu_once(gpu: FakeGpu) -> None:
    face = astronaut()
    pictures = [face, face, BLACK, np.ascontiguousarray(face[:, ::-1])]
    networks, host = load(ON_GPU), load(config())
    assert networks.notices[-1] == "frames: whole, on the GPU"
    analysed(ON_GPU, networks, pictures)  # what is recorded on a first run moves twice
    gpu.moved.clear()
    ours = analysed(ON_GPU, networks, pictures)
    assert [size for size in gpu.moved if size >= face.nbytes // 2] == [picture.nbytes for picture in pictures]
    for one, other in zip(ours, analysed(config(), host, pictures), strict=True):
        assert (one.seq, one.status, one.face) == (other.seq, other.status, other.face)
        assert one.backend == "tensorrt/fp32"
        if one.score is not None and other.score is not None and one.base is not None:
            assert one.score == pytest.approx(other.score, abs=0.02)
            assert one.base + sum(each.contribution for each in one.contributions) == pytest.approx(one.score, abs=1e-6)
    assert [each.status for each in ours] == ["tracked", "tracked", "no_face", "tracked"]
    networks.close()
    host.close()


@needs_model
def test_where_frames_cannot_be_had_crops_are_cut_on_the_cpu(gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise EngineError("this one cannot read frames")

    monkeypatch.setattr("pipeline.networks.FrameEngine", refuse)
    networks = load(ON_GPU)
    assert networks.notices[-1] == "frames: crops are cut on the CPU (this one cannot read frames)"
    assert [each.status for each in analysed(ON_GPU, networks, [astronaut()])] == ["tracked"]
    networks.close()


@needs_model
@pytest.mark.parametrize("fail", ["lost", "synchronize", "launch"])
def test_a_gpu_that_is_lost_in_a_session_is_said_and_closing_says_nothing_else(gpu: FakeGpu, fail: str) -> None:
    networks = load(ON_GPU)
    assert "compiled for this GPU: there was none yet" in networks.notices
    analyzer, picture = Analyzer(ON_GPU, networks), astronaut()
    frame = Received(packet(0, picture), memoryview(picture).cast("B"))
    assert [each.status for each in analyzer.results(frame, 0, None, Drops(), now_ns())] == ["tracked"]
    gpu.fail = fail
    with pytest.raises(WorkerError, match=r"^analyze: the GPU cannot") as caught:
        analyzer.results(frame, 33_000_000, None, Drops(), now_ns())
    assert caught.value.exit_code == GPU_FAILED
    if fail != "lost":
        gpu.fail = ""
    analyzer.close()
    networks.close()


@needs_model
def test_an_engine_file_that_was_changed_is_compiled_again_and_said(gpu: FakeGpu, tmp_path: Path) -> None:
    load(ON_GPU).close()
    networks = load(ON_GPU)
    assert not [line for line in networks.notices if "compiled" in line]
    networks.close()
    for kept in (tmp_path / "engines").glob("*.engine"):
        kept.write_bytes(kept.read_bytes()[:-1])
    networks = load(ON_GPU)
    assert "compiled for this GPU: the one there was is cut off or was changed" in networks.notices
    networks.close()


@needs_model
def test_auto_leaves_a_gpu_alone_that_has_no_memory_for_several_faces(
    gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is made ready for more faces after it was chosen for one."""
    asked: list[str] = []
    meet = networks_module._met

    def run_out(*given: object) -> None:
        asked.append("met")
        if len(asked) == 2:
            raise DeviceError("the GPU is out of memory")
        meet(*given)  # type: ignore[arg-type]  # as it was asked

    monkeypatch.setattr(networks_module, "_met", run_out)
    auto = msgspec.structs.replace(ON_GPU, engine=msgspec.structs.replace(ON_GPU.engine, backend="auto"))
    networks = load(auto)
    assert networks.notices[0] == "the GPU is left alone: the GPU is out of memory"
    assert networks.model.device == networks.detector.device == "cpu"
    assert not [line for line in networks.notices if "tensorrt" in line]
    networks.close()
    asked.clear()
    with pytest.raises(WorkerError, match="out of memory") as caught:
        load(ON_GPU)
    assert caught.value.exit_code == GPU_FAILED


@needs_model
def test_a_gpu_that_fails_at_the_start_is_no_mistake_of_who_asked_for_it(gpu: FakeGpu) -> None:
    gpu.fail = "mem_alloc"
    with pytest.raises(WorkerError, match="the GPU is out of memory") as caught:
        load(ON_GPU)
    assert caught.value.exit_code == GPU_FAILED
    gpu.fail = ""


@needs_model
def test_with_the_cpu_alone_auto_does_not_ask_the_gpu(gpu: FakeGpu) -> None:
    engine = msgspec.structs.replace(ON_GPU.engine, backend="auto", device="cpu")
    networks = load(msgspec.structs.replace(ON_GPU, engine=engine))
    assert "tensorrt" not in networks.notices[0]
    assert gpu.contexts == 0
    networks.close()
