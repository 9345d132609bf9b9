"""Fit, measure and export a feature-based system: `python -m training.features EXPERIMENT.toml`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from training.data.corpus import pick
from training.data.datasets import DATASETS
from training.data.pictures import DataError
from training.features import export as exporter
from training.features.experiment import FeatureExperiment, load
from training.features.fit import FeatureFigures, fitted, labelled, on_valid, read, unseen
from training.results import Result, write_results

METRICS = ("accuracy", "macro_f1", "r", "ccc", "auc")


def results_of(experiment: FeatureExperiment, figures: FeatureFigures, command: str) -> tuple[Result, ...]:
    """The figures as training.reproduce reads them. Raises DataError for an unknown data set."""
    dataset, split = experiment.dataset, experiment.split
    if dataset not in DATASETS:
        raise DataError(f"--results needs dataset in the experiment, one of {', '.join(DATASETS)}")
    pick(split, DATASETS[dataset].splits, DATASETS[dataset].title)
    system = f"features-{experiment.method}"
    return tuple(
        Result(dataset, split, system, 0, metric, value, figures.pictures, experiment.name, command)
        for metric in METRICS if (value := getattr(figures, metric)) is not None and np.isfinite(value)
    )  # fmt: skip


def show(figures: FeatureFigures) -> None:
    """Print the figures as a table."""
    table = Table(title="features -> task")
    for column in ("task", "method", "protocol", "pictures", *METRICS):
        table.add_column(column)
    values = (getattr(figures, name) for name in METRICS)
    cells = ("" if value is None else f"{value:.4f}" for value in values)
    table.add_row(figures.task, figures.method, figures.protocol, str(figures.pictures), *cells)
    Console().print(table)


def run(experiment: FeatureExperiment, folder: Path) -> FeatureFigures:
    """Measure; then fit on all training rows and, where the method is linear, write it to `folder`."""
    task, method, seed = experiment.task, experiment.method, experiment.seed
    train = read(experiment.train, experiment.train.teacher)
    if experiment.valid is None:
        figures = unseen(task, method, train, seed)
    else:
        valid = read(experiment.valid, experiment.train.teacher)
        figures = on_valid(task, method, train, valid, seed, shared=experiment.shared_people)
    show(figures)
    if method == "linear":
        x, y, _ = labelled(train, task, "train")
        model = fitted(task, method, x, y, seed)
        print(f"wrote {exporter.export(folder, experiment.name, task, model, x, figures)}")
    else:
        print("boosted trees are measured and not exported: their answer is no sum of contributions")
    return figures


def main(
    experiment: Annotated[Path, typer.Argument(help="for example training/configs/system-features-linear.toml")],
    out: Annotated[Path | None, typer.Option(help="folder to export to; default models/NAME")] = None,
    results: Annotated[Path | None, typer.Option(help="folder to keep the figures in for training.reproduce")] = None,
) -> None:
    """Logistic or ridge regression or boosted trees on AU, pose and gaze columns: fitted, measured, exported."""
    try:
        loaded = load(experiment)
        figures = run(loaded, out or Path("models") / loaded.name)
        if results is not None:
            command = shlex.join(["python", "-m", "training.features", *sys.argv[1:]])
            print(write_results(results, results_of(loaded, figures, command)))
    except DataError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


if __name__ == "__main__":
    typer.run(main)
