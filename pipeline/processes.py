"""The table of processes: what runs in a session, when, and how it is watched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.config import LiveConfig


@dataclass(frozen=True, slots=True)
class Process:
    """A row of PROCESSES.

    target: "module:function", called as function(cfg, link, stop) in a process of its own.
    enabled: whether this configuration needs it.
    stage: processes of a stage start together, when all of the stages before are ready. Sinks come first, so that
        nothing is captured before it can be taken; stopping goes the other way.
    sink: the session is over when every sink has ended.
    heartbeat_s: how often it says how it is, at the latest; silent for three of them, it hangs.
    startup_s: how long it may take until it is ready.
    restarts, per_s: it is started anew after a failure, at most this often in this time.
    """

    name: str
    target: str
    enabled: Callable[[LiveConfig], bool]
    stage: int
    sink: bool
    heartbeat_s: float = 2.0
    startup_s: float = 120.0
    restarts: int = 5
    per_s: float = 60.0


def always(_cfg: LiveConfig) -> bool:
    """Needed in every session."""
    return True


def recording(cfg: LiveConfig) -> bool:
    """The session is kept."""
    return cfg.output.record != ""


def with_sound(cfg: LiveConfig) -> bool:
    """There may be a microphone, or sound in the file."""
    return cfg.capture.mic != "none"


PROCESSES: tuple[Process, ...] = (
    Process("record", "pipeline.record:run", recording, stage=0, sink=True),
    Process("analyze", "pipeline.analyze:run", always, stage=1, sink=True),
    Process("capture_audio", "pipeline.capture_audio:run", with_sound, stage=2, sink=False),
    # A camera may take its time to open, and to come back.
    Process("capture_video", "pipeline.capture_video:run", always, stage=2, sink=False, heartbeat_s=5.0),
)
