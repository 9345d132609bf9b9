"""A timed head as a model that runs live: the networks of a shipped model, joined by weights that were learnt.

The folder that is written holds a manifest alone; the concept network stays where it is.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from engines.spec import BranchSpec, HearingSpec, Manifest, ModelFile, SensesSpec, TimedSpec
from training.data.pictures import DataError
from training.data.writing import replaced
from training.timed.head import F64, Branch, TimedHead
from training.timed.memory import Memory


def _nested(values: F64) -> tuple[tuple[tuple[float, ...], ...], ...]:
    """[K, m, 1 + J] to eight significant digits, so that a manifest stays one that can be read."""
    return tuple(tuple(tuple(float(f"{x:.8g}") for x in row) for row in concept) for concept in values.tolist())


def _branch(branch: Branch) -> BranchSpec:
    return BranchSpec(_nested(branch.weight), _nested(branch.mean))


def timed_spec(memory: Memory, usual: tuple[F64, F64], alone: TimedHead, both: TimedHead) -> TimedSpec:
    """usual: means of what is seen [K, m] and heard [V, 1]. alone: head of what is seen; both: of seen and heard."""
    seen, heard = usual
    return TimedSpec(
        memory.taps, memory.constant_s, tuple(map(tuple, seen.tolist())), tuple(heard[:, 0].tolist()),
        SensesSpec(alone.base, _branch(alone.branches[0])),
        SensesSpec(both.base, _branch(both.branches[0]), _branch(both.branches[1])),
    )  # fmt: skip


def manifest_for(name: str, eyes: ModelFile, voice: ModelFile, timed: TimedSpec, folder: Path) -> Manifest:
    """The manifest of a model in `folder` that sees with `eyes` and hears with `voice`. Nobody has measured how far its
    score is off, nor where its classes are cut."""
    heads = eyes.manifest.heads
    if heads is None:
        raise DataError(f"model {eyes.manifest.name!r} is no concept model: its manifest has no heads")
    return msgspec.structs.replace(
        eyes.manifest,
        name=name,
        file=Path(os.path.relpath(eyes.path, folder)).as_posix(),
        heads=msgspec.structs.replace(heads, interval=None, score_cuts=()),
        hearing=HearingSpec(voice.manifest.name, voice.manifest.sha256, len(voice.manifest.concepts)),
        timed=timed,
    )


def write(manifest: Manifest, folder: Path) -> None:
    """Write the manifest. Raises DataError if it cannot be written."""
    with replaced(folder / "manifest.json") as partial:
        partial.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")
