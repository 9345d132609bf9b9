"""A temperature that is known is found again, and what is calibrated has no calibration error."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy")

from training.temperature import cross_entropy, equal_mass, equal_width, error, fit, probabilities, top

EXPRESSIONS = 8


def logits(count: int = 20_000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=2.0, size=(count, EXPRESSIONS))


def drawn(probability: np.ndarray, seed: int = 1) -> np.ndarray:
    """Labels drawn with these probabilities, as rows with a single 1."""
    place = np.random.default_rng(seed).uniform(size=len(probability))[:, None] < probability.cumsum(1)
    return np.eye(EXPRESSIONS)[place.argmax(1)]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7, 4.0])
def test_a_known_temperature_is_found_from_votes_and_from_labels(temperature: float) -> None:
    votes = probabilities(logits(), temperature)
    assert fit(logits(), votes) == pytest.approx(temperature, rel=1e-3)
    assert fit(logits(), drawn(votes)) == pytest.approx(temperature, rel=0.04)


def test_what_is_calibrated_has_no_error_and_overconfidence_has() -> None:
    truth = probabilities(logits(), 2.0)
    label = drawn(truth)
    for bins in (equal_width, equal_mass):
        assert error(bins(*top(truth, truth))) < 1e-12, "votes shared out just as it says"
        assert error(bins(*top(truth, label))) < 0.012, "15 bins of 20,000 draws"
        sharp = probabilities(logits(), 1.0)
        found = error(bins(*top(sharp, label)))
        confidence, hit = top(sharp, label)
        assert found == pytest.approx(confidence.mean() - hit.mean(), abs=0.01)
        assert found > 0.1


def test_bins_by_hand() -> None:
    confidence = np.array([0.05, 0.51, 0.52, 1.0])
    truth = np.array([0.0, 1.0, 0.0, 1.0])
    bins = equal_width(confidence, truth)
    assert [(each.pictures, each.truth) for each in bins] == [(1, 0.0), (2, 0.5), (1, 1.0)]
    assert error(bins) == pytest.approx((0.05 + 2 * 0.015) / 4)
    assert [each.pictures for each in equal_mass(np.linspace(0, 1, 31), np.zeros(31))] == [3, *[2] * 14]


def test_cross_entropy_is_that_of_the_probabilities() -> None:
    rows = logits(50)
    target = probabilities(logits(50, seed=4), 1.0)
    for temperature in (0.3, 1.0, 5.0):
        expected = -(target * np.log(probabilities(rows, temperature))).sum(1).mean()
        assert cross_entropy(rows, target, temperature) == pytest.approx(expected)


def test_extreme_logits_do_not_overflow() -> None:
    rows = 1e4 * logits(100)
    assert np.isfinite(probabilities(rows, 0.05)).all()
    assert np.isfinite(fit(rows, np.full((100, EXPRESSIONS), 1 / EXPRESSIONS)))
