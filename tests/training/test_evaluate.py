"""The exported model on small generated corpora: the command of the README, its figures and its refusals."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
from typer.testing import CliRunner

from engines.spec import available
from training.concepts import EXPRESSIONS
from training.data.pictures import DataError
from training.engagement import subject_folds
from training.evaluate import ENGAGEMENT_CLASSES, app, groups_of
from training.reports import classification, engagement

needs_model = pytest.mark.skipif("agcm-live" not in available(), reason="models/agcm-live is not there")


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, arguments)
    return result.exit_code, result.output


@pytest.fixture
def faces() -> list[np.ndarray]:
    """A face, its mirror image, and a picture without one."""
    grey = cv2.cvtColor(skimage.data.astronaut(), cv2.COLOR_RGB2GRAY)[30:200, 140:310]
    return [grey, grey[:, ::-1].copy(), np.full_like(grey, 128)]


@needs_model
def test_wacv2016_is_measured_with_and_without_faces_and_colour(tmp_path: Path, faces: list[np.ndarray]) -> None:
    for label, picture in zip((1, 2, 3), faces, strict=True):
        (tmp_path / str(label)).mkdir()
        for number in (1, 2):
            cv2.imwrite(str(tmp_path / str(label) / f"img{number}_{label}.jpg"), picture)
    out = tmp_path / "figures.json"
    code, text = run("--dataset", "wacv2016", "--data", str(tmp_path), "--json", str(out))
    assert code == 0, text
    report = json.loads(out.read_text())
    assert (report["pictures"], report["without_face"]) == (6, 2)
    sizes = {group["group"]: group["pictures"] for group in report["groups"]}
    assert sizes == {"all": 6, "face found": 4, "grey": 6, "grey, face found": 4}
    assert "thresholds" in report["protocol"]


@needs_model
def test_ferplus_reads_the_asked_split_only(tmp_path: Path, faces: list[np.ndarray]) -> None:
    pictures = np.stack([cv2.resize(face, (48, 48), interpolation=cv2.INTER_AREA) for face in faces])
    votes = np.zeros((3, 10), np.uint8)
    votes[[0, 1, 2], [1, 1, 9]] = 10  # the last one is "not a face": outside the protocol
    columns = [*EXPRESSIONS, "unknown", "not_face"]
    path = tmp_path / "ferplus.npz"
    np.savez(path, images=pictures, votes=votes, split=np.array(["test", "valid", "test"]), vote_columns=columns)
    out = tmp_path / "figures.json"
    code, text = run("--dataset", "ferplus", "--data", str(path), "--split", "test", "--json", str(out))
    assert code == 0, text
    report = json.loads(out.read_text())
    assert report["pictures"] == 1
    assert report["groups"][0]["accuracy"] == 1.0, "the astronaut smiles"
    code, text = run("--dataset", "ferplus", "--data", str(path), "--split", "train")
    assert code == 2
    assert "no split 'train'" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--dataset", "ferplus", "--data", "nowhere.npz", "--model", "nobody"), "unknown model 'nobody'"),
        (("--dataset", "ferplus", "--data", "nowhere.npz", "--model", "centerface"), "not a concept model"),
        (("--dataset", "wacv2016", "--data", "nowhere", "--split", "valid"), "WACV 2016 has no split 'valid'"),
        (("--dataset", "moon", "--data", "nowhere.npz"), "moon"),
    ],
)
def test_a_mistake_is_one_clear_line(arguments: tuple[str, ...], words: str) -> None:
    code, text = run(*arguments)
    assert code == 2
    assert words in text
    assert "Traceback" not in text


def test_figures_of_a_known_answer() -> None:
    truth = np.array([0, 0, 1, 1, 2, 2])
    score = np.array([0.1, 0.6, 0.5, 0.5, 0.9, 1.0])
    figures = engagement("all", score, truth, np.array([0, 1, 1, 1, 2, 2]), ENGAGEMENT_CLASSES)
    assert figures.accuracy == pytest.approx(5 / 6)
    assert figures.recall == {"disengaged": 0.5, "engaged": 1.0, "very engaged": 1.0}
    assert figures.macro_f1 == pytest.approx((2 / 3 + 4 / 5 + 1) / 3)
    assert figures.auc == pytest.approx(6 / 8), "pairs in which the disengaged one scores lower"
    assert figures.r is not None and figures.r > 0.8


def test_classes_that_are_absent_do_not_count() -> None:
    figures = classification("all", np.array([0, 0]), np.array([0, 1]), ENGAGEMENT_CLASSES)
    assert set(figures.recall) == {"disengaged"}


def test_grey_pictures_stand_alone() -> None:
    groups = groups_of(np.array([True, True, False]), np.array([True, False, False]))
    assert [int(rows.sum()) for rows in groups.values()] == [3, 2, 2, 1]


def test_folds_share_no_subject_and_miss_none() -> None:
    subjects = np.repeat(np.arange(1, 18), np.arange(10, 27))
    folds = subject_folds(subjects, 5)
    named = [subject for fold in folds for subject in fold]
    assert sorted(named) == list(range(1, 18))
    sizes = [int(np.isin(subjects, fold).sum()) for fold in folds]
    assert max(sizes) - min(sizes) < 26
    with pytest.raises(DataError, match="not possible"):
        subject_folds(subjects, 18)
