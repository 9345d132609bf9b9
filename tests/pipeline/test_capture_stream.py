"""A network stream is a camera that can be had without one: it is awaited, lost and found again."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline import capture_video
from pipeline.bus import WorkerError
from pipeline.config import CaptureConfig
from tests.pipeline.rig import Rig, running

FFMPEG = shutil.which("ffmpeg")

pytestmark = pytest.mark.skipif(FFMPEG is None, reason="needs the ffmpeg program as the sender")


class Sender:
    """Sends a second of a moving test picture at its own pace, anew whenever it is asked and has ended."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
        self._process: subprocess.Popen[bytes] | None = None

    def send(self) -> None:
        if self._process is None or self._process.poll() is not None:
            picture = "-v error -re -f lavfi -i testsrc2=size=160x120:rate=30:duration=1"
            coding = "-c:v libx264 -preset ultrafast -tune zerolatency -g 5 -threads 1 -f mpegts"
            command = [str(FFMPEG), *picture.split(), *coding.split(), self.address]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@pytest.fixture
def sender() -> Iterator[Sender]:
    sender = Sender()
    yield sender
    sender.close()


def test_stream_is_awaited_lost_found_and_given_up(tmp_path: Path, sender: Sender) -> None:
    def sent_until_found(rig: Rig) -> bool:
        sender.send()
        return bool(rig.texts("camera_found")) and len(rig.frames) >= before_loss + 3

    capture = CaptureConfig(camera=f"{sender.address}?listen=1", mic="none", reconnect_s=10.0)
    with running(capture_video.run, tmp_path, capture) as rig:
        rig.until(lambda rig: bool(rig.texts("notice")))
        assert "waiting for a sender" in rig.texts("notice")[0]
        before_loss = 0
        rig.until(lambda rig: sender.send() is None and bool(rig.texts("camera_lost")))
        before_loss = len(rig.frames)
        assert before_loss > 3
        rig.until(sent_until_found)
        rig.stop.set()
        rig.to_the_end()
    assert [frame.seq for frame in rig.frames] == list(range(len(rig.frames)))
    assert {picture.shape for picture in rig.pictures} == {(120, 160)}
    assert (np.diff([frame.t_capture_ns for frame in rig.frames]) >= 0).all()
    assert all(frame.t_send_ns >= frame.t_capture_ns for frame in rig.frames)
    assert rig.frames[0].media_ns is None
    assert (rig.ends[-1].reason, rig.ends[-1].seq) == ("stopped", len(rig.frames))


def test_stream_that_does_not_come_back_fails(tmp_path: Path, sender: Sender) -> None:
    capture = CaptureConfig(camera=f"{sender.address}?listen=1", mic="none", reconnect_s=0.6)
    with running(capture_video.run, tmp_path, capture) as rig:
        rig.until(lambda rig: sender.send() is None and bool(rig.frames))
        with pytest.raises(WorkerError, match="did not come back within") as caught:
            rig.to_the_end()
    assert caught.value.exit_code == 1
    assert rig.texts("camera_lost")
    assert not rig.ends


@pytest.mark.parametrize(
    ("capture", "expected"),
    [({"pace": "max"}, "--pace max is for media files"), ({"mic": "file"}, "--mic file is the sound of a media file")],
)
def test_what_only_a_file_can_do(tmp_path: Path, sender: Sender, capture: dict[str, str], expected: str) -> None:
    config = CaptureConfig(camera=f"{sender.address}?listen=1", **({"mic": "none"} | capture))  # type: ignore[arg-type]
    with running(capture_video.run, tmp_path, config) as rig, pytest.raises(WorkerError, match=expected) as caught:
        rig.until(lambda rig: sender.send() is None and rig.error is not None)
        rig.to_the_end()
    assert caught.value.exit_code == 2
