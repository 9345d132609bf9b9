"""A timed head as what a manifest says of it, so that it runs live (calibration.joined)."""

from __future__ import annotations

from engines.fusion import BranchSpec, HearingSpec, MemorySpec, SensesSpec, TimedSpec
from engines.spec import ModelFile
from training.timed.head import F64, Branch, TimedHead


def _nested(values: F64) -> tuple[tuple[tuple[float, ...], ...], ...]:
    """[K, m, 1 + J] to eight significant digits, so that a manifest stays one that can be read."""
    return tuple(tuple(tuple(float(f"{x:.8g}") for x in row) for row in concept) for concept in values.tolist())


def _branch(branch: Branch) -> BranchSpec:
    return BranchSpec(_nested(branch.weight), _nested(branch.mean))


def timed_spec(memory: MemorySpec, usual: tuple[F64, F64], alone: TimedHead, both: TimedHead) -> TimedSpec:
    """usual: means of what is seen [K, m] and heard [V, 1]. alone: head of what is seen; both: of seen and heard."""
    seen, heard = usual
    return TimedSpec(
        memory, tuple(map(tuple, seen.tolist())), tuple(heard[:, 0].tolist()),
        SensesSpec(alone.base, _branch(alone.branches[0])),
        SensesSpec(both.base, _branch(both.branches[0]), _branch(both.branches[1])),
    )  # fmt: skip


def hearing_spec(voice: ModelFile) -> HearingSpec:
    """What a model that hears with `voice`, by learnt weights, says of it."""
    return HearingSpec(voice.manifest.name, voice.manifest.sha256, len(voice.manifest.concepts))
