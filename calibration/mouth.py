"""How far a speaker's mouth is open in every picture, by the shipped network: activation of AU25 (lips part) + AU26."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

import numpy as np

from calibration.clip import Picture
from calibration.signals import Series, SyncError
from engines.base import Engine, EngineError
from engines.choose import load
from engines.concept import read
from engines.face import FaceFinder, align
from engines.preprocess import to_tensor
from engines.spec import ManifestError, load_model_file

OPENING = ("AU25", "AU26")
_BACKEND = "onnxruntime"
_SIGHT = np.zeros((1, 1, 192, 320), np.float32)
_SMALLEST_PX = 16


@contextmanager
def networks(model: str) -> Iterator[tuple[Engine, Engine]]:
    """The face detector and the concept model of a folder under models/. Raises SyncError."""
    with ExitStack() as stack:
        try:
            file = load_model_file(model)
            crop, heads = file.manifest.crop, file.manifest.heads
            known = {concept.name for concept in file.manifest.concepts}
            if crop is None or heads is None or not known.issuperset(OPENING):
                raise SyncError(
                    f"model {model!r} does not say whether a mouth is open: it has no {' or '.join(OPENING)}"
                )
            sample = {"crop": np.zeros((1, 1, crop.size_px, crop.size_px), np.float32)}
            detector = load(_BACKEND, load_model_file("centerface"), "fp32", 1, {"luma": _SIGHT})
            stack.callback(detector.close)
            engine = load(_BACKEND, file, "fp32", 1, sample)
            stack.callback(engine.close)
        except (ManifestError, EngineError) as error:
            raise SyncError(str(error)) from error
        yield detector, engine


def mouth_of(pictures: Iterable[Picture], detector: Engine, model: Engine) -> Series:
    """The opening of the largest face's mouth, 0 to 2; NaN without a face that is seen well. Raises SyncError."""
    times_s, openings = [], []
    finder = FaceFinder(detector)
    for picture in pictures:
        if min(picture.luma.shape) < _SMALLEST_PX:
            raise SyncError(f"the pictures are too small for a face: {picture.luma.shape[1]}x{picture.luma.shape[0]}")
        times_s.append(picture.time_s)
        openings.append(_opening(picture, finder, model))
    return Series(np.array(times_s), np.array(openings))


def _opening(picture: Picture, finder: FaceFinder, model: Engine) -> float:
    crop, heads = model.manifest.crop, model.manifest.heads
    if crop is None or heads is None:
        raise SyncError(f"{model.manifest.name} is no concept model")
    try:
        faces = finder.locate(picture.luma, round(picture.time_s * 1e9)).faces
        good = [face for face in faces if face.status == "tracked"]
        if not good:
            return float("nan")
        tensor = to_tensor(align(picture.luma, good[0], crop.size_px).luma[None], crop)
        activation = read(model.infer({"crop": tensor}), heads)[0].activation
    except EngineError as error:
        raise SyncError(str(error)) from error
    places = [k for k, concept in enumerate(model.manifest.concepts) if concept.name in OPENING]
    return float(activation[places].sum())
