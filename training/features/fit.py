"""Columns to task: logistic or ridge regression and boosted trees, and how well they do.

Concept columns, as a teacher or another program gives them: what a network has to beat. Expressions are classified
(most votes), engagement is regressed; where its labels are a few levels, the nearest level is the answer. A column that
is not known for a row is told as such, by a second column.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
from rich.progress import track
from sklearn.base import BaseEstimator
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from training.data.features import read_csv
from training.data.pictures import DataError
from training.data.samples import Samples
from training.data.samples import load as load_samples
from training.data.splits import check_disjoint, check_filled
from training.features.experiment import Columns, Method, Task
from training.metrics import ccc, pearson
from training.teachers import labels as teacher_labels

F64 = npt.NDArray[np.float64]
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


def joined(activations: npt.NDArray[np.floating], weights: npt.NDArray[np.floating]) -> F64:
    """[N, 2 K]: activations, 0 where unknown, and whether each is known."""
    known = weights > 0
    return np.concatenate([np.where(known, activations, 0.0), known], axis=1).astype(np.float64)


def labelled(samples: Samples, task: Task, where: str) -> tuple[F64, F64, npt.NDArray[np.int64]]:
    """Columns, target and subject of the rows that have a label and a concept. Raises DataError if none has."""
    has = ~np.isnan(samples.votes).any(1) if task == "expression" else ~np.isnan(samples.score)
    rows = np.flatnonzero(has & (samples.weights > 0).any(axis=1))
    if not len(rows):
        raise DataError(f"{where}: no row has both concepts and a label for {task}; give teacher or csv")
    chosen = samples.take(rows)
    target = chosen.votes.argmax(1) if task == "expression" else chosen.score
    return joined(chosen.concepts, chosen.weights), target.astype(np.float64), chosen.subjects


def fitted(task: Task, method: Method, x: F64, y: F64, seed: int) -> BaseEstimator:
    """The method's estimator. Raises DataError if there is only one class."""
    if len(np.unique(y)) < 2:
        raise DataError(f"{task}: all training rows have the same label")
    return MODELS[task, method](seed).fit(x, y)


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
    x, y, who = labelled(train, task, "train")
    other_x, other_y, others = labelled(valid, task, "valid")
    protocol = "the validation file"
    if not shared:
        check_disjoint({"train": who, "valid": others})
    elif both := len(np.intersect1d(who[who >= 0], others)):
        protocol += f", {both} of whose people are in the training file as well"
    answer = np.asarray(fitted(task, method, x, y, seed).predict(other_x), np.float64)
    return figures(task, method, answer, other_y, protocol, np.unique(y))


def unseen(task: Task, method: Method, samples: Samples, seed: int) -> FeatureFigures:
    """Each subject answered without it. Raises DataError if there are fewer than two known subjects."""
    x, y, who = labelled(samples, task, "train")
    names = np.unique(who)
    if len(names) < 2 or names[0] < 0:
        raise DataError("train does not say who is on every picture; give valid")
    answer = np.zeros(len(y))
    for name in track(names, description=f"{task}, {method}: subjects left out"):
        out = who == name
        answer[out] = fitted(task, method, x[~out], y[~out], seed).predict(x[out])
    return figures(task, method, answer, y, "leave one subject out", np.unique(y))


def read(columns: Columns, scale_from: str) -> Samples:
    """A prepared file with the concept labels of a teacher file or of another program's table laid over it.
    scale_from: the teacher file that scales every teacher's."""
    samples = load_samples(Path(columns.file))
    if columns.teacher:
        scale = teacher_labels.scale_of(teacher_labels.read(Path(scale_from or columns.teacher)))
        labels = teacher_labels.apply(teacher_labels.read(Path(columns.teacher)), scale)
        activations, weights = labels.activations, (labels.weights > 0).astype(np.float32)
    elif columns.csv:
        table = read_csv(Path(columns.csv))
        activations, weights = table.activations, table.weights
    else:
        activations, weights = samples.concepts, samples.weights
    if len(activations) != len(samples):
        source = columns.teacher or columns.csv
        raise DataError(f"{source} has {len(activations)} rows, {columns.file} has {len(samples)} crops")
    check_filled("train or valid", len(samples), columns.file)
    return replace(samples, concepts=activations, weights=weights)
