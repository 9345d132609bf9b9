"""Pictures of one face or several, and how long the analysis takes for them; compared by benchmarks.faces_cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Final

import msgspec
import numpy as np

from benchmarks.figures import Quantiles, quantiles
from benchmarks.frame_path import lumas
from engines.base import Array, Device, Engine, Tensors
from engines.preprocess import Luma
from engines.spec import Manifest
from pipeline.analyze import Analyzer
from pipeline.bus import Received, WorkerError
from pipeline.clock import now_ns
from pipeline.config import LiveConfig
from pipeline.messages import Drops, FramePacket
from pipeline.networks import Networks

MOST: Final = 4
STEPS: Final = ("detect", "align", "infer", "readout")
_TILE_PX: Final = 320  # width of a copy of the face, which is in the middle of the demo clip
_GREY: Final = 128
_PERIOD_NS: Final = 33_333_333


class Row(msgspec.Struct, frozen=True):
    """Frames with so many faces. tracked: share of them in which all were. calls: of the network, a frame. frame_ms:
    all of it; stages_ms: medians."""

    faces: int
    frames: int
    tracked: float
    calls: float
    frame_ms: Quantiles
    stages_ms: dict[str, float]


@dataclass(slots=True)
class Counting:
    """An engine, and how often it was called."""

    engine: Engine
    calls: int = 0

    @property
    def manifest(self) -> Manifest:
        return self.engine.manifest

    @property
    def backend(self) -> str:
        return self.engine.backend

    @property
    def device(self) -> Device:
        return self.engine.device

    def infer(self, inputs: Mapping[str, Array]) -> Tensors:
        self.calls += 1
        return self.engine.infer(inputs)

    def close(self) -> None:
        self.engine.close()


@dataclass(slots=True)
class Crowd:
    """So many faces, followed from turn to turn. times_ms: of every frame that counts, and by stage."""

    faces: int
    analyzer: Analyzer
    network: Counting
    frames: int = 0
    calls: int = 0
    tracked: int = 0
    times_ms: list[float] = field(default_factory=list)
    stages_ms: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in STEPS})

    def turn(self, tiles: Sequence[Luma]) -> None:
        """The frames of a turn; the first third is not counted: another crowd had the caches, and a face that moved
        meanwhile is found anew."""
        for place, tile in enumerate(tiles):
            luma = side_by_side(tile, self.faces)
            packet = _packet(self.frames, luma)
            calls, t_ns = self.network.calls, self.frames * _PERIOD_NS
            received_ns = now_ns()
            results = self.analyzer.results(Received(packet, luma.data.cast("B")), t_ns, None, Drops(), received_ns)
            self.frames += 1
            if place < len(tiles) // 3:
                continue
            self.calls += self.network.calls - calls
            self.tracked += sum(each.status == "tracked" for each in results) == self.faces
            steps = {name: getattr(results[0].stages_ms, name) for name in STEPS}
            self.times_ms.append(sum(steps.values()))
            for name, took_ms in steps.items():
                self.stages_ms[name].append(took_ms)

    def row(self) -> Row:
        """Raises WorkerError if nothing was counted."""
        spread, count = quantiles(self.times_ms), len(self.times_ms)
        if spread is None:
            raise WorkerError("no frame was counted", 1)
        stages_ms = {name: median(took_ms) for name, took_ms in self.stages_ms.items()}
        return Row(self.faces, count, self.tracked / count, self.calls / count, spread, stages_ms)


def side_by_side(tile: Luma, faces: int) -> Luma:
    """A picture [H, MOST * W] with a tile [H, W] as often, and grey beside them."""
    height, width = tile.shape
    luma = np.full((height, MOST * width), _GREY, np.uint8)
    luma[:, : faces * width] = np.tile(tile, faces)
    return luma


def tiles_of(path: Path, count: int) -> list[Luma]:
    """The middle of the first pictures of a clip, [H, _TILE_PX] each. Raises WorkerError if it has fewer."""
    found: list[Luma] = []
    for _, luma in lumas(path):
        left = (luma.shape[1] - _TILE_PX) // 2
        found.append(luma[:, left : left + _TILE_PX].copy())
        if len(found) == count:
            return found
    raise WorkerError(f"{path.name} has {len(found)} pictures; {count} are needed", 2)


def crowd_of(faces: int, cfg: LiveConfig, networks: Networks) -> Crowd:
    """Faces of a stream of their own, on networks that all crowds share."""
    network = Counting(networks.model)
    return Crowd(faces, Analyzer(cfg, replace(networks, model=network)), network)


def _packet(seq: int, luma: Luma) -> FramePacket:
    t_ns = now_ns()
    return FramePacket(
        session="s", source="demo", seq=seq, t_capture_ns=t_ns, t_send_ns=t_ns,
        width_px=luma.shape[1], height_px=luma.shape[0],
    )  # fmt: skip
