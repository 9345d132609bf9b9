"""The networks of a session: found, checked, chosen for this machine and warm."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from msgspec.structs import replace

from engines.backend_tensorrt import TensorRtEngine
from engines.base import Array, DeviceError, Engine, EngineError, Meets
from engines.choose import Chosen, choose
from engines.frame_engine import FrameEngine
from engines.fusion import HearingSpec, TimedSpec
from engines.preprocess import Luma, to_tensor
from engines.spec import (
    MODELS_DIR,
    ConceptSpec,
    CropSpec,
    HeadSpec,
    ManifestError,
    ModelFile,
    load_model_file,
    load_voice_file,
    model_at,
)
from engines.voice import HOP
from pipeline.bus import GPU_FAILED, WorkerError
from pipeline.config import EngineConfig, LiveConfig
from pipeline.sources import may_hear

DETECTOR = "centerface"
FACES = MODELS_DIR / "faces.png"  # square crops in a row; made by benchmarks.faces
_SHAPES: Final = (3 / 4, 9 / 16)  # of the pictures of cameras
_MOST_MET: Final = 8  # faces at once
_REST_S: Final = 0.01  # between two pictures of 60 a second there is this at least


@dataclass(frozen=True, slots=True)
class Networks:
    """The compiled networks of a session, and why these; concepts, heads, crop, hearing and timed are those of the
    concept model. voice: hears, where the model does and there may be sound; voice_concepts are its own. frames: both
    over pictures that lie on a GPU, where TensorRT runs."""

    detector: Engine
    model: Engine
    voice: Engine | None
    concepts: tuple[ConceptSpec, ...]
    heads: HeadSpec
    crop: CropSpec
    hearing: HearingSpec | None
    timed: TimedSpec | None
    voice_concepts: tuple[ConceptSpec, ...]
    notices: tuple[str, ...]
    frames: FrameEngine | None = None

    def close(self) -> None:
        if self.frames is not None:
            self.frames.close()
        for engine in filter(None, (self.detector, self.model, self.voice)):
            engine.close()


def load(cfg: LiveConfig) -> Networks:
    """Load and warm up all networks. A GPU that fails, or has no memory, while it is made ready is left alone, unless
    it was asked for by name. Raises WorkerError if a network cannot be had: the user's to mend, or GPU_FAILED."""
    # What OpenCV does to a picture of a camera is too little to share out, and its threads, which wait for more by
    # spinning, would keep a core from the networks.
    cv2.setNumThreads(1)
    try:
        try:
            return _loaded(cfg)
        except DeviceError as error:
            if cfg.engine.backend != "auto" or cfg.engine.device == "cpu":
                raise WorkerError(str(error), GPU_FAILED) from error
            lost = f"the GPU is left alone: {error}"
        found = _loaded(replace(cfg, engine=replace(cfg.engine, device="cpu")))
        return dataclasses.replace(found, notices=(lost, *found.notices))
    except (ManifestError, EngineError) as error:
        raise WorkerError(str(error), 2) from error


def _loaded(cfg: LiveConfig) -> Networks:
    """Raises WorkerError, ManifestError, EngineError; what was opened by then is closed."""
    engine = cfg.engine
    model = model_at(engine.model)
    heads, crop = model.manifest.heads, model.manifest.crop
    if heads is None or crop is None:
        raise WorkerError(f"model {engine.model!r} is no concept model: its manifest has no heads or no crop", 2)
    if cfg.readout.voice_prior and (model.manifest.hearing is None or model.manifest.hearing.prior is None):
        raise WorkerError(f"readout.voice_prior: model {engine.model!r} has no prior weights of a voice", 2)
    faces = _faces(crop)
    hears = load_voice_file(model) if may_hear(cfg.capture) else None
    rest_s = 0.0 if cfg.capture.pace == "max" else _REST_S
    on_cpu = engine.device == "cpu"
    with ExitStack() as stack:
        concepts = choose(
            engine.backend, model, engine.precision, engine.threads, {"crop": faces[:1]}, {"crop": faces}, rest_s,
            on_cpu=on_cpu,
        )  # fmt: skip
        stack.callback(concepts.engine.close)
        usual, *others = (_sight(cfg, shape) for shape in _SHAPES)
        detector = _detector(concepts.engine, engine, usual)
        stack.callback(detector.engine.close)
        voice = None if hears is None else choose(engine.backend, hears, "fp32", 1, _hush(hears), on_cpu=on_cpu)
        if voice is not None:
            stack.callback(voice.engine.close)
        _met(detector.engine, [{"luma": other} for other in others])
        several = range(2, min(cfg.face.max_faces, _MOST_MET, len(faces)) + 1)
        _met(concepts.engine, [{"crop": faces[:count]} for count in several])
        frames, because = _frames(concepts.engine, model)
        stack.pop_all()
    opened = [concepts.engine, detector.engine, *([] if voice is None else [voice.engine])]
    notices = [concepts.choice.summary(), f"detector: {detector.choice.taken.text}", *_compiled(opened, frames)]
    notices += because
    if voice is not None:
        notices.append(f"voice: {voice.engine.manifest.identity}, {voice.engine.backend}")
    return Networks(
        detector.engine, concepts.engine, None if voice is None else voice.engine, model.manifest.concepts, heads, crop,
        model.manifest.hearing, model.manifest.timed, () if hears is None else hears.manifest.concepts, tuple(notices),
        frames,
    )  # fmt: skip


def _compiled(engines: Sequence[Engine], frames: FrameEngine | None) -> list[str]:
    """What is to be said where engines were compiled for this GPU just now: the first time, or since one that was kept
    does not fit or was changed."""
    own = [engine.because for engine in engines if isinstance(engine, TensorRtEngine)]
    reasons = dict.fromkeys(filter(None, (*own, *(() if frames is None else frames.because))))
    return [f"compiled for this GPU: {reason}" for reason in reasons]


def _detector(concepts: Engine, engine: EngineConfig, usual: Array) -> Chosen:
    """The detector, on one thread: it works beside the analysis, has time (engines.ahead) and gives way. In fp32 where
    that is asked for, and on a GPU, which takes as little time for it."""
    exact = concepts.device == "gpu" or engine.precision == "fp32"
    judge = {"luma": _among(_tiles(), usual)}
    precision = "fp32" if exact else None
    on_cpu = engine.device == "cpu"
    return choose(engine.backend, load_model_file(DETECTOR), precision, 1, {"luma": usual}, judge, on_cpu=on_cpu)


def _frames(engine: Engine, model: ModelFile) -> tuple[FrameEngine | None, tuple[str, ...]]:
    """Both networks over whole frames, where the concept network runs in TensorRT, and what is to be said of it. Where
    that cannot be had the CPU goes on cutting crops."""
    library, _, precision = engine.backend.partition("/")
    if library != "tensorrt":
        return None, ()
    try:
        return FrameEngine(load_model_file(DETECTOR), model, precision), ("frames: whole, on the GPU",)
    except (EngineError, ImportError) as error:  # onnx, which joins the networks, is of an extra
        return None, (f"frames: crops are cut on the CPU ({error})",)


def _met(engine: Engine, inputs: Sequence[dict[str, Array]]) -> None:
    """Engines compile or record when they first meet a shape, which takes as long as several frames: now, and not when
    a second person comes."""
    for each in inputs:
        if isinstance(engine, Meets):
            engine.meet(each)
        else:
            engine.infer(each)


def _hush(voice: ModelFile) -> dict[str, Array]:
    """Sound of a chunk, to time the voice network on."""
    shapes = {
        spec.name: tuple(2 * HOP if side == -1 else side for side in spec.shape) for spec in voice.manifest.inputs
    }
    noise = np.random.default_rng(0).normal(0, 0.01, max(shapes.get("samples", (1, 1)))).astype(np.float32)
    return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()} | {"samples": noise[None]}


def _texture(rows: int, columns: int) -> Luma:
    """A picture with soft shades, to time the detector on: the same every time."""
    coarse = np.random.default_rng(0).integers(0, 256, (8, 8)).astype(np.uint8)
    return np.asarray(cv2.resize(coarse, (columns, rows), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def _sight(cfg: LiveConfig, shape: float) -> Array:
    """What the detector sees of a picture whose height is `shape` of its width: float32 [1, 1, H, W]."""
    side = max(32, round(cfg.face.longest_px / 32) * 32)
    return _texture(max(32, round(side * shape / 32) * 32), side)[None, None].astype(np.float32)


def _tiles() -> list[Luma]:
    """Pictures of a face that looks, speaks and moves: engines are chosen on what they are for."""
    strip = cv2.imread(str(FACES), cv2.IMREAD_GRAYSCALE)
    if strip is None:
        raise WorkerError(f"{FACES} is missing or no picture; get the whole repository", 2)
    return [np.asarray(tile, np.uint8) for tile in np.hsplit(strip, strip.shape[1] // strip.shape[0])]


def _faces(crop: CropSpec) -> Array:
    """Crops of these, float32 [N, 1, S, S]."""
    side = crop.size_px, crop.size_px
    return to_tensor(np.stack([np.asarray(cv2.resize(tile, side), np.uint8) for tile in _tiles()]), crop)


def _among(tiles: Sequence[Luma], sight: Array) -> Array:
    """What the detector sees of pictures [1, 1, H, W] with these faces in them, float32 [N, 1, H, W]: a large one, and
    small ones side by side."""
    seen, sides = [], (min(sight.shape[2:]), min(sight.shape[2:]) // 2, min(sight.shape[2:]) // 3)
    for first, side in enumerate(sides):
        one = sight[0, 0].copy()
        places = itertools.product(range(0, one.shape[0] - side + 1, side), range(0, one.shape[1] - side + 1, side))
        for number, (top, left) in enumerate(places):
            tile = tiles[(first + number) % len(tiles)]
            one[top : top + side, left : left + side] = cv2.resize(tile, (side, side), interpolation=cv2.INTER_AREA)
        seen.append(one)
    return np.stack(seen)[:, None]
