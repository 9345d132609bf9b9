"""A file that ships is a network again: it answers the same, in training mode as well, and learns on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("numba")
pytest.importorskip("sklearn")

import torch
import typer
from torch import nn

from engines.spec import ModelFile, TensorSpec, load_model_file
from tests.training.material import learnable, write_experiment
from training import restore as restoring
from training.agcm.model import Agcm
from training.data.samples import save
from training.experiment import Experiment, load
from training.export import TOLERANCE, parity, tensors, to_onnx
from training.synthetic.ict import FaceModel
from training.systems.table import agcm

SHIPPED = load_model_file("agcm-live")
CONFIGS = Path("training/configs")
CONFIG = CONFIGS / "agcm-live-slim.toml"


@dataclass(frozen=True, slots=True)
class Restored:
    """A file and what was made of it."""

    file: ModelFile
    experiment: Experiment
    model: Agcm

    def fresh(self) -> Agcm:
        """Another network with the same state: nothing but what is saved."""
        other = agcm(self.experiment)
        other.load_state_dict(self.model.state_dict())
        return other.eval()


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    return tensors(learnable(32), 112)


def exported(experiment: Experiment, path: Path) -> ModelFile:
    """A network with random weights and random norms, so that folding them changes every number."""
    torch.manual_seed(1)
    model = agcm(experiment).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and module.running_var is not None:
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.bias, 0, 0.1)
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    to_onnx(model, path, experiment.crop_px)
    outputs = tuple(TensorSpec(name, "float32", (-1,)) for name in model.names)
    return ModelFile(path, msgspec.structs.replace(SHIPPED.manifest, outputs=outputs))


@pytest.fixture(scope="module", params=["agcm-live-slim", "agcm-live-further", "agcm-sface", "agcm-lite"])
def restored(request: pytest.FixtureRequest, crops: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Restored:
    experiment = load(CONFIGS / f"{request.param}.toml")
    path = tmp_path_factory.mktemp("restore") / "model.onnx"
    file = SHIPPED if request.param == CONFIG.stem else exported(experiment, path)
    return Restored(file, experiment, restoring.restore(experiment, file, crops))


def test_answers_are_those_of_the_file(restored: Restored, crops: np.ndarray) -> None:
    assert parity(restored.fresh(), restored.file, crops) <= TOLERANCE


def test_norms_divide_by_what_they_measure(restored: Restored, crops: np.ndarray) -> None:
    """Without settling, the first batch of a training would find another network."""
    model = restored.fresh()
    inputs = torch.from_numpy(crops)
    with torch.no_grad():
        expected = model(inputs).heads
        got = model.train()(inputs).heads
    assert (got - expected).abs().mean() < 0.3 * expected.std()


def test_another_network_is_refused(face: FaceModel, tmp_path: Path, crops: np.ndarray) -> None:
    with pytest.raises(restoring.ExperimentError, match="is not the network of tiny"):
        restoring.restore(load(write_experiment(tmp_path, face)), SHIPPED, crops)
    with pytest.raises(restoring.ExperimentError, match="is not the network of agcm-sface"):
        restoring.restore(load(CONFIGS / "agcm-sface.toml"), SHIPPED, crops)


def test_a_file_that_is_no_agcm_is_refused(crops: np.ndarray) -> None:
    with pytest.raises(restoring.ExperimentError, match="is not the network of"):
        restoring.restore(load(CONFIG), load_model_file("centerface"), crops)


def test_the_command_writes_weights(tmp_path: Path) -> None:
    save(tmp_path / "crops.npz", learnable(64))
    out = tmp_path / "run" / "weights.pt"
    restoring.main(SHIPPED.path.parent, CONFIG, out, tmp_path / "crops.npz")
    agcm(load(CONFIG)).load_state_dict(torch.load(out, weights_only=True))


def test_the_command_names_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        restoring.main(tmp_path / "nothing", CONFIG, tmp_path / "weights.pt", tmp_path / "crops.npz")
    assert "nothing" in capsys.readouterr().err
