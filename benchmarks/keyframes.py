"""Which frames of a session were key frames: its own frames and times, given to the face finder once more.

Results do not say whether the detector ran. The finder answers the same pictures and times in the same way, so the
frames that were published tell it afterwards, outside of the measurement.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import msgspec
import numpy as np

from benchmarks.figures import Quantiles, Sample, quantiles
from engines.base import Engine
from engines.choose import load
from engines.face import FaceFinder
from engines.spec import load_model_file
from pipeline.analyze import face_settings
from pipeline.config import FaceConfig
from pipeline.decode import Losses, pictures
from pipeline.luma import LumaReader
from pipeline.messages import Event
from pipeline.networks import DETECTOR
from pipeline.sources import source_of, video_stream

_NAMED = re.compile(r"detector: (\w+)/(\w+)")


class KeyFrames(msgspec.Struct, frozen=True):
    """share: of the published frames. agreement: share of frames in which as many faces were tracked as live; what is
    below 1 makes the others doubtful."""

    share: float
    agreement: float
    age_on_key_frames_ms: Quantiles | None
    age_between_ms: Quantiles | None


@dataclass(frozen=True, slots=True)
class Look:
    """What the finder made of a frame: whether it detected, and how many faces it tracked."""

    is_key: bool
    tracked: int


def detector_of(events: Iterable[Event]) -> tuple[str, str]:
    """Backend and precision of a session's detector, as its notice says."""
    named = (_NAMED.search(event.text) for event in events if event.kind == "notice")
    return next(((match[1], match[2]) for match in named if match), ("onnxruntime", "fp32"))


def open_detector(backend: str, precision: str) -> Engine:
    """The detector of a session. Raises EngineError, ManifestError."""
    blank = np.zeros((1, 1, 192, 320), np.float32)
    return load(backend, load_model_file(DETECTOR), precision, 1, {"luma": blank})


def replay(
    path: Path, face: FaceConfig, detector: Engine, frames: Sequence[Sample], progress: Callable[[Sample], None]
) -> dict[int, Look]:
    """By frame number, what the finder makes of the frames of `path` that were published, at their times."""
    published = {each.seq: each for each in frames}
    # As the analysis has it, but for following, which is by flow here whatever the model.
    finder, reader = FaceFinder(detector, face_settings(face), ahead=detector.device == "cpu"), LumaReader()
    looks = {}
    with av.open(str(path)) as container:
        stream = video_stream(container, source_of(str(path)))
        for seq, picture in enumerate(pictures(container, stream, Losses())):
            if seq > frames[-1].seq:
                break
            if seq in published:
                found = finder.locate(reader.read(picture.frame), published[seq].t_capture_ns)
                looks[seq] = Look(found.detected, sum(each.status == "tracked" for each in found.faces))
                progress(published[seq])
    finder.close()
    return looks


def summary(frames: Sequence[Sample], faces: Mapping[int, int], looks: Mapping[int, Look]) -> KeyFrames | None:
    """faces: how many were tracked live, by frame number. None if nothing was replayed."""
    seen = [each for each in frames if each.seq in looks]
    if not seen:
        return None
    on = [each.age_ms for each in seen if looks[each.seq].is_key]
    between = [each.age_ms for each in seen if not looks[each.seq].is_key]
    agreed = sum(looks[each.seq].tracked == faces.get(each.seq, 0) for each in seen)
    return KeyFrames(len(on) / len(seen), agreed / len(seen), quantiles(on), quantiles(between))
