"""RandInt: in training, and there alone, known labels take the place of whole concepts of a batch."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor

from tests.training.test_model import HEADS, OUTPUTS, K, M, on_features, some_features
from training.agcm.model import Agcm, AgcmConfig


@pytest.fixture(scope="module")
def features() -> Tensor:
    return some_features()


def used_activation(model: Agcm, inputs: Tensor, labels: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """The activation each embedding was mixed with, and the network's own."""
    out = model(inputs, labels, known)
    span = out.active - out.inactive
    used = ((out.embedding - out.inactive) * span).sum(-1) / (span * span).sum(-1)
    return used, out.logits.sigmoid()


def test_randint_takes_whole_concepts_of_a_batch_and_known_labels_only(features: Tensor) -> None:
    model = on_features().train()
    labels = torch.where(torch.rand(6, K) < 0.5, 0.0, 1.0)
    known = torch.rand(6, K) < 0.7
    seen = []
    for seed in range(12):
        torch.manual_seed(seed)
        with torch.no_grad():
            used, own = used_activation(model, features, labels, known)
        replaced = (used - labels).abs() < 1e-3
        kept = (used - own).abs() < 1e-3
        assert (replaced | kept).all()
        assert kept[~known].all()
        chosen = (~kept & known).any(0)
        assert (replaced | ~known)[:, chosen].all(), "one mask for the whole batch"
        seen.append(chosen)
    share = torch.stack(seen).float().mean()
    assert 0.2 < share < 0.8


def test_randint_is_for_training_only(features: Tensor) -> None:
    model = on_features()
    with torch.no_grad():
        used, own = used_activation(model, features, 1 - torch.zeros(6, K), torch.ones(6, K, dtype=torch.bool))
    torch.testing.assert_close(used, own, atol=1e-3, rtol=0)


def test_a_perfect_label_teaches_the_activation_only_through_the_mix(features: Tensor) -> None:
    """A replaced activation passes no gradient from the heads to the score; the embeddings still learn."""
    torch.manual_seed(0)
    model = on_features().train()
    model.config = AgcmConfig(K, OUTPUTS, M, attention_heads=HEADS, deep_channels=0, randint=1.0)
    out = model(features, torch.ones(6, K), torch.ones(6, K, dtype=torch.bool))
    out.heads.sum().backward()
    assert model.score.weight.grad is None or not model.score.weight.grad.any()
    assert model.embed.grad is not None
    assert model.embed.grad.any()
