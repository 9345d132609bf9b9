"""The feature-based system: `python -m training.features --train FILE --valid FILE`.

Concept columns, as a teacher or another program gives them, to the task, without looking at a picture: what a network
has to beat. Expressions are classified (most votes), engagement is regressed; where its labels are a few levels, the
nearest level is the answer. A column that is not known for a row is
told as such, by a second column. For engagement, subjects are left out one by one if --valid is not given.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sklearn.base import BaseEstimator
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from training.data.corpus import pick
from training.data.datasets import DATASETS
from training.data.features import read_csv
from training.data.pictures import DataError
from training.data.samples import Samples
from training.data.samples import load as load_samples
from training.data.splits import check_disjoint, check_filled
from training.data.writing import replaced
from training.metrics import ccc, pearson
from training.results import Result, write_results
from training.teachers import labels as teacher_labels

F64 = npt.NDArray[np.float64]
Method = Literal["linear", "boosting"]
Task = Literal["expression", "engagement"]
MOST_LEVELS = 8
"""More distinct engagement labels than these are a continuous track, not levels."""
_STRENGTHS = tuple(float(s) for s in np.logspace(-1, 4, 11))
MODELS: Mapping[tuple[Task, Method], Callable[[int], BaseEstimator]] = {
    ("expression", "linear"): lambda seed: make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
    ("expression", "boosting"): lambda seed: HistGradientBoostingClassifier(random_state=seed),
    ("engagement", "linear"): lambda seed: make_pipeline(StandardScaler(), RidgeCV(_STRENGTHS)),
    ("engagement", "boosting"): lambda seed: HistGradientBoostingRegressor(random_state=seed),
}
"""Task and method -> a fresh estimator with a seed."""


class FeatureFigures(msgspec.Struct, frozen=True):
    """Figures of one method on one split; None where the task has none. auc: lowest level against the rest."""

    task: Task
    method: Method
    protocol: str
    pictures: int
    accuracy: float | None = None
    macro_f1: float | None = None
    r: float | None = None
    ccc: float | None = None
    auc: float | None = None


def columns(samples: Samples) -> F64:
    """[N, 2 K]: activations, 0 where unknown, and whether each is known."""
    known = samples.weights > 0
    return np.concatenate([np.where(known, samples.concepts, 0.0), known], axis=1).astype(np.float64)


def labelled(samples: Samples, task: Task, where: str) -> tuple[F64, F64, npt.NDArray[np.int64]]:
    """Columns, target and subject of the rows that have a label and a concept. Raises DataError if none has."""
    has = ~np.isnan(samples.votes).any(1) if task == "expression" else ~np.isnan(samples.score)
    rows = np.flatnonzero(has & (samples.weights > 0).any(axis=1))
    if not len(rows):
        raise DataError(f"{where}: no row has both concepts and a label for {task}; give --teacher or --csv")
    chosen = samples.take(rows)
    target = chosen.votes.argmax(1) if task == "expression" else chosen.score
    return columns(chosen), target.astype(np.float64), chosen.subjects


def fitted(task: Task, method: Method, x: F64, y: F64, seed: int) -> Callable[[F64], F64]:
    """The method's answer as a function of columns. Raises DataError if there is only one class."""
    if len(np.unique(y)) < 2:
        raise DataError(f"{task}: all training rows have the same label")
    model = MODELS[task, method](seed).fit(x, y)
    return lambda rows: np.asarray(model.predict(rows), np.float64)


def figures(task: Task, method: Method, answer: F64, truth: F64, protocol: str, levels: F64) -> FeatureFigures:
    """How well answers agree with labels. levels: the engagement labels that were learnt from."""
    blank = FeatureFigures(task, method, protocol, len(truth))
    if task == "expression":
        f1 = float(f1_score(truth, answer, average="macro", zero_division=0))
        return msgspec.structs.replace(blank, accuracy=float((truth == answer).mean()), macro_f1=f1)
    lowest = truth == truth.min()
    auc = float(roc_auc_score(lowest, -answer)) if not lowest.all() else None
    found = msgspec.structs.replace(blank, r=pearson(answer, truth), ccc=ccc(answer, truth), auc=auc)
    if len(levels) > MOST_LEVELS:
        return found
    nearest = np.searchsorted((levels[1:] + levels[:-1]) / 2, answer)
    known = {level: place for place, level in enumerate(levels.tolist())}
    place = np.array([known.get(level, -1) for level in truth.tolist()])
    f1 = float(f1_score(place, nearest, labels=np.unique(place), average="macro", zero_division=0))
    return msgspec.structs.replace(found, accuracy=float((place == nearest).mean()), macro_f1=f1)


def on_valid(
    task: Task, method: Method, train: Samples, valid: Samples, seed: int, *, shared: bool = False
) -> FeatureFigures:
    """Fitted on one file, measured on another. Raises DataError if a subject is in both, unless that may be (`shared`,
    for official splits that are so); the protocol then says how many are.
    """
    x, y, who = labelled(train, task, "--train")
    other_x, other_y, others = labelled(valid, task, "--valid")
    protocol = "the validation file"
    if not shared:
        check_disjoint({"train": who, "valid": others})
    elif both := len(np.intersect1d(who[who >= 0], others)):
        protocol += f", {both} of whose people are in the training file as well"
    answer = fitted(task, method, x, y, seed)(other_x)
    return figures(task, method, answer, other_y, protocol, np.unique(y))


def unseen(task: Task, method: Method, samples: Samples, seed: int) -> FeatureFigures:
    """Each subject answered without it. Raises DataError if there are fewer than two known subjects."""
    x, y, who = labelled(samples, task, "--train")
    names = np.unique(who)
    if len(names) < 2 or names[0] < 0:
        raise DataError("--train does not say who is on every picture; give --valid")
    answer = np.zeros(len(y))
    for name in track(names, description=f"{task}, {method}: subjects left out"):
        out = who == name
        answer[out] = fitted(task, method, x[~out], y[~out], seed)(x[out])
    return figures(task, method, answer, y, "leave one subject out", np.unique(y))


def read(path: Path, teacher: Path | None, scale_from: Path | None, csv: Path | None) -> Samples:
    """A prepared file with the concept labels of a teacher file or of another program's table laid over it."""
    samples = load_samples(path)
    if teacher is not None:
        scale = teacher_labels.scale_of(teacher_labels.read(scale_from or teacher))
        labels = teacher_labels.apply(teacher_labels.read(teacher), scale)
        activations, weights = labels.activations, (labels.weights > 0).astype(np.float32)
    elif csv is not None:
        table = read_csv(csv)
        activations, weights = table.activations, table.weights
    else:
        activations, weights = samples.concepts, samples.weights
    if len(activations) != len(samples):
        raise DataError(f"{teacher or csv} has {len(activations)} rows, {path} has {len(samples)} crops")
    check_filled("train or valid", len(samples), str(path))
    return replace(samples, concepts=activations, weights=weights)


def results_of(found: list[FeatureFigures], dataset: str, split: str) -> list[tuple[Result, ...]]:
    """The figures as training.reproduce reads them, one tuple a method. Raises DataError for an unknown data set."""
    if dataset not in DATASETS:
        raise DataError(f"--results needs --dataset, one of {', '.join(DATASETS)}")
    pick(split, DATASETS[dataset].splits, DATASETS[dataset].title)
    command = shlex.join(["python", "-m", "training.features", *sys.argv[1:]])
    metrics = ("accuracy", "macro_f1", "r", "auc", "ccc")
    return [
        tuple(
            Result(dataset, split, f"features-{each.method}", 0, metric, value, each.pictures, "features", command)
            for metric in metrics if (value := getattr(each, metric)) is not None and np.isfinite(value)
        )
        for each in found
    ]  # fmt: skip


def show(found: list[FeatureFigures]) -> None:
    """Print the figures as a table."""
    table = Table(title="features -> task")
    names = ("accuracy", "macro_f1", "r", "ccc", "auc")
    for column in ("task", "method", "protocol", "pictures", *names):
        table.add_column(column)
    for each in found:
        values = (getattr(each, name) for name in names)
        cells = ("" if value is None else f"{value:.4f}" for value in values)
        table.add_row(each.task, each.method, each.protocol, str(each.pictures), *cells)
    Console().print(table)


def main(
    train: Annotated[Path, typer.Option(help="prepared crops; their pictures are not looked at")],
    task: Annotated[Task, typer.Option(help="what is answered")] = "expression",
    valid: Annotated[Path | None, typer.Option(help="prepared crops to measure on")] = None,
    train_teacher: Annotated[Path | None, typer.Option(help="teacher's file for --train")] = None,
    valid_teacher: Annotated[Path | None, typer.Option(help="teacher's file for --valid")] = None,
    train_csv: Annotated[Path | None, typer.Option(help="table of OpenFace, Py-Feat or our export for --train")] = None,
    valid_csv: Annotated[Path | None, typer.Option(help="the same for --valid")] = None,
    seed: Annotated[int, typer.Option(help="of the boosted trees")] = 1,
    json: Annotated[Path | None, typer.Option(help="also write the figures here")] = None,
    shared_people: Annotated[
        bool, typer.Option("--shared-people", help="people may be in both files, as in CMOSE's official splits")
    ] = False,
    results: Annotated[Path | None, typer.Option(help="folder to keep the figures in for training.reproduce")] = None,
    dataset: Annotated[str, typer.Option(help="with --results: the data set measured on, for example cmose")] = "",
    split: Annotated[str, typer.Option(help="with --results: its split that was measured on")] = "",
) -> None:
    """Logistic or ridge regression and boosted trees on AU, pose and gaze columns alone."""
    methods: tuple[Method, ...] = ("linear", "boosting")
    try:
        learnt = read(train, train_teacher, train_teacher, train_csv)
        if valid is None:
            found = [unseen(task, method, learnt, seed) for method in methods]
        else:
            held = read(valid, valid_teacher, train_teacher, valid_csv)
            found = [on_valid(task, method, learnt, held, seed, shared=shared_people) for method in methods]
        show(found)
        if json is not None:
            with replaced(json) as partial:
                partial.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
        if results is not None:
            for kept in results_of(found, dataset, split):
                print(write_results(results, kept))
    except DataError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


if __name__ == "__main__":
    typer.run(main)
