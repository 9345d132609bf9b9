"""What others say of clean speech, step by step: the teachers of the voice network.

* speaking: silero-vad 6.2.3 (MIT), the probability of the 32 ms that a step ends in;
* voiced and pitch: pYIN (Mauch & Dixon 2014) as librosa has it, of the middle of the 64 ms that a step sees;
* syllable: nuclei as de Jong & Wempe 2009 find them: voiced peaks of the intensity, 2 dB above the dip before, and
  not far below the loudest of the clip. Steps see no future, so that a nucleus is marked when it is over.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from engines.voice import HOP, RATE_HZ
from training.data.pictures import DataError
from training.voice.frontend import LONG, PITCH_HZ

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
CHUNK, CONTEXT = 512, 64
SEEN_STEPS = round(LONG / 2 / HOP)
"""A step's window is centred this long before the step ends."""
NUCLEUS_STEPS = 6
"""A nucleus is told this long after its peak: until then the intensity may still rise."""
_DIP_DB, _QUIET_DB = 2.0, 25.0


class Silero:
    """silero_vad.onnx; one stream after another."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise DataError(f"silero-vad not found: {path} (docs/training.md, Voice, names it)")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def __call__(self, samples: F32) -> F32:
        """Probability of speech [n] of every step of 16 kHz sound."""
        state, context = np.zeros((2, 1, 128), np.float32), np.zeros((1, CONTEXT), np.float32)
        padded = np.pad(samples, (0, -len(samples) % CHUNK))
        said = []
        for start in range(0, len(padded), CHUNK):
            chunk = np.concatenate([context, padded[None, start : start + CHUNK]], axis=1)
            found, state = self._session.run(None, {"input": chunk, "state": state, "sr": np.array(RATE_HZ)})
            said.append(float(found[0, 0]))
            context = chunk[:, -CONTEXT:]
        newest = (np.arange(1, len(samples) // HOP + 1) * HOP - 1) // CHUNK
        return np.array(said, np.float32)[newest]


def pitch(samples: F32) -> tuple[F32, F32]:
    """Voiced probability and semitones above PITCH_HZ[0], NaN where unvoiced, of every step [n]."""
    import librosa  # only who labels needs it

    hz, _, voiced = librosa.pyin(
        np.pad(samples, (0, HOP)), fmin=PITCH_HZ[0], fmax=PITCH_HZ[1], sr=RATE_HZ, frame_length=LONG, hop_length=HOP
    )
    semitones = 12 * np.log2(hz / PITCH_HZ[0])
    centre = np.clip(np.arange(len(samples) // HOP) + 1 - SEEN_STEPS, 0, len(hz) - 1)
    return voiced[centre].astype(np.float32), semitones[centre].astype(np.float32)


def intensity_db(samples: F32) -> F64:
    """Level of the 32 ms around each step, smoothed as a hand would draw it [n]."""
    power = np.square(samples.astype(np.float64)).reshape(-1, HOP).mean(1)
    smooth = np.convolve(np.pad(power, 3, mode="edge"), np.hanning(9)[1:-1] / np.hanning(9).sum(), mode="valid")
    return np.asarray(10 * np.log10(smooth + 1e-10))


def nuclei(level_db: F64, voiced: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Steps of the peaks of syllables. voiced [n]: where the vocal folds swing, at the time of the level."""
    if not len(level_db):
        return np.zeros(0, np.int64)
    quiet = np.quantile(level_db, 0.99) - _QUIET_DB
    found: list[int] = []
    dip, best = level_db[0], -1
    for i, level in enumerate(level_db):
        if best >= 0 and level < level_db[best] - _DIP_DB:  # the peak is over
            found.append(best)
            dip, best = level, -1
        dip = min(dip, level)
        rises = level > dip + _DIP_DB and level > quiet and voiced[i]
        if rises and (best < 0 or level > level_db[best]):
            best = i
    return np.array([*found, *([best] if best >= 0 else [])], np.int64)


def syllables(samples: F32, voiced: F32) -> F32:
    """1 at the step where a nucleus is told, else 0 [n]. voiced: as `pitch` gives it."""
    steps = len(samples) // HOP
    early = np.pad(voiced, (0, SEEN_STEPS))[SEEN_STEPS : SEEN_STEPS + steps] >= 0.5
    marks = np.zeros(steps, np.float32)
    told = nuclei(intensity_db(samples), early) + NUCLEUS_STEPS
    marks[told[told < steps]] = 1.0
    return marks
