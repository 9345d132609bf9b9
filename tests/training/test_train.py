"""Training: it learns, it resumes exactly, and what is wrong is one clear line."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("numba")
pytest.importorskip("sklearn")

import torch
import typer
from torch import Tensor

from tests.training.material import learnable, write_experiment, write_teacher
from training import feed
from training import train as trainer
from training.concepts import INDEX
from training.data.pictures import DataError
from training.data.samples import save
from training.experiment import ExperimentError, load
from training.hardware import Hardware, launched
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


def told(path: Path, runs: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What the command says about an experiment that cannot run: one line, and exit code 2."""
    with pytest.raises(typer.Exit) as stopped:
        trainer.main(path, runs, accelerator="cpu")
    assert stopped.value.exit_code == 2
    message = capsys.readouterr().err.strip()
    assert message.startswith("error: ")
    assert "\n" not in message
    return message


def test_a_checkpoint_of_another_configuration_is_refused(
    face: FaceModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer.train(load(write_experiment(tmp_path, face)), tmp_path / "tiny")
    before = (tmp_path / "tiny" / "checkpoint.pt").read_bytes()
    path = write_experiment(tmp_path, face, embedding="5")
    message = told(path, tmp_path, capsys)
    assert "checkpoint.pt belongs to another configuration: its embedding is 4, not 5" in message
    assert (tmp_path / "tiny" / "checkpoint.pt").read_bytes() == before


def test_a_loss_that_is_not_finite_stops_the_run_at_the_last_good_state(
    face: FaceModel, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "CHECKPOINT_STEPS", 1)
    path = write_experiment(tmp_path, face, learning_rate="1e30")
    message = told(path, tmp_path / "runs", capsys)
    assert re.search(r"the loss is not finite at step [1-3] .*lower learning_rate", message)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"colour": '"red"'}, r"unknown field `colour`"),
        ({"learning_rate": '"fast"'}, r"Expected `float`, got `str` - at `\$\.learning_rate`"),
        ({"phases": "[{epochs = 1}]"}, r"missing required field `side_px` - at `\$\.phases\[0\]`"),
        ({"phases": "[{epochs = 1, side_px = 32}]"}, r"multiple of 16 and at least 48, not 32 - at `\$\.phases\[0\]`"),
        ({"phases": "[{epochs = 1, side_px = 100}]"}, r"multiple of 16 and at least 48, not 100"),
        ({"phases": "[{epochs = 0, side_px = 48}]"}, r"epochs >= 1 and batch >= 2"),
        ({"phases": "[]"}, r"needs at least one of phases, train and valid"),
        ({"valid": "[]"}, r"needs at least one of phases, train and valid"),
        ({"name": '"../elsewhere"'}, r"name is a run's folder under runs/ and holds no /"),
        ({"train": '[{file = "gone.npz"}]'}, r"prepared crops not found: gone\.npz; run python -m training\.prepare"),
        ({"train": '[{file = "x", teachr = "y"}]'}, r"unknown field `teachr` - at `\$\.train\[0\]`"),
        ({"scale_from": '"gone.npz"'}, r"teacher labels not found: gone\.npz"),
        ({"ict": '"gone.npz"'}, r"gone\.npz: not the ICT-FaceKit light model"),
        ({"init": '"gone.pt"'}, r"weights not found: gone\.pt"),
        ({"backbone": '{weights = "gone.pth"}'}, r"weights of the backbone not found: gone\.pth"),
        ({"backbone": '{kind = "vgg"}'}, r"unknown backbone 'vgg'; there are efficientnet-lite0, .*`\$\.backbone`"),
    ],
)
def test_a_wrong_experiment_is_one_clear_line(
    face: FaceModel, tmp_path: Path, capsys: pytest.CaptureFixture[str], keys: dict[str, str], message: str
) -> None:
    path = write_experiment(tmp_path, face, **keys)
    assert re.search(message, told(path, tmp_path / "runs", capsys))


def test_weights_of_another_configuration_are_no_start(
    face: FaceModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(load(write_experiment(tmp_path, face)), tmp_path)
    run.save()
    backbone = write_experiment(tmp_path / "b", face, backbone=f'{{weights = "{tmp_path}/weights.pt"}}')
    assert "weights.pt holds no weights of efficientnet-lite0" in told(backbone, tmp_path / "runs", capsys)
    path = write_experiment(tmp_path, face, init=f'"{tmp_path}/weights.pt"', embedding="5")
    assert "weights.pt belongs to another configuration" in told(path, tmp_path / "runs", capsys)


@pytest.mark.parametrize("content", [b"", b"no network", b"PK\x03\x04 cut off"])
def test_a_damaged_checkpoint_is_named(
    face: FaceModel, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    path = write_experiment(tmp_path, face)
    (tmp_path / "runs" / "tiny").mkdir(parents=True)
    (tmp_path / "runs" / "tiny" / "checkpoint.pt").write_bytes(content)
    assert "checkpoint.pt is damaged or was not written by torch" in told(path, tmp_path / "runs", capsys)
    path = write_experiment(tmp_path / "b", face, init=f'"{tmp_path}/runs/tiny/checkpoint.pt"')
    assert "checkpoint.pt is damaged or was not written by torch" in told(path, tmp_path / "other", capsys)


def test_a_foreign_checkpoint_is_named(face: FaceModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_experiment(tmp_path, face)
    (tmp_path / "runs" / "tiny").mkdir(parents=True)
    torch.save({"model": {}}, tmp_path / "runs" / "tiny" / "checkpoint.pt")
    assert "it lacks average, average_steps, optimizer, number" in told(path, tmp_path / "runs", capsys)


def test_a_folder_of_runs_that_cannot_be_made_is_one_clear_line(
    face: FaceModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_experiment(tmp_path, face)
    (tmp_path / "runs").write_text("a file")
    assert "cannot write" in told(path, tmp_path / "runs", capsys)


def test_an_experiment_that_is_no_text_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "picture.toml").write_bytes(b"\xff\xd8\xff")
    assert "picture.toml" in told(tmp_path / "picture.toml", tmp_path, capsys)


def test_a_file_without_pictures_is_no_training_data(
    face: FaceModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_experiment(tmp_path, face)
    labels = learnable(32)
    save(tmp_path / "train.npz", replace(labels, crops=np.zeros((32, 0, 0), np.uint8)))
    assert "train.npz holds no pictures, only labels" in told(path, tmp_path / "runs", capsys)


def test_an_interrupted_epoch_leaves_one_row(face: FaceModel, tmp_path: Path) -> None:
    """The row of an epoch is written before its checkpoint, and once more by the run that goes on."""
    experiment = load(write_experiment(tmp_path, face))
    trainer.train(experiment, tmp_path / "run")
    rows = (tmp_path / "run" / "epochs.csv").read_text().splitlines()
    (tmp_path / "run" / "checkpoint.pt").unlink()
    trainer.train(experiment, tmp_path / "run")
    assert (tmp_path / "run" / "epochs.csv").read_text().splitlines() == rows


def test_a_missing_experiment_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "experiment file not found" in told(tmp_path / "none.toml", tmp_path, capsys)


def test_a_batch_larger_than_an_epoch_is_refused(
    face: FaceModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would train nothing and say so nowhere."""
    path = write_experiment(tmp_path, face, phases="[{epochs = 1, side_px = 48, batch = 64}]")
    assert "a batch of 64 is more than the 32 crops of an epoch" in told(path, tmp_path / "runs", capsys)


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


def test_a_full_disk_costs_nothing_that_was_finished(face: FaceModel, tmp_path: Path) -> None:
    """A limit on the size of a file stands for a disk that is full in the middle of writing."""
    run = Run(load(write_experiment(tmp_path, face)), tmp_path)
    run.save()
    before = {name: (tmp_path / name).read_bytes() for name in ("checkpoint.pt", "weights.pt")}
    run.number = 7
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(ExperimentError, match=r"cannot write .*checkpoint\.pt .*what it held before is still"):
            run.save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert not list(tmp_path.glob("*.partial"))


def test_a_split_that_is_empty_or_shares_a_subject_is_named(
    face: FaceModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_experiment(tmp_path, face, exclude_subjects="[0, 1, 2]")
    assert re.search(r"split 'train' of .*train\.npz is empty", told(path, tmp_path / "runs", capsys))
    same_people = f'[{{file = "{tmp_path}/valid.npz", corpus = "train"}}]'
    path = write_experiment(tmp_path, face, valid=same_people)
    message = told(path, tmp_path / "runs", capsys)
    assert "subject 0, 1, 2: in the splits train and valid" in message


def test_hardware_that_is_not_there_is_one_line(
    face: FaceModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ExperimentError, match="--devices and --nodes must be at least 1"):
        launched(Hardware("cpu", devices=0))
    if not torch.cuda.is_available():
        with pytest.raises(ExperimentError, match="no such hardware"):
            launched(Hardware("gpu"))


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
