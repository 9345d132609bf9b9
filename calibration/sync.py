"""The lag between picture and sound of a camera and a microphone, measured in a recording that was made with both.

python -m calibration.sync claps.mp4 --method clap --out sync.json      somebody claps, five times or more
python -m calibration.sync talk.mp4 --method speech --out sync.json     somebody speaks to the camera for ten seconds
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

if __name__ == "__main__":  # Ctrl-C ends it without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import typer
from rich.console import Console
from rich.progress import Progress as Bar
from typer.exceptions import TyperException

from calibration.clip import Progress, duration_s, motion_of, pictures, sound_of
from calibration.lag import Lag, clap_lag, speech_lag
from calibration.mouth import mouth_of, networks
from calibration.signals import SyncError
from calibration.stored import Method, SyncResult, write_sync

MISTAKE = 2

HELP = """Measures how much later the sound of a recording comes than its pictures, with the uncertainty.

\b
clap    hands that meet in front of the camera and stay together for half a second, or a clapperboard;
        three times at least, five are better, at uneven distances
speech  somebody who speaks to the camera, three seconds at least, ten are better; rougher than clap

\b
A lag above 0 means that the sound arrives later than the picture it belongs to.
Use the result live with: python run_live.py --set calibration.sync=FILE
Exit codes: 0 done, 2 a mistake in the arguments, or nothing in the recording to go by
"""

app = typer.Typer(add_completion=False, rich_markup_mode=None)


def measure(recording: Path, method: Method, model: str = "agcm-live") -> Lag:
    """The lag of a media file. Raises SyncError, one line that says what is missing."""
    sound = sound_of(recording)
    with _progress(recording) as progress:
        if method == "clap":
            return clap_lag(sound, motion_of(recording, progress))
        with networks(model) as (detector, engine):
            return speech_lag(sound, mouth_of(pictures(recording, progress, small=False), detector, engine))


def in_words(lag: Lag, method: Method) -> str:
    """One line for the terminal."""
    what = "claps" if method == "clap" else "seconds of speech"
    order = "later" if lag.lag_ms >= 0 else "earlier"
    return (
        f"sound arrives {abs(lag.lag_ms):.1f} ms {order} than its picture: lag_ms {lag.lag_ms:+.1f} "
        f"± {lag.uncertainty_ms:.1f} (95 %, {lag.events} {what})"
    )


@contextmanager
def _progress(recording: Path) -> Iterator[Progress]:
    console = Console(stderr=True)
    with Bar(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"Looking at {recording.name}", total=duration_s(recording))
        yield lambda done_s: bar.update(task, completed=done_s)


@app.command(help=HELP)
def main(
    recording: Annotated[Path, typer.Argument(metavar="RECORDING", help="a media file with pictures and sound")],
    method: Annotated[str, typer.Option(metavar="clap|speech", help="what is to be seen and heard in it")],
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="keep the result here, as JSON")] = None,
    force: Annotated[bool, typer.Option("--force", help="replace FILE if it exists")] = False,
    camera: Annotated[str, typer.Option(metavar="NAME", help="the camera, for the record")] = "",
    mic: Annotated[str, typer.Option(metavar="NAME", help="the microphone, for the record")] = "",
    model: Annotated[str, typer.Option(metavar="NAME", help="speech: a folder under models/")] = "agcm-live",
) -> None:
    chosen: Method
    if method == "clap":
        chosen = "clap"
    elif method == "speech":
        chosen = "speech"
    else:
        raise SyncError(f"--method {method!r}: expected clap or speech")
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        raise SyncError(f"--out {out}: " + ("that is a folder" if out.is_dir() else f"there is no folder {out.parent}"))
    if out is not None and out.exists() and not force:
        raise SyncError(f"{out} exists; --force replaces it")
    lag = measure(recording, chosen, model)
    print(in_words(lag, chosen))
    if out is not None:
        write_sync(out, _result(lag, chosen, recording, camera, mic))
        print(f"written: {out}; use it with --set calibration.sync={out}")


def _result(lag: Lag, method: Method, recording: Path, camera: str, mic: str) -> SyncResult:
    return SyncResult(
        lag_ms=round(lag.lag_ms, 2),
        uncertainty_ms=round(lag.uncertainty_ms, 2),
        method=method,
        events=lag.events,
        measured_at=datetime.now(UTC),
        camera=camera,
        microphone=mic,
        source=recording.name,
    )


if __name__ == "__main__":
    try:
        app(standalone_mode=False)
    except (SyncError, TyperException) as mistake:
        print(mistake.format_message() if isinstance(mistake, TyperException) else mistake, file=sys.stderr)
        sys.exit(MISTAKE)
