"""Intervals around the score that hold for people the model has not seen: conformal prediction over subjects.

What is known are answers to people who were left out, |label - score| each. Pictures of one person are alike, so that
people, not pictures, are exchangeable: every person counts the same, however many pictures there are of them, and
whatever judges a person comes from the others (Dunn, Wasserman and Ramdas, "Distribution-free prediction sets for
two-layer hierarchical models", 2023: pooled distribution functions). The interval is centred on the score of the head
that was fitted on everybody, as in the jackknife (Barber, Candes, Ramdas and Tibshirani, "Predictive inference with the
jackknife+", 2021, who also say when that is not enough), so that its half-width is one number that can be published.

Half-width = quantile x spread. The spread is 1, or, "local", a linear estimate of how far the score is off for this
face, from the activations and shares of its concepts (locally weighted residuals: Lei, G'Sell, Rinaldo, Tibshirani and
Wasserman, "Distribution-free predictive inference for regression", 2018).

The level of the quantile is the lowest at which people who are left out are covered at the wanted rate. This corrects
what the pooled quantile is short of with few people, but guarantees nothing. `guaranteed` is the quantile that does
(Lee, Barber and Willett, "Distribution-free inference with hierarchical data", 2023); it is wider, because it reckons
with a person who is unlike all others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from training.data.pictures import DataError

F64 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Method = Literal["constant", "local", "guaranteed"]

FLOOR = 0.5
"""The smallest spread, as a share of the mean error: an estimate near 0 would promise certainty."""

PENALTIES = (0.1, 1.0, 10.0)
_LEVELS = 81


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers to N pictures of people whom the head has not seen.

    error: [N], |label - score|. activation, share: [N, K], p_k and W_k . c_k. subjects: [N].
    """

    error: F64
    activation: F64
    share: F64
    subjects: Ints

    def __len__(self) -> int:
        return len(self.error)

    @property
    def names(self) -> list[int]:
        """Who is in the pictures."""
        return [int(name) for name in np.unique(self.subjects)]

    def take(self, rows: Bools) -> Answers:
        """The given rows."""
        return Answers(self.error[rows], self.activation[rows], self.share[rows], self.subjects[rows])


@dataclass(frozen=True, slots=True)
class Spread:
    """max(floor, intercept + activation . p + share . s), an estimate of |label - score|. activation, share: [K]."""

    intercept: float
    activation: F64
    share: F64
    floor: float

    def __call__(self, answers: Answers) -> F64:
        linear = self.intercept + answers.activation @ self.activation + answers.share @ self.share
        return np.maximum(linear, self.floor)


@dataclass(frozen=True, slots=True)
class Interval:
    """Half-width = quantile x spread; spread None: 1."""

    quantile: float
    spread: Spread | None

    def __call__(self, answers: Answers) -> F64:
        """Half-widths [N]."""
        return self.quantile * spread_of(self.spread, answers)


def spread_of(spread: Spread | None, answers: Answers) -> F64:
    """The spread of every answer [N]."""
    return np.ones(len(answers)) if spread is None else spread(answers)


def join(parts: list[Answers]) -> Answers:
    """All answers of all parts."""
    return Answers(*(np.concatenate([getattr(part, name) for part in parts]) for name in Answers.__slots__))


def fit(answers: Answers, coverage: float, method: Method) -> Interval:
    """The interval that covers at the rate `coverage`. Raises DataError if there are too few people for that rate."""
    if len(answers.names) < fewest(coverage):
        needed = f"an interval that covers {coverage:.0%} needs pictures of {fewest(coverage)} people or more"
        raise DataError(f"{needed}, not {len(answers.names)}")
    if method == "guaranteed":
        return Interval(guaranteed(answers.error, answers.subjects, coverage), None)
    if method == "constant":
        return Interval(nominal(answers.error, answers.subjects, coverage), None)
    penalty = choose_penalty(answers)
    ratio = normalised(answers, penalty)
    return Interval(nominal(ratio, answers.subjects, coverage), fit_spread(answers, penalty))


def fewest(coverage: float) -> int:
    """How many people there must be for one of them to be uncovered at the rate `coverage`."""
    return math.ceil(1 / (1 - coverage) - 1e-9)


def person_weights(subjects: Ints) -> F64:
    """Weights of the pictures [N] that sum to 1 and by which every person counts alike."""
    names, index, counts = np.unique(subjects, return_inverse=True, return_counts=True)
    return np.asarray(1 / (len(names) * counts[index]))


def quantiles(values: F64, weights: F64, levels: F64) -> F64:
    """The smallest of `values` [N] at or below which lies the share `levels` [L] of the weight: [L]."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order]) / weights.sum()
    found = np.searchsorted(reached, levels - 1e-12)
    return np.asarray(values[order][np.minimum(found, len(values) - 1)])


def nominal(ratio: F64, subjects: Ints, coverage: float) -> float:
    """The quantile of `ratio` [N], error over spread, at the lowest level at which people left out are covered."""
    levels = np.linspace(coverage, 1.0, _LEVELS)
    covered = np.zeros(_LEVELS)
    names = np.unique(subjects)
    for name in names:
        own = subjects == name
        bounds = quantiles(ratio[~own], person_weights(subjects[~own]), levels)
        covered += (ratio[own][:, None] <= bounds).mean(0) / len(names)
    enough = covered >= coverage - 1e-12
    level = levels[enough.argmax()] if enough.any() else 1.0
    return float(quantiles(ratio, person_weights(subjects), np.array([level]))[0])


def guaranteed(ratio: F64, subjects: Ints, coverage: float) -> float:
    """The quantile with one more person in mind who is off by any amount; infinite if they are too few."""
    people = len(np.unique(subjects))
    level = coverage * (people + 1) / people
    return float(quantiles(ratio, person_weights(subjects), np.array([level]))[0]) if level <= 1 else math.inf


def fit_spread(answers: Answers, penalty: float) -> Spread:
    """Ridge regression of the error on standardised activations and shares, every person counting alike.

    penalty: in units of the weight of all people together.
    """
    x = np.concatenate([answers.activation, answers.share], axis=1)
    weights = person_weights(answers.subjects)
    mean_x, mean_error = weights @ x, float(weights @ answers.error)
    scale = np.sqrt(weights @ (x - mean_x) ** 2) + 1e-9
    z = (x - mean_x) / scale
    weighted = z * weights[:, None]
    system = weighted.T @ z + penalty * np.eye(x.shape[1])
    slope = np.linalg.solve(system, weighted.T @ (answers.error - mean_error)) / scale
    activation, share = np.split(slope, 2)
    return Spread(mean_error - float(mean_x @ slope), activation, share, FLOOR * mean_error)


def choose_penalty(answers: Answers) -> float:
    """The penalty whose spread is nearest to the errors of people who were left out (squared difference)."""
    weights = person_weights(answers.subjects)

    def distance(penalty: float) -> float:
        return float(weights @ (answers.error - spread_by_others(answers, penalty)) ** 2)

    return min(PENALTIES, key=distance)


def spread_by_others(answers: Answers, penalty: float) -> F64:
    """The spread of every answer [N], for each person's from the others."""
    found = np.zeros(len(answers))
    for name in answers.names:
        own = answers.subjects == name
        found[own] = fit_spread(answers.take(~own), penalty)(answers.take(own))
    return found


def normalised(answers: Answers, penalty: float) -> F64:
    """Error over spread [N], the spread of each person's pictures from the others."""
    return answers.error / spread_by_others(answers, penalty)


@dataclass(frozen=True, slots=True)
class Nested:
    """Answers to people left out of everything, in the order of the subjects. score [N]; answered, label: classes [N];
    half_width: [N] for each method."""

    answers: Answers
    score: F64
    answered: Ints
    label: Ints
    half_width: dict[Method, F64]
