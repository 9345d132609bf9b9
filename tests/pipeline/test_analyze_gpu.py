"""A session on a GPU that is imagined: each picture goes up once, and what is said is what the CPU says."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from engines.base import EngineError
from engines.frame_engine import FrameEngine
from pipeline.analyze import Analyzer
from pipeline.bus import Received
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
