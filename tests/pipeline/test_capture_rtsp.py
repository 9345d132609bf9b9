"""An RTSP camera, as GStreamer's server plays one.

Its bindings are no pip packages. On Debian: gir1.2-gst-rtsp-server-1.0, python3-gi,
gstreamer1.0-plugins-base, -good and -ugly.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline import capture_video
from pipeline.bus import WorkerError
from pipeline.config import CaptureConfig
from tests.pipeline.rig import running

PYTHON = Path("/usr/bin/python3")  # the system's: it has GStreamer's bindings where they are installed
SERVER = """
import sys
import gi
gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer

Gst.init(None)
for element in ("videotestsrc", "x264enc", "rtph264pay"):
    if Gst.ElementFactory.find(element) is None:
        sys.exit(f"GStreamer has no {element}")
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(
    "( videotestsrc is-live=true ! video/x-raw,width=320,height=240,framerate=30/1 "
    "! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 ! rtph264pay name=pay0 pt=96 )"
)
factory.set_shared(True)
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service(sys.argv[1])
server.get_mount_points().add_factory("/camera", factory)
if not server.attach(None):
    sys.exit(f"port {sys.argv[1]} is taken")
print("serving", flush=True)
GLib.MainLoop().run()
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def address() -> Iterator[str]:
    if not PYTHON.is_file():
        pytest.skip("needs the system's Python with GStreamer's RTSP server")
    port = free_port()
    command = [str(PYTHON), "-c", SERVER, str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None and server.stderr is not None
        if server.stdout.readline() != "serving\n":
            pytest.skip(f"no RTSP server here: {server.stderr.read().strip().splitlines()[-1]}")
        yield f"rtsp://127.0.0.1:{port}/camera"
        server.kill()


def test_pictures_of_an_rtsp_camera_come_in_order_and_at_its_pace(tmp_path: Path, address: str) -> None:
    with running(capture_video.run, tmp_path, CaptureConfig(camera=address, mic="none")) as rig:
        rig.until(lambda rig: len(rig.frames) >= 60)
        rig.stop.set()
        rig.to_the_end()
    assert [frame.seq for frame in rig.frames] == list(range(len(rig.frames)))
    assert {picture.shape for picture in rig.pictures} == {(240, 320)}
    times_ns = np.array([frame.t_capture_ns for frame in rig.frames])
    assert (np.diff(times_ns) >= 0).all()
    # What the server had at hand may come at once; the pictures after it come as a camera sends them.
    assert 15 < 1e9 / np.median(np.diff(times_ns[20:])) < 60
    assert rig.frames[0].media_ns is None, "a camera, no file"


@pytest.mark.parametrize("nobody", ["path", "server"])
def test_an_rtsp_address_that_serves_nothing_is_one_clear_line(tmp_path: Path, address: str, nobody: str) -> None:
    wrong = address.replace("/camera", "/other") if nobody == "path" else f"rtsp://127.0.0.1:{free_port()}/camera"
    capture = CaptureConfig(camera=wrong, mic="none")
    with (
        running(capture_video.run, tmp_path, capture) as rig,
        pytest.raises(WorkerError, match="does not open") as caught,
    ):
        rig.to_the_end()
    assert caught.value.exit_code == 2
    assert "check the address" in str(caught.value)
