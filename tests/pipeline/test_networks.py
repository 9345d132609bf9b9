"""The networks of a session."""

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import av
import cv2
import numpy as np
import openvino
import pytest

from engines.backend_onnxruntime import OnnxRuntimeEngine
from engines.base import Array, Tensors
from engines.choose import disagreement
from engines.detect import detect
from engines.preprocess import to_tensor
from engines.spec import MODELS_DIR
from engines.track import eye_distance
from pipeline import networks
from pipeline.bus import WorkerError
from pipeline.config import CaptureConfig, EngineConfig, FaceConfig, LiveConfig
from pipeline.luma import LumaReader
from pipeline.networks import FACES, load
from pipeline.sources import DEMO

MODEL = "agcm-live"

needs_model = pytest.mark.skipif(
    not (MODELS_DIR / MODEL / "manifest.json").is_file(), reason=f"models/{MODEL} is not there yet"
)


@pytest.mark.parametrize(
    ("engine", "text"),
    [
        (EngineConfig(model="nosuch"), "unknown model 'nosuch'.*centerface"),
        (EngineConfig(model="centerface"), "'centerface' is no concept model"),
    ],
)
def test_a_model_that_cannot_be_had_is_the_users_to_mend(engine: EngineConfig, text: str) -> None:
    with pytest.raises(WorkerError, match=text) as caught:
        load(LiveConfig(engine=engine))
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


@needs_model
@pytest.mark.parametrize(
    "engine",
    [
        EngineConfig(model=MODEL, backend="nosuch"),
        EngineConfig(model=MODEL, backend="onnxruntime", precision="int3"),
    ],
)
def test_an_engine_that_cannot_be_had_is_the_users_to_mend(engine: EngineConfig) -> None:
    with pytest.raises(WorkerError) as caught:
        load(LiveConfig(engine=engine))
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


@needs_model
def test_auto_says_what_it_took_and_both_networks_run() -> None:
    cv2.setNumThreads(2)
    networks = load(LiveConfig(engine=EngineConfig(model=MODEL)))
    assert networks.model.backend in networks.notices[0]
    assert networks.detector.backend in networks.notices[1]
    assert cv2.getNumThreads() == 1, "OpenCV's own threads would keep cores from the networks"
    size_px = networks.crop.size_px
    out = networks.model.infer({"crop": np.zeros((2, 1, size_px, size_px), np.float32)})
    assert out["activation"].shape == (2, len(networks.concepts))
    networks.close()


@needs_model
@pytest.mark.skipif(
    "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"), reason="this CPU has no bf16"
)
def test_a_detector_in_bf16_finds_the_faces_that_fp32_finds() -> None:
    """In pictures of the demo clip, of which some hold nobody, and one or two people."""
    default, asked = EngineConfig(model=MODEL, backend="openvino"), EngineConfig(model=MODEL, precision="fp32")
    fast, exact = load(LiveConfig(engine=default)), load(LiveConfig(engine=asked))
    assert (fast.detector.backend, exact.detector.backend[-5:]) == ("openvino/bf16", "/fp32")
    counts, reader = set(), LumaReader()
    with av.open(str(DEMO)) as clip:
        for frame in islice(clip.decode(video=0), 0, None, 20):
            luma = reader.read(frame)
            found, wanted = (detect(each.detector, luma, threshold=0.4) for each in (fast, exact))
            assert len(found) == len(wanted)
            counts.add(len(wanted))
            for each in wanted:
                off_px = min(np.linalg.norm(other.points - each.points, axis=1).mean() for other in found)
                assert off_px <= 0.05 * eye_distance(each.points)
    assert len(counts) > 1
    fast.close()
    exact.close()


@needs_model
@pytest.mark.parametrize(("most", "met"), [(1, []), (3, [2, 3]), (40, [2, 3, 4, 5, 6, 7, 8])])
def test_shapes_that_will_come_are_met_before_the_session_begins(
    most: int, met: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, ...]] = []

    class Recorded(OnnxRuntimeEngine):
        def infer(self, inputs: Mapping[str, Array]) -> Tensors:
            seen.append(next(iter(inputs.values())).shape)
            return super().infer(inputs)

    monkeypatch.setattr("engines.backend_onnxruntime.OnnxRuntimeEngine", Recorded)
    engine = EngineConfig(model=MODEL, backend="onnxruntime", precision="fp32")
    load(LiveConfig(engine=engine, face=FaceConfig(max_faces=most))).close()
    crops = [shape for shape in seen if shape[2:] == (112, 112)]
    assert list(dict.fromkeys(shape[0] for shape in crops)) == [1, *met]
    assert {shape for shape in seen if shape not in crops} == {(1, 1, 256, 320), (1, 1, 192, 320)}


@needs_model
def test_what_auto_takes_agrees_with_fp32_on_faces() -> None:
    networks = load(LiveConfig(engine=EngineConfig(model=MODEL)))
    exact = load(LiveConfig(engine=EngineConfig(model=MODEL, backend="onnxruntime", precision="fp32")))
    strip = cv2.imread(str(FACES), cv2.IMREAD_GRAYSCALE)
    assert strip is not None
    crops = to_tensor(np.stack(np.hsplit(strip, strip.shape[1] // strip.shape[0])), networks.crop)
    assert len(crops) >= 16
    taken, reference = networks.model.infer({"crop": crops}), exact.model.infer({"crop": crops})
    assert np.ptp(reference["heads"][:, 0]) > 0.1, "faces that differ"
    assert disagreement(taken, reference) == ""
    networks.close()
    exact.close()


@needs_model
def test_missing_faces_are_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.networks.FACES", tmp_path / "faces.png")
    with pytest.raises(WorkerError, match="get the whole repository") as caught:
        load(LiveConfig(engine=EngineConfig(model=MODEL)))
    assert caught.value.exit_code == 2


@needs_model
@pytest.mark.parametrize(("pace", "rest_s"), [("realtime", 0.01), ("max", 0.0)])
def test_the_concept_network_is_timed_as_a_session_of_that_pace_runs_it(
    pace: Literal["realtime", "max"], rest_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, rests = networks.choose, {}

    def choose(*asked: Any, **options: Any) -> Any:
        chosen = real(*asked, **options)
        rests[chosen.engine.manifest.name] = asked[6] if len(asked) > 6 else None
        return chosen

    monkeypatch.setattr(networks, "choose", choose)
    capture = CaptureConfig(camera="demo", mic="none", pace=pace)
    load(LiveConfig(capture=capture, engine=EngineConfig(model=MODEL, backend="onnxruntime", threads=1))).close()
    assert rests[MODEL] == rest_s
