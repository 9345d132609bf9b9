"""2. Are the concepts with the largest contributions those on which the answer hangs?

Concepts are taken away one by one (deletion) or put back one by one (insertion), and the answer is watched. For a
model that adds up, both curves of one order mirror each other; for a black box they do not. Method: Petsiuk, Das and
Saenko, "RISE" (2018), here over concepts and towards a stated reference.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np

from training.explain.answers import F64, Ints, shuffled
from training.explain.intervals import Estimate, ratio

RANDOM_ORDERS = 10


class Curve(msgspec.Struct, frozen=True):
    """One curve over 0..K concepts.

    system: "AGCM" or "black box". reference: what a concept that is taken away becomes. test: deletion (share of the
    way from the reference that is left: it should fall fast) or insertion (share of the answer that is back: it should
    rise fast). area: mean over the steps. kept: share of pictures whose expression is still that of the whole, None
    for the score.
    """

    system: str
    head: str
    reference: str
    test: str
    order: str
    values: tuple[float, ...]
    area: Estimate
    kept: tuple[float, ...] | None = None


def additive(effects: F64, order: Ints) -> F64:
    """What is left of each answer after 0..K deletions, [N, K + 1] (less the reference); effects [N, K] add up."""
    taken = np.take_along_axis(effects, order, axis=1).cumsum(axis=1)
    total = effects.sum(axis=1, keepdims=True)
    return np.asarray(total - np.concatenate([np.zeros_like(total), taken], axis=1))


def surprise_of(left: F64, effects: F64, order: Ints) -> float:
    """How far what is left [N, K + 1] after the deletions of an order lies from what the effects [N, K] foretell."""
    whole = np.abs(left[:, 0]).mean()
    return float(np.abs(left - additive(effects, order)).mean() / whole) if whole > 0 else 0.0


def curve_of(left: F64, whole: F64, groups: Ints | None = None) -> tuple[tuple[float, ...], Estimate]:
    """Means of |left| [N, K + 1] in units of the mean of |whole| [N], and the area below; see intervals for groups."""
    values = np.abs(left).mean(axis=0) / np.abs(whole).mean()
    return tuple(values.tolist()), ratio(np.abs(left).mean(axis=1), np.abs(whole), groups)


def mirrored(values: tuple[float, ...], area: Estimate) -> tuple[tuple[float, ...], Estimate]:
    """What is missing, as what is back."""
    return tuple(1 - v for v in values), Estimate(1 - area.value, 1 - area.high, 1 - area.low)


def random_orders(count: int, concepts: int, seed: int) -> list[Ints]:
    """Several random orders for each picture."""
    return [shuffled(count, concepts, np.random.default_rng((seed, i))) for i in range(RANDOM_ORDERS)]


def logits_kept(shares: F64, reference: F64, order: Ints, base: F64) -> tuple[float, ...]:
    """Share of pictures that keep their expression after 0..K deletions.

    shares [N, K, E]; reference [N, K, E] or [K, E], what a deleted concept gives instead; base [E], added to both.
    """
    logits = base + shares.sum(axis=1)
    first, kept = logits.argmax(axis=1), [1.0]
    change = np.take_along_axis(np.broadcast_to(reference, shares.shape) - shares, order[:, :, None], axis=1)
    for step in range(order.shape[1]):
        logits = logits + change[:, step]
        kept.append(float((logits.argmax(axis=1) == first).mean()))
    return tuple(kept)


def averaged(parts: list[tuple[float, ...]]) -> tuple[float, ...]:
    """Mean of curves of equal length."""
    return tuple(np.mean(parts, axis=0).tolist())


def model_curves(effects: F64, orders: Mapping[str, list[Ints]], labels: tuple[str, str],
                 groups: Ints | None = None) -> list[Curve]:  # fmt: skip
    """Deletion and insertion of an additive model. labels: head and reference. orders: several for random.

    The curves of several orders are averaged before the interval is taken, so that it is one of pictures, not orders.
    """
    head, reference = labels
    found = []
    for name, several in orders.items():
        left = np.mean([np.abs(additive(effects, order)) for order in several], axis=0)
        values, area = curve_of(left, effects.sum(axis=1), groups)
        found.append(Curve("AGCM", head, reference, "deletion", name, values, area))
        found.append(Curve("AGCM", head, reference, "insertion", name, *mirrored(values, area)))
    return found


def find(curves: tuple[Curve, ...], *key: str) -> Curve | None:
    """The curve with this system, head, reference, test and order."""
    for curve in curves:
        if (curve.system, curve.head, curve.reference, curve.test, curve.order) == key:
            return curve
    return None


def _switched_off(curves: tuple[Curve, ...], head: str) -> str:
    """What came out where concepts become inactive."""
    named = {order: find(curves, "AGCM", head, "inactive", "deletion", order)
             for order in ("contribution", "activation", "switching off")}  # fmt: skip
    areas = {order: curve.area for order, curve in named.items() if curve is not None}
    if len(areas) < len(named):
        return ""
    best = min(areas, key=lambda order: areas[order].value)
    listed = ", ".join(f"by {order} {area.text()}" for order, area in areas.items())
    return f" With concepts made inactive instead, the smallest area is that by {best} ({listed})."


def said(curves: tuple[Curve, ...]) -> tuple[str, ...]:
    """What came out."""
    parts = []
    for head in dict.fromkeys(curve.head for curve in curves):
        own, activation, chance = (
            find(curves, "AGCM", head, "mean", "deletion", order) for order in ("contribution", "activation", "random")
        )
        if own is None or activation is None or chance is None:
            continue
        beaten = [other.order for other in (activation, chance) if own.area.high < other.area.low]
        verdict = f"clearly below {' and '.join(beaten)}" if beaten else "not clearly below the other orders"
        text = (
            f"{head}: deletion by contribution leaves an area of {own.area.text()}, {verdict} "
            f"(activation {activation.area.text()}, random {chance.area.text()})"
        )
        box, blind = (find(curves, "black box", head, "mean", "deletion", order) for order in ("SHAP", "random"))
        if box is not None and blind is not None:
            text += f"; the black box leaves {box.area.text()} with SHAP and {blind.area.text()} at random"
        parts.append(f"{text}.{_switched_off(curves, head)}")
    return tuple(parts)
