"""AUC, purity, leakage and information where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from training.explain import leakage, purity
from training.explain.information import between, entropy, with_class, with_itself
from training.explain.purity import alignment, enough
from training.explain.quality import Quality, area, said

RNG = np.random.default_rng(8)


def test_information_of_gaussians_is_that_of_the_formula() -> None:
    a, noise = RNG.normal(size=(2, 1500, 1))
    b = 0.8 * a + 0.6 * noise
    assert between(a, b) == pytest.approx(-0.5 * np.log(1 - 0.64), abs=0.08)
    assert between(a, noise) < 0.06
    wide = np.concatenate([b, RNG.normal(size=(1500, 1))], axis=1)
    assert between(a, wide) == pytest.approx(-0.5 * np.log(1 - 0.64), abs=0.12)
    assert between(a, a) == pytest.approx(with_itself(1500), abs=1e-6)


def test_information_of_a_class_is_its_entropy_when_it_can_be_read_off() -> None:
    classes = RNG.integers(0, 3, 900)
    apart = np.stack([classes + 0.01 * RNG.normal(size=900), RNG.normal(size=900) * 1e-3], axis=1)
    assert entropy(np.array([0, 1, 0, 1])) == pytest.approx(np.log(2))
    assert with_class(apart, classes) == pytest.approx(entropy(classes), abs=0.1)
    assert with_class(RNG.normal(size=(900, 1)), classes) < 0.05


def test_many_equal_values_carry_no_information_of_their_own() -> None:
    classes = RNG.integers(0, 2, 400)
    assert with_class(np.zeros((400, 1)), classes) < 0.1


def test_leakage_tells_a_copy_of_the_task_from_a_concept() -> None:
    classes = RNG.integers(0, 2, 600)
    truth = RNG.random((600, 2))  # the true concepts say nothing of the task
    pure = truth[:, :, None] + 0.01 * RNG.normal(size=(600, 2, 1))
    leaky = np.concatenate([pure, np.tile(classes[:, None, None], (1, 2, 1)) + 0.01 * RNG.normal(size=(600, 2, 1))], 2)
    found = [leakage.measure(name, values, truth, classes, ("x", "y")) for name, values in
             (("pure", pure), ("leaky", leaky))]  # fmt: skip
    assert found[0].ctl_mean < 0.1
    assert found[1].ctl_mean > 0.7
    assert found[1].icl_mean > found[0].icl_mean + 0.05
    assert "leaky: " in leakage.said(tuple(found))


def test_leakage_between_concepts_is_measured_against_the_true_ones() -> None:
    shared = RNG.random((500, 1))
    related = np.concatenate([shared, shared + 0.01 * RNG.normal(size=(500, 1))], axis=1)
    apart = RNG.random((500, 2))
    assert leakage.concept_leakage(related[:, :, None], apart).mean() > 0.3
    assert leakage.concept_leakage(related[:, :, None], related).mean() == 0.0


@pytest.fixture(scope="module")
def present() -> np.ndarray:
    return np.random.default_rng(2).random((240, 4)) < 0.4


def test_representations_that_are_the_concepts_are_pure(present: np.ndarray) -> None:
    rng = np.random.default_rng(3)
    own = present[:, :, None] + 0.01 * rng.normal(size=(240, 4, 1))
    # Each also carries its neighbour, faintly: no strong correlation gives it away.
    faint = own[:, [1, 2, 3, 0]] + 0.8 * rng.normal(size=(240, 4, 1))
    pure, impure = (
        purity.measure(name, values, present, seed=0)
        for name, values in (("own", own), ("mixed", np.concatenate([own, faint], axis=2)))
    )
    assert pure.cas > 0.9
    assert pure.ois < 0.15
    assert impure.ois > pure.ois + 0.1
    assert pure.nis < 0.55
    assert impure.nis > pure.nis + 0.08
    assert "own: CAS" in purity.said((pure, impure))


def test_noise_is_not_aligned(present: np.ndarray) -> None:
    rng = np.random.default_rng(4)
    noise = alignment(rng.normal(size=(120, 2)), present[:120, 0], rng)
    own = alignment(present[:120, :1].astype(np.float64), present[:120, 0], rng)
    assert own > 0.99 > noise


def test_rare_concepts_are_left_to_others() -> None:
    marks = np.zeros((100, 3), bool)
    marks[:5, 0] = marks[:50, 1] = marks[:98, 2] = True
    assert enough(marks).tolist() == [1]


def test_auc_is_of_scores_and_silent_with_too_few() -> None:
    present = np.arange(100) >= 70
    scores = np.arange(100) / 1000  # all far below one half, and in perfect order
    found = area(scores, present)
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx((1.0, 1.0, 1.0))
    chance = area(RNG.random(100), present)
    assert chance is not None and chance.low < chance.value < chance.high
    assert area(scores, np.arange(100) >= 95) is None
    rows = [Quality("AU1", "the teacher", 100, 30, found, 0.5), Quality("AU2", "the teacher", 100, 5, None, None)]
    assert said(rows) == ("Against the teacher: mean AUC 1.000 over 1 concepts, weakest AU1 1.00.",)
