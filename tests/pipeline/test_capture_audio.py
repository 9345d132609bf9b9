from __future__ import annotations

import ctypes.util
import sys
import types
from pathlib import Path

import msgspec
import numpy as np
import pytest

from pipeline import capture_audio, capture_video
from pipeline.clock import StopFlag
from pipeline.config import CalibrationConfig, CaptureConfig, Link, LiveConfig
from pipeline.microphone import Chunker, Ring, Tap
from tests.pipeline import media
from tests.pipeline.rig import Rig, running

RATE_HZ = 16_000
CHUNK = 320
MS_NS = 1_000_000
TONE_HZ = 440.0


def played(folder: Path, clip: Path | str, pace: str = "max", mic: str = "") -> Rig:
    """A file's pictures and sound."""
    capture = CaptureConfig(camera=str(clip), mic=mic, pace="max" if pace == "max" else "realtime")
    with running(capture_video.run, folder, capture) as rig:
        return rig.to_the_end()


def tone(count: int, start_s: float = 0.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * TONE_HZ * (start_s + np.arange(count) / RATE_HZ))


def audio_end(rig: Rig) -> tuple[int, str]:
    (end,) = (end for end in rig.ends if end.stream == "audio")
    return end.seq, end.reason


# The sound of a file.


def test_sound_arrives_whole_and_in_its_place(tmp_path: Path) -> None:
    clip = media.with_sound(tmp_path / "clip.mkv", media.numbered(15), media.sine(0.5))
    rig = played(tmp_path, clip)
    assert [chunk.seq for chunk in rig.chunks] == list(range(25))
    assert [chunk.samples for chunk in rig.chunks] == [CHUNK] * 25
    assert [chunk.media_ns for chunk in rig.chunks] == [20 * MS_NS * number for number in range(25)]
    assert {chunk.sample_rate_hz for chunk in rig.chunks} == {RATE_HZ}
    edge = 200
    np.testing.assert_allclose(rig.sound[edge:-edge], tone(len(rig.sound))[edge:-edge], atol=2e-3)
    assert audio_end(rig) == (25, "end_of_file")


def test_sound_leaves_on_the_clock_of_the_pictures(tmp_path: Path) -> None:
    clip = media.with_sound(tmp_path / "clip.mkv", media.numbered(15), media.sine(0.5))
    rig = played(tmp_path, clip, pace="realtime")
    assert len(rig.chunks) == 25
    zero_ns = rig.frames[0].t_capture_ns
    late_ns = [chunk.t_capture_ns - zero_ns - (chunk.media_ns or 0) for chunk in rig.chunks]
    late_ns += [frame.t_capture_ns - zero_ns - (frame.media_ns or 0) for frame in rig.frames]
    # Exact, but for a busy machine, on which the whole file moves on and never back.
    assert min(late_ns) == 0
    times = sorted((chunk.media_ns or 0, chunk.t_capture_ns) for chunk in rig.chunks)
    assert (np.diff([t_ns for _, t_ns in times]) >= 20 * MS_NS).all()


@pytest.mark.parametrize("delay_ms", [100, 7, -60, -200])
def test_sound_that_starts_beside_the_pictures(tmp_path: Path, delay_ms: int) -> None:
    clip = media.with_sound(tmp_path / "clip.mkv", media.numbered(15), media.sine(0.6), delay_ms)
    rig = played(tmp_path, clip)
    start_ns = rig.chunks[0].media_ns
    assert start_ns is not None
    assert abs(start_ns - max(0, delay_ms) * MS_NS) <= MS_NS
    heard = rig.sound[200:3200]
    expected = tone(3000, start_s=200 / RATE_HZ + max(0.0, -delay_ms / 1000))
    np.testing.assert_allclose(heard, expected, atol=2e-3)


def test_sound_ends_with_the_pictures(tmp_path: Path) -> None:
    clip = media.with_sound(tmp_path / "clip.mkv", media.numbered(6), media.sine(2.0))
    rig = played(tmp_path, clip)
    last_ns = rig.chunks[-1].media_ns
    assert last_ns is not None
    assert 170 * MS_NS <= last_ns <= 200 * MS_NS
    assert audio_end(rig) == (len(rig.chunks), "end_of_file")


@pytest.mark.parametrize("lag_ms", [-100, 100])
def test_sound_that_lags_leaves_before_the_pictures_that_need_it(tmp_path: Path, lag_ms: int) -> None:
    clip = media.with_sound(tmp_path / "clip.mkv", media.numbered(6), media.sine(2.0))
    calibration = CalibrationConfig(sync=str(media.sync_file(tmp_path / "sync.json", lag_ms)))

    def worker(cfg: LiveConfig, link: Link, stop: StopFlag) -> None:
        capture_video.run(msgspec.structs.replace(cfg, calibration=calibration), link, stop)

    with running(worker, tmp_path, CaptureConfig(camera=str(clip), pace="max")) as rig:
        rig.to_the_end()
    last_ns = rig.chunks[-1].media_ns
    assert last_ns is not None
    further_ns = max(0, lag_ms) * MS_NS
    assert 170 * MS_NS + further_ns <= last_ns <= 200 * MS_NS + further_ns


def test_short_sound_leaves_the_pictures_alone(tmp_path: Path) -> None:
    clip = media.with_sound(tmp_path / "clip.mkv", media.numbered(15), media.sine(0.13))
    rig = played(tmp_path, clip)
    assert len(rig.frames) == 15
    assert sum(chunk.samples for chunk in rig.chunks) == pytest.approx(0.13 * RATE_HZ, abs=2)
    assert audio_end(rig) == (7, "end_of_file")


def test_sound_comes_before_the_picture_that_needs_it(tmp_path: Path) -> None:
    """With pace=max nobody waits for sound that would only be sent after more pictures."""
    clip = media.with_sound(tmp_path / "clip.mkv", media.numbered(25), media.sine(0.8))
    first, second = played(tmp_path, clip), played(tmp_path, clip)
    assert [chunk.media_ns for chunk in first.chunks] == [chunk.media_ns for chunk in second.chunks]
    np.testing.assert_array_equal(first.sound, second.sound)


def test_clip_without_sound_says_so_and_plays(tmp_path: Path) -> None:
    frames = [media.planes(each, "gray") for each in media.numbered(5)]
    rig = played(tmp_path, media.video(tmp_path / "clip.mkv", frames, "ffv1"))
    assert len(rig.frames) == 5
    assert not rig.chunks
    (text,) = rig.texts("microphone_missing")
    assert "has no sound" in text
    assert audio_end(rig) == (0, "end_of_file")


def test_mic_none_sends_no_sound(tmp_path: Path) -> None:
    clip = media.with_sound(tmp_path / "clip.mkv", media.numbered(5), media.sine(0.2))
    rig = played(tmp_path, clip, mic="none")
    assert (len(rig.frames), rig.chunks, rig.texts("microphone_missing")) == (5, [], [])


def test_with_a_file_there_is_nothing_for_this_worker_to_do(tmp_path: Path) -> None:
    with running(capture_audio.run, tmp_path, CaptureConfig(camera="demo")) as rig:
        rig.to_the_end()
    assert [health.state for health in rig.healths] == ["starting", "ended"]
    assert not rig.ends


# A device.


def test_without_portaudio_the_session_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    monkeypatch.setitem(sys.modules, "_sounddevice_data", types.ModuleType("_sounddevice_data"))
    sys.modules["_sounddevice_data"].__path__ = [str(tmp_path)]
    with running(capture_audio.run, tmp_path, CaptureConfig(camera="0")) as rig:
        rig.to_the_end()
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    (text,) = rig.texts("microphone_missing")
    assert "apt install libportaudio2" in text
    assert "--mic none" in text
    assert audio_end(rig) == (0, "failed")
    assert rig.healths[-1].state == "ended"


@pytest.mark.parametrize("mic", ["no such microphone", "4711"])
def test_unknown_microphone_is_named(tmp_path: Path, mic: str) -> None:
    if ctypes.util.find_library("portaudio") is None:
        pytest.skip("needs PortAudio")
    with running(capture_audio.run, tmp_path, CaptureConfig(camera="0", mic=mic)) as rig:
        rig.to_the_end()
    (text,) = rig.texts("microphone_missing")
    assert mic in text or "no input device is present" in text
    assert text.endswith("the session goes on without sound")
    assert audio_end(rig) == (0, "failed")


def test_ring_returns_what_was_written_and_counts_what_did_not_fit() -> None:
    ring = Ring(1000)
    rng = np.random.default_rng(0)
    written, read = [], []
    for _ in range(200):
        block = rng.random(int(rng.integers(1, 300)), np.float32)
        lost = ring.lost
        ring.write(block)
        if ring.lost == lost:
            written.append(block)
        else:
            assert ring.lost == lost + len(block)
        if rng.random() < 0.6:
            read.append(ring.read())
    read.append(ring.read())
    assert ring.lost > 0
    np.testing.assert_array_equal(np.concatenate(read), np.concatenate(written))


@pytest.mark.parametrize("rate_hz", [16_000, 44_100, 48_000])
def test_chunks_of_a_device(rate_hz: int) -> None:
    """What PortAudio calls with, without PortAudio: times in seconds of its own clock, which jitter."""
    t_ns, rng = 0, np.random.default_rng(1)
    tap = Tap(rate_hz, lambda: t_ns)
    chunker = Chunker(tap, rate_hz)
    sound, block = media.sine(3.0, rate_hz), rate_hz // 100
    status = types.SimpleNamespace(input_overflow=False)
    heard = []
    for at in range(0, len(sound) - block, block):
        delay_s = 0.012 + 0.002 * rng.random()
        t_ns = round((at / rate_hz + delay_s + 0.001 * rng.random()) * 1e9)
        time = types.SimpleNamespace(inputBufferAdcTime=100.0, currentTime=100.0 + delay_s)
        tap(sound[at : at + block].reshape(-1, 1), block, time, status)
        heard.extend(chunker.take())
    assert {len(each.samples) for each in heard} == {CHUNK}
    total = np.concatenate([each.samples for each in heard])
    assert len(total) == pytest.approx(3.0 * RATE_HZ, abs=2 * CHUNK)
    np.testing.assert_allclose(total[200:], tone(len(total))[200:], atol=2e-3)
    # The time of a chunk is the time of its first sample, give or take what the callbacks jitter.
    np.testing.assert_allclose([each.t_ns for each in heard], np.arange(len(heard)) * 20 * MS_NS, atol=MS_NS)


@pytest.mark.parametrize("ppm", [-100.0, 100.0])
def test_chunks_of_a_device_whose_clock_is_off_and_whose_callbacks_are_late(ppm: float) -> None:
    t_ns, rng = 0, np.random.default_rng(2)
    tap = Tap(RATE_HZ, lambda: t_ns)
    chunker = Chunker(tap, RATE_HZ)
    block, silence = RATE_HZ // 100, np.zeros((RATE_HZ // 100, 1), np.float32)
    status = types.SimpleNamespace(input_overflow=False)
    time = types.SimpleNamespace(inputBufferAdcTime=0.0, currentTime=100.0)  # a device that does not know its delay
    period_s = 0.01 / (1 + ppm / 1e6)
    times_ns = []
    for number in range(180 * 100):
        late_s = 0.005 * rng.random() + 0.05 * (rng.random() < 0.01)
        t_ns = round(((number + 1) * period_s + late_s) * 1e9)
        tap(silence, block, time, status)
        times_ns += [each.t_ns for each in chunker.take()]
    off_ns = np.array(times_ns) - np.arange(len(times_ns)) * 2 * period_s * 1e9
    # The usual lateness of 2.5 ms is no drift; it is a part of what calibration.sync measures.
    assert np.abs(off_ns[60 * 50 :] - 2.5 * MS_NS).max() <= 2 * MS_NS
    assert (np.diff(times_ns) > 0).all()
