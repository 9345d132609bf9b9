"""A smaller network's start from a larger one's weights: `python -m training.narrow LARGE.pt SMALL.toml --out FILE`.

Every tensor of the smaller network is the first rows and columns of the tensor of the same name: features of stride 16
come before those of stride 32, so that a network without the latter keeps all that was read off the former. What the
larger one does not have, the landmarks, begins anew. The answers change; training goes on from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from training.experiment import Experiment, ExperimentError
from training.experiment import load as load_experiment
from training.run import load_weights, write_atomically
from training.systems.table import build


def narrowed(experiment: Experiment, large: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the experiment's network. Raises ExperimentError if the larger one lacks or has less of a tensor."""
    torch.manual_seed(experiment.seed)
    own = build(experiment).state_dict()
    found = {}
    for name, value in own.items():
        if name.startswith("landmarks.") and name not in large:
            found[name] = value
            continue
        given = large.get(name)
        if (
            given is None
            or given.ndim != value.ndim
            or any(a < b for a, b in zip(given.shape, value.shape, strict=True))
        ):
            raise ExperimentError(f"{experiment.name}: the weights have no {name} of {list(value.shape)} or more")
        found[name] = given[tuple(slice(size) for size in value.shape)].clone()
    return found


def main(
    weights: Annotated[Path, typer.Argument(help="weights of the larger network, of a run or of training.restore")],
    experiment: Annotated[Path, typer.Argument(help="an experiment with the smaller network")],
    out: Annotated[Path, typer.Option(help="where the start is written, for the experiment's `init`")],
) -> None:
    """Begin a smaller network with what a larger one has learnt."""
    try:
        start = narrowed(load_experiment(experiment), load_weights(weights))
        write_atomically(out, start)
    except ExperimentError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    print(f"wrote {out}: {sum(value.numel() for value in start.values()) / 1e6:.2f} million numbers")


if __name__ == "__main__":
    typer.run(main)
