"""Truth helps a model that goes by its concepts, and does nothing for one that does not."""

from __future__ import annotations

import numpy as np

from engines.spec import HeadSpec
from tests.training.explain.toys import toy
from training.data.samples import Samples
from training.explain.answers import F64, Answers, shares
from training.explain.intervals import Estimate
from training.explain.interventions import Intervention, Task, measure, said, same_as_live, set_in_order, with_truth
from training.explain.material import Material

COUNT, CONCEPTS = 200, 4


def said_line(found: list[Intervention]) -> str:
    (line,) = said(found)
    return line


def material(answers: Answers, concepts: F64, weights: F64) -> Material:
    n = len(answers)
    unknown = np.full(n, np.nan, np.float32)
    samples = Samples(
        crops=np.zeros((n, 4, 4), np.uint8), found=np.ones(n, bool), votes=np.full((n, 8), np.nan, np.float32),
        concepts=concepts.astype(np.float32), weights=weights.astype(np.float32), score=unknown,
        subjects=np.full(n, -1), colour=np.zeros(n, bool), names=np.array([f"{i}" for i in range(n)]),
    )  # fmt: skip
    return Material("toy", "the truth", np.arange(n), samples.crops, samples, answers)


def faithful(seed: int = 0) -> tuple[Answers, F64, HeadSpec, Task]:
    """A model whose class is the sign of a sum over true concepts, but which sees a third of them wrongly."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, (COUNT, CONCEPTS)).astype(np.float64)
    seen = np.where(rng.random(truth.shape) < 0.33, 1 - truth, truth) * 0.9 + 0.05
    active = np.zeros((COUNT, CONCEPTS, 3))
    active[:, :, 1] = [1.0, 0.7, 0.4, 0.2]
    active[:, :, 2] = -active[:, :, 1]
    answers = Answers(seen, active, -active, np.zeros((COUNT, CONCEPTS, 7, 7), np.float32), np.zeros((COUNT, 3)))
    heads = HeadSpec(("yes", "no"), (0.0,) * 3, ((0.0,) * 3,) * CONCEPTS, ())
    label = shares(answers, truth)[:, :, 1].sum(axis=1) < 0
    columns = 1 + shares(answers).sum(axis=1)[:, 1:].argmax(axis=1)
    task = Task("toy", "accuracy", columns, lambda given: (given[:, 1:].argmax(axis=1) == label).astype(np.float64))
    return answers, truth, heads, task


def test_truth_raises_the_accuracy_to_one_and_lies_ruin_it() -> None:
    answers, truth, heads, task = faithful()
    found = measure(material(answers, truth, np.ones_like(truth)), heads, task, seed=0)
    for each in found:
        assert len(each.values) == CONCEPTS + 1
        assert each.values[-1] == (1.0 if each.told == "truth" else 0.0), each.order
        assert each.values[0] == found[0].values[0]
    by_order = {each.order: each.values for each in found if each.told == "truth"}
    assert by_order["contribution"][1] > by_order["random"][1], "the largest contribution decides most"
    sentence = said_line(found)
    assert "rises" in sentence and "falls" in sentence and "not as it should be" not in sentence


def test_only_what_is_known_is_set() -> None:
    activation, told = np.full((2, 3), 0.5), np.ones((2, 3))
    known = np.array([[True, False, True], [False, False, True]])
    steps = set_in_order(activation, told, known, np.array([[1, 2, 0], [0, 1, 2]]))
    assert [step[0].tolist() for step in steps] == [[0.5, 0.5, 0.5], [0.5, 0.5, 1.0], [1.0, 0.5, 1.0]]
    assert steps[-1][1].tolist() == [0.5, 0.5, 1.0]
    assert activation.max() == 0.5, "the given activations stay as they are"


def test_pictures_without_any_truth_are_left_out() -> None:
    answers, truth, _, _ = faithful()
    weights = np.ones_like(truth)
    weights[::2] = 0
    assert with_truth(material(answers, truth, weights)).rows.tolist() == list(range(1, COUNT, 2))


def test_the_live_intervention_gives_the_same_scores() -> None:
    answers, heads = toy(80)
    assert same_as_live(answers, heads, np.random.default_rng(2).random(answers.activation.shape), seed=0) < 1e-9


def test_the_sentence_says_so_when_truth_hurts() -> None:
    def curve(told: str, first: float, last: float) -> Intervention:
        change = Estimate(last - first, last - first - 0.01, last - first + 0.01)
        return Intervention("score", "error", told, "random", 9, (first, last), change)

    assert "rises from 0.200 to 0.400, which is not as it should be" in said_line([curve("truth", 0.2, 0.4),
                                                                             curve("wrong", 0.2, 0.5)])  # fmt: skip
    assert said_line([curve("truth", 0.4, 0.2), curve("wrong", 0.4, 0.6)]).count("not as it should be") == 0
    assert "does not clearly change" in said_line([curve("truth", 0.2, 0.2), curve("wrong", 0.2, 0.4)])
