"""What is hidden in training, what a concept is then taught to answer, and that it learns it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("numba")
pytest.importorskip("sklearn")

import torch
from torch import nn

from tests.training.material import write_experiment
from training import train as trainer
from training.agcm import evidence
from training.agcm.losses import concept_loss
from training.experiment import load
from training.explain import occlusion
from training.synthetic.ict import FaceModel

SIDE, GRID, K = 112, 7, 4
EVERY = torch.ones(K, dtype=torch.bool)
PLACES = ((1, 1), (1, 5), (5, 1), (5, 5))


def maps(count: int) -> torch.Tensor:
    """Every concept looks at one corner, and next to nowhere else."""
    found = torch.full((count, K, GRID, GRID), 1e-6)
    for k, (row, column) in enumerate(PLACES):
        found[:, k, row, column] = 1.0
    return found


@pytest.fixture
def crops() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=(60, 1, SIDE, SIDE)).astype(np.float32))


def test_the_same_cells_are_hidden_in_training_and_in_the_test() -> None:
    weights = np.random.default_rng(1).random((5, GRID, GRID))
    assert np.array_equal(evidence.top_cells(torch.from_numpy(weights)).numpy(), occlusion.top_cells(weights))


def test_hidden_cells_look_as_they_do_in_the_test() -> None:
    rng = np.random.default_rng(2)
    pictures = rng.integers(0, 256, (3, SIDE, SIDE), dtype=np.uint8)
    cells = rng.random((3, GRID, GRID)) < 0.2
    ours = evidence.covered(torch.from_numpy(pictures).float()[:, None], torch.from_numpy(cells))[:, 0].numpy()
    assert np.abs(ours - occlusion.hide(pictures, cells)).max() < 3.0
    assert np.abs(ours - pictures).max() > 50


def test_what_lies_far_from_hidden_cells_is_untouched(crops: torch.Tensor) -> None:
    cells = torch.zeros(60, GRID, GRID, dtype=torch.bool)
    cells[:, 0, 0] = True
    assert torch.equal(evidence.covered(crops, cells)[..., 48:, 48:], crops[..., 48:, 48:])


def test_the_drawn_concept_is_missed_where_its_map_is_hidden_and_kept_elsewhere(crops: torch.Tensor) -> None:
    torch.manual_seed(0)
    logits = torch.full((60, K), 2.0)
    hidden = evidence.draw(crops, logits, maps(60), EVERY)
    assert hidden is not None
    assert len(hidden.crops) == 20
    own = hidden.targets.eq(0).sum(1)
    assert set(own.tolist()) == {0, 1}, "some pictures lose the drawn concept, others something else"
    assert torch.allclose(hidden.targets[hidden.targets > 0], torch.tensor(2.0).sigmoid())
    drawn = hidden.weights.argmax(1)
    assert len(drawn.unique()) == K
    before = crops[:20, 0].unfold(1, 16, 16).unfold(2, 16, 16).std((-1, -2))
    after = hidden.crops[:, 0].unfold(1, 16, 16).unfold(2, 16, 16).std((-1, -2))
    for i, k in enumerate(drawn.tolist()):
        kept = float((after / before)[i][PLACES[k]])
        assert (kept < 0.6) == bool(own[i]), "the drawn concept's own cell is hidden in exactly those"


def test_a_concept_whose_map_is_hidden_by_chance_is_told_nothing(crops: torch.Tensor) -> None:
    torch.manual_seed(0)
    logits = torch.tensor([2.0, -3.0, -3.0, -3.0]).repeat(60, 1)
    same = maps(60)
    same[:, 1] = same[:, 0]
    hidden = evidence.draw(crops, logits, same, EVERY)
    assert hidden is not None
    lost = hidden.targets[:, 0] == 0
    assert float(hidden.weights[lost, 1].max()) < 1e-6
    assert float(hidden.weights[~lost, 1].min()) > 0.99
    assert float(hidden.weights[lost, 3].min()) > 0.99, "what lies elsewhere has to stay"


def test_concepts_that_are_inactive_or_have_no_place_are_never_drawn(crops: torch.Tensor) -> None:
    logits = torch.tensor([2.0, -2.0, 2.0, -2.0]).repeat(60, 1)
    placed = torch.tensor([True, True, False, False])
    hidden = evidence.draw(crops, logits, maps(60), placed)
    assert hidden is not None
    assert hidden.weights.argmax(1).unique().tolist() == [0]
    assert evidence.draw(crops, -logits.abs(), maps(60), placed) is None


def test_pictures_with_holes_leave_no_trace_in_the_running_statistics() -> None:
    norm = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3)).train()
    before = {name: value.clone() for name, value in norm.state_dict().items() if "running" in name}
    with evidence.statistics_kept(norm):
        norm(torch.randn(4, 1, 9, 9))
    assert all(torch.equal(value, norm.state_dict()[name]) for name, value in before.items())
    norm(torch.randn(4, 1, 9, 9))
    assert not torch.equal(norm.state_dict()["1.running_mean"], before["1.running_mean"])


class Reader(nn.Module):
    """One concept, read from how rough two cells are. Its map shows the first."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(2)), nn.Parameter(torch.zeros(1))

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        cells = crops[:, 0].unfold(1, 16, 16).unfold(2, 16, 16).std((-1, -2))
        rough = torch.stack([cells[:, 1, 1], cells[:, 5, 5]], dim=1)
        logits: torch.Tensor = (rough * self.weight).sum(1, keepdim=True) + self.bias
        return logits


def test_a_concept_that_hangs_on_another_place_as_well_comes_to_hang_on_its_map() -> None:
    """Both cells show the concept in every picture, so the labels alone leave open which of them is read."""
    shown = (torch.arange(64) % 2).float()
    rng = torch.Generator().manual_seed(3)
    crops = torch.randn(64, 1, SIDE, SIDE, generator=rng) * (0.05 + shown[:, None, None, None])
    falls = []
    for weight in (0.0, 1.0):
        torch.manual_seed(1)
        model = Reader()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        for _ in range(150):
            logits = model(crops)
            loss = concept_loss(logits, shown[:, None], torch.ones(64, 1))
            hidden = evidence.draw(crops, logits, maps(64)[:, :1], torch.ones(1, dtype=torch.bool))
            if weight and hidden is not None:
                loss = loss + weight * concept_loss(model(hidden.crops), hidden.targets, hidden.weights)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            before = model(crops).sigmoid()
            after = model(evidence.covered(crops, evidence.top_cells(maps(64)[:, 0], 1 / 49))).sigmoid()
        falls.append(float((before - after)[shown > 0].mean()))
    assert falls[0] < 0.5
    assert falls[1] > 0.8


def test_the_same_seed_hides_the_same(face: FaceModel, tmp_path: Path) -> None:
    states = []
    for name, weight in (("one", "1.0"), ("again", "1.0"), ("without", "0.0")):
        experiment = load(write_experiment(tmp_path, face, evidence=weight))
        trainer.train(experiment, tmp_path / name)
        states.append(torch.load(tmp_path / name / "weights.pt", weights_only=True))
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    assert not torch.equal(states[0]["embed"], states[2]["embed"])
