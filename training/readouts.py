"""What any exported system says of a face, in the type that a concept model's answers have."""

from __future__ import annotations

import numpy as np

from engines.base import EngineError, Tensors
from engines.concept import ConceptReadout, read
from engines.spec import HeadSpec


def readouts(tensors: Tensors, heads: HeadSpec) -> tuple[ConceptReadout, ...]:
    """One readout per face. A system whose heads are no sum over concepts answers with its heads alone: no concepts,
    no contributions. The live path takes no such system.

    Raises EngineError if a tensor is missing or not finite.
    """
    if "active" in tensors:
        return read(tensors, heads)
    if "heads" not in tensors or not np.isfinite(tensors["heads"]).all():
        raise EngineError("the engine returned no finite 'heads'")
    none = np.zeros(0)
    shares, peaks = np.zeros((0, len(heads.base))), np.zeros((0, 2))
    answers = np.asarray(tensors["heads"], np.float64)
    return tuple(
        ConceptReadout(none, shares, shares, shares, float(row[0]), softmax(row[1:] / heads.temperature), peaks)
        for row in answers
    )


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of logits [E]."""
    weights = np.exp(logits - logits.max())
    return np.asarray(weights / weights.sum())
