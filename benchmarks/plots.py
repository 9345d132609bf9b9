"""Pictures of the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")  # no window, whatever the machine has

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from benchmarks.figures import STAGES, Quantiles, Sample
from benchmarks.live_figures import Curve
from benchmarks.matrix import Row

WIDTH_IN, HEIGHT_IN, DPI = 5.2, 3.6, 120
_BINS = 60


def live(path: Path, title: str, frames: Sequence[Sample], curves: Sequence[Curve], matrix: Sequence[Row] = ()) -> None:
    """Ages, stages and, where they were measured, the sizes, rates and loads, and memory, side by side."""
    figure, axes = _row(title, 2 + bool(matrix) + bool(curves))
    _ages(axes[0], np.array([each.age_ms for each in frames]))
    _stages(axes[1], np.array([each.stages_ms for each in frames]))
    if matrix:
        _matrix(axes[2], matrix)
    if curves:
        _memory(axes[-1], curves)
    _save(figure, path)


def engine(path: Path, title: str, medians_ms: Mapping[str, Mapping[int, float]]) -> None:
    """Median time per call of each candidate over the number of faces in it."""
    figure, axes = _row(title, 1)
    for name, by_batch in medians_ms.items():
        axes[0].plot(list(by_batch), list(by_batch.values()), marker="o", label=name)
    axes[0].set(xscale="log", yscale="log", xlabel="faces in a call", ylabel="median time of a call, ms")
    axes[0].yaxis.set_major_formatter("{x:g}")
    axes[0].yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    axes[0].yaxis.set_minor_formatter("{x:g}")
    batches = sorted({batch for by_batch in medians_ms.values() for batch in by_batch})
    axes[0].set_xticks(batches, labels=[str(batch) for batch in batches])
    axes[0].xaxis.minorticks_off()
    axes[0].tick_params(axis="y", which="minor", labelsize=7)
    axes[0].legend(fontsize=8)
    _save(figure, path)


def peers(path: Path, title: str, times_ms: Mapping[str, Quantiles]) -> None:
    """The first way on top: a bar as long as its median, and a line to its 95th percentile."""
    figure, axes = _row(title, 1)
    names, own = list(times_ms)[::-1], list(times_ms.values())[::-1]
    places = np.arange(len(names))
    axes[0].barh(places, [each.p50 for each in own], color="#7aa6c2")
    axes[0].hlines(places, [each.p50 for each in own], [each.p95 for each in own], color="#b04a3a")
    for place, each in zip(places, own, strict=True):
        axes[0].annotate(f"{each.p50:.1f}", (each.p95, place), (4, 0), textcoords="offset points", va="center")
    axes[0].set_yticks(places, labels=names, fontsize=7)
    axes[0].set(xlabel="ms a frame: median, and a line to p95", xlim=(0, 1.15 * max(each.p95 for each in own)))
    _save(figure, path)


def _row(title: str, count: int) -> tuple[Figure, list[Axes]]:
    figure, axes = pyplot.subplots(1, count, figsize=(WIDTH_IN * count, HEIGHT_IN), squeeze=False)
    figure.suptitle(title, fontsize=9)
    for each in axes[0]:
        each.grid(alpha=0.3)
    return figure, list(axes[0])


def _ages(axes: Axes, ages_ms: np.ndarray) -> None:
    """A histogram, and the share of results that are at most so old."""
    axes.hist(ages_ms, bins=_BINS, color="#7aa6c2")
    axes.set(xlabel="age of results, ms", ylabel="frames", title="Age in real time")
    share = axes.twinx()
    share.plot(np.sort(ages_ms), np.arange(1, len(ages_ms) + 1) / len(ages_ms), color="#b04a3a")
    share.set(ylim=(0, 1.02), ylabel="share of frames at most this old")
    for percent, line in ((50, "--"), (99, ":")):
        value = float(np.percentile(ages_ms, percent))
        axes.axvline(value, color="#555555", linestyle=line, linewidth=1, label=f"p{percent}: {value:.1f} ms")
    axes.legend(fontsize=8, loc="center right")


def _stages(axes: Axes, stages_ms: np.ndarray) -> None:
    """Median and 95th percentile of each stage."""
    places = np.arange(len(STAGES))
    axes.bar(places, np.median(stages_ms, axis=0), color="#7aa6c2", label="median")
    axes.plot(places, np.percentile(stages_ms, 95, axis=0), "_", markersize=18, color="#b04a3a", label="p95")
    axes.set_xticks(places, labels=list(STAGES), fontsize=8)
    axes.set(ylabel="ms", title="Stages in real time")
    axes.legend(fontsize=8)


def _matrix(axes: Axes, rows: Sequence[Row]) -> None:
    """The first row on top: a line from the median to the 99th percentile of its ages, and its frame period."""
    for place, row in enumerate(reversed(rows)):
        if row.age_ms is not None and row.period_ms is not None:
            colour = "#7aa6c2" if row.load == 1 else "#b04a3a"
            axes.plot([row.age_ms.p50, row.age_ms.p95, row.age_ms.p99], [place] * 3, marker="|", color=colour)
            axes.plot(row.period_ms, place, marker=".", color="#555555", linestyle="")
    axes.set_yticks(range(len(rows)), labels=[row.name for row in reversed(rows)], fontsize=7)
    axes.set(xlabel="ms; a dot: from frame to frame", title="Age: p50, p95, p99", xlim=(0, None))


def _memory(axes: Axes, curves: Sequence[Curve]) -> None:
    """Change since the first minute, so that workers of different size share one scale."""
    for curve in curves:
        start = next((mb for s, mb in zip(curve.times_s, curve.rss_mb, strict=True) if s >= 60.0), curve.rss_mb[0])
        minutes = [s / 60.0 for s in curve.times_s]
        axes.plot(minutes, [mb - start for mb in curve.rss_mb], label=f"{curve.worker} ({start:.0f} MB)", linewidth=1)
    axes.set(xlabel="minutes", ylabel="RSS since the first minute, MB", title="Memory")
    axes.legend(fontsize=8)


def _save(figure: Figure, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=DPI)
    pyplot.close(figure)
