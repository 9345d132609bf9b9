"""Small models with known answers, for the tests of training.explain."""

from __future__ import annotations

import numpy as np

from engines.spec import HeadSpec
from training.explain.answers import Answers, shares

EXPRESSIONS = ("a", "b", "c")


def toy(count: int, concepts: int = 6, seed: int = 0) -> tuple[Answers, HeadSpec]:
    """Answers of a bottleneck with linear heads, and its heads: what a network of that kind would say."""
    rng = np.random.default_rng(seed)
    columns = 1 + len(EXPRESSIONS)
    common = rng.normal(size=(2, 1, concepts, columns))
    active, inactive = common + 0.2 * rng.normal(size=(2, count, concepts, columns))
    maps = rng.dirichlet(np.ones(49), (count, concepts)).reshape(count, concepts, 7, 7).astype(np.float32)
    answers = Answers(rng.random((count, concepts)), active, inactive, maps, np.zeros((count, columns)))
    return answers, heads_for(answers)


def heads_for(answers: Answers) -> HeadSpec:
    """Heads whose reference is the mean over these answers; fills in the network's own outputs."""
    given = shares(answers)
    mean = given.mean(axis=0)
    bias = np.arange(given.shape[2]) / 10
    answers.own[:] = bias + given.sum(axis=1)
    return HeadSpec(EXPRESSIONS, tuple((bias + mean.sum(axis=0)).tolist()), tuple(map(tuple, mean.tolist())), ())
