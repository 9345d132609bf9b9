"""Recorded speech, and labelled clips of it in one file.

A folder holds one folder a voice, with clips in any format that FFmpeg reads. Debian's asterisk-core-sounds-*-g722
packages are such folders (CC BY-SA 3.0, CC BY 3.0): five speakers, five languages, 16 kHz.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from engines.voice import HOP, RATE_HZ
from training.data.pictures import DataError, open_npz
from training.data.writing import replaced

F32 = npt.NDArray[np.float32]
ENDINGS = frozenset((".g722", ".wav", ".flac", ".ogg", ".mp3", ".opus", ".m4a"))
_KEYS = ("samples", "lengths", "voices", "names", "speaking", "voiced", "pitch_st", "syllable")


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording: float32 samples in [-1, 1] at 16 kHz, of whole steps of 10 ms. voice: whose it is."""

    voice: str
    name: str
    samples: F32

    @property
    def steps(self) -> int:
        """How many steps of 10 ms it has."""
        return len(self.samples) // HOP


@dataclass(frozen=True, slots=True)
class Labelled:
    """A clip, and what teachers say of each of its n steps (see training.voice.teachers): speaking, voiced in [0, 1];
    pitch_st, semitones above 60 Hz, NaN where there is none; syllable, 1 at the middle of a syllable."""

    clip: Clip
    speaking: F32
    voiced: F32
    pitch_st: F32
    syllable: F32


def decode(path: Path) -> F32:
    """Mono samples at 16 kHz, cut to whole steps. Raises DataError if the file cannot be read."""
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise DataError(f"{path} holds no sound")
            to_mono = av.AudioResampler(format="flt", layout="mono", rate=RATE_HZ)
            parts = [
                part.to_ndarray()[0] for frame in container.decode(container.streams.audio[0])
                for part in to_mono.resample(frame)
            ]  # fmt: skip
            parts += [part.to_ndarray()[0] for part in to_mono.resample(None)]
    except (OSError, av.FFmpegError) as error:
        raise DataError(f"{path} cannot be read as sound: {error}") from error
    samples = np.concatenate([np.zeros(0, np.float32), *parts]).astype(np.float32)
    return samples[: len(samples) // HOP * HOP]


def find_clips(folder: Path) -> Iterator[tuple[str, Path]]:
    """(voice, path) of everything that sounds below a folder of voices. Raises DataError if there is nothing."""
    paths = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in ENDINGS]
    inner = [path for path in paths if len(path.relative_to(folder).parts) > 1]
    if not inner:
        raise DataError(f"{folder} holds no folders of recordings, one folder a voice")
    return ((path.relative_to(folder).parts[0], path) for path in inner)


def save(path: Path, clips: list[Labelled]) -> None:
    """Write labelled clips; samples are kept as 16-bit numbers. Raises DataError if there are none or if they cannot be
    written."""
    if not clips:
        raise DataError(f"{path} is not written: no recording is long enough to say anything")
    joined = {key: np.concatenate([getattr(each, key) for each in clips]) for key in _KEYS[4:]}
    samples = np.concatenate([each.clip.samples for each in clips])
    with replaced(path) as partial, partial.open("wb") as file:
        np.savez(
            file, samples=np.rint(samples.clip(-1, 1) * 32767).astype(np.int16),
            lengths=np.array([each.clip.steps for each in clips]), voices=np.array([c.clip.voice for c in clips]),
            names=np.array([each.clip.name for each in clips]), allow_pickle=False, **joined,
        )  # fmt: skip


def load(path: Path) -> list[Labelled]:
    """Read labelled clips. Raises DataError if the file is not there or is another."""
    if not path.is_file():
        raise DataError(f"labelled speech not found: {path}; training.voice.label makes it")
    with open_npz(path, _KEYS, "labelled speech") as file:
        arrays = {key: file[key] for key in _KEYS}
    ends = np.cumsum(arrays["lengths"])
    if len(ends) and (len(arrays["samples"]) != ends[-1] * HOP or len(arrays["speaking"]) != ends[-1]):
        raise DataError(f"{path}: samples, labels and lengths do not belong together")
    found = []
    for i, (end, steps) in enumerate(zip(ends.tolist(), arrays["lengths"].tolist(), strict=True)):
        rows, part = slice(end - steps, end), slice((end - steps) * HOP, end * HOP)
        samples = arrays["samples"][part].astype(np.float32) / np.float32(32767)
        clip = Clip(str(arrays["voices"][i]), str(arrays["names"][i]), samples)
        found.append(Labelled(clip, *(arrays[key][rows].astype(np.float32) for key in _KEYS[4:])))
    return found
