"""What users would take instead, on the same frames in the same run: python -m benchmarks.peers."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from benchmarks import machine
from benchmarks.peer_figures import MEDIAPIPE, WARM_UP, Peer, PeersReport, measured, notes, spreads, table
from benchmarks.peer_others import mediapipe_turn, openface_turn, pyfeat_turn, torch_turn
from benchmarks.peer_ways import HEIGHT_PX, OURS, U8, WIDTH_PX, Plain, Turn, frames_of, our_turn
from benchmarks.report import PLAIN_WIDTH, leave, markdown, prepare, progress_bars, show, write_json
from engines.spec import model_at
from pipeline.analyze import Analyzer
from pipeline.bus import WorkerError
from pipeline.config import CaptureConfig, EngineConfig, LiveConfig
from pipeline.networks import Networks
from pipeline.networks import load as load_networks
from pipeline.sources import DEMO

PYFEAT, OPENFACE = "Py-Feat", "OpenFace"
PICTURE = "![Milliseconds a frame](peers.png)"

HELP = f"""Times the work on a frame of {WIDTH_PX} x {HEIGHT_PX}: finding or following the face, cutting it out, the
network, and what is made of its answer. Decoding and transport are left out, for all but OpenFace alike.

\b
Beside this project's own way, all taking turns:
  the same networks without it: plain ONNX Runtime and plain torch, the detector in every frame, default settings
  MediaPipe's FaceLandmarker with blendshapes and pose, in the environment that has it
  Py-Feat 2's detector: action units, emotions, mesh, pose, gaze; in the environment that has it
  OpenFace 2's FeatureExtraction: action units, pose, gaze, landmarks; it reads the frames from bitmaps

\b
Examples:
  python -m benchmarks.peers
  python -m benchmarks.peers --mediapipe runs/teacher/bin/python --landmarker face_landmarker.task --out docs/benchmarks
  python -m benchmarks.peers --pyfeat ~/feat/bin/python --openface ~/OpenFace/build/bin/FeatureExtraction --frames 60

\b
Close everything else first. Exit codes: 0 measured, 2 bad arguments
"""

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@dataclass(frozen=True, slots=True)
class Way:
    """What takes turns. take: None, and `missing` says why, where it is not there."""

    name: str
    what: str
    model: str = ""
    take: Callable[[], Turn] | None = None
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Programs:
    """Where the others are; None: not given."""

    mediapipe: Path | None
    landmarker: Path | None
    pyfeat: Path | None
    openface: Path | None


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


def our_ways(models: Sequence[str], threads: int, lumas: U8) -> list[Way]:
    """Every model on its engine. Raises WorkerError if one cannot run."""
    found = []
    for asked in models:
        _, networks = opened(asked, threads)
        networks.close()
        name, engine, identity = asked.partition(":")[0], networks.model.backend, networks.model.manifest.identity
        what = "this project: the detector on key frames, the face followed between them"
        take = partial(session_turn, f"{name}:{engine}", threads, lumas)
        found.append(Way(f"{name}, {engine}", what, identity, take))
    return found


def plain_ways(model: str, lumas: U8, stored: Path) -> list[Way]:
    """The same networks in two libraries, opened for each turn. stored: the frames, as an npy file. Raises WorkerError
    if it is no concept model."""
    what, identity = "the same networks, the detector in every frame", model_at(model).manifest.identity
    has_torch = find_spec("torch") is not None
    return [
        Way(f"plain ONNX Runtime, {model}", what, identity, lambda: Plain(model, "onnxruntime").turn(lumas)),
        Way(
            f"plain torch, {model}",
            what,
            identity if has_torch else "",
            partial(torch_turn, model, stored) if has_torch else None,
            "it is not installed (pip install -e '.[train]')",
        ),
    ]


def other_ways(programs: Programs, colours: U8, stored: Path) -> list[Way]:
    """Programs that people have. stored: the frames, as an npy file."""
    python, task, feat, extraction = programs.mediapipe, programs.landmarker, programs.pyfeat, programs.openface
    return [
        Way(
            MEDIAPIPE,
            "478 landmarks, 52 blendshapes, pose; as a stream",
            take=None if python is None or task is None else partial(mediapipe_turn, python, task, stored),
            missing="no environment with it was given (--mediapipe)",
        ),
        Way(
            PYFEAT,
            "its second detector: action units, emotions, mesh, pose, gaze; a picture a call",
            take=None if feat is None else partial(pyfeat_turn, feat, stored),
            missing="no environment with it was given (--pyfeat)",
        ),
        Way(
            OPENFACE,
            "FeatureExtraction: action units, pose, gaze, landmarks; from bitmaps",
            take=None if extraction is None else partial(openface_turn, extraction, colours, WARM_UP),
            missing="no FeatureExtraction was given (--openface)",
        ),
    ]


def taken_turns(ways: Sequence[Way], turns: int) -> list[list[Turn]]:
    """Of every way, all of them once before any is again."""
    found: list[list[Turn]] = [[] for _ in ways]
    with progress_bars() as bars:
        task = bars.add_task("turns", total=turns * sum(way.take is not None for way in ways))
        for _ in range(turns):
            for way, own in zip(ways, found, strict=True):
                if way.take is not None:
                    own.append(way.take())
                    bars.advance(task)
    return found


@app.command(help=HELP)
def main(
    mediapipe: Annotated[
        Path | None, typer.Option(metavar="PYTHON", help="the Python of an environment with mediapipe==0.10.35")
    ] = None,
    landmarker: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="face_landmarker.task; docs/training.md, step 2, says from where"),
    ] = None,
    pyfeat: Annotated[
        Path | None, typer.Option(metavar="PYTHON", help="the Python of an environment with py-feat 2")
    ] = None,
    openface: Annotated[
        Path | None, typer.Option(metavar="FILE", help="the program FeatureExtraction of OpenFace 2")
    ] = None,
    frames: Annotated[int, typer.Option(min=30, help="of each turn")] = 200,
    turns: Annotated[int, typer.Option(min=1, help="of everybody")] = 5,
    threads: Annotated[int, typer.Option(min=1, help="of our engines; the others take what they like")] = 1,
    model: Annotated[
        list[str], typer.Option(metavar="NAME", help="ours: NAME or NAME:ENGINE/PRECISION; may be given again")
    ] = [*OURS],  # noqa: B006  # read alone
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="write every figure there")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="write peers.json, peers.md and peers.png there")
    ] = None,
) -> int:
    here = machine.look()
    prepare(out, json)
    if (mediapipe is None) != (landmarker is None):
        raise WorkerError("--mediapipe and --landmarker belong together: give both, or none", 2)
    if here.busy:
        print(f"warning: {here.busy}", file=sys.stderr)
    lumas, colours = frames_of(DEMO, frames)
    with tempfile.TemporaryDirectory() as folder:
        stored = Path(folder) / "frames.npy"
        np.save(stored, colours)
        ways = [
            *our_ways(model, threads, lumas),
            *plain_ways(model[0].partition(":")[0], lumas, stored),
            *other_ways(Programs(mediapipe, landmarker, pyfeat, openface), colours, stored),
        ]
        taken = taken_turns(ways, turns)
    peers = [
        measured(Peer(way.name, way.what, way.model), own, frames)
        if own
        else Peer(way.name, way.what, missing=way.missing)
        for way, own in zip(ways, taken, strict=True)
    ]
    _write(PeersReport(here, frames, turns, tuple(peers)), out, json)
    return 0


def _write(report: PeersReport, out: Path | None, json: Path | None) -> None:
    """To the terminal, and where it is wanted."""
    said, tables = notes(report), [table(report)]
    show(Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH), said, tables)
    if json is not None:
        write_json(json, report)
    if out is not None:
        from benchmarks import plots  # takes a second to load, and only this needs it

        write_json(out / "peers.json", report)
        (out / "peers.md").write_text(markdown("Peers", [*said, PICTURE], tables), encoding="utf-8")
        plots.peers(out / "peers.png", f"{WIDTH_PX} x {HEIGHT_PX}, {report.machine.cpu}", spreads(report))


if __name__ == "__main__":
    leave(lambda: int(app(standalone_mode=False) or 0))
