"""What every further face in a frame costs: python -m benchmarks.faces_cost. See docs/benchmarks/README.md."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console

from benchmarks import machine
from benchmarks.crowd import MOST, STEPS, Row, crowd_of, tiles_of
from benchmarks.engine_figures import turns
from benchmarks.machine import Machine
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
from pipeline.config import load
from pipeline.networks import load as load_networks
from pipeline.sources import DEMO

TURN_FRAMES: Final = 30

HELP = f"""Times the analysis of a frame with 1 to {MOST} faces: finding or following them, cutting them out, the
network, and the results. The face of the demo clip is in the picture as often, side by side; the picture has one size
for all.

\b
Counts take turns of {TURN_FRAMES} frames, in an order that changes every round.

\b
Examples:
  python -m benchmarks.faces_cost
  python -m benchmarks.faces_cost --out docs/benchmarks   written as faces_cost.json and faces_cost.md

\b
Close everything else first. Exit codes: 0 measured, 2 bad arguments
"""

app = typer.Typer(add_completion=False, rich_markup_mode=None)


class FacesReport(msgspec.Struct, frozen=True):
    """extra_face_ms: by how much a frame of MOST faces takes longer than one of 1, for each face more; medians."""

    machine: Machine
    model: str
    backend: str
    detector: str
    width_px: int
    height_px: int
    rounds: int
    rows: tuple[Row, ...]
    extra_face_ms: float


@app.command(help=HELP)
def main(
    model: Annotated[str, typer.Option(metavar="NAME", help="as for run_live.py")] = "agcm-live",
    engine: Annotated[str, typer.Option(metavar="NAME", help="as for run_live.py")] = "auto",
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="as for run_live.py; may be repeated")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="turns of every number of faces")] = 20,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="write every figure there")] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="write faces_cost.json and .md there")] = None,
) -> int:
    names = {"engine.model": model, "engine.backend": engine, "capture.camera": "demo", "capture.mic": "none"}
    cfg = load(None, [f"face.max_faces={MOST}", *(set_ or ()), *(f"{key}={value}" for key, value in names.items())])
    prepare(out, json)
    here, tiles = machine.look(), tiles_of(DEMO, TURN_FRAMES)
    networks = load_networks(cfg)
    if here.busy:
        print(f"warning: {here.busy}", file=sys.stderr)
    try:
        crowds = [crowd_of(faces, cfg, networks) for faces in range(1, MOST + 1)]
        left = iter(range(rounds))
        with progress_bars() as bars:
            order = turns(MOST, lambda: next(left, None) is not None)
            for index in bars.track(order, total=MOST * rounds, description="turns"):
                crowds[index].turn(tiles)
    finally:
        networks.close()
    rows = tuple(crowd.row() for crowd in crowds)
    report = FacesReport(
        machine=here,
        model=networks.model.manifest.identity,
        backend=networks.model.backend,
        detector=networks.detector.backend,
        width_px=MOST * tiles[0].shape[1],
        height_px=tiles[0].shape[0],
        rounds=rounds,
        rows=rows,
        extra_face_ms=(rows[-1].frame_ms.p50 - rows[0].frame_ms.p50) / (MOST - 1),
    )
    _write(report, out, json)
    return 0


def notes(report: FacesReport) -> list[str]:
    """What must be read with the figures."""
    return [
        *machine_note(report.machine),
        f"Model {report.model} on {report.backend}, detector on {report.detector}. Copies of the demo clip's face in a "
        f"picture of {report.width_px}x{report.height_px}; {report.rounds} turns of {TURN_FRAMES} frames for every "
        "number of faces, of which the last two thirds count.",
        f"An extra face: {report.extra_face_ms:.2f} ms of a frame, in the median.",
    ]


def tables(report: FacesReport) -> list[Table]:
    """Every figure."""
    columns = ("faces", "all tracked", "calls of the network", "p50", "p95", "p99", *STEPS)
    rows = [
        (
            str(row.faces),
            f"{row.tracked:.1%}",
            number(row.calls, 2),
            *(number(each, 2) for each in (row.frame_ms.p50, row.frame_ms.p95, row.frame_ms.p99)),
            *(number(each, 2) for each in row.stages_ms.values()),
        )
        for row in report.rows
    ]
    return [Table("Milliseconds of a frame; stages are medians", columns, tuple(rows))]


def _write(report: FacesReport, out: Path | None, json: Path | None) -> None:
    """To the terminal, and where it is wanted."""
    show(Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH), notes(report), tables(report))
    if json is not None:
        write_json(json, report)
    if out is not None:
        write_json(out / "faces_cost.json", report)
        (out / "faces_cost.md").write_text(
            markdown("Faces in a frame", notes(report), tables(report)), encoding="utf-8"
        )


if __name__ == "__main__":
    leave(lambda: int(app(standalone_mode=False) or 0))
