"""A V4L2 camera from the driver's answers to the published score. Where there is no camera, a library that is preloaded
answers as a driver does (v4l2_camera.c); FFmpeg's capture code and everything above it is the real thing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

from engines.spec import MODELS_DIR
from tests.e2e.session import check_results, left_behind, live_session

COMPILER = shutil.which("cc")
SOURCE = Path(__file__).with_name("v4l2_camera.c")
WIDTH_PX, HEIGHT_PX = 640, 480

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="V4L2 is Linux's"),
    pytest.mark.skipif(COMPILER is None, reason="needs a C compiler (cc) for the camera made of software"),
    pytest.mark.skipif(not (MODELS_DIR / "agcm-live" / "manifest.json").is_file(), reason="no model is there"),
]


@dataclass
class SoftwareCamera:
    """/dev/video0 for processes with `env`; it shows the astronaut (scikit-image, public domain)."""

    env: dict[str, str]
    state: Path

    def is_now(self, state: str) -> None:
        """ok, gone, denied or busy, from the next moment on."""
        new = self.state.with_suffix(".new")
        new.write_text(state)
        new.replace(self.state)


@pytest.fixture
def camera(tmp_path: Path) -> SoftwareCamera:
    state, picture, library = tmp_path / "state", tmp_path / "picture.luma", tmp_path / "camera.so"
    astronaut = cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2GRAY)[:HEIGHT_PX]
    shown = np.zeros((HEIGHT_PX, WIDTH_PX))
    shown[:, 64 : 64 + astronaut.shape[1]] = astronaut
    np.round(16 + shown * (219 / 255)).astype(np.uint8).tofile(picture)
    names = {"DEVICE": "/dev/video0", "PICTURE": picture, "STATE": state}
    defines = [f'-D{name}="{path}"' for name, path in names.items()]
    subprocess.run([str(COMPILER), "-shared", "-fPIC", *defines, "-o", library, SOURCE, "-ldl"], check=True)
    made = SoftwareCamera(dict(os.environ, LD_PRELOAD=str(library)), state)
    made.is_now("ok")
    return made


def test_a_face_before_the_camera_is_scored_and_the_camera_is_lost_and_found(camera: SoftwareCamera) -> None:
    with live_session("--camera", "0", "--mic", "none", "--duration", "60", env=camera.env) as session:
        session.read(until_results=40)
        camera.is_now("gone")
        session.read(until_event="camera_lost")
        before = len(session.results)
        camera.is_now("ok")
        session.read(until_event="camera_found")
        session.read(until_results=before + 20)
        session.interrupt()
        session.read()
        session.leave(5)
        assert session.process.returncode == 0, session.stderr
        assert left_behind(session.process.pid) == []
    check_results(session.results)
    assert {result.source for result in session.results} == {"camera-0"}
    assert sum(result.status == "tracked" for result in session.results) > 0.9 * len(session.results)
    numbers = [result.seq for result in session.results]
    assert numbers == sorted(set(numbers))
    stale = session.results[-1].dropped.stale
    assert numbers[-1] + 1 == len(numbers) + stale, "captured = published + stale"
    tracked = [result.score for result in session.results if result.score is not None]
    assert np.ptp(tracked) < 0.05, "one and the same picture, before the loss and after it"


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("gone", "camera '0' is not there"),
        ("denied", "camera '0' may not be used by this user; join the group video"),
        ("busy", "camera '0' is in use by another program"),
    ],
)
def test_a_camera_that_does_not_open_is_one_clear_line(camera: SoftwareCamera, state: str, expected: str) -> None:
    camera.is_now(state)
    with live_session("--camera", "0", "--mic", "none", env=camera.env) as session:
        session.leave(60)
        assert session.process.returncode == 2
        assert left_behind(session.process.pid) == []
    last = session.stderr.strip().splitlines()[-1]
    assert expected in last
    assert "Traceback" not in session.stderr
