"""What a frame allocates, stage by stage: python -m benchmarks.allocations. See docs/benchmarks/README.md."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Mapping, Set
from pathlib import Path
from statistics import median
from typing import Annotated, Final, Literal

import msgspec
import typer
from rich.console import Console

from benchmarks import machine
from benchmarks.frame_path import STAGES, WORKER, Meter, StepMeter, as_the_worker, resident_growth, stage_by_stage
from benchmarks.machine import Machine
from benchmarks.media import Clip, file_of, look_at
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
from pipeline.analyze import follows_landmarks
from pipeline.bus import WorkerError
from pipeline.config import ConfigError, load
from pipeline.networks import load as load_networks
from pipeline.preflight import check

HELP = """Counts the bytes that are new in each stage of a frame, on the frames of a clip, in one process: decoding,
luma plane, finding or following the face, cutting it out, tensor, network, readout, message.

\b
Seen are Python's objects and NumPy's arrays (tracemalloc): the most at one moment of a stage, and, in a pass of its
own, the size that no single block exceeds. Not seen is what OpenCV, ONNX Runtime, OpenVINO and FFmpeg take inside; the
growth of resident memory over the whole clip is given beside it.

\b
Examples:
  python -m benchmarks.allocations
  python -m benchmarks.allocations --out docs/benchmarks   written as allocations.json and allocations.md

\b
Exit codes: 0 measured, 2 bad arguments
"""

BLOCK_BYTES: Final = 8_000
"""The target: no single block of a frame is larger."""
BESIDE: Final = 4
"""Frames in which a session's detector may be at work: the one that asks, and until it answers (engines.ahead)."""

app = typer.Typer(add_completion=False, rich_markup_mode=None)


class NewBytes(msgspec.Struct, frozen=True):
    """Bytes of a stage: medians of the frames between key frames and of key frames, and the largest of all. block,
    block_on_key_frames: what no single block exceeded (StepMeter), in any frame between key frames and in any key
    frame. None where there was no such frame."""

    between: float | None
    on_key_frames: float | None
    largest: int | None
    block: int | None
    block_on_key_frames: int | None


class AllocationsReport(msgspec.Struct, frozen=True):
    """stages: by name, in their order; `analyze` is all from finding to readout, as the worker does it, and its key
    frames are those beside which the detector may be at work. follows: how known faces are found again. frames: those
    that count, after `warm_up` others. resident_bytes: how much the process grew over `resident_frames`."""

    machine: Machine
    model: str
    backend: str
    detector: str
    follows: Literal["landmarks", "flow"]
    source: Clip
    frames: int
    warm_up: int
    stages: dict[str, NewBytes]
    resident_frames: int
    resident_bytes: int


def new_bytes(by_frame: Mapping[int, int], block_by_frame: Mapping[int, int], keys: Set[int], warm_up: int) -> NewBytes:
    """by_frame, block_by_frame: bytes at a moment and of a block, by frame number, of which the first `warm_up` do not
    count. keys: numbers of key frames."""
    between, on_keys = _apart(by_frame, keys, warm_up)
    blocks_between, blocks_on_keys = _apart(block_by_frame, keys, warm_up)
    return NewBytes(
        median(between) if between else None,
        median(on_keys) if on_keys else None,
        max((*between, *on_keys), default=None),
        max(blocks_between, default=None),
        max(blocks_on_keys, default=None),
    )


def _apart(by_frame: Mapping[int, int], keys: Set[int], warm_up: int) -> tuple[list[int], list[int]]:
    """What counts of frames that are not among `keys`, and of those that are."""
    counted = {seq: count for seq, count in by_frame.items() if seq >= warm_up}
    between = [count for seq, count in counted.items() if seq not in keys]
    return between, [count for seq, count in counted.items() if seq in keys]


def beside(keys: Set[int]) -> Set[int]:
    """The frames in which a session's detector may be at work, where it is asked in these."""
    return {seq + later for seq in keys for later in range(BESIDE)}


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
    networks, meter, steps, keys = load_networks(cfg), Meter(), StepMeter(), set[int]()
    try:
        bars = progress_bars()
        bars.live.auto_refresh = False  # what a thread takes to draw them would be among a frame's
        with bars:
            task = bars.add_task("frames", total=4 * (warm_up + frames))
            tracemalloc.start()
            for each in (meter, steps):
                for seq, is_key in enumerate(stage_by_stage(path, cfg, networks, each, warm_up + frames)):
                    keys |= {seq} if is_key else set()
                    bars.update(task, advance=1, refresh=seq % 10 == 0)
                for seq, _ in enumerate(as_the_worker(path, cfg, networks, each, warm_up + frames)):
                    bars.update(task, advance=1, refresh=seq % 10 == 0)
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
            follows="landmarks" if follows_landmarks(cfg.face, networks.model.manifest) else "flow",
            source=source,
            frames=frames,
            warm_up=warm_up,
            stages={
                name: new_bytes(meter.bytes[name], steps.bytes[name], beside(keys) if name == WORKER else keys, warm_up)
                for name in (*STAGES, WORKER)
            },
            resident_frames=grown_frames,
            resident_bytes=grown,
        )
    finally:
        networks.close()
    _write(report, out, json)
    return 0


_KINDS: Final = ("between key frames", "on key frames")
_WHAT: Final = {
    "decode": "the next picture of the file",
    "luma": "its luma plane",
    "locate": "the faces in it, detected or followed",
    "crop": "the faces cut out",
    "tensor": "the network's input",
    "infer": "the network",
    "readout": "scores, contributions, places, and the message",
    "settle": "faces corrected by the network's landmarks",
    "encode": "the message as JSON",
    WORKER: "from the luma plane to the message, as the worker does it",
}


def notes(report: AllocationsReport) -> list[str]:
    """What must be read with the figures. How busy the machine is changes none of them."""
    source = report.source
    return [
        *machine_note(report.machine)[:1],
        f"Model {report.model} on {report.backend}, detector on {report.detector}, faces followed by {report.follows}. "
        f"Source: {source.name}, {source.width_px}x{source.height_px}; {report.frames} frames after {report.warm_up} "
        "others.",
        "New bytes: the most that a stage holds at one moment beyond what was there when it began, as tracemalloc sees "
        "it. Memory inside OpenCV, ONNX Runtime, OpenVINO and FFmpeg is not seen.",
        "Largest block: the most that one instruction of Python's bytecode adds, in any frame. A single block, however "
        "short it lives, is that large at most.",
        *_reached(report.stages),
        f"Resident memory of the process over {report.resident_frames} frames, from decoding to JSON, after "
        f"{report.warm_up} others: {report.resident_bytes / 1e3:+.0f} kB, "
        f"{report.resident_bytes / max(1, report.resident_frames):+.0f} bytes a frame.",
    ]


def _reached(stages: Mapping[str, NewBytes]) -> list[str]:
    """Whether the target is, and by which stages it is missed."""
    kinds = {
        "between key frames": {name: each.block for name, each in stages.items()},
        "on key frames": {name: each.block_on_key_frames for name, each in stages.items() if name != WORKER},
    }
    return [f"Largest block <= {BLOCK_BYTES / 1e3:.0f} kB, {kind}: {verdict(found)}." for kind, found in kinds.items()]


def verdict(blocks: Mapping[str, int | None]) -> str:
    """blocks: bytes, by stage."""
    known = {name: count for name, count in blocks.items() if count is not None}
    above = [f"{name} {_kb(count)} kB" for name, count in known.items() if count > BLOCK_BYTES]
    if not known:
        return NOT_MEASURED
    return f"no ({', '.join(above)})" if above else f"yes ({_kb(max(known.values()))} kB)"


def tables(report: AllocationsReport) -> list[Table]:
    """Every figure."""
    rows = [
        (name, _WHAT[name], *map(_kb, (each.between, each.on_key_frames, each.largest)))
        for name, each in report.stages.items()
    ]
    blocks = [(name, _kb(each.block), _kb(each.block_on_key_frames)) for name, each in report.stages.items()]
    return [
        Table("New bytes a frame, kB, medians", ("stage", "what", *_KINDS, "largest"), tuple(rows)),
        Table("Largest block, kB, at most", ("stage", *_KINDS), tuple(blocks)),
    ]


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
