"""NoXi as the MultiMediate challenges release it: frame-wise engagement of two people who talk through a screen.

Layout, as public code of several teams reads it: {train,val}/SESSION/ with {expert,novice}.engagement.annotation.csv,
one value in [0, 1] a line at 25 Hz, "-nan(ind)" where nobody annotated (dropped), and feature streams such as
{expert,novice}.video.openface2.stream. Those who have the videos put them beside as {expert,novice}.video.mp4. Which
person is who across sessions is not released, so a subject here is a session's role; the splits keep sessions apart.
The ten validation sessions have been the same since 2023. Test labels are held by the organisers: the split `test` has
people and no labels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from training.data.corpus import CENTRE_SHARES, Continuous, Corpus, Item, need_file, need_folder, pick, read_text
from training.data.features import FeatureTable, from_openface
from training.data.pictures import DataError
from training.data.ssi import FeatureStream, read_stream

F32 = npt.NDArray[np.float32]
ROLES = ("expert", "novice")
SPLITS = ("train", "valid")
LABEL_HZ = 25.0
VALID_SESSIONS = ("007", "009", "011", "014", "058", "062", "063", "074", "075", "076")
FOLDERS = {"train": "train", "valid": "val", "test": "test"}


@dataclass(frozen=True, slots=True)
class Person:
    """One of the two in a session. stem: the path that all their files begin with."""

    session: str
    role: str
    stem: Path

    def file(self, ending: str) -> Path:
        return self.stem.with_name(f"{self.role}.{ending}")

    @property
    def subject(self) -> int:
        """The session's number, and the role as its last digit."""
        digits = "".join(letter for letter in self.session if letter.isdigit())
        return int(digits or "0") * len(ROLES) + ROLES.index(self.role)


def people(folder: Path, split: str) -> list[Person]:
    """Everybody in a split. Raises DataError naming a missing folder, or a validation session that lies in train."""
    base = need_folder(folder / FOLDERS[pick(split, tuple(FOLDERS), "NoXi")], "NoXi")
    sessions = sorted(path for path in base.iterdir() if path.is_dir())
    misplaced = sorted({path.name for path in sessions} & set(VALID_SESSIONS))
    if split == "train" and misplaced:
        raise DataError(f"{base / misplaced[0]}: a validation session lies in train")
    return [Person(session.name, role, session / role) for session in sessions for role in ROLES]


def read_track(path: Path) -> F32:
    """Engagement [T] at 25 Hz, NaN where nobody annotated. Raises DataError naming the line that is no value."""
    values: list[float] = []
    for line, text in enumerate(read_text(need_file(path, "NoXi")).split("\n"), start=1):
        word = text.strip().lower()
        if not word:
            continue
        try:
            value = float("nan") if "nan" in word else float(word)
        except ValueError as error:
            raise DataError(f"{path}, line {line}: {text.strip()!r} is no value") from error
        if not (np.isnan(value) or 0.0 <= value <= 1.0):
            raise DataError(f"{path}, line {line}: engagement {value:g} is not in [0, 1]")
        values.append(value)
    track = np.array(values, np.float32)
    if np.isnan(track).all():
        raise DataError(f"{path}: holds no engagement value")
    return track


def load(folder: Path, split: str, rate_hz: float) -> Corpus:
    """The videos of a split with their tracks. Raises DataError naming what is missing."""
    items = []
    for person in people(folder, pick(split, SPLITS, "NoXi")):
        track = read_track(person.file("engagement.annotation.csv"))
        video = person.file("video.mp4")
        if not video.is_file():
            raise DataError(
                f"{video} is missing; the features-only release of NoXi has no pictures (--features uses its OpenFace "
                "streams instead)"
            )
        items.append(Item(f"{FOLDERS[split]}/{person.session}/{person.role}", video, -1, person.subject, track))
    return Corpus("NoXi", split, Continuous(LABEL_HZ), tuple(items), CENTRE_SHARES, rate_hz)


def openface(person: Person) -> tuple[FeatureStream, FeatureTable]:
    """The OpenFace 2 stream of a person and its concepts, row by row."""
    path = person.file("video.openface2.stream")
    stream = read_stream(path)
    return stream, from_openface(stream.values, path)


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """What the streams say at one moment: time_s, engagement in [0, 1], concepts [K] and their weights."""

    person: Person
    time_s: float
    score: float
    activations: F32
    weights: F32


def moments(folder: Path, split: str, rate_hz: float) -> Iterator[Moment]:
    """Labelled moments of every person, `rate_hz` of each second, from the feature streams; no pictures are needed.

    Streams and labels rarely have the same length; what one lacks at the end is left out.
    """
    for person in people(folder, split):
        track = read_track(person.file("engagement.annotation.csv"))
        stream, table = openface(person)
        end_s = min(len(track) / LABEL_HZ, len(table) / stream.rate_hz)
        for time_s in np.arange(0.0, end_s, 1.0 / rate_hz):
            score = track[min(int(time_s * LABEL_HZ + 1e-6), len(track) - 1)]
            row = min(int(time_s * stream.rate_hz + 1e-6), len(table) - 1)
            if np.isfinite(score) and table.found[row]:
                yield Moment(person, float(time_s), float(score), table.activations[row], table.weights[row])
