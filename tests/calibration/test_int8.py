"""A network in int8: what is written is near float32 and named, layers that cost too much stay, mistakes are a line."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

pytest.importorskip("onnx")

import onnx

from calibration.crops import CropsError, crops_of
from engines.base import EngineError
from engines.choose import choose, load
from engines.preprocess import to_tensor
from engines.spec import MODELS_DIR, QUANTISED, Away, ModelFile, QuantisedSpec, load_model_file, quantised

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "examples" / "demo" / "demo.mp4"
MODEL = "agcm-live"
needs_model = pytest.mark.skipif(not (MODELS_DIR / MODEL / "manifest.json").is_file(), reason=f"no models/{MODEL}")


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "calibration.int8", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Faces that ship with the engines, turned and lit in many ways, with a margin as prepared corpora have."""
    strip = cv2.imread(str(MODELS_DIR / "faces.png"), cv2.IMREAD_GRAYSCALE)
    rng, found = np.random.default_rng(0), []
    for tile in np.hsplit(strip, strip.shape[1] // strip.shape[0]):
        for _ in range(8):
            turn = cv2.getRotationMatrix2D((56, 56), rng.uniform(-10, 10), rng.uniform(0.95, 1.05))
            turn[:, 2] += 16
            view = cv2.warpAffine(cv2.resize(tile, (112, 112)), turn, (144, 144), borderMode=cv2.BORDER_REPLICATE)
            found.append(np.clip(view * rng.uniform(0.8, 1.2), 0, 255).astype(np.uint8))
    path = tmp_path_factory.mktemp("crops") / "crops.npz"
    np.savez(path, crops=np.stack(found))
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, crops: Path) -> ModelFile:
    """The shipped network with its int8 files, in a folder of its own."""
    folder = tmp_path_factory.mktemp("models") / MODEL
    shutil.copytree(MODELS_DIR / MODEL, folder, ignore=shutil.ignore_patterns("*int8*"))
    done = run(crops, "--model", folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("layers stay in float32") == 2
    return load_model_file(MODEL, folder.parent)


@needs_model
@pytest.mark.slow
def test_what_is_written_is_near_float32_and_says_how_near(made: ModelFile) -> None:
    spec = msgspec.json.decode(made.path.with_name(QUANTISED).read_bytes(), type=QuantisedSpec)
    assert spec.of == made.manifest.sha256
    assert {each.form for each in spec.files} == {"u8", "s8"}
    for each in spec.files:
        path = made.path.with_name(each.file)
        assert path.stat().st_size < made.path.stat().st_size / 2
        away = each.away
        assert away.score <= 0.01 and away.contribution <= 0.01 and away.same > 0.9
        dearest = sorted(each.alone, key=lambda layer: -each.alone[layer])
        assert each.left == tuple(dearest[: len(each.left)])
        graph = onnx.load(path).graph
        types = {init.name: init.data_type for init in graph.initializer}
        zeros = {types.get(node.input[2]) for node in graph.node if node.op_type == "QuantizeLinear"}
        assert zeros == {onnx.TensorProto.UINT8 if each.form == "u8" else onnx.TensorProto.INT8}


@needs_model
@pytest.mark.slow
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_both_runtimes_run_it_when_they_are_asked(made: ModelFile, crops: Path, backend: str) -> None:
    size_px = 112
    stored = crops_of(crops, size_px)[:8]
    assert made.manifest.crop is not None
    tensors = {"crop": to_tensor(stored, made.manifest.crop)}
    engine = load(backend, made, "int8", 1, {"crop": tensors["crop"][:1]})
    assert engine.backend == f"{backend}/int8"
    have, want = engine.infer(tensors), load(backend, made, "fp32", 1, tensors).infer(tensors)
    assert np.abs(have["activation"] - want["activation"]).mean() < 0.02
    engine.close()


@needs_model
@pytest.mark.slow
def test_the_signed_form_compiles_for_tensorrt(made: ModelFile) -> None:
    pytest.importorskip("tensorrt_rtx")
    from engines.tensorrt_compile import compiled, library

    file = quantised(made, "s8")
    assert file is not None
    assert len(compiled(file.path.read_bytes(), made.manifest.inputs, "sm86", library()).engine) > 1_000_000


@needs_model
@pytest.mark.slow
def test_a_file_that_is_another_is_refused_and_auto_says_so(made: ModelFile, tmp_path: Path) -> None:
    folder = tmp_path / MODEL
    shutil.copytree(made.path.parent, folder)
    copy = load_model_file(MODEL, tmp_path)
    path = folder / "model.int8-u8.onnx"
    path.write_bytes(path.read_bytes()[:-1])
    sample = {"crop": np.zeros((1, 1, 112, 112), np.float32)}
    with pytest.raises(EngineError, match=r"model.int8-u8.onnx is missing or is not what model.int8.json names"):
        load("onnxruntime", copy, "int8", 1, sample)
    for nearer, says in ((1.0, False), (0.01, True)):
        content = msgspec.json.decode((folder / QUANTISED).read_bytes(), type=QuantisedSpec)
        away = [msgspec.structs.astuple(each.away) for each in content.files]
        files = tuple(
            msgspec.structs.replace(each, away=Away(*(nearer * value for value in found)))
            for each, found in zip(content.files, away, strict=True)
        )
        spec = msgspec.structs.replace(content, files=files)
        (folder / QUANTISED).write_bytes(msgspec.json.encode(spec))
        chosen = choose("onnxruntime", copy, None, 1, sample)
        assert chosen.engine.backend == "onnxruntime/fp32"
        assert ("not onnxruntime/int8: " in chosen.choice.summary()) is says, "what was found far off is not tried"
        chosen.engine.close()
    other = (folder / QUANTISED).read_bytes().replace(made.manifest.sha256.encode(), b"0" * 64)
    (folder / QUANTISED).write_bytes(other)
    with pytest.raises(EngineError, match="was made from another network"):
        load("onnxruntime", copy, "int8", 1, sample)


@needs_model
def test_the_file_that_ships_is_of_the_network_that_ships() -> None:
    file = load_model_file(MODEL)
    assert quantised(file, "u8") is not None
    strip = cv2.imread(str(MODELS_DIR / "faces.png"), cv2.IMREAD_GRAYSCALE)
    assert strip is not None and file.manifest.crop is not None
    faces = np.stack([cv2.resize(tile, (112, 112)) for tile in np.hsplit(strip, strip.shape[1] // strip.shape[0])])
    crops = {"crop": to_tensor(faces.astype(np.uint8), file.manifest.crop)}
    have, want = (load("openvino", file, precision, 1, crops).infer(crops) for precision in ("int8", "fp32"))
    assert np.abs(have["heads"][:, 0] - want["heads"][:, 0]).mean() < 0.02
    assert np.abs(have["landmarks"] - want["landmarks"]).max() < 0.02


@needs_model
def test_a_network_without_int8_says_how_to_make_it(tmp_path: Path) -> None:
    file = load_model_file("centerface")
    with pytest.raises(
        EngineError, match="centerface has no int8 file of form u8; make one with: python -m calibration"
    ):
        load("onnxruntime", file, "int8", 1, {"luma": np.zeros((1, 1, 64, 64), np.float32)})


def test_faces_of_a_video_are_cut_out() -> None:
    found = crops_of(DEMO, 112)
    assert found.shape[1:] == (112, 112) and found.dtype == np.uint8
    assert len(found) > 64
    assert found.std() > 20


@needs_model
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("none.npz", "is not there"),
        ("text.npz", "has no array of crops"),
        ("other.npz", "has no array of crops"),
        ("small.npz", r"crops are uint8\[5, 8, 8\], uint8 \[N, 112, 112\] are needed"),
        ("text.mp4", "text.mp4"),
    ],
)
def test_crops_that_cannot_be_used_are_one_line(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "text.npz").write_text("no")
    (tmp_path / "text.mp4").write_text("no")
    np.savez(tmp_path / "other.npz", pictures=np.zeros(3))
    np.savez(tmp_path / "small.npz", crops=np.zeros((5, 8, 8), np.uint8))
    with pytest.raises(CropsError, match=says) as told:
        crops_of(tmp_path / name, 112)
    assert "\n" not in str(told.value)


@needs_model
def test_too_few_crops_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "few.npz", crops=np.zeros((5, 112, 112), np.uint8))
    done = run(tmp_path / "few.npz", "--model", MODEL)
    assert done.returncode == 2
    assert done.stderr.strip() == "5 crops; 64 are the least"
