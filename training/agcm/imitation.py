"""Losses of a network that learns to answer what another one answers, without labels (Hinton, Vinyals, Dean 2015).

Features are compared part by part (Romero et al., "FitNets", ICLR 2015), answers as what they are: probabilities by
their divergence, embeddings by their distance. Each is 0 where both networks are alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.agcm.losses import concept_loss
from training.agcm.system import Output, needed


@contextmanager
def watched(modules: Iterable[nn.Module]) -> Iterator[list[Tensor]]:
    """What the modules answer while this lasts, in the order in which they are run."""
    seen: list[Tensor] = []

    def keep(module: nn.Module, given: tuple[Tensor, ...], answer: Tensor) -> None:
        seen.append(answer)

    hooks = [module.register_forward_hook(keep) for module in modules]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def features_loss(own: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """Mean squared distance as a share of the wanted features' variance, averaged over the pairs."""
    return torch.stack([_distance(a.float(), b.float()) for a, b in zip(own, wanted, strict=True)]).mean()


def answers_loss(own: Output, wanted: Output) -> Tensor:
    """Of expressions, activations, embeddings and maps, each by a loss of about the same size."""
    expressions = divergence(own.heads[:, 1:].float().log_softmax(-1), wanted.heads[:, 1:].float().log_softmax(-1))
    logits = needed(wanted.logits).float()
    activations = concept_loss(needed(own.logits).float(), logits.sigmoid(), torch.ones_like(logits))
    embeddings = features_loss(
        [needed(part).float() for part in (own.active, own.inactive)],
        [needed(part).float() for part in (wanted.active, wanted.inactive)],
    )
    maps = divergence(*(needed(out.maps).float().clamp_min(1e-9).log().flatten(2) for out in (own, wanted)))
    return expressions + 5 * activations + embeddings + maps


def divergence(own: Tensor, wanted: Tensor) -> Tensor:
    """Mean Kullback-Leibler divergence of log probabilities along the last axis from those that are wanted."""
    return F.kl_div(own, wanted, reduction="none", log_target=True).sum(-1).mean()


def _distance(own: Tensor, wanted: Tensor) -> Tensor:
    return F.mse_loss(own, wanted) / wanted.var().clamp_min(1e-6)
