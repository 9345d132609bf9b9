from __future__ import annotations

import errno
from pathlib import Path

import av
import pytest

from pipeline.config import CaptureConfig
from pipeline.sources import DEMO, cameras_present, microphone_of, refusal, source_of


@pytest.mark.parametrize(
    ("camera", "kind", "name", "awaited"),
    [
        ("0", "device", "camera-0", False),
        ("/dev/video2", "device", "camera-2", False),
        ("demo", "file", "demo", False),
        ("clips/talk.mp4", "file", "talk", False),
        ("file:///tmp/talk.mp4", "file", "talk", False),
        ("rtsp://10.0.0.2/live", "stream", "stream", False),
        ("http://10.0.0.2/live.ts", "stream", "stream", False),
        ("tcp://10.0.0.2:9000", "stream", "stream", False),
        ("tcp://127.0.0.1:9000?listen=1", "stream", "stream", True),
        ("udp://127.0.0.1:9000", "stream", "stream", True),
    ],
)
def test_what_the_camera_option_means(camera: str, kind: str, name: str, awaited: bool) -> None:
    source = source_of(camera)
    assert (source.kind, source.name, source.awaited, source.text) == (kind, name, awaited, camera)


def test_demo_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert source_of("demo").address == str(DEMO)
    assert DEMO.is_absolute()
    assert DEMO.is_file()


@pytest.mark.parametrize(
    ("camera", "mic", "expected"),
    [
        ("0", "", "device"),
        ("0", "none", "none"),
        ("demo", "", "file"),
        ("demo", "2", "device"),
        ("talk.mp4", "file", "file"),
        ("rtsp://10.0.0.2/live", "", "device"),
        ("rtsp://10.0.0.2/live", "none", "none"),
    ],
)
def test_where_the_sound_comes_from(camera: str, mic: str, expected: str) -> None:
    assert microphone_of(CaptureConfig(camera=camera, mic=mic)) == expected


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOENT, "is not there"),
        (errno.ENODEV, "is not there"),
        (errno.EBUSY, "in use by another program"),
        (errno.EACCES, "group video"),
        (errno.ENOTTY, "is no camera"),
        (errno.EPROTO, "does not open"),
    ],
)
def test_why_a_camera_does_not_open(number: int, expected: str) -> None:
    try:
        av.error.err_check(-number, "/dev/video0")
    except av.error.FFmpegError as error:
        refused = refusal(source_of("0"), error)
    assert expected in str(refused)
    assert str(refused).startswith("camera '0'")
    assert "\n" not in str(refused)
    assert refused.exit_code == 2


def test_cameras_present_is_a_phrase() -> None:
    assert cameras_present() == "none is present" or cameras_present().startswith("present: ")
