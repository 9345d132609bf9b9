"""Figures of a model on labelled samples. Scores, never thresholded labels, enter AUC and correlation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import f1_score, roc_auc_score

from training.concepts import NAMES
from training.data.samples import Samples

Real = npt.NDArray[np.floating]


def pearson(a: Real, b: Real) -> float:
    """Correlation; NaN if either side does not vary or is not known."""
    if len(a) < 2 or not np.std(a) > 0 or not np.std(b) > 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def ccc(predicted: Real, truth: Real) -> float:
    """Concordance correlation coefficient (Lin 1989) with population variances."""
    covariance = np.mean((predicted - predicted.mean()) * (truth - truth.mean()))
    return float(2 * covariance / (predicted.var() + truth.var() + (predicted.mean() - truth.mean()) ** 2))


def classes_of(score: Real, cuts: tuple[float, ...]) -> npt.NDArray[np.int64]:
    """0, 1, .. len(cuts): how many cuts a score reaches."""
    return np.asarray(np.searchsorted(np.asarray(cuts), score, side="right"), dtype=np.int64)


def best_cuts(score: Real, classes: npt.NDArray[np.int64]) -> tuple[float, float]:
    """The two thresholds with the best macro-F1 on the given (training) scores, by a search over their quantiles."""
    grid = np.unique(np.quantile(score, np.linspace(0.01, 0.99, 60)))
    if len(grid) < 2:
        return float(grid[0]), float(grid[-1])
    of_class = classes[:, None] == np.arange(3)
    below = (score[:, None] < grid).T.astype(np.float64) @ of_class  # [G, 3]: pictures of a class below a threshold
    low, high = np.triu_indices(len(grid), 1)
    answered = np.stack([below[low], below[high] - below[low], of_class.sum(0) - below[high]], axis=1)
    hits = np.diagonal(answered, axis1=1, axis2=2)
    f1 = 2 * hits / np.maximum(answered.sum(2) + of_class.sum(0), 1)
    best = int(f1.mean(1).argmax())
    return float(grid[low[best]]), float(grid[high[best]])


def macro_f1(truth: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64], classes: int = 3) -> float:
    """Unweighted mean of the classes' F1, from counts (fast enough for a search)."""
    table = np.bincount(truth * classes + predicted, minlength=classes * classes).reshape(classes, classes)
    hits = np.diag(table)
    return float(np.mean(2 * hits / np.maximum(table.sum(0) + table.sum(1), 1)))


@dataclass(frozen=True, slots=True)
class Figures:
    """Held-out figures; NaN where the samples carry no such labels. concept_r: per concept, in the order of NAMES."""

    accuracy: float
    expression_f1: float
    concept_r: tuple[float, ...]
    score_r: float
    score_auc: float

    def line(self) -> str:
        """One line for people."""
        r = " ".join(f"{name} {value:.2f}" for name, value in zip(NAMES, self.concept_r, strict=True))
        return (
            f"expression accuracy {self.accuracy:.4f} macro-F1 {self.expression_f1:.3f}; "
            f"engagement r {self.score_r:.3f} AUC(disengaged) {self.score_auc:.3f}; concepts {r}"
        )

    def row(self) -> dict[str, float]:
        """Columns for a log."""
        named = {"accuracy": self.accuracy, "expression_f1": self.expression_f1,
                 "score_r": self.score_r, "score_auc": self.score_auc}  # fmt: skip
        return named | dict(zip(NAMES, self.concept_r, strict=True))


def figures(heads: Real, activations: Real, samples: Samples) -> Figures:
    """Figures from heads [N, 1 + E] and activations [N, K]."""
    accuracy = f1 = score_r = auc = float("nan")
    voted = ~np.isnan(samples.votes).any(1)
    if voted.any():
        truth, answer = samples.votes[voted].argmax(1), heads[voted, 1:].argmax(1)
        accuracy = float((truth == answer).mean())
        f1 = float(f1_score(truth, answer, average="macro", zero_division=0))
    scored = ~np.isnan(samples.score)
    if scored.any():
        score_r = pearson(heads[scored, 0], samples.score[scored])
        disengaged = samples.score[scored] == 0
        if 0 < disengaged.sum() < len(disengaged):
            auc = float(roc_auc_score(disengaged, -heads[scored, 0]))
    per_concept = []
    for column in range(activations.shape[1]):
        rows = samples.weights[:, column] > 0
        per_concept.append(pearson(activations[rows, column], samples.concepts[rows, column]))
    return Figures(accuracy, f1, tuple(per_concept), score_r, auc)
