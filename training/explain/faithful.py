"""Section 2 put together: both heads, both references, the model and the black box."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np

from engines.spec import HeadSpec
from training.explain import blackbox
from training.explain.answers import F64, Answers, Ints, by_size, contributions, outputs, shares
from training.explain.deletion import Curve, averaged, logits_kept, model_curves, random_orders, surprise_of
from training.explain.material import Material
from training.metrics import pearson

SCORE, EXPRESSION = "engagement score", "expression logit"


class BoxFigures(msgspec.Struct, frozen=True):
    """How well the black box does its task beside the model, on the explained pictures. figure: its name.

    surprise: how far the answer of the black box after random deletions lies from what its SHAP values foretell, mean
    over pictures and steps, in units of the mean distance of its answer from its reference; None if the box found
    nothing to learn. model_surprise: the same for the model and its contributions.
    """

    head: str
    figure: str
    black_box: float
    model: float
    trained_on: int
    surprise: float | None
    model_surprise: float


@dataclass(frozen=True, slots=True)
class Fit:
    """What the black box is fitted on: activations [N, K] with labels or classes [N]."""

    activation: F64
    target: F64


def column_of(values: F64, columns: Ints) -> F64:
    """[N, K, O] -> [N, K], output columns[i] of picture i."""
    return np.asarray(values[np.arange(len(values)), :, columns])


def orders_of(answers: Answers, contributed: F64, seed: int) -> dict[str, list[Ints]]:
    """By |contribution|, by activation, and at random."""
    return {
        "contribution": [by_size(contributed)],
        "activation": [by_size(answers.activation)],
        "random": random_orders(len(contributed), contributed.shape[1], seed),
    }


def of_model(answers: Answers, heads: HeadSpec, columns: Ints, head: str, seed: int,
             groups: Ints | None = None) -> list[Curve]:  # fmt: skip
    """Curves towards the mean and towards the inactive concept, for output columns[i] of picture i."""
    contributed = column_of(contributions(answers, heads), columns)
    orders = orders_of(answers, contributed, seed)
    turned_off = column_of(shares(answers) - answers.inactive, columns)
    found = model_curves(contributed, orders, (head, "mean"), groups)
    # A contribution is counted from the mean. What switching off takes is another number, which is exact as well.
    orders |= {"switching off": [by_size(turned_off)]}
    return found + model_curves(turned_off, orders, (head, "inactive"), groups)


def with_kept(found: list[Curve], answers: Answers, heads: HeadSpec, columns: Ints, seed: int) -> list[Curve]:
    """The deletion curves with the share of pictures that keep their expression."""
    orders = orders_of(answers, column_of(contributions(answers, heads), columns), seed)
    mean = np.asarray(heads.mean)[:, 1:]
    bias = np.asarray(heads.base)[1:] - mean.sum(axis=0)
    given = shares(answers)[:, :, 1:]
    references = {"mean": mean, "inactive": answers.inactive[:, :, 1:]}
    done = []
    for curve in found:
        if curve.test == "deletion" and curve.order in orders:
            several = orders[curve.order]
            kept = averaged([logits_kept(given, references[curve.reference], order, bias) for order in several])
            curve = msgspec.structs.replace(curve, kept=kept)
        done.append(curve)
    return done


def of_score(explained: Material, heads: HeadSpec, fit: Fit, seed: int) -> tuple[list[Curve], BoxFigures]:
    """The engagement score on engagement pictures; people are drawn as wholes for the intervals."""
    columns = np.zeros(len(explained), np.int64)
    groups = explained.samples.subjects
    found = of_model(explained.answers, heads, columns, SCORE, seed, groups)
    predict = blackbox.regressor(fit.activation, fit.target, seed)
    x = explained.answers.activation
    box, surprise = blackbox.curves(predict, x, fit.activation.mean(axis=0), columns, SCORE, seed, groups)
    label = explained.samples.score
    own = outputs(explained.answers, heads)[:, 0]
    r = (pearson(predict(x)[:, 0], label), pearson(own, label))
    own_surprise = model_surprise(explained.answers, heads, columns, seed)
    return found + box, BoxFigures(SCORE, "r with the label", *r, len(fit.target), surprise, own_surprise)


def of_expression(explained: Material, heads: HeadSpec, fit: Fit, seed: int) -> tuple[list[Curve], BoxFigures]:
    """The logit of the expression that is answered, and whether the answer stays."""
    logits = outputs(explained.answers, heads)[:, 1:]
    columns = 1 + logits.argmax(axis=1)
    found = of_model(explained.answers, heads, columns, EXPRESSION, seed)
    found = with_kept(found, explained.answers, heads, columns, seed)
    present, classes = np.unique(fit.target.astype(np.int64), return_inverse=True)
    predict = blackbox.classifier(fit.activation, classes.astype(np.int64), seed)
    x = explained.answers.activation
    answered = predict(x).argmax(axis=1)
    box, surprise = blackbox.curves(predict, x, fit.activation.mean(axis=0), answered, EXPRESSION, seed)
    truth = explained.samples.votes.argmax(axis=1)
    right = (float((present[answered] == truth).mean()), float((columns - 1 == truth).mean()))
    own_surprise = model_surprise(explained.answers, heads, columns, seed)
    return found + box, BoxFigures(EXPRESSION, "accuracy", *right, len(fit.target), surprise, own_surprise)


def model_surprise(answers: Answers, heads: HeadSpec, columns: Ints, seed: int) -> float:
    """Answers after random deletions, computed by the readout's sum, against what the contributions foretell."""
    contributed = contributions(answers, heads)
    own = column_of(contributed, columns)
    order = random_orders(len(own), own.shape[1], seed)[0]
    rows, base = np.arange(len(own)), np.asarray(heads.base)[columns]
    now, steps = contributed.copy(), []
    for step in range(order.shape[1] + 1):
        steps.append((np.asarray(heads.base) + now.sum(axis=1))[rows, columns] - base)
        if step < order.shape[1]:
            now[rows, order[:, step]] = 0.0
    return surprise_of(np.stack(steps, axis=1), own, order)
