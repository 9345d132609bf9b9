"""A picture goes up once, whoever reads it, on a GPU that is imagined; on a real one, that nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest

from engines.backend_onnxruntime import OnnxRuntimeEngine
from engines.backends import BACKENDS, has_driver
from engines.base import Engine, EngineError
from engines.concept import read
from engines.cuda import Gpu
from engines.detect import detect
from engines.frame_engine import FrameEngine
from engines.preprocess import Luma, Points, crop, to_tensor
from engines.spec import ModelFile
from tests.engines.fake_gpu import FakeGpu

HAS_GPU = has_driver(BACKENDS["tensorrt"])
CALLS = 100_000
"""Of each of both networks: an hour of video at 30 frames/s."""


FACE: Points = np.array([[207, 110], [245, 108], [227, 133], [212, 152], [243, 150]], np.float32)


@pytest.fixture
def engine(gpu: FakeGpu, detector_file: ModelFile, tiny: ModelFile, tmp_path: Path) -> Iterator[FrameEngine]:
    engine = FrameEngine(detector_file, tiny, cache=tmp_path)
    yield engine
    engine.close()
    engine.close()


def test_a_frame_goes_up_once_and_only_answers_come_down(engine: FrameEngine, gpu: FakeGpu, astronaut: Luma) -> None:
    def look(luma: Luma) -> None:
        engine.show(luma)
        (face,) = engine.detect(luma, 320, 0.4)
        engine.aim([face.points])
        engine.read()
        engine.aim([face.points] * 2)
        engine.read()

    look(astronaut)  # what is recorded on the first run moves twice
    gpu.moved.clear()
    look(np.ascontiguousarray(astronaut[:, ::-1]))
    h1, w1, cells, place, answer = 4 * 321, 4 * 321, 4 * 17 * 64, 4 * 6, 4 * (4 + 16 + 16 + 4 + 8)
    assert gpu.moved == [astronaut.nbytes, h1, w1, -cells, place, -answer, 2 * place, -2 * answer]


def test_it_says_what_the_engines_say_of_crops(
    engine: FrameEngine, astronaut: Luma, detector: Engine, tiny: ModelFile
) -> None:
    heads, spec = tiny.manifest.heads, tiny.manifest.crop
    assert heads is not None and spec is not None
    reference = OnnxRuntimeEngine(tiny)
    assert engine.backend == "tensorrt/fp32" and engine.manifest is tiny.manifest
    for luma in (astronaut, np.asarray(cv2.resize(astronaut, (640, 480)), np.uint8), astronaut):
        engine.show(luma)
        (have,), (want,) = engine.detect(luma, 320, 0.4), detect(detector, luma, 320, 0.4)
        np.testing.assert_allclose(have.points, want.points, atol=0.5)
        (affine,) = engine.aim([want.points])
        crops = to_tensor(crop(luma, affine, spec.size_px)[None], spec)
        (one,), (other,) = read(engine.read(), heads), read(reference.infer({"crop": crops}), heads)
        np.testing.assert_allclose(one.activation, other.activation, atol=0.01)
        np.testing.assert_allclose(one.peaks, other.peaks, atol=0.01)


def test_a_picture_must_be_shown_first(engine: FrameEngine, astronaut: Luma) -> None:
    with pytest.raises(EngineError, match="no picture was shown yet"):
        engine.detect(astronaut)
    with pytest.raises(EngineError, match="no picture was shown yet"):
        engine.aim([FACE])
    engine.show(astronaut)
    with pytest.raises(EngineError, match="there is no face to read"):
        engine.read()
    engine.aim([FACE])
    engine.read()
    engine.show(astronaut)
    with pytest.raises(EngineError, match="there is no face to read"):
        engine.read()


def test_what_was_begun_is_given_back_if_the_second_network_cannot_be_had(
    gpu: FakeGpu, detector_file: ModelFile, tmp_path: Path
) -> None:
    """The fixture of the GPU sees to it that nothing is left."""
    with pytest.raises(EngineError, match="cannot read frames"):
        FrameEngine(detector_file, detector_file, cache=tmp_path)


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.skipif(not HAS_GPU, reason="no NVIDIA driver")
def test_nothing_is_lost_in_an_hour(detector_file: ModelFile, tiny: ModelFile, astronaut: Luma, tmp_path: Path) -> None:
    try:
        engine, gpu = FrameEngine(detector_file, tiny, cache=tmp_path), Gpu()
    except EngineError as error:  # TensorRT-RTX does not know every GPU; that something runs is another test's to see
        pytest.skip(str(error))

    def run(calls: int) -> tuple[int, int]:
        """Memory in use afterwards, bytes: of the process, and free on the GPU."""
        for i in range(calls):
            engine.show(astronaut)
            if not i % 10:
                engine.detect(astronaut, 320, 0.4)
            engine.aim([FACE] * (1 + i % 3))
            engine.read()
        return int(psutil.Process().memory_info().rss), int(gpu.cuda.mem_get_info()[0])

    before = run(1000)
    after = run(CALLS)
    gpu.close()
    engine.close()
    assert after[0] - before[0] < 8 * 2**20
    assert before[1] - after[1] < 2 * 2**20
