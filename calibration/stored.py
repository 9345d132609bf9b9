"""A measured lag as a file: written whole or not at all, read strictly."""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from calibration.signals import SyncError

VERSION = 1

Method = Literal["clap", "speech"]


class SyncResult(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much later the sound arrives than the picture that it belongs to; below 0: how much earlier.

    uncertainty_ms: half the width of a 95 % interval. events: claps, or seconds of speech, that it rests on.
    measured_at: wall time. camera, microphone: as the user named them, "" if not. source: name of the media file.
    """

    v: Annotated[int, msgspec.Meta(ge=VERSION, le=VERSION)] = VERSION
    lag_ms: Annotated[float, msgspec.Meta(ge=-1000, le=1000)]
    uncertainty_ms: Annotated[float, msgspec.Meta(ge=0)]
    method: Method
    events: Annotated[int, msgspec.Meta(ge=1)]
    measured_at: Annotated[datetime, msgspec.Meta(tz=True)]
    camera: str
    microphone: str
    source: str


@dataclass(frozen=True, slots=True)
class StoredSync:
    """A result and what it is called in messages: "sync@" and the first twelve digits of the file's sha256."""

    result: SyncResult
    identity: str


def write_sync(path: Path, result: SyncResult) -> None:
    """The file, whole or as it was before. Raises SyncError."""
    draft = path.with_name(f"{path.name}.part")
    try:
        with draft.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(result)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise SyncError(f"cannot write {path}: {error.strerror or error}") from error


def read_sync(path: Path) -> StoredSync:
    """A file that `write_sync` wrote. Raises SyncError if it is missing or anything else."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SyncError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        result = msgspec.json.decode(data, type=SyncResult)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise SyncError(f"{path} is no result of calibration.sync: {error}".replace("`", "")) from error
    return StoredSync(result, f"sync@{hashlib.sha256(data).hexdigest()[:12]}")
