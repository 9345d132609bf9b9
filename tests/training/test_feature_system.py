"""Columns to task: what the columns say is learnt, nobody is in two splits, and mistakes are one line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")

import typer

from tests.training.material import learnable
from training import features
from training.concepts import INDEX
from training.data.pictures import DataError
from training.data.samples import Samples, save
from training.results import read_results


def noisy(count: int, seed: int) -> Samples:
    """Columns that say the label through noise; a fifth of AU12 is not known."""
    samples, rng = learnable(count, seed), np.random.default_rng(seed)
    concepts = np.clip(samples.concepts + rng.normal(0, 0.2, samples.concepts.shape), 0, 1).astype(np.float32)
    weights = samples.weights.copy()
    weights[rng.random(count) < 0.2, INDEX["AU12"]] = 0.0
    return replace(samples, concepts=concepts, weights=weights)


@pytest.mark.parametrize("method", ["linear", "boosting"])
def test_what_the_columns_say_is_learnt(method: features.Method) -> None:
    train, valid = noisy(150, 1), replace(noisy(60, 2), subjects=np.full(60, 9))
    found = features.on_valid("expression", method, train, valid, 1)
    assert found.accuracy is not None
    assert found.accuracy > 0.9
    left_out = features.unseen("engagement", method, train, 1)
    assert left_out.r is not None
    assert left_out.r > 0.9
    assert left_out.auc is not None
    assert left_out.auc > 0.95
    nothing = replace(train, concepts=np.random.default_rng(0).random(train.concepts.shape, np.float32))
    r = features.unseen("engagement", method, nothing, 1).r
    assert r is not None
    assert abs(r) < 0.3, "nor is anything found where there is nothing"


def test_an_unknown_value_is_not_a_zero() -> None:
    samples = noisy(20, 1)
    x = features.columns(samples)
    k = samples.concepts.shape[1]
    unknown = samples.weights[:, INDEX["AU12"]] == 0
    assert unknown.any()
    assert (x[unknown, INDEX["AU12"]] == 0).all()
    np.testing.assert_array_equal(x[:, k + INDEX["AU12"]] == 0, unknown)


def test_a_subject_in_two_splits_is_refused() -> None:
    with pytest.raises(DataError, match="subject 0, 1, 2: in the splits train and valid"):
        features.on_valid("expression", "linear", noisy(40, 1), noisy(20, 2), 1)


def test_the_nearest_level_is_the_answer() -> None:
    levels, truth = np.array([0.0, 0.5, 1.0]), np.array([0.0, 0.5, 1.0, 1.0])
    found = features.figures("engagement", "linear", np.array([0.2, 0.3, 0.7, 2.0]), truth, "", levels)
    assert found.accuracy == pytest.approx(3 / 4)
    assert found.macro_f1 == pytest.approx((1.0 + 2 / 3 + 2 / 3) / 3)
    strange = features.figures("engagement", "linear", truth, np.array([0.0, 0.5, 0.9, 1.0]), "", levels)
    assert strange.accuracy == pytest.approx(3 / 4), "a level that nobody was taught is never answered rightly"
    track = features.figures("engagement", "linear", truth, truth, "", np.linspace(0, 1, 50))
    assert track.accuracy is None
    assert track.ccc == pytest.approx(1.0)


def test_official_splits_that_share_people_are_measured_and_kept(tmp_path: Path) -> None:
    save(tmp_path / "train.npz", noisy(60, 1))
    save(tmp_path / "test.npz", noisy(30, 2))
    files = tmp_path / "train.npz", "engagement", tmp_path / "test.npz"
    with pytest.raises(typer.Exit):
        features.main(*files)
    features.main(*files, shared_people=True, json=tmp_path / "f.json", results=tmp_path / "r", dataset="cmose",
                  split="test")  # fmt: skip
    written = json.loads((tmp_path / "f.json").read_text())
    assert written[0]["protocol"] == "the validation file, 3 of whose people are in the training file as well"
    kept = {(each.system, each.metric): each.value for each in read_results(tmp_path / "r")}
    assert kept["features-linear", "accuracy"] == written[0]["accuracy"]
    assert kept["features-boosting", "ccc"] == written[1]["ccc"]


@pytest.mark.parametrize(
    ("dataset", "split", "words"),
    [("", "test", "--results needs --dataset, one of rafdb,"), ("cmose", "all", "CMOSE has no split 'all'")],
)
def test_results_say_what_they_are_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], dataset: str, split: str, words: str
) -> None:
    save(tmp_path / "train.npz", noisy(60, 1))
    with pytest.raises(typer.Exit) as stopped:
        features.main(tmp_path / "train.npz", "engagement", results=tmp_path / "r", dataset=dataset, split=split)
    assert stopped.value.exit_code == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path / "train.npz", noisy(60, 1))
    features.main(tmp_path / "train.npz", "engagement", json=tmp_path / "figures.json")
    written = json.loads((tmp_path / "figures.json").read_text())
    assert [each["method"] for each in written] == ["linear", "boosting"]
    assert all(each["protocol"] == "leave one subject out" for each in written)
    with pytest.raises(typer.Exit):
        features.main(tmp_path / "train.npz", "engagement", json=tmp_path / "train.npz" / "figures.json")
    assert "cannot write" in capsys.readouterr().err
    unlabelled = noisy(20, 1)
    unlabelled.weights[:] = 0
    save(tmp_path / "none.npz", unlabelled)
    capsys.readouterr()
    for path, words in ((tmp_path / "none.npz", "no row has both concepts and a label"), (tmp_path / "x", "not found")):
        with pytest.raises(typer.Exit) as stopped:
            features.main(path)
        assert stopped.value.exit_code == 2
        assert words in capsys.readouterr().err
