"""What a calibration says: how often intervals cover whom, and how far probabilities are off."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from training.conformal import Answers, Method, person_weights, quantiles
from training.data.writing import replaced

F64 = npt.NDArray[np.float64]
Classes = dict[str, npt.NDArray[np.bool_]]
"""The rows of each class [N], by its name."""


class Coverage(msgspec.Struct, frozen=True):
    """How one kind of interval did on people who were left out of everything it was made from.

    pictures: share of the pictures covered. people_mean, _median, _lowest: of the shares per person. by_label,
    by_answer: share per class of the label and per class that the model answered. half_width: mean over people, None
    if it is infinite. half_width_at_rate: the same if all widths were scaled to cover exactly at the wanted rate.
    """

    method: Method
    pictures: float
    people_mean: float
    people_median: float
    people_lowest: float
    by_label: dict[str, float]
    by_answer: dict[str, float]
    half_width: float | None
    half_width_at_rate: float | None


class IntervalReport(msgspec.Struct, frozen=True):
    """The intervals that were compared, and the one that was written. rate: wanted coverage."""

    corpus: str
    protocol: str
    rate: float
    pictures: int
    people: int
    methods: tuple[Coverage, ...]
    chosen: Method
    quantile: float


class TargetReport(msgspec.Struct, frozen=True):
    """Expression probabilities against one target, before and after a temperature.

    temperature: from all pictures, which is what is written. The figures after are cross-fitted: each half of the
    pictures is judged with the temperature of the other half. ece_mass, ece_width: bins of equal mass, of equal width.
    """

    target: Literal["votes", "majority"]
    temperature: float
    pictures: int
    ece_mass_before: float
    ece_mass_after: float
    ece_width_before: float
    ece_width_after: float
    cross_entropy_before: float
    cross_entropy_after: float


class CalibrationReport(msgspec.Struct, frozen=True):
    """All of it. calibrated_to: the target whose temperature was written."""

    model: str
    interval: IntervalReport
    expressions_corpus: str
    expressions: tuple[TargetReport, ...]
    calibrated_to: Literal["votes", "majority"]


def coverage(
    method: Method, rate: float, answers: Answers, half_width: F64, label: Classes, answer: Classes
) -> Coverage:
    """The figures of intervals of `half_width` [N] around N answers; classes without a picture are left out."""
    error, subjects = answers.error, answers.subjects
    covered = error <= half_width
    people = np.array([covered[subjects == name].mean() for name in np.unique(subjects)])
    weights = person_weights(subjects)
    finite = bool(np.isfinite(half_width).all())
    scale = quantiles(error / half_width, weights, np.array([rate]))[0] if finite else np.nan
    mean = float(weights @ half_width) if finite else None
    return Coverage(
        method=method,
        pictures=float(covered.mean()),
        people_mean=float(people.mean()),
        people_median=float(np.median(people)),
        people_lowest=float(people.min()),
        by_label={name: float(covered[rows].mean()) for name, rows in label.items() if rows.any()},
        by_answer={name: float(covered[rows].mean()) for name, rows in answer.items() if rows.any()},
        half_width=mean,
        half_width_at_rate=None if mean is None else float(mean * scale),
    )


def show(report: CalibrationReport) -> None:
    """Print the report as two tables."""
    console, interval = Console(), report.interval
    title = f"{report.model}: label within score ± half-width, wanted {interval.rate:.0%}"
    table = Table(title=title, caption=interval.protocol, caption_justify="left")
    for column in ("interval", "pictures", "people: mean", "median", "lowest", "half-width", "at the rate"):
        table.add_column(column, justify="left" if column == "interval" else "right")
    for each in interval.methods:
        rates = (each.pictures, each.people_mean, each.people_median, each.people_lowest)
        widths = (each.half_width, each.half_width_at_rate)
        table.add_row(each.method, *map(_percent, rates), *("none" if w is None else f"{w:.3f}" for w in widths))
    console.print(table)
    written = next(each for each in interval.methods if each.method == interval.chosen)
    console.print(f"{written.method} is written. Covered by class of the label: {_classes(written.by_label)}")
    console.print(f"by class that was answered: {_classes(written.by_answer)}")
    caption = "after: each half of the pictures with the temperature of the other half"
    table = Table(title=f"{report.model}: expressions, {report.expressions_corpus}", caption=caption)
    for column in ("target", "temperature", "ECE equal mass", "equal width", "cross-entropy"):
        table.add_column(column, justify="left" if column == "target" else "right")
    for target in report.expressions:
        name = f"{target.target} (written)" if target.target == report.calibrated_to else target.target
        table.add_row(
            name, f"{target.temperature:.3f}", _change(target.ece_mass_before, target.ece_mass_after),
            _change(target.ece_width_before, target.ece_width_after),
            _change(target.cross_entropy_before, target.cross_entropy_after),
        )  # fmt: skip
    console.print(table)


def write(report: CalibrationReport, path: Path) -> None:
    """Write the report as JSON. Raises DataError if it cannot be written."""
    with replaced(path) as partial:
        partial.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _classes(shares: dict[str, float]) -> str:
    return ", ".join(f"{name} {_percent(share)}" for name, share in shares.items())


def _change(before: float, after: float) -> str:
    return f"{before:.4f} -> {after:.4f}"
