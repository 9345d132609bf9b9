"""Compares the engines on this machine: python -m benchmarks.engine. See docs/benchmarks/README.md."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import typer
from rich.console import Console
from rich.progress import Progress

from benchmarks import engine_tables, machine
from benchmarks.engine_figures import (
    BATCHES,
    TURN_RUNS,
    Candidate,
    EngineReport,
    Row,
    best_on_gpu,
    difference,
    engine_count,
    open_engines,
    open_reference,
    readouts,
    repeated,
    row_of,
    take_turn,
    turns,
)
from benchmarks.engine_memory import Memory, memory_of
from benchmarks.faces import face_crops
from benchmarks.report import PLAIN_WIDTH, leave, markdown, prepare, progress_bars, show, write_json
from benchmarks.roofline import ITEM_BYTES, Reached, ceilings_of, reached
from engines.backends import BACKENDS
from engines.base import Array, Device, EngineError
from engines.concept import ConceptReadout
from engines.preprocess import to_tensor
from engines.spec import HeadSpec, ManifestError, ModelFile, model_at
from pipeline.sources import DEMO

THREADS = (1, 2)
FACES, EVERY = 16, 20  # pictures of the demo clip between two faces

HELP = f"""Compares every backend and precision on the same real faces: time of a call, faces per second, memory, and
the largest difference from torch in fp32 on the CPU, or from ONNX Runtime where torch is not installed.

\b
Faces in a call: {", ".join(map(str, BATCHES["cpu"]))}, and on a GPU also \
{", ".join(str(batch) for batch in BATCHES["gpu"] if batch not in BATCHES["cpu"])}. Threads of a CPU: \
{", ".join(map(str, THREADS))}.
The candidates take turns of {TURN_RUNS} calls in an order that changes every round, so that whatever else the machine
does hits all alike. Memory is that of a process for each engine. On a GPU the report says how near each engine comes to
what the GPU can do.

\b
Examples:
  python -m benchmarks.engine
  python -m benchmarks.engine --model agcm-live --out docs/benchmarks   written as engine.json, engine.md, engine.png
  python -m benchmarks.engine --device gpu --seconds 30

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
    ] = 120.0,
    device: Annotated[
        Literal["cpu", "gpu", "all"], typer.Option(help="engines that run there alone; all: wherever they run")
    ] = "all",
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
    faces = to_tensor(face_crops(DEMO, FACES, crop.size_px, EVERY), crop)
    reference_name, reference = _reference(file, heads, faces)
    with progress_bars() as bars:
        rows = measure(file, heads, faces, reference, seconds, bars, device)
    gpu = engine_tables.gpu_missing(here, rows)
    near, because = _roofline(file, faces[:1], rows)
    report = EngineReport(
        here, file.manifest.identity, len(faces), reference_name, seconds, rows, gpu, near, gpu or because
    )
    _write(report, out, json)
    return 0


def _reference(file: ModelFile, heads: HeadSpec, faces: Array) -> tuple[str, list[ConceptReadout]]:
    """The name of the engine that all are compared with, and what it says, one face a call."""
    engine = open_reference(file, faces[:1])
    try:
        return engine.backend, readouts(engine, faces, 1, heads)
    finally:
        engine.close()


def measure(
    file: ModelFile, heads: HeadSpec, faces: Array, reference: list[ConceptReadout], seconds: float, bars: Progress,
    device: Device | Literal["all"] = "all",
) -> tuple[Row, ...]:  # fmt: skip
    """The rows of the report, in the order of the backends; engines of another device than asked for have none. What
    cannot run, or refuses a number of faces, is in a row that says why. Raises EngineError if one fails while it is
    timed, or if none can be."""
    with ExitStack() as stack:
        ready, missing = [], []
        opened = open_engines(file, THREADS, faces[:1])
        for row, engine in bars.track(opened, total=engine_count(THREADS), description="1 load, compare"):
            if engine is None:
                if device in ("all", "gpu" if BACKENDS[row.backend].driver else "cpu"):
                    missing += [msgspec.structs.replace(row, batch=batch) for batch in BATCHES["cpu"]]
                continue
            stack.callback(engine.close)
            if device not in ("all", engine.device):
                continue
            for batch in BATCHES[engine.device]:
                candidate = Candidate(engine, row.backend, row.precision, row.threads, batch)
                try:
                    ready.append((candidate, difference(readouts(engine, faces, batch, heads), reference)))
                except EngineError as error:
                    missing.append(msgspec.structs.replace(row, batch=batch, missing=str(error)))
        candidates = [candidate for candidate, _ in ready]
        if not candidates:
            raise EngineError(
                f"nothing to compare: {missing[0].missing if missing else f'no engine runs on the {device}'}"
            )
        most = repeated(faces, max(candidate.batch for candidate in candidates))
        memory = _memory(file, candidates, most, bars)
        _take_turns(candidates, most, seconds, bars)
        rows = [row_of(each, away, memory.get((*_key(each), each.batch))) for each, away in ready]
        return (*rows, *missing)


def _key(candidate: Candidate) -> tuple[str, str, int]:
    """Names its engine."""
    return candidate.backend, candidate.precision, candidate.threads


def _memory(
    file: ModelFile, candidates: Sequence[Candidate], faces: Array, bars: Progress
) -> dict[tuple[str, str, int, int], Memory]:
    """By backend, precision, threads and number of faces in a call."""
    found: dict[tuple[str, str, int, int], Memory] = {}
    for engine in bars.track(list(dict.fromkeys(map(_key, candidates))), description="2 memory"):
        batches = [each.batch for each in candidates if _key(each) == engine]
        backend, precision, threads = engine
        grown = memory_of(backend, file, precision, threads, faces[: max(batches)], batches)
        found |= {(*engine, batch): each for batch, each in grown.items()}
    return found


def _take_turns(candidates: Sequence[Candidate], faces: Array, seconds: float, bars: Progress) -> None:
    """Whole rounds until the time is over, one at least."""
    task = bars.add_task("3 measure, s", total=round(seconds))
    begin_s = time.monotonic()

    def go_on() -> bool:
        passed_s = time.monotonic() - begin_s
        bars.update(task, completed=min(round(passed_s), round(seconds)))
        return not candidates[0].times_ms or passed_s < seconds

    for index in turns(len(candidates), go_on):
        take_turn(candidates[index], faces)


def _roofline(file: ModelFile, face: Array, rows: Sequence[Row]) -> tuple[tuple[Reached, ...], str]:
    """How near the engines on a GPU come to what it can do; or why nobody knows."""
    best = [row for row in best_on_gpu(rows) if row.precision in ITEM_BYTES]
    if not best:
        return (), f"no engine ran on a GPU in {' or '.join(ITEM_BYTES)}"
    from benchmarks.onnx_work import work_of  # for a GPU alone

    work = work_of(file.path, {"crop": face.shape})
    try:
        ceilings = {precision: ceilings_of(precision) for precision in dict.fromkeys(row.precision for row in best)}
    except (ImportError, RuntimeError) as error:
        return (), f"torch cannot measure what the GPU can do: {str(error).splitlines()[0]}"
    return tuple(
        reached(row.engine, row.precision, row.batch, row.call_ms.p50, work, ceilings[row.precision])
        for row in best
        if row.call_ms is not None
    ), ""


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
