"""The command on media files whose lag is known."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from calibration.clip import pictures, sound_of
from calibration.lag import speech_lag
from calibration.mouth import mouth_of, networks
from calibration.signals import Series
from calibration.stored import read_sync
from calibration.sync import measure
from tests.calibration.clips import DEMO, clap_clip, moved

ROOT = Path(__file__).parents[2]
LAGS_MS = (-200, -80, 0, 80, 200)
MODEL = ROOT / "models" / "agcm-live" / "manifest.json"
needs_model = pytest.mark.skipif(not MODEL.is_file(), reason="needs models/agcm-live")


def sync(*arguments: str | Path) -> tuple[int, list[str], str]:
    """Exit code, the lines of stderr, stdout."""
    command = [sys.executable, "-m", "calibration.sync", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, done.stderr.splitlines(), done.stdout


@pytest.mark.parametrize("fps", [25, 30])
@pytest.mark.parametrize("lag_ms", LAGS_MS)
def test_the_lag_of_claps_in_a_file(tmp_path: Path, lag_ms: int, fps: int) -> None:
    found = measure(clap_clip(tmp_path / "claps.mp4", lag_ms, fps), "clap")
    print(f"claps, {fps} pictures a second, {lag_ms:+d} ms: found {found.lag_ms:+.1f} ± {found.uncertainty_ms:.1f}")
    assert abs(found.lag_ms - lag_ms) <= 15


@pytest.fixture(scope="module")
def mouth() -> Series:
    """Of the demo clip. Its pictures are the same wherever its sound is."""
    with networks("agcm-live") as (detector, model):
        return mouth_of(pictures(DEMO, lambda _: None, small=False), detector, model)


@needs_model
@pytest.mark.slow
@pytest.mark.parametrize("lag_ms", LAGS_MS)
def test_the_lag_of_speech_in_a_file(tmp_path: Path, lag_ms: int, mouth: Series) -> None:
    clip = moved(DEMO, tmp_path / "talk.mp4", lag_ms)
    times_s = np.array([each.time_s for each in pictures(clip, lambda _: None, small=True)])
    found = speech_lag(sound_of(clip), Series(times_s, mouth.values))
    print(f"speech, {lag_ms:+d} ms: found {found.lag_ms:+.1f} ± {found.uncertainty_ms:.1f}")
    assert abs(found.lag_ms - lag_ms) <= 40
    assert found.uncertainty_ms <= 40


@needs_model
@pytest.mark.slow
def test_the_command_for_speech(tmp_path: Path) -> None:
    out = tmp_path / "sync.json"
    exit_code, lines, _ = sync(moved(DEMO, tmp_path / "talk.mp4", 80), "--method", "speech", "--out", out)
    assert (exit_code, lines) == (0, [])
    assert abs(read_sync(out).result.lag_ms - 80) <= 40


def test_the_command_for_claps_keeps_its_result(tmp_path: Path) -> None:
    clip, out = clap_clip(tmp_path / "claps.mp4", 120), tmp_path / "sync.json"
    arguments = (clip, "--method", "clap", "--out", out, "--camera", "0", "--mic", "USB")
    exit_code, lines, output = sync(*arguments)
    assert (exit_code, lines) == (0, [])
    assert "ms later than its picture" in output
    result = read_sync(out).result
    assert abs(result.lag_ms - 120) <= 15
    assert (result.method, result.events, result.source) == ("clap", 5, "claps.mp4")
    assert (result.camera, result.microphone) == ("0", "USB")
    exit_code, lines, _ = sync(*arguments)
    assert exit_code == 2
    assert "exists; --force replaces it" in lines[0]
    assert sync(*arguments, "--force")[0] == 0


@pytest.fixture(scope="module")
def claps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clap_clip(tmp_path_factory.mktemp("clips") / "claps.mp4", 0)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda claps, folder: moved(claps, folder / "x.mp4", 0, sound=False), "x.mp4 has no sound"),
        (lambda claps, folder: moved(claps, folder / "x.mp4", 0, pictures=False), "x.mp4 has no pictures"),
        (lambda claps, folder: with_sound(folder, np.zeros(48_000)), "the sound is silent"),
        (lambda claps, folder: with_sound(folder, np.full(48_000, np.nan)), "samples that are no numbers"),
        (lambda claps, folder: with_sound(folder, np.full(20, 0.5)), "the sound is too short"),
        (lambda claps, folder: with_sound(folder, np.random.default_rng(0).normal(0, 0.1, 48_000)), "nothing moves"),
        (lambda claps, folder: with_sound(folder, np.full(48_000, 0.5), pictures=1), "too few pictures"),
        (lambda claps, folder: folder / "none.mp4", "there is no file"),
        (lambda claps, folder: folder, "is a folder"),
        (lambda claps, folder: Path(__file__), "is no media file"),
    ],
)
def test_a_file_with_nothing_to_go_by_is_one_line_and_exit_code_2(
    claps: Path, tmp_path: Path, make: object, says: str
) -> None:
    assert callable(make)
    exit_code, lines, output = sync(make(claps, tmp_path), "--method", "clap")
    assert exit_code == 2
    assert len(lines) == 1, lines
    assert says in lines[0]
    assert not output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "RECORDING"),
        (["x.mp4"], "--method"),
        (["x.mp4", "--method", "guess"], "expected clap or speech"),
        (["x.mp4", "--metod", "clap"], "--metod"),
        (["x.mp4", "--method", "clap", "--out", "tests"], "that is a folder"),
        (["x.mp4", "--method", "clap", "--out", "no/sync.json"], "there is no folder no"),
        ([str(DEMO), "--method", "speech", "--model", "no-such"], "unknown model 'no-such'"),
        ([str(DEMO), "--method", "speech", "--model", "centerface"], "no AU25 or AU26"),
    ],
)
def test_a_bad_argument_is_one_line_and_exit_code_2(arguments: list[str], says: str) -> None:
    exit_code, lines, _ = sync(*arguments)
    assert exit_code == 2
    assert len(lines) == 1, lines
    assert says in lines[0]


def with_sound(folder: Path, sound: np.ndarray, pictures: int = 90) -> Path:
    """Still pictures at 30 a second and this sound [N] at 16 kHz, as it is."""
    path = folder / "x.mkv"
    with av.open(str(path), "w") as container:
        seen = container.add_stream("ffv1", rate=30)
        seen.width, seen.height, seen.pix_fmt = 64, 48, "gray"
        heard = container.add_stream("pcm_f32le", rate=16_000, layout="mono")
        for _ in range(pictures):
            container.mux(seen.encode(av.VideoFrame.from_ndarray(np.full((48, 64), 90, np.uint8), format="gray")))
        container.mux(seen.encode())
        frame = av.AudioFrame.from_ndarray(sound.astype(np.float32).reshape(1, -1), format="flt", layout="mono")
        frame.sample_rate = 16_000
        container.mux(heard.encode(frame))
        container.mux(heard.encode())
    return path
