"""What is wrong with an experiment, a checkpoint, the data or the machine is one clear line."""

from __future__ import annotations

import re
import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("numba")
pytest.importorskip("sklearn")

import torch
import typer

from tests.training.material import learnable, write_experiment
from training import train as trainer
from training.data.samples import save
from training.experiment import ExperimentError, load
from training.hardware import Hardware, launched
from training.run import Run
from training.synthetic.ict import FaceModel


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


def test_a_missing_experiment_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "experiment file not found" in told(tmp_path / "none.toml", tmp_path, capsys)


def test_a_batch_larger_than_an_epoch_is_refused(
    face: FaceModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would train nothing and say so nowhere."""
    path = write_experiment(tmp_path, face, phases="[{epochs = 1, side_px = 48, batch = 64}]")
    assert "a batch of 64 is more than the 32 crops of an epoch" in told(path, tmp_path / "runs", capsys)


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
