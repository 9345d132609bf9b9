"""CAM-COS and ATT-COS (Belharbi et al., FG 2024): how far a map explanation agrees with the AUs of an expression.

    python -m training.systems.cosine runs/data/ferplus_valid.npz --model system-aucam

Both are cos(map, T), T being the AU map of the labelled expression: CAM-COS with the class map of that expression,
ATT-COS with the attention of the last layer. Pictures without such a T (neutral, contempt) do not count. A class map
is scaled to [0, 1] over the picture first, as it would be shown: this keeps evidence against a class out of the cosine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt
import torch
import typer
from rich.progress import track

from engines.base import Engine, EngineError
from engines.choose import load as load_engine
from engines.preprocess import to_tensor
from engines.spec import CropSpec, ManifestError, model_at
from training.agcm.losses import expression_maps
from training.data.augment import centre
from training.data.pictures import DataError
from training.data.samples import MARGIN_PX, Samples, load
from training.data.writing import replaced
from training.evaluate import parts_of
from training.regions import regions as regions_of
from training.synthetic import ict

F32 = npt.NDArray[np.float32]
_BATCH = 64


class Cosines(msgspec.Struct, frozen=True):
    """Means over `pictures`; NaN if there are none."""

    cam_cos: float
    att_cos: float
    pictures: int


def cosines(class_maps: F32, attention: F32, expression: npt.NDArray[np.int64], regions: F32) -> Cosines:
    """class_maps [N, 1 + E, h, w] as exported (score first), attention [N, h, w], expression [N] (rows of EXPRESSIONS),
    regions [K, h, w] on the same grid (training.regions).
    """
    truth = expression_maps(torch.from_numpy(regions)).numpy().reshape(class_maps.shape[1] - 1, -1)[expression]
    counted = np.flatnonzero(truth.sum(1) > 0)
    if not len(counted):
        return Cosines(float("nan"), float("nan"), 0)
    own = class_maps[counted, 1 + expression[counted]].reshape(len(counted), -1)
    looked = attention[counted].reshape(len(counted), -1)
    return Cosines(_mean_cosine(_scaled(own), truth[counted]), _mean_cosine(looked, truth[counted]), len(counted))


def _scaled(maps: F32) -> F32:
    low, high = maps.min(1, keepdims=True), maps.max(1, keepdims=True)
    return np.asarray((maps - low) / np.maximum(high - low, 1e-12), np.float32)


def _mean_cosine(a: F32, b: F32) -> float:
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(np.mean((a * b).sum(1) / np.maximum(norms, 1e-12)))


def measure(engine: Engine, crop: CropSpec, samples: Samples, face: ict.FaceModel) -> Cosines:
    """Of a model with class maps, on the pictures that have votes and in which a face was found: elsewhere nobody
    knows where the AUs are. Raises DataError if there are none.
    """
    rows = np.flatnonzero(~np.isnan(samples.votes).any(1) & samples.found)
    if not len(rows):
        raise DataError("no picture has both votes on expressions and a found face")
    maps, attention = [], []
    for start in track(range(0, len(rows), _BATCH), description=engine.manifest.name):
        views = [centre(samples.crops[row], MARGIN_PX, crop.size_px) for row in rows[start : start + _BATCH]]
        tensors = engine.infer({"crop": to_tensor(np.stack(views), crop)})
        maps.append(tensors["class_maps"])
        attention.append(tensors["attention"])
    shown = np.concatenate(maps).astype(np.float32)
    places = regions_of(face, shown.shape[-1])
    return cosines(shown, np.concatenate(attention).astype(np.float32), samples.votes[rows].argmax(1), places)


def opened(name: str) -> tuple[Engine, CropSpec]:
    """A model with class maps. Raises ManifestError for another."""
    file = model_at(name)
    crop, _ = parts_of(file.manifest)
    if not {"class_maps", "attention"} <= {spec.name for spec in file.manifest.outputs}:
        raise ManifestError(f"{name} has no class maps; CAM-COS and ATT-COS are of the systems aucam and tscam")
    sample = {"crop": np.zeros((1, 1, crop.size_px, crop.size_px), np.float32)}
    return load_engine("onnxruntime", file, "fp32", 1, sample), crop


def main(
    crops: Annotated[Path, typer.Argument(help="prepared crops with votes or expressions")],
    model: Annotated[str, typer.Option(help="an exported aucam or tscam: a folder under models/, or a path")],
    ict_path: Annotated[Path, typer.Option("--ict", help="ICT-FaceKit npz, which says where each AU is seen")] = Path(
        "runs/corpora/ict_facekit_light.npz"
    ),
    json: Annotated[Path | None, typer.Option(help="also write the figures here")] = None,
) -> None:
    """How far the maps of an exported system agree with the Action Units of the labelled expression: 1 is best."""
    try:
        found = measure(*opened(model), load(crops), ict.load(ict_path))
        if json is not None:
            with replaced(json) as partial:
                partial.write_bytes(msgspec.json.encode(found) + b"\n")
    except (DataError, EngineError, ManifestError, ict.IctFileError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    typer.echo(f"{model}: CAM-COS {found.cam_cos:.3f}, ATT-COS {found.att_cos:.3f}, {found.pictures} pictures")


if __name__ == "__main__":
    typer.run(main)
