"""The status line of a session, and the terminal that it is shown on."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from engines.voice import SPEAKS
from pipeline.clock import Rate, now_ns
from pipeline.messages import Contribution, EngagementFrame, Health, Wire

SHARES_SHOWN = 2
LINE_HZ = 4.0
PLAIN_LINE_HZ = 0.2
ANALYZE, VIDEO = "analyze", "capture_video"


class Status:
    """What is known of a session from its own results and health."""

    def __init__(self) -> None:
        self._faces: dict[int, EngagementFrame] = {}
        self._newest: EngagementFrame | None = None
        self._health: dict[str, Health] = {}

    def take(self, message: Wire) -> None:
        """Take a message in."""
        if isinstance(message, Health):
            self._health[message.source] = message
        elif isinstance(message, EngagementFrame):
            if self._newest is None or message.seq != self._newest.seq:
                self._faces.clear()
            self._faces[message.face] = self._newest = message

    def line(self) -> str:
        """All of it in one line."""
        analyze = self._health.get(ANALYZE)
        if self._newest is None or analyze is None:
            return " · ".join(f"{name} {health.state}" for name, health in self._health.items()) or "starting"
        parts = [_person(face) for face in self._faces.values()]
        parts.append(f"{analyze.fps:.1f} fps")
        if analyze.age_p50_ms is not None and analyze.age_p95_ms is not None:
            parts.append(f"age {analyze.age_p50_ms:.0f} ms, p95 {analyze.age_p95_ms:.0f}")
        drops = {reason: count for reason, count in analyze.drops.items() if count}
        parts.append("dropped " + (", ".join(f"{count} {reason}" for reason, count in drops.items()) or "none"))
        parts.append(self._newest.backend)
        parts.append(_sound(self._newest.audio))
        return " · ".join(parts)


def _sound(audio: dict[str, float] | None) -> str:
    """What is heard, in a word or two."""
    if audio is None:
        return "no sound"
    found = [f"sound {audio['level_dbfs']:.0f} dB"]
    found += [name for name in ("muted", "clipped", "tone") if name in audio]
    if audio.get("speaking", 0.0) >= SPEAKS:
        found.append("speaks")
    return " ".join(found)


def _person(result: EngagementFrame) -> str:
    if result.score is None:
        return result.status.replace("_", " ")
    shares = sorted(result.contributions, key=lambda share: -abs(share.contribution))[:SHARES_SHOWN]
    score = f"score {min(1.0, max(0.0, result.score)):.2f}"
    if result.uncertainty is not None:
        score += f"±{result.uncertainty:.2f}"
    return " ".join([score, *map(_share, shares)])


def _share(share: Contribution) -> str:
    return f"{share.concept}{share.contribution:+.2f}"


class Terminal:
    """stderr: lines that stay, and below them, where it is a terminal, the status line; elsewhere now and then one."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._rate = Rate(LINE_HZ if self._console.is_terminal else PLAIN_LINE_HZ)

    def say(self, text: str) -> None:
        """A line that stays."""
        self._console.print(text)

    def show(self, status: Status) -> None:
        """To be called often."""
        if not self._rate.due(now_ns()):
            return
        if self._console.is_terminal:
            self._live.update(Text(status.line(), no_wrap=True, overflow="ellipsis"), refresh=True)
        else:
            self._console.print(status.line())

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._live.stop()
