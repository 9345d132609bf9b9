"""What `benchmarks.engine` prints."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.engine_figures import EngineReport, Row
from benchmarks.machine import Machine
from benchmarks.report import NOT_MEASURED, Table, machine_note, number
from benchmarks.roofline import Reached
from engines.backends import BACKENDS

NONE = "–"  # of an engine on a CPU: it has no memory on a GPU


def gpu_missing(machine: Machine, rows: Sequence[Row]) -> str:
    """Why there is no figure for a GPU, "" if there is one."""
    if any(row.device == "gpu" and row.call_ms is not None for row in rows):
        return ""
    if machine.gpu is None:
        return "this machine has no NVIDIA GPU"
    return f"no engine of this version ran on the {machine.gpu}"


def notes(report: EngineReport) -> list[str]:
    """What must be read with the figures."""
    lines = [
        *machine_note(report.machine),
        f"Model {report.model} on {report.faces} real crops of the demo clip, which come again in larger calls. "
        f"Differences are the largest over all of them, from {report.reference} on the CPU; those of score and "
        "contribution are in units of the score. Memory is what a process grows by that loads an engine and runs calls "
        "of so many faces and fewer.",
    ]
    if not report.reference.startswith("torch/"):
        lines.append("torch, with which engines are compared where it is there, is not installed here.")
    lines += [f"GPU: {NOT_MEASURED}, {report.gpu}."] if report.gpu else []
    lines += [f"Roofline: {NOT_MEASURED}, {report.no_roofline}."] if report.no_roofline else []
    missing = dict.fromkeys(
        f"{row.engine}{f', {row.batch} faces' if row.device else ''}: {NOT_MEASURED}, {row.missing}."
        for row in _shown(report)
        if row.missing
    )
    return [*lines, *missing]


def tables(report: EngineReport) -> list[Table]:
    """Medians side by side, then every figure, then how near the GPU's engines come to what it can do."""
    return [_side_by_side(report), _all(report), _roofline(report)]


def medians_ms(report: EngineReport) -> dict[str, dict[int, float]]:
    """By engine and threads, then by the number of faces in a call."""
    found: dict[str, dict[int, float]] = {}
    for row in report.rows:
        if row.call_ms is not None:
            found.setdefault(f"{row.engine}, {_count(row.threads, 'thread')}", {})[row.batch] = row.call_ms.p50
    return found


def _shown(report: EngineReport) -> list[Row]:
    """What has a line of its own: where no GPU was measured, one column says so for all that need one."""
    return [row for row in report.rows if not (report.gpu and BACKENDS[row.backend].driver)]


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
    on_gpu = any(row.device == "gpu" for row in report.rows)
    columns = (
        *("engine", "threads", "faces", "p50 ms", "p95 ms", "p99 ms", "faces/s", "MB"),
        *(("GPU's own p50 ms", "GPU MB") if on_gpu else ()),
        *("activation", "score", "contribution"),
    )
    ran = {row.engine for row in report.rows if row.call_ms is not None}
    rows = [_row(row, on_gpu) for row in _shown(report) if row.engine in ran]
    absent = dict.fromkeys(row.engine for row in _shown(report) if row.engine not in ran)
    rows += [(engine, *(NOT_MEASURED for _ in columns[1:])) for engine in absent]
    return Table(f"Every figure; the last three are differences from {report.reference}", columns, tuple(rows))


def _row(row: Row, on_gpu: bool) -> tuple[str, ...]:
    name = (row.engine, str(row.threads), str(row.batch))
    if row.call_ms is None or row.difference is None:
        return (*name, *(NOT_MEASURED for _ in range(10 if on_gpu else 8)))
    call, away, memory = row.call_ms, row.difference, row.memory
    times = (number(each, 2) for each in (call.p50, call.p95, call.p99))
    apart = (f"{each:.1e}" for each in (away.activation, away.score, away.contribution))
    used = [number(None if memory is None else memory.rss_mb, 0)]
    if on_gpu:
        used.append(NONE if row.device_ms is None else number(row.device_ms.p50, 3))
        used.append(NONE if row.device == "cpu" else number(None if memory is None else memory.gpu_mb, 0))
    return (*name, *times, number(row.faces_per_s, 0), *used, *apart)


def _roofline(report: EngineReport) -> Table:
    columns = (
        *("engine", "faces", "Mop/face", "MB/face", "Top/s", "ceiling Top/s", "share"),
        *("GB/s", "ceiling GB/s", "share"),
    )
    rows = tuple(map(_reached, report.roofline)) or (("GPU", *(NOT_MEASURED for _ in columns[1:])),)
    return Table("Roofline: operations and bytes of the best call, against the most of the same GPU", columns, rows)


def _reached(row: Reached) -> tuple[str, ...]:
    return (
        row.engine,
        str(row.batch),
        number(row.operations_per_face / 1e6, 0),
        number(row.bytes_per_face / 1e6, 2),
        number(row.operations_per_s / 1e12, 2),
        number(row.ceilings.operations_per_s / 1e12, 1),
        f"{row.operations_share:.1%}",
        number(row.bytes_per_s / 1e9, 0),
        number(row.ceilings.bytes_per_s / 1e9, 0),
        f"{row.bytes_share:.1%}",
    )
