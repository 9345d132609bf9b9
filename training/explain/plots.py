"""Pictures of the report. Colours are those of Okabe and Ito, which people tell apart however they see colours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")  # no window, whatever the machine has

from matplotlib import pyplot
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.explain.deletion import Curve
from training.explain.fairness import GroupRow
from training.explain.intervals import Estimate
from training.explain.interventions import Intervention
from training.explain.occlusion import Hiding
from training.explain.pointing import Pointing
from training.explain.quality import Quality
from training.explain.sums import LIMIT, SumFigures

BLUE, RED, GREEN, PINK, ORANGE, SKY, GREY = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#666666"
)  # fmt: skip
DPI = 110
_ORDERS = {"contribution": (BLUE, "-"), "SHAP": (PINK, "-"), "activation": (ORANGE, "--"), "random": (GREY, ":"),
           "uncertainty": (GREEN, "--"), "switching off": (GREEN, "-")}  # fmt: skip
_ORDER_NAMES = {"random": "random order", "switching off": "by the effect of switching off"}
_MAPS = {"own": BLUE, "region": GREEN, "other": ORANGE, "shuffled": GREY}
MAP_NAMES = {
    "own": "its own map", "region": "landmark-only map", "other": "another concept's map", "shuffled": "shuffled cells",
    "own grey": "its own map, grey", "region grey": "landmark-only map, grey",
}  # fmt: skip


def sums(path: Path, found: Sequence[SumFigures]) -> None:
    """Largest differences by backend, on a logarithmic axis, with the limit."""
    ran = [each for each in found if not each.absent]
    figure, (axes,) = _row(1, 7.0, 1.2 + 0.5 * len(ran))
    places = np.arange(len(ran))
    # What is exactly zero has no place on a logarithmic axis: it is drawn at its left end.
    for shift, values, colour, marker, label in (
        (-0.12, [each.published_max for each in ran], BLUE, "o", "published score"),
        (0.12, [each.network_max for each in ran], RED, "s", "the network's own addition"),
    ):
        axes.plot(np.maximum(values, 1e-17), places + shift, marker, color=colour, label=label)
    axes.axvline(LIMIT, color=GREY, linestyle="--", label=f"limit {LIMIT:.0e}")
    axes.set(xscale="log", xlim=(5e-18, 1), xlabel="largest difference from base + sum of contributions, score units")
    axes.set_yticks(places, [each.backend for each in ran])
    axes.set_ylim(len(ran) - 0.5, -0.5)
    _legend(axes)
    _save(figure, path)


def deletion(path: Path, curves: Sequence[Curve]) -> None:
    """A row for each head: deletion to the mean, insertion from it, deletion to the inactive concept, answers kept."""
    heads = list(dict.fromkeys(curve.head for curve in curves))
    figure, grid = pyplot.subplots(len(heads), 3, figsize=(12.0, 3.2 * len(heads)), squeeze=False)
    panels = (("mean", "deletion"), ("mean", "insertion"), ("inactive", "deletion"))
    for row, head in zip(grid, heads, strict=True):
        for axes, (reference, test) in zip(row, panels, strict=True):
            for curve in curves:
                if (curve.head, curve.reference, curve.test) == (head, reference, test):
                    _curve(axes, curve)
            word, done = ("left of", "deleted") if test == "deletion" else ("back of", "inserted")
            to = {"mean": "concepts at their mean", "inactive": "concepts made inactive"}[reference]
            axes.set_title(f"{head}: {test}, {to}", fontsize=9)
            axes.set(xlabel=f"concepts {done}", ylabel=f"share {word} the answer")
            axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
            axes.grid(alpha=0.3)
    _legend_of(figure, grid.ravel().tolist())
    _save(figure, path)


def _curve(axes: Axes, curve: Curve) -> None:
    colour, _ = _ORDERS[curve.order]
    own = curve.system == "AGCM"
    name = f"{curve.system}, {_ORDER_NAMES.get(curve.order, f'by {curve.order}')}"
    axes.plot(curve.values, color=colour, linestyle="-" if own else "--", linewidth=2 if own else 1.3, label=name)


def interventions(path: Path, found: Sequence[Intervention]) -> None:
    """A panel for each head; truth is drawn through, its contrary dashed."""
    heads = list(dict.fromkeys(each.head for each in found))
    figure, panels = _row(len(heads), 5.0, 3.6)
    for axes, head in zip(panels, heads, strict=True):
        for each in found:
            if each.head == head:
                line = "-" if each.told == "truth" else "--"
                axes.plot(each.values, color=_ORDERS[each.order][0], linestyle=line, label=f"{each.told}, {each.order}")
                axes.set_ylabel({"accuracy": "accuracy", "error": "mean |score − label|"}[each.figure])
        axes.set(title=head, xlabel="concepts set")
    _legend(panels[-1])
    _save(figure, path)


def maps(path: Path, hidden: Sequence[Hiding], pointed: Sequence[Pointing], names: Sequence[str]) -> None:
    """Left: fall of a concept's activation when cells are hidden. Right: peaks on the moved skin. The first model."""
    model = hidden[0].model
    figure, panels = _row(2 if pointed else 1, 5.4, 6.4)
    # No row for all concepts together: each way of hiding has cases of its own (head pose has no landmark region).
    rows = [name for name in names if any(each.concept == name and each.model == model for each in hidden)]
    for kind, colour in _MAPS.items():
        found = {each.concept: each.fall for each in hidden if each.map == kind and each.model == model}
        _dots(panels[0], rows, found, (colour, "o" if kind == "own" else "x", MAP_NAMES[kind]))
    panels[0].set(xlabel="fall of the activation (0–1) when the top 20 % of cells are hidden", title="hidden cells")
    panels[0].axvline(0, color=GREY, linewidth=0.8)
    if pointed:
        shown = {each.concept: each for each in pointed if each.model == model}
        order = [name for name in ("all", *names) if name in shown]
        _dots(panels[1], order, {name: shown[name].hit for name in order}, (BLUE, "o", "peak of its own map"))
        places = range(len(order))
        panels[1].plot([shown[n].region for n in order], places, "x", color=GREEN, label="peak of the landmark region")
        panels[1].plot([shown[n].chance for n in order], places, "|", color=GREY, label="anywhere in the crop")
        panels[1].set(xlabel="share of renders with the place on the moved skin", xlim=(-0.02, 1.02), title="pointing")
    _legend_of(figure, panels)
    _save(figure, path)


def quality(path: Path, found: Sequence[Quality], names: Sequence[str]) -> None:
    """AUC of each concept against each truth."""
    figure, (axes,) = _row(1, 7.0, 6.4)
    for truth, colour, marker in zip(
        dict.fromkeys(each.truth for each in found), (BLUE, RED, GREEN), "osd", strict=False
    ):
        rated = {each.concept: each.auc for each in found if each.truth == truth and each.auc is not None}
        _dots(axes, list(names), rated, (colour, marker, f"against {truth}"))
    axes.axvline(0.5, color=GREY, linestyle="--", label="chance")
    axes.set(xlabel="AUC of the activation (bars: 95 % interval)")
    _legend(axes)
    _save(figure, path)


def fairness(path: Path, found: Sequence[GroupRow]) -> None:
    """A row for each corpus, a panel for each factor; the grey line is the figure over all pictures."""
    corpora = list(dict.fromkeys(row.corpus for row in found))
    count = Counter((row.corpus, row.factor) for row in found)
    factors = [name for name in dict.fromkeys(row.factor for row in found) if any(count[c, name] > 1 for c in corpora)]
    figure, grid = pyplot.subplots(
        len(corpora), len(factors), figsize=(2.3 * len(factors) + 1, 3.4 * len(corpora)), squeeze=False, sharey="row"
    )
    for line, corpus in zip(grid, corpora, strict=True):
        rows = [row for row in found if row.corpus == corpus]
        overall = next(row for row in rows if row.factor == "all")
        for axes, factor in zip(line, factors, strict=True):
            groups = [row for row in rows if row.factor == factor]
            if len(groups) < 2:
                axes.set_visible(False)
                continue
            values = np.array([row.value.value for row in groups])
            low, high = (np.array([getattr(row.value, side) for row in groups]) for side in ("low", "high"))
            places = np.arange(len(groups))
            axes.errorbar(places, values, [np.maximum(values - low, 0), np.maximum(high - values, 0)],
                          fmt="o", color=BLUE, capsize=2)  # fmt: skip
            axes.axhline(overall.value.value, color=GREY, linestyle="--", linewidth=1)
            labels = [f"{row.group} (n {row.pictures})" for row in groups]
            axes.set_xticks(places, labels, rotation=90, fontsize=7)
            axes.set_xlim(-0.6, len(groups) - 0.4)
            axes.set_title(factor.replace(", ", ",\n"), fontsize=8)
            axes.grid(alpha=0.3, axis="y")
        word = "accuracy" if overall.figure == "accuracy" else "mean |score − label|"
        next(axes for axes in line if axes.get_visible()).set_ylabel(f"{corpus}\n{word}")
    _save(figure, path)


def _dots(axes: Axes, rows: Sequence[str], found: Mapping[str, Estimate], style: tuple[str, str, str]) -> None:
    """Estimates with their intervals, one row a name, the first at the top."""
    colour, marker, label = style
    places = [i for i, name in enumerate(rows) if name in found]
    each = [found[rows[i]] for i in places]
    values = np.array([e.value for e in each])
    spread = [np.maximum(values - [e.low for e in each], 0), np.maximum([e.high for e in each] - values, 0)]
    axes.errorbar(values, places, xerr=spread, fmt=marker, color=colour, label=label, markersize=4, linewidth=0.8)
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    axes.set_ylim(len(rows) - 0.5, -0.5)


def _row(count: int, width_in: float, height_in: float) -> tuple[Figure, list[Axes]]:
    figure, axes = pyplot.subplots(1, count, figsize=(width_in * count, height_in), squeeze=False)
    for each in axes[0]:
        each.grid(alpha=0.3)
    return figure, list(axes[0])


def _legend(axes: Axes) -> None:
    """To the right of the curves, never over them."""
    axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), fontsize=8, frameon=False)


def _legend_of(figure: Figure, panels: Sequence[Axes]) -> None:
    """One legend for all panels, below them."""
    entries: dict[str, Artist] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    figure.legend(list(entries.values()), list(entries), loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=4,
                  fontsize=8, frameon=False)  # fmt: skip


def _save(figure: Figure, path: Path) -> None:
    figure.tight_layout()
    # Without its software entry the file is the same wherever it is drawn.
    figure.savefig(path, dpi=DPI, bbox_inches="tight", metadata={"Software": None})
    pyplot.close(figure)
