"""What a model without additivity is worth when it is explained afterwards: boosted trees with Shapley values.

The trees read the same activations. Their Shapley values are sampled over permutations (Štrumbelj and Kononenko, 2014;
the permutation form of SHAP, Lundberg and Lee, 2017), each with its reverse, towards the mean that deletion uses too,
so that explanation and test mean the same. They add up exactly whatever the number of permutations.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from rich.progress import track
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from training.explain.answers import F64, Ints, by_size
from training.explain.deletion import Curve, curve_of, mirrored, random_orders, surprise_of

Predict = Callable[[F64], F64]
"""[M, K] activations -> [M, C] outputs."""
PERMUTATIONS = 24
_TREES, _LEAVES = 120, 15


def regressor(x: F64, y: F64, seed: int) -> Predict:
    """Boosted trees for a number; one output."""
    trees = HistGradientBoostingRegressor(max_iter=_TREES, max_leaf_nodes=_LEAVES, random_state=seed).fit(x, y)
    return lambda rows: np.asarray(trees.predict(rows))[:, None]


def classifier(x: F64, classes: Ints, seed: int) -> Predict:
    """Boosted trees for classes 0..C - 1, all of which occur; their logits."""
    trees = HistGradientBoostingClassifier(max_iter=_TREES // 2, max_leaf_nodes=_LEAVES, random_state=seed)
    trees.fit(x, classes)

    def logits(rows: F64) -> F64:
        found = np.asarray(trees.decision_function(rows))
        # Of two classes scikit-learn gives the second one's logit alone.
        return found if found.ndim == 2 else np.stack([-found, found], axis=1)

    return logits


def column(predict: Predict, x: F64, columns: Ints) -> F64:
    """Output columns[i] of row i, [N]."""
    return np.asarray(predict(x)[np.arange(len(x)), columns])


def shapley(predict: Predict, x: F64, reference: F64, columns: Ints, permutations: int, seed: int) -> F64:
    """Shapley values [N, K] of output columns[i] for x[i] against `reference` [K]; rows sum to f(x) - f(reference)."""
    rng = np.random.default_rng(seed)
    found = np.zeros_like(x)
    halves = max(1, permutations // 2)
    for _ in track(range(halves), description="Shapley values of the black box"):
        forward = rng.permutation(x.shape[1])
        for order in (forward, forward[::-1]):
            values = path(predict, x, reference, columns, np.tile(order, (len(x), 1)))
            np.put_along_axis(found, np.tile(order, (len(x), 1)), np.take_along_axis(
                found, np.tile(order, (len(x), 1)), axis=1) + values[:, :-1] - values[:, 1:], axis=1)  # fmt: skip
    return found / (2 * halves)


def path(predict: Predict, x: F64, reference: F64, columns: Ints, order: Ints, insert: bool = False) -> F64:
    """Outputs [N, K + 1] while the columns of x [N, K] become the reference one by one, or with `insert` come back."""
    now = np.tile(reference, (len(x), 1)) if insert else x.copy()
    source = x if insert else np.tile(reference, (len(x), 1))
    rows = np.arange(len(x))
    steps = [now.copy()]
    for step in range(x.shape[1]):
        now[rows, order[:, step]] = source[rows, order[:, step]]
        steps.append(now.copy())
    flat = predict(np.concatenate(steps))
    return np.asarray(flat.reshape(len(steps), len(x), -1)[:, rows, columns].T)


def curves(predict: Predict, x: F64, reference: F64, columns: Ints, head: str, seed: int,
           groups: Ints | None = None) -> tuple[list[Curve], float | None]:  # fmt: skip
    """Deletion and insertion by SHAP, by activation and at random; and how far SHAP's values foretell deletions at
    random, see faithful.BoxFigures. Nothing for trees that found nothing to learn: they always answer the same."""
    values = shapley(predict, x, reference, columns, PERMUTATIONS, seed)
    orders = {"SHAP": [by_size(values)], "activation": [by_size(x)], "random": random_orders(len(x), x.shape[1], seed)}
    full = column(predict, x, columns)
    empty = column(predict, np.tile(reference, (len(x), 1)), columns)
    if np.allclose(full, empty):
        return [], None
    blind = orders["random"][0]
    surprise = surprise_of(path(predict, x, reference, columns, blind) - empty[:, None], values, blind)
    found = []
    for name, several in orders.items():
        gone = [path(predict, x, reference, columns, order) - empty[:, None] for order in several]
        back = [path(predict, x, reference, columns, order, insert=True) - full[:, None] for order in several]
        for test, parts in (("deletion", gone), ("insertion", back)):
            measured = curve_of(np.mean(np.abs(parts), axis=0), full - empty, groups)
            shown = mirrored(*measured) if test == "insertion" else measured
            found.append(Curve("black box", head, "mean", test, name, *shown))
    return found, surprise
