"""The concepts of the visual model: names, meaning, and where each label comes from.

One table for every corpus, teacher and renderer, so that a column of labels can never mean two things.
Left and right are the person's own. An activation is a number in [0, 1]: 0 is absent, 1 is the strongest
expression of the reference (a blendshape at 1, or the stated angle).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["au", "pose", "gaze"]


@dataclass(frozen=True, slots=True)
class Concept:
    """One concept.

    blendshapes: ARKit names (as MediaPipe prints them) whose mean is the teacher's activation.
    ict_shapes: ICT-FaceKit expression names whose mean weight is the exact activation in a render.
    teacher_reliable: False where the teacher misses much of the movement, so that it weighs little beside renders
    (docs/training.md has its correlations with the exact activations of renders). AU4 and the gaze stay True although
    they are low there: the shape of AU4 is faint in a render, and on photographs these blendshapes answer plainly.
    """

    name: str
    kind: Kind
    meaning: str
    blendshapes: tuple[str, ...] = ()
    ict_shapes: tuple[str, ...] = ()
    teacher_reliable: bool = True


def _both(*stems: str, joint: str = "") -> tuple[str, ...]:
    """Left and right of each stem: `_both("eyeBlink")` is ("eyeBlinkLeft", "eyeBlinkRight")."""
    left, right = ("_L", "_R") if joint == "_" else ("Left", "Right")
    return tuple(stem + side for stem in stems for side in (left, right))


def _ict(*stems: str) -> tuple[str, ...]:
    return _both(*stems, joint="_")


# AU25 (lips part) and head pose are measured, not read from a shape: see `lips_part` and `head_concepts`.
CONCEPTS: tuple[Concept, ...] = (
    Concept("AU1", "au", "inner brow raiser", ("browInnerUp",), _ict("browInnerUp"), False),
    Concept("AU2", "au", "outer brow raiser", _both("browOuterUp"), _ict("browOuterUp"), False),
    Concept("AU4", "au", "brow lowerer", _both("browDown"), _ict("browDown")),
    Concept("AU5", "au", "upper lid raiser", _both("eyeWide"), _ict("eyeWide"), False),
    Concept("AU6", "au", "cheek raiser", _both("cheekSquint"), _ict("cheekRaiser"), False),
    Concept("AU7", "au", "lid tightener", _both("eyeSquint"), _ict("eyeSquint"), False),
    Concept("AU9", "au", "nose wrinkler", _both("noseSneer"), _ict("noseSneer"), False),
    Concept("AU10", "au", "upper lip raiser", _both("mouthUpperUp"), _ict("mouthUpperUp")),
    Concept("AU12", "au", "lip corner puller", _both("mouthSmile"), _ict("mouthSmile")),
    Concept("AU14", "au", "dimpler", _both("mouthDimple"), _ict("mouthDimple"), False),
    Concept("AU15", "au", "lip corner depressor", _both("mouthFrown"), _ict("mouthFrown"), False),
    Concept("AU17", "au", "chin raiser", ("mouthShrugLower",), ("mouthShrugLower",), False),
    Concept("AU20", "au", "lip stretcher", _both("mouthStretch"), _ict("mouthStretch"), False),
    Concept("AU23", "au", "lip tightener", _both("mouthPress"), _ict("mouthPress"), False),
    Concept("AU25", "au", "lips part"),
    Concept("AU26", "au", "jaw drop", ("jawOpen",), ("jawOpen",)),
    Concept(
        "AU28", "au", "lip suck", ("mouthRollLower", "mouthRollUpper"), ("mouthRollLower", "mouthRollUpper"), False
    ),
    Concept("AU45", "au", "eye closure", _both("eyeBlink"), _ict("eyeBlink")),
    Concept("head_left", "pose", "head turned to the person's left (AU51), 1 at 40 degrees"),
    Concept("head_right", "pose", "head turned to the person's right (AU52), 1 at 40 degrees"),
    Concept("head_up", "pose", "head up (AU53), 1 at 30 degrees"),
    Concept("head_down", "pose", "head down (AU54), 1 at 30 degrees"),
    Concept(
        "gaze_left",
        "gaze",
        "eyes to the person's left (AU61), 1 at 30 degrees",
        ("eyeLookOutLeft", "eyeLookInRight"),
        ("eyeLookOut_L", "eyeLookIn_R"),
    ),
    Concept(
        "gaze_right",
        "gaze",
        "eyes to the person's right (AU62), 1 at 30 degrees",
        ("eyeLookInLeft", "eyeLookOutRight"),
        ("eyeLookIn_L", "eyeLookOut_R"),
    ),
    Concept("gaze_up", "gaze", "eyes up (AU63), 1 at 25 degrees", _both("eyeLookUp"), _ict("eyeLookUp")),
    Concept("gaze_down", "gaze", "eyes down (AU64), 1 at 25 degrees", _both("eyeLookDown"), _ict("eyeLookDown")),
)

NAMES: tuple[str, ...] = tuple(concept.name for concept in CONCEPTS)
INDEX: dict[str, int] = {name: i for i, name in enumerate(NAMES)}

EXPRESSIONS: tuple[str, ...] = (
    "neutral",
    "happiness",
    "surprise",
    "sadness",
    "anger",
    "disgust",
    "fear",
    "contempt",
)

_MIRROR = {"head_left": "head_right", "gaze_left": "gaze_right"}
_MIRROR |= {right: left for left, right in _MIRROR.items()}
MIRRORED: tuple[int, ...] = tuple(INDEX[_MIRROR.get(name, name)] for name in NAMES)
"""Column order of a mirrored picture: left and right concepts change places."""

YAW_FULL_DEG, PITCH_FULL_DEG = 40.0, 30.0
LIPS_PART_FULL = 0.35
"""Inner-lip gap over the distance of the eyes' outer corners at which AU25 is 1."""


def lips_part(gap: float, eye_distance: float) -> float:
    """AU25 in [0, 1] from the inner-lip gap and the outer-corner distance of the eyes, in the same unit."""
    return min(max(gap / (LIPS_PART_FULL * eye_distance), 0.0), 1.0) if eye_distance > 0 else 0.0


def head_concepts(yaw_deg: float, pitch_deg: float) -> dict[str, float]:
    """Head concepts from yaw (positive to the person's left) and pitch (positive up), in degrees."""

    def part(angle: float, full: float) -> float:
        return min(max(angle / full, 0.0), 1.0)

    return {
        "head_left": part(yaw_deg, YAW_FULL_DEG),
        "head_right": part(-yaw_deg, YAW_FULL_DEG),
        "head_up": part(pitch_deg, PITCH_FULL_DEG),
        "head_down": part(-pitch_deg, PITCH_FULL_DEG),
    }
