"""Figures that were measured, one small file a data set, split, system and embedding size; training.reproduce reads
them and nothing else."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from training.data.pictures import DataError
from training.data.writing import replaced
from training.reports import Report


class Result(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One figure. metric: accuracy, macro_f1, r, auc or ccc, all from 0 to 1 (r and ccc from -1). embedding: numbers a
    concept's embedding has, 0 where a system has none. model: identity of the measured file. command: what measured it.
    """

    dataset: str
    split: str
    system: str
    embedding: int
    metric: str
    value: float
    pictures: int
    model: str
    command: str


class Origin(msgspec.Struct, frozen=True):
    """What a report does not say of itself."""

    dataset: str
    system: str
    embedding: int
    command: str


def results_of(report: Report, origin: Origin) -> tuple[Result, ...]:
    """The figures of a report's first group, which holds every picture."""
    group = report.groups[0]
    figures = {
        "accuracy": group.accuracy, "macro_f1": group.macro_f1, "r": group.r, "auc": group.auc, "ccc": group.ccc
    }  # fmt: skip
    return tuple(
        Result(origin.dataset, report.split, origin.system, origin.embedding, metric, value, group.pictures,
               report.model, origin.command)
        for metric, value in figures.items() if value is not None and math.isfinite(value)
    )  # fmt: skip


def write_results(folder: Path, results: Sequence[Result]) -> Path:
    """One file; a later measurement of the same system on the same split replaces an earlier one. Raises DataError if
    there is nothing to write or it cannot be written."""
    if not results:
        raise DataError("this measurement gave no figure to keep")
    first = results[0]
    stem = "-".join((first.dataset, first.split, first.system, f"m{first.embedding}"))
    path = folder / f"{re.sub(r'[^A-Za-z0-9-]+', '_', stem)}.json"
    with replaced(path) as partial:
        partial.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")
    return path


def read_results(folder: Path) -> tuple[Result, ...]:
    """Every figure in a folder, in the order of the files' names; none if there is no such folder. Raises DataError
    naming a file that is something else."""
    found: list[Result] = []
    for path in sorted(folder.glob("*.json")):
        try:
            found += msgspec.json.decode(path.read_bytes(), type=tuple[Result, ...])
        except msgspec.MsgspecError as error:
            raise DataError(f"{path} is no file of results: {error}") from error
    return tuple(found)
