"""The stored lag between picture and sound that a session is adapted by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from calibration.signals import SyncError
from calibration.stored import read_sync
from pipeline.bus import WorkerError
from pipeline.clock import NS_PER_S
from pipeline.config import CalibrationConfig


@dataclass(frozen=True, slots=True)
class Sync:
    """lag_ns: how much later the sound comes than its picture. identity: as results name it. text: for people."""

    lag_ns: int = 0
    identity: str | None = None
    text: str = ""


def sync_of(calibration: CalibrationConfig) -> Sync:
    """What a session is to use; no lag if none is stored. Raises WorkerError if the file is no such file."""
    if not calibration.sync:
        return Sync()
    try:
        stored = read_sync(Path(calibration.sync))
    except SyncError as error:
        raise WorkerError(f"calibration.sync: {error}", 2) from error
    result = stored.result
    order = "later" if result.lag_ms >= 0 else "earlier"
    text = (
        f"sound: {abs(result.lag_ms):.1f} ms {order} than its picture, ± {result.uncertainty_ms:.1f} "
        f"({stored.identity}, {result.method})"
    )
    return Sync(round(result.lag_ms * NS_PER_S / 1000), stored.identity, text)
