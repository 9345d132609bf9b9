"""Pictures and sound joined by the analyze worker: by place in a file, by the clock, and by the lag between them."""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import pytest

from pipeline.bus import WorkerError
from pipeline.clock import now_ns
from pipeline.config import CalibrationConfig
from pipeline.messages import StreamEnd
from pipeline.sync import sync_of
from tests.pipeline.bench import BLACK, Bench, astronaut, chunk, config, needs_model, packet, send, worker
from tests.pipeline.media import sync_file


@needs_model
def test_a_flood_of_frames_leaves_time_to_hear() -> None:
    face = astronaut()
    with worker(config(pace="realtime", mic="0")) as bench, ThreadPoolExecutor(1) as pool:
        assert bench.audio.wait_for_subscriber("audio", None, 5.0)
        over = threading.Event()

        def flood() -> int:
            for seq in itertools.count():
                if over.is_set():
                    return seq
                assert bench.video.send(packet(seq, face), memoryview(face).cast("B"))
                time.sleep(0.002)  # the worker runs in this process and has to get its turn
            return 0

        sent = pool.submit(flood)
        begin_ns, samples = now_ns(), np.full(1600, 0.1, np.float32)
        for seq in range(40):
            t_ns = begin_ns + seq * 100_000_000
            while now_ns() < t_ns:
                time.sleep(0.005)
            told = msgspec.structs.replace(chunk(seq, 0), t_capture_ns=t_ns, media_ns=None)
            bench.audio.send(told, memoryview(samples).cast("B"))
        over.set()
        seen = bench.end(sent=sent.result())
    late = [result.audio for result in seen if result.t_capture_ns > begin_ns + 500_000_000]
    assert len(late) > 5
    assert np.mean([each is not None for each in late]) > 0.8


def listened(bench: Bench, quiet: int) -> list[float | None]:
    """Levels of 18 frames at 0, 33, 67, ... ms of a file with 0.3 s at -20 dBFS and then `quiet` tenths at -40 dBFS."""
    assert bench.audio.wait_for_subscriber("audio", None, 5.0)
    for seq, level in enumerate([0.1] * 3 + [0.01] * quiet):
        bench.audio.send(chunk(seq, seq * 100_000_000), memoryview(np.full(1600, level, np.float32)).cast("B"))
    bench.audio.send(StreamEnd(session="s", source="demo", seq=3 + quiet, stream="audio", reason="end_of_file"))
    send(bench, [BLACK] * 18)
    return [None if result.audio is None else result.audio["level_dbfs"] for result in bench.end(sent=18)]


@needs_model
def test_the_sound_of_a_frame_is_that_of_its_place_in_the_file() -> None:
    with worker(config(mic="file")) as bench:
        levels = listened(bench, quiet=3)
    assert levels[0] is None, "there is no sound before the first"
    assert levels[5:10] == [-20.0] * 5
    assert levels[14:] == [-40.0] * 4


@needs_model
def test_sound_that_lags_is_put_to_its_pictures_and_results_say_so(tmp_path: Path) -> None:
    calibration = CalibrationConfig(sync=str(sync_file(tmp_path / "sync.json", 100.0)))
    with worker(msgspec.structs.replace(config(mic="file"), calibration=calibration)) as bench:
        levels = listened(bench, quiet=4)
    assert levels[2:7] == [-20.0] * 5
    assert levels[11:] == [-40.0] * 7
    (name,) = {result.calibration for result in bench.seen}
    assert name is not None and name.startswith("sync@")
    assert [name in event.text for event in bench.events if "later than its picture" in event.text] == [True]


def test_a_lag_that_cannot_be_read_is_the_users_to_mend(tmp_path: Path) -> None:
    calibration = CalibrationConfig(sync=str(tmp_path / "none.json"))
    with pytest.raises(WorkerError, match="cannot read") as caught:
        sync_of(calibration)
    assert caught.value.exit_code == 2


@needs_model
@pytest.mark.parametrize("waits", [True, False])
def test_live_results_wait_for_sound_that_comes_late_where_they_are_asked_to(tmp_path: Path, waits: bool) -> None:
    """Sound that is 150 ms later than its picture: a noise of a tenth of a second is found at the pictures it belongs
    to, and each of these results is as much older; without waiting it is found later."""
    lag_ns, step_ns = 150_000_000, 50_000_000
    calibration = CalibrationConfig(sync=str(sync_file(tmp_path / "sync.json", lag_ns / 1e6)), wait=waits)
    quiet, loud = np.full(800, 0.001, np.float32), np.full(800, 0.1, np.float32)
    with worker(msgspec.structs.replace(config(pace="realtime", mic="0"), calibration=calibration)) as bench:
        assert bench.audio.wait_for_subscriber("audio", None, 5.0)
        begin_ns, count, noise = now_ns(), 40, range(16, 20)
        for seq in range(count):
            while now_ns() < begin_ns + seq * step_ns:
                time.sleep(0.002)
            samples = loud if seq in noise else quiet
            # A chunk that starts now is told by its start and is sent when it is over.
            told = msgspec.structs.replace(
                chunk(seq, 0), t_capture_ns=begin_ns + (seq - 1) * step_ns, media_ns=None, samples=800
            )
            bench.audio.send(told, memoryview(samples).cast("B"))
            frame = msgspec.structs.replace(packet(seq, BLACK), t_capture_ns=begin_ns + seq * step_ns, media_ns=None)
            assert bench.video.send(frame, memoryview(BLACK).cast("B"))
        seen = bench.end(sent=count)
    assert len(seen) == count - seen[-1].dropped.stale
    settled = [each for each in seen if each.seq >= 10]
    ages_ms = [(each.t_publish_ns - each.t_capture_ns) / 1e6 for each in settled[:-5]]
    loud_at = [each.seq for each in settled if each.audio is not None and each.audio["level_dbfs"] > -25]
    if waits:
        assert 150 <= np.median(ages_ms) < 260
        assert min(loud_at) in (noise[0] - 3, noise[0] - 2, noise[0] - 1)
    else:
        assert np.median(ages_ms) < 50
        assert min(loud_at) >= noise[0]
