"""The analyze worker on real sockets: a real face goes in as frames, results come out."""

from __future__ import annotations

import itertools
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
import skimage.data

from engines.spec import MODELS_DIR, load_model_file
from pipeline.analyze import Analyzer, run
from pipeline.bus import Publisher, Received, Subscriber, WorkerError
from pipeline.clock import now_ns
from pipeline.config import CalibrationConfig, CaptureConfig, EngineConfig, FaceConfig, Link, LiveConfig
from pipeline.messages import AudioChunk, Drops, EngagementFrame, Event, FramePacket, Health, StreamEnd
from pipeline.networks import load
from pipeline.sync import sync_of
from tests.pipeline.media import sync_file

MODEL = "agcm-live"
PERIOD_NS = 33_333_333
LIMIT_MS = 20_000

needs_model = pytest.mark.skipif(
    not (MODELS_DIR / MODEL / "manifest.json").is_file(), reason=f"models/{MODEL} is not there yet"
)


def _astronaut() -> np.ndarray:
    return cv2.cvtColor(skimage.data.astronaut(), cv2.COLOR_RGB2GRAY)


BLACK = np.zeros((512, 512), np.uint8)


def _config(pace: str = "max", mic: str = "none", model: str = MODEL) -> LiveConfig:
    return LiveConfig(
        capture=CaptureConfig(camera="demo", mic=mic, pace=pace),
        engine=EngineConfig(model=model, backend="onnxruntime", precision="fp32"),
    )


def _packet(seq: int, luma: np.ndarray, decode_errors: int = 0) -> FramePacket:
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


def _chunk(seq: int, media_ns: int) -> AudioChunk:
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
def _worker(cfg: LiveConfig) -> Iterator[Bench]:
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


def _send(bench: Bench, pictures: Sequence[np.ndarray], decode_errors: int = 0) -> None:
    for seq, luma in enumerate(pictures):
        assert bench.video.send(_packet(seq, luma, decode_errors), memoryview(luma).cast("B"))


def _check(result: EngagementFrame) -> None:
    """What holds for every result."""
    age_ms = (result.t_publish_ns - result.t_capture_ns) / 1e6
    assert sum(msgspec.structs.astuple(result.stages_ms)) == pytest.approx(age_ms, abs=0.1)
    assert min(msgspec.structs.astuple(result.stages_ms)) >= 0.0
    if result.status == "tracked":
        assert result.score is not None and result.base is not None
        total = result.base + sum(share.contribution for share in result.contributions)
        assert total == pytest.approx(result.score, abs=1e-4)
        assert all(0.0 <= share.activation <= 1.0 for share in result.contributions)
    else:
        assert (result.score, result.base, result.smoothed, result.contributions) == (None, None, None, ())


@needs_model
def test_every_frame_is_answered_by_its_number_and_truthfully() -> None:
    face = _astronaut()
    with _worker(_config()) as bench:
        _send(bench, [*[face] * 4, *[BLACK] * 4, *[face] * 4], decode_errors=3)
        seen = bench.end(sent=12)
    assert [result.seq for result in seen] == list(range(12))
    assert [result.status for result in seen] == ["tracked"] * 4 + ["no_face"] * 4 + ["tracked"] * 4
    assert [result.face for result in seen] == [1] * 4 + [0] * 4 + [2] * 4
    for result in seen:
        _check(result)
        assert (result.source, result.session) == ("demo", "s")
        assert result.model.startswith("agcm-live@")
        assert result.backend == "onnxruntime/fp32"
        assert (result.dropped.stale, result.dropped.decode) == (0, 3)
        assert result.audio is None
        heads = load_model_file(MODEL).manifest.heads
        known = heads is not None and heads.interval is not None and result.score is not None
        assert (result.uncertainty is not None) == known
    assert bench.events[-1].text == "captured 12 = published 12 + stale 0, decode errors 3"
    assert any("onnxruntime/fp32" in event.text for event in bench.events if event.kind == "notice")
    assert [health.state for health in bench.health][-1] == "ended"


@needs_model
def test_a_concept_is_seen_on_the_face() -> None:
    with _worker(_config()) as bench:
        _send(bench, [_astronaut()])
        (result,) = bench.end(sent=1)
    # The astronaut's face fills about x 170..275 and y 60..190 of 512; the crop reaches a little further.
    for share in result.contributions:
        assert share.at is not None
        assert 0.25 < share.at[0] < 0.62, share
        assert 0.02 < share.at[1] < 0.48, share


@needs_model
def test_two_faces_are_two_results_of_one_frame() -> None:
    face = _astronaut()
    with _worker(_config()) as bench:
        _send(bench, [np.hstack([face, face])] * 3)
        seen = bench.end(sent=3)
    assert [result.seq for result in seen] == [0, 0, 1, 1, 2, 2]
    assert {result.face for result in seen} == {1, 2}
    for result in seen:
        _check(result)
    first, second = seen[0], seen[1]
    assert first.score == pytest.approx(second.score, abs=0.15), "the same face twice"
    left, right = sorted(result.contributions[0].at[0] for result in (first, second))
    assert left < 0.5 < right


@needs_model
def test_a_flood_is_answered_by_the_newest_and_every_loss_is_counted() -> None:
    face, count = _astronaut(), 300
    with _worker(_config(pace="realtime")) as bench:
        _send(bench, [face] * count)
        seen = bench.end(sent=count)
    numbers = [result.seq for result in seen]
    assert numbers == sorted(set(numbers))
    stale = count - len(seen)
    assert stale > 0, "the flood was no flood"
    for published, result in enumerate(seen):
        assert result.dropped.stale == result.seq - published
        _check(result)
    assert bench.events[-1].text == f"captured {count} = published {len(seen)} + stale {stale}, decode errors 0"


@needs_model
def test_a_flood_of_frames_leaves_time_to_hear() -> None:
    face = _astronaut()
    with _worker(_config(pace="realtime", mic="0")) as bench, ThreadPoolExecutor(1) as pool:
        assert bench.audio.wait_for_subscriber("audio", None, 5.0)
        over = threading.Event()

        def flood() -> int:
            for seq in itertools.count():
                if over.is_set():
                    return seq
                assert bench.video.send(_packet(seq, face), memoryview(face).cast("B"))
                time.sleep(0.002)  # the worker runs in this process and has to get its turn
            return 0

        sent = pool.submit(flood)
        begin_ns, samples = now_ns(), np.full(1600, 0.1, np.float32)
        for seq in range(40):
            t_ns = begin_ns + seq * 100_000_000
            while now_ns() < t_ns:
                time.sleep(0.005)
            chunk = msgspec.structs.replace(_chunk(seq, 0), t_capture_ns=t_ns, media_ns=None)
            bench.audio.send(chunk, memoryview(samples).cast("B"))
        over.set()
        seen = bench.end(sent=sent.result())
    late = [result.audio for result in seen if result.t_capture_ns > begin_ns + 500_000_000]
    assert len(late) > 5
    assert np.mean([each is not None for each in late]) > 0.8


@needs_model
def test_the_same_frames_at_full_speed_give_the_same_results() -> None:
    face = _astronaut()
    pictures = [np.roll(face, 3 * step, axis=1) for step in range(15)]
    runs = []
    for _ in range(2):
        with _worker(_config()) as bench:
            _send(bench, pictures)
            runs.append(bench.end(sent=len(pictures)))
    first, second = (
        [(r.seq, r.face, r.status, r.score, r.smoothed, r.contributions, r.expression) for r in each] for each in runs
    )
    assert first == second


@needs_model
def test_the_sound_of_a_frame_is_that_of_its_place_in_the_file() -> None:
    loud, quiet = np.full(1600, 0.1, np.float32), np.full(1600, 0.01, np.float32)
    with _worker(_config(mic="file")) as bench:
        assert bench.audio.wait_for_subscriber("audio", None, 5.0)
        # 0.3 s at -20 dBFS, 0.3 s at -40 dBFS; the frames lie at 0, 33, 67, ... ms.
        for seq, samples in enumerate([loud] * 3 + [quiet] * 3):
            bench.audio.send(_chunk(seq, seq * 100_000_000), memoryview(samples).cast("B"))
        bench.audio.send(StreamEnd(session="s", source="demo", seq=6, stream="audio", reason="end_of_file"))
        _send(bench, [BLACK] * 18)
        seen = bench.end(sent=18)
    levels = [None if result.audio is None else result.audio["level_dbfs"] for result in seen]
    assert levels[0] is None, "there is no sound before the first"
    assert levels[5:10] == [-20.0] * 5
    assert levels[14:] == [-40.0] * 4


@needs_model
def test_sound_that_lags_is_put_to_its_pictures_and_results_say_so(tmp_path: Path) -> None:
    loud, quiet = np.full(1600, 0.1, np.float32), np.full(1600, 0.01, np.float32)
    calibration = CalibrationConfig(sync=str(sync_file(tmp_path / "sync.json", 100.0)))
    with _worker(msgspec.structs.replace(_config(mic="file"), calibration=calibration)) as bench:
        assert bench.audio.wait_for_subscriber("audio", None, 5.0)
        for seq, samples in enumerate([loud] * 3 + [quiet] * 4):
            bench.audio.send(_chunk(seq, seq * 100_000_000), memoryview(samples).cast("B"))
        bench.audio.send(StreamEnd(session="s", source="demo", seq=7, stream="audio", reason="end_of_file"))
        _send(bench, [BLACK] * 18)
        seen = bench.end(sent=18)
    levels = [None if result.audio is None else result.audio["level_dbfs"] for result in seen]
    assert levels[2:7] == [-20.0] * 5
    assert levels[11:] == [-40.0] * 7
    (name,) = {result.calibration for result in seen}
    assert name is not None and name.startswith("sync@")
    assert [name in event.text for event in bench.events if "later than its picture" in event.text] == [True]


def test_a_lag_that_cannot_be_read_is_the_users_to_mend(tmp_path: Path) -> None:
    calibration = CalibrationConfig(sync=str(tmp_path / "none.json"))
    with pytest.raises(WorkerError, match="cannot read") as caught:
        sync_of(calibration)
    assert caught.value.exit_code == 2


@needs_model
def test_stop_is_obeyed_and_the_account_is_given() -> None:
    with _worker(_config()) as bench:
        _send(bench, [BLACK] * 2)
        while len(bench.seen) < 2:
            received = bench.results.receive(LIMIT_MS)
            assert received is not None
            if isinstance(received.message, EngagementFrame):
                bench.seen.append(received.message)
        bench.stop.set()
        bench.read_until(Event, "ended")
        bench.done.result(timeout=2)
    assert bench.events[-1].text == "stopped: captured 2 = published 2 + stale 0, decode errors 0"


@needs_model
def test_an_engine_that_fails_is_an_error_and_never_a_result() -> None:
    cfg, face = _config(), _astronaut()
    networks = load(cfg)
    analyzer = Analyzer(cfg, networks)
    frame = Received(_packet(0, face), memoryview(face).cast("B"))
    assert analyzer.results(frame, 0, None, Drops(), now_ns())[0].status == "tracked"
    networks.model.close()
    with pytest.raises(WorkerError, match="closed") as caught:
        analyzer.results(frame, 1, None, Drops(), now_ns())
    assert caught.value.exit_code == 1
    networks.close()


@needs_model
def test_a_picture_too_small_for_a_face_is_refused() -> None:
    networks = load(_config())
    tiny = np.zeros((8, 8), np.uint8)
    with pytest.raises(WorkerError, match="8x8") as caught:
        Analyzer(_config(), networks).results(
            Received(_packet(0, tiny), memoryview(tiny).cast("B")), 0, None, Drops(), 0
        )
    assert caught.value.exit_code == 2
    networks.close()


@needs_model
def test_settings_that_cannot_be_are_named() -> None:
    cfg = msgspec.structs.replace(_config(), face=FaceConfig(max_faces=0))
    networks = load(cfg)
    with pytest.raises(WorkerError, match=r"\[face\].*max_faces") as caught:
        Analyzer(cfg, networks)
    assert caught.value.exit_code == 2
    networks.close()
