"""How well known jitter is told: `python -m training.voice.jitter`.

Vowels whose every period is known, clean and in noise, are heard by the shipped network and engines.jitter in chunks,
as a live session hears, and what is heard is compared with the truth. With recordings it also says what jitter real
voices have by it.

A vowel's source is a pulse of air of one shape (Rosenberg 1971), so that all of it comes again after a period, which
may end between samples; formants ring after it. What modulates the pitch of a curve instead (training.voice.compose)
has no one jitter: it depends on where in a period one looks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import typer
from rich.progress import track
from scipy.signal import lfilter, resample_poly

from engines.backend_onnxruntime import OnnxRuntimeEngine
from engines.base import Engine, EngineError
from engines.hear import Listener
from engines.spec import ConceptSpec, ManifestError, model_at
from engines.voice import CONCEPTS, HOP, RATE_HZ, Step, VoiceMeter
from training.data.pictures import DataError
from training.data.writing import replaced
from training.metrics import pearson
from training.voice.export import MEANINGS
from training.voice.speech import decode, find_clips

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
MOST_SPREAD = 0.03
"""Standard deviation of a period over its mean; jitter is about 1.13 times as much."""
SNR_DB = (15.0, 40.0)
_SECONDS, _BEFORE_S, _CHUNK_STEPS = 1.5, 0.5, 4
_RMS, _FINER = 0.1, 8
_FORMANTS_HZ, _WIDTH_HZ = ((300, 850), (850, 2200), (2300, 3000), (3300, 3700)), (60, 160)
_SETTLED_STEPS, _LEAST_STEPS = 60, 20
_CONCEPT, _COLUMN = CONCEPTS.index("jitter"), Step._fields.index("jitter_percent")


class Told(NamedTuple):
    """A vowel: its jitter and what was heard of it, in %; its noise, infinite where it is clean."""

    true: float
    heard: float
    snr_db: float


def jittered(spread: float, rng: np.random.Generator) -> F64:
    """Periods in samples [N] of a pitch of 95 to 214 Hz that drifts slowly; around it they vary by `spread`."""
    level, depth, rate_hz = rng.uniform(8, 22), rng.uniform(0, 1), rng.uniform(0.3, 1.5)
    at, periods = 0.0, []
    while at < _SECONDS * RATE_HZ:
        drift = depth * np.sin(2 * np.pi * rate_hz * at / RATE_HZ)
        periods.append(RATE_HZ / (60 * 2 ** ((level + drift) / 12)) * (1 + rng.normal(0, spread)))
        at += periods[-1]
    return np.array(periods)


def jitter_percent(periods: F64) -> float:
    """Mean absolute difference of consecutive periods [N] over their mean (jitterLocal of eGeMAPS and Praat)."""
    return float(100 * np.mean(np.abs(np.diff(periods))) / np.mean(periods))


def vowel(periods: F64, rng: np.random.Generator) -> F32:
    """Sound of given periods in samples, at RMS .1; its loudness varies from one to the next, and there is breath."""
    count, starts = round(periods.sum()), np.concatenate([[0.0], periods.cumsum()[:-1]])
    flow, long, shimmer = np.zeros(count * _FINER), rng.uniform(0.5, 0.8) * periods.mean(), rng.uniform(0, 0.08)
    for start in starts:
        first = int(np.ceil(start * _FINER))
        at = (np.arange(first, min(len(flow), first + int(long * _FINER))) / _FINER - start) / long
        flow[first : first + len(at)] += (1 + rng.normal(0, shimmer)) * (2 * at - 3 * at**2)
    found = np.asarray(resample_poly(flow, 1, _FINER))
    for low, high in _FORMANTS_HZ:
        hz, width = rng.uniform(low, high), rng.uniform(*_WIDTH_HZ)
        radius = np.exp(-np.pi * width / RATE_HZ)
        poles = [1.0, -2 * radius * np.cos(2 * np.pi * hz / RATE_HZ), radius**2]
        found = np.asarray(lfilter([sum(poles)], poles, found))
    found += rng.uniform(0, 0.03) * np.std(found) * rng.normal(size=count)
    return np.asarray(_RMS * found / np.std(found), np.float32)


def noisy(samples: F32, snr_db: float, rng: np.random.Generator) -> F32:
    """A vowel after half a second of nothing, both in white noise, in whole chunks."""
    found = np.concatenate([np.zeros(round(_BEFORE_S * RATE_HZ), np.float32), samples])
    found += rng.normal(0, _RMS * 10 ** (-snr_db / 20), len(found)).astype(np.float32)
    return found[: len(found) // (_CHUNK_STEPS * HOP) * _CHUNK_STEPS * HOP]


def heard(engine: Engine, samples: F32) -> Iterator[F32]:
    """Steps of a stream [160 n], chunk by chunk."""
    listener = Listener(engine)
    for start in range(0, len(samples), _CHUNK_STEPS * HOP):
        yield listener.hear(samples[start : start + _CHUNK_STEPS * HOP])


def readings(engine: Engine, samples: F32) -> list[float]:
    """Jitter after every chunk of a stream [160 n] that has it."""
    meter, found = VoiceMeter(), []
    for steps in heard(engine, samples):
        meter.push(steps)
        if (value := meter.reading().values[_CONCEPT]) is not None:
            found.append(value)
    return found


def measured(engine: Engine, count: int, seed: int) -> list[Told]:
    """Of `count` vowels, every other one in noise, those whose jitter was told. Whether it is speech, as a
    concept asks, is not asked: a vowel that is held is none."""
    found = []
    for i in track(range(count), description="vowels"):
        rng = np.random.default_rng((seed, i))
        periods = jittered(rng.uniform(0, MOST_SPREAD), rng)
        snr_db = float(rng.uniform(*SNR_DB)) if i % 2 else np.inf
        steps = np.concatenate(list(heard(engine, noisy(vowel(periods, rng), snr_db, rng))))
        apart = steps[_SETTLED_STEPS:, _COLUMN]
        if (~np.isnan(apart)).sum() >= _LEAST_STEPS:
            found.append(Told(jitter_percent(periods), float(np.nanmean(apart)), snr_db))
    return found


def figures(told: Sequence[Told]) -> dict[str, tuple[int, float, float]]:
    """How many vowels, the correlation of true and heard jitter, and the mean error in %: of clean ones, of those in
    noise, of all."""
    rows = np.array(told)
    clean = np.isinf(rows[:, 2])
    parts = {"clean": rows[clean], "noisy": rows[~clean], "all": rows}
    return {
        name: (len(part), pearson(part[:, 0], part[:, 1]), float(np.abs(part[:, 1] - part[:, 0]).mean()))
        for name, part in parts.items()
    }


def of_voices(engine: Engine, folder: Path, every: int) -> dict[str, F64]:
    """Readings of each voice in a folder of recordings, one of `every` of them. Raises DataError."""
    found: dict[str, list[float]] = {}
    for voice, path in track(list(find_clips(folder))[::every], description="recordings"):
        samples = decode(path)
        whole = samples[: len(samples) // (_CHUNK_STEPS * HOP) * _CHUNK_STEPS * HOP]
        found.setdefault(voice, []).extend(readings(engine, whole))
    return {voice: np.array(values) for voice, values in found.items() if values}


def rate(folder: Path, r: float) -> None:
    """Write a reliability of jitter into the manifest of a voice network. Raises ManifestError or DataError."""
    manifest = model_at(str(folder)).manifest
    own = ConceptSpec("jitter", "voice", MEANINGS["jitter"], round(r, 4), "synthesis")
    others = {each.name: each for each in manifest.concepts} | {"jitter": own}
    if missing := [name for name in CONCEPTS if name not in others]:
        raise DataError(f"{folder} is no voice network: it has no concept {missing[0]}")
    rated = msgspec.structs.replace(manifest, concepts=tuple(others[name] for name in CONCEPTS))
    with replaced(folder / "manifest.json") as partial:
        partial.write_bytes(msgspec.json.format(msgspec.json.encode(rated), indent=1) + b"\n")


def main(
    count: Annotated[int, typer.Option(min=10, help="vowels")] = 300,
    seed: Annotated[int, typer.Option(help="of the vowels")] = 0,
    speech: Annotated[Path | None, typer.Option(help="also listen to recordings, one folder a voice")] = None,
    every: Annotated[int, typer.Option(min=1, help="take one recording in this many")] = 10,
    into: Annotated[
        Path | None, typer.Option(metavar="models/NAME", help="write the r of all vowels there, as its reliability")
    ] = None,
) -> None:
    """How well the shipped voice network and engines.jitter tell jitter that is known."""
    try:
        engine = OnnxRuntimeEngine(model_at("agcm-voice" if into is None else str(into)), threads=1)
        found = figures(measured(engine, count, seed))
        for name, (vowels, r, error) in found.items():
            typer.echo(f"{name}: {vowels} vowels, r {r:.3f}, off by {error:.2f} %")
        for voice, values in (of_voices(engine, speech, every) if speech is not None else {}).items():
            low, middle, high = np.quantile(values, (0.1, 0.5, 0.9))
            typer.echo(f"{voice}: {middle:.2f} % ({low:.2f} to {high:.2f}) in {len(values)} moments")
        if into is not None:
            rate(into, found["all"][1])
    except (DataError, EngineError, ManifestError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


if __name__ == "__main__":
    typer.run(main)
