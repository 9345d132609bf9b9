"""A picture of a timed head: one person's label and answers over time, and what each concept contributed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt

matplotlib.use("Agg")  # no window, whatever the machine has

from matplotlib import pyplot
from matplotlib.axes import Axes

F64 = npt.NDArray[np.float64]
_COLOURS = ("#0072b2", "#d55e00", "#009e73")
"""Of Okabe and Ito, which people tell apart however they see colours."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Standard deviations of what concepts truly contributed, and of what was found, the largest first."""

    names: tuple[str, ...]
    true: tuple[float, ...]
    found: tuple[float, ...]


def draw(
    path: Path, title: str, label: F64, answers: Mapping[str, F64], rate_hz: float, sizes: Sizes | None, shown: int = 14
) -> None:
    """label and answers [T] of one person. sizes: None where nobody knows the truth; the first `shown` are drawn."""
    widths = [8.0] if sizes is None else [8.0, 4.0]
    figure, axes = pyplot.subplots(1, len(widths), figsize=(sum(widths), 4.2), width_ratios=widths, squeeze=False)
    series, seconds = axes[0, 0], np.arange(len(label)) / rate_hz
    series.plot(seconds, label, color="0.25", linewidth=2.2, label="label")
    for (name, answer), colour in zip(answers.items(), _COLOURS, strict=False):
        series.plot(seconds, answer, color=colour, linewidth=1.2, label=name)
    series.set(xlabel="seconds", ylabel="engagement", title=title, ylim=(0, 1))
    series.legend(loc="lower left", ncols=4, frameon=False)
    if sizes is not None:
        _bars(axes[0, 1], sizes, shown)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _bars(axis: Axes, sizes: Sizes, shown: int) -> None:
    names: Sequence[str] = sizes.names[:shown]
    place = np.arange(len(names))
    axis.barh(place - 0.2, sizes.true[:shown], 0.38, color="0.25", label="true")
    axis.barh(place + 0.2, sizes.found[:shown], 0.38, color=_COLOURS[2], label="found")
    axis.set_yticks(place, names)
    axis.invert_yaxis()
    axis.set(xlabel="standard deviation", title="contributions")
    axis.legend(frameon=False, loc="lower right")
