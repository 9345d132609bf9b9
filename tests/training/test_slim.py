"""A slim network starts near the wide one, learns to answer what it does, and goes on where it was cut off."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("numba")
pytest.importorskip("lightning_fabric")

import torch
import typer
from torch import Tensor, nn
from torch.nn import functional as F

from engines.preprocess import TEMPLATE
from tests.training.material import learnable, stand_in_face, write_experiment
from training import slim as slimming
from training.agcm.imitation import answers_loss, divergence, features_loss, watched
from training.agcm.losses import landmark_loss
from training.agcm.model import Agcm, SpatialAttention
from training.agcm.slimming import SlimError, least_squares, slimmed
from training.data.samples import save
from training.experiment import ExperimentError, load
from training.export import tensors
from training.hardware import Precision
from training.restore import settle
from training.run import load_weights
from training.systems.table import agcm

WIDE = {"backbone": '{kind = "face-resnet"}', "crop_px": "48"}
SLIM = WIDE | {
    "backbone": '{kind = "face-resnet-slim"}', "attention_channels": "24", "landmarks": "5.0", "landmark_channels": "8",
}  # fmt: skip


@pytest.fixture(scope="module")
def experiments(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Files of a wide network's experiment and of a slim one's."""
    folder = tmp_path_factory.mktemp("slim")
    return tuple(write_experiment(folder / name, stand_in_face(), 8, **keys) for name, keys in
                 (("wide", WIDE), ("slim", SLIM)))  # type: ignore[return-value]  # fmt: skip  # two of them


@pytest.fixture(scope="module")
def crops() -> Tensor:
    return torch.from_numpy(tensors(learnable(48), 48))


def network(path: Path, seed: int = 0, **changes: object) -> Agcm:
    torch.manual_seed(seed)
    return agcm(msgspec.structs.replace(load(path), **changes)).eval()


@pytest.fixture(scope="module")
def wide(experiments: tuple[Path, Path], crops: Tensor) -> Agcm:
    """A wide network whose norms have seen pictures."""
    model = network(experiments[0])
    settle(model, crops)
    return model.eval()


@torch.no_grad()
def off(model: Agcm, wide: Agcm, crops: Tensor) -> float:
    """How far the features are off, as a share of their variance."""
    return float(features_loss([model.backbone(crops)], [wide.backbone(crops)]))


def test_a_network_that_is_no_slimmer_answers_the_same(
    experiments: tuple[Path, Path], wide: Agcm, crops: Tensor
) -> None:
    """As many channels and mixtures as there are: nothing is lost, though every kernel is fitted anew."""
    same = network(experiments[0], seed=1, attention_channels=wide.backbone.channels)
    slimmed(wide, same, crops)
    settle(same.eval(), crops)
    with torch.no_grad():
        said, wanted = same(crops), wide(crops)
    assert off(same, wide, crops) < 1e-3
    assert torch.allclose(said.heads, wanted.heads, atol=0.02 * float(wanted.heads.std()) + 1e-3)
    assert said.maps is not None and wanted.maps is not None
    assert torch.allclose(said.maps, wanted.maps, atol=0.01)


def test_a_slim_start_is_far_nearer_than_a_fresh_network(
    experiments: tuple[Path, Path], wide: Agcm, crops: Tensor
) -> None:
    start, fresh = network(experiments[1]), network(experiments[1])
    slimmed(wide, start, crops)
    assert start.state_dict()["backbone.fine.0.first.conv.weight"].shape[0] == 16
    assert start.attention.mix is not None and start.attention.mix.out_channels == 24
    assert off(start, wide, crops) < 0.5 * off(fresh, wide, crops)


def test_mixtures_and_their_kernels_are_one_kernel_over_all_features(crops: Tensor, wide: Agcm) -> None:
    """Of a low rank: what the attention reads through mixtures, it could read itself."""
    torch.manual_seed(2)
    attention = SpatialAttention(wide.backbone.channels, 3, 2, mixtures=5).eval()
    assert attention.mix is not None
    whole = torch.einsum("orhw,rd->odhw", attention.kernel(), attention.mix.weight[:, :, 0, 0])
    with torch.no_grad():
        features = wide.backbone(crops[:4])
        plain = SpatialAttention(wide.backbone.channels, 3, 2).eval()
        plain.folded = whole
        assert torch.allclose(attention(features), plain(features), atol=1e-5)


def test_the_fitted_convolution_is_the_one_that_made_the_answers() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 5, 3, padding=1)
    x = torch.randn(70, 3, 6, 6)
    with torch.no_grad():
        weight, bias = least_squares(x, layer(x))
    assert torch.allclose(weight, layer.weight, atol=1e-3)
    assert torch.allclose(bias, layer.bias, atol=1e-3)  # type: ignore[arg-type]  # made with a bias


def test_other_networks_are_refused(experiments: tuple[Path, Path], wide: Agcm, crops: Tensor) -> None:
    other = network(
        experiments[0], backbone=msgspec.convert({"kind": "efficientnet-lite0"}, type(load(experiments[0]).backbone))
    )
    with pytest.raises(SlimError, match="only networks on the face network"):
        slimmed(other, network(experiments[1]), crops)
    with pytest.raises(ExperimentError, match="not a slimmer form"):
        slimming.start(network(experiments[1]), network(experiments[0]), learnable(8), 48)


def test_what_is_alike_costs_nothing_and_what_is_not_does(
    wide: Agcm, experiments: tuple[Path, Path], crops: Tensor
) -> None:
    with torch.no_grad():
        said, other = wide(crops), network(experiments[0], seed=9)(crops)
    assert float(answers_loss(said, said)) == pytest.approx(0, abs=1e-5)
    assert float(answers_loss(other, said)) > 0.1
    shares = torch.tensor([[0.2, 0.8], [0.5, 0.5]]).log()
    assert float(divergence(shares, shares.roll(1, 0))) == pytest.approx(
        float(F.kl_div(shares, shares.roll(1, 0).exp(), reduction="batchmean"))
    )


def test_nothing_is_watched_afterwards(wide: Agcm, crops: Tensor) -> None:
    with torch.no_grad(), watched([wide.backbone]) as seen:
        wide(crops[:2])
    with torch.no_grad():
        wide(crops[:2])
    assert [part.shape for part in seen] == [(2, wide.backbone.channels, 3, 3)]


@pytest.fixture
def weights(wide: Agcm, tmp_path: Path) -> Path:
    torch.save(wide.state_dict(), tmp_path / "wide.pt")
    save(tmp_path / "crops.npz", learnable(40))
    return tmp_path / "wide.pt"


def run(experiments: tuple[Path, Path], weights: Path, out: Path, features: int, answers: int) -> None:
    slimming.main(
        experiments[0], weights, experiments[1], [weights.with_name("crops.npz")], out, features, answers, "32-true"
    )


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_slim_network_learns_to_answer_what_the_wide_one_does(
    experiments: tuple[Path, Path], wide: Agcm, crops: Tensor, tmp_path: Path, precision: Precision
) -> None:
    """From nothing, so that all of it is learnt; the face's place too."""
    experiment, slim = load(experiments[1]), network(experiments[1])
    points = torch.from_numpy(TEMPLATE).expand(len(crops), -1, -1)

    @torch.no_grad()
    def losses() -> list[float]:
        said = slim.eval()(crops)
        assert said.landmarks is not None
        return [
            float(answers_loss(said, wide(crops))),
            float(landmark_loss(said.landmarks, points)),
        ]

    before = losses()
    slimming.learn(wide, slim, learnable(40), experiment, slimming.Plan(40, 40, 16), tmp_path, precision)
    assert np.all(np.divide(losses(), before) < 0.6)


def test_a_run_that_was_cut_off_ends_with_the_same_weights(
    experiments: tuple[Path, Path], weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slimming, "_CHECKPOINT_STEPS", 1)
    run(experiments, weights, tmp_path / "whole", 3, 3)
    made, real = [], slimming.batch

    def cut(*arguments: object) -> object:
        made.append(arguments)
        if len(made) in (3, 6):
            raise KeyboardInterrupt
        return real(*arguments)  # type: ignore[arg-type]  # handed on as they are

    monkeypatch.setattr(slimming, "batch", cut)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run(experiments, weights, tmp_path / "cut", 3, 3)
    run(experiments, weights, tmp_path / "cut", 3, 3)
    whole, again = (load_weights(tmp_path / name / "weights.pt") for name in ("whole", "cut"))
    assert all(torch.allclose(value, again[name], atol=1e-6) for name, value in whole.items())


def test_mistakes_are_told_in_one_line(
    experiments: tuple[Path, Path], weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for bad, words in ((tmp_path / "none.pt", "weights not found"), (weights.with_name("crops.npz"), "damaged")):
        with pytest.raises(typer.Exit):
            slimming.main(
                experiments[0], bad, experiments[1], [weights.with_name("crops.npz")], tmp_path / "out", 1, 1, "32-true"
            )
        assert words in capsys.readouterr().err
    (tmp_path / "out").mkdir()
    torch.save({"model": {}, "stage": 0, "step": 0, "optimizer": None}, tmp_path / "out" / "checkpoint.pt")
    with pytest.raises(typer.Exit):
        run(experiments, weights, tmp_path / "out", 1, 1)
    assert "belongs to another network" in capsys.readouterr().err
