"""What a shipped model sees and hears of a recorded session, frame by frame: what a timed head is made of.

Of every concept seen: its activation and what its embedding says to each head of the shipped model (W . c), which is
linear in the embedding and comes out of every exported file. Of every concept heard: its activation.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from engines.base import Engine
from engines.hear import Listener
from engines.preprocess import to_tensor
from engines.spec import CropSpec
from engines.timed import values_of
from engines.voice import BEHIND_S, CONCEPTS, HOP, RATE_HZ, VoiceMeter
from training.data.cache import CropRule
from training.data.corpus import CENTRE_SHARES
from training.data.cut import Cutter
from training.data.pictures import DataError
from training.data.video import frames
from training.data.writing import replaced
from training.voice.speech import decode

F64 = npt.NDArray[np.float64]
_BATCH = 64


@dataclass(frozen=True, slots=True)
class Eyes:
    """detector, concept model and its crop."""

    detector: Engine
    model: Engine
    crop: CropSpec


@dataclass(frozen=True, slots=True)
class Streams:
    """seen [T, K, 1 + O]: activation, then W . c for each of O heads; found [T]: a face was there, and where none is,
    the frame before stays. heard [T, V], activations of engines.voice.CONCEPTS."""

    seen: F64
    found: npt.NDArray[np.bool_]
    heard: F64


def see(path: Path, eyes: Eyes, rate_hz: float) -> tuple[F64, npt.NDArray[np.bool_]]:
    """See Streams. Raises DataError if the video cannot be read or shows no face at all."""
    cutter = Cutter(eyes.detector, CropRule(eyes.crop.size_px, 0, CENTRE_SHARES, eyes.detector.manifest.sha256))
    cuts = [cutter.cut(frame.luma) for frame in frames(path, rate_hz)]
    found = np.array([face for _, face in cuts], bool)
    if not found.any():
        raise DataError(f"{path}: no face in any of its {len(found)} frames")
    crops = np.stack([crop for crop, face in cuts if face])
    parts = [shares(eyes, crops[start : start + _BATCH]) for start in range(0, len(crops), _BATCH)]
    newest = np.maximum.accumulate(np.where(found, np.cumsum(found) - 1, 0))
    return np.concatenate(parts)[newest], found


def shares(eyes: Eyes, crops: npt.NDArray[np.uint8]) -> F64:
    """What is kept of crops [N, S, S]: [N, K, 1 + O], see Streams."""
    said = eyes.model.infer({"crop": to_tensor(crops, eyes.crop)})
    return values_of(*(said[name].astype(np.float64) for name in ("activation", "active", "inactive")))


def hear(path: Path, voice: Engine, count: int, rate_hz: float) -> F64:
    """Activations [count, V] at each frame of a recording, of the sound that a live session joins with it. Raises
    DataError if it cannot be read."""
    samples = decode(path)
    listener, meter, done = Listener(voice), VoiceMeter(), 0
    found = np.zeros((count, len(CONCEPTS)))
    for frame in range(count):
        steps = min(int((frame / rate_hz - BEHIND_S) * RATE_HZ) // HOP, len(samples) // HOP) - done
        if steps > 0:
            meter.push(listener.hear(samples[done * HOP : (done + steps) * HOP]))
            done += steps
        found[frame] = meter.reading().activations
    return found


def save(path: Path, streams: Streams) -> None:
    """Raises DataError if it cannot be written."""
    with replaced(path) as partial, partial.open("wb") as file:
        np.savez_compressed(
            file, allow_pickle=False, seen=streams.seen.astype(np.float32), found=streams.found,
            heard=streams.heard.astype(np.float32),
        )  # fmt: skip


def load(path: Path) -> Streams:
    """What `save` wrote. Raises DataError if other concepts were heard then."""
    with np.load(path, allow_pickle=False) as file:
        found = Streams(file["seen"].astype(np.float64), file["found"], file["heard"].astype(np.float64))
    if found.heard.shape[1:] != (len(CONCEPTS),):
        raise DataError(f"{path} holds {found.heard.shape[1]} voice concepts, not {len(CONCEPTS)}: remove its folder")
    return found
