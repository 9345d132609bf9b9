"""The mean of two trained networks: `python -m training.average FIRST.pt SECOND.pt --share 0.75 --out WEIGHTS.pt`.

Where the second was trained on from the first, what lies between them often has most of what either is good at
(Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022). Statistics of batch norms are averaged as well.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from torch import Tensor

from training.experiment import ExperimentError
from training.run import load_weights, write_atomically


def average(first: dict[str, Tensor], second: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """(1 - share) first + share second; what is no real number is the second's. Raises ExperimentError if they are of
    different networks."""
    if differing := sorted(first.keys() ^ second.keys()) or [
        name for name in first if first[name].shape != second[name].shape
    ]:
        raise ExperimentError(f"the weights are of different networks: they differ in {differing[0]}")
    return {
        name: first[name].lerp(value, share) if value.dtype.is_floating_point else value
        for name, value in second.items()
    }


def main(
    first: Annotated[Path, typer.Argument(help="weights.pt of a run")],
    second: Annotated[Path, typer.Argument(help="weights.pt of a run that went on from the first")],
    out: Annotated[Path, typer.Option(help="weights to write")],
    share: Annotated[float, typer.Option(min=0.0, max=1.0, help="of the second")] = 0.5,
) -> None:
    """Average the weights of two networks of one experiment."""
    try:
        write_atomically(out, average(load_weights(first), load_weights(second), share))
    except ExperimentError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    typer.echo(f"wrote {out}: {1 - share:.0%} {first}, {share:.0%} {second}")


if __name__ == "__main__":
    typer.run(main)
