"""What the truth could add is found where there is something, and not where there is nothing."""

from __future__ import annotations

import numpy as np

from training.explain.answers import F64
from training.explain.worth import filled, of_classes, of_values, said

COUNT, CONCEPTS = 600, 3


def material(seed: int = 0) -> tuple[F64, F64, F64]:
    """Truth [N, K], what a model sees of it, and a task that is a sum over the truth."""
    rng = np.random.default_rng(seed)
    truth = rng.random((COUNT, CONCEPTS))
    return truth, truth + rng.normal(0, 0.5, truth.shape), truth @ [1.0, -1.0, 0.5]


def test_truth_that_the_model_did_not_see_adds() -> None:
    truth, seen, task = material()
    answer = (seen @ [1.0, -1.0, 0.5])[:, None]
    labels = (task > np.median(task)).astype(np.int64)
    found = of_classes("toy", np.hstack([answer, -answer]), seen, truth, labels)
    assert found.adds
    assert found.both > 0.95 > found.answer
    assert "is clearly better" in said((found,))[0]
    values = of_values("toy", answer, seen, truth, task, np.arange(COUNT) % 12)
    assert values.adds
    assert values.both < 0.01 < values.answer
    assert values.change.high < 0


def test_truth_that_the_answer_holds_already_adds_nothing() -> None:
    truth, seen, task = material()
    rng = np.random.default_rng(1)
    labels = (task + rng.normal(0, 0.3, COUNT) > np.median(task)).astype(np.int64)
    found = of_classes("toy", np.stack([task, -task], axis=1), seen, truth, labels)
    assert not found.adds
    assert found.change.low <= 0
    (sentence,) = said((found,))
    assert "is not clearly better" in sentence
    assert sentence.endswith("nothing that an intervention could add.")


def test_what_is_not_known_of_a_concept_is_its_mean_elsewhere() -> None:
    truth = np.array([[0.2, 1.0], [0.6, 0.0], [0.9, 0.0]])
    known = np.array([[True, False], [True, False], [False, False]])
    np.testing.assert_allclose(filled(truth, known), [[0.2, 0.0], [0.6, 0.0], [0.4, 0.0]])
