"""The study's Table 1 and its figure of embedding sizes: `python -m training.reproduce --data FOLDER`.

Published numbers stand beside what was measured here, marked as published. Measured ones come from the files that
`training.evaluate --results` and `training.features --results` wrote and from nowhere else: a data set that is not
under FOLDER is "not available", one that is there and on which nothing was measured is "not run".
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import matplotlib
import typer
from rich.console import Console
from rich.table import Table

matplotlib.use("Agg")  # no window, whatever the machine has

from matplotlib import pyplot

from training.data.corpus import need_folder
from training.data.datasets import DATASETS, found_in
from training.data.pictures import DataError
from training.published import EMBEDDING_ENGAGEMENT, EMBEDDING_EXPRESSION, OTHERS, TABLE_1, Table1
from training.results import Result, read_results

ABSENT, NOT_RUN = "not available", "not run"
_METRICS = {"accuracy": "accuracy", "macro_f1": "macro-F1", "ccc": "CCC"}
_SIZES = (4, 8, 16, 32, 64)


@dataclass(frozen=True, slots=True)
class Line:
    """A row of the table, as text."""

    dataset: str
    split: str
    modality: str
    metric: str
    end_to_end: str
    by_step: str
    others: str
    measured: tuple[str, ...]


def lines(folder: Path, results: Sequence[Result], systems: Sequence[str]) -> list[Line]:
    """A row for every data set, modality and split: the split that published figures are of, and any other that
    something was measured on. measured: one text for each of `systems`, or a single one if there is none."""
    made = []
    for name, row in DATASETS.items():
        there = found_in(folder, name) is not None
        published: list[Table1 | None] = [each for each in TABLE_1 if each.dataset == name]
        made += [_line(name, row.measured, each, there, results, systems) for each in published or [None]]
        more = sorted({each.split for each in results if each.dataset == name} - {row.measured}) if there else []
        made += [_line(name, split, None, there, results, systems) for split in more]
    return made


def _line(
    name: str, split: str, published: Table1 | None, there: bool, results: Sequence[Result], systems: Sequence[str]
) -> Line:
    """A row. The models here see only, so what hears as well (V+A) is not run."""
    row = DATASETS[name]
    modality = "V" if published is None else published.modality
    others = [each for each in OTHERS if (each.dataset, each.split) == (name, split) and modality == "V"]
    texts = []
    for system in systems or ("",):
        fitting = [
            each for each in results
            if (each.dataset, each.system, each.metric, each.split) == (name, system, row.metric, split)
        ]  # fmt: skip
        fitting.sort(key=lambda each: each.embedding)
        ran = there and modality == "V" and bool(fitting)
        texts.append("; ".join(map(_figure, fitting)) if ran else NOT_RUN if there else ABSENT)
    return Line(
        row.title, split, modality, _METRICS[row.metric],
        f"{published.end_to_end:.2f}" if published else "", f"{published.by_step:.2f}" if published else "",
        "; ".join(f"{each.value:.2f} {each.who}" for each in others), tuple(texts),
    )  # fmt: skip


def _figure(each: Result) -> str:
    size = f" (m={each.embedding})" if each.embedding else ""
    return f"{100 * each.value:.2f}{size}"


HEADS = ("data set", "split", "input", "metric, %", "AGCM, published", "by-step, published")


def _heads(systems: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"here: {system}" for system in systems or ("any system",))


def markdown(made: Sequence[Line], systems: Sequence[str]) -> str:
    """The table for a file."""
    heads = (*HEADS, "others, published", *_heads(systems))
    rows = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    rows += ["| " + " | ".join((*_fixed(line), line.others, *line.measured)) + " |" for line in made]
    return "\n".join(rows) + "\n"


def _fixed(line: Line) -> tuple[str, ...]:
    return line.dataset, line.split, line.modality, line.metric, line.end_to_end, line.by_step


Curves = dict[tuple[str, str, str], list[tuple[int, float]]]
"""(data set, split, system) -> embedding sizes and figures in percent."""


def sweep(results: Sequence[Result], folder: Path) -> Curves:
    """Where at least two sizes were measured, by the table's metric, on data that are there."""
    curves: Curves = {}
    for each in results:
        row = DATASETS.get(each.dataset)
        if row is None or found_in(folder, each.dataset) is None or each.embedding == 0 or each.metric != row.metric:
            continue
        curves.setdefault((each.dataset, each.split, each.system), []).append((each.embedding, 100 * each.value))
    return {key: sorted(points) for key, points in curves.items() if len(points) > 1}


def plot(curves: Curves, path: Path) -> None:
    """Figure over embedding size, a curve a data set, split and system; dotted lines where the study settled."""
    figure, axes = pyplot.subplots(figsize=(6.4, 4.0))
    for number, ((name, split, system), points) in enumerate(curves.items()):
        metric = _METRICS[DATASETS[name].metric]
        # Colours 0, 1, 2 .. of this map differ for colour-blind readers as well; so do the markers.
        axes.plot(*zip(*points, strict=True), marker="osD^v"[number % 5], color=f"C{number}",
                  label=f"{DATASETS[name].title} {split}, {metric}, {system}")  # fmt: skip
    for size, what in ((EMBEDDING_EXPRESSION, "expressions"), (EMBEDDING_ENGAGEMENT, "engagement")):
        axes.axvline(size, color="#777777", linestyle=":", linewidth=1)
        axes.annotate(f"study:\n{what}", (size, 1), xycoords=("data", "axes fraction"), xytext=(0, 3),
                      textcoords="offset points", ha="center", fontsize=7, color="#555555")  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_xticks(_SIZES, labels=[str(size) for size in _SIZES])
    axes.set(xlabel="embedding size m of a concept", ylabel="figure, %")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.16))
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, bbox_inches="tight")
    pyplot.close(figure)


def show(made: Sequence[Line], systems: Sequence[str]) -> None:
    """The table for a terminal; what others published is in the file."""
    table = Table(title="Table 1 of the study: published, and measured here")
    for head in (*HEADS, *_heads(systems)):
        table.add_column(head, overflow="fold")
    for line in made:
        table.add_row(*_fixed(line), *line.measured)
    Console().print(table)


def main(
    data: Annotated[Path, typer.Option(help="folder of data sets: FOLDER/rafdb, FOLDER/noxi and so on, see "
                                            "docs/datasets.md")],
    results: Annotated[Path, typer.Option(help="figures that evaluate and features kept")] = Path("runs/results"),
    out: Annotated[Path, typer.Option(help="folder for table1.md and embedding.png")] = Path("runs/reproduce"),
) -> None:  # fmt: skip
    """Print the study's Table 1 with a row for every data set, and plot figures over embedding sizes."""
    try:
        need_folder(data, "--data")
        found = read_results(results)
        systems = sorted({each.system for each in found})
        made = lines(data, found, systems)
        show(made, systems)
        out.mkdir(parents=True, exist_ok=True)
        (out / "table1.md").write_text(markdown(made, systems), encoding="utf-8")
        print(f"wrote {out / 'table1.md'}")
        curves = sweep(found, data)
        if curves:
            plot(curves, out / "embedding.png")
            print(f"wrote {out / 'embedding.png'}")
        else:
            print("embedding sizes: not run (needs results of one system at two sizes or more)")
    except (DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from error


if __name__ == "__main__":
    typer.run(main)
