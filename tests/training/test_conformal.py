"""Intervals on people who were drawn, whose noise is known: they cover at their rate, and are wide where noise is."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from training.conformal import Answers, fit, guaranteed, nominal, normalised, person_weights, quantiles
from training.data.pictures import DataError

CONCEPTS = 4


def drawn(seed: int, people: int = 17, each: int = 60, uneven: float = 0.0, between: float = 0.0) -> Answers:
    """Errors |N(0, s)|, s = .3 x (1 + uneven p_0) x the person's own factor, which varies by `between`; p_0 is 0 or 1
    and the second person on has fewer pictures."""
    rng = np.random.default_rng(seed)
    counts = np.maximum(3, (each * rng.uniform(0.2, 1.8, people)).astype(int))
    subjects = np.repeat(np.arange(people), counts)
    activation = rng.integers(0, 2, (len(subjects), CONCEPTS)).astype(np.float64)
    own = np.exp(between * rng.normal(size=people))[subjects]
    noise = 0.3 * own * (1 + uneven * activation[:, 0])
    share = rng.normal(size=(len(subjects), CONCEPTS))
    return Answers(np.abs(rng.normal(size=len(subjects))) * noise, activation, share, subjects)


def covered(answers: Answers, half_width: np.ndarray) -> float:
    """Mean over people of the share of their pictures that is covered."""
    return float(person_weights(answers.subjects) @ (answers.error <= half_width))


@pytest.mark.parametrize("method", ["constant", "local"])
@pytest.mark.parametrize("between", [0.0, 0.4])
def test_people_who_were_not_there_are_covered_at_the_nominal_rate(method: str, between: float) -> None:
    """Over 60 draws of 17 people the mean coverage of 40 new ones lies within 1.5 points of 90 %."""
    rates = []
    for seed in range(60):
        seen, new = drawn(seed, each=25, between=between), drawn(1000 + seed, 40, each=25, between=between)
        rates.append(covered(new, fit(seen, 0.9, method)(new)))
    assert np.mean(rates) == pytest.approx(0.9, abs=0.015)


def test_the_guaranteed_interval_covers_at_least_that() -> None:
    rates = []
    for seed in range(40):
        seen, new = drawn(seed, between=0.4), drawn(1000 + seed, 40, between=0.4)
        wide, narrow = fit(seen, 0.9, "guaranteed"), fit(seen, 0.9, "constant")
        assert wide.quantile > narrow.quantile
        rates.append(covered(new, wide(new)))
    assert np.mean(rates) > 0.91


def test_it_is_wider_where_the_noise_is_larger() -> None:
    seen, new = drawn(0, uneven=3.0), drawn(1, 40, uneven=3.0)
    local, constant = fit(seen, 0.9, "local"), fit(seen, 0.9, "constant")
    loud = new.activation[:, 0] == 1
    width = local(new)
    assert width[loud].mean() > 2.5 * width[~loud].mean()
    assert width.mean() < 0.95 * constant.quantile, "narrower on average, at the same rate"
    for rows in (loud, ~loud):
        part = new.take(rows)
        assert covered(part, local(part)) == pytest.approx(0.9, abs=0.05)
    quiet = new.take(~loud)
    assert covered(quiet, constant(quiet)) > 0.97, "one width for all is too wide for the quiet ones"


def test_noise_that_nothing_tells_of_gives_no_local_advantage() -> None:
    seen, new = drawn(0), drawn(1, 40)
    local, constant = fit(seen, 0.9, "local")(new), fit(seen, 0.9, "constant").quantile
    assert local.mean() > 0.97 * constant


def test_a_person_with_many_pictures_counts_as_one() -> None:
    error = np.array([*[9.0] * 1000, *[1.0] * 10])
    subjects = np.array([*[0] * 1000, *range(1, 11)])
    assert quantiles(error, person_weights(subjects), np.array([0.9]))[0] == 1.0
    assert quantiles(error, np.ones(1010), np.array([0.9]))[0] == 9.0


def test_the_level_makes_up_for_people_who_differ() -> None:
    """The more people differ, the further the quantile of the pool falls short of the next one."""
    plain, corrected = [], []
    for seed in range(20):
        answers = drawn(seed, people=12, between=0.7)
        plain.append(quantiles(answers.error, person_weights(answers.subjects), np.array([0.9]))[0])
        corrected.append(nominal(answers.error, answers.subjects, 0.9))
    assert (np.array(corrected) >= plain).all()
    assert np.mean(corrected) > 1.02 * np.mean(plain)


def test_a_guarantee_needs_people() -> None:
    ratio = np.arange(1.0, 11.0)
    assert guaranteed(ratio, np.arange(10), 0.9) == 10.0
    assert guaranteed(ratio[:8], np.arange(8), 0.9) == np.inf


def test_a_person_s_own_errors_never_scale_them() -> None:
    answers = drawn(3)
    own = answers.subjects == 5
    louder = Answers(np.where(own, 10 * answers.error, answers.error), answers.activation, answers.share,
                     answers.subjects)  # fmt: skip
    before, after = normalised(answers, 1.0), normalised(louder, 1.0)
    np.testing.assert_allclose(after[own], 10 * before[own])
    assert (after[~own] != before[~own]).any()


def test_too_few_people_are_refused() -> None:
    with pytest.raises(DataError, match="covers 90% needs pictures of 10 people or more, not 9"):
        fit(drawn(0, people=9), 0.9, "constant")
    fit(drawn(0, people=10), 0.9, "constant")
