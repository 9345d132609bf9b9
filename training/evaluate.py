"""Measure an exported model: `python -m training.evaluate --dataset ferplus --data FILE --split valid`.

Any data set of training.data.datasets that has pictures; --results keeps the figures for training.reproduce.

Runs the very file that ships, through the detector, the alignment, the luma crop, the engine and the readout of the
live path. The labels of a picture never reach the model. A picture in which no face is found is not left out: its crop
is taken where faces lie on average in that corpus, and figures are given with and without those pictures.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
import typer

from engines.base import Engine, EngineError
from engines.choose import load as load_engine
from engines.concept import ConceptReadout
from engines.preprocess import to_tensor
from engines.spec import CropSpec, HeadSpec, Manifest, ManifestError, load_model_file, model_at
from training.concepts import EXPRESSIONS
from training.data import ferplus, wacv2016
from training.data.corpus import Levels, pick
from training.data.datasets import DATASETS
from training.data.pictures import Crops, DataError, cut_crops
from training.measure import Model, measure
from training.metrics import classes_of
from training.readouts import readouts
from training.reports import GroupFigures, Report, classification, engagement, show, write
from training.results import Origin, results_of, write_results

Ints = npt.NDArray[np.int64]
Name = Literal["rafdb", "affectnet7", "affectnet8", "affwild2", "noxi", "daisee", "engagenet", "cmose", "ferplus",
               "wacv2016"]  # fmt: skip
ENGAGEMENT_CLASSES = ("disengaged", "engaged", "very engaged")
_BATCH = 16
_RULE = "no face found: crop at the corpus' mean face place"


def answers(engine: Engine, crops: npt.NDArray[np.uint8]) -> list[ConceptReadout]:
    """Readouts of luma crops [N, S, S]."""
    crop, heads = parts_of(engine.manifest)
    found: list[ConceptReadout] = []
    for start in range(0, len(crops), _BATCH):
        batch = to_tensor(crops[start : start + _BATCH], crop)
        found += readouts(engine.infer({"crop": batch}), heads)
    return found


def parts_of(manifest: Manifest) -> tuple[CropSpec, HeadSpec]:
    """The crop and the heads of an exported system. Raises ManifestError for another kind of network."""
    if manifest.crop is None or manifest.heads is None:
        raise ManifestError(f"{manifest.name} is not a concept model: its manifest has no crop or no heads")
    return manifest.crop, manifest.heads


def open_model(name: str, backend: str, precision: str = "fp32") -> tuple[Engine, Engine]:
    """The face detector and the concept model: a name under models/, or the path of a folder."""
    file = model_at(name)
    crop, _ = parts_of(file.manifest)
    if file.manifest.timed is not None:
        raise ManifestError(f"{file.manifest.name} scores sessions, not single pictures: training.timed measures it")
    sample = {"crop": np.zeros((1, 1, crop.size_px, crop.size_px), np.float32)}
    detector_sample = {"luma": np.zeros((1, 1, 256, 256), np.float32)}
    detector = load_engine("onnxruntime", load_model_file("centerface"), "fp32", 1, detector_sample)
    return detector, load_engine(backend, file, precision, 1, sample)


def evaluate_ferplus(model: tuple[Engine, Engine], path: Path, split: str) -> Report:
    """Eight classes, the most votes count. Pictures with the most votes for unknown or no face are left out; `agreed`
    are those that the authors' protocol keeps, so its figures compare with published ones of that protocol."""
    detector, engine = model
    corpus = ferplus.load(path, split)
    crop, _ = parts_of(engine.manifest)
    made = cut_crops(detector, list(corpus.pictures), ferplus.POINT_SHARES, crop.size_px)
    answer = np.array([int(r.expressions.argmax()) for r in answers(engine, made.crops)])
    groups = [
        classification(name, corpus.majority[rows], answer[rows], EXPRESSIONS)
        for name, rows in (("all", np.ones(len(answer), bool)), ("agreed", corpus.agreed), ("face found", made.found))
        if rows.any()
    ]
    protocol = f"most votes of 8 classes, single pass; agreed: what FER+'s authors keep; {_RULE}"
    return _report(("ferplus", split), engine, made, protocol, groups)


def evaluate_wacv2016(model: tuple[Engine, Engine], folder: Path) -> Report:
    """Three classes from the score by the manifest's thresholds, and the score itself."""
    detector, engine = model
    corpus = wacv2016.load(folder)
    crop, heads = parts_of(engine.manifest)
    made = cut_crops(detector, corpus.pictures, wacv2016.POINT_SHARES, crop.size_px)
    score = np.array([r.score for r in answers(engine, made.crops)])
    truth = corpus.labels - 1
    answer = classes_of(score, heads.score_cuts)
    groups = [
        engagement(name, score[rows], truth[rows], answer[rows], ENGAGEMENT_CLASSES)
        for name, rows in groups_of(made.found, corpus.colour).items()
        if rows.any()
    ]
    cuts = ", ".join(f"{cut:.3f}" for cut in heads.score_cuts)
    protocol = f"classes by the manifest's score thresholds ({cuts}); {_RULE}"
    return _report(("wacv2016", "all"), engine, made, protocol, groups)


def evaluate_any(
    model: tuple[Engine, Engine], name: Name, path: Path, split: str, rate_hz: float, cuts: tuple[float, ...]
) -> Report:
    """Any data set with pictures; see training.measure. Raises DataError where the release holds none."""
    row = DATASETS[name]
    if row.load is None:
        raise DataError(f"{row.title} is released without pictures; this model reads pictures")
    detector, engine = model
    crop, heads = parts_of(engine.manifest)

    def answer(crops: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        readouts = answers(engine, crops)
        return np.array([each.score for each in readouts]), np.stack([each.expressions for each in readouts])

    corpus = row.load(path, split or row.measured, rate_hz or row.rate_hz)
    return measure(Model(detector, engine, crop, heads, answer), corpus, cuts)


def groups_of(found: npt.NDArray[np.bool_], colour: npt.NDArray[np.bool_]) -> dict[str, npt.NDArray[np.bool_]]:
    """Groups of WACV pictures that figures are given for; colour is a confound of the corpus, so grey stands alone."""
    return {"all": np.ones(len(found), bool), "face found": found, "grey": ~colour, "grey, face found": ~colour & found}


def _report(corpus: tuple[str, str], engine: Engine, made: Crops, protocol: str, groups: list[GroupFigures]) -> Report:
    counts = len(made.found), int((~made.found).sum())
    return Report(*corpus, engine.manifest.identity, engine.backend, protocol, *counts, tuple(groups))


app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def main(
    dataset: Annotated[Name, typer.Option(help="data set")],
    data: Annotated[Path, typer.Option(help="its folder in the official layout; ferplus: or the npz")],
    model: Annotated[str, typer.Option(help="a folder under models/, or a path with a / in it")] = "agcm-live",
    split: Annotated[str, typer.Option(help="default: the one that published figures are of; ferplus: valid")] = "",
    engine: Annotated[str, typer.Option(help="onnxruntime, openvino, tensorrt or torch")] = "onnxruntime",
    precision: Annotated[str, typer.Option(help="fp32, or what the engine has besides: bf16, fp16, int8")] = "fp32",
    rate: Annotated[float, typer.Option(min=0.0, help="frames of each second of a video; 0: the data set's own")] = 0.0,
    cuts: Annotated[str, typer.Option(help="score thresholds between levels, for example 0.2,0.4,0.7")] = "",
    json: Annotated[Path | None, typer.Option(help="also write the figures here")] = None,
    results: Annotated[Path | None, typer.Option(help="folder to keep the figures in for training.reproduce")] = None,
    system: Annotated[str, typer.Option(help="with --results: what the model is, for example agcm or cbm-joint")] = "",
    embedding: Annotated[int, typer.Option(min=0, help="with --results: size of a concept's embedding")] = 0,
) -> None:
    """Accuracy, macro-F1, recall per class; for engagement also r, AUC(lowest level) and CCC."""
    try:
        origin = _origin(dataset, system, embedding, kept=results is not None)
        limits = _limits(cuts, dataset)
        opened = open_model(model, engine, precision)
        if dataset == "ferplus":
            report = evaluate_ferplus(opened, data, split or "valid")
        elif dataset == "wacv2016":
            pick(split or "all", DATASETS[dataset].splits, DATASETS[dataset].title)
            report = evaluate_wacv2016(opened, data)
        else:
            report = evaluate_any(opened, dataset, data, split, rate, limits)
        show(report)
        if json is not None:
            write(report, json)
        if results is not None:
            print(write_results(results, results_of(report, origin)))
    except (DataError, ManifestError, EngineError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


def _origin(dataset: Name, system: str, embedding: int, *, kept: bool) -> Origin:
    """What the figures are of. Raises DataError if they are to be kept and nobody says what the model is."""
    if kept and not system:
        raise DataError("--results needs --system, and --embedding where the model has embeddings")
    return Origin(dataset, system, embedding, shlex.join(["python", "-m", "training.evaluate", *sys.argv[1:]]))


def _limits(text: str, dataset: Name) -> tuple[float, ...]:
    """Thresholds from the command line. Raises DataError unless they rise and are as many as the levels need."""
    if not text:
        return ()
    task = DATASETS[dataset].task
    needed = len(task.cuts) if isinstance(task, Levels) and dataset != "wacv2016" else 0
    try:
        limits = tuple(float(each) for each in text.split(","))
    except ValueError as error:
        raise DataError(f"--cuts {text!r}: not numbers with commas between them") from error
    if len(limits) != needed or list(limits) != sorted(set(limits)):
        raise DataError(f"--cuts {text!r}: {dataset} takes {needed} rising thresholds")
    return limits


if __name__ == "__main__":
    app()
