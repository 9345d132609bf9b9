"""Pure: what the engine said of a face -> the message that users read. Rounded here, so that what is read adds up."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import msgspec
import numpy as np

from engines.concept import ConceptReadout, Floats, half_width, intervene
from engines.fusion import PriorSpec
from engines.hear import Heard
from engines.preprocess import Affine, inverse
from engines.spec import ConceptSpec, HeadSpec
from engines.timed import Shares
from engines.voice import CONCEPTS, UNITS, VoiceReading
from pipeline.messages import Contribution, Drops, EngagementFrame, FramePacket, Stages

SCORE_DIGITS = 6
SHARE_DIGITS = 4
_FORGET_NS = 1_000_000_000
_NO_INTERVENTIONS: Mapping[int, float] = {}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a face crop of `size_px` lies in a picture: `affine` [2, 3] maps picture pixels to crop pixels."""

    affine: Affine
    size_px: int
    width_px: int
    height_px: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is said of one face. score == base + sum of contributions, to within rounding of doubles.

    uncertainty: the label lies within score +- uncertainty as often as the model's manifest says; None if it does not.
    """

    face: int
    status: Literal["tracked", "no_face", "low_quality"]
    score: float | None = None
    base: float | None = None
    contributions: tuple[Contribution, ...] = ()
    expression: dict[str, float] | None = None
    uncertainty: float | None = None


NOBODY = Verdict(0, "no_face")


@dataclass(frozen=True, slots=True)
class Context:
    """What all results of one frame have in common; heard is None without sound at that time.

    calibration: the name of what the session was adapted by, None for nothing.
    """

    packet: FramePacket
    model: str
    backend: str
    heard: Heard | None
    dropped: Drops
    calibration: str | None = None


@dataclass(frozen=True, slots=True)
class Marks:
    """When each stage of a frame was over, in nanoseconds; the frame's packet knows when it was captured and sent."""

    received_ns: int
    located_ns: int
    aligned_ns: int
    inferred_ns: int


def unsure(face: int) -> Verdict:
    """A face that is there but not good enough to be scored."""
    return Verdict(face, "low_quality")


def scored(
    face: int,
    readout: ConceptReadout,
    concepts: Sequence[ConceptSpec],
    heads: HeadSpec,
    place: Place,
    interventions: Mapping[int, float] = _NO_INTERVENTIONS,
) -> Verdict:
    """The verdict on a face that is seen well, with what `interventions` (see `forced`) would make of it.

    How far answers are off was measured on pictures as they are. A picture in which a concept were different has no
    label to be off from, so that a score with interventions has no uncertainty.
    """
    width = None if interventions else half_width(readout, heads)
    if interventions:
        readout = intervene(readout, heads, interventions)
    said = zip(
        concepts,
        rounded(readout.activation, SHARE_DIGITS),
        rounded(readout.contributions[:, 0], SCORE_DIGITS),
        in_picture(readout.peaks, place),
        strict=True,
    )
    shares = [
        Contribution(concept.name, concept.kind, activation, contribution, None if concept.kind == "voice" else at)
        for concept, activation, contribution, at in said
    ]
    base = round(heads.base[0], SCORE_DIGITS)
    expression = dict(zip(heads.expressions, rounded(readout.expressions, SHARE_DIGITS), strict=True))
    uncertainty = None if width is None else round(width, SHARE_DIGITS)
    return Verdict(face, "tracked", total(base, shares), base, ordered(shares), expression or None, uncertainty)


def spoken(verdict: Verdict, voice: VoiceReading, concepts: Sequence[ConceptSpec], prior: PriorSpec | None) -> Verdict:
    """The verdict on a face whose voice this is. prior: weights that nobody learnt; None, and a voice contributes 0.
    What is no voice that can be heard is not listed.

    How far answers are off was measured without voices, so that with one that counts nobody knows.
    """
    if verdict.base is None or voice.sound != "heard":
        return verdict
    weights = [0.0] * len(concepts) if prior is None else prior.weight
    means = weights if prior is None else prior.mean
    said = [
        _said(concept.name, activation, weight * (activation - mean), "prior")
        for concept, activation, weight, mean in zip(concepts, voice.activations, weights, means, strict=True)
    ]
    shares = ordered([*verdict.contributions, *said])
    uncertainty = verdict.uncertainty if prior is None else None
    return replace(verdict, score=total(verdict.base, shares), contributions=shares, uncertainty=uncertainty)


def remembered(
    verdict: Verdict,
    found: Shares,
    voice: VoiceReading | None,
    concepts: tuple[Sequence[ConceptSpec], Sequence[ConceptSpec]],
) -> Verdict:
    """The verdict on a face that is seen well, scored by what was seen and heard until now instead of by its picture.
    concepts: those of faces and those of voices, in the order of the shares."""
    faces, voices = concepts
    seen = {concept.name: share for concept, share in zip(faces, found.seen, strict=True)}
    shares = [
        msgspec.structs.replace(each, contribution=round(float(seen[each.concept]), SCORE_DIGITS))
        for each in verdict.contributions
    ]
    if found.heard is not None and voice is not None:
        said = zip(voices, voice.activations, found.heard, strict=True)
        shares += [_said(concept.name, activation, float(share), "learned") for concept, activation, share in said]
    base = round(found.base, SCORE_DIGITS)
    return replace(verdict, score=total(base, shares), base=base, contributions=ordered(shares), uncertainty=None)


def _said(concept: str, activation: float, contribution: float, source: Literal["learned", "prior"]) -> Contribution:
    return Contribution(
        concept, "voice", round(activation, SHARE_DIGITS), round(contribution, SCORE_DIGITS), None, source
    )


def total(base: float, shares: Sequence[Contribution]) -> float:
    """The score that these make."""
    return round(math.fsum((base, *(share.contribution for share in shares))), SCORE_DIGITS)


def ordered(shares: Sequence[Contribution]) -> tuple[Contribution, ...]:
    """The largest first."""
    return tuple(sorted(shares, key=lambda share: -abs(share.contribution)))


def audible(heard: Heard) -> dict[str, float]:
    """What is published of the sound: its level, and each voice concept that has a value now, with its unit in the
    name. Sound that is no voice is said to be `muted`, `clipped` or a `tone`, and has no concepts.
    """
    found = {"level_dbfs": round(heard.level_dbfs, 2)}
    if heard.voice is None:
        return found
    if heard.voice.sound != "heard":
        return found | {heard.voice.sound: 1.0}
    values = zip(CONCEPTS, UNITS, heard.voice.values, strict=True)
    return found | {
        f"{name}_{unit}".rstrip("_"): round(value, SHARE_DIGITS) for name, unit, value in values if value is not None
    }


def forced(values: Mapping[str, float], concepts: Sequence[ConceptSpec]) -> Mapping[int, float]:
    """Activations to force, by concept index. Raises ValueError on a name that the model does not have."""
    index = {concept.name: k for k, concept in enumerate(concepts)}
    unknown = sorted(set(values) - set(index))
    if unknown:
        raise ValueError(f"no such concept: {', '.join(unknown)} (the model has {', '.join(index)})")
    return {index[name]: value for name, value in values.items()}


def in_picture(peaks: np.ndarray, place: Place) -> list[tuple[float, float]]:
    """Shares of the crop's sides [K, 2] -> shares of the picture's sides, cut to [0, 1].

    Pixel centres have whole coordinates, so that share s of n pixels is coordinate s n - 0.5.
    """
    (a, b, e), (c, d, f) = inverse(place.affine).tolist()
    size, wide, high = place.size_px, place.width_px, place.height_px
    points = peaks @ np.array([[a * size / wide, c * size / high], [b * size / wide, d * size / high]])
    points += ((e - 0.5 * (a + b) + 0.5) / wide, (f - 0.5 * (c + d) + 0.5) / high)
    np.maximum(points, 0.0, out=points)
    np.minimum(points, 1.0, out=points)
    return [(x, y) for x, y in points.round(SHARE_DIGITS).tolist()]


def rounded(values: Floats, digits: int) -> list[float]:
    """The numbers [N] with so many decimals."""
    numbers: list[float] = values.round(digits).tolist()
    return numbers


class Smoother:
    """Exponential average of the score per face. A gap of more than a second, or time that runs back, starts it anew.

    Made for samples at any rate: after one time constant of a new constant score, 63 % of the way is done.
    """

    def __init__(self, time_constant_s: float) -> None:
        self._time_constant_ns = time_constant_s * 1e9
        self._last: dict[int, tuple[int, float]] = {}

    def add(self, face: int, t_ns: int, score: float) -> float:
        """The average for `face` with its score at `t_ns` taken in."""
        self._last = {key: item for key, item in self._last.items() if 0 <= t_ns - item[0] <= _FORGET_NS}
        before = self._last.get(face)
        value = score
        if before is not None and self._time_constant_ns > 0:
            value = score + (before[1] - score) * math.exp(-(t_ns - before[0]) / self._time_constant_ns)
        self._last[face] = (t_ns, value)
        return value


def stages(packet: FramePacket, marks: Marks, t_publish_ns: int) -> Stages:
    """Milliseconds of each stage; consecutive, so that they sum to t_publish_ns - t_capture_ns."""
    return Stages(
        capture=(packet.t_send_ns - packet.t_capture_ns) / 1e6,
        transport=(marks.received_ns - packet.t_send_ns) / 1e6,
        detect=(marks.located_ns - marks.received_ns) / 1e6,
        align=(marks.aligned_ns - marks.located_ns) / 1e6,
        infer=(marks.inferred_ns - marks.aligned_ns) / 1e6,
        readout=(t_publish_ns - marks.inferred_ns) / 1e6,
    )


def message(
    verdict: Verdict, context: Context, smoothed: float | None, stages_ms: Stages, t_publish_ns: int, wall_time: str
) -> EngagementFrame:
    """The result for one face of one frame; wall_time is that of the capture."""
    packet = context.packet
    return EngagementFrame(
        session=packet.session,
        source=packet.source,
        seq=packet.seq,
        face=verdict.face,
        t_capture_ns=packet.t_capture_ns,
        t_publish_ns=t_publish_ns,
        wall_time=wall_time,
        media_ns=packet.media_ns,
        status=verdict.status,
        score=verdict.score,
        base=verdict.base,
        smoothed=None if smoothed is None else round(smoothed, SCORE_DIGITS),
        uncertainty=verdict.uncertainty,
        contributions=verdict.contributions,
        expression=verdict.expression,
        audio=None if context.heard is None else audible(context.heard),
        stages_ms=stages_ms,
        dropped=context.dropped,
        model=context.model,
        backend=context.backend,
        calibration=context.calibration,
    )
