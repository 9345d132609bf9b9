"""Train a system: `python -m training.train EXPERIMENT.toml`. Interrupted runs go on where their checkpoint stands."""

from __future__ import annotations

import csv
from pathlib import Path
from time import perf_counter
from typing import Annotated

import numpy as np
import torch
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from engines.preprocess import to_tensor
from training.agcm import evidence
from training.agcm.losses import LossWeights, Targets, concept_loss, total_loss
from training.agcm.system import Output, System, needed
from training.concepts import NAMES
from training.crop import CROP
from training.data.augment import centre
from training.data.pictures import DataError
from training.data.samples import MARGIN_PX, Samples, join
from training.data.writing import replaced
from training.experiment import Experiment, ExperimentError
from training.experiment import load as load_experiment
from training.feed import Step, epoch, gather, rate, schedule
from training.hardware import Accelerator, Hardware, Precision, launched
from training.memory import keep_freed_memory
from training.metrics import Figures, figures
from training.run import Run
from training.synthetic import ict
from training.systems.table import build

CHECKPOINT_STEPS = 150
LOG_STEPS = 50


@torch.no_grad()
def predict(model: System, samples: Samples, side_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Heads [N, 1 + E] and activations [N, K] on plain crops; activations are NaN if the system has none."""
    model.eval()
    device = next(model.parameters()).device
    heads, activations = [], []
    for start in range(0, len(samples), 128):
        crops = np.stack([centre(c, MARGIN_PX, side_px) for c in samples.crops[start : start + 128]])
        out = model(torch.from_numpy(to_tensor(crops, CROP)).to(device))
        heads.append(out.heads.cpu().numpy())
        none = np.full((len(crops), len(NAMES)), np.nan, np.float32)
        activations.append(none if out.logits is None else out.logits.sigmoid().cpu().numpy())
    return np.concatenate(heads), np.concatenate(activations)


def validate(run: Run, valid: list[Samples], side_px: int) -> Figures:
    """Figures of the averaged weights on the held-out samples."""
    model = build(run.experiment).to(run.fabric.device)
    model.load_state_dict(run.averaged.state)
    samples = join(valid)
    heads, activations = predict(model, samples, side_px)
    return figures(heads, activations, samples)


def train(experiment: Experiment, folder: Path, hardware: Hardware = Hardware("cpu")) -> Figures:  # noqa: B008  # frozen
    """Run to the end; prints and logs the figures of every epoch."""
    keep_freed_memory()
    torch.set_num_threads(experiment.threads)
    fabric = launched(hardware)
    material = gather(experiment)
    run = Run(experiment, folder, fabric)
    steps = schedule(experiment, sum(round(count * share) for count, share in material.shares))
    if min(phase.batch for phase in experiment.phases) < 2 * fabric.world_size:
        raise ExperimentError(f"phases: {fabric.world_size} devices need batches of at least {2 * fabric.world_size}")
    result: Figures | None = None
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not fabric.is_global_zero) as progress:
        if changed := run.resume():
            progress.console.print(f"note: the run goes on with other settings than it began with: {changed}")
        bar = progress.add_task(experiment.name, total=len(steps), completed=run.number)
        while run.number < len(steps):
            first, before, started = steps[run.number], run.number, perf_counter()
            run.stage(first.phase.train, begins=first.number == first.first)
            fed = epoch(
                material, first, experiment.seed, fabric.global_rank, fabric.world_size, experiment.augment,
                hardware.loaders,
            )  # fmt: skip
            for step, crops, targets in fed:
                terms = _update(run, crops, targets, material.places[step.phase.side_px], step)
                if run.number % CHECKPOINT_STEPS == 0:
                    run.save()
                pace = (run.number - before) * step.phase.batch / (perf_counter() - started)
                text = " ".join(f"{name} {value:.3f}" for name, value in terms.items() if value)
                text = f"epoch {step.epoch} {text} {pace:.0f} pictures/s"
                progress.update(bar, completed=run.number, description=f"{experiment.name} {text}")
                if run.number % LOG_STEPS == 0 and not progress.console.is_terminal and fabric.is_global_zero:
                    print(f"{run.number}/{len(steps)} {text}", flush=True)
            result = validate(run, material.valid, first.phase.side_px)
            progress.console.print(f"epoch {first.epoch}: {result.line()}; trained at {pace:.0f} pictures/s")
            if fabric.is_global_zero:
                _log(folder / "epochs.csv", first.epoch, result)
            run.save()  # after the row: a run that is cut off in between repeats the row and does not miss it
    return result or validate(run, material.valid, experiment.phases[-1].side_px)


def loss_weights(experiment: Experiment, train: str) -> LossWeights:
    """The weights of the losses in a phase that trains everything, the concepts, or the task."""
    task = train != "concepts"
    concepts = train != "task"
    return LossWeights(
        experiment.expression * task, experiment.concept * concepts, experiment.map * concepts,
        experiment.score * task, experiment.attention, experiment.evidence * concepts,
        experiment.landmarks * concepts,
    )  # fmt: skip


def _update(run: Run, crops: Tensor, targets: Targets, places: Tensor, step: Step) -> dict[str, float]:
    """One optimiser step."""
    run.ready(step.phase.train)
    crops, places = run.fabric.to_device(crops), run.fabric.to_device(places)
    targets = Targets(*map(run.fabric.to_device, targets))
    torch.manual_seed(run.experiment.seed * 1_000_003 + run.number)
    for group in run.optimizer.param_groups:
        share = rate(run.number - step.first, step.last + 1 - step.first)
        group["lr"] = run.experiment.learning_rate * share * group["rate"]
    out = run.trained(crops, targets.concepts, targets.concept_weights > 0)
    weights = loss_weights(run.experiment, step.phase.train)
    loss, terms = total_loss(out, targets, places, weights)
    if weights.evidence:
        missed = _evidence(run, crops, out, places.flatten(1).any(1)) * weights.evidence
        loss, terms["evidence"] = loss + missed, float(missed.detach())
    if not torch.isfinite(loss):
        raise ExperimentError(f"the loss is not finite at step {run.number} ({terms}); lower learning_rate and resume")
    run.optimizer.zero_grad()
    run.fabric.backward(loss)
    nn.utils.clip_grad_norm_(run.model.parameters(), 5.0)
    run.optimizer.step()
    run.averaged.update(run.model)
    run.number += 1
    return terms


def _evidence(run: Run, crops: Tensor, out: Output, placed: Tensor) -> Tensor:
    """The concept loss of a second look, at pictures of the batch with cells hidden: see training.agcm.evidence."""
    logits, maps = needed(out.logits), needed(out.maps)
    hidden = evidence.draw(crops, logits, maps, placed)
    if hidden is None:
        return logits.sum() * 0.0
    with evidence.statistics_kept(run.model):
        again = run.trained(hidden.crops)
    return concept_loss(needed(again.logits).float(), hidden.targets, hidden.weights)


def _log(path: Path, epoch: int, result: Figures) -> None:
    """Add an epoch's row, in place of one that an interrupted run left. Raises DataError if it cannot be written."""
    before = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    kept = [row for row in csv.reader(before[1:]) if int(row[0]) < epoch]
    with replaced(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("epoch", *result.row()), *kept, (epoch, *result.row().values())])


def main(
    experiment: Annotated[Path, typer.Argument(help="experiment TOML, for example training/configs/agcm-live.toml")],
    runs: Annotated[Path, typer.Option(help="folder for checkpoints and logs")] = Path("runs"),
    accelerator: Annotated[Accelerator, typer.Option(help="auto takes a GPU where there is one")] = "auto",
    devices: Annotated[int, typer.Option(help="GPUs (or CPU processes) of each host; they share every batch")] = 1,
    nodes: Annotated[int, typer.Option(help="hosts")] = 1,
    loaders: Annotated[int, typer.Option(min=0, help="processes that vary pictures ahead of a GPU; 0: none")] = 0,
    precision: Annotated[Precision, typer.Option(help="bf16-mixed, or 32-true where bf16 is slow")] = "bf16-mixed",
) -> None:
    """Train the system of an experiment; the averaged weights end up in RUNS/NAME/weights.pt."""
    try:
        loaded = load_experiment(experiment)
        print(train(loaded, runs / loaded.name, Hardware(accelerator, devices, nodes, precision, loaders)).line())
    except (ExperimentError, DataError, ict.IctFileError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


if __name__ == "__main__":
    typer.run(main)
