"""5c. Does a concept's representation say more of the task, or of other concepts, than the concept itself would?

CTL and ICL after Parisini et al., "Leakage and Interpretability in Concept-Based Models" (arXiv 2504.14094), with
information by nearest neighbours. The true concept is the teacher's value, uncut: both sides are then measured by
the same estimator. Several columns make the estimate lower, so leakage is if anything too small.
"""

from __future__ import annotations

from itertools import combinations

import msgspec
import numpy as np
from rich.progress import track

from training.explain.answers import F64, Ints
from training.explain.information import between, entropy, with_class, with_itself


class Leakage(msgspec.Struct, frozen=True):
    """Of one kind of representation. ctl: per concept, share of the task's entropy that it says beyond its concept.
    icl_mean: over pairs of concepts, what they share beyond what their concepts share. 0 is none.
    """

    representation: str
    pictures: int
    ctl: dict[str, float]
    ctl_mean: float
    icl_mean: float


def task_leakage(values: F64, truth: F64, classes: Ints) -> F64:
    """CTL [K] of representations [N, K, D] and true concepts [N, K]: max(0, I(rep; y) - I(c; y)) / H(y)."""
    own = np.array([with_class(values[:, k], classes) for k in range(values.shape[1])])
    true = np.array([with_class(truth[:, k : k + 1], classes) for k in range(truth.shape[1])])
    return np.asarray(np.maximum(0.0, own - true) / entropy(classes))


def concept_leakage(values: F64, truth: F64, description: str = "") -> F64:
    """ICL of every pair: max(0, I(rep_i; rep_j) - I(c_i; c_j)), both in shares of what a value says of itself."""
    pairs = list(combinations(range(values.shape[1]), 2))
    found = [
        max(0.0, between(values[:, i], values[:, j]) - between(truth[:, i : i + 1], truth[:, j : j + 1]))
        for i, j in (track(pairs, description=description) if description else pairs)
    ]
    return np.array(found) / with_itself(len(values))


def measure(name: str, values: F64, truth: F64, classes: Ints, names: tuple[str, ...]) -> Leakage:
    """Both, for representations [N, K, D] of the named concepts."""
    ctl = task_leakage(values, truth, classes)
    icl = concept_leakage(values, truth, f"leakage ({name})")
    named = dict(zip(names, ctl.tolist(), strict=True))
    return Leakage(name, len(values), named, float(ctl.mean()), float(icl.mean()))


def said(found: tuple[Leakage, ...]) -> str:
    """What came out."""
    parts = []
    for each in found:
        most = max(each.ctl, key=lambda name: each.ctl[name])
        parts.append(
            f"{each.representation}: {100 * each.ctl_mean:.1f} % of the expression's entropy beyond the concept on "
            f"average (most: {most} {100 * each.ctl[most]:.1f} %), between concepts {each.icl_mean:.3f}"
        )
    return "Leakage, " + "; ".join(parts) + "."
