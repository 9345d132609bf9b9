"""1. Is the score the sum of what is published with it, on every picture and every backend?"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from engines.backends import BACKENDS
from engines.base import Engine, EngineError
from engines.choose import load
from engines.concept import read
from engines.spec import ModelFile
from training.evaluate import parts_of
from training.explain.answers import U8, Answers, ask, outputs

LIMIT = 1e-4


class SumFigures(msgspec.Struct, frozen=True):
    """One backend. published: |score - base - sum of the contributions|, as the readout gives them.

    network: the same with the score that the network adds up itself, which ends before the readout begins.
    absent: why the backend did not run; the figures are then 0 and mean nothing.
    """

    backend: str
    pictures: int
    published_max: float
    published_mean: float
    network_max: float
    network_mean: float
    absent: str = ""


def measure(engine: Engine, answers: Answers) -> SumFigures:
    """Both differences over all answers of an engine."""
    _, heads = parts_of(engine.manifest)
    readouts = read(answers.tensors(), heads)
    published = np.array([abs(r.score - heads.base[0] - r.contributions[:, 0].sum()) for r in readouts])
    network = np.abs(answers.own[:, 0] - outputs(answers, heads)[:, 0])
    ends = (float(published.max()), float(published.mean())), (float(network.max()), float(network.mean()))
    return SumFigures(engine.backend, len(answers), *ends[0], *ends[1])


def measure_all(model: ModelFile, crops: U8, known: tuple[Engine, Answers], threads: int) -> tuple[SumFigures, ...]:
    """Every backend at every precision; what is already known of one is not asked again."""
    done = {known[0].backend: measure(*known)}
    crop, _ = parts_of(model.manifest)
    sample = {"crop": np.zeros((1, 1, crop.size_px, crop.size_px), np.float32)}
    for name, backend in BACKENDS.items():
        for precision in backend.precisions:
            label = f"{name}/{precision}"
            if label in done:
                continue
            try:
                engine = load(name, model, precision, threads, sample)
            except EngineError as error:
                done[label] = SumFigures(label, 0, 0.0, 0.0, 0.0, 0.0, str(error))
                continue
            done[label] = measure(engine, ask(engine, crops, f"sum on {label}"))
            engine.close()
    return tuple(done.values())


def said(found: Sequence[SumFigures]) -> str:
    """What came out."""
    ran = [each for each in found if not each.absent]
    worst = max(ran, key=lambda each: each.published_max)
    holds = "holds" if worst.published_max <= LIMIT else "does NOT hold"
    text = (
        f"The published sum {holds} on {', '.join(each.backend for each in ran)}: the largest difference over "
        f"{ran[0].pictures} pictures is {worst.published_max:.1e} ({worst.backend})."
    )
    within = [each.backend for each in ran if each.network_max <= LIMIT]
    beyond = [f"{each.backend} ({each.network_max:.1e})" for each in ran if each.network_max > LIMIT]
    text += f" The network's own addition agrees within {LIMIT:.0e} on {', '.join(within) or 'none'}"
    return text + (f", and rounds further off on {', '.join(beyond)}." if beyond else ".")
