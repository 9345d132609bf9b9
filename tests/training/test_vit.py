"""ViT on luma: checkpoints by MAE's and timm's names, any side, and one clear line for what is none."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor
from torch.nn import functional as F

from training.agcm.vit import LumaVit, VitShape, fit_positions
from training.crop import CROP

SHAPE = VitShape(depth=2, width=12, heads=3, side_px=48)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def published(norm: str = "norm", grid: int = 3) -> dict[str, Tensor]:
    """A checkpoint as MAE writes it, for colour pictures, with a decoder and a head that are not wanted."""
    torch.manual_seed(7)
    state = {name: torch.randn_like(value) for name, value in LumaVit(SHAPE).state_dict().items()}
    state["patch_embed.proj.weight"] = torch.randn(12, 3, 16, 16) * 0.05
    state["pos_embed"] = torch.randn(1, 1 + grid * grid, 12)
    state = {name.replace("norm.", f"{norm}.", 1) if name.startswith("norm.") else name: t for name, t in state.items()}
    return state | {"mask_token": torch.randn(1, 1, 8), "decoder_embed.weight": torch.randn(8, 12),
                    "head.weight": torch.randn(1000, 12)}  # fmt: skip


def saved(content: object, folder: Path) -> Path:
    path = folder / "mae.pth"
    torch.save(content, path)
    return path


@pytest.mark.parametrize("wrapper", ["", "model", "state_dict"])
def test_every_tensor_finds_its_place(tmp_path: Path, wrapper: str) -> None:
    state = published()
    content = {wrapper: state, "epoch": 3, "args": argparse.Namespace(lr=0.1)} if wrapper else state
    vit = LumaVit(SHAPE)
    vit.load(saved(content, tmp_path))
    for name, value in vit.state_dict().items():
        if not name.startswith("patch_embed"):
            assert torch.equal(value, state[name]), name
    assert {"blocks.1.attn.qkv.weight", "blocks.0.mlp.fc2.bias", "cls_token", "norm.bias"} <= set(vit.state_dict())


def test_luma_is_the_grey_picture_in_the_colours_that_the_checkpoint_was_trained_on(tmp_path: Path) -> None:
    state = published()
    vit = LumaVit(SHAPE)
    vit.load(saved(state, tmp_path))
    grey = torch.rand(2, 1, 48, 48)
    colour = torch.cat([(grey - mean) / std for mean, std in zip(MEAN, STD, strict=True)], dim=1)
    expected = F.conv2d(colour, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], 16)
    torch.testing.assert_close(vit.patch_embed((grey - CROP.mean) / CROP.std), expected, atol=1e-4, rtol=1e-4)


def test_a_tuned_checkpoint_has_its_norm_under_another_name(tmp_path: Path) -> None:
    state, vit = published("fc_norm"), LumaVit(SHAPE)
    vit.load(saved(state, tmp_path))
    assert torch.equal(vit.norm.weight, state["fc_norm.weight"])


def test_positions_of_another_grid_are_interpolated(tmp_path: Path) -> None:
    vit = LumaVit(SHAPE)
    vit.load(saved(published(grid=6), tmp_path))
    assert vit.pos_embed.shape == (1, 10, 12)
    plane = torch.linspace(0, 1, 4).expand(4, 4)[None, None].flatten(2).transpose(1, 2)  # rises to the right
    wide = fit_positions(torch.cat([torch.full((1, 1, 1), 9.0), plane], dim=1), (5, 7))
    assert float(wide[0, 0, 0]) == 9.0, "CLS has no place"
    rows = wide[0, 1:, 0].reshape(5, 7)
    torch.testing.assert_close(rows, rows[:1].expand(5, 7))
    assert (rows[0].diff() > 0).all()
    for side in (48, 80):
        with torch.no_grad():
            assert vit.eval()(torch.zeros(2, 1, side, side)).shape == (2, 12, side // 16, side // 16)


def test_a_cell_of_the_features_is_its_own_patch(tmp_path: Path) -> None:
    """Without attention and MLP nothing mixes patches: a change in one patch moves one cell."""
    vit = LumaVit(SHAPE).eval()
    with torch.no_grad():
        for block in vit.blocks:
            for layer in (block.attn.proj, block.mlp.fc2):
                layer.weight.zero_()
                layer.bias.zero_()
        luma = torch.randn(1, 1, 48, 48)
        changed = luma.clone()
        changed[..., 32:48, 16:32] += 1.0
        moved = (vit(changed) - vit(luma)).abs().sum(1)[0] > 1e-6
    assert moved.nonzero().tolist() == [[2, 1]]


def test_what_is_no_such_checkpoint_is_named(tmp_path: Path) -> None:
    lacking = published()
    del lacking["blocks.1.mlp.fc1.bias"]
    with pytest.raises(ValueError, match=r"blocks\.1\.mlp\.fc1\.bias is missing"):
        LumaVit(SHAPE).load(saved(lacking, tmp_path))
    with pytest.raises(ValueError, match=r"blocks\.0\.norm1\.weight is \[12\], this ViT needs \[24\]"):
        wider = LumaVit(VitShape(2, 24, 3, 48))
        state = published() | {"cls_token": torch.zeros(1, 1, 24), "pos_embed": torch.zeros(1, 10, 24)}
        state["patch_embed.proj.weight"], state["patch_embed.proj.bias"] = torch.zeros(24, 3, 16, 16), torch.zeros(24)
        wider.load(saved(state, tmp_path))
    for strange in ("blocks.2.norm1.weight", "blocks.0.ls1.gamma", "norm_pre.weight", "reg_token"):
        with pytest.raises(ValueError, match=f"no checkpoint of this ViT: it also holds {strange}"):
            LumaVit(SHAPE).load(saved(published() | {strange: torch.zeros(12)}, tmp_path))
    (tmp_path / "text.pth").write_text("no checkpoint")
    with pytest.raises(ValueError, match=r"text\.pth is no checkpoint that can be read safely"):
        LumaVit(SHAPE).load(tmp_path / "text.pth")
    with pytest.raises(ValueError, match="holds no tensors by name"):
        LumaVit(SHAPE).load(saved([1, 2], tmp_path))


def test_skipped_blocks_are_for_training_only() -> None:
    vit = LumaVit(VitShape(2, 12, 3, 48, drop_path=0.9))
    luma = torch.randn(4, 1, 48, 48)
    torch.manual_seed(0)
    with torch.no_grad():
        assert not torch.equal(vit.train()(luma), vit(luma))
        assert torch.equal(vit.eval()(luma), vit(luma))
