"""Labelled synthetic faces: `python -m training.synthetic.generate --ict PATH --out FILE.npz --count N --seed S`.

The file holds images uint8 [N, 160, 160] (luma), concepts float32 [N, 26] (columns as concepts.NAMES), points
float32 [N, 5, 2] (eyes, nose, mouth corners, image left to right, pixels) and landmarks float32 [N, 68, 2].
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import typer
from rich.progress import track

from training.concepts import NAMES
from training.data.corpus import need_folder
from training.data.pictures import DataError
from training.data.writing import replaced
from training.synthetic import ict, look, sample, scene

SIZE_PX: Final = 160
_WORKERS: Final = 2
_SHOTS_PER_PERSON: Final = 4


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled picture."""

    image: scene.U8  # [160, 160]
    concepts: ict.F32  # [26]
    landmarks: ict.F32  # [68, 2]


@dataclass(frozen=True, slots=True)
class Job:
    """A few pictures of one person; the seed alone decides them."""

    ict_path: Path
    seed: tuple[int, int]
    shots: int


def example(model: ict.FaceModel, person: ict.F32, painted: tuple[ict.F32, ict.F32], seed: int) -> Example:
    """One picture of a person under random expression, pose, light, camera and backdrop."""
    rng = np.random.default_rng(seed)
    weights = model.weights(sample.expression(rng))
    vertices = model.express(person, weights)
    pose = sample.pose(rng)
    view = (sample.camera(rng, SIZE_PX), sample.light(rng))
    shot = scene.render(model, vertices, painted, pose, view, sample.backdrop(rng, SIZE_PX))
    luma = scene.to_luma(shot.picture[..., 0], gamma=float(rng.uniform(1.8, 2.6))).astype(np.float32)
    image = np.rint(sample.spoil(luma, rng)).astype(np.uint8)
    concepts = ict.concepts_of(model, weights, vertices, pose.yaw_deg, pose.pitch_deg)
    return Example(image, concepts, shot.landmarks)


def shoot(job: Job) -> list[Example]:
    """All pictures of one job."""
    model, where = _model(job.ict_path)
    rng = np.random.default_rng(job.seed)
    person = model.identity(sample.identity(rng))
    painted = look.paint(model, where, look.random_style(rng), rng)
    return [example(model, person, painted, int(rng.integers(2**63))) for _ in range(job.shots)]


def generate(ict_path: Path, count: int, seed: int) -> Iterable[Example]:
    """Yield `count` pictures in a fixed order; the same seed gives the same pictures."""
    people = -(-count // _SHOTS_PER_PERSON)
    jobs = [Job(ict_path, (seed, i), min(_SHOTS_PER_PERSON, count - i * _SHOTS_PER_PERSON)) for i in range(people)]
    with multiprocessing.get_context("spawn").Pool(_WORKERS) as pool:
        for examples in pool.imap(shoot, jobs, chunksize=4):
            yield from examples


@cache
def _model(path: Path) -> tuple[ict.FaceModel, look.Masks]:
    model = ict.load(path)
    return model, look.masks(model)


def main(
    ict_path: Annotated[Path, typer.Option("--ict", help="ict_facekit_light.npz")],
    out: Annotated[Path, typer.Option(help="the npz to write")],
    count: Annotated[int, typer.Option(min=1, help="how many pictures")] = 8000,
    seed: Annotated[int, typer.Option(help="the same seed gives the same pictures, another one other people")] = 0,
) -> None:
    """Render synthetic faces of random people, light and pose; the labels are the weights that moved the faces."""
    try:
        ict.load(ict_path)
        need_folder(out.parent, "--out")
        write(out, ict_path, count, seed)
    except (DataError, ict.IctFileError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    typer.echo(f"{out}: {count} pictures")


def write(out: Path, ict_path: Path, count: int, seed: int) -> None:
    """Render and write. Raises DataError if the file cannot be written."""
    examples = list(track(generate(ict_path, count, seed), "rendering", total=count))
    landmarks = np.stack([e.landmarks for e in examples])
    with replaced(out) as partial, partial.open("wb") as file:
        np.savez_compressed(
            file,
            images=np.stack([e.image for e in examples]),
            concepts=np.stack([e.concepts for e in examples]),
            points=np.stack([scene.five_points(marks) for marks in landmarks]),
            landmarks=landmarks,
            names=np.array(NAMES),
        )


if __name__ == "__main__":
    typer.run(main)
