"""The way of a frame in one process, stage by stage, with the memory that the workers keep for it."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

import av
import psutil

from engines.concept import ConceptReadout, read
from engines.face import Face, FaceFinder
from engines.follow import ByFlow, ByLandmarks
from engines.preprocess import Affine, CropBatch, Luma
from pipeline.analyze import Analyzer, face_settings, follows_landmarks, seen_by
from pipeline.bus import Received
from pipeline.clock import WallClock, now_ns
from pipeline.config import LiveConfig
from pipeline.decode import Losses, pictures
from pipeline.luma import LumaReader
from pipeline.messages import Drops, EngagementFrame, FramePacket, encode
from pipeline.networks import Networks
from pipeline.readout import Context, Marks, Place, message, scored, stages
from pipeline.sources import source_of, video_stream

STAGES: Final = ("decode", "luma", "locate", "crop", "tensor", "infer", "readout", "settle", "encode")
WORKER: Final = "analyze"
_PERIOD_NS: Final = 33_333_333


class Meter:
    """Bytes that are new while a stage runs, at the most at one moment: by stage, then by frame number. Memory that is
    kept from frame to frame is not new. It sees what tracemalloc sees: Python's objects and NumPy's arrays."""

    def __init__(self) -> None:
        self.bytes: dict[str, dict[int, int]] = {name: {} for name in (*STAGES, WORKER)}

    @contextmanager
    def at(self, stage: str, seq: int) -> Iterator[None]:
        """Measure what is done inside; tracemalloc is running."""
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        yield
        _, peak = tracemalloc.get_traced_memory()
        self.bytes[stage][seq] = peak - before


class StepMeter(Meter):
    """Bytes that one step of a stage adds, at the most: a step is one instruction of Python's bytecode, with all that
    compiled code does in it. No block that is taken inside is larger, however short it lives, unless the very same step
    gave memory back before. In it are a hundred bytes or so that tracing takes. It takes several times as long.
    """

    def __init__(self) -> None:
        super().__init__()
        self._before = self._most = 0

    @contextmanager
    def at(self, stage: str, seq: int) -> Iterator[None]:
        """See Meter.at. What other threads do is in whichever step they do it."""
        # Calls that are made inside are traced from their beginning; those that are under way must be told.
        callers = [(frame, frame.f_trace, frame.f_trace_opcodes) for frame in _callers(sys._getframe())]
        tracer, collects = sys.gettrace(), gc.isenabled()
        gc.disable()  # what it gives back in the middle of a step would hide what the step takes
        for frame, _, _ in callers:
            frame.f_trace, frame.f_trace_opcodes = self._step, True
        self._begin()
        self._most = 0
        sys.settrace(self._step)
        try:
            yield
        finally:
            sys.settrace(tracer)
            for frame, function, opcodes in callers:
                frame.f_trace, frame.f_trace_opcodes = function, opcodes
            if collects:
                gc.enable()
        self.bytes[stage][seq] = self._most

    def _step(self, frame: FrameType, event: str, value: Any) -> Callable[[FrameType, str, Any], Any]:
        _, peak = tracemalloc.get_traced_memory()
        self._most = max(self._most, peak - self._before)
        frame.f_trace_opcodes = True
        self._begin()
        return self._step

    def _begin(self) -> None:
        tracemalloc.reset_peak()
        self._before, _ = tracemalloc.get_traced_memory()


def _callers(frame: FrameType) -> Iterator[FrameType]:
    """All that wait for it, the nearest first."""
    while frame.f_back is not None:
        frame = frame.f_back
        yield frame


def lumas(path: Path, meter: Meter | None = None) -> Iterator[tuple[int, Luma]]:
    """Number and luma plane of every picture, as the capture worker reads them: to be used before the next."""
    reader = LumaReader()
    with av.open(str(path)) as container:
        decoded = pictures(container, video_stream(container, source_of(str(path))), Losses())
        seq = 0
        while True:
            with _at(meter, "decode", seq):
                picture = next(decoded, None)
            if picture is None:
                return
            with _at(meter, "luma", seq):
                luma = reader.read(picture.frame)
            yield seq, luma
            seq += 1


@contextmanager
def _at(meter: Meter | None, stage: str, seq: int) -> Iterator[None]:
    if meter is None:
        yield
        return
    with meter.at(stage, seq):
        yield


def stage_by_stage(path: Path, cfg: LiveConfig, networks: Networks, meter: Meter, frames: int) -> Iterator[bool]:
    """Takes the first frames of a clip through every stage; of each frame, whether the detector ran. It runs inside
    `locate`, so that what it takes is seen there, and not, as in a session, beside the frames that follow."""
    stages_of = _Stages(cfg, networks, meter)
    for seq, luma in lumas(path, meter):
        if seq == frames:
            return
        yield stages_of.take(seq, luma)


class _Stages:
    """What the analysis does with a frame, each stage a call of its own."""

    def __init__(self, cfg: LiveConfig, networks: Networks, meter: Meter) -> None:
        self._networks, self._meter = networks, meter
        by_landmarks = follows_landmarks(cfg.face, networks.model.manifest)
        follower = ByLandmarks() if by_landmarks else ByFlow()
        self._finder = FaceFinder(networks.detector, face_settings(cfg.face), follower)
        self._crops = CropBatch(networks.crop, cfg.face.max_faces)
        self._wall = WallClock()

    def take(self, seq: int, luma: Luma) -> bool:
        """Whether the detector ran. A frame without a face ends where faces are cut out. What a stage makes lives until
        the frame is over, as in a session."""
        meter, networks, packet = self._meter, self._networks, _packet(seq, luma)
        with meter.at("locate", seq):
            found = self._finder.locate(luma, seq * _PERIOD_NS)
        faces = [face for face in found.faces if face.status == "tracked"]
        if not faces:
            return found.detected
        with meter.at("crop", seq):
            affines = self._crops.cut(luma, [face.points for face in faces])
        with meter.at("tensor", seq):
            tensor = self._crops.tensor(len(faces))
        with meter.at("infer", seq):
            tensors = networks.model.infer({"crop": tensor})
        with meter.at("readout", seq):
            readouts = read(tensors, networks.heads)
            results = [self._message(*each, packet) for each in zip(faces, affines, readouts, strict=True)]
        with meter.at("settle", seq):
            self._finder.settle(luma, seen_by(faces, affines, readouts, networks.crop.size_px))
        with meter.at("encode", seq):
            sent = [encode(result) for result in results]
        return found.detected and bool(sent)

    def _message(self, face: Face, affine: Affine, readout: ConceptReadout, packet: FramePacket) -> EngagementFrame:
        networks, t_ns = self._networks, now_ns()
        place = Place(affine, networks.crop.size_px, packet.width_px, packet.height_px)
        verdict = scored(face.id, readout, networks.concepts, networks.heads, place)
        context = Context(packet, networks.model.manifest.identity, networks.model.backend, None, Drops())
        stages_ms = stages(packet, Marks(t_ns, t_ns, t_ns, t_ns), t_ns)
        return message(verdict, context, verdict.score, stages_ms, t_ns, self._wall.iso(t_ns))


def as_the_worker(path: Path, cfg: LiveConfig, networks: Networks, meter: Meter, frames: int) -> Iterator[None]:
    """The same frames through the analysis of a session, as one stage: from a picture to its results."""
    with closing(Analyzer(cfg, networks)) as analyzer:
        for seq, luma in lumas(path):
            if seq == frames:
                return
            received = Received(_packet(seq, luma), luma.data.cast("B"))
            with meter.at(WORKER, seq):
                analyzer.results(received, seq * _PERIOD_NS, None, Drops(), now_ns())
            yield


def resident_growth(path: Path, cfg: LiveConfig, networks: Networks, warm_up: int) -> tuple[int, int]:
    """Plays the whole clip, from decoding to the encoded result, without measuring anything in between: how many frames
    came after the first `warm_up`, and by how many bytes the process grew over them."""
    process = psutil.Process()
    begin = end = count = 0
    with closing(Analyzer(cfg, networks)) as analyzer:
        for seq, luma in lumas(path):
            received = Received(_packet(seq, luma), luma.data.cast("B"))
            for result in analyzer.results(received, seq * _PERIOD_NS, None, Drops(), now_ns()):
                encode(result)
            end = process.memory_info().rss
            if seq < warm_up:
                begin = end
            else:
                count += 1
    return count, end - begin


def _packet(seq: int, luma: Luma) -> FramePacket:
    t_ns = now_ns()
    return FramePacket(
        session="s", source="demo", seq=seq, t_capture_ns=t_ns, t_send_ns=t_ns,
        width_px=luma.shape[1], height_px=luma.shape[0], media_ns=seq * _PERIOD_NS,
    )  # fmt: skip
