"""A timed head as what a manifest says of it, so that it runs live (calibration.joined)."""

from __future__ import annotations

from engines.fusion import BranchSpec, HearingSpec, MemorySpec, ReadingSpec, SensesSpec, TimedSpec
from engines.spec import ModelFile
from training.timed.head import F64, Branch, TimedHead
from training.timed.reading import Reading


def _row(values: F64) -> tuple[float, ...]:
    """To eight significant digits, so that a manifest stays one that can be read."""
    return tuple(float(f"{x:.8g}") for x in values.tolist())


def _rows(values: F64) -> tuple[tuple[float, ...], ...]:
    return tuple(map(_row, values))


def _branch(branch: Branch) -> BranchSpec:
    return BranchSpec(tuple(map(_rows, branch.weight)), tuple(map(_rows, branch.mean)))


def timed_spec(
    memory: MemorySpec, usual: tuple[F64, F64], alone: TimedHead, both: TimedHead, reading: Reading | None
) -> TimedSpec:
    """usual: means of what is seen [K, m] and heard [V, 1]. alone: head of what is seen; both: of seen and heard.
    reading: what they were fitted to instead of activations."""
    seen, heard = usual
    return TimedSpec(
        memory, tuple(map(tuple, seen.tolist())), tuple(heard[:, 0].tolist()),
        SensesSpec(alone.base, _branch(alone.branches[0])),
        SensesSpec(both.base, _branch(both.branches[0]), _branch(both.branches[1])),
        None if reading is None else ReadingSpec(_rows(reading.weight), _row(reading.bias)),
    )  # fmt: skip


def hearing_spec(voice: ModelFile) -> HearingSpec:
    """What a model that hears with `voice`, by learnt weights, says of it."""
    return HearingSpec(voice.manifest.name, voice.manifest.sha256, len(voice.manifest.concepts))
