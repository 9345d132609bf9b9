from __future__ import annotations

import sys
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline import capture_video
from pipeline.bus import WorkerError
from pipeline.config import CaptureConfig
from pipeline.slots import Slot
from tests.pipeline import media
from tests.pipeline.rig import Rig, running

MS_NS = 1_000_000
PERIOD_NS = 1_000_000_000 // 30


def captured(folder: Path, camera: Path | str, pace: str = "max", mic: str = "none") -> Rig:
    """Everything that a file becomes."""
    capture = CaptureConfig(camera=str(camera), pace="max" if pace == "max" else "realtime", mic=mic)
    with running(capture_video.run, folder, capture) as rig:
        return rig.to_the_end()


def numbers(rig: Rig) -> list[int]:
    """Which of media.numbered arrived."""
    return [round(int(picture[-1, 0]) / 10) for picture in rig.pictures]


def refused(folder: Path, camera: Path | str, **capture: str) -> str:
    """The line with which a source is refused."""
    config = CaptureConfig(camera=str(camera), mic=capture.pop("mic", "none"), reconnect_s=0.5)
    with running(capture_video.run, folder, config) as rig, pytest.raises(WorkerError) as caught:
        rig.to_the_end()
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    assert not rig.frames
    return str(caught.value)


# What a picture becomes.

RAMP = np.tile(np.arange(256, dtype=np.uint8), (16, 1))
LIMITED = np.rint(16 + RAMP.astype(np.float64) * 219 / 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("pixel_format", "codec", "ending"),
    [
        ("yuv420p", "ffv1", "mkv"),
        ("yuv420p", "libx264", "mp4"),
        ("yuv422p", "ffv1", "mkv"),
        ("yuv420p10le", "ffv1", "mkv"),
        ("nv12", "rawvideo", "nut"),
        ("yuyv422", "rawvideo", "nut"),
    ],
)
def test_video_range_is_expanded(tmp_path: Path, pixel_format: str, codec: str, ending: str) -> None:
    clip = media.video(tmp_path / f"clip.{ending}", [media.planes(LIMITED, pixel_format)] * 2, codec, full_range=False)
    rig = captured(tmp_path, clip)
    assert len(rig.pictures) == 2
    np.testing.assert_allclose(rig.pictures[0].astype(int), RAMP, atol=1)
    assert (rig.pictures[0].min(), rig.pictures[0].max()) == (0, 255)


@pytest.mark.parametrize(
    ("pixel_format", "codec", "ending"),
    [
        ("yuv420p", "ffv1", "mkv"),
        ("yuvj420p", "libx264", "mp4"),
        ("yuv420p10le", "ffv1", "mkv"),
        ("gray", "ffv1", "mkv"),
    ],
)
def test_full_range_stays_as_it_is(tmp_path: Path, pixel_format: str, codec: str, ending: str) -> None:
    clip = media.video(tmp_path / f"clip.{ending}", [media.planes(RAMP, pixel_format)] * 2, codec, full_range=True)
    np.testing.assert_allclose(captured(tmp_path, clip).pictures[1].astype(int), RAMP, atol=1)


def test_beyond_video_range_is_clipped(tmp_path: Path) -> None:
    clip = media.video(tmp_path / "clip.mkv", [media.planes(RAMP, "yuv420p")], "ffv1", full_range=False)
    picture = captured(tmp_path, clip).pictures[0]
    assert (picture[:, :16] == 0).all()
    assert (picture[:, 236:] == 255).all()
    assert (np.diff(picture[0].astype(int)) >= 0).all()


def test_rgb_becomes_full_range_luma(tmp_path: Path) -> None:
    rgb = np.zeros((16, 64, 3), np.uint8)
    rgb[:, 16:32], rgb[:, 32:48], rgb[:, 48:] = 255, (255, 0, 0), (0, 255, 0)
    clip = media.video(tmp_path / "clip.nut", [av.VideoFrame.from_ndarray(rgb, format="rgb24")], "rawvideo")
    picture = captured(tmp_path, clip).pictures[0]
    np.testing.assert_allclose(picture[8, [8, 24, 40, 56]].astype(int), [0, 255, 76, 150], atol=2)


@pytest.mark.parametrize("size", [(63, 47), (65, 49), (33, 31)])
def test_odd_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    width_px, height_px = size
    shown = np.random.default_rng(0).integers(0, 256, (height_px, width_px), np.uint8)
    clip = media.video(tmp_path / "clip.mkv", [media.planes(shown, "yuv420p")], "ffv1", full_range=True)
    rig = captured(tmp_path, clip)
    assert (rig.frames[0].width_px, rig.frames[0].height_px) == size
    np.testing.assert_array_equal(rig.pictures[0], shown)


@pytest.mark.parametrize("pace", ["max", "realtime"])
@pytest.mark.parametrize("clockwise_deg", [0, 90, 180, 270])
def test_turned_clips_arrive_upright(tmp_path: Path, clockwise_deg: int, pace: str) -> None:
    shown = media.numbered(2)[1]
    clip = media.video(tmp_path / "clip.mp4", [media.planes(shown, "yuvj420p")] * 2, "libx264", full_range=True)
    rig = captured(tmp_path, media.turned(clip, clockwise_deg), pace)
    upright = np.rot90(shown, -clockwise_deg // 90)
    np.testing.assert_array_equal(rig.pictures[0], upright)
    assert (rig.frames[0].height_px, rig.frames[0].width_px) == upright.shape


@pytest.mark.parametrize("pace", ["max", "realtime"])
def test_a_stream_that_changes_its_size(tmp_path: Path, pace: str) -> None:
    small, large = media.numbered(3), media.numbered(6, 96, 80)[3:]
    rig = captured(tmp_path, media.at_times(tmp_path / "clip.mkv", [*small, *large], [0, 33, 67, 100, 133, 167]), pace)
    assert [(frame.width_px, frame.height_px) for frame in rig.frames] == [(64, 48)] * 3 + [(96, 80)] * 3
    np.testing.assert_allclose(rig.pictures[5].astype(int), large[2], atol=2)


@pytest.mark.skipif(sys.platform != "linux", reason="memory without a name is Linux's")
@pytest.mark.parametrize(
    ("pace", "slots", "shared"), [("realtime", 8, True), ("realtime", 0, False), ("max", 8, False)]
)
def test_where_pictures_lie(tmp_path: Path, pace: str, slots: int, shared: bool) -> None:
    """In real time in memory that is shared, unless that is not wanted; where none may be lost, in their messages."""
    shown = media.numbered(4)
    clip = media.video(
        tmp_path / "clip.mkv", [media.planes(each, "yuv420p") for each in shown], "ffv1", full_range=True
    )
    capture = CaptureConfig(camera=str(clip), pace="max" if pace == "max" else "realtime", mic="none", slots=slots)
    with running(capture_video.run, tmp_path, capture) as rig:
        rig.to_the_end()
    assert [isinstance(frame.slot, Slot) for frame in rig.frames] == [shared] * 4
    np.testing.assert_array_equal(rig.pictures, shown)


# When it arrives.


def test_every_picture_once_and_in_order_at_full_speed(tmp_path: Path) -> None:
    clip = media.video(tmp_path / "clip.mkv", [media.planes(each, "gray") for each in media.numbered(25)], "ffv1")
    rig = captured(tmp_path, clip)
    assert [frame.seq for frame in rig.frames] == list(range(25))
    assert numbers(rig) == list(range(25))
    assert [(end.seq, end.stream, end.reason) for end in rig.ends] == [(25, "video", "end_of_file")]
    assert all(frame.source == "clip" and frame.t_capture_ns <= frame.t_send_ns for frame in rig.frames)
    np.testing.assert_allclose([frame.media_ns for frame in rig.frames], np.arange(25) * PERIOD_NS, atol=MS_NS)


def test_variable_frame_rate_keeps_its_distances(tmp_path: Path) -> None:
    times_ms = [0, 10, 100, 133, 300, 310, 700]
    clip = media.at_times(tmp_path / "clip.mkv", media.numbered(7), times_ms)
    rig = captured(tmp_path, clip, pace="realtime")
    assert numbers(rig) == list(range(7))
    assert [frame.media_ns for frame in rig.frames] == [t_ms * MS_NS for t_ms in times_ms]
    # A machine that was busy may show one later than it was due, and the rest as much later; never in a burst.
    distances = np.diff([frame.t_capture_ns for frame in rig.frames])
    assert (distances >= np.diff(times_ms) * MS_NS).all()
    assert all(frame.t_send_ns >= frame.t_capture_ns for frame in rig.frames)


@pytest.mark.parametrize(
    ("times_ms", "expected_ms"),
    [
        pytest.param([0, 40, 40, 80, 120], [0, 40, 57, 80, 120], id="duplicate"),
        pytest.param([0, 40, 80, 60, 120], [0, 40, 80, 97, 120], id="backwards"),
        pytest.param([5000, 5040, 5080, 0, 40], [0, 40, 80, 113, 153], id="started anew"),
        pytest.param([0, 40, 900_000, 900_040, 900_080], [0, 40, 73, 113, 153], id="leap"),
    ],
)
def test_bad_timestamps_still_go_forward(tmp_path: Path, times_ms: list[int], expected_ms: list[int]) -> None:
    rig = captured(tmp_path, media.at_times(tmp_path / "clip.mkv", media.numbered(5), times_ms))
    assert numbers(rig) == list(range(5))
    places = [frame.media_ns for frame in rig.frames if frame.media_ns is not None]
    assert (np.diff(places) > 0).all()
    # Half a period of the rate that the file states, or of 30 Hz.
    np.testing.assert_allclose(np.array(places) / MS_NS, expected_ms, atol=6)


def test_missing_timestamps_follow_the_average_rate(tmp_path: Path) -> None:
    frames = [media.planes(each, "yuvj420p") for each in media.numbered(6)]
    rig = captured(tmp_path, media.video(tmp_path / "clip.h264", frames, "libx264"), pace="realtime")
    assert numbers(rig) == list(range(6))
    places = [frame.media_ns for frame in rig.frames if frame.media_ns is not None]
    assert len(set(np.diff(places))) == 1
    assert 20 * MS_NS < places[1] < 45 * MS_NS


def test_corrupt_packets_are_counted_and_passed_over(tmp_path: Path) -> None:
    shown = [*media.numbered(6)]
    packets = [shown[0], None, shown[1], shown[2], None, None, shown[3], shown[4], shown[5]]
    rig = captured(tmp_path, media.at_times(tmp_path / "clip.mkv", packets, list(range(0, 360, 40))))
    assert numbers(rig) == list(range(6))
    assert [frame.seq for frame in rig.frames] == list(range(6))
    assert rig.frames[-1].decode_errors == 3
    assert rig.frames[0].decode_errors == 0
    assert rig.healths[-1].drops == {"decode": 3}
    assert rig.healths[-1].state == "ended"


def test_damaged_h264_goes_on_after_the_damage(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (30, 48, 64), np.uint8)
    clip = media.video(tmp_path / "clip.mp4", [media.planes(each, "yuvj420p") for each in noise], "libx264")
    data = bytearray(clip.read_bytes())
    middle = data.index(b"mdat") + len(data) // 3
    data[middle : middle + 8000] = bytes(8000)
    clip.write_bytes(data)
    rig = captured(tmp_path, clip)
    lost = rig.healths[-1].drops["decode"]
    assert lost > 0
    assert len(rig.frames) + lost == 30
    assert [frame.seq for frame in rig.frames] == list(range(len(rig.frames)))
    assert rig.frames[-1].media_ns == pytest.approx(29 * PERIOD_NS, abs=MS_NS)


def test_a_file_that_breaks_off_ends_there(tmp_path: Path) -> None:
    clip = media.video(tmp_path / "clip.mkv", [media.planes(each, "gray") for each in media.numbered(20)], "ffv1")
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    rig = captured(tmp_path, clip)
    assert 0 < len(rig.frames) < 20
    assert numbers(rig) == list(range(len(rig.frames)))
    assert rig.ends[0].reason == "end_of_file"


def test_stop_ends_the_stream_and_says_so(tmp_path: Path) -> None:
    clip = media.at_times(tmp_path / "clip.mkv", media.numbered(20), [200 * number for number in range(20)])
    with running(capture_video.run, tmp_path, CaptureConfig(camera=str(clip), mic="none")) as rig:
        rig.until(lambda rig: len(rig.frames) >= 2)
        rig.stop.set()
        rig.to_the_end()
    assert (rig.ends[0].reason, rig.ends[0].seq) == ("stopped", len(rig.frames))
    assert len(rig.frames) < 20
    states = [health.state for health in rig.healths]
    assert states[:2] == ["starting", "ready"]
    assert states[-1] == "ended"


def test_demo_is_the_clip_of_the_repository(tmp_path: Path) -> None:
    with running(capture_video.run, tmp_path, CaptureConfig(camera="demo", mic="none", pace="max")) as rig:
        rig.until(lambda rig: len(rig.frames) >= 3)
        rig.stop.set()
        rig.to_the_end()
    assert rig.frames[0].source == "demo"
    assert (rig.frames[0].width_px, rig.frames[0].height_px) == (640, 360)


# What is refused.


def test_no_such_file(tmp_path: Path) -> None:
    assert "is not there" in refused(tmp_path, tmp_path / "nothing.mp4")


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    assert "0 bytes" in refused(tmp_path, tmp_path / "empty.mp4")


def test_folder(tmp_path: Path) -> None:
    assert "folder" in refused(tmp_path, tmp_path)


@pytest.mark.parametrize("content", [b"just words\n" * 40, bytes(range(256)) * 40])
def test_file_that_is_no_video(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "notes.mp4").write_bytes(content)
    assert "video" in refused(tmp_path, tmp_path / "notes.mp4")


def test_sound_only(tmp_path: Path) -> None:
    assert "sound but no picture" in refused(tmp_path, media.sound_only(tmp_path / "song.mkv", media.sine(0.2)))


def test_video_without_a_picture(tmp_path: Path) -> None:
    clip = media.at_times(tmp_path / "clip.mkv", [None, None], [0, 40])
    assert "no picture" in refused(tmp_path, clip)


def test_no_such_camera_names_the_ones_present(tmp_path: Path) -> None:
    line = refused(tmp_path, "97")
    assert "97" in line
    assert "present" in line


def test_device_that_is_no_camera(tmp_path: Path) -> None:
    assert "is no camera" in refused(tmp_path, "/dev/null")


@pytest.mark.parametrize("url", ["tcp://127.0.0.1:9", "http://127.0.0.1:9/live", "rtsp://127.0.0.1:9/live"])
def test_refused_url(tmp_path: Path, url: str) -> None:
    line = refused(tmp_path, url)
    assert url in line
    assert "check the address" in line
