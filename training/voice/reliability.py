"""How far each voice concept can be trusted: on voices that were held out, against what the teachers make of it.

The concepts of engines.voice are made twice from the same scene: from the steps of the network, which hears it in a
room, in noise, at some level; and from steps in which the teachers stand for the network and the formulas see the clean
recording. Compared every 0.1 s where both have a value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec
import numpy as np
import numpy.typing as npt
import torch

from engines.jitter import jitter_of, silence
from engines.voice import CONCEPTS, SAID, UNITS, VoiceMeter
from training.metrics import pearson
from training.voice.compose import Scene, conversation, recorded
from training.voice.frontend import TAIL
from training.voice.model import Spoken, VoiceNet
from training.voice.speech import Labelled

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
SCENE_STEPS = 3000
_EVERY = 10
_WARM_S = 3.0
_LOUDNESS = CONCEPTS.index("loudness")
_LOUD_DB = 24.0
_VOICED, _PITCH = SAID.index("voiced"), SAID.index("pitch_st")


class ConceptFigures(msgspec.Struct, frozen=True):
    """r: correlation with the teachers' value; error: the median difference, in the concept's unit; both of voices as
    microphones hear them. r_clean: of the recordings as they are. told: share of the moments at which the teachers give
    a value and the network does too; 0.1 s each, `moments` of them."""

    concept: str
    unit: str
    r: float
    error: float
    r_clean: float
    told: float
    moments: int


def values(steps: F32) -> F64:
    """Of steps [n, columns]: the values of CONCEPTS every 0.1 s after the first three [N, V]; NaN is none. Loudness
    is in decibels about the speaker's usual."""
    meter, found = VoiceMeter(), []
    for start in range(0, len(steps), _EVERY):
        meter.push(steps[start : start + _EVERY])
        reading = meter.reading()
        row = [np.nan if value is None else value for value in reading.values]
        # The level of a microphone is its own: what counts is how loud it is for this speaker.
        row[_LOUDNESS] = _LOUD_DB * (reading.activations[_LOUDNESS] - 0.5) + 0.0 * row[_LOUDNESS]
        found.append(row)
    return np.array(found, np.float64)[round(_WARM_S * 100 / _EVERY) :]


@torch.no_grad()
def steps_of(spoken: Spoken, samples: F32) -> F32:
    """What is heard of a scene [160 n] with a network -> [n, columns]."""
    voice, _ = spoken(torch.from_numpy(samples)[None], torch.zeros(1, spoken.network.memory_size))
    return with_jitter(np.asarray(voice[0].numpy(), np.float32), samples)


def with_jitter(said: F32, samples: F32) -> F32:
    """Steps [n, columns of SAID] of a scene [160 n] with what engines.jitter finds where they say that there is a
    voice, and of what pitch."""
    apart, _ = jitter_of(samples, silence(), said[:, _VOICED], said[:, _PITCH])
    return np.column_stack([said, apart])


@torch.no_grad()
def taught(network: VoiceNet, scene: Scene) -> F32:
    """The same with the teachers' labels of a clean scene for what the network learns."""
    heard = network.front(torch.from_numpy(np.pad(scene.samples, (TAIL, 0)))[None])
    formulas = (heard.loud_db, heard.hnr_db, heard.alpha_db, heard.peak, heard.clipped)
    # A syllable's mark is one step; the meter looks for peaks.
    voiced = np.where(np.isnan(scene.pitch_st), 0.0, scene.voiced)
    learnt = (scene.speaking, voiced, scene.pitch_st, scene.syllable)
    columns = [np.nan_to_num(each) for each in learnt] + [each[0].numpy() for each in formulas]
    return with_jitter(np.stack(columns, axis=1).astype(np.float32), scene.samples)


def reliabilities(network: VoiceNet, voices: Sequence[list[Labelled]], count: int) -> tuple[ConceptFigures, ...]:
    """Of every concept, over `count` scenes of half a minute."""
    spoken = Spoken(network).eval()
    rows: dict[str, list[F64]] = {"teacher": [], "clean": [], "recorded": []}
    for i in range(count):
        rng = np.random.default_rng((77, i))
        scene = conversation(voices[i % len(voices)], SCENE_STEPS, rng)
        # A room's noise floor: digital silence between clips is no sound that a microphone gives.
        clean = replace(scene, samples=scene.samples + rng.normal(0, 3e-4, len(scene.samples)).astype(np.float32))
        rows["teacher"].append(values(taught(network, clean)))
        rows["clean"].append(values(steps_of(spoken, clean.samples)))
        rows["recorded"].append(values(steps_of(spoken, recorded(scene, rng).samples)))
    together = {name: np.concatenate(parts) for name, parts in rows.items()}
    return tuple(
        figures(name, unit, *(together[key][:, v] for key in ("teacher", "clean", "recorded")))
        for v, (name, unit) in enumerate(zip(CONCEPTS, UNITS, strict=True))
    )


def figures(name: str, unit: str, teacher: F64, clean: F64, heard: F64) -> ConceptFigures:
    """One row."""
    both, either = ~np.isnan(teacher) & ~np.isnan(heard), ~np.isnan(teacher)
    quiet = ~np.isnan(teacher) & ~np.isnan(clean)
    apart = heard[both] - teacher[both]
    return ConceptFigures(
        name, unit, pearson(heard[both], teacher[both]), float(np.median(np.abs(apart))),
        pearson(clean[quiet], teacher[quiet]), float(both.sum() / max(either.sum(), 1)), int(either.sum()),
    )  # fmt: skip
