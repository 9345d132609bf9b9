"""Compares the engines on this machine: python -m benchmarks.engine. See docs/benchmarks/README.md."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from benchmarks import engine_tables, machine
from benchmarks.engine_figures import (
    REFERENCE,
    TURN_RUNS,
    Candidate,
    EngineReport,
    Row,
    difference,
    engine_count,
    open_engines,
    readouts,
    row_of,
    take_turn,
    turns,
)
from benchmarks.faces import face_crops
from benchmarks.report import PLAIN_WIDTH, leave, markdown, prepare, progress_bars, show, write_json
from engines.base import Array, EngineError
from engines.preprocess import to_tensor
from engines.spec import HeadSpec, ManifestError, ModelFile, model_at
from pipeline.sources import DEMO

BATCHES, THREADS = (1, 4, 16), (1, 2)
EVERY = 20  # pictures of the demo clip between two faces

HELP = f"""Compares every backend and precision on the same real faces: time of a call, faces per second, and the
largest difference from ONNX Runtime in fp32.

\b
Faces in a call: {", ".join(map(str, BATCHES))}. Threads: {", ".join(map(str, THREADS))}. The candidates take turns of \
{TURN_RUNS} calls in an order that
changes every round, so that whatever else the machine does hits all alike.

\b
Examples:
  python -m benchmarks.engine
  python -m benchmarks.engine --model agcm-live --out docs/benchmarks   written as engine.json, engine.md, engine.png

\b
Close everything else first. Exit codes: 0 measured, 2 bad arguments
"""

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(help=HELP)
def main(
    model: Annotated[
        str, typer.Option(metavar="NAME", help="a folder under models/, or a path with a / in it")
    ] = "agcm-live",
    seconds: Annotated[
        float, typer.Option(min=0, metavar="S", help="how long the candidates take turns, all of them together")
    ] = 60.0,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="write every figure there")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="write engine.json, engine.md and engine.png there")
    ] = None,
) -> int:
    here = machine.look()
    file = model_at(model)
    heads, crop = file.manifest.heads, file.manifest.crop
    if heads is None or crop is None:
        raise ManifestError(f"model {model!r} is no concept model: its manifest has no heads or no crop")
    prepare(out, json)
    if here.busy:
        print(f"warning: {here.busy}", file=sys.stderr)
    faces = to_tensor(face_crops(DEMO, max(BATCHES), crop.size_px, EVERY), crop)
    with progress_bars() as bars:
        rows = measure(file, heads, faces, seconds, bars)
    report = EngineReport(
        here, file.manifest.identity, len(faces), seconds, rows, engine_tables.gpu_missing(here, rows)
    )
    _write(report, out, json)
    return 0


def measure(file: ModelFile, heads: HeadSpec, faces: Array, seconds: float, bars: Progress) -> tuple[Row, ...]:
    """The rows of the report, in the order of the backends. Raises EngineError if one fails while it runs."""
    with ExitStack() as stack:
        candidates, missing = [], []
        opened = open_engines(file, THREADS, faces[:1])
        for row, engine in bars.track(opened, total=engine_count(THREADS), description="1 load"):
            if engine is None:
                missing += [Row(row.backend, row.precision, row.threads, n, missing=row.missing) for n in BATCHES]
                continue
            stack.callback(engine.close)
            candidates += [Candidate(engine, row.backend, row.precision, row.threads, n) for n in BATCHES]
        said = [readouts(each.engine, faces, each.batch, heads) for each in candidates]
        names = [(each.backend, each.precision) for each in candidates]
        if REFERENCE not in names:
            raise EngineError(f"nothing to compare with: {missing[0].missing}")
        reference = said[names.index(REFERENCE)]
        _take_turns(candidates, faces, seconds, bars)
        return (
            *(row_of(each, difference(saying, reference)) for each, saying in zip(candidates, said, strict=True)),
            *missing,
        )


def _take_turns(candidates: Sequence[Candidate], faces: Array, seconds: float, bars: Progress) -> None:
    """Whole rounds until the time is over, one at least."""
    task = bars.add_task("2 measure, s", total=round(seconds))
    begin_s = time.monotonic()

    def go_on() -> bool:
        passed_s = time.monotonic() - begin_s
        bars.update(task, completed=min(round(passed_s), round(seconds)))
        return not candidates[0].times_ms or passed_s < seconds

    for index in turns(len(candidates), go_on):
        take_turn(candidates[index], faces)


def _write(report: EngineReport, out: Path | None, json: Path | None) -> None:
    """To the terminal, and where it is wanted."""
    notes, tables = engine_tables.notes(report), engine_tables.tables(report)
    show(Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH), notes, tables)
    if json is not None:
        write_json(json, report)
    if out is not None:
        from benchmarks import plots  # takes a second to load, and only this needs it

        write_json(out / "engine.json", report)
        page = markdown("Engines", [*notes, "![Time of a call over the number of faces in it](engine.png)"], tables)
        (out / "engine.md").write_text(page, encoding="utf-8")
        plots.engine(out / "engine.png", f"{report.model}, {report.machine.cpu}", engine_tables.medians_ms(report))
        print(f"written: engine.json, engine.md, engine.png in {out}", file=sys.stderr)


if __name__ == "__main__":
    leave(lambda: int(app(standalone_mode=False) or 0))
