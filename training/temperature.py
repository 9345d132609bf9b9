"""Probabilities that mean what they say: one temperature for the softmax, and how far it is off before and after.

softmax(logits / T), T by the least cross-entropy with the target on pictures that were not trained on (Guo, Pleiss, Sun
and Weinberger, "On calibration of modern neural networks", 2017). The expected calibration error (ECE, the same paper)
is the mean distance between what the largest probability says and what is true of those pictures, over bins of it:
15 bins of equal width, and 15 that hold as many pictures each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar

F64 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

Target = Literal["votes", "majority"]

BINS = 15
_LOG_LIMIT = float(np.log(20.0))


def target_of(votes: F64, target: Target) -> F64:
    """Votes [N, E] as they are, or a 1 where most of them are."""
    return votes if target == "votes" else np.eye(votes.shape[1])[votes.argmax(1)]


@dataclass(frozen=True, slots=True)
class Bin:
    """Pictures whose largest probability is alike: mean of it, mean of what is true, how many."""

    confidence: float
    truth: float
    pictures: int


def probabilities(logits: F64, temperature: float) -> F64:
    """softmax(logits / temperature), [N, E]."""
    weights = np.exp((logits - logits.max(axis=1, keepdims=True)) / temperature)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def cross_entropy(logits: F64, target: F64, temperature: float) -> float:
    """Mean over the pictures of -sum target log softmax(logits / temperature); target [N, E], rows sum to 1."""
    scaled = (logits - logits.max(axis=1, keepdims=True)) / temperature
    log_sum = np.log(np.exp(scaled).sum(axis=1))
    return float(np.mean(log_sum - (target * scaled).sum(axis=1)))


def fit(logits: F64, target: F64) -> float:
    """The temperature, between 1/20 and 20, with the least cross-entropy."""
    found = minimize_scalar(
        lambda log_t: cross_entropy(logits, target, float(np.exp(log_t))), bounds=(-_LOG_LIMIT, _LOG_LIMIT),
        method="bounded", options={"xatol": 1e-6},
    )  # fmt: skip
    return float(np.exp(found.x))


def top(probability: F64, target: F64) -> tuple[F64, F64]:
    """The largest probability of every picture [N], and the target of that class [N]."""
    chosen = probability.argmax(axis=1)[:, None]
    return np.take_along_axis(probability, chosen, 1)[:, 0], np.take_along_axis(target, chosen, 1)[:, 0]


def equal_width(confidence: F64, truth: F64) -> tuple[Bin, ...]:
    """Bins of equal width over 0 to 1; those without a picture are left out."""
    place = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    return _bins(confidence, truth, [np.nonzero(place == i)[0] for i in range(BINS)])


def equal_mass(confidence: F64, truth: F64) -> tuple[Bin, ...]:
    """Bins that hold as many pictures each, up to one."""
    return _bins(confidence, truth, np.array_split(np.argsort(confidence, kind="stable"), BINS))


def error(bins: tuple[Bin, ...]) -> float:
    """Expected calibration error."""
    total = sum(each.pictures for each in bins)
    return sum(abs(each.confidence - each.truth) * each.pictures for each in bins) / total


def _bins(confidence: F64, truth: F64, members: list[npt.NDArray[np.intp]]) -> tuple[Bin, ...]:
    return tuple(
        Bin(float(confidence[rows].mean()), float(truth[rows].mean()), len(rows)) for rows in members if len(rows)
    )
