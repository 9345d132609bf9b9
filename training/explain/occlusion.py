"""4a. Does a map show what the network looks at? Its highest cells are hidden, and the concept must miss them most.

Hidden cells become a blur of their surroundings, as in the training of models whose experiment sets `evidence`; and, as
no model was trained for, one grey (the picture's mean), so that a model that has merely learnt to notice a blur is
found out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import msgspec
import numpy as np
import numpy.typing as npt
from rich.progress import track

from engines.base import Engine
from training.explain.answers import F32, F64, U8, Answers, Bools, Ints, ask
from training.explain.intervals import Estimate, mean

SHARE = 0.2
ACTIVE = 0.5
GREY = "grey"
_EPSILON = 1e-6


class Hiding(msgspec.Struct, frozen=True):
    """One way to hide cells, over all concepts or one. map: own, region, other, shuffled; or own and region with "grey"
    after it, where that takes the place of the blur.

    pictures: how many (picture, concept) pairs. fall: of the concept's activation. rate: share in which the concept's
    logit falls more than that of the other concepts that are active in the picture, on average (pictures without
    another active concept do not count). beaten: share in which hiding the own map makes the activation fall more.
    own_fall: fall by the own map in these very pairs, hidden alike (concepts without a landmark region are not among
    "region").
    """

    model: str
    concept: str
    map: str
    pictures: int
    fall: Estimate
    rate: Estimate | None
    beaten: Estimate | None
    own_fall: Estimate


def top_cells(weights: npt.NDArray[np.floating], share: float = SHARE) -> Bools:
    """[N, h, w]: the highest cells of each map, the same number in each; among equal ones the first."""
    flat = weights.reshape(len(weights), -1)
    count = max(1, round(share * flat.shape[1]))
    found = np.zeros(flat.shape, bool)
    np.put_along_axis(found, np.argsort(-flat, axis=1, kind="stable")[:, :count], True, axis=1)
    return found.reshape(weights.shape)


def hide(crops: U8, cells: Bools, *, grey: bool = False) -> U8:
    """The crops [N, S, S] with cells [N, h, w] replaced by their blurred surroundings, or by the mean of the crop, with
    soft edges."""
    side = crops.shape[-1]
    cell_px = side / cells.shape[-1]
    out = np.empty_like(crops)
    for i, (crop, hidden) in enumerate(zip(crops, cells, strict=True)):
        mask = cv2.resize(hidden.astype(np.float32), (side, side), interpolation=cv2.INTER_NEAREST)
        mask = cv2.GaussianBlur(mask, (0, 0), cell_px / 8)
        calm = crop.mean() if grey else cv2.GaussianBlur(crop.astype(np.float32), (0, 0), cell_px)
        out[i] = np.rint(crop + mask * (calm - crop))
    return out


def logit(p: F64) -> F64:
    """Of activations; ends are held at +-14."""
    p = np.clip(p, _EPSILON, 1 - _EPSILON)
    return np.asarray(np.log(p / (1 - p)))


def falls(before: F64, after: F64, k: int) -> tuple[F64, F64]:
    """Of concept k: fall of its activation [N], and by how much its logit falls more than the mean of the other
    concepts that were active [N], NaN where none was."""
    drop = logit(before) - logit(after)
    others = before >= ACTIVE
    others[:, k] = False
    count = others.sum(axis=1)
    mean_drop = np.where(count > 0, (drop * others).sum(axis=1) / np.maximum(count, 1), np.nan)
    return before[:, k] - after[:, k], drop[:, k] - mean_drop


def choices(answers: Answers, k: int, region: F32 | None, rng: np.random.Generator) -> dict[str, Bools]:
    """Cells to hide for concept k: its own map, the region of its landmarks, another concept's map, shuffled cells."""
    maps = answers.maps
    own = maps[:, k]
    other = rng.integers(0, maps.shape[1] - 1, len(maps))
    other += other >= k
    found = {"own": top_cells(own)}
    if region is not None and region.any():
        # Cells beyond the region fill up to the same area in the order of their nearness to it.
        near = region + 1e-3 * cv2.GaussianBlur(region, (0, 0), 1.5)
        found["region"] = np.repeat(top_cells(near[None]), len(maps), axis=0)
    found["other"] = top_cells(maps[np.arange(len(maps)), other])
    cells = rng.permuted(own.reshape(len(own), -1), axis=1).reshape(own.shape)
    return found | {"shuffled": top_cells(cells)}


@dataclass(frozen=True, slots=True)
class Trial:
    """Concept k with cells hidden in one way: rows, which pictures; fall and margin of each, see `falls`."""

    k: int
    kind: str
    rows: Ints
    fall: F64
    margin: F64


def try_all(engine: Engine, crops: U8, answers: Answers, regions: F32 | None, limit: int, seed: int) -> list[Trial]:
    """Hide and look, for up to `limit` pictures of each concept in which it is active. regions: [K, h, w]."""
    trials = []
    for k in track(range(answers.activation.shape[1]), description=f"hiding cells ({engine.manifest.name})"):
        rng = np.random.default_rng((seed, k))
        rows = rng.permutation(np.flatnonzero(answers.activation[:, k] >= ACTIVE))[:limit]
        if not len(rows):
            continue
        chosen = answers.take(rows)
        ways = [
            (kind, cells, False)
            for kind, cells in choices(chosen, k, None if regions is None else regions[k], rng).items()
        ]
        ways += [(f"{kind} {GREY}", cells, True) for kind, cells, _ in ways if kind in ("own", "region")]
        for kind, cells, grey in ways:
            after = ask(engine, hide(crops[rows], cells, grey=grey)).activation
            trials.append(Trial(k, kind, rows, *falls(chosen.activation, after, k)))
    return trials


def figures(model: str, trials: Sequence[Trial], names: Sequence[str]) -> tuple[Hiding, ...]:
    """One row for each way of hiding, over all concepts ("all") and for each."""
    own = {(trial.k, trial.kind): trial.fall for trial in trials if trial.kind in ("own", f"own {GREY}")}
    found = []
    for concept, kind in dict.fromkeys([("all", t.kind) for t in trials] + [(names[t.k], t.kind) for t in trials]):
        parts = [t for t in trials if t.kind == kind and concept in ("all", names[t.k])]
        fall = np.concatenate([part.fall for part in parts])
        margin = np.concatenate([part.margin for part in parts])
        judged = margin[~np.isnan(margin)]
        alike = f"own {GREY}" if kind.endswith(GREY) else "own"
        same = np.concatenate([own[part.k, alike] for part in parts])
        rate = mean((judged > 0).astype(np.float64)) if len(judged) else None
        beaten = None if kind == alike else mean((same > fall).astype(np.float64))
        found.append(Hiding(model, concept, kind, len(fall), mean(fall), rate, beaten, mean(same)))
    return tuple(found)


def said(found: Sequence[Hiding]) -> tuple[str, ...]:
    """What came out, for each model."""
    parts = []
    models = list(dict.fromkeys(each.model for each in found))
    for model in models:
        whose = f"{model}: hiding" if len(models) > 1 else "Hiding"
        rows = {each.map: each for each in found if each.model == model and each.concept == "all"}
        own = rows["own"]
        rate = "" if own.rate is None else f"; it falls more than the other active concepts in {own.rate.percent()}"
        parts.append(f"{whose} a map's top cells takes {own.fall.text()} off the concept's activation{rate}.")
        for kind, name in (
            ("region", "a landmark-only map"),
            ("other", "another concept's map"),
            ("shuffled", "shuffled cells"),
            (f"region {GREY}", "a landmark-only map, with grey instead of a blur,"),
        ):
            if kind in rows and (control := rows[kind]).beaten is not None:
                better = control.beaten.low > 0.5
                worse = control.beaten.high < 0.5
                verb = "beats" if better else "loses to" if worse else "does not clearly beat"
                both = f"takes {control.fall.text()}, by the own map {control.own_fall.text()} in the same cases"
                share = control.beaten.percent()
                parts.append(f"{whose} by {name} {both}: the own map {verb} it, and takes more in {share} of them.")
    return tuple(parts)
