"""A calibration as a picture: who is covered how often, and what the probabilities are worth."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")  # no window, whatever the machine has

from matplotlib import pyplot
from matplotlib.axes import Axes

from training.conformal import Nested
from training.data.writing import replaced
from training.temperature import F64, Target, equal_mass, probabilities, target_of, top

BLUE, RED, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#666666"
_COLOURS = {"constant": BLUE, "local": RED, "guaranteed": GREEN}


def draw(path: Path, found: Nested, rate: float, logits: F64, votes: F64, temperatures: Mapping[Target, float]) -> None:
    """Coverage per person beside reliability against each target, without and with its temperature. Raises DataError if
    it cannot be written."""
    figure, axes = pyplot.subplots(1, 1 + len(temperatures), figsize=(4.4 * (1 + len(temperatures)), 3.8))
    people(axes[0], found, rate)
    for axis, (target, warm) in zip(axes[1:], temperatures.items(), strict=True):
        reliability(axis, logits, target_of(votes, target), target, warm)
    figure.tight_layout()
    # Neither the day nor random names: the same figures are the same file.
    with replaced(path) as partial, matplotlib.rc_context({"svg.hashsalt": "calibration"}):
        figure.savefig(partial, dpi=110, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)


def people(axis: Axes, found: Nested, rate: float) -> None:
    """Share of every person's pictures that is covered, in the order of the constant interval."""
    subjects, error = found.answers.subjects, found.answers.error
    names = np.array(found.answers.names)
    rates = {
        method: np.array([(error <= width)[subjects == name].mean() for name in names])
        for method, width in found.half_width.items()
    }
    order = np.argsort(rates["constant"], kind="stable")
    for method, found_rates in rates.items():
        width = found.half_width[method].mean()
        axis.plot(found_rates[order], "o-", ms=4, lw=1, color=_COLOURS[method], label=f"{method}, ± {width:.2f}")
    axis.axhline(rate, color=GREY, ls=":", lw=1)
    axis.set_xticks(range(len(names)), [str(name) for name in names[order]], fontsize=7)
    axis.set(xlabel="subject", ylabel="share of pictures covered", title="People left out", ylim=(0, 1.03))
    axis.legend(fontsize=8, loc="lower right")


def reliability(axis: Axes, logits: F64, wanted: F64, target: Target, warm: float) -> None:
    """What the largest probability says against what is true, in bins of equal mass."""
    axis.plot([0, 1], [0, 1], color=GREY, ls=":", lw=1)
    for value, colour in ((1.0, RED), (warm, BLUE)):
        bins = equal_mass(*top(probabilities(logits, value), wanted))
        x, y = [each.confidence for each in bins], [each.truth for each in bins]
        axis.plot(x, y, "o-", ms=4, lw=1, color=colour, label=f"temperature {value:.2f}")
    names = {"votes": "share of the votes", "majority": "share where it is the majority"}
    axis.set(xlabel="largest probability", ylabel=names[target], title=f"Expressions against the {target}",
             xlim=(0, 1), ylim=(0, 1))  # fmt: skip
    axis.legend(fontsize=8, loc="lower right")
