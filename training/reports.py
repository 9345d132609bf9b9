"""What an evaluation says: figures of one group of pictures, as tables for people and JSON for machines."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table
from sklearn.metrics import f1_score, roc_auc_score

from training.data.writing import replaced
from training.metrics import ccc, pearson

Real = npt.NDArray[np.floating]
Ints = npt.NDArray[np.int64]


class GroupFigures(msgspec.Struct, frozen=True):
    """Figures of one group; None where a figure does not exist for the corpus or the group.

    recall: per class name. r, ccc: of the score with the label in [0, 1]. auc: the lowest level against the rest.
    """

    group: str
    pictures: int
    accuracy: float | None
    macro_f1: float | None
    recall: dict[str, float]
    r: float | None = None
    auc: float | None = None
    ccc: float | None = None


class Report(msgspec.Struct, frozen=True):
    """An evaluation: on what, of what, by which rule, and the figures of every group."""

    corpus: str
    split: str
    model: str
    backend: str
    protocol: str
    pictures: int
    without_face: int
    groups: tuple[GroupFigures, ...]


def classification(group: str, truth: Ints, answer: Ints, names: tuple[str, ...]) -> GroupFigures:
    """Accuracy, macro-F1 over the classes present, and recall per class."""
    recall = {name: float((answer[truth == i] == i).mean()) for i, name in enumerate(names) if (truth == i).any()}
    labels = [i for i in range(len(names)) if (truth == i).any()]
    f1 = float(f1_score(truth, answer, labels=labels, average="macro", zero_division=0))
    return GroupFigures(group, len(truth), float((truth == answer).mean()), f1, recall)


def engagement(group: str, score: Real, truth: Ints, answer: Ints, names: tuple[str, ...]) -> GroupFigures:
    """Classification figures, and those of the score itself against the label (0, 0.5, 1)."""
    return ordinal(group, score, truth / 2.0, truth, answer, names)


def ordinal(group: str, score: Real, label: Real, truth: Ints, answer: Ints, names: tuple[str, ...]) -> GroupFigures:
    """Classification figures of levels, and those of the score itself against the label on [0, 1]."""
    plain = classification(group, truth, answer, names)
    lowest = truth == 0
    both = 0 < lowest.sum() < len(lowest)
    return msgspec.structs.replace(
        plain,
        r=pearson(score, label),
        auc=float(roc_auc_score(lowest, -score)) if both else None,
        ccc=ccc(score, label),
    )


def show(report: Report) -> None:
    """Print the report as a table."""
    title = f"{report.corpus} {report.split} — {report.model} on {report.backend}"
    table = Table(title=title, caption=report.protocol, caption_justify="left")
    for column in ("group", "pictures", "accuracy", "macro-F1", "r", "AUC", "CCC", "recall per class"):
        table.add_column(column, justify="left" if column in ("group", "recall per class") else "right")
    for g in report.groups:
        recall = "  ".join(f"{name} {value:.2f}" for name, value in g.recall.items())
        figures = (g.accuracy, g.macro_f1, g.r, g.auc, g.ccc)
        table.add_row(g.group, str(g.pictures), *("" if v is None else f"{v:.4f}" for v in figures), recall)
    console = Console()
    console.print(table)
    console.print(f"pictures without a found face: {report.without_face} of {report.pictures}")


def write(report: Report, path: Path) -> None:
    """Write the report as JSON. Raises DataError if it cannot be written."""
    with replaced(path) as partial:
        partial.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
