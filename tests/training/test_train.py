"""Training: it learns, it resumes exactly, and its schedule and averages are what the experiment says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("numba")
pytest.importorskip("sklearn")

import torch
from torch import Tensor

from tests.training.material import learnable, write_experiment, write_teacher
from training import feed
from training import train as trainer
from training.concepts import INDEX
from training.data.pictures import DataError
from training.data.samples import save
from training.experiment import ExperimentError, load
from training.regions import regions
from training.run import Averaged, Run
from training.synthetic.ict import FaceModel

CONFIGS = [
    path for path in sorted((Path(__file__).parents[2] / "training" / "configs").glob("*.toml"))
    if not path.name.startswith("system-features")  # these read columns and are training.features' own
]  # fmt: skip
TWO_SIZES = "[{epochs = 1, side_px = 48, batch = 8}, {epochs = 1, side_px = 64, batch = 8}]"


class Killed(BaseException):
    """What a kill looks like from inside: nothing catches it."""


def state(folder: Path, name: str = "weights.pt") -> dict[str, Tensor]:
    found: dict[str, Tensor] = torch.load(folder / name, weights_only=True)
    return found


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert list(one) == list(other)
    different = [name for name in one if not torch.equal(one[name], other[name])]
    assert not different


def loss_of(run: Run, weights: dict[str, Tensor], face: FaceModel) -> float:
    """The loss of some weights on the training pictures as they are. With the batch's own statistics: from scratch and
    after few steps, the running ones are far behind the weights."""
    samples = learnable(32)
    run.model.load_state_dict(weights)
    run.model.train()
    crops = np.stack([trainer.centre(crop, trainer.MARGIN_PX, 48) for crop in samples.crops])
    parts = (
        samples.votes,
        samples.concepts,
        samples.weights,
        samples.score,
        np.ones(32, np.float32),
        np.full((32, 5, 2), np.nan),
    )
    targets = trainer.Targets(*map(torch.from_numpy, parts))
    with torch.no_grad():
        out = run.model(torch.from_numpy(trainer.to_tensor(crops, trainer.CROP)))
    loss, _ = trainer.total_loss(out, targets, torch.from_numpy(regions(face, 3)), trainer.LossWeights(score=1.0))
    return float(loss)


def test_it_learns_what_can_be_learnt(face: FaceModel, tmp_path: Path) -> None:
    path = write_experiment(
        tmp_path, face, learning_rate="1e-3", ema="0.5", phases="[{epochs = 10, side_px = 48, batch = 8}]"
    )
    fresh = Run(load(path), tmp_path)
    before = loss_of(fresh, fresh.averaged.state, face)
    figures = trainer.train(load(path), tmp_path / "run")
    assert loss_of(fresh, state(tmp_path / "run"), face) < 0.3 * before
    assert figures.score_auc > 0.9
    assert figures.score_r > 0.5
    lines = (tmp_path / "run" / "epochs.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["epoch", *map(str, range(10))]


def test_a_killed_run_goes_on_to_exactly_the_same_weights(
    face: FaceModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the middle of an epoch, and again at the start of the next, which has another picture size."""
    experiment = load(write_experiment(tmp_path, face, phases=TWO_SIZES))
    whole = trainer.train(experiment, tmp_path / "whole")
    monkeypatch.setattr(trainer, "CHECKPOINT_STEPS", 2)
    step = trainer._update
    for killed_after in (3, 5):

        def dies(run: Run, *rest: object, last: int = killed_after) -> dict[str, float]:
            if run.number == last:
                raise Killed
            return step(run, *rest)

        monkeypatch.setattr(trainer, "_update", dies)
        with pytest.raises(Killed):
            trainer.train(experiment, tmp_path / "parts")
        assert torch.load(tmp_path / "parts/checkpoint.pt", weights_only=True)["number"] == killed_after - 1
    monkeypatch.setattr(trainer, "_update", step)
    resumed = trainer.train(experiment, tmp_path / "parts")
    same(state(tmp_path / "parts"), state(tmp_path / "whole"))
    ours, theirs = (state(tmp_path / name, "checkpoint.pt") for name in ("parts", "whole"))
    same(ours["model"], theirs["model"])
    assert ours["number"] == theirs["number"] == 8
    assert repr(resumed) == repr(whole)
    weights = (tmp_path / "parts" / "weights.pt").read_bytes()
    assert repr(trainer.train(experiment, tmp_path / "parts")) == repr(whole), "a finished run has nothing left to do"
    assert (tmp_path / "parts" / "weights.pt").read_bytes() == weights


def test_another_seed_is_another_run(face: FaceModel, tmp_path: Path) -> None:
    runs = [Run(load(write_experiment(tmp_path, face, seed=seed)), tmp_path) for seed in "112"]
    first, again, other = (run.model.state_dict() for run in runs)
    same(first, again)
    assert not torch.equal(first["embed"], other["embed"])


def test_a_frozen_backbone_stays_as_it_was(face: FaceModel, tmp_path: Path) -> None:
    path = write_experiment(tmp_path, face, phases="[{epochs = 1, side_px = 48, batch = 16}]")
    trainer.train(load(path), tmp_path / "first")
    path = write_experiment(
        tmp_path, face, init=f'"{tmp_path}/first/weights.pt"', freeze_backbone="true",
        phases="[{epochs = 2, side_px = 48, batch = 16}]",
    )  # fmt: skip
    trainer.train(load(path), tmp_path / "second")
    first, second = state(tmp_path / "first"), state(tmp_path / "second")
    for name in first:
        if name.startswith("backbone"):
            assert torch.equal(first[name], second[name]), name
    assert not torch.equal(first["embed"], second["embed"])


def test_an_interrupted_epoch_leaves_one_row(face: FaceModel, tmp_path: Path) -> None:
    """The row of an epoch is written before its checkpoint, and once more by the run that goes on."""
    experiment = load(write_experiment(tmp_path, face))
    trainer.train(experiment, tmp_path / "run")
    rows = (tmp_path / "run" / "epochs.csv").read_text().splitlines()
    (tmp_path / "run" / "checkpoint.pt").unlink()
    trainer.train(experiment, tmp_path / "run")
    assert (tmp_path / "run" / "epochs.csv").read_text().splitlines() == rows


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_experiment_is_valid(path: Path) -> None:
    experiment = load(path)
    assert experiment.name == path.stem
    assert experiment.train
    assert experiment.valid
    assert all(phase.side_px % 16 == 0 for phase in experiment.phases)


def test_experiments_are_shipped() -> None:
    assert CONFIGS


def test_the_teacher_replaces_the_labels_of_its_file(face: FaceModel, tmp_path: Path) -> None:
    teacher = f'[{{file = "{tmp_path}/train.npz", teacher = "{tmp_path}/teacher.npz", concepts = 0.5}}]'
    experiment = load(write_experiment(tmp_path, face, train=teacher, exclude_subjects="[1]"))
    (samples,) = feed.read_sources(experiment, experiment.train)
    assert set(samples.subjects.tolist()) == {0, 2}
    assert samples.weights[0, INDEX["AU12"]] == 0.5
    assert samples.weights[0, INDEX["AU6"]] == 0.0
    assert not np.array_equal(samples.concepts, learnable(32).take(np.arange(32) % 3 != 1).concepts)
    write_teacher(tmp_path / "teacher.npz", np.ones(31, bool))
    with pytest.raises(DataError, match=r"teacher\.npz labels 31 crops, .*train\.npz has 32"):
        feed.read_sources(experiment, experiment.train)


def test_the_schedule_counts_through_epochs_and_phases(face: FaceModel, tmp_path: Path) -> None:
    experiment = load(write_experiment(tmp_path, face, phases=TWO_SIZES))
    steps = feed.schedule(experiment, 20)
    assert [(s.number, s.epoch, s.batch, s.phase.side_px) for s in steps] == [
        (0, 0, 0, 48), (1, 0, 1, 48), (2, 1, 0, 64), (3, 1, 1, 64),
    ]  # fmt: skip


def test_weight_decay_is_for_matrices_only(face: FaceModel, tmp_path: Path) -> None:
    """And the head rate for what is above the backbone."""
    run = Run(load(write_experiment(tmp_path, face, head_rate="3.0")), tmp_path)
    groups = run.optimizer.param_groups
    assert [(group["weight_decay"], group["rate"]) for group in groups] == [
        (0.02, 1.0), (0.0, 1.0), (0.02, 3.0), (0.0, 3.0),
    ]  # fmt: skip
    for large, small in (groups[:2], groups[2:]):
        assert all(p.ndim > 1 for p in large["params"])
        assert all(p.ndim <= 1 for p in small["params"])
    assert sum(len(group["params"]) for group in groups) == len(list(run.model.parameters()))
    inside = {id(p) for p in run.model.backbone.parameters()}
    assert inside == {id(p) for group in groups[:2] for p in group["params"]}


def test_the_average_follows_the_weights() -> None:
    layer = torch.nn.BatchNorm1d(2)
    averaged = Averaged(layer, decay=0.5)
    with torch.no_grad():
        layer.weight.fill_(3.0)
        layer.num_batches_tracked.fill_(7)
    averaged.update(layer)  # the first step forgets faster: 2 / 11
    assert averaged.state["weight"].tolist() == pytest.approx([1 + 2 * 9 / 11] * 2)
    assert int(averaged.state["num_batches_tracked"]) == 7
    for _ in range(60):
        averaged.update(layer)
    assert averaged.state["weight"].tolist() == pytest.approx([3.0] * 2, abs=1e-6)
    assert layer.weight.tolist() == [3.0, 3.0]


def test_prediction_does_not_depend_on_what_else_is_predicted(face: FaceModel, tmp_path: Path) -> None:
    run = Run(load(write_experiment(tmp_path, face)), tmp_path)
    samples = learnable(130)
    save(tmp_path / "many.npz", samples)
    heads, activations = trainer.predict(run.model, samples, 48)
    alone = trainer.predict(run.model, samples.take(np.array([129])), 48)
    np.testing.assert_allclose(heads[[129]], alone[0], atol=1e-5)
    np.testing.assert_allclose(activations[[129]], alone[1], atol=1e-5)
    assert heads.shape == (130, 9)
    assert activations.shape == (130, 26)


def test_what_is_above_the_backbone_learns_faster_by_the_head_rate(face: FaceModel, tmp_path: Path) -> None:
    run = Run(load(write_experiment(tmp_path, face, head_rate="3.0")), tmp_path)
    below = {id(p) for name, p in run.model.named_parameters() if name.startswith("backbone.")}
    rates = {id(p): group["rate"] for group in run.optimizer.param_groups for p in group["params"]}
    assert len(rates) == len(list(run.model.parameters()))
    assert {rates[p] for p in below} == {1.0}
    assert {rate for p, rate in rates.items() if p not in below} == {3.0}


def test_a_checkpoint_says_which_settings_have_changed(face: FaceModel, tmp_path: Path) -> None:
    Run(load(write_experiment(tmp_path, face)), tmp_path).save()
    again = Run(load(write_experiment(tmp_path, face)), tmp_path)
    assert again.resume() == ""
    other = Run(load(write_experiment(tmp_path, face, learning_rate="1e-4", seed="9", threads="2")), tmp_path)
    assert other.resume() == "seed, learning_rate"
    viewed = Run(load(write_experiment(tmp_path, face, token_order='"viewed"')), tmp_path)
    with pytest.raises(ExperimentError, match="its token_order is 'patch', not 'viewed'"):
        viewed.resume()


@pytest.mark.slow
def test_two_processes_train_one_model(face: FaceModel, tmp_path: Path) -> None:
    """By the command, on two CPU processes: each takes half of every batch, and one checkpoint comes out."""
    path = write_experiment(tmp_path, face)
    done = subprocess.run(
        [sys.executable, "-m", "training.train", str(path), "--runs", str(tmp_path / "runs"), "--accelerator", "cpu",
         "--devices", "2"],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "pictures/s" in done.stdout
    assert state(tmp_path / "runs" / "tiny", "checkpoint.pt")["number"] == 4
    assert len((tmp_path / "runs" / "tiny" / "epochs.csv").read_text().splitlines()) == 2
