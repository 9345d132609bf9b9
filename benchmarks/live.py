"""Measures live sessions from outside: python -m benchmarks.live. See docs/benchmarks/README.md."""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from benchmarks import live_figures, live_tables, machine, matrix
from benchmarks.figures import Sample, one_a_frame
from benchmarks.keyframes import KeyFrames, detector_of, open_detector, replay, summary
from benchmarks.live_figures import LiveReport
from benchmarks.media import Clip, count_pictures, file_of, lengthen, look_at
from benchmarks.report import PLAIN_WIDTH, leave, markdown, prepare, progress_bars, show, write_json
from benchmarks.session import Observed, observe
from pipeline.config import ConfigError, LiveConfig, load
from pipeline.preflight import check

DEVICE_S = 30.0
PICTURE = "![Age of results, stages and memory](live.png)"

HELP = """Measures what a live session reaches on this machine, by starting run_live.py and reading its results.

\b
1. In real time: age of results (publication - capture), stages, key frames, processor time and memory of each
   worker, and whether every captured frame is accounted for.
2. At full speed (files): frames per second.
3. With --minutes: whether memory grows, on the clip repeated for so long, with the recorder running.
4. At every size, rate and load (files): 480p, 720p, 1080p, at 30 and 60 frames per second, and with three times as
   many frames as the analysis can take. 18 sessions; --no-matrix leaves them out.

\b
Examples:
  python -m benchmarks.live                                       the demo clip, parts 1, 2 and 4
  python -m benchmarks.live --seconds 2 --height 720 --rate 30    the same, quickly: figures of few frames
  python -m benchmarks.live --minutes 10 --out docs/benchmarks    everything, written as live.json, live.md, live.png
  python -m benchmarks.live --camera 0 --seconds 60               a camera (in real time only)
  python -m benchmarks.live --engine openvino --set engine.precision=bf16

\b
Close everything else first. Exit codes: 0 measured, 1 a frame is unaccounted for or a session failed, 2 bad arguments
"""

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured. camera, settings: as run_live.py takes them. clip: None for a camera or a stream.

    seconds: of each session but that of memory; 0: the source once, and matrix.SECONDS of each size, rate and load.
    """

    camera: str
    settings: tuple[str, ...]
    config: LiveConfig
    clip: Clip | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Played:
    """A session that was observed. pictures: how many its file holds if it was played to its end. path: that file."""

    observed: Observed
    pictures: int | None
    path: Path | None


@app.command(help=HELP)
def main(
    camera: Annotated[str, typer.Option(metavar="SRC", help="as for run_live.py")] = "demo",
    model: Annotated[str | None, typer.Option(metavar="NAME", help="as for run_live.py")] = None,
    engine: Annotated[str | None, typer.Option(metavar="NAME", help="as for run_live.py")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="as for run_live.py; may be repeated")
    ] = None,
    seconds: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="S",
            help=f"length of a session; 0: the clip once or 30 s of a camera, and {matrix.SECONDS:g} s each in part 4",
        ),
    ] = 0.0,
    warm_up: Annotated[
        float, typer.Option(min=0, metavar="S", help="ages are given with and without the first so many seconds")
    ] = 2.0,
    minutes: Annotated[
        float, typer.Option(min=0, metavar="M", help="length of part 3, memory (10 is what the target asks); 0: none")
    ] = 0.0,
    with_matrix: Annotated[bool, typer.Option("--matrix/--no-matrix", help="whether part 4 is measured")] = True,
    height: Annotated[
        list[int] | None, typer.Option(min=96, metavar="PX", help="of part 4; may be repeated; without, 480, 720, 1080")
    ] = None,
    rate: Annotated[
        list[int] | None, typer.Option(min=1, max=60, metavar="HZ", help="of part 4; may be repeated; without, 30, 60")
    ] = None,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="write every figure there")] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="write live.json, live.md and live.png there")] = None,
) -> int:
    here = machine.look()
    options = {"engine.model": model, "engine.backend": engine}
    settings = (*(set_ or ()), *(f"{key}={value}" for key, value in options.items() if value is not None))
    plan = planned(camera, settings, seconds)
    prepare(out, json)
    if here.busy:
        print(f"warning: {here.busy}", file=sys.stderr)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="agcm-benchmark-")))
        bars = stack.enter_context(progress_bars())
        paced = _play(plan, plan.seconds, "realtime", "1 in real time", folder, bars)
        fast = _play(plan, plan.seconds, "max", "2 at full speed", folder, bars) if plan.clip else None
        long = _play(plan, minutes * 60.0, "realtime", "3 memory", folder, bars, recording=True) if minutes else None
        cells = matrix.Cells(
            tuple(height or matrix.HEIGHTS_PX), tuple(rate or matrix.RATES_HZ), seconds or matrix.SECONDS
        )
        rows = _matrix(plan, cells, folder, bars) if with_matrix else ()
        in_time = live_figures.realtime(paced.observed, paced.pictures, warm_up, _key_frames(plan, paced, bars))
    report = LiveReport(
        machine=here,
        model=paced.observed.model,
        backend=paced.observed.backend,
        source=plan.clip,
        settings=tuple(each for each in settings if not each.startswith("engine.model=")),
        realtime=in_time,
        full_speed=live_figures.full_speed(fast.observed, fast.pictures) if fast else None,
        memory=live_figures.memory(long.observed, long.pictures, minutes) if long else None,
        matrix=rows,
    )
    _write(report, paced.observed, long.observed if long else None, out, json)
    return 1 if report.failed else 0


def planned(camera: str, settings: tuple[str, ...], seconds: float) -> Plan:
    """Raises ConfigError, WorkerError: whatever run_live.py would refuse is refused before anything is measured."""
    for name in ("capture.camera", "capture.pace", "output.bind", "output.record", "session.duration_s"):
        if any(each.startswith(name) for each in settings):
            raise ConfigError(f"{name} is set by the benchmark itself; see --help for its options")
    config = load(None, [*settings, f"capture.camera={camera}"])
    check(config)
    return Plan(camera, settings, config, look_at(camera) if file_of(camera) else None, seconds)


def _play(
    plan: Plan, seconds: float, pace: str, title: str, folder: Path, bars: Progress, *, recording: bool = False
) -> Played:
    """One session of `seconds` (0: the source once); a clip that is shorter is repeated.

    recording: with the recorder as well, which writes below `folder`.
    """
    path = file_of(plan.camera)
    clip_s = plan.clip.duration_s if plan.clip else 0.0
    if path is None:
        seconds = seconds or DEVICE_S
    elif seconds > clip_s:
        path = lengthen(path, folder, seconds)
    camera = plan.camera if path is None or path == file_of(plan.camera) else str(path)
    options = ["--camera", camera, "--pace", pace]
    options += [part for each in plan.settings for part in ("--set", each)]
    options += ["--duration", f"{seconds:g}"] if seconds else []
    options += ["--record", str(folder / "recording")] if recording else []
    fps_hz = plan.clip.fps_hz if plan.clip else plan.config.capture.fps_hz
    task = bars.add_task(title, total=round((seconds or clip_s) * fps_hz) or None)
    observed = observe(options, partial(_show, bars, task))
    bars.update(task, total=bars.tasks[task].completed)
    whole = path is not None and not seconds
    return Played(observed, count_pictures(camera) if whole else None, path)


def _matrix(plan: Plan, cells: matrix.Cells, folder: Path, bars: Progress) -> tuple[matrix.Row, ...]:
    """Part 4; nothing of a camera, whose pictures have one size."""
    path = file_of(plan.camera)
    if path is None:
        return ()
    task = bars.add_task("4 sizes, rates, loads", total=cells.rows)
    return matrix.measure(path, plan.settings, cells, folder, partial(bars.advance, task))


def _key_frames(plan: Plan, played: Played, bars: Progress) -> KeyFrames | None:
    """None for a camera: its pictures are gone."""
    if played.path is None:
        return None
    frames = one_a_frame(played.observed.samples)
    task = bars.add_task("  key frames, afterwards", total=frames[-1].seq + 1)
    detector = open_detector(*detector_of(played.observed.events))
    try:
        looks = replay(played.path, plan.config.face, detector, frames, partial(_show, bars, task))
    finally:
        detector.close()
    return summary(frames, played.observed.faces, looks)


def _show(bars: Progress, task: int, sample: Sample) -> None:
    bars.update(task, completed=sample.seq + 1)  # type: ignore[arg-type]


def _write(report: LiveReport, paced: Observed, long: Observed | None, out: Path | None, json: Path | None) -> None:
    """To the terminal, and where it is wanted."""
    notes, tables = live_tables.notes(report), live_tables.tables(report)
    show(Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH), notes, tables)
    for check_ in report.failed:
        print(f"does not hold: {check_.what}: {check_.found}", file=sys.stderr)
    if json is not None:
        write_json(json, report)
    if out is not None:
        from benchmarks import plots  # takes a second to load, and only this needs it

        write_json(out / "live.json", report)
        (out / "live.md").write_text(markdown("Live sessions", [*notes, PICTURE], tables), encoding="utf-8")
        curves = live_figures.curves(long) if long else ()
        title = f"{report.model}, {report.machine.cpu}"
        plots.live(out / "live.png", title, one_a_frame(paced.samples), curves, report.matrix)
        print(f"written: live.json, live.md, live.png in {out}", file=sys.stderr)


if __name__ == "__main__":
    leave(lambda: int(app(standalone_mode=False) or 0))
