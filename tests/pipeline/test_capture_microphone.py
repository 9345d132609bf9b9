"""A microphone without hardware: PulseAudio plays into one of its own, and PortAudio records from it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import wave
from collections.abc import Iterator
from pathlib import Path

import av
import msgspec
import numpy as np
import pytest
from scipy.signal import correlate

from engines.backend_onnxruntime import OnnxRuntimeEngine
from engines.hear import Listener
from engines.spec import ModelFile, load_model_file
from engines.voice import HOP, SPEAKS
from pipeline.bus import StopFlag
from pipeline.config import CaptureConfig, Link, LiveConfig
from pipeline.sources import DEMO
from pipeline.track import CHUNK, RATE_HZ, chunks
from tests.pipeline import media
from tests.pipeline.rig import running

START_S = 15.0
TAKES = 3  # a busy machine lets a sound server that is a program stumble
PROGRAMS = ("pulseaudio", "paplay", "pactl")
ALSA_CONFIG = """
</usr/share/alsa/alsa.conf>
pcm.!default { type pulse }
ctl.!default { type pulse }
"""
PLUGINS = [*Path("/usr/lib").glob("*/alsa-lib/libasound_module_pcm_pulse.so")]
SCRIPT = """
import sys, threading, msgspec
from pipeline import capture_audio
from pipeline.config import Link, LiveConfig

stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
capture_audio.run(msgspec.json.decode(sys.argv[1], type=LiveConfig), msgspec.json.decode(sys.argv[2], type=Link), stop)
"""

pytestmark = [
    pytest.mark.camera,
    pytest.mark.skipif(
        not PLUGINS or any(shutil.which(name) is None for name in PROGRAMS),
        reason="needs pulseaudio, pulseaudio-utils and libasound2-plugins",
    ),
]


class Pulse:
    """A sound server with one microphone, in which is heard what is played."""

    def __init__(self, folder: Path) -> None:
        socket, config = folder / "pulse.sock", folder / "asound.conf"
        config.write_text(ALSA_CONFIG)
        self.env = dict(
            os.environ,
            XDG_RUNTIME_DIR=str(folder),
            HOME=str(folder),
            PULSE_SERVER=f"unix:{socket}",
            PULSE_LATENCY_MSEC="20",
            ALSA_CONFIG_PATH=str(config),
        )
        self._socket = socket
        self._server: subprocess.Popen[bytes] | None = None

    def start(self, rate_hz: int = 48_000) -> None:
        modules = [
            f"module-native-protocol-unix auth-anonymous=1 socket={self._socket}",
            f"module-null-sink sink_name=vspk rate={rate_hz} channels=1 format=s16le norewinds=1",
            "module-remap-source source_name=vmic master=vspk.monitor",
        ]
        loads = [word for module in modules for word in ("-L", module)]
        command = ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", *loads]
        self._server = subprocess.Popen(command, env=self.env, stderr=subprocess.DEVNULL)
        deadline_s = time.monotonic() + START_S
        while time.monotonic() < deadline_s:
            if self._run("pactl", "set-default-source", "vmic").returncode == 0:
                return
        pytest.skip("PulseAudio does not start here")

    def play(self, path: Path, latency_ms: int = 20) -> None:
        assert self._run("paplay", f"--latency-msec={latency_ms}", "--device=vspk", str(path)).returncode == 0

    def stop(self) -> None:
        if self._server is not None:
            self._server.kill()
            self._server.wait()

    def _run(self, *command: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(["timeout", "10", *command], env=self.env, stderr=subprocess.DEVNULL, check=False)


@pytest.fixture
def pulse(tmp_path: Path) -> Iterator[Pulse]:
    server = Pulse(tmp_path)
    yield server
    server.stop()


def recorded(pulse: Pulse, folder: Path, stop: StopFlag, cfg: LiveConfig, link: Link) -> None:
    """The worker in a process of its own: PortAudio looks at its surroundings once per process."""
    command = [sys.executable, "-c", SCRIPT, msgspec.json.encode(cfg).decode(), msgspec.json.encode(link).decode()]
    root = Path(__file__).parents[2]
    with (folder / "stderr").open("wb") as stderr:
        process = subprocess.Popen(command, env=pulse.env, cwd=root, stdin=subprocess.PIPE, stderr=stderr)
        while process.poll() is None and not stop.wait(0.05):
            pass
        process.communicate(timeout=20)


def write(path: Path, samples: np.ndarray) -> None:
    """16-bit mono at 16 kHz."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(samples.astype("<i2").tobytes())


def test_a_known_sound_arrives_sample_by_sample_and_is_heard_as_in_its_file(tmp_path: Path, pulse: Pulse) -> None:
    """The demo's voice, played into a microphone of the rate at which it is heard."""
    with av.open(str(DEMO)) as container:
        known = np.concatenate([chunk.samples for chunk in chunks(container, container.streams.audio[0], 0)])
    known = np.rint(known[: 9 * RATE_HZ] * 32767)
    write(tmp_path / "voice.wav", known)
    pulse.start(RATE_HZ)

    def worker(cfg: LiveConfig, link: Link, stop: StopFlag) -> None:
        recorded(pulse, tmp_path, stop, cfg, link)

    with running(worker, tmp_path, CaptureConfig(camera="0", mic="")) as rig:
        rig.until(lambda rig: len(rig.chunks) > 10)
        for _ in range(TAKES):
            first = len(rig.chunks)
            pulse.play(tmp_path / "voice.wav", latency_ms=500)
            played = len(rig.chunks)
            rig.until(lambda rig, played=played: len(rig.chunks) > played + 50)  # type: ignore[misc]
            sound = np.rint(rig.sound[first * CHUNK :] * 32768)
            at = int(np.argmax(correlate(sound, known, "valid")))
            if np.array_equal(sound[at : at + len(known)], known):
                break
        rig.stop.set()
        rig.to_the_end()
    np.testing.assert_array_equal(sound[at : at + len(known)], known)
    file = load_model_file("agcm-voice")
    heard = [spoken(each / 32768, file) for each in (sound[at % HOP : at + len(known)], known)]
    arrived, own = heard[0][at // HOP :], heard[1]
    assert (own >= SPEAKS).mean() > 0.2
    assert ((arrived >= SPEAKS) == (own >= SPEAKS)).mean() >= 0.98


def spoken(samples: np.ndarray, file: ModelFile) -> np.ndarray:
    """Probability of speech of every step."""
    listener = Listener(OnnxRuntimeEngine(file))
    return listener.hear(samples[: len(samples) // HOP * HOP].astype(np.float32))[:, 0]


def test_microphone_is_heard_lost_and_found(tmp_path: Path, pulse: Pulse) -> None:
    pulse.start()
    tone = (media.sine(1.5) * 32767).astype("<i2")
    with wave.open(str(tmp_path / "tone.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(media.SOUND_HZ)
        file.writeframes(tone.tobytes())

    def worker(cfg: LiveConfig, link: Link, stop: StopFlag) -> None:
        recorded(pulse, tmp_path, stop, cfg, link)

    with running(worker, tmp_path, CaptureConfig(camera="0", mic="")) as rig:
        rig.until(lambda rig: len(rig.chunks) > 10)
        pulse.play(tmp_path / "tone.wav")
        rig.until(lambda rig: len(rig.chunks) > 100)
        assert loudest_hz(rig.sound) == pytest.approx(440, abs=5)
        assert [chunk.seq for chunk in rig.chunks] == list(range(len(rig.chunks)))
        times = np.array([chunk.t_capture_ns for chunk in rig.chunks])
        assert (np.diff(times) > 0).all()
        pulse.stop()
        rig.until(lambda rig: bool(rig.texts("microphone_missing")))
        assert "it is lost" in rig.texts("microphone_missing")[0]
        pulse.start()
        before = len(rig.chunks)
        rig.until(lambda rig: bool(rig.texts("notice")) and len(rig.chunks) > before)
        rig.stop.set()
        rig.to_the_end()
    assert (rig.ends[-1].reason, rig.ends[-1].seq) == ("stopped", len(rig.chunks))
    assert [chunk.seq for chunk in rig.chunks] == list(range(len(rig.chunks)))


def loudest_hz(sound: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
    return float(np.argmax(spectrum)) * 16_000 / len(sound)
