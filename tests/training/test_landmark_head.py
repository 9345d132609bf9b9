"""A network that is given landmarks answers all else as before, and finds a face that it has learnt to place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("numba")
pytest.importorskip("sklearn")

import onnx
import torch
import typer

from engines.backend_onnxruntime import OnnxRuntimeEngine
from engines.preprocess import to_tensor
from engines.spec import ModelFile, model_at
from tests.training.material import SIDE_PX, learnable, without_landmarks
from training import landmark_head
from training.agcm.landmarks import Landmarks
from training.data.augment import centre
from training.data.samples import MARGIN_PX, Samples, blank, save


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> ModelFile:
    return without_landmarks(tmp_path_factory.mktemp("models") / "bare")


def marked(count: int) -> Samples:
    """Crops with a bright disc where each point of the template lies."""
    rng = np.random.default_rng(2)
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX]
    crops = rng.integers(40, 60, (count, SIDE_PX, SIDE_PX))
    for column, row in ((56, 65), (88, 65), (72, 83), (59, 101), (85, 101)):
        crops[:, np.hypot(x - column, y - row) < 6] += 150
    return blank(crops.astype(np.uint8), np.ones(count, bool))


def answers(file: ModelFile, samples: Samples) -> dict[str, np.ndarray]:
    assert file.manifest.crop is not None
    crops = np.stack([centre(each, MARGIN_PX, file.manifest.crop.size_px) for each in samples.crops])
    return OnnxRuntimeEngine(file).infer({"crop": to_tensor(crops, file.manifest.crop)})


def test_all_else_is_as_before_and_the_manifest_keeps_what_was_measured(bare: ModelFile, tmp_path: Path) -> None:
    save(tmp_path / "crops.npz", marked(128))
    landmark_head.main(bare.path.parent, [tmp_path / "crops.npz"], tmp_path / "placed", epochs=20)
    made = model_at(str(tmp_path / "placed"))
    assert [each.domain for each in onnx.load(made.path).opset_import] == [""]
    assert made.manifest.heads == bare.manifest.heads and made.manifest.concepts == bare.manifest.concepts
    before, after = answers(bare, learnable(5)), answers(made, learnable(5))
    assert set(after) == {*before, "landmarks"}
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)
    found = answers(made, marked(4))["landmarks"]
    spec = made.manifest.crop
    assert spec is not None
    views, places = landmark_head.views(marked(24), np.arange(24), spec, np.random.default_rng(9))
    said = OnnxRuntimeEngine(made).infer({"crop": views})["landmarks"]
    spread, off = np.std(places[:, :, 0]), np.abs(said - places).mean()
    assert off < 0.7 * np.abs(places - places.mean(0)).mean(), "it follows how the crops were moved"
    assert found.shape == (4, 5, 2) and spread > 0.02


def test_a_network_that_has_landmarks_or_cannot_have_any_is_a_mistake_of_one_line(
    bare: ModelFile, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "crops.npz", learnable(4))
    for model, says in (
        ("models/agcm-lite", "error: agcm-lite has landmarks already\n"),
        ("models/centerface", "error: centerface is not a concept model"),
    ):
        with pytest.raises(typer.Exit):
            landmark_head.main(Path(model), [tmp_path / "crops.npz"], tmp_path / "none")
        assert capsys.readouterr().err.startswith(says)
    assert not (tmp_path / "none").exists()


def test_a_head_that_is_not_the_fitted_one_is_not_joined(bare: ModelFile, tmp_path: Path) -> None:
    torch.manual_seed(0)
    engine = landmark_head.opened(bare, tmp_path)
    crops = np.zeros((2, 1, 112, 112), np.float32)
    channels = engine.infer({"crop": crops})[engine.manifest.outputs[0].name].shape[1]
    one, other = Landmarks(channels, 8).eval(), Landmarks(channels, 8).eval()
    content = landmark_head.joined(onnx.load(bare.path), one).SerializeToString()
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    made = ModelFile(path, landmark_head.described(bare.manifest, content))
    landmark_head.check(bare, made, one, engine, crops)
    with pytest.raises(landmark_head.HeadError, match="does not answer what the fitted one does"):
        landmark_head.check(bare, made, other, engine, crops)


def test_the_head_reads_all_features_and_not_the_mixtures_that_the_attention_reads(
    bare: ModelFile, tmp_path: Path
) -> None:
    engine = landmark_head.opened(bare, tmp_path)
    features = engine.infer({"crop": np.zeros((1, 1, 112, 112), np.float32)})[engine.manifest.outputs[0].name]
    assert features.shape == (1, 128 + 96, 7, 7)
