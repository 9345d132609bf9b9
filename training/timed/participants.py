"""The people of NoXi's layout as they were seen and heard, frame by frame: what timed heads are fitted to."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.progress import track as progress

from calibration.head import Session
from engines.base import Engine
from engines.fusion import MemorySpec
from training.data.noxi import LABEL_HZ, SPLITS, Person, people, read_track
from training.timed.causes import shown_by
from training.timed.memory import run as remember
from training.timed.reading import Reading, labels_of
from training.timed.reading import fit as fit_reading
from training.timed.streams import Eyes, Streams, hear, load, save, see

F64 = npt.NDArray[np.float64]
MEMORY = MemorySpec(taps=5, constant_s=0.5, habit_s=20.0)
MOST_ROWS = 125_000
"""Frames that heads are fitted to; of more, evenly many are left out. NoXi has millions, and neighbours are alike."""
_THREADS = 2


@dataclass(frozen=True, slots=True)
class Participant:
    """Somebody with what was seen and heard of them, and the labels of these frames [T], NaN where there are none."""

    person: Person
    streams: Streams
    label: F64


def recorded(person: Person) -> Path:
    """The file with a person's voice: NAME.audio.wav, or else the video's own sound."""
    sound = person.file("audio.wav")
    return sound if sound.is_file() else person.file("video.mp4")


def streams_of(folder: Path, split: str, eyes: Eyes, voice: Engine, cache: Path) -> list[Participant]:
    """Everybody in a split; those of `test` have no labels. What was seen and heard before is read from `cache`. Raises
    DataError naming a file."""

    def look(person: Person) -> Participant:
        labelled = split in SPLITS
        track = read_track(person.file("engagement.annotation.csv")).astype(np.float64) if labelled else None
        kept = cache / split / person.session / f"{person.role}.npz"
        if not kept.is_file():
            seen, faces = see(person.file("video.mp4"), eyes, LABEL_HZ)
            save(kept, Streams(seen, faces, hear(recorded(person), voice, len(seen), LABEL_HZ)))
        streams = load(kept)
        label = np.full(len(streams.found), np.nan) if track is None else track
        count = min(len(label), len(streams.found))
        cut = Streams(streams.seen[:count], streams.found[:count], streams.heard[:count])
        return Participant(person, cut, label[:count])

    listed = people(folder, split)
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(progress(pool.map(look, listed), description=f"NoXi {split}", total=len(listed)))


def first(parts: Sequence[Participant], values: int) -> list[Participant]:
    """The same with the first values of what is seen of a concept: its activation, what it says to the score, ..."""
    return [replace(each, streams=replace(each.streams, seen=each.streams.seen[:, :, :values])) for each in parts]


def stride(parts: Sequence[Participant]) -> int:
    """Of how many frames one is enough to learn from."""
    return -(-sum(len(part.label) for part in parts) // MOST_ROWS)


def sessions(parts: Sequence[Participant], usual: tuple[F64, F64], every: int = 1) -> list[Session]:
    """Taps of everybody, of one frame in `every`; before its start a session was as usual."""
    found = []
    for part in parts:
        taps = []
        for values, mean in zip((part.streams.seen, part.streams.heard[..., None]), usual, strict=True):
            flat = remember(MEMORY, LABEL_HZ, values.reshape(len(values), -1), mean.ravel())
            taps.append(flat[::every].reshape(-1, *values.shape[1:], flat.shape[-1]))
        found.append(Session(tuple(taps), part.label[::every]))
    return found


def usual_of(parts: Sequence[Participant]) -> tuple[F64, F64]:
    """Means of what is seen [K, 1 + O] and heard [V, 1]."""
    seen = np.concatenate([part.streams.seen for part in parts]).mean(0)
    heard = np.concatenate([part.streams.heard for part in parts]).mean(0)
    return seen, heard[:, None]


def reading_of(parts: Sequence[Participant], trust: Sequence[float]) -> Reading | None:
    """Fitted to the labels of concepts; None where somebody has none. Raises DataError naming a file."""
    labels = [labels_of(part.person, len(part.label)) for part in parts]
    known = [each for each in labels if each is not None]
    if len(known) < len(parts):
        return None
    every = stride(parts)
    seen = [each.streams.seen[::every, :, 0] for each in parts]
    return fit_reading(seen, [each[::every] for each in known], trust)


def read_by(own: Reading, parts: Sequence[Participant]) -> list[Participant]:
    """The same with readings instead of activations."""
    return [
        replace(each, streams=replace(each.streams, seen=own.of(each.streams.seen[:, :, 0])[..., None]))
        for each in parts
    ]


def told_faces(part: Participant) -> Participant:
    """Somebody simulated, with the concepts that their face truly showed."""
    shown = shown_by(part.person.file("truth.npz"), len(part.label))[..., None]
    return replace(part, streams=replace(part.streams, seen=shown))


def columns(part: Participant, rows: tuple[int, ...]) -> F64:
    """What a rival reads of somebody [T, D]."""
    sides = (part.streams.seen.reshape(len(part.label), -1), part.streams.heard)
    return np.concatenate([sides[i] for i in rows], axis=1)
