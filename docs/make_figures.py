"""The README's pictures, from a recorded session: python -m docs.make_figures RECORDING [--out FOLDER].

session.svg: the score over time, stacked up from its base by the exact share of every concept. terminal.svg: what the
two terminals showed at the moment of the strongest share. Both are drawn from the recording alone, by the code that
wrote to the terminal live. Needs the dev extra (matplotlib).
"""

from __future__ import annotations

import io
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import av
import matplotlib
import msgspec
import numpy as np
import numpy.typing as npt
import typer

matplotlib.use("Agg")  # no window, whatever the machine has

from matplotlib import pyplot
from matplotlib.axes import Axes
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from pipeline.messages import EngagementFrame, Event, Health
from pipeline.preflight import notices
from pipeline.recording import EVENTS, HEALTH, RecordingError, Results, SessionInfo, read_session
from pipeline.sources import DEMO
from pipeline.status import Status
from pipeline.subscribe import describe
from pipeline.supervise import SHOWN

Real = npt.NDArray[np.float64]
NAMED, POINTS, STILLS, SUBSCRIBED = 8, 360, 8, 7
STILL_PX = (176, 99)
FONTS = "ui-monospace, Menlo, Consolas, DejaVu Sans Mono, monospace"
COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#ee8866", "#44bb99", "#bbbbbb")


def one_face(frames: Sequence[EngagementFrame]) -> list[EngagementFrame]:
    """Every frame once: the face that is seen most where it is there. Raises RecordingError if nobody was scored."""
    scored = Counter(frame.face for frame in frames if frame.score is not None)
    if not scored:
        raise RecordingError("nobody was scored in this recording")
    (face, _), *_ = scored.most_common(1)
    by_seq = {frame.seq: frame for frame in sorted(frames, key=lambda frame: frame.face == face)}
    return [by_seq[seq] for seq in sorted(by_seq)]


def strongest(frames: Sequence[EngagementFrame]) -> EngagementFrame:
    """The frame with the largest share of one concept."""
    return max(frames, key=lambda frame: max((abs(share.contribution) for share in frame.contributions), default=0.0))


def shares(frames: Sequence[EngagementFrame]) -> tuple[list[str], Real]:
    """The NAMED concepts that count most and the sum of all others; their contributions [T, NAMED + 1], NaN if none."""
    names = sorted({share.concept for frame in frames for share in frame.contributions})
    table = np.full((len(frames), len(names)), np.nan)
    for row, frame in zip(table, frames, strict=True):
        for share in frame.contributions:
            row[names.index(share.concept)] = share.contribution
    order = np.argsort(-np.nanmean(np.abs(table), axis=0))
    first, others = order[:NAMED], order[NAMED:]
    labels = [*(names[column] for column in first), f"{len(others)} others"]
    return labels, np.column_stack([table[:, first], table[:, others].sum(axis=1)])


def draw_session(frames: Sequence[EngagementFrame], stills: Sequence[npt.NDArray[np.uint8]], out: Path) -> None:
    """session.svg."""
    matplotlib.rcParams.update({"svg.hashsalt": "agcm-live", "font.size": 9})
    kept = frames[:: -(-len(frames) // POINTS)]
    figure, (top, axes) = pyplot.subplots(
        2, 1, figsize=(10, 4.8 if stills else 4.2), height_ratios=(0.9 if stills else 0.01, 4), layout="constrained"
    )
    top.set_axis_off()
    times_s = np.array([frame.t_capture_ns - frames[0].t_capture_ns for frame in kept]) / 1e9
    _strip(top, stills)
    _stack(axes, times_s, kept)
    axes.set(xlim=(0.0, times_s[-1]), xlabel="seconds", ylabel="engagement score")
    figure.savefig(out, metadata={"Date": None})
    pyplot.close(figure)


def _strip(axes: Axes, stills: Sequence[npt.NDArray[np.uint8]]) -> None:
    for place, still in enumerate(stills):
        axes.imshow(still, extent=(place + 0.02, place + 0.98, 0.0, 0.96 * STILL_PX[1] / STILL_PX[0]), aspect="auto")
    if stills:
        axes.set(xlim=(0, len(stills)), ylim=(0, 0.96 * STILL_PX[1] / STILL_PX[0]))


def _stack(axes: Axes, times_s: Real, frames: Sequence[EngagementFrame]) -> None:
    """Positive shares stand on the base, negative ones hang from it: what is left of both is the score."""
    labels, parts = shares(frames)
    base = next(frame.base for frame in frames if frame.base is not None)
    score = np.array([np.nan if frame.score is None else frame.score for frame in frames])
    seen = ~np.isnan(score)
    for sign in (1.0, -1.0):
        edges = base + np.cumsum(np.column_stack([np.zeros(len(parts)), sign * np.clip(sign * parts, 0, None)]), axis=1)
        for column, label in enumerate(labels):
            axes.fill_between(
                times_s, edges[:, column], edges[:, column + 1], color=COLOURS[column], linewidth=0,
                label=label if sign > 0 else None,
            )  # fmt: skip
    axes.axhline(base, color="#555555", linewidth=0.8, linestyle="--", label="base")
    axes.plot(times_s, score, color="black", linewidth=1.2, label="score")
    low, high = axes.get_ylim()
    axes.fill_between(times_s, low, high, where=list(~seen), color="#eeeeee", label="no score", step="mid", zorder=0)
    axes.set_ylim(low, high)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)


def stills_of(info: SessionInfo, frames: Sequence[EngagementFrame]) -> list[npt.NDArray[np.uint8]]:
    """Pictures of the demo clip, from the middles of equal parts of the session; nothing of any other source."""
    if info.config.capture.camera != "demo":
        return []
    middles = [frames[round((place + 0.5) * len(frames) / STILLS)].seq for place in range(STILLS)]
    with av.open(str(DEMO)) as clip:
        pictures = {seq: picture for seq, picture in enumerate(clip.decode(video=0)) if seq in middles}
    width, height = STILL_PX
    return [pictures[seq].reformat(width, height, "rgb24").to_ndarray().astype(np.uint8) for seq in middles]


def draw_terminal(folder: Path, info: SessionInfo, frames: Sequence[EngagementFrame], out: Path) -> None:
    """terminal.svg."""
    moment = strongest(frames)
    place = frames.index(moment)
    health = [msgspec.json.decode(line, type=Health) for line in _lines(folder / HEALTH)]
    events = [msgspec.json.decode(line, type=Event) for line in _lines(folder / EVENTS)]
    status = Status()
    for message in [*frames[: place + 1], *(each for each in health if each.t_ns <= moment.t_publish_ns)]:
        status.take(message)
    said = [event.text for event in events if event.kind in SHOWN and event.t_ns <= moment.t_publish_ns]
    newest = [describe(frame) for frame in frames[max(0, place + 1 - SUBSCRIBED) : place + 1]]
    live = [_command(info), *notices(info.config), *said, status.line()]
    lines = [*live, "", "$ python -m pipeline.subscribe", *newest]
    console = Console(record=True, width=max(map(len, [status.line(), *newest])), file=io.StringIO(), highlight=False)
    for line in lines:
        console.print(Text(line, style="bold" if line.startswith("$") else ""))
    picture = console.export_svg(title="AGCM Live", theme=MONOKAI, unique_id="terminal")
    # Rich asks a web server for its font; a picture in a page must not, so it takes what the reader has.
    picture = re.sub(r" *@font-face \{.*?\n    \}\n", "", picture, flags=re.DOTALL)
    out.write_text(picture.replace("Fira Code, monospace", FONTS), encoding="utf-8")


def _command(info: SessionInfo) -> str:
    """The command that was given, as far as the recording tells."""
    capture = info.config.capture
    pace = " --pace max" if capture.pace == "max" else ""
    return f"$ python run_live.py --camera {capture.camera}{pace} --record {info.config.output.record}"


def _lines(path: Path) -> list[bytes]:
    return [line for line in path.read_bytes().split(b"\n") if line]


def main(
    recording: Annotated[Path, typer.Argument(metavar="RECORDING", help="the folder that --record wrote")],
    out: Annotated[Path, typer.Option(help="folder for the pictures")] = Path(__file__).parent,
) -> None:
    """Draw session.svg and terminal.svg."""
    try:
        info, frames = read_session(recording), one_face(list(Results(recording).frames()))
    except RecordingError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from None
    draw_session(frames, stills_of(info, frames), out / "session.svg")
    draw_terminal(recording, info, frames, out / "terminal.svg")
    print(f"{out / 'session.svg'}, {out / 'terminal.svg'}")


if __name__ == "__main__":
    typer.run(main)
