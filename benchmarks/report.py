"""Tables as Markdown and on the terminal, figures as JSON, and mistakes as one line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import msgspec
import rich.table
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from typer.exceptions import TyperException

from benchmarks.machine import Machine
from engines.base import EngineError
from engines.spec import ManifestError
from pipeline.bus import WorkerError
from pipeline.config import ConfigError

NOT_MEASURED = "not measured"
REFRESH_HZ = 2.0
INTERRUPTED = 130  # how typer answers Ctrl-C
PLAIN_WIDTH = 120  # of what is written into a file or a pipe
MISTAKES = (ConfigError, ManifestError, EngineError, WorkerError, TyperException)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under a title; the first column names, the others are numbers."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def number(value: float | None, digits: int = 1) -> str:
    """A figure as people read it."""
    return NOT_MEASURED if value is None else f"{value:.{digits}f}"


def markdown(title: str, notes: Sequence[str], tables: Sequence[Table]) -> str:
    """A page with a paragraph per note."""
    parts = [f"# {title}", *notes, *(_markdown(table) for table in tables)]
    return "\n\n".join(parts) + "\n"


def _markdown(table: Table) -> str:
    lines = [table.columns, ("---", *("---:" for _ in table.columns[1:])), *table.rows]
    return f"## {table.title}\n\n" + "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def machine_note(machine: Machine) -> list[str]:
    """What was measured with, and a warning if that was busy."""
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    place = ", ".join(filter(None, (machine.cpu, f"{machine.cores} cores", machine.gpu)))
    lines = [
        f"{place}, load average before the start {machine.load_before:.2f}; {machine.system}, "
        f"Python {machine.python}, {versions}; commit {machine.commit}; {machine.date}.",
    ]
    return [*lines, *([f"Warning: {machine.busy}."] if machine.busy else [])]


def show(console: Console, notes: Sequence[str], tables: Sequence[Table]) -> None:
    """The same on a terminal."""
    for note in notes:
        console.print(note)
    for table in tables:
        shown = rich.table.Table(title=table.title, title_justify="left")
        for i, column in enumerate(table.columns):
            shown.add_column(column, justify="right" if i else "left", no_wrap=not i)
        for row in table.rows:
            shown.add_row(*row)
        console.print(shown)


def write_json(path: Path, report: msgspec.Struct) -> None:
    """The whole report, indented."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")


def prepare(folder: Path | None, file: Path | None) -> None:
    """Make where the report goes, before minutes are spent on it. Raises ConfigError."""
    for place in (folder, file.parent if file else None):
        if place is not None:
            try:
                place.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigError(f"cannot write a report to {place}: {error.strerror}") from error


def progress_bars() -> Progress:
    """On stderr; refreshed seldom, because the bars share the cores with what is measured."""
    return Progress(
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        refresh_per_second=REFRESH_HZ,
    )


def leave(command: Callable[[], int]) -> NoReturn:
    """Run a command line; a mistake is one line on stderr and exit code 2, Ctrl-C is exit code 130."""
    try:
        code = command()
    except MISTAKES as mistake:
        print(mistake.format_message() if isinstance(mistake, TyperException) else mistake, file=sys.stderr)
        sys.exit(mistake.exit_code if isinstance(mistake, WorkerError) else 2)
    if code == INTERRUPTED:
        print("interrupted; no report is written", file=sys.stderr)
    sys.exit(code)
