"""A network in int8: what is written is near float32 and named, layers that cost too much stay, mistakes are a line."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

pytest.importorskip("onnx")

import onnx
from onnx import numpy_helper

from calibration.crops import CropsError, crops_of
from calibration.int8 import Material, away, dearest_first, distance, pictures_of, subject_of, write
from engines.base import EngineError
from engines.choose import choose, load
from engines.concept import ConceptReadout
from engines.preprocess import to_tensor
from engines.spec import MODELS_DIR, QUANTISED, Distance, ModelFile, load_model_file, quantised, quantised_spec
from tests.engines.conftest import build_tiny

ROOT = Path(__file__).parents[2]
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


def noise(count: int) -> np.ndarray:
    """Crops [N, 112, 112] of blocks of 16 pixels, which the tiny network can tell apart."""
    blocks = np.random.default_rng(3).integers(0, 256, (count, 7, 7), dtype=np.uint8)
    return np.kron(blocks, np.ones((1, 16, 16), np.uint8))


def weight_scales(path: Path, layer: str) -> np.ndarray:
    """The scales of the weights of a node."""
    graph = onnx.load(path).graph
    values = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    makers = {node.output[0]: node for node in graph.node}
    maker = makers[next(node for node in graph.node if node.name == layer).input[1]]
    assert maker.op_type == "DequantizeLinear" and values[maker.input[0]].dtype == np.int8
    return values[maker.input[1]]


def test_each_way_to_ranges_writes_a_file_that_runs_with_a_scale_for_each_channel(tmp_path: Path) -> None:
    crops = np.where(np.arange(20)[:, None, None] == 5, noise(20), noise(20) // 8 + 112)  # one that stands out
    digests = set()
    for method in ("percentile", "minmax", "entropy"):
        file = build_tiny(tmp_path / method)
        subject = subject_of(file)
        tensors = to_tensor(crops, subject.crop)
        spec = write(subject, Material(tensors[:12], tensors[12:]), method, 1.0, ("u8",))
        own = quantised(file, "u8")
        assert own is not None and spec == quantised_spec(file) and spec.method == method
        told = spec.files[0]
        assert told.left == () and told.accuracy is None
        alone = np.array([msgspec.structs.astuple(each)[:3] for each in told.alone.values()])
        assert (alone.max(axis=0) > 0).all() and alone.max() < 0.5
        for layer, count in {"Conv_0": 1, "Conv_1": 4, "Conv_5": 6}.items():
            scales = weight_scales(own.path, layer)
            assert scales.size == count and len(np.unique(scales)) == count
        found, usual = (list(subject.answers(path, tensors[12:])) for path in (own.path, file.path))
        assert distance(found, usual).score == told.away.score > 0
        digests.add(told.sha256)
    assert len(digests) == 3, "each chooses ranges of its own"


def test_distances_are_told_concept_by_concept() -> None:
    none, share = np.zeros((2, 3)), np.array([[0.2, 9, 9], [-0.4, 9, 9]])
    one = ConceptReadout(np.array([0.5, 0.1]), none, none, share, 0.6, np.array([0.7, 0.3]), np.zeros((2, 2)))
    other = replace(one, contributions=-share, landmarks=np.zeros((5, 2)))
    found = [
        replace(one, activation=np.array([0.6, 0.1]), contributions=share + np.array([[0.1], [0]]), score=0.7),
        replace(other, contributions=share, expressions=np.array([0.3, 0.7]), landmarks=np.ones((5, 2))),
    ]
    far = away(found, [one, other], ("AU1", "AU2"))
    assert far.activations == pytest.approx({"AU1": 0.05, "AU2": 0.0})
    assert far.contributions == pytest.approx({"AU1": (0.1 + 0.4) / 2, "AU2": 0.8 / 2})
    assert far.sizes == pytest.approx({"AU1": 0.05, "AU2": 0.0}), "one that has turned is as large as it was"
    assert (far.score, far.most_score, far.most_activation, far.same) == pytest.approx((0.05, 0.1, 0.1, 0.5))
    assert (far.activation, far.contribution, far.landmarks) == pytest.approx((0.025, 0.325, 1.0))
    assert distance(found[:1], [one]).landmarks is None


def test_the_dearest_layer_is_the_one_that_moves_anything_but_landmarks_most() -> None:
    activation, share = Distance(0.01, 0.04, 0.0, 0.0), Distance(0.0, 0.0, 0.03, 0.0)
    alone = {"places": Distance(0.0, 0.0, 0.0, 0.9), "score": Distance(0.02, 0.0, 0.0, 0.0), "share": share}
    assert dearest_first({**alone, "activation": activation}) == ["activation", "share", "score", "places"]


def test_expressions_that_are_named_correctly_are_counted(tmp_path: Path) -> None:
    file = build_tiny(tmp_path / "tiny")
    subject = subject_of(file)
    crops = noise(64)
    named = [int(each.expressions.argmax()) for each in subject.answers(file.path, to_tensor(crops, subject.crop))]
    votes = np.eye(3, dtype=np.float32)[named]
    votes[:16] = np.roll(votes[:16], 1, axis=1)
    votes[60:] = np.nan
    np.savez(tmp_path / "dull.npz", crops=crops // 32)  # ranges in which nothing else has room: int8 is far from fp32
    np.savez(tmp_path / "faces.npz", crops=np.pad(crops, ((0, 0), (16, 16), (16, 16))), votes=votes)
    done = run(tmp_path / "dull.npz", "--model", file.path.parent, "--form", "u8", "--most", "1",
               "--expressions", tmp_path / "faces.npz")  # fmt: skip
    assert done.returncode == 0, done.stderr
    spec, own = quantised_spec(file), quantised(file, "u8")
    assert spec is not None and own is not None
    accuracy, far = spec.files[0].accuracy, spec.files[0].away
    assert accuracy is not None
    again = [int(each.expressions.argmax()) for each in subject.answers(own.path, to_tensor(crops, subject.crop))]
    assert (accuracy.count, accuracy.float32) == (60, pytest.approx(44 / 60))
    assert accuracy.int8 != accuracy.float32 and accuracy.int8 == pytest.approx(
        np.mean(np.array(again[:60]) == votes[:60].argmax(axis=1))
    )
    assert f"in 60 crops: 73.33% in float32, {accuracy.int8:.2%} in int8" in done.stdout
    for values in (far.activations, far.contributions, far.sizes):
        worst = max(values, key=values.__getitem__)
        assert f"{values[worst]:.5f} ({worst}) at most" in done.stdout


def test_the_expression_with_most_votes_counts_and_no_votes_are_no_label(tmp_path: Path) -> None:
    votes = np.array([[0.2, 0.5, 0.3], [0, 0, 0], [0.4, 0.2, 0.4], [np.nan, 0, 1], [0, 0, 1]], np.float32)
    np.savez(tmp_path / "faces.npz", crops=noise(5), votes=votes)
    pictures = pictures_of(tmp_path / "faces.npz", 112, ("a", "b", "c"))
    assert pictures.truth.tolist() == [1, 0, 2]
    assert (pictures.crops == noise(5)[[0, 2, 4]]).all()


@pytest.mark.parametrize(
    ("name", "arrays", "says"),
    [
        ("none", {}, "none.npz is not there"),
        ("clip.mp4", {}, "has no labels: --expressions takes an npz with arrays of crops and votes"),
        ("unlabelled", {"crops": noise(5)}, "has no array of votes"),
        ("narrow", {"crops": noise(5), "votes": np.ones((5, 2))}, r"float64\[5, 2\], numbers \[5, 3\] .*: a, b, c"),
        ("short", {"crops": noise(5), "votes": np.ones((4, 3))}, r"votes are float64\[4, 3\], numbers \[5, 3\] are"),
        ("words", {"crops": noise(5), "votes": np.full((5, 3), "1")}, r"votes are <U1\[5, 3\], numbers \[5, 3\]"),
        ("empty", {"crops": noise(5), "votes": np.full((5, 3), np.nan)}, "no crop of it has votes"),
        ("small", {"crops": np.zeros((5, 8, 8), np.uint8), "votes": np.ones((5, 3))}, r"crops are uint8\[5, 8, 8\]"),
    ],
)
def test_labels_that_cannot_be_used_are_one_line(
    tmp_path: Path, name: str, arrays: dict[str, np.ndarray], says: str
) -> None:
    path = (tmp_path / name).with_suffix(".mp4" if name == "clip.mp4" else ".npz")
    if arrays:
        np.savez(path, **arrays)
    with pytest.raises(CropsError, match=says) as told:
        pictures_of(path, 112, ("a", "b", "c"))
    assert "\n" not in str(told.value)


def test_a_file_without_labels_ends_the_command_before_it_writes(tmp_path: Path) -> None:
    file = build_tiny(tmp_path / "tiny")
    np.savez(tmp_path / "crops.npz", crops=noise(64))
    done = run(tmp_path / "crops.npz", "--model", file.path.parent, "--expressions", tmp_path / "crops.npz")
    assert done.returncode == 2 and "has no array of votes" in done.stderr and done.stderr.count("\n") == 1
    assert quantised_spec(file) is None


def test_what_an_earlier_version_wrote_is_refused_in_one_line(tmp_path: Path) -> None:
    file = build_tiny(tmp_path / "tiny")
    far = {"score": 0, "most_score": 0, "activation": 0, "most_activation": 0, "contribution": 0, "same": 1}
    old = {"form": "u8", "file": "model.int8-u8.onnx", "sha256": "0" * 64, "left": [], "away": far, "alone": {"a": 0.1}}
    spec = {"of": file.manifest.sha256, "method": "percentile", "crops": 384, "held": 256, "files": [old]}
    file.path.with_name(QUANTISED).write_bytes(msgspec.json.encode(spec))
    sample = {"crop": np.zeros((1, 1, 112, 112), np.float32)}
    with pytest.raises(EngineError, match=r"cannot be used, run python -m calibration\.int8 again: ") as told:
        load("onnxruntime", file, "int8", 1, sample)
    assert "\n" not in str(told.value)
    assert choose("onnxruntime", file, None, 1, sample).engine.backend == "onnxruntime/fp32"


@needs_model
@pytest.mark.slow
def test_what_is_written_is_near_float32_and_says_how_near(made: ModelFile) -> None:
    spec = quantised_spec(made)
    assert spec is not None and spec.of == made.manifest.sha256
    assert {each.form for each in spec.files} == {"u8", "s8"}
    for each in spec.files:
        path = made.path.with_name(each.file)
        assert path.stat().st_size < made.path.stat().st_size / 2
        away = each.away
        assert away.score <= 0.01 and away.contribution <= 0.01 and away.same > 0.9
        assert each.left == tuple(dearest_first(each.alone)[: len(each.left)])
        assert all(each.alone[layer].landmarks for layer in ("node_conv2d_31", "node_matmul")), (
            "no score is made of them"
        )
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
        content = quantised_spec(copy)
        assert content is not None
        far = [
            msgspec.structs.replace(
                one, most_score=nearer * one.most_score, most_activation=nearer * one.most_activation
            )
            for one in (each.away for each in content.files)
        ]
        files = tuple(msgspec.structs.replace(each, away=one) for each, one in zip(content.files, far, strict=True))
        (folder / QUANTISED).write_bytes(msgspec.json.encode(msgspec.structs.replace(content, files=files)))
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


@needs_model
def test_too_few_crops_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "few.npz", crops=np.zeros((5, 112, 112), np.uint8))
    done = run(tmp_path / "few.npz", "--model", MODEL)
    assert done.returncode == 2
    assert done.stderr.strip() == "5 crops; 64 are the least"
