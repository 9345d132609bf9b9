"""6. For whom and for which pictures is the model worse, as far as that is known of them?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import cv2
import msgspec
import numpy as np
from rich.progress import track

from engines.base import Engine
from engines.detect import detect_picture
from engines.preprocess import Luma
from engines.spec import HeadSpec
from training.concepts import INDEX, PITCH_FULL_DEG, YAW_FULL_DEG
from training.explain.answers import F64, U8, Answers, Bools, Ints, outputs
from training.explain.intervals import Estimate, mean
from training.explain.material import Material

_ANGLES_DEG = (10.0, 20.0)
FEWEST = 20


class GroupRow(msgspec.Struct, frozen=True):
    """Figures of one group of pictures. factor: what divides them. figure: accuracy (more is better) or error, the
    mean of |score - label| (less is better)."""

    corpus: str
    factor: str
    group: str
    pictures: int
    figure: str
    value: Estimate


def blur_of(crops: U8) -> F64:
    """Variance of the Laplacian of each crop [N, S, S]: low is blurred (Pech-Pacheco et al. 2000)."""
    return np.array([cv2.Laplacian(crop, cv2.CV_64F).var() for crop in crops])


def eye_distances_px(detector: Engine, pictures: Iterable[Luma], count: int) -> F64:
    """Distance of the eyes in the original pictures; NaN where no face is found."""
    found = []
    for luma in track(pictures, description="face sizes", total=count):
        face = detect_picture(detector, luma)
        found.append(np.nan if face is None else float(np.linalg.norm(face.points[1] - face.points[0])))
    return np.array(found)


def quarters(values: F64, unit: str = "") -> Iterator[tuple[str, Bools]]:
    """Four groups of about equal size, named with their limits; NaN belongs to none."""
    known = ~np.isnan(values)
    cuts = np.quantile(values[known], (0.25, 0.5, 0.75))
    place = np.searchsorted(cuts, values, side="right")
    limits = (f"< {cuts[0]:.0f}", f"{cuts[0]:.0f}–{cuts[1]:.0f}", f"{cuts[1]:.0f}–{cuts[2]:.0f}", f"≥ {cuts[2]:.0f}")
    for i, limit in enumerate(limits):
        yield f"{limit}{unit}", known & (place == i)


def angles(degrees: F64) -> Iterator[tuple[str, Bools]]:
    """Up to 10, up to 20 and more degrees away from the camera."""
    low, high = _ANGLES_DEG
    away = np.abs(degrees)
    yield f"< {low:.0f}°", away < low
    yield f"{low:.0f}–{high:.0f}°", (away >= low) & (away < high)
    yield f"≥ {high:.0f}°", away >= high


def turned_deg(answers: Answers) -> tuple[F64, F64]:
    """Yaw and pitch of the head as the model's own head concepts say it."""
    p = answers.activation
    yaw = YAW_FULL_DEG * (p[:, INDEX["head_left"]] - p[:, INDEX["head_right"]])
    return yaw, PITCH_FULL_DEG * (p[:, INDEX["head_up"]] - p[:, INDEX["head_down"]])


def factors(material: Material, sizes_px: F64 | None) -> Iterator[tuple[str, str, Bools]]:
    """(factor, group, rows) of everything that is known of the pictures. sizes_px: distance of the eyes [N]."""
    yaw, pitch = turned_deg(material.answers)
    known = {
        "head turned sideways": angles(yaw),
        "head up or down": angles(pitch),
        "brightness, mean luma": quarters(material.crops.mean(axis=(1, 2))),
        "sharpness, Laplacian variance": quarters(blur_of(material.crops)),
    }
    if sizes_px is not None:
        known["face size, px between the eyes"] = quarters(sizes_px)
    for factor, groups in known.items():
        for group, rows in groups:
            yield factor, group, rows
    for flag, group in ((True, "found"), (False, "not found")):
        yield "face detected", group, material.samples.found == flag
    subjects = material.samples.subjects
    for subject in np.unique(subjects[subjects >= 0]):
        yield "subject", str(subject), subjects == subject


def measure(material: Material, heads: HeadSpec, task: str, sizes_px: F64 | None = None) -> tuple[GroupRow, ...]:
    """task: "accuracy" of the expression, or "error" of the score. Groups of fewer than FEWEST pictures are left out;
    people are drawn as wholes for the intervals, where they are known and are not themselves the groups."""
    rated = rate(material, heads, task)
    people = material.samples.subjects
    known = bool((people >= 0).all())
    everything = ("all", "all", np.ones(len(material), bool))
    rows = []
    for factor, group, chosen in (everything, *factors(material, sizes_px)):
        if chosen.sum() >= FEWEST:
            together: Ints | None = people[chosen] if known and factor != "subject" else None
            rows.append(GroupRow(material.name, factor, group, int(chosen.sum()), task, mean(rated[chosen], together)))
    return tuple(rows)


def rate(material: Material, heads: HeadSpec, task: str) -> F64:
    """[N]: right or wrong, or how far off."""
    given = outputs(material.answers, heads)
    if task == "accuracy":
        return np.asarray(given[:, 1:].argmax(axis=1) == material.samples.votes.argmax(axis=1), np.float64)
    return np.asarray(np.abs(given[:, 0] - material.samples.score))


def worse(row: GroupRow, overall: GroupRow) -> bool:
    """Whether the whole interval of a group lies on the bad side of the figure for all pictures."""
    if row.figure == "accuracy":
        return row.value.high < overall.value.value
    return row.value.low > overall.value.value


def said(found: Sequence[GroupRow]) -> tuple[str, ...]:
    """What came out."""
    parts = []
    for corpus in dict.fromkeys(row.corpus for row in found):
        rows = [row for row in found if row.corpus == corpus]
        overall = next(row for row in rows if row.factor == "all")
        bad = [row for row in rows if row.factor != "all" and worse(row, overall)]
        listed = "; ".join(f"{row.factor} {row.group}: {row.value.text()}" for row in bad)
        parts.append(
            f"{corpus}, {overall.figure} {overall.value.text()} over all: "
            + (f"clearly worse for {listed}." if bad else "no group is clearly worse.")
        )
    return tuple(parts)
