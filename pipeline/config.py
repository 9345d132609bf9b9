"""The configuration of a live session: typed and strict. live.toml holds the defaults with a comment each."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

DEFAULT_FILE = Path(__file__).with_name("live.toml")


class ConfigError(ValueError):
    """A setting is unknown, of the wrong type, or impossible; one line that names it."""


class SessionConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """purpose: why this session is held; stated at the start and kept with a recording.
    consent: what the people in front of the camera agreed to, in words; kept with a recording.
    duration_s: stop after this long; 0 runs until the source ends or the user stops it.
    """

    purpose: str = ""
    consent: str = ""
    duration_s: float = 0.0


class CaptureConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """camera: index, device path, URL, media file or `demo`. mic: index or name of a device, `file`, `none`,
    or "" for the default (the file's own sound with a file, else the default device).
    pace: `realtime` delivers a file as a camera would, `max` analyses every frame as fast as it can.
    width_px, height_px, fps_hz: asked of a camera; 0 takes what it offers.
    reconnect_s: how long a lost camera is looked for before the worker gives up.
    """

    camera: str = "0"
    mic: str = ""
    pace: Literal["realtime", "max"] = "realtime"
    width_px: int = 640
    height_px: int = 480
    fps_hz: float = 30.0
    reconnect_s: float = 30.0


class EngineConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """model: a folder under models/. backend: `auto` or a name of engines.backends. precision: "" lets it choose.
    threads: per network.
    """

    model: str = "agcm-live"
    backend: str = "auto"
    precision: str = ""
    threads: int = 1


class FaceConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """max_faces: the largest are kept. longest_px: size at which the detector looks. threshold: its confidence.
    redetect_s: time between key frames while every face is tracked. min_eye_distance_px: below it `low_quality`.
    """

    max_faces: int = 4
    longest_px: int = 320
    threshold: float = 0.5
    redetect_s: float = 0.33
    min_eye_distance_px: float = 12.0


class ReadoutConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """smoothing_s: time constant of `smoothed`, an exponential average per face that a gap starts anew."""

    smoothing_s: float = 0.5


class OutputConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """bind: the ZeroMQ endpoint of results, health and events. record: folder for the session, "" for none."""

    bind: str = "tcp://127.0.0.1:5570"
    record: str = ""


class LiveConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of it."""

    session: SessionConfig = SessionConfig()
    capture: CaptureConfig = CaptureConfig()
    engine: EngineConfig = EngineConfig()
    face: FaceConfig = FaceConfig()
    readout: ReadoutConfig = ReadoutConfig()
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
