"""Leave-subjects-out figures of an engagement experiment: `python -m training.crossval EXPERIMENT.toml --folds 6`.

Each fold trains the experiment from its `init` without the pictures of its subjects, and answers those pictures with
the averaged weights of its last step; nothing is chosen on them. The two thresholds between the classes of one fold
are those with the best macro-F1 on the answers of the other folds (their pictures are of other people). `init` has
never seen the corpus.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt
import torch
import typer
from rich.console import Console

from training.agcm.model import Agcm, AgcmConfig
from training.concepts import EXPRESSIONS, NAMES
from training.crop import CROP
from training.data.pictures import DataError
from training.data.samples import Samples
from training.data.samples import load as load_samples
from training.evaluate import ENGAGEMENT_CLASSES, groups_of
from training.experiment import Experiment, ExperimentError
from training.experiment import load as load_experiment
from training.metrics import best_cuts, classes_of
from training.reports import Report, engagement, show, write
from training.run import load_weights
from training.train import predict, train

Ints = npt.NDArray[np.int64]


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


def fold_scores(experiment: Experiment, left_out: tuple[int, ...], fold: int, runs: Path,
                samples: Samples) -> npt.NDArray[np.float64]:  # fmt: skip
    """Train without the subjects and score their pictures."""
    name = f"{experiment.name}-fold{fold}"
    # The last of the validation sources is enough to see that nothing is unlearnt; it costs a fold little time.
    train(
        msgspec.structs.replace(experiment, name=name, exclude_subjects=left_out, valid=experiment.valid[-1:]),
        runs / name,
    )
    config = AgcmConfig(len(NAMES), 1 + len(EXPRESSIONS), experiment.embedding, deep_channels=experiment.deep_channels)
    model = Agcm(config)
    model.load_state_dict(load_weights(runs / name / "weights.pt"))
    return predict(model, samples, CROP.size_px)[0][:, 0].astype(np.float64)


Cuts = tuple[float, float]


def crossvalidate(experiment: Experiment, corpus: Path, folds: int, runs: Path) -> tuple[Report, Cuts]:
    """The report over all pictures, each answered by a fold that never saw its subject, and overall thresholds."""
    samples = load_samples(corpus)
    groups = subject_folds(samples.subjects, folds)
    truth = np.round(samples.score * 2).astype(np.int64)
    score = np.full(len(samples), np.nan)
    fold_of = np.zeros(len(samples), np.int64)
    for i, left_out in enumerate(groups):
        rows = np.isin(samples.subjects, left_out)
        score[rows] = fold_scores(experiment, left_out, i, runs, samples.take(rows))
        fold_of[rows] = i
    answer = np.zeros(len(samples), np.int64)
    for i in range(folds):
        answer[fold_of == i] = classes_of(score[fold_of == i], best_cuts(score[fold_of != i], truth[fold_of != i]))
    figures = [
        engagement(name, score[rows], truth[rows], answer[rows], ENGAGEMENT_CLASSES)
        for name, rows in groups_of(samples.found, samples.colour).items()
    ]
    protocol = f"leave-subjects-out, {folds} folds over {len(np.unique(samples.subjects))} subjects; thresholds of a "
    report = Report(
        "wacv2016", "cross-validation", experiment.name, "torch", protocol + "fold from the other folds' answers",
        len(samples), int((~samples.found).sum()), tuple(figures),
    )  # fmt: skip
    return report, best_cuts(score, truth)


def main(
    experiment: Annotated[Path, typer.Argument(help="engagement experiment TOML")],
    corpus: Annotated[Path, typer.Option(help="prepared engagement pictures")] = Path("runs/data/wacv2016.npz"),
    folds: Annotated[int, typer.Option(help="groups of subjects")] = 6,
    runs: Annotated[Path, typer.Option(help="folder for checkpoints and logs")] = Path("runs"),
    json: Annotated[Path | None, typer.Option(help="also write the figures here")] = None,
) -> None:
    """Train and answer every fold; folds that are finished are not trained again."""
    torch.set_num_threads(2)
    try:
        report, cuts = crossvalidate(load_experiment(experiment), corpus, folds, runs)
    except (DataError, ExperimentError) as error:
        raise SystemExit(f"error: {error}") from error
    show(report)
    Console().print(f"thresholds over all answers, for training.export --cuts: {cuts[0]:.4f},{cuts[1]:.4f}")
    if json is not None:
        write(report, json)


if __name__ == "__main__":
    typer.run(main)
