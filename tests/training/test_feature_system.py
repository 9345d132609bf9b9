"""Columns to task: what the columns say is learnt, nobody is in two splits, and mistakes are one line."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")

import onnx
import typer
from onnx import numpy_helper

from tests.training.material import learnable
from training.concepts import INDEX, NAMES
from training.data.pictures import DataError
from training.data.samples import Samples, save
from training.features import __main__ as command
from training.features import apply, experiment, fit
from training.features.apply import read_model
from training.results import read_results

CONFIGS = Path(__file__).parents[2] / "training" / "configs"


def noisy(count: int, seed: int) -> Samples:
    """Columns that say the label through noise; a fifth of AU12 is not known."""
    samples, rng = learnable(count, seed), np.random.default_rng(seed)
    concepts = np.clip(samples.concepts + rng.normal(0, 0.2, samples.concepts.shape), 0, 1).astype(np.float32)
    weights = samples.weights.copy()
    weights[rng.random(count) < 0.2, INDEX["AU12"]] = 0.0
    return replace(samples, concepts=concepts, weights=weights)


@pytest.mark.parametrize("method", ["linear", "boosting"])
def test_what_the_columns_say_is_learnt(method: experiment.Method) -> None:
    train, valid = noisy(150, 1), replace(noisy(60, 2), subjects=np.full(60, 9))
    found = fit.on_valid("expression", method, train, valid, 1)
    assert found.accuracy is not None
    assert found.accuracy > 0.9
    left_out = fit.unseen("engagement", method, train, 1)
    assert left_out.r is not None
    assert left_out.r > 0.9
    assert left_out.auc is not None
    assert left_out.auc > 0.95
    nothing = replace(train, concepts=np.random.default_rng(0).random(train.concepts.shape, np.float32))
    r = fit.unseen("engagement", method, nothing, 1).r
    assert r is not None
    assert abs(r) < 0.3, "nor is anything found where there is nothing"


def test_an_unknown_value_is_not_a_zero() -> None:
    samples = noisy(20, 1)
    x = fit.joined(samples.concepts, samples.weights)
    k = samples.concepts.shape[1]
    unknown = samples.weights[:, INDEX["AU12"]] == 0
    assert unknown.any()
    assert (x[unknown, INDEX["AU12"]] == 0).all()
    np.testing.assert_array_equal(x[:, k + INDEX["AU12"]] == 0, unknown)


def test_a_subject_in_two_splits_is_refused() -> None:
    with pytest.raises(DataError, match="subject 0, 1, 2: in the splits train and valid"):
        fit.on_valid("expression", "linear", noisy(40, 1), noisy(20, 2), 1)


def test_the_nearest_level_is_the_answer() -> None:
    levels, truth = np.array([0.0, 0.5, 1.0]), np.array([0.0, 0.5, 1.0, 1.0])
    found = fit.figures("engagement", "linear", np.array([0.2, 0.3, 0.7, 2.0]), truth, "", levels)
    assert found.accuracy == pytest.approx(3 / 4)
    assert found.macro_f1 == pytest.approx((1.0 + 2 / 3 + 2 / 3) / 3)
    strange = fit.figures("engagement", "linear", truth, np.array([0.0, 0.5, 0.9, 1.0]), "", levels)
    assert strange.accuracy == pytest.approx(3 / 4), "a level that nobody was taught is never answered rightly"
    track = fit.figures("engagement", "linear", truth, truth, "", np.linspace(0, 1, 50))
    assert track.accuracy is None
    assert track.ccc == pytest.approx(1.0)


def write(folder: Path, **keys: str) -> Path:
    """An experiment of columns; keys replace what it says, "" leaves one out."""
    save(folder / "train.npz", noisy(60, 1))
    save(folder / "test.npz", noisy(30, 2))
    lines = {"name": '"columns"', "task": '"engagement"', "train": f'{{file = "{folder}/train.npz"}}'} | keys
    path = folder / "columns.toml"
    path.write_text("".join(f"{key} = {value}\n" for key, value in lines.items() if value))
    return path


def test_official_splits_that_share_people_are_measured_and_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = {"valid": f'{{file = "{tmp_path}/test.npz"}}', "dataset": '"cmose"', "split": '"test"'}
    assert "in the splits train and valid" in told(write(tmp_path, **keys), tmp_path, capsys)
    for method in ("linear", "boosting"):
        path = write(tmp_path, **keys, shared_people="true", method=f'"{method}"')
        command.main(path, tmp_path / "out", tmp_path / "r")
    kept = {(each.system, each.metric): each.value for each in read_results(tmp_path / "r")}
    about = read_model(tmp_path / "out")
    assert about.figures.protocol == "the validation file, 3 of whose people are in the training file as well"
    assert kept["features-linear", "accuracy"] == about.figures.accuracy
    assert kept["features-boosting", "ccc"] > 0.5
    assert "boosted trees are measured and not exported" in capsys.readouterr().out


def told(path: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What the command says about an experiment that cannot run: one line, exit code 2, and nothing written."""
    with pytest.raises(typer.Exit) as stopped:
        command.main(path, folder / "out", folder / "r")
    assert stopped.value.exit_code == 2
    assert not (folder / "r").exists()
    message = capsys.readouterr().err.strip()
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({}, "--results needs dataset in the experiment, one of rafdb,"),
        ({"dataset": '"cmose"', "split": '"all"'}, "CMOSE has no split 'all'"),
        ({"name": '"a/b"'}, "holds no /"),
        ({"colour": "1"}, "unknown field `colour`"),
        ({"train": '{file = "nowhere.npz"}'}, "nowhere.npz"),
        ({"train": '{file = "a", teacher = "b", csv = "c"}'}, "give teacher or csv, not both"),
    ],
)
def test_a_mistake_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], keys: dict[str, str], words: str
) -> None:
    assert words in told(write(tmp_path, **keys), tmp_path, capsys)
    assert "not found" in told(tmp_path / "none.toml", tmp_path, capsys)


def test_rows_without_a_label_or_a_concept_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path)
    unlabelled = noisy(20, 1)
    unlabelled.weights[:] = 0
    save(tmp_path / "train.npz", unlabelled)
    assert "no row has both concepts and a label" in told(path, tmp_path, capsys)


@pytest.mark.parametrize("task", ["expression", "engagement"])
def test_the_exported_file_answers_a_table_and_its_contributions_sum_to_the_answer(task: str, tmp_path: Path) -> None:
    """A table as `pipeline.export --to csv` writes it: smiling, frowning, and a row without a face."""
    command.main(write(tmp_path, task=f'"{task}"'), tmp_path / "out")
    names = [f"{name}_activation" for name in NAMES]
    table = [["status", *names]]
    for status, au12, au4 in (("tracked", 1.0, 0.0), ("tracked", 0.0, 1.0), ("no_face", 0.0, 0.0)):
        values = dict.fromkeys(NAMES, 0.0) | {"AU12": au12, "AU4": au4}
        table.append([status, *(str(value) for value in values.values())])
    with (tmp_path / "in.csv").open("w", newline="") as file:
        csv.writer(file).writerows(table)
    apply.main(tmp_path / "out", tmp_path / "in.csv", tmp_path / "answers.csv", "auto")
    with (tmp_path / "answers.csv").open(newline="") as file:
        smiling, frowning, nobody = csv.DictReader(file)
    if task == "expression":
        assert (smiling["answer"], frowning["answer"]) == ("happiness", "neutral")
    else:
        assert float(smiling["answer"]) > 0.7 > 0.3 > float(frowning["answer"])
    assert not any(value for key, value in nobody.items() if key != "row")
    about = read_model(tmp_path / "out")
    network = onnx.load(tmp_path / "out" / "model.onnx")
    base = next(numpy_helper.to_array(each) for each in network.graph.initializer if each.name == "base")
    for row in (smiling, frowning):
        shares = [float(value) for key, value in row.items() if key.endswith("_contribution")]
        assert len(shares) == len(NAMES)
        explained = row["explained"]
        assert sum(shares) + base[about.outputs.index(explained)] == pytest.approx(float(row[explained]), abs=1e-4)
    assert float(smiling["AU12_contribution"]) > 0.1


def test_another_file_than_the_described_one_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command.main(write(tmp_path), tmp_path / "out")
    (tmp_path / "out" / "model.onnx").write_bytes(b"another")
    (tmp_path / "in.csv").write_text("status,AU12_activation\ntracked,1\n")
    for folder, words in ((tmp_path / "out", "is not the file that"), (tmp_path, "holds no feature system")):
        with pytest.raises(typer.Exit) as stopped:
            apply.main(folder, tmp_path / "in.csv", tmp_path / "answers.csv", "auto")
        assert stopped.value.exit_code == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "answers.csv").exists()


def test_the_shipped_experiments_are_read() -> None:
    """One of each method, on the same rows."""
    first, second = (experiment.load(CONFIGS / f"system-features-{name}.toml") for name in ("linear", "boosting"))
    assert (first.method, second.method) == ("linear", "boosting")
    assert (first.train, first.valid, first.dataset) == (second.train, second.valid, second.dataset)
