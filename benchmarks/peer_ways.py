"""Our way to do the work on a frame, and the same networks without it; each is given the same frames."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import av
import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime

from benchmarks.machine import cores
from engines.base import Array, Device, Engine, Tensors
from engines.concept import read
from engines.detect import detect
from engines.preprocess import crop, similarity, to_tensor
from engines.spec import ModelFile, load_model_file, model_at
from pipeline.analyze import Analyzer
from pipeline.bus import Received, WorkerError
from pipeline.clock import now_ns
from pipeline.decode import Losses, pictures
from pipeline.messages import Drops, FramePacket
from pipeline.sources import source_of, video_stream

WIDTH_PX, HEIGHT_PX = 640, 480
OURS: Final = ("agcm-live", "agcm-live:openvino/int8", "agcm-lite")
_PERIOD_NS: Final = 33_333_333
U8 = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Turn:
    """Milliseconds of every frame, and in how many a face was found. version: of a program that is not ours.

    mean_ms: of a frame, where times_ms is empty since only whole runs can be timed.
    """

    times_ms: list[float]
    found: int
    version: str = ""
    mean_ms: float | None = None


def frames_of(path: Path, count: int) -> tuple[U8, U8]:
    """Luma [N, H, W] and RGB [N, H, W, 3] of the first pictures of a clip, filled up to the size with their border.
    Raises WorkerError if it has fewer."""
    lumas, colours = [], []
    with av.open(str(path)) as container:
        for picture in pictures(container, video_stream(container, source_of(str(path))), Losses()):
            rgb = _filled(np.asarray(picture.frame.to_ndarray(format="rgb24"), np.uint8))
            colours.append(rgb)
            lumas.append(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))
            if len(lumas) == count:
                return np.stack(lumas).astype(np.uint8), np.stack(colours)
    raise WorkerError(f"{path.name} has {len(lumas)} pictures; {count} are needed", 2)


def _filled(rgb: U8) -> U8:
    height, width = rgb.shape[:2]
    scale = min(WIDTH_PX / width, HEIGHT_PX / height)
    small = cv2.resize(rgb, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
    down, right = HEIGHT_PX - small.shape[0], WIDTH_PX - small.shape[1]
    filled = cv2.copyMakeBorder(
        small, down // 2, down - down // 2, right // 2, right - right // 2, cv2.BORDER_REPLICATE
    )
    return np.asarray(filled, np.uint8)


def our_turn(analyzer: Analyzer, lumas: U8) -> Turn:
    """Frames as a session analyses them: from a picture to the result that is published."""
    begin_ns, turn = now_ns(), Turn([], 0)
    for seq, luma in enumerate(lumas):
        t_ns = begin_ns + seq * _PERIOD_NS
        packet = FramePacket(
            session="s",
            source="demo",
            seq=seq,
            t_capture_ns=now_ns(),
            t_send_ns=now_ns(),
            width_px=WIDTH_PX,
            height_px=HEIGHT_PX,
        )
        received = Received(packet, memoryview(luma).cast("B"))
        start_ns = time.perf_counter_ns()
        results = analyzer.results(received, t_ns, None, Drops(), received_ns=now_ns())
        turn.times_ms.append((time.perf_counter_ns() - start_ns) / 1e6)
        turn = Turn(turn.times_ms, turn.found + (results[0].status == "tracked"))
    return turn


class Plain:
    """The same two networks, as somebody would run them who has only that library. Raises ImportError without it."""

    def __init__(self, model: str, library: Literal["onnxruntime", "torch"]) -> None:
        file = model_at(model)
        if file.manifest.crop is None or file.manifest.heads is None:
            raise WorkerError(f"{model} is no concept model", 2)
        self._crop, self._heads = file.manifest.crop, file.manifest.heads
        opened = _Session if library == "onnxruntime" else _with_torch
        self._detector, self._network = opened(load_model_file("centerface")), opened(file)

    def turn(self, lumas: U8) -> Turn:
        """Every frame from the beginning."""
        times_ms, found = [], 0
        for luma in lumas:
            start_ns = time.perf_counter_ns()
            faces = detect(self._detector, luma)
            if faces:
                affine = similarity(faces[0].points, self._crop.size_px)
                tensor = to_tensor(crop(luma, affine, self._crop.size_px)[None], self._crop)
                found += len(read(self._network.infer({"crop": tensor}), self._heads))
            times_ms.append((time.perf_counter_ns() - start_ns) / 1e6)
        return Turn(times_ms, found)


class _Session:
    """A network behind the interface of engines, with ONNX Runtime's own settings but for what it logs."""

    def __init__(self, file: ModelFile) -> None:
        self.manifest = file.manifest
        self.backend = "onnxruntime"
        self.device: Device = "cpu"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self._session: Any = onnxruntime.InferenceSession(str(file.path), options, providers=["CPUExecutionProvider"])

    def infer(self, inputs: Mapping[str, Array]) -> Tensors:
        names = [spec.name for spec in self.manifest.outputs]
        return dict(zip(names, self._session.run(names, dict(inputs)), strict=True))

    def close(self) -> None:
        """Nothing to release."""


def _with_torch(file: ModelFile) -> Engine:
    """One operator after the other, on as many threads as torch takes by itself."""
    from engines.backend_torch import TorchEngine  # takes seconds, and may not be there

    return TorchEngine(file, "fp32", cores(), "cpu")
