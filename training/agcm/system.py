"""What every system of the study has in common: what it says, what of it is the task's, and what of it ships."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from training.agcm.backbones import Backbone


class Output(NamedTuple):
    """heads [B, O]: the score, then expression logits. What a system does not have is None.

    logits [B, K], of the activations. embedding, active, inactive [B, K, m]: c, c+ and c-. maps [B, K, h, w], of the
    concepts. class_maps [B, O, h, w], of the heads. attention [B, h, w], of the face as a whole. uncertainty [B, K],
    of the concepts. own_loss: a scalar that this system's training adds to the others' losses. landmarks [B, 5, 2]: see
    training.agcm.landmarks.
    """

    heads: Tensor
    logits: Tensor | None = None
    embedding: Tensor | None = None
    active: Tensor | None = None
    inactive: Tensor | None = None
    maps: Tensor | None = None
    class_maps: Tensor | None = None
    attention: Tensor | None = None
    uncertainty: Tensor | None = None
    own_loss: Tensor | None = None
    landmarks: Tensor | None = None


class System(nn.Module):
    """Luma crops [B, 1, S, S] -> Output.

    names: of the tensors that are exported. head: names of the parameters through which the task reads the concepts,
    () where the task does not read concepts, so that the two cannot be trained one after the other.
    """

    names: tuple[str, ...] = ("heads",)
    head: ClassVar[tuple[str, ...]] = ()

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, luma: Tensor, labels: Tensor | None = None, known: Tensor | None = None) -> Output:
        """labels [B, K] and known [B, K] (bool): of the concepts, for the systems that use them in training."""
        raise NotImplementedError

    def published(self, out: Output) -> tuple[Tensor, ...]:
        """The tensors called `names`."""
        return (out.heads,)

    def shares(self, out: Output) -> Tensor | None:
        """What each concept adds to the heads [B, K, O]: with the bias these sum to heads; None if heads are no sum."""
        return None

    def fold(self) -> None:
        """Prepare for export what is quicker when nothing is trained any more."""


class LinearConcepts(System):
    """A bottleneck c_k = p_k c+_k + (1 - p_k) c-_k for each concept, and heads linear in it: exact contributions."""

    names: tuple[str, ...] = ("activation", "active", "inactive", "maps", "heads")
    head: ClassVar[tuple[str, ...]] = ("weight", "bias")

    def __init__(self, backbone: Backbone, concepts: int, embedding: int, outputs: int) -> None:
        super().__init__(backbone)
        self.weight = nn.Parameter(torch.randn(concepts, embedding, outputs) * (concepts * embedding) ** -0.5)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def read(self, embedding: Tensor) -> Tensor:
        """[B, K, m] -> heads [B, O]."""
        return torch.einsum("bkm,kmo->bo", embedding, self.weight) + self.bias

    def published(self, out: Output) -> tuple[Tensor, ...]:
        """activation [B, K], W_k . c+_k and W_k . c-_k [B, K, O], maps [B, K, h, w], heads [B, O].

        A system that pools the whole face without a map has a map of one cell: all that it looks at.
        """
        logits, active, inactive = needed(out.logits), needed(out.active), needed(out.inactive)
        activation = logits.sigmoid()
        maps = torch.ones_like(activation)[..., None, None] if out.maps is None else out.maps
        both = torch.einsum("bksm,kmo->bkso", torch.stack([active, inactive], 2), self.weight)
        return activation, both[:, :, 0], both[:, :, 1], maps, out.heads

    def shares(self, out: Output) -> Tensor | None:
        """W_k . c_k [B, K, O]."""
        return torch.einsum("bkm,kmo->bko", needed(out.embedding), self.weight)


class Deployed(nn.Module):
    """A system as it ships: crop [B, 1, S, S] -> the tensors called `system.names`."""

    def __init__(self, system: System) -> None:
        super().__init__()
        self.system = system.eval()
        self.system.fold()

    def forward(self, crop: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        return self.system.published(self.system(crop))


def needed(part: Tensor | None) -> Tensor:
    """A part that this kind of system always gives."""
    if part is None:
        raise TypeError("this system gives no such tensor")
    return part


def randint(p: Tensor, labels: Tensor | None, known: Tensor | None, share: float) -> Tensor:
    """RandInt (Espinosa Zarlenga et al. 2022): p [B, K] with the labels of some concepts in its place.

    One mask of concepts per batch; only labels that are known replace an activation.
    """
    if labels is None or known is None:
        return p
    chosen = torch.rand(p.shape[1], device=p.device) < share
    return torch.where(chosen & known, labels, p)


def mixed(p: Tensor, active: Tensor, inactive: Tensor) -> Tensor:
    """c = p c+ + (1 - p) c- of p [B, K], c+ and c- [B, K, m]."""
    return p.unsqueeze(-1) * active + (1 - p.unsqueeze(-1)) * inactive
