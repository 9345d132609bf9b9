"""The start of a slim network from the wide one that it is to replace.

Inside a block only the channels that carry most are kept, and the second convolution is fitted anew, by least squares,
to what the wide block adds to its shortcut (He, Zhang, Sun: "Channel pruning", ICCV 2017), on what the slim network
itself feeds it, so that later blocks make up for earlier ones. The attention reads as many mixtures of the features as
the slim network has: those through which its kernels see most of the features as they occur. All else is copied.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.agcm.face_resnet import ConvNorm, LumaFaceResNet, Residual
from training.agcm.model import Agcm, SpatialAttention

_RIDGE = 1e-4
"""Added to the normal equations, as a share of their mean diagonal: channels that are dead or alike have no weight of
their own."""
_BATCH = 64


class SlimError(ValueError):
    """The two networks are not a wide one and a slimmer one of its kind."""


@torch.no_grad()
def slimmed(wide: Agcm, slim: Agcm, crops: Tensor) -> None:
    """Fill `slim` from `wide`, by what both see of crops [N, 1, S, S]. Raises SlimError if they do not fit each other.

    The norms of the second convolutions do nothing afterwards: training.restore.settle gives them their statistics.
    """
    wide.eval()
    slim.eval()
    if not isinstance(wide.backbone, LumaFaceResNet) or not isinstance(slim.backbone, LumaFaceResNet):
        raise SlimError("only networks on the face network can be slimmed")
    _copy(wide, slim)
    pairs = list(zip(_blocks(wide.backbone), _blocks(slim.backbone), strict=True))
    given = torch.cat([_stem(wide.backbone, part) for part in _batches(crops)])
    own = given
    for block, thin in pairs:
        wanted = torch.cat([block(part) for part in _batches(given)])
        _fit(block, thin, given, own)
        given, own = wanted, torch.cat([thin(part) for part in _batches(own)])
    features = torch.cat([wide.backbone(part) for part in _batches(crops)])
    _mix(wide.attention, slim.attention, features)


def _batches(x: Tensor) -> list[Tensor]:
    return [x[start : start + _BATCH] for start in range(0, len(x), _BATCH)]


def _blocks(backbone: LumaFaceResNet) -> list[Residual]:
    found = [*backbone.fine, *backbone.deep]
    return [block for block in found if isinstance(block, Residual)]


def _stem(backbone: LumaFaceResNet, luma: Tensor) -> Tensor:
    return F.max_pool2d(F.relu(backbone.stem(luma)), 3, 2, 1)


def _copy(wide: Agcm, slim: Agcm) -> None:
    """Every tensor that both have alike; what the wide network does not have begins anew."""
    source, own = wide.state_dict(), slim.state_dict()
    slim.load_state_dict(own | {name: value for name, value in source.items() if _alike(own.get(name), value)})


def _alike(own: Tensor | None, value: Tensor) -> bool:
    return own is not None and own.shape == value.shape


def _fit(block: Residual, thin: Residual, given: Tensor, own: Tensor) -> None:
    """Give `thin`, which is fed `own`, the channels and the weights with which it adds what `block` does to `given`."""
    inner = F.relu(block.first(given))
    weight = block.second.conv.weight * _gain(block.second.norm)[:, None, None, None]
    worth = weight.square().sum((0, 2, 3)) * inner.square().mean((0, 2, 3))
    kept = worth.topk(thin.first.conv.out_channels).indices.sort().values
    _take(block.first, thin.first, kept)
    target = block.second(inner) + block.shortcut(given) - thin.shortcut(own)
    solved, offset = least_squares(F.relu(thin.first(own)), target)
    thin.second.conv.weight.copy_(solved)
    if thin.second.conv.bias is not None:
        thin.second.conv.bias.copy_(offset)
    norm = thin.second.norm
    for name, value in {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1 - norm.eps}.items():
        getattr(norm, name).fill_(value)


def _gain(norm: nn.BatchNorm2d) -> Tensor:
    """What a norm in evaluation mode multiplies by [C]."""
    if norm.running_var is None:
        raise SlimError("a norm that keeps no statistics cannot be read")
    return norm.weight * (norm.running_var + norm.eps).rsqrt()


def _take(layer: ConvNorm, thin: ConvNorm, kept: Tensor) -> None:
    """The filters `kept` of a convolution and its norm."""
    source = layer.state_dict()
    thin.load_state_dict({name: value[kept] if value.ndim else value for name, value in source.items()})


def least_squares(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The 3x3 convolution [O, I, 3, 3] and its bias [O] that come nearest to y [N, O, h, w] of x [N, I, h, w]."""
    size = x.shape[1] * 9 + 1
    gram, cross = (torch.zeros(size, columns, dtype=torch.float64) for columns in (size, y.shape[1]))
    for seen, wanted in zip(_batches(x), _batches(y), strict=True):
        columns = F.unfold(seen, 3, padding=1).transpose(0, 1).flatten(1)
        columns = torch.cat([columns, torch.ones_like(columns[:1])])
        gram += (columns @ columns.T).double()
        cross += (columns @ wanted.transpose(0, 1).flatten(1).T).double()
    ridge = torch.full((size,), _RIDGE * float(gram.diagonal()[:-1].mean()), dtype=torch.float64)
    ridge[-1] = 0.0
    solved = torch.linalg.solve(gram + ridge.diag(), cross).float()
    return solved[:-1].T.reshape(y.shape[1], x.shape[1], 3, 3), solved[-1]


def _mix(wide: SpatialAttention, slim: SpatialAttention, features: Tensor) -> None:
    """The mixtures of features [N, D, h, w] that the kernels of `wide` see most by, and the kernels that read these."""
    if slim.mix is None:
        return
    cells = features.transpose(0, 1).flatten(1).double()
    values, vectors = torch.linalg.eigh(cells @ cells.T / cells.shape[1])
    values = values.clamp_min(float(values.max()) * 1e-6)
    root, back = ((vectors * values**power) @ vectors.T for power in (0.5, -0.5))
    kernel = wide.kernel().double()
    seen = root @ kernel.transpose(0, 1).flatten(1)
    basis = torch.linalg.eigh(seen @ seen.T)[1][:, -slim.mix.out_channels :]
    slim.mix.weight.copy_((basis.T @ back).float()[..., None, None])
    for own, whole in zip(slim.kernels, wide.kernels, strict=True):
        own.copy_(torch.einsum("odhw,dr->orhw", whole.double(), root @ basis).float())
