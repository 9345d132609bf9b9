"""A bench for the analyze worker: real sockets, frames and sound that are sent in, and what it says."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data

from engines.spec import MODELS_DIR
from pipeline.analyze import run
from pipeline.bus import Publisher, Subscriber
from pipeline.clock import now_ns
from pipeline.config import CaptureConfig, EngineConfig, Link, LiveConfig
from pipeline.messages import AudioChunk, EngagementFrame, Event, FramePacket, Health, StreamEnd

MODEL = "agcm-live"
PERIOD_NS = 33_333_333
LIMIT_MS = 20_000

needs_model = pytest.mark.skipif(
    not (MODELS_DIR / MODEL / "manifest.json").is_file(), reason=f"models/{MODEL} is not there yet"
)


def astronaut() -> np.ndarray:
    return cv2.cvtColor(skimage.data.astronaut(), cv2.COLOR_RGB2GRAY)


BLACK = np.zeros((512, 512), np.uint8)


def config(pace: str = "max", mic: str = "none", model: str = MODEL) -> LiveConfig:
    return LiveConfig(
        capture=CaptureConfig(camera="demo", mic=mic, pace=pace),
        engine=EngineConfig(model=model, backend="onnxruntime", precision="fp32"),
    )


def packet(seq: int, luma: np.ndarray, decode_errors: int = 0) -> FramePacket:
    t_ns = now_ns()
    return FramePacket(
        session="s",
        source="demo",
        seq=seq,
        t_capture_ns=t_ns,
        t_send_ns=now_ns(),
        width_px=luma.shape[1],
        height_px=luma.shape[0],
        decode_errors=decode_errors,
        media_ns=seq * PERIOD_NS,
    )


def chunk(seq: int, media_ns: int) -> AudioChunk:
    return AudioChunk(
        session="s",
        source="demo",
        seq=seq,
        t_capture_ns=now_ns(),
        sample_rate_hz=16_000,
        samples=1600,
        media_ns=media_ns,
    )


@dataclass
class Bench:
    """Everything around the worker: who sends its frames and sound, and who reads what it says."""

    video: Publisher
    audio: Publisher
    results: Subscriber
    stop: threading.Event
    done: Future[None]
    seen: list[EngagementFrame] = field(default_factory=list)
    health: list[Health] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def read_until(self, wanted: type[Event] | type[Health], word: str) -> None:
        """Read on until an event of that kind or a health of that state has come."""
        while (received := self.results.receive(LIMIT_MS)) is not None:
            told = received.message
            if isinstance(told, EngagementFrame):
                self.seen.append(told)
            elif isinstance(told, Health):
                self.health.append(told)
            elif isinstance(told, Event):
                self.events.append(told)
            if isinstance(told, wanted) and word == (told.kind if isinstance(told, Event) else told.state):
                return
        self.done.result(timeout=0)
        pytest.fail(f"no {word!r} came")

    def end(self, sent: int) -> list[EngagementFrame]:
        """Say that the video is over; all results."""
        self.video.send(StreamEnd(session="s", source="demo", seq=sent, stream="video", reason="end_of_file"))
        self.read_until(Event, "ended")
        self.done.result(timeout=10)
        return self.seen


@contextmanager
def worker(cfg: LiveConfig) -> Iterator[Bench]:
    """The worker in a thread, ready; it is stopped and joined at the end."""
    # Paths of sockets are short: pytest's own folders may be too deep.
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as pool:
        ends = {name: f"ipc://{Path(folder) / name}" for name in ("video", "audio", "results_in")}
        link = Link(session="s", **ends)
        stop = threading.Event()
        with (
            Subscriber(link.results_in, ("engagement", "health", "event"), bind=True) as results,
            Publisher(link.video, bind=True, lossless=cfg.capture.pace == "max") as video,
            Publisher(link.audio, bind=True, lossless=True) as audio,
        ):
            bench = Bench(video, audio, results, stop, pool.submit(run, cfg, link, stop))
            try:
                bench.read_until(Health, "ready")
                assert video.wait_for_subscriber("frame", None, 5.0)
                yield bench
            finally:
                stop.set()


def send(bench: Bench, pictures: Sequence[np.ndarray], decode_errors: int = 0) -> None:
    for seq, luma in enumerate(pictures):
        assert bench.video.send(packet(seq, luma, decode_errors), memoryview(luma).cast("B"))
