"""Pure: from turns to the figures of benchmarks.peers, and how they are printed."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Final

import msgspec

from benchmarks.figures import Quantiles, quantiles
from benchmarks.machine import Machine
from benchmarks.peer_ways import HEIGHT_PX, WIDTH_PX, Turn
from benchmarks.report import NOT_MEASURED, Table, machine_note, number

MEDIAPIPE: Final = "MediaPipe FaceLandmarker"
WARM_UP: Final = 10
"""Frames at the start of a turn that do not count."""


class Peer(msgspec.Struct, frozen=True):
    """One way to do it. times_ms: of every frame but the first of each turn; None where only the mean is known. found:
    share of frames with a face. model: of ours. version: of others. missing: why it was not measured."""

    name: str
    what: str
    model: str = ""
    version: str = ""
    times_ms: Quantiles | None = None
    mean_ms: float | None = None
    found: float = 0.0
    missing: str = ""


class PeersReport(msgspec.Struct, frozen=True):
    """frames: of each turn."""

    machine: Machine
    frames: int
    turns: int
    peers: tuple[Peer, ...]


def measured(peer: Peer, turns: Sequence[Turn], frames: int) -> Peer:
    """It with the figures of all turns of so many frames, without the first of each."""
    times_ms = [each for turn in turns for each in turn.times_ms[WARM_UP:]]
    means_ms = times_ms or [turn.mean_ms for turn in turns if turn.mean_ms is not None]
    return msgspec.structs.replace(
        peer,
        version=turns[0].version,
        times_ms=quantiles(times_ms),
        mean_ms=fmean(means_ms),
        found=sum(turn.found for turn in turns) / (frames * len(turns)),
    )


def spreads(report: PeersReport) -> dict[str, Quantiles]:
    """Of those whose frames were timed one by one, by name."""
    return {each.name: each.times_ms for each in report.peers if each.times_ms is not None}


def notes(report: PeersReport) -> list[str]:
    """What was measured, with what, and who was not there."""
    return [
        *machine_note(report.machine),
        "Models: " + ", ".join(dict.fromkeys(each.model for each in report.peers if each.model)) + ".",
        f"The same {report.frames} frames of the demo clip, {WIDTH_PX} x {HEIGHT_PX}, {report.turns} turns each, one "
        "after another. Work on a frame that is there: no decoding, no transport.",
        *(f"{each.name}: {NOT_MEASURED}, {each.missing}." for each in report.peers if each.missing),
    ]


def table(report: PeersReport) -> Table:
    """A row for each."""
    theirs = next((each for each in report.peers if each.name == MEDIAPIPE), Peer(MEDIAPIPE, ""))
    columns = ("", "p50", "p95", "p99", "mean", "p50 / MediaPipe's", "mean / MediaPipe's", "face found")
    return Table("Milliseconds a frame", columns, tuple(_line(each, theirs) for each in report.peers))


def _line(peer: Peer, theirs: Peer) -> tuple[str, ...]:
    name = f"{peer.name} {peer.version}".strip()
    if peer.mean_ms is None:
        return (name, *[NOT_MEASURED] * 7)
    spread = peer.times_ms
    times = ("–",) * 3 if spread is None else tuple(number(each, 2) for each in (spread.p50, spread.p95, spread.p99))
    typical = "–" if spread is None else _share(spread.p50, theirs.times_ms.p50 if theirs.times_ms else None)
    return (name, *times, number(peer.mean_ms, 2), typical, _share(peer.mean_ms, theirs.mean_ms), f"{peer.found:.1%}")


def _share(time_ms: float, theirs_ms: float | None) -> str:
    return NOT_MEASURED if theirs_ms is None else f"{time_ms / theirs_ms:.2f}"
