"""Soften expression votes with what trained models answer: `python -m training.distil CROPS.npz --teacher FOLDER=1`.

Ten people voted on a picture, which is a small sample of what people would say. Models that learnt from all pictures
know something of the rest (Hinton, Vinyals, Dean 2015; Furlanello et al. 2018 for a student of its teacher's size). The
new votes are (1 - share) votes + share * answers, where answers are the weighted mean of the teachers' probabilities on
the picture and its mirror image. The teachers are exported models, so that anybody can repeat the file.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from rich.progress import track

from engines.base import Engine, EngineError
from engines.choose import load as load_engine
from engines.preprocess import to_tensor
from engines.spec import CropSpec, ManifestError, load_model_file
from training.concepts import EXPRESSIONS
from training.data.augment import centre
from training.data.pictures import DataError
from training.data.samples import MARGIN_PX, Samples, load, save
from training.evaluate import parts_of

F32 = npt.NDArray[np.float32]
_BATCH = 64


@dataclass(frozen=True, slots=True)
class Teacher:
    """An exported model, the crop it reads, and its weight among the teachers."""

    engine: Engine
    crop: CropSpec
    weight: float


def opened(text: str) -> Teacher:
    """FOLDER=WEIGHT. Raises DataError for another form or other expressions, ManifestError for no such model."""
    folder, _, number = text.rpartition("=")
    try:
        weight = float(number)
    except ValueError:
        weight = 0.0
    if not folder or not weight > 0:
        raise DataError(f"--teacher {text}: give a model's folder and its weight, for example models/agcm-live=1")
    file = load_model_file(Path(folder).name, Path(folder).parent)
    crop, heads = parts_of(file.manifest)
    if heads.expressions != EXPRESSIONS:
        raise DataError(
            f"--teacher {folder}: its expressions are {', '.join(heads.expressions)}, not those of training"
        )
    sample = {"crop": np.zeros((1, 1, crop.size_px, crop.size_px), np.float32)}
    return Teacher(load_engine("onnxruntime", file, "fp32", 2, sample), crop, weight)


def voted(path: Path, fill: bool) -> Samples:
    """Prepared crops. Raises DataError if they have no votes and none are to be filled in."""
    samples = load(path)
    if np.isnan(samples.votes).all() and not fill:
        raise DataError(f"{path} has no expression votes to soften; --fill takes the teachers' answers for votes")
    return samples


def probabilities(logits: npt.NDArray[np.floating]) -> F32:
    """Softmax over the last axis."""
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(weights / weights.sum(-1, keepdims=True), np.float32)


def answers(teachers: list[Teacher], crops: npt.NDArray[np.uint8]) -> F32:
    """Weighted mean probabilities [N, E] on the stored crops and their mirror images."""
    total = sum(teacher.weight for teacher in teachers)
    found = np.zeros((len(crops), len(EXPRESSIONS)), np.float32)
    for start in track(range(0, len(crops), _BATCH), description="teachers"):
        rows = slice(start, start + _BATCH)
        for teacher in teachers:
            views = np.stack([centre(crop, MARGIN_PX, teacher.crop.size_px) for crop in crops[rows]])
            for view in (views, views[..., ::-1]):
                heads = teacher.engine.infer({"crop": to_tensor(np.ascontiguousarray(view), teacher.crop)})["heads"]
                found[rows] += probabilities(heads[:, 1:]) * np.float32(teacher.weight / total / 2)
    return found


def softened(samples: Samples, said: F32, share: float, fill: bool = False) -> Samples:
    """The samples with votes that are `share` the teachers'. Pictures without votes stay without, unless they are to be
    filled in: then the answers are their votes (self-training)."""
    votes = (np.float32(1 - share) * samples.votes + np.float32(share) * said).astype(np.float32)
    return replace(samples, votes=np.where(np.isnan(votes), said, votes) if fill else votes)


def main(
    crops: Annotated[Path, typer.Argument(help="prepared crops with votes")],
    teacher: Annotated[list[str], typer.Option(help="FOLDER=WEIGHT of an exported model; may be given again")],
    out: Annotated[Path, typer.Option(help="the same crops with the new votes")],
    share: Annotated[float, typer.Option(min=0.0, max=1.0, help="part of a vote that is the teachers'")] = 0.4,
    fill: Annotated[bool, typer.Option("--fill", help="also give votes to pictures that have none")] = False,
) -> None:
    """Mix the votes of prepared crops with the answers of trained models."""
    try:
        teachers, samples = [opened(text) for text in teacher], voted(crops, fill)
        save(out, softened(samples, answers(teachers, samples.crops), share, fill))
    except (DataError, ManifestError, EngineError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    typer.echo(f"wrote {out}: {len(samples)} crops, {share:.0%} of each vote by {len(teachers)} teacher(s)")


if __name__ == "__main__":
    typer.run(main)
