"""A network in int8, with what it costs: `python -m calibration.int8 CROPS --model agcm-live`.

Ranges of activations are chosen on crops of faces. Each layer is then quantised alone, which says how far the score
moves by it; all are quantised together, but for those that cost most, as many as it takes until what concepts
contribute is off by no more than asked. Distances are measured on crops that the ranges have not seen.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import typer
from rich.progress import track
from typer.exceptions import TyperException

from calibration.crops import CropsError, crops_of
from calibration.quantise import FORMS, Form, Quantiser
from engines.backend_onnxruntime import OnnxRuntimeEngine
from engines.base import EngineError
from engines.concept import ConceptReadout, read
from engines.preprocess import to_tensor
from engines.spec import (
    QUANTISED,
    Away,
    CropSpec,
    HeadSpec,
    Manifest,
    ManifestError,
    ModelFile,
    QuantisedFile,
    QuantisedSpec,
    model_at,
)  # fmt: skip

F32 = npt.NDArray[np.float32]
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

Exit codes: 0 done, 2 a mistake in the arguments or files, or no layers can be quantised within --most
"""

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@dataclass(frozen=True, slots=True)
class Subject:
    """What is quantised: its file, and the parts of its manifest that are needed."""

    file: ModelFile
    crop: CropSpec
    heads: HeadSpec

    def answers(self, path: Path, tensors: F32) -> list[ConceptReadout]:
        """Of a network with the same inputs and outputs, one crop after another."""
        engine = OnnxRuntimeEngine(ModelFile(path, self.file.manifest), threads=2)
        found = [read(engine.infer({"crop": tensors[i : i + 1]}), self.heads)[0] for i in range(len(tensors))]
        engine.close()
        return found


def subject_of(file: ModelFile) -> Subject:
    """Raises ManifestError for a network that is no concept model."""
    manifest: Manifest = file.manifest
    if manifest.crop is None or manifest.heads is None:
        raise ManifestError(f"{manifest.name} is no concept model: its manifest has no crop or no heads")
    return Subject(file, manifest.crop, manifest.heads)


def away(found: Sequence[ConceptReadout], reference: Sequence[ConceptReadout]) -> Away:
    """Over faces in the same order."""
    score = np.array([abs(a.score - b.score) for a, b in zip(found, reference, strict=True)])
    activation = np.stack([np.abs(a.activation - b.activation) for a, b in zip(found, reference, strict=True)])
    shares = np.stack([np.abs(a.contributions - b.contributions)[:, 0] for a, b in zip(found, reference, strict=True)])
    same = [a.expressions.argmax() == b.expressions.argmax() for a, b in zip(found, reference, strict=True)]
    return Away(
        float(score.mean()), float(score.max()), float(activation.mean()), float(activation.max()),
        float(shares.mean()), float(np.mean(same)),
    )  # fmt: skip


def in_form(
    subject: Subject, form: Form, method: str, tensors: tuple[F32, F32], most: float, folder: Path
) -> tuple[Path, QuantisedFile]:
    """The file in `folder`, and what is said of it. tensors: for the ranges, and held out. Raises CropsError if even
    one layer is too many."""
    ranges, held = tensors
    quantiser = Quantiser(subject.file.path, {"crop": ranges}, form, method, folder)
    reference = subject.answers(subject.file.path, held)
    path, alone = folder / f"model.int8-{form}.onnx", dict[str, float]()
    for layer in track(quantiser.layers, description=f"{form}, layers alone"):
        quantiser.write(path, [layer])
        alone[layer] = away(subject.answers(path, held[:_ALONE]), reference[:_ALONE]).score
    dearest = sorted(quantiser.layers, key=lambda layer: -alone[layer])
    for count in range(len(dearest)):
        left = tuple(dearest[:count])
        quantiser.write(path, dearest[count:])
        found = away(subject.answers(path, held), reference)
        if found.score <= most and found.contribution <= most:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            return path, QuantisedFile(form, path.name, digest, left, found, alone)
    raise CropsError(f"no layer of {subject.file.manifest.name} can be quantised within {most}: --most allows more")


def write(
    subject: Subject, tensors: tuple[F32, F32], method: str, most: float, forms: Sequence[Form] = tuple(FORMS)
) -> QuantisedSpec:
    """The forms beside the network, and what is said of them. Raises CropsError if they cannot be written."""
    out = subject.file.path.parent
    with tempfile.TemporaryDirectory() as scratch:
        made = [in_form(subject, form, method, tensors, most, Path(scratch)) for form in dict.fromkeys(forms)]
        try:
            for path, file in made:
                shutil.copyfile(path, out / file.file)
            files = tuple(file for _, file in made)
            spec = QuantisedSpec(subject.file.manifest.sha256, method, len(tensors[0]), len(tensors[1]), files)
            (out / QUANTISED).write_bytes(msgspec.json.format(msgspec.json.encode(spec), indent=1) + b"\n")
        except OSError as error:
            raise CropsError(f"cannot write to {out}: {error.strerror or error}") from error
    return spec


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
) -> None:
    subject = subject_of(model_at(model))
    found = np.concatenate([crops_of(path, subject.crop.size_px) for path in crops])
    if len(found) < _LEAST_CROPS:
        raise CropsError(f"{len(found)} crops; {_LEAST_CROPS} are the least")
    chosen = to_tensor(found[np.random.default_rng(seed).permutation(len(found))[: _RANGES + _HELD]], subject.crop)
    count = min(_RANGES, len(chosen) * 2 // 3)
    forms = tuple(FORMS) if form == "both" else (form,)
    spec = write(subject, (chosen[:count], chosen[count:]), method, most, forms)
    for each in spec.files:
        far = each.away
        print(
            f"wrote {subject.file.path.with_name(each.file)}: score off by {far.score:.4f} on average, "
            f"{far.most_score:.4f} at most, contributions by {far.contribution:.5f}; the first expression stays in "
            f"{far.same:.1%} of {spec.held} crops; {len(each.left)} layers stay in float32"
        )


if __name__ == "__main__":
    try:
        app(standalone_mode=False)
    except (CropsError, EngineError, ManifestError, TyperException) as mistake:
        print(mistake.format_message() if isinstance(mistake, TyperException) else mistake, file=sys.stderr)
        sys.exit(MISTAKE)
