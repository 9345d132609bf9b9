"""EfficientNet-Lite0 on luma: shapes, and the published weights under their published names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor
from torch.nn import functional as F

from training.agcm.backbone import LumaEfficientNetLite0

# expansion, kernel, output channels, repeats: table 1 of Tan & Le 2019; the Lite variant keeps it.
STAGES = ((1, 3, 16, 1), (6, 3, 24, 2), (6, 5, 40, 2), (6, 3, 80, 3), (6, 5, 112, 3), (6, 5, 192, 4), (6, 3, 320, 1))


def layer(conv: str, norm: str, *shape: int) -> Iterator[tuple[str, Tensor]]:
    """A convolution [out, in, k, k] and its batch norm, as they are named and ordered in the published checkpoint."""
    yield f"{conv}.weight", torch.randn(shape)
    for part in ("weight", "bias", "running_mean"):
        yield f"{norm}.{part}", torch.randn(shape[0])
    yield f"{norm}.running_var", torch.rand(shape[0]) + 0.5
    yield f"{norm}.num_batches_tracked", torch.tensor(7)


def published() -> dict[str, Tensor]:
    """A checkpoint with the names and shapes of efficientnet-lite0, head included, and random values."""
    state = dict(layer("_conv_stem", "_bn0", 32, 3, 3, 3))
    width, block = 32, 0
    for expansion, kernel, channels, repeats in STAGES:
        for _ in range(repeats):
            wide, name = width * expansion, f"_blocks.{block}"
            if expansion != 1:
                state |= layer(f"{name}._expand_conv", f"{name}._bn0", wide, width, 1, 1)
            state |= layer(f"{name}._depthwise_conv", f"{name}._bn1", wide, 1, kernel, kernel)
            state |= layer(f"{name}._project_conv", f"{name}._bn2", channels, wide, 1, 1)
            width, block = channels, block + 1
    return state | dict(layer("_conv_head", "_bn1", 1280, 320, 1, 1)) | {"_fc.weight": torch.randn(1000, 1280)}


@pytest.fixture(scope="module")
def checkpoint() -> dict[str, Tensor]:
    torch.manual_seed(3)
    return published()


def saved(state: dict[str, Tensor], folder: Path) -> Path:
    path = folder / "published.pth"
    torch.save(state, path)
    return path


@pytest.mark.parametrize("deep_channels", [0, 24])
def test_every_published_tensor_of_the_features_finds_its_place(
    checkpoint: dict[str, Tensor], tmp_path: Path, deep_channels: int
) -> None:
    backbone = LumaEfficientNetLite0(deep_channels)
    lateral = {name: value.clone() for name, value in backbone.state_dict().items() if name.startswith("lateral")}
    backbone.load(saved(checkpoint, tmp_path))
    own = backbone.state_dict()
    blocks = 16 if deep_channels else 11
    used = [name for name in checkpoint if name.startswith("_blocks") and int(name.split(".")[1]) < blocks]
    ours = [name for name in own if name.startswith(("fine", "deep"))]
    assert len(used) == len(ours)
    for published_name, name in zip(used, ours, strict=True):  # both run through the network from its input on
        assert torch.equal(own[name], checkpoint[published_name]), (name, published_name)
    assert torch.equal(own["stem.1.running_var"], checkpoint["_bn0.running_var"])
    for name, value in lateral.items():
        assert torch.equal(own[name], value)


def test_a_luma_plane_is_a_grey_picture(checkpoint: dict[str, Tensor], tmp_path: Path) -> None:
    backbone = LumaEfficientNetLite0(0)
    backbone.load(saved(checkpoint, tmp_path))
    luma = torch.randn(2, 1, 16, 16)
    grey = F.conv2d(luma.expand(-1, 3, -1, -1), checkpoint["_conv_stem.weight"], stride=2, padding=1)
    torch.testing.assert_close(backbone.stem[0](luma), grey, atol=1e-4, rtol=1e-4)


def test_a_checkpoint_that_lacks_a_tensor_is_refused_by_name(checkpoint: dict[str, Tensor], tmp_path: Path) -> None:
    lacking = dict(checkpoint)
    del lacking["_blocks.7._bn1.bias"]
    with pytest.raises(KeyError, match=r"_blocks\.7\._bn1\.bias"):
        LumaEfficientNetLite0(0).load(saved(lacking, tmp_path))


@pytest.mark.parametrize(("deep_channels", "channels"), [(0, 112), (96, 208)])
def test_features_are_of_stride_sixteen(deep_channels: int, channels: int) -> None:
    backbone = LumaEfficientNetLite0(deep_channels).eval()
    with torch.no_grad():
        features = backbone(torch.randn(2, 1, 112, 80))
    assert features.shape == (2, channels, 7, 5)
    assert backbone.channels == channels


def test_the_deep_features_see_the_whole_face_and_the_fine_ones_their_place() -> None:
    """A change in one corner reaches the far corner only through the deep features."""
    torch.manual_seed(0)
    backbone = LumaEfficientNetLite0(8).eval()
    with torch.no_grad():
        base, changed = torch.zeros(1, 1, 224, 224), torch.zeros(1, 1, 224, 224)
        changed[..., :8, :8] = 3.0
        difference = (backbone(changed) - backbone(base)).abs()
    assert difference[0, :112, 0, 0].max() > 0
    assert difference[0, :112, -1, -1].max() == 0
