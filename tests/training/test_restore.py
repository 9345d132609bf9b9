"""A file that ships is a network again: it answers the same, in training mode as well, and learns on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("numba")
pytest.importorskip("sklearn")

import torch
import typer

from engines.spec import ModelFile, load_model_file
from tests.training.material import learnable, write_experiment
from training import restore as restoring
from training.agcm.model import Agcm
from training.data.samples import save
from training.experiment import Experiment, load
from training.export import TOLERANCE, parity, tensors
from training.systems.table import agcm

SHIPPED = load_model_file("agcm-live")
CONFIG = Path("training/configs/agcm-live-further.toml")


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    return tensors(learnable(64), SHIPPED.manifest.crop.size_px if SHIPPED.manifest.crop else 0)


@pytest.fixture(scope="module")
def restored(crops: np.ndarray) -> Agcm:
    return restoring.restore(load(CONFIG), SHIPPED, crops)


def fresh(experiment: Experiment, model: Agcm) -> Agcm:
    """Another network with the same state: nothing but what is saved."""
    other = agcm(experiment)
    other.load_state_dict(model.state_dict())
    return other.eval()


def test_answers_are_those_of_the_file(restored: Agcm, crops: np.ndarray) -> None:
    assert parity(fresh(load(CONFIG), restored), SHIPPED, crops) <= TOLERANCE


def test_norms_divide_by_what_they_measure(restored: Agcm, crops: np.ndarray) -> None:
    """Without settling, the first batch of a training would find another network."""
    model = fresh(load(CONFIG), restored)
    inputs = torch.from_numpy(crops)
    with torch.no_grad():
        expected = model(inputs).heads
        model.train()
        got = model(inputs).heads
    assert (got - expected).abs().mean() < 0.25 * expected.std()


def test_another_network_is_refused(face: object, tmp_path: Path, crops: np.ndarray) -> None:
    experiment = load(write_experiment(tmp_path, face))  # type: ignore[arg-type]  # the fixture of conftest
    with pytest.raises(restoring.ExperimentError, match="face-resnet"):
        restoring.restore(experiment, SHIPPED, crops)


def test_a_file_that_is_no_agcm_is_refused(crops: np.ndarray) -> None:
    detector: ModelFile = load_model_file("centerface")
    with pytest.raises(restoring.ExperimentError, match="is not the network of"):
        restoring.restore(load(CONFIG), detector, crops)


def test_the_command_writes_weights(tmp_path: Path) -> None:
    save(tmp_path / "crops.npz", learnable(64))
    out = tmp_path / "run" / "weights.pt"
    restoring.main(SHIPPED.path.parent, CONFIG, out, tmp_path / "crops.npz")
    agcm(load(CONFIG)).load_state_dict(torch.load(out, weights_only=True))


def test_the_command_names_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        restoring.main(tmp_path / "nothing", CONFIG, tmp_path / "weights.pt", tmp_path / "crops.npz")
    assert "nothing" in capsys.readouterr().err
