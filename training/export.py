"""Trained weights -> models/NAME: `python -m training.export EXPERIMENT.toml --weights RUN/weights.pt`.

Writes model.onnx and manifest.json, or nothing: export refuses when ONNX Runtime and torch differ by more than 1e-4 on
real crops. The manifest carries what the contributions refer to: the mean share of every concept over the training
pictures of each head (engagement pictures for the score, expression pictures for the expressions). A system whose heads
are no sum over concepts has no such shares: its manifest lists no concepts, and its base is the mean output.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
import torch
import typer
from torch import nn

from engines.backend_onnxruntime import OnnxRuntimeEngine
from engines.preprocess import to_tensor
from engines.spec import MODELS_DIR, ConceptSpec, HeadSpec, Manifest, ModelFile, TensorSpec
from training.agcm.system import Deployed, LinearConcepts, System
from training.calibrated import kept
from training.concepts import CONCEPTS, EXPRESSIONS
from training.crop import CROP, crop_of
from training.data.augment import centre
from training.data.pictures import DataError
from training.data.samples import MARGIN_PX, Samples, join
from training.experiment import Experiment, ExperimentError
from training.experiment import load as load_experiment
from training.feed import read_sources
from training.graphs import graph_of
from training.metrics import pearson
from training.run import load_weights
from training.systems.table import build
from training.train import predict

TOLERANCE = 1e-4
_CHECKED = 64


class ExportError(RuntimeError):
    """There is nothing to export, or the exported network is not the trained one; nothing was written."""


@dataclass(frozen=True, slots=True)
class Reference:
    """What contributions are measured from. mean [K, 1 + E], or [0, 1 + E] if heads are no sum; base [1 + E]."""

    mean: npt.NDArray[np.float64]
    base: npt.NDArray[np.float64]


def tensors(samples: Samples, side_px: int = CROP.size_px) -> npt.NDArray[np.float32]:
    """The crops as the live path would feed them [N, 1, S, S]."""
    return to_tensor(np.stack([centre(crop, MARGIN_PX, side_px) for crop in samples.crops]), CROP)


@torch.no_grad()
def shares(model: System, samples: Samples, side_px: int = CROP.size_px) -> npt.NDArray[np.float64]:
    """Mean over the samples of W_k . c_k, [K, 1 + E]; for a system without such shares of its heads, [1, 1 + E]."""
    model.eval()
    parts = []
    for start in range(0, len(samples), 128):
        part = samples.take(np.arange(start, min(start + 128, len(samples))))
        out = model(torch.from_numpy(tensors(part, side_px)))
        found = model.shares(out)
        parts.append((out.heads.unsqueeze(1) if found is None else found).double().sum(0).numpy())
    return np.asarray(sum(parts) / max(len(samples), 1))


def reference(model: System, parts: list[Samples], limit: int = 4000, side_px: int = CROP.size_px) -> Reference:
    """The score's column from the pictures with an engagement label, the others from those with votes."""
    everything = join(parts)
    rng = np.random.default_rng(0)

    def mean_over(rows: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
        return shares(model, everything.take(rng.permutation(rows)[:limit]), side_px)

    voted = np.nonzero(~np.isnan(everything.votes).any(1))[0]
    scored = np.nonzero(~np.isnan(everything.score))[0]
    mean = mean_over(voted if len(voted) else np.arange(len(everything)))
    if len(scored):
        mean[:, 0] = mean_over(scored)[:, 0]
    if not isinstance(model, LinearConcepts):
        return Reference(mean[:0], mean.sum(0))
    bias = model.bias.detach().double().numpy()
    return Reference(mean, bias + mean.sum(0))


def reliabilities(model: System, valid: list[Samples], side_px: int = CROP.size_px) -> list[tuple[float, str]]:
    """Per concept: correlation with its reference on held-out crops, and which reference that is.

    Photographs labelled by the teacher where the teacher is to be believed, renders with exact labels elsewhere.
    """
    found = []
    parts = [(part, predict(model, part, side_px)[1]) for part in valid]
    for column, concept in enumerate(CONCEPTS):
        names = ("teacher", "render") if concept.teacher_reliable else ("render", "teacher")
        rated = {}
        for part, activations in parts:
            rows = part.weights[:, column] > 0
            kind = "render" if np.isnan(part.votes).all() else "teacher"
            if rows.sum() > 1:
                rated[kind] = pearson(activations[rows, column], part.concepts[rows, column])
        name = next((name for name in names if name in rated), "")
        found.append((rated.get(name, float("nan")), name))
    return found


def to_onnx(model: System, path: Path, side_px: int = CROP.size_px) -> None:
    """Write the deployable graph with a free batch dimension; the attention's three kernels are folded into one."""
    # An example of one or two crops may leave its own batch size in the graph; three are taken for a variable.
    example = torch.zeros(3, 1, side_px, side_px)
    free = ({0: torch.export.Dim.DYNAMIC},)
    graph = graph_of(Deployed(model).eval(), (example,), (["crop"], list(model.names)), free)
    for port in (*graph.graph.input, *graph.graph.output):
        port.type.tensor_type.shape.dim[0].dim_param = "faces"
    onnx.checker.check_model(graph, full_check=True)
    path.write_bytes(graph.SerializeToString(deterministic=True))


@torch.no_grad()
def parity(model: System, file: ModelFile, crops: npt.NDArray[np.float32]) -> float:
    """Largest difference between ONNX Runtime and torch over all outputs, in batches of 1, 5 and all."""
    network: nn.Module = Deployed(model)
    engine = OnnxRuntimeEngine(file)
    worst = 0.0
    for count in (1, 5, len(crops)):
        expected = network(torch.from_numpy(crops[:count]))
        got = engine.infer({"crop": crops[:count]})
        for name, value in zip(model.names, expected, strict=True):
            worst = max(worst, float(np.abs(got[name] - value.numpy()).max()))
    return worst


@torch.no_grad()
def manifest_for(path: Path, name: str, model: System, against: Reference, rated: list[tuple[float, str]],
                 cuts: tuple[float, ...], side_px: int = CROP.size_px) -> Manifest:  # fmt: skip
    """The manifest of an exported file."""
    crop = crop_of(side_px)
    shapes = [(-1, *part.shape[1:]) for part in Deployed(model)(torch.zeros(1, 1, side_px, side_px))]
    listed = CONCEPTS if len(against.mean) else ()
    return Manifest(
        name=name,
        file="model.onnx",
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        inputs=(TensorSpec("crop", "float32", (-1, 1, side_px, side_px)),),
        outputs=tuple(TensorSpec(n, "float32", shape) for n, shape in zip(model.names, shapes, strict=True)),
        crop=crop,
        concepts=tuple(
            ConceptSpec(c.name, c.kind, c.meaning, None if np.isnan(r) else round(r, 4), ref)
            for c, (r, ref) in zip(listed, rated, strict=bool(listed))
        ),
        heads=HeadSpec(EXPRESSIONS, tuple(against.base.tolist()), tuple(map(tuple, against.mean.tolist())), cuts),
    )


def export(experiment: Experiment, weights: Path, out: Path, cuts: tuple[float, ...]) -> float:
    """Write `out`; returns the parity. Raises ExportError if it is above TOLERANCE or if `out` cannot be written; what
    was there before is then still there."""
    model = _trained(experiment, weights)
    train, valid = read_sources(experiment, experiment.train), read_sources(experiment, experiment.valid)
    side_px = experiment.crop_px
    crops = np.concatenate([tensors(part.take(np.arange(min(_CHECKED, len(part)))), side_px) for part in valid])
    with _beside(out) as folder:
        path = folder / "model.onnx"
        to_onnx(model, path, side_px)
        against, rated = reference(model, train, side_px=side_px), reliabilities(model, valid, side_px)
        manifest = manifest_for(path, out.name, model, against, rated, cuts, side_px)
        difference = parity(model, ModelFile(path, manifest), crops)
        if not difference <= TOLERANCE:
            raise ExportError(f"ONNX Runtime and torch differ by {difference:.2e} (limit {TOLERANCE:.0e}); not written")
        _put(path, kept(manifest, out), out)
    return difference


def untrained(experiment: Experiment, out: Path) -> None:
    """Write `out` with the weights that a network is born with: its time is that of a trained one, its answers mean
    nothing, and it needs no data. Raises ExportError if `out` cannot be written."""
    torch.manual_seed(experiment.seed)
    model, columns = build(experiment).eval(), 1 + len(EXPRESSIONS)
    nothing = Reference(np.zeros((len(CONCEPTS), columns)), np.zeros(columns))
    with _beside(out) as folder:
        path = folder / "model.onnx"
        to_onnx(model, path, experiment.crop_px)
        unknown = [(float("nan"), "")] * len(CONCEPTS)
        manifest = manifest_for(path, out.name, model, nothing, unknown, thresholds("0.25,0.75"), experiment.crop_px)
        _put(path, manifest, out)


def _put(path: Path, manifest: Manifest, out: Path) -> None:
    """Move a network and its description to where they belong, once both are whole."""
    description = path.with_name("manifest.json")
    description.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1))
    out.mkdir(exist_ok=True)
    for each in (path, description):
        each.replace(out / each.name)


@contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """A temporary folder on the disk of `out`. Raises ExportError if that cannot be written to."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent) as folder:
            yield Path(folder)
    except OSError as error:
        raise ExportError(f"cannot write {out}: {error.strerror or error}") from error


def _trained(experiment: Experiment, weights: Path) -> System:
    """The system of an experiment with the weights of a run. Raises ExportError if they do not fit each other."""
    model = build(experiment)
    try:
        model.load_state_dict(load_weights(weights))
    except RuntimeError as error:
        raise ExportError(
            f"{weights} are not weights of {experiment.name}; give the experiment they belong to"
        ) from error
    return model.eval()


def thresholds(text: str) -> tuple[float, float]:
    """The two score thresholds "LOW,HIGH". Raises ExportError if they are not that."""
    try:
        low, high = map(float, text.split(","))
    except ValueError as error:
        raise ExportError(f"--cuts takes two numbers, LOW,HIGH, not {text!r}") from error
    if not low < high:
        raise ExportError(f"--cuts takes the lower threshold first, not {text!r}")
    return low, high


def written(
    settings: Experiment, weights: Path | None, out: Path | None, cuts: str, without_training: bool
) -> tuple[Path, float | None]:
    """Where the model is, and what `export` says, None of a network that is untrained; that needs a place of its own,
    or it would stand where the trained one is. Raises ExportError."""
    if without_training == (weights is not None):
        raise ExportError("give either --weights, or --untrained for a network whose answers mean nothing")
    if weights is not None:
        folder = MODELS_DIR / settings.name if out is None else out
        return folder, export(settings, weights, folder, thresholds(cuts))
    if out is None:
        raise ExportError("--untrained needs --out: it is not written over a model that ships")
    untrained(settings, out)
    return out, None


def main(
    experiment: Annotated[Path, typer.Argument(help="the experiment that the weights belong to")],
    weights: Annotated[Path | None, typer.Option(help="averaged weights of the run, weights.pt")] = None,
    out: Annotated[
        Path | None, typer.Option(help="model folder to write; default: models/NAME-OF-THE-EXPERIMENT")
    ] = None,
    cuts: Annotated[str, typer.Option(help="two score thresholds between the engagement classes")] = "0.25,0.75",
    without_training: Annotated[
        bool, typer.Option("--untrained", help="a network for its time alone, in place of --weights; needs no data")
    ] = False,
) -> None:
    """Trained weights as a network that runs without torch, with the manifest that says what its numbers mean.

    Everything is checked against torch on real crops first; nothing is written if it differs.
    """
    try:
        settings = load_experiment(experiment)
        folder, difference = written(settings, weights, out, cuts, without_training)
    except (ExportError, ExperimentError, DataError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    size = (folder / "model.onnx").stat().st_size
    checked = "untrained: its answers mean nothing"
    if difference is not None:
        checked = f"ONNX Runtime against torch: largest difference {difference:.1e}"
    print(f"wrote {folder} ({size / 1e6:.1f} MB); {checked}")


if __name__ == "__main__":
    typer.run(main)
