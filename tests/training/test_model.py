"""The concept model: maps are the gate, concepts do not leak into one another, contributions are exact."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from training.agcm.model import Agcm, AgcmConfig, ViewedAgcm, scattered, viewed
from training.agcm.system import Deployed

K, M, HEADS, OUTPUTS, GRID = 5, 3, 2, 4, 7
CONFIG = AgcmConfig(K, OUTPUTS, M, attention_heads=HEADS, deep_channels=0, randint=0.5)
SIDES = st.integers(0, GRID - 1)
few = settings(max_examples=15, deadline=None)


class GivenFeatures(nn.Module):
    """In place of a backbone: the input is the features [B, channels, h, w]."""

    def forward(self, features: Tensor) -> Tensor:
        return features


class GivenGate(nn.Module):
    """In place of the attention: one gate [K, h * w] for every face."""

    def __init__(self, gate: Tensor) -> None:
        super().__init__()
        self.gate = gate

    def forward(self, features: Tensor) -> Tensor:
        return self.gate.expand(len(features), -1, -1)


def on_features(seed: int = 0, kind: type[Agcm] = Agcm) -> Agcm:
    """An Agcm in evaluation whose input is the features [B, 112, h, w] themselves."""
    torch.manual_seed(seed)
    model = kind(CONFIG)
    for tensor in (model.embed_bias, model.bias):
        nn.init.normal_(tensor)
    norm = model.attention.norm
    nn.init.normal_(norm.weight, 1.0, 0.3)
    nn.init.normal_(norm.running_mean)
    nn.init.uniform_(norm.running_var, 0.5, 2.0)
    model.backbone = GivenFeatures()
    return model.eval()


@pytest.fixture(scope="module")
def model() -> Agcm:
    return on_features()


def some_features() -> Tensor:
    """Of six faces [6, 112, h, w], always the same."""
    return torch.randn(6, 112, GRID, GRID, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def features() -> Tensor:
    return some_features()


def test_every_map_is_a_distribution_over_the_grid(model: Agcm, features: Tensor) -> None:
    for scale in (0.01, 1.0, 30.0):
        maps = model(features * scale).maps
        assert maps.shape == (6, K, GRID, GRID)
        assert (maps >= 0).all()
        torch.testing.assert_close(maps.sum((-1, -2)), torch.ones(6, K))


def test_the_published_map_is_what_weighs_each_cell(model: Agcm, features: Tensor) -> None:
    """The embedding recomputed cell by cell from the published maps: row, column and channel by name, no reshape."""
    out = model(features)
    for face, k in ((0, 0), (3, 2), (5, K - 1)):
        cell = {(y, x): F.leaky_relu(features[face, :, y, x]) for y in range(GRID) for x in range(GRID)}
        gate = model.attention(features)[face, k]
        average = sum(gate[y * GRID + x] * cell[y, x] for y, x in cell)
        highest = torch.stack([gate[y * GRID + x] / gate.max() * cell[y, x] for y, x in cell]).amax(0)
        excited = sum(model.excite[k] @ (model.squeeze[k] @ pooled).relu() for pooled in (average, highest))
        pooled = sum(out.maps[face, k, y, x] * cell[y, x] for y, x in cell) * excited.sigmoid()
        z = F.leaky_relu(model.embed[k] @ pooled + model.embed_bias[k])
        torch.testing.assert_close(torch.cat([out.active[face, k], out.inactive[face, k]]), z, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(out.logits[face, k], model.score(z)[0], atol=1e-5, rtol=1e-4)


@few
@given(SIDES, SIDES)
def test_a_cell_enters_by_its_own_weight_alone(model: Agcm, features: Tensor, y: int, x: int) -> None:
    """With the gates held, d pooled / d cell is the map at that cell; a scrambled gate would give another's."""
    gate = torch.rand(K, GRID * GRID).softmax(-1)
    held = on_features()
    held.attention = GivenGate(gate)
    for tensor in (held.query, held.excite, held.embed, held.embed_bias):
        nn.init.zeros_(tensor)
    nn.init.ones_(held.embed)  # z = sum over channels of s * pooled, with s = 1/2
    base = features[:1].abs()
    changed = base.clone()
    changed[0, :, y, x] += 1.0
    difference = held(changed).active - held(base).active
    expected = gate.unflatten(-1, (GRID, GRID))[:, y, x] * 112 / 2
    torch.testing.assert_close(difference[0], expected[:, None].expand(K, M), atol=2e-3, rtol=1e-4)


def gate_of(token: Tensor, changed: Tensor) -> Tensor:
    """Which tokens [n] of [B, D, n] differ."""
    return (token != changed).any(1)[0]


@few
@given(SIDES, SIDES)
def test_gating_a_patch_changes_only_its_token(features: Tensor, y: int, x: int) -> None:
    """In the patch order a gate that is shut at one place silences that token and no other; in the authors' viewed
    order it falls on channels of nearly every token, and never on a whole one."""
    place = y * GRID + x
    cells = features[:1].flatten(2)
    shut = torch.ones(1, 1, GRID * GRID)
    shut[..., place] = 0.0
    assert gate_of(cells, cells * shut).nonzero().flatten().tolist() == [place]
    scrambled = cells * scattered(shut, 112)[:, 0]
    assert gate_of(cells, scrambled).sum() > 0.9 * GRID * GRID
    assert (scrambled != 0).any(1).all(), "no token is silenced"
    gated = viewed(features[:1]).flatten(2) * shut[:, 0]
    back = gated.reshape(1, GRID * GRID, 112).transpose(1, 2)
    assert torch.equal(back, scrambled), "the same as to view, to gate and to view back"


def test_the_viewed_map_is_not_what_weighs_the_cells(features: Tensor) -> None:
    """One cell of the features changes; without attention to what it holds, the patch order's embedding moves by the
    map's own weight there, the viewed order's by something else."""
    shown, moved = {}, {}
    for kind in (Agcm, ViewedAgcm):
        model = on_features(kind=kind)
        gate = torch.rand(K, GRID * GRID, generator=torch.Generator().manual_seed(5)).pow(8)
        model.attention = GivenGate(gate / gate.sum(1, keepdim=True))
        for tensor in (model.query, model.excite, model.embed, model.embed_bias):
            nn.init.zeros_(tensor)
        nn.init.ones_(model.embed)
        base = features[:1].abs()
        found = []
        for place in range(GRID * GRID):
            changed = base.clone()
            changed.flatten(2)[0, :, place] += 1.0
            found.append((model(changed).active - model(base).active)[0, :, 0])
        moved[kind] = torch.stack(found, dim=1)
        shown[kind] = model(base).maps[0].flatten(1)
    agreement = {kind: torch.corrcoef(torch.stack([shown[kind][0], moved[kind][0]]))[0, 1] for kind in shown}
    assert agreement[Agcm] > 0.999
    assert agreement[ViewedAgcm].abs() < 0.5


@few
@given(SIDES, SIDES)
def test_under_a_map_peaked_at_a_cell_nothing_depends_on_another_cell(y: int, x: int) -> None:
    peaked = on_features()
    gate = torch.zeros(GRID, GRID)
    gate[y, x] = 1.0
    peaked.attention = GivenGate(gate.flatten().expand(K, -1))
    inputs = torch.randn(2, 112, GRID, GRID).requires_grad_()
    out = peaked(inputs)
    assert (out.maps[:, :, y, x] > 0.9999).all()
    (slope,) = torch.autograd.grad((out.embedding**2).sum(), inputs)
    at_peak = slope[:, :, y, x].abs().sum()
    assert at_peak > 1e-3
    assert slope.abs().sum() - at_peak < 1e-5 * at_peak


@few
@given(st.lists(st.tuples(SIDES, SIDES), min_size=K, max_size=K))
def test_each_concept_looks_where_its_own_evidence_is(cells: list[tuple[int, int]]) -> None:
    """Channel k is the evidence of concept k and stands out in one cell: every map peaks there and nowhere else."""
    sees = on_features()
    sees.attention.norm.reset_parameters()
    nn.init.zeros_(sees.query)
    for kernel in sees.attention.kernels:
        nn.init.zeros_(kernel)
        centre = kernel.shape[-1] // 2
        with torch.no_grad():
            for row in range(K * HEADS):
                kernel[row, row // HEADS, centre, centre] = 1.0
    inputs = torch.zeros(1, 112, GRID, GRID)
    for k, (y, x) in enumerate(cells):
        inputs[0, k, y, x] = 4.0
    maps = sees(inputs).maps[0]
    assert [divmod(int(each.argmax()), GRID) for each in maps] == cells
    assert (maps.amax((-1, -2)) > 0.99).all()


def test_the_summed_kernel_is_the_sum_of_the_three_convolutions(model: Agcm, features: Tensor) -> None:
    attention = model.attention
    three = sum(F.conv2d(features, kernel, padding=kernel.shape[-1] // 2) for kernel in attention.kernels)
    one = F.conv2d(features, attention.kernel(), padding=3)
    assert [kernel.shape[-1] for kernel in attention.kernels] == [3, 5, 7]
    torch.testing.assert_close(one, three, atol=1e-4, rtol=1e-4)


def test_folding_changes_nothing_and_is_not_part_of_the_weights(features: Tensor) -> None:
    model = on_features()
    names = set(model.state_dict())
    before = model(features)
    model.attention.fold()
    for folded, unfolded in zip(model.published(model(features)), model.published(before), strict=True):
        torch.testing.assert_close(folded, unfolded)
    assert set(model.state_dict()) == names


def test_the_shares_of_the_concepts_and_the_bias_are_the_heads(features: Tensor) -> None:
    model = on_features()
    with torch.no_grad():
        p, active, inactive, maps, heads = Deployed(model)(features)
    assert [tuple(each.shape[1:]) for each in (p, active, maps)] == [(K,), (K, OUTPUTS), (K, GRID, GRID)]
    assert ((p > 0) & (p < 1)).all()
    shares = p[..., None] * active + (1 - p[..., None]) * inactive
    torch.testing.assert_close(model.bias + shares.sum(1), heads, atol=1e-5, rtol=1e-5)


def test_the_embedding_is_mixed_by_the_activation(model: Agcm, features: Tensor) -> None:
    out = model(features)
    p = out.logits.sigmoid()[..., None]
    torch.testing.assert_close(out.embedding, p * out.active + (1 - p) * out.inactive)


def permuted(model: Agcm, order: Tensor) -> Agcm:
    """The same model with its concepts in another order."""
    other = on_features()
    rows = (order[:, None] * HEADS + torch.arange(HEADS)).flatten()
    state = model.state_dict()
    for name, tensor in state.items():
        if name.startswith("attention") and tensor.ndim:
            state[name] = tensor[rows]
        elif name in ("squeeze", "excite", "query", "embed", "embed_bias", "weight"):
            state[name] = tensor[order]
    other.load_state_dict(state)
    return other


@few
@given(st.permutations(range(K)))
def test_concepts_in_another_order_are_the_same_concepts(model: Agcm, features: Tensor, order: list[int]) -> None:
    out, other = model(features), permuted(model, torch.tensor(order))(features)
    for name in ("logits", "embedding", "active", "inactive", "maps"):
        torch.testing.assert_close(getattr(other, name), getattr(out, name)[:, order], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(other.heads, out.heads, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("touched", range(K))
def test_no_concept_leaks_into_another(features: Tensor, touched: int) -> None:
    model = on_features()
    before = model(features)
    with torch.no_grad():
        for tensor in (model.squeeze, model.excite, model.query, model.embed, model.embed_bias):
            tensor[touched] += torch.randn_like(tensor[touched])
        for kernel in model.attention.kernels:
            kernel[touched * HEADS : (touched + 1) * HEADS] *= -2.0
    after = model(features)
    others = [k for k in range(K) if k != touched]
    for name in ("logits", "embedding", "maps"):
        ours, theirs = getattr(after, name), getattr(before, name)
        assert torch.equal(ours[:, others], theirs[:, others])
        assert not torch.allclose(ours[:, touched], theirs[:, touched], atol=1e-4)


@pytest.mark.parametrize(("side_px", "grid"), [(112, 7), (80, 5), (96, 6), (32, 2)])
def test_the_grid_of_a_real_backbone(side_px: int, grid: int) -> None:
    model = Agcm(AgcmConfig(concepts=3, outputs=2)).eval()
    with torch.no_grad():
        out = model(torch.zeros(2, 1, side_px, side_px))
    assert out.maps.shape == (2, 3, grid, grid)
    assert out.embedding.shape == out.active.shape == out.inactive.shape == (2, 3, 16)
    assert out.heads.shape == (2, 2)
    assert out.logits.shape == (2, 3)


@few
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.sampled_from([0, 8]))
def test_a_configuration_is_the_size_it_says(concepts: int, embedding: int, heads: int, deep: int) -> None:
    model = Agcm(AgcmConfig(concepts, 2, embedding, attention_heads=heads, deep_channels=deep, squeeze=4))
    channels = 112 + deep
    assert model.backbone.channels == channels
    assert model.attention.kernel().shape == (concepts * heads, channels, 7, 7)
    assert model.embed.shape == (concepts, 2 * embedding, channels)
    assert model.weight.shape == (concepts, embedding, 2)
    assert model.squeeze.shape == (concepts, channels // 4, channels)
