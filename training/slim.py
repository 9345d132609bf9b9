"""A slim network that answers what a wide one does: `python -m training.slim WIDE.toml WIDE.pt SLIM.toml CROPS.npz`.

It starts from the wide network's weights (training.agcm.slimming), learns to have the wide one's features at every
resolution, and then to give its answers (training.agcm.imitation), on crops that are varied as in any training. No
label is asked for, but for where the face lies in the crop, which the preparation knows and the wide network need not
say. What comes of it is a start for `training.train`, as any run's weights are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from training.agcm.face_resnet import Residual
from training.agcm.imitation import answers_loss, features_loss, watched
from training.agcm.losses import landmark_loss
from training.agcm.model import Agcm
from training.agcm.slimming import SlimError, slimmed
from training.data.pictures import DataError
from training.data.samples import Samples, join
from training.data.samples import load as load_samples
from training.experiment import Experiment, ExperimentError
from training.experiment import load as load_experiment
from training.export import tensors
from training.feed import make_batch, rate
from training.hardware import Hardware, Precision, launched
from training.memory import keep_freed_memory
from training.restore import settle
from training.run import load_weights, read_torch, write_atomically
from training.systems.table import agcm

_SEEN, _CHECKPOINT_STEPS, _PRINTED_STEPS = 1024, 200, 100
_FEATURES, _ANSWERS = "features", "answers"


@dataclass(frozen=True, slots=True)
class Plan:
    """Batches of either stage, their size, and the peak rate of each."""

    features: int
    answers: int
    batch: int = 64
    features_rate: float = 1e-3
    answers_rate: float = 6e-4

    def stages(self) -> Iterator[tuple[str, int, float]]:
        """Name, batches and peak rate of each stage, in order."""
        yield _FEATURES, self.features, self.features_rate
        yield _ANSWERS, self.answers, self.answers_rate


Loss = Callable[[Tensor, Tensor], Tensor]
"""Of crops [B, 1, S, S] and where their points lie [B, 5, 2]."""


def network(experiment: Experiment, weights: Path | None = None) -> Agcm:
    """The experiment's AGCM, filled from a file if one is given. Raises ExperimentError."""
    torch.manual_seed(experiment.seed)
    model = agcm(experiment)
    if weights is not None:
        try:
            model.load_state_dict(load_weights(weights))
        except RuntimeError as error:
            raise ExperimentError(f"{weights} are not weights of {experiment.name}") from error
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stub
    return model


def start(wide: Agcm, slim: Agcm, samples: Samples, side_px: int) -> None:
    """Fill the slim network from the wide one. Raises ExperimentError if it is no slimmer one of its kind."""
    rows = np.random.default_rng(0).permutation(len(samples))[:_SEEN]
    crops = torch.from_numpy(tensors(samples.take(rows), side_px))
    try:
        slimmed(wide, slim, crops)
    except (SlimError, RuntimeError) as error:
        raise ExperimentError(f"the one network is not a slimmer form of the other: {error}") from error
    settle(slim.eval(), crops[: _SEEN // 2])


def features(wide: Agcm, slim: Agcm) -> Loss:
    """The loss of the first stage: what each resolution and the backbone answer."""

    def loss(crops: Tensor, points: Tensor) -> Tensor:
        with torch.no_grad(), watched(_parts(wide)) as wanted:
            wide.backbone(crops)
        with watched(_parts(slim)) as own:
            slim.backbone(crops)
        return features_loss(own, wanted)

    return loss


def answers(wide: Agcm, slim: Agcm, landmarks: float) -> Loss:
    """The loss of the second stage: what the network answers, and still its features."""

    def loss(crops: Tensor, points: Tensor) -> Tensor:
        with torch.no_grad(), watched(_parts(wide)) as wanted:
            said = wide(crops)
        with watched(_parts(slim)) as own:
            out = slim(crops)
        total = answers_loss(out, said) + features_loss(own, wanted)
        return total if out.landmarks is None else total + landmarks * landmark_loss(out.landmarks, points)

    return loss


def _parts(model: Agcm) -> list[nn.Module]:
    """The last block of every resolution, and the backbone as a whole."""
    blocks = [module for module in model.backbone.modules() if isinstance(module, Residual)]
    last = [block for block, following in pairwise(blocks) if following.halves]
    return [*last, blocks[-1], model.backbone]


def learn(
    wide: Agcm, slim: Agcm, samples: Samples, experiment: Experiment, plan: Plan, folder: Path, precision: Precision
) -> None:
    """Both stages; goes on from FOLDER/checkpoint.pt where there is one. Raises ExperimentError."""
    fabric = launched(Hardware("cpu", precision=precision))
    wide.eval().requires_grad_(False)
    losses = {_FEATURES: features(wide, slim), _ANSWERS: answers(wide, slim, experiment.landmarks)}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    done = resumed(slim, folder / "checkpoint.pt")
    with Progress(*columns) as progress:
        for number, (name, count, peak) in enumerate(plan.stages()):
            if number < done.stage:
                continue
            optimizer = torch.optim.AdamW(slim.parameters(), weight_decay=experiment.weight_decay)
            if number == done.stage and done.optimizer:
                optimizer.load_state_dict(done.optimizer)
            begin = done.step if number == done.stage else 0
            bar = progress.add_task(name, total=count, completed=begin)
            for step in range(begin, count):
                for group in optimizer.param_groups:
                    group["lr"] = peak * rate(step, count)
                crops, points = batch(samples, experiment, plan.batch, (number, step))
                slim.train()
                torch.manual_seed(experiment.seed * 1_000_003 + number * 100_003 + step)  # of what is dropped
                with fabric.autocast():  # of one step: what it has cast it keeps to its end, weights included
                    loss = losses[name](crops, points)
                value = _step(slim, optimizer, loss)
                progress.update(bar, completed=step + 1, description=f"{name} {value:.4f}")
                if (step + 1) % _PRINTED_STEPS == 0 and not progress.console.is_terminal:
                    print(f"{name} {step + 1}/{count} {value:.4f}", flush=True)
                if (step + 1) % _CHECKPOINT_STEPS == 0:
                    save(folder, slim, optimizer, number, step + 1)
            save(folder, slim, None, number + 1, 0)


def _step(model: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor) -> float:
    """One step of the optimiser; the loss."""
    if not torch.isfinite(loss):
        raise ExperimentError("the loss is not finite; remove the checkpoint and lower the rate")
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()
    return float(loss.detach())


def batch(samples: Samples, experiment: Experiment, size: int, place: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Varied crops and where their points lie; the same for the same place in the run."""
    rng = np.random.default_rng((experiment.seed, *place))
    rows = rng.integers(0, len(samples), size)
    none = np.zeros(len(samples), np.float32)
    crops, targets = make_batch(samples, rows, experiment.crop_px, rng, none, experiment.augment)
    return crops, targets.points


@dataclass(frozen=True, slots=True)
class Done:
    """What an interrupted run has behind it: whole stages, steps of the next, and that one's optimiser."""

    stage: int = 0
    step: int = 0
    optimizer: dict[str, object] | None = None


def save(folder: Path, slim: Agcm, optimizer: torch.optim.Optimizer | None, stage: int, step: int) -> None:
    """The checkpoint and the weights, each atomically. Raises ExperimentError if the disk is full."""
    state = slim.state_dict()
    kept = {"model": state, "stage": stage, "step": step, "optimizer": optimizer.state_dict() if optimizer else None}
    write_atomically(folder / "checkpoint.pt", kept)
    write_atomically(folder / "weights.pt", state)


def resumed(slim: Agcm, checkpoint: Path) -> Done:
    """Fill the network from a checkpoint, if there is one. Raises ExperimentError if it is another network's."""
    if not checkpoint.is_file():
        return Done()
    state = read_torch(checkpoint, "model", "stage", "step", "optimizer")
    try:
        slim.load_state_dict(state["model"])
    except RuntimeError as error:
        raise ExperimentError(f"{checkpoint} belongs to another network; remove it or rename") from error
    return Done(state["stage"], state["step"], state["optimizer"])


def main(
    wide: Annotated[Path, typer.Argument(help="the experiment of the wide network")],
    weights: Annotated[Path, typer.Argument(help="its weights, of a run or of training.restore")],
    slim: Annotated[Path, typer.Argument(help="an experiment with a slimmer form of it")],
    crops: Annotated[list[Path], typer.Argument(help="prepared crops to learn from; no labels are used")],
    out: Annotated[Path, typer.Option(help="folder for the checkpoint and the weights")],
    feature_steps: Annotated[int, typer.Option(min=0, help="batches of 64 that the features are learnt from")] = 4000,
    answer_steps: Annotated[int, typer.Option(min=0, help="batches of 64 that the answers are learnt from")] = 2400,
    precision: Annotated[Precision, typer.Option(help="bf16-mixed, or 32-true where bf16 is slow")] = "bf16-mixed",
) -> None:
    """Make a slim network from a wide one, as a start for training.train."""
    try:
        keep_freed_memory()
        settings = load_experiment(slim)
        torch.set_num_threads(settings.threads)
        large, small = network(load_experiment(wide), weights), network(settings)
        samples = join([load_samples(path) for path in crops])
        if not (out / "checkpoint.pt").is_file():
            start(large, small, samples, settings.crop_px)
        learn(large, small, samples, settings, Plan(feature_steps, answer_steps), out, precision)
    except (DataError, ExperimentError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    print(f"wrote {out / 'weights.pt'}: {sum(p.numel() for p in small.parameters()) / 1e6:.2f} million numbers")


if __name__ == "__main__":
    typer.run(main)
