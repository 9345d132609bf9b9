"""Corpora -> prepared crops: `python -m training.prepare ferplus|wacv2016|renders SOURCE --out FILE.npz`.

Every picture goes through the detector, the alignment and the luma crop of the live path. The teacher then labels the
prepared file (training.teachers.mediapipe_faces, in an environment of its own), and training.train reads both.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from engines.backend_onnxruntime import OnnxRuntimeEngine
from engines.base import Engine
from engines.spec import load_model_file
from training.concepts import NAMES
from training.data import ferplus, wacv2016
from training.data.pictures import DataError, cut_crops, open_npz
from training.data.samples import MARGIN_PX, Samples, blank, save

CROP_PX = 112
app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)
Source = Annotated[Path, typer.Argument(help="the corpus: an npz, or a folder in its official layout")]
Out = Annotated[Path, typer.Option(help="prepared file to write")]


def detector() -> Engine:
    """The face detector of the live path."""
    return OnnxRuntimeEngine(load_model_file("centerface"), threads=1)


def from_ferplus(path: Path, split: str) -> Samples:
    """Crops with vote distributions."""
    corpus = ferplus.load(path, split)
    made = cut_crops(detector(), list(corpus.pictures), ferplus.POINT_SHARES, CROP_PX, MARGIN_PX)
    return replace(blank(made.crops, made.found), votes=corpus.votes)


def from_wacv2016(folder: Path) -> Samples:
    """Crops with engagement labels 1, 2, 3 as scores 0, 0.5, 1."""
    corpus = wacv2016.load(folder)
    made = cut_crops(detector(), corpus.pictures, wacv2016.POINT_SHARES, CROP_PX, MARGIN_PX)
    score = ((corpus.labels - 1) / 2).astype(np.float32)
    return replace(blank(made.crops, made.found), score=score, subjects=corpus.subjects, colour=corpus.colour)


def from_renders(path: Path) -> Samples:
    """Crops with exact concepts; renders in which no face is found are left out."""
    if not path.is_file():
        raise DataError(f"renders not found: {path}; run python -m training.synthetic.generate first")
    with open_npz(path, ("images", "concepts", "names"), "a file of renders") as file:
        pictures, concepts, names = list(file["images"]), file["concepts"], tuple(file["names"].tolist())
    if names != NAMES:
        raise DataError(f"{path} was rendered for other concepts; run python -m training.synthetic.generate again")
    made = cut_crops(detector(), pictures, ferplus.POINT_SHARES, CROP_PX, MARGIN_PX)
    samples = blank(made.crops, made.found)
    return replace(samples, concepts=concepts, weights=np.ones_like(concepts)).take(made.found)


def _write(samples: Samples, out: Path) -> None:
    save(out, samples)
    print(f"{out}: {len(samples)} crops, face found in {samples.found.mean():.2%}")


@app.command("ferplus")
def _ferplus(source: Source, out: Out, split: Annotated[str, typer.Option(help="train, valid or test")]) -> None:
    """FER+ npz."""
    _write(from_ferplus(source, split), out)


@app.command("wacv2016")
def _wacv2016(source: Source, out: Out) -> None:
    """WACV 2016 folder with 1/, 2/, 3/."""
    _write(from_wacv2016(source), out)


@app.command("renders")
def _renders(source: Source, out: Out) -> None:
    """Output of training.synthetic.generate."""
    _write(from_renders(source), out)


if __name__ == "__main__":
    try:
        app()
    except DataError as error:
        raise SystemExit(f"error: {error}") from error
