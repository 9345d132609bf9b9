"""What `benchmarks.live` prints: its figures beside their targets, as tables."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import matrix_tables
from benchmarks.figures import Quantiles
from benchmarks.live_figures import FullSpeed, LiveReport, Memory, Realtime
from benchmarks.report import NOT_MEASURED, Table, machine_note, number

AGE_P50_MS, AGE_P99_MS, FULL_SPEED_HZ, GROWTH_MB = 25.0, 60.0, 60.0, 5.0


def notes(report: LiveReport) -> list[str]:
    """What must be read with the figures."""
    clip = report.source
    source = "a camera or stream"
    if clip is not None:
        rate = f"{clip.fps_hz:g} frames per second, {clip.duration_s:.1f} s"
        source = f"{clip.name}, {clip.width_px}x{clip.height_px}, {rate}"
    return [
        *machine_note(report.machine),
        f"Model {report.model} on {report.backend}. Source: {source}. "
        f"Settings that differ from the defaults: {', '.join(report.settings) or 'none'}.",
    ]


def tables(report: LiveReport) -> list[Table]:
    """Every figure."""
    found = [_targets(report), _ages(report.realtime), _stages(report.realtime)]
    if report.full_speed is not None:
        found.append(_speed(report.full_speed))
    parts: list[tuple[str, Realtime | FullSpeed | Memory | None]] = [
        ("real time", report.realtime), ("full speed", report.full_speed), ("memory", report.memory),
    ]  # fmt: skip
    return [*found, *matrix_tables.tables(report.matrix), _workers(parts), _checked(parts)]


def _targets(report: LiveReport) -> Table:
    age, speed, memory = report.realtime.age_ms, report.full_speed, report.memory
    grown = [each for each in (memory.growth_mb if memory else {}).values() if each is not None]
    rows: Sequence[tuple[str, float | None, float, bool]] = (
        ("age of results in real time, p50, ms", age.p50 if age else None, AGE_P50_MS, True),
        ("age of results in real time, p99, ms", age.p99 if age else None, AGE_P99_MS, True),
        ("frames per second at full speed", speed.fps if speed else None, FULL_SPEED_HZ, False),
        ("growth of memory, largest of the workers, MB", max(grown, default=None), GROWTH_MB, True),
        *(matrix_tables.targets(report.matrix) if report.matrix else ()),
    )
    return Table(
        "Targets",
        ("figure", "measured", "target", "reached"),
        tuple(
            (name, number(value), f"{'≤' if below else '≥'} {target:g}", _reached(value, target, below))
            for name, value, target, below in rows
        ),
    )


def _reached(value: float | None, target: float, below: bool) -> str:
    if value is None:
        return "–"
    return "yes" if (value <= target if below else value >= target) else "no"


def _ages(part: Realtime) -> Table:
    keys = part.key_frames
    rows = [
        ("whole run", part.age_ms),
        (f"without the first {part.warm_up_s:g} s", part.age_after_warm_up_ms),
        ("whole run, when read by a client", part.at_reader_ms),
    ]
    if keys is not None:
        rows.append((f"key frames ({keys.share:.1%} of frames)", keys.age_on_key_frames_ms))
        rows.append(("frames between them", keys.age_between_ms))
    return Table(
        "Age of results in real time, ms from capture to publication",
        ("results", "frames", "p50", "p95", "p99", "max"),
        tuple((name, *_spread(value)) for name, value in rows),
    )


def _spread(value: Quantiles | None) -> tuple[str, ...]:
    if value is None:
        return ("0", *(NOT_MEASURED for _ in range(4)))
    return (str(value.count), *(number(each) for each in (value.p50, value.p95, value.p99, value.max)))


def _stages(part: Realtime) -> Table:
    rows = tuple((name, number(value, 2)) for name, value in part.stages_ms.items())
    return Table("Stages in real time, median ms", ("stage", "ms"), rows)


def _speed(part: FullSpeed) -> Table:
    rows = (
        ("from the first result to the last", str(part.frames), number(part.fps)),
        (f"with start and end of the processes ({part.whole_s:.1f} s)", str(part.frames), number(part.whole_fps)),
    )
    return Table("Frames per second at full speed", ("measured", "frames", "frames per second"), rows)


def _workers(parts: Sequence[tuple[str, Realtime | FullSpeed | Memory | None]]) -> Table:
    rows = [
        (f"{worker}, {name}", number(used.cpu_percent), number(used.rss_mb), _growth(part, worker))
        for name, part in parts
        if part is not None
        for worker, used in part.workers.items()
    ]
    columns = ("worker", "CPU, % of a core", "highest RSS, MB", "growth of RSS, MB")
    return Table("Processes", columns, tuple(rows))


def _growth(part: Realtime | FullSpeed | Memory, worker: str) -> str:
    return number(part.growth_mb.get(worker), 2) if isinstance(part, Memory) else "–"


def _checked(parts: Sequence[tuple[str, Realtime | FullSpeed | Memory | None]]) -> Table:
    rows = [
        (f"{name}: {check.what}", check.found, "yes" if check.holds else "NO")
        for name, part in parts
        if part is not None
        for check in part.checks
    ]
    return Table("Checks", ("what must hold", "found", "holds"), tuple(rows))
