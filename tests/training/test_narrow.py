"""A smaller network begins with the first channels of a larger one, and says which tensor does not fit."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

pytest.importorskip("torch")
pytest.importorskip("numba")

import torch
import typer

from training import narrow as narrowing
from training.experiment import Experiment, ExperimentError, load
from training.run import load_weights
from training.systems.table import build

CONFIG = Path("training/configs/agcm-lite.toml")


@pytest.fixture(scope="module")
def small() -> Experiment:
    return load(CONFIG)


@pytest.fixture(scope="module")
def large(small: Experiment) -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return build(msgspec.structs.replace(small, deep_channels=96, landmarks=0.0)).state_dict()


def test_the_start_holds_what_the_larger_network_learnt(small: Experiment, large: dict[str, torch.Tensor]) -> None:
    start = narrowing.narrowed(small, large)
    model = build(small)
    model.load_state_dict(start)
    assert torch.equal(start["backbone.stem.0.weight"], large["backbone.stem.0.weight"])
    assert torch.equal(start["embed"], large["embed"][..., : model.backbone.channels])
    assert any(name.startswith("landmarks.") for name in start)
    assert not any("deep" in name or "lateral" in name for name in start)


def test_what_lacks_a_tensor_is_refused_by_its_name(small: Experiment, large: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ExperimentError, match=r"agcm-lite: the weights have no query of \[26, 112\] or more"):
        narrowing.narrowed(small, {name: value for name, value in large.items() if name != "query"})
    with pytest.raises(ExperimentError, match="the weights have no embed_bias"):
        narrowing.narrowed(small, large | {"embed_bias": torch.zeros(1, 32)})


def test_the_command_writes_weights_and_refuses_in_one_line(
    large: dict[str, torch.Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(large, tmp_path / "large.pt")
    narrowing.main(tmp_path / "large.pt", CONFIG, tmp_path / "start.pt")
    assert set(load_weights(tmp_path / "start.pt")) > {"embed", "landmarks.maps.weight"}
    with pytest.raises(typer.Exit):
        narrowing.main(tmp_path / "none.pt", CONFIG, tmp_path / "other.pt")
    assert "weights not found" in capsys.readouterr().err
    assert not (tmp_path / "other.pt").exists()
