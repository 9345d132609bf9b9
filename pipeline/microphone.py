"""A microphone: 16 kHz mono sound with the time at which it was heard.

PortAudio calls back from a thread of its own; there the samples are copied into a ring and nothing else is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType, TracebackType
from typing import Any, Protocol, Self

import av
import numpy as np
from numpy.typing import NDArray

from calibration.drift import Reading, SampleClock
from pipeline.clock import NS_PER_S, now_ns
from pipeline.track import CHUNK, RATE_HZ, flat, resampler

RING_S = 5.0
BLOCKS_HZ = 100
SILENT_NS = NS_PER_S  # a device that does not call for so long is lost
LONGEST_DELAY_S = 1.0

Samples = NDArray[np.float32]


class MicrophoneError(RuntimeError):
    """There is no sound to be had; one line that says how to get it."""


class Ring:
    """The last samples of a device, written by one thread and read by one other. lost: what did not fit."""

    def __init__(self, capacity: int) -> None:
        self._samples = np.zeros(capacity, np.float32)
        self._written = self._read = 0
        self.lost = 0

    @property
    def written(self) -> int:
        """How many samples came in, ever."""
        return self._written

    def write(self, block: Samples) -> None:
        """Copy [N] in; a block that does not fit is lost as a whole."""
        size, start = len(self._samples), self._written
        if len(block) > size - (start - self._read):
            self.lost += len(block)
            return
        at = start % size
        first = min(len(block), size - at)
        self._samples[at : at + first] = block[:first]
        self._samples[: len(block) - first] = block[first:]
        self._written = start + len(block)

    def read(self) -> Samples:
        """A copy of everything that waits [N]."""
        size, start, end = len(self._samples), self._read, self._written
        at, count = start % size, end - start
        taken = np.concatenate([self._samples[at : at + count], self._samples[: max(0, at + count - size)]])
        self._read = end
        return taken


class StreamTime(Protocol):
    """PortAudio's times of a block, in seconds of a clock of its own."""

    inputBufferAdcTime: float
    currentTime: float


class Tap:
    """Takes the blocks of a device; `ring` holds them, `reading` says when the newest block began."""

    def __init__(self, rate_hz: int, clock: Callable[[], int] = now_ns) -> None:
        self._clock = clock
        self.ring = Ring(round(RING_S * rate_hz))
        self.reading: Reading | None = None
        self.called_ns = clock()
        self._rate_hz = rate_hz

    def __call__(self, block: Samples, frames: int, time: StreamTime, status: Any) -> None:
        """PortAudio's callback: block [frames, channels]."""
        t_ns = self._clock()
        delay_s = time.currentTime - time.inputBufferAdcTime
        if not (time.inputBufferAdcTime > 0 and 0 <= delay_s < LONGEST_DELAY_S):
            delay_s = frames / self._rate_hz
        self.reading = Reading(self.ring.written, t_ns - round(delay_s * NS_PER_S))
        self.called_ns = t_ns
        if status.input_overflow:
            # PortAudio does not say how much; a block is the least.
            self.ring.lost += frames
        self.ring.write(block[:, 0])


@dataclass(frozen=True, slots=True)
class Heard:
    """CHUNK samples float32 in [-1, 1] and when the first one was heard."""

    t_ns: int
    samples: Samples


class Chunker:
    """From samples at a device's rate to chunks at RATE_HZ, each with its time."""

    def __init__(self, tap: Tap, rate_hz: int) -> None:
        self._tap, self._rate_hz = tap, rate_hz
        self._clock = SampleClock(rate_hz)
        self._resample = None if rate_hz == RATE_HZ else resampler()
        self._waiting = np.zeros(0, np.float32)
        self._made = 0

    def take(self) -> Iterator[Heard]:
        """The chunks that have become whole since."""
        reading = self._tap.reading
        samples = self._tap.ring.read()
        if reading is None:
            return
        self._clock.observe(reading)
        self._waiting = np.concatenate([self._waiting, self._at_our_rate(samples)])
        while len(self._waiting) >= CHUNK:
            yield Heard(self._clock.at(self._made * self._rate_hz / RATE_HZ), self._waiting[:CHUNK])
            self._waiting = self._waiting[CHUNK:]
            self._made += CHUNK

    def _at_our_rate(self, samples: Samples) -> Samples:
        if self._resample is None or not len(samples):
            return samples
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="flt", layout="mono")
        frame.sample_rate = self._rate_hz
        parts = [flat(part) for part in self._resample.resample(frame)]
        return np.concatenate([np.zeros(0, np.float32), *parts])


class Microphone:
    """An input device that is running. Raises MicrophoneError."""

    def __init__(self, name: str) -> None:
        sounddevice = _portaudio()
        device = _find(sounddevice, name)
        rate_hz = _rate(sounddevice, device)
        self._tap = Tap(rate_hz)
        self._chunker = Chunker(self._tap, rate_hz)
        try:
            self._stream = sounddevice.InputStream(
                device=device["index"],
                samplerate=rate_hz,
                channels=1,
                dtype="float32",
                blocksize=rate_hz // BLOCKS_HZ,
                latency="low",
                callback=self._tap,
            )
            self._stream.start()
        except sounddevice.PortAudioError as error:
            raise MicrophoneError(
                f"{device['name']!r} does not open ({_text(error)}); name another with --mic"
            ) from error

    @property
    def overflows(self) -> int:
        """Samples lost so far, at the device's rate."""
        return self._tap.ring.lost

    def is_alive(self) -> bool:
        """Whether the device still delivers."""
        return bool(self._stream.active) and now_ns() - self._tap.called_ns < SILENT_NS

    def take(self) -> Iterator[Heard]:
        """The chunks that have become whole since the last call."""
        return self._chunker.take()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stream.close()


def look_again() -> None:
    """Make PortAudio see the devices that came since it was loaded; no stream may be open."""
    sounddevice = _portaudio()
    # PortAudio lists devices once; sounddevice has no public way to start it anew.
    sounddevice._terminate()
    sounddevice._initialize()


def _portaudio() -> ModuleType:
    try:
        import sounddevice
    except OSError as error:
        raise MicrophoneError(
            "PortAudio is missing; install it (Debian/Ubuntu: apt install libportaudio2) or use --mic none"
        ) from error
    module: ModuleType = sounddevice
    return module


def _find(sounddevice: ModuleType, name: str) -> Any:
    """The device of an index, a name or "" (the default)."""
    wanted = int(name) if name.isdigit() else name or None
    try:
        return sounddevice.query_devices(wanted, "input")
    except (ValueError, sounddevice.PortAudioError) as error:
        inputs = [each for each in sounddevice.query_devices() if each["max_input_channels"] > 0]
        present = ", ".join(f"{each['index']} ({each['name']})" for each in inputs)
        if not inputs:
            raise MicrophoneError("no input device is present; connect one or use --mic none") from error
        what = f"{name!r} is no input device" if name else "there is no default input device"
        raise MicrophoneError(f"{what}; present: {present}; name one with --mic or use --mic none") from error


def _rate(sounddevice: ModuleType, device: Any) -> int:
    """RATE_HZ if the device takes it, else its own."""
    try:
        sounddevice.check_input_settings(device=device["index"], channels=1, dtype="float32", samplerate=RATE_HZ)
    except sounddevice.PortAudioError:
        return int(device["default_samplerate"])
    return RATE_HZ


def _text(error: Exception) -> str:
    return str(error.args[0]) if error.args else type(error).__name__
