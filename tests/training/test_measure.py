"""Figures on the data sets of the table: a model with known answers, and the shipped file through its command."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import get_args

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from typer.testing import CliRunner

from engines.spec import CropSpec, HeadSpec, available
from tests.training import layouts
from training.concepts import EXPRESSIONS, NAMES
from training.data.corpus import CENTRE_SHARES, Continuous, Corpus, Item, Levels
from training.data.datasets import DATASETS
from training.evaluate import Name, app
from training.measure import Model, measure
from training.prepare import detector
from training.reports import Report
from training.results import read_results

F64 = npt.NDArray[np.float64]
Answer = Callable[[npt.NDArray[np.uint8]], tuple[F64, F64]]
HEADS = HeadSpec(EXPRESSIONS, (0.5,) + (0.0,) * 8, tuple((0.0,) * 9 for _ in NAMES), ())
needs_model = pytest.mark.skipif("agcm-live" not in available(), reason="models/agcm-live is not there")


def model(answer: Answer) -> Model:
    """The live path's detector, and an answer that is known."""
    engine = detector()
    return Model(engine, engine, CropSpec(112, 0.5, 0.5), HEADS, answer)


def always(name: str, score: float = 0.5) -> Answer:
    """Sure of contempt, and next of `name`."""
    shares = np.array([0.6 if each == "contempt" else 0.3 if each == name else 0.0 for each in EXPRESSIONS])
    return lambda crops: (np.full(len(crops), score), np.tile(shares, (len(crops), 1)))


def corpus(name: str, folder: Path, split: str, rate_hz: float = 5.0) -> Corpus:
    load = DATASETS[name].load
    assert load is not None
    return load(folder, split, rate_hz)


def test_a_set_without_contempt_is_answered_among_its_own_classes(tmp_path: Path) -> None:
    train = corpus("rafdb", layouts.rafdb(tmp_path), "train")
    report = measure(model(always("happiness")), train)
    assert (report.pictures, report.without_face) == (3, 0)
    assert report.groups[0].accuracy == pytest.approx(1 / 3)
    assert report.groups[0].recall == {"surprise": 0.0, "happiness": 1.0, "neutral": 0.0}
    assert "answered among 7 of them" in report.protocol


def test_a_set_with_contempt_may_be_answered_so(tmp_path: Path) -> None:
    train = corpus("affectnet8", layouts.affectnet(tmp_path), "train")
    recall = measure(model(always("neutral")), train).groups[0].recall
    assert recall["contempt"] == 1.0
    assert sum(recall.values()) == 1.0


def test_a_class_that_the_model_does_not_know_counts_as_wrong_and_stands_apart(tmp_path: Path) -> None:
    train = corpus("affwild2", layouts.affwild2(tmp_path), "train", 30.0)
    groups = {group.group: group for group in measure(model(always("anger")), train).groups}
    assert groups["all"].pictures == 9
    assert groups["all"].recall["other"] == 0.0
    assert groups["without other"].pictures == 8
    assert groups["all"].accuracy == pytest.approx(5 / 9)
    assert groups["without other"].accuracy == pytest.approx(5 / 8)


def brightness(crops: npt.NDArray[np.uint8]) -> tuple[F64, F64]:
    """A score that can be told apart by the picture, and no expression."""
    return crops.reshape(len(crops), -1).mean(1) / 255.0, np.full((len(crops), 8), 1 / 8)


def lit(level: int) -> npt.NDArray[np.uint8]:
    """A face whose brightness grows with the level."""
    return (layouts.faces()[0] * (0.25 + 0.22 * level)).astype(np.uint8)


def levels(*media: tuple[int, npt.NDArray[np.uint8]]) -> Corpus:
    items = tuple(Item(f"{i}", picture, level) for i, (level, picture) in enumerate(media))
    return Corpus("toy", "test", Levels(("none", "little", "some", "much")), items, CENTRE_SHARES)


def test_levels_by_thresholds_given_or_halfway() -> None:
    faces = [(level, lit(level)) for level in (0, 1, 2, 3)]
    score = [float(brightness(lit(level)[None])[0][0]) for level in range(4)]
    halfway = tuple((low + high) / 2 for low, high in pairwise(score))
    report = measure(model(brightness), levels(*faces), halfway)
    assert report.groups[0].accuracy == 1.0
    assert report.groups[0].auc == 1.0, "the lowest level has the lowest score"
    assert report.groups[0].r == pytest.approx(1.0, abs=0.01)
    assert "given thresholds" in report.protocol
    assert "halfway between the levels, fitted to nothing" in measure(model(brightness), levels(*faces)).protocol
    assert levels(*faces).task.cuts == pytest.approx((1 / 6, 1 / 2, 5 / 6))


def test_an_item_without_a_face_gets_the_mean_of_the_others_and_a_group_without_it() -> None:
    report = measure(model(brightness), levels((0, lit(0)), (3, lit(3)), (3, np.full((112, 112), 90, np.uint8))))
    assert report.without_face == 1
    assert {group.group: group.pictures for group in report.groups} == {"all": 3, "face found": 2}


def test_clips_are_scored_by_the_mean_of_their_frames(tmp_path: Path) -> None:
    train = corpus("daisee", layouts.daisee(tmp_path), "train")
    report = measure(model(always("neutral", score=0.9)), train)
    assert report.pictures == 2
    assert report.groups[0].accuracy == 0.5, ".9 is the highest level"
    assert report.groups[0].recall == {"very low": 0.0, "very high": 1.0}
    assert "5 frames of each second" in report.protocol


def noxi(tmp_path: Path, answer: Answer) -> Report:
    return measure(model(answer), corpus("noxi", layouts.noxi(tmp_path), "train", 10.0))


def test_continuous_engagement_is_one_concordance_over_everybody(tmp_path: Path) -> None:
    """Each person right on average but for a constant within themselves is far from agreement over time."""
    report = noxi(tmp_path, always("neutral", score=0.435))
    by_name = {group.group: group for group in report.groups}
    assert set(by_name) == {"all", "train/001/expert", "train/001/novice"}
    assert by_name["all"].pictures == 76, "what nobody annotated is dropped"
    assert by_name["all"].accuracy is None
    assert by_name["all"].ccc == pytest.approx(0.0, abs=1e-6)


def test_a_score_that_follows_the_label_agrees(tmp_path: Path) -> None:
    folder = layouts.noxi(tmp_path)
    train = corpus("noxi", folder, "train", 10.0)
    right = [0.2 + 0.01 * 2.5 * i for i in range(20)]
    answers = iter(np.concatenate([right, np.array(right) + 0.1]))

    def follow(crops: npt.NDArray[np.uint8]) -> tuple[F64, F64]:
        return np.array([next(answers) for _ in crops]), np.full((len(crops), 8), 1 / 8)

    report = measure(model(follow), train)
    assert report.groups[0].ccc == pytest.approx(1.0, abs=1e-3)
    assert isinstance(train.task, Continuous)


def run(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    return result.exit_code, result.output


def test_the_commands_names_are_those_of_the_table() -> None:
    assert set(get_args(Name)) == set(DATASETS)


@needs_model
def test_the_shipped_model_is_measured_and_its_figures_are_kept(tmp_path: Path) -> None:
    folder, kept = layouts.rafdb(tmp_path / "rafdb"), tmp_path / "results"
    code, text = run("--dataset", "rafdb", "--data", folder, "--json", tmp_path / "r.json", "--results", kept,
                     "--system", "agcm", "--embedding", "16")  # fmt: skip
    assert code == 0, text
    report = msgspec.json.decode((tmp_path / "r.json").read_bytes(), type=Report)
    results = read_results(kept)
    assert {each.metric for each in results} == {"accuracy", "macro_f1"}
    for each in results:
        assert (each.dataset, each.split, each.system, each.embedding) == ("rafdb", "test", "agcm", 16)
        assert each.value == getattr(report.groups[0], each.metric)
        assert each.model == report.model
        assert each.command.startswith("python -m training.evaluate")


@needs_model
def test_videos_are_measured_by_the_shipped_model(tmp_path: Path) -> None:
    code, text = run("--dataset", "daisee", "--data", layouts.daisee(tmp_path), "--split", "train", "--rate", "2",
                     "--cuts", "0.1,0.2,0.3")  # fmt: skip
    assert code == 0, text
    assert "given thresholds" in text.replace("\n", " ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--dataset", "rafdb", "--results", "r"), "--results needs --system"),
        (("--dataset", "daisee", "--cuts", "0.3,0.2,0.5"), "daisee takes 3 rising thresholds"),
        (("--dataset", "daisee", "--cuts", "low"), "not numbers"),
        (("--dataset", "rafdb", "--cuts", "0.5"), "rafdb takes 0 rising thresholds"),
        (("--dataset", "rafdb"), "RAF-DB needs the file"),
        (("--dataset", "cmose"), "CMOSE is released without pictures"),
    ],
)
@needs_model
def test_a_mistake_is_one_clear_line(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    code, text = run(*arguments, "--data", tmp_path)
    assert code == 2
    assert words in text
    assert "Traceback" not in text
