"""3. Does telling the model the truth about a concept help its answer, and does a lie hurt it?

Koh et al., "Concept Bottleneck Models" (2020). Truth is what is known of a picture: the teacher's estimate on
photographs. Renders have exact concepts and no label of the task, so that nothing can be measured on them here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import msgspec
import numpy as np

from engines.concept import intervene, read
from engines.spec import HeadSpec
from training.explain.answers import F64, U8, Answers, Bools, Ints, by_size, contributions, outputs, shuffled
from training.explain.faithful import column_of
from training.explain.intervals import Estimate, mean
from training.explain.material import Material

_CHECKED = 50
BLUR_PX = 5.0


class Intervention(msgspec.Struct, frozen=True):
    """One curve over 0..M concepts set. told: "truth" or "wrong" (one minus it). order: in which they are set.

    figure: "accuracy" (should rise with the truth) or "error" (mean |score - label|, should fall).
    change: the last point less the first.
    """

    head: str
    figure: str
    told: str
    order: str
    pictures: int
    values: tuple[float, ...]
    change: Estimate


@dataclass(frozen=True, slots=True)
class Task:
    """What is judged: rate(outputs [N, O]) -> [N], a number per picture; columns [N], whose contributions order."""

    head: str
    figure: str
    columns: Ints
    rate: Callable[[F64], F64]
    groups: Ints | None = None


def set_in_order(activation: F64, told: F64, known: Bools, order: Ints) -> list[F64]:
    """Activations [N, K] after 0..M known concepts of each row were set in its order; M is the most that a row has."""
    now = activation.copy()
    # Concepts of which nothing is known come last, and are never set.
    late = np.take_along_axis(~known, order, axis=1)
    queue = np.take_along_axis(order, np.argsort(late, axis=1, kind="stable"), axis=1)
    steps, rows = [now.copy()], np.arange(len(now))
    for step in range(int(known.sum(axis=1).max(initial=0))):
        k = queue[:, step]
        now[rows, k] = np.where(known[rows, k], told[rows, k], now[rows, k])
        steps.append(now.copy())
    return steps


def measure(material: Material, heads: HeadSpec, task: Task, seed: int) -> list[Intervention]:
    """All orders, told the truth and the contrary, on the pictures of which something is known."""
    samples, answers = material.samples, material.answers
    known = samples.weights > 0
    truth = samples.concepts.astype(np.float64)
    p = answers.activation
    orders = {
        "random": shuffled(len(p), p.shape[1], np.random.default_rng(seed)),
        "uncertainty": np.argsort(np.abs(p - 0.5), axis=1, kind="stable"),
        "contribution": by_size(column_of(contributions(answers, heads), task.columns)),
    }
    found = []
    for told, values in (("truth", truth), ("wrong", 1.0 - truth)):
        for name, order in orders.items():
            rated = [task.rate(outputs(answers, heads, step)) for step in set_in_order(p, values, known, order)]
            curve = tuple(float(each.mean()) for each in rated)
            change = mean(rated[-1] - rated[0], task.groups)
            found.append(Intervention(task.head, task.figure, told, name, len(p), curve, change))
    return found


def blurred(crops: U8) -> U8:
    """The crops [N, S, S] as a camera out of focus would see them: the model then has something to be corrected in."""
    return np.stack([np.asarray(cv2.GaussianBlur(crop, (0, 0), BLUR_PX), np.uint8) for crop in crops])


def with_truth(material: Material) -> Material:
    """The pictures of which at least one concept is known."""
    return material.take(np.flatnonzero((material.samples.weights > 0).any(axis=1)))


def same_as_live(answers: Answers, heads: HeadSpec, told: F64, seed: int) -> float:
    """Largest difference of the score from engines.concept.intervene, which answers live, over some pictures."""
    some = answers.take(np.random.default_rng(seed).permutation(len(answers))[:_CHECKED])
    told = told[np.random.default_rng(seed).permutation(len(answers))[:_CHECKED]]
    here = outputs(some, heads, told)[:, 0]
    readouts = read(some.tensors(), heads)
    live = [intervene(r, heads, dict(enumerate(t.tolist()))).score for r, t in zip(readouts, told, strict=True)]
    return float(np.abs(here - np.array(live)).max())


def said(found: Sequence[Intervention]) -> tuple[str, ...]:
    """What came out."""
    parts = []
    for head in dict.fromkeys(each.head for each in found):
        words = []
        for told in ("truth", "wrong"):
            curve = next(each for each in found if each.head == head and each.told == told and each.order == "random")
            grows = curve.change.low > 0, curve.change.high < 0
            verb = "rises" if grows[0] else "falls" if grows[1] else "does not clearly change"
            better = grows[0] if curve.figure == "accuracy" else grows[1]
            expected = better if told == "truth" else (grows[0] or grows[1]) and not better
            what = "truth" if told == "truth" else "contrary"
            surprise = "" if expected else ", which is not as it should be"
            ends = f"from {curve.values[0]:.3f} to {curve.values[-1]:.3f}"
            words.append(f"told the {what} of every known concept, the {curve.figure} {verb} {ends}{surprise}")
        parts.append(f"{head}: {'; '.join(words)}.")
    return tuple(parts)
