"""What `benchmarks.engine` prints."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.engine_figures import EngineReport, Row
from benchmarks.machine import Machine
from benchmarks.report import NOT_MEASURED, Table, machine_note, number

GPU_BACKENDS = ("tensorrt",)


def gpu_missing(machine: Machine, rows: Sequence[Row]) -> str:
    """Why there is no figure for a GPU, "" if there is one."""
    if any(row.backend in GPU_BACKENDS and row.call_ms is not None for row in rows):
        return ""
    if machine.gpu is None:
        return "this machine has no NVIDIA GPU"
    return f"no engine of this version ran on the {machine.gpu}"


def notes(report: EngineReport) -> list[str]:
    """What must be read with the figures."""
    lines = [
        *machine_note(report.machine),
        f"Model {report.model} on {report.faces} real crops of the demo clip. Differences are the largest over all of "
        "them, from onnxruntime in fp32; those of score and contribution are in units of the score.",
    ]
    lines += [f"GPU: {NOT_MEASURED}, {report.gpu}."] if report.gpu else []
    missing = dict.fromkeys(f"{row.engine}: {NOT_MEASURED}, {row.missing}." for row in _shown(report) if row.missing)
    return [*lines, *missing]


def tables(report: EngineReport) -> list[Table]:
    """Medians side by side, then every figure."""
    return [_side_by_side(report), _all(report)]


def medians_ms(report: EngineReport) -> dict[str, dict[int, float]]:
    """By engine and threads, then by the number of faces in a call."""
    found: dict[str, dict[int, float]] = {}
    for row in report.rows:
        if row.call_ms is not None:
            found.setdefault(f"{row.engine}, {_count(row.threads, 'thread')}", {})[row.batch] = row.call_ms.p50
    return found


def _shown(report: EngineReport) -> list[Row]:
    """What has a line of its own: where no GPU was measured, one column says so for all that need one."""
    return [row for row in report.rows if not (report.gpu and row.backend in GPU_BACKENDS)]


def _count(number_of: int, what: str) -> str:
    return f"{number_of} {what}{'' if number_of == 1 else 's'}"


def _side_by_side(report: EngineReport) -> Table:
    engines = tuple(dict.fromkeys(row.engine for row in _shown(report)))
    places = sorted({(row.batch, row.threads) for row in _shown(report)})
    found = {(row.batch, row.threads, row.engine): row.call_ms for row in report.rows}
    rows = []
    for batch, threads in places:
        spreads = [found.get((batch, threads, engine)) for engine in engines]
        cells = [number(spread.p50 if spread else None, 2) for spread in spreads]
        rows.append(
            (f"{_count(batch, 'face')}, {_count(threads, 'thread')}", *cells, *((NOT_MEASURED,) if report.gpu else ()))
        )
    columns = ("call", *engines, *(("GPU",) if report.gpu else ()))
    return Table("Median time of a call, ms", columns, tuple(rows))


def _all(report: EngineReport) -> Table:
    columns = (
        "engine",
        "threads",
        "faces",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "faces/s",
        "activation",
        "score",
        "contribution",
    )
    return Table("Every figure; the last three are differences from fp32", columns, tuple(map(_row, _shown(report))))


def _row(row: Row) -> tuple[str, ...]:
    name = (row.engine, str(row.threads), str(row.batch))
    if row.call_ms is None or row.difference is None:
        return (*name, *(NOT_MEASURED for _ in range(7)))
    call, away = row.call_ms, row.difference
    times = (number(each, 2) for each in (call.p50, call.p95, call.p99))
    apart = (f"{each:.1e}" for each in (away.activation, away.score, away.contribution))
    return (*name, *times, number(row.faces_per_s, 0), *apart)
