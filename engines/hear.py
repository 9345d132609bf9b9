"""A voice network on a stream of sound: whole steps of 10 ms in, what is heard of each out; its past is carried."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engines.base import Engine, EngineError
from engines.jitter import jitter_of, silence
from engines.voice import HOP, SAID, VoiceReading

F32 = npt.NDArray[np.float32]
_VOICED, _PITCH = SAID.index("voiced"), SAID.index("pitch_st")


@dataclass(frozen=True, slots=True)
class Heard:
    """The sound of a moment. voice: None where nobody listens."""

    level_dbfs: float
    voice: VoiceReading | None = None


class Listener:
    """One stream of 16 kHz sound, heard in order however it is cut up. Raises EngineError if `engine` is no voice
    network."""

    def __init__(self, engine: Engine) -> None:
        shapes = {spec.name: spec.shape for spec in engine.manifest.inputs}
        if set(shapes) != {"samples", "memory"}:
            raise EngineError(f"{engine.manifest.name} is no voice network: it takes {', '.join(shapes)}")
        self._engine = engine
        self._start = np.zeros(shapes["memory"], np.float32)
        self._memory, self._tail = self._start, silence()

    def hear(self, samples: F32) -> F32:
        """Samples [160 n] in [-1, 1] -> steps [n, columns of engines.voice.Step]. Raises EngineError."""
        if not len(samples) or len(samples) % HOP:
            raise ValueError(f"sound is heard in steps of {HOP} samples, got {len(samples)}")
        said = self._engine.infer({"samples": np.ascontiguousarray(samples)[None], "memory": self._memory})
        voice = np.asarray(said["voice"], np.float32)
        if voice.shape != (1, len(samples) // HOP, len(SAID)) or not np.isfinite(voice).all():
            raise EngineError(f"{self._engine.manifest.name} answered {voice.shape}: no steps of a voice network")
        self._memory = np.asarray(said["memory_out"], np.float32)
        steps = voice[0]
        apart, self._tail = jitter_of(samples, self._tail, steps[:, _VOICED], steps[:, _PITCH])
        return np.column_stack([steps, apart])

    def forget(self) -> None:
        """Begin anew, as after silence."""
        self._memory, self._tail = self._start, silence()
