"""Deletion and insertion on models whose best order, and whose Shapley values, are known."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from tests.training.explain.toys import toy
from training.explain import blackbox, deletion, faithful
from training.explain.answers import F64, by_size, contributions, outputs, shares
from training.explain.deletion import additive, curve_of, logits_kept, model_curves, random_orders
from training.explain.intervals import Estimate, mean, ratio

RNG = np.random.default_rng(4)


def test_deletion_starts_at_the_whole_and_ends_at_the_reference() -> None:
    effects = RNG.normal(size=(30, 5))
    left = additive(effects, random_orders(30, 5, 0)[0])
    np.testing.assert_allclose(left[:, 0], effects.sum(axis=1))
    np.testing.assert_allclose(left[:, -1], 0.0, atol=1e-12)
    values, area = curve_of(left, effects.sum(axis=1))
    assert values[0] == pytest.approx(1.0)
    assert values[-1] == pytest.approx(0.0, abs=1e-12)
    assert area.low <= area.value <= area.high


def test_no_order_beats_the_contributions_when_all_pull_the_same_way() -> None:
    effects = RNG.random((20, 5))
    best = np.abs(additive(effects, by_size(effects))).mean(axis=1)
    for order in permutations(range(5)):
        assert (best <= np.abs(additive(effects, np.tile(order, (20, 1)))).mean(axis=1) + 1e-12).all()


def test_contributions_beat_activations_and_chance_on_a_linear_bottleneck() -> None:
    answers, heads = toy(300)
    found = tuple(faithful.of_model(answers, heads, np.zeros(300, np.int64), faithful.SCORE, seed=0))
    area = {order: deletion.find(found, "AGCM", faithful.SCORE, "mean", "deletion", order)
            for order in ("contribution", "activation", "random")}  # fmt: skip
    own, activation, chance = (area[name] for name in ("contribution", "activation", "random"))
    assert own is not None and activation is not None and chance is not None
    assert own.area.high < min(activation.area.low, chance.area.low)
    assert "clearly below activation and random" in deletion.said(found)[0]
    back = deletion.find(found, "AGCM", faithful.SCORE, "mean", "insertion", "contribution")
    assert back is not None
    assert back.values[0] == pytest.approx(0.0, abs=1e-12)
    assert back.area.value == pytest.approx(1 - own.area.value)
    assert back.area.low <= back.area.value <= back.area.high


def test_a_useless_order_is_called_one() -> None:
    effects = RNG.normal(size=(200, 6))
    orders = {"contribution": [random_orders(200, 6, 1)[0]], "activation": [random_orders(200, 6, 2)[0]],
              "random": random_orders(200, 6, 3)}  # fmt: skip
    assert "not clearly below" in deletion.said(tuple(model_curves(effects, orders, ("head", "mean"))))[0]


def test_kept_answers_are_those_of_the_recomputed_logits() -> None:
    answers, heads = toy(40)
    order = random_orders(40, 6, 5)[0]
    given, mean_share = shares(answers)[:, :, 1:], np.asarray(heads.mean)[:, 1:]
    bias = np.asarray(heads.base)[1:] - mean_share.sum(axis=0)
    kept = logits_kept(given, mean_share, order, bias)
    whole = outputs(answers, heads)[:, 1:].argmax(axis=1)
    for step in range(7):
        contributed = contributions(answers, heads)[:, :, 1:].copy()
        for row in range(40):
            contributed[row, order[row, :step]] = 0.0
        again = (np.asarray(heads.base)[1:] + contributed.sum(axis=1)).argmax(axis=1)
        assert kept[step] == pytest.approx((again == whole).mean())


def linear(x: F64) -> F64:
    return np.stack([x @ [1.0, -2.0, 0.5], x[:, 0]], axis=1)


def test_shapley_values_of_a_sum_are_its_terms() -> None:
    x, reference = RNG.random((7, 3)), np.array([0.5, 0.2, 0.1])
    found = blackbox.shapley(linear, x, reference, np.zeros(7, np.int64), 2, seed=0)
    np.testing.assert_allclose(found, (x - reference) * [1.0, -2.0, 0.5], atol=1e-12)


def test_shapley_values_of_a_product_are_shared_and_add_up() -> None:
    x, columns = RNG.random((9, 3)), np.zeros(9, np.int64)
    found = blackbox.shapley(lambda rows: rows[:, :1] * rows[:, 1:2], x, np.zeros(3), columns, 6, seed=0)
    np.testing.assert_allclose(found[:, 0], x[:, 0] * x[:, 1] / 2, atol=1e-12)
    np.testing.assert_allclose(found[:, 2], 0.0, atol=1e-12)
    np.testing.assert_allclose(found.sum(axis=1), x[:, 0] * x[:, 1], atol=1e-12)


def test_the_path_of_a_black_box_goes_from_the_whole_to_the_reference_and_back() -> None:
    x, reference, columns = RNG.random((4, 3)), np.zeros(3), np.array([0, 1, 0, 1])
    order = np.tile([2, 0, 1], (4, 1))
    gone = blackbox.path(linear, x, reference, columns, order)
    back = blackbox.path(linear, x, reference, columns, order, insert=True)
    whole = blackbox.column(linear, x, columns)
    np.testing.assert_allclose(gone[:, 0], whole)
    np.testing.assert_allclose(gone[:, -1], 0.0, atol=1e-12)
    np.testing.assert_allclose(back[:, -1], whole)
    np.testing.assert_allclose(gone + back, np.tile(whole[:, None], 4), atol=1e-12)


def test_trees_learn_and_are_explained() -> None:
    x = RNG.random((300, 4))
    y = 2 * x[:, 1]
    predict = blackbox.regressor(x, y, seed=0)
    assert np.corrcoef(predict(x)[:, 0], y)[0, 1] > 0.9
    found, surprise = blackbox.curves(predict, x[:30], x.mean(axis=0), np.zeros(30, np.int64), "head", seed=0)
    assert surprise is not None and 0 <= surprise < 0.5
    areas = {(curve.test, curve.order): curve.area.value for curve in found}
    assert areas["deletion", "SHAP"] < areas["deletion", "random"]
    assert areas["insertion", "SHAP"] > areas["insertion", "random"]
    two = blackbox.classifier(x, (x[:, 1] > 0.5).astype(np.int64), seed=0)(x)
    assert two.shape == (300, 2)
    assert (two.argmax(axis=1) == (x[:, 1] > 0.5)).mean() > 0.95


def test_an_additive_model_holds_no_surprise_and_a_product_does() -> None:
    answers, heads = toy(50)
    assert faithful.model_surprise(answers, heads, np.arange(50) % 4, seed=0) < 1e-12
    x, columns = RNG.random((50, 2)), np.zeros(50, np.int64)
    _, surprise = blackbox.curves(lambda rows: rows[:, :1] * rows[:, 1:], x, np.zeros(2), columns, "head", seed=0)
    assert surprise is not None and surprise > 0.1


def test_trees_that_learnt_nothing_have_no_curves() -> None:
    x = RNG.random((12, 3))
    assert blackbox.curves(lambda rows: np.ones((len(rows), 1)), x, x[0], np.zeros(12, np.int64), "head", 0) == (
        [],
        None,
    )


def test_intervals_hold_the_value_and_widen_for_groups() -> None:
    values = np.repeat(RNG.normal(size=20), 50)
    alone, together = mean(values), mean(values, np.repeat(np.arange(20), 50))
    assert alone.low < alone.value < alone.high
    assert together.value == pytest.approx(alone.value)
    assert together.high - together.low > 3 * (alone.high - alone.low)
    assert ratio(np.ones(5), np.full(5, 4.0)) == Estimate(0.25, 0.25, 0.25)
    with pytest.raises(ValueError, match="at least one value"):
        mean(np.zeros(0))
