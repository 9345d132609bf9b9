"""3. What the truth about concepts could add, at best, to what the model answers without it.

An intervention can only help where the truth says something of the task that the answer does not hold already. That is
measured by readers that are fitted to the task itself, once with the truth and once without, and judged on pictures (or
people) that they were not fitted on. Concept labels that say no more than the answer leave nothing to rise by.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import GroupKFold, StratifiedKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from training.explain.answers import F64, Bools, Ints
from training.explain.intervals import Estimate, mean

_FOLDS = 10
_STRENGTHS = np.logspace(0, 5, 11)


class Worth(msgspec.Struct, frozen=True):
    """Of readers of the model's outputs (answer), of its activations, of the truth, and of outputs and truth together
    (both): the accuracy, or the mean |value - label|. change: both less answer, picture by picture.
    """

    head: str
    figure: str
    pictures: int
    answer: float
    activations: float
    truth: float
    both: float
    change: Estimate

    @property
    def adds(self) -> bool:
        """Whether the truth clearly says more than the answer does."""
        return self.change.low > 0 if self.figure == "accuracy" else self.change.high < 0


def of_classes(head: str, outputs: F64, activation: F64, told: F64, labels: Ints) -> Worth:
    """Logistic regressions on outputs [N, E], activations and truth [N, K] of classes [N]."""
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=0)

    def right(features: F64) -> F64:
        reader = _standardised(LogisticRegression(C=0.3, max_iter=2000))
        return np.asarray(cross_val_predict(reader, features, labels, cv=folds) == labels, np.float64)

    return _worth(head, "accuracy", [right(each) for each in _views(outputs, activation, told)], None)


def of_values(head: str, outputs: F64, activation: F64, told: F64, labels: F64, people: Ints) -> Worth:
    """Ridge regressions on outputs [N, 1], activations and truth [N, K] of values [N], of people not fitted on."""

    def off(features: F64) -> F64:
        reader = _standardised(RidgeCV(_STRENGTHS))
        folds = GroupKFold(min(_FOLDS, len(np.unique(people))))
        return np.asarray(np.abs(cross_val_predict(reader, features, labels, groups=people, cv=folds) - labels))

    return _worth(head, "error", [off(each) for each in _views(outputs, activation, told)], people)


def filled(truth: F64, known: Bools) -> F64:
    """The truth [N, K] with the mean of a concept where it is not known; 0 where it never is."""
    count = known.sum(axis=0)
    usual = np.where(known, truth, 0.0).sum(axis=0) / np.maximum(count, 1)
    return np.where(known, truth, usual)


def _standardised(reader: LogisticRegression | RidgeCV) -> Pipeline:
    return make_pipeline(StandardScaler(), reader)


def _views(outputs: F64, activation: F64, told: F64) -> tuple[F64, ...]:
    return outputs, activation, told, np.hstack([outputs, told])


def _worth(head: str, figure: str, rated: Sequence[F64], groups: Ints | None) -> Worth:
    answer, activations, truth, both = (float(each.mean()) for each in rated)
    change = mean(rated[3] - rated[0], groups)
    return Worth(head, figure, len(rated[0]), answer, activations, truth, both, change)


def said(found: Sequence[Worth]) -> tuple[str, ...]:
    """What came out."""
    return tuple(
        f"{each.head}: what a reader makes of the model's answer and the truth together "
        f"{'is clearly better than' if each.adds else 'is not clearly better than'} what it makes of the answer alone "
        f"({each.figure} {each.both:.3f}, {each.answer:.3f}); of the truth alone {each.truth:.3f}, of the model's own "
        f"activations {each.activations:.3f}."
        + ("" if each.adds else " So the truth holds nothing that an intervention could add.")
        for each in found
    )
