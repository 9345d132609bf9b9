"""The engagement head: `python -m training.engagement EXPERIMENT.toml --weights RUN/weights.pt --out WEIGHTS.pt`.

By-step training (Li & Mahmoud, Table 1, right): the concepts are frozen, and the score is a linear function of their
embeddings, fitted in closed form (ridge regression on standardised embeddings, classes weighted to count alike, every
picture also mirrored). 3,600 pictures of 17 people do not carry more; docs/training.md says what else was tried.

Figures are leave-one-subject-out: for each subject, an inner grouped cross-validation over the other subjects
chooses the strength of the ridge (best CCC) and the two thresholds between the classes (best macro-F1). The network
below the head has never seen the corpus. The form of the head itself was chosen on these subjects (docs/training.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
import typer
from rich.progress import track

from engines.preprocess import to_tensor
from training.agcm.model import Agcm
from training.crop import CROP
from training.data.augment import centre
from training.data.pictures import DataError
from training.data.samples import MARGIN_PX, Samples
from training.data.samples import load as load_samples
from training.evaluate import ENGAGEMENT_CLASSES, groups_of
from training.experiment import Experiment, ExperimentError
from training.experiment import load as load_experiment
from training.metrics import best_cuts, ccc, classes_of
from training.reports import Report, engagement, show, write
from training.ridge import Sums, solve, sums, total
from training.run import load_weights, write_atomically
from training.systems.table import agcm

F64 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Cuts = tuple[float, float]

FACES = Path("runs/data/ferplus_train.npz")
FACES_HELP = "prepared pictures of many people; no label of theirs is used"
STRENGTHS = (300.0, 1_000.0, 3_000.0, 10_000.0, 30_000.0)
INNER_FOLDS = 5
_MOST_LABELS = 16
_BATCH = 128
_STRANGERS = 3000


@dataclass(frozen=True, slots=True)
class Pictures:
    """What the head is fitted on: embeddings of the plain and of the mirrored picture [N, K m], label in [0, 1] [N],
    subject [N]. spread: variance of the embeddings over faces at large [K m], 0 if there are none.
    """

    plain: F64
    mirrored: F64
    score: F64
    subjects: Ints
    spread: F64 | float = 0.0

    def take(self, rows: npt.NDArray[np.bool_]) -> Pictures:
        """The given rows."""
        return Pictures(self.plain[rows], self.mirrored[rows], self.score[rows], self.subjects[rows], self.spread)


@dataclass(frozen=True, slots=True)
class Head:
    """score = embedding . weight + bias."""

    weight: F64
    bias: float

    def __call__(self, embeddings: F64) -> F64:
        return np.asarray(embeddings @ self.weight + self.bias)


@dataclass(frozen=True, slots=True)
class Unseen:
    """Head and class thresholds for one person, from everybody else."""

    subject: int
    head: Head
    cuts: Cuts


People = Mapping[int, Sums]
"""Sums of every person's pictures, by subject."""


def fit(pictures: Pictures, strength: float, known: People | None = None) -> Head:
    """Weighted ridge regression in closed form; the penalty acts on standardised embeddings, never on the bias."""
    known = people(pictures) if known is None else known
    return Head(*solve(total(known[int(name)] for name in np.unique(pictures.subjects)), strength))


def people(pictures: Pictures) -> People:
    """What the fits need of every person, from the plain and the mirrored pictures.

    Raises DataError if the labels take so many values that they are no classes.
    """
    labels = np.unique(pictures.score)
    if len(labels) > _MOST_LABELS:
        raise DataError(
            f"the engagement labels take {len(labels)} values; classes are weighted, {_MOST_LABELS} at most"
        )
    found: dict[int, Sums] = {}
    for name in np.unique(pictures.subjects):
        own = pictures.take(pictures.subjects == name)
        found[int(name)] = sums(np.concatenate([own.plain, own.mirrored]), np.tile(own.score, 2), labels, own.spread)
    return found


def subject_folds(subjects: Ints, count: int) -> list[tuple[int, ...]]:
    """Disjoint groups of subjects with about the same number of pictures: the largest go first to the emptiest."""
    if count < 2 or count > len(np.unique(subjects)):
        raise DataError(f"{count} folds of {len(np.unique(subjects))} subjects are not possible")
    groups: list[list[int]] = [[] for _ in range(count)]
    sizes = np.zeros(count)
    names, pictures = np.unique(subjects, return_counts=True)
    for i in np.argsort(-pictures, kind="stable"):
        emptiest = int(sizes.argmin())
        groups[emptiest].append(int(names[i]))
        sizes[emptiest] += pictures[i]
    return [tuple(sorted(group)) for group in groups]


def choose(pictures: Pictures, known: People | None = None) -> tuple[float, Cuts]:
    """The strength with the best CCC on subjects that were left out, and the best thresholds on those answers."""
    known = people(pictures) if known is None else known
    names = np.unique(pictures.subjects)
    answers = {strength: np.zeros(len(pictures.score)) for strength in STRENGTHS}
    for left_out in subject_folds(pictures.subjects, min(INNER_FOLDS, len(names))):
        rows = np.isin(pictures.subjects, left_out)
        kept = total(known[int(name)] for name in names if name not in left_out)
        for strength, answer in answers.items():
            answer[rows] = Head(*solve(kept, strength))(pictures.plain[rows])
    strength = max(STRENGTHS, key=lambda strength: ccc(answers[strength], pictures.score))
    return strength, best_cuts(answers[strength], classes(pictures.score))


def unseen(pictures: Pictures, known: People, names: Iterable[int]) -> Iterator[Unseen]:
    """For each of the named people, what is fitted and chosen on all others."""
    for name in names:
        others = pictures.take(pictures.subjects != name)
        strength, cuts = choose(others, known)
        yield Unseen(name, fit(others, strength, known), cuts)


def leave_one_out(pictures: Pictures) -> tuple[F64, Ints]:
    """Score and class of every picture, each answered without its subject; see the top of this module."""
    score, answer = np.zeros(len(pictures.score)), np.zeros(len(pictures.score), np.int64)
    names = track(np.unique(pictures.subjects).tolist(), description="subjects left out")
    for each in unseen(pictures, people(pictures), names):
        rows = pictures.subjects == each.subject
        score[rows] = each.head(pictures.plain[rows])
        answer[rows] = classes_of(score[rows], each.cuts)
    return score, answer


def classes(score: F64) -> Ints:
    """Labels 0, 0.5, 1 as classes 0, 1, 2."""
    return np.asarray(np.round(score * 2), dtype=np.int64)


@torch.no_grad()
def embed(model: Agcm, samples: Samples, side_px: int = CROP.size_px) -> Pictures:
    """Concept embeddings of labelled samples, as the live path would see them in crops of `side_px`."""
    model.eval()
    crops = to_tensor(np.stack([centre(crop, MARGIN_PX, side_px) for crop in samples.crops]), CROP)
    found: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])
    for start in track(range(0, len(crops), _BATCH), description="embeddings"):
        batch = torch.from_numpy(crops[start : start + _BATCH])
        for part, view in zip(found, (batch, batch.flip(-1)), strict=True):
            part.append(model(view).embedding.flatten(1).double())
    plain, mirrored = (torch.cat(part).numpy() for part in found)
    return Pictures(plain, mirrored, samples.score.astype(np.float64), samples.subjects)


def among(pictures: Pictures, model: Agcm, faces: Samples, side_px: int = CROP.size_px) -> Pictures:
    """The pictures, with the spread of embeddings over faces at large, of which a fixed choice is enough."""
    chosen = np.random.default_rng(0).permutation(len(faces))[:_STRANGERS]
    return replace(pictures, spread=embed(model, faces.take(chosen), side_px).plain.var(axis=0))


def trained(experiment: Experiment, weights: Path) -> Agcm:
    """The model of an experiment with these weights. Raises ExperimentError if they do not fit each other."""
    if experiment.system != "agcm":
        raise ExperimentError(
            f"{experiment.name} is a {experiment.system}; the engagement head is fitted for agcm only"
        )
    model = agcm(experiment)
    try:
        model.load_state_dict(load_weights(weights))
    except RuntimeError as error:
        raise ExperimentError(f"{weights} are not weights of {experiment.name}; give its own experiment") from error
    return model.eval()


def put(model: Agcm, head: Head) -> None:
    """Make `head` the model's score."""
    with torch.no_grad():
        model.weight[:, :, 0] = torch.from_numpy(head.weight).float().reshape(model.weight.shape[:2])
        model.bias[0] = head.bias


def mixed_people(pictures: Pictures, seed: int = 0) -> Pictures:
    """The pictures dealt out at random into as many groups as there are people, so that everybody is in nearly all of
    them: leaving these out one by one shows what could be reached if people were known."""
    count = len(np.unique(pictures.subjects))
    groups = np.random.default_rng(seed).permutation(len(pictures.score)) % count
    return replace(pictures, subjects=groups.astype(np.int64))


def measured(name: str, pictures: Pictures, samples: Samples, *, people_known: bool = False) -> Report:
    """Figures of people that were left out; see the top of this module. people_known: of `mixed_people` instead."""
    score, answer = leave_one_out(pictures)
    truth = classes(pictures.score)
    figures = [
        engagement(group, score[rows], truth[rows], answer[rows], ENGAGEMENT_CLASSES)
        for group, rows in groups_of(samples.found, samples.colour).items()
    ]
    split = "known people, other pictures" if people_known else "unseen subjects"
    how, what = ("leave-one-random-group-out", "groups") if people_known else ("leave-one-subject-out", "subjects")
    protocol = f"{how}; ridge strength and class thresholds from the other {what} only"
    counts = len(samples), int((~samples.found).sum())
    return Report("wacv2016", split, name, "torch", protocol, *counts, tuple(figures))


def main(
    experiment: Annotated[Path, typer.Argument(help="the experiment that the weights belong to")],
    weights: Annotated[Path, typer.Option(help="averaged weights of its run")],
    out: Annotated[Path, typer.Option(help="weights with the engagement head, for training.export")],
    corpus: Annotated[Path, typer.Option(help="prepared engagement pictures")] = Path("runs/data/wacv2016.npz"),
    faces: Annotated[Path, typer.Option(help=FACES_HELP)] = FACES,
    json: Annotated[Path | None, typer.Option(help="also write the figures here")] = None,
    known_people: Annotated[
        bool, typer.Option("--known-people", help="also measure on other pictures of the same people: a ceiling")
    ] = False,
) -> None:
    """Fit the engagement head on frozen concepts, and measure it on people it has not seen."""
    try:
        settings, samples, others = load_experiment(experiment), load_samples(corpus), load_samples(faces)
        torch.set_num_threads(settings.threads)
        model = trained(settings, weights)
        pictures = among(embed(model, samples, settings.crop_px), model, others, settings.crop_px)
        report = measured(settings.name, pictures, samples)
        show(report)
        if known_people:
            show(measured(settings.name, mixed_people(pictures), samples, people_known=True))
        strength, cuts = choose(pictures)
        put(model, fit(pictures, strength))
        write_atomically(out, model.state_dict())
        print(f"wrote {out}; ridge strength {strength:g}; for training.export: --cuts {cuts[0]:.4f},{cuts[1]:.4f}")
        if json is not None:
            write(report, json)
    except (DataError, ExperimentError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


if __name__ == "__main__":
    typer.run(main)
