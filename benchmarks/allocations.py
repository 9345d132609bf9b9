"""What a frame allocates, stage by stage: python -m benchmarks.allocations. See docs/benchmarks/README.md."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console

from benchmarks import machine
from benchmarks.frame_path import STAGES, WORKER, Meter, as_the_worker, resident_growth, stage_by_stage
from benchmarks.machine import Machine
from benchmarks.media import Clip, file_of, look_at
from benchmarks.report import (
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
from pipeline.bus import WorkerError
from pipeline.config import ConfigError, load
from pipeline.networks import load as load_networks
from pipeline.preflight import check

HELP = """Counts the bytes that are new in each stage of a frame, on the frames of a clip, in one process: decoding,
luma plane, finding or following the face, cutting it out, tensor, network, readout, message.

\b
Seen are Python's objects and NumPy's arrays (tracemalloc), the most at one moment of a stage. Not seen is what OpenCV,
ONNX Runtime, OpenVINO and FFmpeg take inside; the growth of resident memory over the whole clip is given beside it.

\b
Examples:
  python -m benchmarks.allocations
  python -m benchmarks.allocations --out docs/benchmarks   written as allocations.json and allocations.md

\b
Exit codes: 0 measured, 2 bad arguments
"""

app = typer.Typer(add_completion=False, rich_markup_mode=None)


class NewBytes(msgspec.Struct, frozen=True):
    """Bytes of a stage: medians of the frames between key frames and of key frames, and the largest of all. None where
    there was no such frame."""

    between: float | None
    on_key_frames: float | None
    largest: int | None


class AllocationsReport(msgspec.Struct, frozen=True):
    """stages: by name, in their order; `analyze` is all from finding to readout, as the worker does it. frames: those
    that count, after `warm_up` others. resident_bytes: how much the process grew over `resident_frames`."""

    machine: Machine
    model: str
    backend: str
    detector: str
    source: Clip
    frames: int
    warm_up: int
    stages: dict[str, NewBytes]
    resident_frames: int
    resident_bytes: int


def new_bytes(by_frame: Mapping[int, int], keys: set[int], warm_up: int) -> NewBytes:
    """by_frame: bytes by frame number, of which the first `warm_up` do not count. keys: numbers of key frames."""
    counted = {seq: count for seq, count in by_frame.items() if seq >= warm_up}
    between = [count for seq, count in counted.items() if seq not in keys]
    on_keys = [count for seq, count in counted.items() if seq in keys]
    return NewBytes(
        median(between) if between else None,
        median(on_keys) if on_keys else None,
        max(counted.values(), default=None),
    )


@app.command(help=HELP)
def main(
    camera: Annotated[str, typer.Option(metavar="FILE", help="a media file, or demo")] = "demo",
    model: Annotated[str, typer.Option(metavar="NAME", help="as for run_live.py")] = "agcm-live",
    engine: Annotated[str, typer.Option(metavar="NAME", help="as for run_live.py")] = "auto",
    frames: Annotated[int, typer.Option(min=30, help="that count")] = 300,
    warm_up: Annotated[int, typer.Option(min=0, help="frames before them")] = 60,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="write every figure there")] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="write allocations.json and .md there")] = None,
) -> int:
    names = {"capture.camera": camera, "capture.mic": "none", "engine.model": model, "engine.backend": engine}
    cfg = load(None, [f"{key}={value}" for key, value in names.items()])
    check(cfg)
    path = file_of(camera)
    if path is None:
        raise ConfigError(f"camera {camera!r} is no media file; its frames are taken one by one")
    prepare(out, json)
    here, source = machine.look(), look_at(camera)
    networks, meter, keys = load_networks(cfg), Meter(), set[int]()
    try:
        with progress_bars() as bars:
            task = bars.add_task("frames", total=2 * (warm_up + frames))
            tracemalloc.start()
            for seq, is_key in enumerate(stage_by_stage(path, cfg, networks, meter, warm_up + frames)):
                keys |= {seq} if is_key else set()
                bars.advance(task)
            for _ in as_the_worker(path, cfg, networks, meter, warm_up + frames):
                bars.advance(task)
            tracemalloc.stop()
        counted = len(meter.bytes["locate"]) - warm_up
        if counted < frames:
            raise WorkerError(f"{path.name} has {max(0, counted)} pictures after {warm_up}; {frames} are needed", 2)
        grown_frames, grown = resident_growth(path, cfg, networks, warm_up)
        report = AllocationsReport(
            machine=here,
            model=networks.model.manifest.identity,
            backend=networks.model.backend,
            detector=networks.detector.backend,
            source=source,
            frames=frames,
            warm_up=warm_up,
            stages={name: new_bytes(meter.bytes[name], keys, warm_up) for name in (*STAGES, WORKER)},
            resident_frames=grown_frames,
            resident_bytes=grown,
        )
    finally:
        networks.close()
    _write(report, out, json)
    return 0


_WHAT: Final = {
    "decode": "the next picture of the file",
    "luma": "its luma plane",
    "locate": "the faces in it, detected or followed",
    "crop": "the faces cut out",
    "tensor": "the network's input",
    "infer": "the network",
    "readout": "scores, contributions, places, and the message",
    "encode": "the message as JSON",
    WORKER: "from the luma plane to the message, as the worker does it",
}


def notes(report: AllocationsReport) -> list[str]:
    """What must be read with the figures. How busy the machine is changes none of them."""
    source = report.source
    return [
        *machine_note(report.machine)[:1],
        f"Model {report.model} on {report.backend}, detector on {report.detector}. Source: {source.name}, "
        f"{source.width_px}x{source.height_px}; {report.frames} frames after {report.warm_up} others.",
        "New bytes: the most that a stage holds at one moment beyond what was there when it began, as tracemalloc sees "
        "it. Memory inside OpenCV, ONNX Runtime, OpenVINO and FFmpeg is not seen.",
        f"Resident memory of the process over {report.resident_frames} frames, from decoding to JSON, after "
        f"{report.warm_up} others: {report.resident_bytes / 1e3:+.0f} kB, "
        f"{report.resident_bytes / max(1, report.resident_frames):+.0f} bytes a frame.",
    ]


def tables(report: AllocationsReport) -> list[Table]:
    """Every figure."""
    rows = [
        (name, _WHAT[name], *(_kb(value) for value in (each.between, each.on_key_frames, each.largest)))
        for name, each in report.stages.items()
    ]
    columns = ("stage", "what", "between key frames", "on key frames", "largest")
    return [Table("New bytes a frame, kB, medians", columns, tuple(rows))]


def _kb(value: float | None) -> str:
    return number(None if value is None else value / 1e3)


def _write(report: AllocationsReport, out: Path | None, json: Path | None) -> None:
    """To the terminal, and where it is wanted."""
    show(Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH), notes(report), tables(report))
    if json is not None:
        write_json(json, report)
    if out is not None:
        write_json(out / "allocations.json", report)
        (out / "allocations.md").write_text(markdown("Allocations", notes(report), tables(report)), encoding="utf-8")


if __name__ == "__main__":
    leave(lambda: int(app(standalone_mode=False) or 0))
