"""Vision Transformer (Dosovitskiy et al. 2021) for one luma plane, written for checkpoints that a user has.

Names and shapes of the tensors are those of MAE (He et al. 2022) and of timm's vit_*_patch16, so that a checkpoint of
either fills it. The study of AGCM uses ViT-B/16 at 224 px; other sides take interpolated position embeddings.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.crop import CROP

PATCH_PX = 16
_MEAN_RGB, _STD_RGB = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""How MAE and timm normalise a colour picture."""
_WRAPPERS = ("model", "state_dict")
_ENCODER = ("blocks.", "patch_embed.", "norm_pre.", "reg_token", "dist_token", "register_tokens")
"""What the names of an encoder's tensors begin with, before its last norm."""


@dataclass(frozen=True, slots=True)
class VitShape:
    """depth: blocks. width: D. heads: of attention, a divisor of the width. side_px: that pos_embed is made for.
    drop_path: probability that the last block is skipped in training; earlier ones in proportion (Huang et al. 2016).
    """

    depth: int
    width: int
    heads: int
    side_px: int = 224
    drop_path: float = 0.1


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        q, k, v = self._split(x)
        mixed = F.scaled_dot_product_attention(q, k, v)
        y: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return y

    def of_first(self, x: Tensor) -> Tensor:
        """How the first token attends to all, the mean over heads: [B, T, D] -> [B, T], rows sum to 1."""
        q, k, _ = self._split(x)
        scores = (q[:, :, :1] * k).sum(-1) * q.shape[-1] ** -0.5
        attention: Tensor = scores.float().softmax(-1).mean(1)
        return attention

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.qkv(x).reshape(*x.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        return q, k, v


class Mlp(nn.Module):
    """Two layers with a GELU between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        y: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return y


class Block(nn.Module):
    """Attention and MLP, each normalised before and added to its input."""

    def __init__(self, width: int, heads: int, drop_path: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn, self.mlp = Attention(width, heads), Mlp(width)
        self.drop_path = drop_path

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        x = x + self._kept(self.attn(self.norm1(x)))
        return x + self._kept(self.mlp(self.norm2(x)))

    def _kept(self, branch: Tensor) -> Tensor:
        if not self.training or not self.drop_path:
            return branch
        keep = 1 - self.drop_path
        return branch * (torch.rand(len(branch), 1, 1, device=branch.device) < keep).to(branch.dtype) / keep


class PatchEmbed(nn.Module):
    """Non-overlapping patches of 16 x 16 px."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(1, width, PATCH_PX, PATCH_PX)

    def forward(self, luma: Tensor) -> Tensor:
        """[B, 1, S, S] -> [B, D, S / 16, S / 16]."""
        y: Tensor = self.proj(luma)
        return y


class LumaVit(nn.Module):
    """Luma [B, 1, S, S] -> patch tokens after the last norm, laid out as features [B, channels, S / 16, S / 16]."""

    def __init__(self, shape: VitShape) -> None:
        super().__init__()
        self.channels = shape.width
        self.patch_embed = PatchEmbed(shape.width)
        self.cls_token = nn.Parameter(torch.randn(1, 1, shape.width) * 0.02)
        self.pos_embed = nn.Parameter(torch.randn(1, 1 + (shape.side_px // PATCH_PX) ** 2, shape.width) * 0.02)
        rates = torch.linspace(0, shape.drop_path, shape.depth).tolist()
        self.blocks = nn.Sequential(*(Block(shape.width, shape.heads, rate) for rate in rates))
        self.norm = nn.LayerNorm(shape.width, eps=1e-6)

    def forward(self, luma: Tensor) -> Tensor:
        """See the class."""
        x, grid = self._tokens(luma)
        return self._laid_out(self.blocks(x), grid)

    def attended(self, luma: Tensor) -> tuple[Tensor, Tensor]:
        """Features, and how the CLS token attends to each patch, summed over blocks (Gao et al. 2021) [B, h, w]."""
        x, grid = self._tokens(luma)
        attention = torch.zeros(len(x), x.shape[1], device=x.device)
        for block in self.blocks:
            assert isinstance(block, Block)
            attention = attention + block.attn.of_first(block.norm1(x))
            x = block(x)
        return self._laid_out(x, grid), attention[:, 1:].reshape(-1, *grid)

    def _tokens(self, luma: Tensor) -> tuple[Tensor, tuple[int, int]]:
        patches = self.patch_embed(luma)
        height, width = patches.shape[-2:]
        x = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches.flatten(2).transpose(1, 2)], dim=1)
        return x + fit_positions(self.pos_embed, (height, width)), (height, width)

    def _laid_out(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Token-major to channel-major by transposing, so that a cell is one patch (see TokenOrder in model.py)."""
        patches: Tensor = self.norm(x)[:, 1:]
        features: Tensor = patches.transpose(1, 2).reshape(len(patches), -1, *grid)
        return features

    def load(self, path: Path) -> None:
        """Fill everything from a checkpoint; decoder and classifier are left out.

        Raises ValueError naming the first tensor that is missing, has another shape, or is of a part that this encoder
        does not have, such as a thirteenth block or the scales of DINOv2: without it the rest would not be the same.
        """
        source = read_checkpoint(path)
        state = self.state_dict()
        strange = [name for name in source if name.startswith(_ENCODER) and name not in state]
        if strange:
            raise ValueError(f"{path} is no checkpoint of this ViT: it also holds {strange[0]}")
        for name, own in state.items():
            state[name] = self._adapted(name, own, source, path)
        self.load_state_dict(state)

    def _adapted(self, name: str, own: Tensor, source: Mapping[str, Tensor], path: Path) -> Tensor:
        """One tensor from the checkpoint, for luma instead of colour and for this grid."""
        # A network that was tuned on the mean of all patches has its last norm after the mean, under another name.
        published = name.replace("norm.", "fc_norm.", 1) if name.startswith("norm.") and name not in source else name
        if published not in source:
            raise ValueError(f"{path} is no checkpoint of this ViT: {name} is missing")
        found = source[published].float()
        if name == "pos_embed" and found.ndim == 3 and found.shape[-1] == own.shape[-1]:
            side = round((own.shape[1] - 1) ** 0.5)
            found = fit_positions(found, (side, side))
        elif name == "patch_embed.proj.weight" and found.ndim == 4 and found.shape[1] == 3:
            found = (found * _column(CROP.std, _STD_RGB)).sum(1, keepdim=True)
        elif name == "patch_embed.proj.bias":
            colour = source.get("patch_embed.proj.weight")
            if colour is not None and colour.ndim == 4 and colour.shape[1] == 3:
                offset = torch.tensor([(CROP.mean - m) / s for m, s in zip(_MEAN_RGB, _STD_RGB, strict=True)])
                found = found + torch.einsum("oihw,i->o", colour.float(), offset)
        if found.shape != own.shape:
            raise ValueError(f"{path}: {name} is {list(found.shape)}, this ViT needs {list(own.shape)}")
        return found


def _column(value: float, by: tuple[float, ...]) -> Tensor:
    return torch.tensor([value / each for each in by])[None, :, None, None]


def fit_positions(embedding: Tensor, grid: tuple[int, int]) -> Tensor:
    """Position embeddings [1, 1 + g g, D] of CLS and a square grid, interpolated to [1, 1 + h w, D]."""
    side = round((embedding.shape[1] - 1) ** 0.5)
    if grid == (side, side):
        return embedding
    plane = embedding[:, 1:].transpose(1, 2).reshape(1, -1, side, side)
    fitted = F.interpolate(plane, size=grid, mode="bicubic", align_corners=False)
    return torch.cat([embedding[:, :1], fitted.flatten(2).transpose(1, 2)], dim=1)


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint, out of the wrapper "model" or "state_dict" if it has one.

    Raises ValueError if the file is no checkpoint. Nothing in it is executed; MAE keeps its arguments beside the
    weights, whose type is the only one let in.
    """
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises pickle's own error for what it refuses, and many more for what is broken
        raise ValueError(f"{path} is no checkpoint that can be read safely: {str(error).splitlines()[0]}") from error
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no tensors by name")  # noqa: TRY004  # the file is wrong, not the caller's type
    return {name: value for name, value in content.items() if isinstance(value, Tensor)}
