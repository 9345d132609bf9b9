"""What users would take instead, on the same frames in the same run: python -m benchmarks.peers."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import av
import cv2
import msgspec
import numpy as np
import numpy.typing as npt
import onnxruntime
import typer
from rich.console import Console

from benchmarks import machine
from benchmarks.figures import Quantiles, quantiles
from benchmarks.machine import ROOT, Machine
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
from engines.base import Array, Tensors
from engines.concept import read
from engines.detect import detect
from engines.preprocess import crop, similarity, to_tensor
from engines.spec import load_model_file, model_at
from pipeline.analyze import Analyzer
from pipeline.bus import Received, WorkerError
from pipeline.clock import now_ns
from pipeline.config import CaptureConfig, EngineConfig, LiveConfig
from pipeline.decode import Losses, pictures
from pipeline.messages import Drops, FramePacket
from pipeline.networks import load as load_networks
from pipeline.sources import DEMO, source_of, video_stream

WIDTH_PX, HEIGHT_PX = 640, 480
PERIOD_NS = 33_333_333
OURS: Final = "agcm-live"
_WARM_UP: Final = 10
U8 = npt.NDArray[np.uint8]

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


class PeersReport(msgspec.Struct, frozen=True):
    """frames: of each turn."""

    machine: Machine
    frames: int
    turns: int
    peers: tuple[Peer, ...]


@dataclass(frozen=True, slots=True)
class Turn:
    """Milliseconds of every frame, and in how many a face was found."""

    times_ms: list[float]
    found: int


def frames_of(path: Path, count: int) -> tuple[U8, U8]:
    """Luma [N, H, W] and RGB [N, H, W, 3] of the first pictures of a clip, filled up to the size with their border.
    Raises WorkerError if it has fewer."""
    lumas, colours = [], []
    with av.open(str(path)) as container:
        for picture in pictures(container, video_stream(container, source_of(str(path))), Losses()):
            rgb = _filled(np.asarray(picture.frame.to_ndarray(format="rgb24"), np.uint8))
            colours.append(rgb)
            lumas.append(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))
            if len(lumas) == count:
                return np.stack(lumas).astype(np.uint8), np.stack(colours)
    raise WorkerError(f"{path.name} has {len(lumas)} pictures; {count} are needed", 2)


def _filled(rgb: U8) -> U8:
    height, width = rgb.shape[:2]
    scale = min(WIDTH_PX / width, HEIGHT_PX / height)
    small = cv2.resize(rgb, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
    down, right = HEIGHT_PX - small.shape[0], WIDTH_PX - small.shape[1]
    filled = cv2.copyMakeBorder(
        small, down // 2, down - down // 2, right // 2, right - right // 2, cv2.BORDER_REPLICATE
    )
    return np.asarray(filled, np.uint8)


def our_turn(analyzer: Analyzer, lumas: U8) -> Turn:
    """Frames as a session analyses them: from a picture to the result that is published."""
    begin_ns, turn = now_ns(), Turn([], 0)
    for seq, luma in enumerate(lumas):
        t_ns = begin_ns + seq * PERIOD_NS
        packet = FramePacket(
            session="s",
            source="demo",
            seq=seq,
            t_capture_ns=now_ns(),
            t_send_ns=now_ns(),
            width_px=WIDTH_PX,
            height_px=HEIGHT_PX,
        )
        received = Received(packet, memoryview(luma).cast("B"))
        start_ns = time.perf_counter_ns()
        results = analyzer.results(received, t_ns, None, Drops(), received_ns=now_ns())
        turn.times_ms.append((time.perf_counter_ns() - start_ns) / 1e6)
        turn = Turn(turn.times_ms, turn.found + (results[0].status == "tracked"))
    return turn


class Plain:
    """The same two networks, as somebody would run them who has only ONNX Runtime."""

    def __init__(self) -> None:
        self._detector = _Session(load_model_file("centerface").path)
        file = model_at(OURS)
        if file.manifest.crop is None or file.manifest.heads is None:
            raise WorkerError(f"{OURS} is no concept model", 2)
        self._crop, self._heads = file.manifest.crop, file.manifest.heads
        self._network = _session(file.path)
        self._names = [port.name for port in self._network.get_outputs()]

    def turn(self, lumas: U8) -> Turn:
        """Every frame from the beginning."""
        times_ms, found = [], 0
        for luma in lumas:
            start_ns = time.perf_counter_ns()
            faces = detect(self._detector, luma)
            if faces:
                affine = similarity(faces[0].points, self._crop.size_px)
                tensor = to_tensor(crop(luma, affine, self._crop.size_px)[None], self._crop)
                said = self._network.run(self._names, {"crop": tensor})
                found += len(read(dict(zip(self._names, said, strict=True)), self._heads))
            times_ms.append((time.perf_counter_ns() - start_ns) / 1e6)
        return Turn(times_ms, found)


class _Session:
    """A detector behind the interface that `detect` asks for, with ONNX Runtime's own settings."""

    def __init__(self, path: Path) -> None:
        self.manifest = load_model_file("centerface").manifest
        self.backend = "onnxruntime"
        self._session = _session(path)

    def infer(self, inputs: Mapping[str, Array]) -> Tensors:
        names = [spec.name for spec in self.manifest.outputs]
        return dict(zip(names, self._session.run(names, dict(inputs)), strict=True))

    def close(self) -> None:
        """Nothing to release."""


def _session(path: Path) -> Any:
    """With the library's own settings, but for what it logs."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class _Landmarks(msgspec.Struct):
    """What peer_mediapipe prints."""

    version: str
    times_ms: list[float]
    found: int


def mediapipe_turn(python: Path, landmarker: Path, frames: Path) -> Turn:
    """The same frames in another environment. Raises WorkerError with the last line that it printed."""
    command = [str(python), str(ROOT / "benchmarks" / "peer_mediapipe.py"), str(frames), str(landmarker)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    except OSError as error:
        raise WorkerError(f"{python} cannot be run: {error.strerror}", 2) from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it printed nothing"]
        raise WorkerError(f"MediaPipe did not run in {python}: {lines[-1]}", 2)
    said = msgspec.json.decode(done.stdout.strip().splitlines()[-1], type=_Landmarks)
    return Turn(said.times_ms, said.found)


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
    cfg = LiveConfig(
        capture=CaptureConfig(camera="demo", mic="none", pace="max"), engine=EngineConfig(model=OURS, threads=threads)
    )
    networks, plain = load_networks(cfg), Plain()
    with tempfile.TemporaryDirectory() as folder:
        stored = Path(folder) / "frames.npy"
        np.save(stored, colours)
        ways: dict[str, tuple[str, Callable[[], Turn]]] = {
            f"{OURS}, {networks.model.backend}": (
                "this project: the detector on key frames, the face followed between them",
                lambda: our_turn(Analyzer(cfg, networks), lumas),
            ),
            "plain ONNX Runtime": ("the same networks, the detector in every frame", lambda: plain.turn(lumas)),
        }
        if mediapipe is not None and landmarker is not None:
            python, task = mediapipe, landmarker
            ways["MediaPipe FaceLandmarker"] = (
                "478 landmarks, 52 blendshapes, pose; as a stream",
                lambda: mediapipe_turn(python, task, stored),
            )
        taken: dict[str, list[Turn]] = {name: [] for name in ways}
        with progress_bars() as bars:
            for _ in bars.track(range(turns), description="turns"):
                for name, (_, take) in ways.items():
                    taken[name].append(take())
    networks.close()
    peers = [peer_of(name, ways[name][0], each) for name, each in taken.items()]
    if mediapipe is None:
        peers.append(Peer("MediaPipe FaceLandmarker", "", missing="no environment with it was given (--mediapipe)"))
    _write(PeersReport(here, frames, turns, tuple(peers)), out, json)
    return 0


def _write(report: PeersReport, out: Path | None, json: Path | None) -> None:
    """To the terminal, and where it is wanted."""
    ours = report.peers[0].times_ms
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
        share = "1" if ours is None else f"{each.times_ms.p50 / ours.p50:.1f}"
        times = (number(value, 2) for value in (each.times_ms.p50, each.times_ms.p95, each.times_ms.p99, each.mean_ms))
        rows.append((each.name, *times, share, f"{each.found:.1%}"))
    columns = ("", "p50", "p95", "p99", "mean", "p50 / ours", "face found")
    tables = [Table("Milliseconds a frame", columns, tuple(rows))]
    show(Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH), notes, tables)
    if json is not None:
        write_json(json, report)
    if out is not None:
        write_json(out / "peers.json", report)
        (out / "peers.md").write_text(markdown("Peers", notes, tables), encoding="utf-8")


if __name__ == "__main__":
    leave(lambda: int(app(standalone_mode=False) or 0))
