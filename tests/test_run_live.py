"""The command itself, in a process of its own: every mistake is one line and exit code 2."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.bus import Publisher

ROOT = Path(__file__).parents[1]


def run_live(*arguments: str) -> tuple[int, list[str], str]:
    """Exit code, the lines of stderr, stdout."""
    done = subprocess.run(
        [sys.executable, "run_live.py", *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    return done.returncode, done.stderr.splitlines(), done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--camra", "0"], "--camra"),
        (["--camera"], "--camera"),
        (["extra"], "extra"),
        (["--pace", "fast", "--camera", "demo"], "capture.pace = 'fast': expected realtime or max"),
        (["--pace", "max", "--camera", "0"], "capture.pace = 'max' is for media files"),
        (["--mic", "file", "--camera", "0"], "capture.mic = 'file' is the sound of a media file"),
        (["--duration", "soon"], "session.duration_s = 'soon'"),
        (["--duration", "-1"], "session.duration_s = '-1'"),
        (["--set", "face.max_face=1"], "did you mean face.max_faces?"),
        (["--set", "face.max_faces"], "--set takes section.key=value"),
        (["--config", "no-such.toml"], "cannot read configuration no-such.toml"),
        (["--camera", "no-such.mp4"], "camera 'no-such.mp4' is no index, device, URL or file that exists"),
        (["--camera", "tests"], "camera 'tests' is a folder"),
        (["--camera", "demo", "--model", "no-such"], "unknown model 'no-such'"),
        (["--camera", "demo", "--engine", "opnvino"], "did you mean openvino?"),
        (["--camera", "demo", "--model", "centerface", "--record", "tests"], "recording tests exists"),
        (["--camera", "demo", "--model", "centerface", "--bind", "here"], "cannot bind endpoint 'here'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_bad_argument_is_one_line_and_exit_code_2(arguments: list[str], says: str) -> None:
    exit_code, lines, output = run_live(*arguments)
    assert exit_code == 2
    assert len(lines) == 1, lines
    assert says in lines[0]
    assert not output


def test_an_endpoint_in_use_is_one_line_and_exit_code_2() -> None:
    with Publisher("tcp://127.0.0.1:*", bind=True, lossless=True) as other:
        exit_code, lines, _ = run_live("--camera", "demo", "--model", "centerface", "--bind", other.endpoint)
    assert exit_code == 2
    assert lines == [f"endpoint {other.endpoint} is in use by another program; end it or choose another"]


def test_help_has_examples_and_every_option_of_the_contract() -> None:
    exit_code, _, output = run_live("--help")
    assert exit_code == 0
    assert "python run_live.py --camera demo" in output
    options = ("camera", "mic", "pace", "model", "engine", "bind", "record", "duration", "config", "set")
    assert all(f"--{option}" in output for option in options)


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as POSIX sends them")
@pytest.mark.parametrize("after_s", [0.25, 0.5, 1.0])
def test_ctrl_c_while_it_still_starts_leaves_no_traceback(after_s: float) -> None:
    arguments = ["--camera", "demo", "--mic", "none", "--bind", "tcp://127.0.0.1:*"]
    process = subprocess.Popen(
        [sys.executable, "run_live.py", *arguments],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    time.sleep(after_s)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode in (0, -signal.SIGINT)
    assert "Traceback" not in stderr
