"""The pictures that explanations are tested on, with what is known of them and what the model says of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from engines.base import Engine
from training.data.augment import centre
from training.data.pictures import DataError
from training.data.samples import MARGIN_PX, Samples
from training.data.samples import load as load_samples
from training.evaluate import parts_of
from training.explain.answers import U8, Answers, Ints, ask
from training.teachers import labels as teacher_labels

SCALE_FROM = "ferplus_train"
"""The teacher's values are scaled by its quantiles over these pictures, as in training."""


@dataclass(frozen=True, slots=True)
class Material:
    """Some pictures of one corpus. rows: their places in the prepared file. truth: where concept labels come from."""

    name: str
    truth: str
    rows: Ints
    crops: U8
    samples: Samples
    answers: Answers

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: Ints) -> Material:
        """The given ones."""
        return replace(
            self,
            rows=self.rows[rows],
            crops=self.crops[rows],
            samples=self.samples.take(rows),
            answers=self.answers.take(rows),
        )


def some(count: int, limit: int, seed: int) -> Ints:
    """Up to `limit` of `count` row numbers, drawn with `seed`, in order."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:limit])


def read(folder: Path, name: str, taught: bool) -> Samples:
    """A prepared file; `taught`: with the teacher's labels laid over it. Raises DataError naming what is missing."""
    samples = load_samples(folder / f"{name}.npz")
    if not taught:
        return samples
    scale = teacher_labels.scale_of(teacher_labels.read(folder / f"{SCALE_FROM}.teacher.npz"))
    labels = teacher_labels.apply(teacher_labels.read(folder / f"{name}.teacher.npz"), scale)
    if len(labels.activations) != len(samples):
        raise DataError(f"{name}.teacher.npz labels {len(labels.activations)} crops, {name}.npz has {len(samples)}")
    return replace(samples, concepts=labels.activations, weights=labels.weights)


def gather(engine: Engine, samples: Samples, name: str, truth: str, rows: Ints) -> Material:
    """Ask the engine about the given rows of a prepared file."""
    crop, _ = parts_of(engine.manifest)
    chosen = samples.take(rows)
    crops = np.stack([centre(stored, MARGIN_PX, crop.size_px) for stored in chosen.crops])
    return Material(name, truth, rows, crops, chosen, ask(engine, crops, name))
