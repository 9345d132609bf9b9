"""Train an AGCM: `python -m training.train EXPERIMENT.toml`. Interrupted runs go on where their checkpoint stands."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from engines.preprocess import to_tensor
from training.agcm.losses import LossWeights, Targets, total_loss
from training.agcm.model import Agcm
from training.concepts import MIRRORED
from training.crop import CROP
from training.data.augment import Augment, centre, vary
from training.data.pictures import DataError
from training.data.samples import MARGIN_PX, Samples, join
from training.data.samples import load as load_samples
from training.experiment import Experiment, ExperimentError, Phase, Source
from training.experiment import load as load_experiment
from training.memory import keep_freed_memory
from training.metrics import Figures, figures
from training.regions import regions
from training.run import Run
from training.synthetic import ict
from training.teachers import labels as teacher_labels

CHECKPOINT_STEPS = 150
LOG_STEPS = 50


@dataclass(frozen=True, slots=True)
class Step:
    """Where a run stands: epoch, batch within it, learning-rate share, and the phase."""

    number: int
    epoch: int
    batch: int
    phase: Phase


def read_source(source: Source, scale: teacher_labels.Scale) -> Samples:
    """A prepared file with the teacher's labels laid over it."""
    samples = load_samples(Path(source.file))
    if source.teacher:
        labels = teacher_labels.apply(teacher_labels.read(Path(source.teacher)), scale)
        if len(labels.activations) != len(samples):
            counts = f"{len(labels.activations)} crops, {source.file} has {len(samples)}"
            raise DataError(f"{source.teacher} labels {counts}")
        samples = replace(samples, concepts=labels.activations, weights=labels.weights)
    return replace(samples, weights=samples.weights * np.float32(source.concepts))


def read_sources(experiment: Experiment, sources: tuple[Source, ...]) -> list[Samples]:
    """Every source, without the excluded subjects."""
    scale = teacher_labels.scale_of(teacher_labels.read(Path(experiment.scale_from)))
    parts = [read_source(source, scale) for source in sources]
    return [part.take(~np.isin(part.subjects, experiment.exclude_subjects)) for part in parts]


def batches(samples: Samples, shares: list[tuple[int, float]], steps: Step, seed: int) -> Iterator[np.ndarray]:
    """Row numbers of each batch of an epoch. shares: (rows, part of them seen per epoch) of each joined source."""
    rng = np.random.default_rng((seed, steps.epoch))
    rows, start = [], 0
    for count, share in shares:
        wanted = round(count * share)
        repeats = [rng.permutation(count) for _ in range(math.ceil(share))] or [np.zeros(0, np.int64)]
        rows.append(np.concatenate(repeats)[:wanted] + start)
        start += count
    order = rng.permutation(np.concatenate(rows))
    size = steps.phase.batch
    for i in range(len(order) // size):
        yield order[i * size : (i + 1) * size]


def score_weights(score: np.ndarray) -> np.ndarray:
    """Weights of the engagement rows, so that rare classes count: 1 / sqrt(share of the class)."""
    weights = np.zeros(len(score), np.float32)
    for value in np.unique(score[~np.isnan(score)]):
        rows = score == value
        weights[rows] = (rows.sum() / (~np.isnan(score)).sum()) ** -0.5
    return weights


def make_batch(samples: Samples, rows: np.ndarray, side_px: int, rng: np.random.Generator,
               weights: np.ndarray) -> tuple[Tensor, Targets]:  # fmt: skip
    """Augmented crops [B, 1, S, S] and their targets."""
    views = [vary(samples.crops[row], MARGIN_PX, side_px, Augment(), rng) for row in rows]
    mirrored = np.array([flag for _, flag in views])[:, None]
    concepts, trust = samples.concepts[rows], samples.weights[rows]
    order = np.array(MIRRORED)
    concepts, trust = (np.where(mirrored, part[:, order], part) for part in (concepts, trust))
    arrays = (samples.votes[rows], concepts, trust, samples.score[rows], weights[rows])
    crops = to_tensor(np.stack([view for view, _ in views]), CROP)
    # One plane is contiguous in either order; saying which one keeps the first layers on their fast path.
    inputs = torch.from_numpy(crops).to(memory_format=torch.channels_last)
    return inputs, Targets(*(torch.from_numpy(np.ascontiguousarray(a)) for a in arrays))


def rate(number: int, total: int) -> float:
    """Share of the peak learning rate: linear warm-up over 6 % of the steps, then a cosine to 1 %."""
    warm = max(1, round(0.06 * total))
    if number < warm:
        return (number + 1) / warm
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (number - warm) / max(1, total - warm)))


def schedule(experiment: Experiment, rows: int) -> list[Step]:
    """Every step of the run, in order. Raises ExperimentError if an epoch would hold none."""
    phases = [phase for phase in experiment.phases for _ in range(phase.epochs)]
    steps: list[Step] = []
    for epoch, phase in enumerate(phases):
        if phase.batch > rows:
            raise ExperimentError(f"phases: a batch of {phase.batch} is more than the {rows} crops of an epoch")
        steps += [Step(len(steps) + i, epoch, i, phase) for i in range(rows // phase.batch)]
    return steps


@torch.no_grad()
def predict(model: Agcm, samples: Samples, side_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Heads [N, 1 + E] and activations [N, K] on plain crops."""
    model.eval()
    heads, activations = [], []
    for start in range(0, len(samples), 128):
        crops = np.stack([centre(c, MARGIN_PX, side_px) for c in samples.crops[start : start + 128]])
        out = model(torch.from_numpy(to_tensor(crops, CROP)))
        heads.append(out.heads.numpy())
        activations.append(out.logits.sigmoid().numpy())
    return np.concatenate(heads), np.concatenate(activations)


def validate(run: Run, valid: list[Samples], side_px: int) -> Figures:
    """Figures of the averaged weights on the held-out samples."""
    model = Agcm(run.model.config)
    model.load_state_dict(run.averaged.state)
    samples = join(valid)
    heads, activations = predict(model, samples, side_px)
    return figures(heads, activations, samples)


def train(experiment: Experiment, folder: Path) -> Figures:
    """Run to the end; prints and logs the figures of every epoch."""
    keep_freed_memory()
    torch.set_num_threads(experiment.threads)
    folder.mkdir(parents=True, exist_ok=True)
    parts, valid = read_sources(experiment, experiment.train), read_sources(experiment, experiment.valid)
    samples = join(parts)
    shares = [(len(part), source.share) for part, source in zip(parts, experiment.train, strict=True)]
    del parts
    importance = score_weights(samples.score)
    face = ict.load(Path(experiment.ict))
    places = {p.side_px: torch.from_numpy(regions(face, -(-p.side_px // 16))) for p in experiment.phases}
    run = Run(experiment, folder)
    run.resume()
    steps = schedule(experiment, sum(round(count * share) for count, share in shares))
    loss_weights = LossWeights(experiment.expression, experiment.concept, experiment.map, experiment.score)
    result: Figures | None = None
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        bar = progress.add_task(experiment.name, total=len(steps), completed=run.number)
        while run.number < len(steps):
            first = steps[run.number]
            for rows in list(batches(samples, shares, first, experiment.seed))[first.batch :]:
                step = steps[run.number]
                rng = np.random.default_rng((experiment.seed, step.number))
                crops, targets = make_batch(samples, rows, step.phase.side_px, rng, importance)
                terms = _update(run, crops, targets, places[step.phase.side_px], loss_weights, len(steps))
                if run.number % CHECKPOINT_STEPS == 0:
                    run.save()
                text = " ".join(f"{name} {value:.3f}" for name, value in terms.items() if value)
                progress.update(bar, completed=run.number, description=f"{experiment.name} epoch {step.epoch} {text}")
                if run.number % LOG_STEPS == 0 and not progress.console.is_terminal:
                    print(f"{run.number}/{len(steps)} {text}", flush=True)
            run.save()
            result = validate(run, valid, first.phase.side_px)
            progress.console.print(f"epoch {first.epoch}: {result.line()}")
            _log(folder / "epochs.csv", first.epoch, result)
    return result or validate(run, valid, experiment.phases[-1].side_px)


def _update(run: Run, crops: Tensor, targets: Targets, places: Tensor, weights: LossWeights,
            total: int) -> dict[str, float]:  # fmt: skip
    """One optimiser step."""
    run.model.train()
    if run.experiment.freeze_backbone:
        run.model.backbone.eval()
    torch.manual_seed(run.experiment.seed * 1_000_003 + run.number)
    for group in run.optimizer.param_groups:
        group["lr"] = run.experiment.learning_rate * rate(run.number, total)
    with torch.autocast("cpu", torch.bfloat16):
        out = run.model(crops, targets.concepts, targets.concept_weights > 0)
    loss, terms = total_loss(out, targets, places, weights)
    if not torch.isfinite(loss):
        raise ExperimentError(f"the loss is not finite at step {run.number} ({terms}); lower learning_rate and resume")
    run.optimizer.zero_grad()
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(run.model.parameters(), 5.0)
    run.optimizer.step()
    run.averaged.update(run.model)
    run.number += 1
    return terms


def _log(path: Path, epoch: int, result: Figures) -> None:
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if fresh:
            writer.writerow(("epoch", *result.row()))
        writer.writerow((epoch, *result.row().values()))


def main(
    experiment: Annotated[Path, typer.Argument(help="experiment TOML, for example training/configs/agcm-live.toml")],
    runs: Annotated[Path, typer.Option(help="folder for checkpoints and logs")] = Path("runs"),
) -> None:
    """Train the model of an experiment; the averaged weights end up in RUNS/NAME/weights.pt."""
    try:
        loaded = load_experiment(experiment)
        print(train(loaded, runs / loaded.name).line())
    except (ExperimentError, DataError, ict.IctFileError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    typer.run(main)
