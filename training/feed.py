"""What a training step is fed: prepared files and their labels, batches in a fixed order, augmented crops."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from engines.preprocess import TEMPLATE, Points, to_tensor
from training.agcm.losses import Targets
from training.concepts import MIRRORED
from training.crop import CROP
from training.data.augment import Augment, Varied, vary
from training.data.pictures import DataError
from training.data.samples import MARGIN_PX, Samples, join
from training.data.samples import load as load_samples
from training.data.splits import check_disjoint, check_filled
from training.experiment import Experiment, ExperimentError, Phase, Source
from training.regions import regions
from training.synthetic import ict
from training.teachers import labels as teacher_labels


@dataclass(frozen=True, slots=True)
class Step:
    """Where a run stands: epoch, batch within it, and the phase. first, last: steps of the stage, which is all phases
    in a row that train the same; the learning rate rises and falls once in each.
    """

    number: int
    epoch: int
    batch: int
    phase: Phase
    first: int = 0
    last: int = 0


def read_source(source: Source, scale: teacher_labels.Scale) -> Samples:
    """A prepared file with the teacher's labels laid over it."""
    samples = load_samples(Path(source.file))
    if samples.crops.ndim != 3 or samples.crops.shape[1] <= 2 * MARGIN_PX:
        raise DataError(f"{source.file} holds no pictures, only labels; a network learns from pictures")
    if source.teacher:
        labels = teacher_labels.apply(teacher_labels.read(Path(source.teacher)), scale)
        if len(labels.activations) != len(samples):
            counts = f"{len(labels.activations)} crops, {source.file} has {len(samples)}"
            raise DataError(f"{source.teacher} labels {counts}")
        samples = replace(samples, concepts=labels.activations, weights=labels.weights)
    return replace(samples, weights=samples.weights * np.float32(source.concepts))


def read_sources(experiment: Experiment, sources: tuple[Source, ...]) -> list[Samples]:
    """Every source, without the excluded subjects."""
    scale = teacher_labels.scale_of(teacher_labels.read(Path(experiment.scale_from)))
    parts = [read_source(source, scale) for source in sources]
    return [part.take(~np.isin(part.subjects, experiment.exclude_subjects)) for part in parts]


def batches(samples: Samples, shares: list[tuple[int, float]], steps: Step, seed: int) -> Iterator[np.ndarray]:
    """Row numbers of each batch of an epoch. shares: (rows, part of them seen per epoch) of each joined source."""
    rng = np.random.default_rng((seed, steps.epoch))
    rows, start = [], 0
    for count, share in shares:
        wanted = round(count * share)
        repeats = [rng.permutation(count) for _ in range(math.ceil(share))] or [np.zeros(0, np.int64)]
        rows.append(np.concatenate(repeats)[:wanted] + start)
        start += count
    order = rng.permutation(np.concatenate(rows))
    size = steps.phase.batch
    for i in range(len(order) // size):
        yield order[i * size : (i + 1) * size]


def score_weights(score: np.ndarray) -> np.ndarray:
    """Weights of the engagement rows, so that rare classes count: 1 / sqrt(share of the class)."""
    weights = np.zeros(len(score), np.float32)
    for value in np.unique(score[~np.isnan(score)]):
        rows = score == value
        weights[rows] = (rows.sum() / (~np.isnan(score)).sum()) ** -0.5
    return weights


def make_batch(samples: Samples, rows: np.ndarray, side_px: int, rng: np.random.Generator, weights: np.ndarray,
               how: Augment) -> tuple[Tensor, Targets]:  # fmt: skip
    """Augmented crops [B, 1, S, S] and their targets."""
    views = [vary(samples.crops[row], MARGIN_PX, side_px, how, rng) for row in rows]
    mirrored = np.array([view.mirrored for view in views])[:, None]
    concepts, trust = samples.concepts[rows], samples.weights[rows]
    order = np.array(MIRRORED)
    concepts, trust = (np.where(mirrored, part[:, order], part) for part in (concepts, trust))
    crops = to_tensor(np.stack([view.luma for view in views]), CROP)
    found = samples.found[rows] & (how.mixup == 0)  # two faces in one picture have no place
    points = np.stack([placed(*each, samples.crops.shape[1]) for each in zip(views, found, strict=True)])
    fed = [crops, samples.votes[rows], concepts, trust, samples.score[rows], weights[rows], points]
    if how.mixup:
        fed = mixed(fed, how.mixup, rng)
    # One plane is contiguous in either order; saying which one keeps the first layers on their fast path.
    inputs = torch.from_numpy(fed[0]).to(memory_format=torch.channels_last)
    return inputs, Targets(*(torch.from_numpy(np.ascontiguousarray(a)) for a in fed[1:]))


_TURNED = (1, 0, 2, 4, 3)
"""Whose place each point of the template takes in a mirror."""


def placed(view: Varied, found: bool, stored_px: int) -> Points:
    """Where the five points lie in a view [5, 2], in shares of its side; NaN where no face was found, since such a
    picture was cut at a guess."""
    if not found:
        return np.full(TEMPLATE.shape, np.nan, np.float32)
    stored = TEMPLATE * np.float32(stored_px - 2 * MARGIN_PX) + np.float32(MARGIN_PX)
    points = (stored @ view.affine[:, :2].T + view.affine[:, 2]) / np.float32(len(view.luma))
    return np.asarray(points[list(_TURNED)] if view.mirrored else points, np.float32)


def mixed(batch: list[np.ndarray], alpha: float, rng: np.random.Generator) -> list[np.ndarray]:
    """Every row of a batch with a smaller share of another row (mixup, Zhang et al. 2018). What is NaN in either stays
    unknown."""
    share = rng.beta(alpha, alpha, len(batch[0])).astype(np.float32)
    share, other = np.maximum(share, 1 - share), rng.permutation(len(batch[0]))
    found = []
    for part in batch:
        own = share.reshape(-1, *[1] * (part.ndim - 1))
        found.append((own * part + (1 - own) * part[other]).astype(np.float32))
    return found


def rate(number: int, total: int) -> float:
    """Share of the peak learning rate: linear warm-up over 6 % of the steps, then a cosine to 1 %."""
    warm = max(1, round(0.06 * total))
    if number < warm:
        return (number + 1) / warm
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (number - warm) / max(1, total - warm)))


def schedule(experiment: Experiment, rows: int) -> list[Step]:
    """Every step of the run, in order. Raises ExperimentError if an epoch would hold none."""
    steps: list[Step] = []
    epoch = 0
    for _, stage in groupby(experiment.phases, key=lambda phase: phase.train):
        first, epochs = len(steps), [phase for phase in stage for _ in range(phase.epochs)]
        last = first + sum(rows // phase.batch for phase in epochs) - 1
        for phase in epochs:
            if phase.batch > rows:
                raise ExperimentError(f"phases: a batch of {phase.batch} is more than the {rows} crops of an epoch")
            steps += [Step(len(steps) + i, epoch, i, phase, first, last) for i in range(rows // phase.batch)]
            epoch += 1
    return steps


def check_people(experiment: Experiment, train: list[Samples], valid: list[Samples]) -> None:
    """Raises DataError if a file has no picture left, or if a subject of a corpus is in both splits."""
    seen: dict[str, dict[str, np.ndarray]] = {}
    sides = (("train", experiment.train, train), ("valid", experiment.valid, valid))
    for split, sources, parts in sides:
        check_filled(split, len(sources), "the experiment")
        for source, part in zip(sources, parts, strict=True):
            check_filled(split, len(part), source.file)
            if source.share > 0:
                known = seen.setdefault(source.whose(), {})
                known[split] = np.concatenate([known.get(split, np.zeros(0, np.int64)), part.subjects])
    for splits in seen.values():
        check_disjoint(splits)


@dataclass(frozen=True, slots=True)
class Material:
    """What a run learns from. shares: see `batches`. importance [N]: see `score_weights`. places: regions [K, h, w] of
    the concepts, for every side of a picture.
    """

    samples: Samples
    shares: list[tuple[int, float]]
    importance: np.ndarray
    places: Mapping[int, Tensor]
    valid: list[Samples]


def gather(experiment: Experiment) -> Material:
    """Read all files of an experiment. Raises DataError or IctFileError naming the one that is wrong."""
    parts, valid = read_sources(experiment, experiment.train), read_sources(experiment, experiment.valid)
    check_people(experiment, parts, valid)
    samples = join(parts)
    shares = [(len(part), source.share) for part, source in zip(parts, experiment.train, strict=True)]
    face = ict.load(Path(experiment.ict))
    places = {p.side_px: torch.from_numpy(regions(face, p.side_px // 16)) for p in experiment.phases}
    return Material(samples, shares, score_weights(samples.score), places, valid)


class Batches(Dataset[tuple[Step, Tensor, Targets]]):
    """The batches of an epoch, in order, each made when it is asked for; one depends on its number alone, so that any
    number of processes makes the same."""

    def __init__(self, material: Material, jobs: Sequence[tuple[Step, np.ndarray]], seed: int, rank: int, how: Augment):
        self._material, self._jobs, self._seed, self._rank, self._how = material, jobs, seed, rank, how

    def __len__(self) -> int:
        return len(self._jobs)

    def __getitem__(self, index: int) -> tuple[Step, Tensor, Targets]:
        step, rows = self._jobs[index]
        material, seed = self._material, self._seed
        rng = np.random.default_rng((seed, step.number, self._rank) if self._rank else (seed, step.number))
        crops, targets = make_batch(material.samples, rows, step.phase.side_px, rng, material.importance, self._how)
        return step, crops, targets


def epoch(
    material: Material, first: Step, seed: int, rank: int, world: int, how: Augment, loaders: int = 0
) -> Iterable[tuple[Step, Tensor, Targets]]:
    """The rest of an epoch from `first` on: the part of every batch that process `rank` of `world` has.

    loaders: processes that make batches ahead of their use; 0 makes each when it is used.
    """
    jobs = [
        (replace(first, number=first.number + i - first.batch, batch=i), rows[rank::world])
        for i, rows in enumerate(batches(material.samples, material.shares, first, seed))
        if i >= first.batch
    ]
    made = Batches(material, jobs, seed, rank, how)
    return DataLoader(made, batch_size=None, num_workers=loaders, worker_init_fn=_one_thread)


def _one_thread(_: int) -> None:
    """Of OpenCV in a loader: its threads stay behind in the process that the loader was forked from."""
    cv2.setNumThreads(0)
