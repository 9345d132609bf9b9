"""4b. Does the map's peak lie where the movement is? Renders know the place of every movement."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
import numpy as np

from engines.base import Engine
from engines.concept import peaks
from training.crop import CROP
from training.explain.answers import F32, F64, ask
from training.explain.intervals import Estimate, mean
from training.explain.renders import Placed

SHOWN = 0.5
NEAR_PX = 4.0
"""Of a crop of 112 px; of others in proportion, so that models with crops of different sides are judged alike."""
_GRID_PX = 4


class Pointing(msgspec.Struct, frozen=True):
    """One concept, or "all". pictures: renders that show it. hit: share in which the map's peak lies within NEAR_PX of
    the moved vertices. region: the same for the peak of the landmark region of the aligned face, which does not look
    at the picture. chance: for a place anywhere in the crop.
    """

    model: str
    concept: str
    pictures: int
    hit: Estimate
    region: float
    chance: float


def hits(points: F64, moved: F32, side_px: int = CROP.size_px) -> float:
    """Share of points [M, 2] within NEAR_PX of the moved vertices [n, 2], all in pixels of a crop of side_px."""
    if not len(moved):
        return 0.0
    away = np.linalg.norm(points[:, None] - moved[None], axis=2).min(axis=1)
    return float((away <= NEAR_PX * side_px / CROP.size_px).mean())


def measure(engine: Engine, renders: Sequence[Placed], regions: F32, names: Sequence[str]) -> tuple[Pointing, ...]:
    """For every concept with a shape of its own; regions [K, h, w] of the aligned face."""
    crops = np.stack([each.crop for each in renders])
    side = crops.shape[-1]
    answers = ask(engine, crops, f"pointing ({engine.manifest.name})")
    static = peaks(regions.astype(np.float64)) * side
    ticks = np.arange(_GRID_PX / 2, side, _GRID_PX)
    anywhere = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
    rows: list[tuple[float, ...]] = []
    for i, render in enumerate(renders):
        seen = peaks(answers.maps[i].astype(np.float64)) * side
        for k, moved in enumerate(render.moved):
            if render.concepts[k] >= SHOWN and len(moved):
                places = (seen[k : k + 1], static[k : k + 1], anywhere)
                rows.append((k, *(hits(place, moved, side) for place in places)))
    return tuple(_figures(engine.manifest.identity, np.array(rows, np.float64).reshape(-1, 4), names))


def _figures(model: str, rows: F64, names: Sequence[str]) -> Iterable[Pointing]:
    groups = [("all", np.ones(len(rows), bool))] + [(name, rows[:, 0] == k) for k, name in enumerate(names)]
    for name, chosen in groups:
        if chosen.any():
            hit, region, chance = rows[chosen, 1], rows[chosen, 2].mean(), rows[chosen, 3].mean()
            yield Pointing(model, name, int(chosen.sum()), mean(hit), float(region), float(chance))


def said(found: Sequence[Pointing]) -> tuple[str, ...]:
    """What came out."""
    parts = []
    models = list(dict.fromkeys(each.model for each in found))
    for each in found:
        if each.concept == "all":
            whose = f"{each.model}: the" if len(models) > 1 else "The"
            parts.append(
                f"{whose} peak lies on the moved skin in {each.hit.percent()} of {each.pictures} cases "
                f"(a fixed landmark region: {100 * each.region:.0f} %, anywhere in the crop: "
                f"{100 * each.chance:.0f} %)."
            )
    own = [each for each in found if each.concept != "all" and each.model == models[0]]
    if worst := sorted(own, key=lambda each: each.hit.value)[:3]:
        whose = f"{models[0]}, lowest: " if len(models) > 1 else "Lowest: "
        parts.append(whose + ", ".join(f"{each.concept} {100 * each.hit.value:.0f} %" for each in worst) + ".")
    return tuple(parts)
