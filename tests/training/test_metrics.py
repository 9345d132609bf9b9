"""Figures by hand and against scikit-learn."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("sklearn")

from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from tests.training.material import learnable
from training.concepts import EXPRESSIONS, INDEX, NAMES
from training.metrics import best_cuts, ccc, classes_of, figures, macro_f1, pearson

few = settings(max_examples=40, deadline=None)
CLASSES = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=30)


def test_ccc_by_hand() -> None:
    """Covariance 2/3, variances 2/3 and 2/3, means 1 apart: 2 * 2/3 / (4/3 + 1) = 4/7."""
    truth = np.array([0.0, 1.0, 2.0])
    assert ccc(truth + 1, truth) == pytest.approx(4 / 7)
    assert ccc(truth, truth) == pytest.approx(1.0)
    assert ccc(2 - truth, truth) == pytest.approx(-1.0)
    assert ccc(np.full(3, 0.7), truth) == pytest.approx(0.0)


def test_pearson_is_blind_to_scale_and_undefined_without_variation() -> None:
    truth = np.array([0.0, 1.0, 4.0])
    assert pearson(3 * truth + 5, truth) == pytest.approx(1.0)
    assert pearson(-truth, truth) == pytest.approx(-1.0)
    assert np.isnan(pearson(np.ones(3), truth))
    assert np.isnan(pearson(truth[:1], truth[:1]))


@few
@given(CLASSES)
def test_macro_f1_is_scikit_learns_over_all_three_classes(pairs: list[tuple[int, int]]) -> None:
    truth, predicted = np.array(pairs).T
    expected = f1_score(truth, predicted, labels=[0, 1, 2], average="macro", zero_division=0)
    assert macro_f1(truth, predicted) == pytest.approx(expected)


def test_a_score_on_a_cut_belongs_to_the_class_above() -> None:
    assert classes_of(np.array([-1.0, 0.2, 0.3, 0.8, 9.0]), (0.3, 0.8)).tolist() == [0, 0, 1, 2, 2]


def test_obvious_cuts_are_found() -> None:
    rng = np.random.default_rng(0)
    classes = np.repeat([0, 1, 2], [20, 60, 120])
    score = np.array([0.1, 0.4, 0.9])[classes] + rng.uniform(-0.04, 0.04, len(classes))
    low, high = best_cuts(score, classes)
    assert 0.1 < low < 0.45
    assert 0.43 < high < 0.95
    assert (classes_of(score, (low, high)) == classes).mean() >= 0.99


def test_no_other_two_quantiles_are_better_cuts() -> None:
    rng = np.random.default_rng(3)
    classes = rng.integers(0, 3, 90)
    score = np.round(classes + rng.normal(0, 0.8, 90), 1)  # ties: a score on a threshold belongs above it
    found = macro_f1(classes, classes_of(score, best_cuts(score, classes)))
    grid = np.unique(np.quantile(score, np.linspace(0.01, 0.99, 60)))
    others = [macro_f1(classes, classes_of(score, (a, b))) for a, b in itertools.combinations(grid.tolist(), 2)]
    assert found == pytest.approx(max(others))


def test_cuts_exist_where_the_score_does_not_vary() -> None:
    low, high = best_cuts(np.full(5, 0.5), np.array([0, 1, 2, 1, 0]))
    assert low == high == 0.5


def test_perfect_answers_have_perfect_figures() -> None:
    samples = learnable(24)
    heads = np.concatenate([samples.score[:, None], samples.votes * 9], axis=1)
    got = figures(heads, samples.concepts, samples)
    assert (got.accuracy, got.expression_f1) == (1.0, 1.0)
    assert got.score_r == pytest.approx(1.0)
    assert got.score_auc == 1.0
    assert got.concept_r[INDEX["AU12"]] == pytest.approx(1.0)
    assert np.isnan(got.concept_r[INDEX["AU1"]]), "a concept that never varies has no correlation"
    assert list(got.row())[4:] == list(NAMES)
    assert "accuracy 1.0000" in got.line()


def test_disengaged_is_a_low_score() -> None:
    samples = learnable(40)
    upside_down = np.zeros((40, 1 + len(EXPRESSIONS)))
    upside_down[:, 0] = -samples.score
    assert figures(upside_down, samples.concepts, samples).score_auc == 0.0
    level = figures(np.zeros_like(upside_down), samples.concepts, samples)
    assert level.score_auc == 0.5
    assert np.isnan(level.score_r)


def test_only_labelled_rows_count() -> None:
    samples = learnable(24)
    votes, score, weights = samples.votes.copy(), samples.score.copy(), samples.weights.copy()
    votes[:12], score[12:], weights[5:] = np.nan, np.nan, 0.0
    activations = samples.concepts.copy()
    activations[5:] = 1 - activations[5:]
    heads = np.concatenate([samples.score[:, None], samples.votes], axis=1)
    heads[:12, 1:] = heads[:12, :0:-1]
    heads[12:, 0] *= -1
    got = figures(heads, activations, replace(samples, votes=votes, score=score, weights=weights))
    assert got.accuracy == 1.0
    assert got.score_auc == 1.0
    assert got.concept_r[INDEX["AU12"]] == pytest.approx(1.0)


def test_no_labels_are_no_figures() -> None:
    samples = learnable(6)
    nothing = replace(samples, votes=samples.votes * np.nan, score=samples.score * np.nan, weights=samples.weights * 0)
    got = figures(np.zeros((6, 9)), samples.concepts, nothing)
    assert np.isnan([got.accuracy, got.expression_f1, got.score_r, got.score_auc, *got.concept_r]).all()
