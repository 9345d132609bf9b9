"""How the sessions of every size, rate and load are printed, and what is asked of them."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.figures import STAGES
from benchmarks.matrix import OVERLOAD, Row
from benchmarks.report import Table, number

# Of the 720p camera at 30 a second that is kept up with, and of every camera that is not.
AGE_P50_MS, AGE_P99_MS, AROUND_MS, PERIODS = 8.0, 25.0, 2.0, 2.0
AROUND = ("capture", "transport")
"""Stages in which nothing is worked out: what a result is older by than the work on its frame takes."""


def tables(rows: Sequence[Row]) -> list[Table]:
    """Two tables of the same rows; none without rows."""
    return [_ages(rows), _frames(rows)] if rows else []


def targets(rows: Sequence[Row]) -> list[tuple[str, float | None, float, bool]]:
    """Name, figure, target, and whether less is better."""
    seen = next((row for row in rows if (row.height_px, row.rate_hz, row.load) == (720, 30, 1)), None)
    kept_up = seen.age_ms if seen else None
    around_ms = sum(seen.stages_ms[name] for name in AROUND) if seen else None
    pressed = [row for row in rows if row.load == OVERLOAD and row.age_ms is not None]
    p50 = [row.periods(row.age_ms.p50) for row in pressed if row.age_ms is not None]
    p95 = [row.periods(row.age_ms.p95) for row in pressed if row.age_ms is not None]
    p99 = [row.periods(row.age_ms.p99) for row in pressed if row.age_ms is not None]
    own = [row.own_periods.p99 for row in pressed if row.own_periods is not None]
    return [
        ("age at 720p, 30/s, 1x, p50, ms", kept_up.p50 if kept_up else None, AGE_P50_MS, True),
        ("age at 720p, 30/s, 1x, p99, ms", kept_up.p99 if kept_up else None, AGE_P99_MS, True),
        ("age at 720p, 30/s, 1x, capture and transport, mean, ms", around_ms, AROUND_MS, True),
        ("age at 3x, p50 of the worst row, in frame periods", _worst(p50), PERIODS, True),
        ("age at 3x, p95 of the worst row, in frame periods", _worst(p95), PERIODS, True),
        ("age at 3x, p99 of the worst row, in frame periods", _worst(p99), PERIODS, True),
        ("age at 3x, p99 of the worst row, in each frame's own periods", _worst(own), PERIODS, True),
    ]


def _worst(periods: Sequence[float | None]) -> float | None:
    return max((each for each in periods if each is not None), default=None)


def _ages(rows: Sequence[Row]) -> Table:
    periods = ("p50 / T", "p95 / T", "p99 / T", "p99, own T")
    columns = ("camera, load", "p50", "p95", "p99", *periods, "alone", *STAGES, "sum")
    title = (
        "Age at every size, rate and load, ms; T: mean time from one published frame to the next; own T: the two that "
        "end with the frame itself; alone: p99 over the mean of a plain loop as long as a frame, with nothing else "
        "running; stages and their sum: means"
    )
    return Table(title, columns, tuple(map(_age, rows)))


def _age(row: Row) -> tuple[str, ...]:
    spread = (None, None, None) if row.age_ms is None else (row.age_ms.p50, row.age_ms.p95, row.age_ms.p99)
    periods = (number(row.periods(each), 2) for each in spread)
    own = number(row.own_periods.p99 if row.own_periods else None, 2)
    alone = "–" if row.alone_tail is None else number(row.alone_tail, 2)
    stages = (number(value, 2) for value in row.stages_ms.values())
    return (row.name, *map(number, spread), *periods, own, alone, *stages, number(row.mean_age_ms, 2))


def _frames(rows: Sequence[Row]) -> Table:
    columns = (
        "camera, load", "came /s", "can /s", "captured", "published", "stale", "decode errors",
        "T, ms", "CPU, %", "analyze, %", "RSS, MB", "checks",
    )  # fmt: skip
    title = "Frames, processor and memory at every size, rate and load; captured = published + stale"
    return Table(title, columns, tuple(map(_frame, rows)))


def _frame(row: Row) -> tuple[str, ...]:
    account, analyze = row.account, row.workers.get("analyze")
    counts = ("–",) * 4
    if account is not None:
        counted = (account.captured, account.published, account.stale, account.decode_errors)
        counts = (str(counted[0]), str(counted[1]), str(counted[2]), str(counted[3]))
    return (
        row.name,
        number(row.offered_hz),
        "–" if row.capacity_hz is None else number(row.capacity_hz),
        *counts,
        number(row.period_ms, 2),
        number(row.cpu_percent),
        number(analyze.cpu_percent if analyze else None),
        number(row.rss_mb),
        "hold" if all(check.holds for check in row.checks) else "DO NOT HOLD",
    )
