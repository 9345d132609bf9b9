"""What can be known to be wrong before any process starts, and what a session says of itself at its start."""

from __future__ import annotations

import difflib
import tempfile
from pathlib import Path

from calibration.signals import SyncError
from calibration.stored import read_sync
from engines.backends import BACKENDS
from engines.spec import ManifestError, model_at
from pipeline.config import ConfigError, LiveConfig

LOCAL = ("tcp://127.0.0.1:", "tcp://localhost:", "ipc://", "inproc://")


def check(cfg: LiveConfig) -> None:
    """Raises ConfigError, one line that says what to do."""
    _check_camera(cfg.capture.camera)
    _check_engine(cfg.engine.backend)
    try:
        model_at(cfg.engine.model)
    except ManifestError as error:
        raise ConfigError(str(error)) from error
    if cfg.calibration.sync:
        try:
            read_sync(Path(cfg.calibration.sync))
        except SyncError as error:
            raise ConfigError(f"calibration.sync: {error}") from error
    if cfg.output.record:
        _check_recording(Path(cfg.output.record))


def _check_camera(camera: str) -> None:
    name = camera.removeprefix("file://")
    if name.isdigit() or name == "demo" or "://" in name or "=" in name:
        return
    path = Path(name)
    if not _exists(path, f"camera {camera!r}"):
        raise ConfigError(f"camera {camera!r} is no index, device, URL or file that exists (try: --camera demo)")
    if path.is_dir():
        raise ConfigError(f"camera {camera!r} is a folder; name a media file in it")


def _check_engine(name: str) -> None:
    known = ("auto", *BACKENDS)
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ConfigError(f"unknown engine {name!r} (known: {', '.join(known)}){hint}")


def _check_recording(folder: Path) -> None:
    if _exists(folder, f"recording {folder}"):
        raise ConfigError(f"recording {folder} exists; a recording is never written over, name a new folder")
    above = next(parent for parent in folder.absolute().parents if parent.exists())
    try:
        Path(tempfile.mkdtemp(dir=above)).rmdir()
    except OSError as error:
        raise ConfigError(f"recording {folder} cannot be made in {above}: {error.strerror}") from error


def _exists(path: Path, what: str) -> bool:
    """Raises ConfigError where it cannot be known: in a folder that this user may not enter, say."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise ConfigError(f"{what} cannot be reached: {error.strerror}") from error
    return True


def notices(cfg: LiveConfig) -> list[str]:
    """What whoever starts a session, and whoever is in front of the camera, is told. output.bind is as bound."""
    purpose = cfg.session.purpose or 'not stated; state it with --set session.purpose="…"'
    kept = f"its results are kept in {cfg.output.record}" if cfg.output.record else "nothing is kept"
    endpoint = cfg.output.bind
    lines = [
        f"Purpose: {purpose}",
        "To everybody in front of the camera: your face is being analysed for an engagement score. "
        f"No picture and no sound is stored; {kept}.",
        f"Results: {endpoint}   read them with: python -m pipeline.subscribe {endpoint}",
    ]
    if not endpoint.startswith(LOCAL):
        lines.append(f"Everybody on the network who reaches {endpoint} can read the results.")
    return lines
