"""Live engagement scores from a camera and a microphone: arguments -> configuration -> supervisor -> exit code."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated

if __name__ == "__main__":  # Ctrl-C ends the program as it ends any other until the session answers it: no traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import typer
from typer.exceptions import TyperException

from engines.backends import BACKENDS
from pipeline import supervise
from pipeline.config import ConfigError, load

app = typer.Typer(add_completion=False, rich_markup_mode=None)

HELP = """Scores engagement live, with the exact share of every facial action unit, and publishes it on a ZeroMQ topic.

\b
Examples:
  python run_live.py --camera 0                      camera 0 and the default microphone
  python run_live.py --camera demo                   the clip that comes with the program
  python run_live.py --camera talk.mp4 --pace max    every frame of a file, as fast as it goes
  python run_live.py --camera rtsp://host/stream --mic none --record monday
  python run_live.py --camera 0 --set session.purpose="my own practice" --set face.max_faces=1

\b
Read the results with: python -m pipeline.subscribe
Every setting with its default: pipeline/live.toml
Exit codes: 0 done, 1 a worker failed for good, 2 bad arguments or configuration
"""


@app.command(help=HELP)
def main(
    camera: Annotated[
        str | None,
        typer.Option(metavar="SRC", help="index, device path, network URL, media file, or demo [default: 0]"),
    ] = None,
    mic: Annotated[
        str | None,
        typer.Option(metavar="SRC", help="index or name of an input device, file (the media file's sound), or none"),
    ] = None,
    pace: Annotated[
        str | None, typer.Option(metavar="realtime|max", help="files: as a camera would deliver, or every frame")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="a folder under models/, or a path with a / in it")
    ] = None,
    engine: Annotated[
        str | None, typer.Option(metavar="NAME", help=f"auto (the fastest here), {', '.join(BACKENDS)}")
    ] = None,
    bind: Annotated[
        str | None, typer.Option(metavar="ENDPOINT", help="where results are published [default: tcp://127.0.0.1:5570]")
    ] = None,
    record: Annotated[
        str | None, typer.Option(metavar="DIR", help="keep the results in a new folder (never pictures or sound)")
    ] = None,
    duration: Annotated[str | None, typer.Option(metavar="S", help="stop after this many seconds")] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="settings, as in pipeline/live.toml")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="one more setting; may be repeated")
    ] = None,
) -> int:
    options = {
        "capture.camera": camera,
        "capture.mic": mic,
        "capture.pace": pace,
        "engine.model": model,
        "engine.backend": engine,
        "output.bind": bind,
        "output.record": record,
        "session.duration_s": duration,
    }
    given = [f"{key}={value}" for key, value in options.items() if value is not None]
    return supervise.run(load(config, [*(set_ or ()), *given]))


if __name__ == "__main__":
    try:
        sys.exit(app(standalone_mode=False))
    except (ConfigError, TyperException) as mistake:
        print(mistake.format_message() if isinstance(mistake, TyperException) else mistake, file=sys.stderr)
        sys.exit(supervise.MISTAKE)
