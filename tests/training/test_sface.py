"""SFace on luma: the published numbers in their place, the same answer as the published layers, and what stays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("numba")

import onnx
import torch
from torch.nn import functional as F

from training.agcm.sface import LumaSFace, SlopedReLU
from training.crop import CROP

BLOCKS = ((32, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512), *((512, 512),) * 5,
          (512, 1024), (1024, 1024))  # fmt: skip


def layers() -> Iterator[tuple[str, tuple[int, int, int]]]:
    """Name and [C, C_in, k] of every convolution in the published file."""
    yield "conv_1", (32, 3, 3)
    for number, (channels_in, channels) in enumerate(BLOCKS, start=2):
        yield f"conv_{number}_dw", (channels_in, 1, 3)
        yield f"conv_{number}", (channels, channels_in, 1)


@pytest.fixture(scope="module")
def constants() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2)
    made = {}
    for name, (channels, channels_in, side) in layers():
        made[f"{name}_conv2d_weight"] = rng.normal(0, (2 / (channels_in * side**2)) ** 0.5,
                                                   (channels, channels_in, side, side))  # fmt: skip
        made[f"{name}_batchnorm_gamma"] = rng.uniform(0.5, 1.5, channels)
        made[f"{name}_batchnorm_beta"] = rng.normal(0, 0.1, channels)
        made[f"{name}_batchnorm_moving_mean"] = rng.normal(0, 0.1, channels)
        made[f"{name}_batchnorm_moving_var"] = rng.uniform(0.5, 1.5, channels)
        made[f"{name}_relu_gamma"] = rng.uniform(-0.2, 0.5, (channels, 1, 1))
    return {name: values.astype(np.float32) for name, values in made.items()}


def write(path: Path, constants: dict[str, np.ndarray]) -> Path:
    held = [onnx.numpy_helper.from_array(values, name) for name, values in constants.items()]
    graph = onnx.helper.make_graph([], "network", [], [], held)
    onnx.save(onnx.helper.make_model(graph), path)
    return path


@pytest.fixture(scope="module")
def loaded(constants: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> LumaSFace:
    model = LumaSFace(8)
    model.load(write(tmp_path_factory.mktemp("sface") / "network.onnx", constants))
    return model.eval()


def published(x: torch.Tensor, constants: dict[str, np.ndarray], last: int) -> torch.Tensor:
    """The published layers up to block `last`, on three colour planes."""

    def layer(x: torch.Tensor, name: str, stride: int) -> torch.Tensor:
        get = {key: torch.from_numpy(values) for key, values in constants.items() if key.startswith(f"{name}_")}
        w = get[f"{name}_conv2d_weight"]
        groups = x.shape[1] if name.endswith("_dw") else 1
        x = F.conv2d(x, w, None, stride, w.shape[-1] // 2, groups=groups)
        norm = (get[f"{name}_batchnorm_{part}"] for part in ("moving_mean", "moving_var", "gamma", "beta"))
        mean, variance, gamma, beta = norm
        x = F.batch_norm(x, mean, variance, gamma, beta, eps=1e-3)
        return F.prelu(x, get[f"{name}_relu_gamma"].flatten())

    x = layer(x, "conv_1", 1)
    for number in range(2, last + 1):
        x = layer(x, f"conv_{number}_dw", 2 if number in (3, 5, 7, 13) else 1)
        x = layer(x, f"conv_{number}", 1)
    return x


@torch.no_grad()
def test_luma_answers_as_grey_colour(loaded: LumaSFace, constants: dict[str, np.ndarray]) -> None:
    value = torch.rand(2, 1, 48, 48) * 255
    luma = (value / 255 - CROP.mean) / CROP.std
    colour = ((value - CROP.mean * 255) / 128).expand(-1, 3, -1, -1)
    got = loaded.deep(loaded.fine(loaded.kept(luma))) if loaded.deep is not None else None
    expected = published(colour, constants, 14)
    assert got is not None and got.shape == expected.shape == (2, 1024, 3, 3)
    assert torch.allclose(got, expected, atol=1e-3 * float(expected.abs().max()))


@pytest.mark.parametrize(("deep", "channels"), [(0, 128), (8, 136)])
def test_features_have_a_sixteenth_of_the_side(deep: int, channels: int) -> None:
    model = LumaSFace(deep).eval()
    assert model(torch.zeros(1, 1, 80, 80)).shape == (1, channels, 5, 5)
    assert model.channels == channels


def test_early_blocks_stay_and_the_others_learn(loaded: LumaSFace) -> None:
    before = {name: value.clone() for name, value in loaded.state_dict().items()}
    loaded.train()
    optimizer = torch.optim.AdamW(loaded.parameters(), 1e-2, weight_decay=0.1)
    loaded(torch.randn(2, 1, 48, 48)).square().mean().backward()
    optimizer.step()
    after = {name: value.clone() for name, value in loaded.state_dict().items()}
    loaded.load_state_dict(before)
    loaded.eval()
    changed = {name.split(".")[0] for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == {"fine", "deep", "lateral", "deep_lateral"}


def test_gradient_is_that_of_torch() -> None:
    layer = SlopedReLU(3).train()
    layer.slopes.copy_(torch.tensor([-0.1, 0.2, 0.5]))
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    wanted = torch.autograd.grad(F.prelu(x, layer.slopes.double()).square().sum(), x)[0]
    got = torch.autograd.grad(layer(x).square().sum(), x)[0]
    assert torch.allclose(got, wanted)


def test_another_file_is_refused(tmp_path: Path, constants: dict[str, np.ndarray]) -> None:
    with pytest.raises(KeyError, match="conv_1_conv2d_weight"):
        LumaSFace(0).load(write(tmp_path / "empty.onnx", {}))
    narrow = constants | {"conv_1_conv2d_weight": constants["conv_1_conv2d_weight"][:16]}
    with pytest.raises(ValueError, match="has the shape"):
        LumaSFace(0).load(write(tmp_path / "narrow.onnx", narrow))
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises((KeyError, ValueError)):
        LumaSFace(0).load(tmp_path / "text.onnx")
