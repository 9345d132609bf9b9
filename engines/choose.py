"""The choice of an engine: the fastest backend and precision on this machine that says what fp32 says."""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from engines.backends import BACKENDS, has_driver
from engines.base import Array, DeviceError, Engine, EngineError, Tensors
from engines.cores import MOST_THREADS, physical, usable
from engines.spec import ManifestError, ModelFile, quantised_spec

# How far, on any row of what it is judged on, a lower precision may lie from fp32 to be taken, in units of the value:
# a concept's activation, the score (column 0 of the heads), and the detector's confidence, which is only compared with
# thresholds.
TOLERANCE: Mapping[str, float] = {"activation": 0.02, "score": 0.02, "heatmap": 0.05}

_WARM_UP_RUNS = 2
_MEASURE_S = 0.4
_MEASURE_RUNS = 50
# More threads must take at most this share of the time of fewer, and so much less.
_CLEAR_GAIN, _CLEAR_GAIN_MS = 0.9, 1.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """One backend at one precision: its median time for the sample (inf if it did not run), or why it is out."""

    backend: str
    precision: str
    median_ms: float = math.inf
    passed_over: str = ""
    threads: int = 1

    @property
    def name(self) -> str:
        return f"{self.backend}/{self.precision}"

    @property
    def text(self) -> str:
        """The name, with the threads if they are several."""
        return self.name if self.threads == 1 else f"{self.name} on {self.threads} threads"


@dataclass(frozen=True, slots=True)
class Choice:
    """Which engine runs, and what was measured for it and for the others on this machine."""

    taken: Candidate
    others: tuple[Candidate, ...]

    def summary(self) -> str:
        """One line, such as "engine: openvino/bf16 on 2 threads (0.9 ms; openvino/bf16 1.4, openvino/fp32 2.3)"."""
        slower = sorted((row.median_ms, row.text) for row in self.others if not row.passed_over)
        parts = [f"{self.taken.median_ms:.1f} ms", ", ".join(f"{name} {ms:.1f}" for ms, name in slower)]
        parts += [f"not {row.name}: {row.passed_over}" for row in self.others if row.passed_over]
        return f"engine: {self.taken.text} ({'; '.join(part for part in parts if part)})"


@dataclass(frozen=True, slots=True)
class Chosen:
    """A warm engine and how it was chosen."""

    engine: Engine
    choice: Choice


@dataclass(frozen=True, slots=True)
class _Test:
    """What candidates are put to: see `choose`."""

    sample: Mapping[str, Array]
    judge: Mapping[str, Array]
    rest_s: float


@dataclass(frozen=True, slots=True)
class _Trial:
    """A candidate with its engine and what it made of what it is judged on; None and empty if it cannot run."""

    row: Candidate
    engine: Engine | None
    outputs: Tensors
    error: EngineError | None = None


def load(name: str, model: ModelFile, precision: str | None, threads: int, sample: Mapping[str, Array]) -> Engine:
    """The engine of `choose`, where the figures do not matter."""
    return choose(name, model, precision, threads, sample).engine


def choose(
    name: str,
    model: ModelFile,
    precision: str | None,
    threads: int,
    sample: Mapping[str, Array],
    judge: Mapping[str, Array] | None = None,
    rest_s: float = 0.0,
    *,
    on_cpu: bool = False,
) -> Chosen:
    """A warm engine of backend `name` (or "auto") at `precision`, or at the fastest that agrees with fp32 (None or "").

    threads: of the engine; 0 measures each candidate on one, and on more while that is clearly faster (`_spread`).
    sample: one call as the engine will mostly see it; candidates are timed on it. judge: inputs of any number of rows,
    run row by row; candidates must agree with fp32 on each. None: the sample. rest_s: what each timed call is preceded
    by, as by the time between the pictures of a camera: after a rest cores take longer, and a second one still more.
    Raises EngineError, one line, if the name or precision is unknown, if what was asked for by name cannot run (there
    is no fallback), or if nothing can.
    """
    wanted = _wanted(name, precision, model, on_cpu)
    if threads < 0:
        raise EngineError(f"an engine needs at least 1 thread, or 0 to have them measured, got {threads}")
    test = _Test(sample, judge or sample, rest_s)
    trials = [_try(backend, level, model, threads or 1, test) for backend, level in wanted]
    if name == "auto" and not on_cpu and _a_gpu_is_left(trials):
        more = [pair for pair in _levels(BACKENDS, precision) if BACKENDS[pair[0]].by_name]
        trials += [_try(backend, level, model, threads or 1, test) for backend, level in more]
    reference = next((trial.outputs for trial in trials if trial.row.precision == "fp32" and trial.outputs), None)
    judged = [trial if precision else _judge(trial, reference) for trial in trials]
    if not threads:
        judged = _spread(judged, model, test, min(MOST_THREADS, physical(usable())))
    running = [trial for trial in judged if trial.engine is not None and not trial.row.passed_over]
    taken = min(running, key=lambda trial: trial.row.median_ms, default=None)
    for trial in judged:
        if trial is not taken and trial.engine is not None:
            trial.engine.close()
    if taken is None or taken.engine is None:
        if name != "auto" and isinstance(judged[0].error, DeviceError):
            raise judged[0].error
        reasons = [trial.row.passed_over for trial in judged]
        raise EngineError("; ".join(reasons) if name == "auto" else reasons[0])
    return Chosen(taken.engine, Choice(taken.row, tuple(trial.row for trial in judged if trial is not taken)))


def disagreement(outputs: Tensors, reference: Tensors) -> str:
    """Why `outputs` must not stand for those of fp32, or ""."""
    for name, array in outputs.items():
        if not np.isfinite(array).all():
            return f"{name} is not finite"
    have, want = _judged(outputs), _judged(reference)
    for name, limit in TOLERANCE.items():
        apart = float(np.abs(have[name] - want[name]).max()) if name in want else 0.0
        if apart > limit:
            return f"{name} is {apart:.3f} off fp32, more than {limit}"
    return ""


def _judged(outputs: Tensors) -> Tensors:
    """The outputs under the names of TOLERANCE."""
    return {**outputs, "score": outputs["heads"][:, 0]} if "heads" in outputs else outputs


def _wanted(name: str, precision: str | None, model: ModelFile, on_cpu: bool) -> list[tuple[str, str]]:
    """The backends and precisions to try; int8 unasked only where its calibration found it near enough. Raises
    EngineError if there are none."""
    known = ", ".join(BACKENDS)
    if name != "auto" and name not in BACKENDS:
        raise EngineError(f"this version has no {name!r} engine; it has {known}, and auto, which takes the fastest")
    fitting = [
        each for each, row in BACKENDS.items() if has_driver(row) and not row.by_name and not (on_cpu and row.driver)
    ]
    names = fitting if name == "auto" else [name]
    wanted = _levels(names, precision)
    if not wanted:
        levels = sorted({level for each in names for level in BACKENDS[each].precisions})
        raise EngineError(f"engine {name} has no precision {precision!r}; it has {', '.join(levels)}")
    if not precision and not _int8_is_near(model):
        wanted = [pair for pair in wanted if pair[1] != "int8"]
    return sorted(wanted, key=lambda pair: pair[1] != "fp32")


def _levels(names: Iterable[str], precision: str | None) -> list[tuple[str, str]]:
    """What these backends may run in that precision, or in any."""
    return [(each, level) for each in names for level in BACKENDS[each].precisions if precision in (None, "", level)]


def _a_gpu_is_left(trials: Sequence[_Trial]) -> bool:
    """Whether this machine has a GPU on which nothing ran, such as one that TensorRT does not know."""
    ran = any(trial.engine is not None and trial.engine.device == "gpu" for trial in trials)
    return not ran and any(row.driver and has_driver(row) for row in BACKENDS.values())


def _int8_is_near(model: ModelFile) -> bool:
    """Whether a network has files in int8 that may be taken unasked: none was farther from fp32 than TOLERANCE allows
    on any crop of its calibration."""
    try:
        spec = quantised_spec(model)
    except ManifestError:
        return False
    found = () if spec is None else tuple(each.away for each in spec.files)
    near = [away.most_activation <= TOLERANCE["activation"] and away.most_score <= TOLERANCE["score"] for away in found]
    return bool(near) and all(near)


def _try(name: str, precision: str, model: ModelFile, threads: int, test: _Test) -> _Trial:
    """Load, time and question one candidate; a failure is noted in its row."""
    engine: Engine | None = None
    try:
        engine = _construct(name, model, precision, threads)
        median_ms = _measure(engine, test)
        outputs = _row_by_row(engine, test.judge)
    except EngineError as error:
        if engine is not None:
            engine.close()
        return _Trial(Candidate(name, precision, passed_over=str(error), threads=threads), None, {}, error)
    return _Trial(Candidate(name, precision, median_ms, threads=threads), engine, outputs)


def _spread(trials: list[_Trial], model: ModelFile, test: _Test, most: int) -> list[_Trial]:
    """The trials, and those of more threads that were worth measuring; engines of rows that cannot win are closed.

    Fastest first, each gets one thread more while that is a clear gain over all on fewer: threads that gain little are
    taken from capture and decoding. One that would not, even if `most` threads made it `most` times as fast, is left.
    """
    found, best_ms = [], math.inf
    for trial in sorted(trials, key=lambda trial: (bool(trial.row.passed_over), trial.row.median_ms)):
        kept, row = trial, trial.row
        best_ms = min(best_ms, row.median_ms)
        on_cpu = trial.engine is not None and trial.engine.device == "cpu"
        if on_cpu and not row.passed_over and row.median_ms / most <= _clearly_less(best_ms):
            for threads in range(2, most + 1):
                more = _try(row.backend, row.precision, model, threads, replace(test, judge=test.sample))
                gains = more.row.median_ms <= _clearly_less(min(best_ms, kept.row.median_ms))
                kept, slower = (more, kept) if gains else (kept, more)
                found.append(_without_engine(slower))
                if not gains:
                    break
            best_ms = min(best_ms, kept.row.median_ms)
        found.append(kept)
    return found


def _clearly_less(time_ms: float) -> float:
    """What more threads must come to, to be worth it."""
    return min(_CLEAR_GAIN * time_ms, time_ms - _CLEAR_GAIN_MS)


def _without_engine(trial: _Trial) -> _Trial:
    """What is left of a trial whose engine will not run."""
    if trial.engine is not None:
        trial.engine.close()
    return replace(trial, engine=None)


def _judge(trial: _Trial, reference: Tensors | None) -> _Trial:
    """The trial, passed over if it ran but must not stand for fp32."""
    if trial.engine is None:
        return trial
    doubt = disagreement(trial.outputs, reference) if reference else "nothing ran in fp32 to compare it with"
    return replace(trial, row=replace(trial.row, passed_over=doubt))


def _construct(name: str, model: ModelFile, precision: str, threads: int) -> Engine:
    """An engine of one backend. Raises EngineError with what to install if its library is missing."""
    backend = BACKENDS[name]
    try:
        module = importlib.import_module(backend.module)
    except ImportError as error:
        raise EngineError(f"engine {name} cannot load ({error}); install it with: {backend.install}") from error
    engine: Engine = getattr(module, backend.engine)(model, precision, threads)
    return engine


def _row_by_row(engine: Engine, inputs: Mapping[str, Array]) -> Tensors:
    """The outputs for every row, one call a row: live, most calls have one."""
    rows = len(next(iter(inputs.values())))
    answers = [engine.infer({name: array[row : row + 1] for name, array in inputs.items()}) for row in range(rows)]
    return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}


def _measure(engine: Engine, test: _Test) -> float:
    """The median time in milliseconds of up to _MEASURE_S of warm runs."""
    for _ in range(_WARM_UP_RUNS):
        engine.infer(test.sample)
    times_ns: list[int] = []
    end_ns = time.perf_counter_ns() + round(_MEASURE_S * 1e9)
    while len(times_ns) < _MEASURE_RUNS and time.perf_counter_ns() < end_ns:
        time.sleep(test.rest_s)
        start_ns = time.perf_counter_ns()
        engine.infer(test.sample)
        times_ns.append(time.perf_counter_ns() - start_ns)
    return median(times_ns) / 1e6
