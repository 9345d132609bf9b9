"""Mutual information by nearest neighbours, in nats, for values of several dimensions.

Kraskov, Stögbauer and Grassberger, "Estimating mutual information" (2004), first estimator, for two continuous sides;
Ross, "Mutual information between discrete and continuous data sets" (2014), if one side is a class. scikit-learn has
both for single columns; what the heads read of a concept has one column per output.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree
from scipy.special import digamma

from training.explain.answers import F64, Ints

NEIGHBOURS = 3
_NOISE = 1e-10


def entropy(classes: Ints) -> float:
    """Of the class frequencies, in nats."""
    share = np.bincount(classes) / len(classes)
    share = share[share > 0]
    return float(-(share * np.log(share)).sum())


def with_class(values: F64, classes: Ints) -> float:
    """I(values; classes) of [N, D] and [N]; classes with at most NEIGHBOURS members are left out."""
    counts = np.bincount(classes)
    rows = counts[classes] > NEIGHBOURS
    values, classes = _spread(values[rows]), classes[rows]
    if not len(classes):
        return 0.0
    within = np.zeros(len(classes))
    for name in np.unique(classes):
        own = classes == name
        within[own] = cKDTree(values[own]).query(values[own], NEIGHBOURS + 1, p=np.inf)[0][:, -1]
    around = _inside(values, within)
    terms = digamma(counts[classes]).mean() + digamma(around).mean()
    return max(0.0, float(digamma(len(classes)) + digamma(NEIGHBOURS) - terms))


def between(a: F64, b: F64) -> float:
    """I(a; b) of [N, D] and [N, D']."""
    a, b = _spread(a), _spread(b)
    joint = np.concatenate([a, b], axis=1)
    radius = cKDTree(joint).query(joint, NEIGHBOURS + 1, p=np.inf)[0][:, -1]
    terms = digamma(_inside(a, radius)).mean() + digamma(_inside(b, radius)).mean()
    return max(0.0, float(digamma(len(a)) + digamma(NEIGHBOURS) - terms))


def with_itself(count: int) -> float:
    """What `between` gives for a value and itself, whatever the value: the most that it can say of `count` rows."""
    return float(digamma(count) - digamma(NEIGHBOURS))


def _inside(values: F64, radius: F64) -> F64:
    """How many rows, itself included, lie strictly within the radius [N] of each row."""
    return np.asarray(
        cKDTree(values).query_ball_point(values, np.nextafter(radius, 0), p=np.inf, return_length=True), np.float64
    )


def _spread(values: F64) -> F64:
    """[N, D] with every column at a spread of 1; a little noise tells equal values apart, as the estimators need."""
    scale = values.std(axis=0)
    noise = np.random.default_rng(0).normal(size=values.shape)
    return np.asarray((values - values.mean(axis=0)) / np.where(scale > 1e-9, scale, 1.0) + _NOISE * noise)
