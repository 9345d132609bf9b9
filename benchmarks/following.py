"""Two ways to follow a face, on the same frames with the same network: python -m benchmarks.following."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns
from typing import Annotated, Final

import msgspec
import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console

from benchmarks import machine
from benchmarks.figures import Quantiles, quantiles
from benchmarks.machine import Machine
from benchmarks.peer_ways import U8, frames_of
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
from engines.backend_onnxruntime import OnnxRuntimeEngine
from engines.base import Engine, EngineError
from engines.concept import read
from engines.face import FaceFinder
from engines.follow import ByFlow, ByLandmarks, Follower
from engines.preprocess import TEMPLATE, CropBatch, Points
from engines.spec import CropSpec, HeadSpec, load_model_file, model_at
from engines.track import eye_distance
from pipeline.sources import DEMO

_PERIOD_NS: Final = 33_333_333
_EYES: Final = float(TEMPLATE[1, 0] - TEMPLATE[0, 0])

HELP = """Follows the largest face of a clip by optical flow and by the network's own landmarks, and gives, between key
frames: the time that finding it takes, and how far its crop and its activations are apart.

\b
Examples:
  python -m benchmarks.following
  python -m benchmarks.following --clip talk.mp4 --frames 600 --out docs/benchmarks   written as following.json and .md

\b
Close everything else first. Exit codes: 0 measured, 2 bad arguments
"""

app = typer.Typer(add_completion=False, rich_markup_mode=None)


class Way(msgspec.Struct, frozen=True):
    """times_ms: of locating the face and settling where it is, between key frames. followed: share of the frames in
    which it was tracked. change: mean difference of an activation from one frame to the next."""

    name: str
    times_ms: Quantiles | None
    followed: float
    key_frames: int
    change: float


class FollowingReport(msgspec.Struct, frozen=True):
    """apart: of the crop's places in the two ways, in shares of its side; activation: of activations, mean and p95."""

    machine: Machine
    model: str
    clip: str
    frames: int
    ways: tuple[Way, ...]
    apart: float
    apart_p95: float
    activation: float
    activation_p95: float


@dataclass(frozen=True, slots=True)
class Trail:
    """points [N, 5, 2] and activations [N, K] of every frame, NaN where nobody was tracked; key [N]; times_ms [N]."""

    points: npt.NDArray[np.float64]
    activations: npt.NDArray[np.float64]
    key: npt.NDArray[np.bool_]
    times_ms: npt.NDArray[np.float64]


def trail_of(
    lumas: U8, detector: Engine, follower: Follower, network: Engine, crop: CropSpec, heads: HeadSpec
) -> Trail:
    """One pass over the frames, as the analysis makes it. Raises EngineError."""
    finder = FaceFinder(detector, follower=follower)
    batch, shares = CropBatch(crop, 1), np.float32(1 / crop.size_px)
    points = np.full((len(lumas), *TEMPLATE.shape), np.nan)
    activations = np.full((len(lumas), len(heads.mean)), np.nan)
    key, times_ms = np.zeros(len(lumas), bool), np.zeros(len(lumas))
    for i, luma in enumerate(lumas):
        start_ns = perf_counter_ns()
        found = finder.locate(luma, i * _PERIOD_NS)
        took_ns, key[i] = perf_counter_ns() - start_ns, found.detected
        face = next((each for each in found.faces if each.status == "tracked"), None)
        if face is not None:
            (affine,) = batch.cut(luma, [face.points])
            (said,) = read(network.infer({"crop": batch.tensor(1)}), heads)
            points[i], activations[i] = face.points, said.activation
            if said.landmarks is not None:
                start_ns = perf_counter_ns()
                finder.settle(luma, {face.id: (affine * shares, said.landmarks.astype(np.float32))})
                took_ns += perf_counter_ns() - start_ns
        times_ms[i] = took_ns / 1e6
    return Trail(points, activations, key, times_ms)


def apart(one: Trail, other: Trail) -> npt.NDArray[np.float64]:
    """How far the five points are apart in each frame in which both have them [n], in shares of the crop's side."""
    both = ~np.isnan(one.points[:, 0, 0]) & ~np.isnan(other.points[:, 0, 0])
    sides = np.array([eye_distance(_points(each)) / _EYES for each in one.points[both]])
    off = np.linalg.norm(one.points[both] - other.points[both], axis=2).mean(axis=1)
    return np.asarray(off / sides, np.float64)


def _points(each: npt.NDArray[np.float64]) -> Points:
    return each.astype(np.float32)


def way_of(name: str, trail: Trail) -> Way:
    """The figures of one way."""
    seen = ~np.isnan(trail.activations[:, 0])
    between = trail.times_ms[~trail.key]
    change = float(np.nanmean(np.abs(np.diff(trail.activations, axis=0)))) if seen.sum() > 1 else float("nan")
    return Way(name, quantiles(between.tolist()), float(seen.mean()), int(trail.key.sum()), change)


@app.command(help=HELP)
def main(
    model: Annotated[str, typer.Option(metavar="NAME", help="a model that has landmarks")] = "agcm-live",
    clip: Annotated[Path, typer.Option(metavar="FILE", help="a video with a face")] = DEMO,
    frames: Annotated[int, typer.Option(min=30, help="of the clip, from its beginning")] = 300,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="write every figure there")] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="write following.json and .md there")] = None,
) -> int:
    here, file = machine.look(), model_at(model)
    prepare(out, json)
    crop, heads = file.manifest.crop, file.manifest.heads
    if crop is None or heads is None or all(spec.name != "landmarks" for spec in file.manifest.outputs):
        raise EngineError(f"{model} does not say where the face lies in its crop; agcm-live and agcm-lite do")
    lumas, _ = frames_of(clip, frames)
    detector, network = OnnxRuntimeEngine(load_model_file("centerface")), OnnxRuntimeEngine(file)
    followers: dict[str, Follower] = {"optical flow": ByFlow(), "landmarks": ByLandmarks()}
    trails: dict[str, Trail] = {}
    with progress_bars() as bars:
        for name, follower in bars.track(followers.items(), total=len(followers), description="follow"):
            trails[name] = trail_of(lumas, detector, follower, network, crop, heads)
    flow, own = trails.values()
    off, differ = apart(flow, own), np.abs(flow.activations - own.activations)
    report = FollowingReport(
        here, file.manifest.identity, clip.name, frames, tuple(way_of(*each) for each in trails.items()),
        float(off.mean()), float(np.quantile(off, 0.95)), float(np.nanmean(differ)),
        float(np.nanquantile(differ, 0.95)),
    )  # fmt: skip
    _write(report, out, json)
    return 0


def _write(report: FollowingReport, out: Path | None, json: Path | None) -> None:
    """To the terminal, and where it is wanted."""
    notes = [
        *machine_note(report.machine),
        f"{report.model} on {report.frames} frames of {report.clip}. Crops are {report.apart:.2%} of their side apart "
        f"(p95 {report.apart_p95:.2%}), activations {report.activation:.3f} (p95 {report.activation_p95:.3f}).",
    ]
    rows = tuple(
        (
            way.name, *(number(None if way.times_ms is None else value, 2) for value in (
                (way.times_ms.p50, way.times_ms.p95) if way.times_ms else (None, None))),
            f"{way.followed:.1%}", str(way.key_frames), f"{way.change:.4f}",
        )
        for way in report.ways
    )  # fmt: skip
    columns = ("", "p50, ms", "p95, ms", "face followed", "key frames", "change of an activation from frame to frame")
    tables = [Table("Following, between key frames", columns, rows)]
    show(Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH), notes, tables)
    if json is not None:
        write_json(json, report)
    if out is not None:
        write_json(out / "following.json", report)
        (out / "following.md").write_text(markdown("Following", notes, tables), encoding="utf-8")


if __name__ == "__main__":
    leave(lambda: int(app(standalone_mode=False) or 0))
