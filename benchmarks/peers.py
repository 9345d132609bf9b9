"""What users would take instead, on the same frames in the same run: python -m benchmarks.peers."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import msgspec
import numpy as np
import typer
from rich.console import Console

from benchmarks import machine
from benchmarks.figures import Quantiles, quantiles
from benchmarks.machine import Machine
from benchmarks.peer_ways import HEIGHT_PX, OURS, U8, WIDTH_PX, Plain, Turn, frames_of, mediapipe_turn, our_turn
from benchmarks.report import (
    NOT_MEASURED,
    PLAIN_WIDTH,
    Table,
    leave,
    machine_note,
    markdown,
    number,
    prepare,
    progress_bars,
    show,
    write_json,
)
from pipeline.analyze import Analyzer
from pipeline.bus import WorkerError
from pipeline.config import CaptureConfig, EngineConfig, LiveConfig
from pipeline.networks import Networks
from pipeline.networks import load as load_networks
from pipeline.sources import DEMO

_WARM_UP: Final = 10
MEDIAPIPE: Final = "MediaPipe FaceLandmarker"

HELP = f"""Times the work on a frame of {WIDTH_PX} x {HEIGHT_PX}: finding or following the face, cutting it out, the
network, and what is made of its answer. Decoding and transport are left out, for all alike.

\b
Beside this project's own way: the same networks without it (plain ONNX Runtime: the detector in every frame, default
settings), and MediaPipe's FaceLandmarker with blendshapes and pose, in the environment that has it. All take turns.

\b
Examples:
  python -m benchmarks.peers
  python -m benchmarks.peers --mediapipe runs/teacher/bin/python --landmarker face_landmarker.task --out docs/benchmarks

\b
Close everything else first. Exit codes: 0 measured, 2 bad arguments
"""

app = typer.Typer(add_completion=False, rich_markup_mode=None)


class Peer(msgspec.Struct, frozen=True):
    """One way to do it. times_ms: of every frame but the first of each turn. found: share of frames with a face.
    missing: why it was not measured."""

    name: str
    what: str
    times_ms: Quantiles | None = None
    mean_ms: float | None = None
    found: float = 0.0
    missing: str = ""


def opened(model: str, threads: int) -> tuple[LiveConfig, Networks]:
    """NAME, on the engine that it would choose, or NAME:ENGINE/PRECISION. Raises WorkerError if it cannot run."""
    name, _, engine = model.partition(":")
    backend, _, precision = engine.partition("/")
    chosen = EngineConfig(model=name, backend=backend or "auto", precision=precision, threads=threads)
    cfg = LiveConfig(capture=CaptureConfig(camera="demo", mic="none", pace="max"), engine=chosen)
    return cfg, load_networks(cfg)


def session_turn(model: str, threads: int, lumas: U8) -> Turn:
    """Frames as a session would see them, from its beginning, with no networks loaded but its own."""
    cfg, networks = opened(model, threads)
    analyzer = Analyzer(cfg, networks)
    try:
        return our_turn(analyzer, lumas)
    finally:
        analyzer.close()
        networks.close()


class PeersReport(msgspec.Struct, frozen=True):
    """frames: of each turn."""

    machine: Machine
    frames: int
    turns: int
    peers: tuple[Peer, ...]


def peer_of(name: str, what: str, turns: Sequence[Turn]) -> Peer:
    """The figures of all turns, without the first frames of each."""
    times_ms = [each for turn in turns for each in turn.times_ms[_WARM_UP:]]
    count = sum(len(turn.times_ms) for turn in turns)
    found = sum(turn.found for turn in turns) / count
    return Peer(name, what, quantiles(times_ms), sum(times_ms) / len(times_ms), found)


@app.command(help=HELP)
def main(
    mediapipe: Annotated[
        Path | None, typer.Option(metavar="PYTHON", help="the Python of an environment with mediapipe==0.10.35")
    ] = None,
    landmarker: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="face_landmarker.task; docs/training.md, step 2, says from where"),
    ] = None,
    frames: Annotated[int, typer.Option(min=30, help="of each turn")] = 200,
    turns: Annotated[int, typer.Option(min=1, help="of everybody")] = 5,
    threads: Annotated[int, typer.Option(min=1, help="of our engines; the others take what they like")] = 1,
    model: Annotated[
        list[str], typer.Option(metavar="NAME", help="ours: NAME or NAME:ENGINE/PRECISION; may be given again")
    ] = [*OURS],  # noqa: B006  # read alone
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="write every figure there")] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="write peers.json and peers.md there")] = None,
) -> int:
    here = machine.look()
    prepare(out, json)
    if (mediapipe is None) != (landmarker is None):
        raise WorkerError("--mediapipe and --landmarker belong together: give both, or none", 2)
    if here.busy:
        print(f"warning: {here.busy}", file=sys.stderr)
    lumas, colours = frames_of(DEMO, frames)
    first = model[0].partition(":")[0]
    plain = Plain(first)
    with tempfile.TemporaryDirectory() as folder:
        stored = Path(folder) / "frames.npy"
        np.save(stored, colours)
        ways: dict[str, tuple[str, Callable[[], Turn]]] = {}
        for asked in model:
            _, networks = opened(asked, threads)
            networks.close()
            name, engine = asked.partition(":")[0], networks.model.backend
            what = "this project: the detector on key frames, the face followed between them"
            ways[f"{name}, {engine}"] = (what, partial(session_turn, f"{name}:{engine}", threads, lumas))
        ways[f"plain ONNX Runtime, {first}"] = (
            "the same networks, the detector in every frame",
            lambda: plain.turn(lumas),
        )
        if mediapipe is not None and landmarker is not None:
            python, task = mediapipe, landmarker
            ways[MEDIAPIPE] = (
                "478 landmarks, 52 blendshapes, pose; as a stream",
                lambda: mediapipe_turn(python, task, stored),
            )
        taken: dict[str, list[Turn]] = {name: [] for name in ways}
        with progress_bars() as bars:
            for _ in bars.track(range(turns), description="turns"):
                for name, (_, take) in ways.items():
                    taken[name].append(take())
    peers = [peer_of(name, ways[name][0], each) for name, each in taken.items()]
    if mediapipe is None:
        peers.append(Peer(MEDIAPIPE, "", missing="no environment with it was given (--mediapipe)"))
    _write(PeersReport(here, frames, turns, tuple(peers)), out, json)
    return 0


def _write(report: PeersReport, out: Path | None, json: Path | None) -> None:
    """To the terminal, and where it is wanted."""
    theirs = next((each.times_ms for each in report.peers if each.name == MEDIAPIPE), None)
    notes = [
        *machine_note(report.machine),
        f"The same {report.frames} frames of the demo clip, {WIDTH_PX} x {HEIGHT_PX}, {report.turns} turns each, one "
        "after another. Work on a frame that is there: no decoding, no transport.",
        *(f"{each.name}: {NOT_MEASURED}, {each.missing}." for each in report.peers if each.missing),
    ]
    rows = []
    for each in report.peers:
        if each.times_ms is None:
            rows.append((each.name, *[NOT_MEASURED] * 6))
            continue
        share = NOT_MEASURED if theirs is None else f"{each.times_ms.p50 / theirs.p50:.2f}"
        times = (number(value, 2) for value in (each.times_ms.p50, each.times_ms.p95, each.times_ms.p99, each.mean_ms))
        rows.append((each.name, *times, share, f"{each.found:.1%}"))
    columns = ("", "p50", "p95", "p99", "mean", "p50 / MediaPipe", "face found")
    tables = [Table("Milliseconds a frame", columns, tuple(rows))]
    show(Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH), notes, tables)
    if json is not None:
        write_json(json, report)
    if out is not None:
        write_json(out / "peers.json", report)
        (out / "peers.md").write_text(markdown("Peers", notes, tables), encoding="utf-8")


if __name__ == "__main__":
    leave(lambda: int(app(standalone_mode=False) or 0))
