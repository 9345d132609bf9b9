"""What hearing costs on this machine: python -m benchmarks.voice. See docs/benchmarks/README.md."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import av
import msgspec
import numpy as np
import typer
from rich.console import Console

from benchmarks import machine
from benchmarks.engine_figures import turns
from benchmarks.figures import Quantiles, quantiles
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
from engines.backends import BACKENDS
from engines.base import Engine, EngineError
from engines.choose import load
from engines.spec import ManifestError, load_model_file
from engines.voice import BEHIND_S, HOP
from pipeline.align import AudioWindow
from pipeline.hearing import Ears
from pipeline.sources import DEMO
from pipeline.track import RATE_HZ, Chunk, chunks

FRAME_NS = 1_000_000_000 // 30

HELP = """What it costs to hear beside a picture: the sound of the demo clip in chunks of 20 ms, as it comes live, 30
pictures a second, one thread. For every picture the time that its sound took: the voice network, and the
reading of its concepts.

\b
Examples:
  python -m benchmarks.voice
  python -m benchmarks.voice --out docs/benchmarks   written as voice.json and voice.md

\b
Close everything else first. Exit codes: 0 measured, 2 bad arguments
"""

app = typer.Typer(add_completion=False, rich_markup_mode=None)


class Row(msgspec.Struct, frozen=True):
    """One backend in fp32: milliseconds a picture. mean_ms: of both; a picture has one chunk or two, so that their
    median is that of two. missing: why nothing was measured."""

    backend: str
    network_ms: Quantiles | None = None
    reading_ms: Quantiles | None = None
    both_ms: Quantiles | None = None
    mean_ms: float | None = None
    missing: str = ""


class VoiceReport(msgspec.Struct, frozen=True):
    """All of it. seconds: of sound; rounds: how often each backend heard it."""

    machine: machine.Machine
    model: str
    seconds: float
    rounds: int
    rows: tuple[Row, ...]


@app.command(help=HELP)
def main(
    model: Annotated[str, typer.Option(metavar="NAME", help="a voice network under models/")] = "agcm-voice",
    rounds: Annotated[int, typer.Option(min=1, metavar="N", help="how often each backend hears the clip")] = 5,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="write every figure there")] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="write voice.json and voice.md there")] = None,
) -> int:
    here = machine.look()
    file = load_model_file(model)
    if {spec.name for spec in file.manifest.inputs} != {"samples", "memory"}:
        raise ManifestError(f"model {model!r} is no voice network")
    prepare(out, json)
    if here.busy:
        print(f"warning: {here.busy}", file=sys.stderr)
    sound = list(_sound())
    sample = {"samples": np.zeros((1, 2 * HOP), np.float32)}
    sample |= {"memory": np.zeros(next(s.shape for s in file.manifest.inputs if s.name == "memory"), np.float32)}
    engines, missing = dict[str, Engine](), []
    for backend in (name for name, described in BACKENDS.items() if not described.by_name):
        try:
            engines[backend] = load(backend, file, "fp32", 1, sample)
        except EngineError as error:
            missing.append(Row(backend, missing=str(error)))
    times = {backend: list[tuple[float, float]]() for backend in engines}
    names, left = list(engines), iter(range(rounds))
    with progress_bars() as bars:
        order = turns(len(names), lambda: next(left, None) is not None)
        for index in bars.track(order, total=rounds * len(names), description="hear"):
            times[names[index]] += hear(engines[names[index]], sound)
    rows = [_row(backend, times[backend]) for backend in names]
    seconds = sum(len(chunk.samples) for chunk in sound) / RATE_HZ
    _write(VoiceReport(here, file.manifest.identity, seconds, rounds, (*rows, *missing)), out, json)
    return 0


def hear(engine: Engine, sound: list[Chunk]) -> list[tuple[float, float]]:
    """Milliseconds of the network and of the reading, of every picture."""
    window, ears, frame, network_ms, found = AudioWindow(), Ears(engine), 0, 0.0, []
    for chunk in sound:
        window.add(chunk.media_ns, chunk.samples, RATE_HZ)
        network_ms += _timed_ms(lambda: ears.listen(window))
        while (window.end_ns or 0) >= frame * FRAME_NS:
            t_ns = frame * FRAME_NS - round(BEHIND_S * 1e9)
            found.append((network_ms, _timed_ms(lambda t_ns=t_ns: ears.reading(window, t_ns))))  # type: ignore[misc]
            network_ms, frame = 0.0, frame + 1
    return found[30:]


def _timed_ms(action: Callable[[], object]) -> float:
    start_ns = time.perf_counter_ns()
    action()
    return (time.perf_counter_ns() - start_ns) / 1e6


def _sound() -> Iterator[Chunk]:
    with av.open(str(DEMO)) as container:
        yield from chunks(container, container.streams.audio[0], 0)


def _row(backend: str, times_ms: list[tuple[float, float]]) -> Row:
    network, reading = zip(*times_ms, strict=True)
    both = [a + b for a, b in times_ms]
    return Row(backend, quantiles(network), quantiles(reading), quantiles(both), sum(both) / len(both))


def _write(report: VoiceReport, out: Path | None, json: Path | None) -> None:
    """To the terminal, and where it is wanted."""
    notes = [
        f"{report.model}: what hearing costs for each picture, at 30 a second; {report.seconds:.0f} s of the demo "
        f"clip's sound in chunks of 20 ms, {report.rounds} times, one thread. A picture has the sound of 33 ms: "
        "one or two chunks.",
        *machine_note(report.machine),
    ]
    rows = tuple(
        (
            f"{row.backend}/fp32",
            *(number(None if q is None else q.p50, 2) for q in (row.network_ms, row.reading_ms, row.both_ms)),
            number(None if row.both_ms is None else row.both_ms.p99, 2),
            number(row.mean_ms, 2),
        )
        for row in report.rows
    )
    tables = [
        Table(
            "Milliseconds a picture",
            ("engine", "network p50", "concepts p50", "both p50", "both p99", "both, mean"),
            rows,
        )
    ]
    show(Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH), notes, tables)
    if json is not None:
        write_json(json, report)
    if out is not None:
        write_json(out / "voice.json", report)
        (out / "voice.md").write_text(markdown("Hearing", notes, tables), encoding="utf-8")
        print(f"written: voice.json, voice.md in {out}", file=sys.stderr)


if __name__ == "__main__":
    leave(lambda: int(app(standalone_mode=False) or 0))
