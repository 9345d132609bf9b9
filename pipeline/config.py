"""The configuration of a live session: typed and strict. live.toml holds the defaults with a comment each."""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal, get_args, get_origin

import msgspec

from pipeline.messages import OneLineError

DEFAULT_FILE = Path(__file__).with_name("live.toml")

Positive = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=0)]
AtLeastOne = Annotated[int, msgspec.Meta(ge=1)]
Name = Annotated[str, msgspec.Meta(min_length=1)]


class ConfigError(OneLineError):
    """A setting is unknown, of the wrong type, or impossible; one line that names it."""


class SessionConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """purpose: why this session is held; stated at the start and kept with a recording.
    consent: what the people in front of the camera agreed to, in words; kept with a recording.
    duration_s: stop after this long; 0 runs until the source ends or the user stops it.
    """

    purpose: str = ""
    consent: str = ""
    duration_s: NotNegative = 0.0


class CaptureConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """camera: index, device path, URL, media file or `demo`. mic: index or name of a device, `file`, `none`,
    or "" for the default (the file's own sound with a file, else the default device).
    pace: `realtime` delivers a file as a camera would, `max` analyses every frame as fast as it can.
    width_px, height_px, fps_hz: asked of a camera; 0 takes what it offers.
    reconnect_s: how long a lost camera is looked for before the worker gives up.
    slots: pictures in memory that capture and analysis share (Linux, realtime); 0: they travel in their messages.
    """

    camera: Name = "0"
    mic: str = ""
    pace: Literal["realtime", "max"] = "realtime"
    width_px: Count = 640
    height_px: Count = 480
    fps_hz: NotNegative = 30.0
    reconnect_s: NotNegative = 30.0
    slots: Count = 8


class EngineConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """model: a folder under models/, or a path with a / in it. backend: `auto` or a name of engines.backends.
    precision: "" lets it choose.
    threads: of the concept network; 0 measures how many are worth it. pin: how many cores the analysis is kept to, on
    Linux; 0 lets it go where the system puts it. device: with `cpu`, auto leaves a GPU alone.
    """

    model: Name = "agcm-av-live"
    backend: Name = "auto"
    precision: str = ""
    threads: Count = 0
    pin: Count = 0
    device: Literal["any", "cpu"] = "any"


class FaceConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """max_faces: the largest are kept. longest_px: size at which the detector looks. threshold: its confidence.
    redetect_s: time between key frames while every face is tracked. min_eye_distance_px: below it `low_quality`.
    follow: how a face is found again in between: by optical flow, or by the network's landmarks; auto takes these where
    the network has them.
    """

    max_faces: AtLeastOne = 4
    longest_px: Annotated[int, msgspec.Meta(ge=32)] = 320
    threshold: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.4
    redetect_s: Positive = 0.33
    min_eye_distance_px: NotNegative = 12.0
    follow: Literal["auto", "flow", "landmarks"] = "auto"


class ReadoutConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """smoothing_s: time constant of `smoothed`, an exponential average per face that a gap starts anew.
    voice_prior: whether voice weights that were fixed and not learnt (the model's card names them) move the score.
    """

    smoothing_s: NotNegative = 0.5
    voice_prior: bool = False


class CalibrationConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """sync: a file of calibration.sync, the lag between picture and sound; "" for none. wait: live, where sound comes
    later than its picture, results wait for it."""

    sync: str = ""
    wait: bool = False


class OutputConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """bind: the ZeroMQ endpoint of results, health and events. record: folder for the session, "" for none."""

    bind: Name = "tcp://127.0.0.1:5570"
    record: str = ""


class LiveConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of it."""

    session: SessionConfig = SessionConfig()
    capture: CaptureConfig = CaptureConfig()
    engine: EngineConfig = EngineConfig()
    face: FaceConfig = FaceConfig()
    readout: ReadoutConfig = ReadoutConfig()
    calibration: CalibrationConfig = CalibrationConfig()
    output: OutputConfig = OutputConfig()


class Link(msgspec.Struct, frozen=True):
    """What a worker needs to know of its session besides the configuration.

    Endpoints: `video` and `audio` are bound by the capture workers; `results_in` is bound by the supervisor, every
    worker connects and publishes there what users may read, and the supervisor forwards it to `output.bind`.
    """

    session: str
    video: str
    audio: str
    results_in: str


def load(path: Path | None = None, overrides: Sequence[str] = ()) -> LiveConfig:
    """The defaults, changed by a TOML file and then by overrides such as "face.max_faces=2".

    Raises ConfigError, one line that names the setting.
    """
    config = LiveConfig()
    for section, key, value in _read(path) if path else []:
        config = _set(config, section, key, value, as_text=False)
    for override in overrides:
        config = _set(config, *_parse(override), as_text=True)
    return _consistent(config)


def _read(path: Path) -> list[tuple[str, str, object]]:
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read configuration {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration {path} is not valid TOML: {error}") from error
    for section, table in tables.items():
        if not isinstance(table, dict):
            raise ConfigError(f"setting {section!r} is outside of a section such as [session]")
        _known(section, LiveConfig.__struct_fields__, "section", "")
    return [(section, key, value) for section, table in tables.items() for key, value in table.items()]


def _parse(override: str) -> tuple[str, str, str]:
    name, equals, value = override.partition("=")
    section, dot, key = name.strip().partition(".")
    if not (equals and dot and key):
        raise ConfigError(f"--set takes section.key=value (such as face.max_faces=2), got {override!r}")
    return section, key, value.strip()


def _set(config: LiveConfig, section: str, key: str, value: object, *, as_text: bool) -> LiveConfig:
    """`config` with one value changed; as_text: the value is text whatever its type, and is read as that type."""
    _known(section, LiveConfig.__struct_fields__, "section", "")
    table = getattr(config, section)
    _known(key, table.__struct_fields__, "setting", f"{section}.")
    kind = next(field.type for field in msgspec.structs.fields(table) if field.name == key)
    try:
        typed = msgspec.convert(value, kind, strict=not as_text)
    except msgspec.ValidationError as error:
        choices = get_args(kind) if get_origin(kind) is Literal else ()
        reason = f"expected {' or '.join(choices)}" if choices else str(error).replace("`", "")
        raise ConfigError(f"{section}.{key} = {value!r}: {reason}") from error
    if isinstance(typed, float) and not math.isfinite(typed):
        raise ConfigError(f"{section}.{key} = {value!r}: expected a finite number")
    return msgspec.structs.replace(config, **{section: msgspec.structs.replace(table, **{key: typed})})


def _known(name: str, known: Iterable[str], what: str, prefix: str) -> None:
    known = tuple(known)
    if name in known:
        return
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {prefix}{close[0]}?" if close else f"known: {', '.join(known)}"
    raise ConfigError(f"unknown {what} {prefix}{name}; {hint}")


def _consistent(config: LiveConfig) -> LiveConfig:
    capture = config.capture
    if capture.camera.isdigit() or capture.camera.startswith("/dev/"):
        if capture.pace == "max":
            raise ConfigError(f"capture.pace = 'max' is for media files; camera {capture.camera!r} is a device")
        if capture.mic == "file":
            raise ConfigError(
                f"capture.mic = 'file' is the sound of a media file; camera {capture.camera!r} is a device"
            )
    return config
