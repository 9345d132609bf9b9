"""How well a network says where the face lies in its crop: `python -m training.landmarks CROPS.npz --model NAME`.

Held-out crops are turned, scaled and shifted by amounts that are known, as a head moves between two pictures, and the
similarity that the network's landmarks ask for is compared with the one that was applied. What a crop that was not
touched is off by is the noise of the detector that cut it, and is in all figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from rich.progress import track

from engines.base import Engine, EngineError
from engines.choose import load as load_engine
from engines.preprocess import TEMPLATE, to_tensor
from engines.spec import CropSpec, ManifestError, model_at
from training.data.augment import Augment, vary
from training.data.pictures import DataError
from training.data.samples import MARGIN_PX, Samples
from training.data.samples import load as load_samples
from training.evaluate import parts_of
from training.feed import placed

F32 = npt.NDArray[np.float32]

MOVED = Augment(rotate_deg=8.0, scale=0.06, shift_px=5.0, contrast=0, brightness=0, gamma=0, blur_share=0, hide_share=0)
"""How crops are moved: about what a head does in a thirtieth of a second, and nothing else."""
_STILL = Augment(0, 0, 0, 0, 0, 0, 0, 0)
_BATCH = 64


@dataclass(frozen=True, slots=True)
class Placing:
    """Root mean square distance of the five points from their places, in shares of the crop's side: of the crop as it
    was cut, of the network's answer, and of the similarity through that answer, which is what following uses."""

    before: float
    points: float
    fitted: float


def views_of(samples: Samples, how: Augment, side_px: int, seed: int) -> tuple[npt.NDArray[np.uint8], F32]:
    """Moved crops [N, S, S] and where their five points lie [N, 5, 2]."""
    rng = np.random.default_rng(seed)
    views = [vary(crop, MARGIN_PX, side_px, how, rng) for crop in samples.crops]
    stored_px = samples.crops.shape[1]
    return np.stack([view.luma for view in views]), np.stack([placed(view, True, stored_px) for view in views])


def answers(engine: Engine, views: npt.NDArray[np.uint8], spec: CropSpec) -> F32:
    """The network's points [N, 5, 2]. Raises EngineError if it says none."""
    found = []
    for start in track(range(0, len(views), _BATCH), description="landmarks"):
        said = engine.infer({"crop": to_tensor(views[start : start + _BATCH], spec)})
        if "landmarks" not in said:
            raise EngineError(f"{engine.manifest.name} does not say where the face lies in its crop")
        found.append(said["landmarks"])
    return np.concatenate(found)


def fitted(points: F32, template: F32) -> F32:
    """The template [5, 2] laid on each row of points [N, 5, 2] by the similarity of least squares."""
    z, w = template[:, 0] + 1j * template[:, 1], points[..., 0] + 1j * points[..., 1]
    centred = z - z.mean()
    turn = (w * centred.conj()).sum(1) / (np.abs(centred) ** 2).sum()
    laid = turn[:, None] * centred + w.mean(1, keepdims=True)
    return np.stack([laid.real, laid.imag], axis=-1).astype(np.float32)


def placing(points: F32, truth: F32, template: F32) -> Placing:
    """The figures of answers [N, 5, 2] against the truth [N, 5, 2]."""

    def off(found: F32) -> float:
        return float(np.sqrt(np.mean(np.sum((found - truth) ** 2, axis=-1))))

    return Placing(off(np.broadcast_to(template, truth.shape)), off(points), off(fitted(points, template)))


def main(
    crops: Annotated[Path, typer.Argument(help="prepared crops that were not trained on")],
    model: Annotated[str, typer.Option(help="a folder under models/, or a path with a / in it")] = "agcm-lite",
    seed: Annotated[int, typer.Option(help="of the moves")] = 0,
) -> None:
    """Print how far the network's landmarks are off, in thousandths of the crop's side."""
    try:
        file, samples = model_at(model), load_samples(crops)
        spec, _ = parts_of(file.manifest)
        samples = samples.take(samples.found)
        sample = {"crop": np.zeros((1, 1, spec.size_px, spec.size_px), np.float32)}
        engine = load_engine("onnxruntime", file, "fp32", 2, sample)
        for name, how in (("as cut", _STILL), ("moved", MOVED)):
            views, truth = views_of(samples, how, spec.size_px, seed)
            found = placing(answers(engine, views, spec), truth, TEMPLATE)
            typer.echo(
                f"{name}, {len(views)} faces, thousandths of the side: crop {1e3 * found.before:.1f}, "
                f"points {1e3 * found.points:.1f}, similarity {1e3 * found.fitted:.1f}"
            )
    except (DataError, ManifestError, EngineError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


if __name__ == "__main__":
    typer.run(main)
