"""Why jitter is no concept: `python -m training.voice.jitter`.

Jitter (eGeMAPS, after Praat's local jitter) is the mean absolute difference of consecutive periods of the vocal folds
over their mean, about .5 to 2 % in voices. Vowels with known jitter, clean and in noise, are heard by the shipped
network, and its answers are correlated with the truth: the steps of its pitch, which comes every 10 ms and is rounder
than a period, and the harmonics-to-noise ratio, which is a concept already (`clear_voice`).
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from rich.progress import track

from engines.backend_onnxruntime import OnnxRuntimeEngine
from engines.base import Engine
from engines.spec import model_at
from engines.voice import HOP, RATE_HZ, Step
from training.voice.compose import vowel

F64 = npt.NDArray[np.float64]
MOST_JITTER = 0.03
"""Standard deviation of a period; local jitter is about 1.13 times as much."""
_SECONDS, _BEFORE_S, _SETTLE_STEPS, _CHUNK_STEPS = 1.5, 0.5, 60, 4


def jittered(spread: float, rng: np.random.Generator) -> tuple[F64, float]:
    """A pitch curve in semitones above 60 Hz [N] that drifts slowly, whose periods vary by `spread`, and its jitter."""
    count = int(_SECONDS * RATE_HZ)
    at, periods, curve = 0, [], np.empty(count)
    level, depth, rate_hz = rng.uniform(8, 22), rng.uniform(0, 1), rng.uniform(0.3, 1.5)
    while at < count:
        drift = depth * np.sin(2 * np.pi * rate_hz * at / RATE_HZ)
        period = RATE_HZ / (60 * 2 ** ((level + drift) / 12)) * (1 + rng.normal(0, spread))
        curve[at : at + round(period)] = 12 * np.log2(RATE_HZ / period / 60)
        periods.append(period)
        at += round(period)
    return curve, float(np.mean(np.abs(np.diff(periods))) / np.mean(periods))


def heard(engine: Engine, samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """What the network says of every step [n, columns]."""
    sizes = {each.name: each.shape for each in engine.manifest.inputs}
    memory, found = np.zeros((1, sizes["memory"][1]), np.float32), []
    size = _CHUNK_STEPS * HOP
    for start in range(0, len(samples) // size * size, size):
        answer = engine.infer({"samples": samples[None, start : start + size], "memory": memory})
        found.append(answer["voice"][0])
        memory = answer["memory_out"]
    return np.concatenate(found)


def measured(engine: Engine, count: int, seed: int) -> F64:
    """Of vowels that were heard as voiced [N, 3]: true jitter, mean step of the pitch, harmonics-to-noise ratio."""
    rng, rows = np.random.default_rng(seed), []
    for i in track(range(count), description="vowels"):
        curve, true = jittered(rng.uniform(0, MOST_JITTER), rng)
        samples = np.concatenate([np.zeros(int(_BEFORE_S * RATE_HZ), np.float32), vowel(curve, rng)])
        if i % 2:
            level = 0.1 * 10 ** (-rng.uniform(15, 40) / 20)
            samples += rng.normal(0, level, len(samples)).astype(np.float32)
        steps = heard(engine, samples)[_SETTLE_STEPS:]
        steps = steps[steps[:, Step._fields.index("voiced")] > 0.5]
        if len(steps) > _SETTLE_STEPS:
            pitch, hnr = (steps[:, Step._fields.index(name)] for name in ("pitch_st", "hnr_db"))
            rows.append((true, float(np.mean(np.abs(np.diff(pitch)))), float(hnr.mean())))
    return np.array(rows)


def main(
    count: Annotated[int, typer.Option(min=10, help="vowels")] = 300,
    seed: Annotated[int, typer.Option(help="of the vowels")] = 0,
) -> None:
    """How well jitter could be told from what the shipped voice network says."""
    rows = measured(OnnxRuntimeEngine(model_at("agcm-voice"), threads=1), count, seed)
    for name, column in (("steps of the pitch", 1), ("harmonics-to-noise ratio", 2)):
        typer.echo(f"jitter and the {name}: r {np.corrcoef(rows[:, 0], rows[:, column])[0, 1]:.2f}")


if __name__ == "__main__":
    typer.run(main)
