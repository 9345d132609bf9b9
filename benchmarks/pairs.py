"""Whether one setting makes results younger than another: python -m benchmarks.pairs. See docs/benchmarks/README.md."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.progress import Progress

from benchmarks import machine
from benchmarks.figures import Check, Quantiles, Sample, one_a_frame, quantiles
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
from benchmarks.session import observe
from benchmarks.workers import total_percent
from pipeline.bus import WorkerError
from pipeline.config import ConfigError, load
from pipeline.preflight import check

HELP = """Compares two settings by the age of results: live sessions in turns, A and B, then B and A, and so on, so that
whatever else the machine does hits both alike. The figures are those of pairs: B less A.

\b
Examples:
  python -m benchmarks.pairs --b engine.pin=1
  python -m benchmarks.pairs --b engine.threads=0 --rounds 10 --seconds 20
  python -m benchmarks.pairs --a engine.threads=2 --b engine.threads=2 --b engine.pin=2 --json pin.json

\b
Close everything else first. Exit codes: 0 measured, 1 a session failed or a frame is unaccounted for, 2 bad arguments
"""

app = typer.Typer(add_completion=False, rich_markup_mode=None)


class Session(msgspec.Struct, frozen=True):
    """One of a pair. cpu_percent: of one core, all processes; None if it was too short to say. stale: frames passed
    over."""

    age_ms: Quantiles
    cpu_percent: float | None
    stale: int
    checks: tuple[Check, ...]


class Pair(msgspec.Struct, frozen=True):
    """A session of each, one after the other."""

    a: Session
    b: Session


class PairsReport(msgspec.Struct, frozen=True):
    """a, b: what the settings of each are beside those that both have."""

    machine: Machine
    camera: str
    both: tuple[str, ...]
    a: tuple[str, ...]
    b: tuple[str, ...]
    pairs: tuple[Pair, ...]

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that do not hold."""
        sessions = (session for pair in self.pairs for session in (pair.a, pair.b))
        return tuple(check for session in sessions for check in session.checks if not check.holds)


class Difference(msgspec.Struct, frozen=True):
    """B less A over pairs, in milliseconds: median, least and largest, and in how many pairs B was lower."""

    median_ms: float
    least_ms: float
    largest_ms: float
    lower: int
    pairs: int


def difference(pairs: Sequence[Pair], percentile: str) -> Difference:
    """Of one percentile of the age: p50, p95 or p99."""
    apart = [getattr(pair.b.age_ms, percentile) - getattr(pair.a.age_ms, percentile) for pair in pairs]
    return Difference(median(apart), min(apart), max(apart), sum(each < 0 for each in apart), len(apart))


@app.command(help=HELP)
def main(
    b: Annotated[list[str], typer.Option("--b", metavar="SECTION.KEY=VALUE", help="a setting of B; may be repeated")],
    a: Annotated[
        list[str] | None, typer.Option("--a", metavar="SECTION.KEY=VALUE", help="of A; without, A has the defaults")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="of both; may be repeated")
    ] = None,
    camera: Annotated[str, typer.Option(metavar="SRC", help="as for run_live.py")] = "demo",
    rounds: Annotated[int, typer.Option(min=1, help="pairs of sessions")] = 6,
    seconds: Annotated[float, typer.Option(min=1, metavar="S", help="length of each session")] = 15.0,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="write every figure there")] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="write pairs.json and pairs.md there")] = None,
) -> int:
    both, sides = tuple(set_ or ()), {"a": tuple(a or ()), "b": tuple(b)}
    for settings in sides.values():
        check(load(None, [*both, *settings, f"capture.camera={camera}"]))
    if sides["a"] == sides["b"]:
        raise ConfigError("A and B have the same settings; give --b one that differs")
    prepare(out, json)
    here = machine.look()
    if here.busy:
        print(f"warning: {here.busy}", file=sys.stderr)
    pairs = []
    with progress_bars() as bars:
        for number_ in range(rounds):
            order = ("a", "b") if number_ % 2 == 0 else ("b", "a")
            done = {
                name: _session(camera, (*both, *sides[name]), seconds, f"{number_ + 1} {name}", bars) for name in order
            }
            pairs.append(Pair(done["a"], done["b"]))
    report = PairsReport(here, camera, both, sides["a"], sides["b"], tuple(pairs))
    _write(report, out, json)
    return 1 if report.failed else 0


def _session(camera: str, settings: Sequence[str], seconds: float, title: str, bars: Progress) -> Session:
    options = ["--camera", camera, "--duration", f"{seconds:g}"]
    options += [part for each in settings for part in ("--set", each)]
    task = bars.add_task(title, total=None)
    observed = observe(options, partial(_count, bars, task))
    frames = one_a_frame(observed.samples)
    ages = quantiles([each.age_ms for each in frames])
    if ages is None:
        raise WorkerError("a session published nothing", 1)
    return Session(ages, total_percent(observed.shares.values()), frames[-1].stale, observed.checks(None))


def _count(bars: Progress, task: int, sample: Sample) -> None:
    bars.update(task, completed=sample.seq + 1)  # type: ignore[arg-type]


def notes(report: PairsReport) -> list[str]:
    """What must be read with the figures."""
    words = {name: " ".join(each) or "the defaults" for name, each in (("A", report.a), ("B", report.b))}
    return [
        *machine_note(report.machine),
        f"A: {words['A']}. B: {words['B']}. Both: {' '.join(report.both) or 'nothing else'}. Source: {report.camera}; "
        f"{len(report.pairs)} pairs of sessions in turns.",
    ]


def tables(report: PairsReport) -> list[Table]:
    """Every session, and what differs."""
    sessions = [
        (f"{i + 1} {name}", str(each.age_ms.count), *_ages(each.age_ms), str(each.stale), number(each.cpu_percent))
        for i, pair in enumerate(report.pairs)
        for name, each in (("A", pair.a), ("B", pair.b))
    ]
    rows = []
    for name in ("p50", "p95", "p99"):
        each = difference(report.pairs, name)
        spread = f"{each.least_ms:+.2f} to {each.largest_ms:+.2f}"
        rows.append((name, f"{each.median_ms:+.2f}", spread, f"{each.lower} of {each.pairs}"))
    return [
        Table("Age of results, B less A, ms", ("", "median of pairs", "range", "B is younger in"), tuple(rows)),
        Table("Sessions, ages in ms", ("", "frames", "p50", "p95", "p99", "stale", "CPU, %"), tuple(sessions)),
    ]


def _ages(age_ms: Quantiles) -> tuple[str, str, str]:
    return number(age_ms.p50, 2), number(age_ms.p95, 2), number(age_ms.p99, 2)


def _write(report: PairsReport, out: Path | None, json: Path | None) -> None:
    """To the terminal, and where it is wanted."""
    show(Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH), notes(report), tables(report))
    for failed in report.failed:
        print(f"does not hold: {failed.what}: {failed.found}", file=sys.stderr)
    if json is not None:
        write_json(json, report)
    if out is not None:
        write_json(out / "pairs.json", report)
        (out / "pairs.md").write_text(markdown("Pairs of sessions", notes(report), tables(report)), encoding="utf-8")


if __name__ == "__main__":
    leave(lambda: int(app(standalone_mode=False) or 0))
