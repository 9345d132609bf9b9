"""The engagement head in closed form: what it fits, what it weighs, and that nobody's own pictures judge them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import typer

from training.agcm.model import Agcm, AgcmConfig
from training.data.pictures import DataError
from training.engagement import (
    Head,
    Pictures,
    choose,
    classes,
    fit,
    leave_one_out,
    main,
    mixed_people,
    people,
    put,
    subject_folds,
)
from training.metrics import ccc
from training.ridge import Sums


def corpus(noise: float, seed: int = 0, people: int = 8, each: int = 40) -> Pictures:
    """Labels that a hidden direction of 12 numbers decides, the same for everybody."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=12)
    x = rng.normal(size=(people * each, 12))
    value = x @ hidden / np.linalg.norm(hidden)
    score = np.digitize(value, (-1.0, 0.5)) / 2
    noisy = x + noise * rng.normal(size=x.shape)
    mirrored = x + noise * rng.normal(size=x.shape)
    return Pictures(noisy, mirrored, score, np.repeat(np.arange(people), each))


def test_a_weak_ridge_is_weighted_least_squares() -> None:
    pictures = corpus(0.1)
    head = fit(pictures, 1e-9)
    x = np.column_stack([np.concatenate([pictures.plain, pictures.mirrored]), np.ones(2 * len(pictures.score))])
    values, index, counts = np.unique(pictures.score, return_inverse=True, return_counts=True)
    alike = (len(pictures.score) / (len(values) * counts))[index]
    root = np.sqrt(np.tile(alike, 2))[:, None]
    solution = np.linalg.lstsq(x * root, np.tile(pictures.score, 2) * root[:, 0], rcond=None)[0]
    np.testing.assert_allclose([*head.weight, head.bias], solution, atol=1e-6)


def test_a_strong_ridge_answers_the_balanced_mean() -> None:
    pictures = corpus(0.1)
    answer = fit(pictures, 1e12)(pictures.plain)
    np.testing.assert_allclose(answer, 0.5, atol=1e-3)


def test_the_sums_of_people_are_the_sums_of_all() -> None:
    """A head from sums that were made before is the head from the pictures."""
    pictures = corpus(0.3)
    some = pictures.take(np.isin(pictures.subjects, (1, 2, 6)))
    fresh, known = fit(some, 30.0), fit(some, 30.0, people(pictures))
    np.testing.assert_allclose(known.weight, fresh.weight, rtol=1e-10)
    assert known.bias == pytest.approx(fresh.bias, rel=1e-10)


def test_a_class_that_nobody_shows_is_left_out() -> None:
    pictures = corpus(0.1)
    some = pictures.take(pictures.score > 0)
    two = {name: Sums(part.labels, part.count * [0, 1, 1], part.first * [[0], [1], [1]],
                      part.second * [[[0]], [[1]], [[1]]]) for name, part in people(pictures).items()}  # fmt: skip
    np.testing.assert_allclose(fit(pictures, 1.0, two).weight, fit(some, 1.0).weight, rtol=1e-8)


def test_labels_that_are_no_classes_are_refused() -> None:
    pictures = corpus(0.1)
    with pytest.raises(DataError, match="take 320 values"):
        fit(Pictures(pictures.plain, pictures.mirrored, np.linspace(0, 1, 320), pictures.subjects), 1.0)


def test_unseen_people_are_answered_well_when_there_is_something_to_learn() -> None:
    pictures = corpus(0.3)
    score, answer = leave_one_out(pictures)
    assert ccc(score, pictures.score) > 0.6
    assert (answer == classes(pictures.score)).mean() > 0.6


def test_a_person_s_own_labels_never_judge_them() -> None:
    """Turning one person's labels round changes the answers to others, never the answers to that person."""
    pictures = corpus(0.3)
    own = pictures.subjects == 3
    turned = Pictures(
        pictures.plain, pictures.mirrored, np.where(own, 1 - pictures.score, pictures.score), pictures.subjects
    )
    before, after = leave_one_out(pictures), leave_one_out(turned)
    np.testing.assert_array_equal(before[0][own], after[0][own])
    np.testing.assert_array_equal(before[1][own], after[1][own])
    assert (before[0][~own] != after[0][~own]).any()


def test_known_people_are_answered_better_where_everybody_is_a_little_different() -> None:
    """Everybody has an offset of their own and is recognised by one number that says nothing else."""
    pictures = corpus(0.1, people=6)
    own = np.eye(6)[pictures.subjects] * 3.0
    offset = np.random.default_rng(1).choice([0.0, 0.5], 6)[pictures.subjects]
    score = np.clip(np.minimum(pictures.score, 0.5) + offset, 0, 1)
    plain, mirrored = (np.concatenate([part, own], axis=1) for part in (pictures.plain, pictures.mirrored))
    people_differ = Pictures(plain, mirrored, score, pictures.subjects)
    known = mixed_people(people_differ)
    assert len(np.unique(known.subjects)) == 6
    assert all(len(np.unique(known.subjects[pictures.subjects == name])) == 6 for name in range(6))
    unseen, seen = (ccc(leave_one_out(each)[0], score) for each in (people_differ, known))
    assert seen > unseen + 0.2


def test_noise_asks_for_a_stronger_ridge() -> None:
    assert choose(corpus(6.0))[0] >= choose(corpus(0.0))[0]


def test_folds_of_one_subject_are_refused() -> None:
    with pytest.raises(DataError, match="not possible"):
        subject_folds(np.zeros(5, np.int64), 2)


def test_the_head_becomes_the_model_s_score() -> None:
    torch.manual_seed(0)
    model = Agcm(AgcmConfig(concepts=3, outputs=4, embedding=5, deep_channels=0)).eval()
    crops = torch.randn(2, 1, 64, 64)
    before = model(crops)
    head = Head(np.random.default_rng(0).normal(size=15), 0.25)
    put(model, head)
    after = model(crops)
    expected = head(before.embedding.flatten(1).detach().double().numpy())
    np.testing.assert_allclose(after.heads[:, 0].detach().numpy(), expected, atol=1e-5)
    torch.testing.assert_close(after.heads[:, 1:], before.heads[:, 1:])


def test_what_varies_among_strangers_only_gets_little_weight() -> None:
    """Two columns tell the same of the people; the second varies a hundred times as much among other faces."""
    rng = np.random.default_rng(4)
    score = np.tile([0.0, 0.5, 1.0], 80)
    both = np.stack([score, score], axis=1) + rng.normal(0, 0.05, (240, 2))
    known = Pictures(both, both, score, np.repeat(np.arange(6), 40))
    strangers = np.array([0.1, 10.0])
    alone, among = fit(known, 10.0), fit(replace(known, spread=strangers), 10.0)
    assert alone.weight[1] > 0.7 * alone.weight[0], "without strangers both count about alike"
    assert among.weight[1] < 0.05 * among.weight[0]
    faces = rng.normal(0.5, strangers**0.5, (1000, 2))
    assert np.std(among(faces)) < 0.3 * np.std(alone(faces))


def test_a_mistake_is_one_line_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended:
        main(tmp_path / "none.toml", tmp_path / "weights.pt", tmp_path / "out.pt")
    assert ended.value.exit_code == 2
    assert "experiment file not found" in capsys.readouterr().err
