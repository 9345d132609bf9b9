"""A model that is made of others: a manifest alone, which names their networks and the weights that join them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from engines.fusion import HearingSpec, TimedSpec
from engines.spec import Manifest, ModelFile


class JoinError(ValueError):
    """Such a model cannot be made; one line that says why."""


def joined(eyes: ModelFile, folder: Path, hearing: HearingSpec | None, timed: TimedSpec | None) -> Manifest:
    """The manifest of a model in `folder` that sees with `eyes`. With weights of its own, its score is another: then
    nobody has measured how far that is off, nor where its classes are cut. Raises JoinError."""
    heads = eyes.manifest.heads
    if heads is None:
        raise JoinError(f"model {eyes.manifest.name!r} is no concept model: its manifest has no heads")
    return msgspec.structs.replace(
        eyes.manifest,
        name=folder.name,
        file=Path(os.path.relpath(eyes.path, folder)).as_posix(),
        heads=heads if timed is None else msgspec.structs.replace(heads, interval=None, score_cuts=()),
        hearing=hearing,
        timed=timed,
    )


def learnt_hearing(voice: ModelFile) -> HearingSpec:
    """What a model that hears with `voice`, by learnt weights, says of it."""
    return HearingSpec(voice.manifest.name, voice.manifest.sha256, len(voice.manifest.concepts))


def write(manifest: Manifest, folder: Path) -> None:
    """The folder's manifest, whole or as it was before. Raises JoinError."""
    path = folder / "manifest.json"
    draft = path.with_name(f"{path.name}.part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")
        draft.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise JoinError(f"cannot write {path}: {error.strerror or error}") from error
