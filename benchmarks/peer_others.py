"""What users would take instead, each a program of its own with an environment of its own, on the same frames."""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import cv2
import msgspec

from benchmarks.machine import ROOT
from benchmarks.peer_ways import U8, Turn
from pipeline.bus import WorkerError

LIMIT_S: Final = 1800.0
_OPENFACE: Final = ("-aus", "-pose", "-gaze", "-2Dfp", "-q")
"""What it is asked for: action units, pose of the head, gaze and landmarks; no pictures."""


class _Said(msgspec.Struct):
    """What the scripts print."""

    version: str
    times_ms: list[float]
    found: int


def mediapipe_turn(python: Path, landmarker: Path, frames: Path) -> Turn:
    """MediaPipe's FaceLandmarker. frames: an npy file, RGB [N, H, W, 3]. Raises WorkerError with the last line that it
    printed."""
    return _in_environment("MediaPipe", python, "peer_mediapipe.py", frames, landmarker)


def pyfeat_turn(python: Path, frames: Path) -> Turn:
    """Py-Feat's second detector; otherwise as `mediapipe_turn`."""
    return _in_environment("Py-Feat", python, "peer_pyfeat.py", frames)


def torch_turn(model: str, frames: Path) -> Turn:
    """Plain torch, in this environment and a process of its own; otherwise as `mediapipe_turn`."""
    return _said(_run("torch", [sys.executable, "-m", "benchmarks.peer_torch", model, str(frames)]))


def _in_environment(name: str, python: Path, script: str, *arguments: Path) -> Turn:
    return _said(_run(name, [str(python), str(ROOT / "benchmarks" / script), *map(str, arguments)]))


def _said(out: str) -> Turn:
    said = msgspec.json.decode(out.strip().splitlines()[-1], type=_Said)
    return Turn(said.times_ms, said.found, said.version)


def openface_turn(program: Path, colours: U8, warm_up: int) -> Turn:
    """OpenFace 2's FeatureExtraction on RGB frames [N, H, W, 3], which it reads from bitmaps. It times nothing itself:
    what a frame takes is the time of all less that of the first `warm_up`, so that its start counts as little as
    anybody's. Raises WorkerError with the last line that it printed."""
    with tempfile.TemporaryDirectory() as folder:
        few_s, _ = _extracted(program, colours[:warm_up], Path(folder) / "few")
        all_s, found = _extracted(program, colours, Path(folder) / "all")
    return Turn([], found, mean_ms=1e3 * (all_s - few_s) / (len(colours) - warm_up))


def _extracted(program: Path, colours: U8, folder: Path) -> tuple[float, int]:
    """Seconds that it takes, and in how many frames it finds a face."""
    pictures, out = folder / "pictures", folder / "out"
    pictures.mkdir(parents=True)
    for number, rgb in enumerate(colours):
        cv2.imwrite(str(pictures / f"{number:06d}.bmp"), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    start_ns = time.perf_counter_ns()
    _run("OpenFace", [str(program), "-fdir", str(pictures), "-out_dir", str(out), *_OPENFACE])
    took_s = (time.perf_counter_ns() - start_ns) / 1e9
    tables = sorted(out.glob("*.csv"))
    if not tables:
        raise WorkerError(f"OpenFace wrote no table: is {program} OpenFace 2's FeatureExtraction?", 2)
    with tables[0].open(newline="", encoding="utf-8") as file:
        rows = [{name.strip(): value for name, value in row.items()} for row in csv.DictReader(file)]
    return took_s, sum(row.get("success", "0").strip() == "1" for row in rows)


def _run(name: str, command: Sequence[str]) -> str:
    """What it prints. Raises WorkerError, the user's to mend."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    except OSError as error:
        raise WorkerError(f"{name}: {command[0]} cannot be run: {error.strerror}", 2) from error
    except subprocess.TimeoutExpired as error:
        raise WorkerError(
            f"{name}: {command[0]} took more than {LIMIT_S / 60:.0f} minutes; take fewer --frames", 2
        ) from error
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines() or ["it printed nothing"]
        raise WorkerError(f"{name} did not run in {command[0]}: {lines[-1]}", 2)
    return done.stdout
