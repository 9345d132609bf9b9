"""5a. How well is each concept recognised? Scores, never thresholded ones, against labels of a stated threshold."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from sklearn.metrics import roc_auc_score

from training.explain.answers import F64, Bools
from training.explain.intervals import Estimate
from training.explain.material import Material
from training.metrics import pearson

PRESENT = 0.5
FEWEST = 10
_DRAWS = 200
_SEED = 5


class Quality(msgspec.Struct, frozen=True):
    """One concept against one truth. pictures: with a label, present: with one of at least PRESENT. auc: None with
    fewer than FEWEST pictures on either side. r: correlation with the label itself, None if either does not vary.
    """

    concept: str
    truth: str
    pictures: int
    present: int
    auc: Estimate | None
    r: float | None


def area(scores: F64, present: Bools) -> Estimate | None:
    """Area under the ROC curve with its bootstrap interval; see Quality."""
    if min(present.sum(), (~present).sum()) < FEWEST:
        return None
    rng = np.random.default_rng(_SEED)
    sides = np.flatnonzero(present), np.flatnonzero(~present)
    # Each side is drawn by itself: a draw without a single present picture would have no area.
    drawn = [np.concatenate([rng.choice(side, len(side)) for side in sides]) for _ in range(_DRAWS)]
    low, high = np.quantile([roc_auc_score(present[rows], scores[rows]) for rows in drawn], (0.025, 0.975))
    return Estimate(float(roc_auc_score(present, scores)), float(low), float(high))


def measure(material: Material, names: Sequence[str]) -> tuple[Quality, ...]:
    """Every concept that has labels in these pictures."""
    found = []
    for k, name in enumerate(names):
        known = material.samples.weights[:, k] > 0
        if not known.any():
            continue
        scores = material.answers.activation[known, k]
        labels = material.samples.concepts[known, k].astype(np.float64)
        present = labels >= PRESENT
        r = pearson(scores, labels)
        counts = int(known.sum()), int(present.sum())
        found.append(Quality(name, material.truth, *counts, area(scores, present), None if np.isnan(r) else r))
    return tuple(found)


def said(found: Sequence[Quality]) -> tuple[str, ...]:
    """What came out."""
    parts = []
    for truth in dict.fromkeys(each.truth for each in found):
        rated = sorted((each.auc.value, each.concept) for each in found if each.truth == truth and each.auc is not None)
        if rated:
            values = [value for value, _ in rated]
            weak = ", ".join(f"{name} {value:.2f}" for value, name in rated[:3])
            parts.append(f"Against {truth}: mean AUC {np.mean(values):.3f} over {len(rated)} concepts, weakest {weak}.")
    return tuple(parts)
