"""Networks that read a frame: they say what those that ship say of crops that OpenCV cut."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest

from engines.backend_onnxruntime import OnnxRuntimeEngine
from engines.base import Array, Engine, EngineError, int8_of
from engines.concept import read
from engines.detect import detect, of_cells, seen_px
from engines.frame import detector_network, edges, face_network, kept, places_of, plane, tensors_of
from engines.preprocess import Affine, Luma, crop, similarity, to_tensor
from engines.spec import MODELS_DIR, ModelFile, TensorSpec, available, load_model_file, quantised
from engines.tensorrt_compile import compiled, in_precision, library

FACE = np.array([[207, 110], [245, 108], [227, 133], [212, 152], [243, 150]], np.float32)
"""The astronaut's."""
ACTIVATION_APART = 0.01


@pytest.fixture(scope="module")
def model() -> ModelFile:
    return load_model_file("agcm-live")


def between(network: bytes, name: str, shape: Sequence[int | None], inputs: dict[str, Array]) -> Array:
    """What flows through a network under this name, in the type that it has there."""
    graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(network))
    if not any(port.name == name for port in graph.graph.output):
        kind = next(value.type.tensor_type.elem_type for value in graph.graph.value_info if value.name == name)
        graph.graph.output.append(onnx.helper.make_tensor_value_info(name, kind, shape))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run([name], inputs)[0])


def turned(affine: Affine, degrees: float, side: int) -> Affine:
    """The crop, turned about its middle."""
    about = cv2.getRotationMatrix2D((side / 2, side / 2), degrees, 1.0)
    return np.asarray(about[:, :2] @ affine + [[0, 0, about[0, 2]], [0, 0, about[1, 2]]], np.float32)


@pytest.mark.parametrize("zoom", [0.4, 1, 2.9, 6, 11])
def test_crops_are_those_that_opencv_cuts(tiny: ModelFile, astronaut: Luma, zoom: float) -> None:
    """Up to rounding: one grey level, and that seldom. The last zoom takes three halvings; some crops leave the
    picture."""
    spec = tiny.manifest.crop
    assert spec is not None
    luma = np.asarray(cv2.resize(astronaut, None, fx=zoom, fy=zoom * 0.9), np.uint8)
    affine = similarity(FACE * (zoom, zoom * 0.9), spec.size_px)
    away = affine + np.array([[0, 0, 70], [0, 0, -60]], np.float32)
    affines = [affine, turned(affine, 30, spec.size_px), turned(affine, -100, spec.size_px), away]
    network, _ = face_network(tiny)
    shape = [None, 1, spec.size_px, spec.size_px]
    have = between(network, "crop", shape, {"frame": plane(luma), "places": places_of(affines)})
    want = to_tensor(np.stack([crop(luma, each, spec.size_px) for each in affines]), spec)
    apart = np.abs(have - want) * 255 * spec.std
    assert apart.max() < 1.001
    assert apart.mean() < 0.01


def test_faces_are_read_as_from_crops(model: ModelFile, tmp_path: Path) -> None:
    """All faces that ship with the models, side by side in one frame."""
    spec, heads = model.manifest.crop, model.manifest.heads
    assert spec is not None and heads is not None
    strip = np.asarray(cv2.imread(str(MODELS_DIR / "faces.png"), cv2.IMREAD_GRAYSCALE), np.uint8)
    side = strip.shape[0]
    scale = spec.size_px / side
    affines = [
        np.array([[scale, 0, -i * spec.size_px], [0, scale, 0]], np.float32) for i in range(strip.shape[1] // side)
    ]
    engine, reader = OnnxRuntimeEngine(model), OnnxRuntimeEngine(kept(*face_network(model), tmp_path))
    assert reader.manifest.identity == model.manifest.identity
    crops = np.stack([crop(strip, each, spec.size_px) for each in affines])
    want = read(engine.infer({"crop": to_tensor(crops, spec)}), heads)
    answer = reader.infer({"frame": plane(strip), "places": places_of(affines)})["answer"]
    have = read(tensors_of(answer, model.manifest), heads)
    assert len(have) == len(affines) > 3
    for one, other in zip(have, want, strict=True):
        assert np.abs(one.activation - other.activation).max() < ACTIVATION_APART
        assert np.abs(one.contributions - other.contributions).max() < 0.05
        assert abs(one.score - other.score) < ACTIVATION_APART
        # A map with two equal peaks may show the other one.
        assert np.mean(np.abs(one.peaks - other.peaks).max(axis=1) < 0.01) > 0.95


def test_an_answer_has_the_outputs_of_the_network(tiny: ModelFile, tmp_path: Path) -> None:
    network, manifest = face_network(tiny)
    luma = np.random.default_rng(0).integers(0, 256, (90, 130)).astype(np.uint8)
    affines = [similarity(FACE - (180, 80), 112), similarity(FACE * 0.5 - (60, 20), 112)]
    crops = to_tensor(
        np.stack([crop(luma, each, 112) for each in affines]), tiny.manifest.crop or pytest.fail("no crop")
    )
    want = OnnxRuntimeEngine(tiny).infer({"crop": crops})
    reader = OnnxRuntimeEngine(kept(network, manifest, tmp_path))
    have = tensors_of(reader.infer({"frame": plane(luma), "places": places_of(affines)})["answer"], tiny.manifest)
    assert set(have) == set(want) - {"maps"} | {"peaks"}
    for name in have.keys() & want.keys():
        assert have[name].shape == want[name].shape
        np.testing.assert_allclose(have[name], want[name], atol=1e-3, err_msg=name)
    heads = tiny.manifest.heads
    assert heads is not None
    for one, other in zip(read(have, heads), read(want, heads), strict=True):
        np.testing.assert_allclose(one.peaks, other.peaks, atol=1e-3)


@pytest.mark.parametrize(("rows", "columns"), [(512, 512), (480, 640), (700, 1100), (200, 260)])
def test_the_same_faces_are_found(
    detector: Engine, detector_file: ModelFile, astronaut: Luma, tmp_path: Path, rows: int, columns: int
) -> None:
    """The last picture is smaller than what the detector sees. The CPU halves the larger ones first, rounding twice."""
    luma = np.asarray(cv2.resize(astronaut, (columns, rows)), np.uint8)
    reader = OnnxRuntimeEngine(kept(*detector_network(detector_file), tmp_path))
    h, w = seen_px(luma, 320)
    where = {"rows": edges(rows, h), "columns": edges(columns, w)}
    cells = reader.infer({"frame": plane(luma), **where})["cells"]
    have, want = of_cells(cells[0], luma, 320, 0.4), detect(detector, luma, 320, 0.4)
    assert len(have) == len(want) == 1
    seen = max(1.0, columns / w)  # of the picture, in a pixel that the detector sees
    np.testing.assert_allclose(have[0].points, want[0].points, atol=0.2 * seen)
    np.testing.assert_allclose(have[0].box, want[0].box, atol=0.4 * seen)
    assert have[0].confidence == pytest.approx(want[0].confidence, abs=0.01)


def test_in_fp16_places_stay_exact(tiny: ModelFile, astronaut: Luma) -> None:
    """In fp16 the places of a picture of 1900 pixels would be off by one of them."""
    luma = np.asarray(cv2.resize(astronaut, (1900, 1900)), np.uint8)
    inputs = {"frame": plane(luma), "places": places_of([similarity(FACE * np.float32(1900 / 512), 112)])}
    networks = [face_network(tiny, precision)[0] for precision in ("fp32", "fp16")]
    crops = [between(each, "crop", [None, 1, 112, 112], inputs) for each in networks]
    np.testing.assert_array_equal(crops[1], crops[0])
    assert in_precision(networks[1], "fp16") == networks[1]
    answers = [between(each, "answer", [None, None], inputs) for each in networks]
    assert 0 < np.abs(answers[1] - answers[0])[:, :4].max() < 0.02


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_they_compile_for_tensorrt(tiny: ModelFile, detector_file: ModelFile, precision: str) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    for network, manifest in (face_network(tiny, precision), detector_network(detector_file)):
        assert compiled(in_precision(network, precision), manifest.inputs, "sm86", library()).engine


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("name", ["agcm-live", "agcm-lite"])
@pytest.mark.filterwarnings("ignore:the float32 number:UserWarning")  # a floor of 1e-10 becomes the least fp16 has
def test_what_ships_compiles_with_what_cuts_its_crops(name: str, precision: str) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    if name not in available():
        pytest.skip(f"models/{name} is not there yet")
    file = load_model_file(name)
    if precision == "int8":
        if quantised(file, "s8") is None:
            pytest.skip(f"{name} does not ship in int8 for TensorRT")
        file = int8_of(file, "s8")
    network, manifest = face_network(file, precision)
    level = "fp32" if precision == "int8" else precision  # an int8 file is in int8 as it is
    assert compiled(in_precision(network, level), manifest.inputs, "sm86", library()).engine


def test_what_cannot_read_frames_is_said(tiny: ModelFile, detector_file: ModelFile, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="centerface cannot read frames: it has no crop, or no maps"):
        face_network(detector_file)
    other = msgspec.structs.replace(
        tiny.manifest, outputs=(*tiny.manifest.outputs, TensorSpec("more", "float32", (-1, 2)))
    )
    with pytest.raises(EngineError, match=r"tiny cannot read frames: .*more"):
        face_network(ModelFile(tiny.path, other))
    (tmp_path / "file").touch()
    with pytest.raises(EngineError, match="cannot be written"):
        kept(b"", tiny.manifest, tmp_path / "file")
