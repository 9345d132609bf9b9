"""A recorded session as a table.

python -m pipeline.export DIR --to csv        results.csv: a row per face and frame
python -m pipeline.export DIR --to parquet    the same columns, typed
python -m pipeline.export DIR --to jsonl      the wire messages, one a line
python -m pipeline.export DIR --to openface   OpenFace 2's column names, for scripts that read those
"""

from __future__ import annotations

import contextlib
import csv
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated

import msgspec
import pyarrow as pa
import pyarrow.parquet
import typer
from rich.console import Console
from rich.progress import Progress

from pipeline.messages import EngagementFrame
from pipeline.recording import RecordingError, Results, from_batch, read_session
from pipeline.tables import Column, Contents, Row, flat, openface, survey

ROW_GROUP = 10_000
Read = Callable[[], Iterator[EngagementFrame]]
"""Reads the recording from its start, each time that it is called."""


def write_jsonl(read: Read, out: Path) -> None:
    """The headers of the messages as they were sent, one a line."""
    with out.open("wb") as file:
        for frame in read():
            file.write(msgspec.json.encode(frame) + b"\n")


def write_csv(read: Read, out: Path) -> None:
    """Every field of the messages but `v`, a column each; null is empty."""
    contents = survey(read())
    _write_csv(_rows(read, contents), flat(contents), out)


def write_openface(read: Read, out: Path) -> None:
    """The columns of OpenFace 2 that can be filled; null is empty."""
    contents = survey(read())
    _write_csv(_rows(read, contents), openface(contents), out)


def write_parquet(read: Read, out: Path) -> None:
    """The columns of `write_csv`, typed; null is null."""
    contents = survey(read())
    columns, rows = flat(contents), _rows(read, contents)
    schema = pa.schema([(column.name, column.type) for column in columns])
    with pyarrow.parquet.ParquetWriter(out, schema) as writer:
        while group := list(islice(rows, ROW_GROUP)):
            arrays = [pa.array([column.value(row) for row in group], column.type) for column in columns]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _write_csv(rows: Iterator[Row], columns: Sequence[Column], out: Path) -> None:
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([column.name for column in columns])
        writer.writerows([column.value(row) for column in columns] for row in rows)


def _rows(read: Read, contents: Contents) -> Iterator[Row]:
    for frame in read():
        yield Row(frame, {item.concept: item for item in frame.contributions}, contents.start_ns)


@dataclass(frozen=True, slots=True)
class Format:
    """A row of FORMATS. ending: of the default file; passes: how often `write` reads the recording."""

    write: Callable[[Read, Path], None]
    ending: str
    passes: int


FORMATS = {
    "csv": Format(write_csv, "csv", 2),
    "parquet": Format(write_parquet, "parquet", 2),
    "jsonl": Format(write_jsonl, "jsonl", 1),
    "openface": Format(write_openface, "openface.csv", 2),
}


class ExportError(ValueError):
    """What the user asked for cannot be done; one line that says what can."""


def export(folder: Path, to: str, out: Path | None = None, *, force: bool = False) -> tuple[Path, Results]:
    """Writes the table; its path, and the reader that knows how many results there were and whether all came.

    out: default DIR/results.<ending>. Raises ExportError or RecordingError; nothing half-written stays behind.
    """
    if to not in FORMATS:
        raise ExportError(f"unknown format {to!r}; there are {', '.join(FORMATS)}")
    form, results = FORMATS[to], Results(folder)
    out = folder / f"results.{form.ending}" if out is None else out
    if out.exists() and not (force and out.is_file()):
        raise ExportError(f"{out} exists" + ("; --force replaces it" if out.is_file() else " and is no file"))
    if out.resolve() == results.path.resolve():
        raise ExportError(f"{out} is the recording itself; give another --out")
    draft = out.with_name(f"{out.name}.part")
    console = Console(stderr=True)
    try:
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task(f"Exporting to {out.name}", total=form.passes * results.total_bytes)

            def read() -> Iterator[EngagementFrame]:
                for batch in results.batches():
                    progress.advance(task, results.batch_bytes)
                    yield from from_batch(batch)

            form.write(read, draft)
        draft.replace(out)
    except OSError as error:
        raise ExportError(f"cannot write {out}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()
    return out, results


def main(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="the folder that --record wrote")],
    to: Annotated[str, typer.Option(metavar="FORMAT", help=", ".join(FORMATS))],
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="default: DIR/results.<ending>")] = None,
    force: Annotated[bool, typer.Option(help="replace FILE if it exists")] = False,
) -> None:
    """Writes a recorded session as a table."""
    try:
        path, results = export(folder, to, out, force=force)
    except (ExportError, RecordingError) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from None
    print(f"{results.count} results in {path}")
    if not results.complete:
        print("the recording was cut off; these are the results up to its last whole batch", file=sys.stderr)
    if lost := _lost(folder):
        print(f"the disk was full: {lost} results of the session are missing", file=sys.stderr)


def _lost(folder: Path) -> int:
    """How many results found no room on the disk; a recording that was cut off does not know."""
    with contextlib.suppress(RecordingError):
        ended = read_session(folder).ended
        return ended.lost.results if ended is not None else 0
    return 0


if __name__ == "__main__":
    typer.run(main)
