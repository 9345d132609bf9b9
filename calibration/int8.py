"""A network in int8, with what it costs: `python -m calibration.int8 CROPS --model agcm-live`.

Ranges of activations are chosen on crops of faces. Each layer is then quantised alone, which says how far the score,
the activations, the contributions and the landmarks move by it; all are quantised together, but for those that cost
most, as many as it takes until what concepts contribute is off by no more than asked. Distances are measured on crops
that the ranges have not seen; how many expressions are named correctly, on pictures with labels.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import typer
from rich.progress import track
from typer.exceptions import TyperException

from calibration.crops import U8, CropsError, crops_of
from calibration.quantise import FORMS, Form, Quantiser
from engines.backend_onnxruntime import OnnxRuntimeEngine
from engines.base import EngineError
from engines.concept import ConceptReadout, read
from engines.preprocess import to_tensor
from engines.spec import (
    QUANTISED,
    Accuracy,
    Away,
    CropSpec,
    Distance,
    HeadSpec,
    Manifest,
    ManifestError,
    ModelFile,
    QuantisedFile,
    QuantisedSpec,
    model_at,
)  # fmt: skip

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
MISTAKE: Final = 2
_LEAST_CROPS: Final = 64
_RANGES, _HELD, _ALONE = 384, 256, 64
"""Crops at most that ranges are chosen on, that distances are measured on, and that layers are tried alone on."""

HELP = """Write a network in int8 beside itself, and say what it costs.

\b
CROPS are media files with faces, or npz files with crops (uint8 [N, S, S]), of which the middle is taken where they
have a margin. Two files are written beside the network: model.int8-u8.onnx for ONNX Runtime and OpenVINO, and
model.int8-s8.onnx for TensorRT; model.int8.json names them. Then: --engine onnxruntime --set engine.precision=int8.

\b
  python -m calibration.int8 examples/demo/demo.mp4 --model agcm-live
  python -m calibration.int8 runs/data/ferplus_train.npz --model models/mine --method entropy
  python -m calibration.int8 examples/demo/demo.mp4 --model models/mine --expressions runs/data/ferplus_valid.npz

Exit codes: 0 done, 2 a mistake in the arguments or files, or no layers can be quantised within --most
"""

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@dataclass(frozen=True, slots=True)
class Subject:
    """What is quantised: its file, and the parts of its manifest that are needed, of concepts the names."""

    file: ModelFile
    crop: CropSpec
    heads: HeadSpec
    concepts: tuple[str, ...]

    def answers(self, path: Path, tensors: Iterable[F32]) -> Iterator[ConceptReadout]:
        """Of a network with the same inputs and outputs, one crop [1, S, S] after another."""
        engine = OnnxRuntimeEngine(ModelFile(path, self.file.manifest), threads=2)
        for tensor in tensors:
            yield read(engine.infer({"crop": tensor[None]}), self.heads)[0]
        engine.close()

    def accuracy(self, path: Path, pictures: Pictures) -> Accuracy:
        """Of itself, and of that network in int8."""
        shares = []
        for network in (self.file.path, path):
            tensors = (to_tensor(crop[None], self.crop)[0] for crop in pictures.crops)
            first = np.array([_first(found) for found in self.answers(network, tensors)])
            shares.append(float(np.mean(first == pictures.truth)))
        return Accuracy(len(pictures.truth), *shares)


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """Crops uint8 [N, S, S], and the place among the heads' expressions that most votes of each are for [N]."""

    crops: U8
    truth: Ints


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """Tensors [N, 1, S, S] that ranges are chosen on, others that distances are measured on, and pictures whose
    expressions are known, None if there are none."""

    ranges: F32
    held: F32
    pictures: Pictures | None = None


def subject_of(file: ModelFile) -> Subject:
    """Raises ManifestError for a network that is no concept model."""
    manifest: Manifest = file.manifest
    if manifest.crop is None or manifest.heads is None:
        raise ManifestError(f"{manifest.name} is no concept model: its manifest has no crop or no heads")
    return Subject(file, manifest.crop, manifest.heads, tuple(concept.name for concept in manifest.concepts))


def pictures_of(path: Path, size_px: int, expressions: Sequence[str]) -> Pictures:
    """Those with labels in an npz as training.prepare writes it: `crops`, and `votes` [N, E], shares of the votes in
    the order of the expressions. Of shares that are equally high the first counts; rows of NaN or of zeros are no
    labels. Raises CropsError."""
    if path.suffix != ".npz":
        raise CropsError(f"{path} has no labels: --expressions takes an npz with arrays of crops and votes")
    crops = crops_of(path, size_px)
    try:
        with np.load(path, allow_pickle=False) as file:
            votes = file["votes"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise CropsError(f"{path} has no array of votes: {error}") from error
    if votes.dtype.kind not in "fiu" or votes.shape != (len(crops), len(expressions)):
        raise CropsError(
            f"{path}: votes are {votes.dtype}{list(votes.shape)}, numbers [{len(crops)}, {len(expressions)}] are "
            f"needed, one for each crop and expression: {', '.join(expressions) or 'the network names none'}"
        )
    known = np.isfinite(votes).all(axis=1) & (votes > 0).any(axis=1)
    if not known.any():
        raise CropsError(f"{path}: no crop of it has votes for an expression")
    return Pictures(crops[known], votes[known].argmax(axis=1))


def distance(found: Sequence[ConceptReadout], reference: Sequence[ConceptReadout]) -> Distance:
    """Over faces in the same order."""
    pairs = list(zip(found, reference, strict=True))
    places = [
        np.abs(a.landmarks - b.landmarks) for a, b in pairs if a.landmarks is not None and b.landmarks is not None
    ]
    return Distance(
        float(np.mean([abs(a.score - b.score) for a, b in pairs])),
        float(np.mean([np.abs(a.activation - b.activation) for a, b in pairs])),
        float(np.mean([np.abs(_shares(a) - _shares(b)) for a, b in pairs])),
        float(np.mean(places)) if places else None,
    )


def away(found: Sequence[ConceptReadout], reference: Sequence[ConceptReadout], concepts: Sequence[str]) -> Away:
    """Over faces in the same order. concepts: their names, in the order of the readouts."""

    def by_name(values: F64) -> dict[str, float]:
        return dict(zip(concepts, values.tolist(), strict=True))

    pairs = list(zip(found, reference, strict=True))
    activation = np.stack([np.abs(a.activation - b.activation) for a, b in pairs])
    shares, usual = (np.stack([_shares(each) for each in side]) for side in (found, reference))
    return Away(
        **msgspec.structs.asdict(distance(found, reference)),
        most_score=max(abs(a.score - b.score) for a, b in pairs),
        most_activation=float(activation.max()),
        same=float(np.mean([_first(a) == _first(b) for a, b in pairs])),
        activations=by_name(activation.mean(axis=0)),
        contributions=by_name(np.abs(shares - usual).mean(axis=0)),
        sizes=by_name(np.abs(np.abs(shares).mean(axis=0) - np.abs(usual).mean(axis=0))),
    )


def _shares(readout: ConceptReadout) -> F64:
    """What each concept contributed to the score [K]."""
    return readout.contributions[:, 0]


def _first(readout: ConceptReadout) -> int:
    """Place of the likeliest expression; -1 where the network names none."""
    return int(readout.expressions.argmax()) if readout.expressions.size else -1


def dearest_first(alone: Mapping[str, Distance]) -> list[str]:
    """The layers by the largest of what the score, activations and contributions are off where each is quantised
    alone, largest first. Not by landmarks, of which no score is made."""
    return sorted(alone, key=lambda layer: -max(alone[layer].score, alone[layer].activation, alone[layer].contribution))


def in_form(
    subject: Subject, form: Form, method: str, material: Material, most: float, folder: Path
) -> tuple[Path, QuantisedFile]:
    """The file in `folder`, and what is said of it. Raises CropsError if even one layer is too many."""
    held = material.held
    quantiser = Quantiser(subject.file.path, {"crop": material.ranges}, form, method, folder)
    reference = list(subject.answers(subject.file.path, held))
    path, alone = folder / f"model.int8-{form}.onnx", dict[str, Distance]()
    for layer in track(quantiser.layers, description=f"{form}, layers alone"):
        quantiser.write(path, [layer])
        alone[layer] = distance(list(subject.answers(path, held[:_ALONE])), reference[:_ALONE])
    dearest = dearest_first(alone)
    for count in range(len(dearest)):
        left = tuple(dearest[:count])
        quantiser.write(path, dearest[count:])
        found = away(list(subject.answers(path, held)), reference, subject.concepts)
        if found.score <= most and found.contribution <= most:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            accuracy = None if material.pictures is None else subject.accuracy(path, material.pictures)
            return path, QuantisedFile(form, path.name, digest, left, found, alone, accuracy)
    raise CropsError(f"no layer of {subject.file.manifest.name} can be quantised within {most}: --most allows more")


def write(
    subject: Subject, material: Material, method: str, most: float, forms: Sequence[Form] = tuple(FORMS)
) -> QuantisedSpec:
    """The forms beside the network, and what is said of them. Raises CropsError if they cannot be written."""
    out, counts = subject.file.path.parent, (len(material.ranges), len(material.held))
    with tempfile.TemporaryDirectory() as scratch:
        made = [in_form(subject, form, method, material, most, Path(scratch)) for form in dict.fromkeys(forms)]
        try:
            for path, file in made:
                shutil.copyfile(path, out / file.file)
            spec = QuantisedSpec(subject.file.manifest.sha256, method, *counts, tuple(file for _, file in made))
            (out / QUANTISED).write_bytes(msgspec.json.format(msgspec.json.encode(spec), indent=1) + b"\n")
        except OSError as error:
            raise CropsError(f"cannot write to {out}: {error.strerror or error}") from error
    return spec


def told(file: QuantisedFile, path: Path, held: int) -> str:
    """What the command says of a file, over some lines. held: how many crops the distances are of."""
    far, accuracy = file.away, file.accuracy
    activation, share, size = (highest(each) for each in (far.activations, far.contributions, far.sizes))
    lines = [
        f"wrote {path}: score off by {far.score:.4f} on average, {far.most_score:.4f} at most; the first expression "
        f"stays in {far.same:.1%} of {held} crops; {len(file.left)} layers stay in float32",
        f"  activations off by {far.activation:.5f} on average, of one concept by {activation} at most",
        f"  contributions off by {far.contribution:.5f} on average, of one concept by {share} at most; their mean "
        f"absolute values by {size} at most",
    ]
    if accuracy is not None:
        lines.append(
            f"  expressions named correctly in {accuracy.count} crops: {accuracy.float32:.2%} in float32, "
            f"{accuracy.int8:.2%} in int8"
        )
    return "\n".join(lines)


def highest(values: Mapping[str, float]) -> str:
    """The highest value, and the concept that has it."""
    name = max(values, key=values.__getitem__)
    return f"{values[name]:.5f} ({name})"


@app.command(help=HELP)
def main(
    crops: Annotated[list[Path], typer.Argument(metavar="CROPS", help="media files with faces, or npz files")],
    model: Annotated[str, typer.Option(metavar="NAME", help="a folder under models/, or a path with a / in it")],
    method: Annotated[Literal["percentile", "minmax", "entropy"], typer.Option(help="how ranges are chosen")] = (
        "percentile"
    ),
    most: Annotated[float, typer.Option(min=0.0, help="how far score and contributions may be off on average")] = 0.01,
    form: Annotated[Literal["both", "u8", "s8"], typer.Option(help="u8 for CPUs, s8 for TensorRT")] = "both",
    seed: Annotated[int, typer.Option(help="which crops are taken")] = 0,
    expressions: Annotated[
        Path | None, typer.Option(metavar="FILE", help="npz with crops and votes: how many are named correctly")
    ] = None,
) -> None:
    subject = subject_of(model_at(model))
    size_px, names = subject.crop.size_px, subject.heads.expressions
    pictures = None if expressions is None else pictures_of(expressions, size_px, names)
    found = np.concatenate([crops_of(path, size_px) for path in crops])
    if len(found) < _LEAST_CROPS:
        raise CropsError(f"{len(found)} crops; {_LEAST_CROPS} are the least")
    chosen = to_tensor(found[np.random.default_rng(seed).permutation(len(found))[: _RANGES + _HELD]], subject.crop)
    count = min(_RANGES, len(chosen) * 2 // 3)
    forms = tuple(FORMS) if form == "both" else (form,)
    spec = write(subject, Material(chosen[:count], chosen[count:], pictures), method, most, forms)
    for each in spec.files:
        print(told(each, subject.file.path.with_name(each.file), spec.held))


def leave(command: typer.Typer) -> None:
    """Run it; a mistake is one line on stderr and exit code 2."""
    try:
        command(standalone_mode=False)
    except (CropsError, EngineError, ManifestError, TyperException) as mistake:
        print(mistake.format_message() if isinstance(mistake, TyperException) else mistake, file=sys.stderr)
        sys.exit(MISTAKE)


if __name__ == "__main__":
    leave(app)
